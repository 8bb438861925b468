"""MailerSend's side of the sandbox: /v1/email, and /v1/bulk-email with its status.

A field that MailerSend does not document is refused, though MailerSend itself may take no notice of it.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Iterator
from mimetypes import guess_type
from secrets import token_hex
from typing import Any

from anymail.esps.kit.sandbox import (
    Letter,
    Refusal,
    Reply,
    SandboxESP,
    formatted,
    json_of,
    json_response,
    object_schema,
    rendered,
    violation,
)
from anymail.esps.mailersend.tracking import signature
from anymail.wire import Request, Response

API_TOKEN = "mlsn.sandbox-mailersend-token"
SIGNING_SECRET = "sandbox-mailersend-signing-0001"
INBOUND_SECRET = "sandbox-mailersend-inbound-0001"

_STRING = {"type": "string"}
_EMAIL = {"type": "string", "pattern": r"^[!-?A-~]+@[!-?A-~]+\.[!-?A-~]+$"}


def _array(items: dict[str, Any], most: int = 1000, least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": items, "maxItems": most, "minItems": least}


_CONTACT = object_schema(["email"], email=_EMAIL, name=_STRING)
# https://developers.mailersend.com/api/v1/email.html, "Request parameters"
EMAIL: dict[str, Any] = object_schema(
    ["to"],
    **{"from": _CONTACT},
    to=_array(_CONTACT, 50, 1),
    cc=_array(_CONTACT, 10),
    bcc=_array(_CONTACT, 10),
    reply_to=_CONTACT,
    subject={"type": "string", "maxLength": 998},
    text={"type": "string", "maxLength": 2 * 1024 * 1024},
    html={"type": "string", "maxLength": 2 * 1024 * 1024},
    attachments=_array(
        object_schema(
            ["content", "disposition", "filename"],
            content=_STRING,
            disposition={"enum": ["inline", "attachment"]},
            filename={"type": "string", "minLength": 1},
            id=_STRING,
        )
    ),
    template_id=_STRING,
    tags=_array({"type": "string", "maxLength": 191}, 5),
    personalization=_array(object_schema(["email", "data"], email=_EMAIL, data={"type": "object"})),
    variables=_array(object_schema(["email", "substitutions"], email=_EMAIL, substitutions=_array({"type": "object"}))),
    precedence_bulk={"type": "boolean"},
    send_at={"type": "integer"},
    in_reply_to={"type": "string", "pattern": "^[^<>]+$"},
    references=_array(_STRING),
    settings=object_schema(
        [], track_clicks={"type": "boolean"}, track_opens={"type": "boolean"}, track_content={"type": "boolean"}
    ),
    headers=_array(
        object_schema(["name", "value"], name={"type": "string", "pattern": "^[A-Za-z0-9-]+$"}, value=_STRING)
    ),
    list_unsubscribe=_STRING,
)

# The same page, the file types that may be attached.
_ALLOWED_FILE = re.compile(
    r".*\.(txt|csv|log|css|ics|xml|jpg|jpe|jpeg|gif|png|bmp|psd|tif|tiff|svg|indd|ai|eps|doc|docx|rtf|odt|ott|pdf|pub"
    r"|pages|mobi|epub|mp3|m4a|m4v|wma|ogg|flac|wav|aif|aifc|aiff|mp4|mov|avi|mkv|mpeg|mpg|wmv|xls|xlsx|ods|numbers"
    r"|odp|ppt|pptx|pps|key|zip|vcf|eml|p7c|p7m|p7s|pgp|asc|sig)",
    re.IGNORECASE | re.DOTALL,
)
_TYPES = {"string": "be a string", "array": "be an array", "object": "be an array", "integer": "be an integer",
          "boolean": "be true or false"}  # fmt: skip
_WEBHOOK_TYPES = {"delivered": "delivered", "opened": "opened", "clicked": "clicked", "bounced": "hard_bounced",
                  "complained": "spam_complaint"}  # fmt: skip


def _refusal(field: str, text: str, code: int | None = None) -> Refusal:
    words = f"The {field} {text}" + (f" #MS{code}" if code else "")
    return Refusal(json_response(422, {"message": words, "errors": {field: [words]}}))


class MailerSendSandbox(SandboxESP):
    slug = "mailersend"
    routes = (
        ("POST", "/v1/email", "single"),
        ("POST", "/v1/bulk-email", "bulk"),
        ("GET", "/v1/bulk-email/(?P<bulk_id>[0-9a-f]+)", "bulk_status"),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._bulks: dict[str, dict[str, Any]] = {}

    def settings(self, url: str) -> dict[str, Any]:
        return {
            "MAILERSEND_API_TOKEN": API_TOKEN,
            "MAILERSEND_API_URL": f"{url}v1/",
            "MAILERSEND_SIGNING_SECRET": SIGNING_SECRET,
            "MAILERSEND_INBOUND_SECRET": INBOUND_SECRET,
        }

    def not_found(self, request: Request) -> Response:
        return json_response(404, {"message": "Resource not found."})

    def single(self, request: Request) -> Reply:
        email = self._body(request)
        self._check(email)
        letters = list(self._letters(email))
        suppressed = [address for address in _recipients(email) if _suppressed(address)]
        kind = "SOME" if letters else "ALL"
        headers = {"X-Message-Id": letters[0].message_id} if letters else {}
        if not suppressed:
            return Reply(Response(202, {"Content-Type": "text/html; charset=UTF-8", **headers}), letters)
        warning = {
            "type": f"{kind}_SUPPRESSED",
            "warning": f"{kind.title()} of the recipients have been suppressed.",
            "recipients": [
                {"email": one["email"], "name": one.get("name", ""), "reasons": ["hard_bounced"]} for one in suppressed
            ],
        }
        answer = {"message": "There are some warnings for your request.", "warnings": [warning]}
        return Reply(json_response(202, answer, headers), letters)

    def bulk(self, request: Request) -> Reply:
        """An email that is wrong refuses none of the others: the status tells of it."""
        emails = self._body(request)
        if not isinstance(emails, list) or not all(isinstance(email, dict) for email in emails):
            raise _refusal("message", "must be an array of emails.", 42230)
        if len(emails) > 500:
            raise _refusal("message", "must not have more than 500 items.", 42229)
        bulk_id, suppressed = self.new_id(), 0
        letters: list[Letter] = []
        errors: dict[str, Any] = {}
        for index, email in enumerate(emails):
            try:
                self._check(email)
            except Refusal as refusal:
                errors[f"message.{index}"] = refusal.response.json()["errors"]
            else:
                suppressed += sum(map(_suppressed, _recipients(email)))
                letters += self._letters(email)
        self._bulks[bulk_id] = {
            "id": bulk_id,
            "state": "completed",
            "total_recipients_count": len(letters) + suppressed,
            "suppressed_recipients_count": suppressed,
            "suppressed_recipients": None,
            "validation_errors_count": len(errors),
            "validation_errors": errors or None,
            "messages_id": list(dict.fromkeys(letter.message_id for letter in letters)),
            "created_at": self.now(),
            "updated_at": self.now(),
        }
        text = "The bulk email is being processed. Read the Email API to know how you can check the status."
        return Reply(json_response(202, {"message": text, "bulk_email_id": bulk_id}), letters)

    def bulk_status(self, request: Request, bulk_id: str) -> Reply:
        self._authenticate(request)
        if bulk_id not in self._bulks:
            return Reply(self.not_found(request))
        return Reply(json_response(200, {"data": self._bulks[bulk_id]}))

    def _authenticate(self, request: Request) -> None:
        if request.headers.get("Authorization") != f"Bearer {API_TOKEN}":
            raise Refusal(json_response(401, {"message": "Unauthenticated."}))

    def _body(self, request: Request) -> Any:
        self._authenticate(request)
        try:
            if request.headers.get("Content-Type", "").startswith("application/json"):
                return json_of(request)
        except ValueError:
            pass
        raise _refusal("body", "is not valid JSON.", 42227)

    def _check(self, email: Any) -> None:
        if broken := violation(EMAIL, email):
            raise _broken(*broken)
        if not email.get("template_id"):
            for field in ("from", "subject"):
                if not email.get(field):
                    raise _refusal(field, "field is required when template id is not present.", 42209)
            if not (email.get("html") or email.get("text")):
                raise _refusal("text", "field is required when neither html nor template id is present.", 42211)
        addresses = [one["email"].lower() for one in _recipients(email)]
        if len(set(addresses)) < len(addresses):
            raise _refusal("to", "has a duplicate recipient.", 42201)
        for index, personal in enumerate(email.get("personalization", ())):
            if personal["email"].lower() not in addresses:
                raise _refusal(f"personalization.{index}.email", "is not among the recipients.", 42217)
        for index, attachment in enumerate(email.get("attachments", ())):
            _check_attachment(attachment, f"attachments.{index}")
        wait = email.get("send_at", self.clock().timestamp()) - self.clock().timestamp()
        if wait < -1:
            raise _refusal("send_at", "must be a date after now.", 42218)
        if wait > 72 * 3600:
            raise _refusal("send_at", "must not be later than 72 hours from now.", 42219)

    def _letters(self, email: dict[str, Any]) -> Iterator[Letter]:
        message_id = self.new_id()
        data = {one["email"].lower(): one["data"] for one in email.get("personalization", ())}
        for recipient in _recipients(email):
            if _suppressed(recipient):
                continue
            values = data.get(recipient["email"].lower(), {})
            yield Letter(
                recipient=recipient["email"],
                message_id=message_id,
                from_email=formatted([email["from"]]) if "from" in email else "",
                to=formatted(email["to"]),
                cc=formatted(email.get("cc", [])),
                reply_to=formatted([email["reply_to"]]) if "reply_to" in email else "",
                subject=rendered(email.get("subject") or f"(template {email.get('template_id')})", values),
                text=rendered(email.get("text", ""), values),
                html=rendered(email.get("html", ""), values),
                headers={header["name"]: header["value"] for header in email.get("headers", ())},
                attachments=[
                    (one["filename"], guess_type(one["filename"])[0] or "", len(b64decode(one["content"])))
                    for one in email.get("attachments", ())
                ],
                tags=email.get("tags", []),
                template=email.get("template_id"),
                extra={"email_id": self.new_id(), "data": values},
            )

    def new_id(self) -> str:
        return token_hex(12)

    def event(self, kind: str, letter: Letter, url: str) -> Request:
        word = _WEBHOOK_TYPES[kind]
        browser = {"ip": "192.0.2.1", "country": "NL", "user_agent": "Mozilla/5.0 (Anymail sandbox)",
                   "device_type": "desktop", "browser": "Firefox"}  # fmt: skip
        meta: dict[str, Any] = {
            "opened": browser,
            "clicked": {**browser, "url": "https://example.com/"},
            "bounced": {"bounce_reason": "550 5.1.1 No such user", "bounce_code": 550, "bounce_type": "hard"},
        }
        data = {
            "id": self.new_id(),
            "domain_id": "sandbox",
            "message_id": letter.message_id,
            "email_id": letter.extra["email_id"],
            "type": "spam_complaints" if kind == "complained" else word,
            "subject": letter.subject,
            "recipient": letter.recipient,
            "tags": letter.tags or None,
            "meta": meta.get(kind, []),
        }
        call = {"type": f"activity.{word}", "created_at": self.now(), "data": data, "webhook_id": "sandbox"}
        # As PHP writes JSON.
        body = json.dumps(call, separators=(",", ":")).replace("/", "\\/").encode()
        headers = {"Content-Type": "application/json", "Signature": signature(SIGNING_SECRET, body)}
        return Request("POST", url, headers, body)


def _broken(where: str, rule: str, text: str) -> Refusal:
    """The refusal for a broken rule of the schema."""
    field = re.sub(r"\[(\d+)\]", r".\1", where)
    if rule == "required":
        return _refusal(f"{field}.{_quoted(text)}".lstrip("."), "field is required.", 42209)
    if rule == "additionalProperties":
        return _refusal(f"{field}.{_quoted(text)}".lstrip("."), "field is unknown.")
    if field.endswith(".email"):
        return _refusal(field, "must be a valid email address.", 42208)
    if rule in ("maxItems", "minItems") and field in ("to", "cc", "bcc"):
        return _refusal(field, "has too many or too few recipients.", 42205)
    if rule == "type":
        return _refusal(field or "message", f"must {_TYPES[text.rpartition('of type ')[2].strip(chr(39))]}.")
    return _refusal(field, f"is invalid ({rule}).")


def _quoted(text: str) -> str:
    """The last name that a sentence of jsonschema quotes."""
    names: list[str] = re.findall(r"'([^']+)'", text) or [text]
    return names[-1]


def _check_attachment(attachment: dict[str, Any], field: str) -> None:
    try:
        b64decode(attachment["content"], validate=True)
    except ValueError:
        raise _refusal(f"{field}.content", "must be encoded in base64.", 42215) from None
    if not _ALLOWED_FILE.fullmatch(attachment["filename"]):
        raise _refusal(f"{field}.filename", "is of a type that is not allowed.", 42210)


def _recipients(email: dict[str, Any]) -> list[dict[str, str]]:
    return [one for field in ("to", "cc", "bcc") for one in email.get(field, ())]


def _suppressed(recipient: dict[str, str]) -> bool:
    return recipient["email"].startswith("suppressed")
