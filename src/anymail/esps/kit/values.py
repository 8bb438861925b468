"""What every ESP's folder is made of: readers of values that others sent, which may be anything."""

from __future__ import annotations

import json
import math
from typing import Any

__all__ = [
    "from_json", "json_object_of", "list_of", "number_of", "object_of", "string_of", "text_of", "text_or_digits_of",
    "texts_of",
]  # fmt: skip


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


def from_json(text: Any) -> Any:
    """What a string or bytes hold in JSON; None for what is none."""
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None


def json_object_of(text: Any) -> dict[str, Any]:
    """The object that a string holds in JSON; empty for anything else."""
    return object_of(from_json(text))
