"""One call: what is repeated, what never is, and how the ESP's pace is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

from anymail.conf import Secret, SendOptions
from anymail.delivery.calls import Caller
from anymail.delivery.retries import Throttle
from anymail.esps.kit.sending import ESP
from anymail.esps.postmark.sending import Postmark
from anymail.exceptions import AnymailAPIError, AnymailTransportError
from anymail.wire import Flow, Request, Response
from support import answer, make_esp


class Script:
    """A transport that answers from a list."""

    def __init__(self, *outcomes: Response | Exception) -> None:
        self.outcomes = list(outcomes)
        self.requests: list[Request] = []

    def send(self, request: Request) -> Response:
        self.requests.append(request)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def asend(self, request: Request) -> Response:
        return self.send(request)


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Any:
    """Run a request through a Caller with scripted outcomes; return the result, the transport and the waits."""

    def go(*outcomes: Any, ask: Request | None = None, esp: ESP[Any] | None = None, **options: Any) -> Any:
        script = Script(*outcomes)
        esp = esp or make_esp(Postmark, server_token="hush")
        caller = Caller(esp, script, SendOptions(**options))
        waits: list[float] = []
        now = [1000.0]

        def sleep(seconds: float) -> None:
            waits.append(round(seconds, 2))
            now[0] += seconds

        async def asleep(seconds: float) -> None:
            sleep(seconds)

        def flow() -> Flow[Any]:
            response = yield ask or POST
            return esp.read_json(response)

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
