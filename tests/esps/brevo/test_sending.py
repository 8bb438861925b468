"""Brevo: messages and the exact requests they become, answers and the statuses they become."""

from __future__ import annotations

import datetime as dt
import uuid
from email.mime.text import MIMEText
from typing import Any

import pytest
from django.test import override_settings

from anymail.backends import brevo, sendinblue
from anymail.esps.brevo.sending import Brevo
from anymail.exceptions import AnymailAPIError, AnymailDeprecationWarning, AnymailTransportError
from anymail.mail.message import outgoing_mail
from anymail.mail.supports import check
from anymail.message import attach_inline_image
from support import PNG, answer, drive, fitted, json_of, make_esp, message, request_of, statuses

BREVO = make_esp(Brevo, api_key="key")
CONTENT = {"htmlContent": "<p>Hello", "textContent": "Hello", "subject": "Hi"}
BASE = {"sender": {"email": "shop@example.com"}, "to": [{"email": "ana@example.net"}], **CONTENT}
TEMPLATE = {"subject": None, "body": "", "html": None, "from_email": None, "template_id": 22}
TEMPLATED = {"to": [{"email": "ana@example.net"}], "templateId": 22}
KEY = "0b8f6a4e-52a1-4b0e-9d3e-6f1c2a7b8d90"
TWO = {"to": ["ana@example.net", "Bo <bo@bücher.example>"]}
HARBOR = {
    "from_email": "Harbor Books <orders@example.com>",
    "to": ["Robin Vale <reader@example.net>", "ana@example.org"],
}


def made(**attributes: Any) -> Any:
    """A message with both bodies, as it is delivered."""
    return fitted(Brevo, **{"html": "<p>Hello", **attributes})


def latin_1_note() -> MIMEText:
    note = MIMEText("Größe", "plain", "iso-8859-1")
    note["Content-Disposition"] = 'attachment; filename="note.txt"'
    return note


# A message's attributes, and the body of its request without the idempotencyKey that it is given.
REQUESTS: dict[str, tuple[dict[str, Any], Any]] = {
    "plain": ({}, BASE),
    "the rich sample": (
        {
            "from_email": '"Harbor Books, Ltd." <orders@example.com>',
            "to": ["Robin Vale <reader@example.net>"],
            "cc": ["desk@example.com"],
            "bcc": ["audit@example.com"],
            "reply_to": ["Help <help@example.com>"],
            "subject": "Your order 8812 — confirmée",
            "body": "Thanks!",
            "html": "<p>Thanks!</p>",
            "headers": {"X-Campaign": "spring", "X-Retry": 3, "idempotencyKey": KEY},
            "metadata": {"order_id": 8812, "tier": "gold"},
            "tags": ["order-confirmation", "spring"],
            "attach": [("invoice.txt", "Total: 42 €", "text/plain"), ("terms.pdf", b"%PDF-1.4\n", "application/pdf")],
            "send_at": dt.datetime(2026, 3, 6, 8, tzinfo=dt.UTC),
        },
        {
            "sender": {"email": "orders@example.com", "name": "Harbor Books, Ltd."},
            "to": [{"email": "reader@example.net", "name": "Robin Vale"}],
            "cc": [{"email": "desk@example.com"}],
            "bcc": [{"email": "audit@example.com"}],
            "replyTo": {"email": "help@example.com", "name": "Help"},
            "subject": "Your order 8812 — confirmée",
            "textContent": "Thanks!",
            "htmlContent": "<p>Thanks!</p>",
            "headers": {
                "X-Campaign": "spring",
                "X-Retry": "3",
                "X-Mailin-custom": '{"order_id": 8812, "tier": "gold"}',
                "idempotencyKey": KEY,
            },
            "tags": ["order-confirmation", "spring"],
            "attachment": [
                {"name": "invoice.txt", "content": "VG90YWw6IDQyIOKCrA=="},
                {"name": "terms.pdf", "content": "JVBERi0xLjQK"},
            ],
            "scheduledAt": "2026-03-06T08:00:00.000+00:00",
        },
    ),
    "the template sample": (
        {
            **TEMPLATE,
            "to": ["Robin Vale <reader@example.net>"],
            "template_id": "22",
            "merge_global_data": {"CUSTOMER": "Robin", "TOTAL": "42.50"},
            "tags": ["order-confirmation"],
        },
        {
            "to": [{"email": "reader@example.net", "name": "Robin Vale"}],
            "templateId": 22,
            "params": {"CUSTOMER": "Robin", "TOTAL": "42.50"},
            "tags": ["order-confirmation"],
        },
    ),
    "the batch sample": (
        {
            **TEMPLATE,
            **HARBOR,
            "tags": ["order-confirmation"],
            "headers": {"X-Campaign": "spring"},
            "metadata": {"batch": 7},
            "merge_global_data": {"SHOP": "Harbor"},
            "merge_data": {"reader@example.net": {"CUSTOMER": "Robin"}, "ana@example.org": {"CUSTOMER": "Ana"}},
            "merge_metadata": {"reader@example.net": {"user": 11}, "ana@example.org": {"user": 12}},
            "merge_headers": {
                "reader@example.net": {"List-Unsubscribe": "<https://example.com/u/11>"},
                "ana@example.org": {"List-Unsubscribe": "<https://example.com/u/12>"},
            },
        },
        {
            "sender": {"email": "orders@example.com", "name": "Harbor Books"},
            "templateId": 22,
            "params": {"SHOP": "Harbor"},
            "tags": ["order-confirmation"],
            "headers": {"X-Campaign": "spring", "X-Mailin-custom": '{"batch": 7}'},
            "messageVersions": [
                {
                    "to": [{"email": "reader@example.net", "name": "Robin Vale"}],
                    "params": {"SHOP": "Harbor", "CUSTOMER": "Robin"},
                    "headers": {
                        "X-Campaign": "spring",
                        "X-Mailin-custom": '{"batch": 7, "user": 11}',
                        "List-Unsubscribe": "<https://example.com/u/11>",
                    },
                },
                {
                    "to": [{"email": "ana@example.org"}],
                    "params": {"SHOP": "Harbor", "CUSTOMER": "Ana"},
                    "headers": {
                        "X-Campaign": "spring",
                        "X-Mailin-custom": '{"batch": 7, "user": 12}',
                        "List-Unsubscribe": "<https://example.com/u/12>",
                    },
                },
            ],
        },
    ),
    "batch where only some have their own": (
        {
            **TWO,
            "cc": ["team@example.org"],
            "reply_to": ["help@example.com"],
            "attach": [("a.pdf", b"%PDF-1.4\n", "application/pdf")],
            "merge_data": {"bo@bücher.example": {"name": "Bo"}},
            "headers": {"X-Shop": "7", "x-own": "0"},
            "merge_headers": {"ana@example.net": {"X-Own": "1"}},
        },
        {
            "sender": {"email": "shop@example.com"},
            **CONTENT,
            "cc": [{"email": "team@example.org"}],
            "replyTo": {"email": "help@example.com"},
            "attachment": [{"name": "a.pdf", "content": "JVBERi0xLjQK"}],
            "headers": {"X-Shop": "7", "x-own": "0"},
            "messageVersions": [
                {"to": [{"email": "ana@example.net"}], "headers": {"X-Shop": "7", "X-Own": "1"}},
                {"to": [{"email": "bo@xn--bcher-kva.example", "name": "Bo"}], "params": {"name": "Bo"}},
            ],
        },
    ),
    "forced batch": (
        {**TWO, "merge_data": {}},
        {
            "sender": {"email": "shop@example.com"},
            **CONTENT,
            "messageVersions": [
                {"to": [{"email": "ana@example.net"}]},
                {"to": [{"email": "bo@xn--bcher-kva.example", "name": "Bo"}]},
            ],
        },
    ),
    "an idempotency key is the whole batch's": (
        {"headers": {"Idempotency-Key": KEY}, "merge_metadata": {"ana@example.net": {"user": 1}}},
        {
            "sender": {"email": "shop@example.com"},
            **CONTENT,
            "headers": {"Idempotency-Key": KEY},
            "messageVersions": [{"to": [{"email": "ana@example.net"}], "headers": {"X-Mailin-custom": '{"user": 1}'}}],
        },
    ),
    "names that Brevo drops": (
        {
            "from_email": '"Bücher, Ltd." <shop@example.com>',
            "to": ["Ana López <ana@example.net>"],
            "cc": ['"Team, EU" <team@example.org>'],
            "reply_to": ['"Hilfe (für alle)" <help@example.com>'],
        },
        {
            **BASE,
            "sender": {"email": "shop@example.com", "name": "=?utf-8?b?QsO8Y2hlciwgTHRkLg==?="},
            "to": [{"email": "ana@example.net", "name": "Ana López"}],
            "cc": [{"email": "team@example.org", "name": "Team, EU"}],
            "replyTo": {"email": "help@example.com", "name": "=?utf-8?b?SGlsZmUgKGbDvHIgYWxsZSk=?="},
        },
    ),
    "names that are too long when they are encoded": (
        {
            "from_email": '"Société Générale, Paris (Île-de-France)" <shop@example.com>',
            "reply_to": ['"Größe: 12.5 – Änderungen, Rückgaben & Umtausch, Köln-Ehrenfeld" <help@example.com>'],
        },
        {
            **BASE,
            "sender": {"email": "shop@example.com", "name": "Société Générale Paris Île-de-France"},
            "replyTo": {
                "email": "help@example.com",
                "name": "Größe 12 5 – Änderungen Rückgaben & Umtausch Köln-Ehrenfeld",
            },
        },
    ),
    "a non-ASCII local part": (
        {"to": ["josé@example.com"]},
        {**BASE, "to": [{"email": "josé@example.com"}]},
    ),
    "texts in UTF-8": (
        {"attachments": [latin_1_note(), ("b.csv", "Größe".encode("latin-1"), "text/csv; charset=latin-1")]},
        {
            **BASE,
            "attachment": [
                {"name": "note.txt", "content": "R3LDtsOfZQ=="},
                {"name": "b.csv", "content": "R3LDtsOfZQ=="},
            ],
        },
    ),
    "a text in an unknown charset": (
        {"attachments": [("b.txt", b"\xff", "text/plain; charset=x-martian"), ("c.txt", b"\xff", "text/plain")]},
        {**BASE, "attachment": [{"name": "b.txt", "content": "/w=="}, {"name": "c.txt", "content": "/w=="}]},
    ),
    "template with a word for an id": (
        {**TEMPLATE, "template_id": "welcome"},
        {**TEMPLATED, "templateId": "welcome"},
    ),
    "esp_extra": (
        {
            "headers": {"X-Shop": "7"},
            "esp_extra": {"batchId": KEY, "sender": {"id": 3}, "headers": {"X-Sib-Sandbox": "drop"}},
        },
        {**BASE, "batchId": KEY, "sender": {"id": 3}, "headers": {"X-Shop": "7", "X-Sib-Sandbox": "drop"}},
    ),
    "versions in esp_extra": (
        {"merge_data": {}, "esp_extra": {"messageVersions": [{"to": [{"email": "bo@example.org"}]}]}},
        {**BASE, "messageVersions": [{"to": [{"email": "bo@example.org"}]}]},
    ),
    "no to": (
        {"to": [], "cc": ["team@example.org"], "merge_data": {}},
        {**{name: value for name, value in BASE.items() if name != "to"}, "cc": [{"email": "team@example.org"}]},
    ),
    "text only": (
        {"html": None},
        {name: value for name, value in BASE.items() if name != "htmlContent"},
    ),
    "attachment without a name": (
        {"attach": [(None, b"%PDF-1.4\n", "application/pdf")]},
        {**BASE, "attachment": [{"name": "attachment.pdf", "content": "JVBERi0xLjQK"}]},
    ),
    "attachment of no known type": (
        {"attach": [(None, b"x", "application/x-shop")]},
        {**BASE, "attachment": [{"name": "attachment", "content": "eA=="}]},
    ),
    "bodies beside a template": ({**TEMPLATE, "body": "Hello", "html": "<p>Hello"}, TEMPLATED),
    "subject beside a template": ({**TEMPLATE, "subject": "Hi"}, {**TEMPLATED, "subject": "Hi"}),
}


def without_key(body: dict[str, Any], key: str | None) -> dict[str, Any]:
    """A request's body without the idempotencyKey, unless the message gave it."""
    headers = {name: value for name, value in body.pop("headers").items() if value != key or value == KEY}
    return {**body, "headers": headers} if headers else body


@pytest.mark.parametrize(("attributes", "body"), REQUESTS.values(), ids=REQUESTS.keys())
def test_request(attributes: dict[str, Any], body: Any) -> None:
    request = request_of(BREVO.deliver(made(**attributes)))
    assert (request.method, request.url) == ("POST", "https://api.brevo.com/v3/smtp/email")
    assert without_key(json_of(request), request.idempotency_key) == body


def test_headers() -> None:
    request = request_of(BREVO.deliver(made()))
    assert dict(request.headers) == {"Accept": "application/json", "Content-Type": "application/json", "api-key": "key"}


def test_an_idempotency_key_for_each_message() -> None:
    requests = [request_of(BREVO.deliver(made())) for _ in range(2)]
    keys = [json_of(request)["headers"]["idempotencyKey"] for request in requests]
    assert keys == [request.idempotency_key for request in requests]
    assert keys[0] != keys[1]
    assert all(uuid.UUID(key) for key in keys)


@pytest.mark.parametrize("name", ["idempotencyKey", "IdempotencyKey", "Idempotency-Key"])
@pytest.mark.parametrize("place", ["headers", "esp_extra"])
def test_an_idempotency_key_of_the_projects_own(name: str, place: str) -> None:
    attributes: dict[str, Any] = {"headers": {name: KEY}} if place == "headers" else {}
    attributes = attributes or {"esp_extra": {"headers": {name: KEY}}}
    request = request_of(BREVO.deliver(made(**attributes)))
    assert request.idempotency_key == KEY
    assert json_of(request)["headers"] == {name: KEY}


def test_api_url() -> None:
    esp = make_esp(Brevo, api_key="key", api_url="https://mail.example.com/v3")
    assert request_of(esp.deliver(made())).url == "https://mail.example.com/v3/smtp/email"


def test_display_names_as_they_are() -> None:
    esp = make_esp(Brevo, api_key="key", workaround_display_name_bugs=False)
    body = json_of(request_of(esp.deliver(made(from_email='"Bücher, Ltd." <shop@example.com>'))))
    assert body["sender"]["name"] == "Bücher, Ltd."


def test_headers_as_they_are() -> None:
    esp = make_esp(Brevo, api_key="key", prevent_header_encoding_bugs=False)
    one = made(headers={"X-Shop": "Bücher"}, metadata={"shop": "Bücher"})
    assert list(esp.check(one)) == []
    headers = json_of(request_of(esp.deliver(one)))["headers"]
    assert (headers["X-Shop"], headers["X-Mailin-custom"]) == ("Bücher", '{"shop": "B\\u00fccher"}')


def made_with_inline_image() -> Any:
    one = message(html="<img>")
    attach_inline_image(one, PNG, "logo.png", domain="example.com")
    return outgoing_mail(one)


UNSUPPORTED = {
    "envelope_sender": {"envelope_sender": "bounces@example.com"},
    "track_opens": {"track_opens": False},
    "track_clicks": {"track_clicks": True},
    "multiple from_email addresses": {"from_email": "a@example.com, b@example.com"},
    "multiple reply_to addresses": {"reply_to": ["a@example.com", "b@example.com"]},
    "a To header in extra_headers": {"headers": {"To": "all@example.com"}},
    "multiple html parts": {"alternatives": [("<p>1", "text/html"), ("<p>2", "text/html")], "html": None},
    "an AMP body": {"alternatives": [("<html amp4email>", "text/x-amp-html")]},
    "non-ASCII characters in 'X-Shop' header": {"headers": {"X-Shop": "Bücher"}},
    "non-ASCII characters in 'X-Json' header": {"headers": {"X-Json": '"B\\u00fccher"'}},
    "non-ASCII characters in metadata": {"metadata": {"shop": "Bücher"}},
    "non-ASCII characters in merge_metadata": {"merge_metadata": {"ana@example.net": {"name": "Ána"}}},
    "non-ASCII characters in merge_headers": {"merge_headers": {"ana@example.net": {"X-Name": "Ána"}}},
}


@pytest.mark.parametrize(("what", "attributes"), UNSUPPORTED.items(), ids=UNSUPPORTED.keys())
def test_unsupported(what: str, attributes: dict[str, Any]) -> None:
    one = made(**attributes)
    assert [found.what for found in (*check(one, Brevo.supports), *BREVO.check(one))] == [what]


def test_inline_images_are_unsupported() -> None:
    assert [found.what for found in check(made_with_inline_image(), Brevo.supports)] == ["inline attachments"]


# A message's attributes, the field to leave out, and what is left of it.
LEFT: dict[str, tuple[dict[str, Any], str, Any]] = {
    "headers": ({"headers": {"X-Shop": "Bücher", "X-Ok": "1"}}, "headers", {"X-Ok": "1"}),
    "metadata": ({"metadata": {"shop": "Bücher", "n": 1}}, "metadata", {"n": 1}),
    "merge_metadata": (
        {"merge_metadata": {"ana@example.net": {"name": "Ána", "n": 1}}},
        "merge_metadata",
        {"ana@example.net": {"n": 1}},
    ),
    "merge_headers": (
        {"merge_headers": {"ana@example.net": {"X-Name": "Ána", "X-Ok": "1"}}},
        "merge_headers",
        {"ana@example.net": {"X-Ok": "1"}},
    ),
}


@pytest.mark.parametrize(("attributes", "field", "left"), LEFT.values(), ids=LEFT.keys())
def test_what_is_left_without_the_unsupported(attributes: dict[str, Any], field: str, left: Any) -> None:
    [unsupported] = BREVO.check(made(**attributes))
    assert unsupported.without == {field: left}


ID = "<202603040915.48213377901@smtp-relay.mailin.fr>"
ACCEPTED = answer(201, {"messageId": ID})
QUEUED, NO_ID = ("queued", ID), ("queued", None)
DUPLICATE = {"code": "duplicate_parameter", "message": "The idempotencyKey was used before"}

# A message's attributes, the answer, and the recipients' statuses.
ANSWERS: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
    "sent": (
        {"cc": ["c@example.org"], "bcc": ["d@example.org"]},
        ACCEPTED,
        {"ana@example.net": QUEUED, "c@example.org": QUEUED, "d@example.org": QUEUED},
    ),
    "scheduled": ({}, answer(202, {"messageId": ID, "batchId": KEY}), {"ana@example.net": QUEUED}),
    "nothing": ({}, answer(201, b""), {"ana@example.net": NO_ID}),
    "batch by index": (
        {**TWO, "cc": ["c@example.org"], "merge_data": {}},
        answer(201, {"messageIds": ["<1@x>", "<2@x>"]}),
        {"ana@example.net": ("queued", "<1@x>"), "bo@bücher.example": ("queued", "<2@x>"), "c@example.org": NO_ID},
    ),
    "batch of one, answered as a message": ({"merge_data": {}}, ACCEPTED, {"ana@example.net": QUEUED}),
    "batch without an answer": (
        {**TWO, "merge_data": {}},
        answer(201, b""),
        {"ana@example.net": NO_ID, "bo@bücher.example": NO_ID},
    ),
    "versions of its own": (
        {"esp_extra": {"messageVersions": [{}, {}]}},
        answer(201, {"messageIds": ["<1@x>", "<2@x>"]}),
        {"ana@example.net": NO_ID},
    ),
    "taken at an earlier attempt": ({}, answer(400, DUPLICATE), {"ana@example.net": NO_ID}),
    "taken at an earlier attempt, in other words": (
        {"merge_data": {}},
        answer(409, {"code": "duplicate_request", "message": "Duplicate"}),
        {"ana@example.net": NO_ID},
    ),
}


@pytest.mark.parametrize(("attributes", "response", "expected"), ANSWERS.values(), ids=ANSWERS.keys())
def test_statuses(attributes: dict[str, Any], response: Any, expected: dict[str, Any]) -> None:
    _, recipients = drive(BREVO.deliver(made(**attributes)), response)
    assert statuses(recipients) == expected


def error(status: int, code: str, headers: dict[str, str] | None = None) -> Any:
    return answer(status, {"code": code, "message": "Sorry"}, headers)


# The answer, and the error's sent, category and retryable.
ERRORS: dict[str, tuple[Any, bool | None, str, bool]] = {
    "bad key": (answer(401, {"message": "Key not found", "code": "unauthorized"}), False, "auth", False),
    "new account": (error(400, "account_under_validation"), False, "auth", False),
    "not allowed": (error(400, "permission_denied"), False, "auth", False),
    "forbidden": (error(403, "permission_denied"), False, "auth", False),
    "no credits": (error(402, "not_enough_credits"), False, "quota", False),
    "no credits, in other words": (error(400, "not_enough_credits"), False, "quota", False),
    "bad message": (error(400, "invalid_parameter"), False, "invalid", False),
    "no such template": (error(404, "document_not_found"), False, "invalid", False),
    "wrong method": (error(405, "method_not_allowed"), False, "invalid", False),
    "a duplicate of what?": (error(400, "duplicate_parameter"), None, "invalid", False),
    "too many": (answer(429, {"message": "Slow down"}), False, "rate_limit", True),
    "unavailable": (answer(503, "<html>"), None, "server", False),
    "its fault": (answer(500, {"code": 1, "message": ["Oops"]}), None, "server", False),
    "not JSON": (answer(200, "<html>"), True, "unreadable", False),
    "no id": (answer(201, {"batchId": KEY}), True, "unreadable", False),
    "no ids": (answer(201, {"messageIds": []}), True, "unreadable", False),
    "a null id": (answer(201, {"messageId": None}), True, "unreadable", False),
    "a list": (answer(201, [1]), True, "unreadable", False),
}


@pytest.mark.parametrize(("response", "sent", "category", "retryable"), ERRORS.values(), ids=ERRORS.keys())
def test_errors(response: Any, sent: bool | None, category: str, retryable: bool) -> None:
    with pytest.raises(AnymailAPIError) as raised:
        drive(BREVO.deliver(made()), response)
    caught = raised.value
    assert (caught.sent, caught.category, caught.retryable) == (sent, category, retryable)


def test_error_quotes_brevo() -> None:
    response = answer(400, {"code": "invalid_parameter", "message": "email is not valid in to"})
    with pytest.raises(AnymailAPIError, match="invalid_parameter: email is not valid in to"):
        drive(BREVO.deliver(made()), response)


def test_the_key_is_not_shown() -> None:
    esp = make_esp(Brevo, api_key="xkeysib-secret")
    assert "xkeysib-secret" not in repr(esp.options) + repr(request_of(esp.deliver(made())))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-sib-ratelimit-reset": "7"}, 7),
        ({"x-sib-ratelimit-reset": "soon"}, None),
        ({"x-sib-ratelimit-reset": "inf"}, None),
        ({"x-sib-ratelimit-reset": "-1"}, 0),
        ({"Retry-After": "3", "x-sib-ratelimit-reset": "7"}, 3),
        ({}, None),
    ],
)
def test_rate_limit(headers: dict[str, str], seconds: float | None) -> None:
    with pytest.raises(AnymailAPIError) as raised:
        drive(BREVO.deliver(made()), error(429, "too_many_requests", headers))
    assert raised.value.retry_after == seconds


@pytest.mark.parametrize("ids", [["<1@x>"], ["<1@x>", "<2@x>", "<3@x>"], ["<1@x>", 2]])
def test_a_batch_answered_with_another_number_of_ids(ids: list[Any]) -> None:
    with pytest.raises(AnymailAPIError) as raised:
        drive(BREVO.deliver(made(**TWO, merge_data={})), answer(201, {"messageIds": ids}))
    assert raised.value.sent is True


class TestLargeBatches:
    """1000 versions and 2000 recipients fit into one call."""

    TO = tuple(f"r{n}@example.com" for n in range(1001))

    def ids(self, first: int, count: int) -> Any:
        return answer(201, {"messageIds": [f"<{n}@x>" for n in range(first, first + count)]})

    def test_several_calls(self) -> None:
        flow = BREVO.deliver(made(to=self.TO, merge_data={}))
        requests, recipients = drive(flow, self.ids(0, 1000), self.ids(1000, 1))
        assert [len(json_of(request)["messageVersions"]) for request in requests] == [1000, 1]
        assert requests[0].idempotency_key != requests[1].idempotency_key
        assert statuses(recipients) == {f"r{n}@example.com": ("queued", f"<{n}@x>") for n in range(1001)}

    def test_copies_count(self) -> None:
        flow = BREVO.deliver(made(to=self.TO[:700], cc=["c@example.org"], bcc=["d@example.org"], merge_data={}))
        requests, _ = drive(flow, self.ids(0, 666), self.ids(666, 34))
        assert [len(json_of(request)["messageVersions"]) for request in requests] == [666, 34]

    @pytest.mark.parametrize(
        "own", [{"headers": {"Idempotency-Key": KEY}}, {"esp_extra": {"headers": {"IdempotencyKey": KEY}}}]
    )
    def test_a_key_of_the_projects_own_makes_one_for_each_call(self, own: dict[str, Any]) -> None:
        def keys() -> list[str | None]:
            flow = BREVO.deliver(made(to=self.TO, merge_data={}, **own))
            return [request.idempotency_key for request in drive(flow, self.ids(0, 1000), self.ids(1000, 1))[0]]

        first, second = keys()
        assert first == KEY
        assert second not in (None, KEY)
        assert keys() == [first, second]

    # How the second of three calls fails, its status, and that of the third.
    FAILURES: tuple[tuple[Any, str, str], ...] = (
        (error(400, "invalid_parameter"), "failed", "queued"),
        (answer(201, {}), "unknown", "queued"),
        (error(401, "unauthorized"), "failed", "failed"),
        (error(402, "not_enough_credits"), "failed", "failed"),
        (error(500, "internal"), "unknown", "failed"),
        (AnymailTransportError("lost", sent=None), "unknown", "failed"),
    )

    @pytest.mark.parametrize(("failure", "second", "third"), FAILURES, ids=str)
    def test_a_later_call_fails(self, failure: Any, second: str, third: str) -> None:
        to = [f"r{n}@example.com" for n in range(2001)]
        mail = made(to=to, cc=["c@example.org"], merge_data={})
        _, recipients = drive(BREVO.deliver(mail), self.ids(0, 1000), failure, self.ids(2000, 1), leave=True)
        assert recipients["r999@example.com"] == ("<999@x>", "queued")
        assert recipients["c@example.org"] == (None, "queued")
        assert recipients["r1000@example.com"] == recipients["r1999@example.com"] == (None, second)
        assert recipients["r2000@example.com"].status == third
        assert {email for email, one in recipients.items() if one.error} == {
            f"r{n}@example.com" for n in range(1000, 2000 if third == "queued" else 2001)
        }

    def test_no_call_is_taken(self) -> None:
        with pytest.raises(AnymailAPIError) as raised:
            drive(BREVO.deliver(made(to=self.TO, merge_data={})), *[error(400, "invalid_parameter")] * 2)
        assert {one.status for one in raised.value.statuses.values()} == {"failed"}

    def test_the_first_call_fails_as_the_next_would(self) -> None:
        with pytest.raises(AnymailAPIError, match="unauthorized"):
            drive(BREVO.deliver(made(to=self.TO, merge_data={})), error(401, "unauthorized"))


class TestSeveralMessagesInOneCall:
    def test_request_and_statuses(self) -> None:
        mails = [
            made(tags=["a"]),
            made(
                to=["Bo <bo@example.org>"],
                cc=["c@example.org"],
                subject="Two",
                body="2",
                html="<p>2",
                reply_to=["help@example.com"],
                headers={"X-Shop": "7"},
                metadata={"n": 1},
                merge_global_data={"name": "Bo"},
                tags=["a"],
            ),
        ]
        [request], outcomes = drive(BREVO.deliver_many(mails), answer(201, {"messageIds": ["<1@x>", "<2@x>"]}))
        body = json_of(request)
        assert body.pop("headers") == {"idempotencyKey": request.idempotency_key}
        assert body == {
            "sender": {"email": "shop@example.com"},
            **CONTENT,
            "tags": ["a"],
            "messageVersions": [
                {"to": [{"email": "ana@example.net"}], **CONTENT},
                {
                    "to": [{"email": "bo@example.org", "name": "Bo"}],
                    "cc": [{"email": "c@example.org"}],
                    "subject": "Two",
                    "textContent": "2",
                    "htmlContent": "<p>2",
                    "replyTo": {"email": "help@example.com"},
                    "headers": {"X-Shop": "7", "X-Mailin-custom": '{"n": 1}'},
                    "params": {"name": "Bo"},
                },
            ],
        }
        assert [statuses(one) for one in outcomes] == [
            {"ana@example.net": ("queued", "<1@x>")},
            {"bo@example.org": ("queued", "<2@x>"), "c@example.org": ("queued", "<2@x>")},
        ]

    SHARED: tuple[dict[str, Any], ...] = (
        {"to": ["bo@example.org"]},
        {"subject": "Two", "body": "2", "html": "<p>2"},
        {"headers": {"X-Shop": "7"}, "metadata": {"n": 1}, "reply_to": ["help@example.com"]},
    )
    APART: tuple[dict[str, Any], ...] = (
        {"from_email": "other@example.com"},
        {"tags": ["a"]},
        {"send_at": 1_800_000_000},
        {"body": ""},
        {"html": None},
        {"subject": ""},
        {"template_id": 22},
    )
    ALONE: tuple[dict[str, Any], ...] = (
        {"merge_data": {}},
        {"to": [], "cc": ["c@example.org"]},
        {"cc": ["c@example.org"], "bcc": ["d@example.org"]},
        {"attach": [("a.pdf", b"", "application/pdf")]},
        {"esp_extra": {"preheader": "x"}},
        {"headers": {"x-sib-sandbox": "drop"}},
        {"headers": {"Sender.ip": "192.0.2.1"}},
        {"headers": {"Idempotency-Key": KEY}},
    )

    @pytest.mark.parametrize("attributes", SHARED, ids=str)
    def test_may_share_a_call(self, attributes: dict[str, Any]) -> None:
        assert BREVO.batch_key(made(**attributes)) == BREVO.batch_key(made()) is not None

    @pytest.mark.parametrize("attributes", APART, ids=str)
    def test_may_not_share_a_call_with_the_plain_one(self, attributes: dict[str, Any]) -> None:
        assert BREVO.batch_key(made(**attributes)) not in (None, BREVO.batch_key(made()))

    @pytest.mark.parametrize("attributes", ALONE, ids=str)
    def test_goes_alone(self, attributes: dict[str, Any]) -> None:
        assert BREVO.batch_key(made(**attributes)) is None


class TestTheOldName:
    def test_backend_warns(self) -> None:
        with pytest.warns(AnymailDeprecationWarning, match="Brevo"):
            backend = sendinblue.EmailBackend(api_key="old")
        assert isinstance(backend, brevo.EmailBackend)
        assert backend.esp_name == "SendinBlue"

    @override_settings(ANYMAIL={"SENDINBLUE_API_KEY": "old", "SENDINBLUE_API_URL": "https://old.example.com"})
    def test_settings(self) -> None:
        with pytest.warns(AnymailDeprecationWarning, match="SENDINBLUE_API_KEY"):
            options: Any = brevo.EmailBackend().options
        assert (options.api_key.reveal(), options.api_url) == ("old", "https://old.example.com/")

    @override_settings(ANYMAIL={"SENDINBLUE_API_KEY": "old", "BREVO_API_KEY": "new"})
    def test_new_settings_come_first(self) -> None:
        options: Any = brevo.EmailBackend().options
        assert options.api_key.reveal() == "new"

    @override_settings(ANYMAIL={}, BREVO_API_KEY="bare")
    def test_bare_setting(self) -> None:
        options: Any = brevo.EmailBackend().options
        assert options.api_key.reveal() == "bare"
