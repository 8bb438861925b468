"""Brevo's tracking webhook: https://developers.brevo.com/docs/transactional-webhooks"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from django.http import HttpRequest

from anymail.conf import Secret, WebhookOptions, option, secrets
from anymail.esps.brevo.sending import BrevoResponseReader
from anymail.esps.kit.values import from_json, object_of, text_of, texts_of
from anymail.esps.kit.webhook import Events, Webhook, any_secret, constant_time_equal, header, json_body, posix_time
from anymail.exceptions import AnymailWebhookValidationFailure
from anymail.signals import AnymailTrackingEvent, EventType, RejectReason


def _header_secrets(value: Any) -> dict[str, tuple[Secret, ...]]:
    if not isinstance(value, Mapping):
        raise ValueError("a dict of header names and values is needed")
    return {
        str(name): tuple(map(Secret, values if isinstance(values, (list, tuple)) else [values]))
        for name, values in value.items()
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class BrevoWebhookOptions(WebhookOptions):
    webhook_token: tuple[Secret, ...] = secrets(
        "The bearer token that the webhook was created with, in place of `WEBHOOK_SECRET`, or a list of them."
    )
    webhook_secret_headers: dict[str, tuple[Secret, ...]] = option(
        'The `headers` that the webhook was created with: `{"X-Shop-Key": "value"}`, or a list of values.',
        default={},
        convert=_header_secrets,
    )


OptionsT = TypeVar("OptionsT", bound=BrevoWebhookOptions)


class BrevoWebhook(BrevoResponseReader, Webhook[OptionsT]):
    """What both webhooks share. https://developers.brevo.com/docs/secured-webhooks: Brevo signs nothing."""

    # https://developers.brevo.com/docs/retry-mechanism: any other error status ends it.
    retry_status = 429

    @property
    def signature_configured(self) -> bool:
        return bool(self.options.webhook_token or self.options.webhook_secret_headers)

    def verify(self, request: HttpRequest) -> None:
        if self.options.webhook_token:
            scheme, _, token = header(request, "Authorization").partition(" ")
            right = any_secret(self.options.webhook_token, partial(constant_time_equal, token))
            if scheme.lower() != "bearer" or not right:
                raise AnymailWebhookValidationFailure("its bearer token is missing or not the one in WEBHOOK_TOKEN.")
        for name, values in self.options.webhook_secret_headers.items():
            if not any_secret(values, partial(constant_time_equal, header(request, name))):
                raise AnymailWebhookValidationFailure(f"its header {name} is missing or wrong.")


EVENTS: dict[str, tuple[EventType, RejectReason | None]] = {
    "request": (EventType.QUEUED, None),
    "sent": (EventType.QUEUED, None),
    "delivered": (EventType.DELIVERED, None),
    "hard_bounce": (EventType.BOUNCED, RejectReason.BOUNCED),
    # A temporary refusal that Brevo gave up on.
    "soft_bounce": (EventType.BOUNCED, RejectReason.BOUNCED),
    "blocked": (EventType.REJECTED, RejectReason.BLOCKED),
    # An address that Brevo did not try.
    "invalid_email": (EventType.REJECTED, RejectReason.INVALID),
    "spam": (EventType.COMPLAINED, None),
    "complaint": (EventType.COMPLAINED, None),
    "deferred": (EventType.DEFERRED, None),
    "unique_opened": (EventType.OPENED, None),
    "opened": (EventType.OPENED, None),
    "unique_proxy_open": (EventType.OPENED, None),
    "proxy_open": (EventType.OPENED, None),
    "click": (EventType.CLICKED, None),
    "unsubscribed": (EventType.UNSUBSCRIBED, None),
    "unsubscribe": (EventType.UNSUBSCRIBED, None),
    "error": (EventType.FAILED, None),
    # Of a marketing webhook.
    "list_addition": (EventType.SUBSCRIBED, None),
}

_OPENED_OR_CLICKED = frozenset({EventType.OPENED, EventType.CLICKED})
# Opens that a privacy proxy made, as Apple's does for all its users.
_BY_PROXY = frozenset({"unique_proxy_open", "proxy_open"})
# The documentation's samples have seconds where Brevo sends milliseconds.
_LEAST_MILLISECONDS = 10**11


class BrevoTracking(BrevoWebhook[BrevoWebhookOptions]):
    Options = BrevoWebhookOptions

    def items(self, request: HttpRequest) -> Sequence[Any]:
        """One event, or the array of a webhook that is ``batched``."""
        body = json_body(request)
        if isinstance(body, dict) and "items" in body:
            raise self.wrong_url("Brevo's inbound webhook", "set its url to", "inbound")
        if not isinstance(body, (dict, list)):
            raise AnymailWebhookValidationFailure("The body is neither a JSON object nor an array.")
        return body if isinstance(body, list) else [body]

    def events(self, item: dict[str, Any]) -> Events:
        event = item.get("event")
        if not isinstance(event, str):
            raise AnymailWebhookValidationFailure("An item has no event.")
        event_type, reject_reason = EVENTS.get(event, (EventType.UNKNOWN, None))
        reason = text_of(item.get("reason"))
        # "blocked : due to unsubscribed user"
        if event == "blocked" and reason and "unsubscribed user" in reason:
            reject_reason = RejectReason.UNSUBSCRIBED
        yield AnymailTrackingEvent(
            event_type=event_type,
            reject_reason=reject_reason,
            message_id=text_of(item.get("message-id")),
            timestamp=posix_time(_posix_seconds(item.get("ts_epoch"))),
            recipient=text_of(item.get("email")),
            metadata=_metadata(item.get("X-Mailin-custom")),
            tags=_tags(item),
            mta_response=reason,
            user_agent=text_of(item.get("user_agent")) if event_type in _OPENED_OR_CLICKED else None,
            click_url=text_of(item.get("link")) if event_type == EventType.CLICKED else None,
            by_machine=True if event in _BY_PROXY else None,
            esp_event=item,
        )


def _posix_seconds(ts_epoch: Any) -> float | None:
    """``ts_epoch`` in seconds. (The other times follow the account's time zone.)"""
    if isinstance(ts_epoch, bool) or not isinstance(ts_epoch, (int, float)):
        return None
    try:
        return ts_epoch if ts_epoch < _LEAST_MILLISECONDS else ts_epoch / 1000
    except OverflowError:
        return None


def _metadata(custom: Any) -> dict[str, Any]:
    """The metadata in the header X-Mailin-custom. Mail that others sent may have any text there."""
    return object_of(from_json(custom) if isinstance(custom, str) else custom)


def _tags(item: dict[str, Any]) -> list[str]:
    """``tags``; without them ``tag``, which holds a JSON list, or one tag from the header X-Mailin-Tag."""
    tags, tag = item.get("tags"), text_of(item.get("tag"))
    if not isinstance(tags, list):
        tags = from_json(tag)
    return texts_of(tags if isinstance(tags, list) else [tag])
