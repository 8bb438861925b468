"""Postmark's inbound webhook: https://postmarkapp.com/developer/webhooks/inbound-webhook"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest

from anymail.conf import WebhookOptions
from anymail.esps.kit.values import number_of, string_of, text_of
from anymail.esps.kit.webhook import Events, Webhook, json_object
from anymail.exceptions import AnymailConfigurationError
from anymail.inbound import AnymailInboundMessage
from anymail.mail.addresses import EmailAddress, format_addresses
from anymail.signals import AnymailInboundEvent


class PostmarkInbound(Webhook[WebhookOptions]):
    name = "Postmark"
    slug = "postmark"
    receives_mail = True

    def items(self, request: HttpRequest) -> Sequence[Any]:
        return [json_object(request)]

    def events(self, item: dict[str, Any]) -> Events:
        if item.get("RecordType", "Inbound") != "Inbound":
            raise AnymailConfigurationError(
                f"Postmark's {item['RecordType']} webhook calls Anymail's Postmark inbound URL: "
                "set it to the URL postmark/tracking/."
            )
        headers = [(str(header["Name"]), str(header["Value"])) for header in item.get("Headers") or []]
        envelope_sender = None
        # Only the first is the receiving server's own; a later one came with the message.
        if headers and headers[0][0].lower() == "return-path":
            envelope_sender = headers.pop(0)[1].strip("<>")
        message = _from_raw(item) if item.get("RawEmail") else _from_fields(item, headers)
        # Those of Postmark's spam filter stand above those that the mail came with.
        first = {name.lower(): value for name, value in reversed(headers)}
        message.envelope_sender = envelope_sender
        message.envelope_recipient = text_of(item.get("OriginalRecipient"))
        message.stripped_text = string_of(item.get("StrippedTextReply"))
        message.spam_detected = first.get("x-spam-status", "").lower() == "yes"
        message.spam_score = number_of(first.get("x-spam-score"))
        yield AnymailInboundEvent(message=message, event_id=string_of(item.get("MessageID")), esp_event=item)


def _from_raw(item: dict[str, Any]) -> AnymailInboundMessage:
    message = AnymailInboundMessage.parse_raw_mime_bytes(item["RawEmail"].encode("utf-8", "surrogateescape"))
    if item.get("BccFull") and "Bcc" not in message:
        message["Bcc"] = _addresses(item["BccFull"])
    return message


def _from_fields(item: dict[str, Any], headers: list[tuple[str, str]]) -> AnymailInboundMessage:
    names = {name.lower() for name, _ in headers}
    # Postmark lifts these out of the headers.
    for name, field in (("Date", "Date"), ("Reply-To", "ReplyTo")):
        if item.get(field) and name.lower() not in names:
            headers = [*headers, (name, item[field])]
    return AnymailInboundMessage.construct(
        from_email=_addresses([item["FromFull"]]) if item.get("FromFull") else item.get("From"),
        to=_addresses(item.get("ToFull")) or item.get("To"),
        cc=_addresses(item.get("CcFull")) or item.get("Cc"),
        bcc=_addresses(item.get("BccFull")) or item.get("Bcc"),
        subject=item.get("Subject"),
        headers=headers,
        text=item.get("TextBody") or None,
        html=item.get("HtmlBody") or None,
        attachments=[
            AnymailInboundMessage.construct_attachment(
                content_type=attachment["ContentType"],
                # The control panel's Check button calls it Data.
                content=attachment.get("Content", attachment.get("Data", "")),
                base64=True,
                filename=attachment.get("Name") or None,
                content_id=attachment.get("ContentID") or None,
            )
            for attachment in item.get("Attachments") or []
        ],
    )


def _addresses(full: list[dict[str, str]] | None) -> str:
    return format_addresses(EmailAddress(one.get("Name", ""), one["Email"]) for one in full or [])
