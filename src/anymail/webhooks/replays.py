"""The memory of webhook calls: what was handled is not handled again."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Protocol

from django.core.cache import caches

__all__ = ["ReplayStore", "replay_store"]


class ReplayStore(Protocol):
    """Remembers, for a while, which value came under a key."""

    def claim(self, key: str, value: str, seconds: float) -> str:
        """Remember ``value`` under ``key``, unless another was there first: return the first."""

    def keep(self, key: str, value: str, seconds: float) -> None:
        """Remember ``value`` under ``key`` from now on, whatever was there."""

    def forget(self, key: str) -> None: ...


class ProcessReplayStore:
    """The memory of one process: the newest entries, up to a number of them."""

    def __init__(self, most: int = 20_000) -> None:
        self._entries: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._lock = threading.Lock()
        self._most = most

    def claim(self, key: str, value: str, seconds: float) -> str:
        now = time.monotonic()
        with self._lock:
            found = self._entries.get(key)
            if found is not None and found[1] > now:
                return found[0]
            self._keep(key, value, now + seconds)
            return value

    def keep(self, key: str, value: str, seconds: float) -> None:
        with self._lock:
            self._keep(key, value, time.monotonic() + seconds)

    def _keep(self, key: str, value: str, until: float) -> None:
        self._entries[key] = (value, until)
        self._entries.move_to_end(key)
        while len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def forget(self, key: str) -> None:
        with self._lock:
            self._entries.pop(key, None)

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()


class CacheReplayStore:
    """The memory of all processes that share a Django cache."""

    def __init__(self, alias: str) -> None:
        self._alias = alias

    def claim(self, key: str, value: str, seconds: float) -> str:
        cache = caches[self._alias]
        if cache.add(f"anymail:{key}", value, seconds):
            return value
        return str(cache.get(f"anymail:{key}", value))

    def keep(self, key: str, value: str, seconds: float) -> None:
        caches[self._alias].set(f"anymail:{key}", value, seconds)

    def forget(self, key: str) -> None:
        caches[self._alias].delete(f"anymail:{key}")


process_replay_store = ProcessReplayStore()


def replay_store(cache_alias: str | None) -> ReplayStore:
    """The memory for a WEBHOOK_CACHE setting."""
    return CacheReplayStore(cache_alias) if cache_alias else process_replay_store
