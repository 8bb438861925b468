"""Settings: where they are found, and what is said when they are missing or wrong."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from django.views.debug import SafeExceptionReporterFilter

from anymail.conf import Secret, SendOptions, WebhookOptions, load, option, secret, secrets, setting_names
from anymail.esps.postmark.sending import PostmarkOptions
from anymail.exceptions import AnymailConfigurationError, AnymailDeprecationWarning, AnymailInvalidMailer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(SendOptions):
    api_key: Secret = secret("Key.", bare=True)
    region: str = option("Region.", default="eu")


def loaded(alias: str | None = None, **given: Any) -> Options:
    return load(Options, ("ACME", "OLDACME"), given, alias=alias)


# Settings, keywords, and the key that is in force: the first place counts.
PLACES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "keyword": ({"ANYMAIL": {"ACME_API_KEY": "2"}, "ACME_API_KEY": "4"}, {"api_key": "1"}, "1"),
    "ANYMAIL": ({"ANYMAIL": {"ACME_API_KEY": "2"}, "ANYMAIL_ACME_API_KEY": "3"}, {}, "2"),
    "prefixed": ({"ANYMAIL_ACME_API_KEY": "3", "ACME_API_KEY": "4"}, {}, "3"),
    "bare": ({"ACME_API_KEY": "4"}, {}, "4"),
}


@pytest.mark.parametrize(("settings", "given", "expected"), PLACES.values(), ids=PLACES.keys())
def test_places(settings: dict[str, Any], given: dict[str, Any], expected: str) -> None:
    with override_settings(**settings):
        assert loaded(**given).api_key.reveal() == expected


@pytest.mark.parametrize("settings", [{"ANYMAIL": {"OLDACME_API_KEY": "5"}}, {"OLDACME_API_KEY": "5"}])
def test_an_old_name_warns(settings: dict[str, Any]) -> None:
    with (
        override_settings(**settings),
        pytest.warns(AnymailDeprecationWarning, match="OLDACME_API_KEY.* is the old name"),
    ):
        assert loaded().api_key.reveal() == "5"


def test_only_credentials_have_a_bare_form() -> None:
    with override_settings(ACME_REGION="us"):
        assert loaded(api_key="k").region == "eu"


def test_common_settings_can_be_set_for_one_esp() -> None:
    with override_settings(ANYMAIL={"RETRIES": 1, "ACME_RETRIES": 5, "ACME_API_KEY": "k"}):
        assert loaded().retries == 5
    with override_settings(ANYMAIL={"RETRIES": 1, "ACME_API_KEY": "k"}):
        assert loaded().retries == 1


def test_send_defaults_of_an_esp_replace_key_by_key() -> None:
    anymail = {
        "ACME_API_KEY": "k",
        "SEND_DEFAULTS": {"tags": ["all"], "track_opens": True},
        "ACME_SEND_DEFAULTS": {"tags": ["acme"]},
    }
    with override_settings(ANYMAIL=anymail):
        assert loaded().send_defaults == {"tags": ["acme"], "track_opens": True}
        assert loaded(send_defaults={"tags": []}).send_defaults == {"tags": [], "track_opens": True}


def test_a_missing_one_names_every_place() -> None:
    with pytest.raises(AnymailConfigurationError) as raised:
        loaded()
    for place in ('ANYMAIL["ACME_API_KEY"]', "'api_key'", "ANYMAIL_ACME_API_KEY", "ACME_API_KEY"):
        assert place in str(raised.value)


def test_an_unknown_option_is_refused_with_the_nearest_name() -> None:
    text = r"MAILERS\['x'\]: Unknown options: 'api_kye' \(did you mean 'api_key'"
    with pytest.raises(AnymailInvalidMailer, match=text) as raised:
        loaded("x", api_kye="k")
    assert raised.value.alias == "x"
    with pytest.raises(AnymailConfigurationError, match="did you mean 'retries'"):
        loaded(RETRIES=1)


WRONG: dict[str, Any] = {
    "api_key": ["", "  ", 7],
    "retries": [-1, "2", True, 1.5],
    "concurrency": [0],
    "requests_timeout": [0, -1, True, float("inf"), "30", (1,), (1, 2, 3, 4), (1, "2"), (1, 2, 0)],
    "ignore_unsupported_features": ["yes"],
    "send_defaults": [7],
    "idna_encoder": ["idna", "no.such.module.f"],
    "rate_limit_wait": [-1, "x"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_is_named_but_never_shown(name: str, value: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match=rf"(?i){name}"):
        loaded(**{"api_key": "hush-hush", name: value})


@pytest.mark.parametrize(
    ("value", "expected"),
    [(5, (5, 5)), ((3, 20), (3, 20)), (None, (None, None)), ((None, 9.5), (None, 9.5)), ([1, 2, 3], (1, 2, 3))],
)
def test_timeouts(value: Any, expected: Any) -> None:
    assert loaded(api_key="k", requests_timeout=value).requests_timeout == expected


def test_anymail_must_be_a_dict() -> None:
    with (
        override_settings(ANYMAIL=[("API_KEY", "k")]),
        pytest.raises(AnymailConfigurationError, match="ANYMAIL must be"),
    ):
        loaded()


def test_what_was_read_is_read_again_when_settings_change() -> None:
    with override_settings(ANYMAIL={"ACME_API_KEY": "1"}) as _:
        assert loaded() is loaded()
        with override_settings(ANYMAIL={"ACME_API_KEY": "2"}):
            assert loaded().api_key.reveal() == "2"
        assert loaded().api_key.reveal() == "1"
    anymail = {"ACME_API_KEY": "3"}
    with override_settings(ANYMAIL=anymail):
        assert loaded().api_key.reveal() == "3"
        anymail["ACME_API_KEY"] = "4"
        assert loaded().api_key.reveal() == "4"


class TestSecrets:
    def test_are_not_shown(self) -> None:
        options = loaded(api_key="hush")
        for shown in (
            repr(options),
            str(options),
            f"{options.api_key}",
            repr([options.api_key]),
            str([options.api_key]),
        ):
            assert "hush" not in shown

    def test_are_copied_but_never_pickled(self) -> None:
        hushed = Secret("hush")
        assert copy.deepcopy([hushed]) == [hushed]
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(hushed)

    def test_are_equal_by_value(self) -> None:
        assert Secret("a") == Secret("a") != Secret("b")
        assert Secret("a") != "a"
        assert len({Secret("a"), Secret("a")}) == 1

    def test_several(self) -> None:
        with override_settings(ANYMAIL={"WEBHOOK_SECRET": ["old:1", "new:2"]}):
            options = load(WebhookOptions, ("ACME",), {})
        assert options.webhook_secret == (Secret("old:1"), Secret("new:2"))

    def test_django_hides_them_on_its_error_pages(self) -> None:
        from anymail.checks import _all_options

        cleanse = SafeExceptionReporterFilter().cleanse_setting
        for cls, prefix in _all_options():
            for name, field in setting_names(cls, prefix).items():
                if "Secret" in str(field.type):
                    hidden = cleanse("ANYMAIL", {name: "hush"})
                    assert "hush" not in str(hidden), name
                    hidden = cleanse("MAILERS", {"default": {"OPTIONS": {field.name: "hush"}}})
                    assert "hush" not in str(hidden), field.name

    def test_django_hides_those_of_aws(self) -> None:
        cleanse = SafeExceptionReporterFilter().cleanse_setting
        given = dict.fromkeys(("aws_access_key_id", "aws_secret_access_key", "aws_session_token"), "hush")
        for name in ("AMAZON_SES_CLIENT_PARAMS", "AMAZON_SES_SESSION_PARAMS"):
            assert "hush" not in str(cleanse("ANYMAIL", {name: given}))


def test_setting_names() -> None:
    names = setting_names(PostmarkOptions, "POSTMARK")
    assert {"POSTMARK_SERVER_TOKEN", "POSTMARK_API_URL", "RETRIES", "SEND_DEFAULTS"} <= set(names)
    assert all(re.fullmatch(r"[A-Z_]+", name) for name in names)


def test_every_option_is_documented() -> None:
    from anymail.checks import _all_options

    for cls, prefix in _all_options():
        for name, field in setting_names(cls, prefix).items():
            assert field.metadata["doc"].endswith((".", "`")), name


def test_secrets_option_defaults_to_none() -> None:
    field = secrets("Keys.")
    assert field.default == ()
