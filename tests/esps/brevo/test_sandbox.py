"""Brevo's side of the sandbox: it takes what we send, and refuses what Brevo would refuse."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.test import Client, override_settings

from anymail.esps.brevo.sandbox import API_KEY, BrevoSandbox
from anymail.esps.brevo.sending import Brevo
from anymail.esps.kit.sandbox import SandboxDelivery
from anymail.wire import Request
from esps.brevo.test_sending import REQUESTS, made
from support import Call, make_esp, request_of

BREVO = make_esp(Brevo, api_key=API_KEY)
URL = "http://sandbox/smtp/email"


def ask(body: Any, key: str = API_KEY, sandbox: BrevoSandbox | None = None) -> Any:
    request = Request.post(URL, headers={"api-key": key}, json=body)
    return (sandbox or BrevoSandbox()).respond(request, "/smtp/email")


# What Brevo refuses, though we can express it.
BREVO_CHECKS = {"no to", "attachment of no known type", "template with a word for an id"}


@pytest.mark.parametrize("name", [name for name in REQUESTS if name not in BREVO_CHECKS])
def test_takes_every_request_that_we_make(name: str) -> None:
    result = BrevoSandbox().respond(request_of(BREVO.deliver(made(**REQUESTS[name][0]))), "/smtp/email")
    assert result.response.status_code == 201, result.response.text
    assert bool(result.deliveries) is (name != "esp_extra")


@pytest.mark.parametrize("name", sorted(BREVO_CHECKS))
def test_refuses_what_brevo_checks_itself(name: str) -> None:
    result = BrevoSandbox().respond(request_of(BREVO.deliver(made(**REQUESTS[name][0]))), "/smtp/email")
    assert result.response.status_code == 400


def test_takes_several_messages_in_one_call() -> None:
    mails = [made(), made(to=["bo@example.org"], subject="Two")]
    result = BrevoSandbox().respond(request_of(BREVO.deliver_many(mails)), "/smtp/email")
    assert [(one.recipient, one.subject) for one in result.deliveries] == [
        ("ana@example.net", "Hi"),
        ("bo@example.org", "Two"),
    ]
    assert [one.message_id for one in result.deliveries] == result.response.json()["messageIds"]


ANA = {"email": "ana@example.net"}
GOOD = {"sender": {"email": "shop@example.com"}, "to": [ANA], "subject": "Hi", "htmlContent": "<p>Hello"}
BATCH = {**{key: value for key, value in GOOD.items() if key != "to"}, "messageVersions": [{"to": [ANA]}]}

# What is wrong, and Brevo's code for it.
REFUSED: dict[str, tuple[Any, str]] = {
    "unknown field": ({**GOOD, "html": "x"}, "invalid_parameter"),
    "wrong type": ({**GOOD, "tags": "a"}, "invalid_parameter"),
    "not an object": ([GOOD], "invalid_parameter"),
    "no sender": ({key: value for key, value in GOOD.items() if key != "sender"}, "missing_parameter"),
    "no content": ({key: value for key, value in GOOD.items() if key != "htmlContent"}, "missing_parameter"),
    "consent in words": ({**GOOD, "to": [{**ANA, "contactPixelTrackingConsent": "yes"}]}, "invalid_parameter"),
    "nobody": ({key: value for key, value in GOOD.items() if key != "to"}, "missing_parameter"),
    "empty to": ({**GOOD, "to": []}, "invalid_parameter"),
    "bad address": ({**GOOD, "to": [{"email": "ana"}]}, "invalid_parameter"),
    "two addresses in one": ({**GOOD, "cc": [{"email": "a@example.com, b@example.com"}]}, "invalid_parameter"),
    "bad address in a version": ({**BATCH, "messageVersions": [{"to": [{"email": "x"}]}]}, "invalid_parameter"),
    "name too long": ({**GOOD, "to": [{**ANA, "name": "a" * 71}]}, "invalid_parameter"),
    "over 99 recipients": ({**GOOD, "to": [ANA] * 100}, "invalid_parameter"),
    "over 1000 versions": ({**BATCH, "messageVersions": [{"to": [ANA]}] * 1001}, "invalid_parameter"),
    "over 2000 recipients": ({**BATCH, "messageVersions": [{"to": [ANA] * 99}] * 21}, "out_of_range"),
    "version without to": ({**BATCH, "messageVersions": [{"subject": "x"}]}, "missing_parameter"),
    "tags in a version": ({**BATCH, "messageVersions": [{"to": [ANA], "tags": ["a"]}]}, "invalid_parameter"),
    "template in a version only": (
        {**BATCH, "messageVersions": [{"to": [ANA], "templateId": 1}]},
        "missing_parameter",
    ),
    "content in a version only": (
        {"templateId": 1, "messageVersions": [{"to": [ANA], "htmlContent": "x"}]},
        "missing_parameter",
    ),
    "unknown extension": ({**GOOD, "attachment": [{"name": "a.exe", "content": "AA=="}]}, "invalid_parameter"),
    "not base64": ({**GOOD, "attachment": [{"name": "a.pdf", "content": "?"}]}, "invalid_parameter"),
    "template id as text": ({**GOOD, "templateId": "22"}, "invalid_parameter"),
    "time without a zone": ({**GOOD, "scheduledAt": "2026-03-06T08:00:00"}, "invalid_parameter"),
    "number in a header": ({**GOOD, "headers": {"X-Retry": 3}}, "invalid_parameter"),
}


@pytest.mark.parametrize(("body", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses(body: Any, code: str) -> None:
    result = ask(body)
    assert (result.response.status_code, result.response.json()["code"]) == (400, code)
    assert not result.deliveries


TAKEN: dict[str, Any] = {
    "html": GOOD,
    "text only": {**{key: value for key, value in GOOD.items() if key != "htmlContent"}, "textContent": "Hello"},
    "versions": BATCH,
    "the longest name": {**GOOD, "to": [{**ANA, "name": "a" * 70}]},
    "consent to tracking": {**GOOD, "to": [{**ANA, "contactPixelTrackingConsent": False}]},
}


@pytest.mark.parametrize("body", TAKEN.values(), ids=TAKEN.keys())
def test_takes(body: Any) -> None:
    assert ask(body).response.status_code == 201


def test_refuses_a_wrong_key() -> None:
    response = ask(GOOD, key="wrong").response
    assert (response.status_code, response.json()) == (401, {"message": "Key not found", "code": "unauthorized"})


def test_refuses_what_is_not_json() -> None:
    request = Request("POST", URL, {"api-key": API_KEY}, b"{")
    assert BrevoSandbox().respond(request, "/smtp/email").response.status_code == 400


def test_knows_no_other_call() -> None:
    response = BrevoSandbox().respond(Request("GET", URL), "/smtp/email").response
    assert (response.status_code, response.json()["code"]) == (404, "document_not_found")


def test_refuses_a_repeat_for_half_an_hour() -> None:
    now = dt.datetime(2026, 3, 4, 9, tzinfo=dt.UTC)
    sandbox = BrevoSandbox(lambda: now)
    body = {**GOOD, "headers": {"idempotencyKey": "k"}}
    assert ask(body, sandbox=sandbox).response.status_code == 201
    assert ask(body, sandbox=sandbox).response.json()["code"] == "duplicate_parameter"
    now += dt.timedelta(minutes=30)
    assert ask(body, sandbox=sandbox).response.status_code == 201


def test_a_repeat_is_taken_as_sent() -> None:
    sandbox = BrevoSandbox()
    flow = BREVO.deliver(made())
    request = next(flow)
    sandbox.respond(request, "/smtp/email")
    with pytest.raises(StopIteration) as finished:
        flow.send(sandbox.respond(request, "/smtp/email").response)
    assert finished.value.value == {"ana@example.net": (None, "queued")}


def test_whom_brevo_blocks_gets_no_delivery() -> None:
    result = ask({**GOOD, "to": [ANA, {"email": "suppressed@example.com"}]})
    assert result.response.status_code == 201
    assert [delivery.recipient for delivery in result.deliveries] == ["ana@example.net"]


def test_deliveries_are_personal() -> None:
    body = {
        **BATCH,
        "subject": "Hi {{params.name}} of {{ params.shop }}",
        "params": {"shop": "Harbor", "name": "you"},
        "headers": {"X-Mailin-custom": '{"n": 1}', "X-Shop": "7"},
        "tags": ["a"],
        "messageVersions": [
            {"to": [ANA], "params": {"name": "Ana"}, "headers": {"X-Mailin-custom": '{"n": 2}'}},
            {"to": [{"email": "bo@example.org", "name": "Bo"}], "cc": [ANA], "replyTo": {"email": "r@example.com"}},
        ],
    }
    deliveries = ask(body).deliveries
    assert [(one.recipient, one.to, one.subject, one.metadata) for one in deliveries] == [
        ("ana@example.net", "ana@example.net", "Hi Ana of Harbor", {"n": 2}),
        ("bo@example.org", "Bo <bo@example.org>", "Hi you of Harbor", {"n": 1}),
        ("ana@example.net", "Bo <bo@example.org>", "Hi you of Harbor", {"n": 1}),
    ]
    assert deliveries[0].message_id != deliveries[1].message_id == deliveries[2].message_id
    assert (deliveries[1].reply_to, deliveries[1].headers["X-Shop"], deliveries[1].tags) == (
        "r@example.com",
        "7",
        ["a"],
    )


# The kinds of event, and what they become.
EVENTS: dict[str, dict[str, Any]] = {
    "delivered": {"event_type": "delivered", "mta_response": "sent"},
    "opened": {"event_type": "opened", "click_url": None, "user_agent": "Mozilla/5.0 (Anymail sandbox)"},
    "clicked": {"event_type": "clicked", "click_url": "https://example.com/"},
    "bounced": {"event_type": "bounced", "reject_reason": "bounced"},
    "complained": {"event_type": "complained", "reject_reason": None},
}


@pytest.mark.parametrize("kind", sorted(BrevoSandbox.events))
def test_events(client: Client, events: list[Any], kind: str) -> None:
    now = dt.datetime(2026, 3, 4, 9, 15, 31, 120_000, tzinfo=dt.UTC)
    sandbox = BrevoSandbox(lambda: now)
    body = {**GOOD, "templateId": 22, "tags": ["a", "b"], "headers": {"X-Mailin-custom": '{"n": 1}'}}
    [delivery] = ask(body, sandbox=sandbox).deliveries
    request = sandbox.event(kind, delivery, "/anymail/brevo/tracking/")
    headers = {**request.headers, "Authorization": "Basic dXNlcjpwYXNz"}
    with override_settings(ANYMAIL={**sandbox.settings("http://sandbox/"), "WEBHOOK_SECRET": "user:pass"}):
        assert Call(request.url, bytes(request.body), headers).post(client).status_code == 200
    [got] = events
    expected = {
        "recipient": "ana@example.net",
        "message_id": delivery.message_id,
        "timestamp": now,
        "metadata": {"n": 1},
        "tags": ["a", "b"],
        **EVENTS[kind],
    }
    assert {name: getattr(got, name) for name in expected} == expected


def test_an_event_of_a_plain_delivery(client: Client, events: list[Any]) -> None:
    delivery = SandboxDelivery(recipient="ana@example.net", message_id="<1@x>")
    request = BrevoSandbox().event("delivered", delivery, "/anymail/brevo/tracking/")
    with override_settings(ANYMAIL={"WEBHOOK_SECRET": "user:pass"}):
        Call(request.url, bytes(request.body), {"Authorization": "Basic dXNlcjpwYXNz"}).post(client)
    [got] = events
    assert (got.metadata, got.tags, got.event_type) == ({}, [], "delivered")
