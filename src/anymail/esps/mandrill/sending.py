"""Sending through Mandrill.

https://mailchimp.com/developer/transactional/api/messages/
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from anymail.conf import Secret, SendOptions, base_url, option, secret
from anymail.esps.kit.sending import ESP, without_empty
from anymail.exceptions import AnymailAPIError, Category
from anymail.mail.addresses import format_addresses
from anymail.mail.attachments import Attachment
from anymail.mail.message import OutgoingMail, deep_merge
from anymail.mail.status import AnymailRecipientStatus, RecipientStatuses, Status
from anymail.mail.supports import MANY, Supports
from anymail.wire import Flow, Request, Response


@dataclass(frozen=True, kw_only=True)
class MandrillOptions(SendOptions):
    api_key: Secret = secret("API key; with one made as a test key nothing is delivered.", bare=True, esp_extra="key")
    api_url: str = option(
        "Base URL of the API; that of its newest specification ends in `/api/1.4`.",
        default="https://mandrillapp.com/api/1.0/",
        convert=base_url,
    )


# The "status" in the answer to /messages/send.
_STATUSES: dict[str, Status] = {
    "sent": "sent",
    "queued": "queued",
    "scheduled": "queued",
    "rejected": "rejected",
    "invalid": "invalid",
}

# The "name" of an error. It tells what the HTTP status does not: many were 500 until 2023
# (https://mailchimp.com/developer/release-notes/).
_CATEGORIES: dict[str, Category] = {
    "ValidationError": "invalid",
    "Invalid_Key": "auth",
    "PaymentRequired": "quota",
    "Unknown_Template": "invalid",
    "Unknown_Message": "invalid",
    "Unknown_Subaccount": "invalid",
    "RequestLimitExceeded": "rate_limit",
    "GeneralError": "server",
    "ServiceUnavailable": "server",
}

# The field that asks for a stored template, and the path of the call that takes it.
_TEMPLATE_PATHS = {
    "template_name": "messages/send-template.json",
    "mc_template_id": "messages/send-mc-template.json",
}


class Mandrill(ESP[MandrillOptions]):
    name = "Mandrill"
    slug = "mandrill"
    Options = MandrillOptions
    # Mandrill does not promise that a 503 was not sent.
    safe_to_repeat = frozenset({429})
    supports = Supports(
        non_ascii_usernames=True,
        envelope_sender="domain",
        metadata=True,
        tags=MANY,
        track_opens=True,
        track_clicks=True,
        send_at=True,
        template_id=True,
        merge_data=True,
        merge_global_data=True,
        merge_metadata=True,
    )

    def deliver(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        payload = self.payload(mail)
        path = next((path for field, path in _TEMPLATE_PATHS.items() if field in payload), "messages/send.json")
        headers = {"Accept": "application/json"}
        response = yield Request.post(
            f"{self.options.api_url}{path}",
            headers=headers,
            json=payload,
            secret_fields=partial(self._key, mail),
        )
        return self._statuses(response, mail)

    def _key(self, mail: OutgoingMail) -> dict[str, str]:
        return {"key": Secret(mail.esp_extra.get("key") or self.options.api_key).reveal()}

    def payload(self, mail: OutgoingMail) -> dict[str, Any]:
        """The body of /messages/send, or of its twins for templates, without the API key."""
        body = {
            **({"template_name": mail.template_id, "template_content": []} if mail.template_id else {}),
            "message": self.message(mail),
            **({"send_at": _utc(mail.send_at)} if mail.send_at else {}),
        }
        extra = {name: value for name, value in mail.esp_extra.items() if name != "key"}
        merged = deep_merge(body, _lists_for_dicts(extra))
        if mail.batch:
            merged = deep_merge(merged, {"message": {"preserve_recipients": False}})
        return merged

    def message(self, mail: OutgoingMail) -> dict[str, Any]:
        """The message object of the API."""
        sender = mail.from_email[0] if mail.from_email else None
        reply_to = {"Reply-To": format_addresses(mail.reply_to)} if mail.reply_to else {}
        return {
            # An empty subject is sent; None leaves it to the template.
            **({} if mail.subject is None else {"subject": mail.subject}),
            **without_empty(
                {
                    "html": mail.html,
                    "text": mail.text,
                    "from_email": sender and sender.addr_spec,
                    "from_name": sender and sender.display_name,
                    "to": [
                        without_empty({"email": address.addr_spec, "name": address.display_name, "type": kind})
                        for kind, addresses in (("to", mail.to), ("cc", mail.cc), ("bcc", mail.bcc))
                        for address in addresses
                    ],
                    "headers": {**mail.headers, **reply_to},
                    "track_opens": mail.track_opens,
                    "track_clicks": mail.track_clicks,
                    "return_path_domain": mail.envelope_sender and mail.envelope_sender.domain,
                    "global_merge_vars": _vars(mail.merge_global_data),
                    "merge_vars": [
                        {"rcpt": email, "vars": _vars(data)} for email, data in mail.merge_data.items() if data
                    ],
                    "tags": mail.tags,
                    "metadata": mail.metadata,
                    "recipient_metadata": [
                        {"rcpt": email, "values": values} for email, values in mail.merge_metadata.items() if values
                    ],
                    "attachments": [_file(one, one.name) for one in mail.attachments if not one.inline],
                    # Here the name is the Content-ID.
                    "images": [_file(one, one.content_id or one.name) for one in mail.attachments if one.inline],
                }
            ),
        }

    # Reading answers.

    def explain(self, response: Response) -> tuple[str, Category | None]:
        try:
            answer = response.json()
            name, text = answer["name"], answer["message"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return response.text, None
        return f"{name} (code {answer.get('code')}): {text}", _CATEGORIES.get(str(name))

    def api_error(self, response: Response) -> AnymailAPIError:
        error = super().api_error(response)
        # A refusal is one whatever its HTTP status, and Mandrill's own fault is one too.
        if self.explain(response)[1]:
            error.sent = None if error.category == "server" else False
        return error

    def _statuses(self, response: Response, mail: OutgoingMail) -> RecipientStatuses:
        answer = self.read_json(response)
        results: dict[str, AnymailRecipientStatus] = {}
        for item in answer if isinstance(answer, list) else ():
            match item:
                case {"email": str(email), "status": str(status)}:
                    message_id = item.get("_id")
                    results[email.lower()] = AnymailRecipientStatus(
                        message_id if isinstance(message_id, str) and message_id else None,
                        _STATUSES.get(status, "unknown"),
                    )
                case _:
                    raise self.unreadable(response, "without the email and status of a recipient")
        if not results:
            raise self.unreadable(response, "without a list of recipients")
        unknown = AnymailRecipientStatus(None, "unknown")
        return {
            address.key: results.get(address.addr_spec.lower()) or results.get(address.key.lower(), unknown)
            for address in mail.recipients
        }


def _utc(time: dt.datetime) -> str:
    return f"{time.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S}"


def _vars(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "content": content} for name, content in data.items()]


def _file(attachment: Attachment, name: str) -> dict[str, Any]:
    return {"type": attachment.content_type, "name": name, "content": attachment.base64}


def _lists_for_dicts(extra: dict[str, Any]) -> dict[str, Any]:
    """``esp_extra`` with the lists that Mandrill wants where it has dicts, which are easier to write."""
    content, message = extra.get("template_content"), extra.get("message")
    if isinstance(content, Mapping):
        extra = {**extra, "template_content": _vars(content)}
    if isinstance(message, Mapping) and isinstance(message.get("recipient_metadata"), Mapping):
        values = [{"rcpt": email, "values": one} for email, one in sorted(message["recipient_metadata"].items())]
        extra = {**extra, "message": {**message, "recipient_metadata": values}}
    return extra
