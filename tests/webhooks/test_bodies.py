"""Bodies: whole or refused, of any size up to a limit of ours, however they are sent."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from io import BytesIO
from typing import Any
from wsgiref.simple_server import WSGIServer, make_server

import pytest
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.test import Client, RequestFactory, override_settings
from hypothesis import given
from hypothesis import strategies as st

from anymail.esps.kit.forms import MULTIPART, CutOffForm, form_of
from anymail.exceptions import AnymailWebhookValidationFailure
from esps.mailgun.signed import TOKEN, signed_fields
from esps.mandrill.signed import events_call
from support import Call
from webhooks.calls import MAILGUN_FIELDS, kinds, mailgun_form, multipart, settings_of

KINDS = kinds()


@pytest.fixture(autouse=True)
def _no_database() -> Iterator[None]:
    """A server closes old connections around each call; what other tests left open is none of these tests' business."""
    request_started.disconnect(close_old_connections)
    request_finished.disconnect(close_old_connections)
    yield
    request_started.connect(close_old_connections)
    request_finished.connect(close_old_connections)


INBOUND = [name for name in KINDS if name.endswith("inbound")]


def environ(call: Call, body: Any = None, **more: Any) -> dict[str, Any]:
    """What a WSGI server makes of a call; ``body`` is what comes of it."""
    request = RequestFactory(headers=call.headers).post(call.url, call.body, content_type=call.content_type)
    stream = BytesIO(call.body if body is None else body)
    found = {**request.environ, "wsgi.input": stream, **more}
    return {name: value for name, value in found.items() if value is not None}


def status(environ: dict[str, Any]) -> int:
    """What the project as a WSGI server runs it answers."""
    answers: list[str] = []
    response = WSGIHandler()(environ, lambda status, headers: answers.append(status))
    response.close()
    return int(answers[0].split()[0])


class TestCutOff:
    """A proxy or an ESP goes away before it has sent all that its Content-Length says."""

    @pytest.mark.parametrize("name", KINDS)
    def test_it_is_to_come_again(self, events: list[Any], caplog: pytest.LogCaptureFixture, name: str) -> None:
        kind = KINDS[name]
        with override_settings(ANYMAIL=settings_of(kind)):
            call = kind.unlike(1)
            for length in (0, 1, len(call.body) // 2, len(call.body) - 1):
                assert status(environ(call, call.body[:length])) == (429 if name.startswith("brevo") else 500)
            assert events == []
            assert "cut off" in caplog.text
            # No token is used up.
            assert status(environ(call)) == 200
        assert len(events) == 1

    def test_a_form_without_its_closing_boundary(self, client: Client, events: list[Any]) -> None:
        """A chunked body has no length by which one would see it."""
        whole = mailgun_form({**MAILGUN_FIELDS, "attachment-1": ("a.txt", "x" * 100)}, token=TOKEN)
        with override_settings(ANYMAIL=settings_of(KINDS["mailgun inbound"])):
            for cut in (len(whole.body) - 3, whole.body.rindex(b"x") - 50, len(whole.body) // 2):
                call = Call(whole.url, whole.body[:cut], {}, whole.content_type)
                assert call.post(client).status_code == 500
            assert events == []
            assert whole.post(client).status_code == 200
        [event] = events
        assert event.message.attachments[0].get_content_bytes() == b"x" * 100

    def test_a_connection_that_breaks(self, events: list[Any]) -> None:
        class Broken(BytesIO):
            def read(self, *args: Any) -> bytes:
                raise ConnectionResetError

        kind = KINDS["postmark tracking"]
        with override_settings(ANYMAIL=settings_of(kind)):
            call = kind.unlike(1)
            assert status({**environ(call), "wsgi.input": Broken()}) == 500
        assert events == []

    async def test_asgi(self, events: list[Any]) -> None:
        kind = KINDS["mailgun inbound"]
        call = kind.unlike(1)
        scope = {
            "type": "http", "method": "POST", "path": call.url, "query_string": b"", "http_version": "1.1",
            "headers": [(b"content-type", call.content_type.encode()), (b"content-length", b"%d" % len(call.body)),
                        (b"host", b"testserver")],
        }  # fmt: skip

        async def answered(*messages: dict[str, Any]) -> list[int]:
            remaining, sent = [*messages], []

            async def receive() -> Any:
                import asyncio

                if not remaining:
                    await asyncio.sleep(60)
                return remaining.pop(0)

            async def send(message: Any) -> None:
                if message["type"] == "http.response.start":
                    sent.append(message["status"])

            await ASGIHandler()(scope, receive, send)
            return sent

        half = {"type": "http.request", "body": call.body[:200], "more_body": True}
        rest = {"type": "http.request", "body": call.body[200:], "more_body": False}
        with override_settings(ANYMAIL=settings_of(kind)):
            assert await answered(half, {"type": "http.disconnect"}) == []
            assert await answered({**half, "more_body": False}) == [500]
            assert events == []
            assert await answered(half, rest) == [200]
        assert len(events) == 1


class TestChunked:
    KIND = KINDS["postmark inbound"]

    def test_what_wsgi_does_not_pass_on_is_named(self, events: list[Any], caplog: pytest.LogCaptureFixture) -> None:
        with override_settings(ANYMAIL=settings_of(self.KIND)):
            made = environ(self.KIND.unlike(1), b"", CONTENT_LENGTH=None, HTTP_TRANSFER_ENCODING="chunked")
            assert status(made) == 500
        assert events == []
        assert "Transfer-Encoding: chunked" in caplog.text

    def test_what_a_server_does_pass_on_is_read(self, events: list[Any]) -> None:
        how = {"CONTENT_LENGTH": None, "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
        with override_settings(ANYMAIL=settings_of(self.KIND)):
            assert status(environ(self.KIND.unlike(1), **how)) == 200
        assert len(events) == 1

    def test_it_is_limited_too(self, events: list[Any]) -> None:
        how = {"CONTENT_LENGTH": None, "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
        with override_settings(ANYMAIL={**settings_of(self.KIND), "INBOUND_MAX_SIZE": 100}):
            assert status(environ(self.KIND.unlike(1), **how)) == 503
        assert events == []


def enlarged(name: str, size: int) -> Any:
    """A payload of received mail of at least that size; of what is fetched, the call itself."""
    kind, text = KINDS[name], "0123456789abcdef" * (size // 16)
    payload = json.loads(json.dumps(kind.payload))
    match name.split()[0]:
        case "amazon_ses":
            payload["padding"] = text
        case "brevo":
            payload["items"][0]["RawTextBody"] = text
        case "mailersend":
            payload["data"]["raw"] += text
        case "mailgun":
            payload["attachment-1"] = ("a.txt", text)
        case "mailjet":
            payload["Text-part"] = text
        case "mandrill":
            payload[0]["msg"]["raw_msg"] += text
        case "postal":
            payload["plain_body"] = text
        case "postmark":
            payload["TextBody"] = text
        case "sendgrid":
            payload["attachment1"] = ("a.txt", text)
        case "sparkpost":
            payload[0]["msys"]["relay_message"]["content"]["email_rfc822"] += text
        case _:
            payload["padding"] = text
    return payload


class TestLarge:
    @pytest.mark.parametrize("name", INBOUND)
    def test_received_mail_is_not_limited_by_djangos_setting(
        self, client: Client, events: list[Any], name: str
    ) -> None:
        """That is 2.5 MB by default."""
        kind = KINDS[name]
        assert settings.DATA_UPLOAD_MAX_MEMORY_SIZE < 4_000_000
        with override_settings(ANYMAIL=settings_of(kind)):
            call = kind.call(enlarged(name, 4_000_000))
            assert len(call.body) > 4_000_000
            assert call.post(client).status_code == 200
        assert len(events) == 1

    @pytest.mark.parametrize("name", INBOUND)
    def test_what_is_larger_than_our_limit_is_kept_by_the_esp(
        self, client: Client, events: list[Any], caplog: pytest.LogCaptureFixture, name: str
    ) -> None:
        kind = KINDS[name]
        with override_settings(ANYMAIL={**settings_of(kind), "INBOUND_MAX_SIZE": 10_000}):
            response = kind.call(enlarged(name, 20_000)).post(client)
        assert response.status_code == (429 if name.startswith("brevo") else 503)
        assert response.content == b"Too large."
        assert events == []
        assert "INBOUND_MAX_SIZE" in caplog.text

    def test_raw_mail_in_either_encoding_of_a_form(self, client: Client, events: list[Any]) -> None:
        """In Mailgun's, which is bytes: no charset is right for a message."""
        raw = b"Subject: Hi\r\nContent-Type: text/plain; charset=latin-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xe9"
        raw += b"x" * 3_000_000
        with override_settings(ANYMAIL=settings_of(KINDS["mailgun inbound"])):
            assert mailgun_form({"recipient": "a@b.example", "body-mime": raw}).post(client).status_code == 200
        assert events[0].message.text.startswith("éxxx")

    def test_more_fields_than_django_takes(self, client: Client, events: list[Any]) -> None:
        """A mail's headers are fields, too."""
        fields = {**{f"X-Header-{number}": "x" for number in range(3_000)}, **MAILGUN_FIELDS}
        with override_settings(ANYMAIL=settings_of(KINDS["mailgun inbound"])):
            assert mailgun_form(fields).post(client).status_code == 200
        assert len(events) == 1

    def test_a_batch_of_received_mail_in_one_field(self, client: Client, events: list[Any]) -> None:
        kind = KINDS["mandrill inbound"]
        [one] = kind.payload[:1]
        large = {**one, "msg": {**one["msg"], "raw_msg": one["msg"]["raw_msg"] + "é" * 1_000_000}}
        with override_settings(ANYMAIL=settings_of(kind)):
            assert events_call([large, large, large]).post(client).status_code == 200
        assert len(events) == 3

    def test_events_are_limited_by_djangos_setting(self, client: Client, events: list[Any]) -> None:
        kind = KINDS["sendgrid tracking"]
        with override_settings(ANYMAIL=settings_of(kind), DATA_UPLOAD_MAX_MEMORY_SIZE=100):
            assert kind.unlike(1).post(client).status_code == 413
        with override_settings(ANYMAIL=settings_of(kind), DATA_UPLOAD_MAX_MEMORY_SIZE=None):
            assert kind.unlike(1).post(client).status_code == 200
        assert len(events) == 1

    def test_two_sizes_at_the_same_time(self, events: list[Any]) -> None:
        """The limit is of a call, not of the process."""
        kind, tracking = KINDS["postmark inbound"], KINDS["postmark tracking"]
        answered: list[tuple[str, int]] = []

        def post(name: str, call: Call) -> None:
            response = Client().post(call.url, call.body, call.content_type, headers=call.headers)
            answered.append((name, response.status_code))

        calls = [
            made
            for number in range(4)
            for made in (
                ("mail", kind.call({**enlarged("postmark inbound", 3_000_000), "number": number})),
                ("events", tracking.call({**tracking.payload, "padding": "x" * 3_000_000, "number": number})),
            )
        ]
        with override_settings(ANYMAIL=settings_of(kind)):
            threads = [threading.Thread(target=post, args=one) for one in calls]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert sorted(answered) == [("events", 413)] * 4 + [("mail", 200)] * 4


class TestRepeated:
    def test_a_form_that_is_sent_again_with_another_boundary(self, client: Client, events: list[Any]) -> None:
        """Its signature is good for one body, and this is the same."""
        fields = {**MAILGUN_FIELDS, **signed_fields("1773480412")}
        with override_settings(ANYMAIL=settings_of(KINDS["mailgun inbound"])):
            for boundary in ("one", "two"):
                body = multipart(fields, boundary)
                call = Call("/anymail/mailgun/inbound/", body, {}, f"{MULTIPART}; boundary={boundary}")
                assert call.post(client).status_code == 200
            changed = multipart({**fields, "attachment-1": ("a.txt", "CONTENT")}, "one")
            call = Call("/anymail/mailgun/inbound/", changed, {}, f"{MULTIPART}; boundary=one")
            assert call.post(client).status_code == 400
        assert len(events) == 1


class TestForms:
    @given(
        st.lists(
            st.tuples(
                st.text(st.characters(codec="utf-8", exclude_characters='"\\\r\n\0'), min_size=1, max_size=8),
                st.binary(max_size=50),
                st.one_of(st.none(), st.text("ab.é", max_size=8)),
            ),
            max_size=8,
        )
    )
    def test_what_is_written_is_read(self, parts: list[tuple[str, bytes, str | None]]) -> None:
        body = b"".join(
            b'--bOuNd\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
            % (name.encode(), b"" if file is None else b'; filename="%s"' % file.encode(), content)
            for name, content, file in parts
        )
        request = RequestFactory().generic("POST", "/", body + b"--bOuNd--\r\n", f"{MULTIPART}; boundary=bOuNd")
        found = [(part.name, part.content, part.filename) for part in form_of(request).parts]
        assert found == parts

    @given(st.binary(max_size=300), st.integers(0, 300))
    def test_anything_is_a_form_or_refused(self, body: bytes, cut: int) -> None:
        whole = b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n" + body + b"\r\n--b--"
        for one in (body, whole, whole[:cut], b"--b" + body, b"--b" + body + b"--b--"):
            request = RequestFactory().generic("POST", "/", one, f"{MULTIPART}; boundary=b")
            try:
                form_of(request).fields("utf-8")
            except AnymailWebhookValidationFailure:
                continue

    def test_a_form_that_is_cut_off(self) -> None:
        body = b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\nhalf of"
        with pytest.raises(CutOffForm):
            form_of(RequestFactory().generic("POST", "/", body, f"{MULTIPART}; boundary=b"))

    def test_a_receiver_has_the_form_as_django_has_it(self, client: Client, events: list[Any]) -> None:
        files = {"attachment-1": ("../odd.txt", "content"), "attachment-2": ("..", "x"), "attachment-3": ("", "y")}
        with override_settings(ANYMAIL=settings_of(KINDS["mailgun inbound"])):
            assert mailgun_form({**MAILGUN_FIELDS, **files}).post(client).status_code == 200
        [event] = events
        assert event.esp_event.POST["recipient"] == "help@in.example.com"
        assert [file.name for _, file in sorted(event.esp_event.FILES.items())] == ["odd.txt", None, None]
        assert [part.get_content_bytes() for part in event.message.attachments] == [b"content", b"x", b"y"]


class Quiet(WSGIServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


def test_over_a_socket(events: list[Any]) -> None:
    """A client that hangs up in the middle of an attachment, and then sends all of it."""
    import socket

    kind = KINDS["mailgun inbound"]
    with override_settings(ANYMAIL=settings_of(kind)):
        server = make_server("127.0.0.1", 0, WSGIHandler(), server_class=Quiet)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            call = kind.call(enlarged("mailgun inbound", 4_000_000))
            head = (
                f"POST {call.url} HTTP/1.1\r\nHost: testserver\r\nConnection: close\r\n"
                f"Content-Type: {call.content_type}\r\nContent-Length: {len(call.body)}\r\n\r\n"
            ).encode()
            for body, wanted in ((call.body[:2_000_000], rb" 500 "), (call.body, rb" 200 ")):
                with socket.create_connection(server.server_address) as connection:  # type: ignore[arg-type]
                    connection.sendall(head + body)
                    connection.shutdown(socket.SHUT_WR)
                    assert re.match(rb"HTTP/1.\d" + wanted, connection.recv(100))
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
    [event] = events
    assert len(event.message.attachments[0].get_content_bytes()) == 4_000_000
