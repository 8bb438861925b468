"""A message as MIME, for what SES's structured content cannot express.

Pure ASCII, since SES corrupts 8-bit bodies when it rewrites them for tracking.
https://docs.aws.amazon.com/ses/latest/dg/send-email-raw.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from email import message_from_bytes
from email.encoders import encode_base64
from email.header import Header
from email.message import EmailMessage, Message
from email.policy import SMTP
from typing import Any

from anymail.exceptions import AnymailSerializationError
from anymail.mail.addresses import EmailAddress, parse_addresses
from anymail.mail.attachments import Attachment
from anymail.mail.message import OutgoingMail

_CRLF = "\r\n"
_POLICY = SMTP.clone(cte_type="7bit")
_ADDRESSES = frozenset({"cc", "sender", "to"})


def mime(mail: OutgoingMail, to: Sequence[EmailAddress], headers: Iterable[tuple[str, str]]) -> bytes:
    """The complete message, as ``to`` get it; ``headers`` stand in for what the message itself would have.

    Without Bcc, Date and Message-ID: SES sets the last two.
    """
    own = {
        "From": ascii_list(mail.from_email),
        "To": mail.to_header or ascii_list(to),
        "Cc": ascii_list(mail.cc),
        "Reply-To": ascii_list(mail.reply_to),
        "Subject": mail.subject or "",
    }
    given = list(headers)
    names = {name.lower() for name, _ in given}
    fields = [(name, value) for name, value in own.items() if value and name.lower() not in names] + given
    head = "".join(f"{name}: {header_value(name, value, _CRLF)}{_CRLF}" for name, value in fields)
    try:
        return head.encode("ascii") + _body(mail).as_bytes()
    except UnicodeEncodeError as error:
        raise AnymailSerializationError(f"The message holds text that cannot be encoded: {error.reason}.") from error


def header_value(name: str, value: str, linesep: str = "") -> str:
    """A header's value in ASCII: folded, or in one line without ``linesep``."""
    if value.isascii():
        folded = Header(value, header_name=name).encode(linesep=linesep) if linesep else value
        # A first word that is too long for the first line makes no room for itself on the second.
        return folded.lstrip() if linesep and folded.startswith(linesep) else folded
    if name.lower() in _ADDRESSES:
        return header_value(name, ascii_list(parse_addresses(value, name)), linesep)
    return Header(value, "utf-8", header_name=name).encode(linesep=linesep)


def ascii_list(addresses: Iterable[EmailAddress]) -> str:
    """Addresses as one header value, in ASCII."""
    return ", ".join(address.ascii_address for address in addresses)


def _body(mail: OutgoingMail) -> EmailMessage:
    """mixed(alternative(text, AMP, related(HTML, inline…), others…), attachments…), as far as it is needed."""
    root = EmailMessage(_POLICY)
    if mail.text or not (mail.html or mail.amp):
        root.set_content(mail.text)
    for content, subtype in ((mail.amp, "x-amp-html"), (mail.html, "html")):
        if content:
            add = root.add_alternative if root.get("Content-Type") else root.set_content
            add(content, subtype=subtype)
    for other in mail.alternatives:
        maintype, subtype, params = _type(other.mimetype)
        if isinstance(other.content, str):
            root.add_alternative(other.content, subtype=subtype, params={**params, "charset": "utf-8"})
        else:
            root.add_alternative(other.content, maintype, subtype, params=params)
    html = root.get_body(("html",)) if mail.html else None
    for attachment in mail.attachments:
        if attachment.inline and isinstance(html, EmailMessage):
            _attach(html.add_related, attachment)
        else:
            _attach(root.add_attachment, attachment)
    return root


def _attach(add: Any, attachment: Attachment) -> None:
    described = {
        "filename": attachment.name or None,
        "disposition": "inline" if attachment.inline else "attachment",
        "cid": f"<{attachment.content_id}>" if attachment.content_id else None,
    }
    if attachment.mimetype == "message/rfc822":
        # RFC 2046, 5.2.1: not to be encoded as a whole.
        add(_ascii_parts(message_from_bytes(attachment.content)), cte="7bit", **described)
        return
    maintype, subtype, params = _type(attachment.content_type)
    add(attachment.content, maintype, subtype, params=params, **described)


def _ascii_parts(message: Message) -> Message:
    """The message itself, its 8-bit parts now in base64."""
    for part in message.walk():
        content = part.get_payload(decode=True)
        encoding = part.get("Content-Transfer-Encoding", "8bit").lower()
        if isinstance(content, bytes) and not content.isascii() and encoding in ("8bit", "binary"):
            del part["Content-Transfer-Encoding"]
            part.set_payload(content)
            encode_base64(part)
    return message


def _type(content_type: str) -> tuple[str, str, dict[str, str]]:
    parsed = EmailMessage(_POLICY)
    parsed["Content-Type"] = content_type
    return parsed.get_content_maintype(), parsed.get_content_subtype(), dict(parsed["Content-Type"].params)
