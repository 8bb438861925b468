"""Unisender Go's side of the sandbox: it takes what we send, and refuses what Unisender Go would refuse."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.test import Client, override_settings

from anymail.esps.unisender_go.sandbox import API_KEY, UnisenderGoSandbox
from anymail.esps.unisender_go.sending import UnisenderGo
from anymail.exceptions import AnymailAPIError
from anymail.wire import Request
from esps.unisender_go.signed import URL
from esps.unisender_go.test_sending import REQUESTS
from support import Call, drive, mail, make_esp, request_of, statuses

NOW = dt.datetime(2026, 3, 2, 9, 0, tzinfo=dt.UTC)
SETTINGS = UnisenderGoSandbox().settings("http://sandbox/unisender_go/")
API_URL = SETTINGS["UNISENDER_GO_API_URL"]
GO = make_esp(UnisenderGo, api_key=API_KEY, api_url=API_URL)


@pytest.fixture
def sandbox() -> UnisenderGoSandbox:
    return UnisenderGoSandbox(clock=lambda: NOW)


def take(sandbox: UnisenderGoSandbox, request: Request) -> Any:
    return sandbox.respond(request, request.url.removeprefix("http://sandbox/unisender_go"))


def ask(sandbox: UnisenderGoSandbox, message: Any, key: str = API_KEY) -> Any:
    headers = {"X-API-KEY": key}
    return take(sandbox, Request.post(f"{API_URL}email/send.json", headers=headers, json={"message": message}))


# Nobody in To, which Unisender Go does not allow with a Cc; an attachment without a name.
REFUSED_REQUESTS = {"no to", "attachments of the same name, or none"}


@pytest.mark.parametrize("name", [name for name in REQUESTS if name not in REFUSED_REQUESTS])
def test_takes_every_request_that_we_make(sandbox: UnisenderGoSandbox, name: str) -> None:
    one = mail(**REQUESTS[name][0])
    result = take(sandbox, request_of(GO.deliver(one)))
    assert result.response.status_code == 200, result.response.text
    assert {delivery.recipient.lower() for delivery in result.deliveries} == {
        r.addr_spec.lower() for r in one.recipients
    }


GOOD: dict[str, Any] = {
    "recipients": [{"email": "ana@example.net"}],
    "from_email": "shop@example.com",
    "subject": "Hi",
    "body": {"plaintext": "Hello"},
}
FILE = {"type": "text/plain", "name": "a.txt", "content": "MQ=="}
ANA = {"email": "ana@example.net"}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


def many(number: int) -> list[dict[str, str]]:
    return [{"email": f"r{index}@example.com"} for index in range(number)]


def shown(name: str, number: int) -> dict[str, Any]:
    """A message that names its recipients in a header."""
    people = ", ".join(one["email"] for one in many(number))
    return {**GOOD, "recipients": [ANA, *many(number)], "headers": {"to": "ana@example.net", name: people}}


# What is wrong, and Unisender Go's code for it.
REFUSED: dict[str, tuple[Any, int]] = {
    "no message": (None, 201),
    "unknown field": ({**GOOD, "text": "x"}, 201),
    "no recipients": (without("recipients"), 204),
    "nobody": ({**GOOD, "recipients": []}, 204),
    "recipient without an email": ({**GOOD, "recipients": [{}]}, 204),
    "unknown field of a recipient": ({**GOOD, "recipients": [{**ANA, "name": "Ana"}]}, 204),
    "too many recipients": ({**GOOD, "recipients": many(501)}, 1524),
    "every address is bad": ({**GOOD, "recipients": [{"email": "ana"}]}, 204),
    "no from_email": (without("from_email"), 202),
    "from_email with a name": ({**GOOD, "from_email": "Shop <shop@example.com>"}, 205),
    "no subject": (without("subject"), 1576),
    "blank subject": ({**GOOD, "subject": " "}, 1576),
    "no body": (without("body"), 1577),
    "reply_to with a name": ({**GOOD, "reply_to": "Help <help@example.com>"}, 1519),
    "substitution of null": ({**GOOD, "recipients": [{**ANA, "substitutions": {"a": None}}]}, 212),
    "substitution of a switch": ({**GOOD, "global_substitutions": {"a": True}}, 212),
    "substitution's name": ({**GOOD, "global_substitutions": {"my-name": "x"}}, 1580),
    "metadata of an object": ({**GOOD, "global_metadata": {"a": {}}}, 216),
    "too much metadata": ({**GOOD, "recipients": [{**ANA, "metadata": {f"k{n}": n for n in range(11)}}]}, 217),
    "metadata too long": ({**GOOD, "global_metadata": {"a": "x" * 1025}}, 218),
    "five tags": ({**GOOD, "tags": list("abcde")}, 1532),
    "tag too long": ({**GOOD, "tags": ["x" * 101]}, 1534),
    "the same tag twice": ({**GOOD, "tags": ["a", "a"]}, 1535),
    "headers as an array": ({**GOOD, "headers": []}, 1506),
    "too many headers": ({**GOOD, "headers": {f"X-{number}": "1" for number in range(51)}}, 1507),
    "slash in a file's name": ({**GOOD, "attachments": [{**FILE, "name": "a/b"}]}, 1590),
    "slash in an image's name": ({**GOOD, "inline_attachments": [{**FILE, "name": "a/b"}]}, 1594),
    "the same file's name twice": ({**GOOD, "attachments": [FILE, FILE]}, 1591),
    "the same image's name twice": ({**GOOD, "inline_attachments": [FILE, FILE]}, 1595),
    "file without a name": ({**GOOD, "attachments": [{**FILE, "name": ""}]}, 207),
    "image without a name": ({**GOOD, "inline_attachments": [{**FILE, "name": ""}]}, 207),
    "file without content": ({**GOOD, "attachments": [{"type": "text/plain", "name": "a"}]}, 1592),
    "image without content": ({**GOOD, "inline_attachments": [{"type": "text/plain", "name": "a"}]}, 1596),
    "file without type": ({**GOOD, "attachments": [{"name": "a", "content": "MQ=="}]}, 1593),
    "image without type": ({**GOOD, "inline_attachments": [{"name": "a", "content": "MQ=="}]}, 1597),
    "file's name too long": ({**GOOD, "attachments": [{**FILE, "name": "a" * 256}]}, 10001),
    "file not in base64": ({**GOOD, "attachments": [{**FILE, "content": "?"}]}, 207),
    "blanks in a substitution": ({**GOOD, "body": {"html": "{{ name }}"}}, 1516),
    "blanks in the subject": ({**GOOD, "subject": "{{ name }}"}, 1546),
    "send_at with a zone": ({**GOOD, "options": {"send_at": "2026-03-02T10:00:00Z"}}, 1530),
    "send_at on no day": ({**GOOD, "options": {"send_at": "2026-02-30 10:00:00"}}, 1530),
    "send_at too far ahead": ({**GOOD, "options": {"send_at": "2026-03-03 09:00:01"}}, 1525),
    "send_at in the past": ({**GOOD, "options": {"send_at": "2026-03-02 08:00:00"}}, 1529),
    "pool without backend": ({**GOOD, "options": {"smtp_pool_id": "x"}}, 227),
    "bypass without bypass_global": ({**GOOD, "bypass_complained": 1}, 1537),
    "key too long": ({**GOOD, "idempotence_key": "x" * 65}, 1572),
    "key as a number": ({**GOOD, "idempotence_key": 7}, 3900),
    "template that does not exist": ({**GOOD, "template_id": "welcome"}, 1508),
    "too many in To": (shown("TO", 11), 1554),
    "stranger in To": ({**GOOD, "headers": {"to": "bo@example.org"}}, 1555),
    "Cc without To": ({**GOOD, "headers": {"cc": "ana@example.net"}}, 1556),
    "too many in Cc": (shown("cc", 11), 1557),
    "stranger in Cc": ({**GOOD, "headers": {"to": "ana@example.net", "cc": "bo@example.org"}}, 1558),
    "quoted comma in To": ({**GOOD, "headers": {"to": '"A, B" <ana@example.net>'}}, 1561),
    "Unicode in Cc": ({**GOOD, "headers": {"to": "ana@example.net", "cc": "Zoë <ana@example.net>"}}, 1562),
}


@pytest.mark.parametrize(("message", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses(sandbox: UnisenderGoSandbox, message: Any, code: int) -> None:
    result = ask(sandbox, message)
    answer = result.response.json()
    assert (result.response.status_code, answer["status"], answer["code"]) == (400, "error", code), answer
    assert not result.deliveries


@pytest.mark.parametrize(("key", "code"), [("", 101), ("wrong", 102)])
def test_refuses_a_wrong_key(sandbox: UnisenderGoSandbox, key: str, code: int) -> None:
    result = ask(sandbox, GOOD, key)
    assert (result.response.status_code, result.response.json()["code"]) == (401, code)


@pytest.mark.parametrize(("body", "status", "code"), [(b"{", 400, 111), (b" " * 10_485_761, 413, 199)])
def test_refuses_what_cannot_be_read(sandbox: UnisenderGoSandbox, body: bytes, status: int, code: int) -> None:
    result = take(sandbox, Request("POST", f"{API_URL}email/send.json", {"X-API-KEY": API_KEY}, body))
    assert (result.response.status_code, result.response.json()["code"]) == (status, code)


def test_knows_no_other_path(sandbox: UnisenderGoSandbox) -> None:
    headers = {"X-API-KEY": API_KEY}
    assert (
        take(sandbox, Request.post(f"{API_URL}email/sent.json", headers=headers, json={})).response.status_code == 404
    )


def test_takes_what_the_template_engines_need(sandbox: UnisenderGoSandbox) -> None:
    values = {"items": [{"name": "Lamp", "price": 7}], "shop": {"city": "Gouda"}}
    message = {**GOOD, "template_engine": "velocity", "global_substitutions": values, "tags": ["x" * 100]}
    assert ask(sandbox, message).response.status_code == 200


def test_takes_a_key_once_a_minute() -> None:
    now = NOW
    sandbox = UnisenderGoSandbox(clock=lambda: now)
    message = {**GOOD, "idempotence_key": "k"}
    assert ask(sandbox, message).deliveries
    now += dt.timedelta(seconds=59)
    result = ask(sandbox, message)
    assert (result.response.json()["code"], result.deliveries) == (1573, ())
    now += dt.timedelta(seconds=1)
    assert ask(sandbox, message).deliveries


def test_a_repeat_after_a_lost_answer_sends_once(sandbox: UnisenderGoSandbox) -> None:
    flow = GO.deliver(mail())
    request = next(flow)
    [delivery] = take(sandbox, request).deliveries
    with pytest.raises(StopIteration) as finished:
        flow.send(take(sandbox, request).response)
    assert statuses(finished.value.value) == {"ana@example.net": ("unknown", delivery.message_id)}


def test_each_gets_a_delivery_of_their_own(sandbox: UnisenderGoSandbox) -> None:
    one = mail(
        from_email="Shop <shop@example.com>",
        to=["Ana López <ana@example.net>", "bo@example.org"],
        reply_to=["Hjälp <help@example.com>"],
        subject="Hi {{name}}",
        body="{{name|you}}: {{site}}",
        html="<p>{{name}}",
        attach=[("a.pdf", b"%PDF", "application/pdf")],
        headers={"X-Order": "7"},
        tags=["a"],
        metadata={"order": "1"},
        merge_data={"ana@example.net": {"name": "Ana"}},
        merge_global_data={"site": "Shop"},
        merge_headers={"ana@example.net": {"List-Unsubscribe": "<https://example.com/u/ana>"}},
    )
    ana, bo = take(sandbox, request_of(GO.deliver(one))).deliveries
    assert (ana.recipient, ana.subject, ana.text, ana.html) == ("ana@example.net", "Hi Ana", "Ana: Shop", "<p>Ana")
    assert (bo.recipient, bo.subject, bo.text, bo.html) == ("bo@example.org", "Hi ", "you: Shop", "<p>")
    assert (ana.to, bo.to) == ("Ana López <ana@example.net>", "bo@example.org")
    assert ana.headers == {"X-Order": "7", "List-Unsubscribe": "<https://example.com/u/ana>"}
    assert ana.reply_to == "Hjälp <help@example.com>"
    assert ana.from_email == "Shop <shop@example.com>"
    assert ana.attachments == [("a.pdf", "application/pdf", 4)]
    assert (ana.tags, ana.metadata["order"]) == (["a"], "1")
    assert ana.message_id == ana.metadata["anymail_id"] != bo.message_id


def test_everybody_sees_to_and_cc(sandbox: UnisenderGoSandbox) -> None:
    one = mail(to=['"Berg, Bob" <bob@example.org>'], cc=["Zoë <zoe@example.org>"], bcc=["archive@example.com"])
    deliveries = take(sandbox, request_of(GO.deliver(one))).deliveries
    assert [delivery.recipient for delivery in deliveries] == [
        "bob@example.org",
        "zoe@example.org",
        "archive@example.com",
    ]
    for delivery in deliveries:
        assert (delivery.to, delivery.cc) == ("Berg, Bob <bob@example.org>", "Zoë <zoe@example.org>")


def test_other_headers_are_dropped(sandbox: UnisenderGoSandbox) -> None:
    [delivery] = ask(sandbox, {**GOOD, "headers": {"X-A": "1", "Precedence": "bulk"}}).deliveries
    assert delivery.headers == {"X-A": "1"}


def test_no_substitution_without_an_engine(sandbox: UnisenderGoSandbox) -> None:
    message = {**GOOD, "template_engine": "none", "body": {"plaintext": "{{ a }} {{b}}"}}
    [delivery] = ask(sandbox, message).deliveries
    assert delivery.text == "{{ a }} {{b}}"


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"to": ["suppressed@example.com"]}, {"suppressed@example.com": "rejected"}),
        (
            {"to": ["ana@example.net"], "cc": ["suppressed@example.com"]},
            {"ana@example.net": "queued", "suppressed@example.com": "rejected"},
        ),
        (
            {"to": ["ana@example.net", "ana@localhost"]},
            {"ana@example.net": "queued", "ana@localhost": "invalid"},
        ),
        (
            {"to": ["ana@example.net", "Ana@Example.net"]},
            {"ana@example.net": "queued", "Ana@Example.net": "queued"},
        ),
    ],
)
def test_statuses(sandbox: UnisenderGoSandbox, attributes: dict[str, Any], expected: dict[str, str]) -> None:
    flow = GO.deliver(mail(**attributes))
    result = take(sandbox, next(flow))
    with pytest.raises(StopIteration) as finished:
        flow.send(result.response)
    recipients = finished.value.value
    assert {email: status for email, (status, _) in statuses(recipients).items()} == expected
    queued = {one.message_id for one in recipients.values() if one.status == "queued"}
    assert {delivery.message_id for delivery in result.deliveries} == queued


def test_cc_without_to_is_an_error(sandbox: UnisenderGoSandbox) -> None:
    one = mail(to=[], cc=["ana@example.net"])
    with pytest.raises(AnymailAPIError, match="code 1556"):
        drive(GO.deliver(one), take(sandbox, request_of(GO.deliver(one))).response)


# The kind of event, and the event that a project gets.
EVENTS: dict[str, dict[str, Any]] = {
    "delivered": {"event_type": "delivered", "mta_response": "250 2.0.0 OK"},
    "opened": {"event_type": "opened", "user_agent": "Mozilla/5.0 (Anymail sandbox)"},
    "clicked": {"event_type": "clicked", "click_url": "https://example.com/"},
    "bounced": {"event_type": "bounced", "reject_reason": "bounced", "description": "err_user_unknown"},
    "complained": {"event_type": "complained", "reject_reason": None},
}


@pytest.mark.parametrize(("kind", "expected"), EVENTS.items(), ids=EVENTS.keys())
@override_settings(ANYMAIL=SETTINGS)
def test_events(
    client: Client, events: list[Any], sandbox: UnisenderGoSandbox, kind: str, expected: dict[str, Any]
) -> None:
    [delivery] = take(sandbox, request_of(GO.deliver(mail(metadata={"order": "1/2"})))).deliveries
    request = sandbox.event(kind, delivery, f"http://project{URL}")
    assert Call(URL, bytes(request.body)).post(client).status_code == 200
    [event] = events
    common = {"message_id": delivery.message_id, "recipient": "ana@example.net", "timestamp": NOW}
    for name, value in {**common, "metadata": {"order": "1/2"}, **expected}.items():
        assert getattr(event, name) == value


def test_there_is_an_event_of_every_kind() -> None:
    assert set(EVENTS) == UnisenderGoSandbox.events
