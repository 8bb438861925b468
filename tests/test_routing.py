"""Which route handles a received message, and where answers go."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import django
import pytest
from django.core import mail
from django.core.mail import EmailMessage
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from anymail.inbound import AnymailInboundMessage
from anymail.replies import make_reply_address, read_reply_address
from anymail.routing import InboundHandler, InboundRouter, bounce_with, inbound_failed, inbound_route, router
from anymail.signals import AnymailInboundEvent, inbound


@pytest.fixture(autouse=True)
def no_routes() -> Iterator[None]:
    router.clear()
    yield
    router.clear()


def event(to: str = "", envelope: str | None = None, **headers: str) -> AnymailInboundEvent:
    message = AnymailInboundMessage.construct(
        from_email="Zoë <zoe@example.net>", to=to, headers={"Message-ID": "<m@example.net>", **headers}, text="Hello"
    )
    message.envelope_recipient = envelope
    message.envelope_sender = "zoe@example.net"
    return AnymailInboundEvent(message=message)


class TestRoutes:
    ROUTES: dict[str, tuple[AnymailInboundEvent, tuple[str, dict[str, str]] | None]] = {
        "a prefix": (event("support@example.com"), ("support", {})),
        "whatever the case": (event("SUPPORT@example.com"), ("support", {})),
        "not within": (event("nosupport@example.com"), None),
        "what is named": (event("reply+a1b@example.com"), ("reply", {"token": "a1b"})),
        "the first route": (event("reply+a1b@example.com, support@example.com"), ("support", {})),
        "the envelope first": (event("support@example.com", "reply+x@example.com"), ("reply", {"token": "x"})),
        "an envelope that nobody routes": (event("support@example.com", "mx@example.com"), ("support", {})),
        "a compiled pattern": (event("x@sales.example.com"), ("sales", {})),
        "a function": (event("x@example.com", **{"X-Kind": "odd"}), ("odd", {})),
        "none": (event("x@example.com"), None),
    }

    @pytest.mark.parametrize(("given", "expected"), ROUTES.values(), ids=ROUTES.keys())
    def test_the_first_that_matches(
        self, given: AnymailInboundEvent, expected: tuple[str, dict[str, str]] | None
    ) -> None:
        calls: list[tuple[str, dict[str, str]]] = []
        routes = InboundRouter()

        def handler(name: str) -> Any:
            return lambda event, **named: calls.append((name, named))

        routes.add(handler("support"), "support@", "help@")
        routes.add(handler("reply"), r"reply\+(?P<token>.+)@")
        routes.add(handler("sales"), re.compile(r".*@sales\."))
        routes.add(handler("odd"), lambda event: event.message["X-Kind"] == "odd")
        assert routes.route(given) is (expected is not None)
        assert calls == ([expected] if expected else [])

    def test_by_the_signal(self) -> None:
        calls: list[str] = []

        @inbound_route("support@")
        async def support(event: AnymailInboundEvent) -> None:
            calls.append("support")

        @inbound_route(default=True)
        class Rest(InboundHandler):
            def process(self, **named: str) -> None:
                calls.append(f"rest: {self.message.text}")

        for to in ("support@example.com", "x@example.com"):
            inbound.send(object, event=event(to), esp_name="Postmark")
        assert calls == ["support", "rest: Hello"]

    def test_what_is_raised_reaches_the_esp(self) -> None:
        failed: list[tuple[Any, str]] = []

        def keep(event: AnymailInboundEvent, error: Exception, **kwargs: Any) -> None:
            failed.append((event, str(error)))

        @inbound_route("support@")
        def support(event: AnymailInboundEvent) -> None:
            raise ValueError("no database")

        inbound_failed.connect(keep)
        try:
            given = event("support@example.com")
            [(_, error)] = inbound.send_robust(object, event=given, esp_name="Postmark")
        finally:
            inbound_failed.disconnect(keep)
        assert isinstance(error, ValueError)
        assert failed == [(given, "no database")]

    WRONG: dict[str, tuple[Any, tuple[str, ...], type[Exception]]] = {
        "no pattern": (print, (), ValueError),
        "a pattern that is none": (print, ("(",), re.error),
        "a class without process": (dict, ("a@",), TypeError),
        "no function": ("x", ("a@",), TypeError),
    }

    @pytest.mark.parametrize(("handler", "patterns", "error"), WRONG.values(), ids=WRONG.keys())
    def test_routes_that_could_not_work(self, handler: Any, patterns: tuple[str, ...], error: type[Exception]) -> None:
        with pytest.raises(error):
            InboundRouter().add(handler, *patterns)

    def test_one_default(self) -> None:
        inbound_route(default=True)(print)
        with pytest.raises(ValueError, match="default"):
            inbound_route(default=True)(repr)


LOCMEM = "django.core.mail.backends.locmem.EmailBackend"
SETTINGS: dict[str, Any] = (
    {"MAILERS": {"default": {"BACKEND": LOCMEM}}} if django.VERSION >= (6, 1) else {"EMAIL_BACKEND": LOCMEM}
)


class TestBouncing:
    @override_settings(**SETTINGS)
    @pytest.mark.parametrize(
        ("headers", "sent"),
        [({}, 1), ({"Auto-Submitted": "auto-replied"}, 0)],
        ids=["a person", "a machine"],
    )
    def test_who_is_told(self, headers: dict[str, str], sent: int) -> None:
        @inbound_route(default=True)
        def unknown(event: AnymailInboundEvent) -> None:
            bounce_with(event, EmailMessage("Unknown", "Nobody reads that.", "from@example.com"))
            raise AssertionError("the handler has ended")

        inbound.send(object, event=event("x@example.com", **headers), esp_name="Postmark")
        assert len(mail.outbox) == sent
        for reply in mail.outbox:
            assert reply.to == ["zoe@example.net"]
            assert reply.extra_headers["Auto-Submitted"] == "auto-replied"
            assert reply.extra_headers["In-Reply-To"] == "<m@example.net>"


UUID = "0b8e6f5e-3c55-4f0e-9a43-8f3b9a1d2c4e"


class TestReplyAddresses:
    @pytest.mark.parametrize("thread_id", ["ticket-42", UUID, "Ticket 42", "Größe/7"])
    @pytest.mark.parametrize("change", [str, str.upper, "Zoë <{}>".format], ids=["as it is", "upper", "in a header"])
    def test_there_and_back(self, thread_id: str, change: Any) -> None:
        address = make_reply_address(thread_id, "reply@example.com")
        message = AnymailInboundMessage.construct(to=change(address))
        assert read_reply_address(message) == thread_id

    @given(st.text(min_size=1, max_size=6))
    def test_any_text(self, thread_id: str) -> None:
        try:
            address = make_reply_address(thread_id, "reply@example.com")
        except UnicodeEncodeError:
            return
        assert len(address.partition("@")[0]) <= 64
        assert read_reply_address(address) == thread_id

    def test_the_envelope(self) -> None:
        envelope = make_reply_address("a", "reply@example.com")
        assert read_reply_address(event("x@example.com", envelope).message) == "a"

    def test_a_forged_one(self) -> None:
        address = make_reply_address("ticket-42", "reply@example.com")
        assert read_reply_address(address.replace("ticket-42", "ticket-43")) is None
        for other in ("", "reply@example.com", "reply+x@example.com", "reply+" + "a" * 60 + "@example.com", "ü+ü@ü"):
            assert read_reply_address(other) is None

    def test_rotation_of_keys(self) -> None:
        with override_settings(SECRET_KEY="old"):
            address = make_reply_address("a", "reply@example.com")
        with override_settings(SECRET_KEY="new"):
            assert read_reply_address(address) is None
        with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"]):
            assert read_reply_address(address) == "a"

    @pytest.mark.parametrize("given", [("x" * 50, "r@example.com"), ("", "r@example.com"), ("a", "example.com")])
    def test_what_makes_none(self, given: tuple[str, str]) -> None:
        with pytest.raises(ValueError, match="reply address"):
            make_reply_address(*given)
