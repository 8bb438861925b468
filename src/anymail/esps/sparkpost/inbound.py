"""SparkPost's relay webhook: https://developers.sparkpost.com/api/relay-webhooks/"""

from __future__ import annotations

from base64 import b64decode
from typing import Any

from anymail.esps.kit.values import string_of
from anymail.esps.kit.webhook import Events
from anymail.esps.sparkpost.tracking import SparkPostWebhook, SparkPostWebhookOptions
from anymail.exceptions import AnymailConfigurationError
from anymail.inbound import AnymailInboundMessage
from anymail.signals import AnymailInboundEvent


class SparkPostInbound(SparkPostWebhook[SparkPostWebhookOptions]):
    Options = SparkPostWebhookOptions
    receives_mail = True

    def events(self, item: dict[str, Any]) -> Events:
        event_class, relay = self.event_of(item)
        if not event_class:
            return
        if event_class != "relay_message":
            raise self.wrong_url("SparkPost's event webhook", "set its target to the URL", "tracking")
        # The API reference's own sample has none.
        protocol = relay.get("protocol") or "smtp"
        if protocol != "smtp":
            raise AnymailConfigurationError(
                f"SparkPost's relay webhook relays {protocol}, and Anymail reads only mail: "
                'set the protocol in its match to "SMTP".'
            )
        message = _message(relay["content"])
        message.envelope_sender = string_of(relay.get("msg_from"))
        message.envelope_recipient = string_of(relay.get("rcpt_to"))
        yield AnymailInboundEvent(message=message, esp_event=item)


def _message(content: dict[str, Any]) -> AnymailInboundMessage:
    raw = content["email_rfc822"]
    if content.get("email_rfc822_is_base64"):
        # The bytes may be of any charset: that is why they are in base64.
        return AnymailInboundMessage.parse_raw_mime_bytes(b64decode(raw))
    return AnymailInboundMessage.parse_raw_mime(raw)
