"""Unisender Go's webhook: https://godocs.unisender.ru/web-api-ref#callback-format"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest

from anymail.conf import Secret, WebhookOptions, secret, secrets
from anymail.esps.kit.values import object_of, text_of
from anymail.esps.kit.webhook import Events, Webhook, any_secret, constant_time_equal, utc_time
from anymail.exceptions import AnymailWebhookValidationFailure
from anymail.signals import AnymailTrackingEvent, EventType, RejectReason


@dataclass(frozen=True, kw_only=True)
class UnisenderGoTrackingOptions(WebhookOptions):
    api_key: Secret = secret("API key of the account, or of the project that the webhook belongs to.", bare=True)
    webhook_key: tuple[Secret, ...] = secrets(
        "More API keys that may sign webhook calls: those of other projects, or one that is about to replace another."
    )


STATUS = "transactional_email_status"

# /email-statuses
STATUSES: dict[str, str] = {
    "accepted": EventType.QUEUED,
    "sent": EventType.SENT,
    "delivered": EventType.DELIVERED,
    "soft_bounced": EventType.DEFERRED,
    "hard_bounced": EventType.BOUNCED,
    "opened": EventType.OPENED,
    "clicked": EventType.CLICKED,
    "unsubscribed": EventType.UNSUBSCRIBED,
    "subscribed": EventType.SUBSCRIBED,
    "spam": EventType.COMPLAINED,
}

# The delivery_status in delivery_info, of those that begin with "err". Any other of these is RejectReason.OTHER.
DELIVERY_STATUSES: dict[str, str | None] = {
    "err_user_unknown": RejectReason.BOUNCED,
    "err_user_inactive": RejectReason.BOUNCED,
    "err_will_retry": None,
    "err_mailbox_discarded": RejectReason.BOUNCED,
    "err_mailbox_full": RejectReason.BOUNCED,
    "err_spam_rejected": RejectReason.SPAM,
    "err_spam_skipped": RejectReason.SPAM,
    "err_spam_removed": RejectReason.SPAM,
    "err_blacklisted": RejectReason.BLOCKED,
    "err_too_large": RejectReason.BOUNCED,
    "err_unsubscribed": RejectReason.UNSUBSCRIBED,
    "err_unreachable": RejectReason.BOUNCED,
    "err_skip_letter": RejectReason.BOUNCED,
    "err_domain_inactive": RejectReason.BOUNCED,
    "err_destination_misconfigured": RejectReason.BOUNCED,
    "err_delivery_failed": RejectReason.OTHER,
    "err_lost": RejectReason.OTHER,
    "err_internal": RejectReason.OTHER,
}

_MD5 = re.compile("[0-9a-f]{32}")
_GZIP = b"\x1f\x8b"
# Of a call with its 100 events at most.
_MAX_UNPACKED = 10 * 1024 * 1024


class UnisenderGoTracking(Webhook[UnisenderGoTrackingOptions]):
    name = "Unisender Go"
    slug = "unisender_go"
    Options = UnisenderGoTrackingOptions

    @property
    def signature_configured(self) -> bool:
        """Always: the API key is needed."""
        return True

    def verify(self, request: HttpRequest) -> None:
        body = _unpacked(request)
        call = _read(body)
        given = call.get("auth")
        # Exactly once: the key must really come into what is hashed, in no place but one.
        if isinstance(given, str) and _MD5.fullmatch(given) and body.count(given.encode()) == 1:
            keys = (self.options.api_key, *self.options.webhook_key)
            if any_secret(
                keys, lambda key: constant_time_equal(given, signature(body.replace(given.encode(), key.encode())))
            ):
                return
        project = f" of project {call_project!r:.40}" if (call_project := _project(call)) else ""
        raise AnymailWebhookValidationFailure(
            f"its auth is missing or wrong. Compare UNISENDER_GO_API_KEY with the API key{project} at Unisender Go; "
            "UNISENDER_GO_WEBHOOK_KEY takes the keys of more projects."
        )

    def items(self, request: HttpRequest) -> Sequence[Any]:
        call = _read(_unpacked(request))
        if "events_by_user" not in call:
            # "Use single event" is on.
            return [call]
        users = call["events_by_user"]
        if not isinstance(users, list):
            raise AnymailWebhookValidationFailure("events_by_user is not a JSON array.")
        return [
            event
            for user in users
            for event in (user["events"] if isinstance(object_of(user).get("events"), list) else [user])
        ]

    def events(self, item: dict[str, Any]) -> Events:
        if not isinstance(item.get("event_name"), str):
            raise AnymailWebhookValidationFailure("it has no event_name.")
        if item["event_name"] != STATUS:
            # transactional_spam_block is about a domain, not about a message.
            return
        data = item.get("event_data", item)
        metadata = dict(object_of(data.get("metadata")))
        info = object_of(data.get("delivery_info"))
        delivery_status = text_of(info.get("delivery_status"))
        yield AnymailTrackingEvent(
            event_type=STATUSES.get(str(data.get("status")), EventType.UNKNOWN),
            reject_reason=_reject_reason(delivery_status or ""),
            message_id=text_of(metadata.pop("anymail_id", None)) or text_of(data.get("job_id")),
            timestamp=utc_time(data.get("event_time")),
            recipient=text_of(data.get("email")),
            metadata=metadata,
            description=delivery_status or text_of(data.get("comment")),
            mta_response=text_of(info.get("destination_response")),
            user_agent=text_of(info.get("user_agent")),
            click_url=text_of(data.get("url")),
            esp_event=data,
        )


def signature(body: bytes) -> str:
    """The ``auth`` of a call, whose ``body`` has the API key in its place."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def _reject_reason(delivery_status: str) -> str | None:
    if not delivery_status.startswith("err"):
        return None
    return DELIVERY_STATUSES.get(delivery_status, RejectReason.OTHER)


def _unpacked(request: HttpRequest) -> bytes:
    """The body of a call, also where the webhook's format is json_post_gzip."""
    body = request.body
    if not body.startswith(_GZIP):
        return body
    try:
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
        unpacked = unpacker.decompress(body, _MAX_UNPACKED)
    except zlib.error:
        raise AnymailWebhookValidationFailure("The body is not gzip.") from None
    if not unpacker.eof:
        raise AnymailWebhookValidationFailure("The body is too large or cut off.")
    return unpacked


def _read(body: bytes) -> dict[str, Any]:
    try:
        call = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise AnymailWebhookValidationFailure("The body is not JSON.") from None
    if not isinstance(call, dict):
        raise AnymailWebhookValidationFailure("The body is not a JSON object.")
    return call


def _project(call: dict[str, Any]) -> str | None:
    """The id of the project that a call is about; None where it is about the account."""
    users = call.get("events_by_user")
    where = users[0] if isinstance(users, list) and users else call
    return text_of(object_of(where).get("project_id"))
