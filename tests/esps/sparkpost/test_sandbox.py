"""SparkPost's side of the sandbox: it takes what we send, and refuses what SparkPost would refuse."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from django.test import Client, override_settings

from anymail.esps.sparkpost.sandbox import API_KEY, SparkPostSandbox
from anymail.esps.sparkpost.sending import SparkPost
from anymail.wire import Request
from esps.sparkpost.test_sending import REQUESTS, TWO
from support import Call, drive, mail, make_esp, request_of, statuses

URL = "http://sandbox/sparkpost/"
NOW = dt.datetime(2026, 3, 2, 10, 0, tzinfo=dt.UTC)
SANDBOX = SparkPostSandbox(clock=lambda: NOW)
SPARKPOST = make_esp(SparkPost, api_key=API_KEY, api_url=f"{URL}api/v1/")
PATH = "/api/v1/transmissions/"


def ask(body: Any, **headers: str) -> Any:
    request = Request.post(f"http://sandbox{PATH}", headers={"Authorization": API_KEY, **headers}, json=body)
    return SANDBOX.respond(request, PATH)


def send(**attributes: Any) -> Any:
    request = request_of(SPARKPOST.deliver(mail(**attributes)))
    return SANDBOX.respond(request, request.url.removeprefix(URL.rstrip("/")))


@pytest.mark.parametrize("name", [name for name in REQUESTS if name != "stored list of recipients"])
def test_takes_every_request_that_we_make(name: str) -> None:
    attributes, body = REQUESTS[name]
    result = send(**attributes)
    assert result.response.status_code == 200, result.response.text
    assert [delivery.recipient for delivery in result.deliveries] == [
        one["address"]["email"] for one in body["recipients"]
    ]


def test_its_answers_are_read() -> None:
    flow = SPARKPOST.deliver(mail(**TWO))
    result = SANDBOX.respond(request_of(SPARKPOST.deliver(mail(**TWO))), PATH)
    _, recipients = drive(flow, result.response)
    message_id = result.deliveries[0].message_id
    assert message_id.isdigit()
    assert statuses(recipients) == dict.fromkeys(TWO["to"], ("queued", message_id))


def test_renders_what_each_recipient_gets() -> None:
    result = send(
        to=["Ana <ana@example.net>", "bob@example.org"],
        cc=["kim@example.net"],
        subject="Order {{order_no}}",
        body="Hi {{ name or 'friend' }} <{{shop}}>, {{order_id}}{{nothing}}",
        html="<p>{{shop}} {{{shop}}}",
        metadata={"order_id": "0"},
        merge_global_data={"shop": "A&B", "order_no": 1},
        merge_data={"ana@example.net": {"name": "Ana", "order_no": 2}},
        merge_metadata={"bob@example.org": {"order_id": "9"}},
        headers={"X-Lane": "normal"},
        merge_headers={"ana@example.net": {"X-Lane": "gold"}},
        tags=["receipt"],
        attach=[("a.txt", b"12", "text/plain")],
    )
    ana, bob, *copies = result.deliveries
    assert (ana.to, ana.cc, ana.subject, ana.text) == (
        "Ana <ana@example.net>",
        "kim@example.net",
        "Order 2",
        "Hi Ana <A&B>, 0",
    )
    assert (ana.html, ana.headers, ana.metadata) == ("<p>A&amp;B A&B", {"X-Lane": "gold"}, {"order_id": "0"})
    assert (bob.to, bob.subject, bob.text) == ("bob@example.org", "Order 1", "Hi friend <A&B>, 9")
    assert (bob.headers, bob.tags, bob.attachments) == (
        {"X-Lane": "normal"},
        ["receipt"],
        [("a.txt", 'text/plain; charset="utf-8"', 2)],
    )
    assert [(one.recipient, one.to) for one in copies] == [("kim@example.net", ana.to), ("kim@example.net", bob.to)]


def test_deliveries_of_other_content() -> None:
    [template] = send(**REQUESTS["template with sender, reply-to and bcc"][0]).deliveries[:1]
    assert (template.template, template.from_email, template.reply_to) == (
        "order-receipt",
        "Shop <shop@example.com>",
        "help@example.com, sales@example.com",
    )
    [raw] = send(**REQUESTS["raw MIME in esp_extra"][0]).deliveries
    assert (raw.from_email, raw.subject, raw.text) == ("a@example.com", "Hi", "Hello")


CONTENT = {"from": {"email": "shop@example.com", "name": "Shop"}, "subject": "Hi", "text": "Hello"}
GOOD: dict[str, Any] = {"content": CONTENT, "recipients": [{"address": "ana@example.net"}], "unknown": "is ignored"}


def test_takes_a_good_call() -> None:
    [delivery] = ask(GOOD).deliveries
    assert (delivery.recipient, delivery.from_email) == ("ana@example.net", "Shop <shop@example.com>")


# What is wrong, and SparkPost's status and code for it.
REFUSED: dict[str, tuple[Any, int, str]] = {
    "no content": ({"recipients": GOOD["recipients"]}, 422, "1400"),
    "no recipients": ({**GOOD, "recipients": []}, 422, "1400"),
    "no body": ({**GOOD, "content": {"from": "shop@example.com", "subject": "Hi"}}, 422, "1400"),
    "AMP alone": ({**GOOD, "content": {"from": "a@example.com", "subject": "Hi", "amp_html": "x"}}, 422, "1400"),
    "wrong type": ({**GOOD, "options": {"open_tracking": "yes"}}, 422, "1300"),
    "not an object": ([GOOD], 422, "1300"),
    "a number too large": ({**GOOD, "metadata": {"n": 2**31}}, 422, "1300"),
    "a forbidden header": ({**GOOD, "content": {**CONTENT, "headers": {"reply-to": "x"}}}, 422, "1300"),
    "a header that is no string": ({**GOOD, "content": {**CONTENT, "headers": {"X-Shop": 7}}}, 422, "1300"),
    "base64 with line breaks": (
        {**GOOD, "content": {**CONTENT, "attachments": [{"name": "a", "type": "text/plain", "data": "YQ==\n"}]}},
        422,
        "1300",
    ),
    "campaign too long": ({**GOOD, "campaign_id": "x" * 65}, 422, "1300"),
    "time without offset": ({**GOOD, "options": {"start_time": "2026-03-02T11:15:00"}}, 422, "1300"),
    "too far ahead": ({**GOOD, "options": {"start_time": "2026-03-06T11:15:00+01:00"}}, 422, "1300"),
    "template and text": ({**GOOD, "content": {**CONTENT, "template_id": "x"}}, 422, "1301"),
    "unknown list": ({**GOOD, "recipients": {"list_id": "x"}}, 422, "1603"),
    "data too large": ({**GOOD, "substitution_data": {"x": "x" * 100_000}}, 422, "2002"),
    "metadata too large": ({**GOOD, "metadata": {"x": "x" * 10_000}}, 422, "2007"),
    "no sender": ({**GOOD, "content": {"subject": "Hi", "text": "Hello"}}, 400, "7001"),
    "two senders": ({**GOOD, "content": {**CONTENT, "from": "a@example.com, b@example.com"}}, 400, "7001"),
}


@pytest.mark.parametrize(("body", "status", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses(body: Any, status: int, code: str) -> None:
    result = ask(body)
    assert (result.response.status_code, result.response.json()["errors"][0]["code"]) == (status, code)
    assert not result.deliveries


def test_refuses_a_wrong_key_type_or_encoding() -> None:
    assert ask(GOOD, Authorization=f"Bearer {API_KEY}").response.status_code == 401
    headers = {"Authorization": API_KEY, "Content-Type": "text/plain"}
    assert SANDBOX.respond(Request("POST", "http://x", headers, b"{}"), PATH).response.status_code == 415
    headers["Content-Type"] = "application/json"
    not_utf8 = SANDBOX.respond(Request("POST", "http://x", headers, b'{"\xff": 1}'), PATH)
    assert not_utf8.response.json()["errors"][0]["code"] == "1305"
    assert SANDBOX.respond(Request("POST", "http://x", headers, b"{"), PATH).response.status_code == 422
    assert SANDBOX.respond(Request("GET", "http://x", headers), PATH).response.status_code == 404


def test_takes_the_rest_without_an_invalid_recipient() -> None:
    result = ask({**GOOD, "recipients": [{"address": "not-an-address"}, {"address": {"email": "bob@example.org"}}]})
    assert result.response.status_code == 200
    answer = result.response.json()
    assert (answer["results"]["total_accepted_recipients"], answer["results"]["total_rejected_recipients"]) == (1, 1)
    assert answer["results"]["rcpt_to_errors"][0]["description"] == "invalid recipient address.email: not-an-address"
    assert [delivery.recipient for delivery in result.deliveries] == ["bob@example.org"]


def test_takes_a_suppressed_recipient_among_others_and_delivers_nothing() -> None:
    result = ask({**GOOD, "recipients": [{"address": "suppressed@example.com"}, {"address": "bob@example.org"}]})
    assert result.response.json()["results"]["total_accepted_recipients"] == 2
    assert [delivery.recipient for delivery in result.deliveries] == ["bob@example.org"]


def test_refuses_a_suppressed_recipient_that_is_the_only_one() -> None:
    result = ask({**GOOD, "recipients": [{"address": "suppressed@example.com"}]})
    assert result.response.status_code == 400
    assert result.response.json()["errors"][0]["code"] == "1902"
    assert not result.deliveries


# The kinds of event, and what else they become.
EVENTS: dict[str, dict[str, Any]] = {
    "delivered": {},
    "opened": {"user_agent": "Mozilla/5.0 (Anymail sandbox)"},
    "clicked": {"click_url": "https://example.com/"},
    "bounced": {"reject_reason": "invalid", "mta_response": "550 5.1.1 <Ana@example.net>: no such user"},
    "complained": {},
}


@pytest.mark.parametrize("kind", sorted(SANDBOX.events))
def test_tells_of_events(client: Client, events: list[Any], kind: str) -> None:
    tags = ["receipt", "eu", "vip"]
    [delivery] = send(to=["Ana@example.net"], tags=tags, metadata={"order": "1"}).deliveries
    assert delivery.tags == tags
    request = SANDBOX.event(kind, delivery, "/anymail/sparkpost/tracking/")
    with override_settings(ANYMAIL=SANDBOX.settings(URL)):
        call = Call(request.url, bytes(request.body), dict(request.headers))
        assert call.post(client).status_code == 200
    [event] = events
    assert (event.event_type, event.message_id, event.recipient) == (kind, delivery.message_id, "Ana@example.net")
    assert (event.timestamp, event.tags, event.metadata) == (NOW, tags, {"order": "1"})
    for name, value in EVENTS[kind].items():
        assert getattr(event, name) == value


def test_its_webhook_calls_need_its_token(client: Client, events: list[Any]) -> None:
    [delivery] = send().deliveries
    request = SANDBOX.event("delivered", delivery, "/anymail/sparkpost/tracking/")
    with override_settings(ANYMAIL=SANDBOX.settings(URL)):
        assert Call(request.url, bytes(request.body)).post(client).status_code == 400
    assert not events
    assert json.loads(bytes(request.body))[0]["msys"]["message_event"]["type"] == "delivery"
