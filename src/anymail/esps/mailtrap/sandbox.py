"""Mailtrap's side of the sandbox: /api/send and /api/batch, also with the number of a Mailtrap sandbox behind.

A field that Mailtrap does not document is refused, though Mailtrap itself may take no notice of it.
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import b64decode
from collections.abc import Iterator
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
    violation,
)
from anymail.esps.mailtrap.tracking import signature
from anymail.wire import Request, Response

API_TOKEN = "0123456789abcdef-sandbox-mailtrap"
TRACKING_SECRET = "5a4d6b0c73616e64626f782d6d747261"
INBOUND_SECRET = "5a4d6b0c73616e64626f782d6d74696e"

_STRING = {"type": "string"}
_TEXT = {"type": "string", "minLength": 1}
_STRINGS = {"type": "object", "additionalProperties": _STRING}


_ADDRESS = object_schema(
    ["email"], email={"type": "string", "pattern": r"^[^\s<>@]+@[!-?A-~]+\.[!-?A-~]+$"}, name=_STRING
)
_ADDRESSES = {"type": "array", "items": _ADDRESS, "maxItems": 1000}
_ATTACHMENT = object_schema(
    ["filename", "content"],
    filename=_TEXT,
    content=_TEXT,
    type=_STRING,
    disposition={"enum": ["inline", "attachment"]},
    content_id={"type": "string", "pattern": "^[^<>]+$"},
)
# https://docs.mailtrap.io/developers/email-sending/transactional, the bodies of /api/send and /api/batch
_BASE: dict[str, Any] = {
    "from": _ADDRESS,
    "reply_to": _ADDRESS,
    "attachments": {"type": "array", "items": _ATTACHMENT},
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
    requests={"type": "array", "items": {"type": "object"}, "minItems": 1, "maxItems": 500},
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


class MailtrapSandbox(SandboxESP):
    slug = "mailtrap"
    routes = (
        ("POST", "/api/send(?:/(?P<sandbox_id>[^/]+))?", "single"),
        ("POST", "/api/batch(?:/(?P<sandbox_id>[^/]+))?", "batch"),
    )

    def settings(self, url: str) -> dict[str, Any]:
        return {
            "MAILTRAP_API_TOKEN": API_TOKEN,
            "MAILTRAP_API_URL": f"{url}api/",
            "MAILTRAP_TRACKING_SECRET": TRACKING_SECRET,
            "MAILTRAP_INBOUND_SECRET": INBOUND_SECRET,
        }

    def not_found(self, request: Request) -> Response:
        return json_response(404, {"error": "Not Found"})

    def single(self, request: Request, sandbox_id: str | None) -> Reply:
        answer, letters = self._one(self._body(request), sandbox_id)
        return Reply(json_response(200, answer), letters)

    def batch(self, request: Request, sandbox_id: str | None) -> Reply:
        """A request that is wrong refuses none of the others."""
        body = self._body(request)
        if broken := violation(BATCH, body):
            raise _refusal(_broken(*broken))
        answers: list[dict[str, Any]] = []
        letters: list[Letter] = []
        for item in body["requests"]:
            try:
                answer, own = self._one({**body.get("base", {}), **item}, sandbox_id)
            except Refusal as refusal:
                answers.append(refusal.response.json())
            else:
                answers.append(answer)
                letters += own
        return Reply(json_response(200, {"success": True, "responses": answers}), letters)

    def _body(self, request: Request) -> Any:
        given = request.headers.get("Api-Token") or request.headers.get("Authorization", "").removeprefix("Bearer ")
        if given != API_TOKEN:
            raise _refusal("Unauthorized", status=401)
        try:
            if request.headers.get("Content-Type", "").startswith("application/json"):
                return json_of(request)
        except ValueError:
            pass
        raise _refusal("The body is not JSON.")

    def _one(self, email: Any, sandbox_id: str | None) -> tuple[dict[str, Any], list[Letter]]:
        """The answer to one message, and its letters. Suppressed recipients are accepted, but get none."""
        if broken := violation(EMAIL, email):
            raise _refusal(_broken(*broken))
        if errors := list(_errors(email)):
            raise _refusal(*errors)
        recipients = [one["email"] for field in ("to", "cc", "bcc") for one in email.get(field, ())]
        # A Mailtrap sandbox keeps one message, whoever it is for.
        ids = [self.new_id()] * len(recipients) if sandbox_id else [self.new_id() for _ in recipients]
        letters = [
            _letter(email, recipient, message_id)
            for recipient, message_id in zip(recipients, ids, strict=True)
            if not recipient.startswith("suppressed")
        ]
        return {"success": True, "message_ids": ids[:1] if sandbox_id else ids}, letters

    def event(self, kind: str, letter: Letter, url: str) -> Request:
        event = {
            **_KINDS[kind],
            "timestamp": int(self.clock().timestamp()),
            "sending_stream": "transactional",
            **({"category": letter.tags[0]} if letter.tags else {}),
            **({"custom_variables": letter.metadata} if letter.metadata else {}),
            "message_id": letter.message_id,
            "email": letter.recipient,
            "event_id": self.new_id(),
            "sending_domain_name": letter.from_email.rpartition("@")[2].strip(">"),
        }
        body = json.dumps({"events": [event]}, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json", "Mailtrap-Signature": signature(TRACKING_SECRET, body)}
        return Request("POST", url, headers, body)


def _broken(where: str, rule: str, text: str) -> str:
    """A broken rule of the schema, in Mailtrap's manner."""
    if address := re.fullmatch(r"(\w+)(?:\[(\d+)\])?\.email", where):
        return f"address is invalid in '{address[1]}' {address[2] or ''}".rstrip()
    field = re.findall(r"'([^']*)'", text)[0] if rule in ("required", "additionalProperties") else where or "body"
    place = f" in '{where}'" if field != where and where else ""
    what = {"required": "is required", "additionalProperties": "is not allowed"}.get(rule, f"is invalid: {text[:200]}")
    return f"'{field}' {what}{place}"


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
        try:
            b64decode(attachment["content"], validate=True)
        except (binascii.Error, ValueError):
            yield f"content is not base64 in 'attachments' {index}"


def _letter(email: dict[str, Any], recipient: str, message_id: str) -> Letter:
    template = email.get("template_uuid")
    headers = dict(email.get("headers", {}))
    several = headers.pop("Reply-To", "")
    return Letter(
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
        attachments=[
            (one["filename"], one.get("type", ""), len(b64decode(one["content"])))
            for one in email.get("attachments", ())
        ],
        metadata=email.get("custom_variables", {}),
        tags=[email["category"]] if email.get("category") else [],
        template=template,
        extra={"template_variables": email.get("template_variables", {})},
    )
