"""Many messages: prepared in the caller's thread, coalesced, sent side by side, and accounted for."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any

from django.core.mail import EmailMessage

from anymail.conf import SendOptions, conceal_extra, secret_extras
from anymail.delivery.calls import Caller, Progress
from anymail.delivery.crew import Crew
from anymail.delivery.interruptions import interrupts
from anymail.delivery.logs import log
from anymail.delivery.report import SendReport
from anymail.delivery.telemetry import telemetry
from anymail.delivery.transport import transport_for
from anymail.esps.kit.sending import ESP
from anymail.exceptions import (
    COMMON_CAUSES,
    AnymailAPIError,
    AnymailCancelSend,
    AnymailError,
    AnymailRecipientsRefused,
    AnymailUnsupportedFeature,
)
from anymail.mail.message import OutgoingMail, outgoing_mail
from anymail.mail.status import AnymailStatus, RecipientStatuses, all_recipients
from anymail.mail.supports import check, fit
from anymail.signals import post_send, pre_send
from anymail.wire import Flow, Response

__all__ = ["Delivery"]

# How long calls in the air may take to come to an end once a run is interrupted.
_GRACE_SECONDS = 0.5


@dataclasses.dataclass(slots=True, eq=False)
class Item:
    """A message on its way, and what its call said: its recipients' statuses, or an error; neither if no call was
    made, or none has ended.
    """

    message: EmailMessage
    #: Its place among the messages of the run, from 0.
    number: int
    _mail: OutgoingMail | None = None
    progress: Progress | None = None
    recipients: RecipientStatuses | None = None
    error: Exception | None = None
    response: Response | None = None

    @property
    def mail(self) -> OutgoingMail:
        assert self._mail is not None
        return self._mail

    @mail.setter
    def mail(self, mail: OutgoingMail) -> None:
        self._mail = mail

    def in_the_air(self) -> bool:
        return self.recipients is None and self.error is None and self.progress is not None and self.progress.in_the_air

    def perhaps_taken(self) -> bool:
        """Whether its call has begun, has not ended, and may have been taken."""
        open_ = self.recipients is None and self.error is None
        return open_ and self.progress is not None and not self.progress.untouched()


class Run:
    """One ``send_messages``: what its calls share, and the messages that are not accounted for yet."""

    def __init__(self, caller: Caller, source: Iterator[EmailMessage]) -> None:
        self.caller = caller
        self.source = source
        self.report = SendReport()
        #: Set by the first failure that the next call would meet too.
        self.stopped = False
        #: How many messages were taken from the source, and those of them that the report does not have yet.
        self.begun = 0
        self.open: dict[Item, None] = {}

    def begin(self, message: EmailMessage) -> Item:
        item = Item(message, self.begun)
        self.open[item] = None
        self.begun = item.number + 1
        message.anymail_status = AnymailStatus()  # type: ignore[attr-defined]
        return item

    def drop(self, item: Item) -> None:
        """Forget a message: cancelled, without recipients, or accounted for."""
        self.open.pop(item, None)

    def done(self, job: list[Item], value: Any, response: Response | None) -> None:
        """Take over the results of a call that had a response."""
        for item, one in zip(job, [value] if len(job) == 1 else value, strict=True):
            item.response = response
            if isinstance(one, Exception):
                self._note(one)
                item.error = one
            else:
                item.recipients = one

    def failed(self, job: list[Item], error: Exception) -> None:
        """Take over a failure: an error of its own for each message, since each names its message."""
        self._note(error)
        for item in job:
            item.error = _copy(error) if len(job) > 1 else error

    def _note(self, error: Exception) -> None:
        if isinstance(error, AnymailAPIError) and error.category in COMMON_CAUSES:
            self.stopped = True


class Group:
    """The messages that are waiting to share a call."""

    def __init__(self, esp: ESP[Any]) -> None:
        self._esp = esp
        self._key: Hashable | None = None
        self._messages = self._bytes = 0
        self.members: list[Item] = []

    def has_room_for(self, one: Item) -> bool:
        if not self.members:
            return True
        limits = self._esp.coalescing
        return (
            limits is not None
            and self._key is not None
            and self._key == self._esp.batch_key(one.mail)
            and self._messages + _messages(one.mail) <= limits.messages
            and self._bytes + one.mail.size <= limits.bytes
        )

    def add(self, one: Item) -> None:
        if not self.members and self._esp.coalescing:
            self._key = self._esp.batch_key(one.mail)
        self._messages += _messages(one.mail)
        self._bytes += one.mail.size
        self.members.append(one)

    def take(self) -> list[Item]:
        members, self.members = self.members, []
        self._messages = self._bytes = 0
        return members


class Delivery:
    """Sends messages through one ESP. Made for each backend instance; all that is costly is shared beneath it."""

    def __init__(self, esp: ESP[Any], options: SendOptions, backend: Any) -> None:
        self.esp = esp
        self.options = options
        self._conceal = partial(conceal_extra, names=secret_extras(type(options)))
        self.backend = backend

    def send_messages(self, messages: Iterable[EmailMessage]) -> SendReport:
        """Send, and report. No error of a message is raised here, but found in the report.

        An exception from outside (a time limit, Ctrl-C, a source that raises) passes, with the report as its
        ``report``: no call begins any more, and every message has its truth.
        """
        run = self._run(messages)
        with telemetry.sending(self.esp.name) as sending:
            crew: Crew[Item] | None = None
            try:
                if isinstance(messages, list) and len(messages) == 1:
                    # What send_mail does; what follows is for many.
                    self._send_one(next(run.source), run)
                else:
                    crew = Crew(lambda job: self._call(run, job), self.options.concurrency)
                    run.caller.stop_at(crew.stop)
                    self._send_many(run, crew)
                self._leave(messages, run)
            except BaseException as interruption:
                self._settle(messages, run, crew, interruption)
                raise
            finally:
                if crew is not None:
                    crew.dismiss()
                sending.end(run.report)
        return run.report

    def _send_one(self, message: EmailMessage, run: Run) -> None:
        item = self._prepare(message, run)
        if item is not None:
            job = [item]
            self._call(run, job)
            self._record(job, run)

    def _send_many(self, run: Run, crew: Crew[Item]) -> None:
        prepared = filter(None, (self._prepare(message, run) for message in run.source))
        jobs = self._coalesced(prepared)
        first = next(jobs, None)
        second = next(jobs, None) if first and self.options.concurrency > 1 else None
        if first is None or second is None:
            # One call at a time needs no threads.
            job = first
            while job:
                self._call(run, job)
                self._record(job, run)
                job = None if run.stopped else next(jobs, None)
            return
        pending = deque((crew.give(first), crew.give(second)))
        while pending:
            # Up to twice as many as run: while the oldest is waited for, no thread is idle. Prepared several at a
            # time, they cost less.
            if not run.stopped and len(pending) <= self.options.concurrency:
                pending.extend(crew.give(job) for job in islice(jobs, self.options.concurrency))
            self._record(crew.wait_for(pending.popleft()), run)

    async def asend_messages(self, messages: Iterable[EmailMessage]) -> SendReport:
        """``send_messages``, natively asynchronous: receivers and calls are awaited in the caller's event loop."""
        run = self._run(messages)
        with telemetry.sending(self.esp.name) as sending:
            tasks: deque[tuple[list[Item], asyncio.Task[None]]] = deque()
            stop = threading.Event()
            run.caller.stop_at(stop)
            try:
                if isinstance(messages, list) and len(messages) == 1:
                    item = await self._aprepare(next(run.source), run)
                    if item is not None:
                        await self._acall(run, [item])
                        await self._arecord([item], run)
                else:
                    await self._asend_many(run, tasks)
                self._leave(messages, run)
            except BaseException as interruption:
                stop.set()
                await self._asettle(messages, run, [task for _, task in tasks], interruption)
                raise
            finally:
                sending.end(run.report)
        return run.report

    async def _asend_many(self, run: Run, tasks: deque[tuple[list[Item], asyncio.Task[None]]]) -> None:
        waiting = Group(self.esp)
        gate = asyncio.Semaphore(self.options.concurrency)

        async def call(job: list[Item]) -> None:
            async with gate:
                await self._acall(run, job)

        def start() -> None:
            job = waiting.take()
            tasks.append((job, asyncio.create_task(call(job))))

        async def record_oldest() -> None:
            job, task = tasks[0]
            if not task.done():
                # Unlike ``await task``, this leaves the call alone if this coroutine is cancelled meanwhile.
                await asyncio.wait([task])
            tasks.popleft()
            task.result()
            await self._arecord(job, run)

        for message in run.source:
            item = await self._aprepare(message, run)
            if item is None:
                continue
            if not waiting.has_room_for(item):
                start()
            waiting.add(item)
            while tasks and (tasks[0][1].done() or len(tasks) >= 2 * self.options.concurrency):
                await record_oldest()
            if run.stopped:
                break
        if waiting.members and not run.stopped:
            start()
        while tasks:
            await record_oldest()

    def _run(self, messages: Iterable[EmailMessage]) -> Run:
        transport = transport_for(self.options.transport, self.options.requests_timeout)
        return Run(Caller(self.esp, transport, self.options), iter(messages))

    # Preparing: in the caller's thread, where receivers of pre_send run.

    def _prepare(self, message: EmailMessage, run: Run) -> Item | None:
        item = run.begin(message)
        try:
            if pre_send.receivers:
                pre_send.send(type(self.backend), message=message, esp_name=self.esp.name)
            return self._normalised(item, run)
        except Exception as error:
            self._unprepared(item, run, error)
            return None

    async def _aprepare(self, message: EmailMessage, run: Run) -> Item | None:
        item = run.begin(message)
        try:
            if pre_send.receivers:
                await pre_send.asend(type(self.backend), message=message, esp_name=self.esp.name)
            return self._normalised(item, run)
        except Exception as error:
            self._unprepared(item, run, error)
            return None

    def _unprepared(self, item: Item, run: Run, error: Exception) -> None:
        if interrupts(error):
            raise error
        if not isinstance(error, AnymailCancelSend):
            self._fail(run.report, item.message, error)
        run.drop(item)

    def _normalised(self, item: Item, run: Run) -> Item | None:
        mail = self._normalise(item.message)
        if mail is None:
            run.drop(item)
            return None
        item.mail = mail
        return item

    def _normalise(self, message: EmailMessage) -> OutgoingMail | None:
        mail = outgoing_mail(
            message,
            defaults=self.options.send_defaults,
            idna=self.options.idna_encoder,
            conceal=self._conceal,
        )
        mail = fit(mail, self.esp.supports)
        if not mail.recipients:
            return None
        unsupported = [*check(mail, self.esp.supports), *self.esp.check(mail)]
        if unsupported:
            if not self.options.ignore_unsupported_features or any(one.without is None for one in unsupported):
                error = AnymailUnsupportedFeature(
                    f"{self.esp.name} does not support {', '.join(one.what for one in unsupported)}. "
                    "Change the message, or set IGNORE_UNSUPPORTED_FEATURES to send it without what can be left out."
                )
                error.unsupported = tuple(one.what for one in unsupported)
                raise error
            for one in unsupported:
                mail = dataclasses.replace(mail, **(one.without or {}))
        return mail if mail.recipients else None

    def _coalesced(self, items: Iterable[Item]) -> Iterator[list[Item]]:
        """What goes into each call: neighbours that may share one do."""
        waiting = Group(self.esp)
        for item in items:
            job = None if waiting.has_room_for(item) else waiting.take()
            waiting.add(item)
            if job:
                yield job
        if waiting.members:
            yield waiting.take()

    # Calling: in a thread of the crew, or a task. No call is made after a failure that it would meet too.

    def _call(self, run: Run, job: list[Item]) -> None:
        if run.stopped:
            return
        progress = _progress(job)
        try:
            value, response = run.caller.run(self._flow(job), progress)
            run.done(job, value, response)
        except Exception as error:
            if progress.in_the_air or interrupts(error):
                run.stopped = True
                raise
            if _one_spoils_all(job, error, progress):
                for item in job:
                    self._call(run, [item])
            else:
                run.failed(job, error)

    async def _acall(self, run: Run, job: list[Item]) -> None:
        if run.stopped:
            return
        progress = _progress(job)
        try:
            value, response = await run.caller.arun(self._flow(job), progress)
            run.done(job, value, response)
        except Exception as error:
            if progress.in_the_air or interrupts(error):
                run.stopped = True
                raise
            if _one_spoils_all(job, error, progress):
                for item in job:
                    await self._acall(run, [item])
            else:
                run.failed(job, error)

    def _flow(self, job: list[Item]) -> Flow[Any]:
        if len(job) == 1:
            return self.esp.deliver(job[0].mail)
        return self.esp.deliver_many([item.mail for item in job])

    # Recording: in the caller's thread, where receivers of post_send run.

    def _record(self, job: list[Item], run: Run) -> None:
        """Write down what became of the messages of one call."""
        for item in job:
            if self._conclude(item, run) and post_send.receivers:
                for receiver, result in post_send.send_robust(type(self.backend), **self._announcement(item)):
                    _note_receiver(receiver, result)

    async def _arecord(self, job: list[Item], run: Run) -> None:
        for item in job:
            if self._conclude(item, run) and post_send.receivers:
                for receiver, result in await post_send.asend_robust(type(self.backend), **self._announcement(item)):
                    _note_receiver(receiver, result)

    def _announcement(self, item: Item) -> dict[str, Any]:
        status = item.message.anymail_status  # type: ignore[attr-defined]
        return {"message": item.message, "status": status, "esp_name": self.esp.name}

    def _conclude(self, item: Item, run: Run) -> bool:
        """Fill in the message's ``anymail_status`` and account for it; return whether post_send is due, since the ESP
        told of its recipients.
        """
        message, error, recipients = item.message, item.error, item.recipients
        status: AnymailStatus = message.anymail_status  # type: ignore[attr-defined]
        if recipients is not None:
            status.record(recipients, item.response)
            error = self._error_for_all(status, item)
        elif error is None:
            run.report.not_attempted.append(message)
        else:
            status.esp_response = getattr(error, "response", None)
            if isinstance(error, AnymailAPIError) and error.sent is not False:
                # Whoever looks here must not take it for one that was never tried.
                unknown = error.statuses or all_recipients(item.mail.recipients, "unknown")
                status.record(unknown, error.response)
        if error is not None:
            self._fail(run.report, message, error)
        elif recipients is not None:
            run.report.add_sent(message, partly=bool(status.errors))
            if status.errors:
                _log_partly_sent(self.esp.name, status)
        run.drop(item)
        return recipients is not None

    def _error_for_all(self, status: AnymailStatus, item: Item) -> Exception | None:
        """The error to raise for a message that no recipient gets."""
        if status.errors and len(status.errors) == len(status.recipients):
            errors = list(status.errors.values())
            return next((one for one in errors if getattr(one, "sent", False) is not False), errors[0])
        if self._refused(status.recipients):
            return AnymailRecipientsRefused(
                f"{self.esp.name} refuses all recipients ({_counted(status.recipients)}): anymail_status says which. "
                "Remove them, or lift their suppression at the ESP; IGNORE_RECIPIENT_STATUS turns this error off.",
                response=item.response,
            )
        return None

    def _refused(self, recipients: RecipientStatuses) -> bool:
        if self.options.ignore_recipient_status or not recipients:
            return False
        return all(recipient.status in ("invalid", "rejected") for recipient in recipients.values())

    def _fail(self, report: SendReport, message: EmailMessage, error: Exception) -> None:
        if isinstance(error, AnymailError):
            error.esp_name = self.esp.name
            error.email_message = error.email_message or message
            error.backend = self.backend
        report.failed.append((message, error))

    def _leave(self, messages: Iterable[EmailMessage], run: Run) -> None:
        """Account for what no call was made for. An iterator is left where it is: the caller may go on with it."""
        for item in list(run.open):
            self._conclude(item, run)
        if run.stopped and run.source is not messages:
            self._leave_untouched(run.source, run)

    def _leave_untouched(self, messages: Iterable[EmailMessage], run: Run) -> None:
        for message in messages:
            message.anymail_status = AnymailStatus()  # type: ignore[attr-defined]
            run.report.not_attempted.append(message)
            run.begun += 1

    # Interrupted: every message gets its truth, within a second.

    def _settle(
        self, messages: Iterable[EmailMessage], run: Run, crew: Crew[Item] | None, interruption: BaseException
    ) -> None:
        run.stopped = True
        self._settle_halves(messages, run)
        with suppress(BaseException):  # whoever interrupts again wants no grace
            if crew is not None:
                crew.stop.set()
                deadline = time.monotonic() + _GRACE_SECONDS
                while any(item.in_the_air() for item in run.open) and time.monotonic() < deadline:
                    crew.wait(deadline - time.monotonic())
        with suppress(BaseException):
            for item in list(run.open):
                if item.recipients is not None:
                    self._record([item], run)
        self._settle_rest(messages, run, interruption)

    async def _asettle(
        self,
        messages: Iterable[EmailMessage],
        run: Run,
        tasks: list[asyncio.Task[None]],
        interruption: BaseException,
    ) -> None:
        run.stopped = True
        self._settle_halves(messages, run)
        with suppress(BaseException):
            in_the_air = [item for item in run.open if item.in_the_air()]
            if tasks and in_the_air:
                await asyncio.wait(tasks, timeout=_GRACE_SECONDS)
        for task in tasks:
            task.cancel()
        with suppress(BaseException):
            if tasks:
                await asyncio.wait(tasks, timeout=0.2)
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()  # it is told by the messages' statuses
        with suppress(BaseException):
            for item in list(run.open):
                if item.recipients is not None:
                    await self._arecord([item], run)
        self._settle_rest(messages, run, interruption)

    def _settle_halves(self, messages: Iterable[EmailMessage], run: Run) -> None:
        """The interruption may have struck between two steps that belong together."""
        run.report.amend()
        for item in list(run.open):
            run.begun = max(run.begun, item.number + 1)
            if run.report.has_just_got(item.message):
                run.drop(item)
        left = run.report.not_attempted[-1:]
        if left and isinstance(messages, Sequence) and list(messages[run.begun : run.begun + 1]) == left:
            run.begun += 1

    def _settle_rest(self, messages: Iterable[EmailMessage], run: Run, interruption: BaseException) -> None:
        for item in list(run.open):
            if item.perhaps_taken():
                item.error = AnymailAPIError(
                    "The run was interrupted while the call was in the air.", category="timeout", sent=None
                )
            self._conclude(item, run)
        if isinstance(messages, Sequence):
            self._leave_untouched(messages[run.begun :], run)
        with suppress(AttributeError, TypeError):
            interruption.report = run.report  # type: ignore[attr-defined]


def _progress(job: list[Item]) -> Progress:
    progress = Progress()
    for item in job:
        item.progress = progress
    return progress


def _messages(mail: OutgoingMail) -> int:
    """How many messages of its own a mail makes in a batch call."""
    return max(1, len(mail.to)) if mail.batch else 1


def _one_spoils_all(job: list[Item], error: Exception, progress: Progress) -> bool:
    """Whether a shared call was refused for what may be the fault of one message in it."""
    if len(job) == 1 or progress.perhaps_taken:
        return False
    if isinstance(error, AnymailAPIError):
        return error.category == "invalid" and error.sent is False
    return isinstance(error, AnymailError)


def _copy(error: Exception) -> Exception:
    if not isinstance(error, AnymailError):
        return error
    copy = type(error).__new__(type(error), *error.args)
    copy.args = error.args
    copy.__dict__.update(error.__dict__)
    copy.__cause__ = error.__cause__
    return copy


def _counted(recipients: RecipientStatuses) -> str:
    """How many recipients have each status."""
    words = [one.status or "unknown" for one in recipients.values()]
    return ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))


def _log_partly_sent(esp_name: str, status: AnymailStatus) -> None:
    kinds = [
        f"HTTP {error.status_code}" if error.status_code else str(getattr(error, "category", "an error"))
        for error in status.errors.values()
    ]
    log.error(
        "%s took a message for %d of its %d recipients only (%s). The others are in its anymail_status.errors; sent "
        "again as it is, it would go twice to those who have it.",
        esp_name,
        len(status.recipients) - len(status.errors),
        len(status.recipients),
        ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)),
    )


def _note_receiver(receiver: Any, result: Any) -> None:
    if not isinstance(result, Exception):
        return
    if interrupts(result):
        raise result
    log.warning("The post_send receiver %r failed; the message was sent all the same.", receiver, exc_info=result)
