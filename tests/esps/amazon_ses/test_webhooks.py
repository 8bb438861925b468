"""Amazon SES: webhook bodies (files) and the events they become; SNS's signatures; S3 and KMS."""

from __future__ import annotations

import datetime as dt
import json
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from django.test import Client, override_settings

from anymail.esps.amazon_ses import topics
from anymail.esps.amazon_ses.sandbox import TOPIC_ARN, sign_envelope, sns_key
from anymail.esps.amazon_ses.topics import SNSOptions, SNSWebhook
from anymail.esps.kit.topics import Certificates, check_signature, parsed_certificate, signed_bytes
from anymail.exceptions import (
    AnymailAPIError,
    AnymailConfigurationError,
    AnymailInsecureWebhookWarning,
    AnymailWebhookValidationFailure,
)
from anymail.webhooks.amazon_ses import AmazonSESTrackingWebhookView
from anymail.wire import Request, Response
from esps.amazon_ses.signed import OLD, SETTINGS, sns_call
from esps.amazon_ses.test_sending import PARAMS
from support import Call, answer, assert_inbound, assert_tracking, expectations, sample, sample_json

HEADERS = sample_json("amazon_ses", "headers.json")["headers"]
EXPECTED = expectations("amazon_ses")
KMS = sample_json("amazon_ses", "s3-kms-calls.json")
KEY_ID = KMS["kms_decrypt"]["request"]["json"]["KeyId"]
BASIC_AUTH = {"Authorization": "Basic dXNlcjpwYXNz"}
GOOD = {
    "WEBHOOK_SECRET": "user:pass",
    "WEBHOOK_MAX_AGE": None,
    "AMAZON_SES_CLIENT_PARAMS": PARAMS,
    "AMAZON_SES_SNS_CERTIFICATES": OLD,
    "AMAZON_SES_INBOUND_KMS_KEY_ID": KEY_ID,
    "RETRIES": 0,
}
S3_OBJECT = "https://example-ses-inbound.s3.us-east-1.amazonaws.com/mail/s3a1b2c3d4e5f6g7h8i9j0k1l2m3n4o5p6q7r8s1"
KMS_OBJECT = "https://example-ses-inbound.s3.us-east-1.amazonaws.com/secure/kms0z9y8x7w6v5u4t3s2r1q0p9o8n7m6l5k4j3i2"
SNS_API, KMS_API = "https://sns.us-east-1.amazonaws.com/", "https://kms.us-east-1.amazonaws.com/"


class FakeAWS:
    """A transport that answers from a table, by URL, and remembers what it was asked."""

    answers: ClassVar[dict[str, Response]] = {}
    requests: ClassVar[list[Request]] = []

    def __init__(self, **timeouts: Any) -> None:
        pass

    def send(self, request: Request) -> Response:
        self.requests.append(request)
        return self.answers[request.url]


@pytest.fixture
def aws() -> Iterator[type[FakeAWS]]:
    FakeAWS.requests.clear()
    FakeAWS.answers = {
        S3_OBJECT: Response(200, {}, sample("amazon_ses", "inbound-s3-object.eml")),
        KMS_OBJECT: Response(200, KMS["s3_get_response_headers"], sample("amazon_ses", "inbound-s3-kms-object.bin")),
        KMS_API: answer(200, KMS["kms_decrypt"]["response"]),
        SNS_API: answer(200, "<ConfirmSubscriptionResponse/>"),
    }
    topics._fetched._contents.clear()
    with override_settings(ANYMAIL={**GOOD, "TRANSPORT": FakeAWS}):
        yield FakeAWS
    topics._fetched._contents.clear()


def call(kind: str, name: str) -> Call:
    headers = {**BASIC_AUTH, **HEADERS[name]}
    return Call(f"/anymail/amazon_ses/{kind}/", sample("amazon_ses", name), headers, headers.pop("Content-Type"))


def kind_of(name: str) -> str:
    return "inbound" if name.startswith("inbound") else "tracking"


@pytest.mark.parametrize("name", [name for name, one in EXPECTED.items() if isinstance(one, list)])
def test_events(client: Client, events: list[Any], aws: type[FakeAWS], name: str) -> None:
    response = call(kind_of(name), name).post(client)
    assert response.status_code == 200
    if kind_of(name) == "tracking":
        assert_tracking(events, EXPECTED[name])
        return
    assert_inbound(events, EXPECTED[name])
    called = [request.url for request in aws.requests]
    assert [one.split()[1] for one in EXPECTED[name][0]["api_calls"]] == called
    assert events[0].esp_event["notificationType"] == "Received"


# Webhook and payload, and what the error says.
WRONG = [
    ("inbound", "inbound-lambda-action.json", "Lambda"),
    ("inbound", "tracking-delivery.json", "amazon_ses/tracking/"),
    ("inbound", "tracking-notification-bounce.json", "amazon_ses/tracking/"),
    ("tracking", "inbound-sns-utf8.json", "amazon_ses/inbound/"),
]


@pytest.mark.parametrize(("kind", "name", "text"), WRONG)
@pytest.mark.usefixtures("aws")
def test_the_wrong_webhook(client: Client, events: list[Any], kind: str, name: str, text: str) -> None:
    with pytest.raises(AnymailConfigurationError, match=text):
        call(kind, name).post(client)
    assert events == []


# SNS: who may call.


def envelope_call(changes: dict[str, Any] | None = None, **headers: str | None) -> Call:
    """A good call of the sandbox's, changed before (lower-case ``after`` keys: after) it was signed."""
    good = sns_call("tracking", {"eventType": "Send", "mail": {"destination": ["ana@example.net"]}})
    changes = dict(changes or {})
    after = changes.pop("after", {})
    envelope = {**json.loads(good.body), **changes}
    if changes:
        envelope = sign_envelope(envelope)
    envelope = {name: value for name, value in {**envelope, **after}.items() if value is not ...}
    merged = {**good.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
    kept = {name: value for name, value in merged.items() if value is not None}
    return replace(good, body=json.dumps(envelope).encode(), headers=kept)


def test_the_good_call_that_the_others_spoil(client: Client, events: list[Any]) -> None:
    with override_settings(ANYMAIL=SETTINGS):
        assert envelope_call({"Subject": None}).post(client).status_code == 200
        assert envelope_call({"after": {"UnsubscribeURL": "https://example.com/"}}).post(client).status_code == 200
    assert [event.event_type for event in events] == ["sent", "sent"]


SPOILT: dict[str, Call] = {
    "another type": envelope_call(x_amz_sns_message_type="SubscriptionConfirmation"),
    "another id": envelope_call(x_amz_sns_message_id="x"),
    "another topic in the header": envelope_call(x_amz_sns_topic_arn="arn:aws:sns:us-east-1:000000000000:other"),
    "raw delivery": envelope_call(x_amz_sns_rawdelivery="true"),
    "unknown type": envelope_call({"after": {"Type": "Hello"}}, x_amz_sns_message_type="Hello"),
    "no Type": envelope_call({"after": {"Type": ...}}),
    "Message is no string": envelope_call({"after": {"Message": {}}}),
    "no Message": envelope_call({"after": {"Message": ...}}),
    "Subject added": envelope_call({"Subject": None, "after": {"Subject": "x"}}),
    "Subject removed": envelope_call({"after": {"Subject": ...}}),
    "version 1 of a version 2": envelope_call({"after": {"SignatureVersion": "1"}}),
    "version 3": envelope_call({"after": {"SignatureVersion": "3"}}),
    "no version": envelope_call({"after": {"SignatureVersion": ...}}),
    "Signature is no string": envelope_call({"after": {"Signature": 1}}),
    "no Signature": envelope_call({"after": {"Signature": ...}}),
    "no certificate": envelope_call({"after": {"SigningCertURL": ...}}),
    "Timestamp is no time": envelope_call({"Timestamp": "yesterday"}),
    "Timestamp in the first year": envelope_call({"Timestamp": "0001-01-01T00:00:00Z"}),
    "no topic": envelope_call({"TopicArn": "x"}, x_amz_sns_topic_arn="x"),
}


@pytest.mark.parametrize("name", ["x_amz_sns_message_type", "x_amz_sns_message_id", "x_amz_sns_topic_arn"])
def test_a_header_that_a_proxy_left_out(client: Client, events: list[Any], name: str) -> None:
    """The envelope, which is signed, has it too."""
    with override_settings(ANYMAIL=SETTINGS):
        assert envelope_call(**{name: None}).post(client).status_code == 200
    assert len(events) == 1


@pytest.mark.parametrize("spoilt", SPOILT.values(), ids=SPOILT.keys())
def test_spoilt_calls(client: Client, events: list[Any], spoilt: Call) -> None:
    with override_settings(ANYMAIL=SETTINGS):
        assert spoilt.post(client).status_code == 400
    assert events == []


def test_base64_of_a_signature_has_one_form(client: Client) -> None:
    """Its last digit has four bits to spare."""
    good = envelope_call()
    envelope = json.loads(good.body)
    signature = envelope["Signature"]
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = signature[:-3] + digits[digits.index(signature[-3]) + 1] + "=="
    assert b64decode(other) == b64decode(signature)
    with override_settings(ANYMAIL=SETTINGS):
        spoilt = replace(good, body=json.dumps({**envelope, "Signature": other}).encode())
        assert spoilt.post(client).status_code == 400


BAD_HOSTS = [
    "http://sns.us-east-1.amazonaws.com{path}",
    "https://sns.us-east-1.amazonaws.com.example.net{path}",
    "https://example.com/sns.us-east-1.amazonaws.com{path}",
    "https://user@sns.us-east-1.amazonaws.com{path}",
    "https://sns.us-east-1.amazonaws.com@example.com{path}",
    "https://sns.us-east-1.amazonaws.com:8443{path}",
    "https://s3.amazonaws.com{path}",
    "https://sns.s3-x.amazonaws.com{path}",
    "https://sns.eu-west-1.amazonaws.com{path}",
    "https://sns.us-east-1.amazonaws.com.cn{path}",
    "https://SNS.us-east-1.amazonaws.com{path}",
    "https://sns.us-east-1.amazonaws.com\\@example.com{path}",
    "https://snѕ.us-east-1.amazonaws.com{path}",
    "//sns.us-east-1.amazonaws.com{path}",
    "https://sns.us-east-1.amazonaws.com/..{path}",
    "https://sns.us-east-1.amazonaws.com{path}?x=1",
    "https://sns.us-east-1.amazonaws.com{path}#x",
    "https://sns.us-east-1.amazonaws.com{path}\n",
    "https://sns.us-east-1.amazonaws.com/x.pem",
    "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0a.txt",
    "",
]


@pytest.mark.parametrize("pattern", BAD_HOSTS)
def test_certificates_of_other_places(client: Client, events: list[Any], pattern: str) -> None:
    """Not even where such a URL is pinned to the right certificate."""
    url = pattern.format(path="/SimpleNotificationService-0a.pem")
    settings = {**SETTINGS, "AMAZON_SES_SNS_CERTIFICATES": {url: sns_key().certificate}}
    with override_settings(ANYMAIL=settings):
        assert envelope_call({"after": {"SigningCertURL": url}}).post(client).status_code == 400
    assert events == []


@pytest.mark.parametrize(
    ("topic", "url"),
    [
        (
            "arn:aws:sns:eu-west-1:000000000000:x",
            "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a.pem",
        ),
        (
            "arn:aws-cn:sns:cn-north-1:000000000000:x",
            "https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-0a.pem",
        ),
        (
            "arn:aws-eusc:sns:eusc-de-east-1:000000000000:x",
            "https://sns.eusc-de-east-1.amazonaws.eu/SimpleNotificationService-0a.pem",
        ),
    ],
)
def test_certificates_of_other_regions(client: Client, events: list[Any], topic: str, url: str) -> None:
    settings = {"AMAZON_SES_TOPIC_ARNS": topic, "AMAZON_SES_SNS_CERTIFICATES": {url: sns_key().certificate}}
    with override_settings(ANYMAIL=settings):
        good = envelope_call({"TopicArn": topic, "after": {"SigningCertURL": url}}, x_amz_sns_topic_arn=topic)
        assert good.post(client).status_code == 200
    assert len(events) == 1


def test_foreign_topics(client: Client, events: list[Any]) -> None:
    settings = {**SETTINGS, "AMAZON_SES_TOPIC_ARNS": ["arn:aws:sns:us-east-1:111122223333:ours"]}
    with override_settings(ANYMAIL=settings):
        assert envelope_call().post(client).status_code == 400
    assert events == []
    with override_settings(
        ANYMAIL={**settings, "AMAZON_SES_TOPIC_ARNS": [*settings["AMAZON_SES_TOPIC_ARNS"], TOPIC_ARN]}
    ):
        assert envelope_call().post(client).status_code == 200


def test_a_signature_alone_is_not_enough(client: Client) -> None:
    settings = {name: value for name, value in SETTINGS.items() if name != "AMAZON_SES_TOPIC_ARNS"}
    with override_settings(ANYMAIL=settings):
        assert envelope_call().post(client).status_code == 404
    allowed = {**settings, "WEBHOOK_ALLOW_UNVERIFIED": ["amazon_ses"]}
    with override_settings(ANYMAIL=allowed), pytest.warns(AnymailInsecureWebhookWarning):
        assert envelope_call().post(client).status_code == 200


def test_credentials_are_asked_for(client: Client, events: list[Any]) -> None:
    """SNS sends them only after a 401."""
    with override_settings(ANYMAIL={**SETTINGS, "WEBHOOK_SECRET": "user:pass"}):
        response = envelope_call().post(client)
        assert (response.status_code, response["WWW-Authenticate"]) == (401, 'Basic realm="Anymail webhooks"')
        assert envelope_call(Authorization="Basic eDp5").post(client).status_code == 400
        assert events == []
        assert envelope_call(**BASIC_AUTH).post(client).status_code == 200
    assert len(events) == 1


def at(age: float) -> str:
    return dt.datetime.fromtimestamp(time.time() - age, dt.UTC).isoformat()


@pytest.mark.parametrize(("age", "status"), [(4400, 200), (4600, 400), (-200, 200), (-400, 400)])
def test_the_window(client: Client, age: float, status: int) -> None:
    with override_settings(ANYMAIL=SETTINGS):
        assert envelope_call({"Timestamp": at(age)}).post(client).status_code == status


@pytest.mark.parametrize("value", ["", [], [""], "arn", ["arn:aws:sqs:us-east-1:000000000000:x"], 1])
def test_wrong_topic_arns(client: Client, value: Any) -> None:
    settings = {**SETTINGS, "AMAZON_SES_TOPIC_ARNS": value}
    with override_settings(ANYMAIL=settings), pytest.raises(AnymailConfigurationError, match="AMAZON_SES_TOPIC_ARNS"):
        envelope_call().post(client)


@pytest.mark.parametrize("value", ["", ["x"], {"https://x/": ""}, {"https://x/": 1}])
def test_wrong_certificates_in_the_settings(client: Client, value: Any) -> None:
    settings = {**SETTINGS, "AMAZON_SES_SNS_CERTIFICATES": value}
    with override_settings(ANYMAIL=settings), pytest.raises(AnymailConfigurationError, match="SNS_CERTIFICATES"):
        envelope_call().post(client)


@pytest.mark.parametrize("index", range(5))
def test_signature_vectors(index: int) -> None:
    vector = sample_json("amazon_ses", "signature-vectors.json")[index]
    assert signed_bytes(vector["envelope"]) == vector["signed_utf8"].encode()
    certificate = parsed_certificate(sample("amazon_ses", "sns-signing-cert.pem"), "amazon-ses")
    check_signature(vector["envelope"], certificate)
    version = {"1": "2", "2": "1"}[vector["envelope"]["SignatureVersion"]]
    for change in ({"Message": "x"}, {"SignatureVersion": version}):
        with pytest.raises(AnymailWebhookValidationFailure):
            check_signature({**vector["envelope"], **change}, certificate)


# SNS: its certificates.


def certificate(name: str = "sns.amazonaws.com", days: tuple[int, int] = (-1, 1), alternative: str = "") -> bytes:
    """A certificate of the sandbox's key, valid from and until so many days from now."""
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, sns_key().key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now + dt.timedelta(days[0])).not_valid_after(now + dt.timedelta(days[1]))
    if alternative:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(alternative)]), critical=False)
    return builder.sign(sns_key().key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


# What is at the URL, the status of our answer, and how often two calls fetch it.
FETCHED: dict[str, tuple[Response, int, int]] = {
    "good": (Response(200, {}, certificate()), 200, 1),
    "of a newer region": (Response(200, {}, certificate("sns-signing.us-east-1.amazonaws.com")), 200, 1),
    "by its alternative name": (Response(200, {}, certificate("x", alternative="sns.amazonaws.com")), 200, 1),
    "of somebody else": (Response(200, {}, certificate("example.com")), 400, 2),
    "expired": (Response(200, {}, certificate(days=(-9, -1))), 400, 2),
    "not yet valid": (Response(200, {}, certificate(days=(1, 9))), 400, 2),
    "another key": (Response(200, {}, sample("amazon_ses", "sns-signing-cert.pem")), 400, 1),
    "no certificate": (Response(200, {}, b"<html>"), 400, 2),
    "redirect": (Response(302, {"Location": "http://169.254.169.254/"}), 400, 2),
    "missing": (Response(404), 400, 2),
}


@pytest.fixture
def _unpinned(aws: type[FakeAWS]) -> Iterator[None]:
    settings = {**SETTINGS, "TRANSPORT": aws, "AMAZON_SES_SNS_CERTIFICATES": {}}
    with override_settings(ANYMAIL=settings):
        yield


@pytest.mark.parametrize(("response", "status", "fetches"), FETCHED.values(), ids=FETCHED.keys())
@pytest.mark.usefixtures("_unpinned")
def test_fetched_certificates(
    client: Client, aws: type[FakeAWS], response: Response, status: int, fetches: int
) -> None:
    aws.answers[sns_key().url] = response
    assert [envelope_call().post(client).status_code for _ in range(2)] == [status, status]
    assert [(one.method, one.url, one.body) for one in aws.requests] == [("GET", sns_key().url, b"")] * fetches


@pytest.mark.parametrize("status", [408, 429, 500, 503])
@pytest.mark.usefixtures("_unpinned")
def test_a_failure_of_sns_is_not_the_callers(client: Client, aws: type[FakeAWS], status: int) -> None:
    aws.answers[sns_key().url] = Response(status)
    with pytest.raises(AnymailAPIError, match=str(status)):
        envelope_call().post(client)


@pytest.mark.usefixtures("_unpinned")
def test_nothing_is_fetched_for_a_foreign_topic_or_an_old_call(client: Client, aws: type[FakeAWS]) -> None:
    foreign = "arn:aws:sns:us-east-1:000000000000:foreign"
    assert envelope_call({"TopicArn": foreign}, x_amz_sns_topic_arn=foreign).post(client).status_code == 400
    assert envelope_call({"Timestamp": at(5000)}).post(client).status_code == 400
    assert aws.requests == []


@pytest.mark.usefixtures("_unpinned")
def test_a_kept_certificate_that_expires_is_dropped(aws: type[FakeAWS]) -> None:
    aws.answers[sns_key().url] = Response(200, {}, certificate())
    webhook = AmazonSESTrackingWebhookView().webhook()
    assert isinstance(webhook, SNSWebhook)
    names = {"sns.amazonaws.com"}
    webhook._certificate(sns_key().url, names)
    assert topics._fetched.get(sns_key().url) is not None
    webhook.clock = lambda: time.time() + 7 * 86400
    with pytest.raises(AnymailWebhookValidationFailure, match="not valid now"):
        webhook._certificate(sns_key().url, names)
    assert topics._fetched.get(sns_key().url) is None


def test_few_certificates_are_kept() -> None:
    kept = Certificates(most=2)
    for url in "abc":
        kept.keep(url, b"x")
    assert [kept.get(url) for url in "abc"] == [None, b"x", b"x"]


def test_without_the_view_nothing_is_fetched() -> None:
    with pytest.raises(AnymailConfigurationError, match="AMAZON_SES_SNS_CERTIFICATES"):
        SNSWebhook(SNSOptions()).fetch_certificate("https://x/")


# SNS: subscriptions.

CONFIRMATION = "tracking-subscription-confirmation.json"


@pytest.mark.parametrize("kind", ["tracking", "inbound"])
def test_a_subscription_is_confirmed_by_a_signed_call(
    client: Client, events: list[Any], aws: type[FakeAWS], kind: str
) -> None:
    assert call(kind, CONFIRMATION).post(client).status_code == 200
    [request] = aws.requests
    envelope = json.loads(sample("amazon_ses", CONFIRMATION))
    assert (request.method, request.url) == ("POST", SNS_API)
    assert dict(parse_qsl(bytes(request.body).decode())) == {
        "Action": "ConfirmSubscription",
        "Version": "2010-03-31",
        "TopicArn": envelope["TopicArn"],
        "Token": envelope["Token"],
        "AuthenticateOnUnsubscribe": "true",
    }
    assert "/us-east-1/sns/aws4_request" in request.headers["Authorization"]
    assert events == []


def test_a_confirmation_that_fails_is_tried_again(client: Client, aws: type[FakeAWS]) -> None:
    aws.answers[SNS_API] = answer(403, "<E><Code>AuthorizationError</Code><Message>not yours</Message></E>")
    with pytest.raises(AnymailAPIError, match="AuthorizationError: not yours") as raised:
        call("tracking", CONFIRMATION).post(client)
    for word in ("Amazon SNS", json.loads(sample("amazon_ses", CONFIRMATION))["TopicArn"], "sns:ConfirmSubscription"):
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "status", "logged"),
    [
        ({"AMAZON_SES_AUTO_CONFIRM_SNS_SUBSCRIPTIONS": False}, 200, ""),
        ({"WEBHOOK_SECRET": None, "WEBHOOK_ALLOW_UNVERIFIED": True}, 400, "a824b21b16f688d7"),
        (
            {"AMAZON_SES_TOPIC_ARNS": ["arn:aws:sns:us-east-1:111122223333:other"]},
            400,
            "its TopicArn, 'arn:aws:sns:us-east-1:111122223333:example-ses-events', is none of those",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::anymail.exceptions.AnymailInsecureWebhookWarning")
def test_subscriptions_that_are_not_confirmed(
    client: Client, aws: type[FakeAWS], caplog: Any, settings: dict[str, Any], status: int, logged: str
) -> None:
    with override_settings(ANYMAIL={**GOOD, "TRANSPORT": aws, **settings}):
        assert call("tracking", CONFIRMATION).post(client).status_code == status
    assert aws.requests == []
    assert logged in caplog.text


def test_an_end_of_a_subscription_is_not_undone(client: Client, aws: type[FakeAWS]) -> None:
    assert call("tracking", "tracking-unsubscribe-confirmation.json").post(client).status_code == 200
    assert aws.requests == []


# Tracking.


def tracked(client: Client, message: dict[str, Any], **settings: Any) -> int:
    with override_settings(ANYMAIL={**SETTINGS, **settings}):
        status: int = sns_call("tracking", message).post(client).status_code
    return status


def headers_of(*headers: tuple[str, str]) -> dict[str, Any]:
    return {"destination": ["ana@example.net"], "headers": [{"name": name, "value": value} for name, value in headers]}


# The subtype of a bounce or complaint, and what it becomes.
SUBTYPES = {
    ("Bounce", "Suppressed"): ("rejected", "bounced"),
    ("Bounce", "OnAccountSuppressionList"): ("rejected", "bounced"),
    ("Bounce", "OnTenantSuppressionList"): ("rejected", "bounced"),
    ("Bounce", "EmailValidationSuppressed"): ("rejected", "invalid"),
    ("Bounce", "UnsubscribedRecipient"): ("rejected", "unsubscribed"),
    ("Bounce", "AttachmentRejected"): ("bounced", "blocked"),
    ("Bounce", "ContentRejected"): ("bounced", "blocked"),
    ("Bounce", "CustomTimeoutExceeded"): ("bounced", "timed_out"),
    ("Bounce", "General"): ("bounced", "bounced"),
    ("Bounce", "MailboxFull"): ("bounced", "bounced"),
    ("Bounce", None): ("bounced", "bounced"),
    ("Bounce", 7): ("bounced", "bounced"),
    ("Complaint", "OnAccountSuppressionList"): ("rejected", "spam"),
    ("Complaint", None): ("complained", None),
}


@pytest.mark.parametrize("notification", ["eventType", "notificationType"])
@pytest.mark.parametrize(("what", "expected"), SUBTYPES.items())
def test_subtypes(client: Client, events: list[Any], what: Any, expected: Any, notification: str) -> None:
    kind, subtype = what
    details = {f"{kind.lower()}SubType": subtype}
    assert tracked(client, {notification: kind, kind.lower(): details}) == 200
    assert [(event.event_type, event.reject_reason) for event in events] == [expected]


# What a tracking event holds, and what it becomes.
READ: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "no subtype": ({"eventType": "Bounce", "bounce": {"bounceType": "Permanent"}}, {"description": "Permanent"}),
    "no types": ({"eventType": "Bounce", "bounce": {}}, {"description": None, "mta_response": None}),
    "an agent of a feedback loop": (
        {"eventType": "Complaint", "complaint": {"userAgent": "FBL", "complaintFeedbackType": "abuse"}},
        {"user_agent": None, "description": "abuse", "reject_reason": None},
    ),
    "an open": (
        {"eventType": "Open", "open": {"userAgent": "Firefox", "ipAddress": "192.0.2.1", "link": "https://x/"}},
        {"user_agent": "Firefox", "ip": "192.0.2.1", "click_url": None, "by_machine": None},
    ),
    "empty strings": (
        {
            "eventType": "Click",
            "mail": {"messageId": "", "destination": [""]},
            "click": {"userAgent": "", "ipAddress": "", "link": ""},
        },
        {"message_id": None, "recipient": None, "user_agent": None, "ip": None, "click_url": None},
    ),
    "an empty response": (
        {"eventType": "Delivery", "delivery": {"smtpResponse": "", "recipients": ["ana@example.net"]}},
        {"mta_response": None, "recipient": "ana@example.net"},
    ),
    "a status code": (
        {
            "eventType": "Bounce",
            "bounce": {"bouncedRecipients": [{"emailAddress": "a@example.net", "status": "5.1.1"}]},
        },
        {"enhanced_code": "5.1.1", "smtp_code": None, "recipient": "a@example.net"},
    ),
    "no status code": (
        {"eventType": "Bounce", "bounce": {"bouncedRecipients": [{"status": "unknown"}]}},
        {"enhanced_code": None},
    ),
    "the event's own time": (
        {"eventType": "Click", "click": {"timestamp": "2026-03-04T08:13:02.115Z"}},
        {"timestamp": dt.datetime(2026, 3, 4, 8, 13, 2, 115_000, tzinfo=dt.UTC)},
    ),
}


@pytest.mark.parametrize(("message", "expected"), READ.values(), ids=READ.keys())
def test_tracking_values(client: Client, events: list[Any], message: Any, expected: dict[str, Any]) -> None:
    assert tracked(client, message) == 200
    [got] = events
    assert {name: getattr(got, name) for name in expected} == expected


@pytest.mark.parametrize("details", [{}, {"timestamp": "soon"}, {"timestamp": None}])
def test_an_event_without_a_time_of_its_own_has_that_of_sns(client: Client, events: list[Any], details: Any) -> None:
    good = sns_call("tracking", {"eventType": "Open", "open": details})
    with override_settings(ANYMAIL=SETTINGS):
        good.post(client)
    assert events[0].timestamp == dt.datetime.fromisoformat(json.loads(good.body)["Timestamp"])


def test_an_unknown_kind_is_an_unknown_event(client: Client, events: list[Any]) -> None:
    assert tracked(client, {"eventType": "Vanished"}) == 200
    [event] = events
    assert (event.event_type, event.recipient, event.esp_event) == ("unknown", None, {"eventType": "Vanished"})
    assert event.description == "Unknown SES eventType 'Vanished'"


@pytest.mark.parametrize(
    ("value", "metadata"),
    [
        ('{"a": 1,\r\n "b": "x"}', {"a": 1, "b": "x"}),
        ("=?utf-8?b?eyJhIjogMX0=?=", {"a": 1}),
        ("{", {}),
        ("[1]", {}),
        ("=?utf-8?b?!?=", {}),
    ],
)
def test_metadata_comes_back_as_it_may(client: Client, events: list[Any], value: str, metadata: Any) -> None:
    assert tracked(client, {"eventType": "Send", "mail": headers_of(("x-metadata", value))}) == 200
    assert events[0].metadata == metadata


def test_tags_are_decoded(client: Client, events: list[Any]) -> None:
    mail = headers_of(("X-Tag", "=?utf-8?q?gr=C3=BCn?="), ("x-tag", "b"))
    assert tracked(client, {"eventType": "Send", "mail": mail}) == 200
    assert events[0].tags == ["grün", "b"]


def test_message_tags_stand_in_for_missing_headers(client: Client, events: list[Any]) -> None:
    mail = {"destination": ["ana@example.net"], "tags": {"campaign": ["receipt"], "ses:source-ip": ["192.0.2.1"]}}
    assert tracked(client, {"eventType": "Send", "mail": mail}, AMAZON_SES_MESSAGE_TAG_NAME="campaign") == 200
    assert tracked(client, {"eventType": "Open", "mail": mail}) == 200
    assert [event.tags for event in events] == [["receipt"], []]


def preferences(everything: bool = False, **topics: str) -> dict[str, Any]:
    statuses = [{"topicName": name, "subscriptionStatus": status} for name, status in topics.items()]
    return {"unsubscribeAll": everything, "topicSubscriptionStatus": statuses}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (preferences(a="OptIn"), preferences(True, a="OptIn"), "unsubscribed"),
        (preferences(a="OptIn"), preferences(a="OptOut"), "unsubscribed"),
        (preferences(a="OptIn", b="OptOut"), preferences(a="OptOut", b="OptIn"), "unsubscribed"),
        (preferences(a="OptOut"), preferences(a="OptIn"), "subscribed"),
        (preferences(True), preferences(False), "subscribed"),
        (preferences(a="OptIn"), preferences(a="OptIn"), "unknown"),
        (None, None, "unknown"),
    ],
)
def test_subscriptions(client: Client, events: list[Any], old: Any, new: Any, expected: str) -> None:
    details = {"oldTopicPreferences": old, "newTopicPreferences": new}
    assert tracked(client, {"eventType": "Subscription", "subscription": details}) == 200
    assert events[0].event_type == expected


@pytest.mark.parametrize(
    "message",
    [
        {"eventType": "Send", "mail": []},
        {"eventType": "Send", "mail": [1]},
        {"eventType": "Send", "mail": {"headers": [1]}},
        {"eventType": "Bounce", "bounce": "x"},
        {"eventType": "Subscription", "subscription": {"newTopicPreferences": 1}},
        {"eventType": ["Send"]},
        {},
    ],
)
def test_malformed_values_are_no_500(client: Client, message: Any) -> None:
    assert tracked(client, message) in (200, 400)


@pytest.mark.parametrize("text", ["hello", "[1]", "null", "[" * 10_000])
def test_messages_of_somebody_else_than_ses(client: Client, events: list[Any], text: str) -> None:
    with override_settings(ANYMAIL=SETTINGS):
        assert envelope_call({"Message": text}).post(client).status_code == 400
    assert events == []


# Inbound.


def stored(**headers: str) -> Response:
    return Response(
        200, {**KMS["s3_get_response_headers"], **headers}, sample("amazon_ses", "inbound-s3-kms-object.bin")
    )


def test_the_calls_for_an_encrypted_message(client: Client, events: list[Any], aws: type[FakeAWS]) -> None:
    assert call("inbound", "inbound-s3-kms.json").post(client).status_code == 200
    get, decrypt = aws.requests
    assert get.max_response == 64 * 1024 * 1024
    assert (
        "/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date" in get.headers["Authorization"]
    )
    expected = KMS["kms_decrypt"]["request"]
    assert json.loads(bytes(decrypt.body)) == expected["json"]
    assert {name: decrypt.headers[name] for name in expected["headers"]} == expected["headers"]
    assert "/us-east-1/kms/aws4_request" in decrypt.headers["Authorization"]


def test_a_bucket_in_another_region(client: Client, events: list[Any], aws: type[FakeAWS]) -> None:
    aws.answers[S3_OBJECT] = Response(301, {"x-amz-bucket-region": "eu-west-1"}, b"<Error/>")
    there = S3_OBJECT.replace(".us-east-1", "")
    aws.answers[there] = Response(200, {}, sample("amazon_ses", "inbound-s3-object.eml"))
    assert call("inbound", "inbound-s3.json").post(client).status_code == 200
    assert [request.url for request in aws.requests] == [S3_OBJECT, there]
    assert "/eu-west-1/s3/aws4_request" in aws.requests[1].headers["Authorization"]
    assert len(events) == 1


# What S3 and KMS answer, and what the error says.
UNREADABLE: dict[str, tuple[str, dict[str, Any], str]] = {
    "no such object": ("s3", {S3_OBJECT: answer(404, "<Error><Code>NoSuchKey</Code></Error>")}, "NoSuchKey"),
    "forbidden": ("s3", {S3_OBJECT: answer(403, "<Error><Code>AccessDenied</Code></Error>")}, "AccessDenied"),
    "forbidden by S3": (
        "s3",
        {S3_OBJECT: answer(403, "<Error><Code>AccessDenied</Code></Error>")},
        "Amazon S3 answered",
    ),
    "forbidden, and what is missing": (
        "s3",
        {S3_OBJECT: answer(403, "<Error><Code>AccessDenied</Code></Error>")},
        "The credentials need the permission s3:GetObject.",
    ),
    "moved to nowhere": ("s3", {S3_OBJECT: Response(301, {"x-amz-bucket-region": "x/../y"})}, "301"),
    "moved to here": ("s3", {S3_OBJECT: Response(301, {"x-amz-bucket-region": "us-east-1"})}, "301"),
    "legacy encryption": (
        "s3-kms",
        {KMS_OBJECT: stored(**{"x-amz-meta-x-amz-cek-alg": "AES/CBC/PKCS5Padding"})},
        "CBC",
    ),
    "another wrapping": ("s3-kms", {KMS_OBJECT: stored(**{"x-amz-meta-x-amz-wrap-alg": "RSA"})}, "encrypted"),
    "broken nonce": ("s3-kms", {KMS_OBJECT: stored(**{"x-amz-meta-x-amz-iv": "AAAA"})}, "decrypted"),
    "broken context": ("s3-kms", {KMS_OBJECT: stored(**{"x-amz-meta-x-amz-matdesc": "{"})}, "decrypted"),
    "KMS refuses": ("s3-kms", {KMS_API: answer(400, {"__type": "AccessDeniedException"})}, "AWS KMS answered"),
    "KMS refuses, and what is missing": (
        "s3-kms",
        {KMS_API: answer(400, {"__type": "AccessDeniedException"})},
        "The credentials need the permission kms:Decrypt.",
    ),
    "KMS answers nonsense": ("s3-kms", {KMS_API: answer(200, {"Plaintext": 1})}, "decrypted"),
    "another key": ("s3-kms", {KMS_API: answer(200, {"Plaintext": b64encode(bytes(32)).decode()})}, "InvalidTag"),
}


@pytest.mark.parametrize(("name", "answers", "text"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_messages_that_cannot_be_had(
    client: Client, events: list[Any], aws: type[FakeAWS], name: str, answers: dict[str, Response], text: str
) -> None:
    aws.answers.update(answers)
    with pytest.raises(AnymailAPIError, match=r"example-ses-inbound:(mail|secure)/") as raised:
        call("inbound", f"inbound-{name}.json").post(client)
    assert text in str(raised.value)
    assert events == []


def test_an_encrypted_message_needs_the_key_id(client: Client, aws: type[FakeAWS]) -> None:
    settings = {**GOOD, "TRANSPORT": aws, "AMAZON_SES_INBOUND_KMS_KEY_ID": None}
    with override_settings(ANYMAIL=settings), pytest.raises(AnymailConfigurationError, match="KMS_KEY_ID"):
        call("inbound", "inbound-s3-kms.json").post(client)


def test_the_key_id_does_no_harm_to_a_plain_message(client: Client, events: list[Any], aws: type[FakeAWS]) -> None:
    assert call("inbound", "inbound-s3.json").post(client).status_code == 200
    assert [request.url for request in aws.requests] == [S3_OBJECT]


@pytest.mark.parametrize(
    ("verdict", "spam"),
    [({"status": "PASS"}, False), ({"status": "FAIL"}, True), ({"status": "GRAY"}, None), ({"status": []}, None),
     (None, None)],
)  # fmt: skip
def test_spam_verdicts(client: Client, events: list[Any], verdict: Any, spam: bool | None) -> None:
    receipt = {"spamVerdict": verdict, "action": {"type": "SNS", "encoding": "UTF8"}}
    message = {"notificationType": "Received", "mail": {}, "receipt": receipt, "content": "Subject: Grüße\n\nx"}
    with override_settings(ANYMAIL=SETTINGS):
        assert sns_call("inbound", message).post(client).status_code == 200
    [event] = events
    assert (event.message.spam_detected, event.message.subject) == (spam, "Grüße")


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"mail": 1, "receipt": 1},
        {"mail": {}, "receipt": {"action": {"type": "SNS"}}},
        {"mail": {}, "receipt": {"action": {"type": "SNS", "encoding": "BASE64"}}, "content": "é"},
        {"mail": {}, "receipt": {"action": {"type": "S3"}}},
        {"mail": {}, "receipt": {"action": {"type": "S3", "bucketName": 1, "objectKey": 2}}},
    ],
)
@pytest.mark.usefixtures("aws")
def test_malformed_inbound_values_are_no_500(client: Client, events: list[Any], message: dict[str, Any]) -> None:
    with override_settings(ANYMAIL=SETTINGS):
        assert sns_call("inbound", {"notificationType": "Received", **message}).post(client).status_code == 400
    assert events == []
