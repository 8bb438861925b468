"""Runs that are interrupted: what interrupts passes, no call begins any more, and every message has its truth."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from anymail.backends.base import AnymailBackend
from anymail.conf import SendOptions
from anymail.delivery.interruptions import interrupts
from anymail.delivery.report import SendReport
from anymail.esps.kit.sending import ESP, Coalescing
from anymail.exceptions import AnymailAPIError
from anymail.mail.message import OutgoingMail
from anymail.mail.status import AnymailRecipientStatus, RecipientStatuses, all_recipients
from anymail.mail.supports import Supports
from anymail.signals import post_send, pre_send
from anymail.wire import Flow, Request, Response
from support import answer, json_of, message


class Parcel(ESP[SendOptions]):
    """A made-up ESP. A message whose ``to`` has several addresses takes a call for each."""

    name = "Parcel"
    slug = "parcel"
    Options = SendOptions
    supports = Supports(merge_data=True)

    def deliver(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        statuses: RecipientStatuses = {}
        for to in mail.to:
            try:
                self.read_json((yield Request.post("https://parcel.example/", headers={}, json=[mail.subject])))
            except AnymailAPIError as error:
                if not statuses:
                    raise
                word = "failed" if error.sent is False else "unknown"
                statuses |= all_recipients([to], word, error=error)  # type: ignore[arg-type]
            else:
                statuses[to.key] = AnymailRecipientStatus("id", "sent")
        return statuses


class Parcels(Parcel):
    coalescing = Coalescing(messages=3, bytes=1_000_000)

    def batch_key(self, mail: OutgoingMail) -> str:
        return "any"

    def deliver_many(self, mails: Any) -> Flow[list[RecipientStatuses | AnymailAPIError]]:
        subjects = [mail.subject for mail in mails]
        self.read_json((yield Request.post("https://parcel.example/", headers={}, json=subjects)))
        return [all_recipients(mail.recipients, "sent", "id") for mail in mails]


class Server:
    """Parcel's server as a transport: what it took, by subject, and when calls came."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.taken: list[str] = []
        self.pause: Callable[[str], float] = lambda subject: 0.0
        self.answer = lambda: answer(200, {"ok": True})
        self.raises: dict[str, BaseException] = {}

    def send(self, request: Request) -> Response:
        [*subjects] = json_of(request)
        self.began += subjects
        if subjects[0] in self.raises:
            raise self.raises[subjects[0]]
        deadline = time.monotonic() + self.pause(subjects[0])
        while time.monotonic() < deadline:
            time.sleep(0.005)
        self.taken += subjects
        return self.answer()

    async def asend(self, request: Request) -> Response:
        [*subjects] = json_of(request)
        self.began += subjects
        if subjects[0] in self.raises:
            raise self.raises[subjects[0]]
        await asyncio.sleep(self.pause(subjects[0]))
        self.taken += subjects
        return self.answer()


class TimeLimit(Exception):
    """As task queues raise it from a signal's handler."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    def expire(number: int, frame: Any) -> None:
        raise TimeLimit

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def server() -> Server:
    return Server()


def backend(server: Server, esp: type[ESP[Any]] = Parcel, **options: Any) -> AnymailBackend:
    class Backend(AnymailBackend):
        pass

    Backend.esp = esp
    return Backend(**{"transport": lambda **_: server, "retries": 2, **options})


def several(count: int, **attributes: Any) -> list[Any]:
    return [message(subject=str(n), **attributes) for n in range(count)]


def account(report: SendReport, messages: list[Any], server: Server) -> dict[str, list[str]]:
    """Check a report against what the server took; return the subjects by what became of them."""
    sent = [one.subject for one in report.sent]
    failed = [one.subject for one, _ in report.failed]
    untouched = [one.subject for one in report.not_attempted]
    assert sorted([*sent, *failed, *untouched]) == sorted(one.subject for one in messages), "each stands once"
    by_subject = {one.subject: one for one in messages}
    for subject in sent:
        assert subject in server.taken
        assert "sent" in by_subject[subject].anymail_status.status
    for one, error in report.failed:
        assert one.anymail_status.status == {"unknown"}
        assert isinstance(error, AnymailAPIError)
        assert (error.sent, error.retryable) == (None, False)
    for subject in untouched:
        status = by_subject[subject].anymail_status
        assert (status.status, status.recipients, status.esp_response) == (None, {}, None)
        assert subject not in server.began
    return {"sent": sent, "unknown": failed, "untouched": untouched}


@pytest.fixture
def announced() -> Iterator[list[str]]:
    subjects: list[str] = []

    def receive(message: Any, **kwargs: Any) -> None:
        subjects.append(message.subject)

    post_send.connect(receive)
    yield subjects
    post_send.disconnect(receive)


def no_more_calls(server: Server) -> bool:
    before = len(server.began)
    time.sleep(0.15)
    return len(server.began) == before


class TestTimeLimits:
    @pytest.mark.parametrize("concurrency", [1, 4])
    @pytest.mark.parametrize("esp", [Parcel, Parcels])
    def test_in_a_run(self, server: Server, announced: list[str], esp: type[ESP[Any]], concurrency: int) -> None:
        server.pause = lambda subject: 0.05
        messages = several(100)
        begun = time.monotonic()
        with time_limit(0.3), pytest.raises(TimeLimit) as raised:
            backend(server, esp, concurrency=concurrency).send_messages(messages)
        assert time.monotonic() - begun < 3
        found = account(raised.value.report, messages, server)  # type: ignore[attr-defined]
        assert found["sent"]
        assert found["untouched"]
        assert announced == found["sent"]
        assert no_more_calls(server)

    def test_a_call_that_does_not_end(self, server: Server) -> None:
        server.pause = lambda subject: 30.0 if subject == "3" else 0.0
        messages = several(30)
        begun = time.monotonic()
        with time_limit(0.2), pytest.raises(TimeLimit) as raised:
            backend(server, concurrency=4).send_messages(messages)
        assert time.monotonic() - begun < 3
        assert account(raised.value.report, messages, server)["unknown"] == ["3"]  # type: ignore[attr-defined]

    def test_one_message(self, server: Server) -> None:
        server.pause = lambda subject: 5.0
        [one] = messages = several(1)
        with time_limit(0.1), pytest.raises(TimeLimit) as raised:
            backend(server).send_messages(messages)
        assert server.began == ["0"], "it is not repeated"
        assert account(raised.value.report, messages, server)["unknown"] == ["0"]  # type: ignore[attr-defined]
        assert one.anymail_status.status == {"unknown"}

    def test_while_it_waits_for_a_rate_limit(self, server: Server) -> None:
        server.answer = lambda: answer(429, {"error": "Slow down"}, headers={"Retry-After": "30"})
        messages = several(10)
        for concurrency in (1, 4):
            server.began.clear()
            with time_limit(0.2), pytest.raises(TimeLimit) as raised:
                backend(server, concurrency=concurrency).send_messages(messages)
            report = raised.value.report  # type: ignore[attr-defined]
            assert {one.subject for one in report.not_attempted} == {one.subject for one in messages}
            assert (report.sent, report.failed) == ([], [])
            assert no_more_calls(server)

    def test_while_a_message_is_prepared(self, server: Server) -> None:
        def dawdle(message: Any, **kwargs: Any) -> None:
            if message.subject == "7":
                time.sleep(5)

        pre_send.connect(dawdle)
        messages = several(12)
        try:
            with time_limit(0.2), pytest.raises(TimeLimit) as raised:
                backend(server, concurrency=2).send_messages(messages)
        finally:
            pre_send.disconnect(dawdle)
        found = account(raised.value.report, messages, server)  # type: ignore[attr-defined]
        assert set(found["untouched"]) >= {"7", "8", "9", "10", "11"}

    @pytest.mark.parametrize("concurrency", [1, 4])
    def test_while_post_send_is_received(self, server: Server, concurrency: int) -> None:
        """Django keeps what a receiver raises; a time limit is none of its."""

        def dawdle(message: Any, **kwargs: Any) -> None:
            if message.subject == "2":
                time.sleep(5)

        post_send.connect(dawdle)
        messages = several(12)
        try:
            with time_limit(0.2), pytest.raises(TimeLimit) as raised:
                backend(server, concurrency=concurrency).send_messages(messages)
        finally:
            post_send.disconnect(dawdle)
        found = account(raised.value.report, messages, server)  # type: ignore[attr-defined]
        assert set(found["sent"]) >= {"0", "1", "2"}

    def test_between_the_calls_of_one_message(self, server: Server) -> None:
        server.pause = lambda subject: 0.15
        messages = several(2, to=["a@example.com", "b@example.com", "c@example.com"], merge_data={})
        with time_limit(0.2), pytest.raises(TimeLimit) as raised:
            backend(server, concurrency=2).send_messages(messages)
        report = raised.value.report  # type: ignore[attr-defined]
        assert report.partly_sent == messages
        for one in messages:
            words = [status.status for status in one.anymail_status.recipients.values()]
            assert words == ["sent", "sent", "failed"]
            assert list(one.anymail_status.errors) == ["c@example.com"]
        assert no_more_calls(server)


class TestOtherInterruptions:
    @pytest.mark.parametrize("concurrency", [1, 4])
    def test_a_source_that_raises(self, server: Server, announced: list[str], concurrency: int) -> None:
        messages = several(20)

        def source() -> Iterator[Any]:
            yield from messages
            raise LookupError("the database went away")

        with pytest.raises(LookupError) as raised:
            backend(server, concurrency=concurrency).send_messages(source())
        found = account(raised.value.report, messages, server)  # type: ignore[attr-defined]
        assert found["sent"] == announced
        assert set(found["sent"]) == set(server.taken)

    async def test_a_source_that_raises_asynchronously(self, server: Server) -> None:
        messages = several(20)

        def source() -> Iterator[Any]:
            yield from messages
            raise LookupError("the database went away")

        with pytest.raises(LookupError) as raised:
            await backend(server, concurrency=4).asend_messages(source())
        assert account(raised.value.report, messages, server)  # type: ignore[attr-defined]

    FOREIGN: tuple[type[BaseException], ...] = (KeyboardInterrupt, SystemExit, RuntimeError)

    @pytest.mark.parametrize("kind", FOREIGN)
    @pytest.mark.parametrize("concurrency", [1, 4])
    def test_what_a_transport_raises_and_is_no_outcome(
        self, server: Server, kind: type[BaseException], concurrency: int
    ) -> None:
        server.raises["5"] = kind("stop")
        server.pause = lambda subject: 0.002
        messages = several(40)
        with pytest.raises(kind) as raised:
            backend(server, concurrency=concurrency).send_messages(messages)
        found = account(raised.value.report, messages, server)  # type: ignore[attr-defined]
        assert found["unknown"] == ["5"]
        assert found["untouched"]

    def test_twice(self, server: Server) -> None:
        """Whoever interrupts again does not wait."""
        server.pause = lambda subject: 5.0
        messages = several(8)

        def interrupt(number: int, frame: Any) -> None:
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        begun = time.monotonic()
        try:
            with pytest.raises(KeyboardInterrupt) as raised:
                backend(server, concurrency=4).send_messages(messages)
            signal.setitimer(signal.ITIMER_REAL, 0)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert time.monotonic() - begun < 3
        found = account(raised.value.report, messages, server)  # type: ignore[attr-defined]
        assert len(found["unknown"]) == 4


class TestCancelled:
    async def test_a_timeout(self, server: Server, announced: list[str]) -> None:
        server.pause = lambda subject: 0.05
        messages = several(100)
        begun = time.monotonic()
        with pytest.raises(TimeoutError) as raised:
            async with asyncio.timeout(0.3):
                await backend(server, concurrency=4).asend_messages(messages)
        assert time.monotonic() - begun < 3
        cancelled = raised.value.__cause__ or raised.value.__context__
        found = account(cancelled.report, messages, server)  # type: ignore[union-attr]
        assert found["sent"]
        assert found["untouched"]
        assert announced == found["sent"]
        before = len(server.began)
        await asyncio.sleep(0.15)
        assert len(server.began) == before

    async def test_a_call_that_does_not_end(self, server: Server) -> None:
        server.pause = lambda subject: 30.0 if subject == "3" else 0.0
        messages = several(30)
        task = asyncio.create_task(backend(server, concurrency=4).asend_messages(messages))
        await asyncio.sleep(0.2)
        begun = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as raised:
            await task
        assert time.monotonic() - begun < 3
        assert account(raised.value.report, messages, server)["unknown"] == ["3"]  # type: ignore[attr-defined]
        assert len(asyncio.all_tasks()) == 1, "nothing is left behind"

    async def test_a_sibling_that_fails(self, server: Server) -> None:
        server.pause = lambda subject: 0.02
        messages = several(50)

        async def fail() -> None:
            await asyncio.sleep(0.1)
            raise LookupError

        async def both() -> None:
            async with asyncio.TaskGroup() as group:
                sending.append(group.create_task(backend(server, concurrency=2).asend_messages(messages)))
                group.create_task(fail())

        sending: list[asyncio.Task[int]] = []
        with pytest.raises(ExceptionGroup):
            await both()
        assert sending[0].cancelled()
        words = [one.anymail_status.status for one in messages]
        assert words.count({"sent"}) == len(server.taken)
        assert None in words

    async def test_one_message(self, server: Server) -> None:
        server.pause = lambda subject: 5.0
        [one] = messages = several(1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(backend(server).asend_messages(messages), 0.05)
        assert one.anymail_status.status == {"unknown"}

    async def test_while_it_waits_for_a_rate_limit(self, server: Server) -> None:
        server.answer = lambda: answer(429, {"error": "Slow down"}, headers={"Retry-After": "30"})
        messages = several(10)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(backend(server, concurrency=4).asend_messages(messages), 0.1)
        assert {one.anymail_status.status for one in messages} == {None}

    async def test_between_the_calls_of_one_message(self, server: Server) -> None:
        server.pause = lambda subject: 0.15
        [one, _] = messages = several(2, to=["a@example.com", "b@example.com", "c@example.com"], merge_data={})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(backend(server, concurrency=2).asend_messages(messages), 0.2)
        words = [status.status for status in one.anymail_status.recipients.values()]
        assert words == ["sent", "sent", "failed"]


class TestWhatInterrupts:
    def test_by_kind(self) -> None:
        for error in (KeyboardInterrupt(), SystemExit(), asyncio.CancelledError(), GeneratorExit()):
            assert interrupts(error)
        for error in (ValueError(), AnymailAPIError(), TimeoutError()):
            assert not interrupts(error)

    def test_by_name(self) -> None:
        # As RQ raises it into another thread, without a signal.
        soft = type("SoftTimeLimitExceeded", (Exception,), {})
        job = type("JobTimeoutException", (type("BaseTimeoutException", (Exception,), {}),), {})
        assert interrupts(soft())
        assert interrupts(job())

    def test_by_where_it_was_raised(self) -> None:
        class Penalty:
            def handle(self, number: int, frame: Any) -> None:
                raise TimeLimit

        before = signal.signal(signal.SIGALRM, Penalty().handle)
        try:
            with pytest.raises(TimeLimit) as raised:
                signal.raise_signal(signal.SIGALRM)
            assert interrupts(raised.value)
        finally:
            signal.signal(signal.SIGALRM, before)
        with pytest.raises(TimeLimit) as raised:
            raise TimeLimit
        assert not interrupts(raised.value)


# Where a process is when it sends: in the program, with what it prints at the end.
ENDINGS: dict[str, str] = {
    "at exit": """
        import atexit
        atexit.register(send)
    """,
    "a thread that outlives the program": """
        import threading, time
        threading.Thread(target=lambda: (time.sleep(0.3), send())).start()
    """,
    "a pool's worker": """
        from concurrent.futures import ThreadPoolExecutor
        ThreadPoolExecutor(1).submit(lambda: (time.sleep(0.3), send()))
    """,
    "a finalizer of multiprocessing": """
        import multiprocessing
        def work():
            send()
        multiprocessing.get_context("fork").Process(target=work).start()
    """,
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
def test_sending_while_the_interpreter_ends(ending: str) -> None:
    program = f"""
        import sys, time
        sys.path[:0] = {[str(Path(__file__).parent.parent)]!r}
        import django
        from django.conf import settings
        settings.configure(ANYMAIL={{}})
        django.setup()
        from anymail.backends.postmark import EmailBackend
        from support import answer, json_of, message

        EmailBackend.esp.coalescing = None

        class Server:
            def __init__(self, **ignored): pass
            def send(self, request):
                time.sleep(0.01)
                one = {{"ErrorCode": 0, "Message": "OK", "MessageID": "i"}}
                asked = json_of(request)
                return answer(200, [one] * len(asked) if isinstance(asked, list) else one)

        def send():
            messages = [message(subject=str(n)) for n in range(12)]
            print(EmailBackend(server_token="t", transport=Server).send_messages(messages), flush=True)

        {textwrap.indent(textwrap.dedent(ending), " " * 8).strip()}
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.stdout, done.stderr) == ("12\n", "")


def test_no_thread_is_left(server: Server) -> None:
    before = threading.active_count()
    server.pause = lambda subject: 0.002
    backend(server, concurrency=8).send_messages(several(40))
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
