"""Resend's inbound webhook, which holds no message: that is fetched.

https://resend.com/docs/dashboard/receiving/introduction and /docs/api-reference/emails/retrieve-received-email
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from anymail.conf import Secret, WebhookOptions, base_url, option, secret, secrets, whole_number
from anymail.esps.kit.values import object_of, string_of
from anymail.esps.kit.webhook import Events, utc_time
from anymail.esps.resend.sending import API_URL, USER_AGENT, ResendAPI
from anymail.esps.resend.tracking import Call, ResendWebhook
from anymail.exceptions import AnymailAPIError, AnymailConfigurationError, AnymailWebhookValidationFailure
from anymail.inbound import AnymailInboundMessage
from anymail.signals import AnymailInboundEvent
from anymail.wire import Flow, Request

# What Resend tells apart from the headers, in case these lack it.
_HEADER_FIELDS = {
    "From": "from", "To": "to", "Cc": "cc", "Bcc": "bcc", "Reply-To": "reply_to", "Subject": "subject",
    "Message-ID": "message_id",
}  # fmt: skip

# In bytes: of one answer, or of one download.
_LARGEST = 100 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class ResendInboundOptions(WebhookOptions):
    inbound_secret: tuple[Secret, ...] = secrets(
        "Signing secret (`whsec_…`) of the inbound endpoint, or a list of them."
    )
    api_key: Secret = secret("API key; to fetch received mail it must have full access.", bare=True)
    api_url: str = option("Base URL of the API.", default=API_URL, convert=base_url)
    download_chunk_size: int = option(
        "Without effect: the transport reads downloads in chunks of its own.",
        default=65536,
        convert=whole_number(1),
    )


class ResendInbound(ResendAPI, ResendWebhook[ResendInboundOptions]):
    Options = ResendInboundOptions
    secret_option = "inbound_secret"
    receives_mail = True

    def read(self, item: Call) -> Flow[Events]:
        kind = string_of(item.body.get("type"))
        if kind not in (None, "email.received"):
            raise AnymailConfigurationError(
                f"Resend's {kind} webhook calls Anymail's Resend inbound URL: "
                "set its endpoint at Resend to the URL resend/tracking/."
            )
        email_id = string_of(object_of(item.body.get("data")).get("email_id"))
        if kind is None or not email_id:
            raise AnymailWebhookValidationFailure("it names no received email.")
        path = f"emails/receiving/{quote(email_id, safe='')}"
        email = yield from self._object(f"{path}?html_format=cid")
        if email.get("id") != email_id:
            raise AnymailWebhookValidationFailure("the email that it names is not what Resend's API has under that id.")
        if url := object_of(email.get("raw")).get("download_url"):
            message = AnymailInboundMessage.parse_raw_mime_bytes((yield from self._download(url)))
        else:
            files = (yield from self._files(path)) if email.get("attachments") else []
            message = _from_fields(email, files)
        return_path, received_for = message["Return-Path"], email.get("received_for")
        message.envelope_sender = str(return_path).strip().strip("<>") if return_path is not None else None
        if isinstance(received_for, list) and len(received_for) == 1:
            message.envelope_recipient = string_of(received_for[0])
        return [
            AnymailInboundEvent(
                message=message,
                event_id=item.event_id,
                timestamp=utc_time(item.body.get("created_at")),
                esp_event=item.body,
            )
        ]

    def _object(self, path: str) -> Flow[dict[str, Any]]:
        """An object of the API."""
        url = f"{self.options.api_url}{path}"
        response = yield Request.get(url, headers=self._request_headers, max_response=_LARGEST)
        answer = self.read_json(response)
        if not isinstance(answer, dict):
            raise self.unreadable(response, "not with an object")
        return answer

    def _request_headers(self) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self.options.api_key.reveal()}",
            "Accept": "application/json",
            "User-Agent": USER_AGENT,
        }

    def _download(self, url: Any) -> Flow[bytes]:
        """What a signed URL of Resend's leads to. Others' servers are not shown the API key."""
        if not isinstance(url, str) or not url.startswith(("https://", self.options.api_url)):
            raise AnymailAPIError("Resend gave a download URL that is not https.", category="unreadable")
        response = yield Request.get(url, headers={"User-Agent": USER_AGENT}, max_response=_LARGEST)
        if not response.ok:
            raise self.api_error(response)
        return response.content

    def _files(self, path: str) -> Flow[list[AnymailInboundMessage]]:
        """The attachments. Only their own list has the URLs to download them."""
        files: list[AnymailInboundMessage] = []
        query = ""
        while True:
            page = yield from self._object(f"{path}/attachments{query}")
            for file in map(object_of, page["data"]):
                content = yield from self._download(file.get("download_url"))
                files.append(_file(file, content))
            if not (page.get("has_more") and page["data"]):
                return files
            query = f"?after={quote(str(page['data'][-1]['id']), safe='')}"


def _file(file: dict[str, Any], content: bytes) -> AnymailInboundMessage:
    attached = file.get("content_disposition") == "attachment"
    return AnymailInboundMessage.construct_attachment(
        content_type=string_of(file.get("content_type")) or "application/octet-stream",
        content=content,
        filename=string_of(file.get("filename")),
        content_id=None if attached else string_of(file.get("content_id")),
    )


def _from_fields(email: dict[str, Any], files: list[AnymailInboundMessage]) -> AnymailInboundMessage:
    headers = list(_headers(object_of(email.get("headers"))))
    names = {name.lower() for name, _ in headers}
    for name, field in _HEADER_FIELDS.items():
        value = email.get(field)
        joined = ", ".join(map(str, value)) if isinstance(value, list) else string_of(value)
        if joined and name.lower() not in names:
            headers.append((name, joined))
    return AnymailInboundMessage.construct(
        headers=headers, text=string_of(email.get("text")), html=string_of(email.get("html")), attachments=files
    )


def _headers(headers: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Each header that is text. Resend takes some apart, such as DKIM-Signature."""
    for name, value in headers.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str):
                yield name, one
