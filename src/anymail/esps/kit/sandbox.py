"""What every ESP's folder is made of: its side of the sandbox, which stands in for the ESP's servers.

Pure as the rest: a call comes in as a ``Request`` and goes out as a ``Response``; a webhook call is a ``Request``.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from anymail.exceptions import AnymailImproperlyInstalled
from anymail.mail.addresses import EmailAddress, format_addresses
from anymail.wire import Request, Response

__all__ = [
    "FormFile", "Letter", "Refusal", "Reply", "SandboxESP", "addresses", "bare", "form_of", "formatted", "json_of",
    "json_response", "object_schema", "rendered", "violation",
]  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Letter:
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
    attachments: list[tuple[str, str, int]] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    template: str | None = None
    #: What else the ESP's webhooks need.
    extra: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class Reply:
    """The ESP's answer to a call, and the letters that it now has to deliver."""

    response: Response
    letters: Sequence[Letter] = ()


class Refusal(Exception):
    """The ESP refuses the call with this answer."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.text)
        self.response = response


class SandboxESP:
    """Stands in for one ESP.

    A subclass states ``slug`` and ``routes`` (method, path as a regular expression, and the method that answers),
    and writes those, ``settings`` and ``event``. Its answers are in the ESP's words.
    """

    slug: ClassVar[str]
    routes: ClassVar[Sequence[tuple[str, str, str]]]
    #: The kinds of event that ``event`` can tell of.
    events: ClassVar[frozenset[str]] = frozenset({"delivered", "opened", "clicked", "bounced", "complained"})

    def __init__(self, clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)) -> None:
        self.clock = clock

    def settings(self, url: str) -> dict[str, Any]:
        """The ANYMAIL settings that lead a project's mail here; ``url`` is that of this ESP in the sandbox."""
        raise NotImplementedError

    def event(self, kind: str, letter: Letter, url: str) -> Request:
        """The webhook call, authentic and to ``url``, that tells of an event of one letter."""
        raise NotImplementedError

    def not_found(self, request: Request) -> Response:
        """The answer to a call that this ESP's API does not have."""
        return Response(404, {"Content-Type": "text/plain"}, b"Not Found")

    def answer(self, request: Request, path: str) -> Reply:
        """Answer one call; ``path`` is that of the ESP's API, ``request.url`` the whole URL as it was called."""
        for method, pattern, name in self.routes:
            match = re.fullmatch(pattern, path)
            if match and method == request.method:
                try:
                    reply: Reply = getattr(self, name)(request, **match.groupdict())
                except Refusal as refusal:
                    return Reply(refusal.response)
                return reply
        return Reply(self.not_found(request))

    def new_id(self) -> str:
        return str(uuid.uuid4())

    def now(self, digits: int = 6) -> str:
        """The time in ISO 8601, in UTC, with so many digits after the seconds."""
        time = self.clock().astimezone(dt.UTC)
        return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond * 10:07}"[: 20 + digits] + "Z"


def json_response(status: int, content: Any, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON."""
    import json

    body = json.dumps(content, ensure_ascii=False).encode()
    return Response(status, {"Content-Type": "application/json", **(headers or {})}, body)


def json_of(request: Request) -> Any:
    """The JSON body of a call. Raises ValueError when it is none."""
    import json

    return json.loads(bytes(request.body))


@dataclass(frozen=True, slots=True)
class FormFile:
    """One file of a multipart form."""

    field: str
    filename: str
    content_type: str
    content: bytes


def form_of(request: Request) -> tuple[list[tuple[str, str]], list[FormFile]]:
    """The fields and files of a form, urlencoded or multipart, in order. Raises ValueError when it is none."""
    content_type = request.headers.get("Content-Type", "")
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
        parameters = dict(re.findall(r'(\w+)="([^"]*)"', headers["content-disposition"]))
        if "filename" in parameters:
            kind = headers.get("content-type", "application/octet-stream")
            files.append(FormFile(parameters["name"], parameters["filename"], kind, content))
        else:
            fields.append((parameters["name"], content.decode("utf-8")))
    return fields, files


def violation(schema: Mapping[str, Any], value: Any) -> tuple[str, str, str] | None:
    """The first way in which ``value`` breaks a JSON schema: where, which rule, and in words. None: it keeps it."""
    error = next(
        iter(sorted(_validator(_Frozen(schema)).iter_errors(value), key=lambda e: list(map(str, e.path)))), None
    )
    if error is None:
        return None
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path).lstrip(".")
    return where, str(error.validator), error.message


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
    try:
        from jsonschema import Draft202012Validator
    except ImportError:
        raise AnymailImproperlyInstalled("jsonschema", "sandbox") from None
    return Draft202012Validator(schema.schema)


def bare(address: str) -> str:
    """The bare address of a formatted one, leniently."""
    from email.utils import parseaddr

    return parseaddr(address)[1]


def addresses(value: str) -> list[EmailAddress]:
    """The addresses of a comma-separated list. Raises AnymailInvalidAddress."""
    from anymail.mail.addresses import parse_addresses

    return list(parse_addresses(value, "address"))


def formatted(people: Iterable[Mapping[str, str]]) -> str:
    """Those that a call has as objects with ``email`` and ``name``, as one header value."""
    return format_addresses(EmailAddress(one.get("name", ""), one["email"]) for one in people)


def rendered(text: str, values: Mapping[str, Any], variable: str = r"\{\{\s*(\w+)\s*\}\}") -> str:
    """A template with its plain variables filled in; its blocks and filters are left as they are."""
    return re.sub(variable, lambda match: str(values.get(match[1], "")), text)


def object_schema(required: Sequence[str], **properties: Any) -> dict[str, Any]:
    """The JSON schema of an object that has these properties and no others."""
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
