"""One flow, driven: each request sent, repeated where that cannot send twice, and the ESP's pace kept."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from anymail.conf import SendOptions
from anymail.delivery.debug import print_call
from anymail.delivery.transport import Transport
from anymail.esps.kit.sending import ESP, ResponseReader
from anymail.exceptions import AnymailAPIError, AnymailError, AnymailTransportError
from anymail.wire import Flow, Request, Response

__all__ = ["Caller", "Pace"]

T = TypeVar("T")

Outcome = Response | AnymailTransportError


class Pace:
    """Holds back a whole run of calls when the ESP says they are too many."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = 0.0
        # Seconds between two calls: none until the ESP has complained.
        self._gap = 0.0

    def slot(self) -> float:
        """Take the next place in the line; return the seconds to wait for it."""
        if not self._free_at:
            return 0.0
        with self._lock:
            now = self._clock()
            start = max(now, self._free_at)
            self._free_at = start + self._gap if self._gap else self._free_at
            return start - now

    def hold(self, seconds: float | None) -> float:
        """The ESP complained, asking for a pause of ``seconds`` (or not saying): return the wait before a repeat."""
        with self._lock:
            now = self._clock()
            self._gap = min(1.0, max(0.05, self._gap * 1.5))
            pause = max(0.5 if seconds is None else seconds, 4 * self._gap)
            self._free_at = max(self._free_at, now + pause)
        return self.slot()

    def ease(self) -> None:
        """A call went well."""
        if self._gap:
            with self._lock:
                self._gap = self._gap * 0.9 if self._gap > 0.01 else 0.0


class Caller:
    """Makes the calls of one run: one ``send_messages``, or one webhook that fetches."""

    def __init__(self, esp: ResponseReader, transport: Transport, options: SendOptions) -> None:
        self.esp = esp
        self.transport = transport
        self.options = options
        self.pace = Pace()

    def run(self, flow: Flow[T]) -> tuple[T, Response | None]:
        """Drive a flow to its end; return its result and the last answer it got. What it raises is raised."""
        response: Response | None = None
        request: Request | None = None
        try:
            request = next(flow)
            while True:
                outcome = self._call(request)
                if isinstance(outcome, Response):
                    response = outcome
                    request = flow.send(outcome)
                else:
                    request = flow.throw(outcome)
        except StopIteration as finished:
            return finished.value, response
        except AnymailAPIError as error:
            error.response = error.response or response
            error.payload = error.payload or request
            raise
        except Exception as error:
            self._keep_truth(error, response)
            raise

    async def arun(self, flow: Flow[T]) -> tuple[T, Response | None]:
        """``run``, asynchronously."""
        response: Response | None = None
        request: Request | None = None
        try:
            request = next(flow)
            while True:
                outcome = await self._acall(request)
                if isinstance(outcome, Response):
                    response = outcome
                    request = flow.send(outcome)
                else:
                    request = flow.throw(outcome)
        except StopIteration as finished:
            return finished.value, response
        except AnymailAPIError as error:
            error.response = error.response or response
            error.payload = error.payload or request
            raise
        except Exception as error:
            self._keep_truth(error, response)
            raise

    def _keep_truth(self, error: Exception, response: Response | None) -> None:
        """Raise, in place of an error in the reading of an answer, the one that says: the ESP may have the message.

        Nobody may take it for a message that was not sent. What is fetched for a webhook has no such truth to keep.
        """
        if response is None or isinstance(error, AnymailError) or not isinstance(self.esp, ESP):
            return
        unreadable = self.esp.unreadable(response, f"reading that failed with {error!r}")
        unreadable.sent = True if response.ok else None
        raise unreadable from error

    def _call(self, request: Request) -> Outcome:
        if wait := self.pace.slot():
            time.sleep(wait)
        begun = time.monotonic()
        outcome = self._attempt(request)
        if self.options.retries and (trouble := self._trouble(request, outcome)):
            import stamina

            lost = False
            try:
                for attempt in stamina.retry_context(on=self._backoff(request, begun), attempts=None, timeout=None):
                    with attempt:
                        if attempt.num > 1:
                            lost = lost or _may_have_been_taken(trouble)
                            outcome = self._attempt(request)
                            trouble = self._trouble(request, outcome)
                        if trouble:
                            raise trouble
            except AnymailAPIError:
                pass
            outcome = self._with_doubt(request, outcome, lost)
        return outcome

    async def _acall(self, request: Request) -> Outcome:
        if wait := self.pace.slot():
            await asyncio.sleep(wait)
        begun = time.monotonic()
        outcome = await self._aattempt(request)
        if self.options.retries and (trouble := self._trouble(request, outcome)):
            import stamina

            lost = False
            try:
                async for attempt in stamina.retry_context(
                    on=self._backoff(request, begun), attempts=None, timeout=None
                ):
                    with attempt:
                        if attempt.num > 1:
                            lost = lost or _may_have_been_taken(trouble)
                            outcome = await self._aattempt(request)
                            trouble = self._trouble(request, outcome)
                        if trouble:
                            raise trouble
            except AnymailAPIError:
                pass
            outcome = self._with_doubt(request, outcome, lost)
        return outcome

    def _with_doubt(self, request: Request, outcome: Outcome, lost: bool) -> Outcome:
        """The end of a repeated call. What an earlier attempt left unknown stays unknown, whatever a later one met:
        a repeat that is refused says nothing of the attempt whose response was lost.
        """
        if not lost or (isinstance(outcome, Response) and outcome.status_code < 400):
            return outcome
        error = self.esp.api_error(outcome) if isinstance(outcome, Response) else outcome
        if error.sent is not False:
            return outcome
        return AnymailTransportError(
            f"An earlier attempt of this call got no certain response; its repeat failed: {error.args[0]}",
            category=error.category,
            sent=None,
            retryable=False,
            response=error.response,
            payload=request,
        )

    def _attempt(self, request: Request) -> Outcome:
        outcome: Outcome
        try:
            outcome = self.transport.send(request)
        except AnymailTransportError as error:
            outcome = error
        return self._noted(request, outcome)

    async def _aattempt(self, request: Request) -> Outcome:
        outcome: Outcome
        try:
            outcome = await self.transport.asend(request)
        except AnymailTransportError as error:
            outcome = error
        return self._noted(request, outcome)

    def _noted(self, request: Request, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Response) and outcome.ok:
            self.pace.ease()
        if self.options.debug_api_requests:
            print_call(self.esp, request, outcome)
        return outcome

    def _trouble(self, request: Request, outcome: Outcome) -> AnymailAPIError | None:
        """The reason to repeat a call; None when it succeeded, or when a repeat would be futile or might send twice."""
        if isinstance(outcome, AnymailTransportError):
            return outcome if outcome.retryable or request.repeatable else None
        if outcome.status_code < 400:
            return None
        error = self.esp.api_error(outcome)
        if error.retryable or (request.repeatable and error.category in ("server", "timeout")):
            return error
        return None

    def _backoff(self, request: Request, begun: float) -> Callable[[Exception], bool | float]:
        """How stamina is to go on after a failure: False to give up, True for its own wait, or seconds."""
        repeats = 0
        deadline = time.monotonic() + (self.options.rate_limit_wait or 0)
        # Set once an attempt may have been taken: from then on only the idempotency key makes a repeat safe.
        key_deadline: float | None = None

        def backoff(error: Exception) -> bool | float:
            nonlocal repeats, key_deadline
            if not isinstance(error, AnymailAPIError):
                return False
            patience = deadline - time.monotonic()
            if (error.retry_after or 0) > patience:
                return False
            if error.category == "rate_limit":
                wait = self.pace.hold(error.retry_after)
                if wait > patience:
                    return False
            else:
                repeats += 1
                if repeats > self.options.retries:
                    return False
                wait = error.retry_after or 0
            if error.sent is not False and request.idempotency_seconds is not None:
                key_deadline = begun + request.idempotency_seconds
            if key_deadline is not None and time.monotonic() + (wait or _LONGEST_OWN_WAIT) >= key_deadline:
                return False
            return wait or True

        return backoff


def _may_have_been_taken(error: AnymailAPIError | None) -> bool:
    return error is not None and error.sent is not False


# Of stamina's waits, jitter included.
_LONGEST_OWN_WAIT = 6.0
