"""Mailtrap's signed webhooks, for the tests that hold for every ESP that signs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from anymail.esps.mailtrap.tracking import signature
from anymail.wire import Request, Response
from support import Call, Signed, sample

TRACKING_SECRET = "3b9f1c7d2e6a4805b1d49c0f7e82a653"
INBOUND_SECRET = "c41f0a9be27d4d63a5708e1b96f3d25c"
OLD_SECRET = "00112233445566778899aabbccddeeff"


class MailtrapsFiles:
    """A transport to Mailtrap's API and its storage as they are in the samples."""

    FILES = {
        "/api/inbound/inboxes/5120/messages/1893046721559003136": "support-inbound-message.json",
        "/1893046721559003136.eml": "support-inbound-message.eml.txt",
    }

    def __init__(self, *, connect_timeout: float | None, read_timeout: float | None) -> None:
        pass

    def send(self, request: Request) -> Response:
        return Response(200, {}, sample("mailtrap", self.FILES[urlsplit(request.url).path]))


TRACKING = {"MAILTRAP_TRACKING_SECRET": TRACKING_SECRET}
INBOUND = {
    "MAILTRAP_INBOUND_SECRET": INBOUND_SECRET,
    "MAILTRAP_API_TOKEN": "account-token",
    "TRANSPORT": MailtrapsFiles,
}


def signed_call(kind: str, body: bytes, content_type: str = "application/json") -> Call:
    secret = TRACKING_SECRET if kind == "tracking" else INBOUND_SECRET
    return Call(f"/anymail/mailtrap/{kind}/", body, {"Mailtrap-Signature": signature(secret, body)}, content_type)


def _signed(kind: str, settings: dict[str, Any], key_setting: str, file: str) -> Signed:
    def call(now: float, body: bytes | None = None) -> Call:
        return signed_call(kind, sample("mailtrap", file) if body is None else body)

    return Signed(
        slug="mailtrap",
        kind=kind,
        settings=settings,
        rotated={**settings, key_setting: [OLD_SECRET, settings[key_setting]]},
        key_setting=key_setting,
        call=call,
        signature=lambda call: call.headers["Mailtrap-Signature"],
        resigned=lambda call, text: replace(call, headers={} if text is None else {"Mailtrap-Signature": text}),
        signs_time=False,
    )


SIGNED = [
    _signed("tracking", TRACKING, "MAILTRAP_TRACKING_SECRET", "tracking-delivery.json"),
    _signed("inbound", INBOUND, "MAILTRAP_INBOUND_SECRET", "inbound-message_received.json"),
]
