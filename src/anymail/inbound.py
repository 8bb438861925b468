"""Received mail: Python's ``EmailMessage``, with what it takes to handle mail from strangers."""

from __future__ import annotations

import datetime as dt
import mimetypes
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator, Mapping
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import EmailPolicy
from email.utils import getaddresses, parsedate_to_datetime
from functools import lru_cache
from inspect import signature
from typing import IO, Any, Self
from uuid import uuid4

from django.core.files.base import File
from django.core.files.uploadedfile import SimpleUploadedFile

from anymail.mail.addresses import EmailAddress

__all__ = ["AnymailInboundLimitError", "AnymailInboundMessage", "safe_filename"]

# Bounds within which Python's parser is fast and does not recurse too deep.
MAX_BYTES = 150 * 1024 * 1024
MAX_HEADER_BYTES = 1024 * 1024
MAX_NESTING = 100
MAX_STRUCTURED = 1_000
MAX_ADDRESSES = 100_000
MAX_PARTS = 2_000

_HEADER_BLOCK = re.compile(rb"(?:[!-9;-~]++[ \t]*+:[^\n]*+(?:\n|\Z)|[ \t][^\n]*+(?:\n|\Z))*+")
_HEADER_NAME = re.compile(r"[!-9;-~]+")
_BOUNDARY = re.compile(rb"(?i)\bboundary[*0-9]*\s*=")
_ENCODED_WORD = re.compile(r"=\?[^?\s]+\?[bBqQ]\?[^?\s]*\?=")
_LINE_BREAKS = re.compile(r"[\r\n]+[ \t]*")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# What Windows takes for a device, whatever its extension.
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(?:\.|$)")


class AnymailInboundLimitError(ValueError):
    """A received mail is larger, or more deeply nested, than any that a person sends."""


class _Policy(EmailPolicy):
    """``email.policy.default``, but a header that Python cannot parse, or not in good time, is a plain str."""

    def header_fetch_parse(self, name: str, value: Any) -> Any:
        return value if hasattr(value, "name") else _parsed_header(self, name, value)


@lru_cache(maxsize=1024)
def _parsed_header(policy: _Policy, name: str, value: str) -> Any:
    # Python's parser of structured headers is not linear.
    if len(value) <= MAX_STRUCTURED:
        try:
            return EmailPolicy.header_fetch_parse(policy, name, value)
        except Exception:  # noqa: S110
            pass
    text = _decoded(_unfolded(value))
    return text[:MAX_STRUCTURED] if name.lower().startswith("content-") else text


_POLICY = _Policy()


class AnymailInboundMessage(EmailMessage):
    """A received message, or a part of one. No property raises, however broken the mail is.

    What the ESP tells beside the message: ``envelope_sender`` and ``envelope_recipient`` (bare addresses),
    ``spam_score``, ``spam_detected``, ``stripped_text`` and ``stripped_html`` (without quotations and signature).
    Each is None when the ESP does not tell.
    """

    def __init__(self, policy: Any = None) -> None:
        super().__init__(policy or _POLICY)
        self.envelope_sender: str | None = None
        self.envelope_recipient: str | None = None
        self.spam_score: float | None = None
        self.spam_detected: bool | None = None
        self.stripped_text: str | None = None
        self.stripped_html: str | None = None

    @property
    def from_email(self) -> EmailAddress | None:
        """The first address in From, which anybody can forge."""
        return next(iter(self._addresses("from")), None)

    @property
    def to(self) -> list[EmailAddress]:
        return self._addresses("to")

    @property
    def cc(self) -> list[EmailAddress]:
        return self._addresses("cc")

    @property
    def bcc(self) -> list[EmailAddress]:
        return self._addresses("bcc")

    @property
    def subject(self) -> str | None:
        return None if self["Subject"] is None else _CONTROLS.sub(" ", str(self["Subject"]))

    @property
    def date(self) -> dt.datetime | None:
        """The Date header; naive if the sender does not tell the time zone (-0000), None if it cannot be read."""
        try:
            return parsedate_to_datetime(str(self["Date"]))
        except (TypeError, ValueError, IndexError, OverflowError):
            return None

    @property
    def text(self) -> str | None:
        """The text body; None when there is none."""
        return self._body_text("text/plain")

    @property
    def html(self) -> str | None:
        """The HTML body; None when there is none."""
        return self._body_text("text/html")

    @property
    def attachments(self) -> list[AnymailInboundMessage]:
        """The attached files, and whatever else is neither a body nor inline."""
        bodies = [self._body("text/plain"), self._body("text/html")]
        return [
            part
            for part in self._leaves()
            if not any(part is body for body in bodies)
            and not part.is_inline()
            and (part.is_attachment() or part.get_filename() or part.get_content_type() not in _BODIES)
        ]

    @property
    def inlines(self) -> list[AnymailInboundMessage]:
        """The parts that are shown within a body, images most of all."""
        bodies = [self._body("text/plain"), self._body("text/html")]
        return [part for part in self._leaves() if part.is_inline() and not any(part is body for body in bodies)]

    @property
    def content_id_map(self) -> dict[str, AnymailInboundMessage]:
        """Parts by the Content-ID (without brackets) under which an HTML body shows them as ``cid:``."""
        return {part.content_id: part for part in self._leaves() if part.content_id}

    @property
    def content_id(self) -> str | None:
        """The part's Content-ID, without brackets."""
        value = self["Content-ID"]
        return None if value is None else str(value).strip().strip("<>").strip()

    def is_attachment(self) -> bool:
        """Whether the part is marked as an attachment."""
        return self.get_content_disposition() == "attachment"

    def is_inline(self) -> bool:
        """Whether the part is marked inline, or has a Content-ID and no mark."""
        disposition = self.get_content_disposition()
        return disposition == "inline" or (disposition is None and bool(self.content_id))

    def get_filename(self, failobj: Any = None) -> Any:
        """The name that the sender gave the file, as it came: use ``safe_filename`` before it becomes a path."""
        name = super().get_filename(failobj)
        # RFC 2047 forbids encoded-words here; many senders use them all the same.
        return _decoded(name) if isinstance(name, str) else name

    def get_content_bytes(self) -> bytes:
        """The part's content, decoded from its transfer encoding; of an attached message, the message."""
        if self.is_multipart():
            inner = self.get_payload()
            return inner[0].as_bytes() if self.get_content_maintype() == "message" and inner else b""  # type: ignore[union-attr,index]
        try:
            content = self.get_payload(decode=True)
        except (ValueError, LookupError):
            return b""
        return content if isinstance(content, bytes) else b""

    def get_content_text(self, charset: str | None = None, errors: str = "replace") -> str:
        """The part's content as text, in ``charset`` or, without it, the declared one; an unknown one is UTF-8."""
        content = self.get_content_bytes()
        try:
            return content.decode(charset or self.get_content_charset() or "utf-8", errors)
        except (LookupError, UnicodeError):
            # An unknown charset, or a codec like "idna" that is none.
            return content.decode("utf-8", "replace")

    def as_uploaded_file(self) -> SimpleUploadedFile:
        """The part as Django has an uploaded file, under a safe name."""
        return SimpleUploadedFile(safe_filename(self.get_filename()), self.get_content_bytes(), self.get_content_type())

    @classmethod
    def parse_raw_mime(cls, source: str) -> Self:
        """Read a message from a str. Raises AnymailInboundLimitError."""
        return cls.parse_raw_mime_bytes(source.encode("utf-8", "surrogateescape"))

    @classmethod
    def parse_raw_mime_bytes(cls, source: bytes) -> Self:
        """Read a message from bytes. Raises AnymailInboundLimitError."""
        source = source.removeprefix(b"\xef\xbb\xbf")
        _check_limits(source)
        parts = 0

        def make_part(policy: Any = None) -> AnymailInboundMessage:
            nonlocal parts
            parts += 1
            if parts > MAX_PARTS:
                raise AnymailInboundLimitError(f"A received mail of over {MAX_PARTS} parts is refused.")
            return cls(policy)

        try:
            # The stubs know classes here; the parser calls whatever it gets.
            message: Any = BytesParser(make_part, policy=_POLICY).parsebytes(source)
        except RecursionError:
            raise AnymailInboundLimitError("A received mail with too many nested messages is refused.") from None
        received: Self = message
        return received

    @classmethod
    def parse_raw_mime_file(cls, fp: IO[bytes] | IO[str] | File[Any]) -> Self:
        """Read a message from a file, binary or text. Raises AnymailInboundLimitError."""
        source = fp.read(MAX_BYTES + 1)
        return cls.parse_raw_mime(source) if isinstance(source, str) else cls.parse_raw_mime_bytes(source)

    @classmethod
    def construct(
        cls,
        raw_headers: str | None = None,
        from_email: str | None = None,
        to: str | None = None,
        cc: str | None = None,
        bcc: str | None = None,
        subject: str | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        text: str | None = None,
        text_charset: str = "utf-8",
        html: str | None = None,
        html_charset: str = "utf-8",
        attachments: Iterable[AnymailInboundMessage] | None = None,
    ) -> Self:
        """Put a message together from what an ESP parsed.

        ``raw_headers``: a block of header lines; ``headers``: names and values in Unicode; the others, as they stand
        in a header, take the place of those. ``attachments`` are parts that ``construct_attachment`` made.
        """
        message = cls()
        raw = BytesParser(cls, policy=_POLICY).parsebytes((raw_headers or "").encode("utf-8"), headersonly=True)
        given = headers.items() if isinstance(headers, Mapping) else headers or ()
        for name, value in [*raw.raw_items(), *given]:
            # The structure is made anew.
            made_anew = name.lower().startswith("content-") or name.lower() == "mime-version"
            if not made_anew and _HEADER_NAME.fullmatch(name):
                message.set_raw(name, _raw(value))
        for name, value in {"From": from_email, "To": to, "Cc": cc, "Bcc": bcc, "Subject": subject}.items():
            if value is not None:
                del message[name]
                message.set_raw(name, _raw(value))
        message.set_raw("MIME-Version", "1.0")
        bodies: list[AnymailInboundMessage] = [
            cls.construct_attachment(f"text/{subtype}", content, charset)
            for subtype, content, charset in (("plain", text, text_charset), ("html", html, html_charset))
            if content is not None
        ]
        for body in bodies:
            del body["Content-Disposition"]
        parts = list(attachments or ())
        inline = [part for part in parts if part.is_inline()]
        tree = cls._multipart("alternative", bodies)
        tree = cls._multipart("related", [*tree, *inline])
        tree = cls._multipart("mixed", [*tree, *(part for part in parts if not part.is_inline())])
        for part in tree:
            for name, value in part.raw_items():
                message.set_raw(name, value)
            message.set_payload(part.get_payload())
        return message

    @classmethod
    def construct_attachment(
        cls,
        content_type: str | None,
        content: str | bytes,
        charset: str | None = None,
        filename: str | None = None,
        content_id: str | None = None,
        base64: bool = False,
    ) -> Self:
        """Make a part that is an attachment, or inline if it has a ``content_id``.

        ``content`` is text (encoded in ``charset``, or UTF-8), bytes, or with ``base64`` either of them in base64.
        """
        if base64:
            content = _base64_decoded(content)
        elif isinstance(content, str):
            charset, content = _encoded(content, charset or "utf-8")
        part = cls()
        content_type = content_type or "application/octet-stream"
        declared = f'; charset="{charset}"' if charset and "charset=" not in content_type.lower() else ""
        part.set_raw("Content-Type", _raw(content_type) + declared)
        part.set_raw("Content-Transfer-Encoding", "base64")
        part.set_raw("Content-Disposition", "inline" if content_id else "attachment")
        if filename:
            part.set_param("filename", _CONTROLS.sub(" ", filename), "Content-Disposition")
        if content_id:
            part.set_raw("Content-ID", f"<{_raw(content_id).strip('<>')}>")
        part.set_payload(b64encode(content).decode("ascii"))
        return part

    @classmethod
    def construct_attachment_from_uploaded_file(cls, file: File[Any], content_id: str | None = None) -> Self:
        """Make a part from a file that an ESP posted, inline if it has a ``content_id``."""
        return cls.construct_attachment(
            getattr(file, "content_type", None) or mimetypes.guess_type(file.name or "")[0] or "",
            file.read(),
            charset=getattr(file, "charset", None),
            filename=file.name,
            content_id=content_id,
        )

    @classmethod
    def _multipart(cls, subtype: str, parts: list[AnymailInboundMessage]) -> list[AnymailInboundMessage]:
        if len(parts) < 2:
            return parts
        whole = cls()
        whole.set_raw("Content-Type", f'multipart/{subtype}; boundary="anymail-{uuid4().hex}"')
        whole.set_payload(list[Any](parts))
        return [whole]

    def _addresses(self, name: str) -> list[EmailAddress]:
        values = [_unfolded(value)[:MAX_ADDRESSES] for key, value in self.raw_items() if key.lower() == name]
        words: list[str] = []

        def hide(word: re.Match[str]) -> str:
            # Whatever an encoded-word says is part of a name: it must not be read as an address or a comma.
            words.append(word[0])
            return f"\ue000{len(words) - 1}\ue001"

        def show(name: str) -> str:
            return _decoded(re.sub("\ue000([0-9]+)\ue001", lambda at: words[int(at[1])], name))

        found = _getaddresses([_ENCODED_WORD.sub(hide, value.translate(_NO_MARKS)) for value in values])
        return [EmailAddress(show(display_name), spec) for display_name, spec in found if "@" in spec]

    def _leaves(self) -> Iterator[AnymailInboundMessage]:
        """The parts that hold content; an attached message is one, whatever is in it."""
        if self.is_multipart() and self.get_content_maintype() == "multipart":
            for part in self.iter_parts():
                yield from part._leaves()  # type: ignore[attr-defined]
        else:
            yield self

    def _body_text(self, content_type: str) -> str | None:
        part = self._body(content_type)
        return None if part is None or part.get_payload() is None else part.get_content_text().replace("\r\n", "\n")

    def _body(self, content_type: str) -> AnymailInboundMessage | None:
        for part in self._leaves():
            if part.get_content_type() == content_type and not part.is_attachment() and not part.get_filename():
                return part
        return None


_BODIES = ("text/plain", "text/html")
# The marks that stand for an encoded-word.
_NO_MARKS = {0xE000: None, 0xE001: None}


def safe_filename(name: str | None, default: str = "attachment") -> str:
    """A name that can stand in any directory: no path, no control or bidirectional characters, no device name, and
    at most 255 bytes with its extension kept. ``default`` when nothing is left.
    """
    bare = _CONTROLS.sub("", re.split(r"[/\\:]", name or "")[-1].strip()).strip(". ")
    if not bare:
        return default
    if _RESERVED.match(bare):
        bare = f"_{bare}"
    stem, dot, extension = bare.rpartition(".")
    if not stem or len(extension.encode("utf-8", "replace")) > 50:
        stem, dot, extension = bare, "", ""
    room = 255 - len(f"{dot}{extension}".encode("utf-8", "replace"))
    return stem.encode("utf-8", "replace")[:room].decode("utf-8", "ignore") + dot + extension


def _check_limits(source: bytes) -> None:
    """Refuse what Python's parser would take too long for."""
    if len(source) > MAX_BYTES:
        raise AnymailInboundLimitError(f"A received mail of over {MAX_BYTES} bytes is refused.")
    header = _HEADER_BLOCK.match(source)
    if header is not None and header.end() > MAX_HEADER_BYTES:
        raise AnymailInboundLimitError(f"A received mail with a header of over {MAX_HEADER_BYTES} bytes is refused.")
    # It compares every line with the boundary of every open part.
    if len(_BOUNDARY.findall(source)) > MAX_NESTING:
        raise AnymailInboundLimitError(f"A received mail with over {MAX_NESTING} nested parts is refused.")


def _getaddresses(values: list[str]) -> list[tuple[str, str]]:
    """Python's reading of address headers, lenient where it can be asked to be."""
    try:
        return getaddresses(values, **_LENIENT)
    except (RecursionError, IndexError):
        return []


# From 3.11.10 on, one broken address would cost the others.
_LENIENT: dict[str, Any] = {"strict": False} if "strict" in signature(getaddresses).parameters else {}


def _unfolded(value: Any) -> str:
    """A header value as it came, on one line; raw 8-bit text is taken for UTF-8."""
    text = _LINE_BREAKS.sub(" ", str(value))
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").strip()


def _decoded(text: str) -> str:
    """RFC 2047 encoded-words as text."""
    # Python's decoder is not linear.
    if not 0 < text.count("=?") <= MAX_STRUCTURED:
        return text
    try:
        return _LINE_BREAKS.sub(" ", str(make_header(decode_header(text))))
    except (HeaderParseError, ValueError, LookupError, AssertionError):
        return text


def _raw(value: str) -> str:
    """A header value as Python's parser would have read it: on one line, 8-bit text as surrogates."""
    line = _LINE_BREAKS.sub(" ", str(value))
    return line.encode("utf-8", "surrogateescape").decode("ascii", "surrogateescape")


def _encoded(text: str, charset: str) -> tuple[str, bytes]:
    try:
        return charset, text.encode(charset, "replace")
    except (LookupError, UnicodeError):
        return "utf-8", text.encode("utf-8", "replace")


def _base64_decoded(content: str | bytes) -> bytes:
    """What can be read of base64, broken or not."""
    letters = re.sub(rb"[^A-Za-z0-9+/]", b"", content.encode() if isinstance(content, str) else content)
    letters = letters[: len(letters) - 1] if len(letters) % 4 == 1 else letters
    try:
        return b64decode(letters + b"=" * (-len(letters) % 4))
    except Base64Error:
        return b""
