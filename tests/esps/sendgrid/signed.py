"""SendGrid's signed webhooks, for the tests that hold for every ESP that signs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from anymail.esps.sendgrid.sandbox import sign, verification_key
from anymail.esps.sendgrid.tracking import SIGNATURE
from support import Call, Signed, sample, sample_json

KEY = verification_key()
#: The key of the sample payloads.
SAMPLE_KEY = sample_json("sendgrid", "_requests.json")["public_key"]


def _signer(kind: str, payload: str, content_type: str) -> Callable[..., Call]:
    def call(now: float, body: bytes | None = None) -> Call:
        body = sample("sendgrid", payload) if body is None else body
        return Call(f"/anymail/sendgrid/{kind}/", body, sign(body, int(now)), content_type)

    return call


def _resigned(call: Call, text: str | None) -> Call:
    headers = {**call.headers, SIGNATURE: text}
    return replace(call, headers={name: value for name, value in headers.items() if value is not None})


def _signed(kind: str, payload: str, content_type: str) -> Signed:
    setting = f"SENDGRID_{kind.upper()}_WEBHOOK_VERIFICATION_KEY"
    return Signed(
        slug="sendgrid",
        kind=kind,
        settings={setting: KEY},
        rotated={setting: [SAMPLE_KEY, KEY]},
        public_key=True,
        key_setting=setting,
        call=_signer(kind, payload, content_type),
        signature=lambda call: call.headers[SIGNATURE],
        resigned=_resigned,
    )


SIGNED = [
    _signed("tracking", "tracking-delivered.json", "application/json"),
    _signed("inbound", "inbound-parsed.txt", "multipart/form-data; boundary=xYzZY"),
]
