"""A message that takes several calls, or has several results: one way to send it, and to say what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import NamedTuple
from uuid import NAMESPACE_OID, uuid5

from anymail.exceptions import COMMON_CAUSES, AnymailAPIError
from anymail.mail.addresses import EmailAddress
from anymail.mail.message import OutgoingMail
from anymail.mail.status import RecipientStatuses, Status, all_recipients
from anymail.wire import Flow

__all__ = [
    "BatchLimit",
    "Part",
    "conclude",
    "idempotency_keys",
    "merge_statuses",
    "not_taken",
    "outcome_of",
    "send_parts",
    "split",
]

# How much a status says; of two that say as much, the first counts.
_WEIGHT: dict[Status | None, int] = {"failed": 0, "invalid": 1, "rejected": 1, "unknown": 2, "queued": 3, "sent": 3}


@dataclass(frozen=True, slots=True)
class BatchLimit:
    """How much of a batch fits into one call: so many messages, one for each ``to``; so many recipients, where the
    ESP counts the copies of each message to cc and bcc as well; so many bytes, where each message repeats the content.
    """

    messages: int
    recipients: int | None = None
    bytes: int | None = None

    def messages_of(self, mail: OutgoingMail) -> int:
        """How many messages of this mail fit into one call; at least one."""
        limits = [self.messages]
        if self.recipients is not None:
            limits.append(self.recipients // (1 + len(mail.cc) + len(mail.bcc)))
        if self.bytes is not None:
            limits.append(self.bytes // mail.size)
        return max(1, min(limits))


class Part(NamedTuple):
    """One of the calls that a message takes: whom it is for, and the flow that makes it."""

    recipients: Iterable[EmailAddress]
    flow: Flow[RecipientStatuses]


def split(mail: OutgoingMail, limit: BatchLimit) -> Iterator[OutgoingMail]:
    """The mail, or the mails of fewer recipients that together say the same, each within the limit of one call."""
    size = limit.messages_of(mail)
    if not mail.batch or len(mail.to) <= size:
        yield mail
        return
    for start in range(0, len(mail.to), size):
        yield replace(mail, to=mail.to[start : start + size])


def send_parts(parts: Iterable[Part]) -> Flow[RecipientStatuses]:
    """Send a message that takes several calls; return its recipients' statuses.

    A part that is refused on its own account does not stop the next; a failure that the next would meet too does.
    What was not attempted is "failed", never "unknown". An error is raised only if nothing was taken: it is the one
    that leaves most in doubt, and its ``statuses`` say what became of each recipient.
    """
    statuses: RecipientStatuses = {}
    stop: AnymailAPIError | None = None
    for part in parts:
        if stop is not None:
            merge_statuses(statuses, all_recipients(part.recipients, "failed", error=_not_attempted(stop)))
            continue
        try:
            found = yield from part.flow
        except AnymailAPIError as error:
            found = error.statuses or not_taken(part.recipients, error)
            stop = error if error.category in COMMON_CAUSES else None
        merge_statuses(statuses, found)
    return conclude(statuses)


def conclude(statuses: RecipientStatuses) -> RecipientStatuses:
    """The statuses of a message of several results; if none of them was taken, its error is raised instead.

    A message that is refused for its recipients' sake alone has no error: their statuses say so.
    """
    errors = [one.error for one in statuses.values() if isinstance(one.error, AnymailAPIError)]
    if not errors or any(_taken(one.status) and one.error is None for one in statuses.values()):
        return statuses
    error = max(errors, key=lambda error: error.sent is not False)
    error.statuses = statuses
    raise error


def outcome_of(statuses: RecipientStatuses) -> RecipientStatuses | AnymailAPIError:
    """The same for ``deliver_many``, which returns the error."""
    try:
        return conclude(statuses)
    except AnymailAPIError as error:
        return error


def idempotency_keys(key: str) -> Iterator[str]:
    """The idempotency keys of a message's calls: the given one, then others that are the same each time."""
    yield key
    for number in count(1):
        yield str(uuid5(NAMESPACE_OID, f"{key}/{number}"))


def not_taken(addresses: Iterable[EmailAddress], error: AnymailAPIError) -> RecipientStatuses:
    """The statuses of those whom an error befell: "unknown" if the ESP may have taken the message."""
    return all_recipients(addresses, "failed" if error.sent is False else "unknown", error=error)


def merge_statuses(statuses: RecipientStatuses, others: RecipientStatuses) -> None:
    """Add the others to ``statuses``. Where an address is in both, a copy that was taken is not undone by another's
    failure.
    """
    for key, one in others.items():
        if key not in statuses or _WEIGHT.get(one.status, 0) > _WEIGHT.get(statuses[key].status, 0):
            statuses[key] = one


def _taken(status: Status | None) -> bool:
    return status in ("sent", "queued", "unknown")


def _not_attempted(cause: AnymailAPIError) -> AnymailAPIError:
    return AnymailAPIError(
        f"This part of the message was not attempted, since the next call would have met what an earlier one did: "
        f"{cause.args[0]}",
        category=cause.category,
        sent=False,
        retryable=True,
        retry_after=cause.retry_after,
        response=cause.response,
    )
