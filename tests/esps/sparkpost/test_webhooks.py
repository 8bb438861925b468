"""SparkPost: webhook bodies (files) and the events they become."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client, override_settings

from anymail.exceptions import AnymailConfigurationError
from anymail.signals import AnymailInboundEvent
from support import Call, assert_inbound, assert_tracking, expectations, sample, sample_json

SECRET = {"WEBHOOK_SECRET": "sp-hook:7Qm2-zebra"}
BASIC_AUTH = {"Authorization": "Basic c3AtaG9vazo3UW0yLXplYnJh"}
EXPECTED = expectations("sparkpost")


def call(kind: str, body: Any, headers: dict[str, str] | None = None) -> Call:
    """A call with the file of that name, or with these items."""
    content = sample("sparkpost", body) if isinstance(body, str) else json.dumps(body).encode()
    return Call(f"/anymail/sparkpost/{kind}/", content, BASIC_AUTH if headers is None else headers)


def one(event_class: str = "message_event", **event: Any) -> list[Any]:
    return [{"msys": {event_class: event}}]


@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("tracking")])
@override_settings(ANYMAIL=SECRET)
def test_events(client: Client, events: list[Any], name: str) -> None:
    assert call("tracking", name).post(client).status_code == 200
    assert_tracking(events, EXPECTED[name])
    told = [item for item in sample_json("sparkpost", name) if item["msys"]]
    assert [event.esp_event for event in events] == told


def lines(text: str | None) -> str | None:
    return text and text.replace("\r\n", "\n")


def plain(event: AnymailInboundEvent) -> dict[str, Any]:
    """A received message as the expectations are written, where they are not as those of other ESPs."""
    message = event.message
    assert message.from_email
    return {
        "from": message.from_email.addr_spec,
        "from_display_name": message.from_email.display_name,
        "to": [to.addr_spec for to in message.to],
        "received_count": len(message.get_all("Received", [])),
        "text": lines(message.text),
        "html": lines(message.html),
        "attachments": [
            {
                "filename": part.get_filename(),
                "content_type": part.get_content_type(),
                "text": lines(part.get_content_text()),
            }
            for part in message.attachments
        ],
        "inlines": [
            {"content_id": part.content_id, "filename": part.get_filename(), "content_type": part.get_content_type()}
            for part in message.inlines
        ],
    }


@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("inbound")])
@override_settings(ANYMAIL=SECRET)
def test_received_messages(client: Client, events: list[Any], name: str) -> None:
    assert call("inbound", name).post(client).status_code == 200
    own = [plain(event) for event in events]
    assert own == [{key: want.get(key, 0) for key in got} for got, want in zip(own, EXPECTED[name], strict=True)]
    others = [{key: value for key, value in want.items() if key not in own[0]} for want in EXPECTED[name]]
    assert_inbound(events, others)
    assert [event.esp_event for event in events] == sample_json("sparkpost", name)[: len(events)]


@override_settings(ANYMAIL=SECRET)
def test_a_relay_message_at_the_tracking_url(client: Client, events: list[Any]) -> None:
    with pytest.raises(AnymailConfigurationError, match="sparkpost/inbound/"):
        call("tracking", "inbound-plain.json").post(client)
    assert events == []


@override_settings(ANYMAIL=SECRET)
def test_an_event_at_the_inbound_url(client: Client, events: list[Any]) -> None:
    with pytest.raises(AnymailConfigurationError, match="sparkpost/tracking/"):
        call("inbound", "tracking-delivery.json").post(client)
    assert events == []


@override_settings(ANYMAIL=SECRET)
def test_only_mail_can_be_relayed(client: Client, events: list[Any]) -> None:
    body = sample_json("sparkpost", "inbound-plain.json")
    body[0]["msys"]["relay_message"]["protocol"] = "xmpp"
    with pytest.raises(AnymailConfigurationError, match="xmpp"):
        call("inbound", body).post(client)
    assert events == []


@override_settings(ANYMAIL=SECRET)
def test_an_unknown_event(client: Client, events: list[Any]) -> None:
    body = one("new_event", type="vanished", raw_rcpt_to="ana@example.net", transmission_id="7")
    assert call("tracking", body).post(client).status_code == 200
    [event] = events
    assert (event.event_type, event.recipient, event.message_id) == ("unknown", "ana@example.net", "7")
    assert event.esp_event == body[0]


@pytest.mark.parametrize(
    ("setting", "expected"), [({}, "unknown"), ({"SPARKPOST_TRACK_INITIAL_OPEN_AS_OPENED": True}, "opened")]
)
@pytest.mark.parametrize("name", ["tracking-initial_open.json", "tracking-amp_initial_open.json"])
def test_initial_opens(client: Client, events: list[Any], name: str, setting: Any, expected: str) -> None:
    with override_settings(ANYMAIL={**SECRET, **setting}):
        call("tracking", name).post(client)
    assert [event.event_type for event in events] == [expected]


SUPPRESSED = "554 5.7.1 recipient address was suppressed due to customer policy"
# An event with a reason, and what it becomes.
REASONS: dict[str, tuple[dict[str, Any], tuple[str, str | None]]] = {
    "suppressed": ({"bounce_class": "25", "raw_reason": SUPPRESSED}, ("rejected", "blocked")),
    "suppressed after an unsubscribe": (
        {"bounce_class": "25", "raw_reason": f"{SUPPRESSED}: List Unsubscribe"},
        ("rejected", "unsubscribed"),
    ),
    "suppressed after a click on unsubscribe": (
        {"bounce_class": "25", "raw_reason": f"{SUPPRESSED}: Unsubscribe Link"},
        ("rejected", "unsubscribed"),
    ),
    "suppressed after a complaint": (
        {"bounce_class": "25", "raw_reason": f"{SUPPRESSED}: Spam Complaint"},
        ("rejected", "spam"),
    ),
    "suppressed after a bounce": (
        {"bounce_class": "25", "raw_reason": f"{SUPPRESSED}: Bounce Rule"},
        ("rejected", "bounced"),
    ),
    "suppressed by hand": (
        {"bounce_class": "25", "raw_reason": f"{SUPPRESSED}: Manually Added"},
        ("rejected", "blocked"),
    ),
    "suppressed without a class": ({"raw_reason": f"{SUPPRESSED}: List Unsubscribe"}, ("rejected", "unsubscribed")),
    "an admin failure": (
        {"bounce_class": "25", "raw_reason": "554 5.7.1 [internal] Campaign cancelled"},
        ("rejected", "blocked"),
    ),
    "an admin failure of a receiving server, later": (
        {"type": "out_of_band", "bounce_class": "25"},
        ("bounced", "blocked"),
    ),
    "a policy": ({"type": "policy_rejection", "bounce_class": "25"}, ("rejected", "blocked")),
    "a generation rejected": (
        {"type": "generation_rejection", "raw_reason": f"{SUPPRESSED}: Spam Complaint"},
        ("rejected", "spam"),
    ),
    "words of a receiving server": (
        {"bounce_class": "10", "raw_reason": "550 5.1.1 recipient address was suppressed here"},
        ("bounced", "invalid"),
    ),
    "a delay": ({"type": "delay", "bounce_class": "24"}, ("deferred", None)),
    "a failure": ({"type": "generation_failure", "bounce_class": "1"}, ("failed", None)),
    "a complaint": ({"type": "spam_complaint", "bounce_class": "51"}, ("complained", None)),
    "a robot's answer": ({"bounce_class": "60"}, ("autoresponded", None)),
    "an unsubscribe by mail": ({"bounce_class": "90"}, ("unsubscribed", None)),
}


@pytest.mark.parametrize(("event", "expected"), REASONS.values(), ids=REASONS.keys())
@override_settings(ANYMAIL=SECRET)
def test_reasons(client: Client, events: list[Any], event: dict[str, Any], expected: Any) -> None:
    assert call("tracking", one(**{"type": "bounce", **event})).post(client).status_code == 200
    assert [(got.event_type, got.reject_reason) for got in events] == [expected]


# An event, and what its fields become.
FIELDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "time in ISO 8601": ({"timestamp": "2026-03-02T10:15:20.000Z"}, {"timestamp": "2026-03-02T10:15:20+00:00"}),
    "time as a number": ({"timestamp": 1772446520}, {"timestamp": "2026-03-02T10:15:20+00:00"}),
    "no time": ({"timestamp": "soon"}, {"timestamp": None}),
    "big number as id": ({"event_id": 92356927693813856}, {"event_id": "92356927693813856"}),
    "recipient in lower case": ({"rcpt_to": "ana@example.net"}, {"recipient": "ana@example.net"}),
    "class as a number": (
        {"type": "bounce", "bounce_class": 51},
        {"event_type": "bounced", "reject_reason": "spam"},
    ),
    "class of another type": (
        {"type": "delay", "bounce_class": "60"},
        {"event_type": "autoresponded", "reject_reason": None},
    ),
    "its own message_id": ({"message_id": "65d1"}, {"message_id": None}),
    "tags of recipients": ({"rcpt_tags": ["a", "", 1, "b"], "campaign_id": ""}, {"tags": ["a", "b"]}),
    "a campaign and tags": ({"rcpt_tags": ["a", "c"], "campaign_id": "c"}, {"tags": ["c", "a"]}),
    "tags of another type": ({"rcpt_tags": "a", "campaign_id": 7}, {"tags": ["7"]}),
    "a machine": (
        {"type": "open", "user_agent_parsed": {"is_prefetched": True, "is_proxy": False}, "ip_address": "192.0.2.1"},
        {"event_type": "opened", "by_machine": True, "ip": "192.0.2.1", "description": None},
    ),
    "a proxy": ({"type": "click", "user_agent_parsed": {"is_proxy": True}}, {"by_machine": True}),
    "a person": ({"type": "click", "user_agent_parsed": {"is_prefetched": False}}, {"by_machine": False}),
    "somebody": ({"type": "open", "user_agent_parsed": {}}, {"by_machine": None, "ip": None}),
    "a server's address": (
        {"type": "delivery", "ip_address": "192.0.2.1", "user_agent_parsed": {"is_proxy": True}},
        {"ip": None, "by_machine": None},
    ),
    "a link that was not clicked": (
        {"type": "link_unsubscribe", "target_link_url": "https://example.com/", "user_agent": "Firefox"},
        {"event_type": "unsubscribed", "click_url": None, "user_agent": None},
    ),
    "a code": ({"type": "delay", "error_code": "451"}, {"smtp_code": 451}),
    "a code of SparkPost's own": ({"type": "policy_rejection", "error_code": "550"}, {"smtp_code": None}),
    "empty strings": (
        {"type": "click", "raw_reason": "", "user_agent": "", "target_link_url": "", "event_id": "", "raw_rcpt_to": ""},
        {"mta_response": None, "user_agent": None, "click_url": None, "event_id": None, "recipient": None},
    ),
    "wrong types": (
        {
            "type": ["open"],
            "bounce_class": {},
            "rcpt_meta": [1],
            "raw_rcpt_to": {"a": 1},
            "campaign_id": True,
            "timestamp": {},
            "user_agent_parsed": "x",
            "raw_reason": None,
        },
        {"event_type": "unknown", "reject_reason": None, "metadata": {}, "recipient": None, "tags": []},
    ),
}


@pytest.mark.parametrize(("event", "expected"), FIELDS.values(), ids=FIELDS.keys())
@override_settings(ANYMAIL=SECRET)
def test_fields(client: Client, events: list[Any], event: dict[str, Any], expected: dict[str, Any]) -> None:
    assert call("tracking", one(**event)).post(client).status_code == 200
    assert_tracking(events, [expected])


GOOD = one(type="delivery", transmission_id="7")


@pytest.mark.parametrize(
    "bad",
    [
        1,
        None,
        {},
        {"msys": 1},
        {"msys": {"message_event": 1}},
        {"msys": {"message_event": {"type": "open"}, "track_event": {"type": "open"}}},
    ],
    ids=repr,
)
@override_settings(ANYMAIL=SECRET)
def test_a_malformed_item_costs_no_other(client: Client, events: list[Any], bad: Any) -> None:
    assert call("tracking", [bad, *GOOD]).post(client).status_code == 200
    assert [event.event_type for event in events] == ["delivered"]
    assert call("tracking", [bad]).post(client).status_code == 400


@pytest.mark.parametrize("body", [None, {}, "x", 1, {"msys": {}}], ids=repr)
@pytest.mark.parametrize("kind", ["tracking", "inbound"])
@override_settings(ANYMAIL=SECRET)
def test_a_body_of_the_wrong_shape(client: Client, events: list[Any], kind: str, body: Any) -> None:
    wrong = Call(f"/anymail/sparkpost/{kind}/", json.dumps(body).encode(), BASIC_AUTH)
    assert wrong.post(client).status_code == 400
    assert events == []


@pytest.mark.parametrize(
    "relay", [{}, {"content": None}, {"content": {"email_rfc822": 1}}, {"content": {"email_rfc822": None}}], ids=repr
)
@override_settings(ANYMAIL=SECRET)
def test_a_malformed_relay_message(client: Client, events: list[Any], relay: Any) -> None:
    assert call("inbound", one("relay_message", **relay)).post(client).status_code == 400
    assert events == []


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic c3AtaG9vazp3cm9uZw=="}], ids=["none", "wrong"])
@override_settings(ANYMAIL=SECRET)
def test_basic_auth(client: Client, events: list[Any], headers: dict[str, str]) -> None:
    assert call("tracking", GOOD, headers).post(client).status_code == 400
    assert events == []


TOKEN = {"SPARKPOST_WEBHOOK_TOKEN": "Bearer t0ken", "SPARKPOST_WEBHOOK_TOKEN_HEADER": "Authorization"}


@pytest.mark.parametrize(("given", "status"), [("Bearer t0ken", 200), ("Bearer other", 400), ("t0ken", 400)])
@override_settings(ANYMAIL=TOKEN)
def test_a_token_in_a_header_of_ones_choice(client: Client, events: list[Any], given: str, status: int) -> None:
    assert call("tracking", GOOD, {"Authorization": given}).post(client).status_code == status
    assert len(events) == (status == 200)
