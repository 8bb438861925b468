"""Authentic calls whose payload is anything: each is handled or refused, and none is an error of ours.

``ANYMAIL_MUTATIONS`` says how many there are for each webhook.
"""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client, override_settings

from anymail.exceptions import AnymailConfigurationError, AnymailError
from webhooks.calls import Kind, kinds, settings_of

KINDS = kinds()
MUTATIONS = int(os.environ.get("ANYMAIL_MUTATIONS", "25"))
VALUES: list[Any] = [
    None, True, False, 0, -1, 7, 1.5, 1e308, 10**30, "", "x", " ", "\0", "\ud800", "\r\nX: y", "é", "=?utf-8?q?=0A?=",
    "a@b", "<", "../..", "%s", "A" * 5000, "2026-13-45", "9" * 400,
    [], {}, [[]], [None], [{}], {"": None}, {"a": {"b": [1]}},
    "[1]", '{"a":', "text/plain; charset=klingon", "=== not base64", "Infinity",
]  # fmt: skip


def places(value: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, *path, key)


def mutated(payload: Any, chance: random.Random) -> Any:
    """The payload with one to three of its places gone, changed, repeated or exchanged."""
    changed = copy.deepcopy(payload)
    for _ in range(chance.randint(1, 3)):
        every = list(places(changed))
        if not every:
            break
        *path, last = chance.choice(every)
        parent = changed
        for key in path:
            parent = parent[key]
        match chance.randrange(5):
            case 0:
                del parent[last]
            case 1 if isinstance(parent, list):
                parent.append(copy.deepcopy(parent[last]))
            case 1 if isinstance(last, str):
                parent[chance.choice([last.upper(), last[:-1], "event", "type", "storm"])] = parent.pop(last)
            case 2 if isinstance(parent[last], str) and parent[last]:
                text, at = parent[last], chance.randrange(len(parent[last]))
                parent[last] = text[:at] + chance.choice(["", "\0", "=", "\n", "é", "<"]) + text[at + 1 :]
            case _:
                parent[last] = copy.deepcopy(chance.choice(VALUES))
    return changed


@pytest.mark.parametrize("name", KINDS)
def test_no_payload_is_an_error_of_ours(client: Client, name: str) -> None:
    kind: Kind = KINDS[name]
    chance = random.Random(f"{name} {os.environ.get('ANYMAIL_SEED', '')}")
    with override_settings(ANYMAIL=settings_of(kind)):
        for number in range(MUTATIONS):
            payload = mutated(kind.payload, chance)
            try:
                call = kind.call(payload)
            except (ValueError, TypeError, AttributeError):
                # It is not even what the ESP could sign.
                continue
            try:
                status = call.post(client).status_code
            except (AnymailConfigurationError, AnymailError):
                # A call of another webhook, or received mail that the ESP is to keep.
                continue
            except Exception as error:
                raise AssertionError(f"payload {number} of {name}: {payload!r:.2000}") from error
            assert status in (200, 400, 429, 500), payload
