"""Which exceptions come from outside: a time limit, Ctrl-C, a cancellation. They pass, whatever they strike."""

from __future__ import annotations

import signal
from types import TracebackType

__all__ = ["interrupts"]

# What task queues raise in the middle of a task and is an Exception, where it comes from another thread.
_TIME_LIMITS = frozenset({"BaseTimeoutException", "SoftTimeLimitExceeded", "TimeLimitExceeded"})


def interrupts(error: BaseException) -> bool:
    """Whether an exception has nothing to do with what was being done when it was raised.

    True for what is no Exception, for what a handler of a signal raised (Celery's and RQ's time limits), and for
    the time limits that task queues raise in other ways.
    """
    if not isinstance(error, Exception):
        return True
    if any(cls.__name__ in _TIME_LIMITS for cls in type(error).__mro__):
        return True
    codes = {getattr(getattr(handler, "__func__", handler), "__code__", None) for handler in _handlers()}
    codes.discard(None)
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False


def _handlers() -> list[object]:
    return [signal.getsignal(number) for number in signal.valid_signals()]
