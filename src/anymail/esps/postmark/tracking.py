"""Postmark's tracking webhooks: https://postmarkapp.com/developer/webhooks/webhooks-overview"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest

from anymail.conf import WebhookOptions
from anymail.esps.kit.values import string_of, text_of, text_or_digits_of
from anymail.esps.kit.webhook import Events, Webhook, json_object, utc_time
from anymail.exceptions import AnymailConfigurationError
from anymail.signals import AnymailTrackingEvent, EventType, RejectReason

# https://postmarkapp.com/developer/api/bounce-api, "Bounce types"
BOUNCE_TYPES: dict[str, tuple[str, str | None]] = {
    "HardBounce": (EventType.BOUNCED, RejectReason.BOUNCED),
    "SoftBounce": (EventType.BOUNCED, RejectReason.BOUNCED),
    "Transient": (EventType.DEFERRED, None),
    "DnsError": (EventType.DEFERRED, None),
    "OpenRelayTest": (EventType.DEFERRED, None),
    "Unsubscribe": (EventType.UNSUBSCRIBED, RejectReason.UNSUBSCRIBED),
    "ManualSuppression": (EventType.UNSUBSCRIBED, RejectReason.UNSUBSCRIBED),
    "Subscribe": (EventType.SUBSCRIBED, None),
    "AutoResponder": (EventType.AUTORESPONDED, None),
    "AddressChange": (EventType.AUTORESPONDED, None),
    "ChallengeVerification": (EventType.AUTORESPONDED, None),
    "SpamNotification": (EventType.COMPLAINED, RejectReason.SPAM),
    "SpamComplaint": (EventType.COMPLAINED, RejectReason.SPAM),
    "Unknown": (EventType.UNKNOWN, None),
    "VirusNotification": (EventType.BOUNCED, RejectReason.OTHER),
    "BadEmailAddress": (EventType.REJECTED, RejectReason.INVALID),
    "ManuallyDeactivated": (EventType.REJECTED, RejectReason.BLOCKED),
    "Blocked": (EventType.REJECTED, RejectReason.BLOCKED),
    "DMARCPolicy": (EventType.REJECTED, RejectReason.BLOCKED),
    "Unconfirmed": (EventType.REJECTED, None),
    "SMTPApiError": (EventType.FAILED, None),
    "TemplateRenderingFailed": (EventType.FAILED, None),
    "InboundError": (EventType.INBOUND_FAILED, None),
}

# What a record is about where nothing finer is said, and the field that holds its time.
RECORD_TYPES: dict[str, tuple[tuple[str, str | None], str]] = {
    "Delivery": ((EventType.DELIVERED, None), "DeliveredAt"),
    "Bounce": ((EventType.BOUNCED, None), "BouncedAt"),
    "SpamComplaint": ((EventType.COMPLAINED, None), "BouncedAt"),
    "Open": ((EventType.OPENED, None), "ReceivedAt"),
    "Click": ((EventType.CLICKED, None), "ReceivedAt"),
    "SubscriptionChange": ((EventType.UNSUBSCRIBED, None), "ChangedAt"),
}


class PostmarkTracking(Webhook[WebhookOptions]):
    name = "Postmark"
    slug = "postmark"

    def items(self, request: HttpRequest) -> Sequence[Any]:
        return [json_object(request)]

    def events(self, item: dict[str, Any]) -> Events:
        record_type = item.get("RecordType")
        if record_type == "Inbound" or (record_type is None and "FromFull" in item):
            raise AnymailConfigurationError(
                "Postmark's inbound webhook calls Anymail's Postmark tracking URL: "
                "set the server's inbound webhook to the URL postmark/inbound/."
            )
        metadata, tag = item.get("Metadata") or {}, text_of(item.get("Tag"))
        (event_type, reject_reason), time_field = _kind(item, record_type)
        yield AnymailTrackingEvent(
            event_type=event_type,
            reject_reason=reject_reason,
            message_id=text_of(metadata.get("anymail_id")) or text_of(item.get("MessageID")),
            timestamp=utc_time(item.get(time_field)),
            event_id=text_or_digits_of(item.get("ID")),
            recipient=text_of(item.get("Email")) or string_of(item.get("Recipient")),
            metadata=metadata,
            tags=[tag] if tag else [],
            description=string_of(item.get("Description")),
            mta_response=string_of(item.get("Details")),
            user_agent=string_of(item.get("UserAgent")),
            click_url=string_of(item.get("OriginalLink")),
            esp_event=item,
        )


def _kind(item: dict[str, Any], record_type: str | None) -> tuple[tuple[str, str | None], str]:
    """The event type and reject reason of a record, and the field with its time."""
    default, time_field = RECORD_TYPES.get(str(record_type), ((EventType.UNKNOWN, None), ""))
    if record_type in ("Bounce", "SpamComplaint"):
        return BOUNCE_TYPES.get(str(item.get("Type")), default), time_field
    if record_type == "SubscriptionChange":
        if item.get("SuppressSending"):
            return BOUNCE_TYPES.get(str(item.get("SuppressionReason")), default), time_field
        return (EventType.SUBSCRIBED, None), time_field
    return default, time_field
