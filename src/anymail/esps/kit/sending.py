"""What every ESP's folder is made of: the sending half."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, Generic, TypeVar

from anymail.conf import SendOptions
from anymail.exceptions import AnymailAPIError, AnymailRequestsAPIError, Category
from anymail.mail.addresses import EmailAddress
from anymail.mail.message import OutgoingMail
from anymail.mail.status import RecipientStatuses
from anymail.mail.supports import Supports, Unsupported
from anymail.wire import Flow, Response

__all__ = ["ESP", "Coalescing", "ResponseReader", "email_and_name", "retry_after", "until_reset", "without_empty"]

OptionsT = TypeVar("OptionsT", bound=SendOptions)

_CATEGORIES: dict[int, Category] = {401: "auth", 402: "quota", 403: "auth", 408: "timeout", 429: "rate_limit"}


@dataclass(frozen=True, slots=True)
class Coalescing:
    """How much fits into one call for several distinct messages: this many, and this many bytes."""

    messages: int
    bytes: int


class ResponseReader:
    """Reads the answers of an ESP's API, good and bad."""

    name: ClassVar[str]
    #: The statuses with which this ESP says that it certainly did not take the message, try again.
    safe_to_repeat: ClassVar[frozenset[int]] = frozenset({429})

    def explain(self, response: Response) -> tuple[str, Category | None]:
        """The ESP's own words in an error answer, and its kind where the HTTP status does not tell."""
        return response.text, None

    def certainly_not_taken(self, response: Response) -> bool:
        """Whether an error response says for certain that the ESP did not take the message and may be asked again.

        From 500 on only the ESP's own word counts, a JSON object: a proxy in front of it knows nothing of that.
        """
        if response.status_code not in self.safe_to_repeat:
            return False
        try:
            return response.status_code < 500 or isinstance(response.json(), dict)
        except ValueError:
            return False

    def retry_after(self, response: Response) -> float | None:
        """The seconds that an error response asks to wait, or None: those of Retry-After, unless the ESP says it
        otherwise.
        """
        return retry_after(response)

    def api_error(self, response: Response) -> AnymailAPIError:
        """The error for an answer with an error status."""
        text, category = self.explain(response)
        status = response.status_code
        category = category or _CATEGORIES.get(status) or ("server" if status >= 500 else "invalid")
        not_taken = self.certainly_not_taken(response)
        certain = (status < 500 and status != 408) or not_taken
        answer = f"HTTP {status} {response.reason}".rstrip()
        return AnymailRequestsAPIError(
            f"{self.name} answered {answer}: {_shortened(text) or '(nothing)'}.",
            category=category,
            sent=False if certain else None,
            retryable=category == "rate_limit" or (not_taken and category == "server"),
            retry_after=self.retry_after(response),
            response=response,
        )

    def unreadable(self, response: Response, why: str) -> AnymailAPIError:
        """The error for an answer that says yes, but makes no sense."""
        return AnymailAPIError(
            f"{self.name} answered HTTP {response.status_code}, but {why}: {_shortened(response.text)!r}.",
            category="unreadable",
            sent=True,
            response=response,
        )

    def read_json(self, response: Response) -> Any:
        """The content of a good answer. Raises the error of a bad one, or AnymailAPIError if it is not JSON."""
        if not response.ok:
            raise self.api_error(response)
        try:
            return response.json()
        except (ValueError, RecursionError):
            raise self.unreadable(response, "not with JSON") from None


class ESP(ResponseReader, Generic[OptionsT]):
    """Everything known about sending through one ESP: pure, no network, no settings, no clock.

    A subclass states ``name``, ``slug``, ``Options`` and ``supports``, and writes ``deliver`` and ``explain``.
    """

    slug: ClassVar[str]
    #: Names in settings, if not just the slug in upper case.
    prefixes: ClassVar[tuple[str, ...]] = ()
    supports: ClassVar[Supports]
    Options: ClassVar[type[SendOptions]]
    #: Set where one call takes several distinct messages; then ``batch_key`` and ``deliver_many`` are needed.
    coalescing: ClassVar[Coalescing | None] = None

    def __init__(self, options: OptionsT) -> None:
        self.options = options

    def check(self, mail: OutgoingMail) -> Iterable[Unsupported]:
        """What this message asks for and the ESP cannot express, beyond what ``supports`` tells."""
        return ()

    def deliver(self, mail: OutgoingMail) -> Flow[RecipientStatuses]:
        """Send one message; return its recipients' statuses."""
        raise NotImplementedError

    def batch_key(self, mail: OutgoingMail) -> Hashable | None:
        """Messages with equal keys may share a call; None: this one must not (it would lose something)."""
        return None

    def deliver_many(self, mails: Sequence[OutgoingMail]) -> Flow[list[RecipientStatuses | AnymailAPIError]]:
        """Send several messages in one call; return for each its statuses, or the error that befell it alone."""
        raise NotImplementedError


def without_empty(payload: dict[str, Any]) -> dict[str, Any]:
    """``payload`` without what is absent: None, and whatever is empty. False and 0 stay."""
    return {key: value for key, value in payload.items() if value or value is False or (value == 0 and value != "")}


def retry_after(response: Response) -> float | None:
    """Retry-After in seconds; as an HTTP date it is counted from the answer's own Date. None: absent, unreadable."""
    value = response.headers.get("Retry-After", "").strip()
    try:
        number = float(value)
    except ValueError:
        try:
            until = parsedate_to_datetime(value)
            number = (until - parsedate_to_datetime(response.headers.get("Date", ""))).total_seconds()
        except (ValueError, TypeError):
            return None
    return max(0.0, number) if math.isfinite(number) else None


def until_reset(response: Response) -> float | None:
    """The seconds until X-RateLimit-Reset, a POSIX time, counted from the response's own Date. None: absent or
    unreadable.
    """
    try:
        now = parsedate_to_datetime(response.headers["Date"]).timestamp()
        return max(0.0, float(response.headers["X-RateLimit-Reset"]) - now)
    except (KeyError, ValueError, TypeError):
        return None


def email_and_name(address: EmailAddress) -> dict[str, str]:
    """An address as the object that many APIs have for it."""
    return without_empty({"email": address.addr_spec, "name": address.display_name})


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text.rstrip(".") if len(text) <= 500 else f"{text[:500]}…"
