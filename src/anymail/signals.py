"""The events that Anymail sends as Django signals, and the words they speak."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

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


class EventType(StrEnum):
    """What can happen to a message. Each is equal to its string."""

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


class RejectReason(StrEnum):
    """Why a message was rejected or bounced. Each is equal to its string."""

    INVALID = "invalid"  #: bad address
    BOUNCED = "bounced"  #: it bounced, now or before
    TIMED_OUT = "timed_out"  #: given up after deferrals
    BLOCKED = "blocked"  #: the ESP's policy
    SPAM = "spam"  #: judged or reported as spam
    UNSUBSCRIBED = "unsubscribed"
    OTHER = "other"


WordT = TypeVar("WordT", bound=StrEnum)


class _Field(Generic[WordT]):
    """A field that may be set to a string and is read as the member of ``words`` that is equal to it. A string that
    is none of them stays what it is.
    """

    def __init__(self, words: type[WordT], default: WordT | None = None) -> None:
        self._words: dict[Any, WordT] = {word.value: word for word in words}
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def _set(self, event: object, value: Any) -> None:
        vars(event)[self._name] = self._words.get(value, value)


class _Word(_Field[WordT]):
    def __get__(self, event: object, owner: type | None = None) -> WordT:
        if event is not None:
            return vars(event)[self._name]  # type: ignore[no-any-return]
        if self._default is None:
            raise AttributeError(self._name)  # which says to the dataclass that there is no default
        return self._default

    def __set__(self, event: object, value: WordT | str) -> None:
        self._set(event, value)


class _OptionalWord(_Field[WordT]):
    def __get__(self, event: object, owner: type | None = None) -> WordT | None:
        return None if event is None else vars(event)[self._name]

    def __set__(self, event: object, value: WordT | str | None) -> None:
        self._set(event, value)


@dataclass(kw_only=True)
class AnymailTrackingEvent:
    """One thing that happened to one recipient's message. What the ESP does not tell is None, {} or [].

    A project may set attributes of its own on it. ``event_type`` and ``reject_reason`` may be given as strings.
    """

    event_type: _Word[EventType] = _Word(EventType)
    #: Equal to what ``anymail_status`` gave when the message was sent.
    message_id: str | None = None
    #: Aware.
    timestamp: dt.datetime | None = None
    event_id: str | None = None
    #: A bare address.
    recipient: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    #: Of bounced and rejected mail, where the ESP says why.
    reject_reason: _OptionalWord[RejectReason] = _OptionalWord(RejectReason)
    description: str | None = None
    #: What the receiving server said, as the ESP tells it.
    mta_response: str | None = None
    #: The three digits of the receiving server's reply (RFC 5321), where the ESP gives them apart.
    smtp_code: int | None = None
    #: Its enhanced status code (RFC 3463), as in "5.1.1", where the ESP gives it apart.
    enhanced_code: str | None = None
    #: Of what was opened or clicked.
    user_agent: str | None = None
    click_url: str | None = None
    #: The address from which it was opened or clicked.
    ip: str | None = None
    #: Whether a machine (a scanner, a privacy proxy) opened or clicked it; None where the ESP does not say.
    by_machine: bool | None = None
    #: As the ESP sent it.
    esp_event: Any = field(default=None, repr=False)


@dataclass(kw_only=True)
class AnymailInboundEvent:
    """One received message. A project may set attributes of its own on it."""

    #: None only in a project's own tests.
    message: AnymailInboundMessage = None  # type: ignore[assignment]
    event_type: _Word[EventType] = _Word(EventType, EventType.INBOUND)
    timestamp: dt.datetime | None = None
    event_id: str | None = None
    esp_event: Any = field(default=None, repr=False)
