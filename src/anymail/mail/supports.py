"""What an ESP's API can express, as data, and the one check that compares a message with it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from anymail.exceptions import AnymailSerializationError

if TYPE_CHECKING:
    from anymail.mail.message import OutgoingMail

#: No limit of the API's.
MANY = 1_000_000

WithTemplate = bool | Literal["template"]

# The content of a message: field, its words beside "template_id", its empty value.
_CONTENT: tuple[tuple[str, str, Any], ...] = (
    ("subject", "subject", None),
    ("text", "text", ""),
    ("html", "html", ""),
    ("amp", "an AMP body", None),
    ("to_header", "a To header in extra_headers", None),
    ("tags", "tags", ()),
)
#: All that may stand beside a template: see ``Supports.beside_template``.
ALL_CONTENT = frozenset({
    "subject", "text", "html", "amp", "alternatives", "attachments", "inline", "headers", "merge_headers", "to_header",
    "tags",
})  # fmt: skip
# The bodies of a message: a stored template has its own.
_BODIES: dict[str, Any] = {"text": "", "html": "", "amp": None}


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
    #: "text": the ESP documents strings, so that values are made strings, once, by ``fit``; "json": as they are.
    metadata_values: Literal["text", "json"] = _feature("values of metadata", "json")
    #: The names in ALL_CONTENT that the ESP has a use for beside ``template_id``. Of the others, bodies are left out
    #: (a stored template has its own), and anything else is unsupported. Where an ESP takes a kind of content only
    #: without a template, it is left out here and True above.
    beside_template: frozenset[str] = _feature("content beside template_id", ALL_CONTENT)


# Attributes that an ESP either has or has not: the field's empty value.
_SWITCHES: dict[str, Any] = {
    "cc": (),
    "bcc": (),
    "to_header": None,
    "metadata": {},
    "send_at": None,
    "template_id": None,
}

# The same, but what counts as asked for is anything but None.
_TRISTATE = ("track_opens", "track_clicks")

_MERGE = ("merge_data", "merge_global_data", "merge_metadata", "merge_headers")

# Bodies beyond the first of their kind.
_SECOND_BODIES = {
    "text/plain": "multiple text parts",
    "text/html": "multiple html parts",
    "text/x-amp-html": "multiple AMP parts",
}

# How many of a thing an ESP takes.
_COUNTED = {"from_emails": ("from_email", "from_email addresses"), "reply_to": ("reply_to", "reply_to addresses")}


def fit(mail: OutgoingMail, supports: Supports) -> OutgoingMail:
    """``mail`` as the ESP takes it, where that needs no decision of the project's: bodies that a stored template
    replaces left out, metadata as text.

    Raises AnymailSerializationError, naming the key, for metadata that is no text and cannot be made one.
    """
    changes: dict[str, Any] = {}
    if mail.template_id:
        changes.update(
            (name, empty)
            for name, empty in _BODIES.items()
            if name not in supports.beside_template and getattr(mail, name)
        )
    if supports.metadata_values == "text":
        if mail.metadata:
            changes["metadata"] = _texts(mail.metadata, "metadata")
        if mail.merge_metadata:
            changes["merge_metadata"] = {
                spec: _texts(values, "merge_metadata[…]") for spec, values in mail.merge_metadata.items()
            }
    return replace(mail, **changes) if changes else mail


def _texts(metadata: Mapping[Any, Any], where: str) -> dict[str, str]:
    return {
        metadata_text(key, f"A key of {where}"): metadata_text(value, f"{where}[{key!r}]")
        for key, value in metadata.items()
    }


def metadata_text(value: Any, where: str) -> str:
    """A string as it is, a number or boolean as JSON writes it.

    Raises AnymailSerializationError, which ``where`` begins, for anything else.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return json.dumps(value)
    what = "None" if value is None else repr(value) if isinstance(value, float) else f"of type {type(value).__name__}"
    raise AnymailSerializationError(
        f"{where} is {what}, but the ESP keeps metadata as text: give a string, a number or a boolean."
    )


def check(mail: OutgoingMail, supports: Supports) -> Iterator[Unsupported]:
    """Everything that ``mail``, as ``fit`` made it, asks for and ``supports`` lacks."""
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
    if not supports.alternatives:
        yield from _alternatives(mail)
    if mail.envelope_sender and not supports.envelope_sender:
        yield Unsupported("envelope_sender", {"envelope_sender": None})
    yield from _check_attachments(mail, supports)
    yield from _check_merge(mail, supports)
    if mail.template_id:
        yield from check_beside_template(mail, supports)
    if not supports.non_ascii_usernames:
        yield from _check_usernames(mail)


def _alternatives(mail: OutgoingMail, circumstances: str = "") -> Iterator[Unsupported]:
    """Each kind of the alternatives that found no place."""
    kinds = dict.fromkeys(one.mimetype.partition(";")[0].strip().lower() for one in mail.alternatives)
    for kind in kinds:
        words = _SECOND_BODIES.get(kind, f"alternative part with type {kind!r}")
        yield Unsupported(f"{words}{circumstances}", {"alternatives": ()})


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


def check_beside_template(mail: OutgoingMail, supports: Supports) -> Iterator[Unsupported]:
    """What ``mail`` has and the ESP has no use for beside a template: for ``check``, and for an ESP whose templates
    come in by ``esp_extra`` too.
    """
    used = supports.beside_template
    for name, words, empty in _CONTENT:
        if name not in used and getattr(mail, name):
            yield Unsupported(f"{words} with template_id", {name: empty})
    if "alternatives" not in used:
        yield from _alternatives(mail, " with template_id")
    for inline, name, words in ((False, "attachments", "attachments"), (True, "inline", "inline images")):
        if name not in used and any(one.inline is inline for one in mail.attachments):
            kept = tuple(one for one in mail.attachments if ("inline" if one.inline else "attachments") in used)
            yield Unsupported(f"{words} with template_id", {"attachments": kept})
    if "headers" not in used and mail.headers:
        yield Unsupported("extra headers with template_id", {"headers": type(mail.headers)({})})
    if "merge_headers" not in used and _holds_values(mail.merge_headers):
        yield Unsupported("merge_headers with template_id", {"merge_headers": {}})


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
