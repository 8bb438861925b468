"""Sending through SendGrid: https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send"""

from __future__ import annotations

import dataclasses
import json
import math
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from anymail.conf import Secret, SendOptions, base_url, boolean, option, optional, secret
from anymail.esps.kit.batches import BatchLimit, Part, send_parts, split
from anymail.esps.kit.sending import ESP, email_and_name, until_reset, without_empty
from anymail.esps.kit.values import json_object_of, list_of, object_of, text_of
from anymail.esps.sendgrid.tracking import EVENT_FIELDS
from anymail.exceptions import AnymailConfigurationError, AnymailSerializationError, AnymailWarning, Category
from anymail.mail.attachments import Attachment
from anymail.mail.message import OutgoingMail, Personal, deep_merge
from anymail.mail.status import AnymailRecipientStatus, RecipientStatuses
from anymail.mail.supports import ALL_CONTENT, MANY, Supports, Unsupported, check_beside_template
from anymail.wire import Flow, Request, Response


def _merge_field_format(value: Any) -> str:
    try:
        if "\0" in value.format("\0"):
            return str(value)
    except (AttributeError, ValueError, LookupError):
        pass
    raise ValueError('a str.format pattern for one key is needed, such as "-{}-"')


def _retired(value: Any) -> None:
    if value is not None:
        raise ValueError("SendGrid's Web API v2 and its passwords are gone; set SENDGRID_API_KEY instead")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SendGridOptions(SendOptions):
    api_key: Secret = secret("API key with the permission Mail Send.", bare=True)
    api_url: str = option(
        "Base URL of the API. For regional subusers in the EU: `https://api.eu.sendgrid.com/v3/`.",
        default="https://api.sendgrid.com/v3/",
        convert=base_url,
    )
    generate_message_id: bool = option(
        "Make a message id for each recipient, as the custom argument `anymail_id`: SendGrid gives none that its "
        "webhooks repeat.",
        default=True,
        convert=boolean,
    )
    merge_field_format: str | None = option(
        "The delimiters of merge fields, for legacy templates and for merging without a template, as a `str.format` "
        'pattern: `"-{}-"`, or `"{{{{{}}}}}"` for `{{key}}`.',
        default=None,
        convert=optional(_merge_field_format),
    )
    username: None = option("Of the retired Web API v2: an error.", default=None, convert=_retired, bare=True)
    password: None = option("Of the retired Web API v2: an error.", default=None, convert=_retired, bare=True)


class SendGrid(ESP[SendGridOptions]):
    name = "SendGrid"
    slug = "sendgrid"
    Options = SendGridOptions
    # After any 5xx the message may be queued.
    safe_to_repeat = frozenset({429})
    supports = Supports(
        non_ascii_usernames=True,
        amp=True,
        alternatives=True,
        metadata=True,
        metadata_values="text",
        tags=MANY,
        track_opens=True,
        track_clicks=True,
        send_at=True,
        template_id=True,
        merge_data=True,
        merge_global_data=True,
        merge_metadata=True,
        merge_headers=True,
    )
    # https://www.twilio.com/docs/sendgrid/api-reference/mail-send/limitations
    batch_limit = BatchLimit(messages=1000, recipients=1000)

    def check(self, mail: OutgoingMail) -> Iterator[Unsupported]:
        if _uses_dynamic_template(mail):
            bodiless = dataclasses.replace(mail, text="", html="", amp=None)
            yield from check_beside_template(bodiless, _WITH_DYNAMIC_TEMPLATE)
        if not mail.to and not isinstance(mail.esp_extra.get("personalizations"), list):
            yield Unsupported("cc or bcc without to", {"cc": (), "bcc": ()})

    def deliver(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        _warn_of_lost_metadata(mail)
        if isinstance(mail.esp_extra.get("personalizations"), list):
            return (yield from self._deliver_part(mail))
        parts = split(mail, self.batch_limit)
        return (yield from send_parts(Part(part.recipients, self._deliver_part(part)) for part in parts))

    def _deliver_part(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        message = self.message(mail)
        response = yield Request.post(f"{self.options.api_url}mail/send", headers=self._request_headers, json=message)
        if not response.ok:
            raise self.api_error(response)
        if response.status_code != 202 and response.content.strip():
            raise self.unreadable(response, "neither with 202 nor, as in sandbox mode, with nothing")
        return _statuses(mail, message)

    def _request_headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.options.api_key.reveal()}", "Accept": "application/json"}

    def message(self, mail: OutgoingMail) -> dict[str, Any]:
        """The body of Mail Send."""
        if any(key.lower() == "x-smtpapi" for key in mail.esp_extra):
            raise AnymailConfigurationError(
                "esp_extra['x-smtpapi'] belongs to SendGrid's retired Web API v2: give parameters of v3 Mail Send."
            )
        message = {
            "personalizations": self.personalizations(mail),
            "from": email_and_name(mail.from_email[0]) if mail.from_email else None,
            "reply_to_list": [email_and_name(address) for address in mail.reply_to],
            # An empty subject or content would stand in for the template's.
            "subject": mail.subject,
            # Legacy templates have a place for the bodies, dynamic ones have their own.
            "content": None if _uses_dynamic_template(mail) else _content(mail),
            "attachments": [_attachment(attachment) for attachment in mail.attachments],
            "template_id": mail.template_id,
            "headers": dict(mail.headers),
            "categories": mail.tags,
            "custom_args": mail.metadata,
            "send_at": int(mail.send_at.timestamp()) if mail.send_at else None,
            "tracking_settings": without_empty(
                {"click_tracking": _switch(mail.track_clicks), "open_tracking": _switch(mail.track_opens)}
            ),
        }
        extra = {key: value for key, value in mail.esp_extra.items() if key not in _OF_PERSONALIZATIONS}
        return deep_merge(without_empty(message), extra)

    def personalizations(self, mail: OutgoingMail) -> list[dict[str, Any]]:
        """The messages to make of this one, each with its own recipients, merge fields and message id."""
        extra = mail.esp_extra.get("personalizations") or {}
        if isinstance(extra, list):
            return [deep_merge(without_empty({"custom_args": self._message_id()}), one) for one in extra]
        each: Iterable[Personal | None] = mail.personal() if mail.batch else [None]
        return [deep_merge(self._personalization(mail, personal), extra) for personal in each]

    def _personalization(self, mail: OutgoingMail, personal: Personal | None) -> dict[str, Any]:
        merge_data = personal.merge_data if personal else mail.merge_global_data
        metadata = mail.merge_metadata.get(personal.to.addr_spec, {}) if personal else {}
        dynamic = _uses_dynamic_template(mail)
        return without_empty(
            {
                "to": [email_and_name(address) for address in ([personal.to] if personal else mail.to)],
                "cc": [email_and_name(address) for address in mail.cc],
                "bcc": [email_and_name(address) for address in mail.bcc],
                # With those of the message: SendGrid does not say that it merges headers.
                "headers": dict(personal.headers) if personal and mail.merge_headers else None,
                "substitutions": None if dynamic else self._substitutions(mail, merge_data),
                "dynamic_template_data": merge_data if dynamic else None,
                "custom_args": {**metadata, **self._message_id()},
            }
        )

    def _substitutions(self, mail: OutgoingMail, merge_data: Mapping[str, Any]) -> dict[str, str]:
        pattern = self._delimiters(mail)
        if not pattern and merge_data and all(key.isalnum() for key in merge_data):
            warnings.warn(
                f"The merge fields {', '.join(merge_data)} have no delimiters, so SendGrid would replace these words "
                "wherever they stand: set SENDGRID_MERGE_FIELD_FORMAT.",
                AnymailWarning,
                stacklevel=2,
            )
        return {
            (pattern or "{}").format(key): _substitution(value, f"merge_data[{key!r}]")
            for key, value in merge_data.items()
        }

    def _delimiters(self, mail: OutgoingMail) -> str | None:
        given = mail.esp_extra.get("merge_field_format")
        try:
            return self.options.merge_field_format if given is None else _merge_field_format(given)
        except ValueError as error:
            raise AnymailSerializationError(f"esp_extra['merge_field_format'] is {given!r}: {error}.") from error

    def _message_id(self) -> dict[str, str]:
        return {"anymail_id": str(uuid.uuid4())} if self.options.generate_message_id else {}

    # Reading responses.

    def explain(self, response: Response) -> tuple[str, Category | None]:
        errors = [object_of(one) for one in list_of(json_object_of(response.content).get("errors"))]
        words = "; ".join(": ".join(filter(None, (text_of(e.get("field")), text_of(e.get("message"))))) for e in errors)
        if not words:
            return response.text, None
        if "maximum credits exceeded" in words.lower():
            return words, "quota"
        # "The from address does not match a verified Sender Identity.", with 403: that of this message alone.
        return words, "invalid" if any(error.get("field") == "from" for error in errors) else None

    def retry_after(self, response: Response) -> float | None:
        given = super().retry_after(response)
        return until_reset(response) if given is None else given


# What a dynamic template has no use for, beside the bodies.
_WITH_DYNAMIC_TEMPLATE = dataclasses.replace(SendGrid.supports, beside_template=ALL_CONTENT - {"alternatives"})
# Keys of esp_extra that say how to make the personalizations.
_OF_PERSONALIZATIONS = frozenset({"personalizations", "merge_field_format", "use_dynamic_template"})


def _uses_dynamic_template(mail: OutgoingMail) -> bool:
    template_id = mail.esp_extra.get("template_id", mail.template_id)
    return bool(mail.esp_extra.get("use_dynamic_template", str(template_id).startswith("d-")))


def _content(mail: OutgoingMail) -> list[dict[str, Any]]:
    """The bodies, in the order that SendGrid wants."""
    bodies = [("text/plain", mail.text), ("text/x-amp-html", mail.amp), ("text/html", mail.html)]
    others = [(other.mimetype, other.content) for other in mail.alternatives]
    return [{"type": mimetype, "value": value} for mimetype, value in (*bodies, *others) if value]


def _attachment(attachment: Attachment) -> dict[str, Any]:
    # SendGrid drops or replaces the charset of an attachment's type.
    attachment = attachment.in_utf8
    wire = {
        "content": attachment.base64,
        "type": attachment.content_type,
        "filename": attachment.name_or_default,
    }
    if not attachment.inline:
        return wire
    return {**wire, "disposition": "inline", **without_empty({"content_id": attachment.content_id})}


def _switch(value: bool | None) -> dict[str, bool] | None:
    return None if value is None else {"enable": value}


def _substitution(value: Any, where: str) -> str:
    """A value as the text that is put in its place: nothing for None, which SendGrid refuses."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return json.dumps(value)
    what = repr(value) if isinstance(value, float) else f"of type {type(value).__name__}"
    raise AnymailSerializationError(f"{where} is {what}: without a dynamic template SendGrid puts in only text.")


def _warn_of_lost_metadata(mail: OutgoingMail) -> None:
    keys = {*mail.metadata, *(key for metadata in mail.merge_metadata.values() for key in metadata)}
    if lost := sorted(keys & EVENT_FIELDS):
        warnings.warn(
            f"The metadata {', '.join(lost)} will be missing in tracking events: SendGrid puts its own values there.",
            AnymailWarning,
            stacklevel=2,
        )


def _statuses(mail: OutgoingMail, message: Mapping[str, Any]) -> RecipientStatuses:
    """Everything is queued; an address in several personalizations has the message id of the last."""
    ids = {
        address["email"].lower(): {**message.get("custom_args", {}), **one.get("custom_args", {})}.get("anymail_id")
        for one in message["personalizations"]
        for address in (*one.get("to", ()), *one.get("cc", ()), *one.get("bcc", ()))
    }
    return {
        recipient.key: AnymailRecipientStatus(ids.get(recipient.addr_spec.lower()), "queued")
        for recipient in mail.recipients
    }
