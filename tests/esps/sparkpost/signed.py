"""SparkPost's webhook calls, for the tests that hold for every ESP: it signs nothing, but brings a token."""

from __future__ import annotations

from dataclasses import replace

from support import Call, Signed, sample

TOKEN = "9f8b2c-relay-token"
HEADER = "X-MessageSystems-Webhook-Token"
SAMPLES = {"tracking": "tracking-delivery.json", "inbound": "inbound-plain.json"}


def signed(kind: str) -> Signed:
    def call(now: float, body: bytes | None = None) -> Call:
        body = sample("sparkpost", SAMPLES[kind]) if body is None else body
        return Call(f"/anymail/sparkpost/{kind}/", body, {HEADER: TOKEN})

    def resigned(call: Call, text: str | None) -> Call:
        rest = {name: value for name, value in call.headers.items() if name != HEADER}
        return replace(call, headers=rest if text is None else {**rest, HEADER: text})

    return Signed(
        slug="sparkpost",
        kind=kind,
        settings={"SPARKPOST_WEBHOOK_TOKEN": TOKEN},
        rotated={"SPARKPOST_WEBHOOK_TOKEN": ["an-old-token", TOKEN]},
        key_setting="SPARKPOST_WEBHOOK_TOKEN",
        call=call,
        signature=lambda call: call.headers[HEADER],
        resigned=resigned,
        covers_body=False,
        signs_time=False,
    )


SIGNED = [signed("tracking"), signed("inbound")]
