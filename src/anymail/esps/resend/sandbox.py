"""Resend's side of the sandbox: /emails and /emails/batch."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64decode
from typing import Any

from anymail.esps.kit.sandbox import (
    Letter,
    Refusal,
    Reply,
    SandboxESP,
    addresses,
    json_of,
    json_response,
    rendered,
    violation,
)
from anymail.esps.resend.tracking import signature, signing_key
from anymail.exceptions import AnymailInvalidAddress
from anymail.wire import Request, Response

API_KEY = "re_Sandbox_ResendKey"
SIGNING_SECRET = "whsec_YW55bWFpbC1zYW5kYm94LXJlc2VuZC1rZXk="

_STRING = {"type": "string"}
_STRINGS = {"anyOf": [_STRING, {"type": "array", "items": _STRING}]}
_TAG_WORD = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,256}$"}
_ATTACHMENT = {
    "type": "object",
    "properties": {
        "content": _STRING,
        "filename": {"type": "string", "minLength": 1},
        "path": {"type": "string", "pattern": "^https://"},
        "content_type": _STRING,
        "content_id": {"type": "string", "maxLength": 127, "pattern": "^[^<>]+$"},
    },
    "oneOf": [{"required": ["content", "filename"]}, {"required": ["path"]}],
    "additionalProperties": False,
}
_VARIABLE = r"\{\{\{\s*(\w+)\s*\}\}\}"
_RESERVED = ["FIRST_NAME", "LAST_NAME", "EMAIL", "UNSUBSCRIBE_URL", "RESEND_UNSUBSCRIBE_URL", "contact", "this"]
_TEMPLATE = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "variables": {
            "type": "object",
            "maxProperties": 50,
            "propertyNames": {"pattern": "^[A-Za-z0-9_]{1,50}$", "not": {"enum": _RESERVED}},
            "additionalProperties": {
                "anyOf": [{"type": "string", "maxLength": 2000}, {"type": "number", "maximum": 2**53 - 1}]
            },
        },
    },
    "required": ["id"],
    "additionalProperties": False,
}
# https://resend.com/docs/api-reference/emails/send-email, "Body Parameters"
_EMAIL: dict[str, Any] = {
    "from": {"type": "string", "minLength": 1},
    "to": {"anyOf": [_STRING, {"type": "array", "items": _STRING, "minItems": 1, "maxItems": 50}]},
    "subject": _STRING,
    "bcc": _STRINGS,
    "cc": _STRINGS,
    "scheduled_at": {"type": "string", "minLength": 1, "not": {"pattern": r"\.\d{4,}"}},
    "reply_to": _STRINGS,
    "html": _STRING,
    "text": _STRING,
    "headers": {"type": "object", "additionalProperties": _STRING},
    "topic_id": _STRING,
    "attachments": {"type": "array", "items": _ATTACHMENT},
    "tags": {
        "type": "array",
        "maxItems": 75,
        "items": {
            "type": "object",
            "properties": {"name": _TAG_WORD, "value": _TAG_WORD},
            "required": ["name"],
            "additionalProperties": False,
        },
    },
    "template": _TEMPLATE,
}
EMAIL = {
    "type": "object",
    "properties": _EMAIL,
    "if": {"required": ["template"]},
    "then": {"required": ["to"]},
    "else": {"required": ["from", "to", "subject"]},
    "additionalProperties": False,
}
# /docs/api-reference/emails/send-batch-emails. Resend drops attachments there; here they are refused.
BATCHED = {**EMAIL, "properties": {name: rule for name, rule in _EMAIL.items() if name != "attachments"}}

_KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "delivered": ("email.delivered", {}),
    "opened": ("email.opened", {}),
    "clicked": (
        "email.clicked",
        {"click": {"link": "https://example.com/", "userAgent": "Mozilla/5.0 (Anymail sandbox)"}},
    ),
    "bounced": (
        "email.bounced",
        {
            "bounce": {
                "diagnosticCode": ["smtp; 550 5.1.1 no such user"],
                "message": "The recipient's email provider sent a hard bounce message.",
                "subType": "General",
                "type": "Permanent",
            }
        },
    ),
    "complained": ("email.complained", {}),
}


def _error(status: int, name: str, text: str) -> Response:
    return json_response(status, {"statusCode": status, "name": name, "message": text})


def signed(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a webhook call."""
    given = signature(signing_key(secret, "The secret"), message_id, str(timestamp), body)
    return {"svix-id": message_id, "svix-timestamp": str(timestamp), "svix-signature": f"v1,{given}"}


class ResendSandbox(SandboxESP):
    slug = "resend"
    routes = (("POST", "/emails", "single"), ("POST", "/emails/batch", "batch"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The answer to each idempotency key, and the digest of what was asked with it.
        self._answered: dict[str, tuple[bytes, Response]] = {}

    def settings(self, url: str) -> dict[str, Any]:
        return {"RESEND_API_KEY": API_KEY, "RESEND_API_URL": url, "RESEND_SIGNING_SECRET": SIGNING_SECRET}

    def not_found(self, request: Request) -> Response:
        return _error(404, "not_found", "The requested endpoint does not exist.")

    def single(self, request: Request) -> Reply:
        email = self._body(request)
        return self._once(request, lambda: self._one(email, EMAIL))

    def batch(self, request: Request) -> Reply:
        emails = self._body(request)
        if not isinstance(emails, list) or not 1 <= len(emails) <= 100:
            raise Refusal(_error(422, "validation_error", "Send an array of 1 to 100 emails."))
        permissive = request.headers.get("x-batch-validation", "strict") == "permissive"
        return self._once(request, lambda: self._many(emails, permissive))

    def _body(self, request: Request) -> Any:
        if not request.headers.get("User-Agent"):
            raise Refusal(Response(403, {"Content-Type": "text/plain"}, b"error code: 1010"))
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not key:
            raise Refusal(_error(401, "missing_api_key", "Missing API key in the authorization header."))
        if key != API_KEY:
            raise Refusal(_error(403, "invalid_api_key", "API key is invalid."))
        try:
            return json_of(request)
        except ValueError:
            raise Refusal(_error(400, "validation_error", "The request body is not valid JSON.")) from None

    def _once(self, request: Request, answer: Any) -> Reply:
        """What ``answer()`` gives; for an idempotency key that was used before, what it gave then."""
        key = request.headers.get("Idempotency-Key")
        if key is None:
            reply: Reply = answer()
            return reply
        if not 1 <= len(key) <= 256:
            text = "The key must be between 1-256 chars."
            raise Refusal(_error(400, "invalid_idempotency_key", text))
        digest = hashlib.sha256(bytes(request.body)).digest()
        before, response = self._answered.get(key, (digest, None))
        if before != digest:
            text = "Same idempotency key used with a different request payload."
            raise Refusal(_error(409, "invalid_idempotent_request", text))
        if response is not None:
            return Reply(response)
        reply = answer()
        self._answered[key] = (digest, reply.response)
        return reply

    def _one(self, email: Any, schema: dict[str, Any]) -> Reply:
        if broken := violation(schema, email):
            where, rule, text = broken
            if rule == "type" and not where:
                raise Refusal(_error(422, "validation_error", "The request body must be an object."))
            field = re.split(r"[.\[]", where)[0] or re.findall(r"'(\w+)'", text)[0]
            if rule == "required" and not where:
                raise Refusal(_error(422, "missing_required_field", f"Missing `{field}` field."))
            raise Refusal(_error(422, "validation_error", f"Invalid `{field}` field: {text[:200]}"))
        if "template" in email and (email.get("html") or email.get("text")):
            text = "`html` and `text` cannot be used together with `template`."
            raise Refusal(_error(422, "validation_error", text))
        if "template" not in email and not (email.get("html") or email.get("text")):
            raise Refusal(_error(422, "validation_error", "Missing `html` or `text` field."))
        people = [one for field in ("to", "cc", "bcc") for one in self._addresses(email, field)]
        self._addresses(email, "from")
        message_id = self.new_id()
        letters = [self._letter(email, message_id, one) for one in people if not one.startswith("suppressed")]
        return Reply(json_response(200, {"id": message_id}), letters)

    def _many(self, emails: list[Any], permissive: bool) -> Reply:
        ids: list[Any] = []
        errors: list[dict[str, Any]] = []
        letters: list[Letter] = []
        for index, email in enumerate(emails):
            try:
                reply = self._one(email, BATCHED)
            except Refusal as refusal:
                if not permissive:
                    raise
                errors.append({"index": index, "message": refusal.response.json()["message"]})
            else:
                ids.append(reply.response.json())
                letters += reply.letters
        return Reply(json_response(200, {"data": ids, **({"errors": errors} if errors else {})}), letters)

    def _addresses(self, email: dict[str, Any], field: str) -> list[str]:
        try:
            found = [one.addr_spec for value in _listed(email.get(field)) for one in addresses(value)]
            if not all(one.isascii() for one in found):
                raise AnymailInvalidAddress
        except AnymailInvalidAddress:
            text = (
                f"Invalid `{field}` field. The email address needs to follow the `email@example.com` or "
                "`Name <email@example.com>` format."
            )
            raise Refusal(_error(422, "validation_error", text)) from None
        return found

    def _letter(self, email: dict[str, Any], message_id: str, recipient: str) -> Letter:
        headers = email.get("headers", {})
        own = {name: value for name, value in headers.items() if name not in ("X-Metadata", "X-Tags")}
        template = email.get("template", {})
        variables = template.get("variables", {})
        return Letter(
            recipient=recipient,
            message_id=message_id,
            from_email=email.get("from", ""),
            to=", ".join(_listed(email["to"])),
            cc=", ".join(_listed(email.get("cc"))),
            reply_to=", ".join(_listed(email.get("reply_to"))),
            subject=rendered(email.get("subject", f"(template {template.get('id')})"), variables, _VARIABLE),
            text=rendered(email.get("text", ""), variables, _VARIABLE),
            html=rendered(email.get("html", ""), variables, _VARIABLE),
            headers=own,
            attachments=[
                (one.get("filename", ""), one.get("content_type", ""), len(b64decode(one.get("content", ""))))
                for one in email.get("attachments", ())
            ],
            metadata=json.loads(headers.get("X-Metadata", "{}")),
            tags=json.loads(headers.get("X-Tags", "[]")),
            template=template.get("id"),
            extra={"variables": variables, "headers": headers, "tags": email.get("tags", [])},
        )

    def event(self, kind: str, letter: Letter, url: str) -> Request:
        name, details = _KINDS[kind]
        headers = [{"name": name, "value": value} for name, value in letter.extra["headers"].items()]
        payload = {
            "type": name,
            "created_at": self.now(3),
            "data": {
                "email_id": letter.message_id,
                "message_id": f"<{letter.message_id}@sandbox.invalid>",
                "created_at": self.now(3),
                "from": letter.from_email,
                "to": [letter.recipient],
                "subject": letter.subject,
                **({"headers": headers} if headers else {}),
                **details,
            },
        }
        request = Request.post(url, headers={}, json=payload)
        stamp = int(self.clock().timestamp())
        message_id = f"msg_{self.new_id().replace('-', '')}"
        signing = signed(SIGNING_SECRET, message_id, stamp, bytes(request.body))
        return Request("POST", url, {**request.headers, **signing}, request.body)


def _listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value] if value else []
