"""Attachments in every form that Django accepts, as bytes with a type."""

from __future__ import annotations

import email
import email.message
import mimetypes
import re
from dataclasses import dataclass, field, replace
from email.generator import BytesGenerator
from email.policy import compat32
from email.utils import collapse_rfc2231_value
from io import BytesIO
from pathlib import PurePath
from typing import Any

from django.core.mail import EmailMessage as DjangoMessage

from anymail.exceptions import AnymailSerializationError
from anymail.mail.text import force_text, refuse_controls
from anymail.wire import Base64

__all__ = ["Attachment", "attachment", "extension_of", "image_type"]

DEFAULT_TYPE = "application/octet-stream"

# What the extensions of files are is a fact of theirs, not of the host that sends them: its mime.types is not asked.
_EXTENSIONS = {
    "application/gzip": ".gz",
    "application/json": ".json",
    "application/msword": ".doc",
    "application/ogg": ".ogg",
    "application/pdf": ".pdf",
    "application/pkcs7-mime": ".p7m",
    "application/pkcs7-signature": ".p7s",
    "application/pgp-keys": ".asc",
    "application/pgp-signature": ".asc",
    "application/rtf": ".rtf",
    "application/vnd.ms-excel": ".xls",
    "application/vnd.ms-powerpoint": ".ppt",
    "application/vnd.oasis.opendocument.presentation": ".odp",
    "application/vnd.oasis.opendocument.spreadsheet": ".ods",
    "application/vnd.oasis.opendocument.text": ".odt",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/xhtml+xml": ".xhtml",
    "application/xml": ".xml",
    "application/zip": ".zip",
    "audio/aac": ".aac",
    "audio/flac": ".flac",
    "audio/mp4": ".m4a",
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
    "audio/wav": ".wav",
    "audio/x-wav": ".wav",
    "image/avif": ".avif",
    "image/bmp": ".bmp",
    "image/gif": ".gif",
    "image/heic": ".heic",
    "image/heif": ".heif",
    "image/jp2": ".jp2",
    "image/jpeg": ".jpg",
    "image/jpg": ".jpg",
    "image/png": ".png",
    "image/svg+xml": ".svg",
    "image/tiff": ".tiff",
    "image/vnd.microsoft.icon": ".ico",
    "image/webp": ".webp",
    "image/x-icon": ".ico",
    "message/delivery-status": ".txt",
    "message/rfc822": ".eml",
    "message/global": ".eml",
    "text/calendar": ".ics",
    "text/css": ".css",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/markdown": ".md",
    "text/plain": ".txt",
    "text/rtf": ".rtf",
    "text/tab-separated-values": ".tsv",
    "text/vcard": ".vcf",
    "text/x-vcard": ".vcf",
    "text/xml": ".xml",
    "video/mp4": ".mp4",
    "video/mpeg": ".mpeg",
    "video/quicktime": ".mov",
    "video/webm": ".webm",
}
# Of several types with one extension the first counts.
_IMAGE_TYPES: dict[str, str] = {".jpeg": "image/jpeg", ".jpe": "image/jpeg", ".tif": "image/tiff"}
for _type, _extension in _EXTENSIONS.items():
    if _type.startswith("image/"):
        _IMAGE_TYPES.setdefault(_extension, _type)


def extension_of(mimetype: str) -> str:
    """The usual extension of files of a type, with its dot; "" where there is none that everybody knows."""
    return _EXTENSIONS.get(mimetype.lower(), "")


@dataclass(frozen=True, slots=True)
class Attachment:
    """One attachment: ``content`` in bytes, ``mimetype`` without parameters, ``content_type`` with them.

    ``name`` is "" when it has none; ``content_id`` is without angle brackets, "" when it has none. A text has its
    charset in ``content_type`` where it is known, since without it is read as US-ASCII.
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
    def name_or_default(self) -> str:
        """``name``, or for an ESP that needs one "attachment" with the extension of the type."""
        return self.name or f"attachment{extension_of(self.mimetype)}"

    @property
    def in_utf8(self) -> Attachment:
        """A text re-encoded in UTF-8, for an ESP that labels every text so; anything else as it is."""
        content = self.utf8_content
        if content is self.content:
            return self
        return replace(self, content=content, content_type=_with_charset(self.content_type, "utf-8"), charset="utf-8")

    @property
    def utf8_content(self) -> bytes:
        """A text's content re-encoded in UTF-8; what is no text, or in no charset that is known, as it is."""
        charset = self.charset or "utf-8"
        if not self.mimetype.startswith("text/") or charset.lower() in ("utf-8", "us-ascii"):
            return self.content
        try:
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
    return _with_known_charset(read)


def _from_parts(name: Any, content: Any, mimetype: Any, where: str) -> Attachment:
    filename = force_text(name) if name else ""
    mimetype = force_text(mimetype) if mimetype else mimetypes.guess_type(filename)[0] or DEFAULT_TYPE
    bare = mimetype.partition(";")[0].strip().lower()
    if isinstance(content, DjangoMessage):
        content = content.message()
    if isinstance(content, email.message.Message):
        return Attachment(filename, _seven_bit(content), bare, mimetype)
    if isinstance(content, (bytes, bytearray, memoryview)):
        return Attachment(filename, bytes(content), bare, mimetype)
    try:
        text = force_text(content)
    except TypeError:
        raise AnymailSerializationError(
            f"{where} has content of type {type(content).__name__}: give it bytes or str."
        ) from None
    if bare.startswith("text/") and _charset(mimetype) != "utf-8":
        mimetype = _with_charset(mimetype, "utf-8")
    return Attachment(filename, text.encode("utf-8"), bare, mimetype, charset="utf-8")


def _seven_bit(message: email.message.Message[Any, Any]) -> bytes:
    """A message object written so that every server passes it on as it is."""
    given = message.as_bytes()
    if given.isascii():
        return given
    written = BytesIO()
    try:
        # From its bytes, since Django's own parts insist on 8-bit.
        BytesGenerator(written, policy=compat32.clone(cte_type="7bit")).flatten(email.message_from_bytes(given))
    except (LookupError, ValueError):  # a charset that is not what it says
        return given
    return written.getvalue()


# The charset parameter of a type, quoted or not.
_CHARSET = re.compile(r""";\s*charset\*?\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^;"]*)""", re.IGNORECASE)


def _charset(content_type: str) -> str | None:
    """The charset of a type, in lower case."""
    header = email.message.Message()
    header["Content-Type"] = content_type
    try:
        return header.get_content_charset()
    except (LookupError, ValueError):
        return None


def _with_charset(content_type: str, charset: str) -> str:
    """The type with that charset, in the place of any other."""
    return f'{_CHARSET.sub("", content_type)}; charset="{charset}"'


def _with_known_charset(read: Attachment) -> Attachment:
    """A text with its charset: what says none and can be read as UTF-8, of which ASCII is a part, is UTF-8."""
    if not read.mimetype.startswith("text/"):
        return read
    if charset := _charset(read.content_type):
        return read if read.charset == charset else replace(read, charset=charset)
    try:
        read.content.decode("utf-8")
    except ValueError:
        return read
    return replace(read, content_type=_with_charset(read.content_type, "utf-8"), charset="utf-8")


def _from_mime(part: email.message.Message[Any, Any]) -> Attachment:
    disposition = part.get_content_disposition()
    content_id = str(part.get("Content-ID", "")).strip().strip("<>")
    content_type = part.get_content_type()
    parameters = "".join(
        f'; {key}="{_quoted(collapse_rfc2231_value(value))}"'
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
    )


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


def _mime_content(part: email.message.Message[Any, Any]) -> bytes:
    if not part.is_multipart():
        payload = part.get_payload(decode=True)
        return payload if isinstance(payload, bytes) else b""
    if part.get_content_maintype() == "message":
        inner = part.get_payload()
        return b"".join(one.as_bytes() for one in inner if isinstance(one, email.message.Message))
    return part.as_bytes()


# The first bytes of image files. WebP and AVIF are told by what stands further on, SVG by its root element.
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"II+\x00", "image/tiff"),
    (b"MM\x00+", "image/tiff"),
    (b"\x00\x00\x01\x00", "image/vnd.microsoft.icon"),
)
# What may stand before the root element of XML; and that element.
_PROLOG = re.compile(rb"<\?[^>]*+>|<!DOCTYPE[^\[>]*+(?:\[[^\]]*+\]\s*+)?>|\s+|\xef\xbb\xbf", re.IGNORECASE)
_SVG = re.compile(rb"<(?:\w+:)?svg[\s>/]")


def image_type(content: bytes, filename: str = "") -> str | None:
    """The type of an image by its content, else by the extension of its name; None where neither says image."""
    return _sniffed(content) or _IMAGE_TYPES.get(PurePath(filename).suffix.lower())


def _sniffed(content: bytes) -> str | None:
    for magic, mimetype in _MAGIC:
        if content.startswith(magic):
            return mimetype
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    if content[4:8] == b"ftyp":
        # ISO base media: the major brand, a version, and the compatible brands, four bytes each.
        brands = content[8 : min(int.from_bytes(content[:4], "big"), 200)]
        return "image/avif" if {b"avif", b"avis"} & {brands[at : at + 4] for at in range(0, len(brands), 4)} else None
    return "image/svg+xml" if _is_svg(content) else None


def _is_svg(content: bytes) -> bool:
    at = 0
    while True:
        if content.startswith(b"<!--", at):
            end = content.find(b"-->", at + 4)
            at = end + 3 if end >= 0 else len(content)
        elif prolog := _PROLOG.match(content, at):
            at = prolog.end()
        else:
            return _SVG.match(content, at) is not None
