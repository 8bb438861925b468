"""Sending through Postmark.

https://postmarkapp.com/developer/api/email-api, /api/templates-api and /api/bulk-email
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from anymail.conf import Secret, SendOptions, base_url, boolean, option, optional, secret
from anymail.esps.kit.batches import merge_statuses, not_taken
from anymail.esps.kit.sending import ESP, Coalescing, without_empty
from anymail.exceptions import AnymailAPIError, Category
from anymail.mail.addresses import EmailAddress, format_addresses
from anymail.mail.attachments import Attachment
from anymail.mail.message import MailHeaders, OutgoingMail, Personal
from anymail.mail.status import AnymailRecipientStatus, RecipientStatuses, all_recipients
from anymail.mail.supports import Supports, Unsupported
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


# /developer/api/overview, "Error codes", where the HTTP status does not tell.
_CATEGORIES: dict[int, Category] = {
    10: "auth", 400: "auth", 401: "auth", 412: "auth", 413: "auth", 405: "quota", 100: "server", 101: "server",
}  # fmt: skip

_INACTIVE = re.compile(r"inactive addresses:\s*(.+?)\.(?:\s|$)")
_BAD_RECIPIENT = re.compile(r"(?:Invalid|Error\s+parsing)\s+'(?:To|Cc|Bcc)'", re.IGNORECASE)
_MAINTENANCE = 100
_TRACK_LINKS = {True: "HtmlAndText", False: "None"}
_INACTIVE_RECIPIENT, _INVALID_REQUEST = 406, 300


class Postmark(ESP[PostmarkOptions]):
    name = "Postmark"
    slug = "postmark"
    Options = PostmarkOptions
    supports = Supports(
        from_emails=50,
        metadata=True,
        tags=1,
        track_opens=True,
        track_clicks=True,
        template_id=True,
        # Without a template too, with the bulk API: see check().
        merge_data=True,
        merge_global_data=True,
        merge_metadata=True,
        merge_headers=True,
    )
    coalescing = Coalescing(messages=500, bytes=40_000_000)

    def check(self, mail: OutgoingMail) -> Iterator[Unsupported]:
        if mail.template_id:
            for name in ("subject", "text", "html"):
                if getattr(mail, name):
                    yield Unsupported(f"{name} with template_id", {name: ""})
        elif not self.options.use_bulk_api and not _template(mail):
            if any(mail.merge_data.values()):
                yield Unsupported("merge_data without template_id", {"merge_data": {}})
            if mail.merge_global_data:
                yield Unsupported("merge_global_data without template_id", {"merge_global_data": {}})

    def deliver(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        if self.options.use_bulk_api and mail.to:
            return (yield from self._deliver_bulk(mail))
        if mail.batch and mail.to:
            [recipients] = yield from self.deliver_many([mail])
            if isinstance(recipients, AnymailAPIError):
                raise recipients
            return recipients
        path = "email/withTemplate" if _template(mail) else "email"
        response = yield self._request(path, [mail], self.message(mail))
        return self._single(response, mail)

    def batch_key(self, mail: OutgoingMail) -> Hashable | None:
        if self.options.use_bulk_api or (mail.batch and len(mail.to) > 500):
            return None
        return bool(_template(mail)), mail.esp_extra.get("server_token")

    def deliver_many(self, mails: Sequence[OutgoingMail]) -> Flow[list[RecipientStatuses | AnymailAPIError]]:
        """Postmark answers a batch in order, with an item for each message."""
        owners, messages = [], []
        for index, mail in enumerate(mails):
            for personal in self._messages(mail):
                owners.append((index, personal.to if personal else None))
                messages.append(self.message(mail, personal))
        templated = _template(mails[0])
        path = "email/batchWithTemplates" if templated else "email/batch"
        results: list[dict[str, Any] | AnymailAPIError] = []
        for start in range(0, len(messages), 500):
            part = messages[start : start + 500]
            try:
                response = yield self._request(path, mails, {"Messages": part} if templated else part)
                results += self._batch_results(response, len(part))
            except AnymailAPIError as error:
                if not results:
                    raise
                # What was taken is taken: the failure is that of the rest alone.
                results += [error] * (len(messages) - len(results))
                break
        return self._by_mail(mails, owners, results)

    def message(self, mail: OutgoingMail, personal: Personal | None = None) -> dict[str, Any]:
        """One message object of the API."""
        templated = _template(mail)
        metadata = personal.metadata if personal else mail.metadata
        model = personal.merge_data if personal else mail.merge_global_data
        return {
            **without_empty(
                {
                    "From": format_addresses(mail.from_email),
                    "To": format_addresses([personal.to] if personal else mail.to),
                    "Cc": format_addresses(mail.cc),
                    "Bcc": format_addresses(mail.bcc),
                    "ReplyTo": format_addresses(mail.reply_to),
                    "Tag": mail.tags[0] if mail.tags else None,
                    "TextBody": mail.text,
                    "HtmlBody": mail.html,
                    "Headers": _headers(personal.headers if personal else mail.headers),
                    "Attachments": [_attachment(attachment) for attachment in mail.attachments],
                    "Metadata": _metadata(metadata),
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

    # Reading answers.

    def certainly_not_taken(self, response: Response) -> bool:
        """Also during maintenance, when Postmark itself says so: https://postmarkapp.com/developer/api/overview"""
        return super().certainly_not_taken(response) or (
            response.status_code == 503 and self.explain(response)[0].startswith(f"ErrorCode {_MAINTENANCE}: ")
        )

    def explain(self, response: Response) -> tuple[str, Category | None]:
        try:
            answer = response.json()
            code, text = answer["ErrorCode"], answer["Message"]
        except (ValueError, KeyError, TypeError):
            return response.text, None
        return f"ErrorCode {code}: {text}", _CATEGORIES.get(code)

    def _single(self, response: Response, mail: OutgoingMail) -> RecipientStatuses:
        if response.status_code == 422:
            try:
                refused = self._refused(response.json(), mail.recipients)
            except (ValueError, AttributeError):
                refused = None
            if refused:
                return refused
        answer = self.read_json(response)
        result = self._accepted(answer, mail.recipients) if isinstance(answer, dict) else None
        if result is None:
            raise self.unreadable(response, "without a MessageID")
        return result

    def _batch_results(self, response: Response, expected: int) -> list[dict[str, Any]]:
        answer = self.read_json(response)
        if not isinstance(answer, list) or len(answer) != expected:
            raise self.unreadable(response, f"without a result for each of {expected} messages")
        return [item if isinstance(item, dict) else {} for item in answer]

    def _by_mail(
        self,
        mails: Sequence[OutgoingMail],
        owners: Sequence[tuple[int, EmailAddress | None]],
        results: Sequence[dict[str, Any] | AnymailAPIError],
    ) -> list[RecipientStatuses | AnymailAPIError]:
        """Gather each mail's statuses. A mail of several messages fails as a whole only if each of them failed."""
        statuses: list[RecipientStatuses] = [{} for _ in mails]
        errors: list[list[AnymailAPIError]] = [[] for _ in mails]
        taken = [False] * len(mails)
        for (index, to), result in zip(owners, results, strict=True):
            mail = mails[index]
            addresses = (to, *mail.cc, *mail.bcc) if to else mail.recipients
            if isinstance(result, AnymailAPIError):
                errors[index].append(result)
                merge_statuses(statuses[index], not_taken(addresses, result))
                continue
            found = self._refused(result, addresses)
            if found is None and result.get("ErrorCode", 0) == 0:
                found = self._accepted(result, addresses) or all_recipients(addresses, "unknown")
                taken[index] = True
            if found is None:
                errors[index].append(self._item_error(result))
                found = all_recipients(addresses, "failed")
            merge_statuses(statuses[index], found)
        return [
            failed[0] if failed and not took and len(failed) == len([o for o in owners if o[0] == index]) else status
            for index, (status, failed, took) in enumerate(zip(statuses, errors, taken, strict=True))
        ]

    def _accepted(self, result: dict[str, Any], addresses: Sequence[EmailAddress]) -> RecipientStatuses | None:
        """The statuses of a message that Postmark took; None if the answer does not look like it."""
        message_id, text = result.get("MessageID"), str(result.get("Message", ""))
        if not isinstance(message_id, str):
            return None
        # https://postmarkapp.com/developer/api/overview: such an answer has no ErrorCode.
        status = AnymailRecipientStatus(message_id, "queued" if "delivery may be delayed" in text else "sent")
        inactive = _named(_INACTIVE, text, addresses) if "inactive" in text else ()
        rejected = AnymailRecipientStatus(None, "rejected")
        return {address.key: rejected if address in inactive else status for address in addresses}

    def _refused(self, result: dict[str, Any], addresses: Sequence[EmailAddress]) -> RecipientStatuses | None:
        """The statuses when a message was refused for the sake of some recipients; None if for another reason."""
        code, text = result.get("ErrorCode"), " ".join(str(result.get("Message", "")).split())
        if code == _INACTIVE_RECIPIENT:
            culprits, status = _named(_INACTIVE, text, addresses), AnymailRecipientStatus(None, "rejected")
            if not culprits:
                culprits = set(addresses) if len(addresses) == 1 else set()
        elif code == _INVALID_REQUEST and _BAD_RECIPIENT.match(text):
            culprits, status = _mentioned(text, addresses), AnymailRecipientStatus(None, "invalid")
        else:
            return None
        if not culprits:
            return None
        failed = AnymailRecipientStatus(None, "failed")
        return {address.key: status if address in culprits else failed for address in addresses}

    def _item_error(self, result: dict[str, Any]) -> AnymailAPIError:
        code = result.get("ErrorCode")
        return AnymailAPIError(
            f"Postmark refused this message of a batch: ErrorCode {code}: {result.get('Message')}.",
            category=_CATEGORIES.get(code, "invalid") if isinstance(code, int) else "unreadable",
        )

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
                        "TemplateModel": personal.merge_data,
                        "Metadata": _metadata({**personal.metadata, **({"anymail_id": ids[index]} if ids else {})}),
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
        answer = self.read_json(response)
        # https://postmarkapp.com/developer/api/bulk-email names it ID, the official clients Id.
        if not isinstance(answer, dict) or not (answer.get("ID") or answer.get("Id")) or not answer.get("Status"):
            raise self.unreadable(response, "not as the bulk API does")
        if answer["Status"] == "Failed":
            return all_recipients(mail.recipients, "failed")
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


def _metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """Postmark documents strings, and has enforced the types of fields since 2023."""
    return {
        key: str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
        for key, value in metadata.items()
    }


def _attachment(attachment: Attachment) -> dict[str, Any]:
    wire = {"Name": attachment.name, "Content": attachment.base64, "ContentType": attachment.content_type}
    return {**wire, "ContentID": f"cid:{attachment.content_id}"} if attachment.inline else wire


def _named(pattern: re.Pattern[str], text: str, addresses: Iterable[EmailAddress]) -> set[EmailAddress]:
    """The addresses of the list that ``pattern`` finds. Postmark writes them in lower case."""
    match = pattern.search(" ".join(text.split()))
    named = {one.strip().lower() for one in match[1].split(",")} if match else set()
    return {address for address in addresses if {address.addr_spec.lower(), address.key.lower()} & named}


def _mentioned(text: str, addresses: Sequence[EmailAddress]) -> set[EmailAddress]:
    """The addresses that a text quotes; the only one there is, if it quotes none."""
    text = text.lower()
    found = {a for a in addresses if f"'{a.addr_spec.lower()}'" in text or f"'{a.key.lower()}'" in text}
    return found or (set(addresses) if len(addresses) == 1 else set())
