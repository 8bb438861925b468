"""Postal's HTTP endpoints for received mail: https://docs.postalserver.io/developer/http-payloads"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest, QueryDict

from anymail.esps.kit.values import number_of, string_of, text_of, text_or_digits_of
from anymail.esps.kit.webhook import Events, json_object, posix_time
from anymail.esps.postal.tracking import FORM, PostalWebhook
from anymail.exceptions import AnymailConfigurationError, AnymailWebhookValidationFailure
from anymail.inbound import AnymailInboundMessage
from anymail.signals import AnymailInboundEvent

# The fields of the hash format that are headers of the message.
HEADERS = {
    "Date": "date",
    "In-Reply-To": "in_reply_to",
    "References": "references",
    "Auto-Submitted": "auto_submitted",
}
SPAM_STATUSES = {"NotSpam": False, "Spam": True}
SPAM_WORDS = {"no": False, "yes": True}
_ATTACHMENT = re.compile(r"attachments\[(\d{1,6})\]\[(\w+)\]")


class PostalInbound(PostalWebhook):
    """Reads both formats, "raw message" and "hash", in both encodings, JSON and form."""

    receives_mail = True

    def items(self, request: HttpRequest) -> Sequence[Any]:
        return [_from_form(request.POST) if request.content_type == FORM else json_object(request)]

    def events(self, item: dict[str, Any]) -> Events:
        if "rcpt_to" not in item:
            if item.keys() & {"event", "payload", "status"}:
                raise AnymailConfigurationError(
                    "A webhook of Postal's calls Anymail's Postal inbound URL: set it to the URL postal/tracking/."
                )
            raise AnymailWebhookValidationFailure("it has no rcpt_to.")
        raw = string_of(item.get("message"))
        message = _from_hash(item) if raw is None else _from_raw(raw)
        message.envelope_sender = text_of(item.get("mail_from"))
        message.envelope_recipient = string_of(item["rcpt_to"])
        yield AnymailInboundEvent(
            message=message,
            event_id=text_or_digits_of(item.get("id")),
            timestamp=posix_time(item.get("timestamp")),
            esp_event=item,
        )


def _from_form(form: QueryDict) -> dict[str, Any]:
    """A form as the JSON of the same message. What is null there is empty here."""
    item: dict[str, Any] = {}
    attachments: dict[int, dict[str, str]] = {}
    for name, values in form.lists():
        if match := _ATTACHMENT.fullmatch(name):
            attachments.setdefault(int(match[1]), {})[match[2]] = str(values[-1])
        else:
            item[name] = values[-1] or None
    item["reply_to"] = form.getlist("reply_to")
    item["attachments"] = [attachment for _, attachment in sorted(attachments.items())]
    return item


def _from_raw(raw: str) -> AnymailInboundMessage:
    message = AnymailInboundMessage.parse_raw_mime_bytes(b64decode(raw))
    inspection = _inspection(message)
    message.spam_detected = SPAM_WORDS.get(inspection.get("x-postal-spam", "").lower())
    message.spam_score = number_of(inspection.get("x-postal-spam-score"))
    return message


def _inspection(message: AnymailInboundMessage) -> dict[str, str]:
    """The headers that Postal put above its own Received. Those below came with the message."""
    above: dict[str, str] = {}
    for name, value in message.raw_items():
        if name.lower() == "received":
            return above
        above.setdefault(name.lower(), str(value).strip())
    return {}


def _from_hash(item: dict[str, Any]) -> AnymailInboundMessage:
    message_id, replies = string_of(item.get("message_id")), string_of(item.get("replies_from_plain_body"))
    reply_to = item.get("reply_to")
    headers = {
        **{name: string_of(item.get(field)) for name, field in HEADERS.items()},
        "Reply-To": ", ".join(map(str, reply_to)) if isinstance(reply_to, list) else None,
        "Message-ID": f"<{message_id}>" if message_id else None,
    }
    body = string_of(item.get("plain_body"))
    message = AnymailInboundMessage.construct(
        from_email=string_of(item.get("from")),
        to=string_of(item.get("to")),
        cc=string_of(item.get("cc")),
        subject=string_of(item.get("subject")),
        headers={name: value for name, value in headers.items() if value},
        # Postal cuts quotations off the body where the endpoint is told to.
        text=f"{body or ''}\n\n{replies}" if replies else body,
        html=string_of(item.get("html_body")),
        attachments=[
            AnymailInboundMessage.construct_attachment(
                content_type=string_of(attachment.get("content_type")) or "",
                content=string_of(attachment.get("data")) or "",
                base64=True,
                filename=text_of(attachment.get("filename")),
            )
            for attachment in item.get("attachments") or ()
        ],
    )
    message.stripped_text = (body or "") if replies else None
    message.spam_detected = SPAM_STATUSES.get(str(item.get("spam_status")))
    return message
