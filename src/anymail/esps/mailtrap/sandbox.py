"""Mailtrap's side of the sandbox: /api/send and /api/batch, also with the number of a Mailtrap sandbox behind.

A field that Mailtrap does not document is refused, though Mailtrap itself may take no notice of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from anymail.esps.kit.sandbox import (
    STRING,
    JSONSandbox,
    Refusal,
    SandboxDelivery,
    SandboxResult,
    Violation,
    array_schema,
    files_of,
    formatted,
    is_base64,
    is_suppressed,
    json_response,
    object_schema,
)
from anymail.esps.mailtrap.tracking import signature
from anymail.wire import Request

API_TOKEN = "0123456789abcdef-sandbox-mailtrap"
TRACKING_SECRET = "5a4d6b0c73616e64626f782d6d747261"
INBOUND_SECRET = "5a4d6b0c73616e64626f782d6d74696e"

_TEXT = {"type": "string", "minLength": 1}
_STRINGS = {"type": "object", "additionalProperties": STRING}
_ADDRESS = object_schema(
    ["email"], email={"type": "string", "pattern": r"^[^\s<>@]+@[!-?A-~]+\.[!-?A-~]+$"}, name=STRING
)
_ADDRESSES = array_schema(_ADDRESS, maxItems=1000)
_ATTACHMENT = object_schema(
    ["filename", "content"],
    filename=_TEXT,
    content=_TEXT,
    type=STRING,
    disposition={"enum": ["inline", "attachment"]},
    content_id={"type": "string", "pattern": "^[^<>]+$"},
)
# https://docs.mailtrap.io/developers/email-sending/transactional, the bodies of /api/send and /api/batch
_BASE: dict[str, Any] = {
    "from": _ADDRESS,
    "reply_to": _ADDRESS,
    "attachments": array_schema(_ATTACHMENT),
    "headers": _STRINGS,
    "custom_variables": _STRINGS,
    "subject": _TEXT,
    "text": _TEXT,
    "html": _TEXT,
    "category": {"type": "string", "maxLength": 255},
    "template_uuid": {"type": "string", "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"},
    "template_variables": {"type": "object"},
}
EMAIL: dict[str, Any] = object_schema([], **_BASE, to=_ADDRESSES, cc=_ADDRESSES, bcc=_ADDRESSES)
BATCH: dict[str, Any] = object_schema(
    ["requests"],
    base=object_schema([], **_BASE),
    requests=array_schema({"type": "object"}, minItems=1, maxItems=500),
)

# What a template has of its own.
_NOT_WITH_TEMPLATE = ("subject", "text", "html", "category")
_BROWSER = {"ip": "192.0.2.1", "user_agent": "Mozilla/5.0 (Anymail sandbox)"}
_KINDS: dict[str, dict[str, Any]] = {
    "delivered": {"event": "delivery"},
    "opened": {"event": "open", **_BROWSER},
    "clicked": {"event": "click", **_BROWSER, "url": "https://example.com/"},
    "bounced": {
        "event": "bounce",
        "response": "550 5.1.1 No such user",
        "response_code": 550,
        "bounce_category": "badrecipient",
    },
    "complained": {"event": "spam"},
}


def _refusal(*errors: str, status: int = 400) -> Refusal:
    return Refusal(json_response(status, {"success": False, "errors": list(errors)}))


class MailtrapSandbox(JSONSandbox):
    slug = "mailtrap"
    routes = (
        ("POST", "/api/send(?:/(?P<sandbox_id>[^/]+))?", "single"),
        ("POST", "/api/batch(?:/(?P<sandbox_id>[^/]+))?", "batch"),
    )
    not_found = json_response(404, {"error": "Not Found"})
    malformed = wrong_content_type = _refusal("The body is not JSON.").response

    def settings(self, url: str) -> dict[str, Any]:
        return {
            "MAILTRAP_API_TOKEN": API_TOKEN,
            "MAILTRAP_API_URL": f"{url}api/",
            "MAILTRAP_TRACKING_SECRET": TRACKING_SECRET,
            "MAILTRAP_INBOUND_SECRET": INBOUND_SECRET,
        }

    def authenticate(self, request: Request) -> None:
        given = request.headers.get("Api-Token") or request.headers.get("Authorization", "").removeprefix("Bearer ")
        if given != API_TOKEN:
            raise _refusal("Unauthorized", status=401)

    def broken(self, broken: Violation) -> Refusal:
        if re.fullmatch(r"\w+(?:\[\d+\])?\.email", broken.where) and broken.rule != "required":
            field, *index = broken.path[:-1]
            return _refusal(" ".join([f"address is invalid in '{field}'", *map(str, index)]))
        if broken.rule in ("required", "additionalProperties"):
            what = {"required": "is required", "additionalProperties": "is not allowed"}[broken.rule]
            return _refusal(f"'{broken.field}' {what}" + (f" in '{broken.parent}'" if broken.parent else ""))
        return _refusal(f"'{broken.where or 'body'}' is invalid: it {broken.text}")

    def single(self, request: Request, sandbox_id: str | None) -> SandboxResult:
        return self._one(self.body(request), sandbox_id)

    def batch(self, request: Request, sandbox_id: str | None) -> SandboxResult:
        """A request that is wrong refuses none of the others."""
        body = self.body(request, BATCH)
        base = body.get("base", {})
        contents, deliveries = self.each(body["requests"], lambda own: self._one({**base, **own}, sandbox_id))
        return SandboxResult(json_response(200, {"success": True, "responses": contents}), deliveries)

    def _one(self, email: Any, sandbox_id: str | None) -> SandboxResult:
        """Take one message. Suppressed recipients are accepted, but get nothing."""
        self.validate(EMAIL, email)
        if errors := list(_errors(email)):
            raise _refusal(*errors)
        recipients = [person["email"] for field in ("to", "cc", "bcc") for person in email.get(field, ())]
        # A Mailtrap sandbox keeps one message, whoever it is for.
        ids = [self.new_id()] * len(recipients) if sandbox_id else [self.new_id() for _ in recipients]
        deliveries = [
            _delivery(email, recipient, message_id)
            for recipient, message_id in zip(recipients, ids, strict=True)
            if not is_suppressed(recipient)
        ]
        content = {"success": True, "message_ids": ids[:1] if sandbox_id else ids}
        return SandboxResult(json_response(200, content), deliveries)

    def event(self, kind: str, delivery: SandboxDelivery, url: str) -> Request:
        event = {
            **_KINDS[kind],
            "timestamp": int(self.clock().timestamp()),
            "sending_stream": "transactional",
            **({"category": delivery.tags[0]} if delivery.tags else {}),
            **({"custom_variables": delivery.metadata} if delivery.metadata else {}),
            "message_id": delivery.message_id,
            "email": delivery.recipient,
            "event_id": self.new_id(),
            "sending_domain_name": delivery.from_email.rpartition("@")[2].strip(">"),
        }
        body = json.dumps({"events": [event]}, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json", "Mailtrap-Signature": signature(TRACKING_SECRET, body)}
        return Request("POST", url, headers, body)


def _errors(email: dict[str, Any]) -> Iterator[str]:
    """All that is wrong with a message of the right shape."""
    if "from" not in email:
        yield "'from' is required"
    elif not email["from"]["email"].isascii():
        yield "'From' header does not match the sender's domain."
    if not any(email.get(field) for field in ("to", "cc", "bcc")):
        yield "at least one of 'to', 'cc' and 'bcc' is required"
    if "template_uuid" in email:
        yield from (f"'{field}' is not allowed with 'template_uuid'" for field in _NOT_WITH_TEMPLATE if field in email)
    else:
        if "subject" not in email:
            yield "'subject' is required"
        if "text" not in email and "html" not in email:
            yield "must specify either text or html body"
        if "template_variables" in email:
            yield "'template_variables' is not allowed without 'template_uuid'"
    if len(json.dumps(email.get("custom_variables", {}), ensure_ascii=False).encode()) > 1000:
        yield "'custom_variables' must not exceed 1000 bytes"
    for index, attachment in enumerate(email.get("attachments", ())):
        if not is_base64(attachment["content"]):
            yield f"content is not base64 in 'attachments' {index}"


def _delivery(email: dict[str, Any], recipient: str, message_id: str) -> SandboxDelivery:
    template = email.get("template_uuid")
    headers = dict(email.get("headers", {}))
    several = headers.pop("Reply-To", "")
    return SandboxDelivery(
        recipient=recipient,
        message_id=message_id,
        from_email=formatted([email["from"]]),
        to=formatted(email.get("to", [])),
        cc=formatted(email.get("cc", [])),
        reply_to=several or formatted([email["reply_to"]] if "reply_to" in email else []),
        subject=email.get("subject", f"(template {template})"),
        text=email.get("text", ""),
        html=email.get("html", ""),
        headers=headers,
        attachments=files_of(email.get("attachments"), "filename", "type", "content"),
        metadata=email.get("custom_variables", {}),
        tags=[email["category"]] if email.get("category") else [],
        template=template,
        extra={"template_variables": email.get("template_variables", {})},
    )
