"""The transports over real HTTP on loopback: both implementations, sync and async."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback import LoopbackServer

from anymail.delivery.transport import PooledTransport, transport_for
from anymail.exceptions import AnymailConfigurationError, AnymailTransportError
from anymail.wire import STREAM_FROM, Base64, Request, Response


@pytest.fixture
def make() -> Callable[..., Any]:
    return lambda connect=5.0, read=5.0, **more: PooledTransport(connect_timeout=connect, read_timeout=read, **more)


@pytest.fixture(params=["sync", "aiohttp", "threads"])
def send(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, Request], Response]:
    if request.param == "threads":
        monkeypatch.setitem(sys.modules, "aiohttp", None)
    if request.param == "sync":
        return lambda transport, ask: transport.send(ask)
    return lambda transport, ask: asyncio.run(transport.asend(ask))


def post(url: str, payload: Any = None) -> Request:
    return Request.post(url, headers={"X-Token": "t"}, json=payload)


def test_a_call(make: Any, send: Any) -> None:
    with LoopbackServer() as server:
        response = send(make(), post(f"{server.url}a?b=c", {"x": "ü"}))
        assert (response.status_code, response.json()) == (200, {"path": "/a?b=c", "length": 10})
        assert response.headers["content-type"] == "application/json"
        [(_, headers, body)] = server.calls
        assert body == '{"x":"ü"}'.encode()
        assert headers["x-token"] == "t"
        assert headers["content-type"] == "application/json"
        assert headers["user-agent"].startswith("anymail/")
        assert "transfer-encoding" not in headers


@pytest.mark.parametrize("status", [200, 204, 400, 404, 429, 500, 503])
def test_any_status_is_an_answer(make: Any, send: Any, status: int) -> None:
    with LoopbackServer(lambda *_: (status, {"Retry-After": "3"}, b"")) as server:
        response = send(make(), post(server.url))
        assert (response.status_code, response.headers["retry-after"]) == (status, "3")


def test_redirects_are_not_followed(make: Any, send: Any) -> None:
    with LoopbackServer() as other, LoopbackServer(lambda *_: (307, {"Location": other.url}, b"")) as server:
        assert send(make(), post(server.url)).status_code == 307
        assert other.calls == []


def test_a_large_body_is_streamed_with_its_length(make: Any, send: Any) -> None:
    content = os.urandom(STREAM_FROM * 5)
    with LoopbackServer() as server:
        ask = post(server.url, {"a": Base64(content)})
        assert not isinstance(ask.body, bytes)
        transport = make()
        for _ in range(2):
            assert send(transport, ask).status_code == 200
        for _, headers, body in server.calls:
            assert body == bytes(ask.body)
            assert headers["content-length"] == str(len(body))
            assert "transfer-encoding" not in headers


def test_connections_are_kept(make: Any) -> None:
    with LoopbackServer() as server:
        transport = make()
        for _ in range(10):
            transport.send(post(server.url))
        assert server.connections == 1


def test_async_connections_are_kept_in_an_event_loop() -> None:
    async def five() -> None:
        for _ in range(5):
            await transport.asend(post(server.url))

    with LoopbackServer() as server:
        transport = PooledTransport(connect_timeout=5, read_timeout=5)
        asyncio.run(five())
        assert server.connections == 1


def test_many_threads_share_one(make: Any) -> None:
    with LoopbackServer() as server:
        transport = make()
        answers: list[int] = []

        def work() -> None:
            answers.extend(transport.send(post(server.url)).status_code for _ in range(10))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [200] * 80
        assert server.connections <= 16


def test_nobody_listens(make: Any, send: Any) -> None:
    with pytest.raises(AnymailTransportError, match=r"(?i)refused") as raised:
        send(make(), post("http://127.0.0.1:9/"))
    error = raised.value
    assert (error.sent, error.retryable, error.category) == (False, True, "network")


def test_a_connection_that_is_not_made_in_time(make: Any, send: Any) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        with pytest.raises(AnymailTransportError) as raised:
            send(make(connect=0.2), post(f"http://127.0.0.1:{full.getsockname()[1]}/"))
        for one in waiting:
            one.close()
    assert (raised.value.sent, raised.value.category) == (False, "timeout")


def test_an_unknown_host(make: Any, send: Any) -> None:
    with pytest.raises(AnymailTransportError) as raised:
        send(make(), post("http://no-such-host.invalid/?key=hush"))
    assert raised.value.sent is False
    assert "no-such-host.invalid" in str(raised.value)
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize("url", ["not a url", "http://", "ftp://x/"])
def test_a_wrong_url(make: Any, send: Any, url: str) -> None:
    with pytest.raises(AnymailTransportError) as raised:
        send(make(), post(url))
    assert raised.value.sent is False


def test_a_reply_that_does_not_come(make: Any, send: Any) -> None:
    def slow(*args: Any) -> tuple[int, dict[str, str], bytes]:
        time.sleep(1)
        return 200, {}, b""

    with LoopbackServer(slow) as server, pytest.raises(AnymailTransportError) as raised:
        send(make(read=0.1), post(server.url))
    error = raised.value
    assert (error.sent, error.retryable, error.category) == (None, False, "timeout")


def test_a_hang_up_after_the_request(make: Any, send: Any) -> None:
    with LoopbackServer(lambda *_: None) as server:
        with pytest.raises(AnymailTransportError) as raised:
            send(make(), post(server.url))
        assert len(server.calls) == 1, "it was not sent again"
    assert (raised.value.sent, raised.value.category) == (None, "network")


def test_a_connection_that_was_closed_while_idle(make: Any) -> None:
    with LoopbackServer() as server:
        transport = make()
        transport.send(post(server.url))
        server.hang_up()
        time.sleep(0.05)
        assert transport.send(post(server.url)).status_code == 200
        assert (server.connections, len(server.calls)) == (2, 2)


def test_an_endless_answer(make: Any, send: Any) -> None:
    with LoopbackServer(lambda *_: (200, {}, b"x" * 3_000_000)) as server:
        ask = Request("GET", server.url, {}, max_response=1_000_000)
        with pytest.raises(AnymailTransportError, match="longer than 1000000 bytes") as raised:
            send(make(), ask)
        assert (raised.value.sent, raised.value.category) == (None, "unreadable")


class TestTLS:
    @pytest.fixture
    def server(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackServer]:
        with LoopbackServer(tls=True) as server:
            server.authority.cert_pem.write_to_path(tmp_path / "ca.pem")
            self.trusted = str(tmp_path / "ca.pem")
            yield server

    def test_ssl_cert_file_is_honoured(self, make: Any, send: Any, server: Any, monkeypatch: Any) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", self.trusted)
        assert send(make(), post(server.url)).status_code == 200

    def test_a_stranger_is_refused(self, make: Any, send: Any, server: Any, monkeypatch: Any) -> None:
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        with pytest.raises(AnymailTransportError, match=r"(?i)certificate") as raised:
            send(make(), post(server.url))
        assert raised.value.sent is False
        assert server.calls == []

    def test_the_handshake_is_paid_once(self, make: Any, server: Any, monkeypatch: Any) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", self.trusted)
        transport = make()
        for _ in range(5):
            transport.send(post(server.url))
        assert server.connections == 1


def test_a_proxy_is_honoured(make: Any, send: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackServer() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        assert send(make(), post("http://esp.example/send")).status_code == 200
        assert proxy.calls[0][0] == "http://esp.example/send"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
def test_a_forked_process_sends_on_its_own_connection() -> None:
    with LoopbackServer() as server:
        parent = transport_for("anymail.delivery.transport.PooledTransport", (5, 5))
        assert parent.send(post(server.url)).status_code == 200
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                transport = transport_for("anymail.delivery.transport.PooledTransport", (5, 5))
                seen = [transport.send(post(server.url)).status_code for _ in range(2)]
                seen.append(asyncio.run(transport.asend(post(server.url))).status_code)
                os.write(writer, json.dumps(seen).encode())
                status = 0
            finally:
                os._exit(status)
        os.close(writer)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        with os.fdopen(reader) as pipe:
            assert json.load(pipe) == [200, 200, 200]
        assert parent.send(post(server.url)).status_code == 200
        assert server.connections == 3, "one of the parent, one for the child, and one for its event loop"


def test_the_example_of_the_documentation(send: Any) -> None:
    text = (Path(__file__).parents[2] / "docs/transports.md").read_text("utf-8")
    found: dict[str, Any] = {}
    exec(text.partition("```python\n")[2].partition("```")[0], found)
    with LoopbackServer() as server:
        transport: Any = transport_for(found["TimedTransport"], (5, 5, 20))
        assert send(transport, post(server.url)).status_code == 200
        assert len(transport.seconds) == 1


class TestRegistry:
    def test_one_for_each_process_and_configuration(self) -> None:
        path = "anymail.delivery.transport.PooledTransport"
        assert transport_for(path, (1, 2)) is transport_for(path, (1, 2))
        assert transport_for(path, (1, 2)) is not transport_for(path, (1, 3))

    def test_a_total_goes_to_those_that_take_it(self) -> None:
        class Old:
            def __init__(self, *, connect_timeout: float, read_timeout: float) -> None:
                self.given = connect_timeout, read_timeout

        class New(Old):
            def __init__(self, *, total_timeout: float, **others: float) -> None:
                super().__init__(**others)
                self.given += (total_timeout,)  # type: ignore[assignment]

        assert transport_for(Old, (1, 2, 3)).given == (1, 2)  # type: ignore[arg-type, attr-defined]
        assert transport_for(New, (1, 2, 3)).given == (1, 2, 3)  # type: ignore[arg-type, attr-defined]

    @pytest.mark.parametrize("path", ["no.such.Transport", "anymail.delivery.transport.Nothing", "plain", "os.getpid"])
    def test_a_wrong_one_is_a_configuration_error(self, path: str) -> None:
        with pytest.raises(AnymailConfigurationError, match="TRANSPORT"):
            transport_for(path, (1, 2))
