"""Unisender Go: webhook bodies (files) and the events they become."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
from django.test import Client, RequestFactory, override_settings

from anymail.esps.unisender_go import tracking
from anymail.exceptions import AnymailConfigurationError
from anymail.webhooks.unisender_go import UnisenderGoTrackingWebhookView
from esps.unisender_go.signed import KEY, SETTINGS, URL, call_with, signed_call
from support import Call, assert_tracking, expectations, sample, sample_json

EXPECTED = expectations("unisender_go")
SIGNING = sample_json("unisender_go", "signing.json")
CLICKED = "tracking-clicked.json"
DATA: dict[str, Any] = sample_json("unisender_go", CLICKED)["events_by_user"][0]["events"][0]["event_data"]


def file_call(name: str) -> Call:
    """A file's call, with the auth that came with it."""
    return Call(URL, sample("unisender_go", name))


def call_of(*events: Any) -> Call:
    """An authentic call with these events."""
    return call_with(events_by_user=[{"user_id": 1, "events": list(events)}])


def status(**data: Any) -> dict[str, Any]:
    """An event like that of the file, with other data."""
    return {"event_name": "transactional_email_status", "event_data": {**DATA, **data}}


@pytest.mark.parametrize("name", EXPECTED)
@override_settings(ANYMAIL=SETTINGS)
def test_events(client: Client, events: list[Any], name: str) -> None:
    assert file_call(name).post(client).status_code == 200
    assert_tracking(events, EXPECTED[name])


@override_settings(ANYMAIL=SETTINGS)
def test_the_raw_event(client: Client, events: list[Any]) -> None:
    file_call(CLICKED).post(client)
    file_call("tracking-single_event-clicked.json").post(client)
    assert events[0].esp_event == DATA
    assert events[1].esp_event == sample_json("unisender_go", "tracking-single_event-clicked.json")


@pytest.mark.parametrize("name", SIGNING["auth"])
def test_signatures(name: str) -> None:
    auth = SIGNING["auth"][name]
    assert tracking.signature(sample("unisender_go", name).replace(auth.encode(), KEY.encode())) == auth


@pytest.mark.parametrize("method", ["get", "head"])
@override_settings(ANYMAIL={})
def test_tries_the_url_before_it_is_used(client: Client, method: str) -> None:
    assert getattr(client, method)(URL).status_code == 200


@pytest.mark.parametrize("method", ["put", "delete", "patch"])
def test_other_methods(client: Client, method: str) -> None:
    assert getattr(client, method)(URL).status_code == 405


@override_settings(ANYMAIL={"WEBHOOK_SECRET": "user:pass"})
def test_a_key_is_needed(client: Client, events: list[Any]) -> None:
    with pytest.raises(AnymailConfigurationError, match="UNISENDER_GO_API_KEY"):
        replace(file_call(CLICKED), headers={"Authorization": "Basic dXNlcjpwYXNz"}).post(client)
    assert events == []


@override_settings(ANYMAIL={}, UNISENDER_GO_API_KEY=KEY)
def test_the_key_may_be_a_bare_setting(client: Client, events: list[Any]) -> None:
    assert file_call(CLICKED).post(client).status_code == 200
    assert len(events) == 1


@pytest.mark.parametrize("keys", ["of-a-project", ["older", "of-a-project"]])
def test_a_project_has_a_key_of_its_own(client: Client, events: list[Any], keys: Any) -> None:
    call = signed_call(sample("unisender_go", CLICKED), "of-a-project")
    with override_settings(ANYMAIL=SETTINGS):
        assert call.post(client).status_code == 400
    with override_settings(ANYMAIL={**SETTINGS, "UNISENDER_GO_WEBHOOK_KEY": keys}):
        assert call.post(client).status_code == 200
    assert len(events) == 1


def test_the_key_as_a_keyword(events: list[Any], rf: RequestFactory) -> None:
    view = UnisenderGoTrackingWebhookView.as_view(api_key=KEY)
    body = sample("unisender_go", CLICKED)
    assert view(rf.post("/own/", data=body, content_type="application/json")).status_code == 200
    assert len(events) == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tracking-multiple_events.json", "the API key of project '7012345678901234' at"),
        ("tracking-single_event-sent.json", "the API key of project '7012345678901234' at"),
        (CLICKED, "the API key at"),
    ],
)
@override_settings(ANYMAIL={"UNISENDER_GO_API_KEY": "another-key"})
def test_the_log_says_which_key(client: Client, caplog: pytest.LogCaptureFixture, name: str, words: str) -> None:
    with caplog.at_level(logging.WARNING, "anymail.webhooks"):
        response = file_call(name).post(client)
    assert (response.status_code, response.content) == (400, b"Bad request.")
    assert words in caplog.text
    assert "UNISENDER_GO_API_KEY" in caplog.text
    assert "another-key" not in caplog.text


class TestForgery:
    """The hash must cover the key: a hash over what an attacker knows is worth nothing."""

    def refused(self, client: Client, events: list[Any], body: bytes) -> None:
        with override_settings(ANYMAIL=SETTINGS):
            assert Call(URL, body).post(client).status_code == 400
        assert events == []

    def test_the_hash_of_the_body_itself(self, client: Client, events: list[Any]) -> None:
        body = json.dumps({"auth": "x", **status()}).encode()
        self.refused(client, events, body.replace(b'"x"', b'"%b"' % hashlib.md5(body).hexdigest().encode()))

    @pytest.mark.parametrize("auth", ["a", "0", "A" * 32, "g" * 32, "0" * 31, "0" * 33, "0" * 31 + "\n", 7, None, []])
    def test_what_is_no_md5(self, client: Client, events: list[Any], auth: Any) -> None:
        self.refused(client, events, json.dumps({"auth": auth, **status()}).encode())

    def test_the_hash_in_two_places(self, client: Client, events: list[Any]) -> None:
        """However the ESP's own hash may have been made, the key belongs in one place."""
        body = json.dumps({"auth": KEY, "event_name": "x", "copy": KEY}).encode()
        self.refused(client, events, body.replace(KEY.encode(), tracking.signature(body).encode()))

    def test_the_hash_in_another_spelling(self, client: Client, events: list[Any]) -> None:
        """Escaped, it cannot be found: then no key would come into what is hashed."""
        fixed = "0" * 32
        body = json.dumps({"auth": "x", **status()}).replace('"x"', '"' + r"\u0030" * 32 + '"').encode()
        assert json.loads(body)["auth"] == fixed
        with mock.patch.object(tracking, "signature", return_value=fixed):
            self.refused(client, events, body)


class TestGzip:
    """The webhook's format json_post_gzip."""

    @override_settings(ANYMAIL=SETTINGS)
    def test_is_unpacked(self, client: Client, events: list[Any]) -> None:
        call = replace(file_call(CLICKED), body=gzip.compress(sample("unisender_go", CLICKED)))
        assert call.post(client).status_code == 200
        assert_tracking(events, EXPECTED[CLICKED])

    @pytest.mark.parametrize(
        "body",
        [
            b"\x1f\x8b",
            b"\x1f\x8bxxxxxxxxxxxxxxxx",
            gzip.compress(sample("unisender_go", CLICKED))[:-9],
            gzip.compress(sample("unisender_go", CLICKED).replace(b"clicked", b"opened!")),
            gzip.compress(b" " * 11_000_000 + sample("unisender_go", CLICKED)),
            gzip.compress(b"[]"),
        ],
        ids=["empty", "garbage", "cut off", "changed", "too large", "a list"],
    )
    @override_settings(ANYMAIL=SETTINGS)
    def test_is_refused(self, client: Client, events: list[Any], body: bytes) -> None:
        assert replace(file_call(CLICKED), body=body).post(client).status_code == 400
        assert events == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"delivery_status": "err_blacklisted"}, "blocked"),
        ({"delivery_status": "err_giveup"}, "other"),
        ({"delivery_status": "ok_spam_folder"}, None),
        ({"delivery_status": "skip_dup_temp_unreachable"}, None),
        ({"delivery_status": "err_will_retry"}, None),
        ({"delivery_status": None}, None),
        ({}, None),
        ([], None),
    ],
)
@override_settings(ANYMAIL=SETTINGS)
def test_reasons(client: Client, events: list[Any], words: Any, expected: str | None) -> None:
    call_of(status(status="hard_bounced", delivery_info=words)).post(client)
    [event] = events
    assert (event.event_type, event.reject_reason) == ("bounced", expected)


@override_settings(ANYMAIL=SETTINGS)
def test_a_call_that_comes_again_may_say_so(client: Client, events: list[Any]) -> None:
    for content in ({"events_by_user": [{"events": [status()]}]}, {"event_name": tracking.STATUS, **DATA}):
        assert call_with(retry_count=3, **content).post(client).status_code == 200
    assert [event.event_type for event in events] == ["clicked", "clicked"]


@override_settings(ANYMAIL=SETTINGS)
def test_an_event_that_cannot_be_read_costs_no_other(client: Client, events: list[Any]) -> None:
    odd = [None, 7, "x", [], {}, {"event_name": "transactional_email_status", "event_data": [1]}, {"event_name": 1}]
    assert call_of(*odd, status(status="sent")).post(client).status_code == 200
    assert [event.event_type for event in events] == ["sent"]


@pytest.mark.parametrize("user", [None, 7, [], {}, {"events": None}, {"events": {"event_name": "x"}}])
@override_settings(ANYMAIL=SETTINGS)
def test_a_user_that_cannot_be_read_costs_no_other(client: Client, events: list[Any], user: Any) -> None:
    assert call_with(events_by_user=[user, {"events": [status()]}]).post(client).status_code == 200
    assert len(events) == 1


@pytest.mark.parametrize("odd", [None, [], {}, "x", 7, True, [[1]], {"a": 1}])
@override_settings(ANYMAIL=SETTINGS)
def test_odd_values(client: Client, events: list[Any], odd: Any) -> None:
    for field in DATA:
        assert call_of(status(**{field: odd})).post(client).status_code == 200
    for field in DATA["metadata"]:
        assert call_of(status(metadata={**DATA["metadata"], field: odd})).post(client).status_code == 200
    for field in DATA["delivery_info"]:
        assert call_of(status(delivery_info={**DATA["delivery_info"], field: odd})).post(client).status_code == 200
    assert len(events) == len(DATA) + len(DATA["metadata"]) + len(DATA["delivery_info"])
    for event in events:
        assert event.event_type in ("clicked", "unknown")
        assert isinstance(event.metadata, dict)
        for value in (event.message_id, event.recipient, event.click_url, event.user_agent, event.description):
            assert value is None or isinstance(value, str)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"events_by_user": None},
        {"events_by_user": {}},
        {"events_by_user": [{}]},
        {"event_name": None},
        {"event_name": ["transactional_email_status"]},
        {"event_name": "transactional_email_status", "event_data": []},
    ],
)
@override_settings(ANYMAIL=SETTINGS)
def test_a_body_of_another_shape(client: Client, events: list[Any], content: dict[str, Any]) -> None:
    assert call_with(**content).post(client).status_code == 400
    assert events == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"[1]",
        b'"x"',
        b"1",
        b"{}",
        b"{",
        b"\xef\xbb\xbf{}",
        b'{"auth": "\xff"}',
        '{"auth": "x"}'.encode("utf-16"),
        b"[" * 100_000,
        b'{"auth":' * 10_000,
        b"9" * 5_000,
    ],
    ids=range(14),
)
@override_settings(ANYMAIL=SETTINGS)
def test_what_is_no_call(client: Client, events: list[Any], body: bytes) -> None:
    response = Call(URL, body).post(client)
    assert (response.status_code, response.content) == (400, b"Bad request.")
    assert events == []


@override_settings(ANYMAIL=SETTINGS)
def test_an_empty_call_is_no_fault(client: Client, events: list[Any]) -> None:
    assert call_of().post(client).status_code == 200
    assert events == []
