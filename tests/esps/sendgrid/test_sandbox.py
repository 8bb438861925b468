"""SendGrid's side of the sandbox: it takes what we send, and refuses what SendGrid would refuse."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.test import Client, override_settings

from anymail.esps.sendgrid.sandbox import API_KEY, SendGridSandbox
from anymail.esps.sendgrid.sending import SendGrid
from anymail.wire import Request
from esps.sendgrid.test_sending import REQUESTS, numbered_ids
from support import Call, fitted, mail, make_esp, request_of, statuses

NOON = dt.datetime(2026, 3, 14, 11, tzinfo=dt.UTC)
SANDBOX = SendGridSandbox(clock=lambda: NOON)
SENDGRID = make_esp(
    SendGrid, api_key=API_KEY, api_url="http://sandbox/sendgrid/v3/", merge_field_format="-{}-"
)  # fmt: skip
PATH = "/v3/mail/send"


def ask(body: Any, path: str = PATH, **headers: str) -> Any:
    request = Request.post(f"http://sandbox{path}", headers={"Authorization": f"Bearer {API_KEY}"}, json=body)
    return SANDBOX.respond(Request("POST", request.url, {**request.headers, **headers}, request.body), path)


# No content and no template; an id that is a dynamic template's, whatever the message says.
NOT_TAKEN = {"neither subject nor body", "legacy template by its word"}


@pytest.mark.parametrize("name", [name for name in REQUESTS if name not in NOT_TAKEN])
def test_takes_every_request_that_we_make(name: str) -> None:
    result = SANDBOX.respond(request_of(SENDGRID.deliver(fitted(SendGrid, **REQUESTS[name][0]))), PATH)
    assert result.response.status_code == 202, result.response.text
    assert len(result.response.headers["X-Message-Id"]) == 22
    assert result.deliveries


def test_deliveries() -> None:
    flow = SENDGRID.deliver(
        fitted(
            SendGrid,
            to=["Ana <ana@example.net>", "bo@example.org"],
            cc=["team@example.org"],
            subject="Order at -shop-",
            body="Hi -name-",
            merge_global_data={"shop": "Example"},
            merge_data={"ana@example.net": {"name": "Ana"}, "bo@example.org": {"name": "Bo"}},
            metadata={"order": 7},
            tags=["receipt"],
            headers={"X-Shop": "7"},
            attach=[("a.pdf", b"abc", "application/pdf")],
            reply_to=["help@example.com"],
        )
    )
    with numbered_ids():
        result = SANDBOX.respond(request_of(flow), PATH)
    assert [(one.recipient, one.message_id, one.to, one.text) for one in result.deliveries] == [
        ("ana@example.net", "id-1", "Ana <ana@example.net>", "Hi Ana"),
        ("team@example.org", "id-1", "Ana <ana@example.net>", "Hi Ana"),
        ("bo@example.org", "id-2", "bo@example.org", "Hi Bo"),
        ("team@example.org", "id-2", "bo@example.org", "Hi Bo"),
    ]
    delivery = result.deliveries[0]
    assert (delivery.subject, delivery.cc, delivery.reply_to) == (
        "Order at Example",
        "team@example.org",
        "help@example.com",
    )
    assert (delivery.headers, delivery.tags) == ({"X-Shop": "7"}, ["receipt"])
    assert (delivery.metadata, delivery.attachments) == (
        {"order": "7", "anymail_id": "id-1"},
        [("a.pdf", "application/pdf", 3)],
    )


def test_sandbox_mode_sends_nothing() -> None:
    result = ask({**GOOD, "mail_settings": {"sandbox_mode": {"enable": True}}})
    assert (result.response.status_code, result.response.content, result.deliveries) == (200, b"", ())


GOOD = {
    "personalizations": [{"to": [{"email": "ana@example.net"}]}],
    "from": {"email": "shop@example.com"},
    "subject": "Hi",
    "content": [{"type": "text/plain", "value": "Hello"}],
}
TEXT, HTML = {"type": "text/plain", "value": "x"}, {"type": "text/html", "value": "x"}
ANA = {"email": "ana@example.net"}


def to(*addresses: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"personalizations": [{"to": list(addresses), **more}]}


# What is wrong, the field that SendGrid names, and some of its words.
REFUSED: dict[str, tuple[dict[str, Any], str | None, str]] = {
    "unknown field": ({"from_email": "x"}, "from_email", "Additional property from_email is not allowed"),
    "unknown field within": (to(ANA, tag="x"), "personalizations.0", "Additional property tag is not allowed"),
    "no sender": ({"from": None}, "from", "The from object must be provided"),
    "no personalizations": ({"personalizations": []}, "personalizations", "must have at least one personalization"),
    "no to": ({"personalizations": [{"cc": [ANA]}]}, "personalizations.0.to", "The to array is required"),
    "empty to": (to(), "personalizations.0.to", "The to array is required"),
    "bad address": (to({"email": "ana"}), "personalizations.0.to.0.email", "valid address"),
    "several in one address": (to({"email": "a@b.example, c@d.example"}), "personalizations.0.to.0.email", "valid"),
    "name in the address": (to({"email": "Ana <ana@b.example>"}), "personalizations.0.to.0.email", "valid address"),
    "Unicode domain": (to({"email": "ana@bücher.example"}), "personalizations.0.to.0.email", "valid address"),
    "bad sender": ({"from": {"email": "shop"}}, "from.email", "valid address"),
    "bad reply_to_list": ({"reply_to_list": [{"email": "x"}]}, "reply_to_list.0.email", "valid address"),
    "both reply_to": ({"reply_to": ANA, "reply_to_list": [ANA]}, "reply_to_list", "cannot be used together"),
    "equal reply_to": ({"reply_to_list": [ANA, ANA]}, "reply_to_list", "the same item twice"),
    "address twice": (to(ANA, cc=[{"email": "ANA@example.net"}]), "personalizations.0", "should be unique"),
    "too many": (to(*({"email": f"r{n}@example.com"} for n in range(1001))), "personalizations", "1000"),
    "no content": ({"content": None}, "content", "the content parameter is required"),
    "empty content": ({"content": [{**TEXT, "value": ""}]}, "content.0.value", "at least one character"),
    "html first": ({"content": [HTML, TEXT]}, "content", "text/plain must be first"),
    "two texts": ({"content": [TEXT, TEXT]}, "content", "only be provided once"),
    "no subject": ({"subject": None}, "subject", "The subject is required"),
    "numbers in custom_args": ({"custom_args": {"n": 7}}, None, "Bad Request"),
    "numbers in own custom_args": (to(ANA, custom_args={"n": 7}), None, "Bad Request"),
    "numbers in headers": ({"headers": {"X-N": 7}}, None, "Bad Request"),
    "numbers in substitutions": (to(ANA, substitutions={"n": 7}), None, "Bad Request"),
    "null in substitutions": (to(ANA, substitutions={"n": None}), None, "Bad Request"),
    "reserved header": ({"headers": {"Reply-To": "x@example.com"}}, "headers", "reserved"),
    "own reserved header": (to(ANA, headers={"cc": "x"}), "personalizations.0.headers", "reserved"),
    "substitutions in a dynamic template": (
        {"template_id": "d-1", **to(ANA, substitutions={"a": "b"})},
        "personalizations.0.substitutions",
        "may not be used with dynamic templating",
    ),
    "eleven categories": ({"categories": [f"c{n}" for n in range(11)]}, "categories", "at most 10 items"),
    "category twice": ({"categories": ["a", "a"]}, "categories", "the same item twice"),
    "in milliseconds": ({"send_at": 1773489600000}, "send_at", "72 hours"),
    "own time in milliseconds": (to(ANA, send_at=1773489600000), "personalizations.0.send_at", "72 hours"),
    "time in words": ({"send_at": "tomorrow"}, "send_at", "integer"),
    "attachment without a name": ({"attachments": [{"content": "eA=="}]}, "attachments.0.filename", "required"),
    "attachment not in base64": (
        {"attachments": [{"content": "!", "filename": "a"}]},
        "attachments.0.content",
        "base64",
    ),
    "tracking as a switch": ({"tracking_settings": {"open_tracking": True}}, "tracking_settings.open_tracking", ""),
}


@pytest.mark.parametrize(("change", "field", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses(change: dict[str, Any], field: str | None, words: str) -> None:
    result = ask({name: value for name, value in {**GOOD, **change}.items() if value is not None})
    assert result.response.status_code == 400
    [error] = result.response.json()["errors"]
    assert error["field"] == field
    assert words in error["message"]
    assert not result.deliveries


def test_takes_what_the_refused_were_made_from() -> None:
    assert ask(GOOD).response.status_code == 202


@pytest.mark.parametrize("body", [None, [], "x", 1])
def test_refuses_what_is_no_object(body: Any) -> None:
    assert ask(body).response.status_code == 400


def test_refuses_what_is_no_json() -> None:
    request = Request(
        "POST", "http://x", {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}, b"{"
    )
    assert SANDBOX.respond(request, PATH).response.status_code == 400


def test_refuses_a_wrong_key() -> None:
    response = ask(GOOD, Authorization="Bearer wrong").response
    assert (response.status_code, "invalid, expired, or revoked" in response.text) == (401, True)


def test_refuses_another_content_type() -> None:
    assert ask(GOOD, **{"Content-Type": "text/plain"}).response.status_code == 415


def test_knows_no_other_path() -> None:
    assert ask(GOOD, path="/v3/mail").response.status_code == 404


# A kind of event, and what the tracking event is.
KINDS: dict[str, dict[str, Any]] = {
    "delivered": {"event_type": "delivered", "mta_response": "250 2.0.0 OK"},
    "opened": {"event_type": "opened", "user_agent": "Mozilla/5.0 (Anymail sandbox)"},
    "clicked": {"event_type": "clicked", "click_url": "https://example.com/"},
    "bounced": {"event_type": "bounced", "reject_reason": "bounced", "description": "Invalid Address"},
    "complained": {"event_type": "complained"},
}


@pytest.mark.parametrize(("kind", "expected"), KINDS.items(), ids=KINDS.keys())
def test_event(client: Client, events: list[Any], kind: str, expected: dict[str, Any]) -> None:
    sandbox = SendGridSandbox()
    one = fitted(SendGrid, metadata={"order": 7}, tags=["receipt"])
    flow = SENDGRID.deliver(one)
    result = sandbox.respond(next(flow), PATH)
    with pytest.raises(StopIteration) as finished:
        flow.send(result.response)
    request = sandbox.event(kind, result.deliveries[0], "/anymail/sendgrid/tracking/")
    with override_settings(ANYMAIL=sandbox.settings("http://sandbox/sendgrid/")):
        response = Call(request.url, bytes(request.body), dict(request.headers)).post(client)
    assert response.status_code == 200
    [event] = events
    assert {name: getattr(event, name) for name in expected} == expected
    assert statuses(finished.value.value) == {event.recipient: ("queued", event.message_id)}
    assert (event.metadata, event.tags) == ({"order": "7"}, ["receipt"])


def test_settings_lead_here() -> None:
    settings = SANDBOX.settings("http://127.0.0.1:8025/sendgrid/")
    esp = make_esp(SendGrid, api_key=settings["SENDGRID_API_KEY"], api_url=settings["SENDGRID_API_URL"])
    request = request_of(esp.deliver(mail()))
    assert request.url == "http://127.0.0.1:8025/sendgrid/v3/mail/send"
    assert SANDBOX.respond(request, PATH).response.status_code == 202
