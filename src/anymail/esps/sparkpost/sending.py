"""Sending through SparkPost.

https://developers.sparkpost.com/api/transmissions/ and https://developers.sparkpost.com/api/template-language/
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

from anymail.conf import Secret, SendOptions, base_url, option, optional, secret
from anymail.esps.kit.batches import BatchLimit, Part, send_parts, split
from anymail.esps.kit.sending import ESP, without_empty
from anymail.esps.kit.values import list_of
from anymail.exceptions import Category
from anymail.mail.addresses import EmailAddress, format_addresses
from anymail.mail.attachments import Attachment
from anymail.mail.message import MailHeaders, OutgoingMail, deep_merge, merge_headers
from anymail.mail.status import AnymailRecipientStatus, RecipientStatuses, Status, all_recipients
from anymail.mail.supports import ALL_CONTENT, Supports, Unsupported, check_beside_template
from anymail.wire import Flow, Request, Response


def _subaccount(value: Any) -> str:
    if not str(value).isdigit():
        raise ValueError("the number of a subaccount is needed")
    return str(value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparkPostOptions(SendOptions):
    api_key: Secret = secret('API key with the grant "Transmissions: Read/Write".', bare=True)
    subaccount: str | None = option(
        "Number of the subaccount to send for, with an API key of the master account.",
        default=None,
        convert=optional(_subaccount),
    )
    api_url: str = option(
        "Base URL of the API; that of the EU is `https://api.eu.sparkpost.com/api/v1/`.",
        default="https://api.sparkpost.com/api/v1/",
        convert=base_url,
    )


# https://developers.sparkpost.com/api/#header-errors, where the HTTP status does not tell. What a message's own sender
# is refused for (7000, 7001) is not here: the next message may pass.
_CATEGORIES: dict[str, Category] = {"2101": "quota", "2102": "quota", "2103": "quota", "2105": "quota"}
_SENDING_LIMIT = 420
# What the only recipient of a transmission, one that is suppressed, is refused with.
_GENERATION_REJECTED = "1902"
# How a 500 or 503 of SparkPost's own looks.
_NOT_ACCEPTED = re.compile(r'"code":\s*"(?:1500|1501|1900)"|Unable to contact authorization service')

# "invalid recipient address.email: not-an-address"
_INVALID_RECIPIENT = re.compile(r"invalid recipient address\.email: (\S+)")
_UNSUBSCRIBE_HEADERS = frozenset({"list-unsubscribe", "list-unsubscribe-post"})


class SparkPost(ESP[SparkPostOptions]):
    name = "SparkPost"
    slug = "sparkpost"
    Options = SparkPostOptions
    supports = Supports(
        non_ascii_usernames=True,
        amp=True,
        envelope_sender="domain",
        metadata=True,
        # The campaign, and ten tags of each recipient; SparkPost ignores more.
        tags=11,
        track_opens=True,
        track_clicks=True,
        send_at=True,
        template_id=True,
        merge_data=True,
        merge_global_data=True,
        merge_metadata=True,
        merge_headers=True,
        # SparkPost refuses a subject or a body beside a template, and ignores what would add to its content.
        beside_template=ALL_CONTENT
        - {"subject", "text", "html", "amp", "attachments", "inline", "headers", "merge_headers"},
    )
    # What SparkPost asks not to go beyond: https://docs.sparkpost.com/docs/. It refuses only what is over 300 MB.
    batch_limit = BatchLimit(messages=10_000, recipients=10_000)

    def check(self, mail: OutgoingMail) -> Iterator[Unsupported]:
        if _stored(mail):
            if not mail.template_id:
                bodiless = dataclasses.replace(mail, text="", html="", amp=None)
                yield from check_beside_template(bodiless, self.supports)
            if mail.cc:
                yield Unsupported("cc with template_id", {"cc": (), "bcc": mail.cc + mail.bcc})
        elif not _transactional(mail):
            # SparkPost puts its own in their place.
            own = {email: _without_unsubscribe(headers) for email, headers in mail.merge_headers.items()}
            without = {"headers": _without_unsubscribe(mail.headers), "merge_headers": own}
            if without != {"headers": mail.headers, "merge_headers": mail.merge_headers}:
                yield Unsupported("List-Unsubscribe without options.transactional in esp_extra", without)

    def deliver(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        if "recipients" in mail.esp_extra:
            return (yield from self._deliver_part(mail))
        parts = split(mail, self.batch_limit)
        return (yield from send_parts(Part(part.recipients, self._deliver_part(part)) for part in parts))

    def _deliver_part(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        payload = self.transmission(mail)
        url = f"{self.options.api_url}transmissions/"
        response = yield Request.post(url, headers=self._request_headers, json=payload)
        entries = payload.get("recipients")
        if isinstance(entries, list) and len(entries) == 1 and _GENERATION_REJECTED in _codes(response):
            return all_recipients(mail.recipients, "rejected")
        return self._statuses(response, payload, mail)

    def _request_headers(self) -> dict[str, str]:
        subaccount = self.options.subaccount
        return {
            "Accept": "application/json",
            "Authorization": self.options.api_key.reveal(),
            **({} if subaccount is None else {"X-MSYS-SUBACCOUNT": subaccount}),
        }

    def transmission(self, mail: OutgoingMail) -> dict[str, Any]:
        """The body of a request to /transmissions."""
        headers = merge_headers(MailHeaders({"Cc": format_addresses(mail.cc)} if mail.cc else {}), mail.headers)
        # A recipient's own headers come in by way of variables.
        personal = {_variable(name): name for own in mail.merge_headers.values() for name in own}
        templated = MailHeaders({name: f"{{{{{variable}}}}}" for variable, name in personal.items()})
        defaults = {variable: headers[name] for variable, name in personal.items() if name in headers}
        body = without_empty(
            {
                "options": without_empty(
                    {
                        "start_time": mail.send_at and mail.send_at.replace(microsecond=0).isoformat(),
                        "open_tracking": mail.track_opens,
                        "click_tracking": mail.track_clicks,
                    }
                ),
                "recipients": _recipients(mail),
                "campaign_id": mail.tags[0] if mail.tags else None,
                "metadata": mail.metadata,
                "substitution_data": {**mail.merge_global_data, **defaults},
                "return_path": mail.envelope_sender and mail.envelope_sender.addr_spec,
                "content": self._content(mail, merge_headers(headers, templated)),
                "override": self._override(mail),
            }
        )
        return deep_merge(body, mail.esp_extra)

    def _content(self, mail: OutgoingMail, headers: MailHeaders[str]) -> dict[str, Any]:
        if _raw(mail):
            return {}
        stored = _stored(mail)
        # Content of the message's own needs a subject and a body, even if they are empty.
        needed = {} if stored else {"subject": "", **({} if mail.html else {"text": ""})}
        return {
            **needed,
            **without_empty(
                {
                    "template_id": mail.template_id,
                    "html": None if stored else mail.html,
                    "text": None if stored else mail.text,
                    "amp_html": None if stored else mail.amp,
                    "subject": mail.subject,
                    "from": None if stored else format_addresses(mail.from_email),
                    "reply_to": None if stored else format_addresses(mail.reply_to),
                    "headers": None if stored else dict(headers.items()),
                    "attachments": [_attachment(one) for one in mail.attachments if not one.inline],
                    "inline_images": [_inline_image(one) for one in mail.attachments if one.inline],
                }
            ),
        }

    def _override(self, mail: OutgoingMail) -> dict[str, Any]:
        """What stands in for a stored template's own."""
        if not _stored(mail):
            return {}
        senders = () if mail.from_is_default else mail.from_email
        return without_empty({"from": format_addresses(senders), "reply_to": format_addresses(mail.reply_to)})

    # Reading responses.

    def certainly_not_taken(self, response: Response) -> bool:
        """Also after 500 and 503, if SparkPost itself says so, with a code of its own or in the words of its gateway.

        https://developers.sparkpost.com/api/#header-errors
        """
        if super().certainly_not_taken(response):
            return True
        return response.status_code in (500, 503) and bool(_NOT_ACCEPTED.search(response.text))

    def explain(self, response: Response) -> tuple[str, Category | None]:
        category: Category | None = "quota" if response.status_code == _SENDING_LIMIT else None
        errors = _errors(response)
        if not errors:
            return response.text, category
        return (
            "; ".join(" ".join(_words(error)) for error in errors),
            next((_CATEGORIES[code] for code in _codes(response) if code in _CATEGORIES), category),
        )

    def _statuses(self, response: Response, payload: dict[str, Any], mail: OutgoingMail) -> RecipientStatuses:
        match self.read_json(response):
            case {
                "results": {
                    "id": str(message_id),
                    "total_accepted_recipients": int(accepted),
                    "total_rejected_recipients": int(rejected),
                    **results,
                }
            }:
                pass
            case _:
                raise self.unreadable(response, "without the id and counts of a transmission")
        entries = payload.get("recipients")
        sent = len(entries) if isinstance(entries, list) else None
        named = _named_invalid(results.get("rcpt_to_errors"))
        status: Status = "unknown"
        if (accepted, rejected) == (sent, 0):
            status = "queued"
        elif (accepted, rejected) == (0, sent):
            status = "rejected"
        elif accepted + rejected == sent and len(named) == rejected and set(named) <= set(map(_lower, mail.recipients)):
            # The errors name each of those that were rejected.
            status = "queued"
        return {
            address.key: AnymailRecipientStatus(message_id, "invalid" if _lower(address) in named else status)
            for address in mail.recipients
        }


def _recipients(mail: OutgoingMail) -> list[dict[str, Any]]:
    """The entries of ``recipients``. In a batch each copy to cc and bcc is one of the message of one ``to``."""
    # The first tag is the campaign.
    tags = {"tags": mail.tags[1:]} if mail.tags[1:] else {}
    if not (mail.batch and mail.to):
        return [{**_address(one, header_to=mail.to), **tags} for one in mail.recipients]
    personal = [
        (
            to,
            without_empty(
                {
                    "substitution_data": {
                        **mail.merge_data.get(to.addr_spec, {}),
                        **{_variable(name): v for name, v in mail.merge_headers.get(to.addr_spec, {}).items()},
                    },
                    "metadata": mail.merge_metadata.get(to.addr_spec),
                    **tags,
                }
            ),
        )
        for to in mail.to
    ]
    return [
        *({**_address(to, header_to=(to,)), **own} for to, own in personal),
        *({**_address(copy, header_to=(to,)), **own} for to, own in personal for copy in mail.cc + mail.bcc),
    ]


def _address(address: EmailAddress, header_to: tuple[EmailAddress, ...]) -> dict[str, Any]:
    return {"address": {"email": address.addr_spec, "header_to": format_addresses(header_to)}}


def _variable(header: str) -> str:
    """The substitution variable that carries recipients' own values of a header."""
    return "Header__" + re.sub(r"[^A-Za-z0-9]", "_", header.title())


def _attachment(attachment: Attachment) -> dict[str, Any]:
    return {"name": attachment.name_or_default, "type": attachment.content_type, "data": attachment.base64}


def _inline_image(attachment: Attachment) -> dict[str, Any]:
    name = attachment.content_id or attachment.name_or_default
    return {"name": name, "type": attachment.mimetype, "data": attachment.base64}


def _extra(mail: OutgoingMail, name: str) -> Mapping[str, Any]:
    value = mail.esp_extra.get(name)
    return value if isinstance(value, Mapping) else {}


def _stored(mail: OutgoingMail) -> bool:
    """Whether the content is a template's, stored at SparkPost."""
    content = _extra(mail, "content")
    return bool(mail.template_id or content.get("template_id") or content.get("ab_test_id"))


def _raw(mail: OutgoingMail) -> bool:
    """Whether ``esp_extra`` brings the whole message in MIME."""
    return "email_rfc822" in _extra(mail, "content")


def _transactional(mail: OutgoingMail) -> bool:
    return bool(_extra(mail, "options").get("transactional"))


def _without_unsubscribe(headers: MailHeaders[str]) -> MailHeaders[str]:
    return MailHeaders([item for item in headers.items() if item[0].lower() not in _UNSUBSCRIBE_HEADERS])


def _errors(response: Response) -> list[dict[str, Any]]:
    """The errors that a response lists; none if it is a good one, or in another form."""
    if response.ok:
        return []
    try:
        return [dict(error) for error in response.json()["errors"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []


def _codes(response: Response) -> list[str]:
    return [str(error.get("code")) for error in _errors(response)]


def _words(error: dict[str, Any]) -> Iterator[str]:
    for name, form in (("code", "{}"), ("message", "{}"), ("description", "({})")):
        if error.get(name):
            yield form.format(error[name])


def _named_invalid(errors: Any) -> list[str]:
    """The addresses that SparkPost calls invalid, in lower case."""
    descriptions = [str(error.get("description")) for error in list_of(errors) if isinstance(error, dict)]
    return [match[1].lower() for text in descriptions if (match := _INVALID_RECIPIENT.fullmatch(text))]


def _lower(address: EmailAddress) -> str:
    return address.addr_spec.lower()
