"""A server that fails in every way, at random: nothing is sent twice, and no account is false.

``PYTHONPATH=tests python tests/delivery/test_faults.py 10000`` does the same at length, and prints what happened.
"""

from __future__ import annotations

import asyncio
import random
import re
import signal
import sys
import threading
import time
from collections import Counter
from typing import Any
from unittest import mock

import pytest

from anymail.backends.base import AnymailBackend
from anymail.delivery.calls import Caller
from anymail.delivery.report import SendReport
from anymail.esps.amazon_ses.sending import AmazonSES
from anymail.esps.brevo.sending import Brevo
from anymail.esps.kit.sending import ESP, Coalescing
from anymail.esps.mailgun.sending import Mailgun
from anymail.esps.postmark.sending import Postmark
from anymail.esps.resend.sending import Resend
from anymail.esps.sendgrid.sending import SendGrid
from anymail.esps.unisender_go.sending import UnisenderGo
from anymail.exceptions import AnymailAPIError, AnymailTransportError
from anymail.wire import Request, Response
from support import answer, message

SES: dict[str, Any] = {
    "client_params": {"region_name": "eu-west-1", "aws_access_key_id": "k", "aws_secret_access_key": "s"}
}
ESPS: dict[str, tuple[type[ESP[Any]], dict[str, Any]]] = {
    "Amazon SES": (AmazonSES, SES),
    "Brevo": (Brevo, {"api_key": "k"}),
    "Mailgun": (Mailgun, {"api_key": "k"}),
    "Postmark": (Postmark, {"server_token": "k"}),
    "Resend": (Resend, {"api_key": "k"}),
    "SendGrid": (SendGrid, {"api_key": "k"}),
    "Unisender Go": (UnisenderGo, {"api_key": "k", "api_url": "https://go.example/"}),
}
MARK = re.compile(rb"mark-(\d+)-")
PAGE = "<html><body>Bad gateway</body></html>"
HTML = {"Content-Type": "text/html"}


def _postmark(marks: list[int], batch: bool) -> Response:
    items = [{"ErrorCode": 0, "Message": "OK", "MessageID": f"id-{mark}"} for mark in marks]
    return answer(200, items if batch else items[0])


def _brevo(marks: list[int], batch: bool) -> Response:
    ids = [f"<id-{mark}>" for mark in marks]
    return answer(201, {"messageIds": ids} if batch else {"messageId": ids[0]})


def _resend(marks: list[int], batch: bool) -> Response:
    ids = [{"id": f"id-{mark}"} for mark in marks]
    return answer(200, {"data": ids} if batch else ids[0])


SUCCESS: dict[str, Any] = {
    "Amazon SES": lambda marks, batch: answer(200, {"MessageId": f"id-{marks[0]}"}),
    "Brevo": _brevo,
    "Mailgun": lambda marks, batch: answer(200, {"id": f"<id-{marks[0]}>", "message": "Queued. Thank you."}),
    "Postmark": _postmark,
    "Resend": _resend,
    "SendGrid": lambda marks, batch: Response(202, {"X-Message-Id": f"id-{marks[0]}"}, b""),
    "Unisender Go": lambda marks, batch: answer(
        200, {"status": "success", "job_id": "j", "emails": [f"to{mark}@example.net" for mark in marks]}
    ),
}
# What an ESP says of an idempotency key that it knows; Resend gives the first response again.
DUPLICATE: dict[str, Response] = {
    "Brevo": answer(400, {"code": "duplicate_request", "message": "Already sent"}),
    "Unisender Go": answer(400, {"status": "error", "code": 1573, "message": "idempotence_key is repeated"}),
}
LOST = ("no reply", "cut", "reset")


class FaultyServer:
    """An ESP's server, as a transport: knows what it took."""

    def __init__(self, name: str, rng: random.Random, faults: float) -> None:
        self.name = name
        self.rng = rng
        self.faults = faults
        #: Seconds before and after the message is taken.
        self.pause = 0.0
        self.taken: Counter[int] = Counter()
        self.fates: Counter[str] = Counter()
        self._keys: set[str] = set()
        self._lock = threading.Lock()

    def send(self, request: Request) -> Response:
        time.sleep(self.pause)
        try:
            with self._lock:
                return self._serve(request)
        finally:
            time.sleep(self.pause)

    async def asend(self, request: Request) -> Response:
        await asyncio.sleep(self.pause)
        try:
            return self._serve(request)
        finally:
            await asyncio.sleep(self.pause)

    def _serve(self, request: Request) -> Response:
        body = bytes(request.body)
        marks = list(dict.fromkeys(int(mark) for mark in MARK.findall(body)))
        assert marks, body
        fate = self.rng.choice(self.FATES) if self.rng.random() < self.faults else "fine"
        self.fates[fate] += 1
        return getattr(self, f"_{fate}")(request, marks)

    def _take(self, request: Request, marks: list[int]) -> Response:
        key = request.idempotency_key
        batch = "batch" in request.url or b"messageVersions" in bytes(request.body)
        if key is not None and key in self._keys:
            return DUPLICATE.get(self.name) or SUCCESS[self.name](marks, batch)
        if key is not None:
            self._keys.add(key)
        self.taken.update(marks)
        return SUCCESS[self.name](marks, batch)  # type: ignore[no-any-return]

    def _fine(self, request: Request, marks: list[int]) -> Response:
        return self._take(request, marks)

    def _refused(self, request: Request, marks: list[int]) -> Response:
        raise AnymailTransportError("connection refused", sent=False, retryable=True)

    def _lost_before(self, request: Request, marks: list[int]) -> Response:
        raise AnymailTransportError(self.rng.choice(LOST), category="timeout", sent=None)

    def _lost_after(self, request: Request, marks: list[int]) -> Response:
        self._take(request, marks)
        raise AnymailTransportError(self.rng.choice(LOST), category="network", sent=None)

    def _fault_before(self, request: Request, marks: list[int]) -> Response:
        return answer(self.rng.choice([408, 500, 502, 503, 504]), {"message": "fault"})

    def _fault_after(self, request: Request, marks: list[int]) -> Response:
        self._take(request, marks)
        return answer(self.rng.choice([408, 500, 502, 503, 504]), {"message": "fault"})

    def _page_before(self, request: Request, marks: list[int]) -> Response:
        return answer(self.rng.choice([302, 400, 422, 499, 500, 502, 503]), PAGE, HTML)

    def _page_after(self, request: Request, marks: list[int]) -> Response:
        self._take(request, marks)
        return answer(self.rng.choice([302, 400, 422, 499, 500, 502, 503]), PAGE, HTML)

    def _too_many(self, request: Request, marks: list[int]) -> Response:
        headers = self.rng.choice([{}, {"Retry-After": "2"}, {"Retry-After": "3600"}])
        return answer(429, self.rng.choice([PAGE, {"message": "slow down"}]), headers)

    def _turned_away(self, request: Request, marks: list[int]) -> Response:
        return answer(self.rng.choice([401, 403, 404, 413]), self.rng.choice([PAGE, {"message": "no"}]))

    def _bad_message(self, request: Request, marks: list[int]) -> Response:
        return answer(self.rng.choice([400, 422]), {"message": "no", "ErrorCode": 300, "Message": "no"})

    def _nonsense(self, request: Request, marks: list[int]) -> Response:
        self._take(request, marks)
        return answer(200, self.rng.choice([PAGE, "", "[", "{}", "7", '{"id": 7}', "[[]]", "null"]))

    FATES = (
        "refused", "lost_before", "lost_after", "fault_before", "fault_after", "page_before", "page_after", "too_many",
        "turned_away", "bad_message", "nonsense",
    )  # fmt: skip


class Limit(Exception):
    """Raised by the handler of a signal."""


class Storm:
    """Sends messages until all are sent or unknown, as a project would: again what was certainly not sent."""

    def __init__(
        self, name: str, seed: int, *, asynchronous: bool, kill: bool, coalesce: bool = True, faults: float = 0.3
    ) -> None:
        cls, options = ESPS[name]
        # Few in a call, so that there are many calls.
        coalescing = Coalescing(messages=5, bytes=1_000_000) if coalesce and cls.coalescing else None
        self.rng = random.Random(seed)
        self.server = FaultyServer(name, random.Random(seed + 1), faults)
        self.server.pause = 0.0005 if kill else 0.0
        self.asynchronous = asynchronous
        self.kill = kill
        self.rounds = 0
        self.ends: Counter[str] = Counter()

        class Backend(AnymailBackend):
            pass

        Backend.esp = type(cls.__name__, (cls,), {"coalescing": coalescing})
        self.backend = Backend(**{"transport": lambda **_: self.server, "concurrency": 4, **options})

    def run(self, count: int) -> None:
        left = [message(subject=f"mark-{n}-", body=f"mark-{n}-", to=[f"to{n}@example.net"]) for n in range(count)]
        while left:
            self.rounds += 1
            # Without grace, what is in the air stays there: unknown.
            with mock.patch("anymail.delivery.engine._GRACE_SECONDS", self.rng.choice([0, 0.5])):
                report = self._send(left)
            left = self._check(left, report)

    def _send(self, messages: list[Any]) -> SendReport:
        reports: list[SendReport] = []
        deliver, adeliver = self.backend._delivery.send_messages, self.backend._delivery.asend_messages
        if not self.kill:
            return asyncio.run(adeliver(messages)) if self.asynchronous else deliver(messages)
        if self.asynchronous:

            async def limited() -> None:
                task = asyncio.create_task(adeliver(messages))
                await asyncio.wait([task], timeout=self.rng.random() * 0.05)
                task.cancel()
                try:
                    reports.append(await task)
                except asyncio.CancelledError as error:
                    reports.append(error.report)  # type: ignore[attr-defined]

            asyncio.run(limited())
            return reports[0]

        def expire(number: int, frame: Any) -> None:
            raise Limit

        before = signal.signal(signal.SIGALRM, expire)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.001 + self.rng.random() * 0.05)
            reports.append(deliver(messages))
            signal.setitimer(signal.ITIMER_REAL, 0)
        except Limit as error:
            if hasattr(error, "report"):
                reports.append(error.report)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        return reports[0] if reports else _told_by_statuses(messages)

    def _check(self, messages: list[Any], report: SendReport) -> list[Any]:
        """Hold the report against what the server took; return what is to be sent again."""
        again = []
        taken = self.server.taken
        assert not [mark for mark, times in taken.items() if times > 1], "sent twice"
        sent, failed = report.sent, report.failed
        everything = [*sent, *(one for one, _ in failed), *report.not_attempted]
        assert Counter(map(id, everything)) == Counter(map(id, messages)), "each message stands once in the report"
        for one in sent:
            assert taken[_mark(one)] == 1, "sent, it says"
            assert one.anymail_status.status
            self.ends["sent"] += 1
        for one, error in failed:
            assert isinstance(error, AnymailAPIError), repr(error)
            if error.sent is False:
                assert taken[_mark(one)] == 0, f"not sent, it says: {error}"
                again.append(one)
            else:
                assert not error.retryable
                assert one.anymail_status.status == {"unknown"}
                self.ends["unknown"] += 1
        for one in report.not_attempted:
            assert taken[_mark(one)] == 0, "not attempted, it says"
            assert getattr(one, "anymail_status", None) is None or one.anymail_status.status is None
            again.append(one)
        return again


def _told_by_statuses(messages: list[Any]) -> SendReport:
    """The account of a run that was interrupted before it began or after it ended: the messages themselves have it."""
    report = SendReport()
    for one in messages:
        status = getattr(one, "anymail_status", None)
        if status is None or status.status is None:
            report.not_attempted.append(one)
        elif status.status == {"unknown"}:
            report.failed.append((one, AnymailAPIError("?", category="timeout", sent=None)))
        else:
            report.add_sent(one)
    return report


def _mark(one: Any) -> int:
    return int(one.subject.split("-")[1])


def _no_waiting() -> Any:
    def pause(self: Caller, seconds: float) -> bool:
        return self._stop is not None and self._stop.is_set()

    async def apause(self: Caller, seconds: float) -> bool:
        await asyncio.sleep(0)
        return self._stop is not None and self._stop.is_set()

    return mock.patch.multiple(Caller, _pause=pause, _apause=apause)


@pytest.mark.parametrize("kill", [False, True], ids=["left alone", "interrupted"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", ESPS)
def test_nothing_is_sent_twice_and_no_account_is_false(name: str, asynchronous: bool, kill: bool) -> None:
    with _no_waiting():
        storm = Storm(name, 20261125, asynchronous=asynchronous, kill=kill, faults=0.05 if kill else 0.3)
        storm.run(500)
    assert sum(storm.ends.values()) == 500
    assert storm.ends["sent"] > 100


def main(count: int) -> None:
    import django
    from django.conf import settings

    settings.configure(ANYMAIL={})
    django.setup()
    with _no_waiting():
        for name in ESPS:
            for asynchronous in (False, True):
                for kill in (False, True):
                    for coalesced in (True, False):
                        seed = time.time_ns() % 1_000_000
                        if coalesced and not ESPS[name][0].coalescing:
                            continue
                        storm = Storm(
                            name,
                            seed,
                            asynchronous=asynchronous,
                            kill=kill,
                            coalesce=coalesced,
                            faults=0.05 if kill else 0.3,
                        )
                        try:
                            storm.run(count)
                        except AssertionError:
                            print("seed", seed)  # noqa: T201
                            raise
                        kind = f"{'async' if asynchronous else 'sync'}{', interrupted' if kill else ''}"
                        kind += ", coalesced" if coalesced else ""
                        ends, fates = dict(storm.ends), dict(storm.server.fates)
                        print(f"{name} ({kind}): {ends} in {storm.rounds} runs; {fates}")  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]))
