"""Webhook calls through the Django view, from the request to the signals, in process.

The baseline is a view that does no more than read the same body as JSON.
"""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.test import RequestFactory, override_settings

from anymail.esps.amazon_ses.sandbox import AmazonSESSandbox
from anymail.esps.kit.sandbox import SandboxDelivery, SandboxESP
from anymail.esps.mailgun.sandbox import MailgunSandbox
from anymail.esps.postmark.sandbox import PostmarkSandbox
from anymail.esps.sendgrid.sandbox import SendGridSandbox, sign
from anymail.signals import tracking
from anymail.webhooks.amazon_ses import AmazonSESTrackingWebhookView
from anymail.webhooks.mailgun import MailgunTrackingWebhookView
from anymail.webhooks.postmark import PostmarkTrackingWebhookView
from anymail.webhooks.sendgrid import SendGridTrackingWebhookView
from anymail.wire import Request
from benchmarks.measure import Row, Size, compare

View = Callable[[HttpRequest], HttpResponseBase]
Make = Callable[[], Request]

_URL = "http://sandbox/"
_BASIC_AUTH = "hook:benchmark"
_BATCH = 1000


def webhooks(size: Size) -> Iterator[Row]:
    """Signed as by the ESP; each call is another one, since a repeated one is handled but once."""
    received = 0

    def receive(**kwargs: Any) -> None:
        nonlocal received
        received += 1

    tracking.connect(receive)
    try:
        for what, view, make, settings, events in _cases():
            calls = max(1, size.calls // events)
            with override_settings(ANYMAIL=settings):
                received = 0
                work, baseline = (partial(_calling, each, make, calls) for each in (view, _bare))
                compared = compare(size.rounds, work, baseline)
                assert received == calls * events * (size.rounds + 1)
            ours, bare = (calls * events / max(seconds, 1e-9) for seconds in (compared.cpu, compared.baseline))
            yield Row(what, compared.ratio, detail=f"{ours:,.0f} events per CPU second against {bare:,.0f}")
    finally:
        tracking.disconnect(receive)


def _cases() -> Iterator[tuple[str, View, Make, dict[str, Any], int]]:
    """What is called, its view, what makes a call, its settings, and the events in a call."""
    esp: SandboxESP
    esp = PostmarkSandbox()
    settings = {**esp.settings(_URL), "WEBHOOK_SECRET": _BASIC_AUTH}
    yield "Postmark: one event, basic auth", PostmarkTrackingWebhookView.as_view(), partial(_one, esp), settings, 1
    esp = MailgunSandbox()
    yield "Mailgun: one event, HMAC", MailgunTrackingWebhookView.as_view(), partial(_one, esp), esp.settings(_URL), 1
    esp = AmazonSESSandbox()
    view = AmazonSESTrackingWebhookView.as_view()
    yield "Amazon SES: one event, RSA of SNS", view, partial(_one, esp), esp.settings(_URL), 1
    esp = SendGridSandbox()
    what = f"SendGrid: {_BATCH} events, ECDSA"
    yield what, SendGridTrackingWebhookView.as_view(), partial(_batch, esp), esp.settings(_URL), _BATCH


def _delivery(esp: SandboxESP) -> SandboxDelivery:
    return SandboxDelivery(
        recipient="ana@example.net",
        message_id=esp.new_id(),
        from_email="shop@example.com",
        to="ana@example.net",
        subject="Your order",
        metadata={"order_id": "1042"},
        tags=["receipt"],
        extra={
            "stream": "outbound",
            "domain": "example.com",
            "headers": [],
            "tags": {},
            "x_message_id": esp.new_id(),
        },
    )


def _one(esp: SandboxESP) -> Request:
    return esp.event("delivered", _delivery(esp), _URL)


def _batch(esp: SandboxESP) -> Request:
    events = [event for _ in range(_BATCH) for event in json.loads(bytes(_one(esp).body))]
    body = json.dumps(events).encode()
    return Request("POST", _URL, {"Content-Type": "application/json", **sign(body, int(time.time()))}, body)


def _calling(view: View, make: Make, calls: int) -> Callable[[], None]:
    ready = [_received(make()) for _ in range(calls)]

    def call() -> None:
        for request in ready:
            assert view(request).status_code == 200

    return call


def _received(call: Request) -> HttpRequest:
    headers = dict(call.headers)
    content_type = headers.pop("Content-Type")
    headers["Authorization"] = f"Basic {b64encode(_BASIC_AUTH.encode()).decode()}"
    return RequestFactory(headers=headers).post("/", bytes(call.body), content_type=content_type)


def _bare(request: HttpRequest) -> HttpResponse:
    json.loads(request.body)
    return HttpResponse()
