"""A message as MIME, for what an ESP's structured request cannot express. Pure ASCII: 7 bits pass every server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from email import message_from_bytes
from email.encoders import encode_base64
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
_ADDRESSES = frozenset({"cc", "sender", "to"})


def mime(mail: OutgoingMail, headers: Iterable[tuple[str, str]]) -> bytes:
    """The complete message: exactly these headers, and the body and attachments of ``mail``."""
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
    if "=?" in attachment.content_id:
        raise AnymailInvalidValue(f"The Content-ID {attachment.content_id!r} would be read as an encoded-word.")
    described = {
        "filename": _parameter(attachment.name) or None,
        "disposition": "inline" if attachment.inline else "attachment",
        "cid": f"<{attachment.content_id}>" if attachment.content_id else None,
    }
    if attachment.mimetype == "message/rfc822":
        # RFC 2046, 5.2.1: not to be encoded as a whole.
        add(_ascii_parts(message_from_bytes(attachment.content)), cte="7bit", **described)
    else:
        maintype, subtype, parameters = _type(attachment.content_type)
        add(attachment.content, maintype, subtype, params=parameters, **described)


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
