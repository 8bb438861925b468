"""Mailjet: webhook bodies (files) and the events they become."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from django.test import Client, override_settings

from anymail.exceptions import AnymailConfigurationError
from support import Call, assert_inbound, assert_tracking, expectations, sample, sample_json

SECRET = {"WEBHOOK_SECRET": "user:pass"}
BASIC_AUTH = {"Authorization": "Basic dXNlcjpwYXNz"}
EXPECTED = expectations("mailjet")


@pytest.fixture(autouse=True)
def _settings() -> Any:
    with override_settings(ANYMAIL=SECRET):
        yield


def call(kind: str, body: Any, headers: dict[str, str] = BASIC_AUTH) -> Call:
    """A call with the file of that name, or with this body."""
    content = sample("mailjet", body) if isinstance(body, str) else json.dumps(body).encode()
    return Call(f"/anymail/mailjet/{kind}/", content, headers)


@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("tracking")])
def test_events(client: Client, events: list[Any], name: str) -> None:
    assert call("tracking", name).post(client).status_code == 200
    assert_tracking(events, EXPECTED[name])
    told = sample_json("mailjet", name)
    assert [event.esp_event for event in events] == (told if isinstance(told, list) else [told])


@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("inbound")])
def test_received_messages(client: Client, events: list[Any], name: str) -> None:
    assert call("inbound", name).post(client).status_code == 200
    [want] = EXPECTED[name]
    inlines = want["inline_attachments"]
    [event] = events
    message = event.message
    assert [one.addr_spec for one in message.to] == want["to"]
    assert [one.addr_spec for one in message.cc] == want["cc"]
    assert message["In-Reply-To"] == want.get("in_reply_to")
    assert len(message.get_all("Received", [])) == want.get("received_header_count", 0)
    assert_inbound(events, [{**{key: want[key] for key in want if key not in ("to", "cc")}, "inlines": inlines}])
    assert event.esp_event == sample_json("mailjet", name)


def test_a_received_message_is_made_anew(client: Client, events: list[Any]) -> None:
    call("inbound", "inbound-full.json").post(client)
    [event] = events
    message = event.message
    assert message.get_all("MIME-Version") == ["1.0"]
    assert "mix1" not in message.as_string()
    assert message["Return-Path"] == "<bounce+91@example.net>"
    [csv] = message.attachments
    assert csv.get_content_text() == "id;total\n7;12,50 €\n"
    assert message.content_id_map["logo1"].get_content_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["inbound-full.json", "inbound-simple.json"])
def test_a_message_at_the_tracking_url(client: Client, events: list[Any], name: str) -> None:
    with pytest.raises(AnymailConfigurationError, match="mailjet/inbound/"):
        call("tracking", name).post(client)
    assert events == []


@pytest.mark.parametrize("name", ["tracking-sent.json", "tracking-grouped.json"])
def test_an_event_at_the_inbound_url(client: Client, events: list[Any], name: str) -> None:
    with pytest.raises(AnymailConfigurationError, match="mailjet/tracking/"):
        call("inbound", name).post(client)
    assert events == []


# An event's error, and its reject reason.
REASONS = {
    "user unknown": "bounced",
    "mailbox inactive": "bounced",
    "quota exceeded": "bounced",
    "blacklisted": "blocked",
    "spam reporter": "spam",
    "invalid domain": "bounced",
    "no mail host": "bounced",
    "relay/access denied": "bounced",
    "relay-access denied": "bounced",
    "typofix": "invalid",
    "sender blocked": "blocked",
    "content blocked": "blocked",
    "policy issue": "blocked",
    "preblocked": "blocked",
    "duplicate in campaign": "other",
    "bad or empty template": "other",
    "error in template language": "other",
    "system issue": "other",
    "protocol issue": "other",
    "connection issue": "other",
    "something new": "other",
    " Policy Issue ": "blocked",
    "": None,
}


@pytest.mark.parametrize(("error", "reason"), REASONS.items(), ids=REASONS.keys())
@pytest.mark.parametrize(("word", "event_type"), [("bounce", "bounced"), ("blocked", "rejected")])
def test_reasons(client: Client, events: list[Any], word: str, event_type: str, error: str, reason: str | None) -> None:
    assert call("tracking", {"event": word, "error": error}).post(client).status_code == 200
    assert_tracking(events, [{"event_type": event_type, "reject_reason": reason, "description": error or None}])


# What else an event holds, and what its fields become.
FIELDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "bounced without an error": ({"event": "bounce"}, {"event_type": "bounced", "reject_reason": None}),
    "greylisted for good": (
        {"event": "bounce", "error": "greylisted", "hard_bounce": True},
        {"event_type": "bounced", "reject_reason": "other"},
    ),
    "blocked as greylisted": ({"event": "blocked", "error": "greylisted"}, {"event_type": "rejected"}),
    "id in digits": ({"MessageID": "1152921536014337421"}, {"message_id": "1152921536014337421"}),
    "no id": ({}, {"message_id": None, "timestamp": None, "recipient": None, "metadata": {}, "tags": []}),
    "payload that is no object": ({"Payload": "[1]"}, {"metadata": {}}),
    "payload that is deep": ({"Payload": "[" * 20_000}, {"metadata": {}}),
    "wrong types": (
        {
            "event": ["sent"],
            "time": "soon",
            "MessageID": True,
            "email": {"a": 1},
            "customcampaign": ["a"],
            "Payload": {"a": 1},
            "error": 1.5,
            "comment": [],
            "agent": {},
            "url": None,
        },
        {
            "event_type": "unknown",
            "timestamp": None,
            "message_id": None,
            "recipient": None,
            "tags": [],
            "metadata": {},
            "reject_reason": None,
            "description": None,
            "mta_response": None,
            "user_agent": None,
            "click_url": None,
        },
    ),
}


@pytest.mark.parametrize(("event", "expected"), FIELDS.values(), ids=FIELDS.keys())
def test_fields(client: Client, events: list[Any], event: dict[str, Any], expected: dict[str, Any]) -> None:
    assert call("tracking", {"event": "sent", **event}).post(client).status_code == 200
    assert_tracking(events, [expected])


GOOD = {"event": "sent", "MessageID": 7}


@pytest.mark.parametrize("bad", [1, None, "sent", [], {}, {"MessageID": 7}], ids=repr)
def test_a_malformed_event_costs_no_other(client: Client, events: list[Any], bad: Any) -> None:
    assert call("tracking", [bad, GOOD]).post(client).status_code == 200
    assert [event.event_type for event in events] == ["delivered"]
    assert call("tracking", [bad]).post(client).status_code == 400


def test_an_empty_group(client: Client, events: list[Any]) -> None:
    assert call("tracking", []).post(client).status_code == 200
    assert events == []


@pytest.mark.parametrize(
    "body", [b"null", b'"x"', b"1", b"{}", b"", b"{", b"[1]", b'{"event": NaN}', b"\xff"], ids=repr
)
@pytest.mark.parametrize("kind", ["tracking", "inbound"])
def test_a_body_of_the_wrong_shape(client: Client, events: list[Any], kind: str, body: bytes) -> None:
    assert Call(f"/anymail/mailjet/{kind}/", body, BASIC_AUTH).post(client).status_code == 400
    assert events == []


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic dXNlcjp3cm9uZw=="}], ids=["none", "wrong"])
@pytest.mark.parametrize("kind", ["tracking", "inbound"])
def test_basic_auth(client: Client, events: list[Any], kind: str, headers: dict[str, str]) -> None:
    name = "tracking-sent.json" if kind == "tracking" else "inbound-simple.json"
    assert call(kind, name, headers).post(client).status_code == 400
    assert events == []


def received(*parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"Headers": {"To": "support@example.com"}, "Parts": list(parts), **fields}


def test_a_message_without_headers_of_its_own(client: Client, events: list[Any]) -> None:
    body = received(From="Amy <amy@example.org>", Subject="Hi", Sender="", SpamAssassinScore="nan")
    body["Html-part"] = "<p>Hi"
    assert call("inbound", body).post(client).status_code == 200
    [event] = events
    message = event.message
    assert (str(message.from_email), message.subject) == ("Amy <amy@example.org>", "Hi")
    assert (message.envelope_sender, message.envelope_recipient, message.spam_score) == (None, None, None)
    assert (message.text, message.html, message.attachments) == (None, "<p>Hi", [])


# The headers of a part and its content, and the name, type, text and kind of the attachment.
ATTACHMENTS: dict[str, tuple[dict[str, Any], bytes, tuple[Any, ...]]] = {
    "text in its charset": (
        {"Content-Type": "text/plain; charset=iso-8859-1", "Content-Disposition": 'attachment; filename="a.txt"'},
        "Grüße".encode("latin-1"),
        ("a.txt", "text/plain", "Grüße", False),
    ),
    "encoded name": (
        {"Content-Disposition": ["attachment; filename*=utf-8''%E2%82%AC.txt"], "Content-Type": "text/plain"},
        b"x",
        ("€.txt", "text/plain", "x", False),
    ),
    "folded header, name in the type": (
        {"Content-Type": ['application/pdf;\r\n\tname="a.pdf"']},
        b"x",
        ("a.pdf", "application/pdf", "x", False),
    ),
    "inline without id": (
        {"Content-Type": "image/png", "Content-Disposition": "inline; filename=a.png"},
        b"x",
        ("a.png", "image/png", "x", True),
    ),
    "id alone": (
        {"Content-Type": "image/png", "Content-ID": ["<logo>"]},
        b"x",
        (None, "image/png", "x", True),
    ),
    "attached with an id": (
        {
            "Content-Type": "application/pdf",
            "Content-Disposition": "attachment; filename*=utf-8''%C3%BC.pdf",
            "Content-ID": "<f1>",
        },
        b"x",
        ("ü.pdf", "application/pdf", "x", False),
    ),
    "attached message": (
        {"Content-Type": "message/rfc822"},
        b"Subject: Inner\r\n\r\nHello",
        (None, "message/rfc822", "Subject: Inner\r\n\r\nHello", False),
    ),
    "no headers": ({}, b"x", (None, "text/plain", "x", False)),
}


@pytest.mark.parametrize(("headers", "content", "expected"), ATTACHMENTS.values(), ids=ATTACHMENTS.keys())
def test_attachments(
    client: Client, events: list[Any], headers: dict[str, Any], content: bytes, expected: tuple[Any, ...]
) -> None:
    part = {"Headers": headers, "ContentRef": "Attachment1"}
    body = received(part, Attachment1=b64encode(content).decode(), **{"Text-part": "Hello"})
    assert call("inbound", body).post(client).status_code == 200
    [event] = events
    parts = [*event.message.attachments, *event.message.inlines]
    assert [(one.get_filename(), one.get_content_type(), one.get_content_text(), one.is_inline()) for one in parts] == [
        expected
    ]
    assert event.message.text == "Hello"


def test_a_part_whose_content_is_missing(client: Client, events: list[Any]) -> None:
    body = received({"Headers": {}, "ContentRef": "Attachment1"}, {"Headers": {}}, **{"Text-part": "Hello"})
    assert call("inbound", body).post(client).status_code == 200
    [event] = events
    assert (event.message.text, event.message.attachments) == ("Hello", [])


@pytest.mark.parametrize(
    "fields",
    [{"Headers": "x"}, {"Headers": None}, {"Parts": [1]}, {"Parts": 7}, {"Text-part": 1}],
    ids=repr,
)
def test_a_malformed_message(client: Client, events: list[Any], fields: dict[str, Any]) -> None:
    assert call("inbound", {**received(), **fields}).post(client).status_code == 400
    assert events == []
