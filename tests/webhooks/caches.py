"""Django caches that count, and that are down."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.core.cache.backends.locmem import LocMemCache


class CountingCache(LocMemCache):
    """A cache that counts what is asked of it."""

    counted: Counter[str] = Counter()

    def __getattribute__(self, name: str) -> Any:
        if name in ("add", "get", "set", "delete", "touch", "get_many", "set_many", "incr"):
            CountingCache.counted[name] += 1
        return super().__getattribute__(name)


class BrokenCache(LocMemCache):
    """A cache that is down."""

    asked = 0

    def _fail(self, *args: Any, **kwargs: Any) -> Any:
        BrokenCache.asked += 1
        raise ConnectionRefusedError("Connection refused")

    add = get = set = delete = _fail


class SilentCache(LocMemCache):
    """A cache that is down and does not say so, as one for Memcached may be."""

    def add(self, *args: Any, **kwargs: Any) -> bool:
        return False

    def get(self, *args: Any, **kwargs: Any) -> Any:
        return None
