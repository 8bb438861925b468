"""Sending through Resend.

https://resend.com/docs/api-reference/emails/send-email and /send-batch-emails
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import mimetypes
import re
import uuid
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from anymail._version import __version__
from anymail.conf import Secret, SendOptions, base_url, boolean, option, secret
from anymail.esps.kit.sending import ESP, Coalescing, ResponseReader, without_empty
from anymail.exceptions import AnymailAPIError, Category
from anymail.mail.addresses import EmailAddress, format_addresses
from anymail.mail.attachments import Attachment
from anymail.mail.message import MailHeaders, OutgoingMail, Personal, merge_headers
from anymail.mail.status import AnymailRecipientStatus, RecipientStatuses, all_recipients
from anymail.mail.supports import MANY, Supports, Unsupported
from anymail.mail.text import refuse_controls
from anymail.wire import Flow, Request, Response, json_text

API_URL = "https://api.resend.com/"
#: /docs/api-reference/introduction, "User-Agent": a call without one is answered with 403.
USER_AGENT = f"anymail/{__version__}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResendOptions(SendOptions):
    api_key: Secret = secret("API key; one with sending access is enough for sending.", bare=True)
    api_url: str = option("Base URL of the API.", default=API_URL, convert=base_url)
    verify_attachment_extensions: bool = option(
        "Refuse an attachment whose name does not fit its type: Resend accepts such a message and never sends it.",
        default=True,
        convert=boolean,
    )


# /docs/api-reference/errors, where the HTTP status does not tell.
_CATEGORIES: dict[str, Category] = {
    "daily_quota_exceeded": "quota",
    "monthly_quota_exceeded": "quota",
    "email_above_quota": "quota",
    "concurrent_idempotent_requests": "server",
    "resource_locked": "server",
    "security_error": "auth",
}

_BATCH = 100
_BAD_RECIPIENT = re.compile("[`'\"]to[`'\"]")


class ResendAPI(ResponseReader):
    """What all of Resend's answers have in common."""

    name = "Resend"
    slug = "resend"
    # What was answered with 503 may have been taken: it is repeated for its idempotency key only.
    safe_to_repeat = frozenset({429})

    def explain(self, response: Response) -> tuple[str, Category | None]:
        try:
            answer = response.json()
            name, text = str(answer["name"]), str(answer["message"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return response.text, None
        # An invalid key has been seen to be a validation_error, too.
        category = "auth" if response.status_code == 400 and "API key" in text else _CATEGORIES.get(name)
        return f"{name}: {text}", category

    def api_error(self, response: Response) -> AnymailAPIError:
        error = super().api_error(response)
        if response.status_code == 409 and error.category == "server":
            # The first call with this key is still at work, and may send the message.
            error.sent = None
        return error


class Resend(ResendAPI, ESP[ResendOptions]):
    Options = ResendOptions
    supports = Supports(
        metadata=True,
        tags=MANY,
        send_at=True,
        template_id=True,
        merge_data="template",
        merge_global_data="template",
        merge_metadata=True,
        merge_headers=True,
    )
    coalescing = Coalescing(messages=_BATCH, bytes=40_000_000)

    def check(self, mail: OutgoingMail) -> Iterator[Unsupported]:
        if mail.template_id:
            for name in ("text", "html"):
                if getattr(mail, name):
                    yield Unsupported(f"{name} with template_id", {name: ""})
            variables = [mail.merge_global_data, *mail.merge_data.values()]
            if types := {type(value).__name__ for each in variables for value in each.values() if not _plain(value)}:
                without = {
                    "merge_global_data": _plain_values(mail.merge_global_data),
                    "merge_data": {to: _plain_values(data) for to, data in mail.merge_data.items()},
                }
                yield Unsupported(f"template variables of type {', '.join(sorted(types))}", without)
        faults = [self._fault(attachment) for attachment in mail.attachments]
        kept = tuple(one for one, fault in zip(mail.attachments, faults, strict=True) if not fault)
        for fault in dict.fromkeys(filter(None, faults)):
            yield Unsupported(fault, {"attachments": kept})

    def _fault(self, attachment: Attachment) -> str | None:
        """Why Resend would lose the attachment, and with it the message."""
        name, mimetype = attachment.name, attachment.mimetype
        if attachment.inline and not attachment.content_id:
            return "inline attachments without a Content-ID"
        if not name:
            return None if _filename(attachment) else f"unnamed attachments of type {mimetype}"
        expected, encoding = mimetypes.guess_type(name)
        if self.options.verify_attachment_extensions and not encoding and expected not in (None, mimetype.lower()):
            return f"attachments of type {mimetype} with name {name!r}"
        return None

    def deliver(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        if mail.batch and mail.to:
            return (yield from self._deliver_batch(mail))
        response = yield self._request("emails", self.message(mail), _idempotency_key(mail))
        return all_recipients(mail.recipients, "queued", self._id(response))

    def batch_key(self, mail: OutgoingMail) -> Hashable | None:
        # The batch endpoint drops attachments, and older editions of its reference know no scheduled_at.
        alone = mail.attachments or mail.send_at or mail.esp_extra or "Idempotency-Key" in mail.headers
        return None if alone or len(mail.to) > _BATCH else True

    def deliver_many(self, mails: Sequence[OutgoingMail]) -> Flow[list[RecipientStatuses | AnymailAPIError]]:
        messages = [[self.message(mail, one) for one in _people(mail)] for mail in mails]
        results = yield from self._send_batch([one for each in messages for one in each], str(uuid.uuid4()))
        rest = iter(results)
        return [_outcome(mail, [next(rest) for _ in each]) for mail, each in zip(mails, messages, strict=True)]

    def _deliver_batch(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        """As many calls as it takes. Once a message is taken, the failure of a later call is its recipients' own."""
        messages = [self.message(mail, one) for one in mail.personal()]
        # The batch endpoint drops attachments.
        together = 1 if any("attachments" in one for one in messages) else _BATCH
        key = _idempotency_key(mail)
        results: list[str | AnymailAPIError] = []
        for number, start in enumerate(range(0, len(messages), together), 1):
            part = messages[start : start + together]
            part_key = key if number == 1 else f"{key}-{number}"
            try:
                if together == 1:
                    results.append(self._id((yield self._request("emails", part[0], part_key))))
                else:
                    results += yield from self._send_batch(part, part_key)
            except AnymailAPIError as error:
                results += [error] * len(part)
                if error.category != "invalid":
                    break
        outcome = _outcome(mail, results)
        if isinstance(outcome, AnymailAPIError):
            raise outcome
        return outcome

    def _send_batch(self, messages: list[dict[str, Any]], key: str) -> Flow[list[str | AnymailAPIError]]:
        """One call to the batch endpoint; for each message its id, or the error that befell it alone."""
        response = yield self._request("emails/batch", messages, key, {"x-batch-validation": "permissive"})
        return self._ids(response, len(messages))

    def message(self, mail: OutgoingMail, personal: Personal | None = None) -> dict[str, Any]:
        """One message object of the API."""
        templated = bool(mail.template_id or mail.esp_extra.get("template"))
        variables = personal.merge_data if personal else mail.merge_global_data
        return {
            **without_empty(
                {
                    "from": format_addresses(mail.from_email),
                    "to": _addresses([personal.to] if personal else mail.to),
                    "subject": mail.subject,
                    "bcc": _addresses(mail.bcc),
                    "cc": _addresses(mail.cc),
                    "scheduled_at": _iso_time(mail.send_at) if mail.send_at else None,
                    "reply_to": _addresses(mail.reply_to),
                    "html": mail.html,
                    "text": mail.text,
                    "headers": _headers(mail, personal),
                    "attachments": [_attachment(attachment) for attachment in mail.attachments],
                    "template": without_empty(
                        {"id": mail.template_id, "variables": variables} if mail.template_id else {}
                    ),
                }
            ),
            # Without a text, Resend makes one of the HTML.
            **({} if templated else {"subject": mail.subject or "", "text": mail.text}),
            **{name: value for name, value in mail.esp_extra.items() if name != "idempotency_key"},
        }

    def _request(self, path: str, payload: Any, key: str, extra: dict[str, str] | None = None) -> Request:
        headers = partial(self._request_headers, {"Idempotency-Key": key, **(extra or {})})
        return Request.post(f"{self.options.api_url}{path}", headers=headers, json=payload, idempotency_key=key)

    def _request_headers(self, own: Mapping[str, str]) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self.options.api_key.reveal()}",
            "Accept": "application/json",
            "User-Agent": USER_AGENT,
            **own,
        }

    # Reading answers.

    def _id(self, response: Response) -> str:
        answer = self.read_json(response)
        if not isinstance(answer, dict) or not isinstance(answer.get("id"), str):
            raise self.unreadable(response, "without an id")
        message_id: str = answer["id"]
        return message_id

    def _ids(self, response: Response, expected: int) -> list[str | AnymailAPIError]:
        """``data`` has the messages that were taken, in order; ``errors`` the places of those that were not."""
        answer = self.read_json(response)
        try:
            refused = {int(one["index"]): str(one["message"]) for one in answer.get("errors") or ()}
            taken = [one["id"] for one in answer["data"]]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self.unreadable(response, "not as the batch endpoint does") from None
        places = [index for index in range(expected) if index not in refused]
        if len(places) != len(taken) or not all(isinstance(one, str) for one in taken):
            raise self.unreadable(response, f"without an id for each of {expected} messages")
        ids = dict(zip(places, taken, strict=True))
        return [ids[index] if index in ids else _refusal(refused[index], response) for index in range(expected)]


def _refusal(text: str, response: Response) -> AnymailAPIError:
    return AnymailAPIError(f"Resend refused this message of a batch: {text}", category="invalid", response=response)


def _outcome(mail: OutgoingMail, results: Sequence[str | AnymailAPIError]) -> RecipientStatuses | AnymailAPIError:
    """The statuses of a mail, from the results of its messages; those that are missing were not tried.

    It fails as a whole if none was taken, unless Resend calls all addresses invalid.
    """
    errors = [result for result in results if isinstance(result, AnymailAPIError)]
    taken = len(errors) < len(results)
    if not mail.batch or not mail.to:
        return errors[-1] if errors else all_recipients(mail.recipients, "queued", str(results[0]))
    statuses = [_status(result) for result in results]
    if not taken and any(one.status != "invalid" for one in statuses):
        return errors[-1]
    statuses += [AnymailRecipientStatus(None, "failed")] * (len(mail.to) - len(results))
    return {
        **all_recipients(mail.cc + mail.bcc, "queued" if taken else "failed"),
        **{to.key: status for to, status in zip(mail.to, statuses, strict=True)},
    }


def _status(result: str | AnymailAPIError) -> AnymailRecipientStatus:
    if isinstance(result, str):
        return AnymailRecipientStatus(result, "queued")
    if result.sent is not False:
        return AnymailRecipientStatus(None, "unknown")
    invalid = result.category == "invalid" and _BAD_RECIPIENT.search(str(result))
    return AnymailRecipientStatus(None, "invalid" if invalid else "failed")


def _people(mail: OutgoingMail) -> Iterable[Personal | None]:
    return mail.personal() if mail.batch and mail.to else [None]


def _idempotency_key(mail: OutgoingMail) -> str:
    """The message's own (``idempotency_key`` in esp_extra, or a header), or a new one."""
    given = mail.esp_extra.get("idempotency_key") or mail.headers.get("Idempotency-Key")
    return refuse_controls(str(given), "idempotency_key") if given else str(uuid.uuid4())


def _addresses(addresses: Iterable[EmailAddress]) -> list[str]:
    return [str(address) for address in addresses]


def _iso_time(time: dt.datetime) -> str:
    """Resend does not read microseconds."""
    return time.isoformat(timespec="milliseconds" if time.microsecond else "seconds")


def _headers(mail: OutgoingMail, personal: Personal | None) -> dict[str, str]:
    """The extra headers, and metadata and tags as headers: Resend's own tags have no room for free text."""
    headers = personal.headers if personal else mail.headers
    metadata = personal.metadata if personal else mail.metadata
    labels = {
        **({"X-Metadata": json_text(metadata, "metadata")} if metadata else {}),
        **({"X-Tags": json_text(mail.tags, "tags")} if mail.tags else {}),
    }
    every = merge_headers(headers, MailHeaders(labels))
    return {name: value for name, value in every.items() if name.lower() != "idempotency-key"}


def _attachment(attachment: Attachment) -> dict[str, Any]:
    wire = {
        "content": attachment.base64,
        "filename": _filename(attachment),
        "content_type": attachment.content_type,
    }
    return {**wire, "content_id": attachment.content_id} if attachment.inline else wire


def _filename(attachment: Attachment) -> str:
    """The attachment's name, or one made of its type; "" if there is none for it."""
    extension = mimetypes.guess_extension(attachment.mimetype)
    return attachment.name or (f"attachment{extension}" if extension else "")


def _plain(value: Any) -> bool:
    return not (value is None or isinstance(value, (bool, list, dict)))


def _plain_values(variables: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in variables.items() if _plain(value)}
