"""A message as MIME, for what an ESP's structured request cannot express. Pure ASCII: 7 bits pass every server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from email.header import Header
from email.message import EmailMessage, Message
from email.policy import SMTP

from anymail.exceptions import AnymailInvalidValue, AnymailSerializationError
from anymail.mail.addresses import EmailAddress, parse_addresses
from anymail.mail.attachments import Attachment
from anymail.mail.message import Alternative, OutgoingMail
from anymail.mail.text import refuse_controls

__all__ = ["ascii_list", "header_value", "mime"]

_POLICY = SMTP.clone(cte_type="7bit")
# Headers that hold addresses: only the names in them may be encoded.
_ADDRESSES = frozenset({
    "bcc", "cc", "disposition-notification-to", "errors-to", "from", "mail-followup-to", "mail-reply-to", "reply-to",
    "resent-bcc", "resent-cc", "resent-from", "resent-reply-to", "resent-sender", "resent-to", "return-receipt-to",
    "sender", "to",
})  # fmt: skip
# Headers that describe the body as it is written here.
_OF_THE_BODY = frozenset({"content-transfer-encoding", "content-type", "mime-version"})
# RFC 5322, 2.1.1.
_LONGEST_LINE = 998


def mime(mail: OutgoingMail, headers: Iterable[tuple[str, str]]) -> bytes:
    """The complete message: exactly these headers, and the body and attachments of ``mail``.

    Raises AnymailInvalidValue for a header that describes the body, which has its own.
    """
    headers = list(headers)
    for name, _ in headers:
        if name.lower() in _OF_THE_BODY:
            raise AnymailInvalidValue(
                f"extra_headers: {name} would stand twice, since the message's own is made from its body. Remove it."
            )
    head = "".join(f"{name}: {header_value(name, value, _POLICY.linesep)}{_POLICY.linesep}" for name, value in headers)
    try:
        return head.encode("ascii") + _content(mail).as_bytes()
    except UnicodeEncodeError as error:
        raise AnymailSerializationError(f"The message holds text that cannot be encoded: {error.reason}.") from error


def header_value(name: str, value: str, linesep: str = "") -> str:
    """A header's value in ASCII: folded, or in one line without ``linesep``."""
    if value.isascii() and not linesep:
        return value
    if name.lower() in _ADDRESSES and not value.isascii():
        value = ascii_list(parse_addresses(value, name))
    try:
        # What is too long for the first line is not put on a second by leaving the first one empty.
        charset = None if value.isascii() else "utf-8"
        return Header(value, charset, header_name=name).encode(linesep=linesep).lstrip()
    except UnicodeError as error:
        raise AnymailSerializationError(f"The header {name} holds text that cannot be encoded.") from error


def ascii_list(addresses: Iterable[EmailAddress]) -> str:
    """Addresses as one header value, in ASCII."""
    return ", ".join(address.ascii_address for address in addresses)


def _content(mail: OutgoingMail) -> EmailMessage:
    """mixed(alternative(text, AMP, related(HTML, inline…), others…), attachments…), as far as it is needed."""
    root = EmailMessage(_POLICY)
    for content, subtype in ((mail.text, "plain"), (mail.amp, "x-amp-html"), (mail.html, "html")):
        if content:
            (root.add_alternative if "Content-Type" in root else root.set_content)(content, subtype=subtype)
    if "Content-Type" not in root:
        root.set_content("")
    for alternative in mail.alternatives:
        _add_alternative(root, alternative)
    html = root.get_body(("html",)) if mail.html else None
    for attachment in mail.attachments:
        if attachment.inline and isinstance(html, EmailMessage):
            _attach(html, html.add_related, attachment)
        else:
            _attach(root, root.add_attachment, attachment)
    return root


def _add_alternative(root: EmailMessage, alternative: Alternative) -> None:
    content = alternative.content
    maintype, subtype, parameters = _type(alternative.mimetype)
    if maintype == "text" and isinstance(content, str):
        parameters.pop("charset", None)
        root.add_alternative(content, subtype=subtype, params=parameters)
    else:
        content = content.encode() if isinstance(content, str) else content
        root.add_alternative(content, maintype, subtype, params=parameters)


def _attach(to: EmailMessage, add: Callable[..., None], attachment: Attachment) -> None:
    if "=?" in attachment.content_id:
        raise AnymailInvalidValue(f"The Content-ID {attachment.content_id!r} would be read as an encoded-word.")
    message = _as_it_is(attachment.content) if attachment.mimetype == "message/rfc822" else None
    # RFC 2046, 5.2.1: a message is not to be encoded as a whole, which one that is not 7-bit would have to be.
    lost = attachment.mimetype == "message/rfc822" and message is None
    maintype, subtype, parameters = _type("application/octet-stream" if lost else attachment.content_type)
    add(
        attachment.content if message is None else b"",
        *(("application", "octet-stream") if message is not None else (maintype, subtype)),
        params=parameters,
        filename=_parameter(attachment.name_or_default if lost else attachment.name) or None,
        disposition="inline" if attachment.inline else "attachment",
        cid=f"<{attachment.content_id}>" if attachment.content_id else None,
    )
    if message is not None:
        part = to.get_payload()[-1]  # type: ignore[index]
        assert isinstance(part, Message)
        part.replace_header("Content-Type", "message/rfc822")
        part.replace_header("Content-Transfer-Encoding", "7bit")
        part.set_payload(message)


def _as_it_is(content: bytes) -> str | None:
    """A message as it was given, but for its line ends; None if not every server would pass it on."""
    lines = content.splitlines()
    if not content.isascii() or b"\0" in content or any(len(line) > _LONGEST_LINE for line in lines):
        return None
    return re.sub("\r\n|\r|\n", _POLICY.linesep, content.decode("ascii"))


Parameter = str | tuple[str, str, str]


def _type(content_type: str) -> tuple[str, str, dict[str, Parameter]]:
    parsed = EmailMessage(_POLICY)
    parsed["Content-Type"] = content_type
    given = parsed["Content-Type"].params
    for value in given.values():
        refuse_controls(value, "A parameter of a content type")
    parameters = {name: _parameter(value) for name, value in given.items()}
    return parsed.get_content_maintype(), parsed.get_content_subtype(), parameters


def _parameter(value: str) -> Parameter:
    """A header's parameter, so that Python decodes no encoded-word in it: that may hold line breaks."""
    return ("utf-8", "", value) if "=?" in value else value
