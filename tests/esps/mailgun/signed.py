"""Mailgun's signed webhooks, for the tests that hold for every ESP that signs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlencode

from anymail.esps.mailgun.tracking import signature
from support import Call, Signed, sample, sample_json

KEY = sample_json("mailgun", "_requests.json")["webhook_signing_key"]
TOKEN = "352e327db8427f2c0003a0f4bc1fbd33ce6d87972b6c2d6d00"
FORM = "application/x-www-form-urlencoded"


def signed_fields(now: object, token: str = TOKEN, key: str = KEY) -> dict[str, str]:
    """The three fields of a signature; a time in whole seconds, as Mailgun has it."""
    timestamp = str(int(now)) if isinstance(now, float) else str(now)
    return {"timestamp": timestamp, "token": token, "signature": signature(key, timestamp, token)}


def tracking_call(now: object, body: bytes | None = None) -> Call:
    """A call with the event of ``body``, signed anew."""
    event = json.loads(body or sample("mailgun", "tracking-delivered.json"))
    return Call("/anymail/mailgun/tracking/", json.dumps({**event, "signature": signed_fields(now)}).encode())


def inbound_call(now: object, body: bytes | None = None) -> Call:
    """A call with the fields of ``body``, signed anew."""
    fields = parse_qs((body or sample("mailgun", "inbound-mime.txt")).decode())
    return Call("/anymail/mailgun/inbound_mime/", _encoded({**fields, **signed_fields(now)}), {}, FORM)


def _encoded(fields: Mapping[str, Any]) -> bytes:
    return urlencode(fields, doseq=True).encode()


def _tracking_resigned(call: Call, text: str | None) -> Call:
    event = json.loads(call.body)
    event["signature"].pop("signature")
    if text is not None:
        event["signature"]["signature"] = text
    return replace(call, body=json.dumps(event).encode())


def _inbound_resigned(call: Call, text: str | None) -> Call:
    fields: dict[str, Any] = parse_qs(call.body.decode())
    fields.pop("signature")
    if text is not None:
        fields["signature"] = text
    return replace(call, body=_encoded(fields))


SETTINGS = {"MAILGUN_WEBHOOK_SIGNING_KEY": KEY}
_COMMON: dict[str, Any] = {
    "slug": "mailgun",
    "settings": SETTINGS,
    "rotated": {"MAILGUN_WEBHOOK_SIGNING_KEY": ["an-older-key", KEY]},
    "key_setting": "MAILGUN_WEBHOOK_SIGNING_KEY",
    "covers_body": False,
}
SIGNED = [
    Signed(
        kind="tracking",
        call=tracking_call,
        signature=lambda call: json.loads(call.body)["signature"]["signature"],
        resigned=_tracking_resigned,
        **_COMMON,
    ),
    Signed(
        kind="inbound",
        call=inbound_call,
        signature=lambda call: parse_qs(call.body.decode())["signature"][0],
        resigned=_inbound_resigned,
        **_COMMON,
    ),
]
