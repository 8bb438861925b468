"""Messages with Anymail's attributes; inline images; and what became of a sent message."""

from __future__ import annotations

import datetime as dt
import mimetypes
from email.message import MIMEPart
from email.mime.base import MIMEBase
from email.mime.image import MIMEImage
from email.utils import make_msgid
from pathlib import Path
from typing import Any

import django
from django.core.mail import EmailMessage, EmailMultiAlternatives

from anymail.mail.status import ANYMAIL_STATUSES, AnymailRecipientStatus, AnymailStatus

__all__ = [
    "ANYMAIL_STATUSES",
    "AnymailMessage",
    "AnymailMessageMixin",
    "AnymailRecipientStatus",
    "AnymailStatus",
    "attach_inline_image",
    "attach_inline_image_file",
]

_UNSET: Any = object()
_ATTRIBUTES = (
    "envelope_sender", "metadata", "merge_metadata", "merge_headers", "tags", "track_opens", "track_clicks", "send_at",
    "template_id", "merge_data", "merge_global_data", "esp_extra",
)  # fmt: skip


class AnymailMessageMixin(EmailMessage):
    """Mix this into a subclass of ``EmailMessage`` to give its constructor Anymail's keywords.

    Any Django message may carry these attributes; one that is never set leaves the send default in force.
    """

    envelope_sender: str | None
    metadata: dict[str, Any] | None
    merge_metadata: dict[str, dict[str, Any]] | None
    merge_headers: dict[str, dict[str, str]] | None
    tags: list[str] | None
    track_opens: bool | None
    track_clicks: bool | None
    send_at: dt.datetime | dt.date | float | None
    template_id: str | int | None
    merge_data: dict[str, dict[str, Any]] | None
    merge_global_data: dict[str, Any] | None
    esp_extra: dict[str, Any] | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        own = {name: kwargs.pop(name) for name in _ATTRIBUTES if name in kwargs}
        self.anymail_status = AnymailStatus()
        super().__init__(*args, **kwargs)
        for name, value in own.items():
            setattr(self, name, value)

    def attach_inline_image_file(
        self, path: str | Path, subtype: str | None = None, idstring: str = "img", domain: str | None = None
    ) -> str:
        """See the function of this name."""
        return attach_inline_image_file(self, path, subtype, idstring, domain)

    def attach_inline_image(
        self,
        content: bytes,
        filename: str | None = None,
        subtype: str | None = None,
        idstring: str = "img",
        domain: str | None = None,
    ) -> str:
        """See the function of this name."""
        return attach_inline_image(self, content, filename, subtype, idstring, domain)

    async def asend(self, *, using: str | None = None) -> int:
        """``send()``, natively asynchronous; ``using`` is the alias of a mailer (Django 6.1). See ``anymail.asend``."""
        from anymail import asend

        return await asend(self, using=using)


class AnymailMessage(AnymailMessageMixin, EmailMultiAlternatives):
    """An ``EmailMultiAlternatives`` whose constructor takes Anymail's attributes as keywords."""


def attach_inline_image_file(
    message: EmailMessage,
    path: str | Path,
    subtype: str | None = None,
    idstring: str = "img",
    domain: str | None = None,
) -> str:
    """Attach the image at ``path`` inline, for ``<img src="cid:...">``; return its Content-ID without brackets."""
    path = Path(path)
    return attach_inline_image(message, path.read_bytes(), path.name, subtype, idstring, domain)


def attach_inline_image(
    message: EmailMessage,
    content: bytes,
    filename: str | None = None,
    subtype: str | None = None,
    idstring: str = "img",
    domain: str | None = None,
) -> str:
    """Attach image ``content`` inline; return its Content-ID without brackets. Works with any Django backend.

    ``subtype`` ("png") is guessed from ``filename``, else from ``content``, when not given. ``domain`` ends the
    Content-ID; it is "inline" by default, so that the host's name stays at home.
    """
    if subtype is None:
        maintype, _, subtype = _guessed_type(content, filename).partition("/")
    else:
        maintype = "image"
    content_id = make_msgid(idstring, domain or "inline")
    # Django's own SMTP backend takes MIMEPart from 6.0 on, and MIMEBase before.
    part: Any = MIMEPart() if django.VERSION >= (6, 0) else MIMEBase(maintype, subtype)
    if isinstance(part, MIMEPart):
        part.set_content(content, maintype, subtype, disposition="inline", filename=filename, cid=content_id)
    else:
        from email.encoders import encode_base64

        part.set_payload(content)
        encode_base64(part)
        part.add_header("Content-Disposition", "inline", **({"filename": filename} if filename else {}))
        part.add_header("Content-ID", content_id)
    message.attach(part)
    return content_id[1:-1]


def _guessed_type(content: bytes, filename: str | None) -> str:
    if guessed := mimetypes.guess_type(filename or "")[0]:
        return guessed
    try:
        return MIMEImage(content).get_content_type()
    except TypeError:  # none of the kinds that Python knows
        return "application/octet-stream"
