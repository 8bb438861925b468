"""A message with nothing left to guess, and the one place where it is made."""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage as DjangoMessage
from django.utils import timezone
from django.utils.datastructures import CaseInsensitiveMapping
from django.utils.functional import Promise

from anymail.exceptions import AnymailInvalidAddress, AnymailNotSupportedWarning, AnymailSerializationError
from anymail.mail.addresses import EmailAddress, IdnaEncoder, encode_idna2008, parse_addresses
from anymail.mail.attachments import Attachment, attachment
from anymail.mail.text import force, force_text, header_name, refuse_controls, refuse_controls_in

__all__ = ["Alternative", "MailHeaders", "NeverSet", "OutgoingMail", "Personal", "deep_merge", "outgoing_mail"]

#: Headers of a message: names in any case, spelled as they were given.
MailHeaders = CaseInsensitiveMapping

_NO_HEADERS: MailHeaders[str] = MailHeaders({})
_UNSET: Any = object()


class NeverSet:
    """An attribute of a message class that can be read without having been set: a descriptor.

    What is read is ``make()``. A list or dict that is read and then filled counts as set from then on; until then,
    the send default stays in force.
    """

    #: An attribute of every class that has such attributes, so that others are read faster.
    MARK = "_anymail_never_set"

    def __init__(self, name: str, make: Callable[[], Any]) -> None:
        self._name = f"_unset_{name}"
        self._make = make

    def __get__(self, message: Any, owner: type | None = None) -> Any:
        if message is None:
            return self
        value = self._make()
        return value if value is None else vars(message).setdefault(self._name, value)

    def filled(self, message: Any) -> Any:
        """What was put into the list or dict that was read; None if nothing was."""
        return vars(message).get(self._name) or None


@dataclass(frozen=True, slots=True)
class Alternative:
    """A body that is neither the text, the HTML nor the AMP one."""

    content: str | bytes
    mimetype: str


@dataclass(frozen=True, slots=True)
class Personal:
    """What one ``to`` recipient of a batch gets: the message's own values with the recipient's over them."""

    to: EmailAddress
    merge_data: dict[str, Any]
    metadata: dict[str, Any]
    headers: MailHeaders[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingMail:
    """A message as the ESPs see it: defaults merged, addresses parsed and IDNA-encoded, strings plain and free
    of control characters, times aware. What is absent is falsy (or None, for ``subject`` and the switches).

    The merge dicts are keyed by the ``addr_spec`` of the ``to`` they belong to.
    """

    from_email: tuple[EmailAddress, ...] = ()
    #: Whether ``from_email`` is just Django's DEFAULT_FROM_EMAIL, which an ESP's template may overrule.
    from_is_default: bool = False
    to: tuple[EmailAddress, ...] = ()
    cc: tuple[EmailAddress, ...] = ()
    bcc: tuple[EmailAddress, ...] = field(default=(), repr=False)
    reply_to: tuple[EmailAddress, ...] = ()
    envelope_sender: EmailAddress | None = None
    #: Whether ``envelope_sender`` is only ``from_email`` under a From header, which a setting may overrule.
    envelope_sender_is_implied: bool = False
    #: A To header that differs from the recipients.
    to_header: str | None = None
    #: None: the template's subject.
    subject: str | None = None
    text: str = field(default="", repr=False)
    html: str = field(default="", repr=False)
    amp: str | None = field(default=None, repr=False)
    alternatives: tuple[Alternative, ...] = field(default=(), repr=False)
    headers: MailHeaders[str] = field(default_factory=lambda: _NO_HEADERS)
    attachments: tuple[Attachment, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    track_opens: bool | None = None
    track_clicks: bool | None = None
    send_at: dt.datetime | None = None
    template_id: str | None = None
    #: Whether each ``to`` gets a message of its own.
    batch: bool = False
    merge_data: dict[str, dict[str, Any]] = field(default_factory=dict)
    merge_global_data: dict[str, Any] = field(default_factory=dict)
    merge_metadata: dict[str, dict[str, Any]] = field(default_factory=dict)
    merge_headers: dict[str, MailHeaders[str]] = field(default_factory=dict)
    esp_extra: dict[str, Any] = field(default_factory=dict)

    @property
    def recipients(self) -> tuple[EmailAddress, ...]:
        return self.to + self.cc + self.bcc

    @property
    def size(self) -> int:
        """About how many bytes the message takes in a JSON request."""
        bodies = len(self.text) + len(self.html) + len(self.amp or "")
        return 2_000 + bodies + sum(len(a.content) * 4 // 3 for a in self.attachments)

    def personal(self) -> Iterator[Personal]:
        """For each ``to`` of a batch, what that recipient gets."""
        for to in self.to:
            spec = to.addr_spec
            yield Personal(
                to,
                {**self.merge_global_data, **self.merge_data.get(spec, {})},
                {**self.metadata, **self.merge_metadata.get(spec, {})},
                merge_headers(self.headers, self.merge_headers.get(spec)),
            )


def merge_headers(headers: MailHeaders[str], over: MailHeaders[str] | None) -> MailHeaders[str]:
    """``headers`` with those of ``over`` in their stead, whatever the case of their names."""
    if not over:
        return headers
    kept = [(name, value) for name, value in headers.items() if name not in over]
    return MailHeaders([*kept, *over.items()])


def deep_merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` laid on ``base``, dict by dict. Neither is changed."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = deep_merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def outgoing_mail(
    message: DjangoMessage,
    *,
    defaults: Mapping[str, Any] | None = None,
    idna: IdnaEncoder = encode_idna2008,
    conceal: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None,
) -> OutgoingMail:
    """Normalise a Django message; the message itself is left as it is.

    ``defaults`` are the SEND_DEFAULTS; ``conceal`` hides the credentials in an ``esp_extra``. Raises
    AnymailInvalidAddress, AnymailInvalidValue (control characters) and AnymailSerializationError (a value of the
    wrong type), each naming the field; TypeError for a bare string where a list of addresses belongs.
    """
    return _Normaliser(message, defaults or {}, idna, conceal).mail()


# How an attribute of the message and its default combine; any other attribute of the message replaces it.
_JOINED = frozenset({"to", "cc", "bcc", "reply_to", "tags", "attachments", "alternatives"})
_MERGED = frozenset({"metadata", "merge_global_data", "extra_headers"})
# These are merged where they are read, recipient by recipient.
_PER_RECIPIENT = frozenset({"merge_data", "merge_metadata", "merge_headers"})
#: What SEND_DEFAULTS may hold.
DEFAULTABLE = _JOINED | _MERGED | _PER_RECIPIENT | {
    "body", "content_subtype", "envelope_sender", "esp_extra", "from_email", "send_at", "subject", "template_id",
    "track_clicks", "track_opens",
}  # fmt: skip
# Django's messages always have these; empty means never set.
_ALWAYS_SET = frozenset({"subject", "body"})


class _Normaliser:
    """Reads one message. A class only to spare each step the same three arguments."""

    def __init__(
        self,
        message: DjangoMessage,
        defaults: Mapping[str, Any],
        idna: IdnaEncoder,
        conceal: Callable[[Mapping[str, Any]], dict[str, Any]] | None,
    ) -> None:
        self.message = message
        self.conceal = conceal
        self.defaults = defaults
        self.idna = idna
        self.may_be_never_set = hasattr(type(message), NeverSet.MARK)

    def value(self, name: str) -> Any:
        """The attribute as it is in force: None when there is none."""
        own = self._own(name)
        if name not in self.defaults or name not in DEFAULTABLE:
            return None if own is _UNSET else own
        if own is _UNSET or self._is_djangos(name, own):
            return self.defaults[name]
        default = self.defaults[name]
        if own is None or default is None:
            return own
        if name in _JOINED:
            return [*self._listed(name, default), *self._listed(name, own)]
        if name in _MERGED:
            return {**self._dict(name, default), **self._dict(name, own)}
        if name in _PER_RECIPIENT:
            return own or default
        if name == "esp_extra":
            return deep_merge(self._dict(name, default), self._dict(name, own))
        return own

    def _own(self, name: str) -> Any:
        if self.may_be_never_set and name not in vars(self.message):
            never_set = getattr(type(self.message), name, None)
            if isinstance(never_set, NeverSet) and not never_set.filled(self.message):
                return _UNSET
        if name == "esp_extra" and self.conceal and isinstance(getattr(self.message, name, None), Mapping):
            # Not in a variable here, where a report of an error would show it.
            return self.conceal(getattr(self.message, name))
        return getattr(self.message, name, _UNSET)

    def _is_djangos(self, name: str, own: Any) -> bool:
        """Whether the value is one that Django gives to every message."""
        if name in _ALWAYS_SET:
            return own == ""  # type: ignore[no-any-return]
        if name == "from_email":
            return own == settings.DEFAULT_FROM_EMAIL  # type: ignore[no-any-return]
        return name == "content_subtype" and name not in vars(self.message) and own == DjangoMessage.content_subtype

    def mail(self) -> OutgoingMail:
        # Most attributes of most messages are absent: each is looked at, but little is done for it.
        value = self.value
        headers, from_header, reply_to_header, to_header = self._headers()
        from_email = value("from_email")
        envelope_sender, implied = value("envelope_sender"), None
        if from_header is not None and not envelope_sender:
            envelope_sender = implied = from_email
        to = self._addresses("to")
        subject = value("subject")
        text, html, amp, alternatives = self._bodies()
        attachments, tags = value("attachments"), value("tags")
        metadata, global_data, esp_extra = value("metadata"), value("merge_global_data"), value("esp_extra")
        merge_data, merge_metadata, merge_headers = (
            value("merge_data"), value("merge_metadata"), value("merge_headers"),
        )  # fmt: skip
        return OutgoingMail(
            from_email=self._sender("from_email", from_email)
            if from_header is None
            else self._sender("From in extra_headers", from_header),
            from_is_default=from_header is None and from_email == settings.DEFAULT_FROM_EMAIL,
            to=to,
            cc=self._addresses("cc"),
            bcc=self._addresses("bcc"),
            reply_to=self._addresses("reply_to")
            if reply_to_header is None
            else self._parse("Reply-To in extra_headers", reply_to_header),
            envelope_sender=self._envelope_sender("from_email" if implied else "envelope_sender", envelope_sender)
            if envelope_sender
            else None,
            envelope_sender_is_implied=bool(implied),
            to_header=to_header,
            subject=None if subject is None else refuse_controls(self._text("subject", subject), "subject"),
            text=text,
            html=html,
            amp=amp,
            alternatives=alternatives,
            headers=headers,
            attachments=self._attachments(attachments) if attachments else (),
            metadata=self._metadata("metadata", metadata) if metadata else {},
            tags=self._tags(tags) if tags else (),
            track_opens=_switch("track_opens", value("track_opens")),
            track_clicks=_switch("track_clicks", value("track_clicks")),
            send_at=None if (send_at := value("send_at")) is None else _aware(send_at),
            template_id=self._template_id(template_id) if (template_id := value("template_id")) else None,
            batch=merge_data is not None or merge_metadata is not None or merge_headers is not None,
            merge_data=self._per_recipient("merge_data", to) if merge_data else {},
            merge_global_data=self._dict("merge_global_data", global_data) if global_data else {},
            merge_metadata=self._merge_metadata(to) if merge_metadata else {},
            merge_headers=self._merge_headers(to) if merge_headers else {},
            esp_extra=self._dict("esp_extra", esp_extra) if esp_extra else {},
        )

    def _attachments(self, value: Any) -> tuple[Attachment, ...]:
        items = self._listed("attachments", value)
        return tuple(attachment(item, f"attachments[{index}]") for index, item in enumerate(items))

    def _tags(self, value: Any) -> tuple[str, ...]:
        return tuple(refuse_controls(self._text("tags", tag), "tags") for tag in self._listed("tags", value))

    def _merge_metadata(self, to: tuple[EmailAddress, ...]) -> dict[str, dict[str, Any]]:
        found = self._per_recipient("merge_metadata", to)
        return {spec: self._metadata("merge_metadata[…]", values) for spec, values in found.items()}

    def _merge_headers(self, to: tuple[EmailAddress, ...]) -> dict[str, MailHeaders[str]]:
        found = self._per_recipient("merge_headers", to)
        return {spec: MailHeaders(self._header_items("merge_headers[…]", values)) for spec, values in found.items()}

    def _text(self, name: str, value: Any) -> str:
        try:
            return force_text(value)
        except TypeError:
            raise AnymailSerializationError(
                f"{name} holds a value of type {type(value).__name__}: give a string."
            ) from None

    def _listed(self, name: str, value: Any) -> Sequence[Any]:
        if not value:
            return ()
        if isinstance(value, (str, Promise)):
            raise TypeError(f"{name} must be a list or tuple, not a string.")
        return value if isinstance(value, (list, tuple)) else list(value)

    def _parse(self, name: str, value: Any) -> tuple[EmailAddress, ...]:
        return parse_addresses(value, name, self.idna)

    def _addresses(self, name: str) -> tuple[EmailAddress, ...]:
        value = self.value(name)
        return self._parse(name, self._listed(name, value)) if value else ()

    def _sender(self, name: str, value: Any) -> tuple[EmailAddress, ...]:
        """The addresses of From. None is the template's; nothing at all is a mistake."""
        found = self._parse(name, value)
        if not found and value is not None:
            raise AnymailInvalidAddress(
                f"{name} is empty: give an address, or set from_email to None for the sender of a stored template."
            )
        return found

    def _envelope_sender(self, name: str, value: Any) -> EmailAddress | None:
        found = self._parse(name, value)
        if len(found) > 1:
            raise AnymailInvalidAddress(f"{name} holds several addresses; the envelope sender is one.")
        return found[0] if found else None

    def _dict(self, name: str, value: Any) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise AnymailSerializationError(f"{name} is of type {type(value).__name__}: give a dict.")
        copy: dict[str, Any] = force(value)
        return copy

    def _metadata(self, name: str, value: Any) -> dict[str, Any]:
        metadata = self._dict(name, value)
        refuse_controls_in(metadata, name)
        return metadata

    def _template_id(self, value: Any) -> str:
        text = str(value) if isinstance(value, int) else self._text("template_id", value)
        return refuse_controls(text, "template_id")

    def _per_recipient(self, name: str, to: tuple[EmailAddress, ...]) -> dict[str, dict[str, Any]]:
        """By ``addr_spec`` of each ``to``, its values: the message's over those of the defaults."""
        own = self._own(name)
        given = _ByRecipient(name, self._dict(name, None if own is _UNSET else own), self.idna)
        defaults = _ByRecipient(name, self._dict(name, self.defaults.get(name)), self.idna)
        found = {}
        for address in to:
            default, values = defaults.of(address), given.of(address)
            if default is not None or values is not None:
                found[address.addr_spec] = {**(default or {}), **(values or {})}
        if lost := given.lost(to):
            warnings.warn(
                f"{lost} of {len(given.values)} keys of {name} match no recipient (to) of this message: "
                "their values are not used.",
                AnymailNotSupportedWarning,
                stacklevel=2,
            )
        return found

    def _headers(self) -> tuple[MailHeaders[str], str | None, str | None, str | None]:
        """The extra headers without those that stand for an attribute, then From, Reply-To and To."""
        given = self.value("extra_headers")
        if not given:
            return _NO_HEADERS, None, None, None
        items = self._header_items("extra_headers", self._dict("extra_headers", given))
        special = {name.lower(): value for name, value in items if name.lower() in _SPECIAL_HEADERS}
        if "bcc" in special:
            raise AnymailInvalidAddress("extra_headers has a Bcc header, which every reader would see: use bcc.")
        rest = MailHeaders([item for item in items if item[0].lower() not in _SPECIAL_HEADERS])
        return rest, special.get("from"), special.get("reply-to"), special.get("to")

    def _header_items(self, name: str, headers: Mapping[str, Any]) -> list[tuple[str, str]]:
        items = []
        for key, value in headers.items():
            header = header_name(self._text(f"A name in {name}", key), name)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                value = str(value)
            items.append((header, refuse_controls(self._text(f"{name}[{header!r}]", value), f"{name}[{header!r}]")))
        return items

    def _bodies(self) -> tuple[str, str, str | None, tuple[Alternative, ...]]:
        """Text, HTML and AMP bodies, and the alternatives that found no slot."""
        bodies: dict[str, str] = {}
        others: list[Alternative] = []

        def place(content: Any, mimetype: str) -> None:
            if mimetype in _BODY_SLOTS and not bodies.get(mimetype):
                bodies[mimetype] = (
                    content.decode("utf-8") if isinstance(content, bytes) else self._text(mimetype, content)
                )
            elif mimetype.startswith("text/") and not isinstance(content, bytes):
                others.append(Alternative(self._text(mimetype, content), mimetype))
            else:
                others.append(Alternative(content, mimetype))

        body = self.value("body")
        if body:
            subtype = self.value("content_subtype") or "plain"
            place(body, refuse_controls(f"text/{subtype}", "content_subtype"))
        for content, mimetype in self._listed("alternatives", self.value("alternatives")):
            text_type = refuse_controls(force_text(mimetype), "The type of an alternative")
            bare = text_type.partition(";")[0].strip().lower()
            place(content, bare if bare in _BODY_SLOTS else text_type)
        return bodies.get("text/plain", ""), bodies.get("text/html", ""), bodies.get("text/x-amp-html"), tuple(others)


class _ByRecipient:
    """A merge dict in which a recipient is found however its key is spelled: with a name, in any case, in punycode."""

    def __init__(self, name: str, values: Mapping[Any, Any], idna: IdnaEncoder) -> None:
        self.values = values
        self._keys: dict[str, Any] = {}
        self._spellings: list[set[str]] = []
        for key, one in values.items():
            if not isinstance(one, Mapping):
                raise AnymailSerializationError(
                    f"{name} has a value of type {type(one).__name__}: give a dict for each recipient."
                )
            spellings = _spellings_of_key(str(key), idna)
            self._spellings.append(spellings)
            for spelling in spellings:
                self._keys.setdefault(spelling, key)

    def of(self, address: EmailAddress) -> Mapping[str, Any] | None:
        if not self.values:
            return None
        if address.key in self.values:
            return self.values[address.key]  # type: ignore[no-any-return]
        key = next((self._keys[one] for one in _spellings(address) if one in self._keys), None)
        return None if key is None else self.values[key]

    def lost(self, to: Iterable[EmailAddress]) -> int:
        """How many keys are those of no recipient."""
        known = {spelling for address in to for spelling in _spellings(address)} if self.values else set()
        return sum(not (spellings & known) for spellings in self._spellings)


def _spellings(address: EmailAddress) -> tuple[str, str]:
    return address.key.casefold(), address.addr_spec.casefold()


def _spellings_of_key(key: str, idna: IdnaEncoder) -> set[str]:
    if key.isascii() and not set(' <,"') & set(key):
        return {key.casefold()}
    try:
        [address] = parse_addresses(key, "key", idna)
    except ValueError:  # nothing that can be read, or several: it is nobody's
        return {key.casefold()}
    return {key.casefold(), *_spellings(address)}


_BODY_SLOTS = frozenset({"text/plain", "text/html", "text/x-amp-html"})
# Headers that stand for an attribute of the message.
_SPECIAL_HEADERS = frozenset({"from", "reply-to", "to", "bcc"})


def _switch(name: str, value: Any) -> bool | None:
    # Nobody who writes "False" is tracked.
    if value is None or isinstance(value, bool):
        return value
    raise AnymailSerializationError(f"{name} is of type {type(value).__name__}: give True, False or None.")


def _aware(value: Any) -> dt.datetime:
    """``send_at`` as an aware datetime: naive ones in Django's current time zone, numbers as POSIX timestamps, text
    in ISO 8601 with an offset.
    """
    try:
        if isinstance(value, str):
            return _aware_text(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return dt.datetime.fromtimestamp(value, dt.UTC)
        if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
            value = dt.datetime.combine(value, dt.time.min)
        if isinstance(value, dt.datetime):
            return value if timezone.is_aware(value) else timezone.make_aware(value)
    except (ValueError, OverflowError, OSError) as error:
        raise AnymailSerializationError(f"send_at: {value!r} is not a time: {error}.") from error
    raise AnymailSerializationError(
        f"send_at is of type {type(value).__name__}: give a datetime, a date or a POSIX timestamp."
    )


def _aware_text(text: str) -> dt.datetime:
    try:
        value = dt.datetime.fromisoformat(text)
    except ValueError:
        raise AnymailSerializationError(
            f"send_at: {text!r} is not a time in ISO 8601: give a datetime; an ESP's own words go into esp_extra."
        ) from None
    if timezone.is_naive(value):
        raise AnymailSerializationError(
            f"send_at: {text!r} does not say in which time zone: give a datetime, or an offset as in "
            f"'{value.isoformat()}+00:00'."
        )
    return value
