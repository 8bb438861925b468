"""Small things that projects use. All but ``EmailAddress`` are kept for projects that come from django-anymail."""

from __future__ import annotations

import warnings
from base64 import b64encode
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, Final

from django.conf import settings

from anymail.exceptions import AnymailConfigurationError, AnymailDeprecationWarning, AnymailInvalidAddress
from anymail.mail.addresses import EmailAddress, keep_unicode, parse_addresses
from anymail.mail.attachments import attachment as read_attachment
from anymail.mail.message import deep_merge

__all__ = [
    "UNSET",
    "Attachment",
    "EmailAddress",
    "concat_lists",
    "get_anymail_setting",
    "last",
    "merge_dicts_deep",
    "merge_dicts_one_level",
    "merge_dicts_shallow",
    "parse_address_list",
    "parse_single_address",
]


class _Unset:
    def __repr__(self) -> str:
        return "UNSET"

    def __reduce__(self) -> str:
        return "UNSET"


#: What was never set, where None is a value.
UNSET: Final = _Unset()


def _warn(name: str, instead: str) -> None:
    warnings.warn(f"anymail.utils.{name} is old: {instead}.", AnymailDeprecationWarning, stacklevel=3)


def get_anymail_setting(
    name: str,
    default: Any = UNSET,
    esp_name: str | None = None,
    kwargs: MutableMapping[str, Any] | None = None,
    allow_bare: bool = False,
) -> Any:
    """The value of a setting: ``kwargs[name]``, which it takes out, else ``ANYMAIL[NAME]``, else ``ANYMAIL_NAME``,
    else with ``allow_bare`` ``NAME``, else ``default``. With ``esp_name`` NAME begins with it.

    Raises AnymailConfigurationError if it is nowhere and there is no default. Deprecated.
    """
    _warn("get_anymail_setting", "read your own settings from django.conf.settings")
    if kwargs is not None and name in kwargs:
        return kwargs.pop(name)
    setting = f"{esp_name}_{name}" if esp_name else name
    setting = setting.upper().replace(" ", "_")
    anymail = getattr(settings, "ANYMAIL", {})
    if setting in anymail:
        return anymail[setting]
    for key in (f"ANYMAIL_{setting}", *([setting] if allow_bare else [])):
        if hasattr(settings, key):
            return getattr(settings, key)
    if default is not UNSET:
        return default
    bare = f" or {setting}" if allow_bare else ""
    raise AnymailConfigurationError(f"Set ANYMAIL[{setting!r}], ANYMAIL_{setting}{bare}: it was found nowhere.")


def parse_address_list(address_list: Any, field: str | None = None) -> list[EmailAddress]:
    """The addresses in one string or several, each of which may hold several; domains as they are written.

    Raises AnymailInvalidAddress, which names ``field``. Deprecated.
    """
    _warn("parse_address_list", "use email.utils or django.core.validators")
    return list(parse_addresses(address_list, field or "The address", keep_unicode))


def parse_single_address(address: Any, field: str | None = None) -> EmailAddress:
    """The one address in a string. Raises AnymailInvalidAddress for none and for several. Deprecated."""
    _warn("parse_single_address", "use email.utils or django.core.validators")
    found = parse_addresses(address, field or "The address", keep_unicode)
    if len(found) != 1:
        raise AnymailInvalidAddress(f"{field or 'The address'} holds {len(found) or 'no'} addresses: give one.")
    return found[0]


def last(*values: Any) -> Any:
    """The last that is set; UNSET if none is. Deprecated."""
    _warn("last", "write it where it is needed")
    return next((value for value in reversed(values) if value is not UNSET), UNSET)


def _in_force(values: Iterable[Any]) -> list[Any]:
    """The values that are set, without those before a None, which removes them."""
    found: list[Any] = []
    for value in values:
        if value is None:
            found = [None]
        elif value is not UNSET:
            found = [*(one for one in found if one is not None), value]
    return found


def concat_lists(*values: Iterable[Any] | _Unset | None) -> Any:
    """The lists in one. What is UNSET is left out; None removes what is before it. Deprecated."""
    _warn("concat_lists", "write it where it is needed")
    found = _in_force(values)
    return found[0] if found == [None] else [item for one in found for item in one] if found else UNSET


def merge_dicts_shallow(*values: Mapping[Any, Any] | _Unset | None) -> Any:
    """The dicts in one, later keys over earlier ones. UNSET and None as in ``concat_lists``. Deprecated."""
    _warn("merge_dicts_shallow", "write {**one, **other}")
    return _merged(values, lambda below, over: over)


def merge_dicts_one_level(*values: Mapping[Any, Any] | _Unset | None) -> Any:
    """The same, but the dicts in them are merged, too. Deprecated."""
    _warn("merge_dicts_one_level", "write it where it is needed")
    return _merged(values, lambda below, over: {**below, **over})


def merge_dicts_deep(*values: Mapping[Any, Any] | _Unset | None) -> Any:
    """The same, at any depth. Deprecated."""
    _warn("merge_dicts_deep", "write it where it is needed")
    return _merged(values, deep_merge)


def _merged(values: Iterable[Any], both: Any) -> Any:
    found = _in_force(values)
    if not found:
        return UNSET
    if found == [None]:
        return None
    merged: dict[Any, Any] = {}
    for one in found:
        for key, over in one.items():
            below = merged.get(key)
            mergeable = isinstance(below, Mapping) and isinstance(over, Mapping)
            merged[key] = both(below, over) if mergeable else over
    return merged


class Attachment:
    """One of a message's ``attachments``, read. Deprecated.

    ``name`` (None without one), ``content`` (bytes), ``b64content`` (str), ``mimetype`` without parameters,
    ``content_type`` with them, ``inline``, ``content_id`` as in the header and ``cid`` without its angle brackets.
    Raises AnymailSerializationError for what is no attachment. ``encoding`` is not used: texts are in UTF-8.
    """

    def __init__(self, attachment: Any, encoding: str | None = None) -> None:
        _warn("Attachment", "read the message's attachments")
        read = read_attachment(attachment, "The attachment")
        self.name = read.name or None
        self.content = read.content
        self.mimetype = read.mimetype
        self.content_type = read.content_type
        self.inline = read.inline
        self.cid = read.content_id
        self.content_id = f"<{read.content_id}>" if read.content_id else None

    @property
    def b64content(self) -> str:
        return b64encode(self.content).decode("ascii")
