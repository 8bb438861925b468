"""SNS's signed calls of Amazon SES's webhooks, for the tests that hold for every ESP that signs."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from anymail.esps.amazon_ses.sandbox import AmazonSESSandbox
from support import Call, Signed, sample, sample_json

SETTINGS: dict[str, Any] = AmazonSESSandbox().settings("http://sandbox/")
CERTIFICATES: dict[str, str] = SETTINGS["AMAZON_SES_SNS_CERTIFICATES"]
OLD = {sample_json("amazon_ses", "headers.json")["signing_cert_url"]: sample("amazon_ses", "sns-signing-cert.pem")}


def sns_call(kind: str, message: dict[str, Any], now: float | None = None) -> Call:
    """The sandbox's call of that webhook with a message of SES."""
    moment = dt.datetime.now(dt.UTC) if now is None else dt.datetime.fromtimestamp(now, dt.UTC)
    request = AmazonSESSandbox(lambda: moment).notification(message, f"/anymail/amazon_ses/{kind}/")
    headers = dict(request.headers)
    return Call(request.url, bytes(request.body), headers, headers.pop("Content-Type"))


def _caller(kind: str, name: str) -> Callable[..., Call]:
    def call(now: float, body: bytes | None = None) -> Call:
        message = json.loads(json.loads(sample("amazon_ses", name) if body is None else body)["Message"])
        return sns_call(kind, message, now)

    return call


def _resigned(call: Call, text: str | None) -> Call:
    envelope = json.loads(call.body)
    envelope.pop("Signature")
    return replace(call, body=json.dumps(envelope if text is None else {**envelope, "Signature": text}).encode())


def _signed(kind: str, name: str) -> Signed:
    return Signed(
        slug="amazon_ses",
        kind=kind,
        settings=SETTINGS,
        rotated={**SETTINGS, "AMAZON_SES_SNS_CERTIFICATES": {**OLD, **CERTIFICATES}},
        public_key=True,
        key_setting="",
        call=_caller(kind, name),
        signature=lambda call: str(json.loads(call.body)["Signature"]),
        resigned=_resigned,
    )


SIGNED = [_signed("tracking", "tracking-click.json"), _signed("inbound", "inbound-sns-base64.json")]
