"""The statuses of a message with several results."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import pytest

from anymail.esps.kit.batches import BatchLimit, Part, merge_statuses, not_taken, send_parts, split
from anymail.exceptions import AnymailAPIError
from anymail.mail.addresses import EmailAddress
from anymail.mail.status import AnymailRecipientStatus, RecipientStatuses, Status, all_recipients
from anymail.wire import Flow, Request, Response
from support import drive, mail


def one(status: Status, message_id: str | None = None) -> RecipientStatuses:
    return {"a@example.com": AnymailRecipientStatus(message_id, status)}


def together(statuses: RecipientStatuses, others: RecipientStatuses) -> RecipientStatuses:
    merge_statuses(statuses, others)
    return statuses


def test_a_copy_that_was_taken_stays_taken() -> None:
    for taken, other in product(("sent", "queued"), get_args(Status)):
        assert together(one(taken, "1"), one(other, "2")) == one(taken, "1")
        if other not in ("sent", "queued"):
            assert together(one(other, "2"), one(taken, "1")) == one(taken, "1")


def test_what_is_not_known_is_not_a_failure() -> None:
    assert together(one("failed"), one("unknown")) == together(one("unknown"), one("failed")) == one("unknown")
    assert together({}, one("failed")) == together(one("failed"), {}) == one("failed")


def test_those_whom_an_error_befell() -> None:
    address = EmailAddress("", "a@example.com")
    assert not_taken([address], AnymailAPIError("no", category="invalid", sent=False)) == one("failed")
    assert not_taken([address], AnymailAPIError("?", category="timeout", sent=None)) == one("unknown")


ANA, BO, CY = (EmailAddress("", f"{name}@example.net") for name in ("ana", "bo", "cy"))
POST = Request.post("https://esp.example/send", headers={}, json={})
REFUSED = {"category": "invalid", "sent": False}
LOST = {"category": "timeout", "sent": None}
DOWN = {"category": "network", "sent": False}
GARBLED = {"category": "unreadable", "sent": True}


def part(to: EmailAddress, outcome: Any) -> Part:
    """A call for one recipient: taken, refused for its recipient's sake, or an error by its keywords."""

    def flow() -> Flow[RecipientStatuses]:
        yield POST
        if isinstance(outcome, dict):
            raise AnymailAPIError("no", **outcome)
        return all_recipients([to], outcome)

    return Part([to], flow())


# The outcomes of three calls, how many are made, and the statuses, or what the error that is raised says.
PARTS: dict[str, tuple[list[Any], int, list[str], bool | None]] = {
    "all taken": (["queued", "queued", "sent"], 3, ["queued", "queued", "sent"], None),
    "one refused on its own account": (["queued", REFUSED, "queued"], 3, ["queued", "failed", "queued"], None),
    "the first refused on its own account": ([REFUSED, "queued", "queued"], 3, ["failed", "queued", "queued"], None),
    "one lost": (["queued", LOST, "queued"], 2, ["queued", "unknown", "failed"], None),
    "the network down": (["queued", DOWN, "queued"], 2, ["queued", "failed", "failed"], None),
    "one unreadable": (["queued", GARBLED, "queued"], 3, ["queued", "unknown", "queued"], None),
    "invalid recipients": (["invalid", "rejected", "invalid"], 3, ["invalid", "rejected", "invalid"], None),
}
NONE_TAKEN: dict[str, tuple[list[Any], int, list[str], bool | None]] = {
    "the first lost": ([LOST, "queued", "queued"], 1, ["unknown", "failed", "failed"], None),
    "the network down": ([DOWN, "queued", "queued"], 1, ["failed", "failed", "failed"], False),
    "refused, then lost": ([REFUSED, LOST, "queued"], 2, ["failed", "unknown", "failed"], None),
    "all refused": ([REFUSED, REFUSED, REFUSED], 3, ["failed", "failed", "failed"], False),
    "one invalid, the others refused": (["invalid", REFUSED, REFUSED], 3, ["invalid", "failed", "failed"], False),
}


def run(outcomes: list[Any]) -> tuple[int, RecipientStatuses, AnymailAPIError | None]:
    flow = send_parts(part(to, outcome) for to, outcome in zip((ANA, BO, CY), outcomes, strict=True))
    try:
        requests, statuses = drive(flow, *[Response(200)] * len(outcomes), leave=True)
    except AnymailAPIError as error:
        return 0, error.statuses or {}, error
    return len(requests), statuses, None


@pytest.mark.parametrize(("outcomes", "calls", "expected", "sent"), PARTS.values(), ids=PARTS.keys())
def test_several_calls(outcomes: list[Any], calls: int, expected: list[str], sent: bool | None) -> None:
    made, statuses, error = run(outcomes)
    assert error is None
    assert made == calls
    assert [one.status for one in statuses.values()] == expected
    assert {one.status for one in statuses.values() if one.error} <= {"failed", "unknown"}
    assert all(one.error for one in statuses.values() if one.status == "failed")
    assert all(one.error.sent is False for one in statuses.values() if one.status == "failed" and one.error)


@pytest.mark.parametrize(("outcomes", "calls", "expected", "sent"), NONE_TAKEN.values(), ids=NONE_TAKEN.keys())
def test_an_error_is_raised_only_if_nothing_was_taken(
    outcomes: list[Any], calls: int, expected: list[str], sent: bool | None
) -> None:
    _, statuses, error = run(outcomes)
    assert error is not None
    assert error.sent is sent
    assert [one.status for one in statuses.values()] == expected


@pytest.mark.parametrize(
    ("to", "cc", "limit", "sizes"),
    [
        (5, 0, BatchLimit(10), [5]),
        (5, 0, BatchLimit(2), [2, 2, 1]),
        (5, 1, BatchLimit(10, recipients=4), [2, 2, 1]),
        (2, 9, BatchLimit(10, recipients=4), [1, 1]),
        (4, 0, BatchLimit(2, recipients=100), [2, 2]),
    ],
)
def test_a_batch_is_split_where_one_call_is_full(to: int, cc: int, limit: BatchLimit, sizes: list[int]) -> None:
    whole = mail(to=[f"{n}@example.net" for n in range(to)], cc=[f"c{n}@example.net" for n in range(cc)], merge_data={})
    parts = list(split(whole, limit))
    assert [len(one.to) for one in parts] == sizes
    assert tuple(address for one in parts for address in one.to) == whole.to
    assert all(one.cc == whole.cc for one in parts)


def test_a_batch_is_split_where_its_content_is_repeated_too_often() -> None:
    whole = mail(to=[f"{n}@example.net" for n in range(5)], body="." * 98_000, merge_data={})
    assert whole.size == 100_000
    assert [len(one.to) for one in split(whole, BatchLimit(10, bytes=250_000))] == [2, 2, 1]
    assert [len(one.to) for one in split(whole, BatchLimit(10, bytes=50_000))] == [1, 1, 1, 1, 1]


def test_one_message_to_all_is_never_split() -> None:
    whole = mail(to=[f"{n}@example.net" for n in range(5)])
    assert list(split(whole, BatchLimit(2))) == [whole]
