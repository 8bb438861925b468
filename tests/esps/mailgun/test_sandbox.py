"""Mailgun's side of the sandbox: it takes what we send, refuses what Mailgun would refuse, and calls back."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from django.test import Client, override_settings

from anymail.esps.kit.sandbox import SandboxDelivery
from anymail.esps.mailgun.sandbox import API_KEY, MailgunSandbox
from anymail.esps.mailgun.sending import Mailgun
from anymail.exceptions import AnymailAPIError
from anymail.mail.message import outgoing_mail
from anymail.wire import File, Request
from esps.mailgun.test_sending import ANA, BO, REQUESTS, rich_message
from support import Call, drive, fitted, mail, make_esp, request_of, statuses

NOW = dt.datetime(2026, 3, 14, 12, 0, 0, 250_000, tzinfo=dt.UTC)
SANDBOX = MailgunSandbox(clock=lambda: NOW)
SETTINGS = SANDBOX.settings("http://sandbox/mailgun/")
MAILGUN = make_esp(Mailgun, api_key=SETTINGS["MAILGUN_API_KEY"], api_url=SETTINGS["MAILGUN_API_URL"])
BASIC_AUTH = "Basic YXBpOmtleS1zYW5kYm94LW1haWxndW4="


def answered(request: Request) -> Any:
    return SANDBOX.respond(request, request.url.removeprefix("http://sandbox/mailgun"))


# Mailgun refuses a message without "to".
TAKEN = {name: attributes for name, (attributes, _) in REQUESTS.items() if name != "no to"}


@pytest.mark.parametrize("attributes", TAKEN.values(), ids=TAKEN.keys())
def test_takes_every_request_that_we_make(attributes: dict[str, Any]) -> None:
    one = fitted(Mailgun, **attributes)
    request = request_of(MAILGUN.deliver(one))
    result = answered(request)
    assert result.response.status_code == 200, result.response.text
    assert {delivery.recipient for delivery in result.deliveries} == {address.addr_spec for address in one.recipients}
    _, recipients = drive(MAILGUN.deliver(one), result.response)
    assert {status for status, _ in statuses(recipients).values()} == {"queued"}
    for delivery in result.deliveries:
        assert delivery.message_id == result.response.json()["id"]
        assert json.loads(json.dumps(delivery.as_dict()))["recipient"] == delivery.recipient


@pytest.mark.parametrize("value", ["yes", "no", "true", "false", "htmlonly"])
def test_takes_each_place_of_the_pixel(value: str) -> None:
    assert ask({**GOOD, "o:tracking-pixel-location-top": value}).response.status_code == 200


def test_a_delivery() -> None:
    result = answered(request_of(MAILGUN.deliver(outgoing_mail(rich_message()))))
    delivery = result.deliveries[0]
    assert [one.recipient for one in result.deliveries] == [
        "alice@example.net", "bob@example.org", "ops@example.com", "audit@example.com",
    ]  # fmt: skip
    assert delivery.to == "Alice Example <alice@example.net>, bob@example.org"
    assert (delivery.cc, delivery.reply_to) == (
        '"Ops, Team" <ops@example.com>',
        "Help <help@example.com>, help2@example.com",
    )
    assert (delivery.metadata, delivery.tags) == ({"order_id": "1042", "user": "u-77"}, ["receipt", "orders"])
    assert delivery.attachments == [
        ("café.txt", 'text/plain; charset="utf-8"', 6),
        ("logo-1@example.com", "image/png", 8),
    ]


def test_deliveries_of_a_batch() -> None:
    one = mail(
        to=[ANA, BO],
        cc=["team@example.org"],
        subject="Hi %recipient.name%",
        body="%recipient.shop% %recipient.none%",
        merge_data={ANA: {"name": "Ana"}},
        merge_global_data={"name": "you", "shop": "Example"},
        merge_metadata={BO: {"order": 2}},
        merge_headers={BO: {"X-Bo": "1"}},
    )
    deliveries = answered(request_of(MAILGUN.deliver(one))).deliveries
    assert [(delivery.recipient, delivery.to, delivery.subject) for delivery in deliveries] == [
        (ANA, ANA, "Hi Ana"), ("team@example.org", ANA, "Hi Ana"),
        (BO, BO, "Hi you"), ("team@example.org", BO, "Hi you"),
    ]  # fmt: skip
    assert {delivery.text for delivery in deliveries} == {"Example %recipient.none%"}
    assert [delivery.metadata for delivery in deliveries[::2]] == [{"order": ""}, {"order": "2"}]
    assert [delivery.headers for delivery in deliveries[::2]] == [{"X-Bo": ""}, {"X-Bo": "1"}]


def test_what_a_template_is_given() -> None:
    result = answered(request_of(MAILGUN.deliver(fitted(Mailgun, **REQUESTS["batch with template"][0]))))
    assert [delivery.extra["variables"] for delivery in result.deliveries] == [
        {"items": [{"n": 1}], "job": "nightly", "order": "1", "name": "Ana", "shop": "Example"},
        {"items": [{"n": 1}], "job": "nightly", "order": "", "name": "", "shop": "Example"},
    ]
    assert {delivery.template for delivery in result.deliveries} == {"order-shipped"}


GOOD = {"from": "shop@example.com", "to": "ana@example.net", "subject": "Hi", "text": "Hello"}
MANY = [("to", f"r{number}@example.com") for number in range(1001)]

# The fields over those of a good message (None: without), and Mailgun's words.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown field": ({"body": "x"}, "'body' parameter is not valid"),
    "unknown option": ({"o:tags": "x"}, "'o:tags'"),
    "field twice": ({"subject": ["a", "b"]}, "'subject'"),
    "not yes or no": ({"o:tracking-opens": "on"}, "'o:tracking-opens'"),
    "header name": ({"h:X Shop": "x"}, "'h:X Shop'"),
    "html beside a template": ({"html": "x", "template": "x"}, "Only one parameters 'html' or 'template' is allowed."),
    "pixel's place": ({"o:tracking-pixel-location-top": "textonly"}, "'o:tracking-pixel-location-top'"),
    "tag": ({"o:tag": ["a", "é"]}, "'o:tag'"),
    "time": ({"o:deliverytime": "2026-03-14T12:00:00Z"}, "'o:deliverytime'"),
    "bad address": ({"to": "ana"}, "'to' parameter is not a valid address"),
    "bad cc": ({"cc": ["a@example.com", "b"]}, "'cc' parameter is not a valid address"),
    "nobody": ({"to": None, "cc": "a@example.com"}, "'to' parameter is not a valid address"),
    "no sender": ({"from": None}, "'from' parameter is not a valid address"),
    "too many": ({"to": [address for _, address in MANY]}, "'to'"),
    "no body": ({"text": None}, "Need at least one of 'text', 'html', 'amp-html' or 'template'"),
    "variables": ({"recipient-variables": "{"}, "'recipient-variables'"),
    "variables of another type": ({"recipient-variables": "[]"}, "'recipient-variables'"),
    "variables of one": ({"recipient-variables": '{"ana@example.net": 1}'}, "'recipient-variables'"),
    "template variables": ({"t:variables": "7"}, "'t:variables'"),
    "options too large": ({"v:a": "x" * 10_000, "h:b": "x" * 7_000}, "16 KB"),
}


def ask(fields: dict[str, Any], domain: str = "mg.example.com", auth: str = BASIC_AUTH, **more: Any) -> Any:
    form = [
        (name, one)
        for name, value in fields.items()
        if value is not None
        for one in (value if isinstance(value, list) else [value])
    ]
    url = f"http://sandbox/mailgun/v3/{domain}/messages"
    return answered(Request.post(url, headers={"Authorization": auth}, form=form, **more))


def test_takes_a_good_message() -> None:
    assert ask(GOOD).response.json()["message"] == "Queued. Thank you."


@pytest.mark.parametrize(("fields", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses(fields: dict[str, Any], words: str) -> None:
    result = ask({**GOOD, **fields})
    assert result.response.status_code == 400
    assert words in result.response.json()["message"]
    assert not result.deliveries
    with pytest.raises(AnymailAPIError) as raised:
        drive(MAILGUN.deliver(mail()), result.response)
    assert (raised.value.sent, raised.value.category) == (False, "invalid")


def test_refuses_a_wrong_key() -> None:
    result = ask(GOOD, auth="Basic YXBpOmtleQ==")
    assert (result.response.status_code, result.response.text) == (401, "Forbidden")
    assert API_KEY not in BASIC_AUTH


def test_refuses_what_is_no_form() -> None:
    url = "http://sandbox/mailgun/v3/mg.example.com/messages"
    result = answered(Request.post(url, headers={"Authorization": BASIC_AUTH}, json=GOOD))
    assert result.response.status_code == 400


def test_refuses_files_in_another_field() -> None:
    result = ask(GOOD, files=[File("attachments", "a.txt", "text/plain", b"x")])
    assert "'attachments'" in result.response.json()["message"]


def test_an_unknown_domain() -> None:
    assert ask(GOOD, domain="localhost").response.status_code == 404


def test_another_url() -> None:
    result = ask(GOOD, domain="mg.example.com/x")
    assert (result.response.status_code, result.response.text) == (200, "Mailgun Magnificent API")


# The event type, and what else the event has.
EVENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "delivered": ("delivered", {"mta_response": "OK"}),
    "opened": ("opened", {"user_agent": "Mozilla/5.0 (Anymail sandbox)"}),
    "clicked": ("clicked", {"click_url": "https://example.com/"}),
    "bounced": ("bounced", {"reject_reason": "bounced", "mta_response": "5.1.1 No such user"}),
    "complained": ("complained", {}),
}


@pytest.mark.parametrize("kind", MailgunSandbox.events)
def test_events(client: Client, events: list[Any], kind: str) -> None:
    one = mail(metadata={"order": "A-1042"}, tags=["receipt"])
    [delivery] = answered(request_of(MAILGUN.deliver(one))).deliveries
    stored = SandboxDelivery(**json.loads(json.dumps(delivery.as_dict())))
    request = SANDBOX.event(kind, stored, "/anymail/mailgun/tracking/")
    with override_settings(ANYMAIL={**SETTINGS, "WEBHOOK_MAX_AGE": None}):
        assert Call(request.url, bytes(request.body)).post(client).status_code == 200
    [event] = events
    event_type, more = EVENTS[kind]
    assert (event.event_type, event.recipient, event.message_id) == (event_type, ANA, delivery.message_id)
    assert (event.metadata, event.tags) == ({"order": "A-1042"}, ["receipt"])
    assert event.timestamp == NOW
    assert {name: getattr(event, name) for name in more} == more
