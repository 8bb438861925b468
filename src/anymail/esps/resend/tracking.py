"""Resend's tracking webhook, and the signature of all its webhooks.

https://resend.com/docs/webhooks/event-types and /docs/webhooks/verify-webhooks-requests
"""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from django.http import HttpRequest

from anymail.conf import Secret, WebhookOptions, secrets
from anymail.esps.kit.values import from_json, json_object_of, list_of, object_of, string_of
from anymail.esps.kit.webhook import Events, Webhook, any_secret, constant_time_equal, header, json_object, utc_time
from anymail.exceptions import AnymailConfigurationError, AnymailWebhookValidationFailure
from anymail.signals import AnymailTrackingEvent, EventType, RejectReason

OptionsT = TypeVar("OptionsT", bound=WebhookOptions)

# /docs/webhooks/event-types
EVENTS: dict[str, str] = {
    "email.scheduled": EventType.QUEUED,
    "email.sent": EventType.SENT,
    "email.delivered": EventType.DELIVERED,
    "email.delivery_delayed": EventType.DEFERRED,
    "email.bounced": EventType.BOUNCED,
    "email.complained": EventType.COMPLAINED,
    "email.opened": EventType.OPENED,
    "email.clicked": EventType.CLICKED,
    "email.failed": EventType.FAILED,
    "email.suppressed": EventType.REJECTED,
}

# Of a bounce: its subType, then its type, then what its message has said since before there were those.
# /docs/dashboard/emails/email-bounces
BOUNCES: dict[str, str] = {
    "Suppressed": RejectReason.BLOCKED,
    "OnAccountSuppressionList": RejectReason.BLOCKED,
    "Permanent": RejectReason.BOUNCED,
    "Transient": RejectReason.BOUNCED,
    "Temporary": RejectReason.BOUNCED,
    "Undetermined": RejectReason.BOUNCED,
}
BOUNCE_MESSAGES: dict[str, str] = {
    "suppressed sending": RejectReason.BLOCKED,
    "bounce message": RejectReason.BOUNCED,
}

# The reason of email.suppressed; another is the account's own doing.
SUPPRESSIONS: dict[str, str] = {
    "previous_bounce": RejectReason.BOUNCED,
    "previous_complaint": RejectReason.SPAM,
}


@dataclass(frozen=True, slots=True)
class Call:
    """One webhook call: its ``svix-id`` (None if it has none) and its body."""

    event_id: str | None
    body: dict[str, Any]


class ResendWebhook(Webhook[OptionsT]):
    """One endpoint of Resend's webhooks. Each has secrets of its own, in the option ``secret_option``."""

    name = "Resend"
    slug = "resend"
    secret_option: ClassVar[str]

    @property
    def _secrets(self) -> tuple[Secret, ...]:
        found: tuple[Secret, ...] = getattr(self.options, self.secret_option)
        return found

    @property
    def signature_configured(self) -> bool:
        return bool(self._secrets)

    def verify(self, request: HttpRequest) -> None:
        if not self._secrets:
            return
        setting = f"RESEND_{self.secret_option.upper()}"
        message_id, timestamp, given = (_header(request, name) for name in ("id", "timestamp", "signature"))
        if not (message_id and timestamp and given):
            raise AnymailWebhookValidationFailure(
                f"a header of its signature is missing, which {setting} asks for: "
                "svix-id, svix-timestamp or svix-signature."
            )
        signatures = [text for version, _, text in (one.partition(",") for one in given.split(" ")) if version == "v1"]

        def matches(secret: str) -> bool:
            right = signature(signing_key(secret, setting), message_id, timestamp, request.body)
            return True in [constant_time_equal(one, right) for one in signatures]

        if not any_secret(self._secrets, matches):
            raise AnymailWebhookValidationFailure(
                f"its signature is wrong. Compare {setting} with the signing secret of this endpoint at Resend."
            )
        self.check_age(timestamp)

    def call_id(self, request: HttpRequest) -> str:
        """/docs/webhooks/retries-and-replays"""
        return _header(request, "id")

    def items(self, request: HttpRequest) -> Sequence[Any]:
        return [Call(_header(request, "id") or None, json_object(request))]


def _header(request: HttpRequest, name: str) -> str:
    """A header of the signature, under Svix's name or that of the Standard Webhooks."""
    prefix = "svix" if header(request, "svix-signature") or header(request, "svix-id") else "webhook"
    return header(request, f"{prefix}-{name}")


def signing_key(secret: str, setting: str) -> bytes:
    """The key in a signing secret: base64 after ``whsec_``. Raises AnymailConfigurationError if there is none."""
    try:
        key = b64decode(secret.strip().removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise AnymailConfigurationError(
            f"{setting} is not a signing secret of Resend's: copy that of the endpoint, which starts with whsec_."
        )
    return key


def signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """The signature of a call, in base64: https://docs.svix.com/receiving/verifying-payloads/how-manual"""
    signed = f"{message_id}.{timestamp}.".encode("utf-8", "surrogateescape") + body
    return b64encode(hmac.digest(key, signed, "sha256")).decode("ascii")


@dataclass(frozen=True, kw_only=True)
class ResendTrackingOptions(WebhookOptions):
    signing_secret: tuple[Secret, ...] = secrets(
        "Signing secret (`whsec_…`) of the tracking endpoint, or a list of them."
    )


class ResendTracking(ResendWebhook[ResendTrackingOptions]):
    Options = ResendTrackingOptions
    secret_option = "signing_secret"

    def events(self, item: Call) -> Events:
        kind = item.body.get("type")
        if kind == "email.received":
            raise AnymailConfigurationError(
                "Resend's email.received webhook calls Anymail's Resend tracking URL: "
                "set its endpoint at Resend to the URL resend/inbound/."
            )
        data = object_of(item.body.get("data"))
        bounce, suppressed, click = (object_of(data.get(name)) for name in ("bounce", "suppressed", "click"))
        headers = _custom_headers(data)
        yield AnymailTrackingEvent(
            event_type=EVENTS.get(str(kind), EventType.UNKNOWN),
            reject_reason=_reject_reason(bounce, suppressed),
            # Not data.message_id, which is the Message-ID header.
            message_id=string_of(data.get("email_id")),
            timestamp=utc_time(item.body.get("created_at")),
            event_id=item.event_id,
            recipient=_recipient(data),
            metadata=json_object_of(headers.get("x-metadata")),
            tags=[str(tag) for tag in list_of(from_json(headers.get("x-tags")))],
            description=string_of(
                bounce.get("message") or suppressed.get("message") or object_of(data.get("failed")).get("reason")
            ),
            mta_response=_lines(bounce.get("diagnosticCode") or suppressed.get("diagnosticCode")),
            user_agent=string_of(click.get("userAgent")),
            click_url=string_of(click.get("link")),
            esp_event=item.body,
        )


def _reject_reason(bounce: dict[str, Any], suppressed: dict[str, Any]) -> str | None:
    if bounce:
        words = (BOUNCES.get(str(bounce.get(field))) for field in ("subType", "type"))
        message = str(bounce.get("message"))
        said = (reason for words, reason in BOUNCE_MESSAGES.items() if words in message)
        return next(filter(None, (*words, *said)), RejectReason.OTHER)
    if suppressed:
        return SUPPRESSIONS.get(str(suppressed.get("reason")), RejectReason.BLOCKED)
    return None


def _recipient(data: dict[str, Any]) -> str | None:
    """The bare address. There is an event for each recipient, of whom ``to`` is said to be the one."""
    to = data.get("to")
    first = string_of(to[0] if isinstance(to, list) and to else to) or string_of(data.get("email"))
    return first.rpartition("<")[2].strip("> ") if first else None


def _custom_headers(data: dict[str, Any]) -> dict[str, Any]:
    pairs = map(object_of, list_of(data.get("headers")))
    return {str(header.get("name")).lower(): header.get("value") for header in pairs}


def _lines(value: Any) -> str | None:
    return "\n".join(map(str, value)) if isinstance(value, list) and value else string_of(value)
