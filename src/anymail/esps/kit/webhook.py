"""What every ESP's folder is made of: the listening half."""

from __future__ import annotations

import binascii
import datetime as dt
import hmac
import json
import time
from base64 import b64decode
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Generic, Literal, TypeVar

from django.http import HttpRequest

from anymail.conf import Secret, WebhookOptions, max_age
from anymail.esps.kit.sending import ResponseReader
from anymail.exceptions import AnymailConfigurationError, AnymailWebhookValidationFailure
from anymail.signals import AnymailInboundEvent, AnymailTrackingEvent
from anymail.wire import Flow

__all__ = [
    "Event",
    "Events",
    "NotConfigured",
    "Webhook",
    "any_secret",
    "basic_auth",
    "constant_time_equal",
    "header",
    "json_body",
    "json_object",
    "posix_time",
    "utc_time",
]

Event = AnymailTrackingEvent | AnymailInboundEvent
Events = Iterable[Event]
OptionsT = TypeVar("OptionsT", bound=WebhookOptions)


class NotConfigured(Exception):
    """A call for a webhook whose key is not set. The text, a sentence, says what to set."""


class Webhook(ResponseReader, Generic[OptionsT]):
    """One of an ESP's webhooks: who may call it, and what its calls say.

    A subclass states ``name``, ``slug`` and ``Options``, and writes ``items`` and ``events`` (or ``read``, where the
    ESP's API must be asked); ``verify`` and ``signature_configured`` where the ESP signs. The order is: verify, items,
    then events (or read) of each item.
    """

    slug: ClassVar[str]
    prefixes: ClassVar[tuple[str, ...]] = ()
    Options: ClassVar[type[WebhookOptions]] = WebhookOptions
    #: The greatest age in seconds of a signed timestamp, unless WEBHOOK_MAX_AGE says otherwise.
    default_max_age: ClassVar[float | None] = 300
    #: The status on which this ESP sends again: what a receiver failed on, what came cut off, what is in hand.
    retry_status: ClassVar[int] = 500
    #: Whether calls may hold received mail, so that they may be as large as INBOUND_MAX_SIZE.
    receives_mail: ClassVar[bool] = False
    #: Whether the ESP sends its basic auth credentials only when asked for them with a 401.
    awaits_challenge: ClassVar[bool] = False

    def __init__(self, options: OptionsT, clock: Callable[[], float] = time.time) -> None:
        self.options = options
        self.clock = clock

    @property
    def signature_configured(self) -> bool:
        """Whether calls are verified by a signature."""
        return False

    @property
    def too_large_status(self) -> int:
        """The answer to a call that is larger than the limit: for received mail, one on which the ESP keeps it."""
        if not self.receives_mail:
            return 413
        return 503 if self.retry_status == 500 else self.retry_status

    def verify(self, request: HttpRequest) -> str | None:
        """Check the signature, if one is configured.

        Returns the one-use token of a signature that does not cover the body, else None. Raises
        AnymailWebhookValidationFailure for a call that is not authentic, NotConfigured where a key is needed and not
        set.
        """
        return None

    def call_id(self, request: HttpRequest) -> str:
        """What tells calls with equal bodies apart, if the ESP gives one that stays when it sends again; else empty."""
        return ""

    def items(self, request: HttpRequest) -> Sequence[Any]:
        """The parts of the call that may become events, each on its own.

        Raises AnymailWebhookValidationFailure for a body of the wrong shape.
        """
        raise NotImplementedError

    def events(self, item: Any) -> Events:
        """The events that one item tells of.

        Raises AnymailConfigurationError for an item that belongs to another webhook; whatever else is raised means
        that the item cannot be read.
        """
        raise NotImplementedError

    def read(self, item: Any) -> Flow[Events]:
        """The same as a flow, for an item of which the ESP's API must be asked. Written instead of ``events``."""
        yield from ()
        return self.events(item)

    @property
    def asks(self) -> bool:
        """Whether the ESP's API may be asked: whether ``read`` was written."""
        return type(self).read is not Webhook.read

    def check_age(self, timestamp: object) -> None:
        """Raise AnymailWebhookValidationFailure unless a signed POSIX timestamp, as sent, is near enough to now."""
        limit = max_age(self.options, self.default_max_age)
        text = str(timestamp)
        if not (text.isascii() and text.isdigit() and len(text) <= 12):
            raise AnymailWebhookValidationFailure("The signed timestamp is not a number of seconds.")
        age = self.clock() - int(text)
        if limit is not None and abs(age) > limit:
            raise AnymailWebhookValidationFailure(
                f"The signed timestamp is {age:.0f} seconds old, and WEBHOOK_MAX_AGE is {limit:.0f}: "
                "an old call was sent again, or this machine's clock is wrong."
            )

    def wrong_url(self, caller: str, remedy: str, right: Literal["inbound", "tracking"]) -> AnymailConfigurationError:
        """The error for a call that belongs to the ESP's other webhook.

        ``caller`` names in the ESP's words what calls, ``remedy`` says what to set there, up to the ``right`` URL.
        """
        wrong = "tracking" if right == "inbound" else "inbound"
        return AnymailConfigurationError(
            f"{caller} calls Anymail's {self.name} {wrong} URL: {remedy} {self.slug}/{right}/."
        )


def constant_time_equal(given: str | bytes, right: str | bytes) -> bool:
    """Compare secrets in constant time."""
    return hmac.compare_digest(_bytes(given), _bytes(right))


def any_secret(secrets: Iterable[Secret], matches: Callable[[str], bool]) -> bool:
    """Whether any of the configured secrets is the right one; all are tried, in constant time."""
    return True in [matches(secret.reveal()) for secret in secrets]


def header(request: HttpRequest, name: str, default: str = "") -> str:
    """A header of a request. (``request.headers`` copies all of them first.)"""
    value: str = request.META.get(f"HTTP_{name.upper().replace('-', '_')}", default)
    return value


def basic_auth(request: HttpRequest) -> bytes | None:
    """The credentials of a request, as ``user:password`` in bytes; None when there are none to be read."""
    scheme, _, encoded = header(request, "Authorization").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")


def json_body(request: HttpRequest) -> Any:
    """The body read as JSON. Raises AnymailWebhookValidationFailure when it is not, in strict UTF-8."""
    try:
        return _DECODER.decode(request.body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise AnymailWebhookValidationFailure("The body is not JSON.") from error


def json_object(request: HttpRequest) -> dict[str, Any]:
    """The body read as a JSON object. Raises AnymailWebhookValidationFailure when it is not."""
    body = json_body(request)
    if not isinstance(body, dict):
        raise AnymailWebhookValidationFailure("The body is not a JSON object.")
    return body


def _refuse(constant: str) -> None:
    raise ValueError(constant)


# json.loads makes another for each text, where it is told what a constant is.
_DECODER = json.JSONDecoder(parse_constant=_refuse)


def utc_time(text: object) -> dt.datetime | None:
    """A time in ISO 8601 as an aware datetime, in UTC if it names no zone. None for what is none."""
    try:
        time = dt.datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return time if time is None or time.tzinfo else time.replace(tzinfo=dt.UTC)


def posix_time(seconds: object) -> dt.datetime | None:
    """A POSIX timestamp, as a number or in digits, as an aware datetime. None for what is none."""
    try:
        return dt.datetime.fromtimestamp(float(seconds), dt.UTC)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, OSError):
        return None
