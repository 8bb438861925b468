"""One flow, driven: each of its requests sent, and repeated where that cannot send twice."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Generic, TypeVar

from anymail.conf import SendOptions
from anymail.delivery.debug import print_call
from anymail.delivery.interruptions import interrupts
from anymail.delivery.retries import Outcome, Patience, Retries, Stopped, Throttle
from anymail.delivery.telemetry import telemetry
from anymail.delivery.transport import Transport, transport_for
from anymail.esps.kit.sending import ESP, ResponseReader
from anymail.exceptions import AnymailAPIError, AnymailRecipientsRefused, AnymailTransportError
from anymail.wire import Flow, Request, Response

__all__ = ["Caller", "Progress", "Stopped"]

T = TypeVar("T")

# The longest that a webhook waits for a connection, and for each read.
_FETCH_SECONDS = 5.0


class Progress:
    """How far a flow has come, for whoever must account for it when it is interrupted.

    ``in_the_air``: a request has left, and no outcome has come. ``perhaps_taken``: the ESP may have the message, or a
    part of it, or has it.
    """

    __slots__ = ("in_the_air", "perhaps_taken")

    def __init__(self) -> None:
        self.in_the_air = self.perhaps_taken = False

    def untouched(self) -> bool:
        return not (self.in_the_air or self.perhaps_taken)


class Caller:
    """Makes the calls of one run: one ``send_messages``, or one webhook that fetches.

    Only AnymailTransportError is an outcome of a call; whatever else a transport raises passes through.
    """

    def __init__(
        self, esp: ResponseReader, transport: Transport, options: SendOptions, patience: Patience | None = None
    ) -> None:
        self.esp = esp
        self.transport = transport
        self.options = options
        self.patience = patience or Patience.of(options)
        self.throttle = Throttle()
        self._until: float | None = None
        self._stop: threading.Event | None = None

    @classmethod
    def of_a_webhook(cls, reader: ResponseReader, options: SendOptions) -> Caller:
        """For what a webhook fetches, while the ESP waits: little patience, and none with a rate limit."""
        connect, read = (
            _FETCH_SECONDS if seconds is None else min(seconds, _FETCH_SECONDS) for seconds in options.requests_timeout
        )
        return cls(reader, transport_for(options.transport, (connect, read)), options, Patience.of_a_webhook(options))

    def stop_at(self, event: threading.Event) -> None:
        """Begin no call, in whatever thread, once the event is set. A flow of which the ESP has taken a part is told
        that the rest was not sent; for any other, ``Stopped`` is raised.
        """
        self._stop = event

    def run(self, flow: Flow[T], progress: Progress | None = None) -> tuple[T, Response | None]:
        """Drive a flow to its end; return its result and the last response it got. What it raises is raised."""
        conversation = _Conversation(self.esp, flow)
        progress = progress or Progress()
        request = conversation.begin()
        while request is not None:
            retries = self._retries(request)
            wait: float | None = retries.begin(time.monotonic())
            while wait is not None:
                if self._pause(wait):
                    retries.stop(progress.perhaps_taken)
                    break
                wait = retries.after(self._attempt(request, retries.attempts, progress), time.monotonic())
                progress.perhaps_taken = progress.perhaps_taken or retries.perhaps_taken
                progress.in_the_air = False
            request = conversation.go_on(retries.outcome)
        return conversation.result, conversation.response

    async def arun(self, flow: Flow[T], progress: Progress | None = None) -> tuple[T, Response | None]:
        """``run``, asynchronously."""
        conversation = _Conversation(self.esp, flow)
        progress = progress or Progress()
        request = conversation.begin()
        while request is not None:
            retries = self._retries(request)
            wait: float | None = retries.begin(time.monotonic())
            while wait is not None:
                if await self._apause(wait):
                    retries.stop(progress.perhaps_taken)
                    break
                wait = retries.after(await self._aattempt(request, retries.attempts, progress), time.monotonic())
                progress.perhaps_taken = progress.perhaps_taken or retries.perhaps_taken
                progress.in_the_air = False
            request = conversation.go_on(retries.outcome)
        return conversation.result, conversation.response

    def _retries(self, request: Request) -> Retries:
        if self._until is None and self.patience.in_all is not None:
            self._until = time.monotonic() + self.patience.in_all
        return Retries(self.esp, request, self.patience, self.throttle, self._until)

    def _pause(self, seconds: float) -> bool:
        """Wait; return whether the run was stopped."""
        if self._stop is not None:
            return self._stop.wait(seconds) if seconds else self._stop.is_set()
        if seconds:
            time.sleep(seconds)
        return False

    async def _apause(self, seconds: float) -> bool:
        stop = self._stop
        if seconds:
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:
                if stop is None or not stop.is_set():
                    raise
        return stop is not None and stop.is_set()

    def _attempt(self, request: Request, repeats: int, progress: Progress) -> Outcome:
        outcome: Outcome
        with telemetry.call(self.esp.name, request, repeats) as call:
            progress.in_the_air = not request.reads
            try:
                outcome = self.transport.send(call.request)
            except AnymailTransportError as error:
                outcome = error
            call.end(outcome)
        return self._noted(request, outcome)

    async def _aattempt(self, request: Request, repeats: int, progress: Progress) -> Outcome:
        outcome: Outcome
        with telemetry.call(self.esp.name, request, repeats) as call:
            progress.in_the_air = not request.reads
            try:
                outcome = await self.transport.asend(call.request)
            except AnymailTransportError as error:
                outcome = error
            call.end(outcome)
        return self._noted(request, outcome)

    def _noted(self, request: Request, outcome: Outcome) -> Outcome:
        if self.options.debug_api_requests:
            print_call(self.esp, request, outcome)
        return outcome


class _Conversation(Generic[T]):
    """A flow and how far it has come, without input or output: ``begin`` and ``go_on`` return the next request, None
    at the end.
    """

    __slots__ = ("_esp", "_flow", "_request", "response", "result")

    def __init__(self, esp: ResponseReader, flow: Flow[T]) -> None:
        self._esp = esp
        self._flow = flow
        self._request: Request | None = None
        self.response: Response | None = None
        self.result: T

    def begin(self) -> Request | None:
        return self.go_on(None)

    def go_on(self, outcome: Outcome | None) -> Request | None:
        try:
            if outcome is None:
                self._request = next(self._flow)
            elif isinstance(outcome, Response):
                self.response = outcome
                self._request = self._flow.send(outcome)
            else:
                self._request = self._flow.throw(outcome)
        except StopIteration as finished:
            self.result = finished.value
            return None
        except AnymailAPIError as error:
            error.response = error.response or self.response
            error.payload = error.payload or self._request
            raise
        except Exception as error:
            self._keep_truth(error)
            raise
        return self._request

    def _keep_truth(self, error: Exception) -> None:
        """Raise, in place of an error in the reading of a response, the one that says: the ESP may have the message.

        Nobody may take it for a message that was not sent. What is fetched for a webhook has no such truth to keep.
        """
        response = self.response
        told = isinstance(error, AnymailAPIError | AnymailRecipientsRefused)
        if response is None or told or interrupts(error) or not isinstance(self._esp, ESP):
            return
        unreadable = self._esp.unreadable(response, f"reading that failed with {error!r}")
        unreadable.sent = True if response.ok else None
        raise unreadable from error
