"""Mandrill's side of the sandbox: it takes what we send, and refuses what Mandrill would refuse."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.test import Client, override_settings

from anymail.esps.mandrill.sandbox import API_KEY, MandrillSandbox
from anymail.esps.mandrill.sending import Mandrill
from anymail.wire import Request
from esps.mandrill.test_sending import MC_TEMPLATE, REQUESTS, SEND, TEMPLATE, TWO
from support import Call, drive, mail, make_esp, request_of, statuses

URL = "http://sandbox/mandrill/"
NOW = dt.datetime(2026, 7, 28, 9, 0, tzinfo=dt.UTC)
SANDBOX = MandrillSandbox(clock=lambda: NOW)
MANDRILL = make_esp(Mandrill, api_key=API_KEY, api_url=f"{URL}api/1.0/")


def ask(body: Any, call: str = SEND) -> Any:
    path = f"/api/1.0/messages/{call}"
    return SANDBOX.respond(Request.post(f"http://sandbox{path}", headers={}, json=body), path)


def send(**attributes: Any) -> Any:
    request = request_of(MANDRILL.deliver(mail(**attributes)))
    return SANDBOX.respond(request, request.url.removeprefix(URL.rstrip("/")))


@pytest.mark.parametrize("name", REQUESTS)
def test_takes_every_request_that_we_make(name: str) -> None:
    attributes, _, body = REQUESTS[name]
    result = send(**attributes)
    assert result.response.status_code == 200, result.response.text
    assert [delivery.recipient for delivery in result.deliveries] == [one["email"] for one in body["message"]["to"]]


# A message's attributes, and the statuses that its recipients get here.
STATUSES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "sent": ({}, ["sent"]),
    "with an attachment": ({"attach": [("a.txt", b"12", "text/plain")]}, ["queued"]),
    "later": ({"send_at": NOW + dt.timedelta(hours=1)}, ["queued"]),
    "a time past": ({"send_at": NOW - dt.timedelta(hours=1)}, ["sent"]),
    "suppressed": ({"to": ["suppressed@example.com", "ana@example.net"]}, ["rejected", "sent"]),
    "many": ({"to": ["suppressed@example.com", *(f"a{n}@example.com" for n in range(10))]}, ["queued"] * 11),
    "asynchronous": ({"to": ["suppressed@example.com"], "esp_extra": {"async": True}}, ["queued"]),
}


@pytest.mark.parametrize(("attributes", "expected"), STATUSES.values(), ids=STATUSES.keys())
def test_its_answers_are_read(attributes: dict[str, Any], expected: list[str]) -> None:
    one = mail(**attributes)
    flow = MANDRILL.deliver(one)
    result = send(**attributes)
    next(flow)
    with pytest.raises(StopIteration) as finished:
        flow.send(result.response)
    found = statuses(finished.value.value)
    assert [status for status, _ in found.values()] == expected
    ids = {delivery.recipient: delivery.message_id for delivery in result.deliveries}
    assert not any(email.startswith("suppressed") for email in ids)
    assert all(found[email][1] == message_id for email, message_id in ids.items())


def test_an_invalid_recipient_costs_no_other() -> None:
    body = {**GOOD, "message": {**GOOD["message"], "to": [{"email": "not an address"}, {"email": "ana@example.net"}]}}
    result = ask(body)
    assert result.response.json()[0] == {"email": "not an address", "status": "invalid", "reject_reason": None}
    assert [delivery.recipient for delivery in result.deliveries] == ["ana@example.net"]
    _, recipients = drive(MANDRILL.deliver(mail(to=["ana@example.net"])), result.response)
    assert statuses(recipients) == {"ana@example.net": ("sent", result.deliveries[0].message_id)}


def test_renders_what_each_recipient_gets() -> None:
    result = send(
        **TWO,
        cc=["kim@example.net"],
        reply_to=["help@example.com"],
        subject="Order *|ORDER_NO|*",
        body="Hi *|name|*, *|Shop|**|NOTHING|*",
        html="<p>*|SHOP|*",
        headers={"X-Lane": "gold"},
        metadata={"run": "42"},
        merge_global_data={"shop": "Example", "order_no": 0},
        merge_data={"ana@example.net": {"name": "Ana", "order_no": 2}},
        merge_metadata={"Bob@Example.org": {"run": "43", "user": 8}},
        tags=["receipt"],
        attach=[("a.txt", b"12", "text/plain")],
    )
    ana, bob, kim = result.deliveries
    assert (ana.to, ana.cc, ana.reply_to) == ("Ana <ana@example.net>", "", "help@example.com")
    assert (ana.subject, ana.text, ana.html) == ("Order 2", "Hi Ana, Example", "<p>Example")
    assert (ana.headers, ana.metadata, ana.tags) == ({"X-Lane": "gold"}, {"run": "42"}, ["receipt"])
    assert (bob.subject, bob.text, bob.metadata) == ("Order 0", "Hi , Example", {"run": "43", "user": 8})
    assert (kim.to, kim.cc) == ("kim@example.net", "")
    assert kim.attachments == [("a.txt", 'text/plain; charset="utf-8"', 2)]
    assert len({ana.message_id, bob.message_id, kim.message_id}) == 3


def test_recipients_may_see_each_other() -> None:
    result = send(
        **TWO, cc=["kim@example.net"], bcc=["x@example.com"], esp_extra={"message": {"preserve_recipients": True}}
    )
    assert [(one.to, one.cc) for one in result.deliveries] == [
        ("Ana <ana@example.net>, Bob@Example.org", "kim@example.net")
    ] * 4


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"body": "*|N|* {{N}}", "merge_global_data": {"n": 1}}, "1 {{N}}"),
        (
            {
                "body": "*|N|* {{ N }} {{{n}}}",
                "merge_global_data": {"n": 1},
                "esp_extra": {"message": {"merge_language": "handlebars"}},
            },
            "*|N|* 1 1",
        ),
        ({"body": "*|N|*"}, "*|N|*"),
        ({"body": "*|N|*", "esp_extra": {"message": {"merge": True}}}, ""),
    ],
)
def test_languages_of_variables(attributes: dict[str, Any], text: str) -> None:
    [delivery] = send(**attributes).deliveries
    assert delivery.text == text


def test_a_template() -> None:
    [delivery] = send(**REQUESTS["template"][0]).deliveries
    assert (delivery.template, delivery.subject) == ("order-confirmation", "(template order-confirmation)")
    [delivery] = send(**REQUESTS["a template of Mailchimp's"][0]).deliveries
    assert delivery.template == "3"


GOOD: dict[str, Any] = {
    "key": API_KEY,
    "message": {
        "from_email": "shop@example.com",
        "to": [{"email": "ana@example.net"}],
        "subject": "Hi",
        "text": "Hello",
    },
}
STORED = {**GOOD, "template_name": "welcome", "template_content": []}


def with_message(**fields: Any) -> dict[str, Any]:
    return {**GOOD, "message": {**GOOD["message"], **fields}}


@pytest.mark.parametrize("path", ["/api/1.0/messages/send.json", "/api/1.4/messages/send", "/api/1.0/messages/send"])
def test_takes_a_good_call(path: str) -> None:
    request = Request.post(f"http://sandbox{path}", headers={}, json=GOOD)
    assert SANDBOX.respond(request, path).response.status_code == 200


FILE = {"type": "image/png", "name": "dot", "content": "iVBORw0KGgo="}

# What is wrong: the call, its body, and the status, name and words of the refusal.
REFUSED: dict[str, tuple[str, Any, int, str, str]] = {
    "no key": (SEND, {"message": GOOD["message"]}, 400, "ValidationError", "must specify a key"),
    "not an object": (SEND, [GOOD], 400, "ValidationError", "must specify a key"),
    "bad key": (SEND, {**GOOD, "key": "x"}, 401, "Invalid_Key", "Invalid API key"),
    "no message": (SEND, {"key": API_KEY}, 400, "ValidationError", '{"message":'),
    "unknown field": (SEND, {**GOOD, "tags": []}, 400, "ValidationError", '{"tags":'),
    "unknown field of the message": (SEND, with_message(reply_to="x"), 400, "ValidationError", '{"reply_to":'),
    "wrong type": (SEND, with_message(track_opens="yes"), 400, "ValidationError", '{"message": {"track_opens":'),
    "nobody": (SEND, with_message(to=[]), 400, "ValidationError", '{"message": {"to":'),
    "a wrong type of recipient": (
        SEND,
        with_message(to=[{"email": "ana@example.net", "type": "reply"}]),
        400,
        "ValidationError",
        '{"message": {"to": {"0": {"type":',
    ),
    "no sender": (SEND, with_message(from_email=""), 400, "ValidationError", "must contain a single @"),
    "bad sender": (SEND, with_message(from_email="shop"), 400, "ValidationError", '{"message": {"from_email":'),
    "bad sender of a template": (
        TEMPLATE,
        {**STORED, "message": {**GOOD["message"], "from_email": "shop"}},
        400,
        "ValidationError",
        "must contain a single @",
    ),
    "subject too long": (SEND, with_message(subject="x" * 999), 400, "ValidationError", '"subject"'),
    "a tag of Mandrill's": (SEND, with_message(tags=["_own"]), 400, "ValidationError", '"tags"'),
    "tag too long": (SEND, with_message(tags=["x" * 51]), 400, "ValidationError", '"tags"'),
    "metadata that is no scalar": (SEND, with_message(metadata={"a": [1]}), 400, "ValidationError", '"metadata"'),
    "variable name": (
        SEND,
        with_message(global_merge_vars=[{"name": "_a", "content": 1}]),
        400,
        "ValidationError",
        '"global_merge_vars"',
    ),
    "image that is none": (
        SEND,
        with_message(images=[{**FILE, "type": "text/plain"}]),
        400,
        "ValidationError",
        '"images"',
    ),
    "not base64": (SEND, with_message(attachments=[{**FILE, "content": "iVB"}]), 400, "ValidationError", '"content"'),
    "file without a name": (
        SEND,
        with_message(attachments=[{"type": "text/plain", "content": ""}]),
        400,
        "ValidationError",
        '"name"',
    ),
    "time with zone": (SEND, {**GOOD, "send_at": "2026-08-03T06:30:00Z"}, 400, "ValidationError", '{"send_at":'),
    "no time": (SEND, {**GOOD, "send_at": "2026-13-03 06:30:00"}, 400, "ValidationError", '{"send_at":'),
    "too far ahead": (SEND, {**GOOD, "send_at": "2028-08-03 06:30:00"}, 400, "ValidationError", "one year"),
    "template without content": (
        TEMPLATE,
        {**GOOD, "template_name": "welcome"},
        400,
        "ValidationError",
        '{"template_content":',
    ),
    "template's id that is no number": (
        MC_TEMPLATE,
        {**GOOD, "mc_template_id": "3"},
        400,
        "ValidationError",
        '{"mc_template_id":',
    ),
    "unknown call": ("send-fax", GOOD, 404, "Unknown_Method", ""),
}


@pytest.mark.parametrize(("call", "body", "status", "name", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses(call: str, body: Any, status: int, name: str, words: str) -> None:
    result = ask(body, call)
    answer = result.response.json()
    assert (result.response.status_code, answer["status"], answer["name"]) == (status, "error", name)
    assert words in answer["message"]
    assert not result.deliveries


def test_refuses_what_is_not_json() -> None:
    request = Request("POST", "http://x", {"Content-Type": "application/json"}, b"{")
    assert SANDBOX.respond(request, "/api/1.0/messages/send.json").response.json()["name"] == "ValidationError"


# The kinds of event, and what else they become.
EVENTS: dict[str, dict[str, Any]] = {
    "delivered": {},
    "opened": {"user_agent": "Mozilla/5.0 (Anymail sandbox)"},
    "clicked": {"click_url": "https://example.com/"},
    "bounced": {
        "reject_reason": "bounced",
        "description": "bad_mailbox",
        "mta_response": "smtp;550 5.1.1 <Ana@example.net>: no such user",
    },
    "complained": {"reject_reason": "spam"},
}


@pytest.mark.parametrize("path", ["/anymail/mandrill/", "/anymail/mandrill/tracking/"])
@pytest.mark.parametrize("kind", sorted(SANDBOX.events))
def test_tells_of_events(client: Client, events: list[Any], kind: str, path: str) -> None:
    [delivery] = send(to=["Ana@example.net"], tags=["receipt"], metadata={"order": "1"}).deliveries
    request = SANDBOX.event(kind, delivery, f"http://testserver{path}")
    headers = dict(request.headers)
    call = Call(path, bytes(request.body), headers, headers.pop("Content-Type"))
    with override_settings(ANYMAIL=SANDBOX.settings(URL)):
        assert call.post(client).status_code == 200
    [event] = events
    assert (event.event_type, event.message_id, event.recipient) == (kind, delivery.message_id, "Ana@example.net")
    assert (event.timestamp, event.tags, event.metadata) == (NOW, ["receipt"], {"order": "1"})
    for name, value in EVENTS[kind].items():
        assert getattr(event, name) == value


def test_its_webhook_calls_need_its_key(client: Client, events: list[Any]) -> None:
    [delivery] = send().deliveries
    request = SANDBOX.event("delivered", delivery, "http://testserver/anymail/mandrill/")
    headers = dict(request.headers)
    call = Call("/anymail/mandrill/", bytes(request.body), headers, headers.pop("Content-Type"))
    with override_settings(ANYMAIL={"MANDRILL_WEBHOOK_KEY": "another"}):
        assert call.post(client).status_code == 400
    assert not events
