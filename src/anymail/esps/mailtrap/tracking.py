"""Mailtrap's tracking webhook, and the signature of all its webhooks.

https://docs.mailtrap.io/email-api-smtp/advanced/webhooks
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from django.http import HttpRequest

from anymail.conf import Secret, WebhookOptions, secrets
from anymail.esps.kit.values import from_json, object_of, text_of
from anymail.esps.kit.webhook import Events, Webhook, any_secret, constant_time_equal, header, json_object, posix_time
from anymail.exceptions import AnymailConfigurationError, AnymailWebhookValidationFailure
from anymail.signals import AnymailTrackingEvent, EventType, RejectReason

OptionsT = TypeVar("OptionsT", bound=WebhookOptions)

# The names in payloads; the webhook API's own names for two of them are "soft_bounce" and "spam_complaint".
EVENTS: dict[str, tuple[str, str | None]] = {
    "delivery": (EventType.DELIVERED, None),
    "open": (EventType.OPENED, None),
    "click": (EventType.CLICKED, None),
    "unsubscribe": (EventType.UNSUBSCRIBED, RejectReason.UNSUBSCRIBED),
    "spam": (EventType.COMPLAINED, RejectReason.SPAM),
    "spam_complaint": (EventType.COMPLAINED, RejectReason.SPAM),
    "soft bounce": (EventType.DEFERRED, RejectReason.OTHER),
    "soft_bounce": (EventType.DEFERRED, RejectReason.OTHER),
    "bounce": (EventType.BOUNCED, RejectReason.BOUNCED),
    # Held back, because of a limit or the state of the account; it ends in a delivery or a reject.
    "suspension": (EventType.DEFERRED, RejectReason.OTHER),
    "reject": (EventType.REJECTED, RejectReason.BLOCKED),
}

# The bounce_category of a bounce, in lower case, where it is another reason than "bounced":
# https://docs.mailtrap.io/email-api-smtp/bounce-categorization
BOUNCES: dict[str, str] = {
    "timeout": RejectReason.TIMED_OUT,
    "spam": RejectReason.SPAM,
    "content": RejectReason.SPAM,
    "block": RejectReason.BLOCKED,
    "badsender": RejectReason.BLOCKED,
    "relayfail": RejectReason.BLOCKED,
    "serverpolicy": RejectReason.BLOCKED,
    "spam_gmail": RejectReason.BLOCKED,
}

# What the reason of a reject says, in lower case: the types of suppression. Others are "blocked".
SUPPRESSIONS: dict[str, str] = {
    "unsubscription": RejectReason.UNSUBSCRIBED,
    "spam complaint": RejectReason.SPAM,
    "hard bounce": RejectReason.BOUNCED,
}


class MailtrapWebhook(Webhook[OptionsT]):
    """Any webhook of Mailtrap's: many events in a call, signed with HMAC-SHA256 over the body."""

    name = "Mailtrap"
    slug = "mailtrap"
    #: The option that holds the secrets; each webhook has its own.
    secret_option: ClassVar[str]

    @property
    def _secrets(self) -> tuple[Secret, ...]:
        found: tuple[Secret, ...] = getattr(self.options, self.secret_option)
        return found

    @property
    def signature_configured(self) -> bool:
        return bool(self._secrets)

    def verify(self, request: HttpRequest) -> None:
        given = header(request, "Mailtrap-Signature")
        if self._secrets and not any_secret(
            self._secrets, lambda secret: constant_time_equal(given, signature(secret, request.body))
        ):
            raise AnymailWebhookValidationFailure(
                "its Mailtrap-Signature is missing or wrong. Compare the signing secret of this webhook at Mailtrap "
                f"with MAILTRAP_{self.secret_option.upper()}."
            )

    def items(self, request: HttpRequest) -> Sequence[Any]:
        if request.content_type == "application/jsonl":
            return [from_json(line) for line in request.body.splitlines() if line.strip()]
        events = json_object(request).get("events")
        if not isinstance(events, list):
            raise AnymailWebhookValidationFailure("it has no list of events.")
        return events


def signature(secret: str, body: bytes) -> str:
    """The Mailtrap-Signature of a webhook call: the secret's text is the key, though it looks like hex."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def event_word(item: Any) -> str:
    """What an event is called. Raises AnymailWebhookValidationFailure for what is no event."""
    if not isinstance(item, dict) or not isinstance(item.get("event"), str):
        raise AnymailWebhookValidationFailure("it holds something that is no event.")
    word: str = item["event"]
    return word


@dataclass(frozen=True, kw_only=True)
class MailtrapTrackingOptions(WebhookOptions):
    tracking_secret: tuple[Secret, ...] = secrets(
        "Signing secret of the tracking webhook, or a list of them: each stream has a webhook of its own."
    )


class MailtrapTracking(MailtrapWebhook[MailtrapTrackingOptions]):
    Options = MailtrapTrackingOptions
    secret_option = "tracking_secret"

    def events(self, item: dict[str, Any]) -> Events:
        word = event_word(item)
        if word.startswith("inbound"):
            raise AnymailConfigurationError(
                f"Mailtrap's {word} webhook calls Anymail's Mailtrap tracking URL: "
                "set the webhook's URL to mailtrap/inbound/."
            )
        event_type, reject_reason = EVENTS.get(word, (EventType.UNKNOWN, None))
        reason, category = text_of(item.get("reason")), text_of(item.get("bounce_category"))
        if event_type == EventType.BOUNCED and category:
            reject_reason = BOUNCES.get(category.lower(), reject_reason)
        if event_type == EventType.REJECTED and reason:
            said = reason.lower()
            reject_reason = next((one for words, one in SUPPRESSIONS.items() if words in said), reject_reason)
        tag = text_of(item.get("category"))
        yield AnymailTrackingEvent(
            event_type=event_type,
            reject_reason=reject_reason,
            message_id=text_of(item.get("message_id")),
            timestamp=posix_time(item.get("timestamp")),
            event_id=text_of(item.get("event_id")),
            recipient=text_of(item.get("email")),
            metadata=object_of(item.get("custom_variables")),
            tags=[tag] if tag else [],
            # Events of the account's activity log have a description of their own.
            description=reason or category or text_of(item.get("description")),
            mta_response=text_of(item.get("response")),
            user_agent=text_of(item.get("user_agent")),
            click_url=text_of(item.get("url")),
            esp_event=item,
        )
