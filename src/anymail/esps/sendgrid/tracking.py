"""SendGrid's Event Webhook: https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event

Its signature, which Inbound Parse has too:
https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features
"""

from __future__ import annotations

import binascii
import dataclasses
import re
from base64 import b64decode
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.http import HttpRequest

from anymail.conf import Secret, WebhookOptions, secrets
from anymail.esps.kit.forms import MULTIPART, form_of
from anymail.esps.kit.values import enhanced_code_of, texts_of
from anymail.esps.kit.webhook import Events, Webhook, any_secret, header, json_body, posix_time
from anymail.exceptions import (
    AnymailConfigurationError,
    AnymailImproperlyInstalled,
    AnymailWebhookValidationFailure,
)
from anymail.signals import AnymailTrackingEvent, EventType, RejectReason

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

SIGNATURE = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP = "X-Twilio-Email-Event-Webhook-Timestamp"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SendGridTrackingOptions(WebhookOptions):
    tracking_webhook_verification_key: tuple[Secret, ...] = secrets(
        "The verification key (a public key) of the signed event webhook, or a list of them. Unset: no check.",
        bare=True,
    )


EVENTS: dict[str, EventType] = {
    "processed": EventType.QUEUED,
    "dropped": EventType.REJECTED,
    "deferred": EventType.DEFERRED,
    "delivered": EventType.DELIVERED,
    "bounce": EventType.BOUNCED,
    "open": EventType.OPENED,
    "click": EventType.CLICKED,
    "spamreport": EventType.COMPLAINED,
    "unsubscribe": EventType.UNSUBSCRIBED,
    "group_unsubscribe": EventType.UNSUBSCRIBED,
    "group_resubscribe": EventType.SUBSCRIBED,
}

# The type of a bounce, and the type or the reason of a drop, in lower case.
REASONS: dict[str, RejectReason] = {
    "bounce": RejectReason.BOUNCED,
    "blocked": RejectReason.BLOCKED,
    "expired": RejectReason.TIMED_OUT,
    "invalid": RejectReason.INVALID,
    "bounced address": RejectReason.BOUNCED,
    "unsubscribed address": RejectReason.UNSUBSCRIBED,
    "spam reporting address": RejectReason.SPAM,
    "spam content": RejectReason.SPAM,
}

# Where an event's description is.
DESCRIPTIONS: dict[str, str] = {
    "bounce": "bounce_classification",
    "dropped": "reason",
    "account_status_change": "type",
}

#: SendGrid's own fields. Whatever else is in an event is metadata.
EVENT_FIELDS = frozenset({
    "anymail_id", "asm_group_id", "attempt", "category", "cert_err", "email", "event", "ip", "marketing_campaign_id",
    "marketing_campaign_name", "newsletter", "nlvx_campaign_id", "nlvx_campaign_split_id", "nlvx_user_id", "pool",
    "post_type", "reason", "response", "send_at", "sg_content_type", "sg_event_id", "sg_machine_open", "sg_message_id",
    "sg_template_id", "sg_template_name", "sg_user_id", "smtp-id", "status", "timestamp", "tls", "type", "url",
    "url_offset", "useragent",
})  # fmt: skip
# Its own only in some events: elsewhere they may be metadata.
FIELDS_OF_EVENT = {"deferred": frozenset({"domain", "from"}), "bounce": frozenset({"bounce_classification"})}
MARKETING_FIELDS = frozenset({
    "marketing_campaign_split_id", "marketing_campaign_version", "mc_stats", "phase_id", "singlesend_id",
    "singlesend_name", "template_hash", "template_id", "template_version_id",
})  # fmt: skip
MARKETING_MARKS = frozenset({"mc_stats", "singlesend_id", "marketing_campaign_id"})


class SendGridTracking(Webhook[SendGridTrackingOptions]):
    name = "SendGrid"
    slug = "sendgrid"
    Options = SendGridTrackingOptions
    # SendGrid tries for 24 hours, and does not say that it signs each attempt afresh.
    default_max_age = 25 * 3600

    @property
    def signature_configured(self) -> bool:
        return bool(self.options.tracking_webhook_verification_key)

    def verify(self, request: HttpRequest) -> str | None:
        if self.signature_configured:
            self.check_age(signed_timestamp(request, self.options.tracking_webhook_verification_key, "TRACKING"))
        return None

    def items(self, request: HttpRequest) -> Sequence[Any]:
        if request.content_type == MULTIPART:
            if "envelope" in form_of(request):
                raise AnymailConfigurationError(
                    "SendGrid's Inbound Parse calls Anymail's SendGrid tracking URL: set it to the URL "
                    "sendgrid/inbound/."
                )
            raise AnymailWebhookValidationFailure("The body is a form.")
        body = json_body(request)
        if not isinstance(body, list):
            raise AnymailWebhookValidationFailure("The body is not a JSON array.")
        return body

    def events(self, item: dict[str, Any]) -> Events:
        text = {key: value for key, value in item.items() if isinstance(value, str) and value}
        event = text.get("event", "")
        own = _own_fields(item, event)
        yield AnymailTrackingEvent(
            event_type=EVENTS.get(event, EventType.UNKNOWN),
            reject_reason=_reject_reason(event, text),
            message_id=text.get("anymail_id") or text.get("smtp-id"),
            timestamp=posix_time(item.get("timestamp")),
            event_id=text.get("sg_event_id"),
            recipient=text.get("email"),
            metadata={key: value for key, value in item.items() if key not in own},
            tags=_tags(item.get("category")),
            description=text.get(DESCRIPTIONS.get(event, "")),
            mta_response=None if event == "dropped" else text.get("response") or text.get("reason"),
            enhanced_code=enhanced_code_of(text.get("status")) if event in _WITH_STATUS else None,
            user_agent=text.get("useragent") if event in _BY_RECIPIENT else None,
            # Of other events it is that of the server which sent the mail.
            ip=text.get("ip") if event in _BY_RECIPIENT else None,
            by_machine=_machine(item, event),
            click_url=text.get("url") if event == "click" else None,
            esp_event=item,
        )


# What a receiving server answered has a status; that of a drop is SendGrid's own.
_WITH_STATUS = frozenset({"bounce", "deferred"})
_BY_RECIPIENT = frozenset({"open", "click"})


def _machine(item: dict[str, Any], event: str) -> bool | None:
    """Whether a mail program opened it unasked, such as Apple's for the privacy of its users."""
    flag = item.get("sg_machine_open")
    return flag if event == "open" and isinstance(flag, bool) else None


def _reject_reason(event: str, text: dict[str, str]) -> RejectReason | None:
    if event == "bounce":
        return REASONS.get(text.get("type", "bounce").lower(), RejectReason.OTHER)
    if event == "dropped":
        given = [text[key].lower() for key in ("type", "reason") if key in text]
        return next((REASONS[one] for one in given if one in REASONS), RejectReason.OTHER)
    return None


def _own_fields(item: dict[str, Any], event: str) -> frozenset[str]:
    marketing = MARKETING_FIELDS if MARKETING_MARKS & item.keys() else frozenset()
    return EVENT_FIELDS | FIELDS_OF_EVENT.get(event, frozenset()) | marketing


def _tags(category: Any) -> list[str]:
    """A list, or a plain string where there is one."""
    return texts_of(category if isinstance(category, list) else [category])


def signed_timestamp(request: HttpRequest, keys: Sequence[Secret], kind: str) -> str:
    """The timestamp of a call that one of the keys verifies. Raises AnymailWebhookValidationFailure for any other."""
    setting = f"SENDGRID_{kind}_WEBHOOK_VERIFICATION_KEY"
    timestamp = header(request, TIMESTAMP)
    signed = timestamp.encode("utf-8", "surrogateescape") + request.body
    try:
        signature = b64decode(header(request, SIGNATURE), validate=True)
    except (binascii.Error, ValueError):
        signature = b""
    if not any_secret(keys, lambda key: _verifies(_public_key(key, setting), signature, signed)):
        raise AnymailWebhookValidationFailure(
            f"its signature is missing or wrong. Compare {setting} with the verification key that SendGrid shows."
        )
    return timestamp


def _verifies(key: EllipticCurvePublicKey, signature: bytes, signed: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        key.verify(signature, signed, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


@lru_cache(maxsize=64)
def _public_key(text: str, setting: str) -> EllipticCurvePublicKey:
    """A key on P-256, from base64 as SendGrid shows it, or from PEM. Raises AnymailConfigurationError for any other."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
        from cryptography.hazmat.primitives.serialization import load_der_public_key
    except ImportError:
        raise AnymailImproperlyInstalled("cryptography", "sendgrid") from None
    try:
        key = load_der_public_key(b64decode(re.sub(r"-----[^-]*-----|\s", "", text), validate=True))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise AnymailConfigurationError(
            f"{setting} is wrong: SendGrid's verification key, a public key in base64, is needed."
        )
    return key
