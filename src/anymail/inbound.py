"""Received mail: Python's ``EmailMessage``, with what it takes to handle mail from strangers."""

from __future__ import annotations

import datetime as dt
import mimetypes
import re
import warnings
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from email.message import EmailMessage
from email.policy import EmailPolicy
from functools import lru_cache
from typing import IO, Any, Self
from uuid import uuid4

from django.core.files.base import File
from django.core.files.uploadedfile import SimpleUploadedFile

from anymail.exceptions import AnymailDeprecationWarning
from anymail.mail.addresses import EmailAddress
from anymail.received.addresses import addresses_of
from anymail.received.bodies import Contents, contents_of, leaves_of
from anymail.received.charsets import decode, without_surrogates
from anymail.received.headers import CONTROLS, Parameters, date_of, file_name, parameters_of, raw, text_of, unfolded
from anymail.received.replies import split_reply
from anymail.received.reports import DeliveryReport, RecipientReport, delivery_report_of, is_auto_reply
from anymail.received.structure import (
    MAX_BYTES,
    MAX_HEADER_BYTES,
    MAX_NESTING,
    MAX_PARTS,
    AnymailInboundLimitError,
    Part,
    content_type_of,
    header_fields,
    structure_of,
)
from anymail.received.transfer import base64_decoded, decoded

__all__ = [
    "MAX_BYTES", "MAX_HEADER_BYTES", "MAX_NESTING", "MAX_PARTS",
    "AnymailInboundLimitError", "AnymailInboundMessage", "DeliveryReport", "RecipientReport", "safe_filename",
]  # fmt: skip

# Python's parser of structured headers is not linear.
MAX_STRUCTURED = 1_000

_HEADER_NAME = re.compile(r"[!-9;-~]+")
_MESSAGE_ID = re.compile(r"<([^<>\s]{1,998})>")
_ADDRESS_HEADERS = frozenset({"from", "to", "cc", "bcc", "reply-to", "sender", "resent-from", "resent-to", "resent-cc"})
_PARAMETER_HEADERS = frozenset({"content-type", "content-disposition"})
# What Windows takes for a device, whatever its extension.
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(?:\.|$)")


class _Policy(EmailPolicy):
    """``email.policy.default``, but each header is read as ``anymail.received`` reads it, and written as it came."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"refold_source": "none", "raise_on_defect": False, **kwargs})

    def header_fetch_parse(self, name: str, value: Any) -> Any:
        return value if hasattr(value, "name") else _parsed_header(self, name, str(value))

    def fold(self, name: str, value: Any) -> str:
        return self.fold_binary(name, value).decode("ascii", "surrogateescape")

    def fold_binary(self, name: str, value: Any) -> bytes:
        if hasattr(value, "fold"):
            try:
                return bytes(super().fold_binary(name, value))
            except Exception:  # noqa: S110
                pass
        lines = re.split(r"[\r\n]+", str(value))
        text = self.linesep.join([lines[0], *(f" {line.lstrip()}" for line in lines[1:] if line.strip())])
        return f"{name}: {text}{self.linesep}".encode("utf-8", "surrogateescape" if _escaped(text) else "replace")


def _escaped(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


@lru_cache(maxsize=1024)
def _parsed_header(policy: _Policy, name: str, value: str) -> Any:
    """Python's header object where it says what the mail says, else a str."""
    source = raw(value)
    kind = name.lower()
    if len(source) > MAX_STRUCTURED:
        return text_of(source)[:MAX_STRUCTURED] if kind in _PARAMETER_HEADERS else text_of(source)
    try:
        header = EmailPolicy.header_fetch_parse(policy, name, source)
        str(header)
    except Exception:
        header = None
    if kind in _ADDRESS_HEADERS:
        return _address_header(policy, name, source, header)
    text = text_of(source)
    if kind in _PARAMETER_HEADERS or kind in ("date", "resent-date", "mime-version", "content-transfer-encoding"):
        return text if header is None else header
    return header if header is not None and str(header) == text else text


def _address_header(policy: _Policy, name: str, source: str, header: Any) -> Any:
    found = addresses_of(unfolded(source), one=name.lower() in ("from", "sender"))
    specs = [one.addr_spec for one in found]
    try:
        if header is not None and [(one.display_name, one.addr_spec) for one in header.addresses] == [
            (one.display_name, one.addr_spec) for one in found
        ]:
            return header
        plain = ", ".join(_quoted(one) for one in found)
        if plain:
            # A str assigned is parsed: of what is quoted, nothing is taken for an address.
            again = policy.header_factory(name, plain)
            if [one.addr_spec for one in again.addresses] == specs:
                return again
    except Exception:  # noqa: S110
        pass
    return text_of(source)


def _quoted(address: EmailAddress) -> str:
    name = address.display_name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{name}" <{address.addr_spec}>' if name else address.addr_spec


_POLICY = _Policy()


class AnymailInboundMessage(EmailMessage):
    """A received message, or a part of one. No property and no method raises, however broken the mail is.

    What the ESP tells beside the message: ``envelope_sender`` and ``envelope_recipient`` (bare addresses),
    ``spam_score``, ``spam_detected``, ``stripped_text`` and ``stripped_html`` (without quotations and signature).
    Each is None when the ESP does not tell.
    """

    # Python's own, which its stubs do not show.
    _payload: Any
    _headers: list[Any]

    def __init__(self, policy: Any = None) -> None:
        super().__init__(policy or _POLICY)
        self.envelope_sender: str | None = None
        self.envelope_recipient: str | None = None
        self.spam_score: float | None = None
        self.spam_detected: bool | None = None
        self.stripped_text: str | None = None
        self.stripped_html: str | None = None
        self._came: tuple[Part, list[Any], Any] | None = None
        self._between_texts = False

    # Who and what

    @property
    def from_email(self) -> EmailAddress | None:
        """The first address in From, which anybody can forge. What stands in angle brackets is the address."""
        return next(iter(self._addresses("from", one=True)), None)

    @property
    def to(self) -> list[EmailAddress]:
        """The addresses in To."""
        return self._addresses("to")

    @property
    def cc(self) -> list[EmailAddress]:
        """The addresses in Cc."""
        return self._addresses("cc")

    @property
    def bcc(self) -> list[EmailAddress]:
        """The addresses in Bcc, which few messages have."""
        return self._addresses("bcc")

    @property
    def subject(self) -> str | None:
        """The subject on one line; None without one."""
        return self._header("subject")

    @property
    def date(self) -> dt.datetime | None:
        """The Date header, aware, in UTC where it names no zone; None if it cannot be read."""
        value = self._raw("date")
        return None if value is None else date_of(value)

    @property
    def in_reply_to(self) -> str | None:
        """The Message-ID, without brackets, of the message that this one answers."""
        return next(iter(self._message_ids("in-reply-to")), None)

    @property
    def references(self) -> list[str]:
        """The Message-IDs, without brackets, of the thread so far, the oldest first."""
        return self._message_ids("references")

    @property
    def thread_id(self) -> str | None:
        """The Message-ID, without brackets, of the first message of the thread, as far as this one tells."""
        return next(iter([*self.references, *self._message_ids("in-reply-to"), *self._message_ids("message-id")]), None)

    # What it says

    @property
    def text(self) -> str | None:
        """The text body, of all text parts that are no attachments; None when there is none."""
        return self._bodies()[0]

    @property
    def html(self) -> str | None:
        """The HTML body, of all text parts that are no attachments; None when none of them is HTML."""
        return self._bodies()[1]

    @property
    def reply_text(self) -> str | None:
        """What the sender wrote, without the quotation below it: the ESP's ``stripped_text`` where it gives one.

        None without a text body. Needs ``anymail[replies]`` where the ESP strips nothing; raises
        AnymailImproperlyInstalled without.
        """
        if self.stripped_text is not None:
            return self.stripped_text
        text = self.text
        return None if text is None else split_reply(text)[0]

    @property
    def quoted_text(self) -> str | None:
        """The rest of ``text``: the quotation, and the line that introduces it. Empty when nothing is quoted.

        Together, ``reply_text`` and this are ``text``, unless the ESP gave a ``stripped_text``. Needs
        ``anymail[replies]``; raises AnymailImproperlyInstalled without.
        """
        text = self.text
        if text is None:
            return None
        if self.stripped_text is not None:
            stripped = self.stripped_text.strip()
            if stripped and text.lstrip().startswith(stripped):
                return text.lstrip()[len(stripped) :]
        return split_reply(text)[1]

    @property
    def delivery_report(self) -> DeliveryReport | None:
        """What a bounce or another delivery status notification reports; None when the message is none."""
        for part in leaves_of(self):
            if part.get_content_type() in ("message/delivery-status", "message/global-delivery-status"):
                return delivery_report_of(part.get_content_bytes())
        return None

    @property
    def is_auto_reply(self) -> bool:
        """Whether a machine answered (an absence notice, a bounce): nothing that should be answered by a machine."""
        if self.envelope_sender in ("", "<>"):
            return True
        return is_auto_reply(self._header, self.get_content_type(), self.delivery_report is not None)

    # What is in it

    @property
    def attachments(self) -> list[AnymailInboundMessage]:
        """The attached files, and whatever else is neither a body nor inline; those of attached messages too."""
        return contents_of(self).attachments

    @property
    def inlines(self) -> list[AnymailInboundMessage]:
        """The parts that are shown within a body, images most of all; those of attached messages too."""
        return contents_of(self).inlines

    @property
    def inline_attachments(self) -> dict[str, AnymailInboundMessage]:
        """The old name of ``content_id_map``."""
        warnings.warn("inline_attachments is now content_id_map.", AnymailDeprecationWarning, stacklevel=2)
        return self.content_id_map

    @property
    def content_id_map(self) -> dict[str, AnymailInboundMessage]:
        """Parts by the Content-ID (without brackets) under which an HTML body shows them as ``cid:``."""
        found: dict[str, AnymailInboundMessage] = {}
        contents = contents_of(self)
        for part in [*leaves_of(self), *contents.inlines, *contents.attachments]:
            if part.content_id:
                found.setdefault(part.content_id, part)
        return found

    @property
    def content_id(self) -> str | None:
        """The part's Content-ID, without brackets."""
        value = self._header("content-id")
        return None if value is None else value.strip("<> ")

    def is_attachment(self) -> bool:
        """Whether the part is marked as an attachment."""
        return self.get_content_disposition() == "attachment"

    def is_inline(self) -> bool:
        """Whether the part is marked inline, or not marked and has a Content-ID or is an image between texts."""
        disposition = self.get_content_disposition()
        return disposition == "inline" or (disposition is None and (bool(self.content_id) or self._between_texts))

    def is_inline_attachment(self) -> bool:
        """The old name of ``is_inline``."""
        warnings.warn("is_inline_attachment() is now is_inline().", AnymailDeprecationWarning, stacklevel=2)
        return self.is_inline()

    def iter_attachments(self) -> Iterator[Any]:
        """As Python has it; of a message that is one attachment and nothing else, that one."""
        try:
            found: list[Any] = list(super().iter_attachments())
        except Exception:
            found = self.attachments
        if self._parts() is None and self._body_type() is None and any(part is self for part in self.attachments):
            found = [self]
        yield from found

    # Parts

    def get_content_type(self) -> str:
        """The type, in lower case; of what is none, the default type."""
        return content_type_of(self._raw("content-type"), self.get_default_type())

    def get_content_maintype(self) -> str:
        return self.get_content_type().partition("/")[0]

    def get_content_subtype(self) -> str:
        return self.get_content_type().partition("/")[2]

    def get_content_disposition(self) -> str | None:
        """``attachment``, ``inline`` or what else the part is marked with, in lower case; None without a mark."""
        return self._parameters("content-disposition").value.strip("\"' ").lower() or None

    def get_params(self, failobj: Any = None, header: str = "content-type", unquote: bool = True) -> Any:
        if header.lower() not in self._names():
            return failobj
        found = self._parameters(header)
        return [(found.value, ""), *((name, text_of(value)) for name, value in found.parameters.items())]

    def get_param(self, param: str, failobj: Any = None, header: str = "content-type", unquote: bool = True) -> Any:
        value = self._parameters(header).parameters.get(param.lower())
        return failobj if value is None else text_of(value)

    def get_content_charset(self, failobj: Any = None) -> Any:
        value = self.get_param("charset")
        return failobj if not value else value.strip("\"' ").lower()

    def get_filename(self, failobj: Any = None) -> Any:
        """The name that the sender gave the file, without its path: use ``safe_filename`` before you store it."""
        for header, parameter in (("content-disposition", "filename"), ("content-type", "name")):
            name = file_name(self._parameters(header).parameters.get(parameter))
            if name:
                return name
        return failobj

    def get_payload(self, i: int | None = None, decode: bool = False) -> Any:
        if decode and not isinstance(self._payload, list):
            return None if self._payload is None else self._content()
        try:
            return super().get_payload(i, False) if i is not None else self._payload
        except (TypeError, IndexError, ValueError, LookupError):
            return None

    def get_content(self, *args: Any, **kwargs: Any) -> Any:
        """The content: text as str, an attached message as a message, all else in bytes."""
        kind = self.get_content_maintype()
        if kind == "text":
            return self.get_content_text(errors=kwargs.get("errors", args[0] if args else "replace"))
        children = self._parts()
        return children[0] if kind == "message" and children else self.get_content_bytes()

    def get_content_bytes(self) -> bytes:
        """The part's content, decoded from its transfer encoding; of an attached message, the message as it came."""
        children = self._parts()
        if children is None:
            return self._content()
        if self.get_content_type() in _REPORTS and self._is_as_it_came():
            return self._came_part().content
        if self.get_content_maintype() == "message" and children:
            return children[0].as_bytes()
        return self._flattened_body() if self.get_content_maintype() == "message" else b""

    def get_content_text(self, charset: str | None = None, errors: str = "replace") -> str:
        """The part's content as text, in ``charset`` or, without it, the declared one.

        Labels mean what mail programs mean by them (the WHATWG's table); without one that is known, the content is
        taken for UTF-8, or windows-1252. ``errors="strict"`` raises UnicodeDecodeError for what cannot be decoded.
        """
        return decode(self.get_content_bytes(), charset or self.get_content_charset(), errors)

    def as_uploaded_file(self) -> SimpleUploadedFile:
        """The part as Django has an uploaded file, under a safe name."""
        return SimpleUploadedFile(safe_filename(self.get_filename()), self.get_content_bytes(), self.get_content_type())

    # As a whole

    def as_bytes(self, unixfrom: bool = False, policy: Any = None) -> bytes:
        """The message byte for byte as it came in, if nothing was changed; else the parts that were not."""
        source = self._source()
        line = (self.get_unixfrom() or "From nobody") + "\n" if unixfrom else ""
        return line.encode("ascii", "replace") + source

    def as_string(self, unixfrom: bool = False, maxheaderlen: int | None = None, policy: Any = None) -> str:
        """``as_bytes`` as text, with U+FFFD for what is not UTF-8."""
        return self.as_bytes(unixfrom).decode("utf-8", "replace")

    def __bytes__(self) -> bytes:
        return self.as_bytes()

    def __str__(self) -> str:
        return self.as_string()

    @classmethod
    def parse_raw_mime(cls, source: str) -> Self:
        """Read a message from a str. Raises AnymailInboundLimitError."""
        return cls.parse_raw_mime_bytes(_utf8(source))

    @classmethod
    def parse_raw_mime_bytes(cls, source: bytes) -> Self:
        """Read a message from bytes. Raises AnymailInboundLimitError."""
        return cls._from_part(structure_of(bytes(source).removeprefix(b"\xef\xbb\xbf")))

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
        block = header_fields(_utf8(raw_headers or ""))
        given = headers.items() if isinstance(headers, Mapping) else headers or ()
        for name, value in [*block, *given]:
            # The structure is made anew.
            made_anew = name.lower().startswith("content-") or name.lower() == "mime-version"
            if not made_anew and _HEADER_NAME.fullmatch(name):
                message.set_raw(name, raw(value))
        for name, value in {"From": from_email, "To": to, "Cc": cc, "Bcc": bcc, "Subject": subject}.items():
            if value is not None:
                del message[name]
                message.set_raw(name, raw(value))
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
            message._payload = part._payload
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
            content = base64_decoded(content if isinstance(content, bytes) else _utf8(content))
        elif isinstance(content, str):
            charset, content = _encoded(content, charset or "utf-8")
        part = cls()
        content_type = content_type or "application/octet-stream"
        declared = f'; charset="{charset}"' if charset and "charset=" not in content_type.lower() else ""
        part.set_raw("Content-Type", raw(content_type) + declared)
        part.set_raw("Content-Transfer-Encoding", "base64")
        part.set_raw("Content-Disposition", "inline" if content_id else "attachment")
        if filename:
            part.set_param("filename", CONTROLS.sub(" ", filename), "Content-Disposition")
        if content_id:
            part.set_raw("Content-ID", f"<{raw(content_id).strip('<>')}>")
        if part.get_content_maintype() == "message" and part.get_content_type() not in _REPORTS:
            # A message like one that came attached: never encoded as a whole (RFC 2046, 5.2.1).
            part.replace_header("Content-Transfer-Encoding", "8bit")
            part._payload = [cls.parse_raw_mime_bytes(content)]
        else:
            part._payload = b64encode(content).decode("ascii")
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
        whole._payload = list[Any](parts)
        return [whole]

    # How it is kept

    @classmethod
    def _from_part(cls, part: Part) -> Self:
        message = cls(_POLICY)
        message.set_unixfrom(part.unixfrom)  # type: ignore[arg-type]
        for name, value in part.fields:
            message.set_raw(name, value)
        if part.content_type == "message/rfc822" and "content-type" not in message._names():
            message.set_default_type("message/rfc822")
        if part.children is not None:
            parts = [cls._from_part(child) for child in part.children]
            message._payload = parts if parts else _ascii(part.content)
            if part.preamble_end is not None and part.preamble_end > part.body:
                message.preamble = _ascii(part.source[part.body : part.preamble_end])
            if part.epilogue is not None and part.epilogue < part.end:
                message.epilogue = _ascii(part.source[part.epilogue : part.end])
            if part.content_type == "multipart/mixed":
                _mark_between_texts(parts)
        elif part.content_type in _REPORTS:
            message._payload = [
                cls._block(block) for block in re.split(rb"\r*\n(?:[ \t\r]*\n)+", part.content, maxsplit=MAX_PARTS)
            ]
        else:
            message._payload = _ascii(part.content)
        payload = message._payload
        message._came = (part, list(message._headers), list(payload) if isinstance(payload, list) else payload)
        return message

    @classmethod
    def _block(cls, content: bytes) -> Self:
        """A block of a report: header fields and no body."""
        message = cls(_POLICY)
        for name, value in header_fields(content):
            message.set_raw(name, value)
        message._payload = ""
        return message

    def _came_part(self) -> Part:
        assert self._came is not None
        return self._came[0]

    def _is_as_it_came(self) -> bool:
        """Whether nobody changed this part or one within it."""
        waiting: list[Any] = [self]
        while waiting:
            each = waiting.pop()
            came = getattr(each, "_came", None)
            if came is None:
                if getattr(each, "_payload", None) == "" and each is not self:
                    continue
                return False
            _, headers, payload = came
            if each._headers != headers:
                return False
            if isinstance(payload, list):
                if not isinstance(each._payload, list) or len(each._payload) != len(payload):
                    return False
                if any(one is not other for one, other in zip(each._payload, payload, strict=True)):
                    return False
                waiting += payload
            elif each._payload is not payload:
                return False
        return True

    def _source(self) -> bytes:
        """The message in bytes: as it came, or what was changed put together anew."""
        if self._is_as_it_came():
            part = self._came_part()
            return part.source[part.start : part.end]
        self._make_boundary()
        headers = b"".join(self.policy.fold_binary(name, value) for name, value in self.raw_items())
        return headers + b"\n" + self._flattened_body()

    def _make_boundary(self) -> None:
        """Give a multipart a boundary if it has none."""
        is_multipart = isinstance(self._payload, list) and self.get_content_maintype() == "multipart"
        if is_multipart and not self._parameters("content-type").parameters.get("boundary", "").strip():
            kind = self.get_content_type()
            del self["Content-Type"]
            self.set_raw("Content-Type", f'{kind}; boundary="anymail-{uuid4().hex}"')

    def _flattened_body(self) -> bytes:
        if not isinstance(self._payload, list):
            return _utf8("" if self._payload is None else str(self._payload))
        parts = [
            part._source() if isinstance(part, AnymailInboundMessage) else _any_bytes(part) for part in self._payload
        ]
        if self.get_content_maintype() != "multipart":
            return (b"\n" if self.get_content_type() in _REPORTS else b"").join(parts)
        self._make_boundary()
        boundary = self._parameters("content-type").parameters["boundary"].rstrip()
        delimiter = _utf8(f"--{boundary}")
        preamble = _utf8(self.preamble) + b"\n" if self.preamble else b""
        body = b"".join(delimiter + b"\n" + part + b"\n" for part in parts)
        return preamble + body + delimiter + b"--\n" + _utf8(self.epilogue or "")

    def _parts(self) -> list[AnymailInboundMessage] | None:
        """The parts within this one; None where there can be none."""
        return [part for part in self._payload if isinstance(part, AnymailInboundMessage)] if (
            isinstance(self._payload, list)
        ) else None  # fmt: skip

    def _attached_messages(self) -> list[AnymailInboundMessage]:
        is_message = self.get_content_maintype() == "message" and self.get_content_type() not in _REPORTS
        return (self._parts() or []) if is_message else []

    def _content(self) -> bytes:
        """The content of a part without parts, decoded from its transfer encoding."""
        content = _utf8("" if self._payload is None else str(self._payload))
        encoding = unfolded(self._raw("content-transfer-encoding") or "").partition(";")[0].strip("\"' ").lower()
        found = decoded(content, encoding)
        if found is None and encoding in ("x-uuencode", "uuencode", "uue", "x-uue"):
            try:
                found = super().get_payload(decode=True)  # type: ignore[assignment]
            except Exception:
                found = None
        return found if isinstance(found, bytes) else content

    def _names(self) -> set[str]:
        return {name.lower() for name, _ in self.raw_items()}

    def _raw(self, name: str) -> str | None:
        """The first header of this name, as it came; ``name`` in lower case."""
        return next((str(value) for key, value in self.raw_items() if key.lower() == name), None)

    def _header(self, name: str) -> str | None:
        """The same as text, on one line."""
        value = self._raw(name)
        return None if value is None else text_of(value, self._hint(value))

    def _hint(self, value: str) -> str | None:
        """The charset of a body, which raw bytes in a header are in when they are not UTF-8."""
        if value.isascii():
            return None
        charsets = (part.get_content_charset() for part in leaves_of(self) if part.get_content_maintype() == "text")
        return next((charset for charset in charsets if charset), None)

    def _parameters(self, header: str) -> Parameters:
        return parameters_of(unfolded(self._raw(header.lower()) or ""))

    def _message_ids(self, name: str) -> list[str]:
        return list(dict.fromkeys(_MESSAGE_ID.findall(unfolded(self._raw(name) or "")[:MAX_HEADER_BYTES])))

    def _addresses(self, name: str, one: bool = False) -> list[EmailAddress]:
        values = [str(value) for key, value in self.raw_items() if key.lower() == name]
        return [found for value in values for found in addresses_of(unfolded(value), self._hint(value), one)]

    def _body_type(self) -> str | None:
        """text/plain or text/html for what can be a body; a multipart without parts is text."""
        kind = self.get_content_type()
        if kind.startswith("multipart/") and self._parts() is None:
            return "text/plain"
        return kind if kind in ("text/plain", "text/html") else None

    def _bodies(self) -> tuple[str | None, str | None]:
        contents: Contents = contents_of(self)
        if contents.bodies == [(self, None)] and self._payload is None:
            return None, None
        return contents.joined(_body_text)


_REPORTS = frozenset({"message/delivery-status", "message/global-delivery-status"})


def _body_text(part: AnymailInboundMessage) -> str:
    return part.get_content_text().replace("\r\n", "\n").replace("\0", "\ufffd")


def _mark_between_texts(parts: Sequence[AnymailInboundMessage]) -> None:
    """Images between the texts of a message (as iPhones write them) belong to what is read."""
    bodies = [
        at
        for at, part in enumerate(parts)
        if any(leaf._body_type() and not leaf.is_attachment() and not leaf.get_filename() for leaf in leaves_of(part))
    ]
    for part in parts[bodies[0] : bodies[-1]] if bodies else ():
        part._between_texts = part.get_content_maintype() == "image"


def _any_bytes(part: Any) -> bytes:
    try:
        return bytes(part)
    except Exception:
        return b""


def _ascii(content: bytes) -> str:
    return content.decode("ascii", "surrogateescape")


def _utf8(text: str) -> bytes:
    """The bytes of a str, of which surrogates may stand for bytes, and may not."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return without_surrogates(text).encode("utf-8")


def safe_filename(name: str | None, default: str = "attachment") -> str:
    """A name that can stand in any directory: no path, no control or bidirectional characters, no device name, and
    at most 255 bytes with its extension kept. ``default`` when nothing is left.
    """
    bare = CONTROLS.sub("", re.split(r"[/\\:]", name or "")[-1].strip()).strip(". ")
    if not bare:
        return default
    if _RESERVED.match(bare):
        bare = f"_{bare}"
    stem, dot, extension = bare.rpartition(".")
    if not stem or len(extension.encode("utf-8", "replace")) > 50:
        stem, dot, extension = bare, "", ""
    room = 255 - len(f"{dot}{extension}".encode("utf-8", "replace"))
    return stem.encode("utf-8", "replace")[:room].decode("utf-8", "ignore") + dot + extension


def _encoded(text: str, charset: str) -> tuple[str, bytes]:
    try:
        return charset, text.encode(charset, "replace")
    except (LookupError, UnicodeError):
        return "utf-8", text.encode("utf-8", "replace")
