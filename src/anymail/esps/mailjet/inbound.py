"""Mailjet's Parse API: https://dev.mailjet.com/email/guides/parse-api/"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from anymail.esps.kit.values import number_of, text_of
from anymail.esps.kit.webhook import Events
from anymail.esps.mailjet.tracking import MailjetWebhook
from anymail.exceptions import AnymailConfigurationError
from anymail.inbound import AnymailInboundMessage
from anymail.signals import AnymailInboundEvent


class MailjetInbound(MailjetWebhook):
    receives_mail = True

    def events(self, item: dict[str, Any]) -> Events:
        if "event" in item:
            raise AnymailConfigurationError(
                f"Mailjet's {item['event']} trigger calls Anymail's Mailjet inbound URL: "
                "set it, under event notifications, to the URL mailjet/tracking/."
            )
        headers = list(_flat(item["Headers"]))
        names = {name.lower() for name, _ in headers}
        message = AnymailInboundMessage.construct(
            headers=headers,
            from_email=None if "from" in names else item.get("From"),
            subject=None if "subject" in names else item.get("Subject"),
            text=item.get("Text-part") or None,
            html=item.get("Html-part") or None,
            attachments=_attachments(item),
        )
        message.envelope_sender = text_of(item.get("Sender"))
        message.envelope_recipient = text_of(item.get("Recipient"))
        message.spam_score = number_of(item.get("SpamAssassinScore"))
        yield AnymailInboundEvent(message=message, esp_event=item)


def _flat(headers: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Headers as names and values: Mailjet has one value as a string, or all of a name in a list."""
    for name, values in headers.items():
        for value in values if isinstance(values, list) else [values]:
            yield name, str(value)


def _attachments(item: dict[str, Any]) -> Iterator[AnymailInboundMessage]:
    for part in item.get("Parts") or ():
        reference = str(part.get("ContentRef", ""))
        # Attachment1, InlineAttachment1; the bodies are Text-part and Html-part, and multiparts have none.
        if "Attachment" in reference and reference in item:
            yield _attachment(part.get("Headers") or {}, item[reference])


def _attachment(headers: dict[str, Any], content: str) -> AnymailInboundMessage:
    lines = (f"{name}: {' '.join(value.split())}\n" for name, value in _flat(headers))
    described = AnymailInboundMessage.parse_raw_mime("".join(lines))
    made = AnymailInboundMessage.construct_attachment(
        content_type=described.get_content_type(),
        content=content,
        base64=True,
        charset=described.get_content_charset(),
        filename=described.get_filename(),
        content_id=described.content_id,
    )
    disposition = described.get_content_disposition()
    if disposition in ("attachment", "inline") and disposition != made.get_content_disposition():
        filename = made.get_filename()
        del made["Content-Disposition"]
        made.add_header("Content-Disposition", disposition, **({"filename": filename} if filename else {}))
    return made
