"""MailerSend's inbound routes: https://developers.mailersend.com/api/v1/email/inbound.html"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from anymail.conf import Secret, WebhookOptions, secrets
from anymail.esps.kit.values import text_or_digits_of
from anymail.esps.kit.webhook import Events, utc_time
from anymail.esps.mailersend.tracking import SignedWebhook
from anymail.exceptions import AnymailConfigurationError
from anymail.inbound import AnymailInboundMessage
from anymail.signals import AnymailInboundEvent


@dataclass(frozen=True, kw_only=True)
class MailerSendInboundOptions(WebhookOptions):
    inbound_secret: tuple[Secret, ...] = secrets(
        "Secret of the inbound route, or a list of them: each route has its own."
    )


class MailerSendInbound(SignedWebhook[MailerSendInboundOptions]):
    Options = MailerSendInboundOptions
    secret_option = "inbound_secret"
    receives_mail = True

    def events(self, item: dict[str, Any]) -> Events:
        if item["type"] != "inbound.message":
            raise AnymailConfigurationError(
                f"MailerSend's {item['type']} webhook calls Anymail's MailerSend inbound URL: "
                "set it to the URL mailersend/tracking/."
            )
        data = item["data"]
        message = AnymailInboundMessage.parse_raw_mime(data["raw"])
        message.envelope_sender = _email(data, "sender")
        message.envelope_recipient = _email(data, "recipients", "rcptTo", 0)
        yield AnymailInboundEvent(
            message=message,
            timestamp=utc_time(data.get("created_at")),
            event_id=text_or_digits_of(data.get("id")),
            esp_event=item,
        )


def _email(data: Any, *path: str | int) -> str | None:
    """The address at a place in the data. A bounce has no sender."""
    try:
        for step in (*path, "email"):
            data = data[step]
    except (KeyError, IndexError, TypeError):
        return None
    return data if isinstance(data, str) and data else None
