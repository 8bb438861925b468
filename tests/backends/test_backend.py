"""Django's door for sending: configuration by EMAIL_BACKEND and MAILERS, and the whole way to a loopback server."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Iterator
from typing import Any

import django
import pytest
from django.core import mail
from django.core.mail import EmailMessage, send_mail
from django.test import override_settings
from loopback import LoopbackServer

from anymail import asend
from anymail.backends.postmark import EmailBackend
from anymail.exceptions import (
    AnymailAPIError,
    AnymailConfigurationError,
    AnymailDeprecationWarning,
    AnymailInvalidMailer,
    AnymailUnsupportedFeature,
)
from anymail.message import AnymailMessage
from anymail.signals import pre_send
from support import message

PATH = "anymail.backends.postmark.EmailBackend"
needs_mailers = pytest.mark.skipif(django.VERSION < (6, 1), reason="MAILERS came with Django 6.1")


def postmark(server: Any, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
    asked = json.loads(body)
    one = {"ErrorCode": 0, "Message": "OK", "MessageID": "id-1"}
    answer = [one] * len(asked) if isinstance(asked, list) else one
    return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer(postmark) as server:
        yield server


@pytest.fixture
def configured(server: LoopbackServer) -> Iterator[LoopbackServer]:
    """A project that sends through Postmark, at the loopback server."""
    anymail = {"POSTMARK_SERVER_TOKEN": "token", "POSTMARK_API_URL": server.url}
    if django.VERSION >= (6, 1):
        with override_settings(MAILERS={"default": {"BACKEND": PATH}}, ANYMAIL=anymail):
            yield server
    else:
        with override_settings(EMAIL_BACKEND=PATH, ANYMAIL=anymail):
            yield server


class TestSending:
    def test_send_mail(self, configured: LoopbackServer) -> None:
        assert send_mail("Hi", "Hello", None, ["ana@example.net"]) == 1
        [(path, headers, body)] = configured.calls
        assert path == "/email"
        assert headers["x-postmark-server-token"] == "token"
        assert json.loads(body)["From"] == "from@example.com"

    def test_a_message(self, configured: LoopbackServer) -> None:
        one = message(to=["Ana@example.net"])
        assert one.send() == 1
        assert one.anymail_status.recipients == {"Ana@example.net": ("id-1", "sent")}
        assert one.anymail_status.esp_response.status_code == 200

    def test_a_message_without_recipients(self, configured: LoopbackServer) -> None:
        assert message(to=[]).send() == 0
        assert configured.calls == []

    def test_the_connection_is_kept_from_one_backend_to_the_next(self, configured: LoopbackServer) -> None:
        for _ in range(5):
            send_mail("Hi", "Hello", None, ["ana@example.net"])
        assert configured.connections == 1

    def test_asend(self, configured: LoopbackServer) -> None:
        one = AnymailMessage("Hi", "Hello", None, ["ana@example.net"], tags=["a"])
        assert asyncio.run(one.asend()) == 1
        plain = EmailMessage("Hi", "Hello", None, ["ana@example.net"])
        assert asyncio.run(asend(plain)) == 1
        assert asyncio.run(asend(EmailMessage("Hi", "Hello"))) == 0
        assert len(configured.calls) == 2
        assert one.anymail_status.message_id == "id-1"

    def test_an_error_says_what_to_do(self, server: LoopbackServer) -> None:
        server._answer = lambda *_: (422, {}, b'{"ErrorCode": 405, "Message": "Not enough credits"}')
        backend = EmailBackend(server_token="hush", api_url=server.url)
        with pytest.raises(AnymailAPIError) as raised:
            backend.send_messages([message()])
        text = str(raised.value)
        for part in (
            "Postmark answered HTTP 422",
            "Not enough credits",
            "not sent",
            "quota",
        ):
            assert part in text
        assert "hush" not in text + repr(raised.value) + repr(raised.value.__dict__)
        assert raised.value.payload.url.startswith(server.url)


class TestOptions:
    def test_a_backend_without_settings(self, server: LoopbackServer) -> None:
        backend = EmailBackend(server_token="other", api_url=server.url)
        assert backend.send_messages([message(), message()]) == 2
        assert backend.esp_name == "Postmark"

    def test_a_missing_token(self) -> None:
        with pytest.raises(AnymailConfigurationError, match="POSTMARK_SERVER_TOKEN"):
            EmailBackend()

    def test_an_unknown_one(self) -> None:
        with pytest.raises(AnymailConfigurationError, match="did you mean 'server_token'"):
            EmailBackend(server_tokn="x")

    def test_arguments_for_smtp_are_ignored(self) -> None:
        assert EmailBackend(server_token="x", username=None, password=None).fail_silently is False

    def test_instances_are_reusable(self, server: LoopbackServer) -> None:
        backend = EmailBackend(server_token="x", api_url=server.url)
        for _ in range(2):
            with backend as connection:
                assert connection.send_messages([message()]) == 1


class TestFailSilently:
    def test_it_works_and_warns(self, server: LoopbackServer) -> None:
        with pytest.warns(AnymailDeprecationWarning, match="fail_silently"):
            backend = EmailBackend(fail_silently=True, server_token="x", api_url=server.url)
        assert backend.send_messages([message(tags=["a", "b"]), message()]) == 1

    @pytest.mark.filterwarnings("ignore:fail_silently")
    def test_it_does_not_hide_a_receivers_mistake(self, server: LoopbackServer) -> None:
        def broken(**kwargs: Any) -> None:
            raise KeyError("no such template")

        backend = EmailBackend(fail_silently=True, server_token="x", api_url=server.url)
        pre_send.connect(broken)
        try:
            with pytest.raises(KeyError):
                backend.send_messages([message()])
        finally:
            pre_send.disconnect(broken)

    def test_without_it_the_error_is_raised(self, server: LoopbackServer) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            backend = EmailBackend(fail_silently=False, server_token="x", api_url=server.url)
        with pytest.raises(AnymailUnsupportedFeature) as raised:
            backend.send_messages([message(tags=["a", "b"]), message()])
        assert raised.value.report is not None
        assert raised.value.report.sent_count == 1


@needs_mailers
class TestMailers:
    OPTIONS = {"server_token": "token"}

    def mailers(self, **options: Any) -> Any:
        return override_settings(MAILERS={"default": {"BACKEND": PATH, "OPTIONS": {**self.OPTIONS, **options}}})

    def test_options(self, server: LoopbackServer) -> None:
        with self.mailers(api_url=server.url):
            assert mail.mailers["default"].send_messages([message()]) == 1
            assert message().send(using="default") == 1
            assert asyncio.run(asend(message(), using="default")) == 1

    def test_an_unknown_option(self) -> None:
        text = "did you mean 'api_url'"
        with self.mailers(api_ulr="https://x"), pytest.raises(AnymailInvalidMailer, match=text) as raised:
            mail.mailers["default"]
        assert raised.value.alias == "default"
        assert isinstance(raised.value, mail.InvalidMailer)

    def test_a_missing_option(self) -> None:
        with (
            override_settings(MAILERS={"x": {"BACKEND": PATH}}),
            pytest.raises(mail.InvalidMailer, match="SERVER_TOKEN"),
        ):
            mail.mailers["x"]

    def test_smtp_arguments_are_unknown(self) -> None:
        with self.mailers(username="x"), pytest.raises(mail.InvalidMailer, match="username"):
            mail.mailers["default"]

    def test_a_tenants_own_credentials(self, server: LoopbackServer) -> None:
        backend = EmailBackend(alias="tenant-7", server_token="seven", api_url=server.url)
        assert backend.send_messages([message()]) == 1
        assert server.calls[0][1]["x-postmark-server-token"] == "seven"

    def test_nothing_that_django_retires_is_used(self, server: LoopbackServer) -> None:
        with warnings.catch_warnings(), self.mailers(api_url=server.url):
            warnings.simplefilter("error")
            assert message().send() == 1
            assert asyncio.run(AnymailMessage("Hi", "x", None, ["a@example.com"]).asend()) == 1


class TestForTestsAndDevelopment:
    def test_the_test_backend(self) -> None:
        from anymail.backends.test import EmailBackend as TestBackend

        mail.outbox = []
        one = message(to=["ana@example.net", "rejected@example.net"], tags=["a", "b"], send_at=1_800_000_000)
        assert TestBackend().send_messages([one]) == 1
        assert mail.outbox == [one]
        statuses = one.anymail_status.recipients
        assert (statuses["ana@example.net"].status, statuses["rejected@example.net"]) == ("sent", (None, "rejected"))

    def test_the_test_backend_keeps_what_a_generator_makes(self) -> None:
        from anymail.backends.test import EmailBackend as TestBackend

        mail.outbox = []
        assert TestBackend().send_messages(message(subject=str(number)) for number in range(3)) == 3
        assert asyncio.run(TestBackend().asend_messages(message(subject=str(number)) for number in range(3, 5))) == 2
        assert [one.subject for one in mail.outbox] == ["0", "1", "2", "3", "4"]

    def test_the_console_backend(self, capsys: pytest.CaptureFixture[str]) -> None:
        from anymail.backends.console import EmailBackend as ConsoleBackend

        one = message(tags=["receipt"], metadata={"order": 7}, html="<p>", attach=[("a.txt", "x", "text/plain")])
        assert ConsoleBackend().send_messages([one]) == 1
        shown = capsys.readouterr().out
        for part in (
            "Subject: Hi",
            "To: ana@example.net",
            "tags = ('receipt',)",
            "'order': 7",
            "a.txt",
            "Hello",
            "<p>",
        ):
            assert part in shown
