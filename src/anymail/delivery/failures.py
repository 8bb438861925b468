"""What a failure on the way to an ESP means for the message, and its words."""

from __future__ import annotations

import signal
from types import CodeType, TracebackType

from anymail.exceptions import AnymailTransportError, Category
from anymail.wire import Request

__all__ = ["not_sent", "raised_by_a_signal_handler", "refused", "unknown", "words"]


def not_sent(request: Request, who: str, what: str, category: Category = "network") -> AnymailTransportError:
    """No byte of the request left: sending again is safe, and may work."""
    text = f"No response from {who}: {what}."
    return AnymailTransportError(text, category=category, sent=False, retryable=True, payload=request)


def refused(request: Request, what: str) -> AnymailTransportError:
    """A request that can never be sent from here."""
    return AnymailTransportError(f"The request was not made: {what}.", sent=False, payload=request)


def unknown(request: Request, who: str, what: str, category: Category = "network") -> AnymailTransportError:
    """At least one byte of the request left: the ESP may have all of it."""
    return AnymailTransportError(
        f"No response from {who}: {what}.", category=category, sent=None, payload=request
    )  # fmt: skip


def words(error: BaseException) -> str:
    """What an error of the network says, without its number."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).rstrip(".")


def raised_by_a_signal_handler(error: BaseException) -> bool:
    """Whether an error comes from a handler that interrupted a call, and not from the network.

    Time limits are often a ``TimeoutError`` that a handler of SIGALRM raises: that is the caller's own affair.
    """
    codes = _codes(error.__traceback__)
    for number in signal.valid_signals():
        try:
            handler = signal.getsignal(number)
        except ValueError:  # Windows knows only some
            continue
        if callable(handler) and handler is not signal.default_int_handler:
            code = getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
            if code in codes:
                return True
    return False


def _codes(traceback: TracebackType | None) -> set[CodeType]:
    found = set()
    while traceback is not None:
        found.add(traceback.tb_frame.f_code)
        traceback = traceback.tb_next
    return found
