"""Sending through MailerSend: https://developers.mailersend.com/api/v1/email.html"""

from __future__ import annotations

import dataclasses
import logging
import mimetypes
import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from anymail.conf import Secret, SendOptions, base_url, option, optional, secret
from anymail.esps.kit.sending import ESP, without_empty
from anymail.exceptions import AnymailUnsupportedFeature, Category
from anymail.mail.addresses import EmailAddress
from anymail.mail.attachments import Attachment
from anymail.mail.message import MailHeaders, OutgoingMail, Personal, deep_merge
from anymail.mail.status import AnymailRecipientStatus, RecipientStatuses, all_recipients
from anymail.mail.supports import MANY, Supports, Unsupported
from anymail.wire import Base64, Flow, Request, Response

logger = logging.getLogger("anymail")

BULK, EXPOSED = "use-bulk-email", "expose-to-list"


def _batch_send_mode(value: Any) -> str:
    if value not in (BULK, EXPOSED):
        raise ValueError(f"{BULK!r}, {EXPOSED!r} or None is needed")
    return str(value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MailerSendOptions(SendOptions):
    api_token: Secret = secret(
        'API token of one sending domain, with "email: full access".', bare=True, esp_extra="api_token"
    )
    batch_send_mode: str | None = option(
        f'How a batch goes to several recipients. `"{BULK}"`: each gets a message of its own, whose id is not known '
        f'when it is sent. `"{EXPOSED}"`: one message, in which every recipient sees the addresses of all. '
        "None: such a batch is an error.",
        default=None,
        convert=optional(_batch_send_mode),
    )
    api_url: str = option("Base URL of the API.", default="https://api.mailersend.com/v1/", convert=base_url)


# /general.html, "Error codes", where the HTTP status does not tell.
_CATEGORIES: dict[str, Category] = {
    "MS42204": "quota",  # the month's emails
    "MS42207": "auth",  # the sender's domain is not verified
    "MS42222": "quota",  # a trial's emails
    "MS42225": "quota",  # a trial's recipients
    "MS42901": "quota",  # the day's API calls
}
_PRECEDENCE_BULK = frozenset({"bulk", "junk", "list"})
_CODE = re.compile(r"#(MS\d+)")
_MAINTENANCE = 421
# Keys of esp_extra that are for us.
_OURS = ("api_token", "batch_send_mode")


class MailerSend(ESP[MailerSendOptions]):
    name = "MailerSend"
    slug = "mailersend"
    Options = MailerSendOptions
    supports = Supports(
        reply_to=1,
        tags=MANY,
        track_opens=True,
        track_clicks=True,
        send_at=True,
        template_id=True,
        merge_data=True,
        merge_global_data=True,
    )
    safe_to_repeat = frozenset({429, _MAINTENANCE})

    def check(self, mail: OutgoingMail) -> Iterator[Unsupported]:
        """Raises AnymailUnsupportedFeature for what could not be sent without either."""
        if not mail.to:
            raise AnymailUnsupportedFeature(
                "MailerSend does not support messages without any `to` recipients: cc and bcc are not enough."
            )
        if mail.batch and len(mail.to) > 1 and self._batch_send_mode(mail) not in (BULK, EXPOSED):
            raise AnymailUnsupportedFeature(
                "MailerSend does not support a batch (merge_data, even empty) to several recipients, unless "
                f'MAILERSEND_BATCH_SEND_MODE is "{BULK}" (message ids are not known when it is sent) or '
                f'"{EXPOSED}" (every recipient sees the addresses of all).'
            )
        if mail.template_id:
            # MailerSend would leave them out without a word.
            for name in ("text", "html"):
                if getattr(mail, name):
                    yield Unsupported(f"{name} with template_id", {name: ""})

    def deliver(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        if mail.batch and self._batch_send_mode(mail) == BULK:
            emails = [self.email(mail, [personal]) for personal in mail.personal()]
            response = yield self._request("bulk-email", mail, emails)
            return self._bulk(response, mail)
        response = yield self._request("email", mail, self.email(mail, list(mail.personal())))
        return self._single(response, mail)

    def email(self, mail: OutgoingMail, to: Sequence[Personal]) -> dict[str, Any]:
        """One email object of the API."""
        merging = bool(mail.merge_data or mail.merge_global_data)
        payload = {
            # A template has a subject of its own, which an empty one should not hide.
            **({} if mail.template_id else {"subject": ""}),
            **without_empty(
                {
                    "from": _contact(mail.from_email[0]) if mail.from_email else None,
                    "to": [_contact(personal.to) for personal in to],
                    "cc": [_contact(address) for address in mail.cc],
                    "bcc": [_contact(address) for address in mail.bcc],
                    "reply_to": _contact(mail.reply_to[0]) if mail.reply_to else None,
                    "subject": mail.subject,
                    "text": mail.text,
                    "html": mail.html,
                    "attachments": [_attachment(attachment) for attachment in mail.attachments],
                    "template_id": mail.template_id,
                    "tags": list(mail.tags),
                    "personalization": [
                        {"email": personal.to.addr_spec, "data": personal.merge_data} for personal in to if merging
                    ],
                    "send_at": int(mail.send_at.timestamp()) if mail.send_at else None,
                    "settings": without_empty({"track_clicks": mail.track_clicks, "track_opens": mail.track_opens}),
                    **_headers(mail.headers),
                }
            ),
        }
        return deep_merge(payload, {key: value for key, value in mail.esp_extra.items() if key not in _OURS})

    def _batch_send_mode(self, mail: OutgoingMail) -> Any:
        return mail.esp_extra.get("batch_send_mode", self.options.batch_send_mode)

    def _request(self, path: str, mail: OutgoingMail, payload: Any) -> Request:
        headers = partial(self._request_headers, mail)
        return Request.post(f"{self.options.api_url}{path}", headers=headers, json=payload)

    def _request_headers(self, mail: OutgoingMail) -> dict[str, str]:
        token = Secret(mail.esp_extra.get("api_token") or self.options.api_token)
        return {"Accept": "application/json", "Authorization": f"Bearer {token.reveal()}"}

    # Reading answers.

    def explain(self, response: Response) -> tuple[str, Category | None]:
        category: Category | None = "server" if response.status_code == _MAINTENANCE else None
        try:
            answer = response.json()
            texts = [answer["message"], *(text for field in (answer.get("errors") or {}).values() for text in field)]
            text = " ".join(dict.fromkeys(map(str, texts)))
        except (ValueError, KeyError, TypeError, AttributeError):
            return response.text, category
        known = (_CATEGORIES[code] for code in _CODE.findall(text) if code in _CATEGORIES)
        return text, next(known, category)

    def _single(self, response: Response, mail: OutgoingMail) -> RecipientStatuses:
        if not response.ok:
            raise self.api_error(response)
        message_id = response.headers.get("X-Message-Id")
        suppressed, all_suppressed = self._suppressed(response)
        if message_id is None and not all_suppressed:
            raise self.unreadable(response, "without an X-Message-Id")
        _warn_if_paused(response)
        rejected = AnymailRecipientStatus(None, "rejected")
        other = AnymailRecipientStatus(message_id, "queued" if message_id else "failed")
        return {
            address.key: rejected if {address.addr_spec.lower(), address.key.lower()} & suppressed else other
            for address in mail.recipients
        }

    def _suppressed(self, response: Response) -> tuple[set[str], bool]:
        """The addresses, in lower case, that MailerSend will not send to, and whether it will send to none."""
        # An acceptance without warnings is of type text/html, and has no body.
        if not response.headers.get("Content-Type", "").lower().startswith("application/json"):
            return set(), False
        answer = self.read_json(response)
        try:
            warnings = answer.get("warnings") or ()
            types = {warning["type"] for warning in warnings}
            found = {recipient["email"].lower() for warning in warnings for recipient in warning["recipients"]}
        except (KeyError, TypeError, AttributeError):
            raise self.unreadable(response, "with warnings of another shape") from None
        if "errors" in answer or not types <= {"SOME_SUPPRESSED", "ALL_SUPPRESSED"}:
            raise self.unreadable(response, "with errors or an unknown warning")
        return found, "ALL_SUPPRESSED" in types

    def _bulk(self, response: Response, mail: OutgoingMail) -> RecipientStatuses:
        answer = self.read_json(response)
        bulk_id = answer.get("bulk_email_id") if isinstance(answer, dict) else None
        if not isinstance(bulk_id, str) or not bulk_id:
            raise self.unreadable(response, "without a bulk_email_id")
        _warn_if_paused(response)
        return all_recipients(mail.recipients, "unknown", f"bulk:{bulk_id}")


def _warn_if_paused(response: Response) -> None:
    if response.headers.get("x-send-paused", "").lower() == "true":
        logger.warning("MailerSend took a message, but holds it: sending is paused for the domain.")


def _contact(address: EmailAddress) -> dict[str, str]:
    return without_empty({"email": address.addr_spec, "name": address.display_name})


def _headers(headers: MailHeaders[str]) -> dict[str, Any]:
    """The headers that are parameters of their own, and the others, which not every plan may send."""
    unsubscribe = headers.get("List-Unsubscribe", "")
    # The parameter holds only one URI.
    single = unsubscribe.count("<") < 2
    own = {"precedence", "in-reply-to", "references", *(["list-unsubscribe"] if single else [])}
    return {
        "precedence_bulk": headers["Precedence"].strip().lower() in _PRECEDENCE_BULK
        if "Precedence" in headers
        else None,
        "in_reply_to": headers.get("In-Reply-To", "").strip(" <>"),
        "references": re.findall(r"[^<>\s]+", headers.get("References", "")),
        "headers": [{"name": name, "value": value} for name, value in headers.items() if name.lower() not in own],
        "list_unsubscribe": unsubscribe if single else None,
    }


def _attachment(attachment: Attachment) -> dict[str, Any]:
    # MailerSend takes the type from the file name's extension.
    extension = mimetypes.guess_extension(attachment.mimetype) or ""
    wire = {
        "filename": attachment.name or f"attachment{extension}",
        # No charset goes with it.
        "content": Base64(attachment.utf8_content),
        "disposition": "inline" if attachment.inline else "attachment",
    }
    return {**wire, "id": attachment.content_id} if attachment.inline and attachment.content_id else wire
