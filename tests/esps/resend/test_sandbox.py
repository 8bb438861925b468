"""Resend's side of the sandbox: it takes what we send, refuses what Resend would, and signs its webhook calls."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest
from django.test import Client, override_settings

from anymail.backends.resend import EmailBackend
from anymail.esps.resend.sandbox import API_KEY, ResendSandbox
from anymail.esps.resend.sending import Resend
from anymail.wire import Request
from esps.resend.test_sending import REQUESTS
from support import Call, drive, mail, make_esp, message, request_of

NOW = dt.datetime(2026, 3, 4, 9, 15, 30, tzinfo=dt.UTC)
SANDBOX = ResendSandbox(lambda: NOW)
RESEND = make_esp(Resend, api_key=API_KEY)
HEADERS = {"Authorization": f"Bearer {API_KEY}", "User-Agent": "tests"}


def ask(path: str, body: Any, sandbox: ResendSandbox = SANDBOX, **headers: str | None) -> Any:
    given = {**HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}}
    sent = {name: value for name, value in given.items() if value is not None}
    return sandbox.respond(Request.post(f"http://sandbox{path}", headers=sent, json=body), path)


@pytest.mark.parametrize("name", [name for name in REQUESTS if name not in ("no to", "batch without to")])
def test_takes_every_request_that_we_make(name: str) -> None:
    attributes, path, _ = REQUESTS[name]
    result = SANDBOX.respond(request_of(RESEND.deliver(mail(**attributes))), f"/{path}")
    assert result.response.status_code == 200, result.response.text
    assert [delivery.recipient for delivery in result.deliveries]


GOOD: dict[str, Any] = {"from": "shop@example.com", "to": ["ana@example.net"], "subject": "Hi", "text": "Hello"}
TEMPLATED = {"to": ["ana@example.net"], "template": {"id": "welcome"}}
FILE = {"content": "MQ==", "filename": "a.csv"}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


# What is wrong, and Resend's status, name and words for it.
REFUSED: dict[str, tuple[str, Any, int, str, str]] = {
    "unknown field": ("/emails", {**GOOD, "track": 1}, 422, "validation_error", "`track`"),
    "no to": ("/emails", without("to"), 422, "missing_required_field", "Missing `to` field."),
    "no subject": ("/emails", without("subject"), 422, "missing_required_field", "Missing `subject` field."),
    "nobody": ("/emails", {**GOOD, "to": []}, 422, "validation_error", "`to`"),
    "too many": ("/emails", {**GOOD, "to": ["a@example.com"] * 51}, 422, "validation_error", "`to`"),
    "bad address": ("/emails", {**GOOD, "to": ["ana"]}, 422, "validation_error", "Invalid `to` field. The email"),
    "bad sender": ("/emails", {**GOOD, "from": "x"}, 422, "validation_error", "Invalid `from` field. The email"),
    "EAI": ("/emails", {**GOOD, "to": ["josé@example.com"]}, 422, "validation_error", "`to`"),
    "no body": ("/emails", {**GOOD, "text": ""}, 422, "validation_error", "`html` or `text`"),
    "header that is no string": ("/emails", {**GOOD, "headers": {"X": 1}}, 422, "validation_error", "`headers`"),
    "microseconds": (
        "/emails",
        {**GOOD, "scheduled_at": "2026-03-06T08:00:00.123456+00:00"},
        422,
        "validation_error",
        "`scheduled_at`",
    ),
    "free text for a tag": (
        "/emails",
        {**GOOD, "tags": [{"name": "a b", "value": "c"}]},
        422,
        "validation_error",
        "`tags`",
    ),
    "attachment without name": (
        "/emails",
        {**GOOD, "attachments": [{"content": "MQ=="}]},
        422,
        "validation_error",
        "`attachments`",
    ),
    "Content-ID in brackets": (
        "/emails",
        {**GOOD, "attachments": [{**FILE, "content_id": "<x>"}]},
        422,
        "validation_error",
        "`attachments`",
    ),
    "attachments in a batch": ("/emails/batch", [{**GOOD, "attachments": [FILE]}], 422, "validation_error", "`attach"),
    "template and text": ("/emails", {**TEMPLATED, "text": "Hello"}, 422, "validation_error", "`template`"),
    "reserved variable": (
        "/emails",
        {**TEMPLATED, "template": {"id": "x", "variables": {"EMAIL": "x"}}},
        422,
        "validation_error",
        "`template`",
    ),
    "list as variable": (
        "/emails",
        {**TEMPLATED, "template": {"id": "x", "variables": {"A": [1]}}},
        422,
        "validation_error",
        "`template`",
    ),
    "array to /emails": ("/emails", [GOOD], 422, "validation_error", "an object"),
    "object to /emails/batch": ("/emails/batch", GOOD, 422, "validation_error", "1 to 100"),
    "empty batch": ("/emails/batch", [], 422, "validation_error", "1 to 100"),
    "batch too long": ("/emails/batch", [GOOD] * 101, 422, "validation_error", "1 to 100"),
    "one bad item": ("/emails/batch", [GOOD, {**GOOD, "to": ["x"]}], 422, "validation_error", "`to`"),
    "unknown path": ("/email", GOOD, 404, "not_found", "endpoint"),
}


@pytest.mark.parametrize(("path", "body", "status", "name", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses(path: str, body: Any, status: int, name: str, words: str) -> None:
    result = ask(path, body)
    answered = result.response.json()
    assert (result.response.status_code, answered["statusCode"], answered["name"]) == (status, status, name)
    assert words in answered["message"]
    assert not result.deliveries


WRONG_HEADERS: dict[str, tuple[dict[str, str | None], int, str]] = {
    "no key": ({"Authorization": None}, 401, "missing_api_key"),
    "wrong scheme": ({"Authorization": f"Basic {API_KEY}"}, 401, "missing_api_key"),
    "wrong key": ({"Authorization": "Bearer re_wrong"}, 403, "invalid_api_key"),
    "no User-Agent": ({"User_Agent": None}, 403, "error code: 1010"),
    "long idempotency key": ({"Idempotency_Key": "k" * 257}, 400, "invalid_idempotency_key"),
}


@pytest.mark.parametrize(("headers", "status", "words"), WRONG_HEADERS.values(), ids=WRONG_HEADERS.keys())
def test_refuses_headers(headers: dict[str, str | None], status: int, words: str) -> None:
    result = ask("/emails", GOOD, **headers)
    assert result.response.status_code == status
    assert words in result.response.text
    assert not result.deliveries


def test_refuses_what_is_not_json() -> None:
    request = replace(Request.post("http://sandbox/emails", headers=HEADERS, json={}), body=b"{")
    assert SANDBOX.respond(request, "/emails").response.status_code == 400


def test_an_idempotency_key_sends_once() -> None:
    sandbox = ResendSandbox()
    first, second = (ask("/emails", GOOD, sandbox, Idempotency_Key="k") for _ in range(2))
    assert first.response.content == second.response.content
    assert (len(first.deliveries), len(second.deliveries)) == (1, 0)
    other = ask("/emails", {**GOOD, "subject": "Ho"}, sandbox, Idempotency_Key="k")
    assert (other.response.status_code, other.response.json()["name"]) == (409, "invalid_idempotent_request")


def test_a_permissive_batch() -> None:
    one = mail(to=["ana@example.net", "bad@localhost@", "bo@example.org"][::2], merge_data={})
    items = [GOOD, {**GOOD, "to": ["x"]}, {**GOOD, "to": ["bo@example.org"]}]
    result = ask("/emails/batch", items, x_batch_validation="permissive")
    assert [delivery.recipient for delivery in result.deliveries] == ["ana@example.net", "bo@example.org"]
    assert result.response.json()["errors"][0]["index"] == 1
    _, recipients = drive(RESEND.deliver(one), ask("/emails/batch", items[::2]).response)
    assert {status.status for status in recipients.values()} == {"queued"}


def test_what_arrives() -> None:
    body = {
        **GOOD,
        "to": ["Ana <ana@example.net>", "suppressed@example.org"],
        "cc": "c@example.org",
        "headers": {"X-Metadata": '{"n": 1}', "X-Tags": '["a"]', "X-Own": "1"},
        "attachments": [FILE],
    }
    ana, cc = ask("/emails", body).deliveries
    assert (ana.recipient, ana.to, ana.subject) == (
        "ana@example.net",
        "Ana <ana@example.net>, suppressed@example.org",
        "Hi",
    )
    assert (ana.metadata, ana.tags, ana.headers) == ({"n": 1}, ["a"], {"X-Own": "1"})
    assert ana.attachments == [("a.csv", "", 1)]
    assert cc.recipient == "c@example.org"
    assert ana.message_id == cc.message_id


def test_variables_are_put_in() -> None:
    template = {"id": "welcome", "variables": {"NAME": "Ana", "N": 1.5}}
    body = {**TEMPLATED, "subject": "For {{{NAME}}}: {{{ N }}}{{{LOST}}}", "template": template}
    [delivery] = ask("/emails", body).deliveries
    assert (delivery.subject, delivery.template) == ("For Ana: 1.5", "welcome")


KINDS: dict[str, dict[str, Any]] = {
    "delivered": {"event_type": "delivered"},
    "opened": {"event_type": "opened"},
    "clicked": {"event_type": "clicked", "click_url": "https://example.com/"},
    "bounced": {"event_type": "bounced", "reject_reason": "bounced", "mta_response": "smtp; 550 5.1.1 no such user"},
    "complained": {"event_type": "complained"},
}


@pytest.mark.parametrize("kind", sorted(ResendSandbox.events))
def test_webhook_calls(client: Client, events: list[Any], kind: str) -> None:
    sandbox = ResendSandbox()
    sent = mail(metadata={"n": 1}, tags=["a"], to=["Ana <ana@example.net>"])
    result = sandbox.respond(request_of(RESEND.deliver(sent)), "/emails")
    request = sandbox.event(kind, result.deliveries[0], "http://project/anymail/resend/tracking/")
    call = Call("/anymail/resend/tracking/", bytes(request.body), dict(request.headers))
    headers = {name: value for name, value in call.headers.items() if name != "Content-Type"}
    with override_settings(ANYMAIL=sandbox.settings("http://sandbox/resend/")):
        assert replace(call, headers=headers).post(client).status_code == 200
    [event] = events
    expected = {
        "message_id": result.deliveries[0].message_id,
        "recipient": "ana@example.net",
        "metadata": {"n": 1},
        "tags": ["a"],
        "event_id": headers["svix-id"],
        **KINDS[kind],
    }
    assert {name: getattr(event, name) for name in expected} == expected
    assert event.timestamp is not None


def test_settings_lead_here() -> None:
    asked: list[Request] = []
    sandbox = ResendSandbox()

    class Line:
        def __init__(self, **timeouts: Any) -> None:
            pass

        def send(self, request: Request) -> Any:
            asked.append(request)
            return sandbox.respond(request, request.url.removeprefix("http://sandbox/resend")).response

    with override_settings(ANYMAIL={**sandbox.settings("http://sandbox/resend/"), "TRANSPORT": Line}):
        one = message()
        assert EmailBackend().send_messages([one]) == 1
    assert asked[0].url == "http://sandbox/resend/emails"
    assert one.anymail_status.status == {"queued"}
