"""Sending through Unisender Go: https://godocs.unisender.ru/web-api-ref#email-send

Its twin UniOne has the same API: https://docs.unione.io/en/web-api-ref
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from email.header import Header
from os.path import splitext
from typing import Any

from anymail.conf import Secret, SendOptions, base_url, boolean, option, secret
from anymail.esps.kit.sending import ESP, without_empty
from anymail.exceptions import AnymailAPIError, Category
from anymail.mail.addresses import EmailAddress
from anymail.mail.attachments import Attachment
from anymail.mail.message import MailHeaders, OutgoingMail, deep_merge, merge_headers
from anymail.mail.status import AnymailRecipientStatus, RecipientStatuses, Status
from anymail.mail.supports import MANY, Supports, Unsupported
from anymail.wire import Flow, Request, Response


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnisenderGoOptions(SendOptions):
    api_key: Secret = secret("API key of the account or of a project.", bare=True)
    api_url: str = option(
        "Base URL of the API at the account's data centre: `https://go1.unisender.ru/ru/transactional/api/v1` or "
        "`https://go2.unisender.ru/ru/transactional/api/v1`.",
        convert=base_url,
    )
    generate_message_id: bool = option(
        "Make a message id for each recipient, in the metadata `anymail_id`. Without, all have that of the call.",
        default=True,
        convert=boolean,
    )
    workaround_display_name_bugs: bool = option(
        "Encode display names that Unisender Go would refuse in To and Cc, or mangle in Reply-To.",
        default=True,
        convert=boolean,
    )


# /web-api-ref#api-errors, where the HTTP status does not tell.
_CATEGORIES: dict[int, Category] = {
    101: "auth", 102: "auth", 105: "auth", 106: "auth", 114: "auth", 206: "auth", 215: "auth", 1574: "auth",
    1575: "auth", 901: "quota", 902: "quota", 903: "quota", 904: "quota", 905: "quota", 906: "quota", 150: "server",
}  # fmt: skip
_USER_NOT_FOUND, _NO_RECIPIENTS, _REPEATED_KEY = 114, 204, 1573
# A key is remembered for a minute.
_KEY_SECONDS = 55

# Why an address in failed_emails was not sent to. Any other reason is "failed".
_FAILED: dict[str, Status] = {
    "invalid": "invalid",
    "permanent_unavailable": "rejected",
    "unsubscribed": "rejected",
    "complained": "rejected",
    "blocked": "rejected",
    "temporary_unavailable": "failed",
}
# The address is among the others as well.
_DUPLICATE = "duplicate"

# Any other header is dropped without a word (/cc-and-bcc for those two).
_KEPT_HEADER = re.compile(
    "x-.+|to|cc|list-(unsubscribe|unsubscribe-post|subscribe|help|owner|archive)|in-reply-to|references",
    re.IGNORECASE,
)
_LIST_UNSUBSCRIBE = "List-Unsubscribe"
_UNSUBSCRIBE_VARIABLE = "Header__List_Unsubscribe"

# In a To or Cc header these are refused in a display name, though quoted.
_REFUSED_IN_NAMES = re.compile("[,<>@]")
# In reply_to_name these would go out without the quotes that they need.
_UNQUOTED_IN_NAMES = re.compile(r'[][\\()<>@,:;".]')


class UnisenderGo(ESP[UnisenderGoOptions]):
    name = "Unisender Go"
    slug = "unisender_go"
    Options = UnisenderGoOptions
    supports = Supports(
        reply_to=1,
        amp=True,
        metadata=True,
        tags=MANY,
        track_opens=True,
        track_clicks=True,
        send_at=True,
        template_id=True,
        merge_data=True,
        merge_global_data=True,
        merge_metadata=True,
        # List-Unsubscribe only: see check().
        merge_headers=True,
    )
    # After a 5xx the message may have been taken: it is repeated for its idempotence_key only.
    safe_to_repeat = frozenset({429})

    def check(self, mail: OutgoingMail) -> Iterator[Unsupported]:
        if mail.batch and mail.cc:
            # When that is ignored, each cc gets a copy that is addressed to it alone.
            yield Unsupported("cc with batch send (merge_data, merge_metadata, or merge_headers)", {})
        kept = MailHeaders({name: value for name, value in mail.headers.items() if _KEPT_HEADER.fullmatch(name)})
        for name in mail.headers:
            if name not in kept:
                yield Unsupported(f"{name.title()!r} in extra_headers", {"headers": kept})
        personal = {name.title() for headers in mail.merge_headers.values() for name in headers}
        unsubscribe = {
            to: MailHeaders({_LIST_UNSUBSCRIBE: headers[_LIST_UNSUBSCRIBE]})
            for to, headers in mail.merge_headers.items()
            if _LIST_UNSUBSCRIBE in headers
        }
        for name in sorted(personal - {_LIST_UNSUBSCRIBE}):
            yield Unsupported(f"{name!r} in merge_headers", {"merge_headers": unsubscribe})

    def deliver(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        ids = self._new_ids(mail)
        message = self.message(mail, ids)
        response = yield Request.post(
            f"{self.options.api_url}email/send.json",
            headers=self._request_headers,
            json={"message": message},
            idempotency_key=message["idempotence_key"] or None,
            idempotency_seconds=_KEY_SECONDS,
        )
        if _error(response).get("code") == _REPEATED_KEY and "idempotence_key" not in mail.esp_extra:
            # Nobody else has this key: an earlier attempt was taken, and its answer lost.
            return {one.key: AnymailRecipientStatus(ids.get(_folded(one)), "unknown") for one in mail.recipients}
        return self._statuses(response, mail, ids)

    def _request_headers(self) -> dict[str, str]:
        return {"Accept": "application/json", "X-API-KEY": self.options.api_key.reveal()}

    def _new_ids(self, mail: OutgoingMail) -> dict[str, str]:
        """A message id for each address, whatever its case; none where esp_extra has the recipients."""
        if not self.options.generate_message_id or "recipients" in mail.esp_extra:
            return {}
        return {folded: str(uuid.uuid4()) for folded in dict.fromkeys(map(_folded, mail.recipients))}

    def message(self, mail: OutgoingMail, ids: Mapping[str, str]) -> dict[str, Any]:
        """The message object of the API; ``ids`` are the message ids to give, by address in lower case."""
        sender = mail.from_email[0] if mail.from_email else None
        reply_to = mail.reply_to[0] if mail.reply_to else None
        attachments = [attachment for attachment in mail.attachments if not attachment.inline]
        inline = [attachment for attachment in mail.attachments if attachment.inline]
        names = _unique_names(attachment.name for attachment in attachments)
        payload = without_empty(
            {
                "recipients": [_recipient(mail, address, ids.get(_folded(address))) for address in mail.recipients],
                "template_id": mail.template_id,
                "tags": mail.tags,
                "global_substitutions": mail.merge_global_data,
                "global_metadata": mail.metadata,
                "body": without_empty({"html": mail.html, "plaintext": mail.text, "amp": mail.amp}),
                "subject": mail.subject,
                "from_email": sender and sender.addr_spec,
                "from_name": sender and sender.display_name,
                "reply_to": reply_to and reply_to.addr_spec,
                "reply_to_name": reply_to and self._reply_to_name(reply_to.display_name),
                "track_links": None if mail.track_clicks is None else int(mail.track_clicks),
                "track_read": None if mail.track_opens is None else int(mail.track_opens),
                "headers": self._headers(mail),
                "attachments": [_file(one, name) for one, name in zip(attachments, names, strict=True)],
                # Here the name is the Content-ID.
                "inline_attachments": [_file(one, one.content_id or one.name) for one in inline],
                "options": without_empty({"send_at": mail.send_at and _utc(mail.send_at)}),
                "idempotence_key": str(uuid.uuid4()),
            }
        )
        return deep_merge(payload, mail.esp_extra)

    def _headers(self, mail: OutgoingMail) -> dict[str, str]:
        # In a batch, Unisender Go writes each recipient's To.
        display = {} if mail.batch else without_empty({"to": self._formatted(mail.to), "cc": self._formatted(mail.cc)})
        own = {name: _encoded(value) for name, value in mail.headers.items()}
        personal = {_LIST_UNSUBSCRIBE: f"{{{{{_UNSUBSCRIBE_VARIABLE}}}}}"} if _personal_unsubscribe(mail) else {}
        return dict(merge_headers(merge_headers(MailHeaders(display), MailHeaders(own)), MailHeaders(personal)))

    def _formatted(self, addresses: Sequence[EmailAddress]) -> str:
        """Addresses for a To or Cc header."""
        return ", ".join(
            f"{_rfc2047(address.display_name)} <{address.addr_spec}>"
            if self.options.workaround_display_name_bugs and _REFUSED_IN_NAMES.search(address.display_name)
            else address.ascii_address
            for address in addresses
        )

    def _reply_to_name(self, name: str) -> str:
        needed = not name.isascii() or _UNQUOTED_IN_NAMES.search(name)
        return _rfc2047(name) if self.options.workaround_display_name_bugs and needed else name

    # Reading answers.

    def explain(self, response: Response) -> tuple[str, Category | None]:
        error = _error(response)
        code = error.get("code")
        if not isinstance(code, int):
            return response.text, None
        hint = " (is UNISENDER_GO_API_URL that of the account's data centre?)" if code == _USER_NOT_FOUND else ""
        return f"code {code}: {error.get('message')}{hint}", _CATEGORIES.get(code)

    def taken_before(self, response: Response) -> bool:
        return _error(response).get("code") == _REPEATED_KEY

    def api_error(self, response: Response) -> AnymailAPIError:
        error = super().api_error(response)
        if _error(response).get("code") == _REPEATED_KEY:
            error.sent = None
        return error

    def _statuses(self, response: Response, mail: OutgoingMail, ids: Mapping[str, str]) -> RecipientStatuses:
        error = _error(response)
        everybody_failed = error.get("code") == _NO_RECIPIENTS and isinstance(error.get("failed_emails"), dict)
        answer = error if everybody_failed else self.read_json(response)
        try:
            taken = {email.lower() for email in answer.get("emails") or ()}
            failed: dict[str, Status] = {
                email.lower(): _FAILED.get(str(reason), "failed")
                for email, reason in (answer.get("failed_emails") or {}).items()
                if reason != _DUPLICATE
            }
        except (AttributeError, TypeError):
            raise self.unreadable(response, "not as its reference has it") from None
        job_id = answer.get("job_id")
        if not isinstance(job_id, str) if taken else not failed:
            why = "without a job_id and emails"
            raise self.unreadable(response, why) if response.ok else self.api_error(response)

        def status(address: EmailAddress) -> AnymailRecipientStatus:
            spellings = (_folded(address), address.key.lower())
            if taken.intersection(spellings):
                return AnymailRecipientStatus(ids.get(_folded(address), job_id), "queued")
            reasons = [failed[spelling] for spelling in spellings if spelling in failed]
            return AnymailRecipientStatus(None, reasons[0] if reasons else "unknown")

        return {address.key: status(address) for address in mail.recipients}


def _error(response: Response) -> dict[str, Any]:
    """The object in an error answer; empty when there is none."""
    try:
        error = {} if response.ok else response.json()
    except (ValueError, RecursionError):
        return {}
    return error if isinstance(error, dict) else {}


def _folded(address: EmailAddress) -> str:
    """An address as Unisender Go tells one from another."""
    return address.addr_spec.lower()


def _recipient(mail: OutgoingMail, address: EmailAddress, message_id: str | None) -> dict[str, Any]:
    """One recipient object of the API."""
    spec = address.addr_spec
    headers = merge_headers(mail.headers, mail.merge_headers.get(spec))
    unsubscribe = headers.get(_LIST_UNSUBSCRIBE) if _personal_unsubscribe(mail) else None
    return without_empty(
        {
            "email": spec,
            "substitutions": {
                **without_empty({"to_name": address.display_name}),
                **mail.merge_data.get(spec, {}),
                **({_UNSUBSCRIBE_VARIABLE: _encoded(unsubscribe)} if unsubscribe else {}),
            },
            "metadata": {**mail.merge_metadata.get(spec, {}), **({"anymail_id": message_id} if message_id else {})},
        }
    )


def _personal_unsubscribe(mail: OutgoingMail) -> bool:
    return any(_LIST_UNSUBSCRIBE in headers for headers in mail.merge_headers.values())


def _rfc2047(text: str) -> str:
    """``text`` as encoded-words, even where it is ASCII."""
    return Header(text, "utf-8", maxlinelen=75).encode(linesep="\n").replace("\n", "")


def _encoded(value: str) -> str:
    """A header's value in ASCII: Unisender Go would send it in ISO-8859-1."""
    return value if value.isascii() else _rfc2047(value)


def _utc(time: dt.datetime) -> str:
    return f"{time.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S}"


def _unique_names(names: Iterable[str]) -> list[str]:
    """The names of attachments, numbered where they are equal: Unisender Go refuses two of the same name."""
    unique: list[str] = []
    for name in names:
        stem, extension = splitext(name)
        number = 1
        while name in unique:
            number += 1
            name = f"{stem} ({number}){extension}".lstrip()
        unique.append(name)
    return unique


def _file(attachment: Attachment, name: str) -> dict[str, Any]:
    return {"type": attachment.content_type, "name": name, "content": attachment.base64}
