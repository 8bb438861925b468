"""Unisender Go's signed webhook, for the tests that hold for every ESP that signs."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from anymail.esps.unisender_go.tracking import signature
from support import Call, Signed, sample

KEY = "6kz4r7tq9w1c3e5y8u2i0o6p4a7s9d1f3g5h"
SETTINGS = {"UNISENDER_GO_API_KEY": KEY}
URL = "/anymail/unisender_go/tracking/"
AUTH = re.compile(rb'"auth": ?"([^"]*)",?')


def signed_call(body: bytes, key: str = KEY) -> Call:
    """A call whose body has an ``auth``, signed anew."""
    unsigned = AUTH.sub(b'"auth":"%b",' % key.encode(), body, count=1)
    return Call(URL, unsigned.replace(key.encode(), signature(unsigned).encode(), 1))


def call_with(**content: object) -> Call:
    """An authentic call with this content."""
    return signed_call(json.dumps({"auth": "", **content}).encode())


def _call(now: float, body: bytes | None = None) -> Call:
    return signed_call(sample("unisender_go", "tracking-clicked.json") if body is None else body)


def _signature(call: Call) -> str:
    found = AUTH.search(call.body)
    assert found
    return found[1].decode()


def _resigned(call: Call, text: str | None) -> Call:
    auth = b"" if text is None else b'"auth":%b,' % json.dumps(text, ensure_ascii=False).encode()
    return replace(call, body=AUTH.sub(lambda match: auth, call.body, count=1))


SIGNED = [
    Signed(
        slug="unisender_go",
        kind="tracking",
        settings=SETTINGS,
        rotated={"UNISENDER_GO_API_KEY": "an-older-key", "UNISENDER_GO_WEBHOOK_KEY": ["of-a-project", KEY]},
        key_setting="UNISENDER_GO_API_KEY",
        call=_call,
        signature=_signature,
        resigned=_resigned,
        signs_time=False,
    )
]
