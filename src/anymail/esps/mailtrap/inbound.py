"""Mailtrap's inbound webhook, which holds no message: that is fetched.

https://docs.mailtrap.io/inbound-email/webhooks and https://docs.mailtrap.io/developers/inbound/messages
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from anymail.conf import Secret, WebhookOptions, base_url, option, secret, secrets, whole_number
from anymail.esps.kit.values import object_of, text_of
from anymail.esps.kit.webhook import Events, posix_time
from anymail.esps.mailtrap.sending import SANDBOX_URL, STREAMS, USER_AGENT, MailtrapAPI
from anymail.esps.mailtrap.tracking import MailtrapWebhook, event_word
from anymail.exceptions import AnymailAPIError, AnymailConfigurationError, AnymailWebhookValidationFailure
from anymail.inbound import AnymailInboundMessage
from anymail.signals import AnymailInboundEvent
from anymail.wire import Flow, Request

API_URL = "https://mailtrap.io/api/"
_SENDING_HOSTS = {urlsplit(url).hostname for url in (*STREAMS.values(), SANDBOX_URL)}

# The dashboard's test calls use another name, and other fields or this inbox.
_RECEIVED, _TEST_INBOX = ("inbound.message_received", "inbound_message_received"), "1"

# Headers, and the fields that say the same.
_FIELDS = {
    "From": "from", "To": "to", "Cc": "cc", "Bcc": "bcc", "Reply-To": "reply_to", "Subject": "subject",
    "Message-ID": "rfc_message_id", "In-Reply-To": "in_reply_to",
}  # fmt: skip

# Above what a mail may weigh.
_LARGEST = 64 * 1024 * 1024


def _lookup_url(value: Any) -> str:
    """Only mailtrap.io has received mail: a URL for sending does not lead to it."""
    url = API_URL if value is None else base_url(value)
    return API_URL if urlsplit(url).hostname in _SENDING_HOSTS else url


@dataclass(frozen=True, kw_only=True)
class MailtrapInboundOptions(WebhookOptions):
    inbound_secret: tuple[Secret, ...] = secrets("Signing secret of the inbound webhook, or a list of them.")
    api_token: Secret = secret("API token with access to the inbound inboxes.", bare=True)
    api_url: str = option(
        "Base URL of the API that has received mail. One of Mailtrap's URLs for sending is not taken for it.",
        default=API_URL,
        convert=_lookup_url,
    )
    download_chunk_size: int = option(
        "Taken for django-anymail's sake, without effect: the transport reads downloads in chunks of its own.",
        default=65536,
        convert=whole_number(1),
    )


class MailtrapInbound(MailtrapAPI, MailtrapWebhook[MailtrapInboundOptions]):
    Options = MailtrapInboundOptions
    secret_option = "inbound_secret"
    receives_mail = True

    def read(self, item: dict[str, Any]) -> Flow[Events]:
        word = event_word(item)
        if not word.startswith("inbound"):
            raise AnymailConfigurationError(
                f"Mailtrap's {word} webhook calls Anymail's Mailtrap inbound URL: "
                "set the webhook's URL to mailtrap/tracking/."
            )
        if word not in _RECEIVED:
            raise ValueError(f"Mailtrap's event {word} is unknown")
        if "inbound_inbox_id" in item or str(item.get("inbox_id")) == _TEST_INBOX:
            return []
        inbox_id, message_id = _id(item, "inbox_id"), _id(item, "message_id")
        path = f"inbound/inboxes/{quote(inbox_id, safe='')}/messages/{quote(message_id, safe='')}"
        answer = yield from self._lookup(path)
        if answer.get("raw_message_url") is not None:
            raw = yield from self._download(answer["raw_message_url"])
            message = AnymailInboundMessage.parse_raw_mime_bytes(raw)
        else:
            message = yield from self._from_fields(answer)
        message.envelope_sender = _return_path(message, answer)
        return [
            AnymailInboundEvent(
                message=message,
                # The event's own event_id may be another when it is sent again.
                event_id=f"{inbox_id}/{message_id}",
                timestamp=_milliseconds(item.get("timestamp")),
                esp_event=answer,
            )
        ]

    def _lookup(self, path: str) -> Flow[dict[str, Any]]:
        """The received message in the API."""
        url = f"{self.options.api_url}{path}"
        response = yield Request.get(url, headers=self._request_headers, max_response=_LARGEST)
        answer = self.read_json(response)
        if not isinstance(answer, dict) or "id" not in answer:
            raise self.unreadable(response, "without a message")
        return answer

    def _request_headers(self) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self.options.api_token.reveal()}",
            "Accept": "application/json",
            "User-Agent": USER_AGENT,
        }

    def _download(self, url: Any) -> Flow[bytes]:
        """What a signed URL leads to. It is another's server, which is not shown the token."""
        if not isinstance(url, str) or not url.startswith(("https://", self.options.api_url)):
            raise AnymailAPIError("Mailtrap gave a download URL that is not https.", category="unreadable")
        response = yield Request.get(url, headers={"User-Agent": USER_AGENT}, max_response=_LARGEST)
        if not response.ok:
            raise self.api_error(response)
        return response.content

    def _from_fields(self, answer: dict[str, Any]) -> Flow[AnymailInboundMessage]:
        """The message without its MIME, from what Mailtrap tells of it."""
        files = []
        for file in answer.get("attachments") or ():
            content = yield from self._download(file.get("download_url"))
            inline = file.get("content_disposition") == "inline"
            files.append(
                AnymailInboundMessage.construct_attachment(
                    content_type=text_of(file.get("content_type")) or "application/octet-stream",
                    content=content,
                    filename=text_of(file.get("filename")),
                    content_id=text_of(file.get("content_id")) if inline else None,
                )
            )
        return AnymailInboundMessage.construct(
            headers=[(name, value) for name, field in _FIELDS.items() if (value := _joined(answer.get(field)))],
            text=text_of(answer.get("text_body")),
            html=text_of(answer.get("html_body")),
            attachments=files,
        )


def _id(item: dict[str, Any], name: str) -> str:
    """An id, as a segment of a path."""
    value = item.get(name)
    if isinstance(value, bool) or not isinstance(value, (str, int)) or str(value) in ("", ".", ".."):
        raise AnymailWebhookValidationFailure(f"it has no {name}.")
    return str(value)


def _joined(value: Any) -> str | None:
    return ", ".join(map(str, value)) if isinstance(value, list) else text_of(value)


def _return_path(message: AnymailInboundMessage, answer: dict[str, Any]) -> str | None:
    found = message["Return-Path"]
    if not found:
        found = text_of(object_of(answer.get("headers")).get("return-path"))
    return str(found).strip().strip("<>") if found else None


def _milliseconds(value: Any) -> Any:
    """A time in milliseconds. None for what is none."""
    return posix_time(value / 1000) if isinstance(value, (int, float)) and abs(value) < 1e16 else None
