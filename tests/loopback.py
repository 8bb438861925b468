"""An HTTP server on loopback that does as the test says, with or without TLS."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Any, Self

import trustme

Answer = Callable[["LoopbackServer", str, dict[str, str], bytes], tuple[int, dict[str, str], bytes] | None]


def echo(server: LoopbackServer, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps({"path": path, "length": len(body)}).encode()


class LoopbackServer:
    """``with LoopbackServer(answer) as server: server.url``. ``answer`` returns None to hang up without a word.

    ``connections`` counts those that were made, ``calls`` keeps path, headers and body of each call.
    """

    def __init__(self, answer: Answer = echo, *, tls: bool = False, keep_alive: bool = True) -> None:
        self._answer = answer
        self._keep_alive = keep_alive
        self.connections = 0
        self.calls: list[tuple[str, dict[str, str], bytes]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._context: ssl.SSLContext | None = None
        if tls:
            self.authority = trustme.CA()
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.authority.issue_cert("localhost").configure_cert(self._context)
        self.url = f"{'https' if tls else 'http'}://localhost:{self._listener.getsockname()[1]}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *args: Any) -> None:
        self._listener.close()
        self.hang_up()

    def hang_up(self) -> None:
        """Close every open connection, as a server does with idle ones."""
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._open.clear()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self._context:
                connection = self._context.wrap_socket(connection, server_side=True)
            self._open.append(connection)
            reader = connection.makefile("rb")
            while request_line := reader.readline():
                path = request_line.split()[1].decode()
                headers = {}
                while line := reader.readline().decode("latin-1").strip():
                    name, _, value = line.partition(":")
                    headers[name.lower()] = value.strip()
                body = reader.read(int(headers.get("content-length", 0)))
                self.calls.append((path, headers, body))
                answer = self._answer(self, path, headers, body)
                if answer is None:
                    return
                status, extra, content = answer
                lines = [f"HTTP/1.1 {status} Answer", f"Content-Length: {len(content)}"]
                lines += [f"{name}: {value}" for name, value in extra.items()]
                connection.sendall("\r\n".join([*lines, "", ""]).encode() + content)
                if not self._keep_alive:
                    return
        except (OSError, ValueError):
            pass
        finally:
            connection.close()


class RawServer:
    """``with RawServer(behave) as server: server.url``. ``behave`` gets each connection and does with it as it likes;
    what it raises is kept in ``failures``. ``received`` keeps the requests that ``read`` read to their end.
    """

    def __init__(
        self, behave: Callable[[RawServer, socket.socket], None], *, tls: ssl.SSLContext | None = None
    ) -> None:
        self._behave = behave
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://localhost:{self.port}/"
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0
        self.ended = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *args: Any) -> None:
        self.ended.set()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), contextlib.closing(connection):
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with contextlib.closing(connection):
                self._behave(self, connection)

    def read(self, connection: socket.socket) -> bytes:
        """Read one request to its end, and keep it. Returns its body; raises OSError when there is none."""
        head = bytearray()
        while not head.endswith(b"\r\n\r\n"):
            byte = connection.recv(1)
            if not byte:
                raise ConnectionError
            head += byte
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = bytearray()
        while len(body) < int(headers.get("content-length", 0)):
            more = connection.recv(65536)
            if not more:
                raise ConnectionError
            body += more
        self.received.append((first, headers, bytes(body)))
        return bytes(body)


def reset(connection: socket.socket) -> None:
    """Close a connection with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def relay(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until either end is closed, as a proxy does in a tunnel."""

    def carry(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    back = threading.Thread(target=carry, args=(other, one), daemon=True)
    back.start()
    carry(one, other)
    back.join()
