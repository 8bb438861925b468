"""What an ESP's API can express, as data, and the one check that compares a message with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from anymail.mail.message import OutgoingMail

#: No limit of the API's.
MANY = 1_000_000

WithTemplate = bool | Literal["template"]


class Unsupported(NamedTuple):
    """Something that a message asks for and the ESP cannot express.

    ``without`` holds the fields of a message without it, each whole, since the last word on a field counts; None
    where nothing would be left to send.
    """

    what: str
    without: dict[str, Any] | None


def _feature(doc: str, default: Any) -> Any:
    return field(default=default, metadata={"doc": doc})


@dataclass(frozen=True, slots=True, kw_only=True)
class Supports:
    """What an ESP can express.

    True or False; a number where only so many fit; "template" where it works only with ``template_id``.
    What depends on other circumstances is checked by the ESP's ``check``.
    """

    from_emails: int = _feature("From addresses", 1)
    cc: bool = _feature("cc", True)
    bcc: bool = _feature("bcc", True)
    reply_to: int = _feature("Reply-To addresses", MANY)
    non_ascii_usernames: bool = _feature("addresses with a non-ASCII local part (EAI)", False)
    headers: bool = _feature("extra headers", True)
    to_header: bool = _feature("a To header that differs from the recipients", False)
    amp: bool = _feature("AMP body", False)
    alternatives: bool = _feature("other alternatives", False)
    attachments: bool = _feature("attachments", True)
    inline: bool = _feature("inline images", True)
    envelope_sender: bool | Literal["domain"] = _feature("envelope_sender", False)
    metadata: bool = _feature("metadata", False)
    tags: int = _feature("tags", 0)
    track_opens: bool = _feature("track_opens", False)
    track_clicks: bool = _feature("track_clicks", False)
    send_at: bool = _feature("send_at", False)
    template_id: bool = _feature("template_id", False)
    merge_data: WithTemplate = _feature("merge_data", False)
    merge_global_data: WithTemplate = _feature("merge_global_data", False)
    merge_metadata: WithTemplate = _feature("merge_metadata", False)
    merge_headers: WithTemplate = _feature("merge_headers", False)


# Attributes that an ESP either has or has not: the field's empty value.
_SWITCHES: dict[str, Any] = {
    "cc": (),
    "bcc": (),
    "to_header": None,
    "alternatives": (),
    "metadata": {},
    "send_at": None,
    "template_id": None,
}

# The same, but what counts as asked for is anything but None.
_TRISTATE = ("track_opens", "track_clicks")

_MERGE = ("merge_data", "merge_global_data", "merge_metadata", "merge_headers")

# How many of a thing an ESP takes.
_COUNTED = {"from_emails": ("from_email", "from_email addresses"), "reply_to": ("reply_to", "reply_to addresses")}


def check(mail: OutgoingMail, supports: Supports) -> Iterator[Unsupported]:
    """Everything that ``mail`` asks for and ``supports`` lacks."""
    for name, empty in _SWITCHES.items():
        if getattr(mail, name) and not getattr(supports, name):
            yield Unsupported("a To header in extra_headers" if name == "to_header" else name, {name: empty})
    for name in _TRISTATE:
        if getattr(mail, name) is not None and not getattr(supports, name):
            yield Unsupported(name, {name: None})
    for name, (attribute, words) in _COUNTED.items():
        values, limit = getattr(mail, attribute), getattr(supports, name)
        if len(values) > limit:
            what = f"multiple {words}" if limit else attribute
            yield Unsupported(what, {attribute: values[:limit]})
    if len(mail.tags) > supports.tags:
        what = "tags" if not supports.tags else "multiple tags" if supports.tags == 1 else f"over {supports.tags} tags"
        yield Unsupported(what, {"tags": mail.tags[: supports.tags]})
    if mail.headers and not supports.headers:
        yield Unsupported("extra headers", {"headers": type(mail.headers)({})})
    if mail.amp and not supports.amp:
        yield Unsupported("an AMP body", {"amp": None})
    if mail.envelope_sender and not supports.envelope_sender:
        yield Unsupported("envelope_sender", {"envelope_sender": None})
    yield from _check_attachments(mail, supports)
    yield from _check_merge(mail, supports)
    if not supports.non_ascii_usernames:
        yield from _check_usernames(mail)


def _check_attachments(mail: OutgoingMail, supports: Supports) -> Iterator[Unsupported]:
    if not mail.attachments:
        return
    if not supports.attachments:
        yield Unsupported("attachments", {"attachments": ()})
    elif not supports.inline and any(attachment.inline for attachment in mail.attachments):
        ordinary = tuple(replace(attachment, inline=False) for attachment in mail.attachments)
        yield Unsupported("inline attachments", {"attachments": ordinary})


def _check_merge(mail: OutgoingMail, supports: Supports) -> Iterator[Unsupported]:
    for name in _MERGE:
        support = getattr(supports, name)
        # An empty one asks for separate messages, not for merging.
        if support is True or not _holds_values(getattr(mail, name)):
            continue
        if not support:
            yield Unsupported(name, {name: {}})
        elif not mail.template_id:
            yield Unsupported(f"{name} without template_id", {name: {}})


def _holds_values(merge: dict[str, Any]) -> bool:
    return any(value != {} for value in merge.values())


def _check_usernames(mail: OutgoingMail) -> Iterator[Unsupported]:
    if all(one.addr_spec.isascii() for one in (*mail.from_email, *mail.to, *mail.cc, *mail.bcc, *mail.reply_to)):
        return
    for name in ("from_email", "to", "cc", "bcc", "reply_to"):
        addresses = getattr(mail, name)
        plain = tuple(a for a in addresses if a.addr_spec.isascii() or a.username.isascii())
        if len(plain) < len(addresses):
            yield Unsupported(f"a non-ASCII local part (EAI) in {name}", {name: plain})
