"""What became of a message, as far as the ESP's answer tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple, Self, get_args

if TYPE_CHECKING:
    from anymail.exceptions import AnymailError
    from anymail.mail.addresses import EmailAddress
    from anymail.wire import Response

Status = Literal["sent", "queued", "invalid", "rejected", "failed", "unknown"]

#: Every status that ``anymail_status`` may hold.
ANYMAIL_STATUSES: list[str] = list(get_args(Status))


class _MessageIdAndStatus(NamedTuple):
    message_id: str | None
    status: Status | None


class AnymailRecipientStatus(_MessageIdAndStatus):
    """One recipient's ``message_id`` (None where the ESP gave none) and ``status``: a pair of the two.

    ``error`` is why this recipient's call was refused or its outcome is unknown, where that befell only a part of
    the message; else None. It is no part of the pair.
    """

    error: AnymailError | None = None

    def __new__(cls, message_id: str | None, status: Status | None, error: AnymailError | None = None) -> Self:
        made = super().__new__(cls, message_id, status)
        if error is not None:
            made.error = error
        return made


#: What an ESP's ``deliver`` returns: each recipient's bare address, as the message spelled it, and its status.
RecipientStatuses = dict[str, AnymailRecipientStatus]


class AnymailStatus:
    """A message's ``anymail_status``.

    ``message_id``: a str; a set of str when recipients' differ; None before sending or on failure.
    ``status``: the set of the recipients' statuses; None before sending.
    ``recipients``: bare address -> ``AnymailRecipientStatus``. ``errors``: bare address -> the error that befell
    this recipient alone; empty unless the message was sent in part. ``esp_response``: the ESP's raw response.
    """

    def __init__(self) -> None:
        self.message_id: str | set[str] | None = None
        self.status: set[Status] | None = None
        self.recipients: RecipientStatuses = {}
        self.errors: dict[str, AnymailError] = {}
        self.esp_response: Response | None = None

    def record(self, recipients: Mapping[str, AnymailRecipientStatus], response: Response | None) -> None:
        """Take over what the ESP said."""
        self.recipients = dict(recipients)
        self.errors = {email: r.error for email, r in recipients.items() if r.error is not None}
        self.esp_response = response
        ids = {r.message_id for r in recipients.values() if r.message_id is not None}
        self.message_id = ids.pop() if len(ids) == 1 else ids or None
        self.status = {r.status for r in recipients.values() if r.status is not None} or None

    def set_recipient_status(self, recipients: Mapping[str, AnymailRecipientStatus]) -> None:
        """Add recipients' statuses, as a backend or a test's stand-in for one does."""
        self.record({**self.recipients, **recipients}, self.esp_response)

    def __repr__(self) -> str:
        return (
            f"AnymailStatus<message_id={self.message_id!r}, status={self.status!r}, {len(self.recipients)} recipients>"
        )


def all_recipients(
    addresses: Iterable[EmailAddress],
    status: Status,
    message_id: str | None = None,
    error: AnymailError | None = None,
) -> RecipientStatuses:
    """The same status for every address, and the same error."""
    one = AnymailRecipientStatus(message_id, status, error)
    return dict.fromkeys((address.key for address in addresses), one)
