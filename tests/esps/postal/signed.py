"""Postal's signed webhooks, for the tests that hold for every ESP that signs."""

from __future__ import annotations

from dataclasses import replace

from anymail.esps.postal.sandbox import sign, webhook_key
from anymail.esps.postal.tracking import SIGNATURE_1, SIGNATURE_256
from support import Call, Signed, sample, sample_json

KEY = webhook_key()
#: The key of the sample payloads.
SAMPLE_KEY = sample_json("postal", "signatures.json")["webhook_key"]


def _signed(kind: str, file: str, header: str) -> Signed:
    def call(now: float, body: bytes | None = None) -> Call:
        body = sample("postal", file) if body is None else body
        return Call(f"/anymail/postal/{kind}/", body, {header: sign(body)[header]})

    def resigned(call: Call, signature: str | None) -> Call:
        return replace(call, headers={} if signature is None else {header: signature})

    return Signed(
        slug="postal",
        kind=kind,
        settings={"POSTAL_WEBHOOK_KEY": KEY},
        rotated={"POSTAL_WEBHOOK_KEY": [SAMPLE_KEY, KEY]},
        public_key=True,
        key_setting="POSTAL_WEBHOOK_KEY",
        call=call,
        signature=lambda call: call.headers[header],
        resigned=resigned,
        signs_time=False,
    )


SIGNED = [
    _signed("tracking", "tracking-MessageSent.json", SIGNATURE_256),
    # As before Postal 3.2.
    _signed("inbound", "inbound-raw.json", SIGNATURE_1),
]
