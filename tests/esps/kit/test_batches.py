"""The statuses of a message with several results."""

from __future__ import annotations

from itertools import product
from typing import get_args

from anymail.esps.kit.batches import merge_statuses, not_taken
from anymail.exceptions import AnymailAPIError
from anymail.mail.addresses import EmailAddress
from anymail.mail.status import AnymailRecipientStatus, RecipientStatuses, Status


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
