"""MailerSend's side of the sandbox: it takes what we send, and refuses what MailerSend would refuse."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.test import Client, override_settings

from anymail.esps.kit.sandbox import SandboxDelivery
from anymail.esps.mailersend.sandbox import API_TOKEN, MailerSendSandbox
from anymail.esps.mailersend.sending import MailerSend
from anymail.wire import Request
from esps.mailersend.test_sending import REQUESTS, TWO
from support import Call, drive, mail, make_esp, request_of, statuses

NOW = dt.datetime(2026, 10, 14, 10, 0, tzinfo=dt.UTC)
SANDBOX = MailerSendSandbox(clock=lambda: NOW)
SETTINGS = SANDBOX.settings("http://sandbox/mailersend/")
OPTIONS = {"api_token": API_TOKEN, "api_url": SETTINGS["MAILERSEND_API_URL"]}
MAILERSEND = make_esp(MailerSend, **OPTIONS)
BULK = make_esp(MailerSend, **OPTIONS, batch_send_mode="use-bulk-email")


def take(request: Request) -> Any:
    return SANDBOX.respond(request, request.url.removeprefix("http://sandbox/mailersend"))


def ask(path: str, body: Any, token: str = API_TOKEN) -> Any:
    request = Request.post(
        f"http://sandbox/mailersend/v1/{path}", headers={"Authorization": f"Bearer {token}"}, json=body
    )
    return take(request)


# With another token, without a subject, and with a file that MailerSend does not allow.
REFUSED_REQUESTS = {"esp_extra", "no subject", "attachment of an unknown type"}


@pytest.mark.parametrize("name", [name for name in REQUESTS if name not in REFUSED_REQUESTS])
def test_takes_every_request_that_we_make(name: str) -> None:
    attributes, _, _ = REQUESTS[name]
    result = take(request_of(MAILERSEND.deliver(mail(**attributes))))
    assert result.response.status_code == 202, result.response.text
    assert result.deliveries


GOOD: dict[str, Any] = {
    "from": {"email": "shop@example.com"},
    "to": [{"email": "ana@example.net"}],
    "subject": "Hi",
    "text": "Hello",
}
FILE = {"filename": "a.pdf", "content": "JVBERi0xLjcK", "disposition": "attachment"}


def many(number: int) -> list[dict[str, str]]:
    return [{"email": f"r{index}@example.com"} for index in range(number)]


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


# What is wrong, and the field and words that MailerSend names.
REFUSED: dict[str, tuple[Any, str, str]] = {
    "unknown field": ({**GOOD, "metadata": {}}, "metadata", "unknown"),
    "unknown field of an attachment": ({**GOOD, "attachments": [{**FILE, "type": "x"}]}, "attachments.0.type", "known"),
    "wrong type": ({**GOOD, "precedence_bulk": "yes"}, "precedence_bulk", "must be true or false"),
    "a form, not a list": ([GOOD], "message", "must be an array"),
    "no to": (without("to"), "to", "MS42209"),
    "nobody in to": ({**GOOD, "to": []}, "to", "MS42205"),
    "no from": (without("from"), "from", "MS42209"),
    "no subject": (without("subject"), "subject", "MS42209"),
    "no body": (without("text"), "text", "MS42211"),
    "too many to": ({**GOOD, "to": many(51)}, "to", "MS42205"),
    "too many cc": ({**GOOD, "cc": many(11)}, "cc", "MS42205"),
    "bad address": ({**GOOD, "to": [{"email": "ana"}]}, "to.0.email", "MS42208"),
    "domain not encoded": ({**GOOD, "to": [{"email": "ana@bücher.example"}]}, "to.0.email", "MS42208"),
    "address in its long form": ({**GOOD, "reply_to": {"email": "A <a@b.cd>"}}, "reply_to.email", "MS42208"),
    "no address": ({**GOOD, "bcc": [{"name": "Bo"}]}, "bcc.0.email", "MS42209"),
    "twice the same": ({**GOOD, "cc": [{"email": "Ana@Example.net"}]}, "to", "MS42201"),
    "data for a stranger": (
        {**GOOD, "personalization": [{"email": "bo@example.org", "data": {}}]},
        "personalization.0.email",
        "MS42217",
    ),
    "six tags": ({**GOOD, "tags": list("abcdef")}, "tags", "maxItems"),
    "in the past": ({**GOOD, "send_at": int(NOW.timestamp()) - 60}, "send_at", "MS42218"),
    "too far ahead": ({**GOOD, "send_at": int(NOW.timestamp()) + 73 * 3600}, "send_at", "MS42219"),
    "send_at as text": ({**GOOD, "send_at": "2026-10-14"}, "send_at", "must be an integer"),
    "not base64": ({**GOOD, "attachments": [{**FILE, "content": "?"}]}, "attachments.0.content", "MS42215"),
    "file not allowed": ({**GOOD, "attachments": [{**FILE, "filename": "a.exe"}]}, "attachments.0.filename", "MS42210"),
    "no file name": ({**GOOD, "attachments": [{**FILE, "filename": ""}]}, "attachments.0.filename", "minLength"),
    "header name": ({**GOOD, "headers": [{"name": "X_A", "value": "1"}]}, "headers.0.name", "pattern"),
    "id in brackets": ({**GOOD, "in_reply_to": "<a@example.com>"}, "in_reply_to", "pattern"),
}


@pytest.mark.parametrize(("body", "field", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses(body: Any, field: str, words: str) -> None:
    result = ask("email", body)
    assert result.response.status_code == 422
    [(named, [text])] = result.response.json()["errors"].items()
    assert named == field
    assert words in text
    assert result.response.json()["message"] == text
    assert not result.deliveries


def test_refuses_a_wrong_token() -> None:
    result = ask("email", GOOD, token="wrong")
    assert (result.response.status_code, result.response.json()) == (401, {"message": "Unauthenticated."})


@pytest.mark.parametrize(("body", "code"), [(GOOD, "MS42230"), ([1], "MS42230"), ([GOOD] * 501, "MS42229")])
def test_refuses_a_bulk_email(body: Any, code: str) -> None:
    result = ask("bulk-email", body)
    assert (result.response.status_code, code in result.response.text) == (422, True)
    assert not result.deliveries


@pytest.mark.parametrize(("content_type", "body"), [("application/json", b"{"), ("text/plain", b"{}")])
def test_refuses_what_is_not_json(content_type: str, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {API_TOKEN}", "Content-Type": content_type}
    result = take(Request("POST", "http://sandbox/mailersend/v1/email", headers, body))
    assert (result.response.status_code, "MS42227" in result.response.text) == (422, True)


def test_knows_no_other_path() -> None:
    assert ask("emails", GOOD).response.status_code == 404


def test_each_gets_a_delivery_of_their_own() -> None:
    request = request_of(
        BULK.deliver(
            mail(
                to=["Ana <ana@example.net>", "bo@example.org"],
                subject="Hi {{ name }}",
                body="{{name}}: {{ site }}",
                html="<p>{{ name }}",
                attach=[("a.pdf", b"%PDF", "application/octet-stream")],
                headers={"X-Order": "7"},
                tags=["a"],
                merge_data={"ana@example.net": {"name": "Ana"}},
                merge_global_data={"site": "Shop"},
            )
        )
    )
    ana, bo = take(request).deliveries
    assert (ana.recipient, ana.subject, ana.text, ana.html) == ("ana@example.net", "Hi Ana", "Ana: Shop", "<p>Ana")
    assert (bo.recipient, bo.subject, bo.text, bo.html) == ("bo@example.org", "Hi ", ": Shop", "<p>")
    assert (ana.to, bo.to) == ("Ana <ana@example.net>", "bo@example.org")
    assert ana.message_id != bo.message_id
    assert ana.attachments == [("a.pdf", "application/pdf", 4)]
    assert (ana.headers, ana.tags, ana.from_email) == ({"X-Order": "7"}, ["a"], "shop@example.com")


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"to": ["suppressed@example.com"]}, {"suppressed@example.com": "rejected"}),
        (
            {"to": ["ana@example.net"], "cc": ["suppressed@example.com"]},
            {"ana@example.net": "queued", "suppressed@example.com": "rejected"},
        ),
        (TWO, {"ana@example.net": "queued", "bo@example.org": "queued"}),
    ],
)
def test_suppressed(attributes: dict[str, Any], expected: dict[str, str]) -> None:
    one = mail(**attributes)
    result = take(request_of(BULK.deliver(one)))
    _, recipients = drive(BULK.deliver(one), result.response)
    assert {email: status for email, (status, _) in statuses(recipients).items()} == expected
    assert [delivery.recipient for delivery in result.deliveries] == [
        e for e, status in expected.items() if status == "queued"
    ]


def test_a_bulk_email_tells_later_what_was_wrong() -> None:
    wrong = {**GOOD, "to": [{"email": "x"}]}
    result = ask("bulk-email", [GOOD, wrong, {**GOOD, "to": [{"email": "suppressed@example.com"}]}])
    [delivery] = result.deliveries
    path = f"/v1/bulk-email/{result.response.json()['bulk_email_id']}"
    headers = {"Authorization": f"Bearer {API_TOKEN}"}
    status = take(Request.get(f"http://sandbox/mailersend{path}", headers=headers)).response.json()["data"]
    assert status["messages_id"] == [delivery.message_id]
    assert list(status["validation_errors"]) == ["message.1"]
    assert (status["total_recipients_count"], status["suppressed_recipients_count"]) == (2, 1)
    assert take(Request.get("http://sandbox/mailersend/v1/bulk-email/0", headers=headers)).response.status_code == 404


# The kind of event, and the event that a project gets.
EVENTS: dict[str, dict[str, Any]] = {
    "delivered": {"event_type": "delivered"},
    "opened": {"event_type": "opened", "user_agent": "Mozilla/5.0 (Anymail sandbox)"},
    "clicked": {"event_type": "clicked", "click_url": "https://example.com/"},
    "bounced": {"event_type": "bounced", "reject_reason": "bounced", "mta_response": "550"},
    "complained": {"event_type": "complained", "reject_reason": "spam"},
}


@pytest.mark.parametrize(("kind", "expected"), EVENTS.items(), ids=EVENTS.keys())
@override_settings(ANYMAIL=SETTINGS)
def test_events(client: Client, events: list[Any], kind: str, expected: dict[str, Any]) -> None:
    delivery: SandboxDelivery = ask("email", {**GOOD, "tags": ["a"]}).deliveries[0]
    request = SANDBOX.event(kind, delivery, "http://project/anymail/mailersend/tracking/")
    headers = {"Signature": request.headers["Signature"]}
    assert Call("/anymail/mailersend/tracking/", bytes(request.body), headers).post(client).status_code == 200
    [event] = events
    common = {"message_id": delivery.message_id, "recipient": "ana@example.net", "timestamp": NOW, "tags": ["a"]}
    for name, value in {**common, **expected}.items():
        assert getattr(event, name) == value


def test_there_is_an_event_of_every_kind() -> None:
    assert set(EVENTS) == SANDBOX.events
