"""MailerSend's webhooks, versions 2 and 1: https://developers.mailersend.com/api/v1/account/webhooks.html"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from django.http import HttpRequest

from anymail.conf import Secret, WebhookOptions, secrets
from anymail.esps.kit.values import object_of, text_of, text_or_digits_of, texts_of
from anymail.esps.kit.webhook import (
    Events,
    NotConfigured,
    OptionsT,
    Webhook,
    any_secret,
    constant_time_equal,
    header,
    json_object,
    utc_time,
)
from anymail.exceptions import AnymailConfigurationError, AnymailWebhookValidationFailure
from anymail.signals import AnymailTrackingEvent, EventType, RejectReason

# What a call is about. The "type" inside its data is not reliable: "spam_complaints", "opened" for opened_unique.
EVENT_TYPES: dict[str, tuple[str, str | None]] = {
    "activity.sent": (EventType.SENT, None),
    "activity.delivered": (EventType.DELIVERED, None),
    "activity.soft_bounced": (EventType.BOUNCED, RejectReason.BOUNCED),
    "activity.hard_bounced": (EventType.BOUNCED, RejectReason.BOUNCED),
    "activity.deferred": (EventType.DEFERRED, None),
    "activity.opened": (EventType.OPENED, None),
    "activity.opened_unique": (EventType.OPENED, None),
    "activity.clicked": (EventType.CLICKED, None),
    "activity.clicked_unique": (EventType.CLICKED, None),
    "activity.unsubscribed": (EventType.UNSUBSCRIBED, RejectReason.UNSUBSCRIBED),
    "activity.spam_complaint": (EventType.COMPLAINED, RejectReason.SPAM),
    "activity.suppressed": (EventType.REJECTED, None),
    "activity.survey_opened": (EventType.UNKNOWN, None),
    "activity.survey_submitted": (EventType.UNKNOWN, None),
}

# The suppression_reason of activity.suppressed. The email API says spam_complaint, MailerSend's SDK spam_complained.
SUPPRESSIONS: dict[str, str] = {
    "on_hold": RejectReason.BLOCKED,
    "blocklisted": RejectReason.BLOCKED,
    "hard_bounced": RejectReason.BOUNCED,
    "spam_complaint": RejectReason.SPAM,
    "spam_complained": RejectReason.SPAM,
    "unsubscribed": RejectReason.UNSUBSCRIBED,
}

# Signs the ping with which MailerSend tries a URL before it saves a webhook and gives it a secret of its own.
PING, PUBLIC_TEST_SECRET = "webhook.test", "test_Am3L1GuOIc4blLUuHqAPxxwkZaJyEk8G"


class SignedWebhook(Webhook[OptionsT]):
    """Any webhook of MailerSend's: one event per call, signed with HMAC-SHA256 over the body."""

    name = "MailerSend"
    slug = "mailersend"
    #: The option that holds the secrets.
    secret_option: ClassVar[str]

    @property
    def signature_configured(self) -> bool:
        """Always: without a secret no call is taken but the ping."""
        return True

    def verify(self, request: HttpRequest) -> None:
        given = header(request, "Signature")
        own: tuple[Secret, ...] = getattr(self.options, self.secret_option)
        if any_secret(own, lambda secret: constant_time_equal(given, signature(secret, request.body))):
            return
        if (
            constant_time_equal(given, signature(PUBLIC_TEST_SECRET, request.body))
            and json_object(request).get("type") == PING
        ):
            return
        if not own:
            raise NotConfigured(
                f"Set MAILERSEND_{self.secret_option.upper()} to the secret that MailerSend shows with the webhook or "
                "inbound route."
            )
        raise AnymailWebhookValidationFailure(
            "its Signature is missing or wrong. Compare the secret that MailerSend shows for this webhook with "
            f"MAILERSEND_{self.secret_option.upper()}."
        )

    def items(self, request: HttpRequest) -> Sequence[Any]:
        item = json_object(request)
        if not isinstance(item.get("type"), str):
            raise AnymailWebhookValidationFailure("it has no type.")
        return [] if item["type"] == PING else [item]


def signature(secret: str, body: bytes) -> str:
    """The Signature of a webhook call."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


@dataclass(frozen=True, kw_only=True)
class MailerSendTrackingOptions(WebhookOptions):
    signing_secret: tuple[Secret, ...] = secrets(
        "Signing secret of the webhook, or a list of them: each webhook has its own."
    )


class MailerSendTracking(SignedWebhook[MailerSendTrackingOptions]):
    Options = MailerSendTrackingOptions
    secret_option = "signing_secret"

    def events(self, item: dict[str, Any]) -> Events:
        word = item["type"]
        if word == "inbound.message":
            raise AnymailConfigurationError(
                "MailerSend's inbound route calls Anymail's MailerSend tracking URL: "
                "set the route's forward to the URL mailersend/inbound/."
            )
        event_type, reject_reason = EVENT_TYPES.get(word, (EventType.UNKNOWN, None))
        fields: dict[str, Any] = {"reject_reason": reject_reason, "timestamp": utc_time(item.get("created_at"))}
        if word.startswith("activity."):
            data = object_of(item.get("data"))
            fields |= _version_1(data) if isinstance(data.get("email"), dict) else _version_2(data)
        yield AnymailTrackingEvent(event_type=event_type, esp_event=item, **fields)


def _version_1(data: dict[str, Any]) -> dict[str, Any]:
    email, morph = object_of(data["email"]), object_of(data.get("morph"))
    time = utc_time(data.get("created_at"))
    return {
        "message_id": text_or_digits_of(object_of(email.get("message")).get("id")),
        **({"timestamp": time} if time else {}),
        "event_id": text_or_digits_of(data.get("id")),
        "recipient": text_of(object_of(email.get("recipient")).get("email")),
        "tags": texts_of(email.get("tags")),
        "description": text_of(morph.get("readable_reason")) or text_of(morph.get("reason")),
        "click_url": text_of(morph.get("url")),
    }


def _version_2(data: dict[str, Any]) -> dict[str, Any]:
    meta = object_of(data.get("meta"))
    suppression = text_of(meta.get("suppression_reason"))
    return {
        "message_id": text_or_digits_of(data.get("message_id")),
        "event_id": text_or_digits_of(data.get("id")),
        # The documentation's example calls it email, the webhooks themselves recipient.
        "recipient": text_of(data.get("recipient")) or text_of(data.get("email")),
        "tags": texts_of(data.get("tags")),
        **({"reject_reason": SUPPRESSIONS.get(suppression, RejectReason.OTHER)} if suppression else {}),
        "description": text_of(meta.get("bounce_reason")) or text_of(meta.get("unsubscribe_reason")) or suppression,
        "mta_response": text_or_digits_of(meta.get("bounce_code")),
        "user_agent": text_of(meta.get("user_agent")),
        "click_url": text_of(meta.get("url")),
    }
