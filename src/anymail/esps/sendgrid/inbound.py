"""SendGrid's Inbound Parse: https://www.twilio.com/docs/sendgrid/for-developers/parsing-email/inbound-email

A call that is answered with 3xx or 4xx is not repeated, and its mail is lost; after 5xx SendGrid tries for 72 hours
(https://support.sendgrid.com/hc/en-us/articles/46513815674395). So only calls that are not SendGrid's get a 400.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest

from anymail.conf import Secret, WebhookOptions, secrets
from anymail.esps.kit.values import json_object_of, list_of, number_of, string_of
from anymail.esps.kit.webhook import Events, Webhook, json_body
from anymail.esps.sendgrid.tracking import signed_timestamp
from anymail.exceptions import AnymailConfigurationError, AnymailError, AnymailWebhookValidationFailure
from anymail.inbound import AnymailInboundMessage
from anymail.signals import AnymailInboundEvent

# Above the 30 MB that SendGrid passes on.
LARGEST = 40 * 1024 * 1024
MOST_PARTS = 1_000

Form = dict[str, bytes]

_FORM = "multipart/form-data"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SendGridInboundOptions(WebhookOptions):
    inbound_webhook_verification_key: tuple[Secret, ...] = secrets(
        "The public key of the security policy with which Inbound Parse signs, or a list of them. Unset: no check.",
        bare=True,
    )


class Post(NamedTuple):
    """A call: its form, with every value in bytes, and the request."""

    form: Form
    request: HttpRequest


class SendGridInbound(Webhook[SendGridInboundOptions]):
    name = "SendGrid"
    slug = "sendgrid"
    Options = SendGridInboundOptions
    # SendGrid tries for 72 hours, and does not say that it signs each attempt afresh.
    default_max_age = 73 * 3600

    @property
    def signature_configured(self) -> bool:
        return bool(self.options.inbound_webhook_verification_key)

    def verify(self, request: HttpRequest) -> str | None:
        _read_whole(request)
        if request.content_type == _FORM:
            # Until it is read here: Django refuses forms with fields above DATA_UPLOAD_MAX_MEMORY_SIZE.
            request.content_type = "application/octet-stream"
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
        if "boundary" in (request.content_params or {}):
            request.content_type = _FORM
        return [Post(_form_of(request), request)]

    def events(self, item: Post) -> Events:
        try:
            message = _received(item.form)
        except Exception as error:
            raise AnymailError("A mail from SendGrid's Inbound Parse cannot be read.") from error
        yield AnymailInboundEvent(message=message, esp_event=item.request)


def _read_whole(request: HttpRequest) -> None:
    """Read the body, however DATA_UPLOAD_MAX_MEMORY_SIZE (2.5 MB by default) limits it: a 413 would lose the mail."""
    if not getattr(request, "_read_started", False):
        body = request.read(LARGEST + 1)
        if len(body) > LARGEST:
            raise RequestDataTooBig
        request._body = body


def _form_of(request: HttpRequest) -> Form:
    """The parts of a form (RFC 7578) in bytes: Django decodes text in one charset, and drops files with odd names."""
    boundary = request.content_params.get("boundary", "") if request.content_params else ""
    delimiter = f"\r\n--{boundary}".encode("latin-1", "replace")
    _, *parts = (b"\r\n" + request.body).split(delimiter, MOST_PARTS) if boundary else [b""]
    form: Form = {}
    for part in parts:
        head, blank, content = part.partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if name and blank:
            form[name[1].decode("utf-8", "replace")] = content
    if not form or len(parts) >= MOST_PARTS:
        raise AnymailWebhookValidationFailure("The body is not a form as Inbound Parse posts it.")
    return form


_NAME = re.compile(rb';\s*name="([^"]*)"')


def _received(form: Form) -> AnymailInboundMessage:
    # Without headers it is posted as the raw, full MIME message.
    message = _parsed(form) if "headers" in form else AnymailInboundMessage.parse_raw_mime_bytes(form["email"])
    message.envelope_sender, message.envelope_recipient = _envelope(form)
    message.spam_score = number_of(form.get("spam_score"))
    return message


def _parsed(form: Form) -> AnymailInboundMessage:
    charsets = json.loads(form.get("charsets", b"{}"))
    attachments: dict[str, dict[str, str]] = json.loads(form.get("attachment-info", b"{}"))
    return AnymailInboundMessage.construct(
        raw_headers=form["headers"].decode("utf-8", "surrogateescape"),
        text=_text(form.get("text"), charsets.get("text")),
        html=_text(form.get("html"), charsets.get("html")),
        attachments=[
            AnymailInboundMessage.construct_attachment(
                content_type=info.get("type") or "application/octet-stream",
                content=form[key],
                charset=info.get("charset"),
                filename=info.get("filename") or info.get("name"),
                content_id=info.get("content-id"),
            )
            for key, info in sorted(attachments.items(), key=_number)
            if key in form
        ],
    )


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
