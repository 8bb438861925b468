"""Sending through Scaleway: https://www.scaleway.com/en/developers/api/transactional-email/, "Send an email"."""

from __future__ import annotations

import dataclasses
import math
import mimetypes
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote
from uuid import UUID

from anymail.conf import Secret, SendOptions, base_url, option, secret
from anymail.esps.kit.sending import ESP, without_empty
from anymail.exceptions import AnymailAPIError, Category
from anymail.mail.addresses import EmailAddress
from anymail.mail.attachments import Attachment
from anymail.mail.message import MailHeaders, OutgoingMail, deep_merge, merge_headers
from anymail.mail.status import AnymailRecipientStatus, RecipientStatuses, Status
from anymail.mail.supports import MANY, Supports, Unsupported
from anymail.wire import Flow, Request, Response, json_text

API_URL = "https://api.scaleway.com/transactional-email/v1alpha1/regions/{region}/"
#: What may be attached, among other limits.
LIMITS_URL = "https://www.scaleway.com/en/docs/transactional-email/reference-content/tem-capabilities-and-limits/"


def identifier(value: Any) -> str:
    """The text of an identifier. Raises ValueError if there is none."""
    if not isinstance(value, (str, UUID)):
        raise ValueError(f"a string is needed, not a value of type {type(value).__name__}")
    if not (text := str(value).strip()):
        raise ValueError("it is empty")
    return text


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScalewayOptions(SendOptions):
    secret_key: Secret = secret(
        "Secret key (not the access key) of an API key that may `TransactionalEmailEmailApiCreate`.", bare=True
    )
    project_id: str = option("UUID of the project that the sending domain belongs to.", convert=identifier)
    region: str = option("The region, of which there is only `fr-par` so far.", default="fr-par", convert=identifier)
    api_url: str = option(
        "Base URL of the API; `{region}` in it stands for the region.", default=API_URL, convert=base_url
    )


STATUSES: dict[str, Status] = {
    "new": "queued",
    "sending": "queued",
    "sent": "sent",
    "failed": "failed",
    "canceled": "failed",
}

# The "type" of an error, where the HTTP status does not tell.
_CATEGORIES: dict[str, Category] = {
    "quotas_exceeded": "quota",
    "precondition_failed": "auth",
    "transient_state": "server",
}
# What an error tells besides its type and message.
_PARTICULARS = ("method", "reason", "resource", "resource_id", "precondition", "help_message")


class Scaleway(ESP[ScalewayOptions]):
    name = "Scaleway"
    slug = "scaleway"
    Options = ScalewayOptions
    supports = Supports(inline=False, metadata=True, tags=MANY)
    # A 409 is safe only where it is a transient_state; a 503 never is for certain.
    safe_to_repeat = frozenset({409, 429})

    def check(self, mail: OutgoingMail) -> Iterator[Unsupported]:
        if mail.batch and len(mail.to) > 1:
            # In one message, every recipient would see the addresses of all.
            yield Unsupported("a batch (merge_data, merge_metadata or merge_headers, even empty) to several `to`", None)

    def deliver(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        url = self.options.api_url.replace("{region}", quote(self.options.region, safe=""))
        response = yield Request.post(f"{url}emails", headers=self._request_headers, json=self.email(mail))
        return self._statuses(response, mail)

    def _request_headers(self) -> dict[str, str]:
        return {"Accept": "application/json", "X-Auth-Token": self.options.secret_key.reveal()}

    def email(self, mail: OutgoingMail) -> dict[str, Any]:
        """The body of a request to send an email."""
        headers = _headers(mail)
        extra = mail.esp_extra
        own_headers = extra.get("additional_headers")
        if isinstance(own_headers, list):
            extra = {**extra, "additional_headers": [*headers, *own_headers]}
        payload = without_empty(
            {
                "from": _contact(mail.from_email[0]) if mail.from_email else None,
                "to": [_contact(address) for address in mail.to],
                "cc": [_contact(address) for address in mail.cc],
                "bcc": [_contact(address) for address in mail.bcc],
                "subject": mail.subject,
                "text": mail.text,
                "html": mail.html,
                "project_id": self.options.project_id,
                "attachments": [_attachment(attachment) for attachment in mail.attachments],
                "additional_headers": headers,
            }
        )
        return deep_merge(payload, extra)

    # Reading answers.

    def explain(self, response: Response) -> tuple[str, Category | None]:
        try:
            answer = response.json()
            kind, text = str(answer["type"]), str(answer["message"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return response.text, None
        given = answer.get("details")
        details = [one for one in given if isinstance(one, Mapping)] if isinstance(given, list) else []
        particulars = {name: answer[name] for name in _PARTICULARS if name in answer}
        facts = [", ".join(f"{name}: {value}" for name, value in one.items()) for one in (particulars, *details) if one]
        if any(str(one.get("argument_name")).startswith("attachments") for one in details):
            facts.append(f"what may be attached is listed at {LIMITS_URL}")
        return f"{kind}: {text}" + (f" ({'; '.join(facts)})" if facts else ""), _CATEGORIES.get(kind)

    def api_error(self, response: Response) -> AnymailAPIError:
        error = super().api_error(response)
        if error.retry_after is None:
            error.retry_after = _reset_seconds(response)
        return error

    def _statuses(self, response: Response, mail: OutgoingMail) -> RecipientStatuses:
        answer = self.read_json(response)
        emails = answer.get("emails") if isinstance(answer, dict) else None
        if not isinstance(emails, list):
            raise self.unreadable(response, "without a list of emails")
        found: RecipientStatuses = {}
        for email in emails:
            if isinstance(email, dict):
                # rcpt_to is its old name.
                recipient = str(email.get("mail_rcpt") or email.get("rcpt_to"))
                message_id = email.get("id")
                status = AnymailRecipientStatus(
                    message_id if isinstance(message_id, str) else None,
                    STATUSES.get(str(email.get("status")), "unknown"),
                )
                for spelling in (recipient, recipient.lower()):
                    found.setdefault(spelling, status)
        unknown = AnymailRecipientStatus(None, "unknown")
        return {
            address.key: next((found[one] for one in _spellings(address) if one in found), unknown)
            for address in mail.recipients
        }


def _spellings(address: EmailAddress) -> tuple[str, ...]:
    return address.addr_spec, address.key, address.addr_spec.lower(), address.key.lower()


def _reset_seconds(response: Response) -> float | None:
    """The seconds until the rate limit is reset, as the body tells."""
    try:
        seconds = float(response.json()["reset_seconds"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _contact(address: EmailAddress) -> dict[str, str]:
    return without_empty({"email": address.addr_spec, "name": address.display_name})


def _headers(mail: OutgoingMail) -> list[dict[str, str]]:
    """Reply-To, the extra headers, and metadata and tags as headers. Scaleway takes no empty value."""
    labels = {
        **({"X-Metadata": json_text(mail.metadata, "metadata")} if mail.metadata else {}),
        **({"X-Tags": json_text(mail.tags, "tags")} if mail.tags else {}),
    }
    every = {
        # Scaleway encodes other headers, and this one wrongly.
        "Reply-To": ", ".join(address.ascii_address for address in mail.reply_to),
        **merge_headers(mail.headers, MailHeaders(labels)),
    }
    return [{"key": name, "value": value} for name, value in every.items() if value]


def _attachment(attachment: Attachment) -> dict[str, Any]:
    extension = mimetypes.guess_extension(attachment.mimetype) or ""
    return {
        "name": attachment.name or f"attachment{extension}",
        "type": attachment.content_type,
        "content": attachment.base64,
    }
