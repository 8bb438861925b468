"""Postal: webhook bodies (files) and the events they become."""

from __future__ import annotations

import datetime as dt
import json
import sys
from base64 import b64encode
from dataclasses import replace
from typing import Any
from unittest import mock
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.test import Client, override_settings

from anymail.esps.postal import tracking
from anymail.esps.postal.sandbox import sign, webhook_key
from anymail.exceptions import AnymailConfigurationError, AnymailImproperlyInstalled
from anymail.webhooks.postal import PostalInboundWebhookView, PostalTrackingWebhookView
from esps.postal.signed import SAMPLE_KEY
from support import Call, assert_inbound, assert_tracking, expectations, sample, sample_json

SIGNATURES = sample_json("postal", "signatures.json")
EXPECTED = expectations("postal")
SAMPLES = {"POSTAL_WEBHOOK_KEY": SAMPLE_KEY}
FRESH = {"POSTAL_WEBHOOK_KEY": webhook_key()}
FORM = "application/x-www-form-urlencoded"


def call(name: str, kind: str = "") -> Call:
    headers = dict(SIGNATURES["headers"][name])
    kind = kind or name.partition("-")[0]
    return Call(f"/anymail/postal/{kind}/", sample("postal", name), headers, headers.pop("Content-Type"))


def fresh(kind: str, payload: Any, content_type: str = "application/json") -> Call:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Call(f"/anymail/postal/{kind}/", body, sign(body), content_type)


def ours(one: dict[str, Any]) -> dict[str, Any]:
    """An expectation with our mapping where it has two, in the types that events have."""
    found = {**one, **one.get("_alternative", {})}
    for name in ("message_id", "event_id"):
        if found.get(name) is not None:
            found[name] = str(found[name])
    for name in ("timestamp", "date"):
        if found.get(name) is not None:
            found[name] = dt.datetime.fromisoformat(found[name]).isoformat()
    if isinstance(found.get("reply_to"), list):
        found["reply_to"] = ", ".join(found["reply_to"])
    return found


@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("tracking")])
@override_settings(ANYMAIL=SAMPLES)
def test_tracking(client: Client, events: list[Any], name: str) -> None:
    assert call(name).post(client).status_code == 200
    assert_tracking(events, [{**ours(one), "metadata": {}} for one in EXPECTED[name]])
    assert [event.esp_event for event in events] == [sample_json("postal", name)] * len(EXPECTED[name])


@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("inbound")])
@override_settings(ANYMAIL=SAMPLES)
def test_inbound(client: Client, events: list[Any], name: str) -> None:
    assert call(name).post(client).status_code == 200
    [event] = events
    [expected] = map(ours, EXPECTED[name])
    assert str(event.message.from_email) == expected["from_email"]
    # The MIME of the raw format ends its bodies with a line break, or not.
    bodies = {key: (getattr(event.message, key) or "").rstrip() or None for key in ("text", "html")}
    assert bodies == {key: expected[key] for key in ("text", "html")}
    del expected["text"], expected["html"]
    assert_inbound(events, [{**expected, "from_email": event.message.from_email.addr_spec}])
    assert event.message["In-Reply-To"] == expected.get("in_reply_to")
    assert event.message["References"] == expected.get("in_reply_to")


def test_every_sample_is_expected() -> None:
    assert set(EXPECTED) == set(SIGNATURES["headers"])


MESSAGE = {"id": 1, "to": "ana@example.net", "direction": "outgoing", "tag": None}


def status(event: str | None, word: str, details: Any = None) -> dict[str, Any]:
    payload = {"message": MESSAGE, "status": word, "details": details}
    return {"payload": payload} if event is None else {"event": event, "payload": payload}


# A body, and what its event has.
DETAILS: dict[str, tuple[Any, dict[str, Any]]] = {
    "unknown event": (
        {"event": "MessageVanished", "payload": {"message": MESSAGE, "status": "Gone"}, "uuid": "u"},
        {"event_type": "unknown", "message_id": "1", "recipient": "ana@example.net", "event_id": "u"},
    ),
    "Sent, no event": (status(None, "Sent"), {"event_type": "delivered"}),
    "SoftFail, no event": (status(None, "SoftFail"), {"event_type": "deferred"}),
    "HardFail, no event": (
        status(None, "HardFail", "Permanent SMTP delivery error when sending"),
        {"event_type": "bounced", "reject_reason": "bounced"},
    ),
    "Held, no event": (status(None, "Held"), {"event_type": "queued"}),
    "unknown status, no event": (status(None, "Gone"), {"event_type": "unknown"}),
    "bounce, no event": (
        {"payload": {"original_message": MESSAGE, "bounce": {"id": 2, "direction": "incoming"}}},
        {"event_type": "bounced", "reject_reason": "bounced", "message_id": "1"},
    ),
    "url, no event": (
        {"payload": {"message": MESSAGE, "url": "https://example.com/"}},
        {"event_type": "clicked", "click_url": "https://example.com/"},
    ),
    "failed for another reason": (
        status("MessageDeliveryFailed", "HardFail", "No SMTP servers were available"),
        {"event_type": "failed", "reject_reason": None, "description": "No SMTP servers were available"},
    ),
    "given up": (
        status("MessageDeliveryFailed", "HardFail", "Maximum number of delivery attempts (18) has been reached."),
        {"event_type": "bounced", "reject_reason": "timed_out"},
    ),
    "spam": (
        status("MessageDeliveryFailed", "HardFail", "Message is likely spam. Threshold is 5.0"),
        {"event_type": "rejected", "reject_reason": "spam"},
    ),
    "held by a credential": (
        status("MessageHeld", "Held", "Credential is configured to hold all messages authenticated by it."),
        {"event_type": "queued", "reject_reason": None},
    ),
    "no details": (status("MessageDeliveryFailed", "HardFail"), {"event_type": "failed", "description": None}),
    "details of another event": (
        status("MessageSent", "Sent", "Permanent SMTP delivery error"),
        {"event_type": "delivered", "reject_reason": None},
    ),
    "a formatted recipient": (
        {"event": "MessageLoaded", "payload": {"message": {**MESSAGE, "to": '"a <b>" <c@d.e>'}}},
        {"recipient": "c@d.e"},
    ),
    "no payload": ({"event": "MessageSent"}, {"event_type": "delivered", "message_id": None, "recipient": None}),
    "malformed values": (
        {
            "event": "MessageLinkClicked",
            "timestamp": "soon",
            "uuid": 7,
            "payload": {"message": {"id": [1], "to": 7, "tag": 7}, "url": 7, "user_agent": [], "details": {}},
        },
        {
            "event_type": "clicked",
            "timestamp": None,
            "event_id": None,
            "message_id": None,
            "recipient": None,
            "tags": [],
            "click_url": None,
            "user_agent": None,
            "description": None,
        },
    ),
    "message of another shape": (
        {"event": "MessageSent", "payload": {"message": "x"}},
        {"event_type": "delivered", "message_id": None},
    ),
    "event of another type": (
        {"event": 7, "payload": {"message": MESSAGE}},
        {"event_type": "unknown", "message_id": "1"},
    ),
}


@pytest.mark.parametrize(("body", "expected"), DETAILS.values(), ids=DETAILS.keys())
@override_settings(ANYMAIL=FRESH)
def test_details(client: Client, events: list[Any], body: Any, expected: dict[str, Any]) -> None:
    assert fresh("tracking", body).post(client).status_code == 200
    [event] = events
    assert {name: getattr(event, name) for name in expected} == expected
    assert event.esp_event == body


@pytest.mark.parametrize("body", [b"[]", b"null", b'"x"', b"{", b"\xff", b"[1]", b"{}", b"", b'{"events": null}'])
@pytest.mark.parametrize("kind", ["tracking", "inbound"])
@override_settings(ANYMAIL=FRESH)
def test_bodies_of_the_wrong_shape(client: Client, events: list[Any], kind: str, body: bytes) -> None:
    assert fresh(kind, body).post(client).status_code == 400
    assert events == []


WRONG_WEBHOOK: dict[str, tuple[Call, str]] = {
    **{name: (call(name, "tracking"), "postal/inbound/") for name in EXPECTED if name.startswith("inbound")},
    **{name: (call(name, "inbound"), "postal/tracking/") for name in EXPECTED if name.startswith("tracking")},
}


@pytest.mark.parametrize(("made", "says"), WRONG_WEBHOOK.values(), ids=WRONG_WEBHOOK.keys())
@override_settings(ANYMAIL=SAMPLES)
def test_the_wrong_webhook(client: Client, events: list[Any], made: Call, says: str) -> None:
    # Answered with a 500, on which Postal keeps a received mail and sends it again.
    with pytest.raises(AnymailConfigurationError, match=says):
        made.post(client)
    assert events == []


@override_settings(ANYMAIL=FRESH)
def test_a_form_at_the_tracking_url(client: Client, events: list[Any]) -> None:
    assert fresh("tracking", b"a=1", FORM).post(client).status_code == 400
    assert events == []


class TestSignature:
    SENT = call("tracking-MessageSent.json")
    STRONG, WEAK = "X-Postal-Signature-256", "X-Postal-Signature"

    # The headers kept, and the answer.
    HEADERS: dict[str, tuple[dict[str, str], int]] = {
        "both": ({STRONG: STRONG, WEAK: WEAK}, 200),
        "SHA-256 only": ({STRONG: STRONG}, 200),
        "SHA-1 only, before Postal 3.2": ({WEAK: WEAK}, 200),
        "neither": ({}, 400),
        "SHA-1 in the place of SHA-256": ({STRONG: WEAK}, 400),
        "SHA-256 in the place of SHA-1": ({WEAK: STRONG}, 400),
        "the two swapped": ({STRONG: WEAK, WEAK: STRONG}, 400),
    }

    @pytest.mark.parametrize(("kept", "code"), HEADERS.values(), ids=HEADERS.keys())
    @override_settings(ANYMAIL=SAMPLES)
    def test_headers(self, client: Client, events: list[Any], kept: dict[str, str], code: int) -> None:
        headers = {name: self.SENT.headers[given] for name, given in kept.items()}
        assert replace(self.SENT, headers=headers).post(client).status_code == code
        assert len(events) == (code == 200)

    @pytest.mark.parametrize("strong", ["", "AAAA", "none"])
    @override_settings(ANYMAIL=SAMPLES)
    def test_a_broken_sha_256_is_not_made_good_by_sha_1(self, client: Client, events: list[Any], strong: str) -> None:
        headers = {self.STRONG: strong, self.WEAK: self.SENT.headers[self.WEAK]}
        assert replace(self.SENT, headers=headers).post(client).status_code == 400
        assert events == []

    @override_settings(ANYMAIL=SAMPLES)
    def test_the_body_counts_as_it_came(self, client: Client, events: list[Any]) -> None:
        made = call("tracking-MessageLinkClicked.json")
        again = json.dumps(json.loads(made.body), separators=(",", ":"), ensure_ascii=False).encode()
        assert json.loads(again) == json.loads(made.body)
        assert again != made.body
        assert replace(made, body=again).post(client).status_code == 400
        assert events == []

    @override_settings(ANYMAIL=FRESH)
    def test_the_key_of_another_installation(self, client: Client, events: list[Any]) -> None:
        assert self.SENT.post(client).status_code == 400
        assert events == []

    @override_settings(ANYMAIL={**SAMPLES, "WEBHOOK_SECRET": "user:pass"})
    def test_basic_auth_beside_it(self, client: Client) -> None:
        assert self.SENT.post(client).status_code == 400
        headers = {**self.SENT.headers, "Authorization": "Basic dXNlcjpwYXNz"}
        assert replace(self.SENT, headers=headers).post(client).status_code == 200


def der(key: Any) -> str:
    return b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


class TestKey:
    SENT = call("tracking-MessageSent.json")

    COPIED = {
        "wrapped": "\n".join([f" {SAMPLE_KEY[:64]}", SAMPLE_KEY[64:], ""]),
        "with p=": f"p={SAMPLE_KEY};",
        "the whole record": f'"v=DKIM1; t=s; h=sha256; p={SAMPLE_KEY};"',
        "with a semicolon": f"{SAMPLE_KEY};",
        "PEM": f"-----BEGIN PUBLIC KEY-----\n{SAMPLE_KEY}\n-----END PUBLIC KEY-----\n",
        "bytes": SAMPLE_KEY.encode(),
    }

    @pytest.mark.parametrize("key", COPIED.values(), ids=COPIED.keys())
    def test_as_people_copy_it(self, client: Client, events: list[Any], key: Any) -> None:
        with override_settings(ANYMAIL={"POSTAL_WEBHOOK_KEY": key}):
            assert self.SENT.post(client).status_code == 200
        assert len(events) == 1

    @override_settings(POSTAL_WEBHOOK_KEY=SAMPLE_KEY)
    def test_bare(self, client: Client) -> None:
        assert self.SENT.post(client).status_code == 200

    def test_1024_bits(self) -> None:
        key = der(rsa.generate_private_key(65537, 1024).public_key())
        assert tracking.public_key(key).key_size == 1024

    WRONG: dict[str, Any] = {
        "not base64": "MIIB!",
        "not a key": "AAAA",
        "an empty p=": "p=;",
        "cut off": SAMPLE_KEY[:100],
        "no RSA key": der(ed25519.Ed25519PrivateKey.generate().public_key()),
        "one of two": [SAMPLE_KEY, "AAAA"],
        "none": [],
        "None": None,
        "a number": 7,
    }

    @pytest.mark.parametrize("key", WRONG.values(), ids=WRONG.keys())
    @pytest.mark.parametrize("view", [PostalTrackingWebhookView, PostalInboundWebhookView])
    def test_a_wrong_one_is_a_configuration_error(self, view: Any, key: Any) -> None:
        with (
            override_settings(ANYMAIL={"POSTAL_WEBHOOK_KEY": key}),
            pytest.raises(AnymailConfigurationError, match="POSTAL_WEBHOOK_KEY") as raised,
        ):
            view().webhook()
        assert SAMPLE_KEY not in str(raised.value)

    @pytest.mark.parametrize("kind", ["tracking", "inbound"])
    @override_settings(ANYMAIL={"WEBHOOK_SECRET": "user:pass"})
    def test_it_is_needed(self, client: Client, kind: str) -> None:
        url = f"/anymail/postal/{kind}/"
        assert replace(self.SENT, url=url).post(client).status_code == 404
        # A 500, on which Postal keeps a received mail; a 400 would bounce it.
        with pytest.raises(AnymailConfigurationError, match="POSTAL_WEBHOOK_KEY"):
            replace(self.SENT, url=url, headers={"Authorization": "Basic dXNlcjpwYXNz"}).post(client)

    def test_as_a_keyword(self) -> None:
        webhook = PostalTrackingWebhookView(webhook_key=SAMPLE_KEY).webhook()
        assert webhook.signature_configured
        assert SAMPLE_KEY not in repr(webhook.options)

    @override_settings(ANYMAIL=SAMPLES)
    def test_without_cryptography(self, client: Client, events: list[Any]) -> None:
        tracking.public_key.cache_clear()
        hidden = {name: None for name in sys.modules if name.partition(".")[0] == "cryptography"}
        with (
            mock.patch.dict(sys.modules, hidden),
            pytest.raises(AnymailImproperlyInstalled, match=r"anymail\[postal\]"),
        ):
            self.SENT.post(client)
        assert events == []


RAW = b"Received: from a by b; Fri, 20 Nov 2026 09:30:00 +0000\r\nFrom: a@example.org\r\nSubject: Hi\r\n\r\nHello"
ENVELOPE = {"id": 5, "rcpt_to": "help@in.example.com", "mail_from": "a@example.org"}


def raw(headers: str = "", message: bytes = RAW) -> dict[str, Any]:
    return {**ENVELOPE, "message": b64encode(headers.encode() + message).decode(), "base64": True}


# A body, and what its message has.
RECEIVED: dict[str, tuple[Any, dict[str, Any]]] = {
    "spam": (
        raw("X-Postal-Spam: yes\r\nX-Postal-Spam-Score: 12.5\r\n"),
        {"spam_detected": True, "spam_score": 12.5, "text": "Hello"},
    ),
    "not inspected": (raw(), {"spam_detected": None, "spam_score": None}),
    "no score to be read": (
        raw("X-Postal-Spam: maybe\r\nX-Postal-Spam-Score: nan\r\n"),
        {"spam_detected": None, "spam_score": None},
    ),
    "the first of two is Postal's": (
        raw("X-Postal-Spam: yes\r\nX-Postal-Spam: no\r\n"),
        {"spam_detected": True},
    ),
    "no Received to tell Postal's headers by": (
        raw(message=b"X-Postal-Spam: no\r\nX-Postal-Spam-Score: -9\r\nSubject: Hi\r\n\r\nHello"),
        {"spam_detected": None, "spam_score": None, "subject": "Hi"},
    ),
    "hash, not inspected": ({**ENVELOPE, "spam_status": "NotChecked"}, {"spam_detected": None}),
    "hash, not spam": ({**ENVELOPE, "spam_status": "NotSpam"}, {"spam_detected": False}),
    "hash, nothing stripped": (
        {**ENVELOPE, "plain_body": "Hi", "replies_from_plain_body": None},
        {"text": "Hi", "stripped_text": None, "html": None},
    ),
    "hash, nothing but a quotation": (
        {**ENVELOPE, "plain_body": None, "replies_from_plain_body": "> Hi"},
        {"text": "\n\n> Hi", "stripped_text": ""},
    ),
    "hash, malformed values": (
        {
            **dict.fromkeys(["subject", "from", "to", "cc", "date", "references", "plain_body", "spam_status"], 7),
            **ENVELOPE,
            "reply_to": "x",
            "message_id": [],
            "mail_from": 7,
            "attachments": [{"filename": 7, "content_type": None, "data": []}],
        },
        {"subject": None, "from_email": None, "to": [], "text": None, "envelope_sender": None, "date": None},
    ),
    "hash, header injected": (
        {**ENVELOPE, "subject": "Hi\r\nBcc: x@example.org"},
        {"subject": "Hi Bcc: x@example.org", "bcc": []},
    ),
}


@pytest.mark.parametrize(("body", "expected"), RECEIVED.values(), ids=RECEIVED.keys())
@override_settings(ANYMAIL=FRESH)
def test_received(client: Client, events: list[Any], body: Any, expected: dict[str, Any]) -> None:
    assert fresh("inbound", body).post(client).status_code == 200
    [event] = events
    assert {name: getattr(event.message, name) for name in expected} == expected
    assert (event.event_id, event.message.envelope_recipient) == ("5", "help@in.example.com")


@override_settings(ANYMAIL=FRESH)
def test_a_form_with_several_of_each(client: Client, events: list[Any]) -> None:
    fields = [
        *((name, str(value)) for name, value in ENVELOPE.items()),
        ("reply_to", "a@example.org"),
        ("reply_to", "b@example.org"),
        *((f"attachments[{n}][{name}]", value) for n in (10, 2) for name, value in
          (("filename", f"{n}.txt"), ("content_type", "text/plain"), ("data", "MQ=="))),
    ]  # fmt: skip
    assert fresh("inbound", urlencode(fields).encode(), FORM).post(client).status_code == 200
    [event] = events
    assert event.message["Reply-To"] == "a@example.org, b@example.org"
    assert [part.get_filename() for part in event.message.attachments] == ["2.txt", "10.txt"]
    assert [part["filename"] for part in event.esp_event["attachments"]] == ["2.txt", "10.txt"]


@pytest.mark.parametrize("unreadable", [{"message": "A"}, {"message": "é"}, {"attachments": 7}, {"attachments": [7]}])
@override_settings(ANYMAIL=FRESH)
def test_what_cannot_be_read_is_refused(client: Client, events: list[Any], unreadable: Any) -> None:
    assert fresh("inbound", {**ENVELOPE, **unreadable}).post(client).status_code == 400
    assert events == []


@override_settings(ANYMAIL=FRESH)
def test_a_mail_posted_again_has_one_effect(client: Client, events: list[Any]) -> None:
    made = fresh("inbound", raw())
    assert [made.post(client).status_code for _ in range(2)] == [200, 200]
    assert len(events) == 1


@pytest.mark.parametrize(("kind", "status"), [("inbound", 503), ("tracking", 413)])
def test_mail_that_is_too_large_is_kept_by_postal(client: Client, kind: str, status: int) -> None:
    with override_settings(ANYMAIL={**FRESH, "INBOUND_MAX_SIZE": 100}, DATA_UPLOAD_MAX_MEMORY_SIZE=100):
        assert fresh(kind, raw()).post(client).status_code == status
