"""A storm of webhook calls upon several processes, whose receivers fail, whose database fails, and which are killed.

As ESPs do, the storm sends again what was not answered 200. Afterwards the database says which events were handled how
often by which receiver. Run by itself it prints figures:

    PYTHONPATH=src:tests python -m webhooks.storm --calls 500 --database sqlite --cache redis://127.0.0.1:6399
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from base64 import b64decode, b64encode
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

TESTS = Path(__file__).resolve().parent.parent


@dataclass
class Storm:
    """How a storm is."""

    database: dict[str, Any]
    #: The URL of a Redis, or the name of a Django cache backend; empty: no shared memory.
    cache: str
    calls: int = 4
    items: int = 3
    workers: int = 3
    threads: int = 3
    #: The chances that a receiver raises, that its connection to the database breaks, that its process is killed.
    fails: float = 0.1
    breaks: float = 0.02
    kills: float = 0.0
    #: How many send a call at the same time.
    copies: int = 2
    seed: int = 1
    only: str = ""
    #: Seconds after which nobody sends again.
    limit: float = 120
    #: Calls of an earlier storm are remembered under its name.
    name: str = field(default_factory=lambda: uuid4().hex)
    #: Of the key with which this storm's calls are signed.
    certificates: dict[str, str] = field(default_factory=dict)


@dataclass
class Outcome:
    lost: list[Any] = field(default_factory=list)
    twice: list[Any] = field(default_factory=list)
    #: Of webhooks without a signature, whose ESP repeated a call that was handled, since no answer came.
    repeated: list[Any] = field(default_factory=list)
    events: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    killed: int = 0
    seconds: float = 0

    def __str__(self) -> str:
        return (
            f"{self.events} events in {self.seconds:.0f} s: {len(self.lost)} lost, {len(self.twice)} handled twice, "
            f"{len(self.repeated)} of unsigned calls without an answer; {self.killed} processes killed; "
            f"answers {dict(self.answers)}"
        )


# In a worker.


def serve(storm: Storm) -> None:
    """Take calls from standard input, a line each, and print the status of each answer."""
    _set_up(storm)
    from django.core.signals import request_finished, request_started
    from django.db import connections
    from django.test import RequestFactory
    from django.urls import resolve

    from anymail.signals import inbound, tracking
    from webhooks.calls import event_name

    chance = random.Random(f"{storm.seed} {os.getpid()}")
    here = threading.local()
    answering = threading.Lock()

    def receiver(name: str) -> Any:
        def receive(sender: Any, event: Any, **kwargs: Any) -> None:
            connection = connections["default"]
            if chance.random() < storm.breaks:
                connection.ensure_connection()
                connection.connection.close()
            with connection.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO handled (call_name, event, receiver) VALUES (%s, %s, %s)",
                    [here.name, event_name(event), name],
                )
            if chance.random() < storm.kills:
                os.kill(os.getpid(), signal.SIGKILL)
            if chance.random() < storm.fails:
                raise RuntimeError("the receiver failed")

        return receive

    receivers = [receiver("one"), receiver("two")]
    for one in receivers:
        tracking.connect(one)
        inbound.connect(one)

    def answer(line: str) -> None:
        call = json.loads(line)
        here.name = call["name"]
        request = RequestFactory(headers=call["headers"]).post(
            call["url"], b64decode(call["body"]), content_type=call["content_type"]
        )
        # As the handler of each request does.
        request_started.send(sender=None)
        try:
            match = resolve(call["url"])
            status = match.func(request, *match.args, **match.kwargs).status_code
        except Exception as error:
            status = 500
            if os.environ.get("STORM_DEBUG"):
                print(call["name"], repr(error)[:300], file=sys.stderr)  # noqa: T201
        finally:
            request_finished.send(sender=None)
        with answering:
            sys.stdout.write(f"{call['id']} {status}\n")
            sys.stdout.flush()

    with ThreadPoolExecutor(storm.threads) as pool:
        for line in sys.stdin:
            pool.submit(answer, line)


def _set_up(storm: Storm) -> Any:
    import logging

    import django
    from django.conf import settings

    sys.path[:0] = [str(TESTS), str(TESTS.parent / "src")]
    caches = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    if storm.cache:
        backend = "redis.RedisCache" if storm.cache.startswith("redis:") else storm.cache
        caches["calls"] = {
            "BACKEND": f"django.core.cache.backends.{backend}",
            "LOCATION": storm.cache,
            "KEY_PREFIX": storm.name,
        }
    settings.configure(
        SECRET_KEY="storm", ALLOWED_HOSTS=["*"], ROOT_URLCONF="urls", USE_TZ=True, CACHES=caches, ANYMAIL={},
        DATABASES={"default": {**storm.database, "ATOMIC_REQUESTS": True}},
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    )  # fmt: skip
    django.setup()
    logging.disable(logging.CRITICAL)
    from webhooks.calls import kinds, settings_of

    every = {name: kind for name, kind in kinds().items() if storm.only in name}
    anymail: dict[str, Any] = {}
    for name, kind in every.items():
        for setting, value in settings_of(kind).items():
            # Each ESP has a transport, and a secret, of its own.
            prefix = name.split()[0].upper()
            anymail[f"{prefix}_{setting}" if setting in ("TRANSPORT", "WEBHOOK_SECRET") else setting] = value
    if storm.cache:
        anymail["WEBHOOK_CACHE"] = "calls"
    if storm.certificates:
        anymail["AMAZON_SES_SNS_CERTIFICATES"] = storm.certificates
    storm.certificates = anymail.get("AMAZON_SES_SNS_CERTIFICATES", {})
    settings.ANYMAIL = anymail
    return every


# In the one that drives it.


class Worker:
    """A process that serves, and is started again when it is killed."""

    def __init__(self, storm: Storm) -> None:
        self.storm = storm
        self.killed = 0
        self._lock = threading.Lock()
        self._waiting: dict[int, list[Any]] = {}
        self._start()

    def _start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "webhooks.storm", "--serve", json.dumps(self.storm.__dict__)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=TESTS,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent / "src")])},
        )  # fmt: skip
        threading.Thread(target=self._listen, args=[self.process], daemon=True).start()

    def _listen(self, process: Any) -> None:
        for line in process.stdout:
            number, status = map(int, line.split())
            with self._lock:
                waiting = self._waiting.pop(number)
            waiting[1] = status
            waiting[0].set()
        with self._lock:
            if process.wait() == -signal.SIGKILL:
                self.killed += 1
                # No answer, for any of the calls that it had.
                for waiting in self._waiting.values():
                    waiting[0].set()
                self._waiting.clear()
                self._start()

    def post(self, call: dict[str, Any], number: int) -> int:
        """The status of the answer; 0 where there was none."""
        waiting: list[Any] = [threading.Event(), 0]
        with self._lock:
            self._waiting[number] = waiting
            try:
                self.process.stdin.write(json.dumps({**call, "id": number}) + "\n")  # type: ignore[union-attr]
                self.process.stdin.flush()  # type: ignore[union-attr]
            except BrokenPipeError:
                self._waiting.pop(number, None)
                return 0
        waiting[0].wait(60)
        return int(waiting[1])

    def stop(self) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait(30)


def run(storm: Storm) -> Outcome:
    """Drive a storm to its end."""
    kinds = _set_up(storm)
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS handled")
        cursor.execute("CREATE TABLE handled (call_name varchar(99), event varchar(9), receiver varchar(9))")
    chance = random.Random(storm.seed)
    calls = []
    expected: dict[tuple[str, str, str], int] = {}
    for name, kind in kinds.items():
        for number in range(storm.calls):
            made = kind.unlike(number, storm.items)
            call = {
                "name": f"{name} {number}", "url": made.url, "headers": made.headers,
                "body": b64encode(made.body).decode(), "content_type": made.content_type,
            }  # fmt: skip
            for index in range(storm.items if kind.many else 1):
                for receiver in ("one", "two"):
                    expected[call["name"], str(index), receiver] = 0
            # Where nothing is signed, an equal call after the first is a new one.
            calls += [call] * (storm.copies if kind.signed else 1)
    chance.shuffle(calls)
    workers = [Worker(storm) for _ in range(storm.workers)]
    numbers = iter(range(10**9))
    outcome = Outcome()
    start = time.monotonic()

    def send_until_taken(call: dict[str, Any]) -> None:
        pause = 0.01
        while time.monotonic() - start < storm.limit:
            status = random.choice(workers).post(call, next(numbers))
            outcome.answers[status] += 1
            if status == 200:
                return
            time.sleep(pause * random.random())
            pause = min(pause * 2, 2)

    with ThreadPoolExecutor(storm.workers * storm.threads * 2) as pool:
        list(pool.map(send_until_taken, calls))
    outcome.seconds = time.monotonic() - start
    for worker in workers:
        worker.stop()
    outcome.killed = sum(worker.killed for worker in workers)
    with connection.cursor() as cursor:
        cursor.execute("SELECT call_name, event, receiver FROM handled")
        for row in cursor.fetchall():
            expected[tuple(row)] += 1
    connection.close()
    outcome.events = len(expected) // 2
    outcome.lost = [name for name, times in expected.items() if times == 0]
    signed = {f"{name} {number}" for name, kind in kinds.items() if kind.signed for number in range(storm.calls)}
    more = [name for name, times in expected.items() if times > 1]
    outcome.twice = [name for name in more if name[0] in signed]
    outcome.repeated = [name for name in more if name[0] not in signed]
    return outcome


DATABASES: dict[str, dict[str, Any]] = {
    "sqlite": {
        "ENGINE": "django.db.backends.sqlite3", "NAME": "/tmp/anymail-storm.sqlite3",
        "OPTIONS": {"timeout": 30, "transaction_mode": "IMMEDIATE"},
    },
    "postgresql": {
        "ENGINE": "django.db.backends.postgresql", "NAME": "anymail_webhooks",
        "HOST": os.environ.get("PGHOST", "127.0.0.1"), "USER": os.environ.get("PGUSER", "postgres"),
        "PORT": os.environ.get("PGPORT", "5432"), "PASSWORD": os.environ.get("PGPASSWORD", ""),
    },
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve")
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("--cache", default="")
    for name in ("calls", "items", "workers", "threads", "copies", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Storm, name))
    for name in ("fails", "breaks", "kills", "limit"):
        parser.add_argument(f"--{name}", type=float, default=getattr(Storm, name))
    parser.add_argument("--only", default="")
    given = vars(parser.parse_args())
    serving = given.pop("serve")
    if serving:
        serve(Storm(**json.loads(serving)))
        return
    given["database"] = DATABASES[given["database"]]
    outcome = run(Storm(**given))
    print(outcome)  # noqa: T201
    for which in ("lost", "twice"):
        print(which, getattr(outcome, which)[:20])  # noqa: T201


if __name__ == "__main__":
    main()
