"""Sending: one by one, in bulk, and against a server that takes its time.

The baseline is ``http.client``, of which Anymail's transport is made: it posts the same bytes with the same headers
over a kept-alive TLS connection and reads the response, and does nothing else. It is handed its requests ready-made.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPSConnection
from importlib import import_module
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from django.core.mail import EmailMessage
from django.test import override_settings

from anymail.conf import load
from anymail.esps import esp_class
from anymail.mail.message import outgoing_mail
from anymail.message import AnymailMessage
from anymail.wire import Request
from benchmarks.measure import Compared, Row, Size, compare
from benchmarks.server import Server

ESPS = {"postmark": "Postmark", "mailgun": "Mailgun", "amazon_ses": "Amazon SES"}

_TEXT = "Thank you for your order. It will be with you in a day or two; you can follow it on its page.\n" * 6
_PARAGRAPHS = "<p>Thank you for your order.</p><p><b>It will be with you</b> soon.</p>\n" * 20
_HTML = f"<html><body>{_PARAGRAPHS}</body></html>"
_number = count()


def settings(url: str) -> dict[str, Any]:
    """The setting ANYMAIL with which everything is sent to that server."""
    return {
        "POSTMARK_SERVER_TOKEN": "benchmark",
        "POSTMARK_API_URL": url,
        "MAILGUN_API_KEY": "benchmark",
        "MAILGUN_API_URL": f"{url}v3/",
        "AMAZON_SES_CLIENT_PARAMS": {
            "endpoint_url": url.rstrip("/"),
            "region_name": "us-east-1",
            "aws_access_key_id": "benchmark",
            "aws_secret_access_key": "benchmark",
        },
    }


def message() -> AnymailMessage:
    """A receipt of about 2 KB, to someone who has not been written to before."""
    number = next(_number)
    made = AnymailMessage(
        f"Your order {number}",
        _TEXT,
        "Example Shop <shop@example.com>",
        [f"Ana Example <ana{number}@example.net>"],
        reply_to=["help@example.com"],
        tags=["receipt"],
        metadata={"order_id": str(number)},
    )
    made.attach_alternative(_HTML, "text/html")
    return made


def messages(number: int) -> list[EmailMessage]:
    return [message() for _ in range(number)]


def backend(slug: str) -> Any:
    """A new backend, as Django makes for each ``send_mail``."""
    return import_module(f"anymail.backends.{slug}").EmailBackend()


def single_calls(slug: str, number: int) -> list[Request]:
    """The requests that messages make, one call each."""
    return [next(_esp(slug).deliver(outgoing_mail(one))) for one in messages(number)]


def batch_calls(slug: str, number: int) -> list[Request]:
    """The requests that messages make together."""
    esp = _esp(slug)
    most = esp.coalescing.messages
    parts = [min(most, number - start) for start in range(0, number, most)]
    return [next(esp.deliver_many([outgoing_mail(one) for one in messages(part)])) for part in parts]


def _esp(slug: str) -> Any:
    cls = esp_class(slug)
    return cls(load(cls.Options, cls.prefixes or (slug.upper(),), {}))


def bare_client(url: str) -> HTTPSConnection:
    """A connection that is open."""
    client = HTTPSConnection(urlsplit(url).netloc, context=ssl.create_default_context())
    client.connect()
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def posting(client: HTTPSConnection, requests: Sequence[Request]) -> Callable[[], None]:
    """Ready to make these calls, one after the other."""
    ready = [(urlsplit(one.url).path, dict(one.headers), bytes(one.body)) for one in requests]

    def post() -> None:
        for path, headers, body in ready:
            client.request("POST", path, body, headers)
            response = client.getresponse()
            assert response.status == 200
            response.read()

    return post


def one_by_one(size: Size) -> Iterator[Row]:
    with Server() as server, override_settings(ANYMAIL=settings(server.url)):
        _sending_one_by_one("postmark", size.messages)()
        yield Row(
            f"TLS handshakes for {size.messages} messages, each with a new backend",
            server.connections(),
            1,
            "",
        )
        client = bare_client(server.url)
        for slug, name in ESPS.items():
            compared = compare(
                size.rounds,
                lambda slug=slug: _sending_one_by_one(slug, size.messages),  # type: ignore[misc]
                lambda slug=slug: posting(client, single_calls(slug, size.messages)),  # type: ignore[misc]
            )
            yield _row(f"{name}: CPU per message over the bare client", compared, size.messages, 4)


def _sending_one_by_one(slug: str, number: int) -> Callable[[], None]:
    ready = messages(number)

    def send() -> None:
        for one in ready:
            assert backend(slug).send_messages([one]) == 1

    return send


def bulk(size: Size) -> Iterator[Row]:
    number, singles = size.bulk, max(1, size.bulk // 4)
    with (
        Server() as server,
        override_settings(ANYMAIL=settings(server.url)),
        asyncio.Runner() as runner,
    ):
        client = bare_client(server.url)
        for slug, name in ESPS.items():
            for verb, sending in (("send_messages", _sending(slug, number)), ("asend_messages", None)):
                work = sending or _asending(slug, number, runner)
                compared = compare(
                    size.rounds,
                    work,
                    lambda slug=slug: posting(client, single_calls(slug, singles)),  # type: ignore[misc]
                    times=number / singles,
                )
                yield _row(f"{name}, {verb} of {number}: over one bare call per message", compared, number, 3)
                if slug == "postmark":
                    batches = compare(size.rounds, work, lambda: posting(client, batch_calls("postmark", number)))
                    yield _row(f"{name}, {verb} of {number}: over the bare batch calls", batches, number, None)


def _sending(slug: str, number: int) -> Callable[[], Callable[[], Any]]:
    def ready() -> Callable[[], Any]:
        to_send = messages(number)
        return lambda: _sent_all(backend(slug).send_messages(to_send), number)

    return ready


def _asending(slug: str, number: int, runner: asyncio.Runner) -> Callable[[], Callable[[], Any]]:
    def ready() -> Callable[[], Any]:
        to_send = messages(number)
        return lambda: _sent_all(runner.run(backend(slug).asend_messages(to_send)), number)

    return ready


def _sent_all(sent: int, number: int) -> None:
    assert sent == number


def waiting(size: Size) -> Iterator[Row]:
    number = size.waiting
    with (
        Server(size.delay) as server,
        override_settings(ANYMAIL=settings(server.url)),
        asyncio.Runner() as runner,
    ):
        for slug, target in (("postmark", 0.5), ("mailgun", 2.0)):
            for verb, ready in (
                ("send_messages", _sending(slug, number)),
                ("asend_messages", _asending(slug, number, runner)),
            ):
                ready()()
                seconds = min(_wall(ready()) for _ in range(min(3, size.rounds)))
                what = f"{ESPS[slug]}, {verb} of {number}, {size.delay * 1000:.0f} ms a call"
                yield Row(what, seconds, target, "s", "wall clock")


def _wall(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _row(what: str, compared: Compared, number: int, target: float | None) -> Row:
    ours, bare = (seconds / number * 1e6 for seconds in (compared.cpu, compared.baseline))
    return Row(what, compared.ratio, target, detail=f"{ours:.0f} µs against {bare:.0f} µs")
