"""Postmark's tracking webhooks: https://postmarkapp.com/developer/webhooks/webhooks-overview"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest

from anymail.conf import WebhookOptions
from anymail.esps.kit.values import object_of, text_of, text_or_digits_of
from anymail.esps.kit.webhook import Events, Webhook, json_object, utc_time
from anymail.exceptions import AnymailConfigurationError
from anymail.signals import AnymailTrackingEvent, EventType, RejectReason

Kind = tuple[EventType, RejectReason | None]

# https://postmarkapp.com/developer/api/bounce-api#bounce-types
BOUNCE_TYPES: dict[str, Kind] = {
    "HardBounce": (EventType.BOUNCED, RejectReason.BOUNCED),
    "SoftBounce": (EventType.BOUNCED, RejectReason.BOUNCED),
    "Transient": (EventType.DEFERRED, None),
    "DnsError": (EventType.DEFERRED, None),
    "OpenRelayTest": (EventType.DEFERRED, None),
    "Unsubscribe": (EventType.UNSUBSCRIBED, None),
    "Subscribe": (EventType.SUBSCRIBED, None),
    "AutoResponder": (EventType.AUTORESPONDED, None),
    "AddressChange": (EventType.AUTORESPONDED, None),
    "ChallengeVerification": (EventType.AUTORESPONDED, None),
    "SpamNotification": (EventType.COMPLAINED, None),
    "SpamComplaint": (EventType.COMPLAINED, None),
    "Unknown": (EventType.UNKNOWN, None),
    "VirusNotification": (EventType.BOUNCED, RejectReason.OTHER),
    "BadEmailAddress": (EventType.REJECTED, RejectReason.INVALID),
    "ManuallyDeactivated": (EventType.REJECTED, RejectReason.BLOCKED),
    # Both by the receiving server: for content or a block list, and for the sender's own policy.
    "Blocked": (EventType.BOUNCED, RejectReason.BLOCKED),
    "DMARCPolicy": (EventType.BOUNCED, RejectReason.BLOCKED),
    "Unconfirmed": (EventType.REJECTED, None),
    "SMTPApiError": (EventType.FAILED, None),
    "TemplateRenderingFailed": (EventType.FAILED, None),
    "InboundError": (EventType.INBOUND_FAILED, None),
}

# What a record is about where nothing finer is said, and the field that holds its time.
RECORD_TYPES: dict[str, tuple[Kind, str]] = {
    "Delivery": ((EventType.DELIVERED, None), "DeliveredAt"),
    "Bounce": ((EventType.BOUNCED, None), "BouncedAt"),
    "SpamComplaint": ((EventType.COMPLAINED, None), "BouncedAt"),
    "Open": ((EventType.OPENED, None), "ReceivedAt"),
    "Click": ((EventType.CLICKED, None), "ReceivedAt"),
    "SubscriptionChange": ((EventType.UNSUBSCRIBED, None), "ChangedAt"),
}

# Why sending to an address was stopped, of a SubscriptionChange, where a Bounce or SpamComplaint record has told it
# already: https://postmarkapp.com/developer/webhooks/subscription-change-webhook
REPEATED = frozenset({"HardBounce", "SpamComplaint"})


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
        by_recipient = event_type in (EventType.OPENED, EventType.CLICKED)
        yield AnymailTrackingEvent(
            event_type=event_type,
            reject_reason=reject_reason,
            message_id=text_of(metadata.get("anymail_id")) or text_of(item.get("MessageID")),
            timestamp=utc_time(item.get(time_field)),
            event_id=text_or_digits_of(item.get("ID")),
            recipient=text_of(item.get("Email")) or text_of(item.get("Recipient")),
            metadata=metadata,
            tags=[tag] if tag else [],
            description=text_of(item.get("Description")) or text_of(item.get("SuppressionReason")),
            mta_response=text_of(item.get("Details")),
            user_agent=text_of(item.get("UserAgent")) if by_recipient else None,
            ip=text_of(object_of(item.get("Geo")).get("IP")) if by_recipient else None,
            click_url=text_of(item.get("OriginalLink")) if event_type == EventType.CLICKED else None,
            esp_event=item,
        )


def _kind(item: dict[str, Any], record_type: str | None) -> tuple[Kind, str]:
    """The event type and reject reason of a record, and the field with its time."""
    default, time_field = RECORD_TYPES.get(str(record_type), ((EventType.UNKNOWN, None), ""))
    if record_type in ("Bounce", "SpamComplaint"):
        return BOUNCE_TYPES.get(str(item.get("Type")), default), time_field
    if record_type == "SubscriptionChange" and not item.get("SuppressSending"):
        return (EventType.SUBSCRIBED, None), time_field
    if record_type == "SubscriptionChange" and item.get("SuppressionReason") in REPEATED:
        return (EventType.UNKNOWN, None), time_field
    return default, time_field
