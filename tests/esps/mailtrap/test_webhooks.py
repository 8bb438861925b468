"""Mailtrap: webhook bodies (files) and the events they become; received mail and how it is fetched."""

from __future__ import annotations

import datetime as dt
import json
from base64 import b64decode
from typing import Any

import pytest
from django.test import Client, override_settings

from anymail.conf import load
from anymail.esps.mailtrap.inbound import MailtrapInbound, MailtrapInboundOptions
from anymail.esps.mailtrap.tracking import signature
from anymail.exceptions import AnymailAPIError, AnymailConfigurationError, AnymailWebhookValidationFailure
from anymail.wire import Response
from esps.mailtrap.signed import INBOUND, INBOUND_SECRET, TRACKING, TRACKING_SECRET, signed_call
from support import Call, answer, assert_inbound, assert_tracking, drive, expectations, sample, sample_json

SIGNATURES = sample_json("mailtrap", "signatures.json")
EXPECTED = expectations("mailtrap")
BOTH = {**TRACKING, **INBOUND}
JSON_LINES = "application/jsonl"


def call(name: str) -> Call:
    """A file's call, with the signature that came with it."""
    headers = SIGNATURES[name]["headers"]
    given = {"Mailtrap-Signature": headers["Mailtrap-Signature"]}
    return Call(
        f"/anymail/mailtrap/{name.partition('-')[0]}/", sample("mailtrap", name), given, headers["Content-Type"]
    )


def in_utc(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**one, "timestamp": dt.datetime.fromisoformat(one["timestamp"]).isoformat()} for one in events]


def post(client: Client, kind: str, *events: Any) -> Any:
    with override_settings(ANYMAIL=BOTH):
        return signed_call(kind, json.dumps({"events": events}).encode()).post(client)


def test_every_sample_is_expected() -> None:
    assert set(EXPECTED) == set(SIGNATURES)


@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("tracking")])
@override_settings(ANYMAIL=TRACKING)
def test_events(client: Client, events: list[Any], name: str) -> None:
    assert call(name).post(client).status_code == 200
    assert_tracking(events, in_utc(EXPECTED[name]))
    body = sample("mailtrap", name)
    raw = [json.loads(line) for line in body.splitlines()] if name.endswith(".txt") else json.loads(body)["events"]
    assert [event.esp_event for event in events] == raw


@override_settings(ANYMAIL=INBOUND)
def test_received_mail(client: Client, events: list[Any]) -> None:
    name = "inbound-message_received.json"
    assert call(name).post(client).status_code == 200
    [one] = in_utc(EXPECTED[name])
    expected = {**one, **one["message"]}
    received = events[0].message
    assert str(received.from_email) == expected.pop("from_email")
    assert received.date.timestamp() == 1785232925
    assert [part.content_id for part in received.inlines] == expected.pop("inlines")
    assert [
        {
            "filename": part.get_filename(),
            "content_type": part.get_content_type(),
            "content": part.get_content_text(),
        }
        for part in received.attachments
    ] == expected.pop("attachments")
    assert_inbound(events, [{key: value for key, value in expected.items() if key != "date"}])
    assert events[0].esp_event == sample_json("mailtrap", "support-inbound-message.json")


class NoCalls:
    """A transport that must not be used."""

    def __init__(self, **timeouts: Any) -> None:
        pass

    def send(self, request: Any) -> Response:
        raise AssertionError(request)


@pytest.mark.parametrize("name", ["inbound-test.json", "inbound-test-inbox1.json"])
@override_settings(ANYMAIL={**INBOUND, "TRANSPORT": NoCalls})
def test_the_dashboards_test_calls_are_taken_for_what_they_are(client: Client, events: list[Any], name: str) -> None:
    assert call(name).post(client).status_code == 200
    assert events == EXPECTED[name] == []


# Fields of an event, and what the event then has.
DETAILS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "unknown word": (
        {"event": "vanished", "email": "ana@example.net", "message_id": "m"},
        {"event_type": "unknown", "recipient": "ana@example.net", "message_id": "m"},
    ),
    "soft bounce, as the webhook API calls it": (
        {"event": "soft_bounce", "bounce_category": "spam"},
        {"event_type": "deferred", "reject_reason": "other", "description": "spam"},
    ),
    "complaint, as the webhook API calls it": (
        {"event": "spam_complaint"},
        {"event_type": "complained", "reject_reason": "spam"},
    ),
    "bounce without a category": ({"event": "bounce"}, {"event_type": "bounced", "reject_reason": "bounced"}),
    "reject without a reason": ({"event": "reject"}, {"event_type": "rejected", "reject_reason": "blocked"}),
    "suspension with a reason like a suppression's": (
        {"event": "suspension", "reason": "Too many hard bounces"},
        {"event_type": "deferred", "reject_reason": "other"},
    ),
    "both descriptions": ({"event": "bounce", "reason": "Odd.", "bounce_category": "other"}, {"description": "Odd."}),
    "nothing but the word": (
        {"event": "open"},
        {"recipient": None, "message_id": None, "event_id": None, "metadata": {}, "tags": [], "user_agent": None},
    ),
}


@pytest.mark.parametrize(("item", "expected"), DETAILS.values(), ids=DETAILS.keys())
def test_details(client: Client, events: list[Any], item: dict[str, Any], expected: dict[str, Any]) -> None:
    assert post(client, "tracking", item).status_code == 200
    [event] = events
    assert {name: getattr(event, name) for name in expected} == expected
    assert event.timestamp is None
    assert event.esp_event == item


BOUNCES = {
    "bounced": ["badrecipient", "overquota", "transientfail", "greylisting", "dnsFail", "generalfail", "serverfail",
                "verifyfail", "other", "whim", ""],
    "timed_out": ["timeout", "Timeout"],
    "spam": ["spam", "content", "SPAM"],
    "blocked": ["block", "badsender", "relayfail", "serverpolicy", "spam_gmail", "ServerPolicy"],
}  # fmt: skip


@pytest.mark.parametrize(("reason", "category"), [(reason, one) for reason, all_ in BOUNCES.items() for one in all_])
def test_bounce_categories(client: Client, events: list[Any], reason: str, category: str) -> None:
    post(client, "tracking", {"event": "bounce", "bounce_category": category})
    [event] = events
    assert (event.event_type, event.reject_reason, event.description) == ("bounced", reason, category or None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Recipient in suppression list. Reason: unsubscription", "unsubscribed"),
        ("Recipient in suppression list. Reason: Spam Complaint", "spam"),
        ("Recipient in suppression list. Reason: hard bounce", "bounced"),
        ("Recipient in suppression list. Reason: manual import", "blocked"),
        ("Message refused by content review", "blocked"),
    ],
)
def test_reasons_of_a_reject(client: Client, events: list[Any], text: str, reason: str) -> None:
    post(client, "tracking", {"event": "reject", "reason": text})
    [event] = events
    assert (event.event_type, event.reject_reason, event.description) == ("rejected", reason, text)


@pytest.mark.parametrize("odd", [None, [], {}, "", 7, True, [[1]], {"a": 1}, 10**400, 1e300])
def test_odd_values(client: Client, events: list[Any], odd: Any) -> None:
    [original] = sample_json("mailtrap", "tracking-click.json")["events"]
    fields = [field for field in original if field != "event"]
    extra = ["reason", "bounce_category", "response", "description"]
    for word in ("click", "bounce", "reject"):
        items = [{**original, "event": word, field: odd} for field in (*fields, *extra)]
        assert post(client, "tracking", *items).status_code == 200
    assert len(events) == 3 * (len(fields) + len(extra))
    for event in events:
        assert all(isinstance(tag, str) for tag in event.tags)
        assert isinstance(event.metadata, dict)
        texts = (event.message_id, event.event_id, event.recipient, event.click_url, event.user_agent)
        for value in (*texts, event.description, event.mta_response):
            assert value is None or isinstance(value, str)


@pytest.mark.parametrize("odd", [None, 7, "x", [], {}, {"event": 7}, {"event": None}])
def test_an_event_that_is_none_costs_only_itself(client: Client, events: list[Any], odd: Any) -> None:
    assert post(client, "tracking", odd, {"event": "open"}).status_code == 200
    assert [event.event_type for event in events] == ["opened"]


@pytest.mark.parametrize("odd", [b"{", b"\xff", b"[" * 100_000, b"null", b"{}"])
def test_a_line_that_is_none_costs_only_itself(client: Client, events: list[Any], odd: bytes) -> None:
    with override_settings(ANYMAIL=BOTH):
        body = odd + b'\r\n\n{"event": "open"}\n'
        assert signed_call("tracking", body, JSON_LINES).post(client).status_code == 200
        assert signed_call("tracking", odd, JSON_LINES).post(client).status_code == 400
    assert [event.event_type for event in events] == ["opened"]


@override_settings(ANYMAIL=BOTH)
def test_blank_lines_are_nothing(client: Client, events: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    assert signed_call("tracking", b'\n{"event": "open"}\r\n \n', JSON_LINES).post(client).status_code == 200
    assert len(events) == 1
    assert not caplog.records


BODIES = [b"[]", b"null", b'"x"', b"{", b"\xff", b"", b"{}", b'{"events": null}', b'{"events": {"event": "open"}}',
          b'{"events": [1]}', b'{"events": [{"event": "open", "timestamp": NaN}]}',
          b'{"event": "open"}\n{"event": "open"}']  # fmt: skip


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("kind", ["tracking", "inbound"])
@override_settings(ANYMAIL=BOTH)
def test_bodies_of_the_wrong_shape(client: Client, events: list[Any], kind: str, body: bytes) -> None:
    assert signed_call(kind, body).post(client).status_code == 400
    assert events == []


WRONG_WEBHOOK = {
    "received mail at the tracking URL": ("tracking", "inbound.message_received", "mailtrap/inbound/"),
    "a test call at the tracking URL": ("tracking", "inbound_message_received", "mailtrap/inbound/"),
    "tracking at the inbound URL": ("inbound", "delivery", "delivery webhook.*mailtrap/tracking/"),
    "activity at the inbound URL": ("inbound", "activity_log.user.updated", "mailtrap/tracking/"),
}


@pytest.mark.parametrize(("kind", "word", "says"), WRONG_WEBHOOK.values(), ids=WRONG_WEBHOOK.keys())
def test_the_wrong_webhook(client: Client, events: list[Any], kind: str, word: str, says: str) -> None:
    with pytest.raises(AnymailConfigurationError, match=says):
        post(client, kind, {"event": word, "inbox_id": 5120, "message_id": "1"})
    assert events == []


class TestSignature:
    @pytest.mark.parametrize("name", SIGNATURES)
    def test_vectors(self, name: str) -> None:
        given = SIGNATURES[name]
        assert signature(given["secret"], sample("mailtrap", name)) == given["headers"]["Mailtrap-Signature"]

    def test_the_reference_vector(self) -> None:
        body = sample("mailtrap", "tracking-delivery.json")
        assert len(body) == 328
        assert signature(TRACKING_SECRET, body) == "0cd140205ea8ac13d6519e367eeb18b30c76b54f61d661d2d0f34bad11eb98d6"

    @override_settings(ANYMAIL=BOTH)
    def test_each_webhook_has_its_own_secret(self, client: Client, events: list[Any]) -> None:
        made = call("inbound-message_received.json")
        forged = {"Mailtrap-Signature": signature(TRACKING_SECRET, made.body)}
        assert Call(made.url, made.body, forged).post(client).status_code == 400
        assert events == []

    @pytest.mark.parametrize("template", ["sha256={}", "{},{}", "v1,{}"])
    @override_settings(ANYMAIL=TRACKING)
    def test_only_as_mailtrap_writes_it(self, client: Client, events: list[Any], template: str) -> None:
        made = call("tracking-delivery.json")
        right = made.headers["Mailtrap-Signature"]
        for given in (template.format(right, right), right.upper()):
            assert Call(made.url, made.body, {"Mailtrap-Signature": given}).post(client).status_code == 400
        assert events == []

    @override_settings(ANYMAIL={"WEBHOOK_SECRET": "user:pass"})
    def test_basic_auth_instead(self, client: Client, events: list[Any]) -> None:
        made = call("tracking-delivery.json")
        basic = {"Authorization": "Basic dXNlcjpwYXNz"}
        assert Call(made.url, made.body, basic).post(client).status_code == 200
        assert Call(made.url, made.body, {}).post(client).status_code == 400
        assert len(events) == 1


# Received mail: the calls of the flow, driven by hand.

[RECEIVED] = sample_json("mailtrap", "inbound-message_received.json")["events"]
MESSAGE = sample_json("mailtrap", "support-inbound-message.json")
RAW = Response(200, {}, sample("mailtrap", "support-inbound-message.eml.txt"))
LOOKUP = "https://mailtrap.io/api/inbound/inboxes/5120/messages/1893046721559003136"
PNG = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNgAAAAAgAB5Sfe/AAAAABJRU5ErkJggg==")
FILES = [Response(200, {}, PNG), Response(200, {}, b"sku,qty\nA-1,2\n")]


def flow(item: Any = RECEIVED, **options: Any) -> Any:
    webhook = MailtrapInbound(load(MailtrapInboundOptions, ("MAILTRAP",), {"api_token": "account-token", **options}))
    return webhook.read(item)


def test_raw_mime_is_fetched() -> None:
    requests, [event] = drive(flow(), answer(200, MESSAGE), RAW)
    [expected] = EXPECTED["inbound-message_received.json"]
    assert [(request.method, request.url) for request in requests] == [
        (fetch["method"], fetch["url"]) for fetch in expected["fetches"]
    ]
    assert requests[0].headers["Authorization"] == "Bearer account-token"
    assert "account-token" not in str(dict(requests[1].headers))
    assert all(request.max_response <= 64 * 1024 * 1024 for request in requests)
    assert event.message["Message-ID"] == "<20260728100205.81734@example.net>"


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_line_ends(line_end: bytes) -> None:
    raw = Response(200, {}, b"".join(line + line_end for line in RAW.content.splitlines()))
    _, [event] = drive(flow(), answer(200, MESSAGE), raw)
    assert event.message.text == MESSAGE["text_body"]
    assert event.message.attachments[0].get_content_bytes() == b"sku,qty\nA-1,2\n"


@pytest.mark.parametrize("raw", [{"raw_message_url": None}, {}], ids=["null", "absent"])
def test_without_raw_mime_there_are_the_fields(raw: dict[str, Any]) -> None:
    fields = {key: value for key, value in MESSAGE.items() if key != "raw_message_url"}
    requests, [event] = drive(flow(), answer(200, {**fields, **raw}), *FILES)
    assert [request.url for request in requests[1:]] == [file["download_url"] for file in MESSAGE["attachments"]]
    assert ["Authorization" in request.headers for request in requests] == [True, False, False]
    received = event.message
    assert (str(received.from_email), received.subject) == ('"Katherine J." <kj@example.net>', "Café order 81734")
    assert [str(one) for one in (*received.to, *received.cc)] == [*MESSAGE["to"], *MESSAGE["cc"]]
    assert (received.text, received.html) == (MESSAGE["text_body"], MESSAGE["html_body"])
    assert received["Message-ID"] == MESSAGE["rfc_message_id"]
    assert received["In-Reply-To"] == MESSAGE["in_reply_to"]
    assert received.envelope_sender == "bounce+kj@mail.example.net"
    assert [(part.content_id, part.get_content_bytes()) for part in received.inlines] == [("dot@example.net", PNG)]
    [file] = received.attachments
    assert (file.get_filename(), file.get_content_type()) == ("items.csv", "text/csv")
    assert file.get_content_bytes() == b"sku,qty\nA-1,2\n"


def test_an_attachment_with_a_content_id_is_still_one() -> None:
    file = {**MESSAGE["attachments"][0], "content_disposition": "attachment"}
    _, [event] = drive(flow(), answer(200, {**MESSAGE, "raw_message_url": None, "attachments": [file]}), FILES[0])
    assert [one.get_filename() for one in event.message.attachments] == ["dot.png"]


def test_what_mailtrap_may_leave_out() -> None:
    requests, [event] = drive(flow(), answer(200, {**dict.fromkeys(MESSAGE), "id": "1", "from": "kj@example.net"}))
    assert len(requests) == 1
    received = event.message
    assert str(received.from_email) == "kj@example.net"
    assert not any((received.to, received.text, received.html, received.attachments))
    assert received.envelope_sender is None


# The first line of the MIME, the headers of the answer, and the envelope sender.
RETURN_PATHS: dict[str, tuple[bytes, Any, str | None]] = {
    "MIME": (b"Return-Path: <a@example.net>\n", {"return-path": "<b@example.net>"}, "a@example.net"),
    "MIME, of a bounce": (b"Return-Path: <>\n", {"return-path": "<b@example.net>"}, ""),
    "the topmost": (b"Return-Path: <a@example.net>\nReturn-Path: <b@example.net>\n", {}, "a@example.net"),
    "MIME, empty": (b"Return-Path:\n", {"return-path": "<b@example.net>"}, "b@example.net"),
    "the answer": (b"", {"return-path": "<b@example.net>"}, "b@example.net"),
    "the answer, empty": (b"", {"return-path": ""}, None),
    "the answer, odd": (b"", {"return-path": 7}, None),
    "no headers": (b"", None, None),
}


@pytest.mark.parametrize(("raw", "headers", "expected"), RETURN_PATHS.values(), ids=RETURN_PATHS.keys())
def test_envelope_sender(raw: bytes, headers: Any, expected: str | None) -> None:
    mime = Response(200, {}, raw + b"From: kj@example.net\n\nHi")
    _, [event] = drive(flow(), answer(200, {**MESSAGE, "headers": headers}), mime)
    assert event.message.envelope_sender == expected


@pytest.mark.parametrize("timestamp", [None, "1785232927412", "x", [], {}, 10**400, 1e300, -1e17])
def test_a_time_that_is_none(timestamp: Any) -> None:
    _, [event] = drive(flow({**RECEIVED, "timestamp": timestamp}), answer(200, MESSAGE), RAW)
    assert event.timestamp is None


def test_the_name_of_the_test_calls_in_a_real_one() -> None:
    _, [event] = drive(flow({**RECEIVED, "event": "inbound_message_received"}), answer(200, MESSAGE), RAW)
    assert event.event_id == "5120/1893046721559003136"


TESTS: list[dict[str, Any]] = [{"inbound_inbox_id": 5120}, {"inbox_id": 1}, {"inbox_id": "1"}]


@pytest.mark.parametrize("sign", TESTS)
def test_signs_of_a_test_call(sign: dict[str, Any]) -> None:
    assert drive(flow({**RECEIVED, **sign})) == ([], [])


def test_another_event_about_received_mail_is_named() -> None:
    with pytest.raises(ValueError, match=r"inbound\.message_lost"):
        next(flow({**RECEIVED, "event": "inbound.message_lost"}))


@pytest.mark.parametrize("value", [None, "", ".", "..", [], {}, True, 1.5])
@pytest.mark.parametrize("name", ["inbox_id", "message_id"])
def test_ids_that_are_none(name: str, value: Any) -> None:
    with pytest.raises(AnymailWebhookValidationFailure, match=name):
        next(flow({**RECEIVED, name: value}))


def test_an_id_is_no_path() -> None:
    item = {**RECEIVED, "inbox_id": "x/../../y?z#", "message_id": "%2e%2e"}
    assert next(flow(item)).url == "https://mailtrap.io/api/inbound/inboxes/x%2F..%2F..%2Fy%3Fz%23/messages/%252e%252e"


FETCH_FAILURES: dict[str, list[Response]] = {
    "token": [answer(401, {"error": "Incorrect API token"})],
    "gone": [answer(404, {"error": "Not Found"})],
    "its fault": [answer(500, "Oops")],
    "not an object": [answer(200, [])],
    "another object": [answer(200, {"data": []})],
    "raw URL expired": [answer(200, MESSAGE), Response(403, {}, b"<Error>Expired</Error>")],
    "raw URL redirects": [answer(200, MESSAGE), Response(302, {"Location": "http://169.254.169.254/"})],
    "raw URL not https": [answer(200, {**MESSAGE, "raw_message_url": "http://169.254.169.254/latest"})],
    "raw URL a file": [answer(200, {**MESSAGE, "raw_message_url": "file:///etc/passwd"})],
    "raw URL not text": [answer(200, {**MESSAGE, "raw_message_url": 7})],
    "raw URL empty": [answer(200, {**MESSAGE, "raw_message_url": ""})],
    "attachment without URL": [answer(200, {**MESSAGE, "raw_message_url": None, "attachments": [{}]})],
}


@pytest.mark.parametrize("answers", FETCH_FAILURES.values(), ids=FETCH_FAILURES.keys())
def test_what_cannot_be_fetched_is_an_error(answers: list[Response]) -> None:
    with pytest.raises(AnymailAPIError):
        drive(flow(), *answers)


def test_a_failed_fetch_makes_mailtrap_try_again(client: Client, events: list[Any]) -> None:
    class Failing:
        def __init__(self, **timeouts: Any) -> None:
            pass

        def send(self, request: Any) -> Response:
            return answer(401, {"error": "Incorrect API token"})

    with (
        override_settings(ANYMAIL={**INBOUND, "TRANSPORT": Failing}),
        pytest.raises(AnymailAPIError, match="Incorrect API token"),
    ):
        call("inbound-message_received.json").post(client)
    assert events == []


# MAILTRAP_API_URL, and where received mail is looked up.
LOOKUPS: dict[str, tuple[str | None, str]] = {
    "unset": (None, "https://mailtrap.io/api/"),
    "transactional": ("https://send.api.mailtrap.io/api/", "https://mailtrap.io/api/"),
    "bulk": ("https://bulk.api.mailtrap.io/api", "https://mailtrap.io/api/"),
    "sandbox": ("https://SANDBOX.api.mailtrap.io/api/", "https://mailtrap.io/api/"),
    "a stand-in": ("http://127.0.0.1:8025/api", "http://127.0.0.1:8025/api/"),
    "Mailtrap's own": ("https://mailtrap.io/api/", "https://mailtrap.io/api/"),
}


@pytest.mark.parametrize(("setting", "url"), LOOKUPS.values(), ids=LOOKUPS.keys())
def test_where_received_mail_is_looked_up(setting: str | None, url: str) -> None:
    with override_settings(ANYMAIL={} if setting is None else {"MAILTRAP_API_URL": setting}):
        assert next(flow()).url == f"{url}inbound/inboxes/5120/messages/1893046721559003136"


def test_a_stand_in_may_hold_the_raw_message() -> None:
    url = "http://127.0.0.1:8025/api/"
    requests, _ = drive(flow(api_url=url), answer(200, {**MESSAGE, "raw_message_url": f"{url}raw/1"}), RAW)
    assert requests[1].url == f"{url}raw/1"


def test_the_inbound_view_needs_a_token(client: Client, events: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    with override_settings(ANYMAIL={"MAILTRAP_INBOUND_SECRET": INBOUND_SECRET}):
        assert call("inbound-message_received.json").post(client).status_code == 404
    assert "MAILTRAP_API_TOKEN" in caplog.text
    assert events == []


def test_the_options_of_django_anymail_are_taken() -> None:
    assert next(flow(download_chunk_size=4096)).url == LOOKUP
