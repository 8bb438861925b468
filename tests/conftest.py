from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from anymail.signals import inbound, tracking
from anymail.webhooks.replays import process_replay_store


@pytest.fixture(autouse=True)
def _fresh_memory() -> Iterator[None]:
    """No test meets the webhook calls of another."""
    process_replay_store.clear()
    yield
    process_replay_store.clear()


@pytest.fixture
def events() -> Iterator[list[Any]]:
    """Every event that is sent as a signal, in order."""
    received: list[Any] = []

    def receive(sender: Any, event: Any, esp_name: str, **kwargs: Any) -> None:
        received.append(event)

    tracking.connect(receive)
    inbound.connect(receive)
    yield received
    tracking.disconnect(receive)
    inbound.disconnect(receive)
