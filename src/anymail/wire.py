"""One HTTP call as a value: what goes to an ESP and what comes back."""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
from base64 import b64encode
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import quote

from anymail.exceptions import AnymailSerializationError

__all__ = ["Base64", "Body", "Chunks", "File", "Flow", "Headers", "Request", "Response"]

T = TypeVar("T")

# The size from which content is encoded while it is sent, rather than before.
STREAM_FROM = 128 * 1024
# A multiple of three, so that the base64 of the pieces is the base64 of the whole.
_BASE64_STEP = 48 * 1024

DEFAULT_MAX_RESPONSE = 16 * 1024 * 1024


class Headers(Mapping[str, str]):
    """HTTP headers: names in any case, in the order and spelling they came; a repeated one is joined by ", "."""

    __slots__ = ("_items",)

    def __init__(self, headers: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        self._items: dict[str, tuple[str, str]] = {}
        for name, value in pairs:
            key = name.lower()
            if key in self._items:
                value = f"{self._items[key][1]}, {value}"
            self._items[key] = (name, value)

    def __getitem__(self, name: str) -> str:
        return self._items[name.lower()][1]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._items.values())

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._items

    def __repr__(self) -> str:
        return f"Headers({dict(self)!r})"


class Base64:
    """Bytes that stand in a JSON body as base64 text, encoded no earlier than they must be."""

    __slots__ = ("content",)

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __len__(self) -> int:
        return (len(self.content) + 2) // 3 * 4

    def __str__(self) -> str:
        return b64encode(self.content).decode("ascii")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Base64):
            return self.content == other.content
        return str(self) == other if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))

    def __repr__(self) -> str:
        return f"Base64(<{len(self.content)} bytes>)"

    def __iter__(self) -> Iterator[bytes]:
        view = memoryview(self.content)
        return (b64encode(view[i : i + _BASE64_STEP]) for i in range(0, len(view), _BASE64_STEP))


class Chunks:
    """A request body made while it is sent: iterate it as often as needed; its length in bytes is known."""

    __slots__ = ("_length", "_parts")

    def __init__(self, parts: Sequence[bytes | Base64]) -> None:
        self._parts = parts
        self._length = sum(map(len, parts))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            if isinstance(part, Base64):
                yield from part
            elif len(part) <= STREAM_FROM:
                yield part
            else:
                view = memoryview(part)
                for start in range(0, len(part), STREAM_FROM):
                    yield bytes(view[start : start + STREAM_FROM])

    def __bytes__(self) -> bytes:
        return b"".join(self)

    def without_first_byte(self) -> list[bytes | Base64]:
        """The parts, less the first byte of the first, which is bytes."""
        first, *others = self._parts
        return [first[1:] if isinstance(first, bytes) else first, *others]

    def __repr__(self) -> str:
        return f"Chunks(<{self._length} bytes>)"


Body = bytes | Chunks


# Headers, or what makes them. A function is called when the rest of the request stands, so that what reports errors
# finds no credential among the local variables of whatever can fail before.
HeaderSource = Mapping[str, str] | Callable[[], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class File:
    """One file of a multipart form: field name, file name, content type and content."""

    field: str
    filename: str
    content_type: str
    content: bytes = dataclasses.field(repr=False)


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, encoded and ready to go.

    ``body`` is bytes, or ``Chunks`` where it is large. ``idempotency_key`` is set when the ESP sends a message
    once however often it gets this request, ``idempotency_seconds`` when it remembers that only so long.
    ``max_response`` is the longest answer that is read, in bytes.
    """

    method: str
    url: str
    headers: Mapping[str, str] = dataclasses.field(repr=False, default_factory=dict)
    body: Body = dataclasses.field(repr=False, default=b"")
    idempotency_key: str | None = None
    idempotency_seconds: float | None = None
    max_response: int = DEFAULT_MAX_RESPONSE

    @classmethod
    def get(cls, url: str, *, headers: HeaderSource, max_response: int = DEFAULT_MAX_RESPONSE) -> Request:
        """A request that reads, and so may be repeated."""
        return cls("GET", url, headers() if callable(headers) else headers, max_response=max_response)

    @classmethod
    def post(
        cls,
        url: str,
        *,
        headers: HeaderSource,
        json: Any = None,
        secret_fields: Callable[[], Mapping[str, str]] | None = None,
        form: Iterable[tuple[str, str]] | None = None,
        files: Sequence[File] = (),
        multipart: bool = False,
        idempotency_key: str | None = None,
        idempotency_seconds: float | None = None,
    ) -> Request:
        """A POST with exactly one body: ``json``, or ``form`` (multipart if there are ``files``, or if asked for:
        that needs no escaping).

        Credentials come from functions, which are called last: in ``headers``, and in ``secret_fields`` for an ESP
        that wants them in the body: those go before the fields of ``json``, a dict that has at least one.

        Raises AnymailSerializationError, naming key and type, for a value that JSON cannot express.
        """
        if form is None:
            content_type, body = "application/json", json_body(json)
            if secret_fields is not None:
                body = _with_fields(body, secret_fields)
        elif files or multipart:
            content_type, body = _multipart(form, files)
        else:
            content_type = "application/x-www-form-urlencoded"
            body = "&".join(f"{_escaped(name, name)}={_escaped(value, name)}" for name, value in form).encode("ascii")
        return cls("POST", url, _with_content_type(headers, content_type), body, idempotency_key, idempotency_seconds)

    @property
    def reads(self) -> bool:
        """Whether it only reads: it sends nothing."""
        return self.method in ("GET", "HEAD")

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent again without knowing what became of it."""
        return self.reads or self.idempotency_key is not None


# A flow is an ESP's side of a conversation: it yields requests, receives responses, and returns a result.
Flow = Generator[Request, "Response", T]


class Response:
    """An ESP's answer: ``status_code``, ``headers`` (names in any case), ``content`` (bytes), ``reason``."""

    __slots__ = ("_headers", "content", "reason", "status_code")

    def __init__(
        self,
        status_code: int,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        content: bytes = b"",
        reason: str = "",
    ) -> None:
        self.status_code = status_code
        self._headers = headers
        self.content = content
        self.reason = reason

    @property
    def headers(self) -> Headers:
        """The answer's headers. They are read when they are first asked for, which is seldom."""
        if not isinstance(self._headers, Headers):
            self._headers = Headers(self._headers)
        return self._headers

    @property
    def ok(self) -> bool:
        return 200 <= self.status_code < 300

    @property
    def text(self) -> str:
        """The content as text, in UTF-8 as every ESP's API has it."""
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """The content read as JSON. Raises ValueError when it is not."""
        try:
            return json.loads(self.content)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None

    def __repr__(self) -> str:
        return f"<Response {self.status_code} {self.reason}".rstrip() + f", {len(self.content)} bytes>"

    def __reduce__(self) -> Any:
        return Response, (self.status_code, dict(self.headers), self.content, self.reason)


def json_body(payload: Any) -> Body:
    """Encode a JSON body; large ``Base64`` values in it are encoded only while they are sent."""
    try:
        return _COMPACT.encode(payload).encode("utf-8")
    except _LargeContent:
        return _json_chunks(payload)
    except (TypeError, ValueError, RecursionError) as error:
        raise unserializable(payload, error) from error


def _with_content_type(headers: HeaderSource, content_type: str) -> dict[str, str]:
    return {**(headers() if callable(headers) else headers), "Content-Type": content_type}


def _with_fields(body: Body, fields: Callable[[], Mapping[str, str]]) -> Body:
    """An encoded JSON object with these fields before its own."""
    return _spliced(_COMPACT.encode(fields()).encode("utf-8")[:-1] + b",", body)


def _spliced(start: bytes, body: Body) -> Body:
    return Chunks([start, *body.without_first_byte()]) if isinstance(body, Chunks) else start + body[1:]


class _LargeContent(Exception):
    """A value that is to be encoded while it is sent."""


def _small(value: Any) -> str:
    if not isinstance(value, Base64):
        raise TypeError(f"{type(value).__name__} is no JSON")
    if len(value) >= STREAM_FROM:
        raise _LargeContent
    return str(value)


_COMPACT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_small)


def _json_chunks(payload: Any) -> Chunks:
    large: list[Base64] = []
    # Unguessable, so that no text of the message can pass for one.
    mark = secrets.token_hex(16)

    def default(value: Any) -> str:
        try:
            return _small(value)
        except _LargeContent:
            large.append(value)
            return f"{mark}{len(large) - 1}{mark}"

    try:
        encoded = json.dumps(
            payload, default=default, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        ).encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise unserializable(payload, error) from error
    pieces: list[bytes | Base64] = []
    for position, piece in enumerate(encoded.split(mark.encode())):
        pieces.append(large[int(piece)] if position % 2 else piece)
    return Chunks(pieces)


def json_text(value: Any, what: str) -> str:
    """A JSON document inside a header or a form field: ASCII, on one line.

    ``what`` names it in the AnymailSerializationError for a value that JSON cannot express.
    """
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise unserializable(value, error, what) from error


def unserializable(payload: Any, error: Exception, path: str = "") -> AnymailSerializationError:
    """The error that names the first value that JSON cannot express, and where in ``payload`` it stands."""
    where, culprit = _culprit(payload, path) or (path or "the request", payload)
    return AnymailSerializationError(
        f"{where} is of type {type(culprit).__name__}, which cannot be sent ({error}). "
        "Convert it to a string, number, list or dict."
    )


def _culprit(value: Any, path: str, depth: int = 0) -> tuple[str, Any] | None:
    if depth > 50:
        return path, value
    children: Iterable[tuple[str, Any]] = ()
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, (str, int, float, bool, type(None))):
                return f"a key of {path or 'the request'}", key
        children = ((_child(path, key), child) for key, child in value.items())
    elif isinstance(value, (list, tuple)):
        children = ((f"{path}[{index}]", child) for index, child in enumerate(value))
    elif not _is_json(value):
        return path, value
    for child_path, child in children:
        found = _culprit(child, child_path, depth + 1)
        if found:
            return found
    return None


def _child(path: str, key: Any) -> str:
    """The path to a value, without addresses: no error names one."""
    name = "(address)" if isinstance(key, str) and "@" in key else str(key)
    return f"{path}.{name}" if path else name


def _is_json(leaf: Any) -> bool:
    if isinstance(leaf, Base64):
        return True
    try:
        json.dumps(leaf, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (TypeError, ValueError):
        return False
    return True


_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def _escaped(text: str, name: str) -> str:
    """``quote``, at a tenth of its cost: that looks at every byte, this at every character that there is."""
    special = set(text) - _UNRESERVED
    if len(special) > 100:
        return quote(_utf8(name, text), safe="")
    if "%" in special:
        text = text.replace("%", "%25")
    try:
        for character in special - {"%"}:
            text = text.replace(character, _escape(character))
    except UnicodeEncodeError as error:
        raise unserializable(text, error, name) from error
    return text


@lru_cache(maxsize=1024)
def _escape(character: str) -> str:
    return quote(character, safe="")


def _utf8(name: str, value: str) -> bytes:
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise unserializable(value, error, name) from error


_PLAIN_NAME = re.compile(r"[A-Za-z0-9:._%-]+")


def _form_name(name: str) -> str:
    """A name as a part's header has it: https://html.spec.whatwg.org/multipage/form-control-infrastructure.html#multipart-form-data"""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _multipart(form: Iterable[tuple[str, str]], files: Sequence[File]) -> tuple[str, Body]:
    boundary = secrets.token_hex(16)
    pieces: list[bytes] = []

    def add(name: str, filename: str | None, content_type: str | None, content: bytes) -> None:
        if filename is None and _PLAIN_NAME.fullmatch(name):
            header = f'Content-Disposition: form-data; name="{name}"\r\n\r\n'
        else:
            header = f'Content-Disposition: form-data; name="{_form_name(name)}"'
            if filename is not None:
                header += f'; filename="{_form_name(filename)}"\r\nContent-Type: {content_type}'
            header += "\r\n\r\n"
        pieces.extend((f"--{boundary}\r\n".encode() + _utf8(name, header), content, b"\r\n"))

    for name, value in form:
        add(name, None, None, _utf8(name, value))
    for file in files:
        add(file.field, file.filename, file.content_type, file.content)
    pieces.append(f"--{boundary}--\r\n".encode())
    size = sum(map(len, pieces))
    body: Body = Chunks(pieces) if size > STREAM_FROM else b"".join(pieces)
    return f"multipart/form-data; boundary={boundary}", body
