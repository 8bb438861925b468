"""The sandbox as a server: over HTTP on loopback, alone or mounted in a project."""

from __future__ import annotations

import logging
import queue
import threading
from importlib import import_module
from socketserver import ThreadingMixIn
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from anymail.delivery.transport import PooledTransport
from anymail.esps import REGISTRY
from anymail.esps.kit.sandbox import Letter, SandboxESP
from anymail.exceptions import AnymailTransportError
from anymail.sandbox.store import Store
from anymail.wire import Headers, Request, Response

__all__ = ["Sandbox", "SandboxServer", "sandbox_settings"]

logger = logging.getLogger("anymail.sandbox")

#: What happens to a letter without being asked for, by the word with which its recipient's address begins.
FATES: dict[str, tuple[str, ...]] = {
    "bounce": ("bounced",),
    "complain": ("delivered", "complained"),
    "": ("delivered", "opened", "clicked"),
}


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
    """The sandbox without a server: ``answer`` takes calls. ``webhooks`` is the URL under which a project has
    ``anymail.urls``, with ``user:password@`` if it wants basic auth; without it no event is told.
    """

    def __init__(self, webhooks: str | None = None, database: str = ":memory:") -> None:
        self.webhooks = webhooks
        self.store = Store(database)
        self._esps: dict[str, SandboxESP] = {}
        self._lock = threading.Lock()
        self._transport = PooledTransport(connect_timeout=5, read_timeout=30)
        self._errands: queue.Queue[tuple[str, Letter, str] | None] = queue.Queue()
        self._worker = threading.Thread(target=self._run_errands, name="anymail-sandbox-webhooks", daemon=True)
        self._worker.start()

    def esp(self, slug: str) -> SandboxESP:
        """The sandbox's side of an ESP, made when it is first needed."""
        with self._lock:
            if slug not in self._esps:
                self._esps[slug] = sandbox_esp(slug)
            return self._esps[slug]

    def answer(self, slug: str, request: Request, path: str) -> Response:
        """Answer a call of that ESP's API, keep it, and let its letters meet their fates."""
        if slug not in REGISTRY:
            return Response(404, {"Content-Type": "text/plain"}, f"The sandbox knows no ESP {slug!r}.".encode())
        esp = self.esp(slug)
        reply = esp.answer(request, path)
        self.store.add(slug, request, reply.response, list(reply.letters))
        for letter in reply.letters:
            fate = next(fate for word, fate in FATES.items() if letter.recipient.startswith(word))
            for kind in fate:
                if kind in esp.events:
                    self.happen(slug, kind, letter)
        return reply.response

    def happen(self, slug: str, kind: str, letter: Letter) -> None:
        """Tell the project's webhooks, soon and in another thread, that ``kind`` happened to ``letter``."""
        if self.webhooks:
            self._errands.put((slug, letter, kind))

    def wait(self) -> None:
        """Wait until every event so far has been told."""
        self._errands.join()

    def close(self) -> None:
        self._errands.put(None)
        self._worker.join()
        self.store.close()

    def _run_errands(self) -> None:
        while errand := self._errands.get():
            try:
                self._tell(*errand)
            except Exception:
                logger.exception("The sandbox could not tell of a %s event.", errand[2])
            finally:
                self._errands.task_done()
        self._errands.task_done()

    def _tell(self, slug: str, letter: Letter, kind: str) -> None:
        assert self.webhooks is not None
        parts = urlsplit(self.webhooks)
        plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        request = self.esp(slug).event(kind, letter, f"{plain.rstrip('/')}/{slug}/tracking/")
        if parts.username:
            request = _with_basic_auth(request, unquote(parts.username), unquote(parts.password or ""))
        try:
            response = self._transport.send(request)
        except AnymailTransportError as error:
            logger.warning("%s: the webhook %s did not answer: %s", slug, request.url, error)
            return
        if not response.ok:
            logger.warning("%s: the webhook %s answered %s to %s.", slug, request.url, response.status_code, kind)


def _with_basic_auth(request: Request, user: str, password: str) -> Request:
    from base64 import b64encode
    from dataclasses import replace

    token = b64encode(f"{user}:{password}".encode()).decode()
    return replace(request, headers={**request.headers, "Authorization": f"Basic {token}"})


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
        response = self.sandbox.answer(slug, request, f"/{rest}")
        start_response(
            f"{response.status_code} {response.reason or 'Answer'}",
            [("Content-Length", str(len(response.content))), *response.headers.items()],
        )
        return [response.content]
