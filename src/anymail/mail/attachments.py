"""Attachments in every form that Django accepts, as bytes with a type."""

from __future__ import annotations

import email.message
import mimetypes
from dataclasses import dataclass, field
from email.utils import collapse_rfc2231_value
from typing import Any

from django.core.mail import EmailMessage as DjangoMessage

from anymail.exceptions import AnymailSerializationError
from anymail.mail.text import force_text, refuse_controls
from anymail.wire import Base64

__all__ = ["Attachment", "attachment"]

DEFAULT_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Attachment:
    """One attachment: ``content`` in bytes, ``mimetype`` without parameters, ``content_type`` with them.

    ``name`` is "" when it has none; ``content_id`` is without angle brackets, "" when it has none.
    """

    name: str
    content: bytes = field(repr=False)
    mimetype: str = DEFAULT_TYPE
    content_type: str = DEFAULT_TYPE
    content_id: str = ""
    inline: bool = False
    charset: str | None = None

    @property
    def base64(self) -> Base64:
        """The content for a JSON body."""
        return Base64(self.content)

    @property
    def utf8_content(self) -> bytes:
        """A text's content re-encoded in UTF-8, anything else as it is."""
        if not self.mimetype.startswith("text/"):
            return self.content
        header = email.message.Message()
        header["Content-Type"] = self.content_type
        try:
            charset = self.charset or header.get_content_charset() or "utf-8"
            return self.content.decode(charset).encode("utf-8")
        except (LookupError, ValueError):
            return self.content


def attachment(item: Any, where: str) -> Attachment:
    """Read one item of a message's ``attachments``; ``where`` names it in errors.

    Raises AnymailSerializationError for what is not an attachment, AnymailInvalidValue for control
    characters in its name, type or Content-ID.
    """
    # Python's EmailMessage serves for a part, too; only a message has a sender.
    is_message = isinstance(item, email.message.EmailMessage) and "From" in item
    if isinstance(item, email.message.Message) and not is_message:
        read = _from_mime(item)
    elif is_message or isinstance(item, DjangoMessage):
        read = _from_parts("", item, "message/rfc822", where)
    else:
        try:
            name, content, mimetype = item
        except (TypeError, ValueError):
            raise AnymailSerializationError(
                f"{where} is of type {type(item).__name__}, which is not an attachment."
            ) from None
        read = _from_parts(name, content, mimetype, where)
    for what, value in (("name", read.name), ("type", read.content_type), ("Content-ID", read.content_id)):
        refuse_controls(value, f"{where}: its {what}")
    return read


def _from_parts(name: Any, content: Any, mimetype: Any, where: str) -> Attachment:
    filename = force_text(name) if name else ""
    mimetype = force_text(mimetype) if mimetype else mimetypes.guess_type(filename)[0] or DEFAULT_TYPE
    bare = mimetype.partition(";")[0].strip()
    if isinstance(content, DjangoMessage):
        content = content.message()
    if isinstance(content, email.message.Message):
        return Attachment(filename, content.as_bytes(), bare, mimetype)
    if isinstance(content, (bytes, bytearray, memoryview)):
        return Attachment(filename, bytes(content), bare, mimetype)
    try:
        text = force_text(content)
    except TypeError:
        raise AnymailSerializationError(
            f"{where} has content of type {type(content).__name__}: give it bytes or str."
        ) from None
    if bare == mimetype and bare.startswith("text/"):
        mimetype = f'{mimetype}; charset="utf-8"'
    return Attachment(filename, text.encode("utf-8"), bare, mimetype, charset="utf-8")


def _from_mime(part: email.message.Message[Any, Any]) -> Attachment:
    disposition = part.get_content_disposition()
    content_id = str(part.get("Content-ID", "")).strip().strip("<>")
    content_type = part.get_content_type()
    charset = part.get_content_charset()
    parameters = "".join(
        f'; {key}="{collapse_rfc2231_value(value)}"'
        for key, value in (part.get_params(failobj=[]) or [])[1:]
        if key.lower() not in ("name", "boundary") and value
    )
    return Attachment(
        part.get_filename() or "",
        _mime_content(part),
        content_type,
        content_type + parameters,
        content_id,
        disposition == "inline" or (disposition is None and bool(content_id)),
        charset,
    )


def _mime_content(part: email.message.Message[Any, Any]) -> bytes:
    if not part.is_multipart():
        payload = part.get_payload(decode=True)
        return payload if isinstance(payload, bytes) else b""
    if part.get_content_maintype() == "message":
        inner = part.get_payload()
        return b"".join(one.as_bytes() for one in inner if isinstance(one, email.message.Message))
    return part.as_bytes()
