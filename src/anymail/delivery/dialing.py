"""From a host's name to a connected socket, within one limit of time for all of it."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from typing import Any

__all__ = ["Unresolved", "dial"]

#: Seconds after which the next address is tried as well (RFC 8305, section 5).
STAGGER = 0.25


class Unresolved(OSError):
    """A name has no address, as far as can be told."""


def dial(host: str, port: int, remaining: Callable[[], float | None]) -> socket.socket:
    """Connect to a host. ``remaining`` says how many seconds are left, None for no limit, and raises TimeoutError.

    Raises Unresolved, TimeoutError or another OSError.
    """
    addresses = _resolve(host, port, remaining)
    try:
        connected = _race(_interleaved(addresses), remaining)
    except OSError as error:
        error.filename = None
        raise
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


def _resolve(host: str, port: int, remaining: Callable[[], float | None]) -> list[Any]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        pass
    # getaddrinfo() can neither be limited nor interrupted. It is left behind in its thread.
    found: list[Any] = []
    done = threading.Event()

    def look_up() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.append(Unresolved(getattr(error, "strerror", None) or str(error)))
        finally:
            done.set()

    try:
        threading.Thread(target=look_up, name="anymail-resolver", daemon=True).start()
    except RuntimeError:  # at the end of the process, and in subinterpreters
        look_up()
    if not done.wait(remaining()):
        remaining()
        raise TimeoutError
    if isinstance(found[0], Unresolved):
        raise found[0]
    addresses: list[Any] = found[0]
    return addresses


def _interleaved(addresses: Sequence[Any]) -> list[Any]:
    """The addresses in order, but their families in turn."""
    first = [one for one in addresses if one[0] == addresses[0][0]]
    others = [one for one in addresses if one[0] != addresses[0][0]]
    return [one for one in chain.from_iterable(zip_longest(first, others)) if one is not None]


def _race(addresses: list[Any], remaining: Callable[[], float | None]) -> socket.socket:
    """The first of the addresses that answers: the next one is tried when one fails, or has not answered early."""
    waiting = list(reversed(addresses))
    pending: set[socket.socket] = set()
    failure: OSError = Unresolved("it has no address")
    winner: socket.socket | None = None
    next_at = 0.0
    try:
        with selectors.DefaultSelector() as selector:
            while waiting or pending:
                if waiting and (not pending or time.monotonic() >= next_at):
                    next_at = time.monotonic() + STAGGER
                    family, kind, protocol, _, address = waiting.pop()
                    try:
                        one = socket.socket(family, kind, protocol)
                    except OSError as error:
                        failure = error
                        continue
                    pending.add(one)
                    one.setblocking(False)
                    code = one.connect_ex(address)
                    if code in (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR):
                        selector.register(one, selectors.EVENT_WRITE)
                    elif code:
                        failure = OSError(code, os.strerror(code))
                        _drop(one, pending)
                        continue
                    else:
                        winner = one
                        return one
                limit = remaining()
                early = max(0.0, next_at - time.monotonic()) if waiting else None
                patience = min((one for one in (limit, early) if one is not None), default=None)
                for key, _ in selector.select(patience):
                    one = key.fileobj  # type: ignore[assignment]
                    code = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if not code:
                        winner = one
                        return one
                    selector.unregister(one)
                    _drop(one, pending)
                    failure = OSError(code, os.strerror(code))
                    next_at = 0.0
        raise failure
    finally:
        for one in list(pending):
            if one is not winner:
                one.close()


def _drop(one: socket.socket, pending: set[socket.socket]) -> None:
    pending.discard(one)
    one.close()
