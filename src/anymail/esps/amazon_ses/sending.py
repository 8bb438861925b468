"""Sending through Amazon SES.

https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html and
https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendBulkEmail.html
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from anymail.conf import SendOptions, option
from anymail.esps.amazon_ses.signing import AWS, AWSAnswers, AWSOptions
from anymail.esps.kit.batches import BatchLimit, Part, conclude, merge_statuses, not_taken, send_parts, split
from anymail.esps.kit.sending import ESP, without_empty
from anymail.esps.kit.values import list_of, object_of
from anymail.exceptions import AnymailAPIError, Category
from anymail.mail.addresses import EmailAddress
from anymail.mail.attachments import Attachment
from anymail.mail.message import MailHeaders, OutgoingMail, deep_merge
from anymail.mail.mime import ascii_list, header_value, mime
from anymail.mail.status import RecipientStatuses, all_recipients
from anymail.mail.supports import ALL_CONTENT, MANY, Supports, Unsupported
from anymail.wire import Base64, Flow, Request, Response, json_text


@dataclasses.dataclass(frozen=True, kw_only=True)
class AmazonSESOptions(AWSOptions, SendOptions):
    configuration_set_name: str | None = option("`ConfigurationSetName` of every message.", default=None)
    message_tag_name: str | None = option(
        "The SES message tag, by its name, that holds a message's (only) tag as well.", default=None
    )


class _Version(NamedTuple):
    """What some recipients get: their own merge data, as JSON, and the headers."""

    to: tuple[EmailAddress, ...]
    merge_data: str
    headers: list[tuple[str, str]]


_SEND, _SEND_BULK = "/v2/email/outbound-emails", "/v2/email/outbound-bulk-emails"
# SendEmail has one message in a call.
_ONE_MESSAGE = BatchLimit(messages=1)
_SWITCH = {None: None, True: "ENABLED", False: "DISABLED"}
# Headers of a message that Content.Simple has fields for, or that SES makes from them.
_COMPOSED = frozenset(
    {"bcc", "cc", "content-disposition", "content-transfer-encoding", "content-type", "date", "from", "message-id",
     "mime-version", "reply-to", "return-path", "sender", "subject", "to"}
)  # fmt: skip

# https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_BulkEmailEntryResult.html. TRANSIENT_FAILURE and
# ACCOUNT_THROTTLED say that the entry was not sent.
_ENTRY_CATEGORIES: dict[str, Category] = {
    "ACCOUNT_DAILY_QUOTA_EXCEEDED": "quota",
    "ACCOUNT_SENDING_PAUSED": "auth",
    "ACCOUNT_SUSPENDED": "auth",
    "ACCOUNT_THROTTLED": "rate_limit",
    "TRANSIENT_FAILURE": "server",
}


class AmazonSES(AWSAnswers, ESP[AmazonSESOptions]):
    """``aws`` is all that is not pure here: it knows the credentials and the time."""

    slug = "amazon_ses"
    Options = AmazonSESOptions
    supports = Supports(
        to_header=True,
        amp=True,
        alternatives=True,
        envelope_sender=True,
        metadata=True,
        tags=MANY,
        track_opens=True,
        track_clicks=True,
        template_id=True,
        merge_data=True,
        merge_global_data=True,
        merge_metadata=True,
        merge_headers=True,
        # A stored template has its own subject and bodies, and nothing can replace them.
        beside_template=ALL_CONTENT - {"subject", "text", "html", "amp", "alternatives", "to_header"},
    )
    # Of SendBulkEmail: https://docs.aws.amazon.com/ses/latest/dg/quotas.html, where a copy to cc or bcc is one of the
    # destinations.
    batch_limit = BatchLimit(messages=50, recipients=50)

    @cached_property
    def aws(self) -> AWS:
        return AWS(self.options)

    def check(self, mail: OutgoingMail) -> Iterator[Unsupported]:
        if _merges(mail) and not mail.template_id:
            nothing: dict[str, Any] = {"amp": None, "alternatives": (), "to_header": None}
            words = {"amp": "an AMP body", "to_header": "a To header in extra_headers"}
            for name, empty in nothing.items():
                if getattr(mail, name):
                    yield Unsupported(f"{words.get(name, name)} with merge data", {name: empty})
        if len(mail.tags) > 1 and self.options.message_tag_name:
            what = "multiple tags with the AMAZON_SES_MESSAGE_TAG_NAME setting"
            yield Unsupported(what, {"tags": mail.tags[:1]})

    def deliver(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        """One call, or several: one for each recipient of a batch without merge data, else for every 50 destinations.

        The failed entries of a bulk call are not sent again.
        """
        merges = _merges(mail)
        # With a stored template each recipient gets a message of their own.
        mail = dataclasses.replace(mail, batch=mail.batch or bool(mail.template_id))
        # Made before the first call, so that a value that cannot be sent is found before anything is.
        parts = [(part, _versions(part)) for part in split(mail, self.batch_limit if merges else _ONE_MESSAGE)]
        send = self._deliver_bulk if merges else self._deliver_email
        return (yield from send_parts(Part(part.recipients, send(part, versions)) for part, versions in parts))

    def _deliver_email(self, mail: OutgoingMail, versions: Sequence[_Version]) -> Flow[RecipientStatuses]:
        [version] = versions
        response = yield self._request(_SEND, self.email(mail, version))
        message_id = object_of(self.read_json(response)).get("MessageId")
        if not isinstance(message_id, str):
            raise self.unreadable(response, "without a MessageId")
        return all_recipients(mail.recipients, "queued", message_id)

    def _deliver_bulk(self, mail: OutgoingMail, versions: Sequence[_Version]) -> Flow[RecipientStatuses]:
        response = yield self._request(_SEND_BULK, self.bulk_email(mail, versions))
        results = list_of(object_of(self.read_json(response)).get("BulkEmailEntryResults"))
        if len(results) != len(versions):
            raise self.unreadable(response, f"without a result for each of {len(versions)} entries")
        statuses: RecipientStatuses = {}
        for version, result in zip(versions, map(object_of, results), strict=True):
            merge_statuses(statuses, self._entry(result, (*version.to, *mail.cc, *mail.bcc), response))
        return conclude(statuses)

    def email(self, mail: OutgoingMail, version: _Version) -> dict[str, Any]:
        """The body of SendEmail."""
        simple = _is_simple(mail, version.headers)
        # With Raw, the addresses of the MIME message are shown, and these would replace them.
        written = _formatted if simple else _bare
        return deep_merge(
            without_empty(
                {
                    "FromEmailAddress": mail.from_email[0].ascii_address if simple else None,
                    "Destination": _destination(written(version.to), written(mail.cc), mail.bcc),
                    "ReplyToAddresses": _formatted(mail.reply_to) if simple else None,
                    "FeedbackForwardingEmailAddress": mail.envelope_sender and mail.envelope_sender.addr_spec,
                    "Content": {"Simple": _simple(mail, version.headers)}
                    if simple
                    else {"Raw": {"Data": Base64(mime(mail, _raw_headers(mail, version)))}},
                    "EmailTags": self._tags(mail),
                    "ConfigurationSetName": self.options.configuration_set_name,
                    "ConfigurationOverrides": _overrides(mail),
                }
            ),
            mail.esp_extra,
        )

    def bulk_email(self, mail: OutgoingMail, versions: Sequence[_Version]) -> dict[str, Any]:
        """The body of SendBulkEmail."""
        common = without_empty(
            {
                "FromEmailAddress": ", ".join(_formatted(mail.from_email)),
                "ReplyToAddresses": _formatted(mail.reply_to),
                "FeedbackForwardingEmailAddress": mail.envelope_sender and mail.envelope_sender.addr_spec,
                "DefaultEmailTags": self._tags(mail),
                "DefaultContent": {"Template": _template(mail)},
                "ConfigurationSetName": self.options.configuration_set_name,
                "ConfigurationOverrides": _overrides(mail),
            }
        )
        return {
            **deep_merge(common, mail.esp_extra),
            "BulkEmailEntries": [
                without_empty(
                    {
                        "Destination": _destination(_formatted(version.to), _formatted(mail.cc), mail.bcc),
                        "ReplacementEmailContent": {
                            "ReplacementTemplate": {"ReplacementTemplateData": version.merge_data}
                        },
                        "ReplacementHeaders": _header_list(version.headers),
                    }
                )
                for version in versions
            ],
        }

    def _tags(self, mail: OutgoingMail) -> list[dict[str, str]]:
        name = self.options.message_tag_name
        return [{"Name": name, "Value": mail.tags[0]}] if name and mail.tags else []

    def _request(self, path: str, payload: dict[str, Any]) -> Request:
        endpoint_id = payload.get("EndpointId")
        endpoint = self.aws.multi_region_endpoint(endpoint_id) if endpoint_id else self.aws.endpoint("sesv2")
        request = Request.post(f"{endpoint.url}{path}", headers={}, json=payload)
        return self.aws.sign(request, "ses", endpoint.region)

    def _entry(
        self, result: dict[str, Any], addresses: Sequence[EmailAddress], response: Response
    ) -> RecipientStatuses:
        """The statuses of those whom an entry of a bulk call is for."""
        status, message_id = result.get("Status"), result.get("MessageId")
        if not isinstance(status, str) or (status == "SUCCESS" and not isinstance(message_id, str)):
            return not_taken(addresses, self.unreadable(response, "without a MessageId"))
        if status == "SUCCESS":
            return all_recipients(addresses, "queued", message_id)
        category = _ENTRY_CATEGORIES.get(status, "invalid")
        error = AnymailAPIError(
            f"Amazon SES refused this entry of a bulk call: {status}: {result.get('Error') or '(no explanation)'}.",
            category=category,
            sent=False,
            retryable=category in ("rate_limit", "server"),
            response=response,
        )
        return not_taken(addresses, error)


def _merges(mail: OutgoingMail) -> bool:
    """Whether SES is to fill in a template: a stored one, or the message's own text."""
    return bool(mail.template_id or mail.merge_global_data or any(mail.merge_data.values()))


def _versions(mail: OutgoingMail) -> list[_Version]:
    """One for each ``to`` of a batch, else one for all."""
    if not mail.to or not mail.batch:
        return [_Version(mail.to, "{}", _headers(mail.headers, mail.metadata, mail.tags))]
    return [
        _Version(
            (personal.to,),
            json_text(mail.merge_data.get(personal.to.addr_spec, {}), f"merge_data[{personal.to.key!r}]"),
            _headers(personal.headers, personal.metadata, mail.tags),
        )
        for personal in mail.personal()
    ]


def _headers(headers: MailHeaders[str], metadata: dict[str, Any], tags: Sequence[str]) -> list[tuple[str, str]]:
    """The extra headers, and those in which SES's events bring back metadata and tags."""
    return [
        *headers.items(),
        *([("X-Metadata", json_text(metadata, "metadata"))] if metadata else []),
        *(("X-Tag", tag) for tag in tags),
    ]


def _raw_headers(mail: OutgoingMail, version: _Version) -> list[tuple[str, str]]:
    """All headers of a message in Raw: without Bcc, Date and Message-ID, the last two of which SES sets.

    https://docs.aws.amazon.com/ses/latest/dg/send-email-raw.html
    """
    own = {
        "From": ascii_list(mail.from_email),
        "To": mail.to_header or ascii_list(version.to),
        "Cc": ascii_list(mail.cc),
        "Reply-To": ascii_list(mail.reply_to),
        "Subject": mail.subject or "",
    }
    names = {name.lower() for name, _ in version.headers}
    return [item for item in own.items() if item[1] and item[0].lower() not in names] + version.headers


def _is_simple(mail: OutgoingMail, headers: Sequence[tuple[str, str]]) -> bool:
    """Whether Content.Simple, which spares building MIME, can say all that MIME would.

    Within the limits of https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_MessageHeader.html and
    https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_Attachment.html. Several headers of one name, and names
    of files that are not ASCII, are not documented for it.
    """
    names = {name.lower() for name, _ in headers}
    return bool(
        mail.from_email
        and mail.subject
        and (mail.text or mail.html)
        and not (mail.to_header or mail.amp or mail.alternatives)
        and len(headers) == len(names) <= 15
        and not names & _COMPOSED
        and not any(name.startswith("x-ses-") for name in names)
        and all(_printable(value, 995) and len(name) <= 126 and len(name + value) <= 996 for name, value in headers)
        and all(
            attachment.content
            and _printable(attachment.name, 255)
            and _printable(attachment.content_type, 78)
            and len(attachment.content_id) <= 78
            and not attachment.mimetype.startswith(("message/", "multipart/"))
            for attachment in mail.attachments
        )
    )


def _printable(text: str, most: int) -> bool:
    return 0 < len(text) <= most and text.isascii() and text.isprintable()


def _simple(mail: OutgoingMail, headers: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Content.Simple."""
    body = {"Text": mail.text, "Html": mail.html}
    return without_empty(
        {
            "Subject": {"Data": mail.subject, "Charset": "UTF-8"},
            "Body": {name: {"Data": content, "Charset": "UTF-8"} for name, content in body.items() if content},
            "Headers": _header_list(headers),
            "Attachments": [_attachment(attachment) for attachment in mail.attachments],
        }
    )


def _template(mail: OutgoingMail) -> dict[str, Any]:
    """DefaultContent.Template: a stored template by its name or ARN, or the message as one."""
    stored = "TemplateArn" if (mail.template_id or "").startswith("arn:") else "TemplateName"
    inline = {"Subject": mail.subject, "Text": mail.text, "Html": mail.html}
    return without_empty(
        {
            stored: mail.template_id,
            "TemplateContent": None if mail.template_id else without_empty(inline),
            "TemplateData": json_text(mail.merge_global_data, "merge_global_data") if mail.merge_global_data else None,
            "Attachments": [_attachment(attachment) for attachment in mail.attachments],
        }
    )


def _attachment(attachment: Attachment) -> dict[str, Any]:
    wire = {
        "RawContent": attachment.base64,
        "ContentDisposition": "INLINE" if attachment.inline else "ATTACHMENT",
        "FileName": attachment.name_or_default,
        "ContentTransferEncoding": "BASE64",
        "ContentType": attachment.content_type,
    }
    return {**wire, "ContentId": attachment.content_id} if attachment.content_id else wire


def _destination(to: list[str], cc: list[str], bcc: Sequence[EmailAddress]) -> dict[str, Any]:
    return without_empty({"ToAddresses": to, "CcAddresses": cc, "BccAddresses": _bare(bcc)})


def _formatted(addresses: Sequence[EmailAddress]) -> list[str]:
    return [address.ascii_address for address in addresses]


def _bare(addresses: Sequence[EmailAddress]) -> list[str]:
    return [address.addr_spec for address in addresses]


def _header_list(headers: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"Name": name, "Value": header_value(name, value)} for name, value in headers]


def _overrides(mail: OutgoingMail) -> dict[str, Any]:
    opens, clicks = _SWITCH[mail.track_opens], _SWITCH[mail.track_clicks]
    tracking = without_empty({"OpenTrackingEnabled": opens, "ClickTrackingEnabled": clicks})
    return {"Tracking": tracking} if tracking else {}
