"""Which doors are open: a call that nothing verifies is answered 404, and shows nobody a setting."""

from __future__ import annotations

import importlib
import sys
import traceback
import warnings
from typing import Any

import pytest
from django.core.signals import got_request_exception
from django.test import Client, override_settings
from django.urls import clear_url_caches, resolve, reverse

import anymail.urls
from anymail.exceptions import AnymailConfigurationError, AnymailInsecureWebhookWarning
from anymail.webhooks import base
from esps.mandrill.signed import signed_call
from support import Call
from webhooks.calls import BASIC_AUTH, Kind, kinds, settings_of

KINDS = kinds()
#: A project with one ESP and its signing key, and API keys of others.
ONE_ESP = {
    "RESEND_SIGNING_SECRET": KINDS["resend tracking"].settings["RESEND_SIGNING_SECRET"],
    "RESEND_API_KEY": "re_api_key_of_the_project",
    "POSTMARK_SERVER_TOKEN": "a_token_of_the_project",
}


@pytest.fixture(autouse=True)
def _nothing_logged_yet() -> None:
    base._asked.clear()


def without_keys(kind: Kind) -> Call:
    """A call as anyone can make it."""
    call = kind.unlike(1)
    return Call(call.url, call.body, {name: v for name, v in call.headers.items() if name != "Authorization"},
                call.content_type)  # fmt: skip


@pytest.mark.parametrize("name", [name for name in KINDS if name != "resend tracking"])
@pytest.mark.parametrize("setting", [{}, ONE_ESP], ids=["nothing", "one ESP"])
def test_an_esp_that_is_not_set_up(
    client: Client, events: list[Any], caplog: pytest.LogCaptureFixture, name: str, setting: dict[str, Any]
) -> None:
    raised: list[Any] = []

    def receive(**kwargs: Any) -> None:
        raised.append(sys.exc_info())

    got_request_exception.connect(receive)
    with override_settings(ANYMAIL=setting):
        responses = [without_keys(KINDS[name]).post(client) for _ in range(3)]
    got_request_exception.disconnect(receive)
    assert [(response.status_code, response.content) for response in responses] == [(404, b"Not found.")] * 3
    assert events == []
    assert raised == []
    [line] = [record.getMessage() for record in caplog.records if record.name.startswith("anymail")]
    assert "WEBHOOK_ESPS" in line
    assert [record.name for record in caplog.records if record.name == "django.request"] == []


@pytest.mark.parametrize("name", ["resend tracking", "postal inbound", "sendgrid tracking", "scaleway tracking"])
def test_a_signature_key_is_enough(client: Client, events: list[Any], name: str) -> None:
    kind = KINDS[name]
    with override_settings(ANYMAIL=settings_of(kind)):
        assert kind.unlike(1).post(client).status_code == 200
    assert len(events) == 1


@pytest.mark.parametrize("allowed", [["postmark"], True])
def test_the_project_may_say_otherwise(client: Client, events: list[Any], allowed: Any) -> None:
    with override_settings(ANYMAIL={"WEBHOOK_ALLOW_UNVERIFIED": allowed}):
        with pytest.warns(AnymailInsecureWebhookWarning, match="Postmark"):
            assert without_keys(KINDS["postmark tracking"]).post(client).status_code == 200
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            status = without_keys(KINDS["mailjet tracking"]).post(client).status_code
        assert status == (200 if allowed is True else 404)
        # A key that is needed is needed.
        assert without_keys(KINDS["mailgun tracking"]).post(client).status_code == 404


def test_mandrills_try_of_a_url_comes_before_its_key(client: Client, events: list[Any]) -> None:
    with override_settings(ANYMAIL={}):
        assert signed_call(b"mandrill_events=%5B%5D", "test-webhook").post(client).status_code == 200
    assert events == []


def test_what_is_wrong_is_told_without_the_frames_that_read_it(client: Client) -> None:
    """Error reporting keeps the variables of every frame."""
    secret = "user:a-password-of-the-project"
    anymail = {**ONE_ESP, "WEBHOOK_SECRET": [secret, "without-a-colon"]}
    with override_settings(ANYMAIL=anymail), pytest.raises(AnymailConfigurationError, match="WEBHOOK_SECRET") as raised:
        without_keys(KINDS["postmark tracking"]).post(client)
    error: BaseException | None = raised.value
    assert error is not None
    assert error.__cause__ is None
    assert error.__context__ is None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if "/anymail/" in frame.f_code.co_filename and "/tests/" not in frame.f_code.co_filename:
            shown = repr(frame.f_locals)
            assert "a-password-of-the-project" not in shown
            assert "re_api_key_of_the_project" not in shown


@pytest.mark.parametrize("name", ["postal inbound", "mandrill tracking", "mailersend tracking", "mailgun tracking"])
def test_who_knows_the_secret_is_told_what_is_missing(client: Client, name: str) -> None:
    """That is the ESP itself: what it sends is not to be lost for a forgotten key."""
    call = KINDS[name].unlike(1)
    call = Call(call.url, call.body, {**call.headers, **BASIC_AUTH}, call.content_type)
    with override_settings(ANYMAIL={"WEBHOOK_SECRET": "user:pass"}), pytest.raises(AnymailConfigurationError):
        call.post(client)


def test_brevo_keeps_what_a_configuration_error_meets(client: Client) -> None:
    """It gives up on 500. https://developers.brevo.com/docs/retry-mechanism"""
    client.raise_request_exception = False
    with override_settings(ANYMAIL={"WEBHOOK_SECRET": "user:pass"}):
        assert KINDS["brevo inbound"].unlike(1).post(client).status_code == 429
    with override_settings(ANYMAIL={"WEBHOOK_SECRET": ""}):
        assert KINDS["brevo tracking"].unlike(1).post(client).status_code == 429


class TestRoutes:
    @pytest.mark.parametrize("name", KINDS)
    def test_a_last_slash_may_be_missing(self, client: Client, events: list[Any], name: str) -> None:
        kind = KINDS[name]
        call = kind.unlike(1)
        if name.startswith("mandrill"):
            call = signed_call(call.body, path="/anymail/mandrill")
        else:
            call = Call(call.url.removesuffix("/"), call.body, call.headers, call.content_type)
        assert not call.url.endswith("/")
        with override_settings(ANYMAIL=settings_of(kind)):
            assert call.post(client).status_code == 200
        assert len(events) == 1

    def test_names_are_of_the_urls_with_one(self) -> None:
        named = {pattern.name for pattern in anymail.urls.urlpatterns} - {None}
        assert len(named) == 29
        assert all(reverse(f"anymail:{name}").endswith("/") for name in named)

    @pytest.fixture
    def reloaded(self) -> Any:
        def reload(**setting: Any) -> set[str]:
            with override_settings(ANYMAIL=setting):
                return {str(one.pattern).partition("/")[0] for one in importlib.reload(anymail.urls).urlpatterns}

        yield reload
        importlib.reload(anymail.urls)
        clear_url_caches()

    def test_of_the_esps_that_are_named(self, reloaded: Any) -> None:
        assert reloaded(WEBHOOK_ESPS=["postmark", "mandrill"]) == {"postmark", "mandrill"}
        assert reloaded(WEBHOOK_ESPS=["brevo"]) == {"brevo", "sendinblue"}
        assert reloaded(WEBHOOK_ESPS=[]) == set()

    @pytest.mark.parametrize("named", [["postmrk"], "postmark", [1]])
    def test_a_name_that_is_none(self, reloaded: Any, named: Any) -> None:
        with pytest.raises(AnymailConfigurationError, match="WEBHOOK_ESPS"):
            reloaded(WEBHOOK_ESPS=named)

    def test_no_view_is_in_a_transaction_of_the_request(self) -> None:
        for pattern in anymail.urls.urlpatterns:
            assert "default" in pattern.callback._non_atomic_requests

    def test_both_are_one_view(self) -> None:
        with_slash, without = (resolve(f"/anymail/postmark/tracking{end}") for end in ("/", ""))
        assert with_slash.func is without.func
