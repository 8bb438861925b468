"""What carries HTTP: one transport per process and configuration, shared by every backend instance."""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Protocol

from django.utils.module_loading import import_string

from anymail.exceptions import AnymailConfigurationError
from anymail.wire import Request, Response

if TYPE_CHECKING:
    from anymail.delivery.aio import Aiohttp, Threads
    from anymail.delivery.pool import Pool

__all__ = ["PooledTransport", "Transport", "transport_for"]


class Transport(Protocol):
    """Carries one HTTP request. One instance per process and configuration, used from many threads and event loops.

    ``send`` and ``asend`` return the response whatever its status, follow no redirect, and raise
    AnymailTransportError when there is none: ``sent`` False if certainly no byte of the request left, None if one may
    have. Whatever else interrupts them passes unchanged. The limits are in seconds, None for none; one that takes
    ``total_timeout`` as well gets the third of REQUESTS_TIMEOUT where three are given.
    """

    def __init__(self, *, connect_timeout: float | None, read_timeout: float | None) -> None: ...
    def send(self, request: Request) -> Response: ...
    async def asend(self, request: Request) -> Response: ...


_transports: dict[tuple[Any, ...], Transport] = {}
_lock = threading.Lock()


def transport_for(path: str | type[Transport], timeouts: tuple[float | None, ...]) -> Transport:
    """The transport of this process for a TRANSPORT and its timeouts. Raises AnymailConfigurationError."""
    key = (os.getpid(), path, *timeouts)
    found = _transports.get(key)
    if found is None:
        with _lock:
            if key not in _transports:
                _transports[key] = _make(path, timeouts)
            found = _transports[key]
    return found


def _make(path: str | type[Transport], timeouts: tuple[float | None, ...]) -> Transport:
    try:
        cls: Callable[..., Transport] = import_string(path) if isinstance(path, str) else path
        given: dict[str, Any] = {"connect_timeout": timeouts[0], "read_timeout": timeouts[1]}
        if len(timeouts) == 3 and _takes_total(cls):
            given["total_timeout"] = timeouts[2]
        return cls(**given)
    except (ImportError, TypeError, ValueError) as error:
        raise AnymailConfigurationError(f"TRANSPORT {path!r} cannot be used: {error}.") from error


def _takes_total(cls: Callable[..., Transport]) -> bool:
    parameters = inspect.signature(cls).parameters.values()
    return any(one.name == "total_timeout" or one.kind is one.VAR_KEYWORD for one in parameters)


class PooledTransport:
    """The default: a pool over the standard library's ``http.client``; asynchronously aiohttp where it is installed,
    else the same pool in threads.

    ``total_timeout`` limits a whole call. By default it follows from the others: the connecting, three reads, and a
    second for every 16 KiB of the request.
    """

    def __init__(
        self,
        *,
        connect_timeout: float | None,
        read_timeout: float | None,
        total_timeout: float | EllipsisType | None = ...,
    ) -> None:
        from anymail.delivery.calling import Timeouts
        from anymail.delivery.pool import Pool

        self._timeouts = Timeouts(connect_timeout, read_timeout, total_timeout)
        self._pool: Pool = Pool(self._timeouts)
        self._asynchronous: Aiohttp | Threads | None = None

    def send(self, request: Request) -> Response:
        return self._pool.send(request)

    async def asend(self, request: Request) -> Response:
        # Two tasks that come here at once make two, of which one is forgotten unused.
        if self._asynchronous is None:
            from anymail.delivery import aio

            self._asynchronous = aio.best(self._pool, self._timeouts)
        return await self._asynchronous.asend(request)


def _after_fork() -> None:
    """Another thread may have held the lock."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
