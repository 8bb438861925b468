"""Spans and metrics by OpenTelemetry, where it is installed (``anymail[opentelemetry]``); else nothing at all.

https://opentelemetry.io/docs/specs/semconv/http/http-spans/ and /http/http-metrics/. Nothing here holds an address,
a subject or a credential, and metrics tell ESPs and outcomes apart, no more.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any, Protocol, Self
from urllib.parse import urlsplit

from anymail._version import __version__
from anymail.exceptions import AnymailAPIError, AnymailError
from anymail.wire import Request, Response

if TYPE_CHECKING:
    from anymail.delivery.report import SendReport
    from anymail.delivery.retries import Outcome

__all__ = ["telemetry"]

# Of http.client.request.duration, as the conventions advise.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_METHODS = frozenset({"DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"})


class Call(Protocol):
    """One attempt. ``request`` is what is to be sent: perhaps with a ``traceparent``."""

    request: Request

    def __enter__(self) -> Self: ...
    def __exit__(self, *raised: Any) -> None: ...
    def end(self, outcome: Outcome) -> None: ...


class Sending(Protocol):
    """One ``send_messages``."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *raised: Any) -> None: ...
    def end(self, report: SendReport) -> None: ...


class _Untold:
    """A call or a sending that nobody is told of."""

    __slots__ = ("request",)

    def __init__(self, request: Any = None) -> None:
        self.request = request

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: Any) -> None:
        pass

    def end(self, what: Any) -> None:
        pass


class _Telemetry:
    """Finds OpenTelemetry when it is first needed."""

    def __init__(self) -> None:
        self._tools: _Tools | None = None
        self._looked = False

    def call(self, esp_name: str, request: Request, repeats: int) -> Call:
        """Around one attempt of a call; ``repeats`` came before it."""
        tools = self._tools if self._looked else self._look()
        return _Untold(request) if tools is None else _CallSpan(tools, esp_name, request, repeats)

    def sending(self, esp_name: str) -> Sending:
        """Around one ``send_messages``."""
        tools = self._tools if self._looked else self._look()
        return _Untold() if tools is None else _SendingSpan(tools, esp_name)

    def _look(self) -> _Tools | None:
        try:
            self._tools = _Tools()
        except ImportError:
            self._tools = None
        self._looked = True
        return self._tools


class _Tools:
    """What OpenTelemetry gives to those who measure. Raises ImportError where it is not installed."""

    def __init__(self) -> None:
        from opentelemetry import metrics, trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self.trace = trace
        self.tracer = trace.get_tracer("anymail", __version__)
        # Not the project's own propagators: baggage is no ESP's business.
        self.propagator = TraceContextTextMapPropagator()
        meter = metrics.get_meter("anymail", __version__)
        self.messages = meter.create_counter("anymail.messages", "{message}", "Messages by what became of them")
        self.repeats = meter.create_counter("anymail.call.repeats", "{call}", "Calls that were made again")
        histogram: Any = meter.create_histogram
        name, unit, about = "http.client.request.duration", "s", "Duration of calls to ESPs"
        try:
            self.seconds = histogram(name, unit, about, explicit_bucket_boundaries_advisory=_SECONDS)
        except TypeError:  # before 1.31
            self.seconds = histogram(name, unit, about)


class _CallSpan:
    def __init__(self, tools: _Tools, esp_name: str, request: Request, repeats: int) -> None:
        self._tools = tools
        url = urlsplit(request.url)
        method = request.method if request.method in _METHODS else "_OTHER"
        self._attributes: dict[str, Any] = {
            "http.request.method": method,
            "server.address": url.hostname or "",
            "server.port": url.port or (80 if url.scheme == "http" else 443),
            "anymail.esp": esp_name,
        }
        own: dict[str, Any] = {"url.full": f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"}
        if repeats:
            own["http.request.resend_count"] = repeats
            tools.repeats.add(1, {"anymail.esp": esp_name})
        self._span = tools.tracer.start_span(
            method, kind=tools.trace.SpanKind.CLIENT, attributes={**self._attributes, **own}
        )
        headers: dict[str, str] = {}
        tools.propagator.inject(headers, tools.trace.set_span_in_context(self._span))
        self.request = dataclasses.replace(request, headers={**request.headers, **headers}) if headers else request
        self._start = time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: Any) -> None:
        if kind is not None:
            self._finish({}, kind.__qualname__)

    def end(self, outcome: Outcome) -> None:
        response = outcome if isinstance(outcome, Response) else None
        if response is not None:
            status = response.status_code
            self._finish({"http.response.status_code": status}, str(status) if status >= 400 else None)
        elif isinstance(outcome, AnymailAPIError):
            self._finish({}, outcome.category)

    def _finish(self, result: dict[str, Any], error_type: str | None) -> None:
        if error_type is not None:
            result["error.type"] = error_type
            self._span.set_status(self._tools.trace.StatusCode.ERROR)
        self._span.set_attributes(result)
        self._tools.seconds.record(
            time.perf_counter() - self._start,
            {**self._attributes, **result},
            context=self._tools.trace.set_span_in_context(self._span),
        )
        self._span.end()


class _SendingSpan:
    def __init__(self, tools: _Tools, esp_name: str) -> None:
        self._tools = tools
        self._esp_name = esp_name
        self._current = tools.tracer.start_as_current_span(
            "anymail.send", attributes={"anymail.esp": esp_name}, record_exception=False, set_status_on_exception=False
        )

    def __enter__(self) -> Self:
        self._span = self._current.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: Any) -> None:
        if kind is not None:
            self._span.set_attribute("error.type", kind.__qualname__)
            self._span.set_status(self._tools.trace.StatusCode.ERROR)
        self._current.__exit__(None, None, None)

    def end(self, report: SendReport) -> None:
        unknown = sum(isinstance(error, AnymailAPIError) and error.sent is not False for _, error in report.failed)
        counts = {
            "sent": report.sent_count - report.partly_sent_count,
            "partly_sent": report.partly_sent_count,
            "unknown": unknown,
            "failed": len(report.failed) - unknown,
            "not_attempted": len(report.not_attempted),
        }
        for outcome, count in counts.items():
            if count:
                self._tools.messages.add(count, {"anymail.esp": self._esp_name, "anymail.outcome": outcome})
                self._span.set_attribute(f"anymail.messages.{outcome}", count)
        if report.failed:
            error = report.failed[0][1]
            own = getattr(error, "category", None) if isinstance(error, AnymailError) else None
            self._span.set_attribute("error.type", own or type(error).__qualname__)
            self._span.set_status(self._tools.trace.StatusCode.ERROR)


telemetry = _Telemetry()
