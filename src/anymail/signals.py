"""The events that Anymail sends as Django signals, and the words they speak."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.dispatch import Signal

if TYPE_CHECKING:
    from anymail.inbound import AnymailInboundMessage

__all__ = [
    "AnymailInboundEvent",
    "AnymailTrackingEvent",
    "EventType",
    "RejectReason",
    "inbound",
    "post_send",
    "pre_send",
    "tracking",
]

#: Before a message is sent: ``sender`` (the backend class), ``message``, ``esp_name``. A receiver may change
#: the message, or raise ``AnymailCancelSend``.
pre_send = Signal()

#: After the ESP took a message: ``sender``, ``message``, ``status`` (its ``anymail_status``), ``esp_name``.
#: What a receiver raises is logged only: the ESP has the message by then.
post_send = Signal()

#: Something happened to a sent message: ``sender`` (the view class), ``event``, ``esp_name``.
tracking = Signal()

#: A message was received: ``sender`` (the view class), ``event``, ``esp_name``.
inbound = Signal()


class EventType:
    """What can happen to a message."""

    QUEUED = "queued"  #: the ESP has it and will try
    SENT = "sent"  #: the ESP has passed it on
    REJECTED = "rejected"  #: the ESP itself refused it
    FAILED = "failed"  #: the ESP could not produce or send it
    BOUNCED = "bounced"  #: the receiving server refused it for good
    DEFERRED = "deferred"  #: not yet; the ESP keeps trying
    DELIVERED = "delivered"  #: the receiving server took it
    AUTORESPONDED = "autoresponded"  #: a robot answered
    OPENED = "opened"
    CLICKED = "clicked"
    COMPLAINED = "complained"  #: the recipient called it spam
    UNSUBSCRIBED = "unsubscribed"
    SUBSCRIBED = "subscribed"
    INBOUND = "inbound"  #: a message was received
    INBOUND_FAILED = "inbound_failed"
    UNKNOWN = "unknown"  #: anything else; see ``esp_event``


class RejectReason:
    """Why a message was rejected, failed or bounced."""

    INVALID = "invalid"  #: bad address
    BOUNCED = "bounced"  #: it bounced, now or before
    TIMED_OUT = "timed_out"  #: given up after deferrals
    BLOCKED = "blocked"  #: the ESP's policy
    SPAM = "spam"  #: judged or reported as spam
    UNSUBSCRIBED = "unsubscribed"
    OTHER = "other"


@dataclass(kw_only=True, slots=True)
class AnymailTrackingEvent:
    """One thing that happened to one recipient's message. What the ESP does not tell is None, {} or []."""

    event_type: str
    #: Equal to what ``anymail_status`` gave when the message was sent.
    message_id: str | None = None
    #: Aware.
    timestamp: dt.datetime | None = None
    event_id: str | None = None
    #: A bare address.
    recipient: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    reject_reason: str | None = None
    description: str | None = None
    mta_response: str | None = None
    user_agent: str | None = None
    click_url: str | None = None
    #: As the ESP sent it.
    esp_event: Any = field(default=None, repr=False)


@dataclass(kw_only=True, slots=True)
class AnymailInboundEvent:
    """One received message."""

    message: AnymailInboundMessage
    event_type: str = EventType.INBOUND
    timestamp: dt.datetime | None = None
    event_id: str | None = None
    esp_event: Any = field(default=None, repr=False)
