"""How a request can fail on its way, step by step, and what that says of the message: for every way of carrying it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trustme
from loopback import LoopbackServer, RawServer, relay, reset

from anymail.delivery.transport import PooledTransport
from anymail.exceptions import AnymailTransportError
from anymail.wire import Base64, Request, Response

Send = Callable[[PooledTransport, Request], Response]
WAYS = ["sync", "aiohttp", "threads"]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture(params=WAYS)
def send(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Send:
    if request.param == "threads":
        monkeypatch.setitem(sys.modules, "aiohttp", None)
    if request.param == "sync":
        return lambda transport, ask: transport.send(ask)
    return lambda transport, ask: asyncio.run(transport.asend(ask))


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def transport(connect: float | None = 5.0, read: float | None = 5.0, **more: Any) -> PooledTransport:
    return PooledTransport(connect_timeout=connect, read_timeout=read, **more)


def post(url: str, payload: Any = None) -> Request:
    return Request.post(url, headers={"X-Token": "hush"}, json=payload)


def failure(send: Send, carrier: PooledTransport, ask: Request) -> AnymailTransportError:
    with pytest.raises(AnymailTransportError) as raised:
        send(carrier, ask)
    error = raised.value
    assert error.retryable is (error.sent is False and "not made" not in str(error))
    assert "hush" not in f"{error} {error.__cause__} {error.__context__}"
    return error


def responding(content: bytes, *, then: Callable[[socket.socket], None] | None = None) -> Any:
    """Read a request, send these bytes, and close the connection, or do something else ``then``."""

    def behave(server: RawServer, connection: socket.socket) -> None:
        server.read(connection)
        connection.sendall(content)
        if then is not None:
            then(connection)

    return behave


def stall(connection: socket.socket) -> None:
    time.sleep(3)


AFTER_THE_REQUEST: dict[str, tuple[Any, str]] = {
    "closed without a word": (responding(b""), "network"),
    "reset": (responding(b"", then=reset), "network"),
    "closed in the status line": (responding(b"HTTP/1."), "*"),
    "closed in the headers": (responding(b"HTTP/1.1 200 OK\r\nContent-Le"), "*"),
    "closed in the body": (responding(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}"), "network"),
    "reset in the body": (responding(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}", then=reset), "network"),
    "closed in a chunk": (responding(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nab"), "network"),
    "a chunk of no size": (responding(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n"), "*"),
    "a chunk of negative size": (responding(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nab\r\n"), "*"),
    "no HTTP": (responding(b"220 smtp.example ESMTP\r\n"), "unreadable"),
    "another protocol": (
        responding(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"),
        "unreadable",
    ),
    "a long status line": (responding(b"HTTP/1.1 200 " + b"x" * 200_000 + b"\r\n\r\n"), "unreadable"),
    "a long header": (responding(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n"), "unreadable"),
    "an unknown encoding": (
        responding(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: foo\r\n\r\n", then=lambda _: time.sleep(1.5)),
        "*",
    ),
    "stalled before the response": (responding(b"", then=stall), "timeout"),
    "stalled in the headers": (responding(b"HTTP/1.1 200 OK\r\n", then=stall), "timeout"),
    "stalled in the body": (responding(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}", then=stall), "timeout"),
    "stalled after an interim response": (responding(b"HTTP/1.1 103 Early Hints\r\n\r\n", then=stall), "timeout"),
}


@pytest.mark.parametrize("fault", AFTER_THE_REQUEST)
def test_from_the_first_byte_on_the_outcome_is_unknown(send: Send, fault: str) -> None:
    behave, category = AFTER_THE_REQUEST[fault]
    with RawServer(behave) as server:
        error = failure(send, transport(read=0.4, total_timeout=1.5), post(server.url))
        assert (error.sent, len(server.received)) == (None, 1)
        if category != "*":
            assert error.category == category
        assert f"localhost:{server.port}" in str(error)


@pytest.mark.parametrize("content", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"])
def test_a_drip_has_an_end(send: Send, content: bytes) -> None:
    def drip(server: RawServer, connection: socket.socket) -> None:
        server.read(connection)
        connection.sendall(content)
        while not server.ended.wait(0.05):
            connection.sendall(b"X" if content.endswith(b"\r\n\r\n") else b"X: y\r\n")

    with RawServer(drip) as server:
        error = failure(send, transport(read=1, total_timeout=0.6), post(server.url))
    assert (error.sent, error.category) == (None, "timeout")


def test_endless_interim_responses_have_an_end(send: Send) -> None:
    def behave(server: RawServer, connection: socket.socket) -> None:
        server.read(connection)
        while not server.ended.wait(0.01):
            connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")

    with RawServer(behave) as server:
        assert failure(send, transport(read=1, total_timeout=0.8), post(server.url)).sent is None


@pytest.mark.parametrize("interim", [b"100 Continue", b"102 Processing", b"103 Early Hints"])
def test_interim_responses_are_read_past(send: Send, interim: bytes) -> None:
    behave = responding(b"HTTP/1.1 %b\r\nLink: </a>\r\n\r\n" % interim * 2 + OK)
    with RawServer(behave) as server:
        response = send(transport(), post(server.url))
        assert (response.status_code, response.content, "link" in response.headers) == (200, b"{}", False)


READABLE: dict[str, tuple[bytes, bytes]] = {
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\nT: u\r\n\r\n",
        b"{}",
    ),
    "until the end": (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", b"{}"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\n{}", b"{}"),
    "encoded all the same": (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b",
        b"\x1f\x8b",
    ),
    "empty": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
}


@pytest.mark.parametrize("kind", READABLE)
def test_responses_in_order(send: Send, kind: str) -> None:
    content, expected = READABLE[kind]
    with RawServer(responding(content)) as server:
        assert send(transport(), post(server.url)).content == expected


def test_what_is_sent(send: Send) -> None:
    with RawServer(responding(OK)) as server:
        ask = Request("POST", f"{server.url}a%2Fb/%7Ec+d?e=%2B&f#g", {"X-Name": "caf\xe9"}, b"body")
        assert send(transport(), ask).status_code == 200
        [(first, headers, body)] = server.received
    assert first == "POST /a%2Fb/%7Ec+d?e=%2B&f HTTP/1.1"
    assert (headers["accept-encoding"], headers["content-length"], body) == ("identity", "4", b"body")
    assert headers["x-name"] == "caf\xe9"
    assert headers["host"] == f"localhost:{server.port}"


def test_no_cookie_goes_to_the_next_tenant(send: Send) -> None:
    with LoopbackServer(lambda *_: (200, {"Set-Cookie": "a=b"}, b"")) as server:
        carrier = transport()
        for _ in range(2):
            send(carrier, post(server.url))
        assert ["cookie" in headers for _, headers, _ in server.calls] == [False, False]


def test_no_netrc_is_read(send: Send, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("default login ana password p\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with RawServer(responding(OK)) as server:
        send(transport(), post(server.url))
        assert "authorization" not in server.received[0][1]


@pytest.mark.parametrize(
    ("name", "value"), [("X", "a\r\nY: b"), ("X", "a\n"), ("X", "a\0"), ("X", "\u20ac"), ("X y", "a")]
)
def test_a_header_that_cannot_be_sent(send: Send, name: str, value: str) -> None:
    with RawServer(responding(OK)) as server:
        error = failure(send, transport(), Request("POST", server.url, {name: f"hush{value}"}, b""))
        assert (error.sent, error.retryable, server.connections) == (False, False, 0)


def test_a_connection_that_was_closed_while_nobody_looked(send: Send) -> None:
    """Nor is a request sent again by the transport itself when the connection dies under it."""
    count = 0

    def behave(server: RawServer, connection: socket.socket) -> None:
        nonlocal count
        server.read(connection)
        connection.sendall(OK)
        count += 1
        if count == 1:
            return
        server.read(connection)

    async def both(carrier: PooledTransport, ask: Request) -> list[int]:
        first = await carrier.asend(ask)
        time.sleep(0.1)  # the loop stands still
        return [first.status_code, (await carrier.asend(ask)).status_code]

    with RawServer(behave) as server:
        carrier, ask = transport(), post(server.url)
        if send.__code__.co_names[:1] == ("send",):
            seen = [carrier.send(ask).status_code]
            time.sleep(0.1)
            seen.append(carrier.send(ask).status_code)
        else:
            seen = asyncio.run(both(carrier, ask))
        assert (seen, server.connections) == ([200, 200], 2)


@pytest.mark.parametrize("method", ["POST", "GET", "PUT"])
def test_a_kept_connection_that_dies_is_not_replaced_behind_ones_back(method: str) -> None:
    def behave(server: RawServer, connection: socket.socket) -> None:
        server.read(connection)
        connection.sendall(OK)
        server.read(connection)

    async def twice(carrier: PooledTransport, ask: Request) -> AnymailTransportError:
        await carrier.asend(ask)
        with pytest.raises(AnymailTransportError) as raised:
            await carrier.asend(ask)
        return raised.value

    with RawServer(behave) as server:
        carrier, ask = transport(), Request(method, server.url)
        carrier.send(ask)
        assert failure(lambda carrier, ask: carrier.send(ask), carrier, ask).sent is None
        assert len(server.received) == 2
        assert asyncio.run(twice(carrier, ask)).sent is None
        assert len(server.received) == 4


@pytest.mark.parametrize("clock", ["monotonic", "time"])
def test_a_connection_that_was_idle_too_long(clock: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackServer() as server:
        carrier = transport()
        carrier.send(post(server.url))
        real = getattr(time, clock)
        monkeypatch.setattr(time, clock, lambda: real() + 11)
        carrier.send(post(server.url))
        assert server.connections == 2


def test_what_follows_a_response_is_no_response(send: Send) -> None:
    def behave(server: RawServer, connection: socket.socket) -> None:
        server.read(connection)
        connection.sendall(OK + b"HTTP/1.1 500 Forged\r\nContent-Length: 0\r\n\r\n")
        time.sleep(1)

    with RawServer(behave) as server:
        carrier = transport()
        for _ in range(2):
            assert carrier.send(post(server.url)).status_code == 200
        assert server.connections == 2


@pytest.mark.parametrize("way", ["sync", "threads"])
def test_an_early_refusal_of_a_large_body_is_read(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def behave(server: RawServer, connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        connection.shutdown(socket.SHUT_WR)
        time.sleep(2)

    with RawServer(behave) as server:
        ask = post(server.url, {"a": Base64(bytes(20_000_000))})
        assert transport(read=0.5).send(ask).status_code == 413


# Before the request


def test_a_silent_tls_server(send: Send) -> None:
    with RawServer(lambda server, connection: stall(connection)) as server:
        error = failure(send, transport(connect=0.3), post(server.url.replace("http:", "https:")))
        assert (error.sent, error.category) == (False, "timeout")


def test_a_server_without_tls(send: Send) -> None:
    with RawServer(lambda server, connection: connection.sendall(b"220 hello\r\n")) as server:
        assert failure(send, transport(), post(server.url.replace("http:", "https:"))).sent is False


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return authority


def server_context(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def test_a_certificate_of_another_host(send: Send, authority: trustme.CA) -> None:
    with RawServer(responding(OK), tls=server_context(authority, "other.example")) as server:
        error = failure(send, transport(), post(server.url))
        assert (error.sent, server.received) == (False, [])
        assert "certificate is not trusted" in str(error)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_private_authorities(send: Send, tmp_path: Path, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with RawServer(responding(OK), tls=server_context(authority)) as server:
        monkeypatch.setenv(variable, str(tmp_path / "ca.pem"))
        assert send(transport(), post(server.url)).status_code == 200


def test_a_bundle_that_is_not_there(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file.pem")
    with RawServer(responding(OK)) as server:
        error = failure(send, transport(), post(server.url.replace("http:", "https:")))
    assert error.sent is False
    assert "REQUESTS_CA_BUNDLE" in str(error)


@pytest.mark.parametrize("way", WAYS)
def test_a_name_that_takes_for_ever(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def slow(host: Any, *args: Any, **options: Any) -> Any:
        if host == "slow.example" and options.get("flags") != socket.AI_NUMERICHOST:
            time.sleep(1)
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    if way == "threads":
        monkeypatch.setitem(sys.modules, "aiohttp", None)
    send: Send = (lambda carrier, ask: carrier.send(ask)) if way == "sync" else lambda c, ask: asyncio.run(c.asend(ask))
    error = failure(send, transport(connect=0.2), post("http://slow.example/"))
    assert (error.sent, error.category) == (False, "timeout")


def test_the_next_address_is_tried_early(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(responding(OK)) as server, socket.create_server(("127.0.0.2", 0), backlog=0) as full:
        fillers = [socket.socket() for _ in range(4)]
        for one in fillers:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        two = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", full.getsockname()),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port)),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: two)
        assert transport(connect=4).send(post(server.url)).status_code == 200
        for one in fillers:
            one.close()


# Proxies


def proxy_behaviour(answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n", port: int = 0) -> Any:
    def behave(server: RawServer, connection: socket.socket) -> None:
        server.read(connection)
        connection.sendall(answer)
        if b" 200 " in answer[:20]:
            with socket.create_connection(("127.0.0.1", port)) as onward:
                relay(connection, onward)

    return behave


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_a_tunnel_with_credentials(
    send: Send, authority: trustme.CA, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        RawServer(responding(OK), tls=server_context(authority)) as esp,
        RawServer(proxy_behaviour(port=esp.port)) as proxy,
    ):
        monkeypatch.setenv(variable, f"http://user:p%40ss@localhost:{proxy.port}")
        assert send(transport(), post(esp.url)).status_code == 200
        [(first, headers, _)] = proxy.received
        assert first == f"CONNECT localhost:{esp.port} HTTP/1.1"
        assert headers["proxy-authorization"] == f"Basic {b64encode(b'user:p@ss').decode()}"
        assert "x-token" not in headers
        assert "proxy-authorization" not in esp.received[0][1]


PROXY_REFUSES = {
    "credentials": b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
    "by rule": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nhush",
    "bad gateway": b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
    "nonsense": b"SSH-2.0\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("how", PROXY_REFUSES)
def test_a_proxy_that_makes_no_tunnel(send: Send, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(proxy_behaviour(PROXY_REFUSES[how])) as proxy:
        monkeypatch.setenv("https_proxy", f"http://user:hush@localhost:{proxy.port}")
        error = failure(send, transport(), post("https://esp.example/send"))
        assert error.sent is False
        assert f"the proxy localhost:{proxy.port}" in str(error)
        if how == "credentials":
            assert "407 Proxy Authentication Required" in str(error)


def test_a_proxy_that_hangs(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(server: RawServer, connection: socket.socket) -> None:
        server.read(connection)
        server.ended.wait(3)

    with RawServer(hang) as proxy:
        monkeypatch.setenv("https_proxy", f"localhost:{proxy.port}")
        error = failure(send, transport(connect=0.3), post("https://esp.example/send"))
    assert (error.sent, error.category) == (False, "timeout")


def test_nobody_is_the_proxy(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://user:hush@127.0.0.1:9")
    error = failure(send, transport(), post("https://esp.example/send"))
    assert error.sent is False
    assert "the proxy 127.0.0.1:9 refused the connection" in str(error)


def test_a_proxy_that_cuts_after_the_request(
    send: Send, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        RawServer(responding(b""), tls=server_context(authority)) as esp,
        RawServer(proxy_behaviour(port=esp.port)) as proxy,
    ):
        monkeypatch.setenv("https_proxy", f"http://localhost:{proxy.port}")
        assert failure(send, transport(), post(esp.url)).sent is None
        assert len(esp.received) == 1


def test_a_plain_proxy_gets_the_whole_url_and_its_credentials(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(responding(OK)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:pass@localhost:{proxy.port}")
        assert send(transport(), post("http://esp.example/a%2Fb?c=d")).status_code == 200
        [(first, headers, _)] = proxy.received
    assert first == "POST http://esp.example/a%2Fb?c=d HTTP/1.1"
    assert headers["proxy-authorization"] == f"Basic {b64encode(b'user:pass').decode()}"


@pytest.mark.parametrize("kind", ["socks5", "socks5h", "socks4", "https", "ftp"])
def test_other_kinds_of_proxies_are_refused_by_name(send: Send, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", f"{kind}://user:hush@localhost:1080")
    error = failure(send, transport(), post("https://esp.example/"))
    assert (error.sent, error.retryable) == (False, False)
    assert repr(kind) in str(error)


@pytest.mark.parametrize(
    ("listed", "direct"),
    [
        ("localhost", True), (".localhost", True), ("*", True), ("other, localhost", True), ("LOCALHOST", True),
        ("localhost:1", False), ("host", False), ("ocalhost", False), ("", False), ("10.0.0.0/8", False),
    ],
)  # fmt: skip
def test_no_proxy(send: Send, listed: str, direct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(responding(OK)) as esp, RawServer(responding(OK)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://localhost:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", listed)
        send(transport(), post(esp.url))
        assert (len(esp.received), len(proxy.received)) == ((1, 0) if direct else (0, 1))


def test_no_proxy_for_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(responding(OK)) as esp:
        monkeypatch.setenv("http_proxy", "http://localhost:9")
        monkeypatch.setenv("no_proxy", "127.0.0.0/8")
        assert transport().send(post(f"http://127.0.0.1:{esp.port}/")).status_code == 200


# Interruptions


@pytest.mark.parametrize("limit", [RuntimeError, TimeoutError, ConnectionResetError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["connecting", "reading"])
def test_a_signal_handler_interrupts_at_once_and_unchanged(limit: type[BaseException], where: str) -> None:
    error = limit("time is up")

    def handler(*args: Any) -> None:
        raise error

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with RawServer(responding(b"", then=lambda _: time.sleep(10))) as server:
            carrier = transport(connect=8, read=8)
            url = server.url if where == "reading" else server.url.replace("http:", "https:")
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            begun = time.monotonic()
            with pytest.raises(limit) as raised:
                carrier.send(post(url))
            assert raised.value is error
            assert time.monotonic() - begun < 5
            assert not carrier._pool._idle
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("way", ["aiohttp", "threads"])
def test_a_cancelled_call_leaves_no_connection_that_is_half_read(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "threads":
        monkeypatch.setitem(sys.modules, "aiohttp", None)
    count = 0

    def behave(server: RawServer, connection: socket.socket) -> None:
        nonlocal count
        while True:
            server.read(connection)
            count += 1
            if count == 1:
                time.sleep(0.4)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % count)

    async def main() -> bytes:
        carrier = transport()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await carrier.asend(post(server.url))
        await asyncio.sleep(0.6)
        return (await carrier.asend(post(server.url))).content

    with RawServer(behave) as server:
        assert asyncio.run(main()) == b"2"
        assert server.connections == 2


def test_a_cancelled_call_that_has_not_begun_is_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    real = socket.getaddrinfo

    def slow(*args: Any, **options: Any) -> Any:
        time.sleep(0.3)
        return real(*args, **options)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await transport().asend(post(server.url))
        await asyncio.sleep(0.8)

    with RawServer(responding(OK)) as server:
        monkeypatch.setattr(socket, "getaddrinfo", slow)
        asyncio.run(main())
        assert server.received == []


def test_the_pool_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anymail.delivery.pool.MOST_PER_HOST", 2)
    at_once: list[int] = []
    busy = 0
    lock = threading.Lock()

    def slow(*args: Any) -> tuple[int, dict[str, str], bytes]:
        nonlocal busy
        with lock:
            busy += 1
            at_once.append(busy)
        time.sleep(0.02)
        with lock:
            busy -= 1
        return 200, {}, b""

    with LoopbackServer(slow) as server:
        carrier = transport()
        threads = [threading.Thread(target=carrier.send, args=(post(server.url),)) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(server.calls), max(at_once), server.connections) == (10, 2, 2)


def test_a_full_pool_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anymail.delivery.pool.MOST_PER_HOST", 1)
    with RawServer(responding(b"", then=lambda _: time.sleep(1))) as server:
        carrier = transport(connect=0.2, read=1)

        def fail() -> None:
            with contextlib.suppress(AnymailTransportError):
                carrier.send(post(server.url))

        first = threading.Thread(target=fail)
        first.start()
        while not server.received:
            time.sleep(0.01)
        error = failure(lambda carrier, ask: carrier.send(ask), carrier, post(server.url))
        first.join()
    assert (error.sent, error.category, len(server.received)) == (False, "timeout", 1)


# Whole processes


def in_a_process(program: str, url: str, **environ: str) -> str:
    """What a program prints; it has ``post()``, ``transport`` and ``url``. Warnings of leaked resources are errors."""
    preamble = """
    import asyncio, os, signal, sys, threading, time
    from anymail.delivery.transport import PooledTransport
    from anymail.wire import Request
    url = sys.argv[1]
    transport = PooledTransport(connect_timeout=5, read_timeout=5)
    def post(): return Request.post(url, headers={}, json={})
    """
    lines = textwrap.dedent(preamble) + textwrap.dedent(program)
    # The import of aiohttp takes longer than asyncio likes.
    lines = "import logging; logging.getLogger('asyncio').setLevel('ERROR')\n" + lines
    first = "from gevent import monkey; monkey.patch_all()\n" if environ.pop("gevent", "") else ""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-W", "ignore::DeprecationWarning", "-c",
         first + lines, url],
        capture_output=True, text=True, timeout=60, env={**os.environ, **environ},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


PROGRAMS = {
    "the first send in a thread that ends": """
        for call in (lambda: transport.send(post()), lambda: asyncio.run(transport.asend(post()))):
            for _ in range(3):
                thread = threading.Thread(target=call)
                thread.start(); thread.join()
        print("ok")
    """,
    "atexit": """
        import atexit
        atexit.register(lambda: print("ok" if transport.send(post()).status_code == 200 else "no"))
    """,
    "atexit, after the pool was used": """
        import atexit
        atexit.register(lambda: print("ok" if transport.send(post()).status_code == 200 else "no"))
        transport.send(post())
    """,
    "a thread that outlives the main one": """
        def work():
            threading.main_thread().join()
            time.sleep(0.2)
            print("ok" if transport.send(post()).status_code == 200 else "no")
        threading.Thread(target=work).start()
    """,
    "loops one after the other, nested in threads, closed by hand": """
        for _ in range(3):
            asyncio.run(transport.asend(post()))
        async def outer():
            await transport.asend(post())
            await asyncio.to_thread(lambda: asyncio.run(transport.asend(post())))
            await transport.asend(post())
        asyncio.run(outer())
        loops = [asyncio.new_event_loop() for _ in range(3)]
        for loop in loops * 2:
            loop.run_until_complete(transport.asend(post()))
        for loop in loops:
            loop.close()
        print("ok")
    """,
    "calls that are left in the air": """
        async def main():
            tasks = [asyncio.ensure_future(transport.asend(post())) for _ in range(5)]
            await asyncio.sleep(0)
        asyncio.run(main())
        print("ok")
    """,
    "fork": """
        transport.send(post())
        asyncio.run(transport.asend(post()))
        child = os.fork()
        status = transport.send(post()).status_code, asyncio.run(transport.asend(post())).status_code
        if child == 0:
            os._exit(0 if status == (200, 200) else 1)
        print("ok" if status == (200, 200) and os.waitpid(child, 0)[1] == 0 else "no")
    """,
}


@pytest.mark.parametrize("way", ["aiohttp", "threads"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_process_survives(program: str, way: str) -> None:
    block = "sys.modules['aiohttp'] = None\n" if way == "threads" else ""
    with LoopbackServer() as server:
        assert in_a_process(block + textwrap.dedent(PROGRAMS[program]), server.url) == "ok"


def test_short_lived_processes_end_well() -> None:
    program = """
        async def main():
            await asyncio.gather(*(transport.asend(post()) for _ in range(3)))
        asyncio.run(main())
        print("ok")
    """
    with LoopbackServer() as server, ThreadPoolExecutor(3) as three:
        ended = list(three.map(lambda _: in_a_process(program, server.url), range(9)))
        assert (ended, len(server.calls)) == (["ok"] * 9, 27)


def test_gevent_goes_on_while_a_call_waits() -> None:
    pytest.importorskip("gevent")
    at_once = 0
    most = 0
    lock = threading.Lock()

    def slow(*args: Any) -> tuple[int, dict[str, str], bytes]:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.5)
        with lock:
            at_once -= 1
        return 200, {}, b""

    program = """
        import gevent
        jobs = [gevent.spawn(lambda: transport.send(post()).status_code) for _ in range(8)]
        gevent.joinall(jobs)
        print({job.value for job in jobs})
    """
    with LoopbackServer(slow) as server:
        assert in_a_process(program, server.url, gevent="yes") == "{200}"
    assert most == 8


def test_a_subinterpreter_sends() -> None:
    interpreters = pytest.importorskip("_interpreters")
    program = textwrap.dedent("""
        from anymail.delivery.transport import PooledTransport
        from anymail.wire import Request
        import asyncio, sys
        sys.modules["aiohttp"] = None
        transport = PooledTransport(connect_timeout=5, read_timeout=5)
        assert transport.send(Request("POST", URL)).status_code == 200
        assert asyncio.run(transport.asend(Request("POST", URL))).status_code == 200
    """)
    with LoopbackServer() as server:
        for kind in ("isolated", "legacy"):
            found = interpreters.create(kind)
            assert interpreters.exec(found, f"URL = {server.url!r}\n{program}") is None
            interpreters.destroy(found)
        assert len(server.calls) == 4


# At random


class Chaos:
    """A server that fails at random. It knows which requests it had in full."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def __call__(self, server: RawServer, connection: socket.socket) -> None:
        while True:
            fault = self._random.choice(FAULTS)
            if fault == "close at once":
                return None
            if fault == "reset at once":
                return reset(connection)
            if fault == "reset in the request":
                connection.recv(20)
                return reset(connection)
            server.read(connection)
            if fault == "idle death":
                connection.sendall(OK)
                return None
            if fault in RESPONSES:
                connection.sendall(RESPONSES[fault])
                continue
            if fault == "close":
                return None
            if fault == "reset":
                return reset(connection)
            if fault == "stall":
                time.sleep(0.3)
                return None
            content = OK if fault == "cut" else b"HTTP/1.1 103 Early\r\n\r\n" + OK
            connection.sendall(content[: self._random.randrange(len(content))])
            return None


RESPONSES = {
    "ok": OK,
    "early hints": b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK,
    "junk after": OK + b"junk",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "503": b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
}
FAULTS = [
    *["ok"] * 6, *RESPONSES, "close at once", "reset at once", "reset in the request", "idle death", "close", "reset",
    "stall", "cut", "cut early",
]  # fmt: skip


def attack(calls: int, seed: int, *, threads: bool) -> dict[tuple[str, bool | str | None, bool], int]:
    """How many calls ended in each (way, outcome, whether the server had the request in full)."""
    outcomes: dict[str, tuple[str, bool | str | None]] = {}
    carrier = transport(connect=2, read=0.2)

    def ask(way: str, number: int) -> Request:
        size = 300_000 if number % 20 == 0 else 20
        return Request.post(f"{server.url}{way}/{number}", headers={}, json={"a": Base64(bytes(size))})

    def note(way: str, number: int, result: Response | AnymailTransportError) -> None:
        outcomes[f"/{way}/{number}"] = (way, "response" if isinstance(result, Response) else result.sent)

    def work(start: int) -> None:
        for number in range(start, calls, 4):
            try:
                note("sync", number, carrier.send(ask("sync", number)))
            except AnymailTransportError as error:
                note("sync", number, error)

    async def awork(start: int, way: str) -> None:
        for number in range(start, calls, 8):
            try:
                note(way, number, await carrier.asend(ask(way, number)))
            except AnymailTransportError as error:
                note(way, number, error)

    async def all_at_once(way: str) -> None:
        await asyncio.gather(*(awork(start, way) for start in range(8)))

    with RawServer(Chaos(seed)) as server:
        workers = [threading.Thread(target=work, args=(start,)) for start in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        asyncio.run(all_at_once("threads" if threads else "aiohttp"))
        time.sleep(0.3)
        received = [first.split()[1] for first, _, _ in server.received]
    assert len(received) == len(set(received)), "nothing was sent twice"
    counted: dict[tuple[str, bool | str | None, bool], int] = {}
    for path, (way, outcome) in outcomes.items():
        key = (way, outcome, path in received)
        counted[key] = counted.get(key, 0) + 1
    return counted


@pytest.mark.parametrize("threads", [False, True])
def test_nothing_that_arrived_is_called_not_sent(threads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if threads:
        monkeypatch.setitem(sys.modules, "aiohttp", None)
    counted = attack(200, 20260101, threads=threads)
    assert sum(counted.values()) == 400
    assert not [key for key in counted if key[1:] in ((False, True), ("response", False))]
    assert {key[1] for key in counted} >= {"response", None}
