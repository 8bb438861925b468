"""For a project's own tests: sends nothing, keeps every message in ``django.core.mail.outbox``."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Unpack

from django.core import mail as django_mail
from django.core.mail import EmailMessage

from anymail.backends.base import AnymailBackend
from anymail.backends.keywords import SendKeywords
from anymail.conf import SendOptions
from anymail.delivery.report import SendReport
from anymail.esps.kit.sending import ESP
from anymail.mail.message import OutgoingMail
from anymail.mail.status import AnymailRecipientStatus, RecipientStatuses, Status
from anymail.mail.supports import MANY, Supports
from anymail.wire import Flow

__all__ = ["EmailBackend"]

#: An ESP that can express everything.
EVERYTHING = Supports(
    from_emails=MANY, non_ascii_usernames=True, to_header=True, amp=True, alternatives=True, envelope_sender=True,
    metadata=True, tags=MANY, track_opens=True, track_clicks=True, send_at=True, template_id=True, merge_data=True,
    merge_global_data=True, merge_metadata=True, merge_headers=True,
)  # fmt: skip

_numbers = itertools.count(1)
_FATES: tuple[Status, ...] = ("rejected", "invalid", "failed", "queued", "unknown")


class TestESP(ESP[SendOptions]):
    """Takes every message; an address that begins with a status ("rejected@...") gets that status."""

    name = "Test"
    slug = "test"
    Options = SendOptions
    supports = EVERYTHING

    def deliver(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        yield from ()
        message_id = f"test-{next(_numbers)}"
        statuses: RecipientStatuses = {}
        for address in mail.recipients:
            status: Status = next((fate for fate in _FATES if address.addr_spec.startswith(fate)), "sent")
            taken = status in ("sent", "queued")
            statuses[address.key] = AnymailRecipientStatus(message_id if taken else None, status)
        return statuses


class EmailBackend(AnymailBackend):
    """Behaves as an ESP's backend, signals, statuses and errors included; the messages go to ``mail.outbox``."""

    esp = TestESP

    if TYPE_CHECKING:

        def __init__(
            self, fail_silently: bool = False, *, alias: str | None = None, **options: Unpack[SendKeywords]
        ) -> None: ...

    def send_messages(self, email_messages: Iterable[EmailMessage]) -> int:
        return super().send_messages(list(email_messages))  # a report does not keep what a generator made

    async def asend_messages(self, email_messages: Iterable[EmailMessage]) -> int:
        return await super().asend_messages(list(email_messages))

    def _conclude(self, report: SendReport) -> int:
        outbox: list[Any] = django_mail.__dict__.setdefault("outbox", [])
        outbox.extend(report.sent)
        return super()._conclude(report)
