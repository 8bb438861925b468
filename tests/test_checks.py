"""System checks: what is wrong is said when the project starts."""

from __future__ import annotations

import re
from typing import Any

import django
import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import override_settings
from django.urls import include, path

from anymail import checks
from anymail.mail.message import DEFAULTABLE
from anymail.webhooks.mailjet import MailjetTrackingWebhookView

PATH = "anymail.backends.postmark.EmailBackend"
TOKEN = {"POSTMARK_SERVER_TOKEN": "t"}


def found(check: Any, **settings: Any) -> list[tuple[str, str]]:
    with override_settings(**settings):
        return [(str(one.id), f"{one.msg} {one.hint or ''}") for one in check(None)]


def in_use(path: str) -> dict[str, Any]:
    """Settings by which a project sends through that backend."""
    return {"MAILERS": {"default": {"BACKEND": path}}} if django.VERSION >= (6, 1) else {"EMAIL_BACKEND": path}


def test_a_good_project() -> None:
    settings = {**in_use(PATH), "ANYMAIL": {**TOKEN, "WEBHOOK_SECRET": "a:b", "TIMEOUT": 3}}
    del settings["ANYMAIL"]["TIMEOUT"]
    for check in (checks.check_mailers, checks.check_settings, checks.check_webhooks, checks.check_deployment):
        assert found(check, **settings) == []


def test_a_missing_option_is_an_error_only_in_deployment() -> None:
    for check, expected in ((checks.check_mailers, "anymail.W007"), (checks.check_deployment, "anymail.E007")):
        [(identifier, text)] = found(check, **in_use(PATH), ANYMAIL={})
        assert identifier == expected
        assert "POSTMARK_SERVER_TOKEN" in text


@pytest.mark.parametrize("token", [None, "", " ", "a\nb", "a\x00b", "\u201ctoken\u201d", 7])
def test_a_wrong_key_is_always_an_error(token: Any) -> None:
    [(identifier, text)] = found(checks.check_mailers, **in_use(PATH), ANYMAIL={"POSTMARK_SERVER_TOKEN": token})
    assert identifier == "anymail.E001"
    assert "POSTMARK_SERVER_TOKEN" in text


@pytest.mark.django_db
@pytest.mark.parametrize("arguments", [["check"], ["makemigrations", "--check", "--dry-run"]])
def test_a_project_is_built_without_its_keys(arguments: list[str], capsys: Any) -> None:
    with override_settings(**in_use(PATH), ANYMAIL={}, ROOT_URLCONF="tests.urls"):
        call_command(*arguments, **({} if arguments == ["check"] else {"skip_checks": False}))


@pytest.mark.django_db
def test_a_project_is_not_deployed_without_its_keys() -> None:
    with override_settings(**in_use(PATH), ANYMAIL={}), pytest.raises(SystemCheckError, match="E007"):
        call_command("check", "--deploy")


def test_webhooks_without_a_key_that_they_need() -> None:
    path = "anymail.backends.unisender_go.EmailBackend"
    identifiers = {one for one, _ in found(checks.check_webhooks, **in_use(path), ANYMAIL={})}
    assert identifiers == {"anymail.W002"}


@pytest.mark.skipif(django.VERSION < (6, 1), reason="MAILERS came with Django 6.1")
def test_unknown_names_in_mailers() -> None:
    mailers = {"default": {"BACKEND": PATH, "OPTION": {"server_token": "t"}}}
    identifiers = dict(found(checks.check_mailers, MAILERS=mailers, ANYMAIL=TOKEN))
    assert "OPTIONS" in identifiers["anymail.W004"]


@pytest.mark.skipif(django.VERSION < (6, 1), reason="MAILERS came with Django 6.1")
@pytest.mark.parametrize("options", [{"alias": "x"}, ["server_token"]])
def test_options_that_django_refuses(options: Any) -> None:
    mailers = {"default": {"BACKEND": PATH, "OPTIONS": options}}
    assert [one for one, _ in found(checks.check_mailers, MAILERS=mailers, ANYMAIL=TOKEN)] == ["anymail.E001"]
    assert found(checks.check_deployment, MAILERS=mailers, ANYMAIL=TOKEN) == []


@pytest.mark.skipif(django.VERSION >= (6, 1), reason="MAILERS counts")
def test_mailers_mean_nothing_to_an_older_django() -> None:
    mailers = {"default": {"BACKEND": PATH, "OPTION": {}}}
    assert (
        found(checks.check_mailers, MAILERS=mailers, EMAIL_BACKEND="django.core.mail.backends.dummy.EmailBackend") == []
    )


@pytest.mark.parametrize(
    ("name", "hint"), [("POSTMARK_SERVER_TOKN", "POSTMARK_SERVER_TOKEN"), ("WEBHOOK_SECRETS", "WEBHOOK_SECRET")]
)
def test_a_setting_that_nobody_reads(name: str, hint: str) -> None:
    [(identifier, text)] = found(checks.check_settings, ANYMAIL={name: "x"})
    assert identifier == "anymail.W001"
    assert f"{hint!r}" in text


@pytest.mark.parametrize("name", ["POSTMARK_SERVER_TOKEN", "RETRIES", "POSTMARK_RETRIES", "WEBHOOK_MAX_AGE"])
def test_a_setting_that_somebody_reads(name: str) -> None:
    assert found(checks.check_settings, ANYMAIL={name: 1}) == []


def test_a_default_that_no_message_has() -> None:
    anymail = {"SEND_DEFAULTS": {"metdata": {}, "tags": ["a"]}, "POSTMARK_SEND_DEFAULTS": {"encoding": "x"}}
    found_now = found(checks.check_settings, ANYMAIL=anymail, ANYMAIL_MAILGUN_SEND_DEFAULTS={"tag": "a"})
    assert [one for one, _ in found_now] == ["anymail.W005"] * 3
    assert 'ANYMAIL["SEND_DEFAULTS"]["metdata"]' in found_now[0][1]
    assert "'metadata'" in found_now[0][1]
    assert 'ANYMAIL_MAILGUN_SEND_DEFAULTS["tag"]' in found_now[2][1]


@pytest.mark.skipif(django.VERSION < (6, 1), reason="MAILERS came with Django 6.1")
def test_a_mailers_default_that_no_message_has() -> None:
    mailers = {"default": {"BACKEND": PATH, "OPTIONS": {"send_defaults": {"metdata": {}}}}}
    [(identifier, text)] = found(checks.check_settings, MAILERS=mailers, ANYMAIL=TOKEN)
    assert identifier == "anymail.W005"
    assert "MAILERS['default']" in text


def test_a_default_of_none() -> None:
    anymail = {"SEND_DEFAULTS": {"tags": None, "from_email": None}}
    [(identifier, text)] = found(checks.check_settings, ANYMAIL=anymail)
    assert identifier == "anymail.W005"
    assert '["tags"] is None' in text


ALL_DEFAULTS = {
    "from_email": "Shop <shop@example.com>", "to": ["a@example.com"], "cc": ["a@example.com"], "bcc": ["a@example.com"],
    "reply_to": ["a@example.com"], "subject": "Hi", "body": "Hello", "content_subtype": "html",
    "alternatives": [("<amp>", "text/x-amp-html")], "attachments": [("a.txt", "x", "text/plain")],
    "extra_headers": {"X-Shop": "7"}, "envelope_sender": "bounces@example.com", "metadata": {"a": 1},
    "merge_metadata": {"a@example.com": {"a": 1}}, "merge_headers": {"a@example.com": {"X-A": "1"}}, "tags": ["t"],
    "track_opens": True, "track_clicks": False, "send_at": 1_800_000_000, "template_id": 7,
    "merge_data": {"nobody@example.com": {"a": 1}}, "merge_global_data": {"a": 1}, "esp_extra": {"a": 1},
}  # fmt: skip


@pytest.mark.filterwarnings("error")
def test_all_that_can_have_a_default() -> None:
    settings = in_use("anymail.backends.test.EmailBackend")
    assert set(ALL_DEFAULTS) == set(DEFAULTABLE)
    assert found(checks.check_settings, **settings, ANYMAIL={"SEND_DEFAULTS": ALL_DEFAULTS}) == []


@pytest.mark.parametrize("name", ["DEFAULT_FROM_EMAIL", "SERVER_EMAIL"])
@pytest.mark.parametrize("address", ["Shop, Inc. <shop@example.com>", "shop", "", None, 7, "shop@☃.example"])
def test_a_sender_that_cannot_be_read(name: str, address: Any) -> None:
    [(identifier, text)] = found(checks.check_settings, **in_use(PATH), ANYMAIL=TOKEN, **{name: address})
    assert identifier == "anymail.E008"
    assert f"The setting {name}" in text
    assert "shop@" not in text
    # Another backend may read it.
    other = in_use("django.core.mail.backends.locmem.EmailBackend")
    assert found(checks.check_settings, **other, ANYMAIL={}, **{name: address}) == []


def test_the_encoder_in_force_reads_the_sender() -> None:
    settings = {**in_use(PATH), "DEFAULT_FROM_EMAIL": "shop@☃.example"}
    assert found(checks.check_settings, **settings, ANYMAIL={**TOKEN, "IDNA_ENCODER": "uts46"}) == []


@pytest.mark.parametrize(
    ("defaults", "words"),
    [
        ({"from_email": "Shop, Inc. <shop@example.com>"}, "from_email .* needs double quotes"),
        ({"tags": "shop"}, "tags must be a list"),
        ({"track_opens": "False"}, "track_opens is of type str"),
        ({"metadata": ["a"]}, "metadata is of type list"),
        ({"merge_data": {"a@example.com": "x"}}, "merge_data has a value"),
        ({"send_at": "soon"}, "send_at"),
    ],
)
def test_defaults_that_cannot_be_sent(defaults: dict[str, Any], words: str) -> None:
    [(identifier, text)] = found(checks.check_settings, **in_use(PATH), ANYMAIL={**TOKEN, "SEND_DEFAULTS": defaults})
    assert identifier == "anymail.E008"
    assert re.search(words, text)


@pytest.mark.parametrize(("ignore", "effect"), [(False, "every message will be refused"), (True, "have no effect")])
def test_defaults_that_the_esp_does_not_support(ignore: bool, effect: str) -> None:
    anymail = {**TOKEN, "SEND_DEFAULTS": {"tags": ["a", "b"]}, "IGNORE_UNSUPPORTED_FEATURES": ignore}
    [(identifier, text)] = found(checks.check_settings, **in_use(PATH), ANYMAIL=anymail)
    assert identifier == "anymail.W008"
    assert effect in text
    assert "multiple tags" in text


@pytest.mark.parametrize("path", ["anymail.backends.postmrk.EmailBackend", "anymail.backends.postmark.Backend"])
def test_a_backend_that_does_not_exist(path: str) -> None:
    [(identifier, text)] = found(checks.check_mailers, **in_use(path))
    assert identifier == "anymail.E001"
    assert PATH in text


def test_anymail_must_be_a_dict() -> None:
    assert [one for one, _ in found(checks.check_settings, ANYMAIL=["x"])] == ["anymail.E002"]


class TestWebhooks:
    def test_that_nothing_verifies(self) -> None:
        identifiers = found(checks.check_webhooks, **in_use(PATH), ANYMAIL=TOKEN)
        assert {one for one, _ in identifiers} == {"anymail.W002"}
        assert all("answered 404" in text and "postmark" in text for _, text in identifiers)

    def test_of_esps_that_are_not_in_use_are_closed_and_nothing_to_tell(self) -> None:
        assert found(checks.check_webhooks, **in_use("django.core.mail.backends.smtp.EmailBackend"), ANYMAIL={}) == []

    def test_where_none_are_routed(self) -> None:
        assert found(checks.check_webhooks, **in_use(PATH), ANYMAIL=TOKEN, ROOT_URLCONF="anymail.sandbox.urls") == []

    def test_that_anyone_can_call(self) -> None:
        """Also of ESPs that the project does not send through."""
        anymail = {"WEBHOOK_ALLOW_UNVERIFIED": ["mailjet"]}
        texts = [text for _, text in found(checks.check_webhooks, ANYMAIL=anymail)]
        assert [text.partition(".")[0] for text in texts] == [
            "Anyone can call the webhook at anymail/mailjet/tracking/",
            "Anyone can call the webhook at anymail/mailjet/inbound/",
        ]

    @pytest.mark.parametrize("backend", [PATH, "django.core.mail.backends.smtp.EmailBackend"])
    def test_an_empty_secret(self, backend: str) -> None:
        anymail = {**TOKEN, "WEBHOOK_SECRET": ""}
        assert {one for one, _ in found(checks.check_webhooks, **in_use(backend), ANYMAIL=anymail)} == {"anymail.E003"}

    def test_a_missing_key_of_an_esp_in_use(self) -> None:
        settings = {**in_use("anymail.backends.postal.EmailBackend"), "ANYMAIL": {"WEBHOOK_SECRET": "a:b"}}
        texts = found(checks.check_webhooks, **settings)
        assert {one for one, _ in texts} == {"anymail.W002"}
        assert all("POSTAL_WEBHOOK_KEY" in text for _, text in texts)

    @pytest.mark.parametrize("route", ["own", "in/a/tree"])
    def test_of_the_projects_own_urls(self, route: str) -> None:
        view = MailjetTrackingWebhookView.as_view()
        parts = route.split("/")
        pattern = path(f"{parts[-1]}/", view)
        for part in reversed(parts[:-1]):
            pattern = path(f"{part}/", include(([pattern], "x")))
        [(identifier, text)] = found(checks.check_webhooks, ANYMAIL={}, ROOT_URLCONF=(pattern,))
        assert (identifier, f"{route}/" in text) == ("anymail.W002", True)
        assert found(checks.check_webhooks, ANYMAIL={"WEBHOOK_SECRET": "a:b"}, ROOT_URLCONF=(pattern,)) == []

    @pytest.mark.parametrize(
        ("backend", "identifiers"),
        [
            ("locmem.LocMemCache", ["anymail.W006"]),
            ("filebased.FileBasedCache", ["anymail.W006"]),
            ("dummy.DummyCache", ["anymail.W006"]),
            ("redis.RedisCache", []),
            ("db.DatabaseCache", []),
            (None, ["anymail.E006"]),
        ],
    )
    def test_the_cache(self, backend: str | None, identifiers: list[str]) -> None:
        caches = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
        if backend:
            caches["calls"] = {"BACKEND": f"django.core.cache.backends.{backend}", "LOCATION": "x"}
        anymail = {"WEBHOOK_SECRET": "a:b", "WEBHOOK_CACHE": "calls"}
        assert [one for one, _ in found(checks.check_webhooks, ANYMAIL=anymail, CACHES=caches)] == identifiers


def test_debug_output_in_production() -> None:
    anymail = {**TOKEN, "DEBUG_API_REQUESTS": True}
    assert [one for one, _ in found(checks.check_deployment, **in_use(PATH), ANYMAIL=anymail)] == ["anymail.W003"]


@pytest.mark.parametrize("name", ["console", "test"])
def test_a_backend_that_sends_nothing_in_production(name: str) -> None:
    path = f"anymail.backends.{name}.EmailBackend"
    assert [one for one, _ in found(checks.check_deployment, **in_use(path))] == ["anymail.E004"]
