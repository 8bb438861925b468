"""Mandrill: messages and the exact requests they become, answers and the statuses they become."""

from __future__ import annotations

import copy
import datetime as dt
from email.message import MIMEPart
from typing import Any

import pytest
from django.test import override_settings

from anymail.esps.mandrill.sending import Mandrill
from anymail.exceptions import AnymailAPIError, AnymailConfigurationError, AnymailSerializationError
from anymail.mail.message import outgoing_mail
from anymail.mail.supports import check
from anymail.message import attach_inline_image
from support import PNG, answer, drive, json_of, mail, make_esp, message, request_of, statuses

MANDRILL = make_esp(Mandrill, api_key="md-key")

SEND, TEMPLATE, MC_TEMPLATE = "send", "send-template", "send-mc-template"
MESSAGE = {
    "from_email": "shop@example.com",
    "to": [{"email": "ana@example.net", "type": "to"}],
    "subject": "Hi",
    "text": "Hello",
}
BASE = {"key": "md-key", "message": MESSAGE}
TWO = {"to": ["Ana <ana@example.net>", "Bob@Example.org"]}
TO_TWO = [
    {"email": "ana@example.net", "name": "Ana", "type": "to"},
    {"email": "Bob@Example.org", "type": "to"},
]
STORED = {"from_email": None, "subject": None, "body": "", "template_id": "order-confirmation"}
AMSTERDAM = dt.timezone(dt.timedelta(hours=2))


def plain(**of_message: Any) -> dict[str, Any]:
    """The request of a plain message, with something more in its ``message``."""
    return {**BASE, "message": {**MESSAGE, **of_message}}


def stored(**of_body: Any) -> dict[str, Any]:
    """The request of a message from a template, with something more."""
    return {
        "key": "md-key",
        "template_name": "order-confirmation",
        "template_content": [],
        "message": {"to": MESSAGE["to"]},
        **of_body,
    }


# A message's attributes, and the call and body of its request.
REQUESTS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "plain": ({}, SEND, BASE),
    "rich": (
        {
            "from_email": '"Example, Orders" <orders@example.com>',
            "to": ["Ada Löve <ada@example.net>", "grace@example.org"],
            "cc": ["team@bücher.example"],
            "bcc": ["archive@example.com"],
            "reply_to": ["Help <help@example.com>", '"Desk, Night" <night@example.com>'],
            "subject": "Order 81734 ✓",
            "body": "Thank you.",
            "html": "<p>Thank you.</p>",
            "headers": {"X-Order": "81734"},
            "attach": [("items.csv", "sku,qty\nA-1,2\n", "text/csv"), (None, b"\x00", "application/octet-stream")],
            "envelope_sender": "bounce@bounces.bücher.example",
            "metadata": {"order_id": "81734", "user": 7},
            "tags": ["receipts", "shop"],
            "track_opens": True,
            "track_clicks": False,
            "send_at": dt.datetime(2026, 8, 3, 8, 30, 0, 999_999, tzinfo=AMSTERDAM),
            "esp_extra": {"async": True, "ip_pool": "Main", "message": {"important": True, "headers": {"X-More": "1"}}},
        },
        SEND,
        {
            "key": "md-key",
            "message": {
                "from_email": "orders@example.com",
                "from_name": "Example, Orders",
                "to": [
                    {"email": "ada@example.net", "name": "Ada Löve", "type": "to"},
                    {"email": "grace@example.org", "type": "to"},
                    {"email": "team@xn--bcher-kva.example", "type": "cc"},
                    {"email": "archive@example.com", "type": "bcc"},
                ],
                "subject": "Order 81734 ✓",
                "text": "Thank you.",
                "html": "<p>Thank you.</p>",
                "headers": {
                    "X-Order": "81734",
                    "Reply-To": 'Help <help@example.com>, "Desk, Night" <night@example.com>',
                    "X-More": "1",
                },
                "attachments": [
                    {"type": 'text/csv; charset="utf-8"', "name": "items.csv", "content": "c2t1LHF0eQpBLTEsMgo="},
                    {"type": "application/octet-stream", "name": "", "content": "AA=="},
                ],
                "return_path_domain": "bounces.xn--bcher-kva.example",
                "metadata": {"order_id": "81734", "user": 7},
                "tags": ["receipts", "shop"],
                "track_opens": True,
                "track_clicks": False,
                "important": True,
            },
            "async": True,
            "ip_pool": "Main",
            "send_at": "2026-08-03 06:30:00",
        },
    ),
    "html only": (
        {"body": "<p>Hello", "content_subtype": "html"},
        SEND,
        {"key": "md-key", "message": {**{k: v for k, v in MESSAGE.items() if k != "text"}, "html": "<p>Hello"}},
    ),
    "an empty subject": ({"subject": ""}, SEND, plain(subject="")),
    "a non-ASCII local part": (
        {"to": ["josé@example.net"]},
        SEND,
        plain(to=[{"email": "josé@example.net", "type": "to"}]),
    ),
    "a non-ASCII name in Reply-To": (
        {"reply_to": ["Löve <help@bücher.example>"]},
        SEND,
        plain(headers={"Reply-To": "Löve <help@xn--bcher-kva.example>"}),
    ),
    "reply-to as header": (
        {"headers": {"reply-to": "Help <help@example.com>", "X-Order": 7}},
        SEND,
        plain(headers={"X-Order": "7", "Reply-To": "Help <help@example.com>"}),
    ),
    "from as header": (
        {"headers": {"From": "Shop <noreply@example.com>"}},
        SEND,
        plain(from_email="noreply@example.com", from_name="Shop", return_path_domain="example.com"),
    ),
    "time as a number": ({"send_at": 1_785_738_600}, SEND, {**BASE, "send_at": "2026-08-03 06:30:00"}),
    "tracking": ({"track_opens": False, "track_clicks": True}, SEND, plain(track_opens=False, track_clicks=True)),
    "variables without a template": (
        {"body": "Dear *|NAME|*", "merge_global_data": {"ship_date": "3 August", "items": [{"sku": "A"}]}},
        SEND,
        plain(
            text="Dear *|NAME|*",
            global_merge_vars=[
                {"name": "ship_date", "content": "3 August"},
                {"name": "items", "content": [{"sku": "A"}]},
            ],
        ),
    ),
    "handlebars": (
        {"merge_global_data": {"n": 0}, "esp_extra": {"message": {"merge_language": "handlebars"}}},
        SEND,
        plain(global_merge_vars=[{"name": "n", "content": 0}], merge_language="handlebars"),
    ),
    "template": (
        {
            **STORED,
            "to": ["Ada <ada@example.net>"],
            "merge_global_data": {"order_no": "81734", "ship_date": "3 August"},
            "metadata": {"order_id": "81734"},
        },
        TEMPLATE,
        stored(
            message={
                "to": [{"email": "ada@example.net", "name": "Ada", "type": "to"}],
                "global_merge_vars": [
                    {"name": "order_no", "content": "81734"},
                    {"name": "ship_date", "content": "3 August"},
                ],
                "metadata": {"order_id": "81734"},
            }
        ),
    ),
    "template with content": (
        {**STORED, "esp_extra": {"template_content": {"header": "<h1>Hi", "footer": ""}}},
        TEMPLATE,
        stored(template_content=[{"name": "header", "content": "<h1>Hi"}, {"name": "footer", "content": ""}]),
    ),
    "template with content in a list": (
        {**STORED, "esp_extra": {"template_content": [{"name": "header", "content": "<h1>Hi"}]}},
        TEMPLATE,
        stored(template_content=[{"name": "header", "content": "<h1>Hi"}]),
    ),
    "template in esp_extra": (
        {
            **STORED,
            "template_id": None,
            "esp_extra": {"template_name": "order-confirmation", "template_content": {}},
        },
        TEMPLATE,
        stored(),
    ),
    "a template of Mailchimp's": (
        {"subject": None, "body": "", "esp_extra": {"mc_template_id": 3, "mc_template_version": "draft"}},
        MC_TEMPLATE,
        {
            "key": "md-key",
            "mc_template_id": 3,
            "mc_template_version": "draft",
            "message": {"from_email": "shop@example.com", "to": MESSAGE["to"]},
        },
    ),
    "batch": (
        {
            **TWO,
            "subject": "Order *|ORDER_NO|*",
            "merge_data": {
                "ana@example.net": {"name": "Ana", "order_no": "81734"},
                "Bob@Example.org": {"name": "Bob", "order_no": "81735"},
                "else@example.com": {"name": "Else"},
            },
            "merge_global_data": {"ship_date": "3 August"},
            "metadata": {"run": "42"},
            "merge_metadata": {"ana@example.net": {"user": 7}, "Bob@Example.org": {"user": 8}},
        },
        SEND,
        plain(
            to=TO_TWO,
            subject="Order *|ORDER_NO|*",
            preserve_recipients=False,
            global_merge_vars=[{"name": "ship_date", "content": "3 August"}],
            merge_vars=[
                {
                    "rcpt": "ana@example.net",
                    "vars": [{"name": "name", "content": "Ana"}, {"name": "order_no", "content": "81734"}],
                },
                {
                    "rcpt": "Bob@Example.org",
                    "vars": [{"name": "name", "content": "Bob"}, {"name": "order_no", "content": "81735"}],
                },
            ],
            metadata={"run": "42"},
            recipient_metadata=[
                {"rcpt": "ana@example.net", "values": {"user": 7}},
                {"rcpt": "Bob@Example.org", "values": {"user": 8}},
            ],
        ),
    ),
    "batch by domain as spelled": (
        {"to": ["ana@bücher.example"], "merge_data": {"ana@bücher.example": {"name": "Ana"}}},
        SEND,
        plain(
            to=[{"email": "ana@xn--bcher-kva.example", "type": "to"}],
            preserve_recipients=False,
            merge_vars=[{"rcpt": "ana@xn--bcher-kva.example", "vars": [{"name": "name", "content": "Ana"}]}],
        ),
    ),
    "forced batch": (
        {**TWO, "merge_data": {"ana@example.net": {}}, "merge_metadata": {}},
        SEND,
        plain(to=TO_TWO, preserve_recipients=False),
    ),
    "a batch hides recipients, come what may": (
        {**TWO, "merge_headers": {}, "esp_extra": {"message": {"preserve_recipients": True}}},
        SEND,
        plain(to=TO_TWO, preserve_recipients=False),
    ),
    "not in a batch, esp_extra decides": (
        {**TWO, "esp_extra": {"message": {"preserve_recipients": True}}},
        SEND,
        plain(to=TO_TWO, preserve_recipients=True),
    ),
    "batch with template": (
        {**STORED, "merge_data": {"ana@example.net": {"name": "Ana"}}},
        TEMPLATE,
        stored(
            message={
                "to": MESSAGE["to"],
                "preserve_recipients": False,
                "merge_vars": [{"rcpt": "ana@example.net", "vars": [{"name": "name", "content": "Ana"}]}],
            }
        ),
    ),
    "recipient_metadata as a dict": (
        {
            **TWO,
            "esp_extra": {"message": {"recipient_metadata": {"b@example.org": {"n": 2}, "a@example.org": {"n": 1}}}},
        },
        SEND,
        plain(
            to=TO_TWO,
            recipient_metadata=[
                {"rcpt": "a@example.org", "values": {"n": 1}},
                {"rcpt": "b@example.org", "values": {"n": 2}},
            ],
        ),
    ),
}


@pytest.mark.parametrize(("attributes", "call", "body"), REQUESTS.values(), ids=REQUESTS.keys())
def test_request(attributes: dict[str, Any], call: str, body: Any) -> None:
    before = copy.deepcopy(attributes)
    one = mail(**attributes)
    assert [*check(one, Mandrill.supports), *MANDRILL.check(one)] == []
    request = request_of(MANDRILL.deliver(one))
    assert request.method == "POST"
    assert request.url == f"https://mandrillapp.com/api/1.0/messages/{call}.json"
    assert json_of(request) == body
    assert attributes == before


def test_headers() -> None:
    assert dict(request_of(MANDRILL.deliver(mail())).headers) == {
        "Accept": "application/json",
        "Content-Type": "application/json",
    }


def test_api_url() -> None:
    esp = make_esp(Mandrill, api_key="key", api_url="https://mandrillapp.com/api/1.4")
    assert request_of(esp.deliver(mail())).url == "https://mandrillapp.com/api/1.4/messages/send.json"


@override_settings(MANDRILL_API_KEY="bare")
def test_bare_setting() -> None:
    assert json_of(request_of(make_esp(Mandrill).deliver(mail())))["key"] == "bare"


@override_settings(ANYMAIL={})
def test_a_key_is_needed() -> None:
    with pytest.raises(AnymailConfigurationError, match="MANDRILL_API_KEY"):
        make_esp(Mandrill)


def test_inline_images() -> None:
    made = message(html="<img>")
    cid = attach_inline_image(made, PNG, "dot.png", domain="example.com")
    unnamed = MIMEPart()
    unnamed.set_content(PNG, "image", "png", disposition="inline", filename="plain.png")
    made.attachments.append(unnamed)
    body = json_of(request_of(MANDRILL.deliver(outgoing_mail(made))))["message"]
    assert body["images"] == [
        {"type": "image/png", "name": cid, "content": "iVBORw0KGgo="},
        {"type": "image/png", "name": "plain.png", "content": "iVBORw0KGgo="},
    ]
    assert "attachments" not in body


def test_a_value_that_cannot_be_sent() -> None:
    with pytest.raises(AnymailSerializationError, match=r"message\.metadata\.price"):
        request_of(MANDRILL.deliver(mail(metadata={"price": {1, 2}})))


UNSUPPORTED = {
    "multiple from_email addresses": {"from_email": "a@example.com, b@example.com"},
    "an AMP body": {"alternatives": [("<html ⚡4email>", "text/x-amp-html")]},
    "multiple html parts": {"alternatives": [("<p>a", "text/html"), ("<p>b", "text/html")]},
    "a To header in extra_headers": {"headers": {"To": "all@example.com"}},
    "merge_headers": {"merge_headers": {"ana@example.net": {"X-Own": "1"}}},
}


@pytest.mark.parametrize(("what", "attributes"), UNSUPPORTED.items(), ids=UNSUPPORTED.keys())
def test_unsupported(what: str, attributes: dict[str, Any]) -> None:
    one = mail(**attributes)
    assert [found.what for found in (*check(one, Mandrill.supports), *MANDRILL.check(one))] == [what]


ID = "4c8e1f7a92d04b6f8a35c0e7d1b96f23"


def result(email: str, status: str, message_id: Any = ID, **more: Any) -> dict[str, Any]:
    return {"email": email, "status": status, "_id": message_id, **more}


# A message's attributes, the answer, and the recipients' statuses.
ANSWERS: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
    "every status": (
        {
            "to": ["a@example.net", "b@example.net", "c@example.net"],
            "cc": ["d@example.net"],
            "bcc": ["e@example.net", "f@example.net"],
        },
        [
            result("a@example.net", "sent", "1", reject_reason=None, queued_reason=None),
            result("b@example.net", "queued", "2", queued_reason="attachments"),
            result("c@example.net", "scheduled", "3"),
            result("d@example.net", "rejected", "4", reject_reason="hard-bounce"),
            {"email": "e@example.net", "status": "invalid", "reject_reason": None},
            result("f@example.net", "vanished", "6"),
        ],
        {
            "a@example.net": ("sent", "1"),
            "b@example.net": ("queued", "2"),
            "c@example.net": ("queued", "3"),
            "d@example.net": ("rejected", "4"),
            "e@example.net": ("invalid", None),
            "f@example.net": ("unknown", "6"),
        },
    ),
    "in another order and case": (
        TWO,
        [result("bob@example.org", "sent", "2"), result("ana@example.net", "sent", "1")],
        {"ana@example.net": ("sent", "1"), "Bob@Example.org": ("sent", "2")},
    ),
    "an IDNA domain": (
        {"to": ["ana@bücher.example"]},
        [result("ana@xn--bcher-kva.example", "sent")],
        {"ana@bücher.example": ("sent", ID)},
    ),
    "an IDNA domain as spelled": (
        {"to": ["ana@bücher.example"]},
        [result("ana@bücher.example", "sent")],
        {"ana@bücher.example": ("sent", ID)},
    ),
    "one is missing": (
        TWO,
        [result("ana@example.net", "sent"), result("somebody@example.com", "sent")],
        {"ana@example.net": ("sent", ID), "Bob@Example.org": ("unknown", None)},
    ),
    "ids of another type": ({}, [result("ana@example.net", "sent", 7)], {"ana@example.net": ("sent", None)}),
}


@pytest.mark.parametrize(("attributes", "content", "expected"), ANSWERS.values(), ids=ANSWERS.keys())
def test_statuses(attributes: dict[str, Any], content: Any, expected: dict[str, Any]) -> None:
    _, recipients = drive(MANDRILL.deliver(mail(**attributes)), answer(200, content))
    assert statuses(recipients) == expected


def error(status: int, name: str, code: int, **headers: str) -> Any:
    return answer(status, {"status": "error", "code": code, "name": name, "message": "No"}, headers)


# The answer, and the error's sent, category and retryable.
ERRORS: dict[str, tuple[Any, bool | None, str, bool]] = {
    "invalid": (error(400, "ValidationError", -2), False, "invalid", False),
    "invalid, as it was": (error(500, "ValidationError", -2), False, "invalid", False),
    "bad key": (error(401, "Invalid_Key", 401), False, "auth", False),
    "bad key, as it was": (error(500, "Invalid_Key", -1), False, "auth", False),
    "no plan": (error(402, "PaymentRequired", 10), False, "quota", False),
    "no such template": (error(404, "Unknown_Template", 5), False, "invalid", False),
    "no such subaccount": (error(404, "Unknown_Subaccount", 12), False, "invalid", False),
    "too many": (error(429, "RequestLimitExceeded", 429), False, "rate_limit", True),
    "too many, in text": (answer(429, "Slow down"), False, "rate_limit", True),
    "its fault": (error(500, "GeneralError", -1), None, "server", False),
    "its fault, oddly": (error(400, "GeneralError", -100), None, "server", False),
    "unavailable": (error(503, "ServiceUnavailable", -2), None, "server", False),
    "gateway": (answer(502, "<html>"), None, "server", False),
    "a new name": (error(400, "Whim", 1), False, "invalid", False),
    "a new name, its fault": (error(500, "Whim", 1), None, "server", False),
    "an error of another shape": (answer(500, [1]), None, "server", False),
    "not JSON": (answer(200, "<html>"), True, "unreadable", False),
    "an object": (answer(200, {"status": "sent"}), True, "unreadable", False),
    "nobody": (answer(200, []), True, "unreadable", False),
    "no status": (answer(200, [{"email": "ana@example.net"}]), True, "unreadable", False),
    "no email": (answer(200, [{"status": "sent"}]), True, "unreadable", False),
    "wrong types": (answer(200, [{"email": "ana@example.net", "status": 1}]), True, "unreadable", False),
    "items of another shape": (answer(200, [1]), True, "unreadable", False),
}


@pytest.mark.parametrize(("response", "sent", "category", "retryable"), ERRORS.values(), ids=ERRORS.keys())
def test_errors(response: Any, sent: bool | None, category: str, retryable: bool) -> None:
    with pytest.raises(AnymailAPIError) as raised:
        drive(MANDRILL.deliver(mail()), response)
    error = raised.value
    assert (error.sent, error.category, error.retryable) == (sent, category, retryable)


def test_retry_after() -> None:
    with pytest.raises(AnymailAPIError) as raised:
        drive(MANDRILL.deliver(mail()), error(429, "RequestLimitExceeded", 429, **{"Retry-After": "60"}))
    assert raised.value.retry_after == 60


def test_error_quotes_mandrill() -> None:
    text = 'Validation error: {"message":{"from_email":"An email address must contain a single @"}}'
    content = {"status": "error", "code": -2, "name": "ValidationError", "message": text}
    with pytest.raises(AnymailAPIError) as raised:
        drive(MANDRILL.deliver(mail()), answer(400, content))
    assert f"ValidationError (code -2): {text}" in str(raised.value)


def test_nothing_shows_the_key() -> None:
    esp = make_esp(Mandrill, api_key="0123456789abcdef")
    with pytest.raises(AnymailAPIError) as raised:
        drive(esp.deliver(mail()), error(401, "Invalid_Key", 401))
    assert "0123456789abcdef" not in f"{raised.value} {esp.options!r} {request_of(esp.deliver(mail()))!r}"
