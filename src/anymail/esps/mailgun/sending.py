"""Sending through Mailgun: https://documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/messages

For merging see https://documentation.mailgun.com/docs/mailgun/user-manual/sending-messages/batch-sending and
https://documentation.mailgun.com/docs/mailgun/user-manual/sending-messages/send-templates.
"""

from __future__ import annotations

import dataclasses
import re
from base64 import b64encode
from collections.abc import Collection, Iterator
from datetime import UTC
from email.utils import format_datetime
from functools import partial
from typing import Any
from urllib.parse import quote

from anymail.conf import Secret, SendOptions, base_url, option, secret
from anymail.esps.kit.batches import BatchLimit, Part, send_parts, split
from anymail.esps.kit.sending import ESP, until_reset
from anymail.exceptions import AnymailAPIError, AnymailError, Category
from anymail.mail.addresses import format_addresses
from anymail.mail.message import MailHeaders, OutgoingMail
from anymail.mail.status import RecipientStatuses, all_recipients
from anymail.mail.supports import ALL_CONTENT, MANY, Supports, Unsupported
from anymail.mail.text import refuse_controls_in
from anymail.wire import File, Flow, Request, Response, json_text


@dataclasses.dataclass(frozen=True, kw_only=True)
class MailgunOptions(SendOptions):
    api_key: Secret = secret("API key of the account, or the sending API key of one domain.", bare=True)
    api_url: str = option(
        "Base URL of the API. That of the EU region is `https://api.eu.mailgun.net/v3`.",
        default="https://api.mailgun.net/v3/",
        convert=base_url,
    )
    sender_domain: str | None = option(
        "The domain to send from, as it is named at Mailgun. By default that of the first From address.",
        default=None,
        bare=True,
    )
    subaccount: str | None = option(
        "Id of the subaccount to send for, with the API key of its parent account.", default=None
    )


_YES_NO = {True: "yes", False: "no"}
_PLACEHOLDER = re.compile(r"%recipient\.([^%]+)%")
# "Domain mg.example.com is not allowed to send: account-requests-per-sec limit exceeded, try again after 120 seconds"
_PAUSE = re.compile(r"try\s+again\s+(?:after|in)\s+(\d{1,6})\s+sec", re.IGNORECASE)
# What is no field of the form.
_OUR_EXTRAS = frozenset({"sender_domain", "subaccount"})


class Mailgun(ESP[MailgunOptions]):
    name = "Mailgun"
    slug = "mailgun"
    Options = MailgunOptions
    supports = Supports(
        from_emails=MANY,
        # But not in From: see check().
        non_ascii_usernames=True,
        amp=True,
        envelope_sender="domain",
        metadata=True,
        tags=MANY,
        track_opens=True,
        track_clicks=True,
        send_at=True,
        template_id=True,
        merge_data=True,
        merge_global_data=True,
        merge_metadata=True,
        merge_headers=True,
        # 'Only one parameters "html" or "template" is allowed.' A text is the plain part of the template's mail.
        beside_template=ALL_CONTENT - {"html"},
    )
    batch_limit = BatchLimit(messages=1000)
    # After a 503 the message may be queued.
    safe_to_repeat = frozenset({429})

    def check(self, mail: OutgoingMail) -> Iterator[Unsupported]:
        plain = tuple(address for address in mail.from_email if address.username.isascii())
        if len(plain) < len(mail.from_email):
            yield Unsupported("a non-ASCII local part (EAI) in from_email", {"from_email": plain})
        named = tuple(one for one in mail.attachments if one.content_id or not one.inline)
        if len(named) < len(mail.attachments):
            yield Unsupported("inline attachments without a Content-ID", {"attachments": named})
        mail = _individual(mail)
        if mail.batch:
            yield from _check_merge(mail)

    def deliver(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        parts = split(_individual(mail), self.batch_limit)
        return (yield from send_parts(Part(part.recipients, self._deliver_part(part)) for part in parts))

    def _deliver_part(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        response = yield Request.post(
            f"{self.options.api_url}{quote(self.sender_domain(mail), safe='')}/messages",
            headers=partial(self._request_headers, mail),
            form=_fields(self.form(mail)),
            files=_files(mail),
            multipart=True,
        )
        return self._queued(response, mail)

    def sender_domain(self, mail: OutgoingMail) -> str:
        """The domain in the URL. Raises AnymailError when there is none, or none that can stand there."""
        domain = str(
            mail.esp_extra.get("sender_domain")
            or (mail.envelope_sender and not mail.envelope_sender_is_implied and mail.envelope_sender.domain)
            or self.options.sender_domain
            or (mail.envelope_sender and mail.envelope_sender.domain)
            or (mail.from_email and mail.from_email[0].domain)
            or ""
        )
        if not domain:
            raise AnymailError("Mailgun needs a sender domain: set MAILGUN_SENDER_DOMAIN, or give a from_email.")
        # Mailgun decodes the path before it routes: a call that gets lost so is answered with 200.
        if "/" in domain or "%2f" in domain.lower() or not domain.strip("."):
            raise AnymailError(f"{domain!r} cannot be a Mailgun sender domain: it would lead to another URL.")
        return domain

    def form(self, mail: OutgoingMail) -> dict[str, Any]:
        """The form of the API, in the order of its reference; a list repeats its field, None leaves it out."""
        if mail.reply_to:
            headers = [("Reply-To", format_addresses(mail.reply_to)), *mail.headers.items()]
            mail = dataclasses.replace(mail, headers=MailHeaders(headers))
        _refuse_controls(mail)
        variables = _recipient_variables(mail) if mail.batch else {}
        if not mail.batch:
            mail = _filled(mail)
        return {
            "from": [str(address) for address in mail.from_email],
            "to": [str(address) for address in mail.to],
            "cc": [str(address) for address in mail.cc],
            "bcc": [str(address) for address in mail.bcc],
            # A template may have its own.
            "subject": None if _templated(mail) and not mail.subject else mail.subject,
            "text": mail.text or None,
            "amp-html": mail.amp or None,
            # Of a template by esp_extra; beside template_id there is none.
            "html": (mail.html or None) if not _templated(mail) else None,
            "template": mail.template_id,
            "t:variables": _template_variables(mail),
            "o:tag": mail.tags,
            "o:deliverytime": mail.send_at and format_datetime(mail.send_at.astimezone(UTC), usegmt=True),
            "o:tracking-clicks": mail.track_clicks,
            "o:tracking-opens": mail.track_opens,
            **{f"h:{name.title()}": value for name, value in mail.headers.items()},
            **{f"v:{key}": _text(value, f"metadata[{key!r}]") for key, value in mail.metadata.items()},
            **_placeholders(mail, variables),
            "recipient-variables": json_text(variables, "merge_data") if mail.batch else None,
            **{name: value for name, value in mail.esp_extra.items() if name not in _OUR_EXTRAS},
        }

    def _request_headers(self, mail: OutgoingMail) -> dict[str, str]:
        subaccount = mail.esp_extra.get("subaccount") or self.options.subaccount
        return {
            "Accept": "application/json",
            "Authorization": basic_auth(self.options.api_key),
            **({"X-Mailgun-On-Behalf-Of": str(subaccount)} if subaccount else {}),
        }

    # Reading responses.

    def _queued(self, response: Response, mail: OutgoingMail) -> RecipientStatuses:
        if response.ok and response.text.startswith("Mailgun Magnificent API"):
            raise AnymailAPIError(
                f"Invalid Mailgun API endpoint: there is none for the sender domain {self.sender_domain(mail)!r} at "
                f"{self.options.api_url}. Check MAILGUN_SENDER_DOMAIN and MAILGUN_API_URL.",
                response=response,
            )
        content = self.read_json(response)
        fields = content if isinstance(content, dict) else {}
        message_id, text = fields.get("id"), fields.get("message")
        if not (isinstance(message_id, str) and message_id and isinstance(text, str) and text.startswith("Queued")):
            raise self.unreadable(response, "not that the message is queued")
        return all_recipients(mail.recipients, "queued", message_id)

    def explain(self, response: Response) -> tuple[str, Category | None]:
        try:
            content = response.json()
        except (ValueError, RecursionError):
            content = None
        text = content.get("message") if isinstance(content, dict) else content
        text = text if isinstance(text, str) else response.text
        if response.status_code == 404:
            text += " (is the domain set up in this account, and MAILGUN_API_URL that of its region?)"
        return text, None

    def retry_after(self, response: Response) -> float | None:
        """In Retry-After, in the text of a 429, or as the time in X-RateLimit-Reset."""
        given = super().retry_after(response)
        if given is not None or response.status_code != 429:
            return given
        if match := _PAUSE.search(response.text):
            return float(match[1])
        return until_reset(response)


def basic_auth(api_key: Secret) -> str:
    """The value of the Authorization header."""
    return f"Basic {b64encode(f'api:{api_key.reveal()}'.encode()).decode()}"


def _text(value: Any, what: str) -> str:
    """A value as the text of a form field: a string as it is, anything else in JSON."""
    return value if isinstance(value, str) else json_text(value, what)


def _fields(form: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, _YES_NO[one] if isinstance(one, bool) else _text(one, name))
        for name, value in form.items()
        for one in (value if isinstance(value, (list, tuple)) else (value,))
        if one is not None
    ]


def _files(mail: OutgoingMail) -> list[File]:
    """The files of the form. Mailgun makes the filename of an inline one its Content-ID, and drops the nameless."""
    return [
        File("inline", one.content_id, one.content_type, one.content)
        if one.inline
        else File("attachment", one.name_or_default, one.content_type, one.content)
        for one in mail.attachments
    ]


# Merging. In a batch Mailgun puts each recipient's values, from recipient-variables, in the place of
# "%recipient.key%"; templates know only the v: fields and t:variables.


def _individual(mail: OutgoingMail) -> OutgoingMail:
    """A message to several with merge_global_data as a batch, in which nobody sees the others.

    django-anymail sends it so. If only its defaults were merged, those who never saw each other suddenly would.
    """
    return dataclasses.replace(mail, batch=True) if mail.merge_global_data and len(mail.to) > 1 else mail


def _templated(mail: OutgoingMail) -> bool:
    return bool(mail.template_id or mail.esp_extra.get("template"))


def _merge_keys(mail: OutgoingMail) -> list[str]:
    """The merge data that a batch has in recipient-variables."""
    personal = [key for data in mail.merge_data.values() for key in data]
    common = [
        key
        for key, value in mail.merge_global_data.items()
        # What is nested goes into t:variables instead.
        if not (_templated(mail) and isinstance(value, (dict, list)))
    ]
    return list(dict.fromkeys([*personal, *common]))


def _reserved(key: Any) -> bool:
    """Whether a key of recipient-variables is that of merge_metadata or merge_headers."""
    return str(key).startswith(("v:", "h:"))


def _recipient_variables(mail: OutgoingMail) -> dict[str, dict[str, Any]]:
    """Each recipient has every key, or would read its placeholder."""
    metadata = dict.fromkeys(key for values in mail.merge_metadata.values() for key in values)
    headers = dict.fromkeys(name.title() for values in mail.merge_headers.values() for name in values)
    return {
        personal.to.addr_spec: {
            **{f"v:{key}": _or_nothing(personal.metadata.get(key)) for key in metadata},
            **{key: _or_nothing(personal.merge_data.get(key)) for key in _merge_keys(mail)},
            **{f"h:{name}": personal.headers.get(name, "") for name in headers},
        }
        for personal in mail.personal()
    }


def _or_nothing(value: Any) -> Any:
    return "" if value is None else value


def _placeholders(mail: OutgoingMail, variables: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The fields that are different for each recipient."""
    keys = next(iter(variables.values()), {})
    own = {key: f"%recipient.{key}%" for key in keys if _reserved(key)}
    if not _templated(mail):
        return own
    direct = _direct(mail)
    return {**own, **{f"v:{key}": f"%recipient.{key}%" for key in keys if key not in own and key not in direct}}


def _direct(mail: OutgoingMail) -> dict[str, Any]:
    """What of merge_global_data a template is given as it is: all, unless recipients have merge data of their own."""
    if not _templated(mail):
        return {}
    merged = _merge_keys(mail) if any(mail.merge_data.values()) else ()
    return {key: value for key, value in mail.merge_global_data.items() if key not in merged}


def _template_variables(mail: OutgoingMail) -> str | None:
    direct = _direct(mail)
    return json_text(direct, "merge_global_data") if direct else None


def _filled(mail: OutgoingMail) -> OutgoingMail:
    """A message that is no batch, its placeholders filled here: recipient-variables would make it one."""
    if not mail.merge_global_data:
        return mail
    data = mail.merge_global_data

    def fill(text: str) -> str:
        return _PLACEHOLDER.sub(
            lambda match: _filling(data[match[1]], match[1]) if match[1] in data else match[0],
            text,
        )

    return dataclasses.replace(
        mail,
        subject=mail.subject and fill(mail.subject),
        text=fill(mail.text),
        html=fill(mail.html),
        amp=mail.amp and fill(mail.amp),
        headers=MailHeaders([(name, fill(value)) for name, value in mail.headers.items()]),
        metadata={key: fill(value) if isinstance(value, str) else value for key, value in mail.metadata.items()},
    )


def _filling(value: Any, key: str) -> str:
    return "" if value is None else _text(value, f"merge_global_data[{key!r}]")


def _refuse_controls(mail: OutgoingMail) -> None:
    """Raise AnymailInvalidValue for merge data that would break the subject or a header that it is put into."""
    personal_headers = [value for values in mail.merge_headers.values() for value in values.values()]
    lines = [mail.subject or "", *mail.headers.values(), *personal_headers]
    keys = {key for line in lines for key in _PLACEHOLDER.findall(line)}
    if keys:
        for personal in mail.personal():
            used = {key: value for key, value in personal.merge_data.items() if key in keys}
            refuse_controls_in(used, f"merge_data[{personal.to.key!r}]")


def _check_merge(mail: OutgoingMail) -> Iterator[Unsupported]:
    reserved = {key for key in _merge_keys(mail) if _reserved(key)}
    if reserved:
        what = f'merge_data keys that begin with "v:" or "h:" ({_listed(reserved)})'
        yield Unsupported(what, _without_data(mail, reserved))
    if not _templated(mail):
        return
    nested = {
        key
        for data in [*mail.merge_data.values(), mail.merge_global_data]
        for key in data
        if isinstance(data[key], (dict, list)) and key in _merge_keys(mail)
    }
    if nested:
        what = f"lists and dicts in merge_data with template_id ({_listed(nested)})"
        yield Unsupported(what, _without_data(mail, reserved | nested))
    metadata = {*mail.metadata, *(key for values in mail.merge_metadata.values() for key in values)}
    if clash := metadata & {*_merge_keys(mail)} - _direct(mail).keys():
        yield Unsupported(
            f"merge_data and metadata with the same keys with template_id ({_listed(clash)})",
            {
                "metadata": _without(mail.metadata, clash),
                "merge_metadata": {spec: _without(values, clash) for spec, values in mail.merge_metadata.items()},
            },
        )


def _listed(keys: Collection[str]) -> str:
    return ", ".join(sorted(repr(str(key)) for key in keys))


def _without_data(mail: OutgoingMail, keys: Collection[str]) -> dict[str, Any]:
    return {
        "merge_data": {spec: _without(values, keys) for spec, values in mail.merge_data.items()},
        "merge_global_data": _without(mail.merge_global_data, keys),
    }


def _without(values: dict[str, Any], keys: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}
