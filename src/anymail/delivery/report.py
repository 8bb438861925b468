"""What became of every message of one ``send_messages``."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.core.mail import EmailMessage


@dataclass
class SendReport:
    """The account of one ``send_messages``: every message is in exactly one of ``sent``, ``failed`` and
    ``not_attempted``, but for those that were cancelled or have no recipients.

    A message is kept alive here only if it failed or was not attempted; ``sent`` and ``partly_sent`` list those that
    somebody else still holds, so that a generator of messages runs in bounded memory. ``sent_count`` and
    ``partly_sent_count`` count them all.
    """

    #: Each message that was not sent, or may not have been, and its error.
    failed: list[tuple[EmailMessage, Exception]] = field(default_factory=list)
    #: Messages for which no call was made, because an earlier failure would have met them too, or because the run
    #: was interrupted. What an iterator had not yet given is still in it.
    not_attempted: list[EmailMessage] = field(default_factory=list)
    sent_count: int = 0
    partly_sent_count: int = 0
    _sent: list[weakref.ref[EmailMessage]] = field(default_factory=list, repr=False)
    _partly_sent: list[weakref.ref[EmailMessage]] = field(default_factory=list, repr=False)

    @property
    def sent(self) -> list[EmailMessage]:
        """The messages that the ESP took, in whole or in part, in order."""
        return _alive(self._sent)

    @property
    def partly_sent(self) -> list[EmailMessage]:
        """Those of ``sent`` that the ESP took for some recipients only: ``anymail_status.errors`` says why."""
        return _alive(self._partly_sent)

    def add_sent(self, message: EmailMessage, *, partly: bool = False) -> None:
        # An interruption may strike between any two of these; ``amend`` and ``has_just_got`` make up for it.
        if partly and not _is_last(message, self._partly_sent):
            self._partly_sent.append(weakref.ref(message))
        self._sent.append(weakref.ref(message))
        self.amend()

    def amend(self) -> None:
        """Make the counts those of the lists."""
        self.sent_count, self.partly_sent_count = len(self._sent), len(self._partly_sent)

    def has_just_got(self, message: EmailMessage) -> bool:
        """Whether the message is the last in one of the lists."""
        return (
            _is_last(message, self._sent)
            or bool(self.failed and self.failed[-1][0] is message)
            or bool(self.not_attempted and self.not_attempted[-1] is message)
        )

    def leave(self, messages: Iterable[EmailMessage]) -> None:
        self.not_attempted.extend(messages)


def _is_last(message: EmailMessage, references: list[weakref.ref[EmailMessage]]) -> bool:
    return bool(references) and references[-1]() is message


def _alive(references: list[weakref.ref[EmailMessage]]) -> list[EmailMessage]:
    return [message for message in (reference() for reference in references) if message is not None]
