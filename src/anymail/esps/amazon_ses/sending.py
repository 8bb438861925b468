"""Sending through Amazon SES.

https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html and API_SendBulkEmail.html
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from anymail.conf import SendOptions, option
from anymail.esps.amazon_ses.signing import AWS, AWSAnswers, AWSOptions
from anymail.esps.kit.batches import merge_statuses, not_taken
from anymail.esps.kit.sending import ESP, without_empty
from anymail.exceptions import AnymailAPIError, Category
from anymail.mail.addresses import EmailAddress
from anymail.mail.attachments import Attachment
from anymail.mail.message import MailHeaders, OutgoingMail, deep_merge
from anymail.mail.mime import ascii_list, header_value, mime
from anymail.mail.status import RecipientStatuses, all_recipients
from anymail.mail.supports import MANY, Supports, Unsupported
from anymail.wire import Base64, Flow, Request, Response, json_text


@dataclasses.dataclass(frozen=True, kw_only=True)
class AmazonSESOptions(AWSOptions, SendOptions):
    configuration_set_name: str | None = option("`ConfigurationSetName` of every message.", default=None)
    message_tag_name: str | None = option(
        "The SES message tag, by its name, that holds a message's (only) tag as well.", default=None
    )


class _Letter(NamedTuple):
    """What some recipients get: their own merge data, as JSON, and the headers."""

    to: tuple[EmailAddress, ...]
    merge_data: str
    headers: list[tuple[str, str]]


class _Call(NamedTuple):
    """One request, and the letters whose results its answer holds, in order."""

    path: str
    payload: dict[str, Any]
    letters: Sequence[_Letter]


_SEND, _SEND_BULK = "/v2/email/outbound-emails", "/v2/email/outbound-bulk-emails"
# https://docs.aws.amazon.com/ses/latest/dg/quotas.html: destinations in one call, a copy to cc or bcc being one.
_DESTINATIONS = 50
_SWITCH = {None: None, True: "ENABLED", False: "DISABLED"}
# Headers of a message that Content.Simple has fields for, or that SES makes from them.
_COMPOSED = frozenset(
    {"bcc", "cc", "content-disposition", "content-transfer-encoding", "content-type", "date", "from", "message-id",
     "mime-version", "reply-to", "return-path", "sender", "subject", "to"}
)  # fmt: skip
# What the next call would meet too. (A rate limit has had its time by then.)
_IN_VAIN = frozenset({"auth", "network", "quota", "rate_limit"})

# API_BulkEmailEntryResult.html. TRANSIENT_FAILURE and ACCOUNT_THROTTLED say that the entry was not sent.
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
    )

    @cached_property
    def aws(self) -> AWS:
        return AWS(self.options)

    def check(self, mail: OutgoingMail) -> Iterator[Unsupported]:
        if mail.template_id:
            for name in ("subject", "text", "html"):
                if getattr(mail, name):
                    yield Unsupported(f"{name} with template_id", {name: ""})
        if _merges(mail):
            why = "template_id" if mail.template_id else "merge data"
            empty = {"amp": None, "alternatives": (), "to_header": None}
            words = {"amp": "an AMP body", "to_header": "a To header in extra_headers"}
            for name, nothing in empty.items():
                if getattr(mail, name):
                    yield Unsupported(f"{words.get(name, name)} with {why}", {name: nothing})
        if len(mail.tags) > 1 and self.options.message_tag_name:
            what = "multiple tags with the AMAZON_SES_MESSAGE_TAG_NAME setting"
            yield Unsupported(what, {"tags": mail.tags[:1]})

    def deliver(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        """One call, or several: one for each recipient of a batch without merge data, else for every 50 destinations.

        What one of several fails on is the status of its recipients: "failed", or "unknown" where SES may have taken
        the message. It is raised only if all fail. The failed entries of a bulk call are not sent again.
        """
        statuses = all_recipients(mail.recipients, "failed")
        errors: list[AnymailAPIError] = []
        accepted = False
        for call in self._calls(mail):
            try:
                response = yield self._request(call)
                for letter, one in zip(call.letters, self._message_ids(response, call), strict=True):
                    addresses = (*letter.to, *mail.cc, *mail.bcc)
                    merge_statuses(statuses, all_recipients(addresses, "queued" if one else "failed", one))
                accepted = True
            except AnymailAPIError as error:
                errors.append(error)
                to = (address for letter in call.letters for address in letter.to)
                merge_statuses(statuses, not_taken((*to, *mail.cc, *mail.bcc), error))
                if error.category in _IN_VAIN:
                    break
        if not accepted:
            raise max(errors, key=lambda error: error.sent is not False)
        return statuses

    def _calls(self, mail: OutgoingMail) -> Iterator[_Call]:
        letters = _letters(mail)
        if not _merges(mail):
            for letter in letters:
                yield _Call(_SEND, self.email(mail, letter), [letter])
            return
        size = max(1, _DESTINATIONS // (1 + len(mail.cc) + len(mail.bcc)))
        for start in range(0, len(letters), size):
            part = letters[start : start + size]
            yield _Call(_SEND_BULK, self.bulk_email(mail, part), part)

    def email(self, mail: OutgoingMail, letter: _Letter) -> dict[str, Any]:
        """The body of SendEmail."""
        simple = _is_simple(mail, letter.headers)
        # With Raw, the addresses of the MIME message are shown, and these would replace them.
        written = _formatted if simple else _bare
        return deep_merge(
            without_empty(
                {
                    "FromEmailAddress": mail.from_email[0].ascii_address if simple else None,
                    "Destination": _destination(written(letter.to), written(mail.cc), mail.bcc),
                    "ReplyToAddresses": _formatted(mail.reply_to) if simple else None,
                    "FeedbackForwardingEmailAddress": mail.envelope_sender and mail.envelope_sender.addr_spec,
                    "Content": {"Simple": _simple(mail, letter.headers)}
                    if simple
                    else {"Raw": {"Data": Base64(mime(mail, _raw_headers(mail, letter)))}},
                    "EmailTags": self._tags(mail),
                    "ConfigurationSetName": self.options.configuration_set_name,
                    "ConfigurationOverrides": _overrides(mail),
                }
            ),
            mail.esp_extra,
        )

    def bulk_email(self, mail: OutgoingMail, letters: Sequence[_Letter]) -> dict[str, Any]:
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
                        "Destination": _destination(_formatted(letter.to), _formatted(mail.cc), mail.bcc),
                        "ReplacementEmailContent": {
                            "ReplacementTemplate": {"ReplacementTemplateData": letter.merge_data}
                        },
                        "ReplacementHeaders": _header_list(letter.headers),
                    }
                )
                for letter in letters
            ],
        }

    def _tags(self, mail: OutgoingMail) -> list[dict[str, str]]:
        name = self.options.message_tag_name
        return [{"Name": name, "Value": mail.tags[0]}] if name and mail.tags else []

    def _request(self, call: _Call) -> Request:
        endpoint_id = call.payload.get("EndpointId")
        endpoint = self.aws.multi_region_endpoint(endpoint_id) if endpoint_id else self.aws.endpoint("sesv2")
        request = Request.post(f"{endpoint.url}{call.path}", headers={}, json=call.payload)
        return self.aws.sign(request, "ses", endpoint.region)

    def _message_ids(self, response: Response, call: _Call) -> list[str | None]:
        """The message id of each letter of a call; None for one that failed. Raises the error if all did, alike."""
        answer = self.read_json(response)
        answer = answer if isinstance(answer, dict) else {}
        results: Any = [{**answer, "Status": "SUCCESS"}] if call.path == _SEND else answer.get("BulkEmailEntryResults")
        if not isinstance(results, list) or len(results) != len(call.letters):
            raise self.unreadable(response, f"without a result for each of {len(call.letters)} entries")
        ids: list[str | None] = []
        for result in results:
            result = result if isinstance(result, dict) else {}
            status, message_id = result.get("Status"), result.get("MessageId")
            if not isinstance(status, str) or (status == "SUCCESS" and not isinstance(message_id, str)):
                raise self.unreadable(response, "without a MessageId")
            ids.append(message_id if status == "SUCCESS" else None)
        if not any(ids) and len({result["Status"] for result in results}) == 1:
            raise self._entry_error(results[0], response)
        return ids

    def _entry_error(self, result: dict[str, Any], response: Response) -> AnymailAPIError:
        status = result["Status"]
        category = _ENTRY_CATEGORIES.get(status, "invalid")
        return AnymailAPIError(
            f"Amazon SES refused every entry of the bulk call: {status}: {result.get('Error') or '(no explanation)'}.",
            category=category,
            retryable=category in ("rate_limit", "server"),
            response=response,
        )


def _merges(mail: OutgoingMail) -> bool:
    """Whether SES is to fill in a template: a stored one, or the message's own text."""
    return bool(mail.template_id or mail.merge_global_data or any(mail.merge_data.values()))


def _letters(mail: OutgoingMail) -> list[_Letter]:
    """One for each ``to`` of a batch or of a stored template, else one for all.

    Made before the first call, so that a value that cannot be sent is found before anything is.
    """
    if not mail.to or not (mail.batch or mail.template_id):
        return [_Letter(mail.to, "{}", _headers(mail.headers, mail.metadata, mail.tags))]
    return [
        _Letter(
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


def _raw_headers(mail: OutgoingMail, letter: _Letter) -> list[tuple[str, str]]:
    """All headers of a message in Raw: without Bcc, Date and Message-ID, the last two of which SES sets.

    https://docs.aws.amazon.com/ses/latest/dg/send-email-raw.html
    """
    own = {
        "From": ascii_list(mail.from_email),
        "To": mail.to_header or ascii_list(letter.to),
        "Cc": ascii_list(mail.cc),
        "Reply-To": ascii_list(mail.reply_to),
        "Subject": mail.subject or "",
    }
    names = {name.lower() for name, _ in letter.headers}
    return [item for item in own.items() if item[1] and item[0].lower() not in names] + letter.headers


def _is_simple(mail: OutgoingMail, headers: Sequence[tuple[str, str]]) -> bool:
    """Whether Content.Simple, which spares building MIME, can say all that MIME would.

    Within the limits of API_MessageHeader.html and API_Attachment.html. Several headers of one name, and names of
    files that are not ASCII, are not documented for it.
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
        "FileName": attachment.name or "attachment",
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
