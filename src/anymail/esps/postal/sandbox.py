"""Postal's side of the sandbox: /api/v1/send/message and /api/v1/send/raw.

A parameter that Postal does not document is refused, though Postal itself takes no notice of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from secrets import randbits, token_urlsafe
from typing import TYPE_CHECKING, Any

from anymail.esps.kit.sandbox import (
    STRING,
    JSONSandbox,
    Refusal,
    SandboxDelivery,
    SandboxResult,
    Violation,
    array_schema,
    bare,
    is_suppressed,
    json_response,
    needs,
    object_schema,
)
from anymail.esps.postal.tracking import SIGNATURE_1, SIGNATURE_256
from anymail.inbound import AnymailInboundMessage
from anymail.wire import Request, Response

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

API_KEY = "SandboxPostalKey00000000"
KEY_ID = "X-Postal-Signature-KID"

# A string is split at its commas.
_STRINGS = {"type": ["array", "string"], "items": STRING}
# https://apiv1.postalserver.io/controllers/send/message, "Parameters"
MESSAGE: dict[str, Any] = object_schema(
    [],
    to=_STRINGS,
    cc=_STRINGS,
    bcc=_STRINGS,
    **{"from": STRING},
    sender=STRING,
    subject=STRING,
    tag=STRING,
    reply_to=STRING,
    plain_body=STRING,
    html_body=STRING,
    attachments=array_schema(object_schema([], name=STRING, content_type=STRING, data=STRING)),
    headers={"type": "object", "additionalProperties": STRING},
    bounce={"type": "boolean"},
)
# https://apiv1.postalserver.io/controllers/send/raw
RAW: dict[str, Any] = object_schema(
    ["mail_from", "rcpt_to", "data"],
    mail_from=STRING,
    rcpt_to=array_schema(STRING),
    data=STRING,
    bounce={"type": "boolean"},
)

# https://apiv1.postalserver.io/controllers/send/message, "Errors"
ERRORS = {
    "AccessDenied": "Must be authenticated as a server.",
    "InvalidServerAPIKey": "The API token provided in X-Server-API-Key was not valid.",
    "NoRecipients": "There are no recipients defined to receive this message",
    "NoContent": "There is no content defined for this e-mail",
    "TooManyToAddresses": "The maximum number of To addresses has been reached (maximum 50)",
    "TooManyCCAddresses": "The maximum number of CC addresses has been reached (maximum 50)",
    "TooManyBCCAddresses": "The maximum number of BCC addresses has been reached (maximum 50)",
    "FromAddressMissing": "The From address is missing and is required",
    "UnauthenticatedFromAddress": "The From address is not authorised to send mail from this server",
    "AttachmentMissingName": "An attachment is missing a name",
    "AttachmentMissingData": "An attachment is missing data",
}
_TOO_MANY = {"to": "TooManyToAddresses", "cc": "TooManyCCAddresses", "bcc": "TooManyBCCAddresses"}


def _response(status: str, data: dict[str, Any]) -> Response:
    return json_response(200, {"status": status, "time": 0.01, "flags": {}, "data": data})


def _refusal(code: str, **more: str) -> Refusal:
    return Refusal(_response("error", {"code": code, "message": ERRORS[code], **more}))


def _parameter_error(text: str) -> Refusal:
    return Refusal(_response("parameter-error", {"message": text}))


class PostalSandbox(JSONSandbox):
    slug = "postal"
    routes = (("POST", "/api/v1/send/message", "message"), ("POST", "/api/v1/send/raw", "raw"))
    malformed = Response(400, {"Content-Type": "text/html"}, b"<h1>Bad Request</h1>")
    events = frozenset({"delivered", "opened", "clicked", "bounced"})

    def settings(self, url: str) -> dict[str, Any]:
        return {"POSTAL_API_KEY": API_KEY, "POSTAL_API_URL": url, "POSTAL_WEBHOOK_KEY": webhook_key()}

    def authenticate(self, request: Request) -> None:
        key = request.headers.get("X-Server-API-Key")
        if not key:
            raise _refusal("AccessDenied")
        if key != API_KEY:
            raise _refusal("InvalidServerAPIKey", token=key)

    def broken(self, broken: Violation) -> Refusal:
        if broken.rule == "required":
            return _parameter_error(f"`{broken.field}` parameter is required but is missing")
        return _parameter_error(f"`{broken.where}` parameter is not valid: it {broken.text}")

    def body(self, request: Request, schema: Mapping[str, Any] | None = None) -> Any:
        """Of another type than JSON, Postal does not read a body."""
        if not request.headers.get("Content-Type", "").startswith("application/json"):
            request = replace(request, body=b"{}")
        return super().body(request, schema)

    def message(self, request: Request) -> SandboxResult:
        message = self.body(request, MESSAGE)
        shown = {field: _listed(message.get(field, ())) for field in ("to", "cc", "bcc")}
        if too_many := next((field for field, values in shown.items() if len(values) > 50), None):
            raise _refusal(_TOO_MANY[too_many])
        recipients = [bare(value) for values in shown.values() for value in values]
        if not recipients:
            raise _refusal("NoRecipients")
        if not (message.get("plain_body", "").strip() or message.get("html_body", "").strip()):
            raise _refusal("NoContent")
        if not message.get("from"):
            raise _refusal("FromAddressMissing")
        files = message.get("attachments", ())
        for file in files:
            if not file.get("name"):
                raise _refusal("AttachmentMissingName")
            if not _decoded(file.get("data", "")).strip():
                raise _refusal("AttachmentMissingData")
        if any(":" in name for name in message.get("headers", ())):
            raise Refusal(Response(500, {"Content-Type": "text/html"}, b"<h1>Internal Server Error</h1>"))
        delivery = SandboxDelivery(
            recipient="",
            message_id="",
            from_email=message["from"],
            to=", ".join(shown["to"]),
            cc=", ".join(shown["cc"]),
            reply_to=message.get("reply_to", ""),
            subject=message.get("subject", ""),
            text=message.get("plain_body", ""),
            html=message.get("html_body", ""),
            headers={**message.get("headers", {}), **({"Sender": message["sender"]} if "sender" in message else {})},
            attachments=[(file["name"], file.get("content_type", ""), len(_decoded(file["data"]))) for file in files],
            tags=[message["tag"]] if message.get("tag") else [],
        )
        return self._accepted(delivery, recipients)

    def raw(self, request: Request) -> SandboxResult:
        raw = self.body(request, RAW)
        message = AnymailInboundMessage.parse_raw_mime_bytes(_decoded(raw["data"]))
        if message.from_email is None:
            raise _refusal("UnauthenticatedFromAddress")
        delivery = SandboxDelivery(
            recipient="",
            message_id="",
            from_email=str(message["From"]),
            to=str(message["To"] or ""),
            cc=str(message["Cc"] or ""),
            reply_to=str(message["Reply-To"] or ""),
            subject=message.subject or "",
            text=message.text or "",
            html=message.html or "",
            headers={name: str(value) for name, value in message.items() if name.lower() not in _SHOWN},
            attachments=[
                (part.get_filename() or "", part.get_content_type(), len(part.get_content_bytes()))
                for part in (*message.inlines, *message.attachments)
            ],
            tags=[str(message["X-Postal-Tag"])] if message["X-Postal-Tag"] else [],
        )
        return self._accepted(delivery, raw["rcpt_to"])

    def _accepted(self, delivery: SandboxDelivery, recipients: Iterable[str]) -> SandboxResult:
        """Postal accepts what is for those on its suppression list too, and holds it."""
        message_id = f"{self.new_id()}@rp.postal.example.net"
        deliveries = [
            replace(
                delivery,
                recipient=recipient,
                message_id=str(randbits(31)),
                extra={"token": token_urlsafe(12), "message_id": message_id, "sent": self.clock().timestamp()},
            )
            for recipient in dict.fromkeys(recipients)
        ]
        messages = {each.recipient: {"id": int(each.message_id), "token": each.extra["token"]} for each in deliveries}
        delivered = [delivery for delivery in deliveries if not is_suppressed(delivery.recipient)]
        return SandboxResult(_response("success", {"message_id": message_id, "messages": messages}), delivered)

    def event(self, kind: str, delivery: SandboxDelivery, url: str) -> Request:
        now = self.clock().timestamp()
        message = {
            "id": int(delivery.message_id), "token": delivery.extra["token"], "direction": "outgoing",
            "message_id": delivery.extra["message_id"], "to": delivery.recipient, "from": bare(delivery.from_email),
            "subject": delivery.subject[:200], "timestamp": delivery.extra["sent"], "spam_status": "NotChecked",
            "tag": delivery.tags[0] if delivery.tags else None,
        }  # fmt: skip
        bounce = {
            **message, "id": randbits(31), "token": token_urlsafe(12), "direction": "incoming",
            "message_id": f"{self.new_id()}@mx.example.com", "to": "sandbox@psrp.example.com", "from": None,
            "subject": "Undelivered Mail Returned to Sender", "timestamp": now, "tag": None,
        }  # fmt: skip
        browser = {"ip_address": "192.0.2.1", "user_agent": "Mozilla/5.0 (Anymail sandbox)"}
        event, payload = {
            "delivered": ("MessageSent", {
                "message": message, "status": "Sent", "output": "250 2.0.0 OK", "sent_with_ssl": True,
                "details": f"Message for {delivery.recipient} accepted by mx.example.com (192.0.2.25:25)",
                "timestamp": now, "time": 0.5,
            }),
            "opened": ("MessageLoaded", {"message": message, **browser}),
            "clicked": ("MessageLinkClicked", {
                "message": message, "url": "https://example.com/?a=1&b=2", "token": token_urlsafe(12), **browser,
            }),
            "bounced": ("MessageBounced", {"original_message": message, "bounce": bounce}),
        }[kind]  # fmt: skip
        call = {"event": event, "timestamp": now, "payload": payload, "uuid": self.new_id()}
        # As Rails writes JSON.
        body = re.sub(
            "[<>&]",
            lambda match: f"\\u{ord(match[0]):04x}",
            json.dumps(call, ensure_ascii=False, separators=(",", ":")),
        ).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "Postal/3.3.6", **sign(body)}
        return Request("POST", url, headers, body)


_SHOWN = frozenset({"from", "to", "cc", "reply-to", "subject", "mime-version", "content-type",
                    "content-transfer-encoding", "x-postal-tag"})  # fmt: skip


def _listed(value: str | Sequence[str]) -> list[str]:
    """Addresses, as an array or in a string."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else list(value)


def _decoded(data: str) -> bytes:
    try:
        return b64decode(data)
    except (Base64Error, ValueError):
        return b""


# The signature of Postal's webhooks, by a key that is no secret: it signs for the sandbox only.

_P = int(
    "ed43906e9e0815dc1f9a90d4c698e8b6f94dda26faf5d09ca36e0af01c43c8fc1c6759df8397fde27fbd1952457a318e955b"
    "c747fc37495612087efd5d1890a5eb22be4082fb244cccf4101c01d55bb8a564c3327f9985ed30da1c0730cb107a27894d07"
    "e5738d4a512a7fe3870ce03fe6bcc49308977e3665ef9fb136e75b41",
    16,
)
_Q = int(
    "c56cea3cf02219294b9b735130b1f36612c4e7f8dfb94844de6baabdc03abbd3951c37ed203a140ae4bba9100e77e7734377"
    "b764ec466a82e68e82e5649a81579e534699d6c38a3ffe6946a7d34ea7610a3dda649a5005853a129d4aa6e1fc9c79485b36"
    "37e328f95a7f5ae6e2797b90e28cfb822ba4181281e021083b7babc9",
    16,
)


@lru_cache(maxsize=1)
@needs("cryptography")
def _private_key() -> RSAPrivateKey:
    from cryptography.hazmat.primitives.asymmetric import rsa

    e = 65537
    d = pow(e, -1, (_P - 1) * (_Q - 1))
    crt = (rsa.rsa_crt_dmp1(d, _P), rsa.rsa_crt_dmq1(d, _Q), rsa.rsa_crt_iqmp(_P, _Q))
    return rsa.RSAPrivateNumbers(_P, _Q, d, *crt, rsa.RSAPublicNumbers(e, _P * _Q)).private_key()


def webhook_key() -> str:
    """The public key, as ``postal default-dkim-record`` prints it."""
    public_key = _private_key().public_key()
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return b64encode(public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def sign(body: bytes) -> dict[str, str]:
    """The headers that sign a webhook call with this body."""
    key = _private_key()
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA1, SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    return {
        SIGNATURE_1: b64encode(key.sign(body, PKCS1v15(), SHA1())).decode(),  # noqa: S303
        SIGNATURE_256: b64encode(key.sign(body, PKCS1v15(), SHA256())).decode(),
        KEY_ID: hashlib.sha256(der).hexdigest(),
    }
