"""Resend's signed webhooks, for the tests that hold for every ESP that signs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from anymail.esps.resend.sandbox import signed
from anymail.wire import Request, Response
from support import Call, Signed, answer, sample

TRACKING_SECRET = "whsec_YW55bWFpbC1zaGVldC1yZXNlbmQta2V5"
INBOUND_SECRET = "whsec_YW55bWFpbC1zaGVldC1pbmJuZC1rZXlz"
OLD_SECRET = "whsec_YW4tb2xkLXNlY3JldC1vZi1yZXNlbmQ="


class ResendsFiles:
    """A transport to Resend's API and its CDN as they are in the samples."""

    FILES = {
        "/emails/receiving/c4e19a70-52d3-4f0b-a7e6-6d1b9c3f8a25": "api-receiving-email.json",
        "/raw/c4e19a70-52d3-4f0b-a7e6-6d1b9c3f8a25": "raw-email.received.eml",
    }

    def __init__(self, *, connect_timeout: float | None, read_timeout: float | None) -> None:
        pass

    def send(self, request: Request) -> Response:
        return answer(200, sample("resend", self.FILES[urlsplit(request.url).path]))


TRACKING = {"RESEND_SIGNING_SECRET": TRACKING_SECRET}
INBOUND = {"RESEND_INBOUND_SECRET": INBOUND_SECRET, "RESEND_API_KEY": "re_full", "TRANSPORT": ResendsFiles}


def resigned(call: Call, signature: str | None) -> Call:
    headers = {name: value for name, value in call.headers.items() if name != "svix-signature"}
    return replace(call, headers=headers if signature is None else {**headers, "svix-signature": signature})


def _signed(kind: str, settings: dict[str, Any], key_setting: str, file: str) -> Signed:
    secret = settings[key_setting]

    def call(now: float, body: bytes | None = None) -> Call:
        body = sample("resend", file) if body is None else body
        return Call(f"/anymail/resend/{kind}/", body, signed(secret, "msg_1", int(now), body))

    return Signed(
        slug="resend",
        kind=kind,
        settings=settings,
        rotated={**settings, key_setting: [OLD_SECRET, secret]},
        key_setting=key_setting,
        call=call,
        signature=lambda call: call.headers["svix-signature"],
        resigned=resigned,
    )


SIGNED = [
    _signed("tracking", TRACKING, "RESEND_SIGNING_SECRET", "tracking-email.delivered.json"),
    _signed("inbound", INBOUND, "RESEND_INBOUND_SECRET", "inbound-email.received.json"),
]
