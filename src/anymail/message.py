"""Messages with Anymail's attributes; inline images; and what became of a sent message."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from email.message import MIMEPart
from email.mime.base import MIMEBase
from email.utils import make_msgid
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import django
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.utils.functional import Promise

from anymail.mail.attachments import image_type
from anymail.mail.message import NeverSet
from anymail.mail.status import ANYMAIL_STATUSES, AnymailRecipientStatus, AnymailStatus

__all__ = [
    "ANYMAIL_STATUSES",
    "AnymailAttributes",
    "AnymailMessage",
    "AnymailMessageMixin",
    "AnymailRecipientStatus",
    "AnymailStatus",
    "attach_inline_image",
    "attach_inline_image_file",
    "status_of",
]


class AnymailAttributes(TypedDict, total=False):
    """Anymail's own attributes, as keywords: for the annotations of a class of your own."""

    envelope_sender: str | Promise | None
    metadata: Mapping[str, Any] | None
    merge_metadata: Mapping[str, Mapping[str, Any]] | None
    merge_headers: Mapping[str, Mapping[str, Any]] | None
    tags: list[str] | tuple[str, ...] | None
    track_opens: bool | None
    track_clicks: bool | None
    send_at: dt.datetime | dt.date | float | None
    template_id: str | int | Promise | None
    merge_data: Mapping[str, Mapping[str, Any]] | None
    merge_global_data: Mapping[str, Any] | None
    esp_extra: Mapping[str, Any] | None


# What an attribute that was never set reads as.
_UNSET: dict[str, Callable[[], Any]] = {
    "envelope_sender": NoneType, "metadata": dict, "merge_metadata": dict, "merge_headers": dict, "tags": list,
    "track_opens": NoneType, "track_clicks": NoneType, "send_at": NoneType, "template_id": NoneType,
    "merge_data": dict, "merge_global_data": dict, "esp_extra": dict,
}  # fmt: skip


class AnymailMessageMixin(EmailMessage):
    """Mix this into a subclass of ``EmailMessage`` to give its constructor Anymail's keywords.

    Any Django message may carry these attributes. One that is never set leaves the send default in force; read, it is
    None, or a list or dict that may be filled.
    """

    envelope_sender: str | None
    metadata: dict[str, Any] | None
    merge_metadata: dict[str, dict[str, Any]] | None
    merge_headers: dict[str, dict[str, Any]] | None
    tags: list[str] | None
    track_opens: bool | None
    track_clicks: bool | None
    send_at: dt.datetime | dt.date | float | None
    template_id: str | int | None
    merge_data: dict[str, dict[str, Any]] | None
    merge_global_data: dict[str, Any] | None
    esp_extra: dict[str, Any] | None
    #: Set by the backend when it starts on the message; empty until then.
    anymail_status: AnymailStatus

    # The class that this is mixed into may take any keywords of its own.
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        own = {name: kwargs.pop(name) for name in _UNSET if name in kwargs}
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
        content: bytes | str,
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


setattr(AnymailMessageMixin, NeverSet.MARK, True)
for _name, _make in _UNSET.items():
    setattr(AnymailMessageMixin, _name, NeverSet(_name, _make))


class AnymailMessage(AnymailMessageMixin, EmailMultiAlternatives):
    """An ``EmailMultiAlternatives`` whose constructor takes Anymail's attributes as keywords."""

    if TYPE_CHECKING:
        # For type checkers alone: what is not Anymail's is Django's, whose parameters change with its versions.
        def __init__(
            self,
            subject: str | Promise = "",
            body: str | Promise | None = "",
            from_email: str | Promise | None = None,
            to: list[str] | tuple[str, ...] | None = None,
            bcc: list[str] | tuple[str, ...] | None = None,
            connection: Any = None,
            attachments: Sequence[Any] | None = None,
            headers: Mapping[str, Any] | None = None,
            alternatives: Sequence[Any] | None = None,
            cc: list[str] | tuple[str, ...] | None = None,
            reply_to: list[str] | tuple[str, ...] | None = None,
            **kwargs: Unpack[AnymailAttributes],
        ) -> None: ...


def status_of(message: EmailMessage) -> AnymailStatus | None:
    """The ``anymail_status`` of any message, typed; None if no backend of Anymail's has started on it."""
    status = getattr(message, "anymail_status", None)
    return status if isinstance(status, AnymailStatus) else None


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
    content: bytes | str,
    filename: str | None = None,
    subtype: str | None = None,
    idstring: str = "img",
    domain: str | None = None,
) -> str:
    """Attach image ``content`` inline; return its Content-ID without brackets. Works with any Django backend.

    ``subtype`` ("png") is found from ``content``, else from ``filename``, when not given. ``domain`` ends the
    Content-ID; it is "inline" by default, so that the host's name stays at home. Text is taken for SVG's sake.
    Raises TypeError for what neither content nor name says to be an image.
    """
    content = content.encode() if isinstance(content, str) else bytes(content)
    if subtype is None:
        mimetype = image_type(content, filename or "")
        if mimetype is None:
            raise TypeError(
                "Neither the content nor the name of the file says which kind of image it is: give subtype."
            )
        subtype = mimetype.removeprefix("image/")
    content_id = make_msgid(idstring, domain or "inline")
    # Django's own SMTP backend takes MIMEPart from 6.0 on, and MIMEBase before.
    part: Any = MIMEPart() if django.VERSION >= (6, 0) else MIMEBase("image", subtype)
    if isinstance(part, MIMEPart):
        part.set_content(content, "image", subtype, disposition="inline", filename=filename, cid=content_id)
    else:
        from email.encoders import encode_base64

        part.set_payload(content)
        encode_base64(part)
        part.add_header("Content-Disposition", "inline", **({"filename": filename} if filename else {}))
        part.add_header("Content-ID", content_id)
    message.attach(part)
    return content_id[1:-1]
