"""Many messages: order, coalescing, concurrency, and an honest account of each."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from anymail.backends.base import AnymailBackend
from anymail.conf import SendOptions
from anymail.delivery.report import SendReport
from anymail.esps.kit.sending import ESP, Coalescing
from anymail.exceptions import (
    AnymailAPIError,
    AnymailCancelSend,
    AnymailImproperlyInstalled,
    AnymailInvalidAddress,
    AnymailRecipientsRefused,
    AnymailSerializationError,
    AnymailTransportError,
    AnymailUnsupportedFeature,
)
from anymail.mail.message import OutgoingMail
from anymail.mail.status import AnymailRecipientStatus, RecipientStatuses, all_recipients
from anymail.mail.supports import Supports
from anymail.signals import post_send, pre_send
from anymail.wire import Flow, Request, Response
from support import answer, json_of, message


class Acme(ESP[SendOptions]):
    """A made-up ESP: the subject of a message says what becomes of it."""

    name = "Acme"
    slug = "acme"
    Options = SendOptions
    supports = Supports(tags=1, metadata=True)

    def deliver(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        response = yield Request.post("https://acme.example/one", headers={}, json=[mail.subject])
        [result] = self._results([mail], response)
        if isinstance(result, AnymailAPIError):
            raise result
        return result

    def deliver_many(self, mails: Any) -> Flow[list[RecipientStatuses | AnymailAPIError]]:
        response = yield Request.post("https://acme.example/many", headers={}, json=[mail.subject for mail in mails])
        return self._results(mails, response)

    def _results(self, mails: Any, response: Response) -> list[RecipientStatuses | AnymailAPIError]:
        statuses = self.read_json(response)
        return [
            AnymailAPIError("refused in the batch")
            if status == "error"
            else {address.key: AnymailRecipientStatus(f"id-{mail.subject}", status) for address in mail.recipients}
            for mail, status in zip(mails, statuses, strict=True)
        ]


class AcmeMany(Acme):
    """The same, with an endpoint for several messages."""

    coalescing = Coalescing(messages=3, bytes=1_000_000)

    def batch_key(self, mail: OutgoingMail) -> str | None:
        return None if mail.attachments else str(mail.metadata.get("stream", "main"))


class Server:
    """Acme's server as a transport: ``answers`` by subject, and what it was asked."""

    def __init__(self, **ignored: Any) -> None:
        self.asked: list[list[str]] = []
        self.answers: dict[str, Any] = {}
        self.in_flight = self.most_in_flight = 0
        self.pause = 0.0
        self._lock = threading.Lock()

    def send(self, request: Request) -> Response:
        with self._lock:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        if self.pause:
            threading.Event().wait(self.pause)
        return self._answer(request)

    async def asend(self, request: Request) -> Response:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(self.pause)
        return self._answer(request)

    def _answer(self, request: Request) -> Response:
        subjects = json_of(request)
        with self._lock:
            self.asked.append(subjects)
            self.in_flight -= 1
        for subject in subjects:
            found = self.answers.get(subject)
            if isinstance(found, Exception):
                raise found
            if isinstance(found, Response):
                return found
        return answer(200, [self.answers.get(subject, "sent") for subject in subjects])


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture(params=["sync", "async"])
def send(request: pytest.FixtureRequest, server: Server) -> Callable[..., SendReport]:
    """Send messages and return the report, whether or not an error is raised."""

    def go(messages: Any, esp: type[ESP[Any]] = Acme, **options: Any) -> SendReport:
        class Backend(AnymailBackend):
            pass

        Backend.esp = esp
        backend = Backend(**{"transport": lambda **_: server, "retries": 0, **options})
        try:
            if request.param == "sync":
                count = backend.send_messages(messages)
            else:
                count = asyncio.run(backend.asend_messages(messages))
        except Exception as error:
            report: SendReport = error.report  # type: ignore[attr-defined]
            return report
        return SendReport(sent_count=count)

    go.asynchronous = request.param == "async"  # type: ignore[attr-defined]
    return go


def several(count: int) -> list[Any]:
    return [message(subject=str(n)) for n in range(count)]


class TestAccount:
    def test_all_are_sent(self, send: Any) -> None:
        messages = several(5)
        assert send(messages).sent_count == 5
        assert [one.anymail_status.message_id for one in messages] == [f"id-{n}" for n in range(5)]

    def test_none(self, send: Any, server: Server) -> None:
        assert send([]).sent_count == 0
        assert send([message(to=[])]).sent_count == 0
        assert server.asked == []

    def test_any_iterable(self, send: Any) -> None:
        assert send(message(subject=str(n)) for n in range(20)).sent_count == 20

    OWN_ACCOUNT: dict[str, tuple[dict[str, Any], type[Exception]]] = {
        "address": ({"to": ["ana@@example.net"]}, AnymailInvalidAddress),
        "unsupported": ({"tags": ["a", "b"]}, AnymailUnsupportedFeature),
        "serialisation": ({"metadata": {"a": 1}, "merge_global_data": 7}, AnymailSerializationError),
        "bare string": ({"cc": "ana@example.net"}, TypeError),
        "line break": ({"subject": "a\nb"}, ValueError),
    }

    @pytest.mark.parametrize(("wrong", "error"), OWN_ACCOUNT.values(), ids=OWN_ACCOUNT.keys())
    def test_a_bad_message_stops_no_other(self, send: Any, wrong: dict[str, Any], error: type[Exception]) -> None:
        messages = several(5)
        messages[2] = message(**{"subject": "2", **wrong})
        report = send(messages)
        assert report.sent == [messages[0], messages[1], messages[3], messages[4]]
        [(failed, found)] = report.failed
        assert failed is messages[2]
        assert isinstance(found, error)
        assert report.not_attempted == []
        assert messages[2].anymail_status.status is None

    def test_the_esps_refusal_stops_no_other(self, send: Any, server: Server) -> None:
        server.answers = {"1": answer(422, "bad"), "3": answer(400, "bad")}
        report = send(several(5))
        assert [one.subject for one in report.sent] == ["0", "2", "4"]
        assert [one.subject for one, _ in report.failed] == ["1", "3"]
        status = report.failed[0][0].anymail_status
        assert (status.status, status.recipients, status.esp_response.status_code) == (None, {}, 422)

    COMMON: dict[str, Any] = {
        "credentials": answer(401),
        "forbidden": answer(403),
        "its fault": answer(500),
        "unreachable": AnymailTransportError("refused", sent=False, retryable=True),
        "lost": AnymailTransportError("lost", category="timeout", sent=None),
        "quota": answer(402),
        "too many": answer(429),
    }

    @pytest.mark.parametrize("outcome", COMMON.values(), ids=COMMON.keys())
    def test_what_the_next_would_meet_too_starts_no_further_call(self, send: Any, server: Server, outcome: Any) -> None:
        server.answers = {"1": outcome}
        messages = several(6)
        report = send(messages, concurrency=1)
        assert server.asked[:2] == [["0"], ["1"]]
        assert report.sent == messages[:1]
        assert [one for one, _ in report.failed] == [messages[1]]
        assert {id(one) for one in report.not_attempted} == {id(one) for one in messages[2:]}
        assert len(server.asked) == 2
        for one in messages[2:]:
            assert (one.anymail_status.status, one.anymail_status.recipients) == (None, {})

    def test_what_is_in_flight_is_accounted_for(self, send: Any, server: Server) -> None:
        server.answers, server.pause = {"0": answer(401)}, 0.01
        messages = several(60)
        report = send(messages, concurrency=4)
        everything = [*report.sent, *(one for one, _ in report.failed), *report.not_attempted]
        assert sorted(int(one.subject) for one in everything) == list(range(60))
        assert len(server.asked) < 20

    def test_an_iterator_can_be_gone_on_with(self, send: Any, server: Server) -> None:
        server.answers = {"1": answer(401)}
        source = iter(several(30))
        report = send(source, concurrency=1)
        begun = [*report.sent, *(one for one, _ in report.failed), *report.not_attempted]
        assert sorted(int(one.subject) for one in [*begun, *source]) == list(range(30))

    def test_a_lost_reply_leaves_unknown(self, send: Any, server: Server) -> None:
        server.answers = {"0": AnymailTransportError("lost", category="timeout", sent=None)}
        [one] = messages = several(1)
        report = send(messages)
        assert one.anymail_status.status == {"unknown"}
        assert one.anymail_status.recipients == {"ana@example.net": (None, "unknown")}
        assert report.failed[0][1].sent is None

    def test_an_answer_without_sense_leaves_unknown(self, send: Any, server: Server) -> None:
        server.answers = {"0": answer(200, "<html>")}
        [one] = messages = several(1)
        report = send(messages)
        assert one.anymail_status.status == {"unknown"}
        assert report.failed[0][1].sent is True
        assert one.anymail_status.esp_response.text == "<html>"

    def test_an_answer_that_breaks_its_reader_leaves_unknown_too(self, send: Any, server: Server) -> None:
        # A list is expected, one status for each message.
        server.answers = {"0": answer(200, 7)}
        [one] = messages = several(1)
        error = send(messages).failed[0][1]
        assert isinstance(error, AnymailAPIError)
        assert (error.sent, error.category) == (True, "unreadable")
        assert isinstance(error.__cause__, TypeError)
        assert one.anymail_status.status == {"unknown"}

    def test_errors_name_the_esp_and_carry_the_message(self, send: Any, server: Server) -> None:
        server.answers = {"1": answer(422, "No such template"), "2": answer(422, "No such sender")}
        report = send(
            [
                message(subject="1", to=["ana@example.net", "bo@example.org"], bcc=["x@example.com"]),
                message(subject="2"),
            ]
        )
        first, second = (str(error) for _, error in report.failed)
        assert first == (
            "Acme answered HTTP 422: No such template. The message was not sent. Correct the message: sent again "
            "as it is, it would be refused again."
        )
        assert second == first.replace("template", "sender")
        for one, error in report.failed:
            assert error.email_message is one
            assert (error.esp_name, error.status_code) == ("Acme", 422)
            assert isinstance(error.backend, AnymailBackend)


class TestRecipients:
    def test_all_refused_is_an_error(self, send: Any, server: Server) -> None:
        server.answers = {"0": "rejected"}
        report = send(several(2))
        [(failed, error)] = report.failed
        assert isinstance(error, AnymailRecipientsRefused)
        assert "Acme refuses all recipients (1 rejected)" in str(error)
        assert failed.anymail_status.status == {"rejected"}
        assert len(report.sent) == 1

    def test_no_address_is_shown(self, send: Any, server: Server) -> None:
        server.answers = {"0": "invalid"}
        report = send([message(subject="0", bcc=["secret@example.com"])])
        assert "@" not in str(report.failed[0][1])
        assert "(2 invalid)" in str(report.failed[0][1])

    def test_it_can_be_ignored(self, send: Any, server: Server) -> None:
        server.answers = {"0": "rejected"}
        assert send(several(1), ignore_recipient_status=True).sent_count == 1


class TestUnsupported:
    def test_all_of_it_is_named_at_once(self, send: Any, server: Server) -> None:
        report = send([message(tags=["a", "b"], send_at=1_800_000_000, template_id="t", track_opens=False)])
        error = report.failed[0][1]
        assert set(error.unsupported) == {"multiple tags", "send_at", "template_id", "track_opens"}
        assert all(what in str(error) for what in error.unsupported)
        assert server.asked == []

    def test_it_can_be_left_out(self, send: Any) -> None:
        one = message(tags=["a", "b"], send_at=1_800_000_000)
        assert send([one], ignore_unsupported_features=True).sent_count == 1


class TestCoalescing:
    def test_neighbours_share_a_call(self, send: Any, server: Server) -> None:
        messages = several(7)
        assert send(messages, AcmeMany, concurrency=1).sent_count == 7
        assert server.asked == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
        assert [one.anymail_status.message_id for one in messages] == [f"id-{n}" for n in range(7)]

    def test_what_must_not_share_does_not(self, send: Any, server: Server) -> None:
        messages = several(5)
        messages[1].attach("a.txt", "x", "text/plain")
        messages[4].metadata = {"stream": "other"}
        assert send(messages, AcmeMany, concurrency=1).sent_count == 5
        assert server.asked == [["0"], ["1"], ["2", "3"], ["4"]]

    def test_bytes_are_limited(self, send: Any, server: Server) -> None:
        messages = [message(subject=str(n), body="x" * 400_000) for n in range(4)]
        assert send(messages, AcmeMany, concurrency=1).sent_count == 4
        assert server.asked == [["0", "1"], ["2", "3"]]

    def test_one_items_failure_is_its_own(self, send: Any, server: Server) -> None:
        server.answers = {"1": "error"}
        report = send(several(3), AcmeMany)
        assert [one.subject for one in report.sent] == ["0", "2"]
        [(failed, error)] = report.failed
        assert (failed.subject, error.email_message) == ("1", failed)

    def test_a_call_refused_for_one_is_made_for_each(self, send: Any, server: Server) -> None:
        server.answers = {"1": answer(422, "One of these is bad")}
        report = send(several(3), AcmeMany, concurrency=1)
        assert server.asked == [["0", "1", "2"], ["0"], ["1"], ["2"]]
        assert [one.subject for one in report.sent] == ["0", "2"]

    def test_a_call_refused_after_a_lost_reply_is_not_taken_apart(self, send: Any, server: Server) -> None:
        """With other keys its messages would be sent twice."""
        lost, outcomes = AnymailTransportError("lost", sent=None), iter(range(99))

        class Keyed(AcmeMany):
            def deliver_many(self, mails: Any) -> Flow[list[RecipientStatuses | AnymailAPIError]]:
                subjects = [mail.subject for mail in mails]
                request = Request.post("https://acme.example/", headers={}, json=subjects, idempotency_key="k")
                return self._results(mails, (yield request))

        class Once(dict[str, Any]):
            def get(self, subject: str, default: Any = None) -> Any:  # type: ignore[override]
                return (lost if next(outcomes) == 0 else answer(422, "bad")) if subject == "0" else default

        server.answers = Once()
        messages = several(3)
        report = send(messages, Keyed, retries=2)
        assert server.asked == [["0", "1", "2"]] * 2
        assert [(error.sent, error.retryable) for _, error in report.failed] == [(None, False)] * 3
        assert {one.anymail_status.status == {"unknown"} for one in messages} == {True}

    def test_a_lost_reply_is_unknown_for_all(self, send: Any, server: Server) -> None:
        server.answers = {"1": AnymailTransportError("lost", sent=None)}
        messages = several(3)
        report = send(messages, AcmeMany)
        assert len(server.asked) == 1
        assert [error.email_message for _, error in report.failed] == messages
        assert {one.anymail_status.status == {"unknown"} for one in messages} == {True}

    def test_a_batch_counts_as_many_as_its_recipients(self, send: Any, server: Server) -> None:
        messages = several(4)
        messages[1].to = ["a@example.com", "b@example.com"]
        messages[1].merge_data = {}
        assert send(messages, AcmeMany, concurrency=1).sent_count == 4
        assert server.asked == [["0", "1"], ["2", "3"]]


class Split(Acme):
    """Acme, with a call for each recipient; the address says what becomes of it."""

    slug = "split"

    def deliver(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        statuses: RecipientStatuses = {}
        for to in mail.to:
            try:
                self.read_json((yield Request.post("https://acme.example/one", headers={}, json=[to.username])))
            except AnymailAPIError as error:
                statuses |= all_recipients([to], "failed" if error.sent is False else "unknown", error=error)
            else:
                statuses |= all_recipients([to], "sent", "id")
        return statuses


class TestPartlySent:
    """A message that was refused for some of its recipients: raising would make the caller send it twice."""

    TO = ("ana@example.com", "bo@example.com", "cy@example.com")

    def test_it_counts_as_sent_and_says_so(
        self, send: Any, server: Server, caplog: pytest.LogCaptureFixture, receivers: Any
    ) -> None:
        server.answers = {"bo": answer(422, "bo@example.com is no customer"), "cy": answer(500, "Oops")}
        got: list[Any] = []
        receivers(post_send, lambda status, **kwargs: got.append(status.status))
        messages = [message(to=list(self.TO)), message(to=["ana@example.com"])]
        with caplog.at_level(logging.ERROR, "anymail"):
            assert send(messages, Split).sent_count == 2
        status = messages[0].anymail_status
        assert status.status == {"sent", "failed", "unknown"}
        assert not status.status.issubset({"sent", "queued"})
        assert {email: (error.status_code, error.sent) for email, error in status.errors.items()} == {
            "bo@example.com": (422, False),
            "cy@example.com": (500, None),
        }
        assert messages[1].anymail_status.errors == {}
        assert got == [status.status, {"sent"}]
        [line] = caplog.messages
        assert line.startswith("Acme took a message for 1 of its 3 recipients only (1 HTTP 422, 1 HTTP 500).")
        assert "@" not in line

    def test_the_report_lists_it(self, send: Any, server: Server) -> None:
        server.answers = {"bo": answer(422, "no"), "dee": answer(422, "no")}
        messages = [message(to=list(self.TO)), message(to=["ana@example.com"]), message(to=["dee@example.com"])]
        report = send(messages, Split)
        assert (report.partly_sent, report.partly_sent_count) == (messages[:1], 1)
        assert report.sent == messages[:2]

    def test_a_message_that_nobody_gets_is_an_error(self, send: Any, server: Server) -> None:
        server.answers = {name: answer(422, "no") for name in ("ana", "bo")} | {"cy": answer(500, "Oops")}
        one = message(to=list(self.TO))
        report = send([one], Split)
        [(_, error)] = report.failed
        assert (error.sent, error.status_code) == (None, 500), "the least certain of them"
        assert error.email_message is one
        assert one.anymail_status.status == {"failed", "unknown"}
        assert report.partly_sent == []


class TestConcurrency:
    @pytest.mark.parametrize("concurrency", [1, 3, 8])
    def test_as_many_calls_at_a_time_as_set(self, send: Any, server: Server, concurrency: int) -> None:
        server.pause = 0.005
        assert send(several(24), concurrency=concurrency).sent_count == 24
        assert server.most_in_flight == concurrency

    def test_memory_is_bounded(self, send: Any) -> None:
        alive: list[weakref.ref[Any]] = []
        most = [0]

        def source() -> Iterator[Any]:
            for number in range(200):
                one = message(subject=str(number))
                alive.append(weakref.ref(one))
                if number % 20 == 0:
                    gc.collect()
                    most[0] = max(most[0], sum(reference() is not None for reference in alive))
                yield one

        assert send(source(), concurrency=2).sent_count == 200
        assert most[0] < 30


@pytest.fixture
def receivers() -> Iterator[Callable[..., None]]:
    connected: list[tuple[Any, Any]] = []

    def connect(signal: Any, receiver: Any) -> None:
        signal.connect(receiver, weak=False)
        connected.append((signal, receiver))

    yield connect
    for signal, receiver in connected:
        signal.disconnect(receiver)


class TestSignals:
    def test_pre_send_may_change_the_message(self, send: Any, server: Server, receivers: Any) -> None:
        def change(sender: Any, message: Any, esp_name: str, **kwargs: Any) -> None:
            assert issubclass(sender, AnymailBackend)
            assert esp_name == "Acme"
            message.subject = "changed"

        receivers(pre_send, change)
        send(several(1))
        assert server.asked == [["changed"]]

    def test_pre_send_may_cancel(self, send: Any, server: Server, receivers: Any) -> None:
        def cancel(message: Any, **kwargs: Any) -> None:
            if message.subject == "1":
                raise AnymailCancelSend

        receivers(pre_send, cancel)
        messages = several(3)
        assert send(messages, concurrency=1).sent_count == 2
        assert server.asked == [["0"], ["2"]]
        assert messages[1].anymail_status.status is None

    def test_a_failing_pre_send_fails_its_message(self, send: Any, receivers: Any) -> None:
        def fail(message: Any, **kwargs: Any) -> None:
            if message.subject == "1":
                raise LookupError("the receiver failed")

        receivers(pre_send, fail)
        report = send(several(3))
        assert [one.subject for one in report.sent] == ["0", "2"]
        assert isinstance(report.failed[0][1], LookupError)

    def test_post_send_gets_the_status(self, send: Any, server: Server, receivers: Any) -> None:
        server.answers = {"0": "rejected", "1": answer(422)}
        got: list[Any] = []

        def receive(sender: Any, message: Any, status: Any, esp_name: str, **kwargs: Any) -> None:
            assert status is message.anymail_status
            got.append((message.subject, status.status, esp_name))

        receivers(post_send, receive)
        send(several(3))
        assert got == [("0", {"rejected"}, "Acme"), ("2", {"sent"}, "Acme")]

    def test_a_failing_post_send_is_logged_only(
        self, send: Any, receivers: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(**kwargs: Any) -> None:
            raise LookupError("the receiver failed")

        receivers(post_send, fail)
        with caplog.at_level(logging.WARNING, "anymail"):
            assert send(several(2)).sent_count == 2
        assert "sent all the same" in caplog.text

    def test_receivers_run_where_the_caller_is(self, send: Any, receivers: Any) -> None:
        threads: set[int] = set()

        def receive(**kwargs: Any) -> None:
            threads.add(threading.get_ident())

        async def areceive(**kwargs: Any) -> None:
            threads.add(threading.get_ident())

        for signal in (pre_send, post_send):
            receivers(signal, areceive if send.asynchronous else receive)
        send(several(10))
        assert len(threads) == 1


def test_an_error_can_be_pickled(send: Any, server: Server) -> None:
    import pickle

    server.answers = {"0": answer(422, "No such template")}
    report = send([message(subject="0")])
    again = pickle.loads(pickle.dumps(report.failed[0][1]))
    assert isinstance(again, AnymailAPIError)
    assert (again.sent, again.category, again.status_code) == (False, "invalid", 422)
    assert "No such template" in str(again)
    missing = AnymailImproperlyInstalled("botocore", "amazon-ses")
    assert str(pickle.loads(pickle.dumps(missing))) == str(missing)


class TestTexts:
    """What logs and error trackers show names no address, and is the same for alike failures."""

    WORDS = {
        "Not verified: shop@example.com.": "Not verified: (address).",
        "'Ana' <ana+x@mail.example.net>, bo@b.example": "'Ana' <(address)>, (address)",
        'mailto:ana@example.net; "a@b"': 'mailto:(address); "(address)"',
        "ümläut@exämple.de?": "(address)?",
        "https://user:pass@example.com/": "https://user:(address)/",
        "@ nothing @here": "@ nothing @here",
        "1 @ 2": "1 @ 2",
    }

    @pytest.mark.parametrize(("said", "shown"), WORDS.items())
    def test_addresses_are_left_out(self, said: str, shown: str) -> None:
        error = AnymailAPIError(said)
        assert str(error).startswith(shown)
        assert "@example" not in repr(error)

    def test_alike_failures_have_one_text(self, send: Any, server: Server) -> None:
        server.answers = {"0": answer(422, "No: ana@example.net"), "1": answer(422, "No: bo@example.org")}
        report = send([message(subject="0"), message(subject="1", to=["bo@example.org"])])
        assert len({str(error) for _, error in report.failed}) == 1
        assert len({repr(error) for _, error in report.failed}) == 1
        assert [error.response.text for _, error in report.failed] == ["No: ana@example.net", "No: bo@example.org"]

    def test_a_status_code_may_be_given(self) -> None:
        import pickle

        error = AnymailAPIError("text", status_code=500)
        assert (error.status_code, error.response) == (500, None)
        assert pickle.loads(pickle.dumps(error)).status_code == 500
        assert AnymailAPIError("text", response=Response(404)).status_code == 404
        assert AnymailAPIError("text").status_code is None


def test_a_failing_receiver_and_a_handler_that_mails_admins(server: Server, receivers: Any) -> None:
    """The warning is mailed through the same backend, whose receiver fails again: once, not for ever."""

    class Backend(AnymailBackend):
        esp = Acme

    mails = 0

    class MailAdmins(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            nonlocal mails
            mails += 1
            Backend(transport=lambda **_: server).send_messages([message(subject="admins")])

    def fail(**kwargs: Any) -> None:
        raise LookupError

    receivers(post_send, fail)
    handler, logger = MailAdmins(), logging.getLogger("anymail")
    logger.addHandler(handler)
    try:
        assert Backend(transport=lambda **_: server).send_messages(several(1)) == 1
        assert Backend(transport=lambda **_: server).send_messages(several(20)) == 20
    finally:
        logger.removeHandler(handler)
    assert mails == 21
