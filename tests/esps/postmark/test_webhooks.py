"""Postmark: webhook bodies (files) and the events they become."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client, override_settings

from anymail.exceptions import AnymailConfigurationError
from support import Call, assert_inbound, assert_tracking, expectations, sample, sample_json

SECRET = {"WEBHOOK_SECRET": "user:pass"}
BASIC_AUTH = {"Authorization": "Basic dXNlcjpwYXNz"}
HEADERS = sample_json("postmark", "headers.json")["headers"]
EXPECTED = expectations("postmark")


def call(kind: str, name: str) -> Call:
    return Call(f"/anymail/postmark/{kind}/", sample("postmark", name), {**BASIC_AUTH, **HEADERS.get(name, {})})


def kind_of(name: str) -> str:
    return "inbound" if name.startswith("inbound") else "tracking"


@pytest.mark.parametrize("name", [name for name, one in EXPECTED.items() if isinstance(one, list)])
@override_settings(ANYMAIL=SECRET)
def test_events(client: Client, events: list[Any], name: str) -> None:
    response = call(kind_of(name), name).post(client)
    assert response.status_code == 200
    check = assert_inbound if kind_of(name) == "inbound" else assert_tracking
    check(events, EXPECTED[name])


@pytest.mark.parametrize("name", [name for name, one in EXPECTED.items() if isinstance(one, dict)])
@override_settings(ANYMAIL=SECRET)
def test_the_wrong_webhook(client: Client, events: list[Any], name: str) -> None:
    with pytest.raises(AnymailConfigurationError, match="Postmark"):
        call(kind_of(name), name).post(client)
    assert events == []


@override_settings(ANYMAIL=SECRET)
def test_an_unknown_record_is_an_unknown_event(client: Client, events: list[Any]) -> None:
    body = b'{"RecordType": "Vanished", "Recipient": "ana@example.net", "MessageID": "m"}'
    assert Call("/anymail/postmark/tracking/", body, BASIC_AUTH).post(client).status_code == 200
    [event] = events
    assert (event.event_type, event.recipient, event.message_id) == ("unknown", "ana@example.net", "m")
    assert event.esp_event["RecordType"] == "Vanished"
