"""Unisender Go's side of the sandbox: /email/send.json.

Its account may do what needs the approval of Unisender Go's support, and owns every domain. A field that Unisender Go
does not document is refused, though Unisender Go itself may take no notice of it.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator
from email.header import decode_header, make_header
from typing import Any

from anymail.esps.kit.sandbox import (
    STRING,
    IdempotencyKeys,
    JSONSandbox,
    Refusal,
    SandboxDelivery,
    SandboxResult,
    Violation,
    array_schema,
    files_of,
    is_base64,
    is_suppressed,
    json_of,
    json_response,
    object_schema,
)
from anymail.esps.kit.values import object_of
from anymail.esps.unisender_go.tracking import STATUS, signature
from anymail.exceptions import AnymailInvalidAddress
from anymail.mail.addresses import EmailAddress, parse_addresses
from anymail.wire import Request

API_KEY = "sandbox0unisender0go0api0key00000001"
API_PATH = "ru/transactional/api/v1/"

_SWITCH = {"enum": [0, 1]}
_EMAIL = {"type": "string", "pattern": r"^[!-?A-~]+@[!-?A-~]+\.[!-?A-~]+$"}
# Objects and arrays are for the template engines velocity and liquid.
_SUBSTITUTIONS = {
    "type": "object",
    "propertyNames": {"pattern": "^[A-Za-z][A-Za-z0-9_]*$"},
    "additionalProperties": {"type": ["string", "integer", "object", "array"]},
}
_METADATA = {
    "type": "object",
    "maxProperties": 10,
    "propertyNames": {"pattern": r"\S", "maxLength": 63},
    "additionalProperties": {"type": ["string", "integer"], "maxLength": 1024},
}
_FILES = array_schema(
    object_schema(
        ["type", "name", "content"],
        type={"type": "string", "minLength": 1},
        name={"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[^/]*$"},
        content={"type": "string", "maxLength": 9_786_710},
    )
)
# https://godocs.unisender.ru/web-api-ref#email-send
MESSAGE: dict[str, Any] = object_schema(
    ["recipients"],
    recipients=array_schema(
        object_schema(["email"], email=STRING, substitutions=_SUBSTITUTIONS, metadata=_METADATA),
        minItems=1,
        maxItems=500,
    ),
    template_id=STRING,
    tags=array_schema({"type": "string", "maxLength": 100}, maxItems=4, uniqueItems=True),
    skip_unsubscribe=_SWITCH,
    global_language={"enum": ["be", "de", "en", "es", "fr", "it", "kz", "pl", "pt", "ru", "ua"]},
    template_engine={"enum": ["simple", "velocity", "liquid", "none"]},
    global_substitutions=_SUBSTITUTIONS,
    global_metadata=_METADATA,
    body=object_schema([], html=STRING, plaintext=STRING, amp=STRING),
    subject=STRING,
    from_email=_EMAIL,
    from_name=STRING,
    reply_to=_EMAIL,
    reply_to_name=STRING,
    track_links=_SWITCH,
    track_read=_SWITCH,
    bypass_global=_SWITCH,
    bypass_unavailable=_SWITCH,
    bypass_unsubscribed=_SWITCH,
    bypass_complained=_SWITCH,
    headers={"type": "object", "maxProperties": 50, "additionalProperties": {"type": ["string", "number"]}},
    attachments=_FILES,
    inline_attachments=_FILES,
    options=object_schema(
        [],
        send_at={"type": "string", "pattern": r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$"},
        unsubscribe_url=STRING,
        custom_backend_id={"type": "integer"},
        smtp_pool_id=STRING,
    ),
    idempotence_key={"type": "string", "maxLength": 64},
)

# https://godocs.unisender.ru/web-api-ref#api-errors: the code of a broken rule of the schema, by where and which.
# The first that fits.
_CODES: tuple[tuple[str, int], ...] = (
    (r"recipients:maxItems", 1524),
    (r"\S*substitutions\S*:type", 212),
    (r"\S*substitutions", 1580),
    (r"\S*metadata:maxProperties", 217),
    (r"\S*metadata\S*:type", 216),
    (r"\S*metadata", 218),
    (r"recipients", 204),
    (r"tags:maxItems", 1532),
    (r"tags\S*:maxLength", 1534),
    (r"tags", 1535),
    (r"from_email", 205),
    (r"reply_to", 1519),
    (r"headers:maxProperties", 1507),
    (r"headers", 1506),
    (r"attachments\S*:pattern", 1590),
    (r"inline_attachments\S*:pattern", 1594),
    (r"attachments\S*\.content:required", 1592),
    (r"inline_attachments\S*\.content:required", 1596),
    (r"attachments\S*\.type:required", 1593),
    (r"inline_attachments\S*\.type:required", 1597),
    (r"attachments\S*\.name:maxLength", 10001),
    (r"inline_attachments\S*\.name:maxLength", 10002),
    (r"attachments|inline_attachments", 207),
    (r"options\.send_at", 1530),
    (r"idempotence_key:type", 3900),
    (r"idempotence_key", 1572),
    (r"", 201),
)
_HTTP_STATUSES = {101: 401, 102: 401, 114: 401, 199: 413}
_KEY_LIFE = dt.timedelta(minutes=1)
_REQUEST_LIMIT = 10 * 1024 * 1024
_TEMPLATE_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# The fields with substitutions, and the code of a bad one in each.
_SUBSTITUTED = {("body", "html"): 1516, ("body", "plaintext"): 1517, ("body", "amp"): 1518, ("subject",): 1546,
                ("from_name",): 1547, ("options", "unsubscribe_url"): 1549}  # fmt: skip
_VARIABLE = re.compile(r"\{\{([A-Za-z]\w*)(?:\|([^{}]*))?\}\}")
_BLANKS = re.compile(r"\{\{\s+\w+|\{\{\w+\s+\}\}")
_DISPLAYED = re.compile(r"x-.+|list-.+|in-reply-to|references", re.IGNORECASE)

_BROWSER = {"user_agent": "Mozilla/5.0 (Anymail sandbox)", "ip": "192.0.2.1", "country_code": "NL",
            "country": "Netherlands", "city": "Haarlem"}  # fmt: skip
_EVENTS: dict[str, dict[str, Any]] = {
    "delivered": {
        "status": "delivered",
        "delivery_info": {"delivery_status": "ok_delivered", "destination_response": "250 2.0.0 OK"},
    },
    "opened": {"status": "opened", "delivery_info": {"delivery_status": "ok_read", **_BROWSER}},
    "clicked": {
        "status": "clicked",
        "url": "https://example.com/",
        "delivery_info": {"delivery_status": "ok_link_visited", **_BROWSER},
    },
    "bounced": {
        "status": "hard_bounced",
        "delivery_info": {
            "delivery_status": "err_user_unknown",
            "destination_response": "550 5.1.1 Recipient address rejected: User unknown",
        },
    },
    "complained": {"status": "spam", "delivery_info": {"delivery_status": "ok_fbl"}},
}


def _refusal(code: int, text: str, **more: Any) -> Refusal:
    content = {"status": "error", "code": code, "message": text, **more}
    return Refusal(json_response(_HTTP_STATUSES.get(code, 400), content))


class UnisenderGoSandbox(JSONSandbox):
    slug = "unisender_go"
    routes = (("POST", r"/(?:ru|en)/transactional/api/v1/email/send\.json", "send"),)
    not_found = json_response(404, {"status": "error", "code": 104, "message": "Unknown method."})
    malformed = _refusal(111, "Can not parse JSON.").response

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._keys = IdempotencyKeys(_KEY_LIFE)

    def settings(self, url: str) -> dict[str, Any]:
        return {"UNISENDER_GO_API_KEY": API_KEY, "UNISENDER_GO_API_URL": f"{url}{API_PATH}"}

    def authenticate(self, request: Request) -> None:
        """The key is in a header or in the body."""
        if len(request.body) > _REQUEST_LIMIT:
            raise _refusal(199, "Request is too large.")
        try:
            key = request.headers.get("X-API-KEY") or object_of(json_of(request)).get("api_key")
        except ValueError:
            raise Refusal(self.malformed) from None
        if not key:
            raise _refusal(101, "API key is missing.")
        if key != API_KEY:
            raise _refusal(102, "Can not decode key.")

    def broken(self, broken: Violation) -> Refusal:
        code = next(code for pattern, code in _CODES if re.match(pattern, f"{broken.where}:{broken.rule}"))
        return _refusal(code, f"{broken.where or 'message'} {broken.text}.")

    def send(self, request: Request) -> SandboxResult:
        message = object_of(self.body(request)).get("message")
        if not isinstance(message, dict):
            raise _refusal(201, "The message is missing.")
        self.validate(MESSAGE, message)
        _check(message)
        self._check_time(message)
        addresses = [person["email"] for person in message["recipients"]]
        failed = {email: reason for email in addresses if (reason := _unavailable(email))}
        emails: list[str] = []
        duplicates: dict[str, str] = {}
        for email in addresses:
            if email.lower() in map(str.lower, emails):
                duplicates[email] = "duplicate"
            elif email not in failed:
                emails.append(email)
        if not emails:
            raise _refusal(204, "No valid recipients.", failed_emails=failed)
        key = message.get("idempotence_key")
        if key and not self._keys.claim(key, self.clock()):
            raise _refusal(1573, "The idempotence_key was used before.")
        job_id = self.new_id()
        content: dict[str, Any] = {"status": "success", "job_id": job_id, "emails": emails}
        if failed or duplicates:
            content["failed_emails"] = failed | duplicates
        return SandboxResult(json_response(200, content), list(_deliveries(message, emails, job_id)))

    def _check_time(self, message: dict[str, Any]) -> None:
        send_at = message.get("options", {}).get("send_at")
        if not send_at:
            return
        try:
            wait = dt.datetime.fromisoformat(send_at).replace(tzinfo=dt.UTC) - self.clock()
        except ValueError:
            raise _refusal(1530, f"options.send_at: '{send_at}' is not a time.") from None
        if wait > dt.timedelta(hours=24):
            raise _refusal(1525, "options.send_at is over 24 hours ahead.")
        if wait < dt.timedelta(seconds=-1):
            raise _refusal(1529, "options.send_at is in the past.")

    def event(self, kind: str, delivery: SandboxDelivery, url: str) -> Request:
        data = {
            "job_id": delivery.extra["job_id"],
            "metadata": delivery.metadata,
            "email": delivery.recipient,
            "event_time": f"{self.clock():%Y-%m-%d %H:%M:%S}",
            **_EVENTS[kind],
        }
        event = {"event_name": STATUS, "event_data": data}
        call = {"auth": API_KEY, "events_by_user": [{"user_id": 1, "events": [event]}]}
        # As PHP writes JSON.
        body = json.dumps(call, separators=(",", ":")).replace("/", "\\/").encode()
        signed = body.replace(API_KEY.encode(), signature(body).encode(), 1)
        return Request("POST", url, {"Content-Type": "application/json"}, signed)


def _check(message: dict[str, Any]) -> None:
    """Refuse a message that breaks a rule of the reference."""
    template, body = message.get("template_id"), message.get("body", {})
    if template:
        if not _TEMPLATE_ID.fullmatch(template):
            raise _refusal(1508, f"Template '{template}' is not found.")
    elif not message.get("from_email"):
        raise _refusal(202, "from_email is missing.")
    elif not message.get("subject", "").strip():
        raise _refusal(1576, "The subject is blank.")
    elif not any(body.values()):
        raise _refusal(1577, "The body is missing.")
    if not message.get("bypass_global") and any(message.get(f"bypass_{one}") for one in _BYPASSES):
        raise _refusal(1537, "bypass_global is needed.")
    if message.get("options", {}).get("smtp_pool_id") and not message["options"].get("custom_backend_id"):
        raise _refusal(227, "smtp_pool_id needs custom_backend_id.")
    _check_files(message)
    _check_displayed(message)
    if message.get("template_engine", "simple") == "simple":
        for path, code in _SUBSTITUTED.items():
            if _BLANKS.search(_at(message, path)):
                raise _refusal(code, f"Bad substitution in {'.'.join(path)}.")


_BYPASSES = ("unavailable", "unsubscribed", "complained")


def _check_files(message: dict[str, Any]) -> None:
    for field, twice in (("attachments", 1591), ("inline_attachments", 1595)):
        names = [file["name"] for file in message.get(field, ())]
        if len(set(names)) < len(names):
            raise _refusal(twice, f"{field}: two have the same name.")
        for file in message.get(field, ()):
            if not is_base64(file["content"]):
                raise _refusal(207, f"{field}: the content is not in base64.")


def _check_displayed(message: dict[str, Any]) -> None:
    """The rules of https://godocs.unisender.ru/cc-and-bcc."""
    headers = {name.lower(): str(value) for name, value in message.get("headers", {}).items()}
    if "cc" in headers and not headers.get("to"):
        raise _refusal(1556, "headers['Cc'] needs a non-empty To.")
    addresses = {one["email"].lower() for one in message["recipients"]}
    for name, many, stranger, syntax in (("to", 1554, 1555, 1561), ("cc", 1557, 1558, 1562)):
        displayed = _displayed(headers.get(name, ""))
        if displayed is None:
            raise _refusal(syntax, f"headers['{name}'] is not a list of addresses.")
        if len(displayed) > 10:
            raise _refusal(many, f"headers['{name}'] has over 10 addresses.")
        if not {address.addr_spec.lower() for address in displayed} <= addresses:
            raise _refusal(stranger, f"headers['{name}'] has an address that is not among the recipients.")


def _displayed(header: str) -> list[EmailAddress] | None:
    """The addresses of a To or Cc; None where Unisender Go cannot read it."""
    try:
        parsed = list(parse_addresses(header, "address"))
    except AnymailInvalidAddress:
        return None
    bad_name = any(re.search("[,<>@]", address.display_name) for address in parsed)
    return parsed if header.isascii() and not bad_name else None


def _unavailable(email: str) -> str | None:
    """Why Unisender Go does not send to an address."""
    if not re.fullmatch(_EMAIL["pattern"], email):
        return "invalid"
    return "permanent_unavailable" if is_suppressed(email) else None


def _deliveries(message: dict[str, Any], emails: list[str], job_id: str) -> Iterator[SandboxDelivery]:
    by_address = {one["email"]: one for one in reversed(message["recipients"])}
    headers = {name.lower(): str(value) for name, value in message.get("headers", {}).items()}
    plain = message.get("template_engine", "simple") == "simple"
    for email in emails:
        recipient = by_address[email]
        own = recipient.get("substitutions", {})
        substitutions = {**message.get("global_substitutions", {}), **own}

        def rendered(text: str, values: dict[str, Any] = substitutions) -> str:
            return _VARIABLE.sub(lambda match: str(values.get(match[1], match[2] or "")), text) if plain else text

        metadata = {**message.get("global_metadata", {}), **recipient.get("metadata", {})}
        template = message.get("template_id")
        sender = EmailAddress(rendered(message.get("from_name", "")), message.get("from_email", ""))
        reply_to = EmailAddress(_decoded(message.get("reply_to_name", "")), message.get("reply_to", ""))
        files = [*message.get("attachments", ()), *message.get("inline_attachments", ())]
        yield SandboxDelivery(
            recipient=email,
            message_id=metadata.get("anymail_id") or job_id,
            from_email=str(sender),
            to=_decoded(headers["to"]) if "to" in headers else str(EmailAddress(str(own.get("to_name", "")), email)),
            cc=_decoded(headers.get("cc", "")),
            reply_to=str(reply_to),
            subject=rendered(message.get("subject") or f"(template {template})"),
            text=rendered(_at(message, ("body", "plaintext"))),
            html=rendered(_at(message, ("body", "html"))),
            headers={
                name: rendered(_decoded(str(value)))
                for name, value in message.get("headers", {}).items()
                if _DISPLAYED.fullmatch(name)
            },
            attachments=files_of(files, "name", "type", "content"),
            metadata=metadata,
            tags=message.get("tags", []),
            template=template,
            extra={"job_id": job_id, "substitutions": substitutions},
        )


def _at(message: dict[str, Any], path: tuple[str, ...]) -> str:
    value: Any = message
    for name in path:
        value = value.get(name, {})
    return value or ""


def _decoded(header: str) -> str:
    """A header's value without its encoded-words."""
    return str(make_header(decode_header(header)))
