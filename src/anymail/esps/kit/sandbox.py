"""What every ESP's folder is made of: its side of the sandbox, which stands in for the ESP's servers.

Pure as the rest: a call comes in as a ``Request`` and goes out as a ``Response``; a webhook call is a ``Request``.
Idempotency keys are remembered, and nothing else.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
import threading
import uuid
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from anymail.exceptions import AnymailImproperlyInstalled, AnymailInvalidAddress
from anymail.mail.addresses import EmailAddress, format_addresses, parse_addresses
from anymail.wire import Headers, Request, Response

__all__ = [
    "BASE64", "STRING", "FormFile", "IdempotencyKeys", "JSONSandbox", "Refusal", "SandboxDelivery", "SandboxESP",
    "SandboxResult", "Violation", "addresses", "array_schema", "bare", "files_of", "form_of", "formatted", "is_address",
    "is_base64", "is_suppressed", "json_of", "json_response", "needs", "object_schema", "rendered", "violation",
]  # fmt: skip


File = tuple[str, str, int]


@dataclass(slots=True, kw_only=True)
class SandboxDelivery:
    """What one recipient would find in the mailbox, and what the ESP keeps with it."""

    recipient: str
    message_id: str
    from_email: str = ""
    #: The To, Cc and Reply-To that the recipient sees.
    to: str = ""
    cc: str = ""
    reply_to: str = ""
    subject: str = ""
    text: str = ""
    html: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    #: Name, type and size of each.
    attachments: list[File] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    template: str | None = None
    #: What else the ESP's webhooks need.
    extra: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """All of it as values of JSON."""
        return dataclasses.asdict(self)


@dataclass(slots=True)
class SandboxResult:
    """What a call leads to: the ESP's response, and the deliveries that the ESP now has to make."""

    response: Response
    deliveries: Sequence[SandboxDelivery] = ()


class Refusal(Exception):
    """The ESP refuses the call with this response."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.text)
        self.response = response


class SandboxESP:
    """Stands in for one ESP.

    A subclass states ``slug`` and ``routes`` (method, path as a regular expression, and the name of the method that
    makes the result), and writes those, ``settings`` and ``event``. Its responses are in the ESP's words.
    """

    slug: ClassVar[str]
    routes: ClassVar[Sequence[tuple[str, str, str]]]
    #: The response to a call that this ESP's API does not have.
    not_found: ClassVar[Response] = Response(404, {"Content-Type": "text/plain"}, b"Not Found")
    #: The kinds of event that ``event`` can report.
    events: ClassVar[frozenset[str]] = frozenset({"delivered", "opened", "clicked", "bounced", "complained"})

    def __init__(self, clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)) -> None:
        self.clock = clock
        self._one_call_at_a_time = threading.Lock()

    def settings(self, url: str) -> dict[str, Any]:
        """The ANYMAIL settings that lead a project's mail here; ``url`` is that of this ESP in the sandbox."""
        raise NotImplementedError

    def event(self, kind: str, delivery: SandboxDelivery, url: str) -> Request:
        """The webhook call, authentic and to ``url``, that reports an event of one delivery."""
        raise NotImplementedError

    def respond(self, request: Request, path: str) -> SandboxResult:
        """Respond to one call; ``path`` is that of the ESP's API, ``request.url`` the whole URL as it was called.

        The names of the call's headers may be in any case.
        """
        request = dataclasses.replace(request, headers=Headers(request.headers))
        for method, pattern, name in self.routes:
            match = re.fullmatch(pattern, path)
            if match and method == request.method:
                try:
                    with self._one_call_at_a_time:
                        result: SandboxResult = getattr(self, name)(request, **match.groupdict())
                except Refusal as refusal:
                    return SandboxResult(refusal.response)
                return result
        return SandboxResult(self.not_found)

    def new_id(self) -> str:
        return str(uuid.uuid4())

    def now(self, digits: int = 6) -> str:
        """The time in ISO 8601, in UTC, with so many digits after the seconds."""
        time = self.clock().astimezone(dt.UTC)
        return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond * 10:07}"[: 20 + digits] + "Z"


class JSONSandbox(SandboxESP):
    """Stands in for an ESP whose API takes JSON: ``body`` authenticates a call, reads it, and lays it beside a schema.

    A subclass says what the ESP responds to what is amiss; ``authenticate`` where more than one header is looked at.
    """

    #: The header with the credentials, and its value.
    credentials: ClassVar[tuple[str, str]]
    #: The response to a call with other credentials.
    unauthorized: ClassVar[Response]
    #: The response to a body that is not JSON.
    malformed: ClassVar[Response]
    #: The response to a call whose Content-Type is not JSON; None: this ESP does not look at it.
    wrong_content_type: ClassVar[Response | None] = None

    def broken(self, broken: Violation) -> Refusal:
        """The refusal of a body that breaks a rule of its schema."""
        raise NotImplementedError

    def authenticate(self, request: Request) -> None:
        """Raise the Refusal of a call without the right credentials."""
        name, value = self.credentials
        if request.headers.get(name) != value:
            raise Refusal(self.unauthorized)

    def body(self, request: Request, schema: Mapping[str, Any] | None = None) -> Any:
        """The JSON of a call that is authentic and keeps ``schema``. Raises Refusal for any other."""
        self.authenticate(request)
        if self.wrong_content_type and not request.headers.get("Content-Type", "").startswith("application/json"):
            raise Refusal(self.wrong_content_type)
        try:
            body = json_of(request)
        except ValueError:
            raise Refusal(self.malformed) from None
        if schema is not None:
            self.validate(schema, body)
        return body

    def validate(self, schema: Mapping[str, Any], value: Any) -> None:
        """Raise the Refusal of a value that does not keep ``schema``."""
        if broken := violation(schema, value):
            raise self.broken(broken)

    def each(
        self, items: Iterable[Any], take: Callable[[Any], SandboxResult]
    ) -> tuple[list[Any], list[SandboxDelivery]]:
        """What a batch leads to in which one that is refused stops no other: the JSON of each, and the deliveries."""
        contents: list[Any] = []
        deliveries: list[SandboxDelivery] = []
        for item in items:
            try:
                result = take(item)
            except Refusal as refusal:
                result = SandboxResult(refusal.response)
            contents.append(result.response.json())
            deliveries += result.deliveries
        return contents, deliveries


class IdempotencyKeys:
    """The idempotency keys of the last ``lifetime``, each with a value."""

    def __init__(self, lifetime: dt.timedelta) -> None:
        self._lifetime = lifetime
        self._kept: dict[str, tuple[dt.datetime, Any]] = {}

    def get(self, key: str, now: dt.datetime) -> Any:
        """The value that was kept with the key; None for a key that is not, or no longer, known."""
        self._kept = {key: kept for key, kept in self._kept.items() if now - kept[0] < self._lifetime}
        return self._kept[key][1] if key in self._kept else None

    def keep(self, key: str, now: dt.datetime, value: Any) -> None:
        self._kept[key] = (now, value)

    def claim(self, key: str, now: dt.datetime) -> bool:
        """Keep a key; False if it was kept before."""
        if self.get(key, now) is not None:
            return False
        self.keep(key, now, True)
        return True


# Calls and responses.


def json_response(status: int, content: Any, headers: Mapping[str, str] | None = None) -> Response:
    """A response in JSON."""
    body = json.dumps(content, ensure_ascii=False).encode()
    return Response(status, {"Content-Type": "application/json", **(headers or {})}, body)


def json_of(request: Request) -> Any:
    """The JSON body of a call. Raises ValueError when it is none."""
    try:
        return json.loads(bytes(request.body))
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


@dataclass(frozen=True, slots=True)
class FormFile:
    """One file of a multipart form."""

    field: str
    filename: str
    content_type: str
    content: bytes


def form_of(request: Request) -> tuple[list[tuple[str, str]], list[FormFile]]:
    """The fields and files of a form, urlencoded or multipart, in order. Raises ValueError when it is none."""
    content_type = Headers(request.headers).get("Content-Type", "")
    body = bytes(request.body)
    if content_type.startswith("application/x-www-form-urlencoded"):
        return parse_qsl(body.decode("utf-8"), keep_blank_values=True, strict_parsing=bool(body)), []
    if not content_type.startswith("multipart/form-data"):
        raise ValueError(f"{content_type!r} is not a form")
    # RFC 7578: the framing of MIME, with names in raw UTF-8 and content as it is.
    boundary = re.search(r'boundary="?([^";]+)', content_type)
    if boundary is None:
        raise ValueError("the form has no boundary")
    fields: list[tuple[str, str]] = []
    files: list[FormFile] = []
    for part in (b"\r\n" + body).split(f"\r\n--{boundary[1]}".encode())[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head.decode("utf-8").split("\r\n"))
        }
        parameters = dict(re.findall(r'(\w+)="([^"]*)"', headers.get("content-disposition", "")))
        if "name" not in parameters:
            raise ValueError("a part of the form has no name")
        if "filename" in parameters:
            kind = headers.get("content-type", "application/octet-stream")
            files.append(FormFile(parameters["name"], parameters["filename"], kind, content))
        else:
            fields.append((parameters["name"], content.decode("utf-8")))
    return fields, files


# Schemas.

STRING: dict[str, Any] = {"type": "string"}
BASE64: dict[str, Any] = {
    "type": "string",
    "pattern": r"\A(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z",
}


def object_schema(required: Sequence[str], **properties: Any) -> dict[str, Any]:
    """The JSON schema of an object that has these properties and no others."""
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def array_schema(items: Mapping[str, Any], **rules: Any) -> dict[str, Any]:
    """The JSON schema of an array of such items."""
    return {"type": "array", "items": items, **rules}


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule of a schema that a value breaks.

    ``path`` leads to what breaks it, which may be a property that is missing or not known. ``rule`` is the schema's
    keyword (``type``, ``required``, ``additionalProperties``, ``maxLength``), ``limit`` what the schema has with it.
    ``text`` says in words what is wrong, without the value.
    """

    path: tuple[str | int, ...]
    rule: str
    limit: Any
    text: str

    @property
    def field(self) -> str:
        """The last name of the path; "" for the whole value."""
        return next((step for step in reversed(self.path) if isinstance(step, str)), "")

    @property
    def where(self) -> str:
        """The path as in ``to[0].email``; "" for the whole value."""
        return _written(self.path, "[{}]")

    @property
    def dotted(self) -> str:
        """The path as in ``to.0.email``."""
        return _written(self.path, ".{}")

    @property
    def parent(self) -> str:
        """Where the object or array stands that holds it; as ``where``."""
        return _written(self.path[:-1], "[{}]")


def _written(path: Iterable[str | int], index: str) -> str:
    return "".join(index.format(step) if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def violation(schema: Mapping[str, Any], value: Any) -> Violation | None:
    """The first way in which ``value`` breaks a JSON schema. None: it keeps it."""
    errors = sorted(_validator(_Frozen(schema)).iter_errors(value), key=lambda error: list(map(str, error.path)))
    return _violation(errors[0]) if errors else None


def _violation(error: Any, before: tuple[str | int, ...] = ()) -> Violation:
    path, rule, limit = (*before, *error.path), str(error.validator), error.validator_value
    if rule in ("anyOf", "oneOf") and error.context:
        # Of the alternatives, the one that the value comes nearest to; the last where they are equally far.
        nearest = max(error.context, key=lambda one: (len(one.path), one.validator != "type", one.schema_path[0]))
        if nearest.validator != "type" or nearest.path:
            return _violation(nearest, path)
    if rule == "required":
        path = (*path, next(name for name in limit if name not in error.instance))
    elif rule == "additionalProperties":
        path = (*path, next(name for name in error.instance if not _is_known(name, error.schema)))
    return Violation(path, rule, limit, _TEXTS.get(rule, "is not valid").format(limit))


def _is_known(name: str, schema: Mapping[str, Any]) -> bool:
    patterns = schema.get("patternProperties", ())
    return name in schema.get("properties", ()) or any(re.search(pattern, name) for pattern in patterns)


_TEXTS = {
    "required": "is required",
    "additionalProperties": "is not a known field",
    "type": "must be of type {}",
    "enum": "must be one of {}",
    "pattern": "must match {}",
    "minLength": "must have {} or more characters",
    "maxLength": "must have at most {} characters",
    "minItems": "must have {} or more items",
    "maxItems": "must have at most {} items",
    "maxProperties": "must have at most {} fields",
    "uniqueItems": "must not have the same item twice",
    "propertyNames": "has a field with a name that is not allowed",
}


class _Frozen:
    """A schema as a key: the same object is the same schema."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema

    def __hash__(self) -> int:
        return id(self.schema)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Frozen) and other.schema is self.schema


@lru_cache(maxsize=256)
def _validator(schema: _Frozen) -> Any:
    with needs("jsonschema"):
        from jsonschema import Draft202012Validator
    return Draft202012Validator(schema.schema)


@contextmanager
def needs(package: str) -> Iterator[None]:
    """Around an import, or a function with imports: raises AnymailImproperlyInstalled where the package is missing."""
    try:
        yield
    except ModuleNotFoundError:
        raise AnymailImproperlyInstalled(package, "sandbox") from None


# Addresses and content.


def is_suppressed(address: str) -> bool:
    """Whether an address is on the ESP's suppression list: it begins with "suppressed"."""
    return address.lower().startswith("suppressed")


def is_address(text: str) -> bool:
    """Whether a text is one bare address."""
    try:
        return [address.addr_spec for address in addresses(text)] == [text]
    except AnymailInvalidAddress:
        return False


def bare(address: str) -> str:
    """The bare address of a formatted one, leniently."""
    from email.utils import parseaddr

    return parseaddr(address)[1]


def addresses(value: str) -> list[EmailAddress]:
    """The addresses of a comma-separated list. Raises AnymailInvalidAddress."""
    return list(parse_addresses(value, "address"))


def formatted(people: Iterable[Mapping[str, str]]) -> str:
    """Those that a call has as objects with ``email`` and ``name``, as one header value."""
    return format_addresses(EmailAddress(person.get("name") or "", person["email"]) for person in people)


def files_of(files: Iterable[Mapping[str, Any]] | None, name: str, content_type: str, content: str) -> list[File]:
    """Name, type and size of attachments in base64, which a call has under these names."""
    return [
        (file.get(name) or "", file.get(content_type) or "", len(b64decode(file.get(content) or "")))
        for file in files or ()
    ]


def is_base64(text: str) -> bool:
    """Whether a text is base64, and nothing else."""
    try:
        b64decode(text, validate=True)
    except ValueError:
        return False
    return True


def rendered(text: str, values: Mapping[str, Any], variable: str = r"\{\{\s*(\w+)\s*\}\}") -> str:
    """A template with its plain variables filled in; its blocks and filters are left as they are."""
    return re.sub(variable, lambda match: str(values.get(match[1], "")), text)
