"""The sandbox mounted in a development project, over real HTTP: it behaves as it does alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from typing import Any, ClassVar

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client, override_settings
from django.urls import include, path

from anymail.esps import REGISTRY
from anymail.sandbox import OUTCOMES, sandbox_esp, sandbox_settings
from anymail.sandbox.urls import sandbox as mounted
from anymail.wire import Request, Response
from support import message

SECRET = "user:pass"


class Project:
    """The URLs of a development project."""

    urlpatterns = [path("anymail/", include("anymail.urls")), path("sandbox/", include("anymail.sandbox.urls"))]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    mounted.cache_clear()
    yield
    mounted.cache_clear()


@pytest.fixture
def project(project_address: str) -> Iterator[str]:
    """The URL of a running project with the sandbox in it."""
    own = {"WEBHOOKS": f"http://{SECRET}@{project_address}/anymail/"}
    with override_settings(DEBUG=True, ROOT_URLCONF=Project, ANYMAIL_SANDBOX=own):
        yield f"http://{project_address}"
        mounted().close()


@pytest.mark.parametrize("slug", REGISTRY)
def test_a_message_and_its_events(slug: str, project: str, events: list[Any]) -> None:
    settings = sandbox_settings(f"{project}/sandbox/", slug)
    with override_settings(ANYMAIL={**settings, "WEBHOOK_SECRET": SECRET}):
        one = message(html="<p>Hello", attach=[("a.txt", "attached", "text/plain")])
        assert import_module(f"anymail.backends.{slug}").EmailBackend().send_messages([one]) == 1
        mounted().wait()
    [(_, delivery)] = mounted().store.deliveries(slug)
    assert (delivery.recipient, delivery.subject, len(delivery.attachments)) == ("ana@example.net", "Hi", 1)
    known = sandbox_esp(slug).events
    assert [event.event_type for event in events] == [kind for kind in OUTCOMES[""] if kind in known]


def test_a_message_larger_than_djangos_limit_for_forms(project: str, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    with override_settings(ANYMAIL=sandbox_settings(f"{project}/sandbox/", "postmark")):
        one = message(attach=[("a.bin", bytes(100_000), "application/octet-stream")])
        assert import_module("anymail.backends.postmark").EmailBackend().send_messages([one]) == 1


class Recording:
    """A transport to a sandbox in this process, with the names of headers in another case."""

    requests: ClassVar[list[Request]] = []

    def __init__(self, **timeouts: Any) -> None:
        pass

    def send(self, request: Request) -> Response:
        self.requests.append(request)
        slug = request.url.removeprefix("http://sandbox/").partition("/")[0]
        return sandbox_esp(slug).respond(request, request.url.removeprefix(f"http://sandbox/{slug}")).response


@pytest.mark.parametrize("slug", REGISTRY)
def test_the_names_of_headers_are_in_any_case(slug: str) -> None:
    """Each server hands them on in a spelling of its own."""
    Recording.requests.clear()
    with override_settings(ANYMAIL=sandbox_settings("http://sandbox", slug)):
        backend = import_module(f"anymail.backends.{slug}").EmailBackend(transport=Recording)
        assert backend.send_messages([message(html="<p>Hello")]) == 1
    [request] = Recording.requests
    for case in (str.lower, str.upper, str.title):
        headers = {case(name): value for name, value in request.headers.items()}
        assert Recording().send(replace(request, headers=headers)).ok


@override_settings(DEBUG=True, ROOT_URLCONF="anymail.sandbox.urls")
def test_it_shows_what_was_received(client: Client) -> None:
    token = sandbox_settings("http://testserver", "postmark")["POSTMARK_SERVER_TOKEN"]
    body = json.dumps({"From": "a@example.com", "To": "ana@example.net", "Subject": "Hi", "TextBody": "Hello"})
    headers = {"X-Postmark-Server-Token": token}
    assert client.post("/postmark/email", body, "application/json", headers=headers).status_code == 200
    [delivery] = client.get("/deliveries/").json()["deliveries"]
    assert (delivery["esp"], delivery["recipient"], delivery["text"]) == ("postmark", "ana@example.net", "Hello")


@override_settings(DEBUG=False, ROOT_URLCONF="anymail.sandbox.urls")
def test_it_refuses_production(client: Client) -> None:
    with pytest.raises(ImproperlyConfigured, match="DEBUG is off"):
        client.get("/deliveries/")
    with override_settings(ANYMAIL_SANDBOX={"ALLOW_WITHOUT_DEBUG": True}):
        assert client.get("/deliveries/").json() == {"deliveries": []}
