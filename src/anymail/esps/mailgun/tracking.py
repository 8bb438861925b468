"""Mailgun's tracking webhooks: https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/webhooks

Today's come as JSON; those set up before 2018 come as forms, as did the "legacy webhooks" of Mailgun's manual.
"""

from __future__ import annotations

import dataclasses
import hmac
import json
import re
from collections.abc import Sequence
from email.utils import parseaddr
from typing import Any

from django.http import HttpRequest, QueryDict

from anymail.conf import Secret, WebhookOptions, secret, secrets
from anymail.esps.kit.values import enhanced_code_of, object_of, smtp_code_of, text_of, texts_of
from anymail.esps.kit.webhook import (
    Events,
    NotConfigured,
    Webhook,
    any_secret,
    constant_time_equal,
    json_object,
    posix_time,
)
from anymail.exceptions import AnymailConfigurationError, AnymailWebhookValidationFailure
from anymail.signals import AnymailTrackingEvent, EventType, RejectReason


@dataclasses.dataclass(frozen=True, kw_only=True)
class MailgunWebhookOptions(WebhookOptions):
    webhook_signing_key: tuple[Secret, ...] = secrets(
        "HTTP webhook signing key (or a list, also for the keys of subaccounts). By default `MAILGUN_API_KEY`."
    )
    api_key: Secret | None = secret("API key of the account.", default=None, bare=True)


_DIGEST = re.compile("[0-9a-f]{64}")


def signature(key: str, timestamp: str, token: str) -> str:
    """See https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks."""
    return hmac.new(key.encode(), f"{timestamp}{token}".encode(), "sha256").hexdigest()


def is_json(request: HttpRequest) -> bool:
    return request.content_type == "application/json"


class MailgunWebhook(Webhook[MailgunWebhookOptions]):
    """What tracking and inbound have in common: the signature, which covers no body."""

    name = "Mailgun"
    slug = "mailgun"
    Options = MailgunWebhookOptions
    # A call is repeated for eight hours.
    default_max_age = 43200

    @property
    def keys(self) -> Sequence[Secret]:
        api_key = self.options.api_key
        return self.options.webhook_signing_key or ((api_key,) if api_key else ())

    @property
    def signature_configured(self) -> bool:
        return bool(self.keys)

    def verify(self, request: HttpRequest) -> str:
        if not self.keys:
            raise NotConfigured(
                'Set MAILGUN_WEBHOOK_SIGNING_KEY to the "HTTP webhook signing key" of Mailgun\'s dashboard.'
            )
        # Variables and headers of a message may have these names; of a form, get() returns the last.
        fields = json_object(request).get("signature") if is_json(request) else request.POST
        if not isinstance(fields, (dict, QueryDict)):
            raise AnymailWebhookValidationFailure("The body has no signature.")
        timestamp, token = str(fields.get("timestamp", "")), str(fields.get("token", ""))
        # A subaccount's events are signed with the parent account's key too.
        given = [str(fields.get(name, "")) for name in ("signature", "parent-signature")]
        given = [one for one in given if _DIGEST.fullmatch(one)]
        if not (token and given and f"{timestamp}{token}".isascii()):
            raise AnymailWebhookValidationFailure("The signature is missing or malformed.")
        if not any_secret(
            self.keys, lambda key: True in [constant_time_equal(one, signature(key, timestamp, token)) for one in given]
        ):
            raise AnymailWebhookValidationFailure(
                "The signature is wrong. Compare MAILGUN_WEBHOOK_SIGNING_KEY with the signing key at Mailgun."
            )
        self.check_age(timestamp)
        # Both: what is signed does not tell where the timestamp ends and the token begins.
        return f"{timestamp}{token}"


# https://documentation.mailgun.com/docs/mailgun/user-manual/events/event-types
EVENTS: dict[str, EventType] = {
    "accepted": EventType.QUEUED,
    "rejected": EventType.REJECTED,
    "delivered": EventType.DELIVERED,
    "opened": EventType.OPENED,
    "clicked": EventType.CLICKED,
    "unsubscribed": EventType.UNSUBSCRIBED,
    "complained": EventType.COMPLAINED,
}

# "failed" by its severity, and by its code where Mailgun did not even try.
SEVERITIES: dict[str, EventType] = {"temporary": EventType.DEFERRED, "permanent": EventType.BOUNCED}
NOT_TRIED = frozenset({605, 606, 607, 625})

REASONS: dict[str, RejectReason] = {
    "bounce": RejectReason.BOUNCED,
    "suppress-bounce": RejectReason.BOUNCED,
    "suppress-unsubscribe": RejectReason.UNSUBSCRIBED,
    "suppress-complaint": RejectReason.SPAM,
    "espblock": RejectReason.BLOCKED,
    "blacklisted": RejectReason.BLOCKED,
    "old": RejectReason.TIMED_OUT,
}

# delivery-status.code, where the reason does not tell.
CODES: dict[int, RejectReason] = {
    605: RejectReason.BOUNCED,
    606: RejectReason.UNSUBSCRIBED,
    607: RejectReason.SPAM,
    625: RejectReason.BLOCKED,
}

LEGACY_EVENTS: dict[str, EventType] = {
    "delivered": EventType.DELIVERED,
    "dropped": EventType.REJECTED,
    "bounced": EventType.BOUNCED,
    "opened": EventType.OPENED,
    "clicked": EventType.CLICKED,
    "unsubscribed": EventType.UNSUBSCRIBED,
    "complained": EventType.COMPLAINED,
}
LEGACY_CODES: dict[str, RejectReason] = {
    "499": RejectReason.TIMED_OUT,
    "605": RejectReason.BOUNCED,
    "606": RejectReason.UNSUBSCRIBED,
    "607": RejectReason.SPAM,
}
# "400" to "599", or RFC 3463's "4.2.2" and "5.1.1".
_REFUSED_CODE = re.compile(r"[45](\d\d|\.\d+\.\d+)")

# The fields of legacy opened, clicked and unsubscribed events; any other is a variable of the message.
_LEGACY_FIELDS = frozenset({
    "event", "recipient", "domain", "ip", "country", "region", "city", "user-agent", "device-type", "client-type",
    "client-name", "client-os", "campaign-id", "campaign-name", "tag", "mailing-list", "timestamp", "token",
    "signature", "body-plain", "h", "message-id",
})  # fmt: skip
# What has a reason, and what the recipient did with a browser.
_REFUSED = frozenset({EventType.BOUNCED, EventType.REJECTED})
_BY_RECIPIENT = frozenset({EventType.OPENED, EventType.CLICKED})
_SIGNED_FIELDS = frozenset({"timestamp", "token", "signature"})


class MailgunTracking(MailgunWebhook):
    def items(self, request: HttpRequest) -> Sequence[Any]:
        item = json_object(request) if is_json(request) else request.POST
        if not isinstance(item.get("event-data"), dict) and not {"event", "sender"} & item.keys():
            raise AnymailWebhookValidationFailure("The body tells of no event.")
        return [item]

    def events(self, item: Any) -> Events:
        yield _legacy_event(item) if isinstance(item, QueryDict) else _event(item)


def _event(item: dict[str, Any]) -> AnymailTrackingEvent:
    data = item["event-data"]
    status = object_of(data.get("delivery-status"))
    headers = object_of(object_of(data.get("message")).get("headers"))
    client = object_of(data.get("client-info"))
    event_type = _event_type(data, status)
    refused, by_recipient = event_type in _REFUSED, event_type in _BY_RECIPIENT
    described = text_of(status.get("description")) or text_of(object_of(data.get("reject")).get("reason"))
    return AnymailTrackingEvent(
        event_type=event_type,
        reject_reason=_reject_reason(data, status) if refused else None,
        message_id=_bracketed(headers.get("message-id")),
        timestamp=posix_time(data.get("timestamp")),
        # The event's own id is unique only within a day.
        event_id=str(item["signature"]["token"]),
        recipient=text_of(data.get("recipient")) or parseaddr(str(headers.get("to", "")))[1] or None,
        metadata=object_of(data.get("user-variables")),
        tags=texts_of(data.get("tags")),
        description=described or (None if refused else text_of(data.get("reason"))),
        mta_response=text_of(status.get("message")),
        smtp_code=smtp_code_of(status.get("code")),
        enhanced_code=enhanced_code_of(status.get("enhanced-code")) or enhanced_code_of(status.get("bounce-code")),
        user_agent=text_of(client.get("user-agent")) if by_recipient else None,
        ip=text_of(data.get("ip")) if by_recipient else None,
        by_machine=_by_machine(client) if by_recipient else None,
        click_url=text_of(data.get("url")) if event_type == EventType.CLICKED else None,
        esp_event=item,
    )


def _by_machine(client: dict[str, Any]) -> bool | None:
    """Mailgun names the machine ("apple", "gmail", "generic"), and leaves the name of a human empty."""
    bot = client.get("bot")
    return bool(bot) if isinstance(bot, (str, bool)) else None


def _event_type(data: dict[str, Any], status: dict[str, Any]) -> EventType:
    if data.get("event") != "failed":
        return EVENTS.get(str(data.get("event")), EventType.UNKNOWN)
    not_tried = str(data.get("reason")).startswith("suppress-") or _code(status) in NOT_TRIED
    if data.get("severity") == "permanent" and not_tried:
        return EventType.REJECTED
    return SEVERITIES.get(str(data.get("severity")), EventType.UNKNOWN)


def _reject_reason(data: dict[str, Any], status: dict[str, Any]) -> RejectReason | None:
    reason, code = data.get("reason"), _code(status)
    if not reason:
        return RejectReason.OTHER if data.get("event") == "rejected" else CODES.get(code)
    if reason in ("generic", "hardfail") and data.get("severity") == "permanent":
        delayed = object_of(data.get("flags")).get("is-delayed-bounce")
        if delayed or 500 <= code <= 599:
            return RejectReason.BOUNCED
    return REASONS.get(str(reason)) or CODES.get(code, RejectReason.OTHER)


def _code(status: dict[str, Any]) -> int:
    code = status.get("code")
    return code if isinstance(code, int) else 0


def _legacy_event(fields: QueryDict) -> AnymailTrackingEvent:
    # A message's variables come after the event's own fields.
    first = {name: str(values[0]) for name, values in fields.lists()}
    if first.get("event", "inbound") == "inbound":
        raise AnymailConfigurationError(
            "A Mailgun inbound route calls Anymail's Mailgun tracking URL: forward it to the URL mailgun/inbound_mime/."
        )
    event_type, code = LEGACY_EVENTS.get(first["event"], EventType.UNKNOWN), first.get("code")
    by_recipient = event_type in _BY_RECIPIENT
    return AnymailTrackingEvent(
        event_type=event_type,
        reject_reason=_legacy_reject_reason(code) if event_type in _REFUSED else None,
        message_id=_bracketed(first.get("Message-Id") or first.get("message-id")),
        timestamp=posix_time(fields["timestamp"]),
        event_id=fields.get("token") or None,
        recipient=text_of(first.get("recipient")),
        metadata=_legacy_metadata(fields, first),
        tags=fields.getlist("tag") or fields.getlist("X-Mailgun-Tag"),
        description=text_of(first.get("description")),
        mta_response=text_of(first.get("error")) or text_of(first.get("notification")),
        smtp_code=smtp_code_of(code),
        enhanced_code=enhanced_code_of(code),
        user_agent=text_of(first.get("user-agent")) if by_recipient else None,
        ip=text_of(first.get("ip")) if by_recipient else None,
        click_url=text_of(first.get("url")) if event_type == EventType.CLICKED else None,
        esp_event=fields,
    )


def _legacy_reject_reason(code: str | None) -> RejectReason | None:
    if not code:
        return None
    return LEGACY_CODES.get(code) or (RejectReason.BOUNCED if _REFUSED_CODE.fullmatch(code) else RejectReason.OTHER)


def _legacy_metadata(fields: QueryDict, first: dict[str, str]) -> dict[str, Any]:
    if "message-headers" in first:
        try:
            headers = json.loads(first["message-headers"])
            variables = [json.loads(value) for name, value in headers if name == "X-Mailgun-Variables"]
        except (ValueError, TypeError, RecursionError):
            return {}
        return {name: value for each in variables for name, value in object_of(each).items()}
    if first["event"] not in ("opened", "clicked", "unsubscribed"):
        return {}
    known = _LEGACY_FIELDS | {"url"} if first["event"] == "clicked" else _LEGACY_FIELDS
    return {
        name: values[0] if name in _SIGNED_FIELDS else values[-1]
        for name, values in fields.lists()
        if name not in known or (len(values) > 1 and name != "tag")
    }


def _bracketed(message_id: Any) -> str | None:
    """A message id as the sending API gave it. Webhooks leave out its angle brackets."""
    if not isinstance(message_id, str) or not message_id:
        return None
    return message_id if message_id.startswith("<") else f"<{message_id}>"
