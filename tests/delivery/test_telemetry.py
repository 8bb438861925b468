"""OpenTelemetry: a span for each call and each send, metrics, and nothing where it is not installed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from anymail.backends.base import AnymailBackend
from anymail.delivery import telemetry as module
from anymail.esps.postmark.sending import Postmark
from anymail.exceptions import AnymailError, AnymailTransportError
from anymail.wire import Request, Response
from support import answer, json_of, message

OK = {"ErrorCode": 0, "Message": "OK", "MessageID": "id"}


class Told:
    """What OpenTelemetry was told."""

    def __init__(self) -> None:
        self.spans = InMemorySpanExporter()
        self.metrics = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.meters = MeterProvider([self.metrics])

    def finished(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans.get_finished_spans() if span.name == name]

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        data = self.metrics.get_metrics_data()
        return [
            (dict(point.attributes), getattr(point, "value", getattr(point, "count", None)))
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def everything(self) -> str:
        data = self.metrics.get_metrics_data()
        return "".join(span.to_json() for span in self.spans.get_finished_spans()) + (data.to_json() if data else "")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    told = Told()
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", told.tracers)
    monkeypatch.setattr("opentelemetry.metrics._internal._METER_PROVIDER", told.meters)
    monkeypatch.setattr(module.telemetry, "_looked", False)
    yield told
    module.telemetry._looked = False


class OneByOne(Postmark):
    coalescing = None


class Server:
    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.requests: list[Request] = []

    def send(self, request: Request) -> Response:
        self.requests.append(request)
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, Exception):
            raise outcome
        asked = json_of(request)
        return outcome or answer(200, [OK] * len(asked) if isinstance(asked, list) else OK)

    async def asend(self, request: Request) -> Response:
        return self.send(request)


@pytest.fixture(params=["sync", "async"])
def send(request: pytest.FixtureRequest) -> Any:
    def go(server: Server, messages: list[Any], **options: Any) -> None:
        class Backend(AnymailBackend):
            esp = OneByOne

        backend = Backend(**{"transport": lambda **_: server, "server_token": "hush", **options})
        with contextlib.suppress(AnymailError, RuntimeError):
            if request.param == "sync":
                backend.send_messages(messages)
            else:
                asyncio.run(backend.asend_messages(messages))

    return go


def test_a_call_and_its_send(told: Told, send: Any) -> None:
    server = Server()
    with told.tracers.get_tracer("project").start_as_current_span("view") as view:
        send(server, [message(subject="Secret subject")], api_url="https://key:word@api.example:8443/v1/?k=hush")
    [call], [sending] = told.finished("POST"), told.finished("anymail.send")
    assert call.kind == trace.SpanKind.CLIENT
    assert dict(call.attributes or {}) == {
        "http.request.method": "POST",
        "server.address": "api.example",
        "server.port": 8443,
        "url.full": "https://api.example:8443/v1/",
        "http.response.status_code": 200,
        "anymail.esp": "Postmark",
    }
    assert call.status.status_code == trace.StatusCode.UNSET
    assert dict(sending.attributes or {}) == {"anymail.esp": "Postmark", "anymail.messages.sent": 1}
    assert call.parent is not None
    assert sending.parent is not None
    assert (call.parent.span_id, sending.parent.span_id) == (
        sending.get_span_context().span_id,
        view.get_span_context().span_id,
    )
    sent = server.requests[0].headers["traceparent"]
    assert sent.startswith(f"00-{call.get_span_context().trace_id:032x}-{call.get_span_context().span_id:016x}-")


def test_repeats(told: Told, send: Any) -> None:
    send(
        Server(answer(429, "", {"Retry-After": "0.01"}), AnymailTransportError("x", sent=False, retryable=True)),
        [message()],
    )
    first, second, third = (dict(span.attributes or {}) for span in told.finished("POST"))
    assert (first["http.response.status_code"], first["error.type"]) == (429, "429")
    assert "http.request.resend_count" not in first
    assert (second["error.type"], second["http.request.resend_count"]) == ("network", 1)
    assert "http.response.status_code" not in second
    assert (third["http.response.status_code"], third["http.request.resend_count"]) == (200, 2)
    statuses = [span.status.status_code.name for span in told.finished("POST")]
    assert statuses == ["ERROR", "ERROR", "UNSET"]
    assert told.points("anymail.call.repeats") == [({"anymail.esp": "Postmark"}, 2)]


def test_metrics_tell_few_things_apart(told: Told, send: Any) -> None:
    messages = [message(subject=f"Secret {n}", to=[f"ana{n}@example.net"]) for n in range(4)]
    messages[1].to = ["broken@@example.net"]
    lost = AnymailTransportError("lost", category="timeout", sent=None)
    send(Server(None, lost), messages, concurrency=1)
    counts = {point["anymail.outcome"]: value for point, value in told.points("anymail.messages")}
    assert counts == {"sent": 1, "failed": 1, "unknown": 1, "not_attempted": 1}
    durations = told.points("http.client.request.duration")
    assert sorted(value for _, value in durations) == [1, 1]
    keys = {"http.request.method", "server.address", "server.port", "anymail.esp"}
    assert {frozenset(point) - keys for point, _ in durations} == {
        frozenset({"http.response.status_code"}),
        frozenset({"error.type"}),
    }
    [sending] = told.finished("anymail.send")
    assert sending.status.status_code == trace.StatusCode.ERROR


def test_calls_in_threads_and_tasks_belong_to_the_send(told: Told, send: Any) -> None:
    messages = [message(subject=str(n)) for n in range(9)]
    send(Server(), messages, concurrency=4)
    [sending] = told.finished("anymail.send")
    calls = told.finished("POST")
    assert len(calls) == 9
    assert {call.parent.span_id for call in calls if call.parent} == {sending.get_span_context().span_id}


def test_nothing_is_told_of_people_or_keys(told: Told, send: Any) -> None:
    token = context.attach(baggage.set_baggage("user", "ana"))
    try:
        server = Server(answer(422, {"ErrorCode": 300, "Message": "Invalid 'To': ana@example.net"}))
        send(server, [message(subject="Secret subject", to=["ana@example.net"])])
    finally:
        context.detach(token)
    assert "baggage" not in server.requests[0].headers, "no ESP's business"
    everything = told.everything()
    assert "POST" in everything
    for private in ("ana", "example.net", "Secret", "hush"):
        assert private not in everything


def test_an_interrupted_send_ends_its_spans(told: Told, send: Any) -> None:
    class Broken(Server):
        def send(self, request: Request) -> Response:
            raise RuntimeError("ana@example.net")

    send(Broken(), [message()])
    [call], [sending] = told.finished("POST"), told.finished("anymail.send")
    for span in (call, sending):
        assert (span.attributes or {})["error.type"] == "RuntimeError"
        assert span.status.status_code == trace.StatusCode.ERROR
    assert "ana@" not in told.everything()


@pytest.mark.parametrize("installed", [True, False])
def test_it_is_imported_when_it_is_needed_and_there(installed: bool) -> None:
    program = f"""
import sys, json
if not {installed}:
    sys.modules["opentelemetry"] = None
import django
from django.conf import settings
settings.configure(ANYMAIL={{}})
django.setup()
from anymail.backends.postmark import EmailBackend
from django.core.mail import EmailMessage
from anymail.wire import Response
before = [name for name in sys.modules if name.startswith("opentelemetry.")]
class Server:
    def __init__(self, **ignored): pass
    def send(self, request):
        return Response(200, {{}}, b'{{"ErrorCode": 0, "Message": "OK", "MessageID": "i"}}')
message = EmailMessage("a", "b", "c@d.example", ["e@f.example"])
sent = EmailBackend(server_token="t", transport=Server).send_messages([message])
after = [name for name in sys.modules if name.startswith("opentelemetry.")]
print(json.dumps([sent, len(before), len(after)]))
"""
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    sent, before, after = json.loads(shown)
    assert (sent, before, bool(after)) == (1, 0, installed)
