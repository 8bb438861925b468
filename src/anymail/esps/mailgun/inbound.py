"""Mailgun's inbound routes.

https://documentation.mailgun.com/docs/mailgun/user-manual/receive-forward-store/receive-http, and "Route Actions" and
"Storing and Retrieving Messages" beside it
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from django.http import HttpRequest, QueryDict

from anymail.conf import Secret
from anymail.esps.kit.forms import form_of
from anymail.esps.kit.values import number_of
from anymail.esps.kit.webhook import Events, posix_time
from anymail.esps.mailgun.sending import basic_auth
from anymail.esps.mailgun.tracking import MailgunWebhook, is_json
from anymail.exceptions import AnymailConfigurationError, AnymailWebhookValidationFailure
from anymail.inbound import AnymailInboundMessage
from anymail.signals import AnymailInboundEvent
from anymail.wire import Flow, Request

_ATTACHMENT = re.compile(r"attachment-\d{1,9}")
# Where the API key may go.
_MESSAGE_URL = re.compile(r"https://[a-z0-9.-]+\.mailgun\.net/v3/domains/[!-~]+")
# Mailgun takes messages of 25 MB; in base64, quoted in JSON, they are larger.
_MAX_STORED = 64 * 1024 * 1024


class MailgunInbound(MailgunWebhook):
    """Reads what a route forwards: the raw message, or its parsed fields. What it stores is fetched."""

    receives_mail = True

    def items(self, request: HttpRequest) -> Sequence[Any]:
        return [request]

    def read(self, item: HttpRequest) -> Flow[Events]:
        fields = item.POST
        if is_json(item) or ("event" in fields and "sender" not in fields):
            raise AnymailConfigurationError(
                "A Mailgun tracking webhook calls Anymail's Mailgun inbound URL: set it to the URL mailgun/tracking/."
            )
        # The headers of a message are fields too: one named body-mime must not pass for the message.
        if "body-mime" in fields and not {"body-plain", "body-html"} & fields.keys():
            message = _from_raw(item)
        elif "attachments" in fields and "message-url" in fields:
            message = yield from self._stored(fields["message-url"])
        else:
            message = _from_fields(item)
        # Those of the message's headers that have the same names come after these two fields, and before the others.
        message.envelope_sender = fields.getlist("sender", [None])[0]
        message.envelope_recipient = fields.getlist("recipient", [None])[0]
        message.stripped_text = fields.get("stripped-text")
        message.stripped_html = fields.get("stripped-html")
        message.spam_detected = str(message.get("X-Mailgun-Sflag", "")).strip().lower() == "yes"
        message.spam_score = number_of(message.get("X-Mailgun-Sscore"))
        return [
            AnymailInboundEvent(
                message=message,
                event_id=fields.get("token"),
                timestamp=posix_time(fields.get("timestamp")),
                esp_event=item,
            )
        ]

    def _stored(self, url: str) -> Flow[AnymailInboundMessage]:
        """Fetch a message that a route's ``store(notify=…)`` tells of, which has its attachments only there."""
        if self.options.api_key is None:
            raise AnymailConfigurationError(
                "A Mailgun route calls Anymail with store(notify=...), whose messages have to be fetched: set "
                "MAILGUN_API_KEY, or let the route forward(...) to the URL mailgun/inbound_mime/."
            )
        if not _MESSAGE_URL.fullmatch(url):
            raise AnymailWebhookValidationFailure("message-url does not lead to Mailgun.")
        response = yield Request.get(
            url, headers=partial(_request_headers, self.options.api_key), max_response=_MAX_STORED
        )
        content = self.read_json(response)
        source = content.get("body-mime") if isinstance(content, dict) else None
        if not isinstance(source, str):
            raise self.unreadable(response, "without a body-mime")
        return AnymailInboundMessage.parse_raw_mime(source)


def _request_headers(api_key: Secret) -> dict[str, str]:
    return {"Accept": "message/rfc2822", "Authorization": basic_auth(api_key)}


def _from_raw(request: HttpRequest) -> AnymailInboundMessage:
    # As bytes: a message may hold anything.
    return AnymailInboundMessage.parse_raw_mime_bytes(form_of(request).get("body-mime") or b"")


def _from_fields(request: HttpRequest) -> AnymailInboundMessage:
    fields = request.POST
    try:
        headers = [(str(name), str(value)) for name, value in json.loads(fields["message-headers"])]
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise AnymailWebhookValidationFailure("The body holds no message.") from error
    content_ids = _content_ids(fields)
    files: dict[str, Any] = dict(request.FILES.items())
    names = sorted(filter(_ATTACHMENT.fullmatch, files), key=lambda name: int(name.rpartition("-")[2]))
    return AnymailInboundMessage.construct(
        headers=headers,
        text=fields.get("body-plain") or None,
        html=fields.get("body-html") or None,
        attachments=[_part(files[name], content_ids.get(name)) for name in names],
    )


def _part(file: Any, content_id: str | None) -> AnymailInboundMessage:
    part = AnymailInboundMessage.construct_attachment_from_uploaded_file(file, content_id)
    if content_id == "":
        # Inline, though the message that it came in gave it no name to be shown by.
        filename = part.get_filename()
        del part["Content-Disposition"]
        part.set_raw("Content-Disposition", "inline")
        if filename:
            part.set_param("filename", filename, "Content-Disposition")
    return part


def _content_ids(fields: QueryDict) -> dict[str, str]:
    """The Content-ID of each inline attachment, which may be empty. content-id-map is the reverse, and repeats those
    that messages do.
    """
    try:
        pairs = json.loads(fields.get("content-id-map") or "{}", object_pairs_hook=list)
        found = [(str(name), str(content_id).strip("<> ")) for content_id, name in pairs]
    except (ValueError, TypeError, RecursionError):
        return {}
    # The one with a Content-ID counts.
    return dict(sorted(found, key=lambda one: bool(one[1])))
