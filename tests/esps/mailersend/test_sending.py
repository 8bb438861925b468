"""MailerSend: messages and the exact requests they become, answers and the statuses they become."""

from __future__ import annotations

import logging
from email.mime.image import MIMEImage
from email.mime.text import MIMEText
from typing import Any

import pytest
from django.core.mail import EmailMessage
from django.test import override_settings

from anymail.backends.mailersend import EmailBackend
from anymail.conf import load
from anymail.esps.mailersend.sending import MailerSend, MailerSendOptions
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

MAILERSEND = make_esp(MailerSend, api_token="mlsn.token")
ANA, BO = {"email": "ana@example.net"}, {"email": "bo@example.org"}
BASE = {"from": {"email": "shop@example.com"}, "to": [ANA], "subject": "Hi", "text": "Hello"}
TWO = {"to": ["ana@example.net", "bo@example.org"]}
BULK = {"esp_extra": {"batch_send_mode": "use-bulk-email"}}
EXPOSED = {"esp_extra": {"batch_send_mode": "expose-to-list"}}
TEMPLATE = {"subject": "", "body": "", "template_id": "k68zxl2q5nl4j905"}


def latin_1(text: str) -> MIMEText:
    part = MIMEText(text, "plain", "iso-8859-1")
    part.add_header("Content-Disposition", "attachment", filename="note.txt")
    return part


def inline(content_id: str | None) -> MIMEImage:
    part = MIMEImage(PNG, "png")
    part.add_header("Content-Disposition", "inline", filename="logo.png")
    if content_id:
        part.add_header("Content-ID", f"<{content_id}>")
    return part


# A message's attributes, and the path and body of its request.
REQUESTS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "plain": ({}, "email", BASE),
    "everything": (
        {
            "from_email": '"Shop, Inc." <shop@mail.example.com>',
            "to": ["Jörg Müller <customer@example.com>", "second@example.net"],
            "cc": ["copy@example.org"],
            "bcc": ["audit@example.org"],
            "reply_to": ["Help <help@example.com>"],
            "subject": "Your order",
            "body": "Plain",
            "html": '<p>Hi</p><img src="cid:logo1">',
            "headers": {
                "In-Reply-To": "<68f0a3b8c41d9e0012ab5577@mailersend.net>",
                "Precedence": "normal",
                "X-Order": "1042",
            },
            "attach": [("invoice.pdf", b"%PDF-1.4\n", "application/pdf"), (inline("logo1"),)],
            "send_at": 1_792_060_200,
            "tags": ["orders", "eu"],
            "track_clicks": False,
            "track_opens": True,
        },
        "email",
        {
            "from": {"email": "shop@mail.example.com", "name": "Shop, Inc."},
            "to": [{"email": "customer@example.com", "name": "Jörg Müller"}, {"email": "second@example.net"}],
            "cc": [{"email": "copy@example.org"}],
            "bcc": [{"email": "audit@example.org"}],
            "reply_to": {"email": "help@example.com", "name": "Help"},
            "subject": "Your order",
            "text": "Plain",
            "html": '<p>Hi</p><img src="cid:logo1">',
            "in_reply_to": "68f0a3b8c41d9e0012ab5577@mailersend.net",
            "precedence_bulk": False,
            "headers": [{"name": "X-Order", "value": "1042"}],
            "attachments": [
                {"filename": "invoice.pdf", "content": "JVBERi0xLjQK", "disposition": "attachment"},
                {"filename": "logo.png", "content": "iVBORw0KGgo=", "disposition": "inline", "id": "logo1"},
            ],
            "send_at": 1_792_060_200,
            "tags": ["orders", "eu"],
            "settings": {"track_clicks": False, "track_opens": True},
        },
    ),
    "names and domains": (
        {
            "from_email": '"Shop, Inc." <shop@example.com>',
            "to": ["Jörg Müller <jm@example.net>", "post@bücher.example.com"],
            "cc": ["Team <team@example.org>"],
            "bcc": ["archive@example.org"],
            "reply_to": ["Help <help@example.com>"],
        },
        "email",
        {
            **BASE,
            "from": {"email": "shop@example.com", "name": "Shop, Inc."},
            "to": [{"email": "jm@example.net", "name": "Jörg Müller"}, {"email": "post@xn--bcher-kva.example.com"}],
            "cc": [{"email": "team@example.org", "name": "Team"}],
            "bcc": [{"email": "archive@example.org"}],
            "reply_to": {"email": "help@example.com", "name": "Help"},
        },
    ),
    "html only": (
        {"body": "<p>Hello", "content_subtype": "html"},
        "email",
        {"from": {"email": "shop@example.com"}, "to": [ANA], "subject": "Hi", "html": "<p>Hello"},
    ),
    "no subject": ({"subject": ""}, "email", {**BASE, "subject": ""}),
    "attachments": (
        {
            "attach": [
                ("A-1042.pdf", b"%PDF-1.7\n", "application/pdf"),
                ("note.txt", "Grüße", "text/plain"),
                (None, b"%PDF-1.7\n", "application/pdf"),
                (latin_1("Grüße"),),
            ]
        },
        "email",
        {
            **BASE,
            "attachments": [
                {"filename": "A-1042.pdf", "content": "JVBERi0xLjcK", "disposition": "attachment"},
                {"filename": "note.txt", "content": "R3LDvMOfZQ==", "disposition": "attachment"},
                {"filename": "attachment.pdf", "content": "JVBERi0xLjcK", "disposition": "attachment"},
                {"filename": "note.txt", "content": "R3LDvMOfZQ==", "disposition": "attachment"},
            ],
        },
    ),
    "inline without an id": (
        {"attach": [(inline(None),)]},
        "email",
        {
            **BASE,
            "attachments": [{"filename": "logo.png", "content": "iVBORw0KGgo=", "disposition": "inline"}],
        },
    ),
    "attachment of an unknown type": (
        {"attach": [(None, b"?", "application/x-not-a-type")]},
        "email",
        {**BASE, "attachments": [{"filename": "attachment", "content": "Pw==", "disposition": "attachment"}]},
    ),
    "labels, switches and a time": (
        {"tags": ["orders", "eu"], "track_opens": True, "track_clicks": False, "send_at": 1_792_060_200.9},
        "email",
        {
            **BASE,
            "tags": ["orders", "eu"],
            "settings": {"track_opens": True, "track_clicks": False},
            "send_at": 1_792_060_200,
        },
    ),
    "headers": (
        {
            "headers": {
                "X-Order": 1042,
                "in-reply-to": "<68f0a3b8c41d9e0012ab5577@mailersend.net>",
                "References": "<a@example.com> <b@example.com><c@example.com>",
                "PRECEDENCE": "Bulk",
                "List-Unsubscribe": "<https://example.com/u?a=1,2>",
            }
        },
        "email",
        {
            **BASE,
            "in_reply_to": "68f0a3b8c41d9e0012ab5577@mailersend.net",
            "references": ["a@example.com", "b@example.com", "c@example.com"],
            "precedence_bulk": True,
            "headers": [{"name": "X-Order", "value": "1042"}],
            "list_unsubscribe": "<https://example.com/u?a=1,2>",
        },
    ),
    "other precedence": ({"headers": {"Precedence": "first-class"}}, "email", {**BASE, "precedence_bulk": False}),
    "two ways to unsubscribe": (
        {"headers": {"List-Unsubscribe": "<mailto:u@example.com>, <https://example.com/u>"}},
        "email",
        {
            **BASE,
            "headers": [{"name": "List-Unsubscribe", "value": "<mailto:u@example.com>, <https://example.com/u>"}],
        },
    ),
    "esp_extra": (
        {
            "track_opens": True,
            "esp_extra": {
                "settings": {"track_content": False},
                "variables": [{"email": "ana@example.net", "substitutions": [{"var": "name", "value": "Ana"}]}],
                "api_token": "mlsn.other",
            },
        },
        "email",
        {
            **BASE,
            "settings": {"track_opens": True, "track_content": False},
            "variables": [{"email": "ana@example.net", "substitutions": [{"var": "name", "value": "Ana"}]}],
        },
    ),
    "template": (
        {
            **TEMPLATE,
            "from_email": None,
            "merge_global_data": {"name": "Kim", "items": [{"sku": "A1", "qty": 2}]},
        },
        "email",
        {
            "to": [ANA],
            "template_id": "k68zxl2q5nl4j905",
            "personalization": [
                {"email": "ana@example.net", "data": {"name": "Kim", "items": [{"sku": "A1", "qty": 2}]}}
            ],
        },
    ),
    "template with a subject": (
        {**TEMPLATE, "subject": "Hi", "reply_to": ["help@example.com"]},
        "email",
        {
            "from": {"email": "shop@example.com"},
            "to": [ANA],
            "reply_to": {"email": "help@example.com"},
            "subject": "Hi",
            "template_id": "k68zxl2q5nl4j905",
        },
    ),
    "global data for each to, none for cc": (
        {**TWO, "cc": ["team@example.org"], "merge_global_data": {"site": "Shop"}},
        "email",
        {
            **BASE,
            "to": [ANA, BO],
            "cc": [{"email": "team@example.org"}],
            "personalization": [
                {"email": "ana@example.net", "data": {"site": "Shop"}},
                {"email": "bo@example.org", "data": {"site": "Shop"}},
            ],
        },
    ),
    "batch of one": (
        {
            "to": ["Ana <ana@bücher.example>"],
            "merge_data": {"ana@bücher.example": {"name": "Ana"}, "bo@example.org": {"name": "Bo"}},
        },
        "email",
        {
            **BASE,
            "to": [{"email": "ana@xn--bcher-kva.example", "name": "Ana"}],
            "personalization": [{"email": "ana@xn--bcher-kva.example", "data": {"name": "Ana"}}],
        },
    ),
    "batch that exposes": (
        {**TWO, **EXPOSED, "merge_data": {"ana@example.net": {"name": "Ana"}}},
        "email",
        {
            **BASE,
            "to": [ANA, BO],
            "personalization": [
                {"email": "ana@example.net", "data": {"name": "Ana"}},
                {"email": "bo@example.org", "data": {}},
            ],
        },
    ),
    "bulk": (
        {
            "to": ["alice@example.com", "Bob <bob@example.net>"],
            "cc": ["team@example.org"],
            "subject": "Hi {{ name }}",
            "body": "{{ site }}",
            "merge_data": {"alice@example.com": {"name": "Alice"}},
            "merge_global_data": {"site": "Shop", "name": "you"},
            "esp_extra": {"batch_send_mode": "use-bulk-email", "settings": {"track_content": True}},
        },
        "bulk-email",
        [
            {
                "from": {"email": "shop@example.com"},
                "to": [{"email": "alice@example.com"}],
                "cc": [{"email": "team@example.org"}],
                "subject": "Hi {{ name }}",
                "text": "{{ site }}",
                "personalization": [{"email": "alice@example.com", "data": {"site": "Shop", "name": "Alice"}}],
                "settings": {"track_content": True},
            },
            {
                "from": {"email": "shop@example.com"},
                "to": [{"email": "bob@example.net", "name": "Bob"}],
                "cc": [{"email": "team@example.org"}],
                "subject": "Hi {{ name }}",
                "text": "{{ site }}",
                "personalization": [{"email": "bob@example.net", "data": {"site": "Shop", "name": "you"}}],
                "settings": {"track_content": True},
            },
        ],
    ),
    "bulk without data": (
        {**TWO, **BULK, "merge_metadata": {}},
        "bulk-email",
        [BASE, {**BASE, "to": [BO]}],
    ),
    "bulk of one": ({**BULK, "merge_data": {}}, "bulk-email", [BASE]),
    "bulk is for batches only": ({**TWO, **BULK}, "email", {**BASE, "to": [ANA, BO]}),
}


@pytest.mark.parametrize(("attributes", "path", "body"), REQUESTS.values(), ids=REQUESTS.keys())
def test_request(attributes: dict[str, Any], path: str, body: Any) -> None:
    request = request_of(MAILERSEND.deliver(mail(**attributes)))
    assert request.method == "POST"
    assert request.url == f"https://api.mailersend.com/v1/{path}"
    assert json_of(request) == body


def test_headers() -> None:
    request = request_of(MAILERSEND.deliver(mail()))
    assert dict(request.headers) == {
        "Accept": "application/json",
        "Authorization": "Bearer mlsn.token",
        "Content-Type": "application/json",
    }
    assert not request.repeatable


def test_another_token_for_one_message() -> None:
    request = request_of(MAILERSEND.deliver(mail(esp_extra={"api_token": "mlsn.other"})))
    assert request.headers["Authorization"] == "Bearer mlsn.other"


def test_inline_image() -> None:
    made = message(html="<img>")
    cid = attach_inline_image(made, PNG, "logo.png", domain="example.com")
    [attachment] = json_of(request_of(MAILERSEND.deliver(outgoing_mail(made))))["attachments"]
    assert attachment == {"filename": "logo.png", "content": "iVBORw0KGgo=", "disposition": "inline", "id": cid}


def test_an_attached_message_has_the_extension_of_one() -> None:
    made = message(attachments=[EmailMessage("Inner", "text", "a@example.com", ["b@example.com"])])
    [attachment] = json_of(request_of(MAILERSEND.deliver(outgoing_mail(made))))["attachments"]
    assert attachment["filename"] == "attachment.eml"


def test_text_in_an_unknown_charset_goes_as_it_is() -> None:
    part = MIMEText("Hello", "plain", "us-ascii")
    part.set_param("charset", "x-unheard-of")
    [attachment] = json_of(request_of(MAILERSEND.deliver(mail(attachments=[part]))))["attachments"]
    assert attachment["content"] == "SGVsbG8="


def test_data_that_json_cannot_express() -> None:
    with pytest.raises(AnymailSerializationError, match=r"personalization\[0\]\.data\.total"):
        request_of(MAILERSEND.deliver(mail(merge_global_data={"total": {1, 2}})))


class TestOptions:
    def test_batch_send_mode(self) -> None:
        esp = make_esp(MailerSend, api_token="t", batch_send_mode="use-bulk-email")
        assert request_of(esp.deliver(mail(**TWO, merge_data={}))).url.endswith("/bulk-email")

    def test_the_message_overrides_the_batch_send_mode(self) -> None:
        esp = make_esp(MailerSend, api_token="t", batch_send_mode="use-bulk-email")
        assert request_of(esp.deliver(mail(**TWO, **EXPOSED, merge_data={}))).url.endswith("/email")

    def test_a_batch_send_mode_that_does_not_exist(self) -> None:
        with pytest.raises(AnymailConfigurationError, match="'expose-to-list' or None is needed"):
            make_esp(MailerSend, api_token="t", batch_send_mode="bulk")

    def test_api_url(self) -> None:
        esp = make_esp(MailerSend, api_token="t", api_url="https://proxy.example.com/v1")
        assert request_of(esp.deliver(mail())).url == "https://proxy.example.com/v1/email"

    @override_settings(MAILERSEND_API_TOKEN="mlsn.bare")
    def test_the_token_may_be_a_bare_setting(self) -> None:
        assert load(MailerSendOptions, ("MAILERSEND",), {}).api_token.reveal() == "mlsn.bare"

    def test_the_token_is_needed(self) -> None:
        with pytest.raises(AnymailConfigurationError, match="MAILERSEND_API_TOKEN"):
            EmailBackend()


UNSUPPORTED = {
    "envelope_sender": {"envelope_sender": "bounces@example.com"},
    "metadata": {"metadata": {"order": "1"}},
    "merge_metadata": {"merge_metadata": {"ana@example.net": {"order": "1"}}},
    "merge_headers": {"merge_headers": {"ana@example.net": {"X-Order": "1"}}},
    "multiple from_email addresses": {"from_email": "a@example.com, b@example.com"},
    "multiple reply_to addresses": {"reply_to": ["a@example.com", "b@example.com"]},
    "a To header in extra_headers": {"headers": {"To": "all@example.com"}},
    "multiple html parts": {"html": "<p>1", "alternatives": [("<p>1", "text/html"), ("<p>2", "text/html")]},
    "an AMP body": {"alternatives": [("<html amp4email>", "text/x-amp-html")]},
    "a non-ASCII local part (EAI) in to": {"to": ["josé@example.com"]},
    "text with template_id": {"template_id": "x"},
    "html with template_id": {"template_id": "x", "body": "<p>Hello", "content_subtype": "html"},
}


@pytest.mark.parametrize(("what", "attributes"), UNSUPPORTED.items(), ids=UNSUPPORTED.keys())
def test_unsupported(what: str, attributes: dict[str, Any]) -> None:
    one = mail(**attributes)
    assert [found.what for found in (*check(one, MailerSend.supports), *MAILERSEND.check(one))] == [what]


def test_ignoring_leaves_the_first_reply_to() -> None:
    [found] = check(mail(reply_to=["a@example.com", "b@example.com"]), MailerSend.supports)
    assert [one.addr_spec for one in found.without["reply_to"]] == ["a@example.com"]


# What nothing can be left out of.
IMPOSSIBLE: dict[str, tuple[dict[str, Any], str]] = {
    "nobody in to": ({"to": [], "cc": ["c@example.org"]}, "without any `to` recipients"),
    "a batch without a mode": ({**TWO, "merge_data": {}}, "MAILERSEND_BATCH_SEND_MODE"),
    "a batch with a mode that does not exist": (
        {**TWO, "merge_metadata": {}, "esp_extra": {"batch_send_mode": "bulk"}},
        "MAILERSEND_BATCH_SEND_MODE",
    ),
}


@pytest.mark.parametrize(("attributes", "words"), IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_impossible_even_when_ignoring(attributes: dict[str, Any], words: str) -> None:
    backend = EmailBackend(api_token="t", ignore_unsupported_features=True)
    with pytest.raises(AnymailUnsupportedFeature, match=words):
        backend.send_messages([message(**attributes)])


HTML = {"Content-Type": "text/html; charset=UTF-8"}
JSON = {"Content-Type": "application/json; charset=utf-8"}
ID = {"X-Message-Id": "68f0a3b7c41d9e0012ab5501"}
QUEUED, REJECTED, FAILED = ("queued", "68f0a3b7c41d9e0012ab5501"), ("rejected", None), ("failed", None)
IN_BULK = ("unknown", "bulk:68f0b2d1c41d9e0012ab9a40")


def warned(kind: str, *emails: str) -> Any:
    recipients = [{"email": email, "name": "", "reasons": ["blocklisted", "hard_bounced"]} for email in emails]
    return {
        "message": "There are some warnings for your request.",
        "warnings": [{"type": kind, "warning": "The recipients have been suppressed.", "recipients": recipients}],
    }


ACCEPTED = answer(202, b"", {**HTML, **ID})
BULK_ACCEPTED = answer(
    202,
    {"message": "The bulk email is being processed.", "bulk_email_id": "68f0b2d1c41d9e0012ab9a40"},
    JSON,
)

# A message's attributes, the answer, and the recipients' statuses.
ANSWERS: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
    "accepted": (
        {"cc": ["c@example.org"], "bcc": ["d@example.org"]},
        ACCEPTED,
        {"ana@example.net": QUEUED, "c@example.org": QUEUED, "d@example.org": QUEUED},
    ),
    "accepted, without a content type": ({}, answer(202, b"", ID), {"ana@example.net": QUEUED}),
    "accepted, in JSON": ({}, answer(202, {"message": "OK"}, {**JSON, **ID}), {"ana@example.net": QUEUED}),
    "some suppressed": (
        {"to": ["ana@example.net", "Bo@Example.org"], "cc": ["c@bücher.example"]},
        answer(202, warned("SOME_SUPPRESSED", "bo@example.org", "C@xn--bcher-kva.example"), {**JSON, **ID}),
        {"ana@example.net": QUEUED, "Bo@Example.org": REJECTED, "c@bücher.example": REJECTED},
    ),
    "all suppressed": (
        TWO,
        answer(202, warned("ALL_SUPPRESSED", "ana@example.net", "bo@example.org"), JSON),
        {"ana@example.net": REJECTED, "bo@example.org": REJECTED},
    ),
    "all suppressed, one not listed": (
        TWO,
        answer(202, warned("ALL_SUPPRESSED", "ana@example.net"), JSON),
        {"ana@example.net": REJECTED, "bo@example.org": FAILED},
    ),
    "bulk": (
        {**TWO, **BULK, "cc": ["c@example.org"], "merge_data": {}},
        BULK_ACCEPTED,
        {"ana@example.net": IN_BULK, "bo@example.org": IN_BULK, "c@example.org": IN_BULK},
    ),
}


@pytest.mark.parametrize(("attributes", "response", "expected"), ANSWERS.values(), ids=ANSWERS.keys())
def test_statuses(attributes: dict[str, Any], response: Any, expected: dict[str, Any]) -> None:
    _, recipients = drive(MAILERSEND.deliver(mail(**attributes)), response)
    assert statuses(recipients) == expected


@pytest.mark.parametrize("batch", [{}, {**BULK, "merge_data": {}}], ids=["single", "bulk"])
def test_a_paused_domain_is_warned_of(batch: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    accepted = BULK_ACCEPTED if batch else ACCEPTED
    paused = answer(202, accepted.content, {**accepted.headers, "x-send-paused": "true"})
    with caplog.at_level(logging.WARNING, "anymail"):
        drive(MAILERSEND.deliver(mail(**batch)), accepted)
        assert not caplog.records
        drive(MAILERSEND.deliver(mail(**batch)), paused)
    assert "sending is paused" in caplog.text


def refusal(code: str, text: str = "No") -> Any:
    words = f"{text} #{code}"
    return {"message": words, "errors": {"from.email": [words]}}


# The answer, and the error's sent, category and retryable.
ERRORS: dict[str, tuple[Any, bool | None, str, bool]] = {
    "malformed": (answer(400, {"message": "Bad #MS40001"}), False, "invalid", False),
    "bad token": (answer(401, {"message": "Unauthenticated."}), False, "auth", False),
    "token's scope": (answer(403, {"message": "No #MS40301"}), False, "auth", False),
    "bad message": (answer(422, refusal("MS42208")), False, "invalid", False),
    "feature not in plan": (answer(422, refusal("MS42216")), False, "invalid", False),
    "over 500 in bulk": (answer(422, refusal("MS42229")), False, "invalid", False),
    "domain not verified": (answer(422, refusal("MS42207")), False, "auth", False),
    "monthly quota": (answer(422, refusal("MS42204")), False, "quota", False),
    "trial quota": (answer(422, refusal("MS42222")), False, "quota", False),
    "trial recipients": (answer(422, refusal("MS42225")), False, "quota", False),
    "too fast": (answer(429, {"message": "Too many #MS42903"}, {"Retry-After": "7"}), False, "rate_limit", True),
    "daily quota": (answer(429, {"message": "Too many #MS42901"}, {"Retry-After": "7"}), False, "quota", False),
    "maintenance": (answer(421, "Maintenance"), False, "server", True),
    "maintenance, in JSON": (answer(421, {"message": "Maintenance"}), False, "server", True),
    "timeout": (answer(408, "Timeout"), None, "timeout", False),
    "its fault": (answer(500, {"message": "Oops #MS5001"}), None, "server", False),
    "unavailable": (answer(503, "Unavailable"), None, "server", False),
    "no id": (answer(202, b"", HTML), True, "unreadable", False),
    "some suppressed, no id": (answer(202, warned("SOME_SUPPRESSED", "x@y.z"), JSON), True, "unreadable", False),
    "something else's page": (answer(200, "<html>", HTML), True, "unreadable", False),
    "not JSON": (answer(202, "{", {**JSON, **ID}), True, "unreadable", False),
    "a list": (answer(202, [1], {**JSON, **ID}), True, "unreadable", False),
    "unknown warning": (answer(202, warned("STRANGE", "x@y.z"), {**JSON, **ID}), True, "unreadable", False),
    "errors": (answer(202, {"errors": {"to": ["x"]}}, {**JSON, **ID}), True, "unreadable", False),
    "warnings in words": (answer(202, {"warnings": "some"}, {**JSON, **ID}), True, "unreadable", False),
    "warnings by number": (answer(202, {"warnings": 7}, {**JSON, **ID}), True, "unreadable", False),
    "warnings without recipients": (
        answer(202, {"warnings": [{"type": "SOME_SUPPRESSED", "recipients": [7]}]}, {**JSON, **ID}),
        True,
        "unreadable",
        False,
    ),
}


@pytest.mark.parametrize(("response", "sent", "category", "retryable"), ERRORS.values(), ids=ERRORS.keys())
def test_errors(response: Any, sent: bool | None, category: str, retryable: bool) -> None:
    with pytest.raises(AnymailAPIError) as raised:
        drive(MAILERSEND.deliver(mail()), response)
    error = raised.value
    assert (error.sent, error.category, error.retryable) == (sent, category, retryable)
    assert "mlsn." not in str(error)


def test_error_says_when_to_try_again() -> None:
    with pytest.raises(AnymailAPIError) as raised:
        drive(MAILERSEND.deliver(mail()), ERRORS["too fast"][0])
    assert raised.value.retry_after == 7


@pytest.mark.parametrize("response", [answer(202, {}), answer(202, []), answer(202, {"bulk_email_id": 7})])
def test_an_unreadable_answer_to_a_bulk_email(response: Any) -> None:
    with pytest.raises(AnymailAPIError) as raised:
        drive(MAILERSEND.deliver(mail(**TWO, **BULK, merge_data={})), response)
    assert (raised.value.sent, raised.value.category) == (True, "unreadable")


def test_error_quotes_mailersend_once() -> None:
    words = "The from.email domain must be verified in your account to send emails. #MS42207"
    with pytest.raises(AnymailAPIError) as raised:
        drive(MAILERSEND.deliver(mail()), answer(422, {"message": words, "errors": {"from.email": [words]}}))
    assert str(raised.value).count(words) == 1


def test_error_quotes_every_field() -> None:
    errors = {"to.0.email": ["Not an address. #MS42208"], "subject": ["The subject is required. #MS42209"]}
    with pytest.raises(AnymailAPIError, match=r"Not an address\. #MS42208 The subject is required\. #MS42209"):
        drive(MAILERSEND.deliver(mail()), answer(422, {"message": "The given data was invalid.", "errors": errors}))


@pytest.mark.parametrize(
    "content", [[], "x", {"message": "Oops", "errors": []}, {"message": "Oops", "errors": {"to": 7}}]
)
def test_error_of_another_shape(content: Any) -> None:
    with pytest.raises(AnymailAPIError) as raised:
        drive(MAILERSEND.deliver(mail()), answer(422, content))
    assert raised.value.category == "invalid"
