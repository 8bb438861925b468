"""Mailgun: webhook bodies (files) and the events they become."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import urlencode

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpRequest, QueryDict
from django.test import Client, RequestFactory, override_settings
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart
from django.urls import resolve, reverse
from django.utils.datastructures import MultiValueDict

from anymail.conf import Secret
from anymail.esps.mailgun.inbound import MailgunInbound
from anymail.esps.mailgun.tracking import MailgunTracking, MailgunWebhookOptions, signature
from anymail.exceptions import AnymailAPIError, AnymailConfigurationError, AnymailWebhookValidationFailure
from anymail.webhooks.mailgun import MailgunInboundWebhookView, MailgunTrackingWebhookView
from anymail.wire import Request, Response
from esps.mailgun.signed import FORM, KEY, SETTINGS, TOKEN, signed_fields, tracking_call
from support import Call, answer, assert_inbound, assert_tracking, drive, expectations, sample, sample_json

TIMELESS = {**SETTINGS, "WEBHOOK_MAX_AGE": None}
REQUESTS = sample_json("mailgun", "_requests.json")
PARENT_KEY = REQUESTS["parent_webhook_signing_key"]
EXPECTED = expectations("mailgun")
TRACKING, INBOUND = "/anymail/mailgun/tracking/", "/anymail/mailgun/inbound/"
NOW = 1773480412


def call(name: str, url: str | None = None) -> Call:
    request = REQUESTS["requests"][name]
    return Call(url or request["url_path"], sample("mailgun", name), {}, request["content_type"])


@pytest.mark.parametrize("name", [name for name, [one] in EXPECTED.items() if "error" not in one])
@override_settings(ANYMAIL={**TIMELESS, "MAILGUN_WEBHOOK_SIGNING_KEY": [KEY, PARENT_KEY]})
def test_events(client: Client, events: list[Any], name: str) -> None:
    assert call(name).post(client).status_code == 200
    check = assert_inbound if name.startswith("inbound") else assert_tracking
    check(events, EXPECTED[name])


class TestUrls:
    def test_both_inbound_routes_have_the_same_view(self) -> None:
        assert reverse("anymail:mailgun_tracking_webhook") == TRACKING
        assert reverse("anymail:mailgun_inbound_webhook") == INBOUND
        assert resolve(TRACKING).func.view_class is MailgunTrackingWebhookView
        for url in (INBOUND, "/anymail/mailgun/inbound_mime/"):
            assert resolve(url).func.view_class is MailgunInboundWebhookView

    @override_settings(ANYMAIL=TIMELESS)
    def test_either_form_of_a_message_on_either(self, client: Client, events: list[Any]) -> None:
        assert call("inbound-mime.txt", INBOUND).post(client).status_code == 200
        assert call("inbound-parsed.txt", "/anymail/mailgun/inbound_mime/").post(client).status_code == 200
        assert_inbound(events, [*EXPECTED["inbound-mime.txt"], *EXPECTED["inbound-parsed.txt"]])


# The file, the URL that it is posted to, and a word of the error.
WRONG: dict[str, tuple[str, str, str]] = {
    "tracking on inbound": ("tracking-delivered.json", INBOUND, "mailgun/tracking/"),
    "legacy tracking on inbound": ("tracking-legacy-opened.txt", INBOUND, "mailgun/tracking/"),
    "inbound on tracking": ("inbound-mime.txt", TRACKING, "mailgun/inbound_mime/"),
    "parsed inbound on tracking": ("inbound-parsed.txt", TRACKING, "mailgun/inbound_mime/"),
    "stored message, with no API key to fetch it": ("inbound-store-notify.txt", INBOUND, "MAILGUN_API_KEY"),
}


@pytest.mark.parametrize(("name", "url", "words"), WRONG.values(), ids=WRONG.keys())
@override_settings(ANYMAIL=TIMELESS)
def test_the_wrong_webhook(client: Client, events: list[Any], name: str, url: str, words: str) -> None:
    with pytest.raises(AnymailConfigurationError, match=words):
        call(name, url).post(client)
    assert events == []


class TestSignature:
    def test_vector(self) -> None:
        expected = "121e7df20102e12fb51c7d14f92fa17059f86cfb5239d1b7ed631c5136bb58e8"
        assert signature(KEY, "1773480415", TOKEN) == expected

    def test_of_a_subaccount(self, client: Client, events: list[Any]) -> None:
        one = call("tracking-delivered-subaccount.json")
        with override_settings(ANYMAIL=TIMELESS):
            assert one.post(client).status_code == 400
        with override_settings(ANYMAIL={**TIMELESS, "MAILGUN_WEBHOOK_SIGNING_KEY": PARENT_KEY}):
            assert one.post(client).status_code == 200
        assert_tracking(events, EXPECTED["tracking-delivered-subaccount.json"])

    def test_the_api_key_stands_in_for_the_signing_key(self, client: Client, events: list[Any]) -> None:
        with override_settings(ANYMAIL={"WEBHOOK_MAX_AGE": None}, MAILGUN_API_KEY=KEY):
            assert call("tracking-delivered.json").post(client).status_code == 200
        with override_settings(ANYMAIL={**TIMELESS, "MAILGUN_WEBHOOK_SIGNING_KEY": "x", "MAILGUN_API_KEY": KEY}):
            assert call("tracking-opened.json").post(client).status_code == 400
        assert len(events) == 1

    @pytest.mark.parametrize("keyword", ["webhook_signing_key", "api_key"])
    @override_settings(ANYMAIL={"WEBHOOK_MAX_AGE": None})
    def test_key_of_a_view_of_its_own(self, events: list[Any], keyword: str) -> None:
        one = call("tracking-delivered.json")
        view = MailgunTrackingWebhookView.as_view(**{keyword: KEY})
        assert view(RequestFactory().post("/x/", one.body, one.content_type)).status_code == 200
        assert len(events) == 1

    @override_settings(ANYMAIL={"WEBHOOK_SECRET": "user:pass"})
    def test_no_key_is_a_configuration_error(self, client: Client, events: list[Any]) -> None:
        one = call("tracking-delivered.json")
        one.headers["Authorization"] = "Basic dXNlcjpwYXNz"
        with pytest.raises(AnymailConfigurationError, match="MAILGUN_WEBHOOK_SIGNING_KEY"):
            one.post(client)

    def test_a_call_that_was_sent_again_for_eight_hours(self, client: Client, events: list[Any]) -> None:
        with override_settings(ANYMAIL=SETTINGS):
            assert tracking_call(time.time() - 8 * 3600).post(client).status_code == 200
        assert len(events) == 1

    @override_settings(ANYMAIL=TIMELESS)
    def test_a_token_is_good_for_one_body(self, client: Client, events: list[Any]) -> None:
        first = tracking_call(NOW)
        assert first.post(client).status_code == 200
        opened = tracking_call(NOW, sample("mailgun", "tracking-opened.json"))
        assert opened.post(client).status_code == 400
        # The same text is signed, wherever the timestamp ends.
        shifted = json.loads(opened.body)
        shifted["signature"].update(timestamp=f"{NOW}{TOKEN[:1]}", token=TOKEN[1:])
        assert Call(TRACKING, json.dumps(shifted).encode()).post(client).status_code == 400
        assert first.post(client).status_code == 200
        assert [event.event_type for event in events] == ["delivered"]

    @pytest.mark.parametrize(
        "fields",
        [
            None, [], "x", {}, {"signature": None}, {"timestamp": None}, {"token": None}, {"token": ""}, {"token": {}},
            {"token": "\ud800"}, {"timestamp": "\ud800"}, {"timestamp": "NaN"}, {"timestamp": -1}, {"timestamp": 1e20},
            {"timestamp": "1773480412000000"}, {"timestamp": True}, {"signature": ["x"]}, {"signature": "\ud800" * 64},
            {"signature": {"timestamp": "1"}}, {"timestamp": "١٧٧٣٤٨٠٤١٢"},
        ],
    )  # fmt: skip
    @override_settings(ANYMAIL=TIMELESS)
    def test_malformed(self, client: Client, events: list[Any], fields: Any) -> None:
        if isinstance(fields, dict) and fields:
            fields = {**signed_fields(NOW), **fields}
        body = {**sample_json("mailgun", "tracking-delivered.json"), "signature": fields}
        assert Call(TRACKING, json.dumps(body).encode()).post(client).status_code == 400
        assert events == []

    @override_settings(ANYMAIL=SETTINGS)
    def test_a_timestamp_as_a_number(self, client: Client, events: list[Any]) -> None:
        one = tracking_call(int(time.time()))
        body = json.loads(one.body)
        body["signature"]["timestamp"] = int(body["signature"]["timestamp"])
        assert Call(TRACKING, json.dumps(body).encode()).post(client).status_code == 200
        assert len(events) == 1

    @override_settings(ANYMAIL=TIMELESS)
    def test_variables_that_are_named_like_its_fields(self, client: Client, events: list[Any]) -> None:
        variables = {"timestamp": "mine", "token": "mine", "signature": "mine", "url": "mine", "tag": "mine"}
        body = urlencode([*variables.items(), ("event", "opened"), *signed_fields(NOW).items()])
        assert Call(TRACKING, body.encode(), {}, FORM).post(client).status_code == 200
        [event] = events
        assert event.metadata == {name: "mine" for name in variables if name != "tag"}
        assert (event.event_id, event.timestamp.timestamp()) == (TOKEN, NOW)


def tracking_event(client: Client, events: list[Any], **changes: Any) -> Any:
    """The event that a failed delivery with these changes becomes."""
    data = {**sample_json("mailgun", "tracking-failed-permanent-bounce.json")["event-data"], **changes}
    assert tracking_call(NOW, json.dumps({"event-data": data}).encode()).post(client).status_code == 200
    [event] = events
    return event


# What is changed in a permanent failure, the event type and the reject reason.
KINDS: dict[str, tuple[dict[str, Any], str, str | None]] = {
    "stored": ({"event": "stored", "reason": None}, "unknown", None),
    "vanished": ({"event": "vanished", "reason": None}, "unknown", None),
    "no event": ({"event": None, "reason": None}, "unknown", None),
    "severity": ({"severity": "mild"}, "unknown", None),
    "no reason": ({"reason": None}, "bounced", None),
    "by code 605": ({"reason": "generic", "delivery-status": {"code": 605}}, "rejected", "bounced"),
    "by code 606": ({"reason": "x", "delivery-status": {"code": 606}}, "rejected", "unsubscribed"),
    "by code 607": ({"reason": "x", "delivery-status": {"code": 607}}, "rejected", "spam"),
    "by code 625": ({"reason": "x", "delivery-status": {"code": 625}}, "rejected", "blocked"),
    "temporary 605": (
        {"reason": "x", "delivery-status": {"code": 605}, "severity": "temporary"}, "deferred", None,
    ),
    "new suppression": ({"reason": "suppress-new", "delivery-status": {"code": 600}}, "rejected", "other"),
    "blacklisted": ({"reason": "blacklisted", "delivery-status": {"code": 625}}, "rejected", "blocked"),
    "espblock": ({"reason": "espblock"}, "bounced", "blocked"),
    "generic 5xx": ({"reason": "generic"}, "bounced", "bounced"),
    "hardfail 5xx": ({"reason": "hardfail"}, "bounced", "bounced"),
    "generic 4xx": ({"reason": "generic", "delivery-status": {"code": 498}}, "bounced", "other"),
    "delayed": (
        {"reason": "generic", "delivery-status": {"code": 498}, "flags": {"is-delayed-bounce": True}},
        "bounced", "bounced",
    ),
    "unknown": ({"reason": "unknown", "delivery-status": {"code": 498}}, "bounced", "other"),
    "null status": ({"delivery-status": None}, "bounced", "bounced"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "event_type", "reason"), KINDS.values(), ids=KINDS.keys())
@override_settings(ANYMAIL=TIMELESS)
def test_kinds(client: Client, events: list[Any], changes: dict[str, Any], event_type: str, reason: str | None) -> None:
    event = tracking_event(client, events, **changes)
    assert (event.event_type, event.reject_reason) == (event_type, reason)
    assert event.recipient == "alice@example.net"
    assert event.esp_event["event-data"]["severity"] == changes.get("severity", "permanent")


@override_settings(ANYMAIL=TIMELESS)
def test_malformed_values_cost_only_themselves(client: Client, events: list[Any]) -> None:
    event = tracking_event(
        client, events, message=[], tags="x", timestamp="soon", flags=7, recipient=None, reason="generic",
        **{"user-variables": [1], "delivery-status": {"code": [550]}, "client-info": "x"},
    )  # fmt: skip
    assert (event.event_type, event.reject_reason) == ("bounced", "other")
    assert (event.message_id, event.timestamp, event.recipient) == (None, None, None)
    assert (event.tags, event.metadata, event.user_agent) == ([], {}, None)


@override_settings(ANYMAIL=TIMELESS)
def test_a_message_id_in_brackets_stays_as_it_is(client: Client, events: list[Any]) -> None:
    event = tracking_event(client, events, message={"headers": {"message-id": "<1@example.com>"}})
    assert event.message_id == "<1@example.com>"


@pytest.mark.parametrize("data", [None, [], "x", 7])
@override_settings(ANYMAIL=TIMELESS)
def test_a_body_without_an_event(client: Client, events: list[Any], data: Any) -> None:
    assert tracking_call(NOW, json.dumps({"event-data": data}).encode()).post(client).status_code == 400
    assert Call(TRACKING, urlencode(signed_fields(NOW)).encode(), {}, FORM).post(client).status_code == 400
    assert events == []


# What Mailgun says of the program that opened a message, and whether it was a machine.
CLIENTS: dict[str, tuple[Any, bool | None]] = {
    "a person": ({"user-agent": "Firefox", "bot": ""}, False),
    "Apple's proxy": ({"user-agent": "Mozilla/5.0", "bot": "apple"}, True),
    "another machine": ({"bot": "generic"}, True),
    "not said": ({"user-agent": "Firefox"}, None),
    "nonsense": ({"bot": 7}, None),
}


@pytest.mark.parametrize("event_type", ["opened", "clicked"])
@pytest.mark.parametrize(("client_info", "by_machine"), CLIENTS.values(), ids=CLIENTS.keys())
@override_settings(ANYMAIL=TIMELESS)
def test_machines(
    client: Client, events: list[Any], event_type: str, client_info: Any, by_machine: bool | None
) -> None:
    event = tracking_event(client, events, event=event_type, **{"client-info": client_info, "ip": "203.0.113.7"})
    assert (event.event_type, event.by_machine, event.ip) == (event_type, by_machine, "203.0.113.7")


# The status of a failed delivery, and what is told of the receiving server's reply.
CODES: dict[str, tuple[Any, int | None, str | None]] = {
    "both": ({"code": 550, "enhanced-code": "5.1.1"}, 550, "5.1.1"),
    "a bounce that came later": ({"code": 550, "bounce-code": "5.1.1"}, 550, "5.1.1"),
    "Mailgun's own code": ({"code": 605, "enhanced-code": ""}, None, None),
    "Mailgun's own time limit": ({"code": 499}, None, None),
    "in one field": ({"code": 550, "enhanced-code": "550 5.1.1"}, 550, None),
}


@pytest.mark.parametrize(("status", "smtp_code", "enhanced_code"), CODES.values(), ids=CODES.keys())
@override_settings(ANYMAIL=TIMELESS)
def test_codes(
    client: Client, events: list[Any], status: Any, smtp_code: int | None, enhanced_code: str | None
) -> None:
    event = tracking_event(client, events, **{"delivery-status": status})
    assert (event.smtp_code, event.enhanced_code) == (smtp_code, enhanced_code)


def legacy(client: Client, **fields: Any) -> Any:
    body = urlencode({**fields, **signed_fields(NOW)}, doseq=True).encode()
    return Call(TRACKING, body, {}, FORM).post(client)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("499", "timed_out"), ("605", "bounced"), ("606", "unsubscribed"), ("607", "spam"), ("400", "bounced"),
        ("550", "bounced"), ("599", "bounced"), ("600", "other"), ("250", "other"), ("4.2.2", "bounced"),
        ("5.1.10", "bounced"), ("2.0.0", "other"), ("x", "other"), ("", None),
    ],
)  # fmt: skip
@override_settings(ANYMAIL=TIMELESS)
def test_legacy_codes(client: Client, events: list[Any], code: str, reason: str | None) -> None:
    assert legacy(client, event="bounced", code=code).status_code == 200
    assert (events[0].event_type, events[0].reject_reason) == ("bounced", reason)


@override_settings(ANYMAIL=TIMELESS)
def test_an_unknown_legacy_event(client: Client, events: list[Any]) -> None:
    assert legacy(client, event=["vanished", "a variable"], recipient="ana@example.net").status_code == 200
    assert (events[0].event_type, events[0].recipient) == ("unknown", "ana@example.net")
    assert events[0].esp_event["token"] == TOKEN


@override_settings(ANYMAIL=TIMELESS)
def test_legacy_variables_in_several_headers(client: Client, events: list[Any]) -> None:
    headers = [["X-Mailgun-Variables", '{"a": 1}'], ["Subject", "Hi"], ["X-Mailgun-Variables", '{"b": "2"}']]
    assert legacy(client, event="delivered", **{"message-headers": json.dumps(headers)}).status_code == 200
    assert events[0].metadata == {"a": 1, "b": "2"}


@pytest.mark.parametrize(
    "headers", ["", "[", "7", "[7]", '[["X-Mailgun-Variables", "["]]', '[["X-Mailgun-Variables", "7"]]']
)
@override_settings(ANYMAIL=TIMELESS)
def test_legacy_headers_that_cannot_be_read(client: Client, events: list[Any], headers: str) -> None:
    assert legacy(client, event="delivered", **{"message-headers": headers}).status_code == 200
    assert [event.metadata for event in events] == [{}]


def inbound(client: Client, files: dict[str, Any] | None = None, **fields: Any) -> Any:
    """Post a parsed message, as multipart."""
    form = {"recipient": "support@in.example.com", "sender": "carol@example.org", "message-headers": "[]"}
    return client.post(INBOUND, data={**form, **(files or {}), **fields, **signed_fields(NOW)})


def upload(name: str) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, b"data", "image/png")


@override_settings(ANYMAIL=TIMELESS)
def test_a_map_of_content_ids_with_duplicates(client: Client, events: list[Any]) -> None:
    """Messages repeat Content-IDs, and leave them empty; as an object, the map would lose some."""
    content_ids = '{"<a@x>": "attachment-1", "<a@x>": "attachment-2", "<>": "attachment-3", "": "attachment-4"}'
    files = {f"attachment-{n}": upload(f"{n}.png") for n in (10, 1, 2, 3, 4)}
    assert inbound(client, files, **{"content-id-map": content_ids, "attachment-count": "12"}).status_code == 200
    message = events[0].message
    assert [(part.get_filename(), part.content_id) for part in message.inlines] == [
        ("1.png", "a@x"),
        ("2.png", "a@x"),
        ("3.png", None),
        ("4.png", None),
    ]
    assert [part.get_filename() for part in message.attachments] == ["10.png"]


@pytest.mark.parametrize("content_ids", ["", "[", "7", "[7]", '{"<a@x>": 7}'])
@override_settings(ANYMAIL=TIMELESS)
def test_a_map_of_content_ids_that_cannot_be_read(client: Client, events: list[Any], content_ids: str) -> None:
    assert inbound(client, {"attachment-1": upload("1.png")}, **{"content-id-map": content_ids}).status_code == 200
    assert [part.get_filename() for part in events[0].message.attachments] == ["1.png"]


@pytest.mark.parametrize("headers", ["", "[", "7", "[7]", "{}x"])
@override_settings(ANYMAIL=TIMELESS)
def test_headers_that_cannot_be_read(client: Client, events: list[Any], headers: str) -> None:
    assert inbound(client, **{"message-headers": headers}).status_code == 400
    assert events == []


@override_settings(ANYMAIL=TIMELESS)
def test_headers_that_are_named_like_fields(client: Client, events: list[Any]) -> None:
    """Mailgun posts the headers of a message, which its sender chooses, beside the fields of its own."""
    headers = {"body-mime": "X-Mailgun-Sflag: No", "sender": "evil@x", "event": "opened", "token": "x"}
    body = urlencode(
        [
            ("recipient", "support@in.example.com"), ("sender", "carol@example.org"), *headers.items(),
            ("recipient", "evil@x"), ("stripped-text", "evil"),
            ("message-headers", '[["X-Mailgun-Sflag", "Yes"], ["X-Mailgun-Sscore", "7.5"], ["From", "c@x"]]'),
            ("body-plain", "Hello"), ("stripped-text", "Hello"), *signed_fields(NOW).items(),
        ]
    )  # fmt: skip
    assert Call(INBOUND, body.encode(), {}, FORM).post(client).status_code == 200
    [event] = events
    message = event.message
    assert (message.text, message.stripped_text, message.html, event.event_id) == ("Hello", "Hello", None, TOKEN)
    assert (message.envelope_sender, message.envelope_recipient) == ("carol@example.org", "support@in.example.com")
    assert (message.spam_detected, message.spam_score) == (True, 7.5)
    assert isinstance(event.esp_event, HttpRequest)


@override_settings(ANYMAIL=TIMELESS)
def test_a_raw_message_in_latin_1(client: Client, events: list[Any]) -> None:
    raw = b"Subject: =?iso-8859-1?q?Caf=E9?=\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\nCaf\xe9"
    body = urlencode({"body-mime": raw, "sender": "", "recipient": "a@x", **signed_fields(NOW)})
    assert Call(INBOUND, body.encode(), {}, FORM).post(client).status_code == 200
    assert (events[0].message.subject, events[0].message.text) == ("Café", "Café")
    assert (events[0].message.spam_detected, events[0].message.spam_score) == (False, None)


@override_settings(ANYMAIL=TIMELESS)
def test_a_raw_message_in_latin_1_as_multipart(client: Client, events: list[Any]) -> None:
    raw = b"Subject: x\nContent-Type: text/plain; charset=latin-1\nContent-Transfer-Encoding: 8bit\n\nGr\xfc\xdfe"
    fields = {**signed_fields(NOW), "sender": "zoë@example.com", "recipient": "a@example.com", "body-mime": "@RAW@"}
    body = encode_multipart(BOUNDARY, fields).replace(b"@RAW@", raw)
    response = client.generic("POST", INBOUND, body, content_type=MULTIPART_CONTENT)
    assert response.status_code == 200
    message = events[0].message
    assert (message.text, message.envelope_sender, message.as_bytes()) == ("Grüße", "zoë@example.com", raw)


@override_settings(ANYMAIL=TIMELESS)
def test_a_raw_message_as_multipart(client: Client, events: list[Any]) -> None:
    raw = "Subject: Hi\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nCafé"
    response = client.post(INBOUND, data={"body-mime": raw, "recipient": "a@x", **signed_fields(NOW)})
    assert response.status_code == 200
    assert (events[0].message.text, events[0].message.envelope_sender) == ("Café", None)


class TestStoredMessage:
    """A route with store(notify=…) posts the URL of a message, which has its attachments only there."""

    URL = "https://storage-us-east4.api.mailgun.net/v3/domains/in.example.com/messages/BAABAAXfQ2"
    WEBHOOK = MailgunInbound(MailgunWebhookOptions(api_key=Secret("key-test")))
    RAW = "X-Mailgun-Sflag: Yes\r\nSubject: Stored\r\n\r\nHello"

    def request(self, url: str = URL) -> HttpRequest:
        request = HttpRequest()
        request.method, request.content_type = "POST", FORM
        request.POST = QueryDict(sample("mailgun", "inbound-store-notify.txt"), mutable=True)
        request.POST["message-url"] = url
        request._files = MultiValueDict()  # type: ignore[attr-defined]
        return request

    def test_is_fetched(self) -> None:
        [request], [event] = drive(self.WEBHOOK.read(self.request()), answer(200, {"body-mime": self.RAW}))
        assert (request.method, request.url) == ("GET", self.URL)
        assert dict(request.headers) == {
            "Accept": "message/rfc2822",
            "Authorization": "Basic YXBpOmtleS10ZXN0",
        }
        assert (event.message.subject, event.message.text, event.message.spam_detected) == ("Stored", "Hello", True)
        assert event.message.envelope_recipient == "support@in.example.com"
        assert event.message.stripped_text == "Thanks, got it."

    @pytest.mark.parametrize(
        "url",
        [
            "http://storage.api.mailgun.net/v3/domains/x/messages/y",
            "https://mailgun.net.example.com/v3/domains/x/messages/y",
            "https://evilmailgun.net/v3/domains/x/messages/y",
            "https://api.mailgun.net:8443/v3/domains/x/messages/y",
            "https://api.mailgun.net@example.com/v3/domains/x/messages/y",
            "https://example.com/.mailgun.net/v3/domains/x/messages/y",
            "https://example.com\\.api.mailgun.net/v3/domains/x/messages/y",
            "https://api.mailgun.net/v3/domains/x y",
            "https://api.mailgun.net/v3/domains/x\n",
            "https://api.mailgun.net/v4/other",
            "",
        ],
    )
    def test_only_from_mailgun(self, url: str) -> None:
        with pytest.raises(AnymailWebhookValidationFailure, match="message-url"):
            drive(self.WEBHOOK.read(self.request(url)))

    def test_through_the_view(self, client: Client, events: list[Any]) -> None:
        class Mailgun:
            def __init__(self, **timeouts: Any) -> None: ...

            def send(self, request: Request) -> Response:
                return answer(200, {"body-mime": TestStoredMessage.RAW})

        with override_settings(ANYMAIL={**TIMELESS, "MAILGUN_API_KEY": "key-test", "TRANSPORT": Mailgun}):
            assert call("inbound-store-notify.txt").post(client).status_code == 200
        assert [event.message.subject for event in events] == ["Stored"]

    @pytest.mark.parametrize("response", [answer(404, {"message": "gone"}), answer(200, "x"), answer(200, {}),
                                          answer(200, [1])])  # fmt: skip
    def test_that_cannot_be_fetched(self, response: Any) -> None:
        with pytest.raises(AnymailAPIError):
            drive(self.WEBHOOK.read(self.request()), response)


def test_the_default_age_is_longer_than_mailgun_goes_on() -> None:
    assert MailgunTracking.default_max_age == MailgunInbound.default_max_age == 43200
