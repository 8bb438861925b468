"""Brevo's inbound webhook: https://developers.brevo.com/docs/inbound-parse-webhooks"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from django.http import HttpRequest

from anymail.conf import Secret, base_url, option, secret
from anymail.esps.brevo.sending import API_URL
from anymail.esps.brevo.tracking import BrevoWebhook, BrevoWebhookOptions
from anymail.esps.kit.values import number_of, object_of
from anymail.esps.kit.webhook import Events, json_body
from anymail.exceptions import AnymailAPIError, AnymailWebhookValidationFailure
from anymail.inbound import AnymailInboundMessage
from anymail.mail.addresses import EmailAddress, format_addresses
from anymail.signals import AnymailInboundEvent
from anymail.wire import Flow, Request

logger = logging.getLogger("anymail.webhooks")

# Above what a mail to Brevo may weigh.
_MAX_ATTACHMENT = 64 * 1024 * 1024

# Headers, and the fields that say the same.
_FIELDS = {
    "From": "From",
    "To": "To",
    "Cc": "Cc",
    "Reply-To": "ReplyTo",
    "Subject": "Subject",
    "Date": "SentAtDate",
    "Message-ID": "MessageId",
    "In-Reply-To": "InReplyTo",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class BrevoInboundOptions(BrevoWebhookOptions):
    api_key: Secret = secret("API key, with which the attachments of received mail are fetched.", bare=True)
    api_url: str = option("Base URL of the API.", default=API_URL, convert=base_url)


class BrevoInbound(BrevoWebhook[BrevoInboundOptions]):
    Options = BrevoInboundOptions
    receives_mail = True

    def items(self, request: HttpRequest) -> Sequence[Any]:
        body = json_body(request)
        if isinstance(body, dict) and isinstance(body.get("items"), list):
            items: list[Any] = body["items"]
            return items
        if any(isinstance(one, dict) and "event" in one for one in (body if isinstance(body, list) else [body])):
            raise self.wrong_url("Brevo's tracking webhook", "set its url to", "tracking")
        raise AnymailWebhookValidationFailure("The body has no items.")

    def read(self, item: dict[str, Any]) -> Flow[Events]:
        headers = _headers(item)
        # The receiving server writes above what came with the message.
        first = {name.lower(): value for name, value in reversed(headers)}
        attachments = []
        for described in item.get("Attachments") or []:
            attachment = yield from self._attachment(described)
            if attachment is not None:
                attachments.append(attachment)
        message = AnymailInboundMessage.construct(
            headers=headers,
            text=_body(item.get("RawTextBody")),
            html=_body(item.get("RawHtmlBody")),
            attachments=attachments,
        )
        message.envelope_sender = first["return-path"].strip("<> ") if "return-path" in first else None
        message.envelope_recipient = first.get("delivered-to") or _only_recipient(item)
        message.stripped_text = _body(item.get("ExtractedMarkdownMessage"))
        message.spam_score = _spam_score(item)
        ids = item.get("Uuid")
        return [
            AnymailInboundEvent(
                message=message, event_id=str(ids[0]) if isinstance(ids, list) and ids else None, esp_event=item
            )
        ]

    def _attachment(self, described: dict[str, Any]) -> Flow[AnymailInboundMessage | None]:
        """Fetch one attachment. One that Brevo no longer has is left out, so that the message is not lost too."""
        token = quote(str(described.get("DownloadToken") or ""), safe="")
        if token in ("", ".", ".."):
            raise AnymailWebhookValidationFailure("an attachment has no DownloadToken.")
        response = yield Request.get(
            f"{self.options.api_url}inbound/attachments/{token}",
            headers=lambda: {"api-key": self.options.api_key.reveal()},
            max_response=_MAX_ATTACHMENT,
        )
        if not response.ok:
            error: AnymailAPIError = self.api_error(response)
            if error.category != "invalid":
                raise error
            logger.error("An attachment of a received mail is lost: %s", error)
            return None
        return AnymailInboundMessage.construct_attachment(
            content_type=response.headers.get("Content-Type") or described.get("ContentType"),
            content=response.content,
            filename=described.get("Name") or None,
            content_id=described.get("ContentID") or None,
        )


def _headers(item: dict[str, Any]) -> list[tuple[str, str]]:
    """The headers, where a repeated one has a list; those that are missing are made from their fields."""
    headers = [
        (name, str(value))
        for name, values in (item.get("Headers") or {}).items()
        for value in (values if isinstance(values, list) else [values])
        if value is not None
    ]
    names = {name.lower() for name, _ in headers}
    fields = [(name, _field(item.get(field))) for name, field in _FIELDS.items() if name.lower() not in names]
    return [*headers, *((name, value) for name, value in fields if value)]


def _field(value: Any) -> str:
    if isinstance(value, str):
        return value
    people = value if isinstance(value, list) else [value] if value else []
    return format_addresses(EmailAddress(person.get("Name") or "", person["Address"]) for person in people)


def _body(text: Any) -> str | None:
    return text.replace("\r\n", "\n") if text and isinstance(text, str) else None


def _only_recipient(item: dict[str, Any]) -> str | None:
    match item.get("Recipients"):
        case [{"Address": str(address)}]:
            return address
    return None


def _spam_score(item: dict[str, Any]) -> float | None:
    """``SpamScore``, or ``Spam.Score`` as the documentation has it."""
    score = item.get("SpamScore")
    return number_of(object_of(item.get("Spam")).get("Score") if score is None else score)
