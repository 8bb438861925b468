"""The readers of values that others sent."""

from __future__ import annotations

from typing import Any

import pytest

from anymail.esps.kit import values

WRONG: list[Any] = [None, True, False, 1.5, float("nan"), [], ["a"], {}, {"a": 1}, "", b"", b"a"]


@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_what_is_of_another_kind(value: Any) -> None:
    assert values.object_of(value) == (value if isinstance(value, dict) else {})
    assert values.list_of(value) == (value if isinstance(value, list) else [])
    assert values.texts_of(value) == (value if isinstance(value, list) else [])
    assert values.text_of(value) is None
    assert values.text_or_digits_of(value) is None
    assert values.string_of(value) == ("" if value == "" else None)
    assert values.json_object_of(value) == {}


def test_texts() -> None:
    assert (values.text_of("a"), values.string_of("a"), values.text_or_digits_of("a")) == ("a", "a", "a")
    assert (values.text_of(7), values.string_of(7), values.text_or_digits_of(0)) == (None, None, "0")
    assert values.texts_of(["a", 1, None, "b"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "number"),
    [(1, 1.0), ("-2.5", -2.5), (b"3", 3.0), ("nan", None), ("inf", None), ("x", None), (None, None), ([], None),
     (10**400, None)],
)  # fmt: skip
def test_numbers(value: Any, number: float | None) -> None:
    assert values.number_of(value) == number


def test_json() -> None:
    assert values.from_json('["a"]') == ["a"]
    assert values.json_object_of('{"a": 1}') == {"a": 1}
    assert values.json_object_of("[]") == {}
    for text in ("{", b"\xff", "[" * 100_000, 7):
        assert values.from_json(text) is None


@pytest.mark.parametrize(
    ("value", "code"),
    [
        *((550, 550), ("421", 421), (250, 250)),
        *((value, None) for value in (605, 499, 0, 55, 5500, "5.1", "٥٥٠", True, *WRONG)),
    ],
    ids=repr,
)
def test_smtp_codes(value: Any, code: int | None) -> None:
    assert values.smtp_code_of(value) == code


@pytest.mark.parametrize("code", ["5.1.1", "4.7.0", "2.0.0", "5.7.509"])
def test_enhanced_codes(code: str) -> None:
    assert values.enhanced_code_of(code) == code


@pytest.mark.parametrize(
    "value", ["550", "5.1", "3.1.1", "5.1.1 no such user", "5.1.1111", "5.1.1\n", 5.1, *WRONG], ids=repr
)
def test_what_is_no_enhanced_code(value: Any) -> None:
    assert values.enhanced_code_of(value) is None
