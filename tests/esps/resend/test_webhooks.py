"""Resend: webhook bodies (files) and the events they become; received mail and how it is fetched."""

from __future__ import annotations

import json
import time
from base64 import b64decode
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
from django.test import Client, override_settings

from anymail.conf import load
from anymail.esps.resend.inbound import ResendInbound, ResendInboundOptions
from anymail.esps.resend.sandbox import signed
from anymail.esps.resend.tracking import Call as ResendCall
from anymail.esps.resend.tracking import signature, signing_key
from anymail.exceptions import AnymailAPIError, AnymailConfigurationError, AnymailWebhookValidationFailure
from anymail.wire import Response
from esps.resend.signed import INBOUND, INBOUND_SECRET, OLD_SECRET, TRACKING, TRACKING_SECRET
from support import Call, answer, assert_inbound, assert_tracking, drive, expectations, sample, sample_json

HEADERS = sample_json("resend", "headers.json")["headers"]
EXPECTED = expectations("resend")
TRACKED = [name for name in EXPECTED if name.startswith("tracking")]
ANY_TIME = {**TRACKING, **INBOUND, "WEBHOOK_MAX_AGE": None}


def call(kind: str, name: str) -> Call:
    return Call(f"/anymail/resend/{kind}/", sample("resend", name), HEADERS[name])


def fresh(kind: str, payload: Any) -> Call:
    """An authentic call of now."""
    body = json.dumps(payload).encode()
    secret = TRACKING_SECRET if kind == "tracking" else INBOUND_SECRET
    return Call(f"/anymail/resend/{kind}/", body, signed(secret, "msg_1", int(time.time()), body))


@pytest.mark.parametrize("name", TRACKED)
@override_settings(ANYMAIL=ANY_TIME)
def test_events(client: Client, events: list[Any], name: str) -> None:
    assert call("tracking", name).post(client).status_code == 200
    assert_tracking(events, EXPECTED[name])
    assert events[0].esp_event == json.loads(sample("resend", name))


def test_every_sample_is_expected() -> None:
    assert set(EXPECTED) == set(HEADERS)


@override_settings(ANYMAIL=ANY_TIME)
def test_received_mail(client: Client, events: list[Any]) -> None:
    assert call("inbound", "inbound-email.received.json").post(client).status_code == 200
    [expected] = EXPECTED["inbound-email.received.json"]
    assert str(events[0].message.from_email) == expected["from_email"]
    assert_inbound(events, [{**expected, "from_email": "noor@example.net"}])


# A payload's type, its data, and what the event then has.
DETAILS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "unknown type": (
        "email.vanished",
        {"email_id": "m", "to": ["a@b.c"]},
        {"event_type": "unknown", "message_id": "m"},
    ),
    "no bounce": ("email.bounced", {}, {"event_type": "bounced", "reject_reason": None}),
    "bounced for the suppression list": (
        "email.bounced",
        {"bounce": {"type": "Permanent", "subType": "OnAccountSuppressionList"}},
        {"reject_reason": "blocked"},
    ),
    "bounced, in words only": (
        "email.bounced",
        {"bounce": {"message": "The recipient's provider sent a general bounce message."}},
        {"reject_reason": "bounced"},
    ),
    "suppressed, in words only": (
        "email.bounced",
        {"bounce": {"message": "Resend has suppressed sending to this address."}},
        {"reject_reason": "blocked"},
    ),
    "bounced in an unknown way": (
        "email.bounced",
        {"bounce": {"type": "Odd", "message": "Odd."}},
        {"reject_reason": "other", "description": "Odd."},
    ),
    "undetermined": ("email.bounced", {"bounce": {"type": "Undetermined"}}, {"reject_reason": "bounced"}),
    "suppressed by hand": ("email.suppressed", {"suppressed": {"reason": "manual"}}, {"reject_reason": "blocked"}),
    "one diagnostic": ("email.bounced", {"bounce": {"diagnosticCode": "smtp; 550"}}, {"mta_response": "smtp; 550"}),
    "several diagnostics": (
        "email.bounced",
        {"bounce": {"diagnosticCode": ["smtp; 450", "smtp; 550"]}},
        {"mta_response": "smtp; 450\nsmtp; 550"},
    ),
    "header names in lower case": (
        "email.sent",
        {"headers": [{"name": "x-tags", "value": '["a"]'}, {"name": "x-metadata", "value": '{"n": 1}'}]},
        {"tags": ["a"], "metadata": {"n": 1}},
    ),
    "headers that are not ours": (
        "email.sent",
        {"headers": [{"name": "X-Tags", "value": "spring"}, {"name": "X-Metadata", "value": '["a"]'}]},
        {"tags": [], "metadata": {}},
    ),
    "a display name with angle brackets": ("email.sent", {"to": ['"a <b>" <c@d.e>']}, {"recipient": "c@d.e"}),
    "a string for a list": ("email.sent", {"to": "a@b.c"}, {"recipient": "a@b.c"}),
    "native tags stay raw": ("email.sent", {"tags": {"campaign": "spring"}}, {"tags": []}),
    "no data": ("email.sent", None, {"event_type": "sent", "recipient": None}),
    "malformed values": (
        "email.clicked",
        {
            "email_id": 7,
            "to": [],
            "headers": {"X-Tags": []},
            "click": "x",
            "bounce": ["x"],
            "suppressed": 1,
            "failed": "x",
        },
        {"event_type": "clicked", "message_id": None, "recipient": None, "click_url": None, "tags": []},
    ),
    "malformed headers": (
        "email.sent",
        {"headers": [1, {"name": None, "value": "x"}, {"name": "X-Metadata", "value": {"a": 1}}]},
        {"metadata": {}},
    ),
}


@pytest.mark.parametrize(("kind", "data", "expected"), DETAILS.values(), ids=DETAILS.keys())
@override_settings(ANYMAIL=TRACKING)
def test_details(client: Client, events: list[Any], kind: str, data: Any, expected: dict[str, Any]) -> None:
    assert fresh("tracking", {"type": kind, "created_at": None, "data": data}).post(client).status_code == 200
    [event] = events
    assert {name: getattr(event, name) for name in expected} == expected
    assert event.timestamp is None
    assert event.event_id == "msg_1"


@pytest.mark.parametrize("body", [b"[]", b"null", b'"x"', b"{", b"\xff", b"[1]"])
@pytest.mark.parametrize("kind", ["tracking", "inbound"])
@override_settings(ANYMAIL=ANY_TIME)
def test_bodies_of_the_wrong_shape(client: Client, events: list[Any], kind: str, body: bytes) -> None:
    secret = TRACKING_SECRET if kind == "tracking" else INBOUND_SECRET
    made = Call(f"/anymail/resend/{kind}/", body, signed(secret, "msg_1", 1, body))
    assert made.post(client).status_code == 400
    assert events == []


WRONG_WEBHOOK = {
    "received mail at the tracking URL": ("tracking", "email.received", "resend/inbound/"),
    "tracking at the inbound URL": ("inbound", "email.delivered", "email.delivered.*resend/tracking/"),
    "a contact at the inbound URL": ("inbound", "contact.updated", "contact.updated.*resend/tracking/"),
}


@pytest.mark.parametrize(("kind", "event_type", "says"), WRONG_WEBHOOK.values(), ids=WRONG_WEBHOOK.keys())
@override_settings(ANYMAIL=ANY_TIME)
def test_the_wrong_webhook(client: Client, events: list[Any], kind: str, event_type: str, says: str) -> None:
    with pytest.raises(AnymailConfigurationError, match=says):
        fresh(kind, {"type": event_type, "data": {"email_id": "m"}}).post(client)
    assert events == []


class TestSignature:
    DELIVERED = call("tracking", "tracking-email.delivered.json")

    def test_vector(self) -> None:
        key = signing_key(TRACKING_SECRET, "")
        assert key == b"anymail-sheet-resend-key"
        given = signature(key, "msg_2vc7a9fd3fc67482aaa3ef6b46", "1772615741", self.DELIVERED.body)
        assert given == "vhg7dS2o2mkhqSSqN5ZJSI31VHf37VebP5blLfdbGOw="

    @override_settings(ANYMAIL=TRACKING)
    def test_within_five_minutes(self, client: Client, events: list[Any]) -> None:
        with mock.patch("time.time", return_value=1772615741.0):
            webhook_clock = mock.patch(
                "anymail.webhooks.base.AnymailWebhookView.webhook", _webhook_at(1772615741 + 299)
            )
            with webhook_clock:
                assert self.DELIVERED.post(client).status_code == 200
        assert len(events) == 1

    @override_settings(ANYMAIL=TRACKING)
    def test_after_five_minutes(self, client: Client, events: list[Any]) -> None:
        with mock.patch("anymail.webhooks.base.AnymailWebhookView.webhook", _webhook_at(1772615741 + 301)):
            assert self.DELIVERED.post(client).status_code == 400
        assert events == []

    # The svix-signature, "{}" being the right one, and the answer.
    LISTS = {
        "second of two, after a rotation": ("v1,AAAA {}", 200),
        "first of two": ("{} v1,AAAA", 200),
        "another version beside it": ("v1a,AAAA {}", 200),
        "the right one under another version": ("v2,{bare}", 400),
        "the right one without a version": ("{bare}", 400),
        "spaces": ("   ", 400),
    }

    @pytest.mark.parametrize(("template", "status"), LISTS.values(), ids=LISTS.keys())
    @override_settings(ANYMAIL=ANY_TIME)
    def test_lists(self, client: Client, template: str, status: int) -> None:
        right = self.DELIVERED.headers["svix-signature"]
        given = template.format(right, bare=right.removeprefix("v1,"))
        changed = replace(self.DELIVERED, headers={**self.DELIVERED.headers, "svix-signature": given})
        assert changed.post(client).status_code == status

    @pytest.mark.parametrize("name", ["svix-id", "svix-timestamp", "svix-signature"])
    @override_settings(ANYMAIL=ANY_TIME)
    def test_every_header_is_needed(self, client: Client, events: list[Any], name: str) -> None:
        headers = {key: value for key, value in self.DELIVERED.headers.items() if key != name}
        assert replace(self.DELIVERED, headers=headers).post(client).status_code == 400
        assert events == []

    @pytest.mark.parametrize("name", ["svix-id", "svix-timestamp"])
    @override_settings(ANYMAIL=ANY_TIME)
    def test_every_header_is_signed(self, client: Client, events: list[Any], name: str) -> None:
        headers = {**self.DELIVERED.headers, name: self.DELIVERED.headers[name] + "1"}
        assert replace(self.DELIVERED, headers=headers).post(client).status_code == 400
        assert events == []

    @pytest.mark.parametrize("timestamp", ["NaN", "-1", "1e20", "1772615741000", "1772615741.5", "٣"])
    @override_settings(ANYMAIL=ANY_TIME)
    def test_timestamps_that_are_none(self, client: Client, events: list[Any], timestamp: str) -> None:
        body = self.DELIVERED.body
        given = signature(signing_key(TRACKING_SECRET, ""), "msg_1", timestamp, body)
        headers = {"svix-id": "msg_1", "svix-timestamp": timestamp, "svix-signature": f"v1,{given}"}
        assert replace(self.DELIVERED, headers=headers).post(client).status_code == 400
        assert events == []

    @override_settings(ANYMAIL=ANY_TIME)
    def test_the_names_of_the_standard_webhooks(self, client: Client, events: list[Any]) -> None:
        headers = {name.replace("svix", "webhook"): value for name, value in self.DELIVERED.headers.items()}
        assert replace(self.DELIVERED, headers=headers).post(client).status_code == 200
        assert events[0].event_id == "msg_2vc7a9fd3fc67482aaa3ef6b46"

    @override_settings(ANYMAIL=ANY_TIME)
    def test_each_endpoint_has_its_own_secret(self, client: Client, events: list[Any]) -> None:
        made = call("inbound", "inbound-email.received.json")
        body = made.body
        forged = replace(made, headers=signed(TRACKING_SECRET, "msg_1", 1772616147, body))
        assert forged.post(client).status_code == 400
        assert events == []

    @pytest.mark.parametrize("secret", ["whsec_", "whsec_not base64!", "whsec_ÿÿÿÿ", "re_key"])
    def test_a_secret_that_is_none(self, client: Client, events: list[Any], secret: str) -> None:
        settings = {"RESEND_SIGNING_SECRET": [OLD_SECRET, secret], "WEBHOOK_MAX_AGE": None}
        with (
            override_settings(ANYMAIL=settings),
            pytest.raises(AnymailConfigurationError, match="RESEND_SIGNING_SECRET") as raised,
        ):
            self.DELIVERED.post(client)
        assert OLD_SECRET not in str(raised.value)
        assert events == []

    @override_settings(ANYMAIL={"WEBHOOK_SECRET": "user:pass"})
    def test_basic_auth_instead(self, client: Client, events: list[Any]) -> None:
        basic = {"Authorization": "Basic dXNlcjpwYXNz"}
        assert replace(self.DELIVERED, headers=basic).post(client).status_code == 200
        assert events[0].event_id is None


def _webhook_at(now: float) -> Any:
    """``AnymailWebhookView.webhook``, with its clock at ``now``."""

    def webhook(view: Any) -> Any:
        cls = view.webhook_class
        return cls(load(cls.Options, (cls.slug.upper(),), {}), clock=lambda: now)

    return webhook


# Received mail: the calls of the flow, driven by hand.

ID = "c4e19a70-52d3-4f0b-a7e6-6d1b9c3f8a25"
API = "https://api.resend.com/emails/receiving"
RECEIVED = json.loads(sample("resend", "inbound-email.received.json"))
EMAIL = sample_json("resend", "api-receiving-email.json")
RAW = Response(200, {}, sample("resend", "raw-email.received.eml"))
FILES = sample_json("resend", "api-receiving-attachments.json")
CONTENTS = [
    Response(200, {}, b64decode(one["content_base64"]))
    for one in sample_json("resend", "api-attachment-contents.json").values()
]


def flow(payload: Any = RECEIVED, **options: Any) -> Any:
    webhook = ResendInbound(load(ResendInboundOptions, ("RESEND",), {"api_key": "re_full", **options}))
    return webhook.read(ResendCall("msg_2ve800e6447397376b4ca80639", payload))


def test_raw_mime_is_fetched() -> None:
    requests, [event] = drive(flow(), answer(200, EMAIL), RAW)
    assert [(request.method, request.url) for request in requests] == [
        ("GET", f"{API}/{ID}?html_format=cid"),
        ("GET", EMAIL["raw"]["download_url"]),
    ]
    assert requests[0].headers["Authorization"] == "Bearer re_full"
    assert "Authorization" not in requests[1].headers
    assert all(request.headers["User-Agent"].startswith("anymail/") for request in requests)
    assert event.message["Message-ID"] == "<CA.77a1@mail.example.net>"


def test_without_raw_mime_the_parts_are_fetched() -> None:
    [expected] = EXPECTED["inbound-email.received.json"]
    without_raw = {**EMAIL, "raw": None, "text": EMAIL["text"].replace("\n", "\r\n")}
    requests, events = drive(flow(), answer(200, without_raw), answer(200, FILES), *CONTENTS)
    assert [request.url for request in requests[1:]] == [
        f"{API}/{ID}/attachments",
        *(one["download_url"] for one in FILES["data"]),
    ]
    assert ["Authorization" in request.headers for request in requests] == [True, True, False, False]
    assert str(events[0].message.from_email) == expected["from_email"]
    assert_inbound(events, [{**expected, "from_email": "noor@example.net"}])
    # Taken apart by Resend, so there is no text of it.
    assert events[0].message["DKIM-Signature"] is None


def test_what_resend_may_leave_out() -> None:
    fields = {**dict.fromkeys(EMAIL), "id": ID, "from": "noor@example.net", "to": ["a@b.c", "d@e.f"]}
    fields = {**fields, "reply_to": ["r@example.net"], "message_id": "<m@example.net>", "subject": "Hi"}
    requests, [event] = drive(flow(), answer(200, fields))
    assert len(requests) == 1
    received = event.message
    assert (str(received.from_email), [str(to) for to in received.to]) == ("noor@example.net", ["a@b.c", "d@e.f"])
    assert (received["Reply-To"], received["Message-ID"], received.subject) == (
        "r@example.net",
        "<m@example.net>",
        "Hi",
    )
    assert not any((received.text, received.html, received.attachments))
    assert (received.envelope_sender, received.envelope_recipient) == (None, None)


def test_attachments_come_in_pages() -> None:
    first, second = FILES["data"]
    pages = [{**FILES, "has_more": True, "data": [first]}, {**FILES, "data": [second]}]
    answers = [answer(200, {**EMAIL, "raw": None}), answer(200, pages[0]), CONTENTS[0], answer(200, pages[1])]
    requests, [event] = drive(flow(), *answers, CONTENTS[1])
    assert requests[3].url == f"{API}/{ID}/attachments?after={first['id']}"
    assert [one.get_filename() for one in (*event.message.inlines, *event.message.attachments)] == [
        "cover.png",
        "order.csv",
    ]


def test_an_attachment_with_a_content_id_is_still_one() -> None:
    file = {**FILES["data"][0], "content_disposition": "attachment"}
    answers = [answer(200, {**EMAIL, "raw": None}), answer(200, {**FILES, "data": [file]}), CONTENTS[0]]
    _, [event] = drive(flow(), *answers)
    assert [one.get_filename() for one in event.message.attachments] == ["cover.png"]


@pytest.mark.parametrize("received_for", [None, [], ["a@b.c", "d@e.f"], "a@b.c", [7]])
def test_envelope_recipient_is_not_guessed(received_for: Any) -> None:
    _, [event] = drive(flow(), answer(200, {**EMAIL, "received_for": received_for}), RAW)
    assert event.message.envelope_recipient is None


FETCH_FAILURES: dict[str, list[Any]] = {
    "sending-only key": [answer(401, {"name": "restricted_api_key", "message": "Only sending."})],
    "its fault": [answer(500, "Oops")],
    "not an object": [answer(200, [])],
    "raw URL gone": [answer(200, EMAIL), Response(403, {}, b"<Error>Expired</Error>")],
    "raw URL redirects": [answer(200, EMAIL), Response(302, {"Location": "http://169.254.169.254/"})],
    "raw URL not https": [answer(200, {**EMAIL, "raw": {"download_url": "http://169.254.169.254/latest"}})],
    "raw URL a file": [answer(200, {**EMAIL, "raw": {"download_url": "file:///etc/passwd"}})],
    "raw URL not text": [answer(200, {**EMAIL, "raw": {"download_url": 7}})],
    "no list of attachments": [answer(200, {**EMAIL, "raw": None}), answer(404, {"name": "not_found"})],
    "attachment without URL": [answer(200, {**EMAIL, "raw": None}), answer(200, {**FILES, "data": [{"id": "x"}]})],
}


@pytest.mark.parametrize("answers", FETCH_FAILURES.values(), ids=FETCH_FAILURES.keys())
def test_what_cannot_be_fetched_is_an_error(answers: list[Any]) -> None:
    with pytest.raises(AnymailAPIError):
        drive(flow(), *answers)


def test_a_failed_fetch_makes_resend_try_again(client: Client, events: list[Any]) -> None:
    class Failing:
        def __init__(self, **timeouts: Any) -> None:
            pass

        def send(self, request: Any) -> Response:
            return answer(401, {"name": "restricted_api_key", "message": "Only sending."})

    with (
        override_settings(ANYMAIL={**ANY_TIME, "TRANSPORT": Failing}),
        pytest.raises(AnymailAPIError, match="restricted_api_key"),
    ):
        call("inbound", "inbound-email.received.json").post(client)
    assert events == []


def test_an_id_is_no_path() -> None:
    payload = {"type": "email.received", "data": {"email_id": "x/../../y?z#"}}
    assert next(flow(payload)).url == f"{API}/x%2F..%2F..%2Fy%3Fz%23?html_format=cid"


@pytest.mark.parametrize("answered", [{"object": "list", "data": []}, {**EMAIL, "id": "another"}])
def test_the_answer_is_to_be_that_email(answered: Any) -> None:
    with pytest.raises(AnymailWebhookValidationFailure):
        drive(flow(), answer(200, answered))


@pytest.mark.parametrize(
    "payload", [{}, {"type": 7}, {"type": "email.received"}, {"type": "email.received", "data": {"email_id": 7}}]
)
@override_settings(ANYMAIL=ANY_TIME)
def test_calls_that_name_no_email(client: Client, events: list[Any], payload: Any) -> None:
    assert fresh("inbound", payload).post(client).status_code == 400
    assert events == []


def test_the_inbound_view_needs_an_api_key(client: Client, events: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    with override_settings(ANYMAIL={"RESEND_INBOUND_SECRET": INBOUND_SECRET}):
        assert call("inbound", "inbound-email.received.json").post(client).status_code == 404
    assert "RESEND_API_KEY" in caplog.text
    assert events == []


def test_another_api_for_received_mail() -> None:
    url = "http://127.0.0.1:8025/resend/"
    raw = {"download_url": f"{url}raw/1"}
    requests, _ = drive(flow(api_url=url), answer(200, {**EMAIL, "raw": raw}), RAW)
    assert [request.url for request in requests] == [f"{url}emails/receiving/{ID}?html_format=cid", f"{url}raw/1"]
