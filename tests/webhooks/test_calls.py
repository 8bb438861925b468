"""The calls that other tests are made of: each is authentic, and has as many events as it should."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client, override_settings

from anymail.esps import REGISTRY
from webhooks.calls import Kind, event_name, kinds, settings_of

KINDS = kinds()


def test_every_esp_is_there() -> None:
    assert {name.split()[0] for name in KINDS} == set(REGISTRY)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_they_are_authentic(client: Client, events: list[Any], kind: Kind) -> None:
    with override_settings(ANYMAIL=settings_of(kind)):
        assert [kind.unlike(number, 3).post(client).status_code for number in range(2)] == [200, 200]
    in_a_call = 3 if kind.many else 1
    assert [event_name(event) for event in events] == [str(number) for number in range(in_a_call)] * 2
