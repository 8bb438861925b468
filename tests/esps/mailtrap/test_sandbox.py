"""Mailtrap's side of the sandbox: it takes what we send, refuses what Mailtrap would, and signs its webhook calls."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest
from django.test import Client, override_settings

from anymail.backends.mailtrap import EmailBackend
from anymail.esps.mailtrap.sandbox import API_TOKEN, MailtrapSandbox
from anymail.esps.mailtrap.sending import Mailtrap
from anymail.wire import Request
from esps.mailtrap.test_sending import FIVE, REQUESTS, TEMPLATE, TEMPLATED, UUID
from support import Call, drive, mail, make_esp, message, request_of, statuses

NOW = dt.datetime(2026, 7, 28, 9, 16, 1, tzinfo=dt.UTC)
SANDBOX = MailtrapSandbox(lambda: NOW)
SETTINGS = SANDBOX.settings("http://sandbox/mailtrap/")
OPTIONS = {"api_token": API_TOKEN, "api_url": SETTINGS["MAILTRAP_API_URL"]}
MAILTRAP = make_esp(Mailtrap, **OPTIONS)


def take(request: Request) -> Any:
    return SANDBOX.respond(request, request.url.removeprefix("http://sandbox/mailtrap"))


def ask(path: str, body: Any, **headers: str) -> Any:
    headers = headers or {"Api_Token": API_TOKEN}
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return take(Request.post(f"http://sandbox/mailtrap/api/{path}", headers=sent, json=body))


@pytest.mark.parametrize("name", REQUESTS)
def test_takes_every_request_that_we_make(name: str) -> None:
    one = mail(**REQUESTS[name][0])
    if name == "template without a subject":
        one = replace(one, subject=None)
    result = take(request_of(MAILTRAP.deliver(one)))
    assert result.response.status_code == 200, result.response.text
    _, recipients = drive(MAILTRAP.deliver(one), result.response)
    assert {status.status for status in recipients.values()} == {"queued"}
    assert {delivery.message_id for delivery in result.deliveries} >= {
        status.message_id for status in recipients.values()
    }


GOOD: dict[str, Any] = {
    "from": {"email": "shop@example.com"},
    "to": [{"email": "ana@example.net"}],
    "subject": "Hi",
    "text": "Hello",
}
FILE = {"filename": "a.pdf", "content": "JVBERi0xLjcK", "type": "application/pdf"}


def without(*names: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key not in names}


def many(number: int) -> list[dict[str, str]]:
    return [{"email": f"r{index}@example.com"} for index in range(number)]


# What is wrong, and Mailtrap's words for it.
REFUSED: dict[str, tuple[Any, list[str]]] = {
    "unknown field": ({**GOOD, "send_at": 1}, ["'send_at' is not allowed"]),
    "unknown field of an attachment": (
        {**GOOD, "attachments": [{**FILE, "name": "x"}]},
        ["'name' is not allowed in 'attachments[0]'"],
    ),
    "no subject and no body": (
        without("subject", "text"),
        ["'subject' is required", "must specify either text or html body"],
    ),
    "empty subject": ({**GOOD, "subject": ""}, ["'subject' is invalid: it must have 1 or more characters"]),
    "no from": (without("from"), ["'from' is required"]),
    "nobody": (without("to"), ["at least one of 'to', 'cc' and 'bcc' is required"]),
    "bad address": ({**GOOD, "to": [{"email": "ana"}]}, ["address is invalid in 'to' 0"]),
    "bad reply_to": ({**GOOD, "reply_to": {"email": "ana"}}, ["address is invalid in 'reply_to'"]),
    "domain not encoded": ({**GOOD, "cc": [{"email": "ana@bücher.example"}]}, ["address is invalid in 'cc' 0"]),
    "no address": ({**GOOD, "bcc": [{"name": "Bo"}]}, ["'email' is required in 'bcc[0]'"]),
    "EAI sender": ({**GOOD, "from": {"email": "é@a.bc"}}, ["'From' header does not match the sender's domain."]),
    "two categories": ({**GOOD, "category": ["a", "b"]}, ["'category' is invalid: it must be of type string"]),
    "number as a variable": (
        {**GOOD, "custom_variables": {"n": 1}},
        ["'custom_variables.n' is invalid: it must be of type string"],
    ),
    "number as a header": ({**GOOD, "headers": {"X": 1}}, ["'headers.X' is invalid: it must be of type string"]),
    "variables too long": (
        {**GOOD, "custom_variables": {"a": "é" * 500}},
        ["'custom_variables' must not exceed 1000 bytes"],
    ),
    "no filename": ({**GOOD, "attachments": [{"content": "MQ=="}]}, ["'filename' is required in 'attachments[0]'"]),
    "not base64": ({**GOOD, "attachments": [{**FILE, "content": "?"}]}, ["content is not base64 in 'attachments' 0"]),
    "category and template": (
        {**TEMPLATED, "to": GOOD["to"], "category": "a", "text": "Hi"},
        ["'text' is not allowed with 'template_uuid'", "'category' is not allowed with 'template_uuid'"],
    ),
    "variables without a template": (
        {**GOOD, "template_variables": {"a": 1}},
        ["'template_variables' is not allowed without 'template_uuid'"],
    ),
    "a list": ([GOOD], ["'body' is invalid: "]),
}


@pytest.mark.parametrize(("body", "errors"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses(body: Any, errors: list[str]) -> None:
    result = ask("send", body)
    answered = result.response.json()
    assert (result.response.status_code, answered["success"], len(answered["errors"])) == (400, False, len(errors))
    for given, words in zip(answered["errors"], errors, strict=True):
        assert given.startswith(words)
    assert not result.deliveries


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"base": GOOD, "requests": [{"to": GOOD["to"]}]}, "'to' is not allowed in 'base'"),
        ({"base": {}}, "'requests' is required"),
        ({"base": {}, "requests": []}, "'requests' is invalid"),
        ({"base": {}, "requests": [{}] * 501}, "'requests' is invalid"),
        ([], "'body' is invalid"),
    ],
)
def test_refuses_a_batch(body: Any, words: str) -> None:
    result = ask("batch", body)
    assert (result.response.status_code, words in result.response.text) == (400, True)
    assert not result.deliveries


@pytest.mark.parametrize("headers", [{"Api_Token": "wrong"}, {"Authorization": "Bearer wrong"}, {"X": "y"}])
def test_refuses_a_wrong_token(headers: dict[str, str]) -> None:
    result = ask("send", GOOD, **headers)
    assert (result.response.status_code, result.response.json()["errors"]) == (401, ["Unauthorized"])
    assert not result.deliveries


def test_takes_the_token_as_bearer_too() -> None:
    assert ask("send", GOOD, Authorization=f"Bearer {API_TOKEN}").response.status_code == 200


@pytest.mark.parametrize(("content_type", "body"), [("application/json", b"{"), ("text/plain", b"{}")])
def test_refuses_what_is_not_json(content_type: str, body: bytes) -> None:
    headers = {"Api-Token": API_TOKEN, "Content-Type": content_type}
    result = take(Request("POST", "http://sandbox/mailtrap/api/send", headers, body))
    assert (result.response.status_code, result.response.json()["errors"]) == (400, ["The body is not JSON."])


@pytest.mark.parametrize("path", ["emails", "send/1/2"])
def test_knows_no_other_path(path: str) -> None:
    assert ask(path, GOOD).response.status_code == 404


def test_in_a_batch_each_request_has_its_own_outcome() -> None:
    items: list[Any] = [{"to": GOOD["to"]}, {"to": [{"email": "x"}]}, {"to": many(2), "text": "Other"}]
    result = ask("batch", {"base": without("to"), "requests": items})
    answered = result.response.json()
    assert [one["success"] for one in answered["responses"]] == [True, False, True]
    assert answered["responses"][1]["errors"] == ["address is invalid in 'to' 0"]
    assert [(delivery.recipient, delivery.text) for delivery in result.deliveries] == [
        ("ana@example.net", "Hello"),
        ("r0@example.com", "Other"),
        ("r1@example.com", "Other"),
    ]


def test_distinct_messages_arrive_as_they_were() -> None:
    mails = [mail(**attributes) for attributes in FIVE]
    single = [delivery for one in mails for delivery in take(request_of(MAILTRAP.deliver(one))).deliveries]
    result = take(request_of(MAILTRAP.deliver_many(mails)))
    assert [replace(delivery, message_id="") for delivery in result.deliveries] == [
        replace(delivery, message_id="") for delivery in single
    ]
    _, outcomes = drive(MAILTRAP.deliver_many(mails), result.response)
    assert [status.message_id for one in outcomes for status in one.values()] == [
        delivery.message_id for delivery in result.deliveries
    ]


def test_a_mailtrap_sandbox_has_one_id_for_all() -> None:
    esp = make_esp(Mailtrap, **OPTIONS, sandbox_id=2345)
    for attributes in ({}, {"merge_data": {}}):
        one = mail(cc=["bo@example.org"], **attributes)
        result = take(request_of(esp.deliver(one)))
        [message_id] = {delivery.message_id for delivery in result.deliveries}
        assert result.response.text.count(message_id) == 1
        _, recipients = drive(esp.deliver(one), result.response)
        assert set(statuses(recipients).values()) == {("queued", message_id)}


def test_what_arrives() -> None:
    one = mail(
        to=["Ana <ana@example.net>"],
        cc=["bo@example.org"],
        reply_to=["a@example.com", "b@example.com"],
        headers={"X-Order": "7"},
        metadata={"n": 1},
        tags=["a"],
        attach=[("a.pdf", b"%PDF", "application/pdf")],
    )
    ana, bo = take(request_of(MAILTRAP.deliver(one))).deliveries
    assert (ana.recipient, ana.to, ana.cc) == ("ana@example.net", "Ana <ana@example.net>", "bo@example.org")
    assert (ana.from_email, ana.reply_to) == ("shop@example.com", "a@example.com, b@example.com")
    assert (ana.subject, ana.text, ana.headers) == ("Hi", "Hello", {"X-Order": "7"})
    assert (ana.metadata, ana.tags, ana.attachments) == ({"n": "1"}, ["a"], [("a.pdf", "application/pdf", 4)])
    assert bo.recipient == "bo@example.org"
    assert ana.message_id != bo.message_id


def test_a_templates_variables() -> None:
    one = mail(**TEMPLATE, merge_global_data={"site": "Shop"}, merge_data={"ana@example.net": {"name": "Ana"}})
    [delivery] = take(request_of(MAILTRAP.deliver(one))).deliveries
    assert (delivery.subject, delivery.template) == (f"(template {UUID})", UUID)
    assert delivery.extra["template_variables"] == {"site": "Shop", "name": "Ana"}


def test_suppressed_recipients_are_accepted_and_get_nothing() -> None:
    one = mail(to=["suppressed@example.com", "ana@example.net"])
    result = take(request_of(MAILTRAP.deliver(one)))
    _, recipients = drive(MAILTRAP.deliver(one), result.response)
    assert {status.status for status in recipients.values()} == {"queued"}
    assert [delivery.recipient for delivery in result.deliveries] == ["ana@example.net"]


# The kind of event, and the event that a project gets.
EVENTS: dict[str, dict[str, Any]] = {
    "delivered": {"event_type": "delivered"},
    "opened": {"event_type": "opened", "user_agent": "Mozilla/5.0 (Anymail sandbox)"},
    "clicked": {"event_type": "clicked", "click_url": "https://example.com/"},
    "bounced": {
        "event_type": "bounced",
        "reject_reason": "bounced",
        "description": "badrecipient",
        "mta_response": "550 5.1.1 No such user",
    },
    "complained": {"event_type": "complained", "reject_reason": "spam"},
}


@pytest.mark.parametrize(("kind", "expected"), EVENTS.items(), ids=EVENTS.keys())
@pytest.mark.parametrize("labels", [{}, {"tags": ["a"], "metadata": {"n": 1}}], ids=["plain", "labelled"])
@override_settings(ANYMAIL=SETTINGS)
def test_events(client: Client, events: list[Any], kind: str, expected: dict[str, Any], labels: dict[str, Any]) -> None:
    [delivery] = take(request_of(MAILTRAP.deliver(mail(**labels)))).deliveries
    request = SANDBOX.event(kind, delivery, "http://project/anymail/mailtrap/tracking/")
    headers = {"Mailtrap-Signature": request.headers["Mailtrap-Signature"]}
    assert Call("/anymail/mailtrap/tracking/", bytes(request.body), headers).post(client).status_code == 200
    [event] = events
    common = {
        "message_id": delivery.message_id,
        "recipient": "ana@example.net",
        "timestamp": NOW,
        "tags": labels.get("tags", []),
        "metadata": {"n": "1"} if labels else {},
    }
    for name, value in {**common, **expected}.items():
        assert getattr(event, name) == value
    assert event.event_id
    assert event.esp_event["sending_domain_name"] == "example.com"


def test_there_is_an_event_of_every_kind() -> None:
    assert set(EVENTS) == SANDBOX.events


def test_settings_lead_here() -> None:
    class Line:
        def __init__(self, **timeouts: Any) -> None:
            pass

        def send(self, request: Request) -> Any:
            return take(request).response

    with override_settings(ANYMAIL={**SETTINGS, "TRANSPORT": Line}):
        one, other = message(), message(to=["bo@example.org"])
        assert EmailBackend().send_messages([one, other]) == 2
    assert one.anymail_status.status == other.anymail_status.status == {"queued"}
    assert one.anymail_status.message_id != other.anymail_status.message_id
