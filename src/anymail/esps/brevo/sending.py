"""Sending through Brevo.

https://developers.brevo.com/reference/sendtransacemail and
https://developers.brevo.com/docs/batch-send-transactional-emails
"""

from __future__ import annotations

import dataclasses
import re
import uuid
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from email.header import Header
from typing import Any, ClassVar

from anymail.conf import Secret, SendOptions, base_url, boolean, option, secret
from anymail.esps.kit.batches import BatchLimit, Part, idempotency_keys, send_parts, split
from anymail.esps.kit.sending import ESP, Coalescing, ResponseReader, email_and_name, without_empty
from anymail.esps.kit.values import number_of, object_of
from anymail.exceptions import AnymailAPIError, Category
from anymail.mail.addresses import EmailAddress
from anymail.mail.attachments import Attachment
from anymail.mail.message import MailHeaders, OutgoingMail, Personal, deep_merge, merge_headers
from anymail.mail.status import AnymailRecipientStatus, RecipientStatuses, all_recipients
from anymail.mail.supports import ALL_CONTENT, MANY, Supports, Unsupported
from anymail.wire import Base64, Flow, Request, Response, json_text

API_URL = "https://api.brevo.com/v3/"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BrevoOptions(SendOptions):
    api_key: Secret = secret("API key (`xkeysib-…`), not an SMTP key.", bare=True)
    api_url: str = option("Base URL of the API.", default=API_URL, convert=base_url)
    workaround_display_name_bugs: bool = option(
        "Encode the display names that Brevo would drop: those with both non-ASCII and special characters. Where that "
        "makes a name too long for Brevo, the special characters are left out instead.",
        default=True,
        convert=boolean,
    )
    prevent_header_encoding_bugs: bool = option(
        "Refuse non-ASCII headers and metadata, which Brevo sends as raw 8-bit headers.", default=True, convert=boolean
    )


# The error codes of https://developers.brevo.com/reference/sendtransacemail where the HTTP status does not tell.
_CATEGORIES: dict[str, Category] = {
    "unauthorized": "auth",
    "permission_denied": "auth",
    "account_under_validation": "auth",
    "not_enough_credits": "quota",
    "Insufficient credits": "quota",
}

_METADATA = "X-Mailin-custom"
# https://developers.brevo.com/docs/heterogenous-versions-batch-emails has several spellings.
_IDEMPOTENCY_KEYS = frozenset({"idempotencykey", "idempotency-key"})
# Headers that tell Brevo what to do with the whole call.
_CALL_HEADERS = _IDEMPOTENCY_KEYS | {"sender.ip", "x-mailin-tag", "x-sib-sandbox"}
# What one of ``messageVersions`` may hold in place of the message's own.
_VERSION = ("to", "bcc", "cc", "htmlContent", "textContent", "subject", "replyTo", "headers", "params")
# What the versions of a call can fall back on.
_CONTENT = ("htmlContent", "textContent", "subject")
# Of a display name, as Brevo gets it.
_MAX_NAME = 70
_SPECIALS = re.compile(r'[][\\()<>@,:;".]')


class BrevoResponseReader(ResponseReader):
    """Reads the responses of Brevo's API: to a message, and to an attachment that is asked for."""

    name = "Brevo"
    slug = "brevo"
    prefixes: ClassVar[tuple[str, ...]] = ("BREVO", "SENDINBLUE")
    safe_to_repeat = frozenset({429})

    def explain(self, response: Response) -> tuple[str, Category | None]:
        code, text = _code_and_text(response)
        return (f"{code}: {text}" if code else text), _CATEGORIES.get(code)

    def retry_after(self, response: Response) -> float | None:
        """The seconds until the rate limit is reset, since Brevo documents no Retry-After.

        https://developers.brevo.com/docs/limit-headers
        """
        given = super().retry_after(response)
        if given is not None or response.status_code != 429:
            return given
        seconds = number_of(response.headers.get("x-sib-ratelimit-reset"))
        return None if seconds is None else max(0.0, seconds)

    def taken_before(self, response: Response) -> bool:
        return _taken_before(response)

    def api_error(self, response: Response) -> AnymailAPIError:
        error = super().api_error(response)
        if _code_and_text(response)[0] == "duplicate_parameter":
            # It may be the idempotencyKey of an attempt that Brevo has taken.
            error.sent = None
        return error


class Brevo(BrevoResponseReader, ESP[BrevoOptions]):
    Options = BrevoOptions
    supports = Supports(
        reply_to=1,
        # Delivered, but a name before a ``to`` vanishes, and one in ``cc`` costs the whole Cc header.
        non_ascii_usernames=True,
        inline=False,
        metadata=True,
        tags=MANY,
        send_at=True,
        template_id=True,
        merge_data=True,
        merge_global_data=True,
        merge_metadata=True,
        merge_headers=True,
        # Brevo ignores bodies beside a template.
        beside_template=ALL_CONTENT - {"text", "html", "amp"},
    )
    batch_limit = BatchLimit(messages=1000, recipients=2000)
    # batch_key() lets each message have two recipients, so that there are no more than 2000.
    coalescing = Coalescing(messages=1000, bytes=15_000_000)

    def check(self, mail: OutgoingMail) -> Iterator[Unsupported]:
        if not self.options.prevent_header_encoding_bugs:
            return
        headers = _safe_headers(mail.headers)
        for name in mail.headers:
            if name not in headers:
                yield Unsupported(f"non-ASCII characters in {name!r} header", {"headers": headers})
        metadata = _safe_metadata(mail.metadata)
        if metadata != mail.metadata:
            yield Unsupported("non-ASCII characters in metadata", {"metadata": metadata})
        personal = {spec: _safe_metadata(values) for spec, values in mail.merge_metadata.items()}
        if personal != mail.merge_metadata:
            yield Unsupported("non-ASCII characters in merge_metadata", {"merge_metadata": personal})
        own = {spec: _safe_headers(values) for spec, values in mail.merge_headers.items()}
        if any(len(own[spec]) < len(values) for spec, values in mail.merge_headers.items()):
            yield Unsupported("non-ASCII characters in merge_headers", {"merge_headers": own})

    def deliver(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        if mail.batch and mail.to and "messageVersions" not in mail.esp_extra:
            parts = split(mail, self.batch_limit)
            keys = idempotency_keys(self._given_key(mail) or str(uuid.uuid4()))
            return (
                yield from send_parts(Part(part.recipients, self._deliver_part(part, next(keys))) for part in parts)
            )
        response = yield self._request(self.message(mail))
        ids = self._message_ids(response)
        return all_recipients(mail.recipients, "queued", ids[0] if len(ids) == 1 else None)

    def _deliver_part(self, mail: OutgoingMail, key: str) -> Flow[RecipientStatuses]:
        versions = [self.version(mail, personal) for personal in mail.personal()]
        response = yield self._request(self.message(mail, versions), key)
        statuses = all_recipients(mail.cc + mail.bcc, "queued")
        for to, message_id in zip(mail.to, self._version_ids(response, len(versions)), strict=True):
            statuses[to.key] = AnymailRecipientStatus(message_id, "queued")
        return statuses

    def batch_key(self, mail: OutgoingMail) -> Hashable | None:
        special = {name.lower() for name in mail.headers} & _CALL_HEADERS
        if mail.batch or not mail.to or len(mail.recipients) > 2 or mail.attachments or mail.esp_extra or special:
            return None
        content = bool(mail.subject), bool(mail.text), bool(mail.html)
        return mail.from_email, mail.tags, mail.template_id, mail.send_at, content

    def deliver_many(self, mails: Sequence[OutgoingMail]) -> Flow[list[RecipientStatuses | AnymailAPIError]]:
        """Each message is a version with content of its own; that of the first stands for the default."""
        messages = [self.message(mail) for mail in mails]
        shared = {key: value for key, value in messages[0].items() if key not in _VERSION or key in _CONTENT}
        versions = [{key: value for key, value in message.items() if key in _VERSION} for message in messages]
        response = yield self._request({**shared, "messageVersions": versions})
        ids = self._version_ids(response, len(mails))
        return [
            all_recipients(mail.recipients, "queued", message_id) for mail, message_id in zip(mails, ids, strict=True)
        ]

    def message(self, mail: OutgoingMail, versions: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        """The request of /smtp/email, to the recipients of ``versions`` if there are any."""
        payload = without_empty(
            {
                "sender": self._address(mail.from_email[0]) if mail.from_email else None,
                "to": [] if versions else self._addresses(mail.to),
                "bcc": self._addresses(mail.bcc),
                "cc": self._addresses(mail.cc),
                "htmlContent": mail.html,
                "textContent": mail.text,
                "subject": mail.subject,
                "replyTo": self._address(mail.reply_to[0]) if mail.reply_to else None,
                "attachment": [_attachment(attachment) for attachment in mail.attachments],
                "headers": _headers(mail.headers, mail.metadata),
                "templateId": _template_id(mail.template_id),
                "params": mail.merge_global_data,
                "messageVersions": versions,
                "tags": mail.tags,
                "scheduledAt": mail.send_at.isoformat(timespec="milliseconds") if mail.send_at else None,
            }
        )
        # An address is named by "email" or by "id": one in esp_extra stands alone.
        whole = {"sender", "replyTo"} & mail.esp_extra.keys()
        return deep_merge({key: value for key, value in payload.items() if key not in whole}, mail.esp_extra)

    def version(self, mail: OutgoingMail, personal: Personal) -> dict[str, Any]:
        """One of the ``messageVersions``. What is its own is complete: Brevo does not document how it merges."""
        spec = personal.to.addr_spec
        own_headers = mail.merge_metadata.get(spec) or mail.merge_headers.get(spec)
        headers = _headers(personal.headers, personal.metadata) if own_headers else {}
        return without_empty(
            {
                "to": self._addresses([personal.to]),
                "headers": {name: value for name, value in headers.items() if name.lower() not in _IDEMPOTENCY_KEYS},
                "params": personal.merge_data if mail.merge_data.get(spec) else None,
            }
        )

    def _given_key(self, mail: OutgoingMail) -> str | None:
        """The idempotencyKey that the message has among its headers."""
        _, key = _idempotency_key({**dict(mail.headers.items()), **object_of(mail.esp_extra.get("headers"))})
        return key

    def _request(self, payload: dict[str, Any], key: str | None = None) -> Request:
        """One call with an idempotencyKey: ``key``, or the one in ``payload``, or a new one."""
        headers = dict(payload.get("headers", {}))
        name, given = _idempotency_key(headers)
        key = key or given or str(uuid.uuid4())
        return Request.post(
            f"{self.options.api_url}smtp/email",
            headers=self._request_headers,
            json={**payload, "headers": {**headers, name: key}},
            idempotency_key=key,
        )

    def _request_headers(self) -> dict[str, str]:
        return {"Accept": "application/json", "api-key": self.options.api_key.reveal()}

    def _addresses(self, addresses: Iterable[EmailAddress]) -> list[dict[str, str]]:
        return [self._address(address) for address in addresses]

    def _address(self, address: EmailAddress) -> dict[str, str]:
        if self.options.workaround_display_name_bugs:
            address = EmailAddress(_display_name(address.display_name), address.addr_spec)
        return email_and_name(address)

    # Reading responses.

    def _message_ids(self, response: Response) -> list[str]:
        """The ids of the messages that Brevo has taken; none if it took them without telling."""
        if _taken_before(response) or (response.ok and not response.content.strip()):
            return []
        content = self.read_json(response)
        if isinstance(content, dict):
            ids = content.get("messageIds", [content.get("messageId")])
            if isinstance(ids, list) and ids and all(isinstance(one, str) for one in ids):
                return ids
        raise self.unreadable(response, "without a messageId")

    def _version_ids(self, response: Response, expected: int) -> Sequence[str | None]:
        """The id of each version, in order."""
        ids = self._message_ids(response)
        if ids and len(ids) != expected:
            raise self.unreadable(response, f"without a message id for each of {expected} versions")
        return ids or [None] * expected


def _code_and_text(response: Response) -> tuple[str, str]:
    """The code and the message of an error response; the code is "" where there is none."""
    try:
        content = response.json()
        return str(content.get("code") or ""), str(content["message"])
    except (ValueError, RecursionError, KeyError, AttributeError, TypeError):
        return "", response.text


def _taken_before(response: Response) -> bool:
    """Whether Brevo refuses a call because it has taken it already: its idempotencyKey was used.

    "A request with this idempotencyKey was accepted before" comes with the code duplicate_parameter, as other
    duplicates do.
    """
    if response.ok:
        return False
    code, text = _code_and_text(response)
    return code == "duplicate_request" or (code == "duplicate_parameter" and "idempot" in text.lower())


def _idempotency_key(headers: Mapping[str, Any]) -> tuple[str, str | None]:
    """The name under which the headers hold an idempotencyKey, or may, and the key that they hold."""
    name = next((name for name in headers if name.lower() in _IDEMPOTENCY_KEYS), "idempotencyKey")
    return name, str(headers.get(name) or "") or None


def _display_name(name: str) -> str:
    """A name as it has to be for Brevo to keep it: encoded, or without special characters where that is too long."""
    if name.isascii() or not _SPECIALS.search(name):
        return name
    encoded = Header(name, "utf-8").encode(linesep="\n").replace("\n", "")
    return encoded if len(encoded) <= _MAX_NAME else " ".join(_SPECIALS.sub(" ", name).split())


def _headers(headers: MailHeaders[str], metadata: dict[str, Any]) -> dict[str, str]:
    own = MailHeaders({_METADATA: json_text(metadata, "metadata")}) if metadata else None
    return dict(merge_headers(headers, own).items())


def _is_safe(text: str) -> bool:
    """Whether a header with this text arrives as it is. Brevo decodes what is encoded, JSON escapes too."""
    return text.isascii() and "\\u" not in text


def _safe_headers(headers: MailHeaders[str]) -> MailHeaders[str]:
    return MailHeaders([(name, value) for name, value in headers.items() if _is_safe(value)])


def _safe_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metadata.items() if _is_safe(json_text({key: value}, "metadata"))}


def _template_id(template_id: str | None) -> int | str | None:
    return int(template_id) if template_id and template_id.isascii() and template_id.isdigit() else template_id


def _attachment(attachment: Attachment) -> dict[str, Any]:
    # Brevo labels every text as UTF-8.
    return {"name": attachment.name_or_default, "content": Base64(attachment.utf8_content)}
