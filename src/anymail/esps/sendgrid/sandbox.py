"""SendGrid's side of the sandbox: POST /v3/mail/send, and the signed event webhook."""

from __future__ import annotations

import re
import secrets
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from anymail.esps.kit.sandbox import (
    STRING,
    JSONSandbox,
    Refusal,
    SandboxDelivery,
    SandboxResult,
    Violation,
    addresses,
    array_schema,
    files_of,
    formatted,
    is_base64,
    json_response,
    needs,
    object_schema,
)
from anymail.esps.sendgrid.tracking import SIGNATURE, TIMESTAMP
from anymail.exceptions import AnymailInvalidAddress
from anymail.wire import Request, Response

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

API_KEY = "SG.sandbox.key"


_WHOLE, _SWITCH = {"type": "integer"}, {"type": "boolean"}
_FILLED = {"type": "string", "minLength": 1}
_STRINGS = {"type": "object", "additionalProperties": STRING}
_ADDRESS = object_schema(["email"], email=STRING, name=STRING)
_ENABLE = object_schema([], enable=_SWITCH)
# https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send, "Request body"
_PERSONALIZATION = object_schema(
    ["to"],
    **{"from": _ADDRESS},
    to=array_schema(_ADDRESS, minItems=1),
    cc=array_schema(_ADDRESS),
    bcc=array_schema(_ADDRESS),
    subject=_FILLED,
    headers=_STRINGS,
    substitutions=_STRINGS,
    dynamic_template_data={"type": "object"},
    custom_args=_STRINGS,
    send_at=_WHOLE,
)
_ATTACHMENT = object_schema(
    ["content", "filename"],
    content=_FILLED,
    type=_FILLED,
    filename=STRING,
    disposition={"enum": ["inline", "attachment"]},
    content_id=STRING,
)
_UTM = ("utm_source", "utm_medium", "utm_term", "utm_content", "utm_campaign")
MAIL = object_schema(
    ["personalizations", "from"],
    personalizations=array_schema(_PERSONALIZATION, minItems=1, maxItems=1000),
    **{"from": _ADDRESS},
    reply_to=_ADDRESS,
    reply_to_list=array_schema(_ADDRESS, maxItems=1000, uniqueItems=True),
    subject=_FILLED,
    content=array_schema(object_schema(["type", "value"], type=_FILLED, value=_FILLED), minItems=1),
    attachments=array_schema(_ATTACHMENT),
    template_id=STRING,
    headers=_STRINGS,
    categories=array_schema({"type": "string", "maxLength": 255}, maxItems=10, uniqueItems=True),
    custom_args=_STRINGS,
    send_at=_WHOLE,
    batch_id=STRING,
    asm=object_schema(["group_id"], group_id=_WHOLE, groups_to_display=array_schema(_WHOLE, maxItems=25)),
    ip_pool_name={"type": "string", "minLength": 2, "maxLength": 64},
    mail_settings=object_schema(
        [],
        bypass_list_management=_ENABLE,
        bypass_spam_management=_ENABLE,
        bypass_bounce_management=_ENABLE,
        bypass_unsubscribe_management=_ENABLE,
        footer=object_schema([], enable=_SWITCH, text=STRING, html=STRING),
        sandbox_mode=_ENABLE,
    ),
    tracking_settings=object_schema(
        [],
        click_tracking=object_schema([], enable=_SWITCH, enable_text=_SWITCH),
        open_tracking=object_schema([], enable=_SWITCH, substitution_tag=STRING),
        subscription_tracking=object_schema([], enable=_SWITCH, text=STRING, html=STRING, substitution_tag=STRING),
        ganalytics=object_schema([], enable=_SWITCH, **dict.fromkeys(_UTM, STRING)),
    ),
)

# What SendGrid says of a field, by its path without indexes.
_WORDS = {
    "from": "The from object must be provided for every email send. It is an object that requires the email "
    "parameter, but may also contain a name parameter.",
    "personalizations": "The personalizations field is required and must have at least one personalization.",
    "personalizations.to": "The to array is required for all personalization objects, and must have at least one "
    "email object with a valid email address.",
    "content.value": "The content value must be a string at least one character in length.",
}
_STRING_VALUES = re.compile(r"(?:personalizations\.)?(?:headers|custom_args|substitutions)")
_RESERVED_HEADERS = frozenset({
    "x-sg-id", "x-sg-eid", "received", "dkim-signature", "content-type", "content-transfer-encoding",
    "to", "from", "subject", "reply-to", "cc", "bcc",
})  # fmt: skip
_INDEX = re.compile(r"\.\d+")
_HELP = "https://www.twilio.com/docs/sendgrid/api-reference/mail-send/errors"


def _refusal(status: int, message: str, field: str | None = None) -> Refusal:
    help_url = f"{_HELP}#message.{_INDEX.sub('', field)}" if field else None
    return Refusal(json_response(status, {"errors": [{"message": message, "field": field, "help": help_url}]}))


class SendGridSandbox(JSONSandbox):
    slug = "sendgrid"
    routes = (("POST", "/v3/mail/send", "send"),)
    not_found = _refusal(404, "not found").response
    credentials = "Authorization", f"Bearer {API_KEY}"
    unauthorized = _refusal(401, "The provided authorization grant is invalid, expired, or revoked").response
    wrong_content_type = _refusal(415, "Content-Type should be application/json.").response
    malformed = _refusal(400, "Bad Request").response

    def settings(self, url: str) -> dict[str, Any]:
        return {
            "SENDGRID_API_KEY": API_KEY,
            "SENDGRID_API_URL": f"{url}v3/",
            "SENDGRID_TRACKING_WEBHOOK_VERIFICATION_KEY": verification_key(),
        }

    def broken(self, broken: Violation) -> Refusal:
        path = ".".join(step for step in broken.path if isinstance(step, str))
        if broken.rule == "additionalProperties":
            text = f"Additional property {broken.field} is not allowed"
            return _refusal(400, text, broken.dotted.rpartition(".")[0] or broken.field)
        if broken.rule == "type" and _STRING_VALUES.match(path):
            return Refusal(self.malformed)
        return _refusal(400, _WORDS.get(path, f"The value {broken.text}."), broken.dotted or None)

    def send(self, request: Request) -> SandboxResult:
        mail = self.body(request, MAIL)
        _check_recipients(mail)
        _check_content(mail)
        self._check_times(mail)
        if mail.get("mail_settings", {}).get("sandbox_mode", {}).get("enable"):
            return SandboxResult(Response(200))
        # 22 characters, as SendGrid's.
        message_id = secrets.token_urlsafe(16)
        return SandboxResult(Response(202, {"X-Message-Id": message_id}), list(_deliveries(mail, message_id)))

    def _check_times(self, mail: dict[str, Any]) -> None:
        latest = self.clock().timestamp() + 72 * 3600
        for where, fields in (("", mail), *_numbered(mail)):
            if fields.get("send_at", 0) > latest:
                raise _refusal(400, "Scheduling more than 72 hours in advance is forbidden.", f"{where}send_at")

    def event(self, kind: str, delivery: SandboxDelivery, url: str) -> Request:
        message_id = delivery.extra["x_message_id"]
        common = {
            **delivery.metadata,
            "email": delivery.recipient,
            "timestamp": int(self.clock().timestamp()),
            "smtp-id": f"<{message_id}@geopod-ismtpd-1>",
            "sg_event_id": secrets.token_urlsafe(16),
            "sg_message_id": f"{message_id}.recvd-sandbox-1-1.0",
            **({"category": delivery.tags} if delivery.tags else {}),
        }
        browser = {"useragent": "Mozilla/5.0 (Anymail sandbox)", "ip": "203.0.113.7"}
        kinds: dict[str, dict[str, Any]] = {
            "delivered": {"event": "delivered", "response": "250 2.0.0 OK", "tls": 1, "ip": "198.51.100.7"},
            "opened": {"event": "open", "sg_content_type": "html", "sg_machine_open": False, **browser},
            "clicked": {"event": "click", "url": "https://example.com/", "url_offset": {"index": 0, "type": "html"},
                        **browser},
            "bounced": {"event": "bounce", "type": "bounce", "reason": "550 5.1.1 No such user", "status": "5.1.1",
                        "bounce_classification": "Invalid Address", "tls": 1, "ip": "198.51.100.7"},
            "complained": {"event": "spamreport"},
        }  # fmt: skip
        request = Request.post(url, headers={}, json=[{**common, **kinds[kind]}])
        signed = sign(bytes(request.body) + b"\r\n", int(self.clock().timestamp()))
        return replace(request, headers={**request.headers, **signed}, body=bytes(request.body) + b"\r\n")


def _check_recipients(mail: dict[str, Any]) -> None:
    if "reply_to" in mail and "reply_to_list" in mail:
        raise _refusal(400, "The reply_to and reply_to_list parameters cannot be used together.", "reply_to_list")
    _check_address(mail["from"], "from")
    for index, person in enumerate(mail.get("reply_to_list", ())):
        _check_address(person, f"reply_to_list.{index}")
    total = 0
    for where, personalization in _numbered(mail):
        seen: set[str] = set()
        for kind in ("to", "cc", "bcc"):
            for index, person in enumerate(personalization.get(kind, ())):
                _check_address(person, f"{where}{kind}.{index}")
                if person["email"].lower() in seen:
                    raise _refusal(
                        400,
                        "Each email address in the personalization block should be unique between to, cc, and bcc. "
                        f"We found the first duplicate instance of [{person['email']}] in the {where}{kind} field.",
                        where.rstrip("."),
                    )
                seen.add(person["email"].lower())
        total += len(seen)
    if total > 1000:
        raise _refusal(400, "The total number of recipients must be no more than 1000.", "personalizations")


def _check_address(address: dict[str, str], where: str) -> None:
    try:
        [parsed] = addresses(address["email"])
    except (AnymailInvalidAddress, ValueError):
        parsed = None
    if parsed is None or parsed.display_name or "." not in parsed.domain or parsed.key != parsed.addr_spec:
        raise _refusal(400, "Does not contain a valid address.", f"{where}.email")


def _check_content(mail: dict[str, Any]) -> None:
    template_id = mail.get("template_id", "")
    types = [content["type"] for content in mail.get("content", ())]
    count = Counter(types)
    if not types and not template_id:
        raise _refusal(
            400,
            "Unless a valid template_id is provided, the content parameter is required. There must be at least one "
            "defined content block.",
            "content",
        )
    if count["text/plain"] > 1 or count["text/html"] > 1:
        raise _refusal(400, "If present, text/plain and text/html may only be provided once.", "content")
    ranks = [_ORDER.get(kind, len(_ORDER)) for kind in types]
    if ranks != sorted(ranks):
        raise _refusal(
            400,
            "If present, text/plain must be first, followed by text/x-amp-html, text/html and any other content.",
            "content",
        )
    if not (mail.get("subject") or template_id or all("subject" in one for one in mail["personalizations"])):
        raise _refusal(
            400,
            "The subject is required. You can get around this requirement if you use a template with a subject "
            "defined or if every personalization has a subject defined.",
            "subject",
        )
    for where, fields in (("", mail), *_numbered(mail)):
        if reserved := [name for name in fields.get("headers", ()) if name.lower() in _RESERVED_HEADERS]:
            raise _refusal(400, f"The header {reserved[0]} is reserved.", f"{where}headers")
        if template_id.startswith("d-") and "substitutions" in fields:
            raise _refusal(400, "Substitutions may not be used with dynamic templating", f"{where}substitutions")
    for index, attachment in enumerate(mail.get("attachments", ())):
        if not is_base64(attachment["content"]):
            raise _refusal(400, "The attachment content must be base64 encoded.", f"attachments.{index}.content")


_ORDER = {"text/plain": 0, "text/x-amp-html": 1, "text/html": 2}


def _numbered(mail: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(f"personalizations.{index}.", one) for index, one in enumerate(mail["personalizations"])]


def _deliveries(mail: dict[str, Any], message_id: str) -> Iterator[SandboxDelivery]:
    template = mail.get("template_id")
    dynamic = bool(template and template.startswith("d-"))
    # A dynamic template stands in for the content.
    content = {} if dynamic else {one["type"]: one["value"] for one in mail.get("content", ())}
    for personalization in mail["personalizations"]:
        substitutions = personalization.get("substitutions", {})
        custom_args = {**mail.get("custom_args", {}), **personalization.get("custom_args", {})}
        subject = personalization.get("subject") or mail.get("subject") or f"(template {template})"
        common = SandboxDelivery(
            recipient="",
            message_id=custom_args.get("anymail_id", message_id),
            from_email=formatted([personalization.get("from", mail["from"])]),
            to=formatted(personalization["to"]),
            cc=formatted(personalization.get("cc", ())),
            reply_to=formatted(mail.get("reply_to_list", [mail["reply_to"]] if "reply_to" in mail else [])),
            subject=_substituted(subject, substitutions),
            text=_substituted(content.get("text/plain", ""), substitutions),
            html=_substituted(content.get("text/html", ""), substitutions),
            headers={**mail.get("headers", {}), **personalization.get("headers", {})},
            attachments=files_of(mail.get("attachments"), "filename", "type", "content"),
            metadata=custom_args,
            tags=mail.get("categories", []),
            template=template,
            extra={"x_message_id": message_id, "data": personalization.get("dynamic_template_data", {})},
        )
        for person in (*personalization["to"], *personalization.get("cc", ()), *personalization.get("bcc", ())):
            yield replace(common, recipient=person["email"])


def _substituted(text: str, substitutions: Mapping[str, str]) -> str:
    for key, value in substitutions.items():
        text = text.replace(key, value) if key else text
    return text


# The signature of SendGrid's webhooks.


@needs("cryptography")
def _private_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key

    # No secret: it signs for the sandbox only.
    return derive_private_key(0x5E4D_6217_D5A4_DB0C, SECP256R1())


def verification_key() -> str:
    """The public key, as SendGrid shows it."""
    public_key = _private_key().public_key()
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    der = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b64encode(der).decode()


def sign(body: bytes, timestamp: int) -> dict[str, str]:
    """The headers that sign a webhook call with this body at that POSIX time."""
    key = _private_key()
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    signature = key.sign(str(timestamp).encode() + body, ECDSA(SHA256()))
    return {TIMESTAMP: str(timestamp), SIGNATURE: b64encode(signature).decode()}
