"""SendGrid's Inbound Parse: https://www.twilio.com/docs/sendgrid/for-developers/parsing-email/inbound-email

A call that is answered with 3xx or 4xx is not repeated, and its mail is lost; after 5xx SendGrid tries for 72 hours
(https://support.sendgrid.com/hc/en-us/articles/46513815674395). So only calls that are not SendGrid's get a 400.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest

from anymail.conf import Secret, WebhookOptions, secrets
from anymail.esps.kit.forms import MULTIPART, Form, form_of
from anymail.esps.kit.values import json_object_of, list_of, number_of, string_of
from anymail.esps.kit.webhook import Events, Webhook, json_body
from anymail.esps.sendgrid.tracking import signed_timestamp
from anymail.exceptions import AnymailConfigurationError, AnymailError, AnymailWebhookValidationFailure
from anymail.inbound import AnymailInboundMessage
from anymail.signals import AnymailInboundEvent


@dataclasses.dataclass(frozen=True, kw_only=True)
class SendGridInboundOptions(WebhookOptions):
    inbound_webhook_verification_key: tuple[Secret, ...] = secrets(
        "The public key of the security policy with which Inbound Parse signs, or a list of them. Unset: no check.",
        bare=True,
    )


class SendGridInbound(Webhook[SendGridInboundOptions]):
    name = "SendGrid"
    slug = "sendgrid"
    Options = SendGridInboundOptions
    receives_mail = True
    # SendGrid tries for 72 hours, and does not say that it signs each attempt afresh.
    default_max_age = 73 * 3600

    @property
    def signature_configured(self) -> bool:
        return bool(self.options.inbound_webhook_verification_key)

    def verify(self, request: HttpRequest) -> str | None:
        if self.signature_configured:
            try:
                self.check_age(signed_timestamp(request, self.options.inbound_webhook_verification_key, "INBOUND"))
            except AnymailWebhookValidationFailure as error:
                raise AnymailWebhookValidationFailure(f"{error} If it was SendGrid's, its mail is lost.") from error
        return None

    def items(self, request: HttpRequest) -> Sequence[Any]:
        if request.content_type == "application/json":
            body = json_body(request)
            if isinstance(body, list) and any(isinstance(one, dict) and "event" in one for one in body):
                raise AnymailConfigurationError(
                    "SendGrid's event webhook calls Anymail's SendGrid inbound URL: set it to the URL "
                    "sendgrid/tracking/."
                )
        if request.content_type != MULTIPART or not form_of(request).parts:
            raise AnymailWebhookValidationFailure("The body is not a form as Inbound Parse posts it.")
        return [request]

    def events(self, item: HttpRequest) -> Events:
        try:
            message = _received(form_of(item))
        except Exception as error:
            raise AnymailError("A mail from SendGrid's Inbound Parse cannot be read.") from error
        yield AnymailInboundEvent(message=message, esp_event=item)


def _received(form: Form) -> AnymailInboundMessage:
    # Without headers it is posted as the raw, full MIME message.
    message = _parsed(form) if "headers" in form else AnymailInboundMessage.parse_raw_mime_bytes(_field(form, "email"))
    message.envelope_sender, message.envelope_recipient = _envelope(form)
    message.spam_score = number_of(form.get("spam_score"))
    return message


def _parsed(form: Form) -> AnymailInboundMessage:
    charsets = json.loads(form.get("charsets") or b"{}")
    attachments: dict[str, dict[str, str]] = json.loads(form.get("attachment-info") or b"{}")
    return AnymailInboundMessage.construct(
        raw_headers=_field(form, "headers").decode("utf-8", "surrogateescape"),
        text=_text(form.get("text"), charsets.get("text")),
        html=_text(form.get("html"), charsets.get("html")),
        attachments=[
            AnymailInboundMessage.construct_attachment(
                content_type=info.get("type") or "application/octet-stream",
                content=_field(form, key),
                charset=info.get("charset"),
                filename=info.get("filename") or info.get("name"),
                content_id=info.get("content-id"),
            )
            for key, info in sorted(attachments.items(), key=_number)
            if key in form
        ],
    )


def _field(form: Form, name: str) -> bytes:
    content = form.get(name)
    if content is None:
        raise AnymailWebhookValidationFailure(f"it has no {name}.")
    return content


def _text(content: bytes | None, charset: str | None) -> str | None:
    """A body in the charset that ``charsets`` names for it; None for an empty one."""
    if not content:
        return None
    return AnymailInboundMessage.construct_attachment("text/plain", content, charset=charset).get_content_text()


def _number(attachment: tuple[str, Any]) -> int:
    """That of "attachment10", which the JSON may have before "attachment2"."""
    digits = attachment[0].removeprefix("attachment")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else 0


def _envelope(form: Form) -> tuple[str | None, str | None]:
    """Sender and first recipient of the SMTP session; None for what cannot be read."""
    envelope = json_object_of(form.get("envelope"))
    recipients = list_of(envelope.get("to")) or [None]
    return string_of(envelope.get("from")), string_of(recipients[0])
