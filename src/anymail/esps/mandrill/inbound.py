"""Mandrill's inbound events: https://mailchimp.com/developer/transactional/guides/set-up-inbound-email-processing/

They come to the same URL as all others, in one call with them.
"""

from __future__ import annotations

import math
from typing import Any

from anymail.esps.webhook import posix_time
from anymail.inbound import AnymailInboundMessage
from anymail.signals import AnymailInboundEvent


def received(item: dict[str, Any]) -> AnymailInboundEvent:
    """The event of an element of ``mandrill_events`` that is a received message."""
    msg = item["msg"]
    message = AnymailInboundMessage.parse_raw_mime(msg["raw_msg"])
    # The sender in the data is that of mail sent through Mandrill.
    message.envelope_recipient = msg["email"] if isinstance(msg.get("email"), str) else None
    report = msg.get("spam_report")
    message.spam_score = _number(report.get("score")) if isinstance(report, dict) else None
    return AnymailInboundEvent(message=message, timestamp=posix_time(item.get("ts")), esp_event=item)


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
