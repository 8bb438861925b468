"""What every ESP's folder is made of: readers of values that others sent, which may be anything."""

from __future__ import annotations

import json
import math
import re
from typing import Any

__all__ = [
    "enhanced_code_of", "from_json", "json_object_of", "list_of", "number_of", "object_of", "smtp_code_of", "string_of",
    "text_of", "text_or_digits_of", "texts_of",
]  # fmt: skip

# RFC 5321, section 4.2. (Some ESPs have codes of their own among them, such as 499 and 605.)
_SMTP_CODE = re.compile(r"[2-5][0-5][0-9]")
# RFC 3463, section 2.
_ENHANCED_CODE = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")


def object_of(value: Any) -> dict[str, Any]:
    """A JSON object; empty for anything else. (PHP writes an empty one as an array.)"""
    return value if isinstance(value, dict) else {}


def list_of(value: Any) -> list[Any]:
    """A JSON array; empty for anything else."""
    return value if isinstance(value, list) else []


def string_of(value: Any) -> str | None:
    """A string, also an empty one; None for anything else."""
    return value if isinstance(value, str) else None


def text_of(value: Any) -> str | None:
    """A string that is not empty; None for anything else."""
    return value if isinstance(value, str) and value else None


def text_or_digits_of(value: Any) -> str | None:
    """The same, or a whole number in its digits, where an ESP has both for one field."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else text_of(value)


def texts_of(value: Any) -> list[str]:
    """The strings in a JSON array; none for anything else."""
    return [one for one in list_of(value) if isinstance(one, str)]


def number_of(value: Any) -> float | None:
    """A finite number, from a number or in words; None for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def smtp_code_of(value: Any) -> int | None:
    """The three digits of an SMTP server's reply, from a number or in digits; None for anything else."""
    digits = text_or_digits_of(value) or ""
    return int(digits) if _SMTP_CODE.fullmatch(digits) else None


def enhanced_code_of(value: Any) -> str | None:
    """An SMTP server's enhanced status code, as in "5.1.1"; None for anything else."""
    return value if isinstance(value, str) and _ENHANCED_CODE.fullmatch(value) else None


def from_json(text: Any) -> Any:
    """What a string or bytes hold in JSON; None for what is none."""
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None


def json_object_of(text: Any) -> dict[str, Any]:
    """The object that a string holds in JSON; empty for anything else."""
    return object_of(from_json(text))
