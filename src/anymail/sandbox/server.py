"""The sandbox as a server: over HTTP on loopback, alone or mounted in a project."""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
from base64 import b64encode
from importlib import import_module
from socketserver import ThreadingMixIn
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from anymail.delivery.transport import PooledTransport
from anymail.esps import REGISTRY
from anymail.esps.kit.sandbox import SandboxDelivery, SandboxESP
from anymail.exceptions import AnymailTransportError
from anymail.sandbox.store import Store
from anymail.wire import Headers, Request, Response

__all__ = ["OUTCOMES", "Sandbox", "SandboxServer", "sandbox_esp", "sandbox_settings"]

logger = logging.getLogger("anymail.sandbox")

#: The events of a delivery that happen by themselves, by the word with which the recipient's address begins.
OUTCOMES: dict[str, tuple[str, ...]] = {
    "bounce": ("bounced",),
    "complain": ("delivered", "complained"),
    "": ("delivered", "opened", "clicked"),
}


def outcome(recipient: str) -> tuple[str, ...]:
    """The kinds of event that happen by themselves to what is sent to this address."""
    return next(kinds for word, kinds in OUTCOMES.items() if recipient.startswith(word))


def sandbox_esp(slug: str) -> SandboxESP:
    """The sandbox's side of an ESP. Raises KeyError for an unknown one."""
    side: SandboxESP = getattr(import_module(f"anymail.esps.{slug}.sandbox"), f"{REGISTRY[slug]}Sandbox")()
    return side


def sandbox_settings(url: str, *slugs: str) -> dict[str, Any]:
    """The ANYMAIL settings that lead a project's mail to the sandbox at ``url`` (for the ESPs of ``slugs``, or all)."""
    merged: dict[str, Any] = {}
    for slug in slugs or REGISTRY:
        merged.update(sandbox_esp(slug).settings(f"{url.rstrip('/')}/{slug}/"))
    return merged


class Sandbox:
    """The sandbox without a server: ``respond`` takes calls. ``webhooks`` is the URL under which a project has
    ``anymail.urls``, with ``user:password@`` if it wants basic auth; without it no event is sent.
    """

    def __init__(self, webhooks: str | None = None, database: str = ":memory:") -> None:
        self.webhooks = webhooks
        self.store = Store(database)
        self._esps: dict[str, SandboxESP] = {}
        self._lock = threading.Lock()
        self._transport = PooledTransport(connect_timeout=5, read_timeout=30)
        self._events: queue.Queue[tuple[str, SandboxDelivery, str] | None] = queue.Queue()
        self._worker = threading.Thread(target=self._send_events, name="anymail-sandbox-webhooks", daemon=True)
        self._worker.start()

    def esp(self, slug: str) -> SandboxESP:
        """The sandbox's side of an ESP, made when it is first needed."""
        with self._lock:
            if slug not in self._esps:
                self._esps[slug] = sandbox_esp(slug)
            return self._esps[slug]

    def respond(self, slug: str, request: Request, path: str) -> Response:
        """Respond to a call of that ESP's API, keep it, and send the events of its deliveries."""
        if slug not in REGISTRY:
            return Response(404, {"Content-Type": "text/plain"}, f"The sandbox knows no ESP {slug!r}.".encode())
        esp = self.esp(slug)
        result = esp.respond(request, path)
        self.store.add(slug, request, result.response, result.deliveries)
        for delivery in result.deliveries:
            for kind in outcome(delivery.recipient):
                if kind in esp.events:
                    self.send_event(slug, kind, delivery)
        return result.response

    def send_event(self, slug: str, kind: str, delivery: SandboxDelivery) -> None:
        """Call the project's webhook, soon and in another thread, with an event of a delivery."""
        if self.webhooks:
            self._events.put((slug, delivery, kind))

    def wait(self) -> None:
        """Wait until every event so far has been sent."""
        self._events.join()

    def close(self) -> None:
        self._events.put(None)
        self._worker.join()
        self.store.close()

    def _send_events(self) -> None:
        while event := self._events.get():
            try:
                self._call_webhook(*event)
            except Exception:
                logger.exception("The sandbox could not send a %s event.", event[2])
            finally:
                self._events.task_done()
        self._events.task_done()

    def _call_webhook(self, slug: str, delivery: SandboxDelivery, kind: str) -> None:
        assert self.webhooks is not None
        parts = urlsplit(self.webhooks)
        plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        request = self.esp(slug).event(kind, delivery, f"{plain.rstrip('/')}/{slug}/tracking/")
        if parts.username:
            credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            basic = f"Basic {b64encode(credentials.encode()).decode()}"
            request = dataclasses.replace(request, headers={**request.headers, "Authorization": basic})
        try:
            response = self._transport.send(request)
        except AnymailTransportError as error:
            logger.warning("%s: the webhook %s did not respond: %s", slug, request.url, error)
            return
        if not response.ok:
            logger.warning("%s: the webhook %s responded %s to %s.", slug, request.url, response.status_code, kind)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, template: str, *args: Any) -> None:
        logger.debug(template, *args)


class SandboxServer:
    """The sandbox in a thread of this process: ``with SandboxServer() as server: server.url``. Loopback only."""

    def __init__(self, *, port: int = 0, webhooks: str | None = None, database: str = ":memory:") -> None:
        self.sandbox = Sandbox(webhooks, database)
        self._server = make_server("127.0.0.1", port, self._application, server_class=_Server, handler_class=_Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="anymail-sandbox", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def settings(self, *slugs: str) -> dict[str, Any]:
        """The ANYMAIL settings that lead a project's mail here."""
        return sandbox_settings(self.url, *slugs)

    def wait(self) -> None:
        """Serve until interrupted."""
        self._thread.join()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.sandbox.close()

    def _application(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        slug, _, rest = environ["PATH_INFO"].lstrip("/").partition("/")
        query = f"?{environ['QUERY_STRING']}" if environ.get("QUERY_STRING") else ""
        headers = {name[5:].replace("_", "-").title(): value for name, value in environ.items() if name[:5] == "HTTP_"}
        headers["Content-Type"] = environ.get("CONTENT_TYPE", "")
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        request = Request(environ["REQUEST_METHOD"], f"{self.url}/{slug}/{rest}{query}", Headers(headers), body)
        response = self.sandbox.respond(slug, request, f"/{rest}")
        start_response(
            f"{response.status_code} {response.reason or 'Response'}",
            [("Content-Length", str(len(response.content))), *response.headers.items()],
        )
        return [response.content]
