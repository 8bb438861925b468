"""Scaleway's side of the sandbox: sending an email, and the topic that tells of events.

A field that Scaleway does not document is refused, though Scaleway itself may take no notice of it.
"""

from __future__ import annotations

import datetime as dt
import json
from functools import lru_cache
from typing import Any, NamedTuple

from anymail.esps.kit.sandbox import (
    STRING,
    JSONSandbox,
    Refusal,
    SandboxDelivery,
    SandboxResult,
    Violation,
    files_of,
    formatted,
    is_base64,
    is_suppressed,
    json_response,
    needs,
    object_schema,
)
from anymail.esps.kit.topics import signed
from anymail.esps.scaleway.tracking import metadata_in, tags_in
from anymail.wire import Request

SECRET_KEY = "00000000-5a4d-4b0c-8000-736563726574"
PROJECT_ID = "00000000-5a4d-4b0c-8000-70726f6a6563"
REGION = "fr-par"
TOPIC_ARN = f"arn:scw:sns:{REGION}:project-{PROJECT_ID}:anymail-sandbox"
CERTIFICATE_URL = f"https://messaging.s3.{REGION}.scw.cloud/{REGION}/sns/sns_certificate_sandbox.crt"

_SOME = {"type": "string", "minLength": 1}


def _array(items: dict[str, Any], most: int = 1000) -> dict[str, Any]:
    return {"type": "array", "items": items, "maxItems": most}


_CONTACT = object_schema(
    ["email"], email={"type": "string", "pattern": r"^[!-?A-~]+@[!-?A-~]+\.[!-?A-~]+$", "maxLength": 320}, name=STRING
)
# https://www.scaleway.com/en/developers/api/transactional-email/, "Send an email"
EMAIL: dict[str, Any] = object_schema(
    ["from", "project_id"],
    **{"from": _CONTACT},
    to=_array(_CONTACT),
    cc=_array(_CONTACT),
    bcc=_array(_CONTACT),
    subject={"type": "string", "maxLength": 998},
    text=STRING,
    html=STRING,
    project_id={"type": "string", "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"},
    attachments={
        **_array(object_schema(["name", "type", "content"], name=_SOME, type=_SOME, content=STRING), 10),
        "type": ["array", "null"],
    },
    send_before={"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"},
    additional_headers=_array(object_schema(["key", "value"], key=_SOME, value=_SOME)),
)

# https://www.scaleway.com/en/docs/transactional-email/reference-content/tem-capabilities-and-limits/,
# all but the rarest of it
TYPES = frozenset({
    "application/dxf", "application/ics", "application/msword", "application/pdf", "application/pkcs10",
    "application/pkcs7-mime", "application/pkcs7-signature", "application/vnd.ms-excel",
    "application/vnd.oasis.opendocument.spreadsheet", "application/xml", "application/zip", "audio/mpeg", "audio/wav",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.template",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "image/gif", "image/jpeg", "image/jpg", "image/png", "image/svg+xml", "image/tiff", "image/webp",
    "text/calendar", "text/csv", "text/html", "text/plain", "text/xml",
})  # fmt: skip
_MOST_RECIPIENTS = 10
_MOST_BYTES = 2 * 1024 * 1024
_REASONS = {"required": "required", "type": "format", "pattern": "format", "additionalProperties": "unknown"}


def _refusal(status: int, kind: str, message: str, **rest: Any) -> Refusal:
    return Refusal(json_response(status, {"type": kind, "message": message, **rest}))


def _invalid(argument: str, reason: str, text: str) -> Refusal:
    detail = {"argument_name": argument, "reason": reason, "help_message": text}
    return _refusal(400, "invalid_arguments", "invalid argument(s)", details=[detail])


class Key(NamedTuple):
    """What the sandbox signs with: a private key, its certificate, and the root that the certificate leads to."""

    private: Any
    certificate: str
    root: str


@lru_cache
@needs("cryptography")
def signing_key() -> Key:
    """The key of this process."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    def certified(public_key: Any, common_name: str, authority: bool) -> str:
        def name(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

        certificate = (
            x509.CertificateBuilder(name("Anymail sandbox"), name(common_name), public_key, x509.random_serial_number())
            .not_valid_before(dt.datetime(2020, 1, 1))  # noqa: DTZ001
            .not_valid_after(dt.datetime(2120, 1, 1))  # noqa: DTZ001
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .sign(root, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode()

    root = ec.generate_private_key(ec.SECP256R1())
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return Key(
        private,
        certified(private.public_key(), "sns.mnq.srr.scw.cloud", False),
        certified(root.public_key(), "Anymail sandbox", True),
    )


def sign_envelope(envelope: dict[str, Any]) -> dict[str, Any]:
    """A topic's object with its signature (version 1), made with the sandbox's key."""
    return signed(envelope, signing_key().private, "1", CERTIFICATE_URL)


class ScalewaySandbox(JSONSandbox):
    """Scaleway says "sending" for a blocklisted (here: suppressed) recipient, too, who gets no delivery."""

    slug = "scaleway"
    routes = (("POST", r"/transactional-email/v1alpha1/regions/(?P<region>[^/]+)/emails", "send"),)
    not_found = json_response(404, {"type": "not_found", "message": "resource is not found"})
    credentials = "X-Auth-Token", SECRET_KEY
    unauthorized = _refusal(
        401, "denied_authentication", "authentication is denied", method="api_key", reason="not_found"
    ).response
    malformed = _invalid("body", "format", "the body is not JSON").response
    events = frozenset({"delivered", "bounced", "complained"})

    def settings(self, url: str) -> dict[str, Any]:
        return {
            "SCALEWAY_SECRET_KEY": SECRET_KEY,
            "SCALEWAY_PROJECT_ID": PROJECT_ID,
            "SCALEWAY_API_URL": f"{url}transactional-email/v1alpha1/regions/{{region}}/",
            "SCALEWAY_WEBHOOK_TOPIC_ARNS": [TOPIC_ARN],
            "SCALEWAY_SNS_TRUST_CHAIN": signing_key().root,
            "SCALEWAY_SNS_CERTIFICATES": {CERTIFICATE_URL: signing_key().certificate},
        }

    def broken(self, broken: Violation) -> Refusal:
        return _invalid(broken.where or "body", _REASONS.get(broken.rule, "constraint"), f"it {broken.text}")

    def send(self, request: Request, region: str) -> SandboxResult:
        self.authenticate(request)
        if region != REGION:
            raise _refusal(404, "not_found", "resource is not found", resource="region", resource_id=region)
        email = self.body(request, EMAIL)
        self._check(email)
        now = self.now()
        common = {"message_id": self.new_id(), "project_id": PROJECT_ID, "mail_from": email["from"]["email"],
                  "subject": email.get("subject", ""), "created_at": now, "updated_at": now, "status": "sending",
                  "status_details": None, "try_count": 0, "last_tries": [], "flags": []}  # fmt: skip
        entries = [
            {"id": self.new_id(), "rcpt_to": person["email"], "mail_rcpt": person["email"], "rcpt_type": kind, **common}
            for kind in ("to", "cc", "bcc")
            for person in email.get(kind, ())
        ]
        deliveries = [
            _delivery(email, entry["mail_rcpt"], entry["id"])
            for entry in entries
            if not is_suppressed(entry["mail_rcpt"])
        ]
        return SandboxResult(json_response(200, {"emails": entries}), deliveries)

    def _check(self, email: Any) -> None:
        if email["project_id"] != PROJECT_ID:
            details = [{"resource": "email", "action": "create"}]
            raise _refusal(403, "permissions_denied", "insufficient permissions", details=details)
        recipients = sum(len(email.get(kind, ())) for kind in ("to", "cc", "bcc"))
        if not 1 <= recipients <= _MOST_RECIPIENTS:
            raise _invalid("to", "constraint", f"an email has 1 to {_MOST_RECIPIENTS} recipients")
        if not (email.get("text") or email.get("html")):
            raise _invalid("text", "required", "text or html is required")
        for index, attachment in enumerate(email.get("attachments") or ()):
            if attachment["type"].partition(";")[0].strip().lower() not in TYPES:
                raise _invalid(f"attachments[{index}].type", "constraint", f"{attachment['type']} is not supported")
            if not is_base64(attachment["content"]):
                raise _invalid(f"attachments[{index}].content", "format", "it is not base64")
        for index, header in enumerate(email.get("additional_headers", ())):
            if header["key"].lower() == "reply-to" and not header["value"].isascii():
                raise _invalid(f"additional_headers[{index}].value", "format", "Reply-To is not encoded")
        if len(json.dumps(email, ensure_ascii=False).encode()) > _MOST_BYTES:
            raise _invalid("body", "constraint", "an email has at most 2 MB")

    def event(self, kind: str, delivery: SandboxDelivery, url: str) -> Request:
        now = self.now()
        word, code, text = {
            "delivered": ("email_delivered", 250, "2.0.0 OK"),
            "bounced": ("email_dropped", 550, f"5.1.1 <{delivery.recipient}>: user unknown"),
            "complained": ("email_spam", 250, "2.0.0 OK"),
        }[kind]
        event = {
            "id": self.new_id(),
            "type": word,
            "organization_id": PROJECT_ID,
            "project_id": PROJECT_ID,
            "domain_id": PROJECT_ID,
            "domain_name": delivery.from_email.rpartition("@")[2].strip(">"),
            "created_at": now,
            "email_sent_at": now,
            "email_id": delivery.message_id,
            "email_from": delivery.from_email,
            "email_to": delivery.recipient,
            "email_headers": [{"key": "Subject", "value": delivery.subject}, *delivery.extra["headers"]],
            **({"email_error": "Mailbox does not exist"} if kind == "bounced" else {}),
            "email_response_code": code,
            "email_response_message": text,
        }
        envelope = {
            "Type": "Notification",
            "MessageId": self.new_id(),
            "TopicArn": TOPIC_ARN,
            "Message": json.dumps(event, ensure_ascii=False, separators=(",", ":")),
            "Timestamp": now,
        }
        return Request.post(url, headers={"x-amz-sns-message-type": "Notification"}, json=sign_envelope(envelope))


def _delivery(email: dict[str, Any], recipient: str, message_id: str) -> SandboxDelivery:
    headers = email.get("additional_headers", [])
    named = {header["key"].lower(): header["value"] for header in headers}
    own = ("reply-to", "x-metadata", "x-tags")
    return SandboxDelivery(
        recipient=recipient,
        message_id=message_id,
        from_email=formatted([email["from"]]),
        to=formatted(email.get("to", [])),
        cc=formatted(email.get("cc", [])),
        reply_to=named.get("reply-to", ""),
        subject=email.get("subject", ""),
        text=email.get("text", ""),
        html=email.get("html", ""),
        headers={header["key"]: header["value"] for header in headers if header["key"].lower() not in own},
        attachments=files_of(email.get("attachments"), "name", "type", "content"),
        metadata=metadata_in(named),
        tags=tags_in(named),
        extra={"headers": headers},
    )
