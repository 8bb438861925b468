"""Threads that make the calls of one run."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Crew"]

ItemT = TypeVar("ItemT")


class Job(Generic[ItemT]):
    """Some items whose call is made by the crew."""

    __slots__ = ("finished", "items", "raised")

    def __init__(self, items: list[ItemT]) -> None:
        self.items = items
        self.finished = False
        self.raised: BaseException | None = None


class Crew(Generic[ItemT]):
    """Does ``work`` with one job after another, up to ``most`` at a time, each in a copy of the caller's context.

    A thread is added only when all others are busy. They end with the crew, and no process waits for them: whoever
    must know what becomes of a job waits for it. Where no thread can be started, as when the interpreter ends, the
    work is done in the caller's.
    """

    def __init__(self, work: Callable[[list[ItemT]], None], most: int) -> None:
        self._work = work
        self._most = most
        self._jobs: queue.SimpleQueue[Job[ItemT] | None] = queue.SimpleQueue()
        self._finished: queue.SimpleQueue[Job[ItemT]] = queue.SimpleQueue()
        self._threads = 0
        self._busy = 0
        #: Set when no further call may begin.
        self.stop = threading.Event()

    def give(self, items: list[ItemT]) -> Job[ItemT]:
        job = Job(items)
        while not self._finished.empty():
            self._finished.get()
            self._busy -= 1
        if self._busy >= self._threads < self._most:
            self._add_thread()
        if self._threads:
            self._busy += 1
            self._jobs.put(job)
        else:
            self._do(job)
        return job

    def wait_for(self, job: Job[ItemT]) -> list[ItemT]:
        """The items of a job, when it is done. Raises what the work raised."""
        while not job.finished:
            self._finished.get()
            self._busy -= 1
        if job.raised is not None:
            raise job.raised
        return job.items

    def wait(self, seconds: float) -> None:
        """Wait until any job is done, or so long."""
        try:
            self._finished.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return
        self._busy -= 1

    def dismiss(self) -> None:
        """Let the threads end when they have done what they are at."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _add_thread(self) -> None:
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(self._serve,), name="anymail", daemon=True)
        # Counted first: what interrupts the start leaves a thread behind, which is to be dismissed as well.
        self._threads += 1
        try:
            thread.start()
        except RuntimeError:
            self._threads -= 1
            self._most = self._threads
        except KeyError as error:
            # Interrupted at the wrong moment, Thread.start() trips over its own tidying up.
            raise error.__context__ or error from None

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._do(job)
            self._finished.put(job)
            del job

    def _do(self, job: Job[ItemT]) -> None:
        try:
            self._work(job.items)
        except BaseException as error:
            job.raised = error
        finally:
            job.finished = True
