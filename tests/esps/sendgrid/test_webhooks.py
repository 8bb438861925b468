"""SendGrid: webhook bodies (files) and the events they become."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any
from unittest import mock

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.test import Client, override_settings

from anymail.exceptions import (
    AnymailConfigurationError,
    AnymailError,
    AnymailImproperlyInstalled,
)
from anymail.webhooks.sendgrid import SendGridInboundWebhookView, SendGridTrackingWebhookView
from esps.sendgrid.signed import SAMPLE_KEY
from support import Call, assert_inbound, assert_tracking, expectations, sample, sample_json

EXPECTED = expectations("sendgrid")
REQUESTS = sample_json("sendgrid", "_requests.json")["requests"]
TRACKING, INBOUND = "/anymail/sendgrid/tracking/", "/anymail/sendgrid/inbound/"
TRACKING_KEY = "SENDGRID_TRACKING_WEBHOOK_VERIFICATION_KEY"
INBOUND_KEY = "SENDGRID_INBOUND_WEBHOOK_VERIFICATION_KEY"
SIGNED = {TRACKING_KEY: SAMPLE_KEY, INBOUND_KEY: SAMPLE_KEY, "WEBHOOK_MAX_AGE": None}
SECRET = {"WEBHOOK_SECRET": "user:pass"}
BASIC_AUTH = {"Authorization": "Basic dXNlcjpwYXNz"}


def call(name: str) -> Call:
    request = REQUESTS[name]
    return Call(request["url_path"], sample("sendgrid", name), request["headers"], request["content_type"])


def inbound_expectation(one: dict[str, Any]) -> dict[str, Any]:
    """The expectation of an inbound event, in the words of ``assert_inbound``."""
    sender = {"addr_spec": one["from_email"], "display_name": one["from_name"]}
    return {**{key: value for key, value in one.items() if key != "to"}, "from_email": sender}


@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("tracking")])
@override_settings(ANYMAIL=SIGNED)
def test_tracking(client: Client, events: list[Any], name: str) -> None:
    assert call(name).post(client).status_code == 200
    assert_tracking(events, EXPECTED[name])


@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("inbound")])
@override_settings(ANYMAIL=SIGNED)
def test_inbound(client: Client, events: list[Any], name: str) -> None:
    assert call(name).post(client).status_code == 200
    assert_inbound(events, [inbound_expectation(one) for one in EXPECTED[name]])
    assert [to.addr_spec for to in events[0].message.to] == EXPECTED[name][0]["to"]
    assert events[0].esp_event.POST["sender_ip"] == "192.0.2.45"
    assert events[0].message["Message-ID"] == "<CAF77x0@mail.example.org>"


@pytest.fixture
def basic_auth() -> Any:
    with override_settings(ANYMAIL=SECRET):
        yield


def public_key(private_key: Any) -> str:
    """The public half of a key, as SendGrid shows it."""
    der = private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b64encode(der).decode()


def post_events(client: Client, *items: Any) -> Any:
    body = json.dumps(items).encode()
    return Call(TRACKING, body, BASIC_AUTH).post(client)


class TestSignature:
    #: From the documentation of the scheme: the body ends with CRLF.
    VECTOR = Call(
        TRACKING,
        b'[{"event":"delivered","email":"alice@example.net"}]\r\n',
        {
            "X-Twilio-Email-Event-Webhook-Timestamp": "1773480421",
            "X-Twilio-Email-Event-Webhook-Signature": "MEQCIE+/ne6sfehXGj7SqZO6ulbHpgLjkhG94eml5qEgEAzFAiB3hUsO54ak0HA"
            "gqZ9aYwEh3SgVdj38TwEf5EXcOacX7Q==",
        },
    )
    PEM = f"-----BEGIN PUBLIC KEY-----\n{SAMPLE_KEY[:64]}\n{SAMPLE_KEY[64:]}\n-----END PUBLIC KEY-----\n"

    @pytest.mark.parametrize("key", [SAMPLE_KEY, f" {SAMPLE_KEY}\n", PEM, PEM.replace("\n", "")])
    def test_vector(self, client: Client, events: list[Any], key: str) -> None:
        with override_settings(ANYMAIL={TRACKING_KEY: key, "WEBHOOK_MAX_AGE": None}):
            assert self.VECTOR.post(client).status_code == 200
        assert [event.event_type for event in events] == ["delivered"]

    NO_KEYS = {
        "another curve": public_key(ec.generate_private_key(ec.SECP384R1())),
        "another algorithm": public_key(ed25519.Ed25519PrivateKey.generate()),
        "an API key": "SG.example",
        "half a key": SAMPLE_KEY[:64],
    }

    @pytest.mark.parametrize("key", NO_KEYS.values(), ids=NO_KEYS.keys())
    def test_a_key_that_is_none(self, client: Client, events: list[Any], key: str) -> None:
        with (
            override_settings(ANYMAIL={TRACKING_KEY: key, "WEBHOOK_MAX_AGE": None}),
            pytest.raises(AnymailConfigurationError, match=TRACKING_KEY),
        ):
            self.VECTOR.post(client)
        assert events == []

    @override_settings(ANYMAIL={TRACKING_KEY: SAMPLE_KEY, "WEBHOOK_MAX_AGE": None})
    def test_without_the_package(self, client: Client) -> None:
        from anymail.esps.sendgrid.tracking import _public_key

        _public_key.cache_clear()
        with (
            mock.patch.dict("sys.modules", {"cryptography.hazmat.primitives.serialization": None}),
            pytest.raises(AnymailImproperlyInstalled, match=r"anymail\[sendgrid\]"),
        ):
            self.VECTOR.post(client)

    @override_settings(SENDGRID_TRACKING_WEBHOOK_VERIFICATION_KEY=SAMPLE_KEY, ANYMAIL={"WEBHOOK_MAX_AGE": None})
    def test_a_bare_setting(self, client: Client, events: list[Any]) -> None:
        assert self.VECTOR.post(client).status_code == 200
        assert Call(TRACKING, self.VECTOR.body).post(client).status_code == 400
        assert len(events) == 1

    def test_a_view_of_its_own(self, rf: Any, events: list[Any]) -> None:
        view = SendGridTrackingWebhookView.as_view(tracking_webhook_verification_key=SAMPLE_KEY, webhook_max_age=None)
        request = rf.post("/x/", self.VECTOR.body, "application/json", headers=self.VECTOR.headers)
        assert view(request).status_code == 200
        assert len(events) == 1

    def test_an_inbound_view_of_its_own(self, rf: Any, events: list[Any]) -> None:
        view = SendGridInboundWebhookView.as_view(inbound_webhook_verification_key=SAMPLE_KEY, webhook_max_age=None)
        raw = call("inbound-raw.txt")
        assert view(rf.post("/x/", raw.body, raw.content_type, headers=raw.headers)).status_code == 200
        assert len(events) == 1

    @override_settings(ANYMAIL={INBOUND_KEY: SAMPLE_KEY})
    def test_the_keys_are_two(self, client: Client, events: list[Any]) -> None:
        assert Call(TRACKING, self.VECTOR.body).post(client).status_code == 404
        assert events == []

    @override_settings(ANYMAIL={INBOUND_KEY: SAMPLE_KEY})
    def test_the_log_says_that_mail_is_lost(self, client: Client, caplog: pytest.LogCaptureFixture) -> None:
        raw = call("inbound-raw.txt")
        assert Call(INBOUND, raw.body, {}, raw.content_type).post(client).status_code == 400
        assert INBOUND_KEY in caplog.text
        assert "lost" in caplog.text


@pytest.mark.usefixtures("basic_auth")
class TestTracking:
    # An event, and what is expected of it.
    EVENTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "unknown word": (
            {"event": "vanished", "email": "ana@example.net", "anymail_id": "m", "order": "1"},
            {"event_type": "unknown", "recipient": "ana@example.net", "message_id": "m", "metadata": {"order": "1"}},
        ),
        "no word": ({"email": "ana@example.net"}, {"event_type": "unknown", "recipient": "ana@example.net"}),
        "no anymail_id": (
            {"event": "delivered", "smtp-id": "<Xj5@ismtpd>"},
            {"event_type": "delivered", "message_id": "<Xj5@ismtpd>"},
        ),
        "no recipient": ({"event": "dropped", "email": ""}, {"event_type": "rejected", "recipient": None}),
        "asynchronous bounce": (
            {"event": "bounce", "reason": "550 no"},
            {"event_type": "bounced", "reject_reason": "bounced", "mta_response": "550 no", "message_id": None},
        ),
        "expired bounce": ({"event": "bounce", "type": "expired"}, {"reject_reason": "timed_out"}),
        "bounce of a new type": ({"event": "bounce", "type": "new"}, {"reject_reason": "other"}),
        "dropped by its type": (
            {"event": "dropped", "type": "Blocked", "reason": "Bounced Address"},
            {"event_type": "rejected", "reject_reason": "blocked", "description": "Bounced Address"},
        ),
        "dropped in other case": ({"event": "dropped", "reason": "SPAM CONTENT"}, {"reject_reason": "spam"}),
        "dropped, expired": ({"event": "dropped", "reason": "expired"}, {"reject_reason": "timed_out"}),
        "dropped, SMTPAPI": ({"event": "dropped", "reason": "Invalid SMTPAPI header"}, {"reject_reason": "other"}),
        "fields that are SendGrid's only elsewhere": (
            {"event": "open", "domain": "d", "from": "f", "bounce_classification": "b", "template_id": "t"},
            {"metadata": {"domain": "d", "from": "f", "bounce_classification": "b", "template_id": "t"}},
        ),
        "fields of Marketing Campaigns": (
            {"event": "open", "mc_stats": "singlesend", "singlesend_id": "s", "template_id": "t", "phase_id": "p"},
            {"metadata": {}},
        ),
        "values of odd types": (
            {"event": ["open"], "email": {}, "anymail_id": 7, "timestamp": "now", "category": {"a": 1}, "reason": 5,
             "sg_event_id": None, "useragent": [], "url": 1, "order": {"a": [1]}},
            {"event_type": "unknown", "recipient": None, "message_id": None, "timestamp": None, "tags": [],
             "event_id": None, "user_agent": None, "click_url": None, "metadata": {"order": {"a": [1]}}},
        ),
    }  # fmt: skip

    @pytest.mark.parametrize(("item", "expected"), EVENTS.values(), ids=EVENTS.keys())
    def test_event(self, client: Client, events: list[Any], item: dict[str, Any], expected: dict[str, Any]) -> None:
        assert post_events(client, item).status_code == 200
        assert_tracking(events, [expected])
        assert events[0].esp_event == item

    def test_an_item_that_is_no_event_costs_the_others_nothing(self, client: Client, events: list[Any]) -> None:
        assert post_events(client, None, {"event": "open"}, "x", {"event": "click"}).status_code == 200
        assert [event.event_type for event in events] == ["opened", "clicked"]

    def test_no_events(self, client: Client, events: list[Any]) -> None:
        assert post_events(client).status_code == 200
        assert events == []

    @pytest.mark.parametrize("body", [b"", b"null", b"{}", b'{"event": "open"}', b'"x"', b"[1]", b"\xff", b"[NaN]"])
    def test_bodies_of_the_wrong_shape(self, client: Client, events: list[Any], body: bytes) -> None:
        assert Call(TRACKING, body, BASIC_AUTH).post(client).status_code == 400
        assert events == []

    def test_inbound_mail_at_the_tracking_url(self, client: Client, events: list[Any]) -> None:
        raw = call("inbound-raw.txt")
        with pytest.raises(AnymailConfigurationError, match="sendgrid/inbound/"):
            Call(TRACKING, raw.body, BASIC_AUTH, raw.content_type).post(client)
        assert events == []

    def test_any_other_form_at_the_tracking_url(self, client: Client, events: list[Any]) -> None:
        assert client.post(TRACKING, {"a": "b"}, headers=BASIC_AUTH).status_code == 400
        assert events == []


def form(**fields: str | bytes) -> bytes:
    """A form as Inbound Parse posts it; a name with a dash has an underscore here."""
    parts = b"".join(
        b'--xYzZY\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
        % (name.replace("_", "-").encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in fields.items()
    )
    return parts + b"--xYzZY--\r\n"


@pytest.mark.usefixtures("basic_auth")
class TestInbound:
    RAW = b"From: a@example.org\r\nTo: b@example.com\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\nCaf\xe9"

    def post(self, client: Client, body: bytes, content_type: str = "multipart/form-data; boundary=xYzZY") -> Any:
        return Call(INBOUND, body, BASIC_AUTH, content_type).post(client)

    def test_raw_mail_in_8_bits(self, client: Client, events: list[Any]) -> None:
        assert self.post(client, form(email=self.RAW)).status_code == 200
        assert events[0].message.text == "Café"

    @pytest.mark.parametrize(
        "envelope",
        [b"", b"null", b"{", b"[]", b'"x"', b'{"to": [], "from": 7}', b'{"to": "x"}', b'{"to": [1]}', b"\xff"],
    )
    def test_an_envelope_that_cannot_be_read(self, client: Client, events: list[Any], envelope: bytes) -> None:
        assert self.post(client, form(email=self.RAW, envelope=envelope, spam_score="high")).status_code == 200
        received = events[0].message
        assert (received.envelope_sender, received.envelope_recipient, received.spam_score) == (None, None, None)

    def test_no_envelope(self, client: Client, events: list[Any]) -> None:
        assert self.post(client, form(email=self.RAW)).status_code == 200
        assert (events[0].message.envelope_sender, events[0].message.envelope_recipient) == (None, None)

    def test_an_unknown_charset(self, client: Client, events: list[Any]) -> None:
        body = form(headers="Subject: Hi\n", text="Grüße", charsets='{"text": "klingon"}')
        assert self.post(client, body).status_code == 200
        assert (events[0].message.text, events[0].message.html) == ("Grüße", None)

    def test_attachments_with_odd_names(self, client: Client, events: list[Any]) -> None:
        """Django's own form parser drops such files."""
        info = {
            "attachment0": {"filename": "..", "type": "application/pdf"},
            "attachment1": {"filename": "../../etc/passwd", "type": "text/plain"},
            "attachment2": {"type": "message/rfc822"},
            "attachment3": {"filename": "lost.txt", "type": "text/plain"},
        }
        parts = form(headers="Subject: Hi\n", text="Hi", attachment_info=json.dumps(info))[: -len(b"--xYzZY--\r\n")]
        for key, name, content in (
            ("attachment0", "..", b"%PDF"),
            ("attachment1", "../../etc/passwd", b"x"),
            ("attachment2", "", b"Subject: in\n\nx\r\n"),
        ):
            parts += (
                b'--xYzZY\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n'
                b"Content-Type: application/octet-stream\r\n\r\n%s\r\n" % (key.encode(), name.encode(), content)
            )
        assert self.post(client, parts + b"--xYzZY--\r\n").status_code == 200
        received = events[0].message.attachments
        assert [(one.get_content_type(), one.get_content_bytes()) for one in received] == [
            ("application/pdf", b"%PDF"),
            ("text/plain", b"x"),
            ("message/rfc822", b"Subject: in\n\nx\r\n"),
        ]
        assert [one.as_uploaded_file().name for one in received][1] == "passwd"

    def test_attachments_in_the_order_of_their_numbers(self, client: Client, events: list[Any]) -> None:
        numbers = [2, 10, 1, 11, 3]
        info = {f"attachment{n}": {"filename": f"{n}.txt", "type": "text/plain"} for n in numbers}
        files = {f"attachment{n}": str(n) for n in numbers}
        body = form(headers="Subject: Hi\n", attachment_info=json.dumps(info), **files)
        assert self.post(client, body).status_code == 200
        assert [one.get_content_text() for one in events[0].message.attachments] == ["1", "2", "3", "10", "11"]

    @override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=1000)
    def test_mail_larger_than_django_takes_otherwise(self, client: Client, events: list[Any]) -> None:
        assert self.post(client, form(email=self.RAW + b"x" * 5000)).status_code == 200
        assert len(events[0].message.text) == 5004

    @override_settings(ANYMAIL={"WEBHOOK_SECRET": "user:pass", "INBOUND_MAX_SIZE": 1000})
    def test_mail_that_is_too_large_is_kept_by_sendgrid(self, client: Client, events: list[Any]) -> None:
        assert self.post(client, form(email=self.RAW + b"x" * 1000)).status_code == 503
        assert events == []

    @pytest.mark.parametrize(
        "body",
        [
            form(subject="neither headers nor email"),
            form(headers="", attachment_info="{"),
            form(headers="", attachment_info='{"attachment1": 7}', attachment1="x"),
            form(headers="", text="x", charsets="[]"),
            form(email=b"X: " + b"x" * 2_000_000 + b"\r\n\r\n"),
        ],
    )
    def test_mail_that_cannot_be_read_is_sent_again(self, client: Client, events: list[Any], body: bytes) -> None:
        """SendGrid drops for good what is answered with 4xx."""
        with pytest.raises(AnymailError, match="Inbound Parse"):
            self.post(client, body)
        client.raise_request_exception = False
        assert self.post(client, body).status_code == 500
        assert events == []

    @pytest.mark.parametrize(
        ("body", "content_type"),
        [
            (b"", "multipart/form-data; boundary=xYzZY"),
            (b"null", "multipart/form-data; boundary=xYzZY"),
            (form(email="x"), "multipart/form-data"),
            (form(email="x"), "multipart/form-data; boundary=other"),
            (form(email="x"), "text/plain"),
            (form(**{f"field{n}": "x" for n in range(20_000)}), "multipart/form-data; boundary=xYzZY"),
            (b"email=x", "application/x-www-form-urlencoded"),
            (b"null", "application/json"),
            (b"[1]", "application/json"),
            (b"{", "application/json"),
        ],
    )
    def test_what_is_no_such_form(self, client: Client, events: list[Any], body: bytes, content_type: str) -> None:
        assert self.post(client, body, content_type).status_code == 400
        assert events == []

    def test_events_at_the_inbound_url(self, client: Client, events: list[Any]) -> None:
        with pytest.raises(AnymailConfigurationError, match="sendgrid/tracking/"):
            self.post(client, sample("sendgrid", "tracking-batch.json"), "application/json")
        assert events == []
