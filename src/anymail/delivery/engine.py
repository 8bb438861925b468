"""Many messages: prepared in the caller's thread, coalesced, sent side by side, and accounted for."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

from django.core.mail import EmailMessage

from anymail.conf import SendOptions, conceal_extra, secret_extras
from anymail.delivery.calls import Caller
from anymail.delivery.report import SendReport
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

logger = logging.getLogger("anymail")


@dataclasses.dataclass(slots=True)
class Prepared:
    """A message that is ready for its ESP."""

    message: EmailMessage
    mail: OutgoingMail


@dataclasses.dataclass(slots=True)
class Result:
    """What one call said of one message: its recipients' statuses, or an error; neither if it was not made."""

    prepared: Prepared
    recipients: RecipientStatuses | None = None
    error: Exception | None = None
    response: Response | None = None


class Run:
    """One ``send_messages``: what its calls share."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        #: Set by the first failure that the next call would meet too.
        self.stopped = False

    def done(self, job: list[Prepared], value: Any, response: Response | None) -> list[Result]:
        """The results of a call that was answered."""
        results = [
            Result(prepared, error=one, response=response)
            if isinstance(one, Exception)
            else Result(prepared, one, response=response)
            for prepared, one in zip(job, [value] if len(job) == 1 else value, strict=True)
        ]
        for result in results:
            self._note(result.error)
        return results

    def failed(self, job: list[Prepared], error: Exception) -> list[Result]:
        """The results of a call that failed: an error of its own for each message, since each names its message."""
        self._note(error)
        return [Result(prepared, error=_copy(error) if len(job) > 1 else error) for prepared in job]

    def _note(self, error: Exception | None) -> None:
        if isinstance(error, AnymailAPIError) and error.category in COMMON_CAUSES:
            self.stopped = True


class Group:
    """The messages that are waiting to share a call."""

    def __init__(self, esp: ESP[Any]) -> None:
        self._esp = esp
        self._key: Hashable | None = None
        self._messages = self._bytes = 0
        self.members: list[Prepared] = []

    def has_room_for(self, one: Prepared) -> bool:
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

    def add(self, one: Prepared) -> None:
        if not self.members and self._esp.coalescing:
            self._key = self._esp.batch_key(one.mail)
        self._messages += _messages(one.mail)
        self._bytes += one.mail.size
        self.members.append(one)

    def take(self) -> list[Prepared]:
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
        """Send, and report. No error of a message is raised here, but found in the report."""
        report = SendReport()
        if isinstance(messages, list) and len(messages) == 1:
            # What send_mail does; what follows is for many.
            self._send_one(messages[0], report)
            return report
        source = iter(messages)
        waiting = Group(self.esp)
        jobs = self._coalesced(self._prepare_each(source, report), waiting)
        run = Run(self._caller())
        first = next(jobs, None)
        second = next(jobs, None) if first and self.options.concurrency > 1 else None
        if first and second is None:
            # One call at a time needs no threads.
            job: list[Prepared] | None = first
            while job:
                self._record_all(self._run(run, job), job, report)
                job = None if run.stopped else next(jobs, None)
        elif first and second:
            with ThreadPoolExecutor(self.options.concurrency, thread_name_prefix="anymail") as pool:
                pending = deque((job, pool.submit(self._run, run, job)) for job in (first, second))
                while pending:
                    # Up to twice as many as run: while the oldest is waited for, no thread is idle. Prepared several
                    # at a time, they cost less.
                    if not run.stopped and len(pending) <= self.options.concurrency:
                        for job in islice(jobs, self.options.concurrency):
                            pending.append((job, pool.submit(self._run, run, job)))
                    job, future = pending.popleft()
                    self._record_all(future.result(), job, report)
        if run.stopped:
            self._leave(messages, source, waiting, report)
        return report

    def _send_one(self, message: EmailMessage, report: SendReport) -> None:
        prepared = self._prepare(message, report)
        if prepared is not None:
            job = [prepared]
            self._record_all(self._run(Run(self._caller()), job), job, report)

    async def asend_messages(self, messages: Iterable[EmailMessage]) -> SendReport:
        """``send_messages``, natively asynchronous: receivers and calls are awaited in the caller's event loop."""
        report = SendReport()
        source = iter(messages)
        waiting = Group(self.esp)
        run = Run(self._caller())
        gate = asyncio.Semaphore(self.options.concurrency)
        pending: deque[tuple[list[Prepared], asyncio.Task[list[Result] | None]]] = deque()

        def start() -> None:
            job = waiting.take()
            pending.append((job, asyncio.create_task(self._arun(run, job, gate))))

        async def record_oldest() -> None:
            job, task = pending.popleft()
            await self._arecord_all(await task, job, report)

        try:
            for message in source:
                prepared = await self._aprepare(message, report)
                if prepared is None:
                    continue
                if not waiting.has_room_for(prepared):
                    start()
                waiting.add(prepared)
                while pending and (pending[0][1].done() or len(pending) >= 2 * self.options.concurrency):
                    await record_oldest()
                if run.stopped:
                    break
            if waiting.members and not run.stopped:
                start()
            while pending:
                await record_oldest()
        finally:
            for _, task in pending:
                task.cancel()
        if run.stopped:
            self._leave(messages, source, waiting, report)
        return report

    def _caller(self) -> Caller:
        transport = transport_for(self.options.transport, self.options.requests_timeout)
        return Caller(self.esp, transport, self.options)

    # Preparing: in the caller's thread, where receivers of pre_send run.

    def _prepare_each(self, source: Iterator[EmailMessage], report: SendReport) -> Iterator[Prepared]:
        for message in source:
            prepared = self._prepare(message, report)
            if prepared is not None:
                yield prepared

    def _prepare(self, message: EmailMessage, report: SendReport) -> Prepared | None:
        try:
            message.anymail_status = AnymailStatus()  # type: ignore[attr-defined]
            if pre_send.receivers:
                pre_send.send(type(self.backend), message=message, esp_name=self.esp.name)
            return self._normalise(message)
        except AnymailCancelSend:
            return None
        except Exception as error:
            self._fail(report, message, error)
            return None

    async def _aprepare(self, message: EmailMessage, report: SendReport) -> Prepared | None:
        try:
            message.anymail_status = AnymailStatus()  # type: ignore[attr-defined]
            await pre_send.asend(type(self.backend), message=message, esp_name=self.esp.name)
            return self._normalise(message)
        except AnymailCancelSend:
            return None
        except Exception as error:
            self._fail(report, message, error)
            return None

    def _normalise(self, message: EmailMessage) -> Prepared | None:
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
        return Prepared(message, mail) if mail.recipients else None

    def _coalesced(self, prepared: Iterable[Prepared], waiting: Group) -> Iterator[list[Prepared]]:
        """What goes into each call: neighbours that may share one do."""
        for one in prepared:
            job = None if waiting.has_room_for(one) else waiting.take()
            waiting.add(one)
            if job:
                yield job
        if waiting.members:
            yield waiting.take()

    # Calling: in a thread of the pool, or a task. None: no call was made, because of an earlier failure.

    def _run(self, run: Run, job: list[Prepared]) -> list[Result] | None:
        if run.stopped:
            return None
        try:
            value, response = run.caller.run(self._flow(job))
        except Exception as error:
            if _one_spoils_all(job, error):
                return [result for one in job for result in self._run(run, [one]) or [Result(one)]]
            return run.failed(job, error)
        return run.done(job, value, response)

    async def _arun(self, run: Run, job: list[Prepared], gate: asyncio.Semaphore) -> list[Result] | None:
        async with gate:
            return await self._acall(run, job)

    async def _acall(self, run: Run, job: list[Prepared]) -> list[Result] | None:
        if run.stopped:
            return None
        try:
            value, response = await run.caller.arun(self._flow(job))
        except Exception as error:
            if _one_spoils_all(job, error):
                return [result for one in job for result in await self._acall(run, [one]) or [Result(one)]]
            return run.failed(job, error)
        return run.done(job, value, response)

    def _flow(self, job: list[Prepared]) -> Flow[Any]:
        if len(job) == 1:
            return self.esp.deliver(job[0].mail)
        return self.esp.deliver_many([prepared.mail for prepared in job])

    # Recording: in the caller's thread, where receivers of post_send run.

    def _record_all(self, results: list[Result] | None, job: list[Prepared], report: SendReport) -> None:
        """Write down what became of the messages of one call."""
        for result in results if results is not None else map(Result, job):
            if self._record(result) and post_send.receivers:
                for receiver, answer in post_send.send_robust(type(self.backend), **self._announcement(result)):
                    _log_receiver(receiver, answer)
            self._conclude(result, report)

    async def _arecord_all(self, results: list[Result] | None, job: list[Prepared], report: SendReport) -> None:
        for result in results if results is not None else map(Result, job):
            if self._record(result) and post_send.receivers:
                announcement = self._announcement(result)
                for receiver, answer in await post_send.asend_robust(type(self.backend), **announcement):
                    _log_receiver(receiver, answer)
            self._conclude(result, report)

    def _record(self, result: Result) -> bool:
        """Fill in the message's ``anymail_status``; return whether the ESP took the message."""
        status = result.prepared.message.anymail_status  # type: ignore[attr-defined]
        if result.recipients is not None:
            status.record(result.recipients, result.response)
            return True
        error = result.error
        status.esp_response = getattr(error, "response", None)
        if isinstance(error, AnymailAPIError) and error.sent is not False:
            # Whoever looks here must not take it for one that was never tried.
            unknown = error.statuses or all_recipients(result.prepared.mail.recipients, "unknown")
            status.record(unknown, error.response)
        return False

    def _announcement(self, result: Result) -> dict[str, Any]:
        message = result.prepared.message
        return {"message": message, "status": message.anymail_status, "esp_name": self.esp.name}  # type: ignore[attr-defined]

    def _conclude(self, result: Result, report: SendReport) -> None:
        message, error = result.prepared.message, result.error
        if error is None and result.recipients is None:
            report.not_attempted.append(message)
            return
        if error is None and self._refused(result.recipients or {}):
            error = AnymailRecipientsRefused(
                f"{self.esp.name} refuses all recipients: {_listed(result)}. Remove them, or lift their suppression "
                "at the ESP; IGNORE_RECIPIENT_STATUS turns this error off.",
                response=result.response,
            )
        if error is None:
            report.add_sent(message)
        else:
            self._fail(report, message, error)

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

    def _leave(
        self, messages: Iterable[EmailMessage], source: Iterator[EmailMessage], waiting: Group, report: SendReport
    ) -> None:
        """Account for what no call was made for. An iterator is left where it is: the caller may go on with it."""
        report.leave(prepared.message for prepared in waiting.take())
        if messages is source:
            return
        for message in source:
            message.anymail_status = AnymailStatus()  # type: ignore[attr-defined]
            report.not_attempted.append(message)


def _messages(mail: OutgoingMail) -> int:
    """How many messages of its own a mail makes in a batch call."""
    return max(1, len(mail.to)) if mail.batch else 1


def _one_spoils_all(job: list[Prepared], error: Exception) -> bool:
    """Whether a shared call was refused for what may be the fault of one message in it."""
    if len(job) == 1:
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


def _listed(result: Result) -> str:
    bcc = {address.key for address in result.prepared.mail.bcc}
    shown = [f"{email} ({one.status})" for email, one in (result.recipients or {}).items() if email not in bcc]
    hidden = len(result.recipients or {}) - len(shown)
    return ", ".join([*shown[:10], *([f"{hidden} in bcc"] if hidden else [])])


def _log_receiver(receiver: Any, answer: Any) -> None:
    if isinstance(answer, Exception):
        logger.warning(
            "The post_send receiver %r failed; the message was sent all the same.", receiver, exc_info=answer
        )
