"""Mandrill's webhooks: https://mailchimp.com/developer/transactional/docs/webhooks/

One URL takes all: the tracking of sent messages, changes of the allow and deny lists, and received messages.
"""

from __future__ import annotations

import hmac
import json
import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from django.http import HttpRequest, QueryDict

from anymail.conf import Secret, WebhookOptions, option, optional, secrets
from anymail.esps.kit.values import object_of, text_of, texts_of
from anymail.esps.kit.webhook import (
    Events,
    NotConfigured,
    Webhook,
    any_secret,
    basic_auth,
    constant_time_equal,
    header,
    posix_time,
)
from anymail.esps.mandrill.inbound import received
from anymail.exceptions import AnymailWebhookValidationFailure
from anymail.signals import AnymailTrackingEvent, EventType, RejectReason


class WebhookUrl(Secret):
    """A URL that may hold a password, and so is not shown. Better without: Django's error pages show the setting."""


@dataclass(frozen=True, kw_only=True)
class MandrillWebhookOptions(WebhookOptions):
    webhook_key: tuple[Secret, ...] = secrets(
        "Authentication key of the webhook, or a list of them: each webhook and each inbound route has its own.",
        bare=True,
    )
    webhook_url: WebhookUrl | None = option(
        "The webhook's URL exactly as it is set at Mandrill; its `user:password@` may be left out where the call's "
        "Authorization header comes through. Needed behind a proxy that hides the scheme, host or path; otherwise it "
        "is that of the request.",
        default=None,
        convert=optional(WebhookUrl),
        bare=True,
    )


EVENT_TYPES: dict[str, tuple[str, str | None]] = {
    "send": (EventType.SENT, None),
    "delivered": (EventType.DELIVERED, None),
    "deferral": (EventType.DEFERRED, None),
    "hard_bounce": (EventType.BOUNCED, RejectReason.BOUNCED),
    "soft_bounce": (EventType.BOUNCED, RejectReason.BOUNCED),
    "open": (EventType.OPENED, None),
    "click": (EventType.CLICKED, None),
    "spam": (EventType.COMPLAINED, RejectReason.SPAM),
    "unsub": (EventType.UNSUBSCRIBED, RejectReason.UNSUBSCRIBED),
    "reject": (EventType.REJECTED, RejectReason.OTHER),
}
BOUNCES = frozenset({"hard_bounce", "soft_bounce"})
# The events of which the last SMTP reply tells.
WITH_REPLY = BOUNCES | {"deferral", "delivered"}

# A bounce's bgtools_code, where the reason is not that it bounced. Mandrill has no list of them; those seen agree
# with https://docs.sparkpost.com/docs/deliverability/bounce-classification-codes.
BOUNCE_CODES: dict[str, str] = {
    "24": RejectReason.TIMED_OUT,
    "25": RejectReason.BLOCKED,
    "50": RejectReason.BLOCKED,
    "51": RejectReason.SPAM,
    "52": RejectReason.SPAM,
    "54": RejectReason.BLOCKED,
}

# The reasons for which Mandrill refuses to send, the same as in the answer to /messages/send.
REJECTIONS: dict[str, str] = {
    "hard-bounce": RejectReason.BOUNCED,
    "soft-bounce": RejectReason.BOUNCED,
    "spam": RejectReason.SPAM,
    "unsub": RejectReason.UNSUBSCRIBED,
    "invalid": RejectReason.INVALID,
    "custom": RejectReason.BLOCKED,
    "rule": RejectReason.BLOCKED,
    "invalid-sender": RejectReason.BLOCKED,
    "unsigned": RejectReason.BLOCKED,
    "test-mode-limit": RejectReason.BLOCKED,
}

# Signs the call with no events by which Mandrill tries a URL before it shows the webhook's own key
# (https://mandrill.zendesk.com, article 360038740014).
TEST_KEY = "test-webhook"


def signature(key: str, url: str, form: QueryDict) -> str:
    """The X-Mandrill-Signature of a call with these fields.

    /developer/transactional/guides/track-respond-activity-webhooks/#authenticating-webhook-requests
    """
    fields = (f"{name}{value}" for name in sorted(form) for value in form.getlist(name))
    text = "".join((url, *fields)).encode("utf-8", "surrogatepass")
    return b64encode(hmac.new(key.encode(), text, "sha1").digest()).decode("ascii")


class MandrillWebhook(Webhook[MandrillWebhookOptions]):
    name = "Mandrill"
    slug = "mandrill"
    Options = MandrillWebhookOptions
    receives_mail = True

    @property
    def signature_configured(self) -> bool:
        """Always: without a key no call is taken but the one that tries the URL."""
        return True

    def verify(self, request: HttpRequest) -> str | None:
        given = header(request, "X-Mandrill-Signature")
        urls = list(self._urls(request))

        def signed_with(key: str) -> bool:
            return True in [constant_time_equal(given, signature(key, url, request.POST)) for url in urls]

        if any_secret(self.options.webhook_key, signed_with):
            # It covers the fields, but not how the body encodes them: an old call could pass for a new one.
            return given
        if signed_with(TEST_KEY) and self.items(request) == []:
            return None
        if not self.options.webhook_key:
            raise NotConfigured(
                "Set MANDRILL_WEBHOOK_KEY to the key that Mandrill shows with the webhook or inbound route."
            )
        # Neither the password nor the query string, which may hold another.
        shown = re.sub("//.*@", "//…@", urls[-1]).partition("?")[0]
        raise AnymailWebhookValidationFailure(
            f"its X-Mandrill-Signature is missing, or wrong for the URL {shown}. If that is not the URL at Mandrill, "
            "set MANDRILL_WEBHOOK_URL; else compare the webhook's key with MANDRILL_WEBHOOK_KEY."
        )

    def _urls(self, request: HttpRequest) -> Iterator[str]:
        """The forms that the URL may have at Mandrill."""
        url = self.options.webhook_url.reveal() if self.options.webhook_url else request.build_absolute_uri()
        scheme, _, rest = url.partition("://")
        credentials = (basic_auth(request) or b"").decode(errors="replace")
        if credentials and "@" not in rest.partition("/")[0]:
            yield f"{scheme}://{credentials}@{rest}"
            yield f"{scheme}://{quote(credentials, safe=':')}@{rest}"
        # Credentials may also be a proxy's, and not in the URL.
        yield url

    def items(self, request: HttpRequest) -> Sequence[Any]:
        try:
            found = json.loads(request.POST["mandrill_events"])
        except (KeyError, ValueError, RecursionError):
            raise AnymailWebhookValidationFailure("The form has no mandrill_events in JSON.") from None
        if not isinstance(found, list):
            raise AnymailWebhookValidationFailure("mandrill_events is not a JSON array.")
        return found

    def events(self, item: dict[str, Any]) -> Events:
        yield received(item) if item.get("event") == "inbound" else _tracked(item)


def _tracked(item: dict[str, Any]) -> AnymailTrackingEvent:
    word = item.get("event")
    event_type, reject_reason = EVENT_TYPES.get(str(word), (EventType.UNKNOWN, None))
    msg = object_of(item.get("msg"))
    reply = text_of(msg.get("diag"))
    description = None
    if word in BOUNCES:
        reject_reason = BOUNCE_CODES.get(str(msg.get("bgtools_code")), reject_reason)
        description = text_of(msg.get("bounce_description"))
    elif word == "reject":
        description = text_of(object_of(msg.get("reject")).get("reason"))
        reject_reason = REJECTIONS.get(description or "", reject_reason)
    # A change of a list has no message, but an entry of that list.
    entry = object_of(item.get("reject")) or object_of(item.get("entry"))
    return AnymailTrackingEvent(
        event_type=event_type,
        reject_reason=reject_reason,
        # In events of old messages, that in msg may have another form.
        message_id=text_of(item.get("_id")) or text_of(msg.get("_id")),
        timestamp=posix_time(item.get("ts")),
        recipient=text_of(msg.get("email")) or text_of(entry.get("email")),
        metadata=object_of(msg.get("metadata")),
        tags=texts_of(msg.get("tags")),
        description=description or text_of(entry.get("detail")) or text_of(entry.get("reason")),
        mta_response=reply or (_last_reply(msg.get("smtp_events")) if word in WITH_REPLY else None),
        user_agent=text_of(item.get("user_agent")),
        click_url=text_of(item.get("url")),
        esp_event=item,
    )


def _last_reply(smtp_events: Any) -> str | None:
    last = smtp_events[-1] if isinstance(smtp_events, list) and smtp_events else None
    return text_of(object_of(last).get("diag"))
