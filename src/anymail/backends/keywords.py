"""The options that every backend takes as keywords, as a project writes them: for type checkers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypedDict

__all__ = ["SendKeywords"]


class SendKeywords(TypedDict, total=False):
    """``anymail.conf.SendOptions`` before it is converted. Each backend's ``Keywords`` add its ESP's own."""

    send_defaults: Mapping[str, Any]
    ignore_unsupported_features: bool
    ignore_recipient_status: bool
    requests_timeout: float | tuple[float | None, float | None] | None
    debug_api_requests: bool
    idna_encoder: str | Callable[[str], str]
    concurrency: int
    retries: int
    rate_limit_wait: float | None
    transport: Any
