"""The log of what is sent, which must not bring itself about."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Any

__all__ = ["log"]

_logging: ContextVar[bool] = ContextVar("anymail_logging", default=False)


class _Log:
    """The logger ``anymail``. While a line of it is handled, no other is written in the same context: a handler that
    sends mail, as Django's does to the admins, may send it through the very ESP that fails.
    """

    def __init__(self) -> None:
        self._logger = logging.getLogger("anymail")

    def info(self, text: str, *arguments: Any) -> None:
        self._write(logging.INFO, text, arguments)

    def warning(self, text: str, *arguments: Any, exc_info: BaseException | None = None) -> None:
        self._write(logging.WARNING, text, arguments, exc_info)

    def error(self, text: str, *arguments: Any) -> None:
        self._write(logging.ERROR, text, arguments)

    def _write(self, level: int, text: str, arguments: tuple[Any, ...], exc_info: BaseException | None = None) -> None:
        if _logging.get() or not self._logger.isEnabledFor(level):
            return
        token = _logging.set(True)
        try:
            self._logger.log(level, text, *arguments, exc_info=exc_info, stacklevel=3)
        finally:
            _logging.reset(token)


log = _Log()
