"""Email addresses: one strict parser for everything that is sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from email.header import Header
from functools import lru_cache
from typing import Any

from django.utils.functional import Promise

from anymail.exceptions import AnymailInvalidAddress

__all__ = ["EmailAddress", "IdnaEncoder", "format_addresses", "idna_encoder", "parse_addresses"]

IdnaEncoder = Callable[[str], str]

_ATOM = r"""[^\s<>@,;:()\[\]\\"]++"""
_QUOTED = r'"(?:[^"\\]|\\.)*+"'
_ADDR_SPEC = rf"(?:{_ATOM}|{_QUOTED})@(?:{_ATOM}|\[[^\[\]\\\s]*+\])"
# Possessive quantifiers throughout: no input makes this backtrack, so it is linear.
_ADDRESS = re.compile(
    rf"""\s*+(?:(?P<bare>{_ADDR_SPEC})
          |(?P<name>(?:{_QUOTED}|[^<>@,;:()\[\]\\"]++)*+)<\s*+(?P<angle>{_ADDR_SPEC})\s*+>
        )\s*+(?P<end>,|\Z)""",
    re.VERBOSE | re.DOTALL,
)
_PLAIN = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@[A-Za-z0-9.-]+")
_QUOTED_PIECE = re.compile(_QUOTED, re.DOTALL)
_SPECIALS = re.compile(r'[][\\()<>@,:;".]')
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class EmailAddress:
    """One address: ``display_name`` (may be empty) and ``addr_spec`` (``username@domain``).

    In an ``OutgoingMail`` the domain is in its ASCII form, and ``key`` is the address as the message spelled it.
    """

    display_name: str = ""
    addr_spec: str = ""
    spelled: str = field(default="", compare=False, repr=False)

    @property
    def key(self) -> str:
        """The bare address as it was written: the key in ``anymail_status.recipients`` and merge dicts."""
        return self.spelled or self.addr_spec

    @property
    def username(self) -> str:
        return self.addr_spec.rpartition("@")[0]

    @property
    def domain(self) -> str:
        return self.addr_spec.rpartition("@")[2]

    @property
    def address(self) -> str:
        """The full form, ``"Name" <user@example.com>``, quoted where it must be, in Unicode."""
        if not self.display_name:
            return self.addr_spec
        name = self.display_name
        if _SPECIALS.search(name):
            name = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return f"{name} <{self.addr_spec}>"

    @property
    def ascii_address(self) -> str:
        """The full form for a place that takes only ASCII: the name as RFC 2047 encoded-words."""
        if self.display_name.isascii():
            return self.address
        name = Header(self.display_name, "utf-8", maxlinelen=75).encode(linesep="\n").replace("\n", "")
        return f"{name} <{self.addr_spec}>"

    def __str__(self) -> str:
        return self.address


def format_addresses(addresses: Iterable[EmailAddress]) -> str:
    """Addresses as one header value, in Unicode."""
    return ", ".join([address.address for address in addresses])


def parse_addresses(
    value: str | Promise | Iterable[Any] | None, field: str, idna: IdnaEncoder | None = None
) -> tuple[EmailAddress, ...]:
    """Read addresses, each string of which may hold several, comma-separated.

    Comments, groups and routes (RFC 5322's rarities, read differently by different systems) are refused.
    ``field`` names the message's field in the AnymailInvalidAddress that is raised for what cannot be read; its text
    shows no address. ``idna`` encodes the domains (default: IDNA 2008).
    """
    encode = idna or encode_idna2008
    if isinstance(value, (str, Promise)) or not isinstance(value, Iterable | None):
        return _read(value, field, encode)
    found: list[EmailAddress] = []
    for index, one in enumerate(value or ()):
        if type(one) is str and _PLAIN.fullmatch(one):
            found.append(EmailAddress("", one, one))
        elif one:
            found += _read(one, f"{field}[{index}]", encode)
    return tuple(found)


def _read(value: Any, where: str, idna: IdnaEncoder) -> tuple[EmailAddress, ...]:
    if not isinstance(value, (str, Promise, EmailAddress)):
        raise AnymailInvalidAddress(f"{where} is not an email address but of type {type(value).__name__}.")
    text = str(value)
    try:
        return _parse(text, idna) if text else ()
    except _Unreadable as error:
        raise AnymailInvalidAddress(f"{where} is not a valid email address: {error}.") from error.__cause__


class _Unreadable(Exception):
    """Why a string is no address, without the string: errors go into logs."""


@lru_cache(maxsize=2048)
def _parse(string: str, idna: IdnaEncoder) -> tuple[EmailAddress, ...]:
    if _PLAIN.fullmatch(string):
        return (EmailAddress("", string, string),)
    if control := _CONTROLS.search(string):
        raise _Unreadable(f"it holds the control character {control[0]!r}")
    found = []
    position = 0
    while True:
        match = _ADDRESS.match(string, position)
        if match is None:
            raise _Unreadable(_reason(string[position:]))
        spec = match["bare"] or match["angle"]
        found.append(_address(match["name"] or "", spec, idna))
        position = match.end()
        if not match["end"]:
            return tuple(found)


def _address(name: str, spec: str, idna: IdnaEncoder) -> EmailAddress:
    username, _, domain = spec.rpartition("@")
    if username[0] != '"' and (username[0] == "." or username[-1] == "." or ".." in username):
        raise _Unreadable("the dots before its @ are misplaced")
    try:
        encoded = domain if domain.isascii() else _encoded(domain, idna)
    except (UnicodeError, ValueError) as error:
        hint = '; "uts46" takes emoji and other symbols too' if idna is encode_idna2008 else ""
        raise _Unreadable(f"IDNA_ENCODER ({_encoder_name(idna)}) cannot encode its domain{hint}") from error
    return EmailAddress(_unquote(name), f"{username}@{encoded}", spec)


def _encoded(domain: str, idna: IdnaEncoder) -> str:
    encoded = idna(domain)
    if not re.fullmatch(_ATOM, encoded):
        # IDNA 2003 makes an "@" of a full-width one.
        raise ValueError(f"{domain!r} becomes {encoded!r}, which is no domain")
    return encoded


def _unquote(name: str) -> str:
    name = name.strip()
    if '"' not in name:
        return " ".join(name.split())
    return _QUOTED_PIECE.sub(lambda piece: re.sub(r"\\(.)", r"\1", piece[0][1:-1]), name)


_NEEDS_QUOTES = (
    "a display name with a comma or another special character needs double quotes, "
    'as in "Shop, Inc." <user@example.com>'
)


def _reason(rest: str) -> str:
    if not rest.strip():
        return "an address is missing at its end"
    name, bracket, _ = rest.partition("<")
    if "@" not in rest:
        return f'it has no "@" ({_NEEDS_QUOTES})'
    if bracket and "," in name and "@" not in name:
        return _NEEDS_QUOTES
    if re.search(r"[();:\\]", rest):
        return f"comments, groups and routes are not accepted ({_NEEDS_QUOTES})"
    return "it is not of the form user@example.com or Name <user@example.com>"


@lru_cache(maxsize=2048)
def encode_idna2008(domain: str) -> str:
    """IDNA 2008, for input as people type it: upper case, full-width letters and ligatures are mapped by UTS 46."""
    import idna

    return idna.encode(domain, uts46=True, std3_rules=True).decode("ascii")


def encode_idna2003(domain: str) -> str:
    return domain.encode("idna").decode("ascii")


@lru_cache(maxsize=2048)
def encode_uts46(domain: str) -> str:
    """UTS 46 without IDNA 2008's list of letters, as browsers do it: emoji are allowed, and ``ß`` stays itself."""
    import idna

    labels = idna.uts46_remap(domain, std3_rules=True).split(".")
    encoded = ".".join([label if label.isascii() else _uts46_label(label) for label in labels])
    if len(encoded) > 253 or not all(0 < len(label) <= 63 for label in encoded.removesuffix(".").split(".")):
        raise ValueError("it, or a part of it, is empty or too long")
    return encoded


def _uts46_label(label: str) -> str:
    import idna

    idna.check_hyphen_ok(label)
    idna.check_initial_combiner(label)
    idna.check_bidi(label)
    return f"xn--{label.encode('punycode').decode('ascii')}"


def keep_unicode(domain: str) -> str:
    return domain


IDNA_ENCODERS: dict[str, IdnaEncoder] = {
    "idna2008": encode_idna2008,
    "idna2003": encode_idna2003,
    "uts46": encode_uts46,
    "none": keep_unicode,
}


def _encoder_name(encoder: IdnaEncoder) -> str:
    named = [repr(name).replace("'", '"') for name, one in IDNA_ENCODERS.items() if one is encoder]
    return named[0] if named else f"{encoder.__module__}.{getattr(encoder, '__qualname__', type(encoder).__name__)}"


def idna_encoder(value: str | IdnaEncoder) -> IdnaEncoder:
    """The encoder that an IDNA_ENCODER setting names. Raises ValueError or ImportError when there is none."""
    if callable(value):
        return value
    if value in IDNA_ENCODERS:
        return IDNA_ENCODERS[value]
    if "." not in value:
        names = ", ".join(map(repr, IDNA_ENCODERS))
        raise ValueError(f"{value!r} is not one of {names}, a dotted path or a callable")
    from django.utils.module_loading import import_string

    encoder: IdnaEncoder = import_string(value)
    return encoder
