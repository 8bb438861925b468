"""What this project does when mail is sent, and when the ESP's webhooks tell what became of it."""

from __future__ import annotations

import logging
from email.utils import parseaddr
from typing import Any

from django.core.mail import EmailMessage
from django.dispatch import receiver

from anymail.exceptions import AnymailCancelSend
from anymail.message import AnymailStatus
from anymail.signals import (
    AnymailInboundEvent,
    AnymailTrackingEvent,
    EventType,
    inbound,
    post_send,
    pre_send,
    tracking,
)
from example.models import LogEntry, Suppressed

logger = logging.getLogger(__name__)

#: After these an address gets no more mail.
FINAL = frozenset({EventType.BOUNCED, EventType.COMPLAINED, EventType.UNSUBSCRIBED})


@receiver(pre_send)
def leave_out_suppressed(sender: type, message: EmailMessage, esp_name: str, **kwargs: Any) -> None:
    """Nobody who bounced or complained gets more mail. With asend() this runs in a thread: it may use the database."""
    bare = {address: parseaddr(str(address))[1].lower() for address in message.recipients()}
    suppressed = set(Suppressed.objects.filter(address__in=bare.values()).values_list("address", flat=True))
    if not suppressed:
        return
    for field in ("to", "cc", "bcc"):
        setattr(message, field, [one for one in getattr(message, field) if bare[one] not in suppressed])
    if not message.recipients():
        raise AnymailCancelSend("All its recipients are suppressed.")


@receiver(post_send)
def log_statuses(sender: type, message: EmailMessage, status: AnymailStatus, esp_name: str, **kwargs: Any) -> None:
    LogEntry.objects.bulk_create(
        LogEntry(esp=esp_name, message_id=one.message_id or "", recipient=address, kind="send", what=one.status)
        for address, one in status.recipients.items()
    )


@receiver(tracking)
def log_event(sender: type, event: AnymailTrackingEvent, esp_name: str, **kwargs: Any) -> None:
    """If this fails, the ESP is answered so that it sends the event again."""
    LogEntry.objects.create(
        esp=esp_name,
        message_id=event.message_id or "",
        recipient=event.recipient or "",
        kind="event",
        what=event.event_type,
        detail=event.mta_response or event.description or event.click_url or "",
    )


@receiver(tracking)
def suppress(sender: type, event: AnymailTrackingEvent, esp_name: str, **kwargs: Any) -> None:
    if event.event_type in FINAL and event.recipient:
        address = event.recipient.lower()
        Suppressed.objects.get_or_create(address=address, defaults={"reason": event.event_type})


@receiver(inbound)
def file_reply(sender: type, event: AnymailInboundEvent, esp_name: str, **kwargs: Any) -> None:
    """Do little here, and leave what takes long to a task: the ESP is waiting for the answer."""
    message = event.message
    if message.spam_detected:
        return
    LogEntry.objects.create(
        esp=esp_name,
        message_id=str(message["Message-ID"] or ""),
        recipient=message.envelope_recipient or str(message["To"] or ""),
        kind="reply",
        what=event.event_type,
        detail=f"{message.from_email}: {message.subject}\n\n{message.stripped_text or message.text or ''}",
    )
    for attachment in message.attachments:
        # For a FileField: instance.file = attachment.as_uploaded_file()
        logger.info("A reply came with %s.", attachment.get_filename())
