"""What became of the messages of one ``send_messages``."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.core.mail import EmailMessage


@dataclass
class SendReport:
    """The account of one ``send_messages``: every message is in exactly one of the three, but for those that were
    cancelled or have no recipients.

    A message is kept alive here only if it failed or was not attempted; ``sent`` lists those that somebody else
    still holds, so that a generator of messages runs in bounded memory. ``sent_count`` counts them all.
    """

    #: Each message that was not sent, or may not have been, and its error.
    failed: list[tuple[EmailMessage, Exception]] = field(default_factory=list)
    #: Messages for which no call was made, because an earlier failure would have met them too. What an iterator
    #: had not yet given is still in it.
    not_attempted: list[EmailMessage] = field(default_factory=list)
    sent_count: int = 0
    _sent: list[weakref.ref[EmailMessage]] = field(default_factory=list, repr=False)

    @property
    def sent(self) -> list[EmailMessage]:
        """The messages that the ESP took, in order."""
        return [message for message in (reference() for reference in self._sent) if message is not None]

    def add_sent(self, message: EmailMessage) -> None:
        self.sent_count += 1
        self._sent.append(weakref.ref(message))

    def leave(self, messages: Iterable[EmailMessage]) -> None:
        self.not_attempted.extend(messages)
