"""A pool of connections over ``http.client``: connecting, sending and reading are steps of their own.

So each failure has its certain meaning. Before the first byte of a request: not sent. From that byte on: unknown,
unless the ESP responded. Nothing is ever sent a second time.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import select
import socket
import ssl
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable
from http.client import HTTPException, HTTPResponse, IncompleteRead, RemoteDisconnected
from typing import Any

from anymail.delivery.calling import USER_AGENT, Limit, Target, Timeouts, Unsendable, head_fault, target_of
from anymail.delivery.dialing import Unresolved, dial
from anymail.delivery.failures import not_sent, raised_by_a_signal_handler, refused, unknown, words
from anymail.delivery.proxies import Proxy, proxy_for
from anymail.delivery.tls import tls_context
from anymail.exceptions import AnymailTransportError
from anymail.wire import Request, Response

__all__ = ["IDLE_SECONDS", "MOST", "MOST_PER_HOST", "Call", "Pool"]

#: Connections of a pool, and of those to one host.
MOST = 100
MOST_PER_HOST = 32
#: A connection that was not used for longer may have been closed at the other end.
IDLE_SECONDS = 10.0

_STEP = 64 * 1024
_MOST_INTERIM = 20
#: Seconds to look for a response when the request could not be sent to its end.
_EARLY_RESPONSE = 2.0

Key = tuple[str, str, int]


class _TooLong(Exception):
    """More bytes came than any response in order needs."""


class _Incoming(io.RawIOBase):
    """What comes in over a socket, within limits of time and length."""

    def __init__(self, source: socket.socket) -> None:
        self.source = source
        self.read_timeout: float | None = None
        self.limit = Limit()
        #: Bytes that may still come; negative: none are asked for.
        self.budget = 0
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.budget < 0:
            return None
        left = self.limit.remaining()
        patience = left if self.read_timeout is None else self.read_timeout
        self.source.settimeout(patience if left is None else min(patience or left, left))
        count = self.source.recv_into(buffer)
        self.ended = not count
        self.budget -= count
        if self.budget < 0:
            raise _TooLong
        return count


class _Reader(io.BufferedReader):
    """Outlives the responses that are read from it."""

    def close(self) -> None:
        pass

    def flush(self) -> None:
        pass


class Connection:
    """One connection, and whom it leads to. It is in use by one call at a time."""

    __slots__ = ("__weakref__", "_incoming", "_reader", "key", "proxy", "socket", "used_at", "used_on")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.proxy: Proxy | None = None
        self.socket: socket.socket | None = None
        self.used_at = self.used_on = 0.0

    def open(self, target: Target, proxy: Proxy | None, limit: Limit) -> None:
        """Connect, through the proxy if there is one. Raises OSError, HTTPException or _Declined."""
        self.proxy = proxy
        self._use(dial(*((proxy.host, proxy.port) if proxy else (target.host, target.port)), limit.remaining))
        if target.scheme == "https":
            if proxy:
                self._tunnel(target, proxy, limit)
            assert self.socket
            self.socket.settimeout(limit.remaining())
            self._use(tls_context().wrap_socket(self.socket, server_hostname=target.host))

    def _use(self, connected: socket.socket) -> None:
        self.socket = connected
        self._incoming = _Incoming(connected)
        self._reader = _Reader(self._incoming)

    def _tunnel(self, target: Target, proxy: Proxy, limit: Limit) -> None:
        host = f"[{target.host}]" if ":" in target.host else target.host
        self.write([_connect_head(f"{host}:{target.port}", proxy)], None, limit)
        response = self.response("CONNECT", 0, None, limit)
        if not 200 <= response.status < 300:
            raise _Declined(f"{response.status} {response.reason}".rstrip())
        if self._left_over():
            raise HTTPException("it sent more than its response")

    def write(self, pieces: Iterable[bytes], timeout: float | None, limit: Limit) -> None:
        assert self.socket
        for piece in pieces:
            with memoryview(piece) as rest:
                start = 0
                while start < len(rest):
                    left = limit.remaining()
                    self.socket.settimeout(min((one for one in (timeout, left) if one is not None), default=None))
                    start += self.socket.send(rest[start : start + _STEP])

    def response(self, method: str, most: int, timeout: float | None, limit: Limit) -> HTTPResponse:
        """The status and headers of the response, whatever interim ones came before it."""
        incoming = self._incoming
        incoming.read_timeout, incoming.limit = timeout, limit
        # The overhead of headers and small chunks included.
        incoming.budget = 2 * most + 1024 * 1024
        response = HTTPResponse(self, method=method)  # type: ignore[arg-type]
        response.begin()
        for _ in range(_MOST_INTERIM):
            if incoming.ended:
                # http.client takes the end of the connection for the end of the headers.
                raise IncompleteRead(b"")
            if not 100 <= response.status < 200:
                return response
            if response.status == 101:
                raise HTTPException("it switched to another protocol, which was not asked for")
            response.headers = response.msg = None  # type: ignore[assignment]
            response.begin()
        raise HTTPException(f"it sent more than {_MOST_INTERIM} interim responses")

    def makefile(self, mode: str) -> _Reader:
        """For HTTPResponse, which takes this for a socket."""
        return self._reader

    def _left_over(self) -> bool:
        self._incoming.budget = -1
        return bool(self._reader.peek(1))

    def clean(self) -> bool:
        """Whether nothing is left over from the last response."""
        pending = self.socket.pending() if isinstance(self.socket, ssl.SSLSocket) else 0
        return not pending and not self._left_over()

    def fit(self) -> bool:
        """Whether another request may go over it: the other end neither closed it nor sent anything."""
        # The one clock is never set, the other goes on while the machine sleeps.
        idle = max(time.monotonic() - self.used_at, abs(time.time() - self.used_on))
        return idle < IDLE_SECONDS and not self._readable()

    def _readable(self) -> bool:
        assert self.socket
        try:
            if hasattr(select, "poll"):
                poll = select.poll()
                poll.register(self.socket, select.POLLIN)
                return bool(poll.poll(0))
            return bool(select.select([self.socket], [], [], 0)[0])
        except (OSError, ValueError):
            return True

    def shut(self) -> None:
        """End whatever another thread does with it."""
        if self.socket is not None:
            with contextlib.suppress(OSError):
                # The method of SSLSocket would leave it usable without TLS for a moment.
                socket.socket.shutdown(self.socket, socket.SHUT_RDWR)

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()

    __del__ = close


class _Declined(Exception):
    """The proxy does not make the connection: its status and reason."""


class Call:
    """A call that another thread may abort."""

    __slots__ = ("_connection", "_lock", "aborted")

    def __init__(self) -> None:
        self.aborted = False
        self._connection: Connection | None = None
        self._lock = threading.Lock()

    def abort(self) -> None:
        """Nothing is sent from now on, and the connection is not used again."""
        with self._lock:
            self.aborted = True
            if self._connection is not None:
                self._connection.shut()

    def starts(self, connection: Connection) -> bool:
        """Whether the first byte may be written."""
        with self._lock:
            self._connection = connection
            return not self.aborted

    def ends(self) -> bool:
        """Whether the connection may be used again."""
        with self._lock:
            self._connection = None
            return not self.aborted


class Pool:
    """The connections of one process and configuration. Threads share it; a forked process starts with an empty one."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._reset()
        _pools.add(self)

    def _reset(self) -> None:
        self._pid = os.getpid()
        # Reentrant: a signal handler may send, too.
        self._changed = threading.Condition()
        self._idle: dict[Key, deque[Connection]] = {}
        # Weak, so that a call that is interrupted anywhere gives back its place.
        self._all: weakref.WeakSet[Connection] = weakref.WeakSet()

    def after_fork(self) -> None:
        """Forget the connections of the parent, which go on being its own."""
        inherited = list(self._all)
        self._reset()
        for connection in inherited:
            connection.close()

    def close_idle(self) -> None:
        with self._changed:
            idle = [connection for queue in self._idle.values() for connection in queue]
            self._idle.clear()
        for connection in idle:
            self._drop(connection)

    def send(self, request: Request, call: Call | None = None) -> Response:
        """The response to a request. Raises AnymailTransportError; whatever else interrupts it passes unchanged."""
        if self._pid != os.getpid():
            self.after_fork()
        try:
            target, path = target_of(request)
            if fault := head_fault(request):
                raise Unsendable(fault)
            proxy = proxy_for(target.scheme, target.host, target.port)
        except ValueError as error:
            raise refused(request, str(error)) from None
        timeouts = self._timeouts
        total = Limit(timeouts.total_for(len(request.body)))
        connection = self._connection(request, target, proxy, total)
        reusable = False
        try:
            if call is not None and not call.starts(connection):
                raise not_sent(request, target.authority, "the call was cancelled")
            response = self._exchange(request, connection, target, path, total)
            reusable = response[1] and connection.clean()
            return response[0]
        finally:
            if call is not None and not call.ends():
                reusable = False
            if reusable:
                self._keep(connection)
            else:
                self._drop(connection)

    # Connecting

    def _connection(self, request: Request, target: Target, proxy: Proxy | None, total: Limit) -> Connection:
        """A connection that was found alive, or a new one. Whatever fails here: nothing was sent."""
        key = (target.scheme, target.host, target.port)
        who = target.authority
        limit = Limit(self._timeouts.connect, _left(total))
        connection: Connection | None = None
        opened = False
        step = f"all {MOST_PER_HOST} connections to it were busy"
        try:
            connection = self._idle_or_place(key, proxy, limit)
            if connection.socket is not None:
                opened = True
                return connection
            step = "it did not accept the connection"
            connection.open(target, proxy, limit)
            opened = True
            return connection
        except _Declined as error:
            raise not_sent(request, who, f"the proxy {proxy} refused to connect to it ({error})") from None
        except (OSError, HTTPException, _TooLong) as error:
            if isinstance(error, OSError) and raised_by_a_signal_handler(error):
                raise
            raise _not_connected(request, who, error, proxy, connection, step, self._timeouts) from error
        finally:
            if connection is not None and not opened:
                self._drop(connection)

    def _idle_or_place(self, key: Key, proxy: Proxy | None, limit: Limit) -> Connection:
        unfit: list[Connection] = []
        try:
            with self._changed:
                while True:
                    queue = self._idle.get(key)
                    while queue:
                        connection = queue.pop()
                        if connection.proxy == proxy and connection.fit():
                            return connection
                        self._all.discard(connection)
                        unfit.append(connection)
                    if self._has_place(key, unfit):
                        connection = Connection(key)
                        self._all.add(connection)
                        return connection
                    # Not longer than a second: a place that an interrupted call gave back wakes nobody.
                    left = limit.remaining()
                    self._changed.wait(1.0 if left is None else min(left, 1.0))
        finally:
            for connection in unfit:
                connection.close()

    def _has_place(self, key: Key, unfit: list[Connection]) -> bool:
        if sum(one.key == key for one in self._all) >= MOST_PER_HOST:
            return False
        if len(self._all) < MOST:
            return True
        for queue in self._idle.values():
            if queue:
                oldest = queue.popleft()
                self._all.discard(oldest)
                unfit.append(oldest)
                return True
        return False

    def _keep(self, connection: Connection) -> None:
        connection.used_at, connection.used_on = time.monotonic(), time.time()
        with self._changed:
            if connection in self._all:
                self._idle.setdefault(connection.key, deque()).append(connection)
                self._changed.notify()
                return
        connection.close()

    def _drop(self, connection: Connection) -> None:
        connection.close()
        with self._changed:
            self._all.discard(connection)
            self._changed.notify()

    # Sending and reading

    def _exchange(
        self, request: Request, connection: Connection, target: Target, path: str, total: Limit
    ) -> tuple[Response, bool]:
        """The response, and whether the connection may be used again. Whatever fails here: the outcome is unknown."""
        who, read_timeout = target.authority, self._timeouts.read
        try:
            whole = True
            try:
                connection.write(_pieces(request, connection.proxy, target, path), read_timeout, total)
            except OSError as error:
                if raised_by_a_signal_handler(error):
                    raise
                # Perhaps the ESP refused it before it had all of it.
                whole = False
                response = _early_response(request, connection, total)
                if response is None:
                    raise
            else:
                response = connection.response(request.method, request.max_response, read_timeout, total)
            content = _content(response, request)
            result = Response(response.status, response.getheaders(), content, response.reason)
            return result, whole and not response.will_close
        except _TooLong:
            raise unknown(request, who, _too_long(request), "unreadable") from None
        except TimeoutError as error:
            if raised_by_a_signal_handler(error):
                raise
            raise unknown(request, who, _out_of_time(total, read_timeout), "timeout") from error
        except RemoteDisconnected as error:
            raise unknown(request, who, "it closed the connection without a word") from error
        except IncompleteRead as error:
            raise unknown(request, who, "its response broke off, or is not in order") from error.with_traceback(None)
        except OSError as error:
            if raised_by_a_signal_handler(error):
                raise
            raise unknown(request, who, f"the connection broke ({words(error)})") from error
        except (HTTPException, ValueError) as error:
            raise unknown(request, who, f"what came is no HTTP response ({_kind(error)})", "unreadable") from error


def _left(limit: Limit) -> float | None:
    try:
        return limit.remaining()
    except TimeoutError:
        return 0.0


def _out_of_time(total: Limit, read_timeout: float | None) -> str:
    if _left(total) == 0.0:
        return "it was not complete within the time for the whole call"
    return f"it sent nothing for {read_timeout:g} s"


def _kind(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:100]}" if str(error) else type(error).__name__


def _too_long(request: Request) -> str:
    return f"it is longer than {request.max_response} bytes"


def _not_connected(
    request: Request,
    who: str,
    error: Exception,
    proxy: Proxy | None,
    connection: Connection | None,
    step: str,
    timeouts: Timeouts,
) -> AnymailTransportError:
    via = f"the proxy {proxy}" if proxy else "it"
    tunnelled = proxy is not None and connection is not None and connection.socket is not None
    if isinstance(error, Unresolved):
        whose = f"the name of {via}" if proxy else "its name"
        return not_sent(request, who, f"{whose} has no address ({words(error)})")
    if isinstance(error, ssl.SSLCertVerificationError):
        return not_sent(request, who, f"its TLS certificate is not trusted ({error.verify_message})")
    if isinstance(error, TimeoutError):
        limit = "" if timeouts.connect is None else f" within {timeouts.connect:g} s"
        if connection is None:
            return not_sent(request, who, f"{step}{limit}", "timeout")
        what = f"{via} did not connect to it" if tunnelled else f"{via} was not connected"
        return not_sent(request, who, f"{what}{limit}", "timeout")
    if isinstance(error, ssl.SSLError):
        return not_sent(request, who, f"TLS could not be agreed on ({words(error)})")
    if isinstance(error, ConnectionRefusedError) and not tunnelled:
        return not_sent(request, who, f"{via} refused the connection (connection refused)")
    if isinstance(error, (HTTPException, _TooLong)):
        return not_sent(request, who, f"{via} answered CONNECT unreadably ({_kind(error)})")
    return not_sent(request, who, f"{via} was not connected ({words(error)})")


def _connect_head(authority: str, proxy: Proxy) -> bytes:
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", f"User-Agent: {USER_AGENT}"]
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization.reveal()}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _pieces(request: Request, proxy: Proxy | None, target: Target, path: str) -> Iterable[bytes]:
    """The request as it goes out: in one piece where it is short."""
    if isinstance(request.body, bytes):
        if len(request.body) < _STEP:
            return (_head(request, proxy, target, path) + request.body,)
        return _Pieces(_head(request, proxy, target, path), (request.body,))
    return _Pieces(_head(request, proxy, target, path), request.body)


class _Pieces:
    """A head and a body, which no frame shows."""

    __slots__ = ("_body", "_head")

    def __init__(self, head: bytes, body: Iterable[bytes]) -> None:
        self._head = head
        self._body = body

    def __iter__(self) -> Any:
        yield self._head
        yield from self._body


def _head(request: Request, proxy: Proxy | None, target: Target, path: str) -> bytes:
    """Nothing fails here: ``head_fault`` has looked at it."""
    plain = proxy is not None and target.scheme == "http"
    head = [f"{request.method} {f'http://{target.authority}' if plain else ''}{path} HTTP/1.1\r\n"]
    given = {name.lower() for name in request.headers}
    if "host" not in given:
        head.append(f"Host: {target.authority}\r\n")
    if "accept-encoding" not in given:
        head.append("Accept-Encoding: identity\r\n")
    if "user-agent" not in given:
        head.append(f"User-Agent: {USER_AGENT}\r\n")
    if target.authorization is not None and "authorization" not in given:
        head.append(f"Authorization: {target.authorization.reveal()}\r\n")
    if plain and proxy is not None and proxy.authorization is not None:
        head.append(f"Proxy-Authorization: {proxy.authorization.reveal()}\r\n")
    if request.body or request.method not in ("GET", "HEAD"):
        head.append(f"Content-Length: {len(request.body)}\r\n")
    head.extend(f"{name}: {value}\r\n" for name, value in request.headers.items())
    head.append("\r\n")
    return "".join(head).encode("latin-1")


def _early_response(request: Request, connection: Connection, total: Limit) -> HTTPResponse | None:
    try:
        return connection.response(
            request.method, request.max_response, _EARLY_RESPONSE, Limit(_EARLY_RESPONSE, _left(total))
        )
    except (OSError, HTTPException, _TooLong) as error:
        if isinstance(error, OSError) and raised_by_a_signal_handler(error):
            raise
        return None


def _content(response: HTTPResponse, request: Request) -> bytes:
    encoding = response.headers.get("transfer-encoding", "chunked").strip().lower()
    if encoding not in ("chunked", "identity"):
        raise HTTPException(f"the transfer encoding {encoding[:30]!r} was not asked for")
    most = request.max_response
    if response.length is not None:
        if response.length > most:
            raise _TooLong
        return response.read()
    chunks: list[bytes] = []
    size = 0
    while chunk := response.read(min(_STEP, most + 1)):
        size += len(chunk)
        if size > most:
            raise _TooLong
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _after_fork() -> None:
    for pool in list(_pools):
        pool.after_fork()


def _at_exit() -> None:
    for pool in list(_pools):
        pool.close_idle()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
