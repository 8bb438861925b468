"""The asynchronous ways: aiohttp, or the pool of connections in threads."""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from anymail.delivery.calling import USER_AGENT, Timeouts, Unsendable, head_fault, target_of
from anymail.delivery.failures import not_sent, raised_by_a_signal_handler, refused, unknown, words
from anymail.delivery.pool import IDLE_SECONDS, MOST, MOST_PER_HOST, Call, Pool
from anymail.delivery.proxies import Proxy, proxy_for
from anymail.delivery.tls import tls_context
from anymail.exceptions import AnymailTransportError
from anymail.wire import Chunks, Request, Response

__all__ = ["Aiohttp", "Threads", "best"]


def best(pool: Pool, timeouts: Timeouts) -> Aiohttp | Threads:
    threads = Threads(pool)
    try:
        import aiohttp  # noqa: F401
    except ImportError:
        return threads
    return Aiohttp(timeouts, threads)


class Threads:
    """The pool in threads of its own. A call that is cancelled leaves no connection behind that is half read."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._executor: tuple[int, ThreadPoolExecutor] | None = None

    async def asend(self, request: Request) -> Response:
        call = Call()
        try:
            future = self._threads().submit(self._pool.send, request, call)
        except RuntimeError:  # at the end of the process, when no thread can be started
            return self._pool.send(request)
        try:
            return await asyncio.wrap_future(future)
        except BaseException:
            call.abort()
            raise

    def _threads(self) -> ThreadPoolExecutor:
        if self._executor is None or self._executor[0] != os.getpid():
            self._executor = os.getpid(), ThreadPoolExecutor(MOST_PER_HOST, thread_name_prefix="anymail")
        return self._executor[1]


class _Progress:
    """How far a call of aiohttp got."""

    connected = False


class Aiohttp:
    """One session an event loop, closed when the loop is."""

    def __init__(self, timeouts: Timeouts, threads: Threads) -> None:
        self._timeouts = timeouts
        self._threads = threads
        # A session holds its loop, so only the loop may hold the session.
        self._sessions: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    async def asend(self, request: Request) -> Response:
        try:
            target, path = target_of(request)
            if fault := head_fault(request):
                raise Unsendable(fault)
            proxy = proxy_for(target.scheme, target.host, target.port)
        except ValueError as error:
            raise refused(request, str(error)) from None
        if not all(value.isascii() for value in request.headers.values()):
            # aiohttp sends headers in UTF-8.
            return await self._threads.asend(request)
        progress = _Progress()
        try:
            return await self._exchange(request, target, path, proxy, progress)
        except AnymailTransportError:
            raise
        except BaseException as error:
            if not isinstance(error, (OSError, ValueError, *_aiohttp_errors())) or raised_by_a_signal_handler(error):
                # Without the frames of aiohttp, which hold headers.
                raise error.with_traceback(None)  # noqa: B904
            failure = self._failure(request, target.authority, proxy, progress, error)
        raise failure

    async def _exchange(
        self, request: Request, target: Any, path: str, proxy: Proxy | None, progress: _Progress
    ) -> Response:
        import aiohttp
        from yarl import URL

        session = await self._session()
        timeouts = self._timeouts
        async with session.request(
            request.method,
            URL(f"{target.scheme}://{target.authority}{path}", encoded=True),
            headers=_headers(request, target, proxy),
            data=_body(request),
            allow_redirects=False,
            proxy=None if proxy is None else f"http://{proxy}",
            proxy_headers=_proxy_headers(proxy),
            timeout=aiohttp.ClientTimeout(
                total=timeouts.total_for(len(request.body)), connect=timeouts.connect, sock_read=timeouts.read
            ),
            trace_request_ctx=progress,
        ) as response:
            if response.status == 101:
                raise unknown(
                    request, target.authority, "it switched to another protocol, which was not asked for", "unreadable"
                )
            chunks, size = [], 0
            async for chunk in response.content.iter_any():
                size += len(chunk)
                if size > request.max_response:
                    what = f"it is longer than {request.max_response} bytes"
                    raise unknown(request, target.authority, what, "unreadable")
                chunks.append(chunk)
            headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers]
            return Response(response.status, headers, b"".join(chunks), response.reason or "")

    async def _session(self) -> Any:
        loop = asyncio.get_running_loop()
        held = self._sessions.get(loop)
        record = held() if isinstance(held, weakref.ref) else held
        if record is None:
            record = _Session(self._open())
            self._sessions[loop] = weakref.ref(record) if record.end_with(loop) else record
        if time.monotonic() - record.used_at > 0.05:
            # The loop may have stood still meanwhile: let it see which connections were closed.
            for _ in range(4):
                await asyncio.sleep(0)
        record.used_at = time.monotonic()
        return record.session

    def _open(self) -> Any:
        import aiohttp

        async def connected(session: Any, context: Any, params: Any) -> None:
            context.trace_request_ctx.connected = True

        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(connected)
        trace.on_connection_reuseconn.append(connected)
        connector = aiohttp.TCPConnector(
            limit=MOST, limit_per_host=MOST_PER_HOST, keepalive_timeout=IDLE_SECONDS, ssl=tls_context()
        )
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            max_line_size=65536,
            max_field_size=65536,
            trace_configs=[trace],
        )
        # Else it sends a GET, PUT or DELETE again by itself; there is no parameter for it.
        session._retry_connection = False
        return session

    def _failure(
        self, request: Request, who: str, proxy: Proxy | None, progress: _Progress, error: BaseException
    ) -> AnymailTransportError:
        import aiohttp

        timed_out = isinstance(error, asyncio.TimeoutError)
        if not progress.connected:
            via = f"the proxy {proxy}" if proxy else "it"
            if isinstance(error, aiohttp.ClientHttpProxyError):
                return not_sent(request, who, f"{via} refused to connect to it ({error.status} {error.message})")
            if isinstance(error, aiohttp.ClientConnectorCertificateError):
                cause = getattr(error.certificate_error, "verify_message", "") or words(error.certificate_error)
                return not_sent(request, who, f"its TLS certificate is not trusted ({cause})")
            if isinstance(error, aiohttp.ClientConnectorDNSError):
                whose = f"the name of {via}" if proxy else "its name"
                return not_sent(request, who, f"{whose} has no address ({words(error.os_error)})")
            if timed_out:
                limit = "" if self._timeouts.connect is None else f" within {self._timeouts.connect:g} s"
                return not_sent(request, who, f"{via} was not connected{limit}", "timeout")
            inner = getattr(error, "os_error", error)
            if isinstance(inner, ConnectionRefusedError):
                return not_sent(request, who, f"{via} refused the connection (connection refused)")
            return not_sent(request, who, f"{via} was not connected ({words(inner)})")
        if timed_out:
            return unknown(request, who, "it did not come within the time for it", "timeout")
        if isinstance(error, aiohttp.ServerDisconnectedError):
            return unknown(request, who, "it closed the connection without a word")
        if isinstance(error, aiohttp.ClientPayloadError):
            return unknown(request, who, "its response broke off, or is not in order")
        if isinstance(error, (aiohttp.ClientResponseError, ValueError)):
            return unknown(request, who, f"what came is no HTTP response ({type(error).__name__})", "unreadable")
        return unknown(request, who, f"the connection broke ({type(error).__name__})")


class _Session:
    """A session that is closed just before its loop is."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.used_at = 0.0

    def end_with(self, loop: Any) -> bool:
        """Have the loop hold and close this. There is no other way to learn of the end of every loop."""
        close = loop.close

        def closing() -> None:
            if not loop.is_closed() and not loop.is_running():
                try:
                    loop.run_until_complete(self._finish())
                except RuntimeError:  # another loop runs in this thread
                    self.session.connector._close_immediately(abort_ssl=True)
            close()

        try:
            loop.close = closing
        except AttributeError:
            return False
        return True

    async def _finish(self) -> None:
        await self.session.close()
        for _ in range(4):
            await asyncio.sleep(0)


def _aiohttp_errors() -> tuple[type[Exception], ...]:
    import aiohttp
    from aiohttp.http_exceptions import HttpProcessingError

    return aiohttp.ClientError, HttpProcessingError


def _headers(request: Request, target: Any, proxy: Proxy | None) -> dict[str, str]:
    given = {name.lower() for name in request.headers}
    own = {"Accept-Encoding": "identity", "User-Agent": USER_AGENT}
    if isinstance(request.body, Chunks) or (not request.body and request.method not in ("GET", "HEAD")):
        own["Content-Length"] = str(len(request.body))
    if target.authorization is not None:
        own["Authorization"] = target.authorization.reveal()
    if proxy is not None and proxy.authorization is not None and target.scheme == "http":
        own["Proxy-Authorization"] = proxy.authorization.reveal()
    return {**{name: value for name, value in own.items() if name.lower() not in given}, **request.headers}


def _proxy_headers(proxy: Proxy | None) -> dict[str, str] | None:
    if proxy is None:
        return None
    own = {"User-Agent": USER_AGENT}
    if proxy.authorization is not None:
        own["Proxy-Authorization"] = proxy.authorization.reveal()
    return own


def _body(request: Request) -> Any:
    if isinstance(request.body, bytes):
        return request.body or None
    return _chunks(request.body)


async def _chunks(body: Chunks) -> AsyncIterator[bytes]:
    for chunk in body:
        yield chunk
