"""What every webhook reads with: bodies, signed times, secrets."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.test import RequestFactory

from anymail.conf import Secret, WebhookOptions
from anymail.esps.kit.webhook import (
    Webhook,
    any_secret,
    constant_time_equal,
    json_body,
    json_object,
    posix_time,
    utc_time,
)
from anymail.exceptions import AnymailWebhookValidationFailure

NOW = 1_772_600_769
UTC = dt.UTC


def webhook(**options: Any) -> Webhook[WebhookOptions]:
    return Webhook(WebhookOptions(**options), clock=lambda: NOW)


@pytest.mark.parametrize("timestamp", [NOW, str(NOW), NOW - 300, NOW + 300])
def test_a_time_within_the_window(timestamp: object) -> None:
    webhook(webhook_max_age=300).check_age(timestamp)


OUT_OF_IT = [
    NOW - 301, NOW + 301, NOW * 1000, -NOW, 0, "", "NaN", "inf", "1e9", "1e20", 1e20, None, True,
    "１７７２６００７６９", f" {NOW}", f"{NOW}.5", "9" * 5_000, [NOW], {},
]  # fmt: skip


@pytest.mark.parametrize("timestamp", OUT_OF_IT, ids=lambda one: repr(one)[:20])
def test_a_time_out_of_the_window(timestamp: object) -> None:
    with pytest.raises(AnymailWebhookValidationFailure):
        webhook(webhook_max_age=300).check_age(timestamp)


def test_without_a_limit_a_time_must_still_be_one() -> None:
    webhook(webhook_max_age=None).check_age(1)
    with pytest.raises(AnymailWebhookValidationFailure):
        webhook(webhook_max_age=None).check_age("NaN")


def test_the_default_is_the_esps() -> None:
    webhook().check_age(NOW - 300)
    with pytest.raises(AnymailWebhookValidationFailure, match="WEBHOOK_MAX_AGE is 300"):
        webhook().check_age(NOW - 301)


@pytest.mark.parametrize(
    ("given", "right", "expected"),
    [
        ("abc", "abc", True),
        (b"abc", "abc", True),
        ("abc", "abcd", False),
        ("", "abc", False),
        ("ü", "ü", True),
        ("\ud800", "abc", False),
    ],
)
def test_secrets_are_compared(given: Any, right: Any, expected: bool) -> None:
    assert constant_time_equal(given, right) is expected


def test_every_secret_is_tried() -> None:
    tried: list[str] = []

    def matches(secret: str) -> bool:
        tried.append(secret)
        return secret == "a"

    assert any_secret([Secret("a"), Secret("b")], matches)
    assert tried == ["a", "b"]
    assert not any_secret([], matches)


def post(body: bytes) -> Any:
    return RequestFactory().post("/", body, "application/json")


def test_json_bodies() -> None:
    assert json_body(post(b'[1, "\xc3\xbc"]')) == [1, "ü"]
    assert json_object(post(b'{"a": 1}')) == {"a": 1}
    for body in (b"", b"{", b"NaN", b'{"a": Infinity}', b"\xff", b"[" * 100_000, b"9" * 10_000, b"\xef\xbb\xbf{}"):
        with pytest.raises(AnymailWebhookValidationFailure):
            json_body(post(body))
    with pytest.raises(AnymailWebhookValidationFailure):
        json_object(post(b"[]"))


TIMES: list[tuple[Any, dt.datetime | None]] = [
    ("2026-03-04T05:06:07Z", dt.datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)),
    ("2026-03-04T05:06:07.1520417Z", dt.datetime(2026, 3, 4, 5, 6, 7, 152041, tzinfo=UTC)),
    ("2026-03-04 05:06:07", dt.datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)),
    ("yesterday", None),
    ("", None),
    (None, None),
    (7, None),
]


@pytest.mark.parametrize(("text", "expected"), TIMES)
def test_times_in_iso_8601(text: Any, expected: dt.datetime | None) -> None:
    assert utc_time(text) == expected


@pytest.mark.parametrize("value", [None, "", "x", [], {}, float("nan"), float("inf"), 1e300, "9" * 400])
def test_what_is_no_posix_time(value: Any) -> None:
    assert posix_time(value) is None


def test_posix_times() -> None:
    expected = dt.datetime(2026, 3, 4, 5, 6, 9, tzinfo=UTC)
    assert posix_time(NOW) == posix_time(str(NOW)) == posix_time(float(NOW)) == expected
