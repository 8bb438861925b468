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
    STRING,
    JSONSandbox,
    Refusal,
    SandboxDelivery,
    SandboxResult,
    Violation,
    formatted,
    is_base64,
    is_suppressed,
    json_response,
    object_schema,
    rendered,
)
from anymail.esps.mailersend.tracking import signature
from anymail.wire import Request, Response

API_TOKEN = "mlsn.sandbox-mailersend-token"
SIGNING_SECRET = "sandbox-mailersend-signing-0001"
INBOUND_SECRET = "sandbox-mailersend-inbound-0001"

_EMAIL = {"type": "string", "pattern": r"^[!-?A-~]+@[!-?A-~]+\.[!-?A-~]+$"}


def _array(items: dict[str, Any], most: int = 1000, least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": items, "maxItems": most, "minItems": least}


_CONTACT = object_schema(["email"], email=_EMAIL, name=STRING)
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
            content=STRING,
            disposition={"enum": ["inline", "attachment"]},
            filename={"type": "string", "minLength": 1},
            id=STRING,
        )
    ),
    template_id=STRING,
    tags=_array({"type": "string", "maxLength": 191}, 5),
    personalization=_array(object_schema(["email", "data"], email=_EMAIL, data={"type": "object"})),
    variables=_array(object_schema(["email", "substitutions"], email=_EMAIL, substitutions=_array({"type": "object"}))),
    precedence_bulk={"type": "boolean"},
    send_at={"type": "integer"},
    in_reply_to={"type": "string", "pattern": "^[^<>]+$"},
    references=_array(STRING),
    settings=object_schema(
        [], track_clicks={"type": "boolean"}, track_opens={"type": "boolean"}, track_content={"type": "boolean"}
    ),
    headers=_array(
        object_schema(["name", "value"], name={"type": "string", "pattern": "^[A-Za-z0-9-]+$"}, value=STRING)
    ),
    list_unsubscribe=STRING,
)

# https://developers.mailersend.com/api/v1/email.html, the file types that may be attached.
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


class MailerSendSandbox(JSONSandbox):
    slug = "mailersend"
    routes = (
        ("POST", "/v1/email", "single"),
        ("POST", "/v1/bulk-email", "bulk"),
        ("GET", "/v1/bulk-email/(?P<bulk_id>[0-9a-f]+)", "bulk_status"),
    )
    not_found = json_response(404, {"message": "Resource not found."})
    credentials = "Authorization", f"Bearer {API_TOKEN}"
    unauthorized = json_response(401, {"message": "Unauthenticated."})
    malformed = wrong_content_type = _refusal("body", "is not valid JSON.", 42227).response

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

    def broken(self, broken: Violation) -> Refusal:
        field, rule = broken.dotted, broken.rule
        if rule == "required":
            return _refusal(field, "field is required.", 42209)
        if rule == "additionalProperties":
            return _refusal(field, "field is unknown.")
        if field.endswith(".email"):
            return _refusal(field, "must be a valid email address.", 42208)
        if rule in ("maxItems", "minItems") and field in ("to", "cc", "bcc"):
            return _refusal(field, "has too many or too few recipients.", 42205)
        if rule == "type":
            return _refusal(field or "message", f"must {_TYPES[broken.limit]}.")
        return _refusal(field, f"is invalid ({rule}).")

    def single(self, request: Request) -> SandboxResult:
        email = self.body(request, EMAIL)
        self._check(email)
        deliveries = list(self._deliveries(email))
        suppressed = [person for person in _recipients(email) if is_suppressed(person["email"])]
        kind = "SOME" if deliveries else "ALL"
        headers = {"X-Message-Id": deliveries[0].message_id} if deliveries else {}
        if not suppressed:
            return SandboxResult(Response(202, {"Content-Type": "text/html; charset=UTF-8", **headers}), deliveries)
        warning = {
            "type": f"{kind}_SUPPRESSED",
            "warning": f"{kind.title()} of the recipients have been suppressed.",
            "recipients": [
                {"email": person["email"], "name": person.get("name", ""), "reasons": ["hard_bounced"]}
                for person in suppressed
            ],
        }
        content = {"message": "There are some warnings for your request.", "warnings": [warning]}
        return SandboxResult(json_response(202, content, headers), deliveries)

    def bulk(self, request: Request) -> SandboxResult:
        """An email that is wrong refuses none of the others: the status tells of it."""
        emails = self.body(request)
        if not isinstance(emails, list) or not all(isinstance(email, dict) for email in emails):
            raise _refusal("message", "must be an array of emails.", 42230)
        if len(emails) > 500:
            raise _refusal("message", "must not have more than 500 items.", 42229)
        bulk_id, suppressed = self.new_id(), 0
        deliveries: list[SandboxDelivery] = []
        errors: dict[str, Any] = {}
        for index, email in enumerate(emails):
            try:
                self.validate(EMAIL, email)
                self._check(email)
            except Refusal as refusal:
                errors[f"message.{index}"] = refusal.response.json()["errors"]
            else:
                suppressed += sum(is_suppressed(person["email"]) for person in _recipients(email))
                deliveries += self._deliveries(email)
        self._bulks[bulk_id] = {
            "id": bulk_id,
            "state": "completed",
            "total_recipients_count": len(deliveries) + suppressed,
            "suppressed_recipients_count": suppressed,
            "suppressed_recipients": None,
            "validation_errors_count": len(errors),
            "validation_errors": errors or None,
            "messages_id": list(dict.fromkeys(delivery.message_id for delivery in deliveries)),
            "created_at": self.now(),
            "updated_at": self.now(),
        }
        text = "The bulk email is being processed. Read the Email API to know how you can check the status."
        return SandboxResult(json_response(202, {"message": text, "bulk_email_id": bulk_id}), deliveries)

    def bulk_status(self, request: Request, bulk_id: str) -> SandboxResult:
        self.authenticate(request)
        if bulk_id not in self._bulks:
            return SandboxResult(self.not_found)
        return SandboxResult(json_response(200, {"data": self._bulks[bulk_id]}))

    def _check(self, email: Any) -> None:
        if not email.get("template_id"):
            for field in ("from", "subject"):
                if not email.get(field):
                    raise _refusal(field, "field is required when template id is not present.", 42209)
            if not (email.get("html") or email.get("text")):
                raise _refusal("text", "field is required when neither html nor template id is present.", 42211)
        addresses = [person["email"].lower() for person in _recipients(email)]
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

    def _deliveries(self, email: dict[str, Any]) -> Iterator[SandboxDelivery]:
        message_id = self.new_id()
        data = {one["email"].lower(): one["data"] for one in email.get("personalization", ())}
        for recipient in _recipients(email):
            if is_suppressed(recipient["email"]):
                continue
            values = data.get(recipient["email"].lower(), {})
            yield SandboxDelivery(
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
                    (
                        attachment["filename"],
                        guess_type(attachment["filename"])[0] or "",
                        len(b64decode(attachment["content"])),
                    )
                    for attachment in email.get("attachments", ())
                ],
                tags=email.get("tags", []),
                template=email.get("template_id"),
                extra={"email_id": self.new_id(), "data": values},
            )

    def new_id(self) -> str:
        return token_hex(12)

    def event(self, kind: str, delivery: SandboxDelivery, url: str) -> Request:
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
            "message_id": delivery.message_id,
            "email_id": delivery.extra["email_id"],
            "type": "spam_complaints" if kind == "complained" else word,
            "subject": delivery.subject,
            "recipient": delivery.recipient,
            "tags": delivery.tags or None,
            "meta": meta.get(kind, []),
        }
        call = {"type": f"activity.{word}", "created_at": self.now(), "data": data, "webhook_id": "sandbox"}
        # As PHP writes JSON.
        body = json.dumps(call, separators=(",", ":")).replace("/", "\\/").encode()
        headers = {"Content-Type": "application/json", "Signature": signature(SIGNING_SECRET, body)}
        return Request("POST", url, headers, body)


def _check_attachment(attachment: dict[str, Any], field: str) -> None:
    if not is_base64(attachment["content"]):
        raise _refusal(f"{field}.content", "must be encoded in base64.", 42215)
    if not _ALLOWED_FILE.fullmatch(attachment["filename"]):
        raise _refusal(f"{field}.filename", "is of a type that is not allowed.", 42210)


def _recipients(email: dict[str, Any]) -> list[dict[str, str]]:
    return [person for field in ("to", "cc", "bcc") for person in email.get(field, ())]
