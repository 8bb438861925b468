"""Sending through Mailtrap.

https://docs.mailtrap.io/developers/email-sending/transactional and /email-sending/bulk
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

from anymail._version import __version__
from anymail.conf import Secret, SendOptions, base_url, option, optional, secret
from anymail.esps.kit.batches import not_taken
from anymail.esps.kit.sending import ESP, Coalescing, ResponseReader, without_empty
from anymail.exceptions import AnymailAPIError, Category
from anymail.mail.addresses import EmailAddress
from anymail.mail.attachments import Attachment
from anymail.mail.message import MailHeaders, OutgoingMail, Personal, deep_merge, merge_headers
from anymail.mail.status import AnymailRecipientStatus, RecipientStatuses, all_recipients
from anymail.mail.supports import Supports, Unsupported
from anymail.wire import Flow, Request, Response, json_body

#: A call without one may be refused before it reaches the API.
USER_AGENT = f"anymail/{__version__}"

#: Where mail is sent through each stream, and where the sandbox takes it.
STREAMS = {"transactional": "https://send.api.mailtrap.io/api/", "bulk": "https://bulk.api.mailtrap.io/api/"}
SANDBOX_URL = "https://sandbox.api.mailtrap.io/api/"


def _stream(value: Any) -> str:
    if value not in STREAMS:
        raise ValueError(f"{' or '.join(map(repr, STREAMS))} is needed")
    return str(value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MailtrapOptions(SendOptions):
    api_token: Secret = secret("API token with access to the sending domain.", bare=True)
    stream: str = option(
        'The stream that mail is sent through: `"transactional"`, or `"bulk"`, which adds a way to unsubscribe.',
        default="transactional",
        convert=_stream,
    )
    sandbox_id: str | None = option(
        "Number of a Mailtrap sandbox, which captures all mail instead of delivering it.",
        default=None,
        convert=lambda value: str(value) if value else None,
    )
    api_url: str | None = option(
        "Base URL of the API, in place of that of the stream or the sandbox.",
        default=None,
        convert=optional(base_url),
    )


_RECIPIENTS = ("to", "cc", "bcc")
# What one call of the batch endpoint holds; its limit of 50 MB is for the call as a whole.
_BATCH, _BATCH_BYTES = 500, 45_000_000


class MailtrapAPI(ResponseReader):
    """What all of Mailtrap's answers have in common."""

    name = "Mailtrap"
    slug = "mailtrap"
    # Nothing protects from duplicates what was answered with 503.
    safe_to_repeat = frozenset({429})

    def explain(self, response: Response) -> tuple[str, Category | None]:
        try:
            answer = response.json()
        except (ValueError, RecursionError):
            return response.text, None
        return _words(answer) or response.text, None


class Mailtrap(MailtrapAPI, ESP[MailtrapOptions]):
    Options = MailtrapOptions
    supports = Supports(
        non_ascii_usernames=True,
        metadata=True,
        tags=1,
        template_id=True,
        merge_data="template",
        merge_global_data="template",
        merge_metadata=True,
        merge_headers=True,
    )
    coalescing = Coalescing(messages=_BATCH, bytes=_BATCH_BYTES)

    def check(self, mail: OutgoingMail) -> Iterator[Unsupported]:
        plain = tuple(address for address in mail.reply_to if address.addr_spec.isascii())
        if len(mail.reply_to) > 1 and len(plain) < len(mail.reply_to):
            yield Unsupported("EAI with multiple reply_to addresses", {"reply_to": plain})

    def deliver(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        if mail.batch and mail.to:
            return (yield from self._deliver_batch(mail))
        response = yield self._request("send", self.message(mail))
        return self._queued(self._answer(response), mail.recipients, response)

    def _deliver_batch(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        """As many calls as it takes. Once a message is taken, the failure of a later call is its recipients' own."""
        base = _without_recipients(self.message(mail))
        results: list[RecipientStatuses | AnymailAPIError] = []
        for part in self._parts(mail):
            groups = [(personal.to, *mail.cc, *mail.bcc) for personal, _ in part]
            try:
                response = yield self._request("batch", {"base": base, "requests": [request for _, request in part]})
                results += self._items(response, groups)
            except AnymailAPIError as error:
                if all(isinstance(one, AnymailAPIError) for one in results):
                    raise
                results += [error] * len(part)
                break
        return _outcome(mail, results)

    def _parts(self, mail: OutgoingMail) -> Iterator[list[tuple[Personal, dict[str, Any]]]]:
        """The requests of a batch, as many at a time as fit into one call."""
        part: list[tuple[Personal, dict[str, Any]]] = []
        room = 0
        for personal in mail.personal():
            request = self.request(mail, personal)
            size = len(json_body(request))
            if len(part) == _BATCH or (part and size > room):
                yield part
                part = []
            if not part:
                room = _BATCH_BYTES - mail.size
            part.append((personal, request))
            room -= size
        yield part

    def batch_key(self, mail: OutgoingMail) -> Hashable | None:
        # Attachments are never shared: a large call gains nothing from company.
        if mail.batch or not mail.to or mail.attachments or mail.esp_extra:
            return None
        return frozenset(self.message(mail)) - {"cc", "bcc"}

    def deliver_many(self, mails: Sequence[OutgoingMail]) -> Flow[list[RecipientStatuses | AnymailAPIError]]:
        """The first message is the base of the call; the requests hold that in which each differs from it.

        All have the same properties (``batch_key``), so that none falls back on what it left out.
        """
        messages = [self.message(mail) for mail in mails]
        base = _without_recipients(messages[0])
        requests = [
            {name: value for name, value in message.items() if name in _RECIPIENTS or value != base[name]}
            for message in messages
        ]
        response = yield self._request("batch", {"base": base, "requests": requests})
        return self._items(response, [mail.recipients for mail in mails])

    def message(self, mail: OutgoingMail) -> dict[str, Any]:
        """The request of the send endpoint. Without its recipients it is the ``base`` of a batch."""
        payload = without_empty(
            {
                "from": _address(mail.from_email[0]) if mail.from_email else None,
                "to": [_address(address) for address in mail.to],
                "cc": [_address(address) for address in mail.cc],
                "bcc": [_address(address) for address in mail.bcc],
                "reply_to": _address(mail.reply_to[0]) if len(mail.reply_to) == 1 else None,
                "attachments": [_attachment(attachment) for attachment in mail.attachments],
                "headers": _headers(mail, mail.headers),
                "custom_variables": _strings(mail.metadata),
                "subject": mail.subject,
                "text": mail.text,
                "html": mail.html,
                "category": mail.tags[0] if mail.tags else None,
                "template_uuid": mail.template_id,
                "template_variables": mail.merge_global_data,
            }
        )
        return deep_merge(payload, mail.esp_extra)

    def request(self, mail: OutgoingMail, personal: Personal) -> dict[str, Any]:
        """One of the ``requests`` of a batch. What it holds replaces that of the base, so it is complete."""
        spec = personal.to.addr_spec
        own = without_empty(
            {
                "headers": _headers(mail, personal.headers) if mail.merge_headers.get(spec) else None,
                "custom_variables": _strings(personal.metadata) if mail.merge_metadata.get(spec) else None,
                "template_variables": personal.merge_data if mail.merge_data.get(spec) else None,
            }
        )
        recipients = {"to": (personal.to,), "cc": mail.cc, "bcc": mail.bcc}
        return {
            **without_empty({name: [_address(one) for one in addresses] for name, addresses in recipients.items()}),
            **deep_merge(own, {name: value for name, value in mail.esp_extra.items() if name in own}),
        }

    def _request(self, path: str, payload: Any) -> Request:
        options = self.options
        url = options.api_url or (SANDBOX_URL if options.sandbox_id else STREAMS[options.stream])
        sandbox = f"/{quote(options.sandbox_id, safe='')}" if options.sandbox_id else ""
        return Request.post(f"{url}{path}{sandbox}", headers=self._request_headers, json=payload)

    def _request_headers(self) -> dict[str, str]:
        return {
            "Api-Token": self.options.api_token.reveal(),
            "Accept": "application/json",
            "User-Agent": USER_AGENT,
        }

    # Reading answers.

    def _answer(self, response: Response) -> dict[str, Any]:
        """A good answer. The API has been seen to refuse with HTTP 200, and without ``success``."""
        answer = self.read_json(response)
        if not isinstance(answer, dict):
            raise self.unreadable(response, "not with an object")
        if answer.get("success") is not True and answer.get("errors"):
            raise self.api_error(response)
        return answer

    def _items(
        self, response: Response, groups: Sequence[Sequence[EmailAddress]]
    ) -> list[RecipientStatuses | AnymailAPIError]:
        """What became of each request of a batch; ``groups`` are their recipients."""
        answer = self._answer(response)
        items = answer.get("responses")
        if answer.get("success") is not True or not isinstance(items, list) or len(items) != len(groups):
            raise self.unreadable(response, f"without a response for each of {len(groups)} requests")
        return [
            AnymailAPIError(
                f"Mailtrap refused this message of a batch: {_words(item) or '(nothing)'}.",
                category="invalid",
                response=response,
            )
            if isinstance(item, dict) and item.get("success") is False
            else self._queued(item, addresses, response)
            for item, addresses in zip(items, groups, strict=True)
        ]

    def _queued(self, item: Any, addresses: Sequence[EmailAddress], response: Response) -> RecipientStatuses:
        """The statuses of a message that was taken. There is an id for each recipient, or one in the sandbox."""
        taken = isinstance(item, dict) and item.get("success") is True and not item.get("errors")
        ids = item.get("message_ids") if taken else None
        if self.options.sandbox_id and isinstance(ids, list) and len(ids) == 1:
            ids = ids * len(addresses)
        if not isinstance(ids, list) or len(ids) != len(addresses) or not all(isinstance(one, str) for one in ids):
            raise self.unreadable(response, f"without a message id for each of {len(addresses)} recipients")
        return {
            address.key: AnymailRecipientStatus(message_id, "queued")
            for address, message_id in zip(addresses, ids, strict=True)
        }


def _outcome(mail: OutgoingMail, results: Sequence[RecipientStatuses | AnymailAPIError]) -> RecipientStatuses:
    """The statuses of a batch, from the results of its requests; those that are missing were not tried.

    Raises the error of the first if all failed. A copy to cc or bcc has the id of the last that was taken.
    """
    statuses = all_recipients(mail.to, "failed")
    copies: RecipientStatuses = {}
    for to, result in zip(mail.to, results, strict=False):
        if isinstance(result, AnymailAPIError):
            statuses |= not_taken([to], result)
        else:
            statuses[to.key] = result[to.key]
            copies = result
    if not copies and isinstance(results[0], AnymailAPIError):
        raise results[0]
    return {**copies, **statuses}


def _words(answer: Any) -> str:
    """The errors in an answer: a list, a text, or texts by field. Account APIs have ``error``, too."""
    errors = answer.get("errors", answer.get("error")) if isinstance(answer, dict) else None
    if isinstance(errors, dict):
        errors = [f"{field}: {text}" for field, texts in errors.items() for text in _listed(texts)]
    return "; ".join(map(str, _listed(errors)))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


def _without_recipients(message: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name not in _RECIPIENTS}


def _address(address: EmailAddress) -> dict[str, str]:
    return without_empty({"email": address.addr_spec, "name": address.display_name})


def _headers(mail: OutgoingMail, headers: MailHeaders[str]) -> dict[str, str]:
    """The extra headers, and Reply-To where there are several: ``reply_to`` has room for one."""
    several = {"Reply-To": ", ".join(one.ascii_address for one in mail.reply_to)} if len(mail.reply_to) > 1 else {}
    return dict(merge_headers(MailHeaders(several), headers).items())


def _strings(metadata: dict[str, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in metadata.items()}


def _attachment(attachment: Attachment) -> dict[str, Any]:
    wire = {
        "filename": attachment.name or "attachment",
        "type": attachment.content_type,
        "content": attachment.base64,
    }
    if attachment.inline:
        wire |= without_empty({"disposition": "inline", "content_id": attachment.content_id})
    return wire
