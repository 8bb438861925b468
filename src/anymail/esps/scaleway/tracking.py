"""Scaleway's tracking webhook, through a topic.

https://www.scaleway.com/en/docs/transactional-email/reference-content/webhook-events-payloads/
"""

from __future__ import annotations

import dataclasses
import json
from email.errors import MessageError
from email.header import decode_header, make_header
from typing import Any

from anymail.conf import option, optional
from anymail.esps.kit.topics import message_of
from anymail.esps.kit.values import list_of, object_of, string_of
from anymail.esps.kit.webhook import Events, utc_time
from anymail.esps.scaleway.sending import identifier
from anymail.esps.scaleway.topics import SNSOptions, SNSWebhook
from anymail.exceptions import AnymailWebhookValidationFailure
from anymail.signals import AnymailTrackingEvent, EventType, RejectReason


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScalewayTrackingOptions(SNSOptions):
    project_id: str | None = option(
        "UUID of the project whose events are taken, unless `SCALEWAY_WEBHOOK_TOPIC_ARNS` says from where to take any.",
        default=None,
        convert=optional(identifier),
    )


Kind = tuple[str, str | None]
_ELSE = 0
_DROPPED: dict[int, Kind] = {
    5: (EventType.BOUNCED, RejectReason.BOUNCED),
    # Given up after soft bounces.
    _ELSE: (EventType.BOUNCED, RejectReason.TIMED_OUT),
}

# The type of an event, and the first digit of the SMTP code where it matters.
EVENTS: dict[str, dict[int, Kind]] = {
    "email_queued": {_ELSE: (EventType.QUEUED, None)},
    "email_delivered": {_ELSE: (EventType.DELIVERED, None)},
    "email_deferred": {_ELSE: (EventType.DEFERRED, None)},
    "email_dropped": _DROPPED,
    # Only in Scaleway's examples for Terraform.
    "email_bounced": _DROPPED,
    "email_mailbox_not_found": {_ELSE: (EventType.BOUNCED, RejectReason.BOUNCED)},
    # Judged by Scaleway, by the receiving server or by the recipient, which only the code tells apart.
    "email_spam": {
        2: (EventType.COMPLAINED, RejectReason.SPAM),
        4: (EventType.BOUNCED, RejectReason.SPAM),
        5: (EventType.BOUNCED, RejectReason.SPAM),
        _ELSE: (EventType.REJECTED, RejectReason.SPAM),
    },
    "email_blocklisted": {_ELSE: (EventType.REJECTED, RejectReason.BLOCKED)},
    # About an address, not a message.
    "blocklist_created": {_ELSE: (EventType.UNKNOWN, None)},
}
_UNKNOWN: dict[int, Kind] = {_ELSE: (EventType.UNKNOWN, None)}

# The blocklist_type of what stopped an email_blocklisted.
BLOCKLISTS: dict[str, Kind] = {
    "mailbox_full": (EventType.REJECTED, RejectReason.BOUNCED),
    "mailbox_not_found": (EventType.REJECTED, RejectReason.BOUNCED),
}


class ScalewayTracking(SNSWebhook[ScalewayTrackingOptions]):
    Options = ScalewayTrackingOptions

    def notified(self, envelope: dict[str, Any]) -> Events:
        event = message_of(envelope, "it is not of an email")
        project_id = self.options.project_id
        if project_id and not self.options.webhook_topic_arns and event.get("project_id") != project_id:
            raise AnymailWebhookValidationFailure("its project is not the one of SCALEWAY_PROJECT_ID.")
        code = _smtp_code(event.get("email_response_code"))
        event_type, reject_reason = _kind(event, code)
        headers = _headers(event.get("email_headers"))
        mta_response = f"{code or ''} {string_of(event.get('email_response_message')) or ''}".strip()
        return [
            AnymailTrackingEvent(
                event_type=event_type,
                reject_reason=reject_reason,
                message_id=string_of(event.get("email_id")),
                timestamp=utc_time(event.get("created_at")) or utc_time(envelope["Timestamp"]),
                event_id=string_of(event.get("id")) or envelope["MessageId"],
                recipient=string_of(event.get("email_to")),
                metadata=metadata_in(headers),
                tags=tags_in(headers),
                description=string_of(event.get("email_error")) or string_of(event.get("blocklist_reason")),
                mta_response=mta_response or None,
                esp_event=event,
            )
        ]


def _kind(event: dict[str, Any], code: int) -> Kind:
    word = str(event.get("type"))
    if word == "email_blocklisted" and (kind := BLOCKLISTS.get(str(event.get("blocklist_type")))):
        return kind
    kinds = EVENTS.get(word, _UNKNOWN)
    return kinds.get(code // 100, kinds[_ELSE])


def _smtp_code(value: Any) -> int:
    """The code, or 0 where there is none."""
    text = str(value)
    return int(text) if len(text) == 3 and text.isascii() and text.isdigit() else 0


def _headers(headers: Any) -> dict[str, Any]:
    pairs = map(object_of, list_of(headers))
    return {str(header.get("key")).lower(): header.get("value") for header in pairs}


def metadata_in(headers: dict[str, Any]) -> dict[str, Any]:
    """The metadata of an email, by its headers (names in lower case)."""
    return object_of(_json(headers.get("x-metadata")))


def tags_in(headers: dict[str, Any]) -> list[str]:
    """The tags of an email, by its headers (names in lower case)."""
    return [str(tag) for tag in list_of(_json(headers.get("x-tags")))]


def _json(value: Any) -> Any:
    """The JSON document that is a header's value, unfolded and without encoded-words. None if it is none."""
    try:
        return json.loads(str(make_header(decode_header("".join(value.splitlines()))))) if value else None
    except (AttributeError, ValueError, LookupError, MessageError, RecursionError):
        return None
