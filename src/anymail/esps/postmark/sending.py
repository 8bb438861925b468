"""Sending through Postmark.

https://postmarkapp.com/developer/api/email-api, https://postmarkapp.com/developer/api/templates-api and
https://postmarkapp.com/developer/api/bulk-email
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from anymail.conf import Secret, SendOptions, base_url, boolean, option, optional, secret
from anymail.esps.kit.batches import BatchLimit, Part, conclude, merge_statuses, send_parts, split
from anymail.esps.kit.sending import ESP, Coalescing, without_empty
from anymail.esps.kit.values import json_object_of, list_of, text_of
from anymail.exceptions import AnymailAPIError, Category
from anymail.mail.addresses import EmailAddress, format_addresses
from anymail.mail.attachments import Attachment
from anymail.mail.message import MailHeaders, OutgoingMail, Personal
from anymail.mail.status import AnymailRecipientStatus, RecipientStatuses, all_recipients
from anymail.mail.supports import ALL_CONTENT, Supports, Unsupported, check_beside_template
from anymail.wire import Flow, Request, Response


@dataclasses.dataclass(frozen=True, kw_only=True)
class PostmarkOptions(SendOptions):
    server_token: Secret = secret(
        "API token of one Postmark server (not of the account).", bare=True, esp_extra="server_token"
    )
    api_url: str = option("Base URL of the API.", default="https://api.postmarkapp.com/", convert=base_url)
    message_stream: str | None = option("`MessageStream` of every message.", default=None)
    use_bulk_api: bool = option("Send everything through `/email/bulk`.", default=False, convert=boolean)
    generate_message_id: bool | None = option(
        "With the bulk API, which gives no message ids: make one for each recipient, in the metadata `anymail_id`. "
        "On by default with `use_bulk_api`.",
        default=None,
        convert=optional(boolean),
    )


# https://postmarkapp.com/developer/api/overview#error-codes, where the HTTP status does not tell. What a message's own
# sender (400, 401) or recipients (412) are refused for is not here: the next message may pass.
_CATEGORIES: dict[int, Category] = {10: "auth", 14: "auth", 413: "auth", 405: "quota", 100: "server", 101: "server"}

_MAINTENANCE = 100
_INACTIVE_RECIPIENT, _INVALID_REQUEST = 406, 300
# "Invalid 'To' address: 'ana@'." and "Error parsing 'Cc': Illegal email domain 'localhost' in address 'x@localhost'."
_BAD_RECIPIENT = re.compile(r"(?:Invalid|Error\s+parsing)\s+'(?:To|Cc|Bcc)'", re.IGNORECASE)
# What stands around an address in such a sentence.
_BETWEEN_WORDS = re.compile(r"[\s,;<>()]+")
_TRACK_LINKS = {True: "HtmlAndText", False: "None"}


class Postmark(ESP[PostmarkOptions]):
    name = "Postmark"
    slug = "postmark"
    Options = PostmarkOptions
    supports = Supports(
        from_emails=50,
        metadata=True,
        metadata_values="text",
        tags=1,
        track_opens=True,
        track_clicks=True,
        template_id=True,
        # Without a template too, with the bulk API: see check().
        merge_data=True,
        merge_global_data=True,
        merge_metadata=True,
        merge_headers=True,
        # Postmark refuses a subject or a body beside a template.
        beside_template=ALL_CONTENT - {"subject", "text", "html", "amp"},
    )
    # Postmark takes 50 MB, base64 and JSON included.
    coalescing = Coalescing(messages=500, bytes=40_000_000)
    batch_limit = BatchLimit(messages=500, bytes=40_000_000)

    def check(self, mail: OutgoingMail) -> Iterator[Unsupported]:
        if _template(mail):
            if not mail.template_id:
                bodiless = dataclasses.replace(mail, text="", html="", amp=None)
                yield from check_beside_template(bodiless, self.supports)
        elif not self.options.use_bulk_api:
            if any(mail.merge_data.values()):
                yield Unsupported("merge_data without template_id", {"merge_data": {}})
            if mail.merge_global_data:
                yield Unsupported("merge_global_data without template_id", {"merge_global_data": {}})

    def deliver(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        if self.options.use_bulk_api and mail.to:
            return (yield from self._deliver_bulk(mail))
        if mail.batch and mail.to:
            parts = split(mail, self.batch_limit)
            return (yield from send_parts(Part(part.recipients, self._deliver_part(part)) for part in parts))
        path = "email/withTemplate" if _template(mail) else "email"
        response = yield self._request(path, [mail], self.message(mail))
        return self._single(response, mail)

    def _deliver_part(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        [outcome] = yield from self.deliver_many([mail])
        if isinstance(outcome, AnymailAPIError):
            raise outcome
        return outcome

    def batch_key(self, mail: OutgoingMail) -> Hashable | None:
        if self.options.use_bulk_api or (mail.batch and len(mail.to) > self.batch_limit.messages_of(mail)):
            return None
        return bool(_template(mail)), mail.esp_extra.get("server_token")

    def deliver_many(self, mails: Sequence[OutgoingMail]) -> Flow[list[RecipientStatuses | AnymailAPIError]]:
        """Send several messages in one call. Postmark responds in order, with an item for each message."""
        owners: list[tuple[int, Sequence[EmailAddress]]] = []
        messages = []
        for index, mail in enumerate(mails):
            for personal in self._messages(mail):
                owners.append((index, (personal.to, *mail.cc, *mail.bcc) if personal else mail.recipients))
                messages.append(self.message(mail, personal))
        templated = _template(mails[0])
        path = "email/batchWithTemplates" if templated else "email/batch"
        response = yield self._request(path, mails, {"Messages": messages} if templated else messages)
        statuses: list[RecipientStatuses] = [{} for _ in mails]
        for (index, addresses), item in zip(owners, self._batch_results(response, len(messages)), strict=True):
            merge_statuses(statuses[index], self._item_statuses(item, addresses, response))
        return [_outcome(each) for each in statuses]

    def message(self, mail: OutgoingMail, personal: Personal | None = None) -> dict[str, Any]:
        """One message object of the API."""
        templated = _template(mail)
        metadata = personal.metadata if personal else mail.metadata
        model = _model(personal.merge_data if personal else mail.merge_global_data)
        return {
            **without_empty(
                {
                    "From": format_addresses(mail.from_email),
                    "To": format_addresses([personal.to] if personal else mail.to),
                    "Cc": format_addresses(mail.cc),
                    "Bcc": format_addresses(mail.bcc),
                    "ReplyTo": format_addresses(mail.reply_to),
                    "Tag": mail.tags[0] if mail.tags else None,
                    "TextBody": "" if templated else mail.text,
                    "HtmlBody": "" if templated else mail.html,
                    "Headers": _headers(personal.headers if personal else mail.headers),
                    "Attachments": [_attachment(attachment) for attachment in mail.attachments],
                    "Metadata": metadata,
                    "TrackOpens": mail.track_opens,
                    "TrackLinks": None if mail.track_clicks is None else _TRACK_LINKS[mail.track_clicks],
                    "MessageStream": self.options.message_stream,
                    **_template_id(mail),
                }
            ),
            **({"TemplateModel": model} if templated else {"Subject": mail.subject or ""}),
            **_extra(mail),
        }

    def _messages(self, mail: OutgoingMail) -> Iterable[Personal | None]:
        return mail.personal() if mail.batch and mail.to else [None]

    def _request(self, path: str, mails: Sequence[OutgoingMail], payload: Any) -> Request:
        headers = partial(self._request_headers, mails[0])
        return Request.post(f"{self.options.api_url}{path}", headers=headers, json=payload)

    def _request_headers(self, mail: OutgoingMail) -> dict[str, str]:
        token = Secret(mail.esp_extra.get("server_token") or self.options.server_token)
        return {"Accept": "application/json", "X-Postmark-Server-Token": token.reveal()}

    # Reading responses.

    def certainly_not_taken(self, response: Response) -> bool:
        """Also during maintenance, when Postmark itself says so: https://postmarkapp.com/developer/api/overview"""
        return super().certainly_not_taken(response) or (
            response.status_code == 503 and self.explain(response)[0].startswith(f"ErrorCode {_MAINTENANCE}: ")
        )

    def explain(self, response: Response) -> tuple[str, Category | None]:
        content = json_object_of(response.content)
        return (_words(content), _category(content)) if "ErrorCode" in content else (response.text, None)

    def _single(self, response: Response, mail: OutgoingMail) -> RecipientStatuses:
        if response.status_code == 422:
            error = self.api_error(response)
            if refused := self._refused(json_object_of(response.content), mail.recipients, error):
                return conclude(refused)
            raise error
        content = self.read_json(response)
        accepted = self._accepted(content, mail.recipients) if isinstance(content, dict) else None
        if accepted is None:
            raise self.unreadable(response, "without a MessageID")
        return accepted

    def _batch_results(self, response: Response, expected: int) -> list[dict[str, Any]]:
        content = self.read_json(response)
        if not isinstance(content, list) or len(content) != expected:
            raise self.unreadable(response, f"without a result for each of {expected} messages")
        return [item if isinstance(item, dict) else {} for item in content]

    def _item_statuses(
        self, item: dict[str, Any], addresses: Sequence[EmailAddress], response: Response
    ) -> RecipientStatuses:
        """The statuses of one message of a batch."""
        # https://postmarkapp.com/developer/api/overview: what is delayed has no ErrorCode.
        if item.get("ErrorCode", 0) == 0:
            return self._accepted(item, addresses) or all_recipients(addresses, "unknown")
        error = AnymailAPIError(
            f"Postmark refused this message of a batch: {_words(item)}.",
            category=_category(item) or "invalid",
            response=response,
        )
        return self._refused(item, addresses, error) or all_recipients(addresses, "failed", error=error)

    def _accepted(self, result: dict[str, Any], addresses: Sequence[EmailAddress]) -> RecipientStatuses | None:
        """The statuses of a message that Postmark took; None if the response does not look like it.

        "Message OK, but will not deliver to these inactive addresses: dead@example.net, gone@example.org", with or
        without a full stop and a sentence about inactive recipients, is said of one that some recipients do not get.
        """
        message_id, words = text_of(result.get("MessageID")), " ".join(str(result.get("Message", "")).lower().split())
        if message_id is None:
            return None
        # "Message accepted, but delivery may be delayed."
        status = AnymailRecipientStatus(message_id, "queued" if "may be delayed" in words else "sent")
        inactive = _named(words.partition("inactive")[2], addresses)
        rejected = AnymailRecipientStatus(None, "rejected")
        return {address.key: rejected if address in inactive else status for address in addresses}

    def _refused(
        self, result: dict[str, Any], addresses: Sequence[EmailAddress], error: AnymailAPIError
    ) -> RecipientStatuses | None:
        """The statuses when a message was refused for the sake of some recipients; None if for another reason.

        "You tried to send to recipient(s) that have been marked as inactive. Found inactive addresses:
        dead@example.net. Inactive recipients are ones that have generated a hard bounce." names them with code 406,
        and the samples at _BAD_RECIPIENT with code 300. ``error`` befell those who would have got it.
        """
        code, words = result.get("ErrorCode"), str(result.get("Message", ""))
        if code == _INACTIVE_RECIPIENT:
            culprit = AnymailRecipientStatus(None, "rejected")
        elif code == _INVALID_REQUEST and _BAD_RECIPIENT.match(words.strip()):
            culprit = AnymailRecipientStatus(None, "invalid")
        else:
            return None
        culprits = _named(words, addresses) or (set(addresses) if len(addresses) == 1 else set())
        if not culprits:
            return None
        failed = AnymailRecipientStatus(None, "failed", error)
        return {address.key: culprit if address in culprits else failed for address in addresses}

    # The bulk API: one content for many recipients.

    def bulk(self, mail: OutgoingMail, ids: Sequence[str]) -> dict[str, Any]:
        """The request of /email/bulk; ``ids`` are the message ids to give, or empty."""
        common = self.message(dataclasses.replace(mail, to=(), cc=(), bcc=(), metadata={}, merge_global_data={}))
        common.pop("TemplateModel", None)
        return {
            **common,
            "Messages": [
                without_empty(
                    {
                        "To": format_addresses([personal.to]),
                        "Cc": format_addresses(mail.cc),
                        "Bcc": format_addresses(mail.bcc),
                        "TemplateModel": _model(personal.merge_data),
                        "Metadata": {**personal.metadata, **({"anymail_id": ids[index]} if ids else {})},
                        "Headers": _headers(personal.headers) if mail.merge_headers.get(personal.to.addr_spec) else (),
                    }
                )
                for index, personal in enumerate(mail.personal())
            ],
        }

    def _deliver_bulk(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        from uuid import uuid4

        generate = self.options.generate_message_id is not False
        ids = [str(uuid4()) for _ in mail.to] if generate else []
        response = yield self._request("email/bulk", [mail], self.bulk(mail, ids))
        content = self.read_json(response)
        # https://postmarkapp.com/developer/api/bulk-email names it ID, the official clients Id.
        job = text_of(content.get("ID")) or text_of(content.get("Id")) if isinstance(content, dict) else None
        if job is None or not text_of(content.get("Status")):
            raise self.unreadable(response, "not as the bulk API does")
        if content["Status"] == "Failed":
            error = AnymailAPIError(f"Postmark's bulk API says that request {job} failed.", response=response)
            return conclude(all_recipients(mail.recipients, "failed", error=error))
        return {
            **{
                to.key: AnymailRecipientStatus(ids[index] if ids else None, "queued")
                for index, to in enumerate(mail.to)
            },
            **all_recipients(mail.cc + mail.bcc, "unknown"),
        }


def _template(mail: OutgoingMail) -> bool:
    return bool(mail.template_id or mail.esp_extra.get("TemplateId") or mail.esp_extra.get("TemplateAlias"))


def _template_id(mail: OutgoingMail) -> dict[str, Any]:
    if not mail.template_id:
        return {}
    try:
        return {"TemplateId": int(mail.template_id)}
    except ValueError:
        return {"TemplateAlias": mail.template_id}


def _extra(mail: OutgoingMail) -> dict[str, Any]:
    return {key: value for key, value in mail.esp_extra.items() if key != "server_token"}


def _headers(headers: MailHeaders[str]) -> list[dict[str, str]]:
    return [{"Name": name, "Value": value} for name, value in headers.items()]


def _model(merge_data: dict[str, Any]) -> dict[str, Any]:
    """A TemplateModel without null, which templates show as they do what is absent: as nothing."""
    without: dict[str, Any] = _without_none(merge_data)
    return without


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(one) for key, one in value.items() if one is not None}
    return [_without_none(one) for one in value if one is not None] if isinstance(value, (list, tuple)) else value


def _attachment(attachment: Attachment) -> dict[str, Any]:
    wire = {"Name": attachment.name_or_default, "Content": attachment.base64, "ContentType": attachment.content_type}
    return {**wire, "ContentID": f"cid:{attachment.content_id}"} if attachment.inline else wire


def _words(result: dict[str, Any]) -> str:
    """What Postmark says of an error. Where it found several it lists them."""
    several = [str(one.get("Message") if isinstance(one, dict) else one) for one in list_of(result.get("Errors"))]
    return f"ErrorCode {result.get('ErrorCode')}: {'; '.join([str(result.get('Message')).rstrip('.'), *several])}"


def _category(result: dict[str, Any]) -> Category | None:
    code = result.get("ErrorCode")
    return _CATEGORIES.get(code) if isinstance(code, int) else None


def _outcome(statuses: RecipientStatuses) -> RecipientStatuses | AnymailAPIError:
    try:
        return conclude(statuses)
    except AnymailAPIError as error:
        return error


def _named(text: str, addresses: Iterable[EmailAddress]) -> set[EmailAddress]:
    """The addresses that a text names. Postmark writes them in lower case, with domains in either form."""
    words = {word.strip("'\".:!?") for word in _BETWEEN_WORDS.split(text.lower())}
    return {address for address in addresses if {address.addr_spec.lower(), address.key.lower()} & words}
