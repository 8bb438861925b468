"""Mandrill's inbound events: https://mailchimp.com/developer/transactional/guides/set-up-inbound-email-processing/

They come to the same URL as all others, in one call with them.
"""

from __future__ import annotations

from typing import Any

from anymail.esps.kit.values import number_of, object_of, string_of
from anymail.esps.kit.webhook import posix_time
from anymail.inbound import AnymailInboundMessage
from anymail.signals import AnymailInboundEvent


def received(item: dict[str, Any]) -> AnymailInboundEvent:
    """The event of an element of ``mandrill_events`` that is a received message."""
    msg = item["msg"]
    message = AnymailInboundMessage.parse_raw_mime(msg["raw_msg"])
    # The sender in the data is that of mail sent through Mandrill.
    message.envelope_recipient = string_of(msg.get("email"))
    message.spam_score = number_of(object_of(msg.get("spam_report")).get("score"))
    return AnymailInboundEvent(message=message, timestamp=posix_time(item.get("ts")), esp_event=item)
