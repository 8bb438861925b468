"""Scaleway: messages and the exact requests they become, answers and the statuses they become."""

from __future__ import annotations

import dataclasses
from email.message import EmailMessage
from typing import Any

import pytest
from django.test import override_settings

from anymail.backends.scaleway import EmailBackend
from anymail.conf import Secret
from anymail.esps.scaleway.sending import Scaleway
from anymail.exceptions import (
    AnymailAPIError,
    AnymailConfigurationError,
    AnymailSerializationError,
    AnymailUnsupportedFeature,
)
from anymail.mail.message import outgoing_mail
from anymail.mail.supports import check
from anymail.message import attach_inline_image
from support import PNG, answer, drive, json_of, mail, make_esp, message, request_of, statuses

SECRET_KEY = "6f1c2d3e-4b5a-4978-8c6d-0e1f2a3b4c5d"
PROJECT_ID = "7d3f0b6e-2a51-4c8e-9b7c-1e5a0c94d311"
SCALEWAY = make_esp(Scaleway, secret_key=SECRET_KEY, project_id=PROJECT_ID)
BASE: dict[str, Any] = {
    "from": {"email": "shop@example.com"},
    "to": [{"email": "ana@example.net"}],
    "subject": "Hi",
    "text": "Hello",
    "project_id": PROJECT_ID,
}


def headers(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in pairs]


def mime_part() -> EmailMessage:
    part = EmailMessage()
    part.set_content(b"%PDF-1.4\n", "application", "pdf", disposition="attachment")
    return part


# A message's attributes, and the body of its request.
REQUESTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, BASE),
    "rich": (
        {
            "from_email": '"Shop, Example" <shop@mail.example.com>',
            "to": ["Ana Núñez <ana@example.org>", "bo@bücher.example"],
            "cc": ["team@example.net"],
            "bcc": ["archive@example.com"],
            "reply_to": ["Sara Núñez <sara@mail.example.com>", "support@mail.example.com"],
            "subject": "Your order – shipped ✓",
            "body": "Your order is on its way.",
            "html": "<p>Your order is on its way.</p>",
            "attach": [("invoice.pdf", b"%PDF-1.4\n", "application/pdf"), ("préavis.txt", "été", "text/plain")],
            "headers": {"List-Unsubscribe": "<https://shop.example.com/u/9>"},
            "metadata": {"order_id": "881", "user": "17"},
            "tags": ["order-shipped", "eu"],
            "esp_extra": {"send_before": "2026-11-21T09:20:00Z"},
        },
        {
            "project_id": PROJECT_ID,
            "from": {"email": "shop@mail.example.com", "name": "Shop, Example"},
            "to": [{"email": "ana@example.org", "name": "Ana Núñez"}, {"email": "bo@xn--bcher-kva.example"}],
            "cc": [{"email": "team@example.net"}],
            "bcc": [{"email": "archive@example.com"}],
            "subject": "Your order – shipped ✓",
            "text": "Your order is on its way.",
            "html": "<p>Your order is on its way.</p>",
            "attachments": [
                {"name": "invoice.pdf", "type": "application/pdf", "content": "JVBERi0xLjQK"},
                {"name": "préavis.txt", "type": 'text/plain; charset="utf-8"', "content": "w6l0w6k="},
            ],
            "additional_headers": headers(
                (
                    "Reply-To",
                    "=?utf-8?b?U2FyYSBOw7rDsWV6?= <sara@mail.example.com>, support@mail.example.com",
                ),
                ("List-Unsubscribe", "<https://shop.example.com/u/9>"),
                ("X-Metadata", '{"order_id": "881", "user": "17"}'),
                ("X-Tags", '["order-shipped", "eu"]'),
            ),
            "send_before": "2026-11-21T09:20:00Z",
        },
    ),
    "html only": (
        {"body": "<p>Hello", "content_subtype": "html", "subject": ""},
        {key: value for key, value in {**BASE, "html": "<p>Hello"}.items() if key not in ("text", "subject")},
    ),
    "reply-to in an IDN": (
        {"reply_to": ['"Orders, EU" <orders@bücher.example>']},
        {**BASE, "additional_headers": headers(("Reply-To", '"Orders, EU" <orders@xn--bcher-kva.example>'))},
    ),
    "headers": (
        {"headers": {"X-Shop": 7, "X-Note": "Grüße", "X-Empty": ""}},
        {**BASE, "additional_headers": headers(("X-Shop", "7"), ("X-Note", "Grüße"))},
    ),
    "labels in ASCII": (
        {"metadata": {"note": "été", "n": 7}, "tags": ["café"]},
        {
            **BASE,
            "additional_headers": headers(
                ("X-Metadata", '{"note": "\\u00e9t\\u00e9", "n": 7}'), ("X-Tags", '["caf\\u00e9"]')
            ),
        },
    ),
    "labels win over headers": (
        {"headers": {"x-tags": "a", "X-METADATA": "b", "X-Own": "c"}, "metadata": {"n": 1}, "tags": ["t"]},
        {**BASE, "additional_headers": headers(("X-Own", "c"), ("X-Metadata", '{"n": 1}'), ("X-Tags", '["t"]'))},
    ),
    "no labels, own headers": (
        {"headers": {"x-tags": "a"}},
        {**BASE, "additional_headers": headers(("x-tags", "a"))},
    ),
    "attachment without a name": (
        {"attachments": [mime_part()]},
        {**BASE, "attachments": [{"name": "attachment.pdf", "type": "application/pdf", "content": "JVBERi0xLjQK"}]},
    ),
    "no to": (
        {"to": [], "cc": ["team@example.org"]},
        {**{key: value for key, value in BASE.items() if key != "to"}, "cc": [{"email": "team@example.org"}]},
    ),
    "esp_extra adds headers": (
        {"headers": {"X-Shop": "7"}, "esp_extra": {"additional_headers": headers(("X-Own", "1"))}},
        {**BASE, "additional_headers": headers(("X-Shop", "7"), ("X-Own", "1"))},
    ),
    "esp_extra is merged deep": (
        {"esp_extra": {"from": {"name": "Shop"}, "text": "Other"}},
        {**BASE, "from": {"email": "shop@example.com", "name": "Shop"}, "text": "Other"},
    ),
    "a batch of one": ({"merge_data": {}}, BASE),
}


@pytest.mark.parametrize(("attributes", "body"), REQUESTS.values(), ids=REQUESTS.keys())
def test_request(attributes: dict[str, Any], body: dict[str, Any]) -> None:
    request = request_of(SCALEWAY.deliver(mail(**attributes)))
    assert request.method == "POST"
    assert request.url == "https://api.scaleway.com/transactional-email/v1alpha1/regions/fr-par/emails"
    assert json_of(request) == body


def test_headers() -> None:
    request = request_of(SCALEWAY.deliver(mail()))
    assert dict(request.headers) == {
        "Accept": "application/json",
        "Content-Type": "application/json",
        "X-Auth-Token": SECRET_KEY,
    }
    assert not request.repeatable


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({"region": "nl-ams"}, "https://api.scaleway.com/transactional-email/v1alpha1/regions/nl-ams/emails"),
        (
            {"region": "x/../y?#"},
            "https://api.scaleway.com/transactional-email/v1alpha1/regions/x%2F..%2Fy%3F%23/emails",
        ),
        ({"api_url": "http://localhost/{region}/x", "region": "nl-ams"}, "http://localhost/nl-ams/x/emails"),
        ({"api_url": "http://localhost/"}, "http://localhost/emails"),
    ],
)
def test_url(options: dict[str, str], url: str) -> None:
    esp = make_esp(Scaleway, secret_key=SECRET_KEY, project_id=PROJECT_ID, **options)
    assert request_of(esp.deliver(mail())).url == url


def test_settings() -> None:
    with override_settings(
        SCALEWAY_SECRET_KEY="bare", ANYMAIL={"SCALEWAY_PROJECT_ID": "p", "SCALEWAY_REGION": "nl-ams"}
    ):
        options: Any = EmailBackend().options
    assert (options.secret_key, options.project_id, options.region) == (Secret("bare"), "p", "nl-ams")


@pytest.mark.parametrize("name", ["SCALEWAY_SECRET_KEY", "SCALEWAY_PROJECT_ID", "SCALEWAY_REGION", "SCALEWAY_API_URL"])
@pytest.mark.parametrize("value", ["", None])
def test_wrong_settings(name: str, value: Any) -> None:
    good = {"SCALEWAY_SECRET_KEY": "k", "SCALEWAY_PROJECT_ID": "p"}
    if name == "SCALEWAY_SECRET_KEY" and value is None:
        del good[name]
    else:
        good[name] = value
    with override_settings(ANYMAIL=good), pytest.raises(AnymailConfigurationError, match=name):
        EmailBackend()


def test_metadata_that_json_cannot_express() -> None:
    with pytest.raises(AnymailSerializationError, match=r"metadata\.when"):
        request_of(SCALEWAY.deliver(mail(metadata={"when": object()})))


UNSUPPORTED = {
    "multiple from_email addresses": {"from_email": "a@example.com, b@example.com"},
    "envelope_sender": {"envelope_sender": "bounces@example.com"},
    "send_at": {"send_at": 1_800_000_000},
    "track_opens": {"track_opens": False},
    "track_clicks": {"track_clicks": True},
    "template_id": {"template_id": "x"},
    "merge_data": {"merge_data": {"ana@example.net": {"name": "Ana"}}},
    "merge_global_data": {"merge_global_data": {"name": "Ana"}},
    "merge_metadata": {"merge_metadata": {"ana@example.net": {"n": 1}}},
    "merge_headers": {"merge_headers": {"ana@example.net": {"X-N": "1"}}},
    "a To header in extra_headers": {"headers": {"To": "all@example.com"}},
    "alternative part with type 'text/calendar'": {"alternatives": [("x", "text/calendar")]},
    "an AMP body": {"alternatives": [("<html amp4email>", "text/x-amp-html")]},
    "a non-ASCII local part (EAI) in from_email": {"from_email": "josé@example.com"},
    "a non-ASCII local part (EAI) in to": {"to": ["josé@example.com"]},
    "a non-ASCII local part (EAI) in cc": {"cc": ["josé@example.com"]},
    "a non-ASCII local part (EAI) in bcc": {"bcc": ["josé@example.com"]},
    "a non-ASCII local part (EAI) in reply_to": {"reply_to": ["josé@example.com"]},
}


@pytest.mark.parametrize(("what", "attributes"), UNSUPPORTED.items(), ids=UNSUPPORTED.keys())
def test_unsupported(what: str, attributes: dict[str, Any]) -> None:
    one = mail(**attributes)
    assert [found.what for found in (*check(one, Scaleway.supports), *SCALEWAY.check(one))] == [what]


def test_an_inline_image_is_left_an_ordinary_attachment() -> None:
    made = message(html="<img>", attach=[("a.pdf", b"%PDF", "application/pdf")])
    attach_inline_image(made, PNG, "logo.png", domain="example.com")
    one = outgoing_mail(made)
    [found] = check(one, Scaleway.supports)
    assert found.what == "inline attachments"
    kept = dataclasses.replace(one, **(found.without or {}))
    assert not list(check(kept, Scaleway.supports))
    assert [sorted(one) for one in json_of(request_of(SCALEWAY.deliver(kept)))["attachments"]] == [
        ["content", "name", "type"],
        ["content", "name", "type"],
    ]


@pytest.mark.parametrize("name", ["merge_data", "merge_metadata", "merge_headers"])
@pytest.mark.parametrize("ignore", [False, True])
def test_a_batch_never_shows_recipients_to_each_other(name: str, ignore: bool) -> None:
    attributes: dict[str, Any] = {name: {}}
    one = message(to=["ana@example.net", "bo@example.org"], **attributes)
    backend = EmailBackend(secret_key="k", project_id="p", ignore_unsupported_features=ignore)
    with pytest.raises(AnymailUnsupportedFeature, match=name):
        backend.send_messages([one])


def entry(recipient: str, message_id: Any, **fields: Any) -> dict[str, Any]:
    return {"id": message_id, "message_id": "shared", "mail_rcpt": recipient, "status": "sending", **fields}


# A message's attributes, the emails of the answer, and the recipients' statuses.
ANSWERS: dict[str, tuple[dict[str, Any], list[Any], dict[str, Any]]] = {
    "each recipient": (
        {"cc": ["c@example.org"], "bcc": ["d@example.org"]},
        [entry("d@example.org", "id-3"), entry("ana@example.net", "id-1"), entry("c@example.org", "id-2")],
        {
            "ana@example.net": ("queued", "id-1"),
            "c@example.org": ("queued", "id-2"),
            "d@example.org": ("queued", "id-3"),
        },
    ),
    "IDN and case": (
        {"to": ["Bo@bücher.example", "Ana@Example.net"]},
        [entry("bo@xn--bcher-kva.example", "id-1"), entry("ana@example.net", "id-2")],
        {"Bo@bücher.example": ("queued", "id-1"), "Ana@Example.net": ("queued", "id-2")},
    ),
    "answered in another case": (
        {"to": ["Ana@Example.NET"]},
        [entry("Ana@example.net", "id-1")],
        {"Ana@Example.NET": ("queued", "id-1")},
    ),
    "answered in Unicode": (
        {"to": ["bo@bücher.example"]},
        [entry("bo@bücher.example", "id-1")],
        {"bo@bücher.example": ("queued", "id-1")},
    ),
    "the same but for case": (
        {"to": ["ana@example.net", "Ana@example.net"]},
        [entry("ana@example.net", "id-1"), entry("Ana@example.net", "id-2")],
        {"ana@example.net": ("queued", "id-1"), "Ana@example.net": ("queued", "id-2")},
    ),
    "the old name": (
        {},
        [{"id": "id-1", "rcpt_to": "ana@example.net", "status": "new"}],
        {"ana@example.net": ("queued", "id-1")},
    ),
    "one is missing": (
        {"cc": ["c@example.org"]},
        [entry("ana@example.net", "id-1")],
        {"ana@example.net": ("queued", "id-1"), "c@example.org": ("unknown", None)},
    ),
    "items of another shape": (
        {},
        [None, "x", entry("ana@example.net", 7, status=["sent"])],
        {"ana@example.net": ("unknown", None)},
    ),
    **{
        word: ({}, [entry("ana@example.net", "id-1", status=word)], {"ana@example.net": (status, "id-1")})
        for word, status in {
            "new": "queued",
            "sending": "queued",
            "sent": "sent",
            "failed": "failed",
            "canceled": "failed",
            "unknown": "unknown",
            "vanished": "unknown",
        }.items()
    },
}


@pytest.mark.parametrize(("attributes", "emails", "expected"), ANSWERS.values(), ids=ANSWERS.keys())
def test_statuses(attributes: dict[str, Any], emails: list[Any], expected: dict[str, Any]) -> None:
    _, recipients = drive(SCALEWAY.deliver(mail(**attributes)), answer(200, {"emails": emails}))
    assert statuses(recipients) == expected


def error(status: int, kind: str, text: str = "no", **rest: Any) -> Any:
    return answer(status, {"type": kind, "message": text, **rest})


# The answer, and the error's sent, category and retryable.
ERRORS: dict[str, tuple[Any, bool | None, str, bool]] = {
    "bad message": (error(400, "invalid_arguments"), False, "invalid", False),
    "bad key": (error(401, "denied_authentication"), False, "auth", False),
    "no permission": (error(403, "permissions_denied"), False, "auth", False),
    "quota": (error(403, "quotas_exceeded"), False, "quota", False),
    "unknown region": (error(404, "not_found"), False, "invalid", False),
    "not yet": (error(409, "transient_state"), False, "server", True),
    "exists": (error(409, "already_exists"), False, "invalid", False),
    "plan": (error(412, "precondition_failed"), False, "auth", False),
    "too many": (error(429, "too_many_requests"), False, "rate_limit", True),
    "its fault": (answer(500, "Oops"), None, "server", False),
    "unavailable": (answer(503, "Oops"), None, "server", False),
    "not JSON": (answer(200, "<html>"), True, "unreadable", False),
    "a list": (answer(200, [1]), True, "unreadable", False),
    "no emails": (answer(200, {}), True, "unreadable", False),
    "emails of another shape": (answer(200, {"emails": {}}), True, "unreadable", False),
}


def raised_by(response: Any) -> AnymailAPIError:
    with pytest.raises(AnymailAPIError) as raised:
        drive(SCALEWAY.deliver(mail()), response)
    assert SECRET_KEY not in f"{raised.value}{raised.value!r}"
    return raised.value


@pytest.mark.parametrize(("response", "sent", "category", "retryable"), ERRORS.values(), ids=ERRORS.keys())
def test_errors(response: Any, sent: bool | None, category: str, retryable: bool) -> None:
    found = raised_by(response)
    assert (found.sent, found.category, found.retryable) == (sent, category, retryable)


# The answer, and the words of the error.
WORDS: dict[str, tuple[Any, str]] = {
    "argument": (
        error(
            400,
            "invalid_arguments",
            "invalid argument(s)",
            details=[
                {"argument_name": "from.email", "reason": "constraint", "help_message": "Invalid email from address"}
            ],
        ),
        "invalid_arguments: invalid argument(s) (argument_name: from.email, reason: constraint, "
        "help_message: Invalid email from address).",
    ),
    "attachment": (
        error(400, "invalid_arguments", "bad", details=[{"argument_name": "attachments.0.type", "reason": "format"}]),
        "reason: format; what may be attached is listed at https://www.scaleway.com/en/docs/",
    ),
    "key": (
        error(401, "denied_authentication", "authentication is denied", method="api_key", reason="expired"),
        "denied_authentication: authentication is denied (method: api_key, reason: expired).",
    ),
    "permission": (
        error(403, "permissions_denied", "insufficient", details=[{"resource": "email", "action": "create"}]),
        "permissions_denied: insufficient (resource: email, action: create).",
    ),
    "quota": (
        error(403, "quotas_exceeded", "exceeded", details=[{"resource": "Emails", "quota": 10, "current": 10}]),
        "quotas_exceeded: exceeded (resource: Emails, quota: 10, current: 10).",
    ),
    "odd details": (error(400, "invalid_arguments", "bad", details={"a": 1}), "invalid_arguments: bad."),
    "odd detail": (error(400, "invalid_arguments", "bad", details=[None, "x"]), "invalid_arguments: bad."),
    "another shape": (answer(400, ["bad"]), '["bad"]'),
}


@pytest.mark.parametrize(("response", "words"), WORDS.values(), ids=WORDS.keys())
def test_errors_quote_scaleway(response: Any, words: str) -> None:
    assert words in str(raised_by(response))


@pytest.mark.parametrize(
    ("fields", "headers", "seconds"),
    [
        ({"reset_seconds": 12}, {}, 12.0),
        ({"reset_seconds": 12}, {"Retry-After": "3"}, 3.0),
        ({"reset_seconds": -5}, {}, 0.0),
        ({"reset_seconds": "soon"}, {}, None),
        ({"reset_seconds": [1]}, {}, None),
        ({}, {}, None),
    ],
)
def test_when_to_try_again(fields: dict[str, Any], headers: dict[str, str], seconds: float | None) -> None:
    response = answer(429, {"type": "too_many_requests", "message": "quota exceeded", **fields}, headers)
    assert raised_by(response).retry_after == seconds


def test_when_to_try_again_is_a_number_of_this_world() -> None:
    assert raised_by(answer(429, b'{"reset_seconds": Infinity}')).retry_after is None
    assert raised_by(answer(429, b'{"reset_seconds": 1' + b"0" * 400 + b"}")).retry_after is None
