"""One call: what is repeated, what never is, and how the ESP's pace is kept."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

from anymail.conf import Secret, SendOptions
from anymail.delivery.calls import Caller
from anymail.delivery.retries import Patience, Throttle
from anymail.esps.brevo.sending import Brevo
from anymail.esps.kit.sending import ESP
from anymail.esps.mailgun.sending import Mailgun
from anymail.esps.postmark.sending import Postmark
from anymail.esps.resend.sending import Resend
from anymail.esps.sparkpost.sending import SparkPost
from anymail.esps.unisender_go.sending import UnisenderGo
from anymail.exceptions import AnymailAPIError, AnymailTransportError
from anymail.wire import Flow, Request, Response
from support import answer, make_esp


class Script:
    """A transport that answers from a list."""

    def __init__(self, *outcomes: Response | Exception) -> None:
        self.outcomes = list(outcomes)
        self.requests: list[Request] = []
        self.spend: Callable[[], None] = lambda: None

    def send(self, request: Request) -> Response:
        self.requests.append(request)
        self.spend()
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def asend(self, request: Request) -> Response:
        return self.send(request)


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Any:
    """Run a request through a Caller with scripted outcomes; return the result, the transport and the waits."""

    def go(
        *outcomes: Any,
        ask: Request | None = None,
        esp: ESP[Any] | None = None,
        patience: Patience | None = None,
        read: bool = True,
        seconds: float = 0.0,
        **options: Any,
    ) -> Any:
        script = Script(*outcomes)
        script.spend = lambda: sleep(seconds, to=[])
        esp = esp or make_esp(Postmark, server_token="hush")
        caller = Caller(esp, script, SendOptions(**options), patience)
        waits: list[float] = []
        now = [1000.0]

        def sleep(seconds: float, to: list[float] = waits) -> None:
            to.append(round(seconds, 2))
            now[0] += seconds

        async def asleep(seconds: float) -> None:
            sleep(seconds)

        def flow() -> Flow[Any]:
            response = yield ask or POST
            return esp.read_json(response) if read else response

        with (
            mock.patch("time.sleep", sleep),
            mock.patch("asyncio.sleep", asleep),
            mock.patch("time.monotonic", side_effect=lambda: now[0]),
        ):
            try:
                if request.param == "sync":
                    result: Any = caller.run(flow())
                else:
                    result = _finish(caller.arun(flow()))
            except AnymailAPIError as error:
                result = error
        return result, script, waits

    return go


def _finish(coroutine: Any) -> Any:
    """Run a coroutine that never really waits."""
    loop = asyncio.new_event_loop()
    try:
        task = loop.create_task(coroutine)
        loop.run_until_complete(task)
        return task.result()
    finally:
        loop.close()


POST = Request.post("https://esp.example/send", headers={}, json={})
WITH_KEY = Request.post("https://esp.example/send", headers={}, json={}, idempotency_key="k")
GET = Request.get("https://esp.example/", headers={})
OK = answer(200, {"fine": True})
MAINTENANCE = answer(503, {"ErrorCode": 100, "Message": "Maintenance"})
REFUSED = AnymailTransportError("connection refused", sent=False, retryable=True)
LOST = AnymailTransportError("the reply was lost", category="timeout", sent=None)

KEYS: dict[str, dict[str, str]] = {
    "Postmark": {"server_token": "k"}, "SparkPost": {"api_key": "k"}, "Resend": {"api_key": "k"},
    "Mailgun": {"api_key": "k"},
}  # fmt: skip

# The request, the outcomes, and how many calls are made.
REPEATED: dict[str, tuple[Request, list[Any], int]] = {
    "connection refused": (POST, [REFUSED, REFUSED, OK], 3),
    "maintenance": (POST, [MAINTENANCE, OK], 2),
    "too many": (POST, [answer(429), answer(429), answer(429), answer(429), OK], 5),
    "lost reply, with a key": (WITH_KEY, [LOST, OK], 2),
    "its fault, with a key": (WITH_KEY, [answer(500), OK], 2),
    "lost reply, to a read": (GET, [LOST, OK], 2),
}
NOT_REPEATED: dict[str, tuple[Request, Any, bool | None]] = {
    "lost reply": (POST, LOST, None),
    "its fault": (POST, answer(500), None),
    "bad gateway": (POST, answer(502), None),
    "unavailable, says who": (POST, answer(503, "<html>Service unavailable</html>"), None),
    "bad message": (POST, answer(422), False),
    "bad credentials": (POST, answer(401), False),
    "unreadable": (POST, answer(200, "<html>"), True),
    "bad message, with a key": (WITH_KEY, answer(422), False),
}


@pytest.mark.parametrize(("ask", "outcomes", "calls"), REPEATED.values(), ids=REPEATED.keys())
def test_repeated(run: Callable[..., Any], ask: Request, outcomes: list[Any], calls: int) -> None:
    (result, response), script, waits = run(*outcomes, ask=ask)
    assert (result, response) == ({"fine": True}, OK)
    assert script.requests == [ask] * calls, "every repeat is the same request, key and all"
    assert len(waits) >= calls - 1


@pytest.mark.parametrize(("ask", "outcome", "sent"), NOT_REPEATED.values(), ids=NOT_REPEATED.keys())
def test_never_repeated(run: Callable[..., Any], ask: Request, outcome: Any, sent: bool | None) -> None:
    error, script, waits = run(outcome, ask=ask)
    assert isinstance(error, AnymailAPIError)
    assert error.sent is sent
    assert len(script.requests) == 1
    assert waits == []


# What the repeat of a call meets whose first response was lost.
AFTER_A_LOST_RESPONSE: dict[str, Any] = {
    "bad message": answer(422),
    "bad credentials": answer(401),
    "no quota": answer(402),
    "connection refused": REFUSED,
    "lost again": LOST,
    "its fault": answer(500),
    "too many, and no patience": answer(429, headers={"Retry-After": "3600"}),
}


@pytest.mark.parametrize("first", [LOST, answer(500)], ids=["lost", "its fault"])
@pytest.mark.parametrize("then", AFTER_A_LOST_RESPONSE.values(), ids=AFTER_A_LOST_RESPONSE.keys())
def test_what_is_unknown_stays_unknown_whatever_the_repeat_meets(
    run: Callable[..., Any], first: Any, then: Any
) -> None:
    error, script, _ = run(first, then, then, then, ask=WITH_KEY)
    assert isinstance(error, AnymailAPIError)
    assert (error.sent, error.retryable) == (None, False)
    assert len(script.requests) >= 2


SHORT_KEY = Request.post("https://esp.example/send", headers={}, json={}, idempotency_key="k", idempotency_seconds=55)
AFTER = {"Retry-After": "40"}


def test_a_key_that_is_remembered_for_long_enough(run: Callable[..., Any]) -> None:
    (result, _), script, _ = run(LOST, answer(500, headers=AFTER), OK, ask=SHORT_KEY)
    assert result == {"fine": True}
    assert len(script.requests) == 3


def test_a_key_that_would_be_forgotten(run: Callable[..., Any]) -> None:
    for outcomes in ([answer(500, headers=AFTER)] * 2, [answer(500, headers=AFTER), answer(429, headers=AFTER)]):
        error, script, _ = run(*outcomes, ask=SHORT_KEY, rate_limit_wait=100)
        assert isinstance(error, AnymailAPIError)
        assert len(script.requests) == 2


def test_no_key_is_needed_for_what_was_never_taken(run: Callable[..., Any]) -> None:
    (result, _), script, _ = run(*[answer(429, headers=AFTER)] * 2, OK, ask=SHORT_KEY, rate_limit_wait=100)
    assert result == {"fine": True}
    assert len(script.requests) == 3


def test_attempts_come_to_an_end(run: Callable[..., Any]) -> None:
    error, script, _ = run(REFUSED, REFUSED, REFUSED, REFUSED, retries=3)
    assert error is not None
    assert error.category == "network"
    assert len(script.requests) == 4


def test_retries_can_be_turned_off(run: Callable[..., Any]) -> None:
    for outcome in (REFUSED, answer(429), MAINTENANCE):
        _, script, waits = run(outcome, retries=0)
        assert (len(script.requests), waits) == (1, [])


def test_waits_as_long_as_the_esp_asks(run: Callable[..., Any]) -> None:
    _, _, waits = run(answer(429, headers={"Retry-After": "7"}), OK)
    assert waits[0] == 7
    _, _, waits = run(answer(503, {"ErrorCode": 100, "Message": "Maintenance"}, headers={"Retry-After": "4"}), OK)
    assert waits[0] == 4


def test_a_date_is_counted_from_the_answers_own(run: Callable[..., Any]) -> None:
    headers = {"Date": "Wed, 04 Mar 2026 05:06:00 GMT", "Retry-After": "Wed, 04 Mar 2026 05:06:09 GMT"}
    _, _, waits = run(answer(429, headers=headers), OK)
    assert waits[0] == 9


@pytest.mark.parametrize("wait", ["100000", "61", "1e9"])
def test_an_absurd_wait_is_an_error_at_once(run: Callable[..., Any], wait: str) -> None:
    error, script, waits = run(answer(429, headers={"Retry-After": wait}))
    assert (error.category, error.retry_after, error.sent, error.retryable) == ("rate_limit", float(wait), False, True)
    assert (len(script.requests), waits) == (1, [])


@pytest.mark.parametrize("wait", ["", "soon", "NaN", "-5", "Infinity"])
def test_an_unreadable_wait_is_none(run: Callable[..., Any], wait: str) -> None:
    (result, _), _, waits = run(answer(429, headers={"Retry-After": wait}), OK)
    assert result == {"fine": True}
    assert 0 <= waits[0] <= 1


def test_patience_with_a_rate_limit_comes_to_an_end(run: Callable[..., Any]) -> None:
    error, script, waits = run(*[answer(429, headers={"Retry-After": "4"})] * 20, rate_limit_wait=10)
    assert error.category == "rate_limit"
    assert len(script.requests) == 3
    assert sum(waits) <= 10


def test_patience_without_a_limit(run: Callable[..., Any]) -> None:
    (result, _), script, _ = run(answer(429, headers={"Retry-After": "100000"}), OK, rate_limit_wait=None)
    assert result == {"fine": True}
    assert len(script.requests) == 2


class TestThrottle:
    """A 429 holds back the whole run."""

    def setup_method(self) -> None:
        self.throttle = Throttle()

    def test_no_wait_until_the_esp_complains(self) -> None:
        assert [self.throttle.slot(100.0) for _ in range(3)] == [0, 0, 0]

    def test_the_others_wait_too(self) -> None:
        assert self.throttle.hold(100.0, 5) == 5
        later = [self.throttle.slot(100.0) for _ in range(3)]
        assert later == sorted(later)
        assert later[0] > 5
        assert len(set(later)) == 3, "they do not come back all at once"

    def test_it_eases(self) -> None:
        self.throttle.hold(100.0, 1)
        for _ in range(100):
            self.throttle.ease()
        assert [self.throttle.slot(110.0) for _ in range(3)] == [0, 0, 0]


class TestDebug:
    def test_calls_are_printed_without_secrets(
        self, run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        ask = Request.post(
            "https://esp.example/send", headers={"X-Token": "hush", "Accept": "a/b"}, json={"key": "hush", "to": "ana"}
        )
        run(OK, ask=ask, debug_api_requests=True)
        shown = capsys.readouterr().out
        assert "https://esp.example/send" in shown
        assert "Accept: a/b" in shown
        assert '"to":"ana"' in shown
        assert '{"fine": true}' in shown
        assert "hush" not in shown

    def test_nothing_is_printed_without_being_asked(
        self, run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        run(OK)
        assert capsys.readouterr().out == ""


def test_a_flow_of_several_calls_sees_a_failed_one(run: Callable[..., Any]) -> None:
    script = Script(OK, LOST, OK)

    def flow() -> Flow[Any]:
        seen = []
        for _ in range(3):
            try:
                response = yield POST
            except AnymailTransportError as error:
                seen.append(error)
            else:
                seen.append(response)
        return seen

    esp = make_esp(Postmark, server_token="hush")
    result, response = Caller(esp, script, SendOptions()).run(flow())
    assert result == [OK, LOST, OK]
    assert response is OK


def test_secret_is_hidden() -> None:
    assert "hush" not in repr(make_esp(Postmark, server_token=Secret("hush")).options)


class TestTakenBefore:
    """An ESP that refuses a key which it has seen before says that the first attempt was taken."""

    def test_brevo(self, run: Callable[..., Any]) -> None:
        duplicate = answer(400, {"code": "duplicate_request", "message": "Already sent"})
        result, script, _ = run(LOST, duplicate, ask=WITH_KEY, esp=make_esp(Brevo, api_key="k"), read=False)
        assert result[0] is duplicate, "Brevo's own code reads it"
        assert len(script.requests) == 2

    def test_unisender_go(self, run: Callable[..., Any]) -> None:
        duplicate = answer(400, {"code": 1573, "message": "Repeated"})
        result, _, _ = run(
            LOST,
            duplicate,
            ask=WITH_KEY,
            esp=make_esp(UnisenderGo, api_key="k", api_url="https://go.example/"),
            read=False,
        )
        assert result[0] is duplicate

    def test_another_refusal(self, run: Callable[..., Any]) -> None:
        refusal = answer(400, {"code": "invalid_parameter", "message": "No"})
        error, _, _ = run(LOST, refusal, ask=WITH_KEY, esp=make_esp(Brevo, api_key="k"), read=False)
        assert (error.sent, error.retryable, error.category, error.status_code) == (None, False, "invalid", 400)


# What a proxy or a CDN says, in the ESP's place: the response, and whether the message was certainly not sent.
PAGES: dict[str, tuple[Response, bool | None, str]] = {
    "400": (answer(400, "<html>"), None, "unreadable"),
    "401": (answer(401, "<!DOCTYPE html>"), False, "auth"),
    "403": (answer(403, "<html>"), False, "auth"),
    "404": (answer(404, "\n<!doctype html>"), False, "invalid"),
    "408": (answer(408, "<html>"), None, "timeout"),
    "413": (answer(413, "too large", {"Content-Type": "text/html; charset=utf-8"}), False, "invalid"),
    "422": (answer(422, "<html>"), None, "unreadable"),
    "429": (answer(429, "<html>", {"Retry-After": "900"}), False, "rate_limit"),
    "499": (answer(499, "<html>"), None, "unreadable"),
    "500": (answer(500, "<html>"), None, "server"),
    "502": (answer(502, "<html>"), None, "server"),
    "503": (answer(503, "<html>", {"Retry-After": "1"}), None, "server"),
    "504": (answer(504, "<html>"), None, "server"),
    "301": (answer(301, "<html>", {"Location": "https://esp.example/"}), False, "unreadable"),
    "302": (answer(302, "<html>", {"Location": "https://esp.example/login"}), None, "unreadable"),
}


@pytest.mark.parametrize(("page", "sent", "category"), PAGES.values(), ids=PAGES.keys())
@pytest.mark.parametrize("esp", [Postmark, SparkPost, Mailgun, Resend], ids=lambda esp: esp.name)
def test_a_page_for_people_is_certain_only_where_nothing_was_passed_on(
    esp: type[ESP[Any]], page: Response, sent: bool | None, category: str
) -> None:
    error = make_esp(esp, **KEYS[esp.name]).api_error(page)
    assert (error.sent, error.category, error.retryable) == (sent, category, category == "rate_limit")


# ESPs that say of an error of their own that nothing was taken: https://postmarkapp.com/developer/api/overview and
# https://developers.sparkpost.com/api/#header-errors
NOT_TAKEN: dict[str, tuple[type[ESP[Any]], Response, bool]] = {
    "Postmark's maintenance": (Postmark, MAINTENANCE, True),
    "Postmark's other 503": (Postmark, answer(503, {"ErrorCode": 101, "Message": "Oops"}), False),
    "Postmark's 503 without words": (Postmark, answer(503, ""), False),
    "Postmark's 500": (Postmark, answer(500, {"ErrorCode": 100, "Message": "Maintenance"}), False),
    "SparkPost's 500": (SparkPost, answer(500, {"errors": [{"message": "x", "code": "1500"}]}), True),
    "SparkPost's 503": (SparkPost, answer(503, {"errors": [{"message": "x", "code": "1901"}]}), False),
    "SparkPost's queue": (SparkPost, answer(503, {"errors": [{"message": "x", "code": "1900"}]}), True),
    "SparkPost's gateway": (SparkPost, answer(503, "Unable to contact authorization service."), True),
    "SparkPost's 504": (SparkPost, answer(504, {"errors": [{"message": "x", "code": "1500"}]}), False),
    "Mailgun's 503": (Mailgun, answer(503, {"message": "x"}), False),
    "Resend's 503": (Resend, answer(503, {"name": "service_unavailable", "message": "x"}), False),
}


@pytest.mark.parametrize(("esp", "response", "certain"), NOT_TAKEN.values(), ids=NOT_TAKEN.keys())
def test_what_an_esp_certainly_did_not_take(esp: type[ESP[Any]], response: Response, certain: bool) -> None:
    error = make_esp(esp, **KEYS[esp.name]).api_error(response)
    assert (error.sent, error.retryable) == ((False, True) if certain else (None, False))


class TestWebhooksPatience:
    """What a webhook fetches, while the ESP waits for it."""

    def patience(self, **options: Any) -> Patience:
        return Patience.of_a_webhook(SendOptions(**options))

    @pytest.mark.parametrize("headers", [{}, {"Retry-After": "1"}])
    def test_no_waiting_for_a_rate_limit(self, run: Callable[..., Any], headers: dict[str, str]) -> None:
        error, script, waits = run(answer(429, "", headers), ask=GET, patience=self.patience(rate_limit_wait=600))
        assert (error.category, len(script.requests), waits) == ("rate_limit", 1, [])

    def test_one_repeat(self, run: Callable[..., Any]) -> None:
        _, script, waits = run(*[LOST] * 5, ask=GET, patience=self.patience(retries=9))
        assert len(script.requests) == 2
        assert sum(waits) <= 3

    def test_a_few_seconds_for_all_its_calls(self, run: Callable[..., Any]) -> None:
        _, script, waits = run(*[LOST] * 50, ask=GET, patience=Patience(40, 0, in_all=3), seconds=0.5)
        assert sum(waits) + 0.5 * len(script.requests) <= 4


class TestLog:
    """Each repeat says so."""

    def test_a_repeat(self, run: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "anymail"):
            run(answer(429, headers={"Retry-After": "7"}), MAINTENANCE, OK)
        assert [record.levelname for record in caplog.records] == ["INFO", "INFO"]
        first, second = caplog.messages
        assert first == "Postmark: attempt 1 got HTTP 429; the call is made again in 7.0 s, which the ESP asks for."
        assert second.startswith("Postmark: attempt 2 got HTTP 503; the call is made again in ")
        assert second.endswith("which our back-off asks for.")

    def test_a_handler_that_sends_through_the_esp_that_fails(self, run: Callable[..., Any]) -> None:
        """As Django's does, at the root of all loggers: it causes no line, and no line for ever."""
        mails: list[str] = []

        class MailAdmins(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                mails.append(record.getMessage())
                script = Script(REFUSED, REFUSED, REFUSED)
                with contextlib.suppress(AnymailAPIError):
                    Caller(make_esp(Postmark, server_token="hush"), script, SendOptions()).run(_flow())

        def _flow() -> Flow[Any]:
            yield POST

        handler, root = MailAdmins(level=logging.NOTSET), logging.getLogger()
        before = root.level
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        try:
            run(REFUSED, REFUSED, OK)
        finally:
            root.removeHandler(handler)
            root.setLevel(before)
        assert len([mail for mail in mails if mail.startswith("Postmark")]) == 2
