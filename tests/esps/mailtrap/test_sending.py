"""Mailtrap: messages and the exact requests they become, answers and the statuses they become."""

from __future__ import annotations

import datetime as dt
from base64 import b64decode
from email.mime.image import MIMEImage
from typing import Any

import pytest
from django.test import override_settings

from anymail._version import __version__
from anymail.backends.mailtrap import EmailBackend
from anymail.conf import load
from anymail.esps.mailtrap.sending import Mailtrap, MailtrapOptions
from anymail.exceptions import (
    AnymailAPIError,
    AnymailConfigurationError,
    AnymailSerializationError,
    AnymailTransportError,
)
from anymail.mail.supports import check
from anymail.wire import Response
from support import PNG, answer, drive, json_of, mail, make_esp, request_of, statuses

MAILTRAP = make_esp(Mailtrap, api_token="token")
SANDBOXED = make_esp(Mailtrap, api_token="token", sandbox_id=2345)
ANA, BO, CY = {"email": "ana@example.net"}, {"email": "bo@example.org"}, {"email": "cy@example.org"}
BASE = {"from": {"email": "shop@example.com"}, "to": [ANA], "subject": "Hi", "text": "Hello"}
SHARED = {key: value for key, value in BASE.items() if key != "to"}
TWO = {"to": ["ana@example.net", "bo@example.org"]}
UUID = "3f0c9d6e-58a1-4b27-9e44-d1b7a0c6f532"
TEMPLATE = {"subject": "", "body": "", "template_id": UUID}
TEMPLATED = {"from": {"email": "shop@example.com"}, "template_uuid": UUID}
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNgAAAAAgAB5Sfe/AAAAABJRU5ErkJggg=="  # a PNG of 1x1


def inline(content: bytes, content_id: str | None, name: str | None = "dot.png") -> MIMEImage:
    part = MIMEImage(content, "png")
    part.add_header("Content-Disposition", "inline", **({"filename": name} if name else {}))
    if content_id:
        part.add_header("Content-ID", f"<{content_id}>")
    return part


# A message's attributes, and the path and body of its request.
REQUESTS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "plain": ({}, "send", BASE),
    "everything": (
        {
            "from_email": '"Example, Orders" <orders@example.com>',
            "to": ["Ada Löve <ada@example.net>", "grace@example.org"],
            "cc": ["team@bücher.example"],
            "bcc": ["archive@example.com"],
            "reply_to": ["Help <help@example.com>"],
            "subject": "Order 81734 ✓",
            "body": "Thank you.",
            "html": '<p>Thank you. <img src="cid:dot@example.com"></p>',
            "headers": {"X-Order": 81734, "List-Unsubscribe": "<https://example.com/u/81734>"},
            "tags": ["receipts"],
            "metadata": {"order_id": 81734, "plan": "pro"},
            "attach": [("items.csv", "sku,qty\nA-1,2\n", "text/csv"), (inline(b64decode(DOT), "dot@example.com"),)],
        },
        "send",
        {
            "from": {"email": "orders@example.com", "name": "Example, Orders"},
            "to": [{"email": "ada@example.net", "name": "Ada Löve"}, {"email": "grace@example.org"}],
            "cc": [{"email": "team@xn--bcher-kva.example"}],
            "bcc": [{"email": "archive@example.com"}],
            "reply_to": {"email": "help@example.com", "name": "Help"},
            "subject": "Order 81734 ✓",
            "text": "Thank you.",
            "html": '<p>Thank you. <img src="cid:dot@example.com"></p>',
            "headers": {"X-Order": "81734", "List-Unsubscribe": "<https://example.com/u/81734>"},
            "category": "receipts",
            "custom_variables": {"order_id": "81734", "plan": "pro"},
            "attachments": [
                {"filename": "items.csv", "type": 'text/csv; charset="utf-8"', "content": "c2t1LHF0eQpBLTEsMgo="},
                {
                    "filename": "dot.png",
                    "type": "image/png",
                    "content": DOT,
                    "disposition": "inline",
                    "content_id": "dot@example.com",
                },
            ],
        },
    ),
    "html only": (
        {"body": "<p>Hello", "content_subtype": "html"},
        "send",
        {"from": {"email": "shop@example.com"}, "to": [ANA], "subject": "Hi", "html": "<p>Hello"},
    ),
    "only cc and bcc": (
        {"to": [], "cc": ["bo@example.org"], "bcc": ["cy@example.org"]},
        "send",
        {**SHARED, "cc": [BO], "bcc": [CY]},
    ),
    "several reply_to": (
        {
            "reply_to": ["Jörg Müller <jm@bücher.example>", '"Help, Desk" <help@example.com>'],
            "headers": {"X-Order": "1"},
        },
        "send",
        {
            **BASE,
            "headers": {
                "Reply-To": '=?utf-8?b?SsO2cmcgTcO8bGxlcg==?= <jm@xn--bcher-kva.example>, "Help, Desk" '
                "<help@example.com>",
                "X-Order": "1",
            },
        },
    ),
    "EAI": (
        {"to": ["josé@example.net"], "reply_to": ["añé@example.com"]},
        "send",
        {**BASE, "to": [{"email": "josé@example.net"}], "reply_to": {"email": "añé@example.com"}},
    ),
    "attachments without a name": (
        {"attach": [(None, b"%PDF-1.7\n", "application/pdf"), (inline(PNG, None, None),)]},
        "send",
        {
            **BASE,
            "attachments": [
                {"filename": "attachment", "type": "application/pdf", "content": "JVBERi0xLjcK"},
                {
                    "filename": "attachment",
                    "type": "image/png",
                    "content": "iVBORw0KGgo=",
                    "disposition": "inline",
                },
            ],
        },
    ),
    "metadata of other types": (
        {"metadata": {7: 1.5, "vip": True, "day": dt.date(2026, 7, 28)}},
        "send",
        {**BASE, "custom_variables": {"7": "1.5", "vip": "True", "day": "2026-07-28"}},
    ),
    "esp_extra": (
        {
            "headers": {"X-Order": "1"},
            "esp_extra": {"headers": {"X-Shop": "2"}, "category": "digest", "text": "Other"},
        },
        "send",
        {**BASE, "headers": {"X-Order": "1", "X-Shop": "2"}, "category": "digest", "text": "Other"},
    ),
    "template": (
        {
            **TEMPLATE,
            "from_email": "orders@example.com",
            "to": ["Ada <ada@example.net>"],
            "merge_global_data": {"ship_date": "3 August", "order": {"no": 81734, "lines": ["A-1", "B-7"]}},
            "metadata": {"order_id": 81734},
        },
        "send",
        {
            "from": {"email": "orders@example.com"},
            "to": [{"email": "ada@example.net", "name": "Ada"}],
            "template_uuid": UUID,
            "template_variables": {"ship_date": "3 August", "order": {"no": 81734, "lines": ["A-1", "B-7"]}},
            "custom_variables": {"order_id": "81734"},
        },
    ),
    "template without a subject": (
        {**TEMPLATE, "subject": None, "esp_extra": {"template_variables": {"a": 1}}},
        "send",
        {**TEMPLATED, "to": [ANA], "template_variables": {"a": 1}},
    ),
    "batch": (
        {
            **TEMPLATE,
            "from_email": "orders@example.com",
            "to": ["Ada <ada@example.net>", "grace@example.org"],
            "cc": ["audit@example.com"],
            "merge_global_data": {"ship_date": "3 August"},
            "merge_data": {"ada@example.net": {"name": "Ada"}},
            "metadata": {"run": 42},
            "merge_metadata": {"ada@example.net": {"user": 7}},
            "headers": {"List-Unsubscribe-Post": "List-Unsubscribe=One-Click"},
            "merge_headers": {"ada@example.net": {"List-Unsubscribe": "<https://example.com/u/7>"}},
        },
        "batch",
        {
            "base": {
                "from": {"email": "orders@example.com"},
                "template_uuid": UUID,
                "template_variables": {"ship_date": "3 August"},
                "custom_variables": {"run": "42"},
                "headers": {"List-Unsubscribe-Post": "List-Unsubscribe=One-Click"},
            },
            "requests": [
                {
                    "to": [{"email": "ada@example.net", "name": "Ada"}],
                    "cc": [{"email": "audit@example.com"}],
                    "template_variables": {"ship_date": "3 August", "name": "Ada"},
                    "custom_variables": {"run": "42", "user": "7"},
                    "headers": {
                        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
                        "List-Unsubscribe": "<https://example.com/u/7>",
                    },
                },
                {"to": [{"email": "grace@example.org"}], "cc": [{"email": "audit@example.com"}]},
            ],
        },
    ),
    "batch without data": (
        {**TWO, "bcc": ["cy@example.org"], "merge_data": {}, "attach": [("a.pdf", b"1", "application/pdf")]},
        "batch",
        {
            "base": {**SHARED, "attachments": [{"filename": "a.pdf", "type": "application/pdf", "content": "MQ=="}]},
            "requests": [{"to": [ANA], "bcc": [CY]}, {"to": [BO], "bcc": [CY]}],
        },
    ),
    "batch with keys as the user spelled them": (
        {**TEMPLATE, "to": ["Ana <ana@bücher.example>"], "merge_data": {"ana@bücher.example": {"name": "Ana"}}},
        "batch",
        {
            "base": TEMPLATED,
            "requests": [
                {
                    "to": [{"email": "ana@xn--bcher-kva.example", "name": "Ana"}],
                    "template_variables": {"name": "Ana"},
                }
            ],
        },
    ),
    "batch with several reply_to": (
        {
            **TWO,
            "reply_to": ["a@example.com", "b@example.com"],
            "headers": {"X-A": "1"},
            "merge_headers": {"ana@example.net": {"x-a": "2"}, "bo@example.org": {"Reply-To": "c@example.com"}},
        },
        "batch",
        {
            "base": {**SHARED, "headers": {"Reply-To": "a@example.com, b@example.com", "X-A": "1"}},
            "requests": [
                {"to": [ANA], "headers": {"Reply-To": "a@example.com, b@example.com", "x-a": "2"}},
                {"to": [BO], "headers": {"Reply-To": "c@example.com", "X-A": "1"}},
            ],
        },
    ),
    "batch with esp_extra": (
        {
            "merge_headers": {"ana@example.net": {"X-A": "1", "X-B": "1"}},
            "esp_extra": {"headers": {"X-B": "2"}, "category": "digest"},
        },
        "batch",
        {
            "base": {**SHARED, "headers": {"X-B": "2"}, "category": "digest"},
            "requests": [{"to": [ANA], "headers": {"X-A": "1", "X-B": "2"}}],
        },
    ),
    "batch without to": (
        {"to": [], "cc": ["bo@example.org"], "merge_metadata": {}},
        "send",
        {**SHARED, "cc": [BO]},
    ),
}


@pytest.mark.parametrize(("attributes", "path", "body"), REQUESTS.values(), ids=REQUESTS.keys())
def test_request(attributes: dict[str, Any], path: str, body: Any) -> None:
    one = mail(**attributes)
    assert [*check(one, Mailtrap.supports), *MAILTRAP.check(one)] == []
    request = request_of(MAILTRAP.deliver(one))
    assert (request.method, request.url) == ("POST", f"https://send.api.mailtrap.io/api/{path}")
    assert json_of(request) == body


def test_headers() -> None:
    request = request_of(MAILTRAP.deliver(mail()))
    assert dict(request.headers) == {
        "Api-Token": "token",
        "Accept": "application/json",
        "Content-Type": "application/json",
        "User-Agent": f"anymail/{__version__}",
    }
    assert not request.repeatable


def test_a_message_is_in_the_order_of_the_reference() -> None:
    body = json_of(request_of(MAILTRAP.deliver(mail(**REQUESTS["everything"][0]))))
    assert list(body) == [
        "from", "to", "cc", "bcc", "reply_to", "attachments", "headers", "custom_variables", "subject", "text",
        "html", "category",
    ]  # fmt: skip


def test_data_that_json_cannot_express() -> None:
    with pytest.raises(AnymailSerializationError, match=r"template_variables\.total"):
        request_of(MAILTRAP.deliver(mail(**TEMPLATE, merge_global_data={"total": {1, 2}})))
    with pytest.raises(AnymailSerializationError, match=r"template_variables\.total"):
        request_of(MAILTRAP.deliver(mail(**TEMPLATE, merge_data={"ana@example.net": {"total": {1, 2}}})))


# Options, whether the message is a batch, and the URL.
URLS: dict[str, tuple[dict[str, Any], bool, str]] = {
    "transactional": ({}, True, "https://send.api.mailtrap.io/api/batch"),
    "bulk": ({"stream": "bulk"}, False, "https://bulk.api.mailtrap.io/api/send"),
    "sandbox": ({"sandbox_id": 2345}, False, "https://sandbox.api.mailtrap.io/api/send/2345"),
    "sandbox, batch": ({"sandbox_id": "2345"}, True, "https://sandbox.api.mailtrap.io/api/batch/2345"),
    "sandbox rather than bulk": (
        {"sandbox_id": 1, "stream": "bulk"},
        False,
        "https://sandbox.api.mailtrap.io/api/send/1",
    ),
    "sandbox that is no number": (
        {"sandbox_id": "a/../b?"},
        False,
        "https://sandbox.api.mailtrap.io/api/send/a%2F..%2Fb%3F",
    ),
    "no sandbox: 0": ({"sandbox_id": 0}, False, "https://send.api.mailtrap.io/api/send"),
    "no sandbox: empty": ({"sandbox_id": ""}, False, "https://send.api.mailtrap.io/api/send"),
    "another URL": ({"api_url": "https://bulk.api.mailtrap.io/api"}, False, "https://bulk.api.mailtrap.io/api/send"),
    "another URL, with a sandbox": (
        {"api_url": "http://127.0.0.1:8025/api/", "sandbox_id": 1, "stream": "bulk"},
        True,
        "http://127.0.0.1:8025/api/batch/1",
    ),
}


@pytest.mark.parametrize(("options", "batch", "url"), URLS.values(), ids=URLS.keys())
def test_url(options: dict[str, Any], batch: bool, url: str) -> None:
    esp = make_esp(Mailtrap, api_token="token", **options)
    assert request_of(esp.deliver(mail(**({"merge_data": {}} if batch else {})))).url == url


def test_a_stream_that_does_not_exist() -> None:
    with pytest.raises(AnymailConfigurationError, match="'transactional' or 'bulk' is needed"):
        make_esp(Mailtrap, api_token="token", stream="broadcast")


@override_settings(MAILTRAP_API_TOKEN="bare", ANYMAIL={"MAILTRAP_SANDBOX_ID": 7})
def test_settings() -> None:
    options = load(MailtrapOptions, ("MAILTRAP",), {})
    assert (options.api_token.reveal(), options.sandbox_id) == ("bare", "7")
    assert "bare" not in repr(options)


def test_the_token_is_needed() -> None:
    with pytest.raises(AnymailConfigurationError, match="MAILTRAP_API_TOKEN"):
        EmailBackend()


UNSUPPORTED = {
    "envelope_sender": {"envelope_sender": "bounces@example.com"},
    "multiple from_email addresses": {"from_email": "a@example.com, b@example.com"},
    "multiple tags": {"tags": ["a", "b"]},
    "track_opens": {"track_opens": False},
    "track_clicks": {"track_clicks": True},
    "send_at": {"send_at": 1_792_060_200},
    "a To header in extra_headers": {"headers": {"To": "all@example.com"}},
    "an AMP body": {"alternatives": [("<html amp4email>", "text/x-amp-html")]},
    "multiple html parts": {"html": "<p>1", "alternatives": [("<p>1", "text/html"), ("<p>2", "text/html")]},
    "EAI with multiple reply_to addresses": {"reply_to": ["a@example.com", "josé@example.com"]},
    "merge_data without template_id": {"merge_data": {"ana@example.net": {"name": "Ana"}}},
    "merge_global_data without template_id": {"merge_global_data": {"name": "Ana"}},
}


@pytest.mark.parametrize(("what", "attributes"), UNSUPPORTED.items(), ids=UNSUPPORTED.keys())
def test_unsupported(what: str, attributes: dict[str, Any]) -> None:
    one = mail(**attributes)
    assert [found.what for found in (*check(one, Mailtrap.supports), *MAILTRAP.check(one))] == [what]


def test_ignoring_leaves_the_first_tag_and_what_fits_into_reply_to() -> None:
    one = mail(tags=["a", "b"], reply_to=["a@example.com", "josé@example.com"])
    tags, reply_to = (*check(one, Mailtrap.supports), *MAILTRAP.check(one))
    assert tags.without == {"tags": ("a",)}
    assert [address.addr_spec for address in reply_to.without["reply_to"]] == ["a@example.com"]


# Several distinct messages in one call.

FIVE: list[dict[str, Any]] = [
    {},
    {"to": ["bo@example.org"], "cc": ["cy@example.org"]},
    {"subject": "Ho", "body": "Other"},
    {"from_email": "Shop <shop@example.com>"},
    {},
]


def test_what_differs_from_the_first_is_in_the_requests() -> None:
    request = request_of(MAILTRAP.deliver_many([mail(**attributes) for attributes in FIVE]))
    assert request.url == "https://send.api.mailtrap.io/api/batch"
    assert json_of(request) == {
        "base": SHARED,
        "requests": [
            {"to": [ANA]},
            {"to": [BO], "cc": [CY]},
            {"to": [ANA], "subject": "Ho", "text": "Other"},
            {"to": [ANA], "from": {"email": "shop@example.com", "name": "Shop"}},
            {"to": [ANA]},
        ],
    }


def test_which_messages_share_a_call() -> None:
    keys = [MAILTRAP.batch_key(mail(**attributes)) for attributes in FIVE]
    assert len(set(keys)) == 1
    assert keys[0] is not None
    # What one has and the other has not could not be left out.
    others = [{"html": "<p>"}, {"tags": ["a"]}, {"metadata": {"a": 1}}, {"headers": {"X": "1"}}, TEMPLATE]
    assert len({MAILTRAP.batch_key(mail(**attributes)) for attributes in others} - {*keys, None}) == len(others)


ALONE: dict[str, dict[str, Any]] = {
    "batch": {"merge_data": {}},
    "no to": {"to": [], "cc": ["cy@example.org"]},
    "attachments": {"attach": [("a.txt", b"1", "text/plain")]},
    "esp_extra": {"esp_extra": {"category": "a"}},
}


@pytest.mark.parametrize("attributes", ALONE.values(), ids=ALONE.keys())
def test_which_messages_do_not(attributes: dict[str, Any]) -> None:
    assert MAILTRAP.batch_key(mail(**attributes)) is None


def taken(*ids: Any) -> dict[str, Any]:
    return {"success": True, "message_ids": list(ids)}


def refused(*errors: str) -> dict[str, Any]:
    return {"success": False, "errors": list(errors)}


def batch(*items: Any) -> Response:
    return answer(200, {"success": True, "responses": list(items)})


def test_each_message_of_a_call_has_its_own_outcome() -> None:
    mails = [mail(), mail(cc=["cy@example.org"]), mail()]
    answered = batch(taken("1"), refused("address is invalid in 'cc' 0", "no"), taken("2"))
    _, (first, second, third) = drive(MAILTRAP.deliver_many(mails), answered)
    assert statuses(first) == {"ana@example.net": ("queued", "1")}
    assert statuses(third) == {"ana@example.net": ("queued", "2")}
    assert isinstance(second, AnymailAPIError)
    assert (second.sent, second.category) == (False, "invalid")
    assert "address is invalid in 'cc' 0; no" in str(second)


# The ESP, a message's attributes, the answer, and the recipients' statuses.
COPIES = {"cc": ["cy@example.org"]}
FAILED = ("failed", None)
ANSWERS: dict[str, tuple[Mailtrap, dict[str, Any], Response, dict[str, Any]]] = {
    "one for each": (
        MAILTRAP,
        {**TWO, "bcc": ["cy@example.org"]},
        answer(200, taken("1", "2", "3")),
        {"ana@example.net": ("queued", "1"), "bo@example.org": ("queued", "2"), "cy@example.org": ("queued", "3")},
    ),
    "keys as the user spelled them": (
        MAILTRAP,
        {"to": ["Ana@bücher.example"]},
        answer(200, taken("1")),
        {"Ana@bücher.example": ("queued", "1")},
    ),
    "sandbox": (
        SANDBOXED,
        {**TWO, **COPIES},
        answer(200, taken("4967738534")),
        dict.fromkeys(["ana@example.net", "bo@example.org", "cy@example.org"], ("queued", "4967738534")),
    ),
    "batch": (
        MAILTRAP,
        {**TWO, **COPIES, "merge_data": {}},
        batch(taken("1", "2"), taken("3", "4")),
        {"ana@example.net": ("queued", "1"), "bo@example.org": ("queued", "3"), "cy@example.org": ("queued", "4")},
    ),
    "batch, the first failed": (
        MAILTRAP,
        {**TWO, **COPIES, "merge_data": {}},
        batch(refused("address is invalid in 'to' 0"), taken("3", "4")),
        {"ana@example.net": FAILED, "bo@example.org": ("queued", "3"), "cy@example.org": ("queued", "4")},
    ),
    "batch, the last failed": (
        MAILTRAP,
        {**TWO, **COPIES, "merge_data": {}},
        batch(taken("1", "2"), refused("address is invalid in 'to' 0")),
        {"ana@example.net": ("queued", "1"), "bo@example.org": FAILED, "cy@example.org": ("queued", "2")},
    ),
    "batch, cc the same as to": (
        MAILTRAP,
        {"cc": ["ana@example.net"], **TWO, "merge_data": {}},
        batch(refused("no"), taken("3", "4")),
        {"ana@example.net": FAILED, "bo@example.org": ("queued", "3")},
    ),
    "batch in a sandbox": (
        SANDBOXED,
        {**TWO, **COPIES, "merge_data": {}},
        batch(taken("1"), taken("2")),
        {"ana@example.net": ("queued", "1"), "bo@example.org": ("queued", "2"), "cy@example.org": ("queued", "2")},
    ),
}


@pytest.mark.parametrize(("esp", "attributes", "response", "expected"), ANSWERS.values(), ids=ANSWERS.keys())
def test_statuses(esp: Mailtrap, attributes: dict[str, Any], response: Response, expected: dict[str, Any]) -> None:
    _, recipients = drive(esp.deliver(mail(**attributes)), response)
    assert statuses(recipients) == expected


# The answer, and the error's sent, category and retryable.
ERRORS: dict[str, tuple[Response, bool | None, str, bool]] = {
    "invalid": (answer(400, {"errors": ["'subject' is required"]}), False, "invalid", False),
    "token": (answer(401, refused("Unauthorized")), False, "auth", False),
    "account": (answer(403, {"errors": ["Forbidden"]}), False, "auth", False),
    "too large": (answer(413, ""), False, "invalid", False),
    "too fast": (answer(429, {"errors": ["Rate limit exceeded"]}, {"Retry-After": "7"}), False, "rate_limit", True),
    "its fault": (answer(500, {"errors": ["Internal server error"]}), None, "server", False),
    "unavailable": (answer(503, "Unavailable"), None, "server", False),
    "a refusal with 200": (answer(200, refused("no")), False, "invalid", False),
    "a refusal with 200, without success": (answer(200, {"errors": ["no"]}), False, "invalid", False),
    "yes and no": (answer(200, {**taken("1"), "errors": ["no"]}), True, "unreadable", False),
    "no, without a reason": (answer(200, {"success": False}), True, "unreadable", False),
    "no success": (answer(200, {"message_ids": ["1"]}), True, "unreadable", False),
    "no ids": (answer(200, {"success": True}), True, "unreadable", False),
    "too many ids": (answer(200, taken("1", "2")), True, "unreadable", False),
    "too few ids": (answer(200, taken()), True, "unreadable", False),
    "ids of another type": (answer(200, taken({})), True, "unreadable", False),
    "not JSON": (answer(200, "<html>"), True, "unreadable", False),
    "a list": (answer(200, [1]), True, "unreadable", False),
}


@pytest.mark.parametrize(("response", "sent", "category", "retryable"), ERRORS.values(), ids=ERRORS.keys())
def test_errors(response: Response, sent: bool | None, category: str, retryable: bool) -> None:
    with pytest.raises(AnymailAPIError) as raised:
        drive(MAILTRAP.deliver(mail()), response)
    error = raised.value
    assert (error.sent, error.category, error.retryable) == (sent, category, retryable)
    assert "token" not in str(error)


def test_only_a_sandbox_has_one_id_for_all() -> None:
    with pytest.raises(AnymailAPIError, match="without a message id for each of 2 recipients"):
        drive(MAILTRAP.deliver(mail(**TWO)), answer(200, taken("1")))


BATCH_ERRORS: dict[str, tuple[Response, bool | None, str]] = {
    "all refused": (batch(refused("first"), refused("second")), False, "invalid"),
    "the whole call refused": (answer(400, {"errors": ["'from' is required"]}), False, "invalid"),
    "too few responses": (batch(taken("1")), True, "unreadable"),
    "no responses": (answer(200, {"success": True}), True, "unreadable"),
    "no success": (answer(200, {"responses": [taken("1"), taken("2")]}), True, "unreadable"),
    "a response without ids": (batch(taken("1"), {"success": True}), True, "unreadable"),
    "a response that is none": (batch(taken("1"), None), True, "unreadable"),
}


@pytest.mark.parametrize(("response", "sent", "category"), BATCH_ERRORS.values(), ids=BATCH_ERRORS.keys())
def test_errors_of_a_batch(response: Response, sent: bool | None, category: str) -> None:
    with pytest.raises(AnymailAPIError) as raised:
        drive(MAILTRAP.deliver(mail(**TWO, merge_data={})), response)
    assert (raised.value.sent, raised.value.category) == (sent, category)


# An error answer, and Mailtrap's words in it.
WORDS = {
    "several": ({"errors": ["'subject' is required", "must specify either text or html body"]},
                "'subject' is required; must specify either text or html body"),
    "text": ({"errors": "Access forbidden"}, "Access forbidden"),
    "one": ({"error": "Incorrect API token"}, "Incorrect API token"),
    "by field": ({"errors": {"email": ["is taken", "is odd"], "x": "no"}}, "email: is taken; email: is odd; x: no"),
    "other": ({"message": "Oops"}, "Oops"),
    "list": (["Oops"], "Oops"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "words"), WORDS.values(), ids=WORDS.keys())
def test_errors_quote_mailtrap(content: Any, words: str) -> None:
    with pytest.raises(AnymailAPIError) as raised:
        drive(MAILTRAP.deliver(mail()), answer(400, content))
    assert words in str(raised.value)


def test_error_says_when_to_try_again() -> None:
    with pytest.raises(AnymailAPIError) as raised:
        drive(MAILTRAP.deliver(mail()), ERRORS["too fast"][0])
    assert raised.value.retry_after == 7


class TestLargeBatches:
    MANY = {"to": [f"r{index}@example.com" for index in range(1001)], "merge_data": {}}

    def answers(self, *sizes: int) -> list[Response]:
        return [batch(*(taken(f"{size}-{index}") for index in range(size))) for size in sizes]

    def test_500_go_into_a_call(self) -> None:
        requests, recipients = drive(MAILTRAP.deliver(mail(**self.MANY)), *self.answers(500, 500, 1))
        sent = [[one["to"][0]["email"] for one in json_of(request)["requests"]] for request in requests]
        assert [len(each) for each in sent] == [500, 500, 1]
        assert [email for each in sent for email in each] == self.MANY["to"]
        assert all(json_of(request)["base"] == SHARED for request in requests)
        assert (recipients["r499@example.com"].message_id, recipients["r1000@example.com"].message_id) == (
            "500-499",
            "1-0",
        )

    def test_50_megabytes_go_into_a_call(self) -> None:
        data = {email: {"x": "y" * 10_000_000} for email in self.MANY["to"][:5]}
        one = mail(**{**TEMPLATE, "to": self.MANY["to"][:5], "merge_data": data})
        requests, _ = drive(MAILTRAP.deliver(one), *self.answers(4, 1))
        assert all(len(request.body) < 50_000_000 for request in requests)

    def test_attachments_count_in_each_call(self) -> None:
        data = {email: {"x": "y" * 10_000_000} for email in self.MANY["to"][:3]}
        file = ("a.bin", bytes(15_000_000), "application/octet-stream")
        one = mail(**{**TEMPLATE, "to": self.MANY["to"][:3], "merge_data": data, "attach": [file]})
        requests, _ = drive(MAILTRAP.deliver(one), *self.answers(2, 1))
        assert all(len(request.body) < 50_000_000 for request in requests)

    def test_a_message_that_is_too_large_by_itself_is_the_apis_to_refuse(self) -> None:
        file = ("a.bin", bytes(40_000_000), "application/octet-stream")
        requests, _ = drive(MAILTRAP.deliver(mail(**TWO, merge_data={}, attach=[file])), *self.answers(1, 1))
        assert [len(json_of(request)["requests"]) for request in requests] == [1, 1]

    # The failure of the second call, and the status of those who were in it.
    FAILURES: dict[str, tuple[Response | AnymailTransportError, str]] = {
        "refused": (answer(400, {"errors": ["no"]}), "failed"),
        "its fault": (answer(500, {"errors": ["Internal server error"]}), "unknown"),
        "unreadable": (answer(200, "?"), "unknown"),
        "lost": (AnymailTransportError("Lost.", sent=None), "unknown"),
        "not reached": (AnymailTransportError("Refused.", sent=False), "failed"),
    }

    @pytest.mark.parametrize(("failure", "status"), FAILURES.values(), ids=FAILURES.keys())
    def test_a_later_call_that_fails_takes_nothing_back(self, failure: Any, status: str) -> None:
        one = mail(**self.MANY, cc=["cy@example.org"])
        first = batch(*(taken(f"to-{index}", f"cc-{index}") for index in range(500)))
        requests, recipients = drive(MAILTRAP.deliver(one), first, failure)
        assert len(requests) == 2
        assert statuses(recipients)["r0@example.com"] == ("queued", "to-0")
        assert statuses(recipients)["r999@example.com"] == (status, None)
        assert statuses(recipients)["r1000@example.com"] == ("failed", None)
        assert statuses(recipients)["cy@example.org"] == ("queued", "cc-499")

    def test_a_first_call_that_fails_is_the_messages_failure(self) -> None:
        with pytest.raises(AnymailAPIError) as raised:
            drive(MAILTRAP.deliver(mail(**self.MANY)), answer(500, "?"))
        assert raised.value.sent is None

    def test_a_failed_call_after_one_that_took_nothing(self) -> None:
        first = batch(*[refused("no")] * 500)
        with pytest.raises(AnymailAPIError) as raised:
            drive(MAILTRAP.deliver(mail(**self.MANY)), first, answer(500, "?"))
        assert raised.value.sent is None
