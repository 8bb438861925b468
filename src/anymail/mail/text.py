"""Strings that go into header fields: lazy ones forced, dangerous ones refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.utils.functional import Promise

from anymail.exceptions import AnymailInvalidValue

# Every control character but the tab: CR and LF would start a new header, the others break parsers.
_CONTROLS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
# RFC 5322, 2.2: printable ASCII without the colon.
_HEADER_NAME = re.compile(r"[!-9;-~]+")


def force_text(value: Any) -> str:
    """A str from a str or a lazy string. Raises TypeError for anything else."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Promise):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not a string")


def force(value: Any) -> Any:
    """A copy of plain data with its lazy strings made real: the message's own is never changed."""
    if type(value) is str:
        return value
    if isinstance(value, Promise):
        return str(value)
    if isinstance(value, Mapping):
        return {force(key): force(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [force(child) for child in value]
    return value


def refuse_controls(value: str, what: str) -> str:
    """``value`` itself. Raises AnymailInvalidValue, naming ``what``, if it holds a control character."""
    if value.isprintable():
        return value
    if control := _CONTROLS.search(value):
        raise AnymailInvalidValue(
            f"{what} holds the control character {control[0]!r}, which could forge a header. Remove it."
        )
    return value


def refuse_controls_in(values: Mapping[Any, Any], what: str) -> None:
    """The same for the keys and the string values of a dict."""
    for key, value in values.items():
        if isinstance(key, str):
            refuse_controls(key, f"A key of {what}")
        if isinstance(value, str):
            refuse_controls(value, f"{what}[{key!r}]")


def header_name(name: str, what: str) -> str:
    """``name`` itself. Raises AnymailInvalidValue if it cannot be the name of a header."""
    if not _HEADER_NAME.fullmatch(name):
        raise AnymailInvalidValue(f"{what}: {name!r} cannot be a header's name (RFC 5322: printable ASCII, no colon).")
    return name
