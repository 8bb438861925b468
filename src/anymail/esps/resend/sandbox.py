"""Resend's side of the sandbox: /emails and /emails/batch."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable
from typing import Any

from anymail.esps.kit.sandbox import (
    BASE64,
    STRING,
    IdempotencyKeys,
    JSONSandbox,
    Refusal,
    SandboxDelivery,
    SandboxResult,
    Violation,
    addresses,
    array_schema,
    files_of,
    is_suppressed,
    json_response,
    object_schema,
    rendered,
)
from anymail.esps.kit.values import from_json, json_object_of, texts_of
from anymail.esps.resend.tracking import signature, signing_key
from anymail.exceptions import AnymailInvalidAddress
from anymail.wire import Request, Response

API_KEY = "re_Sandbox_ResendKey"
SIGNING_SECRET = "whsec_YW55bWFpbC1zYW5kYm94LXJlc2VuZC1rZXk="

_STRINGS = {"anyOf": [STRING, array_schema(STRING)]}
_TAG_WORD = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,256}$"}
_ATTACHMENT = {
    **object_schema(
        [],
        content=BASE64,
        filename={"type": "string", "minLength": 1},
        path={"type": "string", "pattern": "^https://"},
        content_type=STRING,
        content_id={"type": "string", "maxLength": 127, "pattern": "^[^<>]+$"},
    ),
    "oneOf": [{"required": ["path"]}, {"required": ["content", "filename"]}],
}
_VARIABLE = r"\{\{\{\s*(\w+)\s*\}\}\}"
_RESERVED = ["FIRST_NAME", "LAST_NAME", "EMAIL", "UNSUBSCRIBE_URL", "RESEND_UNSUBSCRIBE_URL", "contact", "this"]
_TEMPLATE = object_schema(
    ["id"],
    id={"type": "string", "minLength": 1},
    variables={
        "type": "object",
        "maxProperties": 50,
        "propertyNames": {"pattern": "^[A-Za-z0-9_]{1,50}$", "not": {"enum": _RESERVED}},
        "additionalProperties": {
            "anyOf": [{"type": "string", "maxLength": 2000}, {"type": "number", "maximum": 2**53 - 1}]
        },
    },
)
# https://resend.com/docs/api-reference/emails/send-email, "Body Parameters"
_EMAIL: dict[str, Any] = {
    "from": {"type": "string", "minLength": 1},
    "to": {"anyOf": [STRING, array_schema(STRING, minItems=1, maxItems=50)]},
    "subject": STRING,
    "bcc": _STRINGS,
    "cc": _STRINGS,
    "scheduled_at": {"type": "string", "minLength": 1, "not": {"pattern": r"\.\d{4,}"}},
    "reply_to": _STRINGS,
    "html": STRING,
    "text": STRING,
    "headers": {"type": "object", "additionalProperties": STRING},
    "topic_id": STRING,
    "attachments": array_schema(_ATTACHMENT),
    "tags": array_schema(object_schema(["name"], name=_TAG_WORD, value=_TAG_WORD), maxItems=75),
    "template": _TEMPLATE,
}
EMAIL = {
    **object_schema([], **_EMAIL),
    "if": {"required": ["template"]},
    "then": {"required": ["to"]},
    "else": {"required": ["from", "to", "subject"]},
}
# https://resend.com/docs/api-reference/emails/send-batch-emails. Resend drops attachments there; here they are refused.
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


def _refusal(text: str, name: str = "validation_error", status: int = 422) -> Refusal:
    return Refusal(json_response(status, {"statusCode": status, "name": name, "message": text}))


def signed(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a webhook call."""
    given = signature(signing_key(secret, "The secret"), message_id, str(timestamp), body)
    return {"svix-id": message_id, "svix-timestamp": str(timestamp), "svix-signature": f"v1,{given}"}


# https://resend.com/docs/dashboard/emails/idempotency-keys
_KEY_LIFE = dt.timedelta(hours=24)


class ResendSandbox(JSONSandbox):
    slug = "resend"
    routes = (("POST", "/emails", "single"), ("POST", "/emails/batch", "batch"))
    not_found = _refusal("The requested endpoint does not exist.", "not_found", 404).response
    malformed = _refusal("The request body is not valid JSON.", status=400).response

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # With each key the digest of what was asked, and the response.
        self._keys = IdempotencyKeys(_KEY_LIFE)

    def settings(self, url: str) -> dict[str, Any]:
        return {"RESEND_API_KEY": API_KEY, "RESEND_API_URL": url, "RESEND_SIGNING_SECRET": SIGNING_SECRET}

    def authenticate(self, request: Request) -> None:
        if not request.headers.get("User-Agent"):
            raise Refusal(Response(403, {"Content-Type": "text/plain"}, b"error code: 1010"))
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not key:
            raise _refusal("Missing API key in the authorization header.", "missing_api_key", 401)
        if key != API_KEY:
            raise _refusal("API key is invalid.", "invalid_api_key", 403)

    def broken(self, broken: Violation) -> Refusal:
        if not broken.path:
            return _refusal("The request body must be an object.")
        if broken.rule == "required" and not broken.parent:
            return _refusal(f"Missing `{broken.field}` field.", "missing_required_field")
        return _refusal(f"Invalid `{broken.path[0]}` field: {broken.where} {broken.text}.")

    def single(self, request: Request) -> SandboxResult:
        email = self.body(request)
        return self._once(request, lambda: self._one(email, EMAIL))

    def batch(self, request: Request) -> SandboxResult:
        emails = self.body(request)
        if not isinstance(emails, list) or not 1 <= len(emails) <= 100:
            raise _refusal("Send an array of 1 to 100 emails.")
        permissive = request.headers.get("x-batch-validation", "strict") == "permissive"
        return self._once(request, lambda: self._many(emails, permissive))

    def _once(self, request: Request, make: Callable[[], SandboxResult]) -> SandboxResult:
        """What ``make()`` gives; for an idempotency key that was used before, the response of then."""
        key = request.headers.get("Idempotency-Key")
        if key is None:
            return make()
        if not 1 <= len(key) <= 256:
            raise _refusal("The key must be between 1-256 chars.", "invalid_idempotency_key", 400)
        digest = hashlib.sha256(bytes(request.body)).digest()
        before, response = self._keys.get(key, self.clock()) or (digest, None)
        if before != digest:
            text = "Same idempotency key used with a different request payload."
            raise _refusal(text, "invalid_idempotent_request", 409)
        if response is not None:
            return SandboxResult(response)
        result = make()
        self._keys.keep(key, self.clock(), (digest, result.response))
        return result

    def _one(self, email: Any, schema: dict[str, Any]) -> SandboxResult:
        self.validate(schema, email)
        if "template" in email and (email.get("html") or email.get("text")):
            raise _refusal("`html` and `text` cannot be used together with `template`.")
        if "template" not in email and not (email.get("html") or email.get("text")):
            raise _refusal("Missing `html` or `text` field.")
        recipients = [address for field in ("to", "cc", "bcc") for address in _addresses(email, field)]
        _addresses(email, "from")
        message_id = self.new_id()
        deliveries = [
            _delivery(email, message_id, recipient) for recipient in recipients if not is_suppressed(recipient)
        ]
        return SandboxResult(json_response(200, {"id": message_id}), deliveries)

    def _many(self, emails: list[Any], permissive: bool) -> SandboxResult:
        ids: list[Any] = []
        errors: list[dict[str, Any]] = []
        deliveries: list[SandboxDelivery] = []
        for index, email in enumerate(emails):
            try:
                result = self._one(email, BATCHED)
            except Refusal as refusal:
                if not permissive:
                    raise
                errors.append({"index": index, "message": refusal.response.json()["message"]})
            else:
                ids.append(result.response.json())
                deliveries += result.deliveries
        return SandboxResult(json_response(200, {"data": ids, **({"errors": errors} if errors else {})}), deliveries)

    def event(self, kind: str, delivery: SandboxDelivery, url: str) -> Request:
        name, details = _KINDS[kind]
        headers = [{"name": name, "value": value} for name, value in delivery.extra["headers"].items()]
        payload = {
            "type": name,
            "created_at": self.now(3),
            "data": {
                "email_id": delivery.message_id,
                "message_id": f"<{delivery.message_id}@sandbox.invalid>",
                "created_at": self.now(3),
                "from": delivery.from_email,
                "to": [delivery.recipient],
                "subject": delivery.subject,
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


def _addresses(email: dict[str, Any], field: str) -> list[str]:
    try:
        parsed = [address.addr_spec for value in _listed(email.get(field)) for address in addresses(value)]
        if not all(map(str.isascii, parsed)):
            raise AnymailInvalidAddress
    except AnymailInvalidAddress:
        text = "The email address needs to follow the `email@example.com` or `Name <email@example.com>` format."
        raise _refusal(f"Invalid `{field}` field. {text}") from None
    return parsed


def _delivery(email: dict[str, Any], message_id: str, recipient: str) -> SandboxDelivery:
    headers = email.get("headers", {})
    own = {name: value for name, value in headers.items() if name not in ("X-Metadata", "X-Tags")}
    template = email.get("template", {})
    variables = template.get("variables", {})
    return SandboxDelivery(
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
        attachments=files_of(email.get("attachments"), "filename", "content_type", "content"),
        metadata=json_object_of(headers.get("X-Metadata")),
        tags=texts_of(from_json(headers.get("X-Tags"))),
        template=template.get("id"),
        extra={"variables": variables, "headers": headers, "tags": email.get("tags", [])},
    )
