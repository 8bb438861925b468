"""The connection pools: one per process and configuration, shared by every backend instance."""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from django.utils.module_loading import import_string

from anymail._version import __version__
from anymail.exceptions import AnymailConfigurationError, AnymailTransportError
from anymail.wire import Request, Response

if TYPE_CHECKING:
    from pyreqwest.client import Client, SyncClient

__all__ = ["PooledTransport", "Transport", "Urllib3Transport", "transport_for"]

USER_AGENT = f"anymail/{__version__}"


class Transport(Protocol):
    """Carries one HTTP request. One instance per process and configuration, used from many threads and event loops.

    ``send`` and ``asend`` return the answer whatever its status, follow no redirect, and raise
    AnymailTransportError when there is no answer: ``sent`` False if the request certainly never reached the ESP.
    """

    def __init__(self, *, connect_timeout: float | None, read_timeout: float | None) -> None: ...
    def send(self, request: Request) -> Response: ...
    async def asend(self, request: Request) -> Response: ...


_transports: dict[tuple[int, Any, float | None, float | None], Transport] = {}
_lock = threading.Lock()


def transport_for(path: str | type[Transport], timeouts: tuple[float | None, float | None]) -> Transport:
    """The transport of this process for a TRANSPORT and its timeouts. Raises AnymailConfigurationError."""
    key = (os.getpid(), path, *timeouts)
    found = _transports.get(key)
    if found is None:
        with _lock:
            if key not in _transports:
                _transports[key] = _make(path, timeouts)
            found = _transports[key]
    return found


def _make(path: str | type[Transport], timeouts: tuple[float | None, float | None]) -> Transport:
    try:
        cls: Callable[..., Transport] = import_string(path) if isinstance(path, str) else path
        return cls(connect_timeout=timeouts[0], read_timeout=timeouts[1])
    except (ImportError, TypeError) as error:
        raise AnymailConfigurationError(f"TRANSPORT {path!r} cannot be used: {error}.") from error


class PooledTransport:
    """The default: pyreqwest, whose pool and TLS live outside Python.

    Its runtime does not survive a ``fork()``: in a process forked after its first use, urllib3 stands in.
    """

    def __init__(self, *, connect_timeout: float | None, read_timeout: float | None) -> None:
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._lock = threading.Lock()
        self._client: SyncClient | None = None
        self._async_client: Client | None = None
        self._stand_in: Urllib3Transport | None = None

    def send(self, request: Request) -> Response:
        client = self._client or self._start()
        if client is None:
            assert self._stand_in is not None
            return self._stand_in.send(request)
        try:
            with self._build(client, request).build_streamed() as answer:
                content = _read(answer.body_reader.read_chunk, answer.headers, request)
                return Response(answer.status, list(answer.headers.items()), content, _REASONS.get(answer.status, ""))
        except Exception as error:
            raise _transport_error(error, request) from error

    async def asend(self, request: Request) -> Response:
        client = self._async_client or self._astart()
        if client is None:
            assert self._stand_in is not None
            return await self._stand_in.asend(request)
        try:
            async with self._build(client, request).build_streamed() as answer:
                chunks, size = [], 0
                while chunk := await answer.body_reader.read_chunk():
                    chunks.append(bytes(chunk))
                    size = _within_limit(size + len(chunk), request)
                return Response(
                    answer.status, list(answer.headers.items()), b"".join(chunks), _REASONS.get(answer.status, "")
                )
        except Exception as error:
            raise _transport_error(error, request) from error

    def _build(self, client: Any, request: Request) -> Any:
        builder = client.request(request.method, request.url).headers(dict(request.headers))
        if isinstance(request.body, bytes):
            return builder.body_bytes(request.body)
        return builder.header("Content-Length", str(len(request.body))).body_stream(iter(request.body))

    def _start(self) -> SyncClient | None:
        with self._lock:
            if self._client is None and self._stand_in is None:
                from pyreqwest.client import SyncClientBuilder

                self._client = self._client_or_stand_in(SyncClientBuilder)
            return self._client

    def _astart(self) -> Client | None:
        with self._lock:
            if self._async_client is None and self._stand_in is None:
                from pyreqwest.client import ClientBuilder

                self._async_client = self._client_or_stand_in(ClientBuilder)
            return self._async_client

    def _client_or_stand_in(self, builder_class: Any) -> Any:
        builder = builder_class().follow_redirects(False).referer(False).user_agent(USER_AGENT)
        if self._connect_timeout is not None:
            builder = builder.connect_timeout(timedelta(seconds=self._connect_timeout))
        if self._read_timeout is not None:
            builder = builder.read_timeout(timedelta(seconds=self._read_timeout))
        try:
            return builder.build()
        except RuntimeError:
            self._stand_in = Urllib3Transport(connect_timeout=self._connect_timeout, read_timeout=self._read_timeout)
            return None


class Urllib3Transport:
    """Pure Python, at several times the CPU. ``asend`` runs in a thread."""

    def __init__(self, *, connect_timeout: float | None, read_timeout: float | None) -> None:
        from urllib.request import getproxies

        import urllib3

        self._timeout = urllib3.Timeout(connect=connect_timeout, read=read_timeout)
        options: dict[str, Any] = {"maxsize": 16, "retries": False, "headers": {"User-Agent": USER_AGENT}}
        self._pool = urllib3.PoolManager(**options)
        self._proxies = {
            scheme: urllib3.ProxyManager(url, **options)
            for scheme, url in getproxies().items()
            if scheme in ("http", "https")
        }

    def send(self, request: Request) -> Response:
        from urllib3.util import SKIP_HEADER

        try:
            answer = self._manager(request.url).request(
                request.method,
                request.url,
                body=request.body if isinstance(request.body, bytes) else iter(request.body),
                headers={
                    "User-Agent": USER_AGENT,
                    "Accept-Encoding": SKIP_HEADER,
                    "Content-Length": str(len(request.body)),
                    **request.headers,
                },
                timeout=self._timeout,
                redirect=False,
                preload_content=False,
            )
            try:
                content = _read(lambda: answer.read(65536), answer.headers, request)
            finally:
                answer.release_conn()
            return Response(answer.status, list(answer.headers.items()), content, answer.reason or "")
        except Exception as error:
            raise _transport_error(error, request) from error

    async def asend(self, request: Request) -> Response:
        return await asyncio.to_thread(self.send, request)

    def _manager(self, url: str) -> Any:
        from urllib.parse import urlsplit
        from urllib.request import proxy_bypass

        parts = urlsplit(url)
        proxy = self._proxies.get(parts.scheme)
        return proxy if proxy is not None and not proxy_bypass(parts.hostname or "") else self._pool


def _read(read_chunk: Callable[[], Any], headers: Mapping[str, str], request: Request) -> bytes:
    chunks, size = [], 0
    while chunk := read_chunk():
        chunks.append(bytes(chunk))
        size = _within_limit(size + len(chunk), request)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _within_limit(size: int, request: Request) -> int:
    if size > request.max_response:
        raise AnymailTransportError(
            f"The answer to {request.method} {_place(request)} is longer than {request.max_response} bytes.",
            category="unreadable",
            sent=None,
            payload=request,
        )
    return size


_REASONS = {status.value: status.phrase for status in HTTPStatus}


def _transport_error(error: Exception, request: Request) -> AnymailTransportError:
    """What a failure of the network means for the message."""
    if isinstance(error, AnymailTransportError):
        return error
    names = {cls.__name__ for cls in type(error).__mro__}
    never_reached = _never_reached(error, names)
    return AnymailTransportError(
        f"No answer to {request.method} {_place(request)}: {_cause(error)}.",
        category="timeout" if "TimeoutError" in names and "NewConnectionError" not in names else "network",
        sent=False if never_reached else None,
        retryable=never_reached,
        payload=request,
    )


# By name, so that neither library is imported for the other's sake.
_BEFORE_SENDING = frozenset(
    {
        # pyreqwest, of a request that cannot be made, or found no place in the pool
        "BuilderError", "PoolTimeoutError", "ValueError",
        # urllib3
        "ConnectTimeoutError", "LocationValueError", "NameResolutionError", "NewConnectionError", "ProxyError",
    }
)  # fmt: skip


def _never_reached(error: Exception, names: set[str]) -> bool:
    if names & {"DetailedPyreqwestError"} and "BuilderError" not in names:
        # pyreqwest 0.15 says ConnectError and ConnectTimeoutError also of a request that was sent and got no reply;
        # only the cause that hyper gives tells the two apart.
        return "PoolTimeoutError" in names or "client error (Connect)" in _causes(error)
    if names & _BEFORE_SENDING:
        return True
    # urllib3's SSLError may also come later than the handshake; this one cannot.
    return any(isinstance(inner, ssl.SSLCertVerificationError) for inner in (error.__context__, *error.args))


def _place(request: Request) -> str:
    """The URL without its query, which may hold secrets."""
    return request.url.partition("?")[0]


def _causes(error: Exception) -> list[str]:
    """What pyreqwest tells of an error, from the outermost to the innermost."""
    details = getattr(error, "details", None)
    causes = details.get("causes") if isinstance(details, dict) else None
    return [str(cause["message"]) for cause in causes or ()]


def _cause(error: Exception) -> str:
    return (_causes(error) or [str(error) or type(error).__name__])[-1]
