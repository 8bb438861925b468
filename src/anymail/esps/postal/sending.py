"""Sending through Postal.

https://apiv1.postalserver.io/controllers/send/message and /controllers/send/raw
"""

from __future__ import annotations

import dataclasses
import mimetypes
from collections.abc import Iterable, Iterator
from email.utils import formatdate, make_msgid
from typing import Any

from anymail.conf import Secret, SendOptions, base_url, option, secret
from anymail.esps.kit.batches import merge_statuses, not_taken
from anymail.esps.kit.sending import ESP, without_empty
from anymail.exceptions import AnymailAPIError, Category
from anymail.mail.addresses import EmailAddress, format_addresses
from anymail.mail.attachments import Attachment
from anymail.mail.message import MailHeaders, OutgoingMail, deep_merge, merge_headers
from anymail.mail.mime import ascii_list, mime
from anymail.mail.status import AnymailRecipientStatus, RecipientStatuses, all_recipients
from anymail.mail.supports import Supports, Unsupported
from anymail.mail.text import header_name, refuse_controls
from anymail.wire import Base64, Flow, Request, Response


@dataclasses.dataclass(frozen=True, kw_only=True)
class PostalOptions(SendOptions):
    api_key: Secret = secret("API credential of one mail server.", bare=True)
    api_url: str = option(
        "Base URL of the Postal installation, such as `https://postal.example.net`, without `/api/v1`.",
        convert=base_url,
    )


# The codes of answers with the status "error"; all others mean that the message is wrong.
_CATEGORIES: dict[str, Category] = {
    "AccessDenied": "auth",
    "InvalidServerAPIKey": "auth",
    "ServerSuspended": "auth",
    "UnauthenticatedFromAddress": "auth",
}
# What the other messages of a batch would meet too.
_IN_VAIN = frozenset({"auth", "rate_limit", "quota", "network", "timeout", "server"})


class Postal(ESP[PostalOptions]):
    name = "Postal"
    slug = "postal"
    Options = PostalOptions
    supports = Supports(
        amp=True,
        alternatives=True,
        # Only as the Sender header: Postal chooses the envelope sender itself.
        envelope_sender=True,
        tags=1,
        merge_headers=True,
    )
    # Postal has no rate limit, but may stand behind a proxy that has one. A 503 may come after it took the message.
    safe_to_repeat = frozenset({429})

    def check(self, mail: OutgoingMail) -> Iterator[Unsupported]:
        if mail.envelope_sender and not mail.envelope_sender.username.isascii():
            yield Unsupported("a non-ASCII local part (EAI) in envelope_sender", {"envelope_sender": None})

    def deliver(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        """One call, or for a batch one for each ``to``.

        What one of several fails on is the status of its recipients: "failed", or "unknown" where Postal may have
        taken the message. It is raised only if all fail.
        """
        statuses = all_recipients(mail.recipients, "failed")
        errors: list[AnymailAPIError] = []
        taken = False
        for letter in _letters(mail):
            try:
                response = yield self._request(letter)
                merge_statuses(statuses, self._queued(response, letter))
                taken = True
            except AnymailAPIError as error:
                errors.append(error)
                merge_statuses(statuses, not_taken(letter.recipients, error))
                if error.category in _IN_VAIN:
                    break
        if not taken:
            raise max(errors, key=lambda error: error.sent is not False)
        return statuses

    def message(self, mail: OutgoingMail) -> dict[str, Any]:
        """The body of ``send/message``."""
        to, cc, bcc = _distinct(mail.to, mail.cc, mail.bcc)
        return deep_merge(
            without_empty(
                {
                    # As arrays: a string would be split at every comma.
                    "to": [str(address) for address in to],
                    "cc": [str(address) for address in cc],
                    "bcc": [str(address) for address in bcc],
                    "from": format_addresses(mail.from_email),
                    "sender": _sender(mail),
                    "subject": mail.subject,
                    "reply_to": format_addresses(mail.reply_to),
                    "plain_body": mail.text,
                    "html_body": mail.html,
                    "tag": mail.tags[0] if mail.tags else None,
                    # Postal puts its own Sender in the place of this one, or none.
                    "headers": {name: value for name, value in mail.headers.items() if name.lower() != "sender"},
                    "attachments": [_attachment(attachment) for attachment in mail.attachments],
                }
            ),
            mail.esp_extra,
        )

    def raw(self, mail: OutgoingMail) -> dict[str, Any]:
        """The body of ``send/raw``, where sender, tag and headers are in the MIME."""
        to, cc, bcc = _distinct(mail.to, mail.cc, mail.bcc)
        sender = mail.envelope_sender or next(iter(mail.from_email), None)
        own = without_empty({"Sender": _sender(mail), "X-Postal-Tag": mail.tags[0] if mail.tags else None})
        extra = {key: value for key, value in mail.esp_extra.items() if key != "headers"}
        headers = merge_headers(merge_headers(mail.headers, MailHeaders(own)), _extra_headers(mail))
        return deep_merge(
            {
                "mail_from": sender.addr_spec if sender else "",
                "rcpt_to": [address.addr_spec for address in (*to, *cc, *bcc)],
                "data": Base64(mime(mail, _raw_headers(mail, to, cc, headers))),
            },
            extra,
        )

    def _request(self, mail: OutgoingMail) -> Request:
        path, payload = ("raw", self.raw(mail)) if _needs_mime(mail) else ("message", self.message(mail))
        return Request.post(f"{self.options.api_url}api/v1/send/{path}", headers=self._request_headers, json=payload)

    def _request_headers(self) -> dict[str, str]:
        return {"Accept": "application/json", "X-Server-API-Key": self.options.api_key.reveal()}

    # Reading answers.

    def explain(self, response: Response) -> tuple[str, Category | None]:
        try:
            data = response.json()["data"]
            code, text = data.get("code"), data.get("message")
        except (ValueError, KeyError, TypeError, AttributeError):
            return response.text, None
        return ": ".join(str(one) for one in (code, text) if one), _CATEGORIES.get(str(code))

    def _queued(self, response: Response, mail: OutgoingMail) -> RecipientStatuses:
        response = _without_key(response, self.options.api_key)
        answer = self.read_json(response)
        status = answer.get("status") if isinstance(answer, dict) else None
        if status in ("error", "parameter-error"):
            raise self.api_error(response)
        if status != "success":
            raise self.unreadable(response, "without success or error")
        try:
            ids = {address: _message_id(one) for address, one in answer["data"]["messages"].items()}
        except (KeyError, TypeError, AttributeError):
            raise self.unreadable(response, "without the messages' ids") from None
        return {
            address.key: AnymailRecipientStatus(ids[address.addr_spec], "queued")
            if ids.get(address.addr_spec)
            else AnymailRecipientStatus(None, "unknown")
            for address in mail.recipients
        }


def _without_key(response: Response, api_key: Secret) -> Response:
    """The response to a wrong key repeats it."""
    content = response.content.replace(api_key.reveal().encode(), b"(API key)")
    return Response(response.status_code, response.headers, content, response.reason)


def _letters(mail: OutgoingMail) -> Iterator[OutgoingMail]:
    """The messages that a mail becomes: one for each ``to`` of a batch, else itself."""
    if not (mail.batch and mail.to):
        yield mail
        return
    for personal in mail.personal():
        yield dataclasses.replace(mail, to=(personal.to,), headers=personal.headers)


def _needs_mime(mail: OutgoingMail) -> bool:
    """Whether ``send/message`` would lose or refuse something, or spoil it (an attached message)."""
    return bool(
        mail.amp
        or mail.alternatives
        or "Message-ID" in mail.headers
        or any(
            attachment.inline or not attachment.content.strip() or attachment.mimetype == "message/rfc822"
            for attachment in mail.attachments
        )
    )


def _distinct(*groups: Iterable[EmailAddress]) -> list[tuple[EmailAddress, ...]]:
    """The groups with each address only in the first that has it: Postal would send to it again."""
    seen: set[str] = set()
    distinct = []
    for group in groups:
        found: dict[str, EmailAddress] = {}
        for address in group:
            if address.addr_spec not in seen:
                found.setdefault(address.addr_spec, address)
        seen |= found.keys()
        distinct.append(tuple(found.values()))
    return distinct


def _raw_headers(
    mail: OutgoingMail, to: Iterable[EmailAddress], cc: Iterable[EmailAddress], headers: MailHeaders[str]
) -> list[tuple[str, str]]:
    """All headers of a message in ``send/raw``, which adds neither Date nor Message-ID."""
    own = {
        "Date": formatdate(),
        "From": ascii_list(mail.from_email),
        "To": ascii_list(to),
        "Cc": ascii_list(cc),
        "Reply-To": ascii_list(mail.reply_to),
        "Subject": mail.subject or "",
        # Python's default for the domain would tell the host's name.
        "Message-ID": make_msgid(domain=mail.from_email[0].domain) if mail.from_email else "",
    }
    return [item for item in merge_headers(MailHeaders(own), headers).items() if item[1]]


def _sender(mail: OutgoingMail) -> str | None:
    return mail.envelope_sender.addr_spec if mail.envelope_sender else mail.headers.get("Sender")


def _extra_headers(mail: OutgoingMail) -> MailHeaders[str]:
    """The headers of esp_extra, as safe as those of the message are already."""
    where = "esp_extra['headers']"
    return MailHeaders(
        [
            (header_name(name, where), refuse_controls(str(value), f"{where}[{name!r}]"))
            for name, value in mail.esp_extra.get("headers", {}).items()
        ]
    )


def _attachment(attachment: Attachment) -> dict[str, Any]:
    extension = mimetypes.guess_extension(attachment.mimetype) or ""
    return {
        "name": attachment.name or f"attachment{extension}",
        "content_type": attachment.content_type,
        "data": attachment.base64,
    }


def _message_id(message: Any) -> str | None:
    """The id of one message in an answer, as a string, which in Postal is a number."""
    number = message["id"]
    return str(number) if isinstance(number, (int, str)) and not isinstance(number, bool) else None
