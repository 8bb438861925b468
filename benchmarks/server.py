"""A cheap stand-in for the ESPs, in a process of its own, so that its CPU counts for nobody.

It keeps connections alive, looks at no more of a request than it must, and says yes to all of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
from functools import cache
from typing import Any, Self, cast

from benchmarks.measure import ROOT

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Answers(asyncio.Protocol):
    """One connection."""

    connections = 0

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._received = bytearray()
        self._path: bytes | None = None
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Answers.connections += 1
        self._transport = cast(asyncio.Transport, transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while True:
            if self._path is None:
                end = self._received.find(b"\r\n\r\n")
                if end < 0:
                    return
                head = bytes(self._received[:end])
                del self._received[: end + 4]
                self._path = head.split(b" ", 2)[1]
                length = _LENGTH.search(head)
                self._missing = int(length[1]) if length else 0
            if len(self._received) < self._missing:
                return
            body = bytes(self._received[: self._missing])
            del self._received[: self._missing]
            content = _answer(self._path, body)
            self._path = None
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(content)
            if self._delay:
                asyncio.get_running_loop().call_later(self._delay, self._transport.write, head + content)
            else:
                self._transport.write(head + content)


_POSTMARK = {"To": "ana@example.net", "SubmittedAt": "2026-01-02T03:04:05Z", "ErrorCode": 0, "Message": "OK"}
_POSTMARK_ONE = json.dumps({**_POSTMARK, "MessageID": "b7bc2f4a-e38e-4336-af7d-e6c392c2f817"}).encode()
_MAILGUN = json.dumps({"id": "<20260102030405.1.AF42@example.com>", "message": "Queued. Thank you."}).encode()
_SES = json.dumps({"MessageId": "010001234567890a-12345678-1234-1234-1234-123456789012-000000"}).encode()


def _answer(path: bytes, body: bytes) -> bytes:
    if path.endswith(b"/email/batch"):
        # In JSON text every quote is escaped, so this is the key of each message and nothing else.
        return b"[%s]" % b",".join([_POSTMARK_ONE] * body.count(b'"To":'))
    if path.endswith(b"/email"):
        return _POSTMARK_ONE
    if path.endswith(b"/messages"):
        return _MAILGUN
    return _SES


async def _serve(delay: float, certificate: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answers(delay), "127.0.0.1", 0, ssl=context, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    # Every line asks for the number of connections so far; the end of the input is the end.
    while await asyncio.to_thread(sys.stdin.readline):
        print(Answers.connections, flush=True)


@cache
def _certificates() -> tempfile.TemporaryDirectory[str]:
    """The folder with the servers' certificate, whose authority this process and those it starts trust from now on."""
    import trustme

    folder = tempfile.TemporaryDirectory(prefix="benchmarks-")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(f"{folder.name}/authority.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(f"{folder.name}/server.pem")
    os.environ["SSL_CERT_FILE"] = f"{folder.name}/authority.pem"
    return folder


class Server:
    """``with Server() as server: server.url``, over TLS."""

    def __init__(self, delay: float = 0) -> None:
        self._arguments = [str(delay), f"{_certificates().name}/server.pem"]

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.server", *self._arguments]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.url = f"https://localhost:{self._read()}/"
        return self

    def __exit__(self, *args: Any) -> None:
        self._process.communicate(timeout=10)

    def connections(self) -> int:
        """How many connections were made so far, each with its handshake."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        return self._read()

    def _read(self) -> int:
        assert self._process.stdout
        return int(self._process.stdout.readline())


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1]), sys.argv[2]))
