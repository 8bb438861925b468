"""Email addresses: one strict parser for everything that is sent."""

from __future__ import annotations

import re
import unicodedata
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
    ``field`` names the message's field in the AnymailInvalidAddress that is raised for what cannot be read;
    ``idna`` encodes the domains (default: IDNA 2008).
    """
    strings = [value] if isinstance(value, (str, Promise)) else value or ()
    encode = idna or encode_idna2008
    found: list[EmailAddress] = []
    for string in strings:
        if string:
            found += _parse(string if type(string) is str else _text(string, field), field, encode)
    return tuple(found)


def _text(value: Any, field: str) -> str:
    if isinstance(value, (str, Promise, EmailAddress)):
        return str(value)
    raise AnymailInvalidAddress(f"{field}: {value!r} is not an email address but a {type(value).__name__}.")


@lru_cache(maxsize=2048)
def _parse(string: str, field: str, idna: IdnaEncoder) -> tuple[EmailAddress, ...]:
    if _PLAIN.fullmatch(string):
        return (EmailAddress("", string, string),)
    if control := _CONTROLS.search(string):
        raise _invalid(string, field, f"it holds the control character {control[0]!r}")
    found = []
    position = 0
    while True:
        match = _ADDRESS.match(string, position)
        if match is None:
            raise _invalid(string, field, _reason(string[position:]))
        spec = match["bare"] or match["angle"]
        found.append(_address(match["name"] or "", spec, string, field, idna))
        position = match.end()
        if not match["end"]:
            return tuple(found)


def _address(name: str, spec: str, string: str, field: str, idna: IdnaEncoder) -> EmailAddress:
    username, _, domain = spec.rpartition("@")
    if username[0] != '"' and (username[0] == "." or username[-1] == "." or ".." in username):
        raise _invalid(string, field, f"the dots in {username!r} are misplaced")
    try:
        encoded = domain if domain.isascii() else idna(domain)
    except (UnicodeError, ValueError) as error:
        raise _invalid(string, field, f"its domain {domain!r} cannot be encoded: {error}") from error
    return EmailAddress(_unquote(name), f"{username}@{encoded}", spec)


def _unquote(name: str) -> str:
    name = name.strip()
    if '"' not in name:
        return " ".join(name.split())
    return _QUOTED_PIECE.sub(lambda piece: re.sub(r"\\(.)", r"\1", piece[0][1:-1]), name)


def _reason(rest: str) -> str:
    if not rest.strip():
        return "an address is missing at its end"
    if "@" not in rest:
        return 'it has no "@" (a display name with a comma or another special character needs double quotes)'
    if re.search(r"[();:\\]", rest):
        return "comments, groups and routes are not accepted (special characters in a name need double quotes)"
    return "it is not of the form user@example.com or Name <user@example.com>"


def _invalid(string: str, field: str, reason: str) -> AnymailInvalidAddress:
    # What is blind to the other recipients stays out of logs and reports too.
    shown = "an address" if field == "bcc" else repr(string if len(string) <= 200 else f"{string[:200]}…")
    return AnymailInvalidAddress(f"{field}: {shown} is not a valid email address: {reason}.")


@lru_cache(maxsize=2048)
def encode_idna2008(domain: str) -> str:
    import idna

    return idna.encode(unicodedata.normalize("NFC", domain.lower())).decode("ascii")


def encode_idna2003(domain: str) -> str:
    return domain.encode("idna").decode("ascii")


@lru_cache(maxsize=2048)
def encode_uts46(domain: str) -> str:
    import idna

    return idna.encode(domain, uts46=True).decode("ascii")


def keep_unicode(domain: str) -> str:
    return domain


IDNA_ENCODERS: dict[str, IdnaEncoder] = {
    "idna2008": encode_idna2008,
    "idna2003": encode_idna2003,
    "uts46": encode_uts46,
    "none": keep_unicode,
}


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
