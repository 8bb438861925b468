"""A message as MIME, for what Postal's ``send/message`` cannot express: https://apiv1.postalserver.io/controllers/send/raw

Unlike ``send/message``, ``send/raw`` adds neither Date nor Message-ID.
"""

from __future__ import annotations

from collections.abc import Callable
from email import message_from_bytes
from email.header import Header
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from typing import Any

from anymail.exceptions import AnymailSerializationError
from anymail.mail.attachments import Attachment
from anymail.mail.message import Alternative, MailHeaders, OutgoingMail, merge_headers

# Lines end in CRLF, which Postal looks for to find the end of the header; 7 bits pass every server.
_POLICY = SMTP.clone(cte_type="7bit")


def mime(mail: OutgoingMail, headers: MailHeaders[str]) -> bytes:
    """The complete message, without Bcc; ``headers`` take the place of what it would have of its own."""
    own = {
        "Date": formatdate(),
        "From": _ascii(mail.from_email),
        "To": _ascii(mail.to),
        "Cc": _ascii(mail.cc),
        "Reply-To": _ascii(mail.reply_to),
        "Subject": mail.subject or "",
        # Python's default for the domain would tell the host's name.
        "Message-ID": make_msgid(domain=mail.from_email[0].domain) if mail.from_email else "",
    }
    fields = merge_headers(MailHeaders(own), headers)
    head = "".join(f"{name}: {_encoded(name, value)}\r\n" for name, value in fields.items() if value)
    try:
        return head.encode("ascii") + _content(mail).as_bytes()
    except UnicodeEncodeError as error:
        raise AnymailSerializationError(f"The message holds text that cannot be encoded: {error.reason}.") from error


def _ascii(addresses: tuple[Any, ...]) -> str:
    return ", ".join(address.ascii_address for address in addresses)


def _encoded(name: str, value: str) -> str:
    """A header's value in ASCII, folded."""
    try:
        # What is too long for the first line is not put on a second by leaving the first one empty.
        return Header(value, None if value.isascii() else "utf-8", header_name=name).encode(linesep="\r\n").lstrip()
    except UnicodeError as error:
        raise AnymailSerializationError(f"The header {name} holds text that cannot be encoded.") from error


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
        shown = attachment.inline and isinstance(html, EmailMessage)
        _attach(html.add_related if shown else root.add_attachment, attachment)  # type: ignore[union-attr]
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


def _attach(add: Callable[..., None], attachment: Attachment) -> None:
    described = {
        "filename": attachment.name or None,
        "disposition": "inline" if attachment.inline else "attachment",
        "cid": f"<{attachment.content_id}>" if attachment.content_id else None,
    }
    if attachment.mimetype == "message/rfc822":
        # RFC 2046, 5.2.1: in no other encoding than its own.
        add(message_from_bytes(attachment.content), **described)
    else:
        maintype, subtype, parameters = _type(attachment.content_type)
        add(attachment.content, maintype, subtype, params=parameters, **described)


def _type(content_type: str) -> tuple[str, str, dict[str, str]]:
    parsed = EmailMessage(_POLICY)
    parsed["Content-Type"] = content_type
    return parsed.get_content_maintype(), parsed.get_content_subtype(), dict(parsed["Content-Type"].params)
