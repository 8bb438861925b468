"""MailerSend's signed webhooks, for the tests that hold for every ESP that signs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from anymail.esps.mailersend.tracking import signature
from support import Call, Signed, sample

SECRET = "q7Xr2LmV9sTzB4nKcW8yHd1EfJ6uPa3G"


def signed_call(kind: str, body: bytes, secret: str = SECRET) -> Call:
    return Call(f"/anymail/mailersend/{kind}/", body, {"Signature": signature(secret, body)})


def _caller(kind: str, name: str) -> Callable[..., Call]:
    def call(now: float, body: bytes | None = None) -> Call:
        return signed_call(kind, sample("mailersend", name) if body is None else body)

    return call


def _resigned(call: Call, text: str | None) -> Call:
    return replace(call, headers={} if text is None else {"Signature": text})


def _signed(kind: str, name: str, setting: str) -> Signed:
    return Signed(
        slug="mailersend",
        kind=kind,
        settings={setting: SECRET},
        rotated={setting: ["an-older-secret", SECRET]},
        key_setting=setting,
        call=_caller(kind, name),
        signature=lambda call: call.headers["Signature"],
        resigned=_resigned,
        signs_time=False,
    )


SIGNED = [
    _signed("tracking", "tracking-clicked.json", "MAILERSEND_SIGNING_SECRET"),
    _signed("inbound", "inbound-message.json", "MAILERSEND_INBOUND_SECRET"),
]
