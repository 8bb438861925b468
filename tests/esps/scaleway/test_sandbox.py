"""Scaleway's side of the sandbox: it takes what we send, and refuses what Scaleway would refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from django.test import Client, override_settings

from anymail.backends.scaleway import EmailBackend
from anymail.esps.scaleway.sandbox import PROJECT_ID, SECRET_KEY, ScalewaySandbox
from anymail.esps.scaleway.sending import Scaleway
from anymail.wire import Request
from esps.scaleway.test_sending import REQUESTS
from support import Call, drive, mail, make_esp, message, request_of, statuses

PATH = "/transactional-email/v1alpha1/regions/fr-par/emails"
SANDBOX = ScalewaySandbox()
SCALEWAY = make_esp(Scaleway, secret_key=SECRET_KEY, project_id=PROJECT_ID)
HEADERS = {"X-Auth-Token": SECRET_KEY}
GOOD: dict[str, Any] = {
    "project_id": PROJECT_ID,
    "from": {"email": "shop@example.com"},
    "to": [{"email": "ana@example.net"}],
    "subject": "Hi",
    "text": "Hello",
}
FILE = {"name": "a.csv", "type": "text/csv", "content": "MQ=="}


def ask(body: Any, path: str = PATH, key: str = SECRET_KEY) -> Any:
    return SANDBOX.respond(Request.post(f"http://sandbox{path}", headers={"X-Auth-Token": key}, json=body), path)


@pytest.mark.parametrize("name", REQUESTS)
def test_takes_every_request_that_we_make(name: str) -> None:
    one = mail(**REQUESTS[name][0])
    request = request_of(SCALEWAY.deliver(one))
    result = SANDBOX.respond(request, PATH)
    assert result.response.status_code == 200, result.response.text
    _, recipients = drive(SCALEWAY.deliver(one), result.response)
    assert statuses(recipients) == {
        address.key: ("queued", delivery.message_id)
        for address, delivery in zip(one.recipients, result.deliveries, strict=True)
    }


def test_attachments_may_be_null() -> None:
    [delivery] = ask({**GOOD, "attachments": None}).deliveries
    assert delivery.attachments == []


# What is wrong, and the argument and reason that Scaleway names.
REFUSED: dict[str, tuple[Any, str, str]] = {
    "unknown field": ({**GOOD, "reply_to": "x"}, "reply_to", "unknown"),
    "an array": ([GOOD], "body", "format"),
    "no sender": ({key: value for key, value in GOOD.items() if key != "from"}, "from", "required"),
    "bad sender": ({**GOOD, "from": {"email": "shop"}}, "from.email", "format"),
    "address with a name": ({**GOOD, "from": {"email": "Shop <shop@example.com>"}}, "from.email", "format"),
    "EAI": ({**GOOD, "to": [{"email": "josé@example.com"}]}, "to[0].email", "format"),
    "no project": ({**GOOD, "project_id": "mine"}, "project_id", "format"),
    "nobody": ({**GOOD, "to": []}, "to", "constraint"),
    "too many": ({**GOOD, "bcc": [{"email": "a@example.com"}] * 10}, "to", "constraint"),
    "no body": ({**GOOD, "text": ""}, "text", "required"),
    "long subject": ({**GOOD, "subject": "x" * 999}, "subject", "constraint"),
    "attachment without a type": (
        {**GOOD, "attachments": [{"name": "a", "content": "MQ=="}]},
        "attachments[0].type",
        "required",
    ),
    "attachment of another type": (
        {**GOOD, "attachments": [{**FILE, "type": "application/octet-stream"}]},
        "attachments[0].type",
        "constraint",
    ),
    "attachment without a name": ({**GOOD, "attachments": [{**FILE, "name": ""}]}, "attachments[0].name", "constraint"),
    "attachment with a Content-ID": ({**GOOD, "attachments": [{**FILE, "cid": "x"}]}, "attachments[0].cid", "unknown"),
    "not base64": ({**GOOD, "attachments": [{**FILE, "content": "MQ"}]}, "attachments[0].content", "format"),
    "too many attachments": ({**GOOD, "attachments": [FILE] * 11}, "attachments", "constraint"),
    "too large": ({**GOOD, "text": "x" * 2 * 1024 * 1024}, "body", "constraint"),
    "empty header": (
        {**GOOD, "additional_headers": [{"key": "X", "value": ""}]},
        "additional_headers[0].value",
        "constraint",
    ),
    "header as a dict": ({**GOOD, "additional_headers": {"X": "1"}}, "additional_headers", "format"),
    "Reply-To in Unicode": (
        {**GOOD, "additional_headers": [{"key": "Reply-To", "value": "José <jose@example.com>"}]},
        "additional_headers[0].value",
        "format",
    ),
    "send_before without a zone": ({**GOOD, "send_before": "2026-11-21T09:20:00"}, "send_before", "format"),
}


@pytest.mark.parametrize(("body", "argument", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses(body: Any, argument: str, reason: str) -> None:
    result = ask(body)
    assert (result.response.status_code, result.response.json()["type"]) == (400, "invalid_arguments")
    [detail] = result.response.json()["details"]
    assert (detail["argument_name"], detail["reason"]) == (argument, reason)
    assert not result.deliveries


@pytest.mark.parametrize(
    ("changes", "status", "kind"),
    [
        ({"key": "wrong"}, 401, "denied_authentication"),
        ({"key": ""}, 401, "denied_authentication"),
        ({"body": {**GOOD, "project_id": SECRET_KEY}}, 403, "permissions_denied"),
        ({"path": PATH.replace("fr-par", "nl-ams")}, 404, "not_found"),
        ({"path": PATH + "/"}, 404, "not_found"),
    ],
)
def test_refuses_otherwise(changes: dict[str, Any], status: int, kind: str) -> None:
    result = ask(**{"body": GOOD, **changes})
    assert (result.response.status_code, result.response.json()["type"]) == (status, kind)
    assert not result.deliveries


def test_refuses_what_is_not_json() -> None:
    request = replace(Request.post(f"http://sandbox{PATH}", headers=HEADERS, json={}), body=b"{")
    assert SANDBOX.respond(request, PATH).response.status_code == 400


def test_what_arrives() -> None:
    body = {
        **GOOD,
        "from": {"email": "shop@example.com", "name": "Shop, EU"},
        "to": [{"email": "ana@example.net", "name": "Ana"}, {"email": "suppressed@example.org"}],
        "cc": [{"email": "c@example.org"}],
        "attachments": [FILE],
        "additional_headers": [
            {"key": "Reply-To", "value": "help@example.com"},
            {"key": "X-Metadata", "value": '{"n": 1}'},
            {"key": "X-Tags", "value": "no JSON"},
            {"key": "X-Own", "value": "1"},
        ],
    }
    result = ask(body)
    assert [one["status"] for one in result.response.json()["emails"]] == ["sending"] * 3
    ana, cc = result.deliveries
    assert (ana.recipient, ana.from_email, ana.to, ana.cc, ana.reply_to) == (
        "ana@example.net",
        '"Shop, EU" <shop@example.com>',
        "Ana <ana@example.net>, suppressed@example.org",
        "c@example.org",
        "help@example.com",
    )
    assert (ana.metadata, ana.tags, ana.headers) == ({"n": 1}, [], {"X-Own": "1"})
    assert ana.attachments == [("a.csv", "text/csv", 1)]
    assert (ana.subject, ana.text, ana.html) == ("Hi", "Hello", "")
    assert cc.recipient == "c@example.org"
    assert ana.message_id != cc.message_id


KINDS: dict[str, dict[str, Any]] = {
    "delivered": {"event_type": "delivered", "reject_reason": None, "mta_response": "250 2.0.0 OK"},
    "bounced": {"event_type": "bounced", "reject_reason": "bounced", "description": "Mailbox does not exist"},
    "complained": {"event_type": "complained", "reject_reason": "spam"},
}


@pytest.mark.parametrize("kind", sorted(ScalewaySandbox.events))
def test_webhook_calls(client: Client, events: list[Any], kind: str) -> None:
    sandbox = ScalewaySandbox()
    sent = mail(metadata={"n": 1}, tags=["é"], to=["Ana <ana@example.net>"])
    result = sandbox.respond(request_of(SCALEWAY.deliver(sent)), PATH)
    request = sandbox.event(kind, result.deliveries[0], "http://project/anymail/scaleway/tracking/")
    with override_settings(ANYMAIL=sandbox.settings("http://sandbox/scaleway/")):
        assert Call("/anymail/scaleway/tracking/", bytes(request.body)).post(client).status_code == 200
    [event] = events
    expected = {
        "message_id": result.deliveries[0].message_id,
        "recipient": "ana@example.net",
        "metadata": {"n": 1},
        "tags": ["é"],
        **KINDS[kind],
    }
    assert {name: getattr(event, name) for name in expected} == expected
    assert event.timestamp is not None


def test_settings_lead_here() -> None:
    asked: list[Request] = []
    sandbox = ScalewaySandbox()

    class Line:
        def __init__(self, **timeouts: Any) -> None:
            pass

        def send(self, request: Request) -> Any:
            asked.append(request)
            return sandbox.respond(request, request.url.removeprefix("http://sandbox/scaleway")).response

    with override_settings(ANYMAIL={**sandbox.settings("http://sandbox/scaleway/"), "TRANSPORT": Line}):
        one = message()
        assert EmailBackend().send_messages([one]) == 1
    assert asked[0].url == f"http://sandbox/scaleway{PATH}"
    assert one.anymail_status.status == {"queued"}
