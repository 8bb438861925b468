"""MailerSend: webhook bodies (files) and the events they become."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client, override_settings

from anymail.esps.mailersend.tracking import PUBLIC_TEST_SECRET
from anymail.exceptions import AnymailConfigurationError
from esps.mailersend.signed import SECRET, signed_call
from support import Call, assert_inbound, assert_tracking, expectations, sample, sample_json

SIGNATURES = sample_json("mailersend", "signatures.json")["files"]
EXPECTED = expectations("mailersend")
PING = "tracking-webhook_test.json"
BOTH = {"MAILERSEND_SIGNING_SECRET": SECRET, "MAILERSEND_INBOUND_SECRET": SECRET}


def call(name: str) -> Call:
    """A file's call, with the signature that came with it."""
    kind = name.partition("-")[0]
    return Call(
        f"/anymail/mailersend/{kind}/",
        sample("mailersend", name),
        {"Signature": SIGNATURES[name]["Signature"]},
    )


def settings_of(name: str) -> dict[str, Any]:
    setting = "MAILERSEND_INBOUND_SECRET" if name.startswith("inbound") else "MAILERSEND_SIGNING_SECRET"
    return {setting: SIGNATURES[name]["secret"]}


def post(client: Client, kind: str, item: Any) -> Any:
    with override_settings(ANYMAIL=BOTH):
        return signed_call(kind, json.dumps(item).encode()).post(client)


def changed(name: str, **data: Any) -> Any:
    """A file's call with other data."""
    item = sample_json("mailersend", name)
    return {**item, "data": {**item["data"], **data}}


@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("tracking") and name != PING])
def test_events(client: Client, events: list[Any], name: str) -> None:
    with override_settings(ANYMAIL=settings_of(name)):
        assert call(name).post(client).status_code == 200
    assert_tracking(events, EXPECTED[name])
    assert events[0].esp_event == sample_json("mailersend", name)


def test_inbound(client: Client, events: list[Any]) -> None:
    name = "inbound-message.json"
    [expected] = EXPECTED[name]
    with override_settings(ANYMAIL=settings_of(name)):
        assert call(name).post(client).status_code == 200
    assert_inbound(events, [{key: value for key, value in expected.items() if key not in ("to", "cc")}])
    received = events[0].message
    assert [one.addr_spec for one in received.to] == expected["to"]
    assert [one.addr_spec for one in received.cc] == expected["cc"]
    assert received["In-Reply-To"] == expected["in_reply_to"]
    assert [
        {"content_id": one.content_id, "filename": one.get_filename(), "content_type": one.get_content_type()}
        for one in received.inlines
    ] == expected["inline_attachments"]
    assert events[0].esp_event["inbound_id"] == "r83ql3pzvwgzw1jm"


@pytest.mark.parametrize("data", [{"sender": None}, {"sender": {"email": ""}}, {"sender": [], "recipients": "?"}])
def test_inbound_without_an_envelope(client: Client, events: list[Any], data: dict[str, Any]) -> None:
    assert post(client, "inbound", changed("inbound-message.json", **data)).status_code == 200
    assert events[0].message.envelope_sender is None
    assert events[0].message.text == "Grüße aus Köln"


class TestPing:
    """The call with which MailerSend tries a URL, signed with a secret that everybody knows."""

    @pytest.mark.parametrize("kind", ["tracking", "inbound"])
    @pytest.mark.parametrize("settings", [{}, BOTH], ids=["no secret yet", "with a secret"])
    def test_is_welcome(self, client: Client, events: list[Any], kind: str, settings: dict[str, Any]) -> None:
        ping = Call(f"/anymail/mailersend/{kind}/", sample("mailersend", PING), call(PING).headers)
        with override_settings(ANYMAIL=settings):
            assert ping.post(client).status_code == 200
        assert events == EXPECTED[PING] == []

    @override_settings(ANYMAIL=BOTH)
    def test_may_have_the_real_signature(self, client: Client, events: list[Any]) -> None:
        assert signed_call("tracking", sample("mailersend", PING)).post(client).status_code == 200
        assert events == []

    @override_settings(ANYMAIL={**BOTH, "WEBHOOK_SECRET": "user:pass"})
    def test_needs_basic_auth_where_it_is_set(self, client: Client) -> None:
        assert call(PING).post(client).status_code == 400

    @pytest.mark.parametrize("name", ["tracking-delivered.json", "inbound-message.json"])
    @override_settings(ANYMAIL=BOTH)
    def test_lends_its_secret_to_nothing_else(self, client: Client, events: list[Any], name: str) -> None:
        forged = signed_call(name.partition("-")[0], sample("mailersend", name), PUBLIC_TEST_SECRET)
        assert forged.post(client).status_code == 400
        assert events == []

    @pytest.mark.parametrize(
        "body",
        [
            b'{"type": "webhook.test", "type": "activity.delivered", "data": {}}',
            b'{"type": "webhook.tested", "data": {}}',
            b'{"type": ["webhook.test"]}',
            b'["webhook.test"]',
            b"webhook.test",
        ],
    )
    @override_settings(ANYMAIL=BOTH)
    def test_cannot_be_imitated(self, client: Client, events: list[Any], body: bytes) -> None:
        assert signed_call("tracking", body, PUBLIC_TEST_SECRET).post(client).status_code == 400
        assert events == []


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("tracking-delivered.json", "MAILERSEND_SIGNING_SECRET"),
        ("inbound-message.json", "MAILERSEND_INBOUND_SECRET"),
    ],
)
@override_settings(ANYMAIL={"WEBHOOK_SECRET": "user:pass"})
def test_a_secret_is_needed(client: Client, events: list[Any], name: str, setting: str) -> None:
    one = call(name)
    one.headers["Authorization"] = "Basic dXNlcjpwYXNz"
    with pytest.raises(AnymailConfigurationError, match=setting):
        one.post(client)
    assert events == []


def test_the_wrong_webhook(client: Client, events: list[Any]) -> None:
    with pytest.raises(AnymailConfigurationError, match="mailersend/inbound/"):
        post(client, "tracking", sample_json("mailersend", "inbound-message.json"))
    with pytest.raises(AnymailConfigurationError, match=r"activity\.delivered .* mailersend/tracking/"):
        post(client, "inbound", sample_json("mailersend", "tracking-delivered.json"))
    assert events == []


def test_an_unknown_activity_is_an_unknown_event(client: Client, events: list[Any]) -> None:
    item = {**sample_json("mailersend", "tracking-delivered.json"), "type": "activity.vanished"}
    assert post(client, "tracking", item).status_code == 200
    [event] = events
    assert (event.event_type, event.recipient, event.event_id) == (
        "unknown",
        "customer@example.com",
        "68f0a402c41d9e0012ab610e",
    )
    assert event.esp_event == item


@pytest.mark.parametrize(
    "word",
    [
        "sender_identity.verified",
        "maintenance.start",
        "maintenance.end",
        "inbound_forward.failed",
        "inbound_message.rejected",
        "email_single.verified",
        "email_list.verified",
        "recipient.on_hold_added",
        "recipient.on_hold_removed",
    ],
)
def test_what_is_not_about_a_message_is_unknown(client: Client, events: list[Any], word: str) -> None:
    item = {"type": word, "created_at": "2026-10-14 09:41:07", "data": {"id": "1", "email": "ana@example.net"}}
    assert post(client, "tracking", item).status_code == 200
    [event] = events
    assert (event.event_type, event.message_id, event.recipient, event.event_id) == ("unknown", None, None, None)
    assert event.timestamp.isoformat() == "2026-10-14T09:41:07+00:00"


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("on_hold", "blocked"),
        ("blocklisted", "blocked"),
        ("hard_bounced", "bounced"),
        ("spam_complaint", "spam"),
        ("spam_complained", "spam"),
        ("unsubscribed", "unsubscribed"),
        ("whim", "other"),
        (None, None),
    ],
)
def test_reasons_of_suppression(client: Client, events: list[Any], reason: str | None, expected: str | None) -> None:
    post(client, "tracking", changed("tracking-suppressed.json", meta={"suppression_reason": reason}))
    [event] = events
    assert (event.event_type, event.reject_reason, event.description) == ("rejected", expected, reason)


def test_the_recipient_may_be_called_email(client: Client, events: list[Any]) -> None:
    post(client, "tracking", changed("tracking-delivered.json", recipient=None, email="ana@example.net"))
    assert events[0].recipient == "ana@example.net"


def test_version_1_has_the_time_of_the_call_if_no_other(client: Client, events: list[Any]) -> None:
    post(client, "tracking", changed("tracking-v1-delivered.json", created_at=None))
    assert events[0].timestamp.isoformat() == "2025-03-04T16:10:04.284119+00:00"


@pytest.mark.parametrize("odd", [None, [], {}, "x", 7, True, [[1]], {"a": 1}])
@pytest.mark.parametrize("name", ["tracking-clicked.json", "tracking-v1-clicked.json"])
def test_odd_values(client: Client, events: list[Any], name: str, odd: Any) -> None:
    original = sample_json("mailersend", name)
    for field in original["data"]:
        assert post(client, "tracking", changed(name, **{field: odd})).status_code == 200
    for field in original["data"].get("email", {}):
        email = {**original["data"]["email"], field: odd}
        assert post(client, "tracking", changed(name, email=email)).status_code == 200
    for field in original["data"].get("meta", {}):
        meta = {**original["data"]["meta"], field: odd}
        assert post(client, "tracking", changed(name, meta=meta)).status_code == 200
    assert post(client, "tracking", {**original, "data": odd}).status_code == 200
    assert post(client, "tracking", {**original, "created_at": odd}).status_code == 200
    assert events
    for event in events:
        assert event.event_type == "clicked"
        assert all(isinstance(tag, str) for tag in event.tags)
        for value in (event.message_id, event.event_id, event.recipient, event.click_url, event.user_agent):
            assert value is None or isinstance(value, str)


@pytest.mark.parametrize("kind", ["tracking", "inbound"])
@pytest.mark.parametrize("item", [None, [], {}, "x", 1, [1], {"type": None}, {"type": ["activity.sent"]}])
def test_a_body_of_another_shape(client: Client, events: list[Any], kind: str, item: Any) -> None:
    assert post(client, kind, item).status_code == 400
    assert events == []


@pytest.mark.parametrize("data", [None, [], "x", {}, {"raw": None}, {"raw": [1]}, {"raw": {}}])
def test_an_inbound_call_without_a_mail(client: Client, events: list[Any], data: Any) -> None:
    assert post(client, "inbound", {"type": "inbound.message", "data": data}).status_code == 400
    assert events == []
