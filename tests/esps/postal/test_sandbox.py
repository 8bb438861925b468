"""Postal's side of the sandbox: it takes what we send, refuses what Postal would, and signs its webhook calls."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from typing import Any

import pytest
from django.test import Client, override_settings

from anymail.backends.postal import EmailBackend
from anymail.esps.postal.sandbox import API_KEY, PostalSandbox
from anymail.esps.postal.sending import Postal
from anymail.wire import Request
from esps.postal.test_sending import REQUESTS
from support import PNG, Call, drive, mail, make_esp, message, request_of

SANDBOX = PostalSandbox()
POSTAL = make_esp(Postal, api_key=API_KEY, api_url="http://sandbox")
MESSAGE, RAW = "/api/v1/send/message", "/api/v1/send/raw"


def ask(path: str, body: Any, **headers: str) -> Any:
    given = {"X-Server-API-Key": API_KEY, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return SANDBOX.respond(Request.post(f"http://sandbox{path}", headers=given, json=body), path)


@pytest.mark.parametrize("name", REQUESTS)
def test_takes_every_request_that_we_make(name: str) -> None:
    one = mail(**REQUESTS[name][0])
    result = SANDBOX.respond(request_of(POSTAL.deliver(one)), MESSAGE)
    _, recipients = drive(POSTAL.deliver(one), result.response)
    assert {status.status for status in recipients.values()} == {"queued"}
    assert {status.message_id for status in recipients.values()} == {
        delivery.message_id for delivery in result.deliveries
    }


GOOD: dict[str, Any] = {"from": "shop@example.com", "to": ["ana@example.net"], "subject": "Hi", "plain_body": "Hello"}
MIME = b64encode(b"From: shop@example.com\r\n\r\nHello").decode()
GOOD_RAW: dict[str, Any] = {"mail_from": "shop@example.com", "rcpt_to": ["ana@example.net"], "data": MIME}
FILE = {"name": "a.txt", "content_type": "text/plain", "data": "MQ=="}


def without(body: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key != name}


# What is wrong, and Postal's code for it, or its words.
REFUSED: dict[str, tuple[str, Any, str]] = {
    "unknown parameter": (MESSAGE, {**GOOD, "track_opens": True}, "track_opens"),
    "to as an object": (MESSAGE, {**GOOD, "to": {"email": "ana@example.net"}}, "`to`"),
    "over 50 in a string": (MESSAGE, {**GOOD, "cc": ",".join(["ana@example.net"] * 51)}, "TooManyCCAddresses"),
    "header that is no string": (MESSAGE, {**GOOD, "headers": {"X": 1}}, "`headers.X`"),
    "nobody": (MESSAGE, without(GOOD, "to"), "NoRecipients"),
    "blank body": (MESSAGE, {**GOOD, "plain_body": " "}, "NoContent"),
    "no sender": (MESSAGE, without(GOOD, "from"), "FromAddressMissing"),
    "too many to": (MESSAGE, {**GOOD, "to": ["a@example.com"] * 51}, "TooManyToAddresses"),
    "too many cc": (MESSAGE, {**GOOD, "cc": ["a@example.com"] * 51}, "TooManyCCAddresses"),
    "too many bcc": (MESSAGE, {**GOOD, "bcc": ["a@example.com"] * 51}, "TooManyBCCAddresses"),
    "no name": (MESSAGE, {**GOOD, "attachments": [{**FILE, "name": ""}]}, "AttachmentMissingName"),
    "empty file": (MESSAGE, {**GOOD, "attachments": [{**FILE, "data": ""}]}, "AttachmentMissingData"),
    "blank file": (MESSAGE, {**GOOD, "attachments": [{**FILE, "data": "Cg=="}]}, "AttachmentMissingData"),
    "Content-ID": (MESSAGE, {**GOOD, "attachments": [{**FILE, "content_id": "x"}]}, "content_id"),
    "raw without data": (RAW, without(GOOD_RAW, "data"), "`data` parameter is required but is missing"),
    "raw to a string": (RAW, {**GOOD_RAW, "rcpt_to": "ana@example.net"}, "`rcpt_to`"),
    "raw without From": (RAW, {**GOOD_RAW, "data": "SGk="}, "UnauthenticatedFromAddress"),
    "raw with a tag": (RAW, {**GOOD_RAW, "tag": "x"}, "tag"),
}


@pytest.mark.parametrize(("path", "body", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses(path: str, body: Any, words: str) -> None:
    result = ask(path, body)
    answered = result.response.json()
    assert result.response.status_code == 200
    assert answered["status"] == ("error" if answered["data"].get("code") else "parameter-error")
    assert words in (answered["data"].get("code") or answered["data"]["message"])
    assert not result.deliveries


def test_a_string_is_split_at_its_commas() -> None:
    result = ask(MESSAGE, {**GOOD, "to": "Ana <ana@example.net>, bo@example.org"})
    assert [delivery.recipient for delivery in result.deliveries] == ["ana@example.net", "bo@example.org"]
    assert result.deliveries[0].to == "Ana <ana@example.net>, bo@example.org"


def test_refuses_keys() -> None:
    assert ask(MESSAGE, GOOD, X_Server_API_Key="").response.json()["data"]["code"] == "AccessDenied"
    data = ask(MESSAGE, GOOD, X_Server_API_Key="wrong").response.json()["data"]
    assert (data["code"], data["token"]) == ("InvalidServerAPIKey", "wrong")


def test_fails_on_a_header_name_with_a_colon() -> None:
    assert ask(MESSAGE, {**GOOD, "headers": {"X: a": "1"}}).response.status_code == 500


def test_refuses_what_is_not_json() -> None:
    request = Request.post(f"http://sandbox{MESSAGE}", headers={"X-Server-API-Key": API_KEY}, json=GOOD)
    assert SANDBOX.respond(replace(request, body=b"{"), MESSAGE).response.status_code == 400
    plain = replace(request, headers={**request.headers, "Content-Type": "text/plain"})
    assert SANDBOX.respond(plain, MESSAGE).response.json()["data"]["code"] == "NoRecipients"


def test_the_suppressed_are_accepted_and_held() -> None:
    result = ask(MESSAGE, {**GOOD, "to": ["ana@example.net", "suppressed@example.org"]})
    assert set(result.response.json()["data"]["messages"]) == {"ana@example.net", "suppressed@example.org"}
    assert [delivery.recipient for delivery in result.deliveries] == ["ana@example.net"]


def test_what_arrives() -> None:
    body = {
        **GOOD,
        "to": ["Ana <ana@example.net>"],
        "bcc": ["d@example.org"],
        "sender": "robot@example.com",
        "headers": {"X-Own": "1"},
        "tag": "a",
        "attachments": [FILE],
    }
    ana, bcc = ask(MESSAGE, body).deliveries
    assert (ana.recipient, ana.to, ana.subject, ana.text) == ("ana@example.net", "Ana <ana@example.net>", "Hi", "Hello")
    assert (ana.headers, ana.tags) == ({"X-Own": "1", "Sender": "robot@example.com"}, ["a"])
    assert ana.attachments == [("a.txt", "text/plain", 1)]
    assert bcc.recipient == "d@example.org"
    assert ana.message_id != bcc.message_id


def test_what_arrives_of_mime() -> None:
    one = message(
        to=["Ana é <ana@example.net>"],
        bcc=["d@example.org"],
        reply_to=["help@example.com"],
        subject="Été",
        html="<p>Là",
        tags=["a"],
        headers={"X-Own": "1"},
        attach=[("empty.txt", b"", "text/plain"), ("a.png", PNG, "image/png")],
    )
    with override_settings(ANYMAIL={**SANDBOX.settings("http://sandbox/"), "TRANSPORT": line(SANDBOX, asked := [])}):
        assert EmailBackend().send_messages([one]) == 1
    assert asked[0].url == f"http://sandbox{RAW}"
    ana, bcc = SANDBOX.respond(asked[0], RAW).deliveries
    assert (ana.from_email, ana.to, ana.reply_to) == ("shop@example.com", "Ana é <ana@example.net>", "help@example.com")
    assert (ana.subject, ana.text.strip(), ana.html.strip(), ana.tags) == ("Été", "Hello", "<p>Là", ["a"])
    assert ana.headers["X-Own"] == "1"
    assert ana.attachments == [("empty.txt", "text/plain", 0), ("a.png", "image/png", 8)]
    assert bcc.recipient == "d@example.org"


def line(sandbox: PostalSandbox, asked: list[Request]) -> type:
    """A transport that leads to the sandbox."""

    class Line:
        def __init__(self, **timeouts: Any) -> None:
            pass

        def send(self, request: Request) -> Any:
            asked.append(request)
            return sandbox.respond(request, request.url.removeprefix("http://sandbox")).response

    return Line


KINDS: dict[str, dict[str, Any]] = {
    "delivered": {"event_type": "delivered", "mta_response": "250 2.0.0 OK"},
    "opened": {"event_type": "opened", "user_agent": "Mozilla/5.0 (Anymail sandbox)"},
    "clicked": {"event_type": "clicked", "click_url": "https://example.com/?a=1&b=2"},
    "bounced": {"event_type": "bounced", "reject_reason": "bounced"},
}


@pytest.mark.parametrize("kind", sorted(PostalSandbox.events))
def test_webhook_calls(client: Client, events: list[Any], kind: str) -> None:
    sent = mail(tags=["a"], to=["Ana <ana@example.net>"], subject="<Hi>")
    result = SANDBOX.respond(request_of(POSTAL.deliver(sent)), MESSAGE)
    request = SANDBOX.event(kind, result.deliveries[0], "http://project/anymail/postal/tracking/")
    assert b"<" not in bytes(request.body)
    headers = {name: value for name, value in request.headers.items() if name != "Content-Type"}
    with override_settings(ANYMAIL=SANDBOX.settings("http://sandbox/")):
        assert Call("/anymail/postal/tracking/", bytes(request.body), headers).post(client).status_code == 200
    [event] = events
    expected = {
        "message_id": result.deliveries[0].message_id,
        "recipient": "ana@example.net",
        "tags": ["a"],
        **KINDS[kind],
    }
    assert {name: getattr(event, name) for name in expected} == expected
    assert event.timestamp is not None
    assert event.event_id


def test_settings_lead_here() -> None:
    asked: list[Request] = []
    with override_settings(ANYMAIL={**SANDBOX.settings("http://sandbox/"), "TRANSPORT": line(SANDBOX, asked)}):
        one = message()
        assert EmailBackend().send_messages([one]) == 1
    assert [request.url for request in asked] == [f"http://sandbox{MESSAGE}"]
    assert one.anymail_status.status == {"queued"}
