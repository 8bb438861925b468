"""SparkPost's event webhooks: https://developers.sparkpost.com/api/webhooks/

SparkPost signs nothing. A call is known by basic auth, or by a token in a header of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

from django.http import HttpRequest

from anymail.conf import Secret, WebhookOptions, boolean, option, secrets
from anymail.esps.kit.values import object_of, smtp_code_of, text_of, text_or_digits_of, texts_of
from anymail.esps.kit.webhook import (
    Events,
    Webhook,
    any_secret,
    constant_time_equal,
    header,
    json_body,
    posix_time,
    utc_time,
)
from anymail.exceptions import AnymailWebhookValidationFailure
from anymail.signals import AnymailTrackingEvent, EventType, RejectReason


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparkPostWebhookOptions(WebhookOptions):
    webhook_token: tuple[Secret, ...] = secrets(
        "What the header `SPARKPOST_WEBHOOK_TOKEN_HEADER` of every webhook call must hold, or a list: the `auth_token` "
        "of a relay webhook, or the value of one of a webhook's `custom_headers`."
    )
    webhook_token_header: str = option(
        'The header with that token; `"Authorization"` for one like `"Bearer ..."`, as OAuth 2 brings it.',
        default="X-MessageSystems-Webhook-Token",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparkPostTrackingOptions(SparkPostWebhookOptions):
    track_initial_open_as_opened: bool = option(
        "Report SparkPost's `initial_open` and `amp_initial_open` as opened too.", default=False, convert=boolean
    )


# https://developers.sparkpost.com/api/events/; what is not here is unknown.
EVENT_TYPES: dict[str, EventType] = {
    "injection": EventType.QUEUED,
    "delivery": EventType.DELIVERED,
    "bounce": EventType.BOUNCED,
    "out_of_band": EventType.BOUNCED,
    "delay": EventType.DEFERRED,
    "policy_rejection": EventType.REJECTED,
    "spam_complaint": EventType.COMPLAINED,
    "generation_failure": EventType.FAILED,
    "generation_rejection": EventType.REJECTED,
    "open": EventType.OPENED,
    "amp_open": EventType.OPENED,
    "click": EventType.CLICKED,
    "amp_click": EventType.CLICKED,
    "list_unsubscribe": EventType.UNSUBSCRIBED,
    "link_unsubscribe": EventType.UNSUBSCRIBED,
}
INITIAL_OPENS = frozenset({"initial_open", "amp_initial_open"})

# https://docs.sparkpost.com/docs/deliverability/bounce-classification-codes: what a class says of the event,
# where it says more than the event's type, and the reason.
BOUNCE_CLASSES: dict[str, tuple[EventType | None, RejectReason | None]] = {
    "1": (None, RejectReason.OTHER),  # Undetermined
    "10": (None, RejectReason.INVALID),  # Invalid Recipient
    "20": (None, RejectReason.BOUNCED),  # Soft Bounce
    "21": (None, RejectReason.BOUNCED),  # DNS Failure
    "22": (None, RejectReason.BOUNCED),  # Mailbox Full
    "23": (None, RejectReason.BOUNCED),  # Too Large
    "24": (None, RejectReason.TIMED_OUT),  # Timeout
    "25": (None, RejectReason.BLOCKED),  # Admin Failure
    "30": (None, RejectReason.BOUNCED),  # Generic Bounce: No RCPT
    "40": (None, RejectReason.BOUNCED),  # Generic Bounce
    "50": (None, RejectReason.BLOCKED),  # Mail Block
    "51": (None, RejectReason.SPAM),  # Spam Block
    "52": (None, RejectReason.SPAM),  # Spam Content
    "53": (None, RejectReason.OTHER),  # Prohibited Attachment
    "54": (None, RejectReason.BLOCKED),  # Relaying Denied
    "60": (EventType.AUTORESPONDED, None),  # Auto-Reply
    "70": (None, RejectReason.BOUNCED),  # Transient Failure
    "80": (EventType.SUBSCRIBED, None),  # Subscribe
    "90": (EventType.UNSUBSCRIBED, None),  # Unsubscribe
    "100": (EventType.AUTORESPONDED, None),  # Challenge-Response
}
# With this class a bounce was not the receiving server's: SparkPost did not send.
ADMIN_FAILURE = "25"
# The sources of a suppression (https://developers.sparkpost.com/api/suppression-list/), as they end a reason such as
# "554 5.7.1 recipient address was suppressed due to customer policy: List Unsubscribe".
SUPPRESSIONS: dict[str, RejectReason] = {
    "Spam Complaint": RejectReason.SPAM,
    "List Unsubscribe": RejectReason.UNSUBSCRIBED,
    "Unsubscribe Link": RejectReason.UNSUBSCRIBED,
    "Bounce Rule": RejectReason.BOUNCED,
}
_OPENED_OR_CLICKED = frozenset({EventType.OPENED, EventType.CLICKED})
# By the receiving server; the codes of other events are SparkPost's own.
_ANSWERED = frozenset({EventType.BOUNCED, EventType.DEFERRED})

OptionsT = TypeVar("OptionsT", bound=SparkPostWebhookOptions)


class SparkPostWebhook(Webhook[OptionsT]):
    """What SparkPost's webhooks have in common: a list of items, each with one event."""

    name = "SparkPost"
    slug = "sparkpost"

    @property
    def signature_configured(self) -> bool:
        return bool(self.options.webhook_token)

    def verify(self, request: HttpRequest) -> str | None:
        given = header(request, self.options.webhook_token_header)
        if self.signature_configured and not any_secret(
            self.options.webhook_token, lambda token: constant_time_equal(given, token)
        ):
            raise AnymailWebhookValidationFailure(
                f"its {self.options.webhook_token_header} is missing or wrong. Compare the webhook's settings at "
                "SparkPost with SPARKPOST_WEBHOOK_TOKEN."
            )
        return None

    def call_id(self, request: HttpRequest) -> str:
        """The batch's, the same when it is sent again: https://developers.sparkpost.com/api/webhooks/"""
        return header(request, "X-MessageSystems-Batch-ID")

    def items(self, request: HttpRequest) -> Sequence[Any]:
        body = json_body(request)
        if not isinstance(body, list):
            raise AnymailWebhookValidationFailure("The body is not a JSON array.")
        return body

    @staticmethod
    def event_of(item: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The class of an item's event, and the event; a ping has neither."""
        if not item["msys"]:
            return "", {}
        [(event_class, event)] = item["msys"].items()
        return event_class, dict(event)


class SparkPostTracking(SparkPostWebhook[SparkPostTrackingOptions]):
    Options = SparkPostTrackingOptions

    def events(self, item: dict[str, Any]) -> Events:
        event_class, event = self.event_of(item)
        if event_class == "relay_message":
            raise self.wrong_url("SparkPost's relay webhook", "set its target to the URL", "inbound")
        if not event_class:
            return
        event_type, reject_reason = self._kind(event)
        by_someone = event_type in _OPENED_OR_CLICKED
        yield AnymailTrackingEvent(
            event_type=event_type,
            reject_reason=reject_reason,
            # SparkPost's own message_id is of one recipient, and not known when the message is sent.
            message_id=text_or_digits_of(event.get("transmission_id")),
            timestamp=posix_time(event.get("timestamp")) or utc_time(event.get("timestamp")),
            event_id=text_or_digits_of(event.get("event_id")),
            # rcpt_to is in lower case.
            recipient=text_of(event.get("raw_rcpt_to")) or text_of(event.get("rcpt_to")),
            metadata=object_of(event.get("rcpt_meta")),
            tags=_tags(event),
            mta_response=text_of(event.get("raw_reason")),
            smtp_code=smtp_code_of(event.get("error_code")) if event_type in _ANSWERED else None,
            user_agent=text_of(event.get("user_agent")) if by_someone else None,
            click_url=text_of(event.get("target_link_url")) if event_type == EventType.CLICKED else None,
            ip=text_of(event.get("ip_address")) if by_someone else None,
            by_machine=_by_machine(event.get("user_agent_parsed")) if by_someone else None,
            esp_event=item,
        )

    def _kind(self, event: dict[str, Any]) -> tuple[EventType, RejectReason | None]:
        """The event type and reject reason of an event."""
        word = str(event.get("type"))
        event_type = EVENT_TYPES.get(word, EventType.UNKNOWN)
        if word in INITIAL_OPENS and self.options.track_initial_open_as_opened:
            event_type = EventType.OPENED
        bounce_class = text_or_digits_of(event.get("bounce_class"))
        said, reason = (None, None) if bounce_class is None else BOUNCE_CLASSES.get(bounce_class, _OTHER_CLASS)
        suppression = _suppression(text_of(event.get("raw_reason")) or "")
        if word == "bounce" and (bounce_class == ADMIN_FAILURE or (bounce_class is None and suppression)):
            event_type = EventType.REJECTED
        event_type = said or event_type
        if event_type == EventType.REJECTED:
            return event_type, suppression or reason
        return event_type, reason if event_type == EventType.BOUNCED else None


_OTHER_CLASS = (None, RejectReason.OTHER)


def _suppression(reason: str) -> RejectReason | None:
    """Why an address is suppressed; None where the reason is no suppression."""
    if "recipient address was suppressed" not in reason:
        return None
    return next((found for source, found in SUPPRESSIONS.items() if source in reason), RejectReason.BLOCKED)


def _tags(event: dict[str, Any]) -> list[str]:
    """The campaign, and the recipient's tags."""
    campaign = text_or_digits_of(event.get("campaign_id"))
    return list(dict.fromkeys([*([campaign] if campaign else []), *filter(None, texts_of(event.get("rcpt_tags")))]))


def _by_machine(user_agent: object) -> bool | None:
    """Whether SparkPost knows that an open or click was made by a machine on the recipient's behalf."""
    flags = [object_of(user_agent).get(name) for name in ("is_prefetched", "is_proxy")]
    known = [flag for flag in flags if isinstance(flag, bool)]
    return any(known) if known else None
