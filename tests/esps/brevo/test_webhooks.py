"""Brevo: webhook bodies (files) and the events they become."""

from __future__ import annotations

import importlib
import json
import warnings
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client, override_settings
from django.urls import reverse

from anymail.conf import load
from anymail.esps.brevo.inbound import BrevoInbound
from anymail.exceptions import (
    AnymailAPIError,
    AnymailConfigurationError,
    AnymailDeprecationWarning,
    AnymailInsecureWebhookWarning,
)
from anymail.signals import tracking
from anymail.webhooks.brevo import (
    BrevoInboundWebhookView,
    BrevoTrackingWebhookView,
    SendinBlueTrackingWebhookView,
)
from anymail.wire import Request, Response
from support import Call, answer, assert_inbound, assert_tracking, drive, expectations, sample, sample_json

TRACKING, INBOUND = "/anymail/brevo/tracking/", "/anymail/brevo/inbound/"
BASIC_AUTH = {"Authorization": "Basic YW52aWw6dGlkZS04OA=="}
EXPECTED = expectations("brevo")
FILES = sample_json("brevo", "api-attachment-contents.json")


class BrevoApi:
    """A transport that stands in for Brevo's API: it has the attachments of the sample."""

    calls: list[Request] = []
    status = 200

    def __init__(self, **timeouts: Any) -> None:
        pass

    def send(self, request: Request) -> Response:
        self.calls.append(request)
        if self.status != 200:
            return answer(self.status, {"code": "document_not_found", "message": "Gone"})
        index = len(self.calls) - 1
        file = list(FILES.values())[index]
        return Response(200, {"Content-Type": file["content_type"]}, b64decode(file["content_base64"]))

    async def asend(self, request: Request) -> Response:
        return self.send(request)


SETTINGS = {
    "WEBHOOK_SECRET": "anvil:tide-88",
    "BREVO_API_KEY": "key",
    "TRANSPORT": BrevoApi,
    "RETRIES": 0,
}


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(BrevoApi, "calls", [])
    with override_settings(ANYMAIL=SETTINGS):
        yield


def call(url: str, body: Any, headers: dict[str, str] | None = None) -> Call:
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Call(url, body, BASIC_AUTH if headers is None else headers)


def event(**values: Any) -> dict[str, Any]:
    return {**sample_json("brevo", "tracking-delivered.json"), **values}


@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("tracking")])
def test_tracking(client: Client, events: list[Any], name: str) -> None:
    assert call(TRACKING, sample("brevo", name)).post(client).status_code == 200
    assert_tracking(events, EXPECTED[name])
    sent = sample_json("brevo", name)
    assert [one.esp_event for one in events] == (sent if isinstance(sent, list) else [sent])


def test_inbound(client: Client, events: list[Any]) -> None:
    [expected] = EXPECTED["inbound-inboundEmailProcessed.json"]
    assert call(INBOUND, sample("brevo", "inbound-inboundEmailProcessed.json")).post(client).status_code == 200
    sender = {"display_name": "Noor Lindqvist", "addr_spec": "noor@example.net"}
    assert_inbound(events, [{**expected, "from_email": sender}])
    message = events[0].message
    assert len(message.get_all("Received")) == expected["received_header_count"]
    assert message.attachments[0].get_content_text() == "title,qty\r\nTide Tables,2\r\n"
    assert [(one.method, one.url) for one in BrevoApi.calls] == [
        tuple(made.replace(" ", " https://api.brevo.com/v3/").split()) for made in expected["api_calls"]
    ]
    assert {one.headers["api-key"] for one in BrevoApi.calls} == {"key"}


# What a tracking event holds, and what it becomes.
READ: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "unknown event": ({"event": "contact_updated"}, {"event_type": "unknown", "recipient": "reader@example.net"}),
    "sent": ({"event": "sent"}, {"event_type": "queued"}),
    "unsubscribe": ({"event": "unsubscribe"}, {"event_type": "unsubscribed", "reject_reason": None}),
    "complaint": ({"event": "complaint"}, {"event_type": "complained", "reject_reason": None}),
    "invalid address": ({"event": "invalid_email"}, {"event_type": "rejected", "reject_reason": "invalid"}),
    "opened": ({"event": "opened", "user_agent": "Firefox"}, {"by_machine": None, "user_agent": "Firefox"}),
    "opened by a proxy": ({"event": "proxy_open"}, {"event_type": "opened", "by_machine": True}),
    "first opened by a proxy": ({"event": "unique_proxy_open"}, {"event_type": "opened", "by_machine": True}),
    "unsubscribed with a browser": ({"event": "unsubscribed", "user_agent": "Firefox"}, {"user_agent": None}),
    "nothing in the fields": (
        {"event": "click", "reason": "", "link": "", "user_agent": "", "message-id": "", "email": ""},
        {"mta_response": None, "click_url": None, "user_agent": None, "message_id": None, "recipient": None},
    ),
    "no time": ({"ts_epoch": None}, {"timestamp": None}),
    "a time in words": ({"ts_epoch": "now"}, {"timestamp": None}),
    "a time that is true": ({"ts_epoch": True}, {"timestamp": None}),
    "a time out of bounds": ({"ts_epoch": 10**400}, {"timestamp": None}),
    "metadata of another shape": ({"X-Mailin-custom": "[1]"}, {"metadata": {}}),
    "metadata nested deep": ({"X-Mailin-custom": "[" * 10_000}, {"metadata": {}}),
    "metadata as an object": ({"X-Mailin-custom": {"a": 1}}, {"metadata": {"a": 1}}),
    "metadata as a number": ({"X-Mailin-custom": 7}, {"metadata": {}}),
    "tags of another type": ({"tags": ["a", 1, None]}, {"tags": ["a"]}),
    "a list in tag": ({"tags": None, "tag": '["a", "b"]'}, {"tags": ["a", "b"]}),
    "JSON in tag that is no list": ({"tags": None, "tag": '{"a": 1}'}, {"tags": ['{"a": 1}']}),
    "a number in tag": ({"tags": None, "tag": "7"}, {"tags": ["7"]}),
    "no tag": ({"tags": None, "tag": ""}, {"tags": []}),
    "values of other types": (
        {"message-id": 1, "email": ["a"], "reason": {}, "user_agent": 0},
        {"message_id": None, "recipient": None, "mta_response": None, "user_agent": None},
    ),
    "a link that was not clicked": ({"link": "https://example.com/"}, {"click_url": None}),
    "a click on nothing": ({"event": "click", "link": ["x"]}, {"event_type": "clicked", "click_url": None}),
    "blocked for a reason of another type": (
        {"event": "blocked", "reason": 5},
        {"event_type": "rejected", "reject_reason": "blocked"},
    ),
}


@pytest.mark.parametrize(("values", "expected"), READ.values(), ids=READ.keys())
def test_tracking_values(client: Client, events: list[Any], values: dict[str, Any], expected: dict[str, Any]) -> None:
    assert call(TRACKING, event(**values)).post(client).status_code == 200
    [got] = events
    assert {name: getattr(got, name) for name in expected} == expected


def test_what_cannot_be_read_costs_the_others_nothing(client: Client, events: list[Any]) -> None:
    body = ["x", event(email="a@example.net"), {"event": 1}, None, event(email="b@example.net")]
    assert call(TRACKING, body).post(client).status_code == 200
    assert [one.recipient for one in events] == ["a@example.net", "b@example.net"]


@pytest.mark.parametrize("url", [TRACKING, INBOUND])
@pytest.mark.parametrize(
    "body", [b"", b"null", b"1", b'"x"', b"{}", b"[1]", b'{"a": NaN}', b"\xff", b"[" * 10_000, b'[{"x": 1}]']
)
def test_bodies_of_another_shape(client: Client, events: list[Any], url: str, body: bytes) -> None:
    assert call(url, body).post(client).status_code == 400
    assert events == []


def test_an_empty_batch(client: Client, events: list[Any]) -> None:
    assert call(TRACKING, []).post(client).status_code == 200
    assert events == []


@pytest.mark.parametrize(
    ("url", "name", "advice"),
    [
        (TRACKING, "inbound-inboundEmailProcessed.json", "brevo/inbound/"),
        (INBOUND, "tracking-delivered.json", "brevo/tracking/"),
        (INBOUND, "tracking-batched.json", "brevo/tracking/"),
    ],
)
def test_the_wrong_webhook(client: Client, events: list[Any], url: str, name: str, advice: str) -> None:
    with pytest.raises(AnymailConfigurationError, match=advice):
        call(url, sample("brevo", name)).post(client)
    assert events == []


def test_a_failing_receiver_makes_brevo_send_again() -> None:
    def fail(**kwargs: Any) -> None:
        raise ValueError("out of order")

    tracking.connect(fail)
    try:
        response = call(TRACKING, event()).post(Client(raise_request_exception=False))
    finally:
        tracking.disconnect(fail)
    # Any other error status ends its retries.
    assert response.status_code == 429


# Inbound: the message of the sample, changed.

MESSAGE = {**sample_json("brevo", "inbound-inboundEmailProcessed.json")["items"][0], "Attachments": []}
HEADERS = MESSAGE["Headers"]


def without(headers: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in headers.items() if name not in names}


def received(client: Client, events: list[Any], **values: Any) -> Any:
    assert call(INBOUND, {"items": [{**MESSAGE, **values}]}).post(client).status_code == 200
    [got] = events
    return got


ENVELOPES: dict[str, tuple[dict[str, Any], str | None]] = {
    "Delivered-To": ({}, "help@reply.example.com"),
    "one recipient": (
        {
            "Headers": without(HEADERS, "Delivered-To"),
            "Recipients": [{"Name": None, "Address": "b@example.com"}],
        },
        "b@example.com",
    ),
    "two recipients": ({"Headers": without(HEADERS, "Delivered-To"), "Recipients": MESSAGE["To"] * 2}, None),
    "no recipient": ({"Headers": without(HEADERS, "Delivered-To"), "Recipients": None}, None),
    "recipients of another shape": ({"Headers": without(HEADERS, "Delivered-To"), "Recipients": ["x"]}, None),
    "the server's own comes first": (
        {"Headers": {**HEADERS, "Delivered-To": ["a@example.com", "forged@example.com"]}},
        "a@example.com",
    ),
}


@pytest.mark.parametrize(("values", "expected"), ENVELOPES.values(), ids=ENVELOPES.keys())
def test_envelope_recipient(client: Client, events: list[Any], values: dict[str, Any], expected: str | None) -> None:
    assert received(client, events, **values).message.envelope_recipient == expected


def test_no_return_path(client: Client, events: list[Any]) -> None:
    got = received(client, events, Headers=without(HEADERS, "Return-Path"))
    assert got.message.envelope_sender is None


@pytest.mark.parametrize(
    ("values", "score"),
    [
        ({"SpamScore": None, "Spam": {"Score": 3.5}}, 3.5),
        ({"SpamScore": "2.5"}, 2.5),
        ({"SpamScore": "high"}, None),
        ({"SpamScore": None, "Spam": None}, None),
        ({"SpamScore": 0, "Spam": {"Score": 9}}, 0.0),
    ],
)
def test_spam_score(client: Client, events: list[Any], values: dict[str, Any], score: float | None) -> None:
    assert received(client, events, **values).message.spam_score == score


def test_headers_that_only_their_fields_have(client: Client, events: list[Any]) -> None:
    reply_to = {"Name": "Noor", "Address": "reply@example.net"}
    message = received(client, events, Headers={}, ReplyTo=reply_to).message
    assert str(message.from_email) == "Noor Lindqvist <noor@example.net>"
    assert [str(one) for one in (*message.to, *message.cc)] == [
        "Harbor Help <help@reply.example.com>",
        "archive@example.org",
    ]
    assert (message.subject, message["Reply-To"]) == ("Wrong edition in order 8812", "Noor <reply@example.net>")
    assert message.date.isoformat() == "2026-03-05T15:20:28+01:00"
    assert message["Message-ID"] == "<CA.77a1@mail.example.net>"


def test_a_message_with_little_in_it(client: Client, events: list[Any]) -> None:
    body = {"items": [{"RawTextBody": None, "RawHtmlBody": None, "Uuid": [], "ExtractedMarkdownMessage": None}]}
    assert call(INBOUND, body).post(client).status_code == 200
    [got] = events
    assert (got.event_id, got.message.text, got.message.html, got.message.stripped_text) == (None, None, None, None)


def test_a_message_that_cannot_be_read_costs_the_others_nothing(client: Client, events: list[Any]) -> None:
    body = {"items": [7, {**MESSAGE, "To": "x", "Headers": "x"}, MESSAGE]}
    assert call(INBOUND, body).post(client).status_code == 200
    assert [one.event_id for one in events] == [MESSAGE["Uuid"][0]]


ONE_FILE = {"Name": "", "ContentType": "message/rfc822", "ContentID": None, "DownloadToken": "../a?b#c"}


def fetched(*responses: Response) -> Any:
    webhook = BrevoInbound(load(BrevoInbound.Options, BrevoInbound.prefixes, {"api_key": "key"}))
    return drive(webhook.read({**MESSAGE, "Attachments": [ONE_FILE]}), *responses)


def test_an_attachment_without_a_name() -> None:
    [request], [got] = fetched(Response(200, {}, b"Subject: x\r\n\r\n"))
    assert request.url == "https://api.brevo.com/v3/inbound/attachments/..%2Fa%3Fb%23c"
    [part] = got.message.attachments
    assert (part.get_content_type(), part.get_filename()) == ("message/rfc822", None)


def test_an_attachment_that_brevo_no_longer_has() -> None:
    _, [got] = fetched(answer(404, {"code": "document_not_found", "message": "Gone"}))
    assert got.message.attachments == []
    assert got.message.subject == "Wrong edition in order 8812"


@pytest.mark.parametrize("status", [401, 429, 500, 503])
def test_an_attachment_that_may_be_had_later(status: int) -> None:
    with pytest.raises(AnymailAPIError):
        fetched(answer(status, {"code": "x", "message": "Later"}))


def test_brevo_sends_again_what_could_not_be_fetched(events: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    client, body = Client(raise_request_exception=False), sample("brevo", "inbound-inboundEmailProcessed.json")
    monkeypatch.setattr(BrevoApi, "status", 500)
    assert call(INBOUND, body).post(client).status_code == 429
    assert events == []


@override_settings(ANYMAIL={"WEBHOOK_SECRET": "anvil:tide-88"})
def test_inbound_needs_the_key(client: Client) -> None:
    with pytest.raises(AnymailConfigurationError, match="BREVO_API_KEY"):
        call(INBOUND, {"items": []}).post(client)


# Verification.

BEARER = {"BREVO_WEBHOOK_TOKEN": ["old", "tide-88"]}
OWN_HEADERS = {"BREVO_WEBHOOK_SECRET_HEADERS": {"X-Shop-Key": ["old", "tide-88"], "X-Two": "2"}}
TWO_HEADERS = {"X-Shop-Key": "tide-88", "X-Two": "2"}

# The settings, the headers of a call, and the status of its answer.
VERIFIED: dict[str, tuple[dict[str, Any], dict[str, str], int]] = {
    "basic auth": ({}, BASIC_AUTH, 200),
    "no basic auth": ({}, {}, 400),
    "wrong basic auth": ({}, {"Authorization": "Basic YW52aWw6dGlkZS04OQ=="}, 400),
    "bearer": (BEARER, {"Authorization": "Bearer tide-88"}, 200),
    "bearer in lower case": (BEARER, {"Authorization": "bearer tide-88"}, 200),
    "bearer, the old token": (BEARER, {"Authorization": "Bearer old"}, 200),
    "bearer, wrong": (BEARER, {"Authorization": "Bearer tide-89"}, 400),
    "bearer, truncated": (BEARER, {"Authorization": "Bearer tide-8"}, 400),
    "bearer, suffixed": (BEARER, {"Authorization": "Bearer tide-88x"}, 400),
    "bearer, empty": (BEARER, {"Authorization": "Bearer "}, 400),
    "bearer, bare": (BEARER, {"Authorization": "tide-88"}, 400),
    "bearer, another scheme": (BEARER, {"Authorization": "Token tide-88"}, 400),
    "bearer, not ASCII": (BEARER, {"Authorization": "Bearer tïde-88"}, 400),
    "bearer, none": (BEARER, {}, 400),
    "own headers": (OWN_HEADERS, TWO_HEADERS, 200),
    "own headers, the old value": (OWN_HEADERS, {**TWO_HEADERS, "X-Shop-Key": "old"}, 200),
    "own headers, one wrong": (OWN_HEADERS, {**TWO_HEADERS, "X-Two": "3"}, 400),
    "own headers, one empty": (OWN_HEADERS, {**TWO_HEADERS, "X-Shop-Key": ""}, 400),
    "own headers, one missing": (OWN_HEADERS, {"X-Shop-Key": "tide-88"}, 400),
}


@pytest.mark.parametrize("url", [TRACKING, INBOUND])
@pytest.mark.parametrize(("settings", "headers", "status"), VERIFIED.values(), ids=VERIFIED.keys())
@pytest.mark.filterwarnings("error::anymail.exceptions.AnymailInsecureWebhookWarning")
def test_verification(
    client: Client, events: list[Any], settings: dict[str, Any], headers: dict[str, str], status: int, url: str
) -> None:
    body = event() if url == TRACKING else {"items": [MESSAGE]}
    secret = {"WEBHOOK_SECRET": None} if settings else {}
    with override_settings(ANYMAIL={**SETTINGS, **secret, **settings}):
        assert call(url, body, headers).post(client).status_code == status
    assert len(events) == (status == 200)


@pytest.mark.parametrize(
    "settings",
    [
        {"BREVO_WEBHOOK_TOKEN": ""},
        {"BREVO_WEBHOOK_TOKEN": ["good", " "]},
        {"BREVO_WEBHOOK_SECRET_HEADERS": {"X-Shop-Key": ""}},
        {"BREVO_WEBHOOK_SECRET_HEADERS": "X-Shop-Key: 1"},
    ],
)
def test_bad_secrets(client: Client, settings: dict[str, Any]) -> None:
    with override_settings(ANYMAIL=settings), pytest.raises(AnymailConfigurationError, match="BREVO_WEBHOOK"):
        call(TRACKING, event()).post(client)


@override_settings(ANYMAIL={"WEBHOOK_ALLOW_UNVERIFIED": ["brevo"]})
def test_anyone_may_call(client: Client) -> None:
    with pytest.warns(AnymailInsecureWebhookWarning, match="Brevo"):
        call(TRACKING, event(), {}).post(client)


class TestTheOldName:
    @pytest.mark.parametrize(
        ("name", "url"), [("tracking", "/anymail/sendinblue/tracking/"), ("inbound", "/anymail/sendinblue/inbound/")]
    )
    def test_urls(self, client: Client, events: list[Any], name: str, url: str) -> None:
        assert reverse(f"anymail:sendinblue_{name}_webhook") == url
        body = event() if name == "tracking" else {"items": [MESSAGE]}
        with pytest.warns(AnymailDeprecationWarning, match=f"brevo/{name}/"):
            response = call(url, body).post(client)
        assert response.status_code == 200
        assert len(events) == 1

    def test_signals_have_the_old_name_and_sender(self, client: Client) -> None:
        got: list[tuple[Any, str]] = []

        def receive(sender: Any, esp_name: str, **kwargs: Any) -> None:
            got.append((sender, esp_name))

        tracking.connect(receive)
        try:
            for name in ("sendinblue", "brevo"):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", AnymailDeprecationWarning)
                    call(f"/anymail/{name}/tracking/", event(id=name)).post(client)
        finally:
            tracking.disconnect(receive)
        assert got == [(SendinBlueTrackingWebhookView, "SendinBlue"), (BrevoTrackingWebhookView, "Brevo")]

    def test_urls_need_no_csrf_token(self, events: list[Any]) -> None:
        client = Client(enforce_csrf_checks=True)
        with pytest.warns(AnymailDeprecationWarning):
            response = call("/anymail/sendinblue/tracking/", event()).post(client)
        assert (response.status_code, len(events)) == (200, 1)

    def test_settings(self, client: Client, events: list[Any]) -> None:
        settings = {"SENDINBLUE_API_KEY": "old", "SENDINBLUE_WEBHOOK_SECRET": "anvil:tide-88"}
        with override_settings(ANYMAIL=settings):
            with pytest.warns(AnymailDeprecationWarning, match="SENDINBLUE"):
                authentic = call(INBOUND, {"items": [MESSAGE]}).post(client)
            forged = call(INBOUND, {"items": [MESSAGE]}, {}).post(client)
        assert (authentic.status_code, forged.status_code) == (200, 400)
        assert len(events) == 1

    def test_views(self) -> None:
        with pytest.warns(AnymailDeprecationWarning, match=r"anymail\.webhooks\.brevo"):
            module = importlib.reload(importlib.import_module("anymail.webhooks.sendinblue"))
        assert issubclass(module.SendinBlueTrackingWebhookView, BrevoTrackingWebhookView)
        assert issubclass(module.SendinBlueInboundWebhookView, BrevoInboundWebhookView)


@pytest.mark.parametrize("token", ["", ".", "..", None])
@override_settings(ANYMAIL=SETTINGS)
def test_a_download_token_is_one_segment_of_the_path(client: Client, events: list[Any], token: Any) -> None:
    BrevoApi.calls.clear()
    body = json.dumps({"items": [{"Attachments": [{"DownloadToken": token}]}]}).encode()
    assert Call(INBOUND, body, BASIC_AUTH).post(client).status_code == 400
    assert BrevoApi.calls == []
    assert events == []
