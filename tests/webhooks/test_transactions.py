"""What is remembered as handled is what was committed, on real databases with ATOMIC_REQUESTS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connections, transaction
from django.test import AsyncClient, Client, override_settings

from anymail.signals import tracking
from services import postgresql
from webhooks.calls import BASIC_AUTH, kinds, settings_of

KINDS = kinds()
SENDGRID = KINDS["sendgrid tracking"]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service)])
def database(request: pytest.FixtureRequest, tmp_path: Path, django_db_blocker: Any) -> Iterator[str]:
    """The alias of a database with ATOMIC_REQUESTS and an empty table."""
    sqlite = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "db")}
    config = sqlite if request.param == "sqlite" else postgresql()
    connections.settings["atomic"] = {**connections.settings["default"], **config, "ATOMIC_REQUESTS": True}
    with django_db_blocker.unblock():
        connection = connections["atomic"]
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS handled")
            cursor.execute("CREATE TABLE handled (recipient varchar(99), receiver varchar(9))")
        yield "atomic"
        connection.close()
    del connections.settings["atomic"]
    del connections["atomic"]


def write(alias: str, recipient: str, receiver: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute("INSERT INTO handled VALUES (%s, %s)", [recipient, receiver])


def rows(alias: str) -> list[tuple[str, str]]:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT recipient, receiver FROM handled ORDER BY receiver, recipient")
        return [tuple(row) for row in cursor.fetchall()]


@pytest.fixture
def receivers() -> Iterator[Callable[..., None]]:
    """Connects receivers of tracking, for the time of a test."""
    connected: list[Any] = []

    def connect(*given: Any) -> None:
        for one in given:
            tracking.connect(one)
            connected.append(one)

    yield connect
    for one in connected:
        tracking.disconnect(one)


def batch(*recipients: str) -> Any:
    return SENDGRID.call([{"email": one, "event": "open", "timestamp": 1772446820} for one in recipients])


A, B, C = "a@example.com", "b@example.com", "c@example.com"


@override_settings(ANYMAIL=settings_of(SENDGRID))
def test_one_failing_event_undoes_its_own_writes_and_no_others(
    client: Client, database: str, receivers: Callable[..., None]
) -> None:
    failing = {B}

    def first(event: Any, **kwargs: Any) -> None:
        write(database, event.recipient, "first")

    def second(event: Any, **kwargs: Any) -> None:
        write(database, event.recipient, "second")
        if event.recipient in failing:
            raise RuntimeError("the receiver failed")

    async def third(event: Any, **kwargs: Any) -> None:
        from asgiref.sync import sync_to_async

        await sync_to_async(write)(database, event.recipient, "third")

    receivers(first, second, third)
    client.raise_request_exception = False
    call = batch(A, B, C)
    assert call.post(client).status_code == 500
    assert rows(database) == [(one, receiver) for receiver in ("first", "second", "third") for one in (A, C)]
    failing.clear()
    assert call.post(client).status_code == 200
    assert rows(database) == [(one, receiver) for receiver in ("first", "second", "third") for one in (A, B, C)]
    assert call.post(client).status_code == 200
    assert len(rows(database)) == 9


@override_settings(ANYMAIL=settings_of(SENDGRID))
def test_an_event_whose_commit_fails_is_not_handled(
    client: Client, database: str, receivers: Callable[..., None]
) -> None:
    refused = {B}

    def receive(event: Any, **kwargs: Any) -> None:
        write(database, event.recipient, "one")
        if event.recipient in refused:
            connections[database].commit = fail  # type: ignore[method-assign]

    def fail() -> None:
        del connections[database].commit
        raise IntegrityError("a constraint that is checked at the end")

    receivers(receive)
    with pytest.raises(IntegrityError):
        batch(A, B, C).post(client)
    assert rows(database) == [(A, "one"), (C, "one")]
    refused.clear()
    assert batch(A, B, C).post(client).status_code == 200
    assert rows(database) == [(A, "one"), (B, "one"), (C, "one")]


@override_settings(ANYMAIL=settings_of(SENDGRID))
def test_a_connection_that_breaks_costs_one_event(
    client: Client, database: str, receivers: Callable[..., None]
) -> None:
    broken = {A}

    def receive(event: Any, **kwargs: Any) -> None:
        if event.recipient in broken:
            connections[database].connection.close()
        write(database, event.recipient, "one")

    receivers(receive)
    client.raise_request_exception = False
    assert batch(A, B).post(client).status_code == 500
    assert rows(database) == [(B, "one")]
    broken.clear()
    assert batch(A, B).post(client).status_code == 200
    assert rows(database) == [(A, "one"), (B, "one")]


@override_settings(ANYMAIL=settings_of(SENDGRID))
def test_on_commit_of_a_receiver_runs_before_the_next_event(
    client: Client, database: str, receivers: Callable[..., None]
) -> None:
    seen: list[str] = []

    def receive(event: Any, **kwargs: Any) -> None:
        seen.append(f"received {event.recipient}")
        transaction.on_commit(lambda: seen.append(f"committed {event.recipient}"), using=database)

    receivers(receive)
    assert batch(A, B).post(client).status_code == 200
    assert seen == [f"received {A}", f"committed {A}", f"received {B}", f"committed {B}"]


@override_settings(ANYMAIL=settings_of(SENDGRID))
def test_a_database_that_is_down_is_not_the_end_of_an_event(
    client: Client, database: str, receivers: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    receive = lambda event, **kwargs: seen.append(event.recipient)  # noqa: E731
    receivers(receive)
    connections[database].close()
    monkeypatch.setattr(connections[database], "connect", _down)
    with pytest.raises(OperationalError):
        batch(A).post(client)
    monkeypatch.undo()
    assert batch(A).post(client).status_code == 200
    assert seen == [A]


def _down() -> None:
    raise OperationalError("connection refused")


@pytest.mark.parametrize("name", [name for name in KINDS if name.endswith("tracking")])
def test_for_every_esp(client: Client, database: str, receivers: Callable[..., None], name: str) -> None:
    kind = KINDS[name]
    failing = [True]

    def receive(event: Any, **kwargs: Any) -> None:
        write(database, str(event.recipient), "one")
        if failing:
            failing.pop()
            raise RuntimeError("the receiver failed")

    receivers(receive)
    client.raise_request_exception = False
    call = kind.unlike(1, 2)
    with override_settings(ANYMAIL=settings_of(kind)):
        assert call.post(client).status_code == (429 if name.startswith("brevo") else 500)
        assert call.post(client).status_code == 200
    assert len(rows(database)) == (2 if kind.many else 1)


@override_settings(ANYMAIL={"WEBHOOK_SECRET": "user:pass"})
async def test_in_an_asynchronous_stack(database: str, receivers: Callable[..., None]) -> None:
    """Django refuses views that are asynchronous where a database has ATOMIC_REQUESTS; this one is not."""
    seen: list[bool] = []

    async def receive(event: Any, **kwargs: Any) -> None:
        from asgiref.sync import sync_to_async

        seen.append(await sync_to_async(lambda: connections[database].in_atomic_block)())

    receivers(receive)
    response = await AsyncClient().post(
        "/anymail/postmark/tracking/", data=b"{}", content_type="application/json", headers=BASIC_AUTH
    )
    assert response.status_code == 200
    assert seen == [True]
