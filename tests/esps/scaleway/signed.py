"""Scaleway's signed webhook, for the tests that hold for every ESP that signs."""

from __future__ import annotations

import datetime as dt
import json
from base64 import b64encode
from dataclasses import replace
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from anymail.esps.kit.topics import signed_bytes
from anymail.wire import Request, Response
from support import ESPS, Call, Signed, sample, sample_json

URL = "/anymail/scaleway/tracking/"
SIGNATURES = sample_json("scaleway", "signatures.json")
TOPIC_ARN: str = SIGNATURES["topic_arn"]
CERTIFICATE_URL: str = SIGNATURES["signing_cert_url"]
TEST_CHAIN = ESPS / "scaleway" / "samples" / "test-trust-chain.pem"


class CertificateServer:
    """A transport to the place where the test certificate is, and nothing else."""

    def __init__(self, *, connect_timeout: float | None, read_timeout: float | None) -> None:
        pass

    def send(self, request: Request) -> Response:
        assert (request.method, request.url) == ("GET", CERTIFICATE_URL)
        return Response(200, {}, sample("scaleway", "test-signing-cert.pem"))


SETTINGS: dict[str, Any] = {
    "SCALEWAY_WEBHOOK_TOPIC_ARNS": TOPIC_ARN,
    "SCALEWAY_SNS_TRUST_CHAIN": str(TEST_CHAIN),
    "TRANSPORT": CertificateServer,
}


@cache
def _key() -> Any:
    return load_pem_private_key(sample("scaleway", "test-signing-key.pem"), None)


def signed_again(envelope: dict[str, Any]) -> dict[str, Any]:
    signature = _key().sign(signed_bytes(envelope), padding.PKCS1v15(), hashes.SHA1())
    return {**envelope, "SignatureVersion": "1", "Signature": b64encode(signature).decode()}


def posted(envelope: Any, **headers: str) -> Call:
    body = json.dumps(envelope, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return Call(URL, body, headers, content_type="text/plain; charset=UTF-8")


def call(now: float, body: bytes | None = None) -> Call:
    """An authentic call; ``body`` is the event in it."""
    envelope = sample_json("scaleway", "tracking-email_delivered.json")
    if body is not None:
        envelope["Message"] = body.decode()
    envelope["Timestamp"] = dt.datetime.fromtimestamp(int(now), dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return posted(signed_again(envelope))


def _resigned(call: Call, text: str | None) -> Call:
    envelope = {name: value for name, value in json.loads(call.body).items() if name != "Signature"}
    return replace(call, body=json.dumps(envelope if text is None else {**envelope, "Signature": text}).encode())


SIGNED = [
    Signed(
        slug="scaleway",
        kind="tracking",
        settings=SETTINGS,
        rotated={
            **SETTINGS,
            "SCALEWAY_SNS_TRUST_CHAIN": sample("scaleway", "test-signing-cert-selfsigned.pem")
            + TEST_CHAIN.read_bytes(),
        },
        public_key=True,
        key_setting="",
        call=call,
        signature=lambda call: json.loads(call.body)["Signature"],
        resigned=_resigned,
    )
]
