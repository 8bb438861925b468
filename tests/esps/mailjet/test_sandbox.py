"""Mailjet's side of the sandbox: it takes what we send, and refuses what Mailjet would refuse."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from django.test import Client, override_settings

from anymail.esps.mailjet.sandbox import API_KEY, SECRET_KEY, MailjetSandbox
from anymail.esps.mailjet.sending import Mailjet
from anymail.wire import Request
from esps.mailjet.test_sending import REQUESTS
from support import Call, drive, mail, make_esp, request_of, statuses

URL = "http://sandbox/mailjet/"
NOW = dt.datetime(2026, 3, 2, 10, 0, tzinfo=dt.UTC)
SANDBOX = MailjetSandbox(clock=lambda: NOW)
MAILJET = make_esp(Mailjet, api_key=API_KEY, secret_key=SECRET_KEY, api_url=f"{URL}v3.1/")
AUTHORIZATION = request_of(MAILJET.deliver(mail())).headers["Authorization"]


def respond(request: Request) -> Any:
    return SANDBOX.respond(request, request.url.removeprefix(URL.rstrip("/")))


def ask(body: Any, **headers: str) -> Any:
    headers = {"Authorization": AUTHORIZATION, **headers}
    return respond(Request.post(f"{URL}v3.1/send", headers=headers, json=body))


def send(**attributes: Any) -> Any:
    return respond(request_of(MAILJET.deliver(mail(**attributes))))


@pytest.mark.parametrize("name", REQUESTS)
def test_takes_every_request_that_we_make(name: str) -> None:
    attributes, common, messages = REQUESTS[name]
    result = send(**attributes)
    assert result.response.status_code == 200, result.response.text
    expected = [
        contact["Email"]
        for message in messages
        for contact in [*message["To"], *common.get("Cc", []), *common.get("Bcc", [])]
    ]
    assert [delivery.recipient for delivery in result.deliveries] == expected


def test_its_answers_are_read() -> None:
    one = mail(to=["Ana@example.net", "bob@bücher.example"], cc=["kim@example.com"], merge_data={})
    result = respond(request_of(MAILJET.deliver(one)))
    _, recipients = drive(MAILJET.deliver(one), result.response)
    ana, _, bob, kim = result.deliveries
    assert statuses(recipients) == {
        "Ana@example.net": ("sent", ana.message_id),
        "bob@bücher.example": ("sent", bob.message_id),
        "kim@example.com": ("sent", kim.message_id),
    }


def test_renders_what_each_recipient_gets() -> None:
    ana, copy, bob, _ = send(
        to=["Ana <ana@example.net>", "bob@example.org"],
        cc=["kim@example.net"],
        reply_to=["help@example.com"],
        subject="Order [[var:order]]",
        body='Hi [[var:name:"friend"]] of [[var:shop]]{{var:shop}}[[var:nothing]]',
        html="<p>[[var:shop]]",
        metadata={"order": 0},
        merge_global_data={"shop": "Shop"},
        merge_data={"ana@example.net": {"name": "Ana"}},
        merge_metadata={"bob@example.org": {"order": 9}},
        headers={"X-Lane": "normal"},
        merge_headers={"ana@example.net": {"X-Lane": "gold"}},
        tags=["receipt"],
        attach=[("a.txt", b"12", "text/plain")],
    ).deliveries
    assert (ana.to, ana.cc, ana.reply_to) == ("Ana <ana@example.net>", "kim@example.net", "help@example.com")
    assert (ana.subject, ana.text, ana.html) == ("Order [[var:order]]", "Hi Ana of Shop{{var:shop}}", "<p>Shop")
    assert (ana.headers, ana.metadata) == ({"X-Lane": "gold"}, {"order": 0})
    assert (copy.recipient, copy.text) == ("kim@example.net", ana.text)
    assert (bob.text, bob.headers, bob.metadata) == (
        "Hi friend of Shop{{var:shop}}",
        {"X-Lane": "normal"},
        {"order": 9},
    )
    assert (bob.tags, bob.attachments, bob.template) == (["receipt"], [("a.txt", "text/plain", 2)], None)


def test_renders_the_template_language_where_it_is_on() -> None:
    extra = {"Globals": {"TemplateLanguage": True}}
    [delivery] = send(
        subject="Hi {{var:name}}", body='{{ var:name:"you" }}', merge_global_data={"name": "Ana"}, esp_extra=extra
    ).deliveries
    assert (delivery.subject, delivery.text) == ("Hi Ana", "Ana")
    [delivery] = send(subject="", body="", template_id=7).deliveries
    assert (delivery.subject, delivery.template) == ("(template 7)", "7")


def test_sandbox_mode_delivers_nothing() -> None:
    result = send(esp_extra={"SandboxMode": True})
    assert result.response.json()["Messages"][0]["To"][0]["MessageID"] == 0
    assert not result.deliveries


def test_takes_a_blocked_recipient_and_delivers_nothing() -> None:
    result = send(to=["suppressed@example.com", "ana@example.net"])
    assert result.response.status_code == 200
    assert [delivery.recipient for delivery in result.deliveries] == ["ana@example.net"]


GOOD: dict[str, Any] = {
    "From": {"Email": "shop@example.com"},
    "To": [{"Email": "ana@example.net"}],
    "Subject": "Hi",
    "TextPart": "Hello",
}
FILE = {"ContentType": "text/plain", "Filename": "a.txt", "Base64Content": "MQ=="}

# What is wrong with a whole call, and Mailjet's code for it.
BAD_CALLS: dict[str, tuple[Any, str]] = {
    "not an object": ([GOOD], "mj-0004"),
    "no messages": ({"Globals": GOOD}, "mj-0003"),
    "empty messages": ({"Messages": []}, "mj-0007"),
    "over 50 messages": ({"Messages": [GOOD] * 51}, "mj-0008"),
    "unknown property": ({"Messages": [GOOD], "Tags": []}, "mj-0002"),
    "unknown property of a message": ({"Messages": [{**GOOD, "Tags": []}]}, "mj-0002"),
    "unknown property of Globals": ({"Globals": {"Tags": []}, "Messages": [GOOD]}, "mj-0002"),
    "SandboxMode of a wrong type": ({"Messages": [GOOD], "SandboxMode": "yes"}, "mj-0004"),
}


@pytest.mark.parametrize(("body", "code"), BAD_CALLS.values(), ids=BAD_CALLS.keys())
def test_refuses_a_call(body: Any, code: str) -> None:
    result = ask(body)
    assert (result.response.status_code, result.response.json()["ErrorCode"]) == (400, code)
    assert not result.deliveries


# What is wrong with a message, and Mailjet's code and property for it.
BAD_MESSAGES: dict[str, tuple[dict[str, Any], str, str]] = {
    "no to": ({"To": []}, "mj-0007", "To"),
    "no from": ({"From": None}, "mj-0004", "From"),
    "no address": ({"To": [{"Name": "Ana"}]}, "mj-0003", "To[0].Email"),
    "empty address": ({"To": [{"Email": ""}]}, "mj-0012", "To[0].Email"),
    "invalid address": (
        {"Cc": [{"Email": "kim@example.com"}, {"Email": "bob@@example.net"}]},
        "mj-0013",
        "Cc[1].Email",
    ),
    "address with a name": ({"To": [{"Email": "Ana <ana@example.net>"}]}, "mj-0013", "To[0].Email"),
    "invalid sender": ({"From": {"Email": "shop"}}, "mj-0013", "From.Email"),
    "template as a string": ({"TemplateID": "7"}, "mj-0004", "TemplateID"),
    "wrong switch": ({"TrackOpens": True}, "mj-0005", "TrackOpens"),
    "wrong priority": ({"Priority": 4}, "mj-0005", "Priority"),
    "subject too long": ({"Subject": "x" * 256}, "mj-0006", "Subject"),
    "payload as an object": ({"EventPayload": {}}, "mj-0004", "EventPayload"),
    "header with several values": ({"Headers": {"X-A": ["1", "2"]}}, "mj-0004", "Headers.X-A"),
    "forbidden header": ({"Headers": {"Reply-To": "a@example.com"}}, "send-0011", "Headers.Reply-To"),
    "no body": ({"TextPart": ""}, "send-0003", "HTMLPart"),
    "file without a name": ({"Attachments": [{**FILE, "Filename": ""}]}, "mj-0012", "Attachments[0].Filename"),
    "content that is not base64": ({"Attachments": [{**FILE, "Base64Content": "x"}]}, "mj-0004", "Attachments"),
    "ids for attachments": ({"Attachments": [{**FILE, "ContentID": "a"}]}, "mj-0002", "Attachments[0].ContentID"),
    "too large": ({"InlinedAttachments": [{**FILE, "Base64Content": "A" * 21_000_000}]}, "mj-0011", "Attachments"),
    "deduplication": ({"DeduplicateCampaign": True}, "send-0012", "DeduplicateCampaign"),
    "too many": (
        {"To": [{"Email": f"r{n}@example.com"} for n in range(50)], "Cc": [{"Email": "kim@example.com"}]},
        "send-0015",
        "To",
    ),
    "template errors": ({"TemplateErrorDeliver": True}, "send-0016", "TemplateLanguage"),
}


@pytest.mark.parametrize(("change", "code", "related"), BAD_MESSAGES.values(), ids=BAD_MESSAGES.keys())
def test_refuses_a_message(change: dict[str, Any], code: str, related: str) -> None:
    result = ask({"Globals": {**GOOD, **change}, "Messages": [{}]})
    [of_message] = result.response.json()["Messages"]
    assert (result.response.status_code, of_message["Status"]) == (400, "error")
    assert (of_message["Errors"][0]["ErrorCode"], of_message["Errors"][0]["ErrorRelatedTo"][0]) == (code, related)
    assert not result.deliveries


def test_refuses_a_message_without_a_sender() -> None:
    message = {name: value for name, value in GOOD.items() if name != "From"}
    [result] = ask({"Messages": [message]}).response.json()["Messages"]
    assert [(one["ErrorCode"], one["ErrorRelatedTo"]) for one in result["Errors"]] == [("mj-0003", ["From"])]
    assert ask({"Messages": [{**message, "TemplateID": 7}]}).deliveries


def test_takes_the_rest_without_a_bad_message() -> None:
    result = ask({"Messages": [GOOD, {**GOOD, "To": [{"Email": "bob@@example.net"}]}]})
    assert result.response.status_code == 400
    assert [one["Status"] for one in result.response.json()["Messages"]] == ["success", "error"]
    assert [delivery.recipient for delivery in result.deliveries] == ["ana@example.net"]


def test_fails_at_null() -> None:
    assert ask({"Messages": [{**GOOD, "Variables": {"items": [{"a": None}]}}]}).response.status_code == 500


def test_refuses_wrong_credentials_content_and_paths() -> None:
    refused = ask({"Messages": [GOOD]}, Authorization="Basic a2V5OnNlY3JldA==").response
    assert (refused.status_code, refused.json()["ErrorCode"]) == (401, "mj-0015")
    malformed = respond(Request("POST", f"{URL}v3.1/send", {"Authorization": AUTHORIZATION}, b"{")).response
    assert (malformed.status_code, malformed.json()["ErrorCode"]) == (400, "mj-0002")
    assert respond(Request("GET", f"{URL}v3.1/send")).response.status_code == 404


# The kinds of event, and what else they become.
EVENTS: dict[str, dict[str, Any]] = {
    "delivered": {"mta_response": "sent (250 2.0.0 OK)"},
    "opened": {"user_agent": "Mozilla/5.0 (Anymail sandbox)"},
    "clicked": {"click_url": "https://example.com/"},
    "bounced": {"reject_reason": "bounced", "mta_response": "550 5.1.1 No such user"},
    "complained": {"reject_reason": "spam", "description": "JMRPP"},
}


@pytest.mark.filterwarnings("ignore::anymail.exceptions.AnymailInsecureWebhookWarning")
@pytest.mark.parametrize("kind", sorted(SANDBOX.events))
def test_tells_of_events(client: Client, events: list[Any], kind: str) -> None:
    [delivery] = send(to=["ana@example.net"], tags=["receipt"], metadata={"order": 1}).deliveries
    request = SANDBOX.event(kind, delivery, "/anymail/mailjet/tracking/")
    with override_settings(ANYMAIL={**SANDBOX.settings(URL), "WEBHOOK_ALLOW_UNVERIFIED": ["mailjet"]}):
        assert Call(request.url, bytes(request.body)).post(client).status_code == 200
    [event] = events
    assert (event.event_type, event.message_id, event.recipient) == (kind, delivery.message_id, "ana@example.net")
    assert (event.timestamp, event.tags, event.metadata) == (NOW, ["receipt"], {"order": 1})
    for name, value in EVENTS[kind].items():
        assert getattr(event, name) == value
    assert json.loads(bytes(request.body))[0]["MessageID"] > 2**53
