"""The example project at work with every ESP, on this machine alone: ``python -m example.demo [esp ...]``.

A sandbox stands in for the ESPs: it takes the project's mail over HTTP as strictly as they do, and calls the
project's webhooks. What comes back is compared with what must come back; the exit code is 1 if anything is amiss.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import django

from anymail.esps import REGISTRY, esp_class

if TYPE_CHECKING:
    from anymail.message import AnymailMessage
    from anymail.sandbox import SandboxServer
    from anymail.signals import AnymailTrackingEvent
    from example.mail import Person

SECRET = "example:correct-horse-battery-staple"
WRONG_SECRET = "example:wrong"
MERGING = ("merge_data", "merge_global_data", "merge_metadata", "merge_headers")
KINDS = ("delivered", "opened", "clicked", "bounced", "complained")

# What one looks up at the ESP: a template of one's own, and how its texts mark a merge field. Where nothing is said,
# a template has a name or a number, and fields are {{name}}.
TEMPLATES = {
    "mailtrap": "b81aabcd-1a1e-41cf-91b6-eca0254b3d96",
    "sendgrid": "d-5a4d6b0c5a4d6b0c5a4d6b0c5a4d6b0c",
    "unisender_go": "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d",
}
MERGE_FIELDS = {
    "brevo": "{{{{params.{}}}}}",
    "mailgun": "%recipient.{}%",
    "mailjet": "[[var:{}]]",
    "mandrill": "*|{}|*",
}
# What no ESP's API has, and what some ESPs pass over and others find: a list where an object belongs.
MISTAKES: tuple[dict[str, Any], ...] = ({"no_such_field": "anything"}, {"metadata": ["no object"]})
# The one setting, besides credentials, without which the invitation would lose its merge data.
MORE_SETTINGS = {"sendgrid": {"SENDGRID_MERGE_FIELD_FORMAT": "{{{{{}}}}}"}}


# The project as a web server.


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class QuietHandler(WSGIRequestHandler):
    def log_message(self, template: str, *args: Any) -> None:
        pass


class Website:
    """The example project over HTTP, in a thread. It remembers how webhook calls were answered."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, str]] = Counter()
        self.server = make_server("127.0.0.1", 0, self.application, server_class=Server, handler_class=QuietHandler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/anymail/"
        self.django: Any = None

    def start(self) -> None:
        from django.core.wsgi import get_wsgi_application

        self.django = get_wsgi_application()
        threading.Thread(target=self.server.serve_forever, name="example", daemon=True).start()

    def application(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        def remember(status: str, *rest: Any) -> Any:
            self.answers[environ["PATH_INFO"], status[:3]] += 1
            return start_response(status, *rest)

        answer: Iterable[bytes] = self.django(environ, remember)
        return answer

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


# Words for people.


class Screen:
    """Prints for people; in colour only on a terminal."""

    def __init__(self) -> None:
        self.colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.colour else text

    def bold(self, text: str) -> str:
        return self.paint("1", text)

    def good(self, text: str) -> str:
        return self.paint("32", text)

    def bad(self, text: str) -> str:
        return self.paint("31", text)

    def faint(self, text: str) -> str:
        return self.paint("2", text)

    def row(self, what: str, how: str, text: str) -> None:
        print(f"  {what:<14} {how:<8} {text}", flush=True)

    def more(self, words: Iterable[str], between: str = ", ") -> None:
        """A list, broken into lines, under the text of a row."""
        lines = [""]
        for word in words:
            if lines[-1] and len(lines[-1]) + len(word) > 84:
                lines[-1] += between.rstrip()
                lines.append("")
            lines[-1] += f"{between if lines[-1] else ''}{word}"
        for mark, line in zip(("→", *" " * len(lines)), lines, strict=False):
            if line:
                print(f"{' ' * 26}{self.faint(f'{mark} {line}')}", flush=True)


class Ledger(logging.Handler):
    """Collects what is logged: a library that warns has something to say, and the screen is not the place."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        # Django's word on each request that was refused: the website's answers are counted anyway.
        if record.name != "django.request" or record.levelno >= logging.ERROR:
            text = record.getMessage()
            if record.exc_info and record.exc_info[1]:
                text += f" {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
            self.records[f"{record.name}: {text}"] += 1

    def take(self) -> list[str]:
        found = [f"{text}{f' ({n} times)' if n > 1 else ''}" for text, n in self.records.items()]
        self.records.clear()
        return found


# The demo.

#: An event: which message it is said to be of, whose, and what.
Told = tuple[str | None, str, str]


@dataclass
class Report:
    """What happened with one ESP."""

    slug: str
    name: str
    sent: int = 0
    events: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


class Demo:
    """Sends everything through one ESP, and compares."""

    def __init__(self, slug: str, server: SandboxServer, website: Website, screen: Screen, ledger: Ledger) -> None:
        from anymail.features import features

        self.slug = slug
        self.supports = features()[slug]
        self.report = Report(slug, esp_class(slug).name)
        self.server, self.website, self.screen, self.ledger = server, website, screen, ledger
        self.told: list[Told] = []
        self.people = 0

    def hear(self, event: AnymailTrackingEvent, esp_name: str, **kwargs: Any) -> None:
        """A receiver of tracking, as the project has its own in example/receivers.py."""
        if esp_name != self.report.name:
            self.amiss("a webhook", f"an event of {esp_name}'s came")
        if event.timestamp is None or event.timestamp.tzinfo is None:
            self.amiss("a webhook", f"a {event.event_type} event has no aware timestamp")
        self.told.append((event.message_id, (event.recipient or "").lower(), event.event_type))

    def amiss(self, what: str, text: str) -> None:
        self.report.problems.append(f"{what.strip()}: {text}")

    def person(self, name: str, outcome: str = "") -> Person:
        """Someone who got no mail before; the beginning of the address says what becomes of all mail to it."""
        from example.mail import Person

        self.people += 1
        return Person(name, f"{outcome or unidecoded(name.split()[0])}.{self.slug}.{self.people}@example.net")

    def run(self) -> Report:
        from anymail.signals import tracking

        tracking.connect(self.hear)
        print(self.screen.bold(self.report.name))
        self.check_settings()
        for how in ("send()", "asend()"):
            for what, step in (
                ("rich message", self.order_confirmation),
                ("batch", self.invitation),
                ("template", self.receipt),
            ):
                try:
                    step(what, how)
                except Exception as error:
                    self.screen.row(what, how, self.screen.bad(f"{type(error).__name__}: {error}"))
                    self.amiss(f"{what}, {how}", f"{type(error).__name__}: {error}")
                    self.server.sandbox.wait()
                    self.told.clear()
        self.refused()
        self.suppressed()
        self.look_back()
        tracking.disconnect(self.hear)
        print()
        return self.report

    # The steps.

    def check_settings(self) -> None:
        """What ``manage.py check`` says of this ESP."""
        from django.core.checks import run_checks

        for one in run_checks():
            self.amiss("manage.py check", str(one))

    def order_confirmation(self, what: str, how: str) -> None:
        from example.mail import order_confirmation

        people = [self.person("Zoë Ærø"), self.person("José Muñoz", "complain"), self.person("Archive", "bounce")]
        self.send(what, how, [order_confirmation(self.supports, *people)])

    def invitation(self, what: str, how: str) -> None:
        from django.conf import settings

        from example.mail import invitation, plain_invitation

        people = [self.person("Ana Núñez"), self.person("Bert", "bounce")]
        leave_out = ((), ("merge_headers",), ("merge_data",), ("merge_headers", "merge_data"))
        forms = (invitation(self.supports, people, settings.MERGE_FIELD, without) for without in leave_out)
        fallback = [plain_invitation(self.supports, person) for person in people]
        if self.send_first(what, how, ([form] for form in forms if form), fallback):
            self.check_deliveries(f"{what}, {how}", people)

    def receipt(self, what: str, how: str) -> None:
        from django.conf import settings

        from example.mail import receipt

        people = [self.person("Ana Núñez"), self.person("Carla", "complain")]
        forms = [
            [form for form in (receipt(self.supports, group, settings.TEMPLATE_ID) for group in groups) if form]
            for groups in ([people], [[person] for person in people])
        ]
        self.send_first(what, how, forms)

    def refused(self) -> None:
        """A request with a mistake in it: the sandbox is as strict as the ESP, and the error says what to do."""
        from anymail.exceptions import AnymailAPIError
        from example.mail import order_confirmation

        what, how = "wrong request", "send()"
        for mistake in MISTAKES:
            message = order_confirmation(self.supports, self.person("Ana Núñez"))
            message.esp_extra = mistake
            try:
                self.send(what, how, [message])
            except AnymailAPIError as error:
                words = (str(error).partition(" answered ")[2] or str(error)).partition(" The message was not sent")[0]
                self.screen.row(what, how, f"refused, category {error.category}:")
                self.screen.more(words.split(" "), between=" ")
                if error.sent is not False or error.category != "invalid":
                    self.amiss(what, f"sent={error.sent}, category={error.category}: {error}")
                self.settle(what, Counter())
                return
            self.screen.row("", "", self.screen.faint("this ESP passes over fields that it does not know"))
        self.amiss(what, "it was accepted")

    def suppressed(self) -> None:
        """Who bounced gets no more mail: see ``leave_out_suppressed`` in example/receivers.py."""
        from example.mail import plain_invitation
        from example.models import Suppressed

        known = Suppressed.objects.filter(reason="bounced", address__contains=f".{self.slug}.").first()
        if known is None:
            self.amiss("suppressed", "no address is suppressed, though some bounced")
            return
        from example.mail import Person

        sent = plain_invitation(self.supports, Person("Bert", known.address)).send()
        self.screen.row("suppressed", "send()", f"{known.address} bounced before: not sent")
        if sent:
            self.amiss("suppressed", f"{known.address} got mail all the same")
        self.settle("suppressed", Counter())

    def look_back(self) -> None:
        """The webhooks' answers, the project's delivery log, and what was logged."""
        from example.models import LogEntry

        causes = [
            f"{path}: {times} webhook calls were answered {status}"
            for (path, status), times in self.website.answers.items()
            if status != "200"
        ]
        causes += [f"logged: {line}" for line in self.ledger.take()]
        # What explains the rest comes first.
        self.report.problems[:0] = causes
        self.website.answers.clear()
        logged = LogEntry.objects.filter(esp=self.report.name, kind="event").count()
        if logged != self.report.events.total():
            self.amiss("delivery log", f"{logged} events are in it, of {self.report.events.total()}")

    # Sending, and comparing.

    def send_first(
        self,
        what: str,
        how: str,
        forms: Iterable[list[AnymailMessage]],
        fallback: list[AnymailMessage] | None = None,
    ) -> bool:
        """Send the first form that this ESP can express; return whether there was one."""
        from anymail.exceptions import AnymailUnsupportedFeature

        seen = ""
        for messages in forms:
            try:
                if messages:
                    self.send(what, how, messages)
                    return True
            except AnymailUnsupportedFeature as error:
                # Raised before anything was sent.
                text = str(error).rpartition(f"{self.report.name} does not support ")[2]
                why = text.partition(". Change the message")[0].partition(", unless")[0].partition(": send each")[0]
                if why != seen:
                    self.screen.row(what, how, self.screen.faint(f"not supported: {why}"))
                seen = why
        if not seen:
            self.screen.row(what, how, self.screen.faint("not supported"))
        if fallback:
            self.send("  one by one", how, fallback)
        return False

    def send(self, what: str, how: str, messages: list[AnymailMessage]) -> None:
        expected: Counter[Told] = Counter()
        for message in messages:
            recipients = [parse(str(one)) for one in message.recipients()]
            count = message.send() if how == "send()" else asyncio.run(message.asend())
            status = message.anymail_status
            if count != 1:
                self.amiss(f"{what}, {how}", f"{count} messages were counted as sent")
            self.report.sent += count
            missing = [one for one in recipients if one not in status.recipients]
            if missing:
                self.amiss(f"{what}, {how}", f"no status for {', '.join(missing)}")
            words = Counter(one.status for one in status.recipients.values())
            for bad in set(words) - {"sent", "queued"}:
                self.amiss(f"{what}, {how}", f"a status is {bad!r}")
            ids = {one.message_id for one in status.recipients.values()}
            shown = f"{next(iter(ids))}" if len(ids) == 1 else f"{len(ids)} message ids"
            if merged := [name for name in MERGING if getattr(message, name, None)]:
                shown += self.screen.faint(f", with {', '.join(merged)}")
            self.screen.row(what, how, f"{self.screen.good(', '.join(f'{n} {w}' for w, n in words.items()))}, {shown}")
            for address in recipients:
                one = status.recipients.get(address)
                expected.update((one.message_id if one else None, address, kind) for kind in self.outcome(address))
        self.settle(f"{what}, {how}", expected)

    def outcome(self, address: str) -> Iterator[str]:
        """The events that must come of mail to this address."""
        from anymail.sandbox.server import outcome

        return (kind for kind in outcome(address) if kind in self.server.sandbox.esp(self.slug).events)

    def settle(self, what: str, expected: Counter[Told]) -> None:
        """Wait for the events, show them, and compare them with what was expected."""
        self.server.sandbox.wait()
        told, self.told = self.told, []
        self.screen.more(f"{kind} {address.partition('.')[0]}" for _, address, kind in told)
        self.report.events.update(kind for _, _, kind in told)
        for difference in differences(expected, Counter(told)):
            self.amiss(what, difference)

    def check_deliveries(self, what: str, people: list[Person]) -> None:
        """Each got a message of their own, and with merge data their own name in it."""
        deliveries = {one.recipient.lower(): one for _, one in self.server.sandbox.store.deliveries(self.slug)}
        for person in people:
            delivery = deliveries.get(person.address)
            if delivery is None:
                self.amiss(what, f"{person.address} got no message")
            elif any(other.address in f"{delivery.to} {delivery.cc}" for other in people if other is not person):
                self.amiss(what, f"{person.address} sees the others: {delivery.to}")
            elif f"Dear {person.name}," not in delivery.text and "Dear customer," not in delivery.text:
                self.amiss(what, f"the message to {person.address} was not merged: {delivery.text[:40]!r}")


def differences(expected: Counter[Told], told: Counter[Told]) -> Iterator[str]:
    """What is missing among the events, what is of another message, and what nobody expected."""
    left = Counter(told)
    for (message_id, address, kind), times in expected.items():
        for _ in range(times):
            same = (one for one in left if left[one] and one[1:] == (address, kind))
            found = min(same, key=lambda one: one[0] != message_id, default=None)
            if found is None:
                yield f"no {kind} event came for {address}"
                continue
            left[found] -= 1
            # Where the ESP gave no id, none can be compared.
            if message_id is not None and found[0] != message_id:
                yield f"the {kind} event for {address} is of message {found[0]!r}, not {message_id!r}"
    for (message_id, address, kind), times in left.items():
        if times:
            yield f"an unexpected {kind} event came for {address!r} (message {message_id!r})"


def unidecoded(name: str) -> str:
    """Without accents: not every ESP takes them before the @."""
    from unicodedata import normalize

    return normalize("NFKD", name).encode("ascii", "ignore").decode().lower()


def parse(address: str) -> str:
    from email.utils import parseaddr

    return parseaddr(address)[1]


# From settings to summary.


def prepare(server: SandboxServer, slugs: list[str], database: Path) -> None:
    """Set the environment as one would for the project, and make the database."""
    given: dict[str, Any] = {**server.settings(*slugs), "WEBHOOK_SECRET": SECRET}
    for slug in slugs:
        given |= MORE_SETTINGS.get(slug, {})
    for name in [name for name in os.environ if name.startswith("ANYMAIL_")]:
        del os.environ[name]
    os.environ.update(
        {f"ANYMAIL_{name}": one if isinstance(one, str) else json.dumps(one) for name, one in given.items()}
    )
    os.environ.update(DJANGO_SETTINGS_MODULE="example.settings", DATABASE=str(database), EMAIL_ESP=slugs[0])
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def settings_for(slug: str) -> Any:
    """The project set to this ESP. (Yours would be set to one, once, in its settings.)"""
    from django.test import override_settings

    backend = f"anymail.backends.{slug}.EmailBackend"
    mail: dict[str, Any] = (
        {"MAILERS": {"default": {"BACKEND": backend}}} if django.VERSION >= (6, 1) else {"EMAIL_BACKEND": backend}
    )
    merge_field = MERGE_FIELDS.get(slug, "{{{{{}}}}}")
    return override_settings(**mail, TEMPLATE_ID=TEMPLATES.get(slug, "1234"), MERGE_FIELD=merge_field)


def summary(reports: list[Report], seconds: float, screen: Screen) -> None:
    print(screen.bold(f"{'':<14}{'sent':>6}" + "".join(f"{kind:>12}" for kind in KINDS)))
    for report in reports:
        counts = "".join(f"{report.events[kind] or '–':>12}" for kind in KINDS)
        verdict = screen.bad(f"{len(report.problems)} amiss") if report.problems else screen.good("ok")
        print(f"{report.name:<14}{report.sent:>6}{counts}  {verdict}")
    problems = [(report.name, problem) for report in reports for problem in report.problems]
    for report in reports:
        if report.problems:
            print(f"\n{screen.bad(report.name)}")
            for problem in report.problems[:12]:
                print(f"  {problem}")
            if len(report.problems) > 12:
                print(f"  and {len(report.problems) - 12} more")
    sent, events = sum(one.sent for one in reports), sum(one.events.total() for one in reports)
    verdict = screen.bad(f"{len(problems)} things are amiss.") if problems else screen.good("All is well.")
    print(f"\n{sent} messages, {events} events, {len(reports)} ESPs in {seconds:.1f} seconds. {verdict}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m example.demo", description=__doc__)
    parser.add_argument("esps", nargs="*", metavar="esp", help=f"any of {', '.join(REGISTRY)}; default: all")
    parser.add_argument(
        "--wrong-secret", action="store_true", help="give the ESPs a wrong WEBHOOK_SECRET, to see the demo fail"
    )
    options = parser.parse_args(arguments)
    slugs = options.esps or list(REGISTRY)
    if unknown := [slug for slug in slugs if slug not in REGISTRY]:
        parser.error(f"there is no ESP {', '.join(unknown)}")

    # The one thing that the sandbox needs of the project is where its webhooks are.
    from anymail.sandbox import SandboxServer

    started = time.monotonic()
    screen, ledger, website = Screen(), Ledger(), Website()
    secret = WRONG_SECRET if options.wrong_secret else SECRET
    webhooks = website.url.replace("://", f"://{secret}@")
    reports: list[Report] = []
    with tempfile.TemporaryDirectory() as directory, SandboxServer(webhooks=webhooks) as server:
        prepare(server, slugs, Path(directory) / "example.sqlite3")
        logging.captureWarnings(True)
        logging.getLogger().addHandler(ledger)
        website.start()
        print(f"The sandbox is at {server.url}, the project's webhooks at {website.url}.\n")
        try:
            for slug in slugs:
                with settings_for(slug):
                    reports.append(Demo(slug, server, website, screen, ledger).run())
        finally:
            website.stop()
    summary(reports, time.monotonic() - started, screen)
    return 1 if any(report.problems for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
