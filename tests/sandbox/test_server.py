"""End to end over real HTTP: the project sends to the sandbox, the sandbox calls the project's webhooks back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from anymail import asend
from anymail.esps import REGISTRY, esp_class
from anymail.exceptions import AnymailAPIError
from anymail.sandbox import SandboxServer
from anymail.sandbox.server import OUTCOMES, Sandbox, sandbox_esp
from anymail.wire import Request
from support import message

SECRET = "user:pass"


@pytest.fixture(scope="module")
def project(project_address: str) -> str:
    """The URL of a running project, with the credentials of its webhooks."""
    return f"http://{SECRET}@{project_address}"


@pytest.fixture(scope="module")
def sandbox(project: str) -> Iterator[SandboxServer]:
    with SandboxServer(webhooks=f"{project}/anymail/") as server:
        yield server


def backend(slug: str) -> Any:
    return import_module(f"anymail.backends.{slug}").EmailBackend()


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("slug", REGISTRY)
def test_a_message_and_its_events(slug: str, how: str, sandbox: SandboxServer, events: list[Any]) -> None:
    outcomes = {
        "ana@example.net": OUTCOMES[""],
        "bounce@example.net": OUTCOMES["bounce"],
        "complain@example.net": OUTCOMES["complain"],
    }
    with override_settings(ANYMAIL={**sandbox.settings(slug), "WEBHOOK_SECRET": SECRET}):
        sent = [message(to=[to], html="<p>Hello", subject=f"For {to}") for to in outcomes]
        if how == "sync":
            assert backend(slug).send_messages(sent) == 3
        else:
            assert asyncio.run(backend(slug).asend_messages(sent)) == 3
        sandbox.sandbox.wait()
    known = sandbox_esp(slug).events
    for (to, kinds), one in zip(outcomes.items(), sent, strict=True):
        status = one.anymail_status.recipients[to]
        assert status.status in ("sent", "queued")
        told = [event for event in events if event.recipient == to]
        assert [event.event_type for event in told] == [kind for kind in kinds if kind in known]
        if status.message_id:
            assert {event.message_id for event in told} <= {status.message_id}


@pytest.mark.parametrize("slug", REGISTRY)
def test_wrong_credentials_are_refused(slug: str, sandbox: SandboxServer) -> None:
    settings = dict(sandbox.settings(slug))
    options = esp_class(slug).Options.__dataclass_fields__
    for name in settings:
        field = options.get(name.removeprefix(f"{slug.upper()}_").lower())
        if field is not None and "Secret" in str(field.type):
            settings[name] = "wrong"
    if slug == "amazon_ses":
        settings["AMAZON_SES_CLIENT_PARAMS"] = {
            **settings["AMAZON_SES_CLIENT_PARAMS"],
            "aws_secret_access_key": "wrong",
        }
    with override_settings(ANYMAIL=settings), pytest.raises(AnymailAPIError) as raised:
        backend(slug).send_messages([message(html="<p>Hello")])
    assert (raised.value.category, raised.value.sent) == ("auth", False)


def test_what_was_received_is_kept(sandbox: SandboxServer) -> None:
    sandbox.sandbox.store.clear()
    with override_settings(ANYMAIL=sandbox.settings("postmark")):
        backend("postmark").send_messages([message(to=["ana@example.net"], cc=["bo@example.org"], subject="Kept")])
    deliveries = [delivery for _, delivery in sandbox.sandbox.store.deliveries("postmark")]
    assert [(delivery.recipient, delivery.subject) for delivery in deliveries] == [
        ("ana@example.net", "Kept"),
        ("bo@example.org", "Kept"),
    ]
    [call] = sandbox.sandbox.store.calls()
    assert (call["esp"], call["method"], call["status"]) == ("postmark", "POST", 200)


def test_it_is_kept_in_a_file(tmp_path: Path) -> None:
    path = str(tmp_path / "mail.sqlite3")
    for _ in range(2):
        one = Sandbox(database=path)
        one.respond("postmark", Request("POST", "http://x/postmark/email", {}, b"{}"), "/email")
        calls = one.store.calls()
        one.close()
    assert len(calls) == 2


def test_an_unknown_esp() -> None:
    one = Sandbox()
    assert one.respond("acme", Request("POST", "http://x/acme/send", {}), "/send").status_code == 404
    one.close()


def test_a_call_to_an_unknown_path_sends_nothing() -> None:
    one = Sandbox()
    for slug in REGISTRY:
        one.respond(slug, Request("POST", f"http://x/{slug}/nowhere", {}, b"{}"), "/nowhere")
    assert (len(one.store.calls()), one.store.deliveries()) == (len(REGISTRY), [])
    one.close()


@pytest.mark.parametrize("slug", REGISTRY)
def test_any_message_can_be_sent_asynchronously(slug: str, sandbox: SandboxServer) -> None:
    with override_settings(ANYMAIL=sandbox.settings(slug)):
        one = message(html="<p>Hello")
        one.connection = backend(slug)
        assert asyncio.run(asend(one)) == 1
    assert one.anymail_status.status <= {"sent", "queued"}
