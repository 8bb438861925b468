"""What one call is to do next: send, wait, or be done. No input or output, and no clock: the time is told."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

from anymail.conf import SendOptions
from anymail.delivery.logs import log
from anymail.esps.kit.sending import ResponseReader
from anymail.exceptions import AnymailAPIError, AnymailRequestsAPIError, AnymailTransportError
from anymail.wire import Request, Response

__all__ = ["Outcome", "Patience", "Retries", "Stopped", "Throttle"]

#: What became of one attempt, or of a call: a response, or why there was none that can be relied on.
Outcome = Response | AnymailAPIError

# The kinds of failure after which a call is repeated where a repeat cannot send twice, be its outcome unknown.
_PASSING = frozenset({"network", "rate_limit", "server", "timeout", "unreadable"})
# Seconds of our own waits: the first, and the most.
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a caller goes on with a call: ``retries`` after the first attempt, ``rate_limit_wait`` seconds in all
    for an ESP that gets too many calls, and ``in_all`` seconds for all calls together, from the first on (None: no
    limit).
    """

    retries: int
    rate_limit_wait: float
    in_all: float | None = None

    @classmethod
    def of(cls, options: SendOptions) -> Patience:
        """As the settings say, for whoever sends."""
        wait = options.rate_limit_wait
        return cls(options.retries, math.inf if wait is None else wait)

    @classmethod
    def of_a_webhook(cls, options: SendOptions) -> Patience:
        """A few seconds: a worker is held meanwhile, and the ESP sends the call again."""
        return cls(min(1, options.retries), 0, in_all=3)


class Stopped(BaseException):
    """The run was interrupted elsewhere: no call is to begin any more."""


class Throttle:
    """Holds back a whole run of calls when the ESP says they are too many. Times are those of one clock, in seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free_at = 0.0
        # Seconds between two calls: none until the ESP has complained.
        self._gap = 0.0

    def slot(self, now: float) -> float:
        """Take the next place in the line; return the seconds to wait for it."""
        if not self._free_at:
            return 0.0
        with self._lock:
            start = max(now, self._free_at)
            self._free_at = start + self._gap if self._gap else self._free_at
            return start - now

    def hold(self, now: float, seconds: float | None) -> float:
        """The ESP complained, asking for a pause of ``seconds`` (or not saying): return the wait before a repeat."""
        with self._lock:
            self._gap = min(1.0, max(0.05, self._gap * 1.5))
            pause = max(0.5 if seconds is None else seconds, 4 * self._gap)
            self._free_at = max(self._free_at, now + pause)
        return self.slot(now)

    def ease(self) -> None:
        """A call went well."""
        if self._gap:
            with self._lock:
                self._gap = self._gap * 0.9 if self._gap > 0.01 else 0.0


class Retries:
    """One call, from its first attempt to its end.

    ``begin`` and ``after`` return the seconds to wait before the next attempt; ``after`` returns None when the call is
    done, and ``outcome`` is its end. ``perhaps_taken``: whether the ESP may have, or has, what was sent.
    """

    __slots__ = (
        "_begun", "_deadline", "_esp", "_jitter", "_key_deadline", "_patience", "_repeats", "_request", "_throttle",
        "_unknown", "_until", "attempts", "outcome", "perhaps_taken",
    )  # fmt: skip

    def __init__(
        self,
        esp: ResponseReader,
        request: Request,
        patience: Patience,
        throttle: Throttle,
        until: float | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._esp = esp
        self._request = request
        self._patience = patience
        self._throttle = throttle
        self._until = until
        self._jitter = jitter
        self._repeats = 0
        self._begun = self._deadline = 0.0
        # Set once an attempt may have been taken: from then on only the idempotency key makes a repeat safe.
        self._key_deadline: float | None = None
        self._unknown = False
        self.attempts = 0
        self.perhaps_taken = False
        self.outcome: Outcome | None = None

    def begin(self, now: float) -> float:
        wait = self._throttle.slot(now)
        self._begun = now + wait
        return wait

    def after(self, outcome: Outcome, now: float) -> float | None:
        self.attempts += 1
        self.outcome = outcome
        if isinstance(outcome, Response) and outcome.ok:
            self._throttle.ease()
            self.perhaps_taken = not self._request.reads
            return None
        error = self._error_of(outcome)
        wait = self._wait(error, now) if self._may_repeat(error) else None
        if error.sent is not False and not self._request.reads:
            self._unknown = self.perhaps_taken = True
        if wait is None:
            self.outcome = self._end(outcome, error)
        return wait

    def stop(self, partly_taken: bool) -> None:
        """The run was interrupted before the next attempt. Raises Stopped, unless this call, or an earlier one of the
        same flow (``partly_taken``), may have been taken: then the flow is to say what became of which recipient.
        """
        if not (partly_taken or self.perhaps_taken):
            raise Stopped
        outcome = self.outcome
        if outcome is None:
            self.outcome = AnymailTransportError("The run was interrupted before this call.", sent=False)
        else:
            self.outcome = self._end(outcome, self._error_of(outcome))

    def _error_of(self, outcome: Outcome) -> AnymailAPIError:
        return self._esp.api_error(outcome) if isinstance(outcome, Response) else outcome

    def _may_repeat(self, error: AnymailAPIError) -> bool:
        if not self._patience.retries:
            return False
        return (error.retryable and error.sent is False) or (self._request.repeatable and error.category in _PASSING)

    def _wait(self, error: AnymailAPIError, now: float) -> float | None:
        """The seconds to wait before a repeat; None if there is to be none."""
        if self.attempts == 1:
            self._deadline = now + self._patience.rate_limit_wait
        patience = self._deadline - now
        asked = error.retry_after or 0.0
        if asked > patience:
            return None
        if error.category == "rate_limit":
            wait = self._throttle.hold(now, error.retry_after)
            if wait > patience:
                return None
        else:
            self._repeats += 1
            if self._repeats > self._patience.retries:
                return None
            wait = asked or min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (self._repeats - 1) + self._jitter())
        if error.sent is not False and self._request.idempotency_seconds is not None:
            self._key_deadline = self._begun + self._request.idempotency_seconds
        for deadline in (self._key_deadline, self._until):
            if deadline is not None and now + wait >= deadline:
                return None
        self._say(error, wait)
        return wait

    def _say(self, error: AnymailAPIError, wait: float) -> None:
        reason = f"HTTP {error.status_code}" if error.status_code else error.category
        asked = "the ESP" if error.retry_after else "the throttle" if error.category == "rate_limit" else "our back-off"
        log.info(
            "%s: attempt %d got %s; the call is made again in %.1f s, which %s asks for.",
            self._esp.name, self.attempts, reason, wait, asked,
        )  # fmt: skip

    def _end(self, outcome: Outcome, error: AnymailAPIError) -> Outcome:
        """The end of a call that failed. What an attempt left unknown stays unknown, whatever a later one met: that
        a repeat is refused says nothing of the attempt whose response was lost.
        """
        if not self._unknown or error.sent is not False:
            return outcome
        if isinstance(outcome, Response) and self._esp.taken_before(outcome):
            return outcome
        return AnymailRequestsAPIError(
            f"The response to an earlier attempt of this call was lost; the last attempt failed: {error.args[0]}",
            category=error.category,
            sent=None,
            retryable=False,
            retry_after=error.retry_after,
            response=error.response,
            payload=self._request,
        )
