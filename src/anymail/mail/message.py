"""A message with nothing left to guess, and the one place where it is made."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage as DjangoMessage
from django.utils import timezone
from django.utils.datastructures import CaseInsensitiveMapping
from django.utils.functional import Promise

from anymail.exceptions import AnymailInvalidAddress, AnymailSerializationError
from anymail.mail.addresses import EmailAddress, IdnaEncoder, encode_idna2008, parse_addresses
from anymail.mail.attachments import Attachment, attachment
from anymail.mail.text import force, force_text, header_name, refuse_controls, refuse_controls_in

__all__ = ["Alternative", "MailHeaders", "OutgoingMail", "Personal", "deep_merge", "outgoing_mail"]

#: Headers of a message: names in any case, spelled as they were given.
MailHeaders = CaseInsensitiveMapping

_NO_HEADERS: MailHeaders[str] = MailHeaders({})
_UNSET: Any = object()


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
_MERGED_PER_RECIPIENT = frozenset({"merge_data", "merge_metadata"})
#: What SEND_DEFAULTS may hold.
DEFAULTABLE = _JOINED | _MERGED | _MERGED_PER_RECIPIENT | {
    "body", "envelope_sender", "esp_extra", "from_email", "send_at", "subject", "template_id", "track_clicks",
    "track_opens",
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

    def value(self, name: str) -> Any:
        """The attribute as it is in force: None when there is none."""
        own = self._own(name)
        if name not in self.defaults or name not in DEFAULTABLE:
            return None if own is _UNSET else own
        if own is _UNSET or (name in _ALWAYS_SET and own == ""):
            return self.defaults[name]
        default = self.defaults[name]
        if own is None or default is None:
            return own
        if name in _JOINED:
            return [*self._listed(name, default), *self._listed(name, own)]
        if name in _MERGED:
            return {**self._dict(name, default), **self._dict(name, own)}
        if name in _MERGED_PER_RECIPIENT:
            return _merge_per_recipient(self._dict(name, default), self._dict(name, own))
        if name == "esp_extra":
            return deep_merge(self._dict(name, default), self._dict(name, own))
        return own

    def _own(self, name: str) -> Any:
        if name == "esp_extra" and self.conceal and isinstance(getattr(self.message, name, None), Mapping):
            return self.conceal(getattr(self.message, name))
        return getattr(self.message, name, _UNSET)

    def mail(self) -> OutgoingMail:
        # Most attributes of most messages are absent: each is looked at, but little is done for it.
        value = self.value
        headers, from_header, reply_to_header, to_header = self._headers()
        from_email = value("from_email")
        envelope_sender = value("envelope_sender")
        if from_header is not None:
            from_email, envelope_sender = from_header, envelope_sender or from_email
        to = self._addresses("to")
        subject = value("subject")
        text, html, amp, alternatives = self._bodies()
        attachments, tags = value("attachments"), value("tags")
        metadata, global_data, esp_extra = value("metadata"), value("merge_global_data"), value("esp_extra")
        merge_data, merge_metadata, merge_headers = (
            value("merge_data"), value("merge_metadata"), value("merge_headers"),
        )  # fmt: skip
        return OutgoingMail(
            from_email=self._parse("from_email", from_email),
            from_is_default=from_email == settings.DEFAULT_FROM_EMAIL,
            to=to,
            cc=self._addresses("cc"),
            bcc=self._addresses("bcc"),
            reply_to=self._addresses("reply_to")
            if reply_to_header is None
            else self._parse("Reply-To", reply_to_header),
            envelope_sender=self._envelope_sender(envelope_sender) if envelope_sender else None,
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
            track_opens=_switch(value("track_opens")),
            track_clicks=_switch(value("track_clicks")),
            send_at=None if (send_at := value("send_at")) is None else _aware(send_at),
            template_id=self._template_id(template_id) if (template_id := value("template_id")) else None,
            batch=merge_data is not None or merge_metadata is not None or merge_headers is not None,
            merge_data=self._per_recipient("merge_data", merge_data, to) if merge_data else {},
            merge_global_data=self._dict("merge_global_data", global_data) if global_data else {},
            merge_metadata=self._merge_metadata(merge_metadata, to) if merge_metadata else {},
            merge_headers=self._merge_headers(merge_headers, to) if merge_headers else {},
            esp_extra=self._dict("esp_extra", esp_extra) if esp_extra else {},
        )

    def _attachments(self, value: Any) -> tuple[Attachment, ...]:
        items = self._listed("attachments", value)
        return tuple(attachment(item, f"attachments[{index}]") for index, item in enumerate(items))

    def _tags(self, value: Any) -> tuple[str, ...]:
        return tuple(refuse_controls(self._text("tags", tag), "tags") for tag in self._listed("tags", value))

    def _merge_metadata(self, value: Any, to: tuple[EmailAddress, ...]) -> dict[str, dict[str, Any]]:
        found = self._per_recipient("merge_metadata", value, to)
        return {spec: self._metadata(f"merge_metadata[{spec!r}]", values) for spec, values in found.items()}

    def _merge_headers(self, value: Any, to: tuple[EmailAddress, ...]) -> dict[str, MailHeaders[str]]:
        found = self._per_recipient("merge_headers", value, to)
        return {
            spec: MailHeaders(self._header_items(f"merge_headers[{spec!r}]", values)) for spec, values in found.items()
        }

    def _text(self, name: str, value: Any) -> str:
        try:
            return force_text(value)
        except TypeError:
            raise AnymailSerializationError(
                f"{name} holds {value!r} of type {type(value).__name__}: give a string."
            ) from None

    def _listed(self, name: str, value: Any) -> Sequence[Any]:
        if not value:
            return ()
        if isinstance(value, (str, Promise)):
            raise TypeError(f"{name} must be a list or tuple, not the string {str(value)!r}.")
        return value if isinstance(value, (list, tuple)) else list(value)

    def _parse(self, name: str, value: Any) -> tuple[EmailAddress, ...]:
        return parse_addresses(value, name, self.idna)

    def _addresses(self, name: str) -> tuple[EmailAddress, ...]:
        value = self.value(name)
        return self._parse(name, self._listed(name, value)) if value else ()

    def _envelope_sender(self, value: Any) -> EmailAddress | None:
        found = self._parse("envelope_sender", value)
        if len(found) > 1:
            raise AnymailInvalidAddress(f"envelope_sender: {str(value)!r} holds several addresses; give one.")
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

    def _per_recipient(self, name: str, value: Any, to: tuple[EmailAddress, ...]) -> dict[str, dict[str, Any]]:
        if not value:
            return {}
        given = self._dict(name, value)
        for email, values in given.items():
            if not isinstance(values, Mapping):
                raise AnymailSerializationError(
                    f"{name}[{email!r}] is of type {type(values).__name__}: give a dict for each recipient."
                )
        folded = {str(email).casefold(): email for email in given}
        found: dict[str, dict[str, Any]] = {}
        for address in to:
            for key in (address.key, address.addr_spec, folded.get(address.key.casefold())):
                if key in given:
                    found[address.addr_spec] = dict(given[key])
                    break
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
            place(body, f"text/{getattr(self.message, 'content_subtype', 'plain')}")
        for content, mimetype in self._listed("alternatives", self.value("alternatives")):
            text_type = force_text(mimetype)
            bare = text_type.partition(";")[0].strip().lower()
            place(content, bare if bare in _BODY_SLOTS else text_type)
        return bodies.get("text/plain", ""), bodies.get("text/html", ""), bodies.get("text/x-amp-html"), tuple(others)


def _merge_per_recipient(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` laid on ``base``, one level deep."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = {**below, **value} if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


_BODY_SLOTS = frozenset({"text/plain", "text/html", "text/x-amp-html"})
# Headers that stand for an attribute of the message.
_SPECIAL_HEADERS = frozenset({"from", "reply-to", "to", "bcc"})


def _switch(value: Any) -> bool | None:
    return None if value is None else bool(value)


def _aware(value: Any) -> dt.datetime:
    """``send_at`` as an aware datetime: naive ones in Django's current time zone, numbers as POSIX timestamps."""
    try:
        if isinstance(value, str):
            value = dt.datetime.fromisoformat(value)
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
