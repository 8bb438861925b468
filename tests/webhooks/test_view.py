"""The webhook view: what holds for every ESP, shown on one that is simple."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from typing import Any
from unittest import mock

import pytest
from django.core.cache import cache
from django.core.exceptions import PermissionDenied, SuspiciousFileOperation
from django.core.signals import got_request_exception
from django.http import Http404
from django.test import AsyncClient, Client, RequestFactory, override_settings

from anymail.esps.kit.topics import Certificates
from anymail.exceptions import (
    AnymailAPIError,
    AnymailConfigurationError,
    AnymailInsecureWebhookWarning,
    AnymailTransportError,
)
from anymail.signals import tracking
from anymail.webhooks.postmark import PostmarkTrackingWebhookView
from support import Call, sample
from webhooks.calls import kinds

KINDS = kinds()
URL = "/anymail/postmark/tracking/"
DELIVERED = sample("postmark", "tracking-delivery.json")
SECRET = {"WEBHOOK_SECRET": "user:pass"}


def basic(credentials: str | bytes) -> dict[str, str]:
    raw = credentials.encode() if isinstance(credentials, str) else credentials
    return {"Authorization": f"Basic {b64encode(raw).decode()}"}


AUTHENTIC = Call(URL, DELIVERED, basic("user:pass"))


@pytest.fixture
def failing() -> Any:
    """A receiver that fails on the events that it is told to fail on."""
    state = mock.Mock(on=set(), seen=[])

    def receive(sender: Any, event: Any, **kwargs: Any) -> None:
        state.seen.append(event.recipient)
        if event.recipient in state.on:
            raise RuntimeError("the receiver failed")

    tracking.connect(receive)
    yield state
    tracking.disconnect(receive)


class TestBasicAuth:
    @pytest.mark.parametrize(
        ("setting", "credentials"),
        [
            ("user:pass", "user:pass"),
            ("user:pass:word", "user:pass:word"),
            ("üser:pässword", "üser:pässword"),
            (["old:pass", "user:pass"], "user:pass"),
            (["old:pass", "user:pass"], "old:pass"),
        ],
    )
    def test_right(self, client: Client, events: list[Any], setting: Any, credentials: str) -> None:
        with override_settings(ANYMAIL={"WEBHOOK_SECRET": setting}):
            assert Call(URL, DELIVERED, basic(credentials)).post(client).status_code == 200
        assert len(events) == 1

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Authorization": ""},
            {"Authorization": "Basic"},
            {"Authorization": "Basic !!!"},
            {"Authorization": "Bearer dXNlcjpwYXNz"},
            basic("user"),
            basic("user:"),
            basic("user:pas"),
            basic("user:pass "),
            basic("user:pass\0"),
            basic(b"\xff\xfe:\xff"),
            basic("old:wrong"),
        ],
    )
    @override_settings(ANYMAIL=SECRET)
    def test_wrong(self, client: Client, events: list[Any], headers: dict[str, str]) -> None:
        response = Call(URL, DELIVERED, headers).post(client)
        assert (response.status_code, response.content) == (400, b"Bad request.")
        assert events == []

    @pytest.mark.parametrize("secret", ["", " ", [], [""], ["user:pass", ""], ":", "user:", ":pass", "userpass"])
    def test_an_empty_secret_is_a_configuration_error(self, client: Client, secret: Any) -> None:
        with (
            override_settings(ANYMAIL={"WEBHOOK_SECRET": secret}),
            pytest.raises(AnymailConfigurationError, match="WEBHOOK_SECRET"),
        ):
            AUTHENTIC.post(client)

    @override_settings(ANYMAIL={"WEBHOOK_ALLOW_UNVERIFIED": ["postmark"]})
    def test_without_any_secret_it_warns(self, client: Client, events: list[Any]) -> None:
        with pytest.warns(AnymailInsecureWebhookWarning, match="WEBHOOK_SECRET"):
            assert Call(URL, DELIVERED).post(client).status_code == 200
        assert len(events) == 1

    def test_of_a_view_of_its_own(self, events: list[Any]) -> None:
        view = PostmarkTrackingWebhookView.as_view(webhook_secret="other:pass")
        request = RequestFactory().post("/x/", DELIVERED, "application/json", headers=basic("other:pass"))
        assert view(request).status_code == 200
        assert len(events) == 1

    def test_of_a_subclass(self, events: list[Any]) -> None:
        class OwnView(PostmarkTrackingWebhookView):
            webhook_secret = "own:pass"

        request = RequestFactory().post("/x/", DELIVERED, "application/json", headers=basic("own:wrong"))
        assert OwnView.as_view()(request).status_code == 400
        request = RequestFactory().post("/x/", DELIVERED, "application/json", headers=basic("own:pass"))
        assert OwnView.as_view()(request).status_code == 200
        assert len(events) == 1

    @override_settings(ANYMAIL=SECRET)
    def test_compares_bytes_in_constant_time(self, client: Client) -> None:
        with mock.patch("hmac.compare_digest", return_value=True) as compare:
            Call(URL, DELIVERED, basic("any:thing")).post(client)
        assert compare.call_args.args == (b"any:thing", b"user:pass")


class TestMethods:
    @pytest.mark.parametrize(
        ("method", "status"), [("head", 200), ("options", 200), ("get", 405), ("put", 405), ("delete", 405)]
    )
    def test_answer(self, client: Client, method: str, status: int) -> None:
        assert getattr(client, method)(URL).status_code == status


class TestBodies:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"null",
            b"[]",
            b'"x"',
            b"1",
            b"[1]",
            b"[" * 10_000 + b"]" * 10_000,
            b"\xff\xfe",
            '{"RecordType": "Delivery"}'.encode("utf-16"),
            b"\xef\xbb\xbf{}",
            b'{"ID": NaN}',
            b'{"ID": Infinity}',
            b'{"ID": ' + b"9" * 10_000 + b"}",
            b'{"Metadata": [1]}',
            b'{"Metadata": "x"}',
        ],
        ids=lambda body: repr(body[:30]),
    )
    @override_settings(ANYMAIL=SECRET)
    def test_of_the_wrong_shape(self, client: Client, events: list[Any], body: bytes) -> None:
        response = Call(URL, body, basic("user:pass")).post(client)
        assert (response.status_code, response.content) == (400, b"Bad request.")
        assert events == []

    @pytest.mark.parametrize("body", [b"{}", b'{"RecordType": null}', b'{"RecordType": {"a": 1}, "ID": []}'])
    @override_settings(ANYMAIL=SECRET)
    def test_that_say_nothing(self, client: Client, events: list[Any], body: bytes) -> None:
        assert Call(URL, body, basic("user:pass")).post(client).status_code == 200
        assert [event.event_type for event in events] == ["unknown"]

    @override_settings(ANYMAIL=SECRET, DATA_UPLOAD_MAX_MEMORY_SIZE=100)
    def test_that_are_too_large(self, client: Client, events: list[Any], caplog: pytest.LogCaptureFixture) -> None:
        response = AUTHENTIC.post(client)
        assert (response.status_code, response.content) == (413, b"Too large.")
        assert "DATA_UPLOAD_MAX_MEMORY_SIZE" in caplog.text
        assert events == []

    @override_settings(ANYMAIL=SECRET)
    def test_multipart_with_too_many_fields(self, client: Client, events: list[Any]) -> None:
        data = {f"field{n}": "x" for n in range(2_000)}
        response = client.post(URL, data, headers=basic("user:pass"))
        assert response.status_code == 400
        assert events == []

    @pytest.mark.parametrize("charset", ["hex", "rot13", "idna", "undefined"])
    @pytest.mark.parametrize("url", [URL, "/anymail/mailgun/inbound/", "/anymail/mandrill/"])
    @override_settings(ANYMAIL={**SECRET, "MAILGUN_API_KEY": "key", "MANDRILL_WEBHOOK_KEY": "key"})
    def test_forms_in_what_is_no_charset(self, client: Client, url: str, charset: str) -> None:
        body = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nv\r\n--x--\r\n'
        content_type = f"multipart/form-data; charset={charset}; boundary=x"
        response = client.generic("POST", url, body, content_type, headers=basic("user:pass"))
        assert (response.status_code, response.content) == (400, b"Bad request.")

    @pytest.mark.parametrize("body", [DELIVERED, b"--x--"])
    @override_settings(ANYMAIL=SECRET)
    def test_json_that_is_called_a_form(self, client: Client, events: list[Any], body: bytes) -> None:
        call = Call(URL, body, basic("user:pass"), content_type="multipart/form-data; boundary=x")
        assert call.post(client).status_code == 400
        assert events == []


class TestReceivers:
    @pytest.mark.parametrize("error", [SuspiciousFileOperation(), PermissionDenied(), Http404()])
    @override_settings(ANYMAIL=SECRET)
    def test_what_is_a_clients_error_to_django_is_retried(self, client: Client, error: Exception) -> None:
        def receive(sender: Any, **kwargs: Any) -> None:
            raise error

        client.raise_request_exception = False
        tracking.connect(receive)
        try:
            assert AUTHENTIC.post(client).status_code == 500
        finally:
            tracking.disconnect(receive)

    def test_a_process_that_ends_in_a_receiver_leaves_the_call_to_the_next(self, events: list[Any]) -> None:
        def receive(sender: Any, **kwargs: Any) -> None:
            raise SystemExit(1)

        view, body = Batch.view(signed=True), [{"to": "a@example.com"}]
        tracking.connect(receive)
        try:
            with pytest.raises(SystemExit):
                Batch.post(view, body)
        finally:
            tracking.disconnect(receive)
        events.clear()
        assert Batch.post(view, body).status_code == 200
        assert len(events) == 1

    @override_settings(ANYMAIL=SECRET)
    def test_what_they_raise_is_raised_on(self, client: Client, failing: Any) -> None:
        failing.on = {"ana@example.net"}
        with pytest.raises(RuntimeError, match="the receiver failed"):
            AUTHENTIC.post(client)

    @override_settings(ANYMAIL=SECRET)
    def test_another_receiver_gets_the_event_all_the_same(
        self, client: Client, failing: Any, events: list[Any]
    ) -> None:
        failing.on = {"ana@example.net"}
        with pytest.raises(RuntimeError):
            AUTHENTIC.post(client)
        assert len(events) == 1

    @override_settings(ANYMAIL=SECRET)
    def test_the_retry_is_handled(self, client: Client, failing: Any) -> None:
        failing.on = {"ana@example.net"}
        client.raise_request_exception = False
        assert AUTHENTIC.post(client).status_code == 500
        failing.on = set()
        assert AUTHENTIC.post(client).status_code == 200
        assert failing.seen == ["ana@example.net"] * 2

    @override_settings(ANYMAIL=SECRET)
    def test_an_esp_that_gives_up_on_500_gets_what_it_retries_on(self, client: Client, failing: Any) -> None:
        failing.on = {"ana@example.net"}
        reported: list[Any] = []

        def receive(sender: Any, **kwargs: Any) -> None:
            reported.append(sender)

        got_request_exception.connect(receive)
        client.raise_request_exception = False
        try:
            with mock.patch.object(PostmarkTrackingWebhookView.webhook_class, "retry_status", 429):
                assert AUTHENTIC.post(client).status_code == 429
        finally:
            got_request_exception.disconnect(receive)
        assert reported == [PostmarkTrackingWebhookView]


class Batch:
    """A webhook of a made-up ESP whose calls hold many events, signed or not."""

    @staticmethod
    def view(signed: bool) -> Any:
        from anymail.conf import WebhookOptions
        from anymail.esps.kit.webhook import Webhook, json_body
        from anymail.signals import AnymailTrackingEvent
        from anymail.webhooks.base import AnymailWebhookView

        class BatchWebhook(Webhook[WebhookOptions]):
            name = "Batch"
            slug = "batch"
            signature_configured = signed  # type: ignore[assignment]

            def items(self, request: Any) -> Any:
                return json_body(request)

            def events(self, item: Any) -> Any:
                yield AnymailTrackingEvent(event_type="delivered", recipient=item["to"])

        class BatchView(AnymailWebhookView):
            webhook_class = BatchWebhook

        return BatchView.as_view(webhook_secret="user:pass")

    @staticmethod
    def post(view: Any, body: Any) -> Any:
        raw = json.dumps(body)
        return view(RequestFactory().post("/batch/", raw, "application/json", headers=basic("user:pass")))


class TestWhatIsSaid:
    """For the person who reads the log at three in the morning."""

    @pytest.mark.parametrize(
        ("url", "call"),
        [
            ("amazon_ses/tracking", "An Amazon SES webhook call"),
            ("unisender_go/tracking", "A Unisender Go webhook call"),
        ],
    )
    def test_of_a_refused_call(self, client: Client, caplog: pytest.LogCaptureFixture, url: str, call: str) -> None:
        settings = {"AMAZON_SES_TOPIC_ARNS": ["arn:aws:sns:us-east-1:111122223333:x"], "UNISENDER_GO_API_KEY": "key"}
        with override_settings(ANYMAIL=settings):
            assert Call(f"/anymail/{url}/", b"{}").post(client).status_code == 400
        assert f"{call} to /anymail/{url}/ was refused: " in caplog.text

    def test_of_a_receiver_that_failed(self, client: Client, failing: Any, caplog: pytest.LogCaptureFixture) -> None:
        failing.on = {"ana@example.net"}
        client.raise_request_exception = False
        with (
            override_settings(ANYMAIL=SECRET),
            mock.patch.object(PostmarkTrackingWebhookView.webhook_class, "retry_status", 429),
        ):
            AUTHENTIC.post(client)
        assert "A receiver of a Postmark webhook failed." in caplog.text

    def test_of_what_cannot_be_fetched(self, client: Client, caplog: pytest.LogCaptureFixture) -> None:
        kind = KINDS["brevo inbound"]
        [item] = kind.payload["items"]
        call = kind.call({"items": [{**item, "Attachments": [{"Name": "a", "DownloadToken": "t"}]}]})
        client.raise_request_exception = False
        with override_settings(ANYMAIL={**kind.settings, "TRANSPORT": NoAnswer}):
            assert call.post(client).status_code == 429
        assert "What a Brevo webhook call tells of cannot be fetched from Brevo's API yet." in caplog.text
        assert "receiver" not in caplog.text

    @pytest.mark.parametrize("name", ["amazon_ses tracking", "scaleway tracking", "resend inbound", "mailtrap inbound"])
    def test_no_message_was_to_be_sent(self, client: Client, events: list[Any], name: str) -> None:
        """Where a certificate or a received message cannot be fetched."""
        kind = KINDS[name]
        settings = {name: value for name, value in kind.settings.items() if "CERTIFICATES" not in name}
        with (
            override_settings(ANYMAIL={**settings, "WEBHOOK_MAX_AGE": None, "TRANSPORT": NoAnswer}),
            mock.patch("anymail.esps.scaleway.topics._fetched", Certificates()),
            mock.patch("anymail.esps.amazon_ses.topics._fetched", Certificates()),
            pytest.raises(AnymailAPIError) as raised,
        ):
            kind.unlike(1).post(client)
        assert raised.value.sending is False
        assert "message was not sent" not in str(raised.value)
        assert events == []


class NoAnswer:
    """A transport to where nobody is."""

    def __init__(self, **timeouts: Any) -> None:
        pass

    def send(self, request: Any) -> Any:
        raise AnymailTransportError("connection refused", sent=False)


class TestSpamMarks:
    """Those of an ESP stand above those that a mail came with: the first one counts."""

    def test_of_postmark(self, client: Client, events: list[Any]) -> None:
        kind = KINDS["postmark inbound"]
        marks = [("X-Spam-Status", "Yes"), ("X-Spam-Score", "9.1"), ("X-Spam-Status", "No"), ("X-Spam-Score", "-5")]
        payload = {**kind.payload, "Headers": [{"Name": name, "Value": value} for name, value in marks]}
        with override_settings(ANYMAIL=kind.settings):
            assert kind.call(payload).post(client).status_code == 200
        assert (events[0].message.spam_detected, events[0].message.spam_score) == (True, 9.1)

    def test_of_mailgun(self, client: Client, events: list[Any]) -> None:
        kind = KINDS["mailgun inbound"]
        marks = [("X-Mailgun-Sflag", "Yes"), ("X-Mailgun-Sscore", "9.1"), ("X-Mailgun-Sflag", "No")]
        headers = [*marks, ("X-Mailgun-Sscore", "-5"), ("Subject", "Hi")]
        with override_settings(ANYMAIL=kind.settings):
            assert kind.call({**kind.payload, "message-headers": json.dumps(headers)}).post(client).status_code == 200
        assert (events[0].message.spam_detected, events[0].message.spam_score) == (True, 9.1)

    def test_of_sendgrid(self, client: Client, events: list[Any]) -> None:
        """It has a field of its own, which no header of the mail can be."""
        kind = KINDS["sendgrid inbound"]
        fields = {**kind.payload, "headers": "spam_score: -5\nX-Spam-Score: -5\nSubject: Hi\n", "spam_score": "9.1"}
        with override_settings(ANYMAIL={**kind.settings, "WEBHOOK_MAX_AGE": None}):
            assert kind.call(fields).post(client).status_code == 200
        assert events[0].message.spam_score == 9.1


class TestBatches:
    BODY = ({"to": "a@example.com"}, {"to": "b@example.com"}, {"to": "c@example.com"})

    def test_an_unreadable_event_costs_the_others_nothing(self, events: list[Any]) -> None:
        response = Batch.post(
            Batch.view(signed=False), [{"to": "a@example.com"}, 7, {"from": 1}, {"to": "c@example.com"}]
        )
        assert response.status_code == 200
        assert [event.recipient for event in events] == ["a@example.com", "c@example.com"]

    def test_a_call_of_unreadable_events_is_refused(self, events: list[Any]) -> None:
        assert Batch.post(Batch.view(signed=False), [7, None]).status_code == 400
        assert events == []

    @pytest.mark.parametrize("signed", [True, False])
    def test_a_retry_repeats_only_what_failed(self, failing: Any, signed: bool) -> None:
        view = Batch.view(signed)
        failing.on = {"b@example.com"}
        with pytest.raises(RuntimeError):
            Batch.post(view, self.BODY)
        assert failing.seen == ["a@example.com", "b@example.com", "c@example.com"]
        failing.on, failing.seen = set(), []
        assert Batch.post(view, self.BODY).status_code == 200
        assert failing.seen == ["b@example.com"]

    def test_without_a_signature_an_equal_call_is_a_new_one(self, events: list[Any]) -> None:
        view = Batch.view(signed=False)
        for _ in range(2):
            assert Batch.post(view, [{"to": "a@example.com"}]).status_code == 200
        assert len(events) == 2

    @override_settings(ANYMAIL={"WEBHOOK_CACHE": "default"})
    def test_a_django_cache_remembers_for_all_processes(self, events: list[Any]) -> None:
        cache.clear()
        view = Batch.view(signed=True)
        for _ in range(2):
            assert Batch.post(view, self.BODY).status_code == 200
        assert len(events) == 3
        cache.clear()

    def test_identical_calls_at_the_same_time_have_one_effect(self, failing: Any) -> None:
        view = Batch.view(signed=True)
        start = threading.Barrier(8)
        answers: list[int] = []

        def post() -> None:
            start.wait()
            while Batch.post(view, [{"to": "a@example.com"}]).status_code == 500:
                # As an ESP does, to which it is said to come again.
                pass
            answers.append(200)

        threads = [threading.Thread(target=post) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [200] * 8
        assert failing.seen == ["a@example.com"]


SESSIONS = "django.contrib.sessions.backends.signed_cookies"
STACK = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
]


class TestStack:
    @override_settings(
        ANYMAIL=SECRET, MIDDLEWARE=STACK, SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies"
    )
    def test_passes_the_usual_middleware(self, events: list[Any]) -> None:
        assert AUTHENTIC.post(Client(enforce_csrf_checks=True)).status_code == 200
        assert len(events) == 1

    @override_settings(ANYMAIL=SECRET)
    async def test_passes_an_asynchronous_stack(self, events: list[Any]) -> None:
        response = await AsyncClient().post(
            URL, data=DELIVERED, content_type="application/json", headers=basic("user:pass")
        )
        assert response.status_code == 200
        assert len(events) == 1
