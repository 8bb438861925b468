"""What must hold for every ESP that signs its webhooks. Each ESP's part is in its ``signed.py``."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any
from unittest import mock

import pytest
from django.test import Client, override_settings
from django.urls import resolve

from anymail.conf import max_age
from anymail.exceptions import AnymailConfigurationError
from anymail.webhooks.base import AnymailWebhookView
from support import ESPS, Call, Signed

SIGNED: list[Signed] = [
    one for path in sorted(ESPS.glob("*/signed.py")) for one in import_module(f"esps.{path.parent.name}.signed").SIGNED
]
every_signed = pytest.mark.parametrize("signed", SIGNED, ids=str)


def each(applies: Callable[[Signed], bool]) -> Any:
    """Those of them for which this can be asked."""
    return pytest.mark.parametrize("signed", [one for one in SIGNED if applies(one)], ids=str)


def view_class(signed: Signed) -> type[AnymailWebhookView]:
    cls: type[AnymailWebhookView] = resolve(signed.call(time.time()).url).func.view_class
    return cls


def refused(client: Client, call: Call, events: list[Any]) -> None:
    response = call.post(client)
    assert response.status_code == 400, response.content
    assert response["Content-Type"].startswith("text/plain")
    assert response.content == b"Bad request."
    assert events == []


@every_signed
def test_an_authentic_call(client: Client, events: list[Any], signed: Signed) -> None:
    with override_settings(ANYMAIL=signed.settings):
        assert signed.call(time.time()).post(client).status_code == 200
    assert len(events) == 1


@each(lambda one: one.covers_body)
def test_one_flipped_byte_in_the_body(client: Client, events: list[Any], signed: Signed) -> None:
    call = signed.call(time.time())
    middle = len(call.body) // 2
    flipped = call.body[:middle] + bytes([call.body[middle] ^ 1]) + call.body[middle + 1 :]
    with override_settings(ANYMAIL=signed.settings):
        refused(client, replace(call, body=flipped), events)


def _flipped(signature: str) -> str:
    # Not the last character: base64 may ignore its low bits.
    middle = len(signature) // 2
    return signature[:middle] + ("A" if signature[middle] != "A" else "B") + signature[middle + 1 :]


BROKEN = {
    "flipped": _flipped,
    "absent": lambda signature: None,
    "empty": lambda signature: "",
    "one character": lambda signature: signature[:1],
    "half": lambda signature: signature[: len(signature) // 2],
    "all but one": lambda signature: signature[:-1] if not signature.endswith("=") else signature[:-3],
    "with a suffix": lambda signature: f"{signature}AAAA",
    "not base64 or hex": lambda signature: "!" * len(signature),
    "another algorithm": lambda signature: f"md5={signature}",
    "no algorithm": lambda signature: "none",
    "v1 only": lambda signature: "v1,",
    "latin-1": lambda signature: "ÿ" * len(signature),
    "very long": lambda signature: "v1," + " v1,".join(["x"] * 500),
}


@every_signed
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_signature(client: Client, events: list[Any], signed: Signed, broken: Any) -> None:
    call = signed.call(time.time())
    with override_settings(ANYMAIL=signed.settings):
        refused(client, signed.resigned(call, broken(signed.signature(call))), events)


@every_signed
def test_the_key_of_somebody_else(client: Client, events: list[Any], signed: Signed) -> None:
    other = signed.call(time.time() - 1)
    call = signed.call(time.time())
    if signed.covers_body and signed.signs_time:
        with override_settings(ANYMAIL=signed.settings):
            refused(client, signed.resigned(call, signed.signature(other)), events)
    else:
        forged = signed.resigned(call, _flipped(signed.signature(call)))
        with override_settings(ANYMAIL=signed.settings):
            refused(client, forged, events)


@each(lambda one: one.rotated is not None)
def test_keys_can_be_rotated(client: Client, events: list[Any], signed: Signed) -> None:
    with override_settings(ANYMAIL=signed.rotated):
        assert signed.call(time.time()).post(client).status_code == 200
    assert len(events) == 1


@each(lambda one: bool(one.key_setting))
@pytest.mark.parametrize("empty", ["", "   ", [""]])
def test_an_empty_key_is_a_configuration_error(client: Client, events: list[Any], signed: Signed, empty: Any) -> None:
    settings = {**signed.settings, signed.key_setting: empty}
    with override_settings(ANYMAIL=settings), pytest.raises(AnymailConfigurationError, match=signed.key_setting):
        signed.call(time.time()).post(client)
    assert events == []


@each(lambda one: one.signs_time)
@pytest.mark.parametrize("direction", [-1, 1])
def test_a_timestamp_out_of_the_window(client: Client, events: list[Any], signed: Signed, direction: int) -> None:
    with override_settings(ANYMAIL=signed.settings):
        webhook = view_class(signed)().webhook()
        limit = max_age(webhook.options, webhook.default_max_age)
        assert limit is not None
        refused(client, signed.call(time.time() + direction * (limit + 60)), events)


@each(lambda one: one.signs_time)
def test_the_window_can_be_lifted(client: Client, events: list[Any], signed: Signed) -> None:
    with override_settings(ANYMAIL={**signed.settings, "WEBHOOK_MAX_AGE": None}):
        assert signed.call(1_700_000_000).post(client).status_code == 200
    assert len(events) == 1


@every_signed
def test_an_identical_call_has_one_effect(client: Client, events: list[Any], signed: Signed) -> None:
    call = signed.call(time.time())
    with override_settings(ANYMAIL=signed.settings):
        assert [call.post(client).status_code for _ in range(2)] == [200, 200]
    assert len(events) == 1


@each(lambda one: not one.public_key)
def test_secrets_are_compared_in_constant_time(client: Client, events: list[Any], signed: Signed) -> None:
    import hmac

    with (
        override_settings(ANYMAIL=signed.settings),
        mock.patch("hmac.compare_digest", wraps=hmac.compare_digest) as compare,
    ):
        signed.call(time.time()).post(client)
    assert compare.call_args_list
    assert all(isinstance(side, bytes) for one in compare.call_args_list for side in one.args)


@every_signed
def test_basic_auth_is_needed_too_where_it_is_set(client: Client, events: list[Any], signed: Signed) -> None:
    call = replace(
        signed.call(time.time()), headers={**signed.call(time.time()).headers, "Authorization": "Basic eDp5"}
    )
    with override_settings(ANYMAIL={**signed.settings, "WEBHOOK_SECRET": "user:pass"}):
        refused(client, call, events)
