"""Scaleway: webhook bodies (files) and the events they become; who may call, and how a subscription is confirmed."""

from __future__ import annotations

import builtins
import datetime as dt
import json
import logging
from hashlib import sha256
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.test import Client, override_settings

from anymail.conf import load
from anymail.esps.kit.topics import Certificates, parsed_certificate, signed_bytes
from anymail.esps.scaleway import topics
from anymail.esps.scaleway.tracking import ScalewayTracking, ScalewayTrackingOptions
from anymail.exceptions import (
    AnymailAPIError,
    AnymailConfigurationError,
    AnymailImproperlyInstalled,
    AnymailInsecureWebhookWarning,
    AnymailTransportError,
)
from anymail.wire import Request, Response
from esps.scaleway.signed import CERTIFICATE_URL, SETTINGS, SIGNATURES, TEST_CHAIN, TOPIC_ARN, URL, posted, signed_again
from support import Call, assert_tracking, expectations, sample, sample_json

EXPECTED = expectations("scaleway")
DELIVERED = "tracking-email_delivered.json"
CONFIRMATION = "tracking-SubscriptionConfirmation.json"
SUBSCRIBE_URL = sample_json("scaleway", CONFIRMATION)["SubscribeURL"]
BASIC_AUTH = {"Authorization": "Basic dXNlcjpwYXNz"}


class Internet:
    """Answers by URL; what is asked for is kept."""

    asked: list[str]
    answers: dict[str, Any]

    def __init__(self, *, connect_timeout: float | None, read_timeout: float | None) -> None:
        self.timeouts = connect_timeout, read_timeout

    def send(self, request: Request) -> Response:
        assert request.method == "GET"
        assert request.max_response <= 64 * 1024
        assert None not in self.timeouts
        self.asked.append(request.url)
        found = self.answers[request.url]
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, Response) else Response(200, {}, found)


@pytest.fixture(autouse=True)
def internet(monkeypatch: pytest.MonkeyPatch) -> type[Internet]:
    """Where the test certificate is, and where subscriptions are confirmed."""
    monkeypatch.setattr(topics, "_fetched", Certificates())
    Internet.asked = []
    Internet.answers = {CERTIFICATE_URL: sample("scaleway", "test-signing-cert.pem"), SUBSCRIBE_URL: b"<xml/>"}
    return Internet


ANY_TIME = {**SETTINGS, "TRANSPORT": Internet, "WEBHOOK_MAX_AGE": None, "RETRIES": 0}


def call(name: str) -> Call:
    return Call(URL, sample("scaleway", name), content_type="text/plain; charset=UTF-8")


def post(client: Client, event: Any, **settings: Any) -> Any:
    """Post an authentic notification of an event."""
    message = event if isinstance(event, str) else json.dumps(event)
    envelope = signed_again({**sample_json("scaleway", DELIVERED), "Message": message})
    with override_settings(ANYMAIL={**ANY_TIME, **settings}):
        return posted(envelope).post(client)


def inner(name: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(sample_json("scaleway", name)["Message"])
    return event


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("pinned", [False, True])
def test_events(client: Client, events: list[Any], internet: type[Internet], name: str, pinned: bool) -> None:
    settings = dict(ANY_TIME)
    if pinned:
        settings["SCALEWAY_SNS_CERTIFICATES"] = {CERTIFICATE_URL: sample("scaleway", "test-signing-cert.pem").decode()}
    with override_settings(ANYMAIL=settings):
        assert call(name).post(client).status_code == 200
    assert_tracking(events, EXPECTED[name])
    assert [event.esp_event for event in events] == ([inner(name)] if EXPECTED[name] else [])
    assert internet.asked == [CERTIFICATE_URL] * (not pinned) + [SUBSCRIBE_URL] * (name == CONFIRMATION)


def test_every_sample_is_expected() -> None:
    assert set(EXPECTED) == set(SIGNATURES["canonical"])


@pytest.mark.parametrize("name", SIGNATURES["canonical"])
def test_what_is_signed(name: str) -> None:
    assert signed_bytes(sample_json("scaleway", name)).decode() == SIGNATURES["canonical"][name]


def test_the_worked_vector() -> None:
    signed = signed_bytes(sample_json("scaleway", DELIVERED))
    assert len(signed) == 923
    assert sha256(signed).hexdigest() == "150cfdacb7e8f67b8f3e9c694f5a2edd00207145d7176fbecdb782cd81633948"


class TestVerification:
    @pytest.mark.parametrize("case", SIGNATURES["negative"], ids=lambda case: case["must"])
    def test_negative_samples(self, client: Client, events: list[Any], internet: type[Internet], case: Any) -> None:
        settings = dict(ANY_TIME)
        if "serve_cert" in case:
            internet.answers[CERTIFICATE_URL] = sample("scaleway", case["serve_cert"])
        if "topic_arns" in case:
            settings["SCALEWAY_WEBHOOK_TOPIC_ARNS"] = case["topic_arns"]
        envelope = {**sample_json("scaleway", case["file"]), **case.get("change", {})}
        with override_settings(ANYMAIL=settings):
            assert posted(envelope).post(client).status_code == 400
        assert events == []
        assert set(internet.asked) <= {CERTIFICATE_URL}
        if "before any fetch" in case["must"]:
            assert internet.asked == []

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "https://messaging.s3.fr-par.scw.cloud/",
            "https://messaging.s3.fr-par.scw.cloud",
            "https://messaging.s3.fr-par.scw.cloud/a.crt\n",
            "https://messaging.s3.fr-par.scw.cloud/a.crt?x=1",
            "https://messaging.s3.fr-par.scw.cloud/a.crt#x",
            "https://messaging.s3.fr-par.scw.cloud/../a.crt",
            "https://messaging.s3.fr-par.scw.cloud/%2e%2e/a.crt",
            "https://messaging.s3.fr-par.scw.cloud\\@evil.example/a.crt",
            "https://user@messaging.s3.fr-par.scw.cloud/a.crt",
            "https://MESSAGING.s3.fr-par.scw.cloud/a.crt",
            "https://messaging.s3.fr-parx.scw.cloud/a.crt",
            "https://messaging.s3.fr.par.scw.cloud/a.crt",
            "https://messagingxs3.fr-par.scw.cloud/a.crt",
            "https://evil.example/messaging.s3.fr-par.scw.cloud/a.crt",
            " https://messaging.s3.fr-par.scw.cloud/a.crt",
        ],
    )
    def test_urls_that_are_not_asked(
        self, client: Client, events: list[Any], internet: type[Internet], url: str
    ) -> None:
        envelope = {**sample_json("scaleway", DELIVERED), "SigningCertURL": url}
        with override_settings(ANYMAIL=ANY_TIME):
            assert posted(envelope).post(client).status_code == 400
        assert (events, internet.asked) == ([], [])

    @pytest.mark.parametrize(
        "arn",
        ["", "arn:aws:sns:us-east-1:000000000000:x", f"{TOPIC_ARN}\n", f"{TOPIC_ARN}:sub", "arn:scw:sns:fr-par::x"],
    )
    @pytest.mark.parametrize("listed", [True, False])
    def test_topics_that_are_none(
        self, client: Client, events: list[Any], internet: type[Internet], arn: str, listed: bool
    ) -> None:
        envelope = signed_again({**sample_json("scaleway", DELIVERED), "TopicArn": arn})
        settings = {**ANY_TIME, "WEBHOOK_SECRET": "user:pass"}
        if not listed:
            del settings["SCALEWAY_WEBHOOK_TOPIC_ARNS"]
        with override_settings(ANYMAIL=settings):
            assert posted(envelope, **BASIC_AUTH).post(client).status_code == 400
        assert (events, internet.asked) == ([], [])

    @pytest.mark.parametrize("field", ["Type", "MessageId", "TopicArn", "Message", "Timestamp", "SignatureVersion",
                                       "Signature", "SigningCertURL"])  # fmt: skip
    @pytest.mark.parametrize("odd", ["absent", None, 1, True, [], {}, ["x"]])
    def test_odd_fields(
        self, client: Client, events: list[Any], internet: type[Internet], field: str, odd: Any
    ) -> None:
        envelope = sample_json("scaleway", DELIVERED)
        del envelope[field]
        if odd != "absent":
            envelope[field] = odd
        with override_settings(ANYMAIL=ANY_TIME):
            assert posted(envelope).post(client).status_code == 400
        assert (events, internet.asked) == ([], [])

    @pytest.mark.parametrize("subject", [1, ["x"], "TEM event", "\ud800"])
    def test_a_subject_that_was_not_signed(self, client: Client, events: list[Any], subject: Any) -> None:
        body = json.dumps({**sample_json("scaleway", DELIVERED), "Subject": subject}).encode()
        with override_settings(ANYMAIL=ANY_TIME):
            assert Call(URL, body).post(client).status_code == 400
        assert events == []

    def test_a_subject_of_null_is_none(self, client: Client, events: list[Any]) -> None:
        with override_settings(ANYMAIL=ANY_TIME):
            assert posted({**sample_json("scaleway", DELIVERED), "Subject": None}).post(client).status_code == 200
        assert len(events) == 1

    @pytest.mark.parametrize("time", ["", "soon", "2026-13-01T00:00:00Z", "1795166405", "NaN"])
    def test_timestamps_that_are_no_time(self, client: Client, events: list[Any], time: str) -> None:
        envelope = signed_again({**sample_json("scaleway", DELIVERED), "Timestamp": time})
        with override_settings(ANYMAIL=ANY_TIME):
            assert posted(envelope).post(client).status_code == 400
        assert events == []

    def test_a_signature_with_bits_to_spare(self, client: Client, events: list[Any]) -> None:
        envelope = sample_json("scaleway", DELIVERED)
        assert envelope["Signature"].endswith("Zg==")
        envelope["Signature"] = envelope["Signature"][:-4] + "Zh=="
        with override_settings(ANYMAIL=ANY_TIME):
            assert posted(envelope).post(client).status_code == 400
        assert events == []

    @pytest.mark.parametrize("odd", [b"", b"-----BEGIN CERTIFICATE-----", b"<html>", b"\x30\x82"])
    def test_what_is_no_certificate(self, client: Client, internet: type[Internet], odd: bytes) -> None:
        internet.answers[CERTIFICATE_URL] = odd
        with override_settings(ANYMAIL=ANY_TIME):
            assert call(DELIVERED).post(client).status_code == 400

    def test_a_certificate_may_be_der(self, client: Client, events: list[Any], internet: type[Internet]) -> None:
        certificate = x509.load_pem_x509_certificate(internet.answers[CERTIFICATE_URL])
        internet.answers[CERTIFICATE_URL] = certificate.public_bytes(serialization.Encoding.DER)
        with override_settings(ANYMAIL=ANY_TIME):
            assert call(DELIVERED).post(client).status_code == 200
        assert len(events) == 1

    def test_a_certificate_of_another_kind_of_key(
        self, client: Client, events: list[Any], internet: type[Internet]
    ) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "EC")])
        builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
        certificate = (
            builder.not_valid_before(dt.datetime(2020, 1, 1))
            .not_valid_after(dt.datetime(2120, 1, 1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )
        internet.answers[CERTIFICATE_URL] = certificate
        with override_settings(ANYMAIL={**ANY_TIME, "SCALEWAY_SNS_TRUST_CHAIN": certificate}):
            assert call(DELIVERED).post(client).status_code == 400
        assert events == []

    @pytest.mark.parametrize("status", [403, 404])
    def test_a_certificate_that_is_not_there(
        self, client: Client, events: list[Any], internet: type[Internet], status: int
    ) -> None:
        internet.answers[CERTIFICATE_URL] = Response(status)
        with override_settings(ANYMAIL=ANY_TIME):
            assert call(DELIVERED).post(client).status_code == 400
        assert events == []

    @pytest.mark.parametrize("failure", [Response(500), Response(302), Response(429), AnymailTransportError("lost")])
    def test_a_certificate_that_cannot_be_fetched_now(
        self, client: Client, events: list[Any], internet: type[Internet], failure: Any
    ) -> None:
        client.raise_request_exception = False
        internet.answers[CERTIFICATE_URL] = failure
        with override_settings(ANYMAIL=ANY_TIME):
            assert call(DELIVERED).post(client).status_code == 500
            internet.answers[CERTIFICATE_URL] = sample("scaleway", "test-signing-cert.pem")
            assert call(DELIVERED).post(client).status_code == 200
        assert len(events) == 1

    def test_a_certificate_is_kept(self, client: Client, internet: type[Internet]) -> None:
        with override_settings(ANYMAIL=ANY_TIME):
            for name in (DELIVERED, "tracking-email_queued.json", "tracking-email_spam.json"):
                assert call(name).post(client).status_code == 200
        assert internet.asked == [CERTIFICATE_URL]

    def test_a_certificate_that_was_replaced(self, client: Client, events: list[Any], internet: type[Internet]) -> None:
        # One that is good as such, but of another key.
        topics._fetched.keep(CERTIFICATE_URL, sample("scaleway", "test-signing-cert-selfsigned.pem"))
        with override_settings(ANYMAIL=ANY_TIME):
            assert call(DELIVERED).post(client).status_code == 200
            assert internet.asked == [CERTIFICATE_URL]
            assert call("tracking-email_queued.json").post(client).status_code == 200
        assert internet.asked == [CERTIFICATE_URL]
        assert len(events) == 2

    def test_a_wrong_signature_is_asked_about_once(self, client: Client, internet: type[Internet]) -> None:
        envelope = {**sample_json("scaleway", DELIVERED), "MessageId": "x"}
        with override_settings(ANYMAIL=ANY_TIME):
            assert call(DELIVERED).post(client).status_code == 200
            assert posted(envelope).post(client).status_code == 400
        assert internet.asked == [CERTIFICATE_URL] * 2

    def test_only_the_last_certificates_are_kept(self) -> None:
        kept = Certificates(most=2)
        for url in ("a", "b", "a", "c"):
            kept.keep(url, b"x")
        assert [url for url in "abc" if kept.get(url)] == ["a", "c"]

    def test_a_missing_package(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        imported = builtins.__import__

        def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
            if name.partition(".")[0] == "cryptography":
                raise ImportError(name)
            return imported(name, *args, **kwargs)

        parsed_certificate.cache_clear()
        monkeypatch.setattr(builtins, "__import__", refuse)
        with (
            override_settings(ANYMAIL=ANY_TIME),
            pytest.raises(AnymailImproperlyInstalled, match=r"anymail\[scaleway\]"),
        ):
            call(DELIVERED).post(client)


class TestTrustChain:
    def test_the_bundled_one_is_scaleways(self) -> None:
        root, intermediate = topics._chain(topics._published_trust_chain())
        assert [one.fingerprint(hashes.SHA256()).hex() for one in (root, intermediate)] == [
            "c5a0145efb57916c07f9af3e3f311215062c0562c2d56d7ff3c57da9fb52e4d5",
            "71c7a4717ef85cf22bc438b97130d81b55c3c03da9a09b9ab92e0fce1d2c3e53",
        ]
        assert topics._trusted(intermediate, [root], dt.datetime(2026, 11, 20, tzinfo=dt.UTC))

    def test_the_bundled_one_is_the_default(self, client: Client, events: list[Any]) -> None:
        settings = {name: value for name, value in ANY_TIME.items() if name != "SCALEWAY_SNS_TRUST_CHAIN"}
        with override_settings(ANYMAIL=settings):
            assert call(DELIVERED).post(client).status_code == 400
        assert events == []

    @pytest.mark.parametrize(
        "value",
        [TEST_CHAIN, str(TEST_CHAIN), TEST_CHAIN.read_bytes(), TEST_CHAIN.read_text()],
        ids=lambda v: type(v).__name__,
    )
    def test_path_or_text(self, client: Client, events: list[Any], value: Any) -> None:
        with override_settings(ANYMAIL={**ANY_TIME, "SCALEWAY_SNS_TRUST_CHAIN": value}):
            assert call(DELIVERED).post(client).status_code == 200
        assert len(events) == 1

    @pytest.mark.parametrize(
        "value",
        ["", " ", b"", [""], 7, "/nowhere/chain.pem", str(TEST_CHAIN.with_name("README.txt")),
         "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
    )  # fmt: skip
    def test_wrong_ones(self, client: Client, value: Any) -> None:
        settings = {**ANY_TIME, "SCALEWAY_SNS_TRUST_CHAIN": value}
        with override_settings(ANYMAIL=settings), pytest.raises(AnymailConfigurationError, match="SNS_TRUST_CHAIN"):
            call(DELIVERED).post(client)

    @pytest.mark.parametrize("part", [0, 1])
    def test_half_of_it_is_not_enough(self, client: Client, events: list[Any], part: int) -> None:
        certificate = topics._chain(TEST_CHAIN.read_bytes())[part].public_bytes(serialization.Encoding.PEM)
        with override_settings(ANYMAIL={**ANY_TIME, "SCALEWAY_SNS_TRUST_CHAIN": certificate}):
            assert call(DELIVERED).post(client).status_code == 400
        assert events == []

    def test_the_leaf_is_no_authority(self, client: Client, events: list[Any]) -> None:
        # A self-issued certificate that is in the bundle, but may not issue others.
        selfsigned = sample("scaleway", "test-signing-cert-selfsigned.pem")
        [leaf] = topics._chain(selfsigned)
        assert not topics._trusted(leaf, [leaf], dt.datetime.now(dt.UTC))

    @pytest.mark.parametrize("year", [2000, 2100])
    def test_authorities_must_be_valid_too(self, year: int) -> None:
        chain = topics._chain(TEST_CHAIN.read_bytes())
        [leaf] = topics._chain(sample("scaleway", "test-signing-cert.pem"))
        assert topics._trusted(leaf, chain, dt.datetime(2030, 1, 1, tzinfo=dt.UTC))
        assert topics._trusted(leaf, chain[::-1], dt.datetime(2030, 1, 1, tzinfo=dt.UTC))
        assert not topics._trusted(leaf, chain, dt.datetime(year, 1, 1, tzinfo=dt.UTC))


@pytest.mark.parametrize("setting", ["SCALEWAY_WEBHOOK_TOPIC_ARNS", "SCALEWAY_SNS_CERTIFICATES", "SCALEWAY_PROJECT_ID",
                                     "SCALEWAY_AUTO_CONFIRM_SNS_SUBSCRIPTIONS"])  # fmt: skip
@pytest.mark.parametrize("value", ["", [], ["arn:aws:sns:us-east-1:000000000000:x"], {"https://x": "y"}])
def test_wrong_settings(client: Client, setting: str, value: Any) -> None:
    settings = {**ANY_TIME, setting: value}
    with override_settings(ANYMAIL=settings), pytest.raises(AnymailConfigurationError, match=setting):
        call(DELIVERED).post(client)


class TestWhoMayCall:
    def test_basic_auth_is_asked_for(self, client: Client, events: list[Any]) -> None:
        with override_settings(ANYMAIL={**ANY_TIME, "WEBHOOK_SECRET": "user:pass"}):
            challenge = call(DELIVERED).post(client)
            assert (challenge.status_code, challenge["WWW-Authenticate"][:5]) == (401, "Basic")
            assert Call(URL, sample("scaleway", DELIVERED), BASIC_AUTH).post(client).status_code == 200
        assert len(events) == 1

    def test_anyone_with_neither_topic_nor_basic_auth(self, client: Client, events: list[Any]) -> None:
        settings = {name: value for name, value in ANY_TIME.items() if name != "SCALEWAY_WEBHOOK_TOPIC_ARNS"}
        with override_settings(ANYMAIL=settings):
            assert call(DELIVERED).post(client).status_code == 404
        assert events == []
        allowed = {**settings, "WEBHOOK_ALLOW_UNVERIFIED": True}
        with override_settings(ANYMAIL=allowed), pytest.warns(AnymailInsecureWebhookWarning, match="Scaleway"):
            assert call(DELIVERED).post(client).status_code == 200
        assert len(events) == 1

    @pytest.mark.parametrize("listed", [False, True])
    @pytest.mark.parametrize(("project", "own"), [(SIGNATURES["project_id"], True), ("another", False)])
    def test_project(self, client: Client, events: list[Any], listed: bool, project: str, own: bool) -> None:
        settings = {**ANY_TIME, "SCALEWAY_PROJECT_ID": project, "WEBHOOK_SECRET": "user:pass"}
        if not listed:
            del settings["SCALEWAY_WEBHOOK_TOPIC_ARNS"]
        with override_settings(ANYMAIL=settings):
            response = Call(URL, sample("scaleway", DELIVERED), BASIC_AUTH).post(client)
        assert response.status_code == (200 if own or listed else 400)
        assert len(events) == int(own or listed)


class TestSubscription:
    def test_a_confirmation_that_fails_is_sent_again(self, client: Client, internet: type[Internet]) -> None:
        client.raise_request_exception = False
        for failure in (Response(500), Response(404), Response(302), AnymailTransportError("lost")):
            internet.answers[SUBSCRIBE_URL] = failure
            with override_settings(ANYMAIL=ANY_TIME):
                assert call(CONFIRMATION).post(client).status_code == 500
        internet.answers[SUBSCRIBE_URL] = b""
        with override_settings(ANYMAIL=ANY_TIME):
            assert call(CONFIRMATION).post(client).status_code == 200
        assert internet.asked.count(SUBSCRIBE_URL) == 5

    def test_an_error_tells_why(self, client: Client, internet: type[Internet]) -> None:
        internet.answers[SUBSCRIBE_URL] = Response(403, {}, b"<Message>No such token</Message>")
        with override_settings(ANYMAIL=ANY_TIME), pytest.raises(AnymailAPIError, match="No such token"):
            call(CONFIRMATION).post(client)

    def test_with_basic_auth_only(self, client: Client, internet: type[Internet]) -> None:
        settings = {**ANY_TIME, "WEBHOOK_SECRET": "user:pass"}
        del settings["SCALEWAY_WEBHOOK_TOPIC_ARNS"]
        with override_settings(ANYMAIL=settings):
            assert Call(URL, sample("scaleway", CONFIRMATION), BASIC_AUTH).post(client).status_code == 200
        assert SUBSCRIBE_URL in internet.asked

    def test_with_neither_topic_nor_basic_auth(
        self, client: Client, internet: type[Internet], caplog: pytest.LogCaptureFixture
    ) -> None:
        settings = {name: value for name, value in ANY_TIME.items() if name != "SCALEWAY_WEBHOOK_TOPIC_ARNS"}
        settings["WEBHOOK_ALLOW_UNVERIFIED"] = True
        with override_settings(ANYMAIL=settings), pytest.warns(AnymailInsecureWebhookWarning):
            assert call(CONFIRMATION).post(client).status_code == 400
        assert SUBSCRIBE_URL not in internet.asked
        assert SUBSCRIBE_URL in caplog.text

    def test_by_hand(self, client: Client, internet: type[Internet], caplog: pytest.LogCaptureFixture) -> None:
        settings = {**ANY_TIME, "SCALEWAY_AUTO_CONFIRM_SNS_SUBSCRIPTIONS": False}
        with override_settings(ANYMAIL=settings), caplog.at_level(logging.WARNING, "anymail.webhooks"):
            assert call(CONFIRMATION).post(client).status_code == 200
        assert SUBSCRIBE_URL not in internet.asked
        assert SUBSCRIBE_URL in caplog.text

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("https:", "http:"),
            ("sns.mnq.fr-par.scaleway.com", "evil.example"),
            ("sns.mnq.fr-par.scaleway.com", "sns.mnq.fr-par.scaleway.com:8443"),
            ("sns.mnq.fr-par.scaleway.com", "sns.mnq.fr-par.scaleway.com@evil.example"),
            ("sns.mnq.fr-par.scaleway.com", "sns.mnq.fr-par.scaleway.com.evil.example"),
            ("sns.mnq.fr-par.scaleway.com", "sns.mnq.nl-ams.scaleway.com"),
            (".com/?", ".com/x?"),
            (".com/?", ".com?"),
            ("ConfirmSubscription", "DeleteTopic"),
            (":tem-events", ":other"),
            ("Token=3", "Token=4"),
            ("&Token=", "&Endpoint=x&Token="),
            ("&Token=", "&Token=x&Token="),
            ("&Token=", "&Endpoint=&Token="),
            ("Token=3f2a9c7d1e5b8046a1c0", "Token=3f2a9c7d1e5b8046a1c0#x"),
            ("?Action=ConfirmSubscription&", "?"),
        ],
    )
    def test_urls_that_are_never_opened(
        self, client: Client, events: list[Any], internet: type[Internet], old: str, new: str
    ) -> None:
        url = SUBSCRIBE_URL.replace(old, new)
        assert url != SUBSCRIBE_URL
        envelope = signed_again({**sample_json("scaleway", CONFIRMATION), "SubscribeURL": url})
        with override_settings(ANYMAIL=ANY_TIME):
            assert posted(envelope).post(client).status_code == 400
        assert (events, internet.asked) == ([], [CERTIFICATE_URL])

    def test_the_topic_may_be_percent_encoded(self, client: Client, internet: type[Internet]) -> None:
        url = SUBSCRIBE_URL.replace(TOPIC_ARN, TOPIC_ARN.replace(":", "%3A"))
        internet.answers[url] = b""
        envelope = signed_again({**sample_json("scaleway", CONFIRMATION), "SubscribeURL": url})
        with override_settings(ANYMAIL=ANY_TIME):
            assert posted(envelope).post(client).status_code == 200
        assert url in internet.asked


# Changes to an event, and the type and reason that it then has.
KINDS: dict[str, tuple[dict[str, Any], tuple[str, str | None]]] = {
    "dropped, 5xx": ({"type": "email_dropped", "email_response_code": 554}, ("bounced", "bounced")),
    "dropped, 5xx as text": ({"type": "email_dropped", "email_response_code": "554"}, ("bounced", "bounced")),
    "dropped, 4xx": ({"type": "email_dropped", "email_response_code": 451}, ("bounced", "timed_out")),
    "dropped, 0": ({"type": "email_dropped", "email_response_code": 0}, ("bounced", "timed_out")),
    "dropped, no code": ({"type": "email_dropped", "email_response_code": None}, ("bounced", "timed_out")),
    "bounced": ({"type": "email_bounced", "email_response_code": 550}, ("bounced", "bounced")),
    "spam, 5xx": ({"type": "email_spam", "email_response_code": 550}, ("bounced", "spam")),
    "spam, 4xx": ({"type": "email_spam", "email_response_code": 450}, ("bounced", "spam")),
    "spam, 2xx": ({"type": "email_spam", "email_response_code": 250}, ("complained", "spam")),
    "spam, 0": ({"type": "email_spam", "email_response_code": 0}, ("rejected", "spam")),
    "mailbox full": ({"type": "email_blocklisted", "blocklist_type": "mailbox_full"}, ("rejected", "bounced")),
    "blocked": ({"type": "email_blocklisted", "blocklist_type": "custom"}, ("rejected", "blocked")),
    "blocked, no type": ({"type": "email_blocklisted"}, ("rejected", "blocked")),
    "unknown type": ({"type": "unknown_type"}, ("unknown", None)),
    "new type": ({"type": "email_vanished"}, ("unknown", None)),
    "no type": ({"type": None}, ("unknown", None)),
    "odd type": ({"type": ["email_delivered"]}, ("unknown", None)),
}


@pytest.mark.parametrize(("changes", "kind"), KINDS.values(), ids=KINDS.keys())
def test_kinds(client: Client, events: list[Any], changes: dict[str, Any], kind: tuple[str, str | None]) -> None:
    event = {**inner(DELIVERED), **changes}
    assert post(client, event).status_code == 200
    [found] = events
    assert (found.event_type, found.reject_reason) == kind
    assert (found.recipient, found.esp_event) == ("ana@example.org", event)


# Values of X-Tags and X-Metadata in email_headers, and the tags and metadata they become.
LABELS: dict[str, tuple[Any, Any, list[str], dict[str, Any]]] = {
    "plain": ('["a", "b"]', '{"n": 1}', ["a", "b"], {"n": 1}),
    "folded": ('["a",\r\n "b"]', '{"n":\r\n\t1}', ["a", "b"], {"n": 1}),
    "encoded": ("=?utf-8?q?=5B=22caf=C3=A9=22=5D?=", "=?utf-8?b?eyJuIjogMX0=?=", ["café"], {"n": 1}),
    "tags of other types": ("[1, null]", "{}", ["1", "None"], {}),
    "other documents": ('{"a": 1}', "[1]", [], {}),
    "no JSON": ("a, b", "n=1", [], {}),
    "unknown charset": ("=?x-none?q?a?=", "=?utf-8?b?!!!!?=", [], {}),
    "damaged base64": ("=?utf-8?b?YWJjZ?=", "=?utf-8?b?YWJjZ?=", [], {}),
    "not text": (["a"], {"n": 1}, [], {}),
    "nothing": (None, "", [], {}),
    "deep": ("[" * 100_000, '{"a":' * 100_000, [], {}),
}


@pytest.mark.parametrize(("tags", "metadata", "wanted_tags", "wanted"), LABELS.values(), ids=LABELS.keys())
def test_labels(
    client: Client, events: list[Any], tags: Any, metadata: Any, wanted_tags: list[str], wanted: dict[str, Any]
) -> None:
    headers = [{"key": "X-TAGS", "value": tags}, {"key": "x-Metadata", "value": metadata}, None, {"key": 1}]
    assert post(client, {**inner(DELIVERED), "email_headers": headers}).status_code == 200
    assert (events[0].tags, events[0].metadata) == (wanted_tags, wanted)


@pytest.mark.parametrize(
    ("code", "message", "response"),
    [
        (250, "OK", "250 OK"),
        (250, None, "250"),
        (0, "lost", "lost"),
        (None, None, None),
        (0, "", None),
        ([1], {}, None),
    ],
)
def test_mta_response(client: Client, events: list[Any], code: Any, message: Any, response: str | None) -> None:
    event = {**inner(DELIVERED), "email_response_code": code, "email_response_message": message}
    post(client, event)
    assert events[0].mta_response == response


def test_what_the_event_lacks_is_of_the_envelope(client: Client, events: list[Any]) -> None:
    assert post(client, {"type": "email_delivered"}).status_code == 200
    [event] = events
    assert event.event_id == "5e0a1b2c-0000-4000-8000-000000000004"
    assert event.timestamp == dt.datetime(2026, 11, 20, 9, 20, 5, tzinfo=dt.UTC)
    assert (event.message_id, event.recipient, event.description) == (None, None, None)


@pytest.mark.parametrize("odd", [None, [], {}, "x", 7, True, [[1]], {"a": 1}, -1, 10**400, "２５０"])
def test_odd_values(client: Client, events: list[Any], odd: Any) -> None:
    original = {**inner("tracking-email_deferred.json"), **inner("tracking-email_blocklisted.json")}
    for field in original:
        assert post(client, {**original, field: odd}).status_code == 200
    assert len(events) == len(original)
    for event in events:
        assert all(isinstance(tag, str) for tag in event.tags)
        for value in (event.message_id, event.event_id, event.recipient, event.description, event.mta_response):
            assert value is None or isinstance(value, str)


@pytest.mark.parametrize("message", ["", "Hello", "null", "[]", '"x"', "1", "[" * 100_000, "{", "9" * 5000])
def test_a_message_that_is_not_of_an_email(client: Client, events: list[Any], message: str) -> None:
    assert post(client, message).status_code == 400
    assert events == []


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b'"x"', b"[" * 10_000, b"\xff", b'{"Type": "Other"}'])
def test_a_body_of_another_shape(client: Client, events: list[Any], body: bytes) -> None:
    with override_settings(ANYMAIL=ANY_TIME):
        assert Call(URL, body).post(client).status_code == 400
    assert events == []


def test_nothing_is_fetched_but_by_the_view(rf: Any) -> None:
    options = load(ScalewayTrackingOptions, ("SCALEWAY",), {"webhook_max_age": None})
    request = rf.post(URL, sample("scaleway", DELIVERED), content_type="application/json")
    with pytest.raises(AnymailConfigurationError, match="SCALEWAY_SNS_CERTIFICATES"):
        ScalewayTracking(options).verify(request)
