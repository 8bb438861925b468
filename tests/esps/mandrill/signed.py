"""Mandrill's signed webhooks, for the tests that hold for every ESP that signs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from django.http import QueryDict

from anymail.esps.mandrill.tracking import signature
from support import Call, Signed, sample

KEY = "Qx7vT2mLkP9wZr4HnB6yDg"
PATH = "/anymail/mandrill/"


def signed_call(body: bytes, key: str = KEY, path: str = PATH) -> Call:
    """A call with this body to the host of Django's test client."""
    given = signature(key, f"http://testserver{path}", QueryDict(body))
    return Call(path, body, {"X-Mandrill-Signature": given}, "application/x-www-form-urlencoded")


def events_call(events: Any, key: str = KEY, path: str = PATH) -> Call:
    """A call with these events."""
    return signed_call(urlencode({"mandrill_events": json.dumps(events)}).encode(), key, path)


def _caller(name: str) -> Callable[..., Call]:
    def call(now: float, body: bytes | None = None) -> Call:
        return signed_call(sample("mandrill", name) if body is None else body)

    return call


def _resigned(call: Call, text: str | None) -> Call:
    return replace(call, headers={} if text is None else {"X-Mandrill-Signature": text})


def _signed(kind: str, name: str) -> Signed:
    return Signed(
        slug="mandrill",
        kind=kind,
        settings={"MANDRILL_WEBHOOK_KEY": KEY},
        rotated={"MANDRILL_WEBHOOK_KEY": ["an-older-key", KEY]},
        key_setting="MANDRILL_WEBHOOK_KEY",
        call=_caller(name),
        signature=lambda call: call.headers["X-Mandrill-Signature"],
        resigned=_resigned,
        signs_time=False,
    )


SIGNED = [_signed("tracking", "tracking-click.txt"), _signed("inbound", "inbound-inbound.txt")]
