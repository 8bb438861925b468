"""Sending through Mailjet's Send API v3.1.

https://dev.mailjet.com/email/reference/send-emails/ and /email/guides/send-api-v31/
"""

from __future__ import annotations

import dataclasses
import re
from base64 import b64encode
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from anymail.conf import Secret, SendOptions, base_url, option, secret
from anymail.esps.kit.batches import merge_statuses, not_taken
from anymail.esps.kit.sending import ESP, Coalescing, without_empty
from anymail.exceptions import (
    AnymailAPIError,
    AnymailInvalidValue,
    AnymailRequestsAPIError,
    AnymailUnsupportedFeature,
    Category,
)
from anymail.mail.addresses import EmailAddress
from anymail.mail.attachments import Attachment
from anymail.mail.message import MailHeaders, OutgoingMail, deep_merge
from anymail.mail.status import AnymailRecipientStatus, RecipientStatuses, all_recipients
from anymail.mail.supports import Supports, Unsupported
from anymail.wire import Base64, Flow, Request, Response, json_text


@dataclasses.dataclass(frozen=True, kw_only=True)
class MailjetOptions(SendOptions):
    api_key: Secret = secret("API key (the public one) of the account or of a sub-account.", bare=True)
    secret_key: Secret = secret("The secret key that belongs to it.", bare=True)
    api_url: str = option(
        "Base URL of the API. For accounts on Mailjet's US infrastructure it is `https://api.us.mailjet.com/v3.1/`.",
        default="https://api.mailjet.com/v3.1/",
        convert=base_url,
    )


_MESSAGES_PER_CALL = 50

# /email/guides/send-api-v31/, "Send API errors", where the HTTP status does not tell.
_CATEGORIES: dict[Any, Category] = {
    "mj-0001": "auth",  # the API key is suspended
    "mj-0015": "auth",  # wrong credentials
    "send-0006": "auth",  # the key may not use Sender
    "send-0007": "auth",  # Sender is not validated
    "send-0008": "auth",  # From is not validated
}
_INVALID_ADDRESS = "mj-0013"
_RECIPIENT = re.compile(r"\b(To|Cc|Bcc)\[(\d{1,6})\]")
_PERSONALISATION = re.compile(r"\[\[\s*var:")
_TRACKING = {True: "enabled", False: "disabled"}


class Mailjet(ESP[MailjetOptions]):
    name = "Mailjet"
    slug = "mailjet"
    Options = MailjetOptions
    supports = Supports(
        reply_to=1,
        non_ascii_usernames=True,
        envelope_sender=True,
        metadata=True,
        tags=1,
        track_opens=True,
        track_clicks=True,
        template_id=True,
        merge_data=True,
        merge_global_data=True,
        merge_metadata=True,
        merge_headers=True,
    )
    safe_to_repeat = frozenset({429})
    coalescing = Coalescing(messages=_MESSAGES_PER_CALL, bytes=15_000_000)

    def check(self, mail: OutgoingMail) -> Iterator[Unsupported]:
        """Raises AnymailUnsupportedFeature for what could not be sent without either."""
        if not mail.to:
            raise AnymailUnsupportedFeature(
                "Mailjet does not support messages without any `to` recipients: cc and bcc are not enough."
            )
        merging = mail.merge_global_data or any(mail.merge_data.values())
        if merging and not _templated(mail) and _PERSONALISATION.search(mail.subject or ""):
            yield Unsupported("[[var:...]] in the subject without template_id", {})
        if "Messages" in mail.esp_extra:
            rest = {key: value for key, value in mail.esp_extra.items() if key != "Messages"}
            yield Unsupported("Messages in esp_extra (it would replace all recipients)", {"esp_extra": rest})

    def deliver(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        """A batch too large for one call takes several. If a later one fails, the statuses say for whom."""
        content, messages, to = self.content(mail), self.messages(mail), _to(mail)
        statuses: RecipientStatuses = {}
        for start in range(0, len(messages), _MESSAGES_PER_CALL):
            part = slice(start, start + _MESSAGES_PER_CALL)
            try:
                response = yield self._request(
                    deep_merge({"Globals": content, "Messages": messages[part]}, mail.esp_extra)
                )
                results = self._results(response, len(messages[part]))
                found = self._outcome(mail, to[part], results, response)
                if isinstance(found, AnymailAPIError):
                    raise found
            except AnymailAPIError as error:
                if start == 0:
                    raise
                return {**statuses, **all_recipients(mail.to[start:], "failed"), **not_taken(mail.to[part], error)}
            merge_statuses(found, statuses)
            statuses = found
        return statuses

    def batch_key(self, mail: OutgoingMail) -> Hashable | None:
        # A batch to many has its content once, in Globals; what else esp_extra says is of the whole call.
        own_content = not mail.batch or len(mail.to) == 1
        of_message = mail.esp_extra.keys() <= {"Globals"} and isinstance(mail.esp_extra.get("Globals", {}), Mapping)
        return "send" if own_content and of_message else None

    def deliver_many(self, mails: Sequence[OutgoingMail]) -> Flow[list[RecipientStatuses | AnymailAPIError]]:
        messages = []
        for mail in mails:
            [message] = self.messages(mail)
            messages.append(_complete(deep_merge(self.content(mail), mail.esp_extra.get("Globals", {})), message))
        response = yield self._request({"Messages": messages})
        results = self._results(response, len(mails))
        return [self._outcome(mail, _to(mail), [result], response) for mail, result in zip(mails, results, strict=True)]

    def content(self, mail: OutgoingMail) -> dict[str, Any]:
        """What all messages of a mail have in common: the properties of ``Globals``."""
        return {
            # A template has a subject of its own, which an empty one should not hide.
            **({} if _templated(mail) else {"Subject": ""}),
            **without_empty(
                {
                    "From": _contact(mail.from_email[0]) if mail.from_email else None,
                    "Sender": _contact(mail.envelope_sender) if mail.envelope_sender else None,
                    "Cc": [_contact(address) for address in mail.cc],
                    "Bcc": [_contact(address) for address in mail.bcc],
                    "ReplyTo": _contact(mail.reply_to[0]) if mail.reply_to else None,
                    "Subject": mail.subject,
                    "TextPart": mail.text,
                    "HTMLPart": mail.html,
                    "TemplateID": _template_id(mail),
                    "TemplateLanguage": True if mail.template_id else None,
                    "Attachments": [_attachment(one) for one in mail.attachments if not one.inline],
                    "InlinedAttachments": [_inline(one) for one in mail.attachments if one.inline],
                    "CustomCampaign": mail.tags[0] if mail.tags else None,
                    "TrackOpens": None if mail.track_opens is None else _TRACKING[mail.track_opens],
                    "TrackClicks": None if mail.track_clicks is None else _TRACKING[mail.track_clicks],
                    "EventPayload": json_text(mail.metadata, "metadata") if mail.metadata else None,
                    "Headers": dict(mail.headers.items()),
                    "Variables": _without_null(mail.merge_global_data),
                }
            ),
        }

    def messages(self, mail: OutgoingMail) -> list[dict[str, Any]]:
        """The ``Messages``, with what is not in common."""
        if not mail.batch:
            return [{"To": [_contact(address) for address in mail.to]}]
        return [
            without_empty(
                {
                    "To": [_contact(personal.to)],
                    "EventPayload": json_text(personal.metadata, "merge_metadata")
                    if mail.merge_metadata.get(personal.to.addr_spec)
                    else None,
                    "Headers": _own_headers(mail, personal.to),
                    "Variables": _without_null(mail.merge_data.get(personal.to.addr_spec, {})),
                }
            )
            for personal in mail.personal()
        ]

    def _request(self, payload: dict[str, Any]) -> Request:
        return Request.post(f"{self.options.api_url}send", headers=self._request_headers, json=payload)

    def _request_headers(self) -> dict[str, str]:
        credentials = f"{self.options.api_key.reveal()}:{self.options.secret_key.reveal()}"
        return {
            "Accept": "application/json",
            "Authorization": f"Basic {b64encode(credentials.encode()).decode('ascii')}",
        }

    # Reading answers.

    def explain(self, response: Response) -> tuple[str, Category | None]:
        try:
            errors = list(_errors(response.json()))
        except (ValueError, RecursionError):
            errors = []
        return _in_words(errors) or response.text, _category(errors)

    def _results(self, response: Response, expected: int) -> list[dict[str, Any]]:
        """What Mailjet says of each message, in order; it may do so in an error answer too."""
        media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if not response.ok and (response.status_code >= 500 or media_type != "application/json"):
            raise self.api_error(response)
        try:
            answer = response.json()
        except (ValueError, RecursionError):
            answer = None
        match answer:
            case {"Messages": list(results)} if len(results) == expected and all(map(_is_result, results)):
                return results
        if response.ok:
            raise self.unreadable(response, f"without a result for each of {expected} messages")
        error = self.api_error(response)
        if isinstance(answer, dict) and "Messages" in answer:
            # Some of them may have been sent.
            error.sent = None
        raise error

    def _outcome(
        self,
        mail: OutgoingMail,
        to: Sequence[tuple[EmailAddress, ...]],
        results: Sequence[dict[str, Any]],
        response: Response,
    ) -> RecipientStatuses | AnymailAPIError:
        """The statuses of a mail's recipients; an error if none of its messages was taken, unless invalid recipients
        are all that is wrong.
        """
        statuses: RecipientStatuses = {}
        refused: list[dict[str, Any]] = []
        for addresses, result in zip(to, results, strict=True):
            lists = {"To": addresses, "Cc": mail.cc, "Bcc": mail.bcc}
            if result["Status"] == "success":
                accepted = _accepted(result, lists)
                if accepted is None:
                    return self.unreadable(response, "without an Email and MessageID for each recipient")
                found = accepted
            else:
                found = _refused(result, lists)
                if not _is_for_a_recipient(result):
                    refused.append(result)
            # Of copies to cc, the last counts.
            merge_statuses(found, statuses)
            statuses = found
        if not refused or any(result["Status"] == "success" for result in results):
            return statuses
        errors = list(_errors(refused[0]))
        return AnymailRequestsAPIError(
            f"Mailjet refused the message: {_in_words(errors) or '(no reason given)'}.",
            category=_category(errors) or "invalid",
            response=response,
        )


def _to(mail: OutgoingMail) -> list[tuple[EmailAddress, ...]]:
    """The ``to`` of each message."""
    return [(to,) for to in mail.to] if mail.batch else [mail.to]


def _complete(content: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    """A message without ``Globals``, put together as Mailjet does it."""
    merged: dict[str, Any] = {
        name: {**content.get(name, {}), **message[name]} for name in ("Headers", "Variables") if name in message
    }
    return {**content, **message, **merged}


def _templated(mail: OutgoingMail) -> bool:
    extra = mail.esp_extra.get("Globals")
    return bool(mail.template_id or (isinstance(extra, Mapping) and extra.get("TemplateID")))


def _template_id(mail: OutgoingMail) -> int | None:
    try:
        return int(mail.template_id) if mail.template_id else None
    except ValueError:
        raise AnymailInvalidValue(
            f"template_id: Mailjet's templates have numbers, and {mail.template_id!r} is none."
        ) from None


def _contact(address: EmailAddress) -> dict[str, str]:
    return without_empty({"Email": address.addr_spec, "Name": address.display_name})


def _own_headers(mail: OutgoingMail, to: EmailAddress) -> dict[str, str]:
    """A recipient's own headers, spelled as those of all that they replace."""
    spelled = {name.lower(): name for name in mail.headers}
    own: MailHeaders[str] = mail.merge_headers.get(to.addr_spec) or MailHeaders({})
    return {spelled.get(name.lower(), name): value for name, value in own.items()}


def _without_null(value: Any) -> Any:
    """Variables with an empty string for each None, at which Mailjet's answer is HTTP 500."""
    if isinstance(value, Mapping):
        return {key: _without_null(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_null(one) for one in value]
    return "" if value is None else value


def _attachment(attachment: Attachment) -> dict[str, Any]:
    return {
        "ContentType": attachment.mimetype,
        "Filename": attachment.name or "attachment",
        # Mailjet labels every text as UTF-8.
        "Base64Content": Base64(attachment.utf8_content),
    }


def _inline(attachment: Attachment) -> dict[str, Any]:
    wire = _attachment(attachment)
    return {**wire, "ContentID": attachment.content_id or wire["Filename"]}


def _is_result(result: Any) -> bool:
    return isinstance(result, dict) and result.get("Status") in ("success", "error")


def _errors(answer: Any) -> Iterator[dict[str, Any]]:
    """The error objects in an answer: that of the whole call, or those of its messages."""
    match answer:
        case {"Messages": list(parts)} | {"Errors": list(parts)}:
            for part in parts:
                yield from _errors(part)
        case {"ErrorMessage": _} | {"ErrorCode": _}:
            yield answer


def _related_to(error: dict[str, Any]) -> list[str]:
    """The properties that an error is about."""
    related = error.get("ErrorRelatedTo")
    return [str(one) for one in related] if isinstance(related, list) else []


def _in_words(errors: Iterable[dict[str, Any]]) -> str:
    found = []
    for error in errors:
        words = ": ".join(str(error[name]) for name in ("ErrorCode", "ErrorMessage") if error.get(name))
        related = ", ".join(_related_to(error))
        found.append(f"{words} ({related})" if related else words)
    return "; ".join(dict.fromkeys(found))


def _category(errors: Iterable[dict[str, Any]]) -> Category | None:
    codes = [str(error.get("ErrorCode")) for error in errors]
    return next((_CATEGORIES[code] for code in codes if code in _CATEGORIES), None)


def _recipients_of(error: dict[str, Any]) -> list[tuple[str, int]]:
    """The recipients whose address an error calls invalid: each by its list and its place there."""
    if error.get("ErrorCode") != _INVALID_ADDRESS:
        return []
    return [(match[1], int(match[2])) for text in _related_to(error) if (match := _RECIPIENT.search(text))]


def _is_for_a_recipient(result: dict[str, Any]) -> bool:
    """Whether invalid recipients are all that is wrong with a message."""
    named = [bool(_recipients_of(error)) for error in _errors(result)]
    return bool(named) and all(named)


def _accepted(result: dict[str, Any], lists: Mapping[str, Sequence[EmailAddress]]) -> RecipientStatuses | None:
    """The statuses of a message that Mailjet took; None if the answer does not look like it."""
    ids: dict[str, str] = {}
    for name in lists:
        entries = result.get(name) or []
        for entry in entries if isinstance(entries, list) else [entries]:
            match entry:
                case {"Email": str(email), "MessageID": int() | str() as message_id}:
                    ids[email.lower()] = str(message_id)
                case _:
                    return None
    statuses: RecipientStatuses = {}
    for address in (address for addresses in lists.values() for address in addresses):
        # Mailjet may write an address in another case.
        found = ids.get(address.addr_spec.lower()) or ids.get(address.key.lower())
        statuses[address.key] = AnymailRecipientStatus(found, "sent" if found else "unknown")
    return statuses if ids else None


def _refused(result: dict[str, Any], lists: Mapping[str, Sequence[EmailAddress]]) -> RecipientStatuses:
    """The statuses of a message that Mailjet did not take."""
    statuses = all_recipients([address for addresses in lists.values() for address in addresses], "failed")
    for error in _errors(result):
        for name, place in _recipients_of(error):
            statuses.update(all_recipients(lists[name][place : place + 1], "invalid"))
    return statuses
