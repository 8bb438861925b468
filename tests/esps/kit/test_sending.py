"""What every ESP's sending is made of."""

from __future__ import annotations

from typing import ClassVar

import pytest

from anymail.esps.kit.sending import ResponseReader, email_and_name, until_reset
from anymail.mail.addresses import EmailAddress
from anymail.wire import Response
from support import answer

DATE = "Sat, 14 Mar 2026 09:27:00 GMT"  # 1773480420


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Date": DATE, "X-RateLimit-Reset": "1773480427"}, 7),
        ({"Date": DATE, "X-RateLimit-Reset": "1773480400"}, 0),
        ({"X-RateLimit-Reset": "1773480427"}, None),
        ({"Date": DATE, "X-RateLimit-Reset": "soon"}, None),
        ({"Date": "today", "X-RateLimit-Reset": "1773480427"}, None),
        ({"Date": DATE}, None),
    ],
)
def test_when_the_rate_limit_is_reset(headers: dict[str, str], seconds: float | None) -> None:
    assert until_reset(answer(429, {}, headers)) == seconds


def test_an_esp_may_say_otherwise_how_long_to_wait() -> None:
    class Patient(ResponseReader):
        name: ClassVar[str] = "Patient"

        def retry_after(self, response: Response) -> float | None:
            return 30.0

    assert Patient().api_error(answer(429, {}, {"Retry-After": "3"})).retry_after == 30


def test_addresses_as_objects() -> None:
    assert email_and_name(EmailAddress("", "ana@example.net")) == {"email": "ana@example.net"}
    named = EmailAddress("López, Ana", "ana@example.net")
    assert email_and_name(named) == {"email": "ana@example.net", "name": "López, Ana"}
