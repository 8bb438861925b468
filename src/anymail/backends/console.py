"""For development: prints every message, with Anymail's attributes, instead of sending it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Unpack

from anymail.backends.base import AnymailBackend
from anymail.backends.keywords import SendKeywords
from anymail.backends.test import TestESP
from anymail.mail.addresses import format_addresses
from anymail.mail.message import OutgoingMail
from anymail.mail.status import RecipientStatuses
from anymail.wire import Flow

__all__ = ["EmailBackend"]

_ATTRIBUTES = (
    "metadata", "tags", "track_opens", "track_clicks", "send_at", "template_id", "merge_global_data", "merge_data",
    "merge_metadata", "merge_headers", "esp_extra",
)  # fmt: skip


class ConsoleESP(TestESP):
    name = "Console"
    slug = "console"

    def deliver(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        print(*_lines(mail), sep="\n", file=sys.stdout, flush=True)  # noqa: T201
        return (yield from super().deliver(mail))


def _lines(mail: OutgoingMail) -> Iterator[str]:
    """A message as text."""
    for name in ("from_email", "to", "cc", "bcc", "reply_to"):
        if addresses := getattr(mail, name):
            yield f"{name.removesuffix('_email').replace('_', '-').title()}: {format_addresses(addresses)}"
    yield f"Subject: {mail.subject or ''}"
    yield from (f"{name}: {value}" for name, value in mail.headers.items())
    attributes: dict[str, Any] = {name: getattr(mail, name) for name in _ATTRIBUTES}
    yield from (f"{name} = {value!r}" for name, value in attributes.items() if value or value is False)
    for attachment in mail.attachments:
        place = f"cid:{attachment.content_id}" if attachment.inline else "attached"
        yield f"[{place}] {attachment.name or '(no name)'}, {attachment.mimetype}, {len(attachment.content)} bytes"
    yield from (f"\n{body}" for body in (mail.text, mail.html, mail.amp) if body)
    yield "-" * 79


class EmailBackend(AnymailBackend):
    """Prints messages on standard output."""

    esp = ConsoleESP

    if TYPE_CHECKING:

        def __init__(
            self, fail_silently: bool = False, *, alias: str | None = None, **options: Unpack[SendKeywords]
        ) -> None: ...
