"""Events: their words, and what a project may do with them."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from anymail.signals import AnymailInboundEvent, AnymailTrackingEvent, EventType, RejectReason


def test_words_are_their_strings() -> None:
    assert EventType.BOUNCED == "bounced"
    assert f"{EventType.BOUNCED} {RejectReason.TIMED_OUT}" == "bounced timed_out"
    assert json.dumps({EventType.SENT: RejectReason.SPAM}) == '{"sent": "spam"}'
    assert {"bounced": 1}[EventType.BOUNCED] == 1
    assert isinstance(EventType.BOUNCED, str)


def test_all_words() -> None:
    assert list(EventType) == [
        "queued", "sent", "rejected", "failed", "bounced", "deferred", "delivered", "autoresponded", "opened",
        "clicked", "complained", "unsubscribed", "subscribed", "inbound", "inbound_failed", "unknown",
    ]  # fmt: skip
    assert list(RejectReason) == ["invalid", "bounced", "timed_out", "blocked", "spam", "unsubscribed", "other"]
    assert all(word.name == word.upper() for word in (*EventType, *RejectReason))


def test_what_the_esp_does_not_tell() -> None:
    event = AnymailTrackingEvent(event_type="opened")
    assert vars(event) == {
        "event_type": "opened", "message_id": None, "timestamp": None, "event_id": None, "recipient": None,
        "metadata": {}, "tags": [], "reject_reason": None, "description": None, "mta_response": None,
        "smtp_code": None, "enhanced_code": None, "user_agent": None, "click_url": None, "ip": None,
        "by_machine": None, "esp_event": None,
    }  # fmt: skip


def test_strings_become_words() -> None:
    event = AnymailTrackingEvent(event_type="bounced", reject_reason="spam")
    assert event.event_type is EventType.BOUNCED
    assert event.reject_reason is RejectReason.SPAM
    event.event_type = "rejected"
    event.reject_reason = None
    assert (event.event_type, event.reject_reason) == (EventType.REJECTED, None)


def test_a_word_of_the_projects_own() -> None:
    assert AnymailTrackingEvent(event_type="printed").event_type == "printed"


def test_an_event_needs_a_type() -> None:
    with pytest.raises(TypeError, match="event_type"):
        AnymailTrackingEvent()


@pytest.mark.parametrize(
    "event",
    [
        AnymailTrackingEvent(event_type="clicked", by_machine=True, ip="192.0.2.1", esp_event={"a": 1}),
        AnymailInboundEvent(),
    ],
    ids=["tracking", "inbound"],
)
def test_events_can_be_kept(event: Any) -> None:
    event.order = "A-1042"
    for again in (pickle.loads(pickle.dumps(event)), copy.deepcopy(event)):
        assert again == event
        assert again.order == "A-1042"
        assert type(again.event_type) is EventType
    assert vars(event)["order"] == "A-1042"


def test_an_inbound_event_without_message() -> None:
    event = AnymailInboundEvent(event_id="1")
    assert (event.message, event.event_type) == (None, "inbound")
