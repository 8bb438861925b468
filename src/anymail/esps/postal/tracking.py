"""Postal's webhooks, and the signature that its HTTP endpoints have too: https://docs.postalserver.io/developer/webhooks"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.http import HttpRequest

from anymail.conf import Secret, WebhookOptions, option
from anymail.esps.kit.values import object_of, string_of, text_or_digits_of
from anymail.esps.kit.webhook import Events, Webhook, any_secret, header, json_object, posix_time
from anymail.exceptions import (
    AnymailConfigurationError,
    AnymailImproperlyInstalled,
    AnymailWebhookValidationFailure,
)
from anymail.signals import AnymailTrackingEvent, EventType, RejectReason

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

FORM = "application/x-www-form-urlencoded"
SIGNATURE_256, SIGNATURE_1 = "X-Postal-Signature-256", "X-Postal-Signature"

# /developer/webhooks
EVENTS: dict[str, tuple[str, str | None]] = {
    "MessageSent": (EventType.DELIVERED, None),
    "MessageDelayed": (EventType.DEFERRED, None),
    "MessageDeliveryFailed": (EventType.FAILED, None),
    "MessageHeld": (EventType.QUEUED, None),
    "MessageBounced": (EventType.BOUNCED, RejectReason.BOUNCED),
    "MessageLinkClicked": (EventType.CLICKED, None),
    "MessageLoaded": (EventType.OPENED, None),
}

# Where a call does not name its event: the status in its payload, or a field that only one event has.
STATUSES: dict[str, str] = {
    "Sent": "MessageSent",
    "SoftFail": "MessageDelayed",
    "HardFail": "MessageDeliveryFailed",
    "Held": "MessageHeld",
}
FIELDS: dict[str, str] = {"bounce": "MessageBounced", "url": "MessageLinkClicked"}

# What the details of MessageDeliveryFailed and MessageHeld say, in the words of Postal's app/senders and
# app/lib/message_dequeuer.
DETAILS: dict[str, tuple[str, str | None]] = {
    "Permanent SMTP delivery error": (EventType.BOUNCED, RejectReason.BOUNCED),
    "Maximum number of delivery attempts": (EventType.BOUNCED, RejectReason.TIMED_OUT),
    "Message is likely spam": (EventType.REJECTED, RejectReason.SPAM),
    "is on the suppression list": (EventType.REJECTED, RejectReason.BOUNCED),
}
DETAILED = frozenset({"MessageDeliveryFailed", "MessageHeld"})


@lru_cache(maxsize=64)
def public_key(text: str) -> RSAPublicKey:
    """An RSA key from the base64 of its SubjectPublicKeyInfo. Raises ValueError for what is none."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
        from cryptography.hazmat.primitives.serialization import load_der_public_key
    except ImportError:
        raise AnymailImproperlyInstalled("cryptography", "postal") from None
    try:
        key = load_der_public_key(b64decode(text, validate=True))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPublicKey):
        raise ValueError("the public key is needed that `postal default-dkim-record` prints after p=")
    return key


def _webhook_key(value: Any) -> Secret:
    """A key out of what people copy: the value of p=, the whole DKIM record, or PEM."""
    text = re.sub(r'-----[^-]*-----|[\s"]', "", Secret(value).reveal())
    record = re.search(r"(?:^|;)p=([^;]*)", text)
    key = Secret(record[1] if record else text.rstrip(";"))
    # A missing package is told when a call comes.
    with suppress(AnymailImproperlyInstalled):
        public_key(key.reveal())
    return key


def _webhook_keys(value: Any) -> tuple[Secret, ...]:
    keys = tuple(_webhook_key(one) for one in (value if isinstance(value, (list, tuple)) else [value]))
    if not keys:
        raise ValueError("it is empty")
    return keys


@dataclass(frozen=True, kw_only=True)
class PostalWebhookOptions(WebhookOptions):
    webhook_key: tuple[Secret, ...] = option(
        "RSA public key of the Postal installation, which `postal default-dkim-record` prints after `p=` (not the "
        "DKIM key of a domain), or a list of them.",
        convert=_webhook_keys,
        bare=True,
    )


class PostalWebhook(Webhook[PostalWebhookOptions]):
    """Any call of Postal's: one event, signed over its body alone."""

    name = "Postal"
    slug = "postal"
    Options = PostalWebhookOptions
    default_max_age = None

    @property
    def signature_configured(self) -> bool:
        return True

    def verify(self, request: HttpRequest) -> None:
        # Postal 3.2 and later send both; the weaker one counts only where there is no other.
        name = SIGNATURE_256 if header(request, SIGNATURE_256, "-") != "-" else SIGNATURE_1
        try:
            signature = b64decode(header(request, name), validate=True)
        except (binascii.Error, ValueError):
            signature = b""
        if not any_secret(self.options.webhook_key, lambda key: _verifies(key, name, signature, request.body)):
            raise AnymailWebhookValidationFailure(
                f"its {name} is missing or wrong. Compare POSTAL_WEBHOOK_KEY with what `postal default-dkim-record` "
                "prints after p=: it is not the DKIM key of a domain."
            )


def _verifies(key: str, name: str, signature: bytes, signed: bytes) -> bool:
    rsa = public_key(key)
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA1, SHA256

    try:
        rsa.verify(signature, signed, PKCS1v15(), SHA256() if name == SIGNATURE_256 else SHA1())  # noqa: S303
    except InvalidSignature:
        return False
    return True


class PostalTracking(PostalWebhook):
    def items(self, request: HttpRequest) -> Sequence[Any]:
        # Only HTTP endpoints post forms.
        item = request.POST if request.content_type == FORM else json_object(request)
        if "rcpt_to" in item:
            raise AnymailConfigurationError(
                "An HTTP endpoint of Postal's, for received mail, calls Anymail's Postal tracking URL: "
                "set it to the URL postal/inbound/."
            )
        if not (isinstance(item.get("event"), str) or isinstance(item.get("payload"), dict)):
            raise AnymailWebhookValidationFailure("it has no event.")
        return [item]

    def events(self, item: dict[str, Any]) -> Events:
        payload = object_of(item.get("payload"))
        message = object_of(payload.get("message") or payload.get("original_message"))
        if message.get("direction") == "incoming":
            # A received mail, on its way to an endpoint.
            return
        event = _event(item, payload)
        details, tag = string_of(payload.get("details")), string_of(message.get("tag"))
        event_type, reject_reason = EVENTS.get(event, (EventType.UNKNOWN, None))
        if event in DETAILED and details:
            said = (meaning for words, meaning in DETAILS.items() if words in details)
            event_type, reject_reason = next(said, (event_type, reject_reason))
        yield AnymailTrackingEvent(
            event_type=event_type,
            reject_reason=reject_reason,
            message_id=text_or_digits_of(message.get("id")),
            timestamp=posix_time(item.get("timestamp")),
            event_id=string_of(item.get("uuid")),
            recipient=_bare(string_of(message.get("to"))),
            tags=[tag] if tag else [],
            description=details,
            mta_response=string_of(payload.get("output")),
            user_agent=string_of(payload.get("user_agent")),
            click_url=string_of(payload.get("url")),
            esp_event=item,
        )


def _event(item: dict[str, Any], payload: dict[str, Any]) -> str:
    event = string_of(item.get("event"))
    if event is not None:
        return event
    by_field = next((name for field, name in FIELDS.items() if field in payload), "")
    return STATUSES.get(str(payload.get("status")), by_field)


def _bare(address: str | None) -> str | None:
    return address.rpartition("<")[2].strip("> ") if address else None
