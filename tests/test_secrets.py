"""No report of an error shows a credential: neither what sentry-sdk makes of local variables, nor texts and logs."""

from __future__ import annotations

import asyncio
import json
import re
import time
import warnings
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import sentry_sdk.serializer
import sentry_sdk.utils
from django.core.exceptions import ImproperlyConfigured
from django.test import Client, RequestFactory, override_settings
from django.urls import resolve
from sentry_sdk.scrubber import EventScrubber

from anymail.checks import check_mailers
from anymail.esps import REGISTRY, esp_class
from anymail.exceptions import AnymailTransportError, AnymailWarning
from anymail.message import AnymailMessage
from anymail.sandbox import sandbox_settings
from anymail.signals import tracking
from anymail.webhooks.postmark import PostmarkTrackingWebhookView
from anymail.wire import Request, Response
from support import PLAIN, Call, message

from webhooks.test_signatures import SIGNED  # isort: skip

HERE = str(Path(__file__).parent)
# No word of any other text.
MARK = "qZ7hush"
NOWHERE = "http://127.0.0.1:9"

every_esp = pytest.mark.parametrize("slug", REGISTRY)


class Scripted:
    """A transport that does what ``script`` says."""

    @staticmethod
    def script() -> Response:
        raise NotImplementedError

    def __init__(self, *, connect_timeout: float | None, read_timeout: float | None) -> None:
        pass

    def send(self, request: Request) -> Response:
        return type(self).script()

    async def asend(self, request: Request) -> Response:
        return type(self).script()


def keys(slug: str) -> dict[str, str]:
    """A credential for each option for sending that is one."""
    names = [f.name for f in esp_class(slug).Options.__dataclass_fields__.values() if str(f.type) == "Secret"]
    return {name: f"{MARK}{number}" for number, name in enumerate(names)}


def settings_of(slug: str, **own: Any) -> dict[str, Any]:
    settings = dict(sandbox_settings(NOWHERE, slug))
    settings.update({f"{slug.upper()}_{name.upper()}": key for name, key in keys(slug).items()})
    if slug == "amazon_ses":
        credentials = {f"aws_{name}": f"{MARK}{name}" for name in ("access_key_id", "secret_access_key")}
        params = {**settings["AMAZON_SES_CLIENT_PARAMS"], **credentials, "aws_session_token": f"{MARK}token"}
        settings["AMAZON_SES_CLIENT_PARAMS"] = params
    return {**settings, "TRANSPORT": Scripted, "RETRIES": 0, "RATE_LIMIT_WAIT": 0, **own}


def needles() -> list[str]:
    """What a credential looks like, also inside of HTTP basic auth."""
    return [MARK, *(b64encode(f"{user}:{MARK}".encode()).decode()[:-4] for user in ("api", f"{MARK}0"))]


def backend(slug: str, **options: Any) -> Any:
    return import_module(f"anymail.backends.{slug}").EmailBackend(**options)


def send(slug: str, how: str, one: Any) -> None:
    if how == "sync":
        backend(slug).send_messages([one])
    else:
        asyncio.run(backend(slug).asend_messages([one]))


def failure_of(call: Callable[[], Any]) -> BaseException:
    with pytest.raises(Exception) as raised:  # noqa: PT011
        call()
    return raised.value


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that a report shows with it."""
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        seen.append(current)
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def frames(traceback: TracebackType | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The frames, as "file:line function", with their local variables; those of the tests are the project's."""
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if not code.co_filename.startswith(HERE):
            yield f"{code.co_filename}:{traceback.tb_lineno} {code.co_name}", dict(traceback.tb_frame.f_locals)
        traceback = traceback.tb_next


def visible(value: Any, depth: int = 0) -> Iterator[str]:
    """All that could be shown of a value: deeper than what reports errors would look."""
    with suppress(Exception):
        yield repr(value)
    if depth > 8 or isinstance(value, (str, bytes)):
        return
    if isinstance(value, Mapping):
        for key, inner in list(value.items()):
            yield from visible(key, depth + 1)
            yield from visible(inner, depth + 1)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for inner in list(value):
            yield from visible(inner, depth + 1)


def assert_hushed(error: BaseException) -> None:
    hints = needles()
    for one in chain(error):
        for text in (str(one), repr(one), *map(str, getattr(one, "__notes__", ()))):
            assert not any(hint in text for hint in hints), f"{type(one).__name__} shows a key in its text"
        for where, names in frames(one.__traceback__):
            for name, value in names.items():
                shown = any(hint in text for text in visible(value) for hint in hints)
                assert not shown, f"{where} shows a key in {name!r} of {type(one).__name__}"
    event, _ = sentry_sdk.utils.event_from_exception(
        (type(error), error, error.__traceback__),
        client_options={
            "include_local_variables": True,
            "include_source_context": False,
            "max_value_length": 100_000,
            "in_app_include": [],
            "in_app_exclude": [],
            "project_root": HERE,
            "add_full_stack": False,
            "max_stack_frames": None,
        },
    )
    for value in event["exception"]["values"]:
        own = value.get("stacktrace", {}).get("frames", [])
        own[:] = [frame for frame in own if not str(frame.get("abs_path")).startswith(HERE)]
    EventScrubber().scrub_event(event)
    report = json.dumps(sentry_sdk.serializer.serialize(dict(event)), default=repr)
    assert '"vars"' in report or not list(frames(error.__traceback__))
    assert not any(hint in report for hint in hints), "sentry-sdk shows a key"


def test_the_walk_finds_a_key() -> None:
    """The test that the others rely on can fail."""
    namespace: dict[str, Any] = {}
    exec(compile("def leak(key):\n    raise ValueError('no')", "/elsewhere.py", "exec"), namespace)
    for key in (MARK, {"a": [{"b": MARK}]}, (1, f"Bearer {MARK}")):
        error = failure_of(lambda key=key: namespace["leak"](key))  # type: ignore[misc]
        with pytest.raises(AssertionError, match="shows a key in 'key'"):
            assert_hushed(error)
    with pytest.raises(AssertionError, match="in its text"):
        assert_hushed(ValueError(MARK))


@every_esp
def test_the_keys_of_these_tests_are_those_that_are_sent(slug: str, monkeypatch: Any) -> None:
    seen: list[Request] = []

    def record(self: Any, request: Request) -> Response:
        seen.append(request)
        raise AnymailTransportError("no", category="network", sent=None)

    monkeypatch.setattr(Scripted, "send", record)
    with override_settings(ANYMAIL=settings_of(slug)):
        failure_of(lambda: send(slug, "sync", message()))
    sent = str(dict(seen[0].headers)) + bytes(seen[0].body).decode()
    assert any(needle in sent for needle in needles())
    assert not any(needle in seen[0].url for needle in needles())


def raising(error: Exception) -> Callable[[], Response]:
    def script() -> Response:
        raise error

    return script


def answering(status: int, content: bytes) -> Callable[[], Response]:
    return lambda: Response(status, {"Content-Type": "application/json"}, content)


ANSWERS: dict[str, Callable[[], Response]] = {
    "network": raising(AnymailTransportError("no", category="network", sent=None)),
    "a fault of the transport": raising(RuntimeError("no")),
    "401": answering(401, b'{"message": "wrong key"}'),
    "422": answering(422, b'{"message": "wrong address", "errors": {"to": ["no"]}}'),
    "429": answering(429, b"{}"),
    "500": answering(500, b"<html>"),
    "not JSON": answering(200, b"<html>"),
    "not an object": answering(200, b"7"),
    "an empty object": answering(200, b"{}"),
    "nested too deeply": answering(200, b"[" * 100_000),
}


@every_esp
@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("script", ANSWERS.values(), ids=ANSWERS.keys())
@pytest.mark.parametrize("batch", [False, True], ids=["one", "batch"])
def test_what_the_esp_says(
    slug: str, how: str, script: Callable[[], Response], batch: bool, caplog: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(Scripted, "script", staticmethod(script))
    attributes: dict[str, Any] = {"to": ["ana@example.net", "bo@example.net"], "merge_metadata": {}} if batch else {}
    with (
        override_settings(ANYMAIL=settings_of(slug, IGNORE_UNSUPPORTED_FEATURES=True)),
        warnings.catch_warnings(record=True) as warned,
    ):
        try:
            send(slug, how, message(html="<p>Hi", **attributes))
        except Exception as error:
            assert_hushed(error)
    assert MARK not in caplog.text + str([one.message for one in warned])
    for record in caplog.records:
        if record.exc_info and record.exc_info[1]:
            assert_hushed(record.exc_info[1])


class Odd:
    """What no encoder takes."""


MESSAGES: dict[str, dict[str, Any]] = {
    "metadata": {"metadata": {"a": Odd()}},
    "merge data": {"merge_data": {"ana@example.net": {"a": Odd()}}, "template_id": "1"},
    "global merge data": {"merge_global_data": {"a": Odd()}, "template_id": "1"},
    "merge metadata": {"merge_metadata": {"ana@example.net": {"a": Odd()}}},
    "esp_extra": {"esp_extra": {"a": Odd()}},
    "deep in esp_extra": {"esp_extra": {"message": {"options": Odd()}}},
    "a surrogate": {"body": "\ud800"},
    "tags": {"tags": [Odd()]},
    "a header": {"headers": {"X-A": Odd()}},
    "an address": {"to": ["ana@"]},
    "a subject": {"subject": "a\nb"},
    "unsupported": {"from_email": "a@example.com, b@example.com", "alternatives": [("x", "text/x-odd")]},
    "cut from the template": {"subject": Odd()},
}


@every_esp
@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("attributes", MESSAGES.values(), ids=MESSAGES.keys())
def test_messages_that_cannot_be_sent(slug: str, how: str, attributes: dict[str, Any], monkeypatch: Any) -> None:
    monkeypatch.setattr(Scripted, "script", staticmethod(answering(200, b"{}")))
    # An ESP's own credential in esp_extra is as secret as that of the settings.
    own = {"esp_extra": {**attributes.get("esp_extra", {}), **dict.fromkeys(EXTRAS.get(slug, ()), f"{MARK}extra")}}
    with override_settings(ANYMAIL=settings_of(slug)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        error = failure_of(lambda: send(slug, how, message(**{**attributes, **own})))
    assert_hushed(error)


#: The keys of esp_extra that hold a credential.
EXTRAS = {"postmark": ["server_token"], "mailersend": ["api_token"], "mandrill": ["key"]}


@pytest.mark.parametrize("slug", EXTRAS)
@pytest.mark.parametrize("token", [f"{MARK}\nx", f"\u2019{MARK}", [MARK]])
@pytest.mark.parametrize("where", ["message", "filled in place", "defaults"])
def test_a_wrong_credential_in_esp_extra(slug: str, token: Any, where: str) -> None:
    extra = {"esp_extra": {EXTRAS[slug][0]: token}}
    if where == "filled in place":
        sent = AnymailMessage(**PLAIN)
        sent.esp_extra[EXTRAS[slug][0]] = token
    else:
        sent = message(**(extra if where == "message" else {}))
    settings = settings_of(slug, **({"SEND_DEFAULTS": extra} if where == "defaults" else {}))
    with override_settings(ANYMAIL=settings):
        error = failure_of(lambda: send(slug, "sync", sent))
    assert EXTRAS[slug][0] in str(error)
    assert_hushed(error)


@pytest.mark.parametrize("slug", EXTRAS)
def test_a_credential_in_esp_extra_is_the_one_that_is_sent(slug: str, monkeypatch: Any) -> None:
    seen: list[Request] = []

    def record(self: Any, request: Request) -> Response:
        seen.append(request)
        raise AnymailTransportError("no", category="network", sent=None)

    monkeypatch.setattr(Scripted, "send", record)
    for extra in ({}, {"esp_extra": {EXTRAS[slug][0]: " other "}}):
        with override_settings(ANYMAIL=settings_of(slug, SEND_DEFAULTS=extra)):
            failure_of(lambda: send(slug, "sync", message()))
    first, second = (str(dict(one.headers)) + bytes(one.body).decode() for one in seen)
    assert MARK in first
    assert MARK not in second
    assert re.search(r"\bother\b", second)
    assert "other" not in repr(backend_options(slug))


def backend_options(slug: str) -> Any:
    with override_settings(ANYMAIL=settings_of(slug, SEND_DEFAULTS={"esp_extra": {EXTRAS[slug][0]: "other"}})):
        return backend(slug).options


# Wrong settings: what is given beside a good key.
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "an unknown option": {"no_such_option": f"{MARK}x"},
    "a wrong number": {"retries": "many"},
    "a wrong timeout": {"requests_timeout": "x"},
    "no dict": {"send_defaults": 7},
    "an unknown module": {"idna_encoder": "no.such.module"},
}


@every_esp
@pytest.mark.parametrize("options", CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())
@pytest.mark.parametrize("place", ["settings", "keywords"])
def test_wrong_settings(slug: str, options: dict[str, Any], place: str) -> None:
    given = keys(slug) if place == "keywords" else {}
    with override_settings(ANYMAIL=settings_of(slug)):
        error = failure_of(lambda: backend(slug, **given, **options))
    assert isinstance(error, ImproperlyConfigured)
    assert_hushed(error)


CREDENTIALS = [(slug, name) for slug in REGISTRY for name in keys(slug)]
WRONG_KEYS: dict[str, tuple[Any, str]] = {
    "None": (None, "is set to None: is its environment variable set"),
    "empty": ("", "is empty"),
    "white space": (" \n", "is empty"),
    "a line break inside": (f"{MARK}\n{MARK}", "control character"),
    "a null": (f"{MARK}\x00", "control character"),
    "a C1 control": (f"{MARK}\x85{MARK}", "control character"),
    "typographic quotes": (f"\u201c{MARK}\u201d", "no HTTP header can hold"),
    "a zero-width space": (f"{MARK}\u200b", "no HTTP header can hold"),
    "a list": ([MARK], "a string is needed"),
}


@pytest.mark.parametrize(("slug", "name"), CREDENTIALS)
@pytest.mark.parametrize(("key", "text"), WRONG_KEYS.values(), ids=WRONG_KEYS.keys())
def test_wrong_keys_are_refused_when_they_are_loaded(slug: str, name: str, key: Any, text: str) -> None:
    setting = f"{slug.upper()}_{name.upper()}"
    with override_settings(ANYMAIL=settings_of(slug, **{setting: key})):
        error = failure_of(lambda: send(slug, "sync", message()))
    assert isinstance(error, ImproperlyConfigured)
    assert setting in str(error)
    assert text in str(error)
    assert_hushed(error)


@pytest.mark.parametrize(("slug", "name"), CREDENTIALS)
def test_white_space_at_the_ends_of_a_key_is_left_out_with_a_warning(slug: str, name: str) -> None:
    setting = f"{slug.upper()}_{name.upper()}"
    with (
        override_settings(ANYMAIL=settings_of(slug, **{setting: f" {MARK}\r\n"})),
        pytest.warns(AnymailWarning, match=setting) as warned,
    ):
        options = backend(slug).options
    assert getattr(options, name).reveal() == MARK
    assert MARK not in str([str(one.message) for one in warned])


@pytest.mark.parametrize("signed", [one for one in SIGNED if not one.public_key], ids=str)
@pytest.mark.parametrize("key", [None, "", "  "])
def test_wrong_webhook_keys(signed: Any, key: Any) -> None:
    view = resolve(signed.call(time.time()).url).func.view_class()  # type: ignore[attr-defined]
    with override_settings(ANYMAIL={**signed.settings, signed.key_setting: key}):
        error = failure_of(view.webhook)
    assert signed.key_setting in str(error)
    assert_hushed(error)


@pytest.mark.parametrize("signed", SIGNED, ids=str)
def test_webhook_calls_that_are_refused(signed: Any, caplog: Any) -> None:
    """Their errors are told without being raised: here the view is asked for them."""
    call: Call = signed.resigned(signed.call(time.time()), "bogus")
    view_class = resolve(call.url).func.view_class  # type: ignore[attr-defined]
    request = RequestFactory().post(call.url, call.body, content_type=call.content_type, headers=call.headers)
    secret = f"user:{MARK}"
    with override_settings(ANYMAIL={**signed.settings, "WEBHOOK_SECRET": secret}), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert call.post(Client()).status_code in (400, 401)
        webhook = view_class().webhook()
        for attempt in (
            lambda: view_class()._authenticate(webhook, request),
            lambda: webhook.verify(request),
            lambda: view_class(no_such_option=MARK),
        ):
            try:
                attempt()
            except Exception as error:
                assert_hushed(error)
    assert MARK not in caplog.text


def test_options_of_a_view() -> None:
    """Django keeps them in a frame of every call; here a receiver fails."""

    def receiver(**kwargs: Any) -> None:
        raise RuntimeError("no")

    view = PostmarkTrackingWebhookView.as_view(webhook_secret=f"user:{MARK}")
    authorization = "Basic " + b64encode(f"user:{MARK}".encode()).decode()
    body = json.dumps({"RecordType": "Open", "MessageID": "m", "ReceivedAt": "2026-01-01T00:00:00Z"})
    request = RequestFactory().post("/", body, "application/json")
    assert view(request).status_code == 400
    request = RequestFactory().post("/", body, "application/json", headers={"Authorization": authorization})
    tracking.connect(receiver)
    try:
        error = failure_of(lambda: view(request))
    finally:
        tracking.disconnect(receiver)
    assert str(error) == "no"
    assert_hushed(error)
    assert_hushed(failure_of(lambda: PostmarkTrackingWebhookView.as_view(no_such_option=MARK)))


@pytest.mark.parametrize("slug", EXTRAS)
@pytest.mark.parametrize("extra", [False, True])
def test_printed_calls_show_no_key(slug: str, extra: bool, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(Scripted, "script", staticmethod(answering(401, b"{}")))
    own = {"esp_extra": {EXTRAS[slug][0]: f"{MARK}extra"}} if extra else {}
    with override_settings(ANYMAIL=settings_of(slug, DEBUG_API_REQUESTS=True)):
        failure_of(lambda: send(slug, "sync", message(**own)))
    printed = capsys.readouterr().out
    assert "=====" in printed
    assert MARK not in printed


# What the webhooks fetch: the call for it, and the option that holds the key.
FETCHES: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "brevo": ("Brevo", "api_key", lambda webhook: webhook._attachment({"DownloadToken": "t"})),
    "mailgun": (
        "Mailgun",
        "api_key",
        lambda webhook: webhook._stored("https://se.api.mailgun.net/v3/domains/example.com/messages/x"),
    ),
    "mailtrap": ("Mailtrap", "api_token", lambda webhook: webhook._lookup("x")),
    "resend": ("Resend", "api_key", lambda webhook: webhook._object("emails/receiving/x")),
}


@pytest.mark.parametrize("slug", FETCHES)
@pytest.mark.parametrize(
    "outcome",
    [AnymailTransportError("no", category="network", sent=None), Response(401, {}, b"no"), Response(200, {}, b"7")],
    ids=["network", "401", "unreadable"],
)
def test_what_webhooks_fetch(slug: str, outcome: Any) -> None:
    name, option, fetch = FETCHES[slug]
    view = getattr(import_module(f"anymail.webhooks.{slug}"), f"{name}InboundWebhookView")
    with override_settings(ANYMAIL={f"{slug.upper()}_{option.upper()}": f"{MARK}0"}):
        flow = fetch(view().webhook())
    request = next(flow)
    assert any(needle in str(dict(request.headers)) for needle in needles())
    try:
        flow.throw(outcome) if isinstance(outcome, Exception) else flow.send(outcome)
    except StopIteration:
        pass
    except Exception as error:
        assert_hushed(error)


@every_esp
def test_checks_show_no_key(slug: str) -> None:
    setting = next((f"{slug.upper()}_{name.upper()}" for name in keys(slug)), None)
    wrong = {setting: f"{MARK}\n{MARK}"} if setting else {"AMAZON_SES_CLIENT_PARAMS": {"aws_access_key_id": MARK}}
    path = f"anymail.backends.{slug}.EmailBackend"
    with override_settings(
        EMAIL_BACKEND=path, MAILERS={"default": {"BACKEND": path}}, ANYMAIL=settings_of(slug, **wrong)
    ):
        found = check_mailers(None)
    assert [one.id for one in found] == ["anymail.E001"]
    assert MARK not in str(found)


class TestRealConnections:
    @every_esp
    @pytest.mark.parametrize("how", ["sync", "async"])
    def test_nobody_listens(self, slug: str, how: str) -> None:
        settings = settings_of(slug)
        del settings["TRANSPORT"]
        with override_settings(ANYMAIL=settings):
            error = failure_of(lambda: send(slug, how, message()))
        assert_hushed(error)
