"""The memory of webhook calls: what was handled is not handled again, and one call is in hand once at a time.

A call has one entry, in the memory of the process or in a Django cache that all processes share. The entry says which
of the call's events are handled, and who has it in hand until when: its lease. A lease is short and is renewed while
the work goes on; whoever finds it run out takes the call over, and begins after the events that are handled.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from secrets import token_hex
from typing import Any, Protocol

from django.core.cache import caches
from django.db import connections

__all__ = ["BUSY", "DONE", "Claim", "ReplayStore", "process_replay_store", "replay_store"]

logger = logging.getLogger("anymail.webhooks")

#: Seconds after which a call is free for others, if the process that has it in hand shows no sign of life.
LEASE = 30.0
# The pause between signs of life: two may go astray.
_RENEWAL = LEASE / 3
# How often a claim tells at once what is handled, and the pause from one time to the next thereafter.
_NOTES, _PAUSE = 4, 0.02
# How long a cache that failed is left alone, and the time between two lines of the log about it, in seconds.
_REST, _LOG_PAUSE = 5.0, 60.0


class _Named:
    """A value with a name for people to read."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


#: All events of the call are handled.
DONE = _Named("DONE")
#: The call is in hand elsewhere.
BUSY = _Named("BUSY")


class _Entries(Protocol):
    """Where entries are: the part of a Django cache's methods that is needed. Each may raise anything."""

    def add(self, key: str, value: str, timeout: float) -> bool: ...
    def get(self, key: str) -> str | None: ...
    def set(self, key: str, value: str, timeout: float) -> None: ...
    def delete(self, key: str) -> Any: ...


class _ProcessEntries:
    """The newest entries of one process, up to a number of them."""

    def __init__(self, most: int = 20_000) -> None:
        self._entries: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._lock = threading.Lock()
        self._most = most

    def add(self, key: str, value: str, timeout: float) -> bool:
        now = time.monotonic()
        with self._lock:
            found = self._entries.get(key)
            if found is not None and found[1] > now:
                return False
            self._set(key, value, now + timeout)
            return True

    def get(self, key: str) -> str | None:
        found = self._entries.get(key)
        return found[0] if found is not None and found[1] > time.monotonic() else None

    def set(self, key: str, value: str, timeout: float) -> None:
        with self._lock:
            self._set(key, value, time.monotonic() + timeout)

    def _set(self, key: str, value: str, until: float) -> None:
        self._entries[key] = (value, until)
        self._entries.move_to_end(key)
        while len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def delete(self, key: str) -> None:
        with self._lock:
            self._entries.pop(key, None)

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()

    def after_fork(self) -> None:
        self._lock = threading.Lock()


class Claim:
    """A call that is in hand here. Every claim must be ended: by ``done``, ``release`` or ``forget``."""

    def __init__(self, store: ReplayStore, key: str, owner: str, handled: Iterable[int], keep: float) -> None:
        self.handled = set(handled)
        self._store = store
        self._key = key
        self._owner = owner
        self._keep = keep
        self._lock = threading.Lock()
        self._ended = False
        self._unnoted = False
        self._notes = _NOTES
        self._noted = time.monotonic()

    def note(self, number: int) -> None:
        """The event with that number is handled. The next sign of life says so."""
        self.handled.add(number)
        self._unnoted = self._store.shared

    def sign_of_life(self) -> None:
        """Renew the lease where it is time, and tell what is handled: a process killed from now on repeats no more.

        Called before each event. The first few times it tells at once, later after pauses, since each time is a write.
        """
        if not self._store.shared:
            return
        if self._unnoted and self._notes > 0:
            self._notes -= 1
            self._write(0)
        else:
            self._write(_PAUSE if self._unnoted else _RENEWAL)

    def _write(self, pause: float) -> None:
        if time.monotonic() - self._noted < pause:
            return
        with self._lock:
            if not self._ended:
                self._noted = time.monotonic()
                self._unnoted = False
                entry = _entry(self._owner, time.time() + self._store.lease, self.handled)
                self._store.write(self._key, entry, self._keep)

    def in_background(self) -> None:
        """What the thread of a shared cache does for a claim, about once a second."""
        self._write(_PAUSE if self._unnoted else _RENEWAL)

    def done(self) -> None:
        """All events are handled, and remembered."""
        self._end(_DONE_ENTRY)

    def release(self) -> None:
        """Some events are not handled: let whoever comes next handle those."""
        self._end(_entry(self._owner, 0, self.handled) if self.handled else None)

    def forget(self) -> None:
        """An equal call would be a new one."""
        self._end(None)

    def _end(self, entry: str | None) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = True
        self._store.end(self, self._key, self._owner, entry, self._keep, time.monotonic() - self._noted > LEASE)


class ReplayStore:
    """The memory of one process."""

    #: Seconds. A thread that has a call in hand lets go of it, whatever ends it: only a process can be killed.
    lease: float = 24 * 3600
    #: Whether other processes read it.
    shared = False

    def __init__(self) -> None:
        self._process = _ProcessEntries()

    def claim(self, key: str, keep: float) -> Claim | _Named:
        """Take a call in hand: a Claim, or BUSY or DONE. ``keep``: the seconds for which it is remembered."""
        owner = token_hex(8)
        return self._claim(self._process, key, owner, keep)

    def first(self, key: str, value: str, keep: float) -> str:
        """Remember ``value`` under ``key``, unless another was there first: return the first."""
        return value if self._process.add(key, value, keep) else self._process.get(key) or value

    def write(self, key: str, entry: str, keep: float) -> None:
        self._process.set(key, entry, keep)

    def end(self, claim: Claim, key: str, owner: str, entry: str | None, keep: float, late: bool) -> None:
        _write_end(self._process, key, owner, entry, keep, late)

    def clear(self) -> None:
        """Forget everything."""
        self._process.clear()

    def after_fork(self) -> None:
        self._process.after_fork()

    def _claim(self, entries: _Entries, key: str, owner: str, keep: float) -> Claim | _Named:
        for _ in range(3):
            if entries.add(key, _entry(owner, time.time() + self.lease, ()), keep):
                return Claim(self, key, owner, (), keep)
            found = entries.get(key)
            if found is None:
                # It has just been forgotten.
                continue
            if found == _DONE_ENTRY:
                return DONE
            last_owner, until, handled = _read(found)
            if until > time.time():
                return BUSY
            # Of all who find the same lease run out, one takes it over.
            if not entries.add(f"{key}:{last_owner}", owner, LEASE):
                return BUSY
            entries.set(key, _entry(owner, time.time() + self.lease, handled), keep)
            return Claim(self, key, owner, handled, keep)
        raise LookupError("it neither takes an entry nor has one")


class CacheReplayStore(ReplayStore):
    """The memory of all processes that share a Django cache; that of the process alone, while the cache is down."""

    lease = LEASE
    shared = True

    def __init__(self, alias: str) -> None:
        super().__init__()
        self._process = process_replay_store._process
        self._alias = alias
        self._rests_until = 0.0
        self._logged = -_LOG_PAUSE

    def claim(self, key: str, keep: float) -> Claim | _Named:
        owner = token_hex(8)
        if self._works():
            try:
                claim = self._claim(caches[self._alias], f"anymail:{key}", owner, keep)
            except Exception as error:
                self._failed(error)
            else:
                if isinstance(claim, Claim):
                    _heart.keep_alive(claim)
                return claim
        # Claimed here, it is written here, too.
        return process_replay_store.claim(key, keep)

    def first(self, key: str, value: str, keep: float) -> str:
        if self._works():
            try:
                cache = caches[self._alias]
                return value if cache.add(f"anymail:{key}", value, keep) else cache.get(f"anymail:{key}") or value
            except Exception as error:
                self._failed(error)
        return super().first(key, value, keep)

    def write(self, key: str, entry: str, keep: float) -> None:
        if self._works():
            try:
                caches[self._alias].set(key, entry, keep)
            except Exception as error:
                self._failed(error)

    def end(self, claim: Claim, key: str, owner: str, entry: str | None, keep: float, late: bool) -> None:
        _heart.let_go(claim)
        try:
            _write_end(caches[self._alias], key, owner, entry, keep, late)
        except Exception as error:
            self._failed(error)

    def _works(self) -> bool:
        return time.monotonic() >= self._rests_until

    def _failed(self, error: Exception) -> None:
        now = time.monotonic()
        self._rests_until = now + _REST
        if now - self._logged >= _LOG_PAUSE:
            self._logged = now
            logger.error(
                "The cache %r of WEBHOOK_CACHE does not work (%s): calls are handled all the same, and what ESPs send "
                "again may be handled again.", self._alias, type(error).__name__,
            )  # fmt: skip


class _Heart:
    """One thread of the process, which gives signs of life for claims whose receivers take their time."""

    def __init__(self) -> None:
        self._claims: set[Claim] = set()
        self._more = threading.Condition()
        self._thread: threading.Thread | None = None

    def keep_alive(self, claim: Claim) -> None:
        with self._more:
            self._claims.add(claim)
            if self._thread is None or not self._thread.is_alive():
                self._start()
            if len(self._claims) == 1:
                self._more.notify()

    def let_go(self, claim: Claim) -> None:
        with self._more:
            self._claims.discard(claim)

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._beat, name="anymail-webhooks", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            # Some subinterpreters allow none: between events, a claim gives signs of life itself.
            self._thread = None

    def _beat(self) -> None:
        while True:
            with self._more:
                while not self._claims:
                    self._more.wait()
            time.sleep(1)
            with self._more:
                claims = list(self._claims)
            for claim in claims:
                claim.in_background()
            # A cache may be in a database, and a connection for each second of a day is none of its needs.
            connections.close_all()


_heart = _Heart()


def _after_fork() -> None:
    """Neither threads nor what they hold are in a child."""
    global _heart
    _heart = _Heart()
    process_replay_store.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

_DONE_ENTRY = "done"


def _entry(owner: str, until: float, handled: Iterable[int]) -> str:
    """As text, which every cache keeps as it is."""
    return json.dumps([owner, until, sorted(handled)])


def _read(entry: str) -> tuple[str, float, list[int]]:
    owner, until, handled = json.loads(entry)
    return str(owner), float(until), [int(index) for index in handled]


def _write_end(entries: _Entries, key: str, owner: str, entry: str | None, keep: float, late: bool) -> None:
    if late and (found := entries.get(key)) is not None and (found == _DONE_ENTRY or _read(found)[0] != owner):
        # While this process slept another took the call over, and writes what becomes of it.
        return
    if entry is None:
        entries.delete(key)
    else:
        entries.set(key, entry, keep)


process_replay_store = ReplayStore()
_cache_stores: dict[str, CacheReplayStore] = {}


def replay_store(cache_alias: str | None) -> ReplayStore:
    """The memory for a WEBHOOK_CACHE setting."""
    if not cache_alias:
        return process_replay_store
    return _cache_stores.get(cache_alias) or _cache_stores.setdefault(cache_alias, CacheReplayStore(cache_alias))
