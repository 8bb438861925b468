"""What every ESP's folder is made of: the statuses of a message that takes several calls, or has several results."""

from __future__ import annotations

from collections.abc import Iterable

from anymail.exceptions import AnymailAPIError
from anymail.mail.addresses import EmailAddress
from anymail.mail.status import RecipientStatuses, Status, all_recipients

__all__ = ["merge_statuses", "not_taken"]

# How much a status says; of two that say as much, the first counts.
_WEIGHT: dict[Status | None, int] = {"failed": 0, "invalid": 1, "rejected": 1, "unknown": 2, "queued": 3, "sent": 3}


def not_taken(addresses: Iterable[EmailAddress], error: AnymailAPIError) -> RecipientStatuses:
    """The statuses of those whom an error befell: "unknown" if the ESP may have taken the message."""
    return all_recipients(addresses, "failed" if error.sent is False else "unknown")


def merge_statuses(statuses: RecipientStatuses, others: RecipientStatuses) -> None:
    """Add the others to ``statuses``. Where an address is in both, a copy that was taken is not undone by another's
    failure.
    """
    for key, one in others.items():
        if key not in statuses or _WEIGHT.get(one.status, 0) > _WEIGHT.get(statuses[key].status, 0):
            statuses[key] = one
