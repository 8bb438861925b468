"""Mailjet's event webhooks: https://dev.mailjet.com/email/guides/webhooks/

Mailjet signs nothing: its calls are known by basic auth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest

from anymail.conf import WebhookOptions
from anymail.esps.kit.values import json_object_of, text_of, text_or_digits_of
from anymail.esps.kit.webhook import Events, Webhook, json_body, posix_time
from anymail.exceptions import AnymailConfigurationError, AnymailWebhookValidationFailure
from anymail.signals import AnymailTrackingEvent, EventType, RejectReason

# What is not here is unknown. A reason of None: what ``error`` tells.
EVENT_TYPES: dict[str, tuple[str, str | None]] = {
    "sent": (EventType.DELIVERED, None),
    "open": (EventType.OPENED, None),
    "click": (EventType.CLICKED, None),
    "bounce": (EventType.BOUNCED, None),
    "blocked": (EventType.REJECTED, None),
    "spam": (EventType.COMPLAINED, RejectReason.SPAM),
    "unsub": (EventType.UNSUBSCRIBED, RejectReason.UNSUBSCRIBED),
}

# /email/guides/webhooks/, "Possible values for errors", by what they are related to; any other text is "other".
ERRORS: dict[str, str] = {
    # recipient
    "user unknown": RejectReason.BOUNCED,
    "mailbox inactive": RejectReason.BOUNCED,
    "quota exceeded": RejectReason.BOUNCED,
    "blacklisted": RejectReason.BLOCKED,
    "spam reporter": RejectReason.SPAM,
    # domain
    "invalid domain": RejectReason.BOUNCED,
    "no mail host": RejectReason.BOUNCED,
    "relay/access denied": RejectReason.BOUNCED,
    "relay-access denied": RejectReason.BOUNCED,
    "greylisted": RejectReason.OTHER,
    "typofix": RejectReason.INVALID,
    # spam
    "sender blocked": RejectReason.BLOCKED,
    "content blocked": RejectReason.BLOCKED,
    "policy issue": RejectReason.BLOCKED,
    # mailjet
    "preblocked": RejectReason.BLOCKED,
    "duplicate in campaign": RejectReason.OTHER,
    # content
    "bad or empty template": RejectReason.OTHER,
    "error in template language": RejectReason.OTHER,
    # system
    "system issue": RejectReason.OTHER,
    "protocol issue": RejectReason.OTHER,
    "connection issue": RejectReason.OTHER,
}
GREYLISTED = "greylisted"


class MailjetWebhook(Webhook[WebhookOptions]):
    """What Mailjet's webhooks have in common."""

    name = "Mailjet"
    slug = "mailjet"

    def items(self, request: HttpRequest) -> Sequence[Any]:
        """Events come alone or, where the webhook groups them, in an array."""
        body = json_body(request)
        if not isinstance(body, (dict, list)):
            raise AnymailWebhookValidationFailure("The body is neither a JSON object nor an array.")
        return body if isinstance(body, list) else [body]


class MailjetTracking(MailjetWebhook):
    def events(self, item: dict[str, Any]) -> Events:
        if "event" not in item and "Headers" in item:
            raise AnymailConfigurationError(
                "Mailjet's Parse API calls Anymail's Mailjet tracking URL: "
                "set the Url of the parse route to the URL mailjet/inbound/."
            )
        event_type, reject_reason = _kind(str(item["event"]), item)
        campaign = text_or_digits_of(item.get("customcampaign"))
        yield AnymailTrackingEvent(
            event_type=event_type,
            reject_reason=reject_reason,
            message_id=text_or_digits_of(item.get("MessageID")),
            timestamp=posix_time(item.get("time")),
            recipient=text_of(item.get("email")),
            # The EventPayload that the message was sent with.
            metadata=json_object_of(item.get("Payload")),
            tags=[campaign] if campaign else [],
            description=text_of(item.get("error")) or text_of(item.get("source")),
            mta_response=text_of(item.get("smtp_reply")) or text_of(item.get("comment")),
            user_agent=text_of(item.get("agent")),
            click_url=text_of(item.get("url")),
            esp_event=item,
        )


def _kind(word: str, item: dict[str, Any]) -> tuple[str, str | None]:
    """The event type and reject reason of an event."""
    event_type, reason = EVENT_TYPES.get(word, (EventType.UNKNOWN, None))
    error = (text_of(item.get("error")) or "").strip().lower()
    if event_type == EventType.BOUNCED and error == GREYLISTED and not item.get("hard_bounce"):
        event_type = EventType.DEFERRED
    return event_type, reason or (ERRORS.get(error, RejectReason.OTHER) if error else None)
