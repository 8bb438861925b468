"""What the benchmarks share: how much is measured, how CPU is counted, and a row of the table."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int = 11
    #: Messages of a round, sent one by one.
    messages: int = 200
    #: Messages in one ``send_messages``.
    bulk: int = 1000
    #: Messages to a server that takes its time.
    waiting: int = 200
    delay: float = 0.05
    #: Bytes.
    attachment: int = 20_000_000
    imports: int = 9
    #: Webhook calls of a round.
    calls: int = 200


FULL = Size()
QUICK = Size(rounds=1, messages=3, bulk=12, waiting=20, delay=0.005, attachment=2_000_000, imports=1, calls=3)


@dataclass(frozen=True)
class Row:
    """One line of the table. ``target`` is the most that ``value`` should be; None where there is no aim."""

    what: str
    value: float
    target: float | None = None
    unit: str = "x"
    #: The figures behind the value.
    detail: str = ""


@dataclass(frozen=True)
class Compared:
    """CPU seconds of one piece of work and of its baseline, and how many times the second the first is."""

    cpu: float
    baseline: float
    ratio: float


def cpu_of(work: Callable[[], Any]) -> float:
    """The CPU seconds of this process, in all its threads, that some work takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def compare(
    rounds: int, work: Callable[[], Callable[[], Any]], baseline: Callable[[], Callable[[], Any]], *, times: float = 1
) -> Compared:
    """Measure work and baseline in turn, so that whatever else the machine does befalls both; take the medians.

    Each is given as a function that gets it ready, uncounted, and returns it. In a round the baseline is done
    ``1 / times`` as often as the work: its CPU is multiplied by ``times``.
    """
    work()()
    baseline()()
    pairs = []
    for _ in range(rounds):
        below = cpu_of(baseline()) * times
        pairs.append((cpu_of(work()), max(below, 1e-9)))
    return Compared(
        statistics.median(cpu for cpu, _ in pairs),
        statistics.median(below for _, below in pairs),
        statistics.median(cpu / below for cpu, below in pairs),
    )


def in_a_fresh_process(arguments: Sequence[str], environ: Mapping[str, str] | None = None) -> Any:
    """What a Python process of its own prints, read as JSON."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **(environ or {})}, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)
