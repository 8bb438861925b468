"""Amazon SES, SNS and S3 as moto plays them: from Django's door to the wire and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from django.test import Client, override_settings
from moto.core import DEFAULT_ACCOUNT_ID
from moto.server import ThreadedMotoServer
from moto.ses.models import ses_backends

from anymail.backends.amazon_ses import EmailBackend
from anymail.conf import SendOptions, load
from anymail.delivery.calls import Caller
from anymail.delivery.transport import PooledTransport
from anymail.esps.amazon_ses.topics import SNSOptions, SNSWebhook
from esps.amazon_ses.signed import SETTINGS, sns_call
from esps.amazon_ses.test_sending import PARAMS
from support import PNG, message, sample


@pytest.fixture(scope="module")
def params() -> Iterator[dict[str, Any]]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {**PARAMS, "endpoint_url": f"http://{host}:{port}"}
    server.stop()


def client_of(service: str, params: dict[str, Any]) -> Any:
    return botocore.session.Session().create_client(service, **params)


def test_sending(params: dict[str, Any]) -> None:
    client_of("sesv2", params).create_email_identity(EmailIdentity="shop@example.com")
    sent = ses_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].sent_messages
    with override_settings(ANYMAIL={"AMAZON_SES_CLIENT_PARAMS": params}):
        for attributes in ({"html": "<p>Grüße"}, {"tags": ["a", "b"], "attach": [("a.png", PNG, "image/png")]}):
            one = message(**attributes)
            assert EmailBackend().send_messages([one]) == 1
            assert one.anymail_status.message_id == sent[-1].id
            assert one.anymail_status.recipients["ana@example.net"].status == "queued"
    simple, raw = sent[-2:]
    assert (simple.source, simple.subject, simple.body) == ("shop@example.com", "Hi", "<p>Grüße")
    assert "X-Tag: b" in raw.raw_data


def test_receiving_from_s3(client: Client, events: list[Any], params: dict[str, Any]) -> None:
    s3 = client_of("s3", params)
    s3.create_bucket(Bucket="example-ses-inbound")
    s3.put_object(Bucket="example-ses-inbound", Key="mail/a b+ü", Body=sample("amazon_ses", "inbound-s3-object.eml"))
    action = {"type": "S3", "bucketName": "example-ses-inbound", "objectKey": "mail/a b+ü"}
    received = {"notificationType": "Received", "mail": {"messageId": "m"}, "receipt": {"action": action}}
    with override_settings(ANYMAIL={**SETTINGS, "AMAZON_SES_CLIENT_PARAMS": params}):
        assert sns_call("inbound", received).post(client).status_code == 200
    assert [event.message.subject for event in events] == ["Wrong item"]


def test_confirming_a_subscription(params: dict[str, Any]) -> None:
    topic = client_of("sns", params).create_topic(Name="example-ses-events")["TopicArn"]
    webhook: SNSWebhook[SNSOptions] = SNSWebhook(load(SNSOptions, ("AMAZON_SES",), {"client_params": params}))
    envelope = {"Type": "SubscriptionConfirmation", "TopicArn": topic, "Token": "token"}
    transport = PooledTransport(connect_timeout=5, read_timeout=5)
    assert Caller(webhook, transport, SendOptions()).run(webhook.read(envelope))[0] == ()
