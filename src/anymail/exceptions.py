"""What can go wrong, in words for the person who reads them at 3 a.m."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from django.core.exceptions import ImproperlyConfigured, SuspiciousOperation

if TYPE_CHECKING:
    from django.core.mail import EmailMessage

    from anymail.delivery.report import SendReport
    from anymail.mail.status import RecipientStatuses
    from anymail.wire import Response

    class _DjangoInvalidMailer(ImproperlyConfigured):
        def __init__(self, msg: str, *, alias: str | None = None) -> None: ...

else:
    try:
        from django.core.mail import InvalidMailer as _DjangoInvalidMailer
    except ImportError:  # Django before 6.1

        class _DjangoInvalidMailer(ImproperlyConfigured):
            def __init__(self, msg: str, *, alias: str | None = None) -> None:
                self.alias = alias
                super().__init__(f"MAILERS[{alias!r}]: {msg}" if alias else msg)


__all__ = [
    "AnymailAPIError",
    "AnymailCancelSend",
    "AnymailConfigurationError",
    "AnymailDeprecationWarning",
    "AnymailError",
    "AnymailImproperlyInstalled",
    "AnymailInsecureWebhookWarning",
    "AnymailInvalidAddress",
    "AnymailInvalidMailer",
    "AnymailInvalidValue",
    "AnymailNotSupportedWarning",
    "AnymailRecipientsRefused",
    "AnymailRequestsAPIError",
    "AnymailSerializationError",
    "AnymailTransportError",
    "AnymailUnsupportedFeature",
    "AnymailWarning",
    "AnymailWebhookValidationFailure",
    "Category",
]

Category = Literal["auth", "invalid", "rate_limit", "quota", "network", "timeout", "server", "unreadable"]

#: The kinds of failure that the next call would meet too.
COMMON_CAUSES: frozenset[Category] = frozenset({"auth", "rate_limit", "quota", "network", "timeout", "server"})

ADVICE: dict[Category, str] = {
    "auth": "Check the credentials, and what the account and the sender are allowed to send.",
    "invalid": "Correct the message: sent again as it is, it would be refused again.",
    "rate_limit": "Send again later, or lower CONCURRENCY.",
    "quota": "The account's quota is used up: raise it, or wait until it is renewed.",
    "network": "Check the API URL, DNS, proxy and firewall.",
    "timeout": "Check the network and the ESP's status page; REQUESTS_TIMEOUT sets the patience.",
    "server": "The fault is the ESP's: see its status page.",
    "unreadable": "Check the API URL: something else than the ESP's API may have answered.",
}

OUTCOME: dict[bool | None, str] = {
    False: "The message was not sent.",
    None: "The message may have been sent: sending it again may send it twice.",
    True: "The message was accepted, but its status is not known: do not send it again.",
}


# What looks like an address, quoted or not.
_ADDRESS = re.compile(r"""[^\s<>"'`(),:;=/…\[\]]+@[^\s<>"'`(),:;=/\[\]]*[^\s<>"'`(),:;=/.?!\[\]]""")


class AnymailError(Exception):
    """The base of everything that Anymail raises.

    ``backend``, ``esp_name``, ``email_message``, ``payload`` (what would have been or was sent, or None),
    ``response`` (a ``anymail.wire.Response`` or None) and ``status_code`` tell where it happened. ``report``
    is set by ``send_messages``: what became of every message of that call.

    The text is for logs and error trackers: it names neither the message nor an address, so that alike failures have
    one text. The message is ``email_message``, and the ESP's own words are in ``response``.
    """

    backend: Any = None
    esp_name: str | None = None
    email_message: EmailMessage | None = None
    payload: Any = None
    response: Response | None = None
    report: SendReport | None = None
    _status_code: int | None = None

    def __init__(
        self,
        message: str = "",
        *,
        esp_name: str | None = None,
        email_message: EmailMessage | None = None,
        payload: Any = None,
        response: Response | None = None,
        backend: Any = None,
        status_code: int | None = None,
    ) -> None:
        super().__init__(_ADDRESS.sub("(address)", message) if isinstance(message, str) else message)
        self.esp_name = esp_name
        self.email_message = email_message
        self.payload = payload
        self.response = response
        self.backend = backend
        if status_code is not None:
            self.status_code = status_code

    @property
    def status_code(self) -> int | None:
        """The HTTP status of the ESP's response; None when there was none."""
        return self.response.status_code if self.response is not None else self._status_code

    @status_code.setter
    def status_code(self, status_code: int | None) -> None:
        self._status_code = status_code

    def __str__(self) -> str:
        text = super().__str__()
        return f"{self.esp_name}: {text}" if self.esp_name and not text.startswith(self.esp_name) else text

    def __reduce__(self) -> Any:
        # A task queue pickles what a task raises. Backends and messages may hold what cannot be pickled.
        state = {k: v for k, v in self.__dict__.items() if k not in ("backend", "email_message", "payload", "report")}
        return _unpickle, (type(self), self.args, state)


def _unpickle(cls: type[AnymailError], args: tuple[Any, ...], state: dict[str, Any]) -> AnymailError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class AnymailAPIError(AnymailError):
    """The ESP answered with an error, unreadably, or not at all.

    ``sent``: False when the ESP certainly did not take the message, None when it may have, True when it took
    it but the answer made no sense. ``retryable``: whether sending again is safe and may succeed.
    ``retry_after``: the seconds that the ESP asks to wait, or None. ``category``: the kind of trouble.
    """

    sent: bool | None = False
    retryable: bool = False
    retry_after: float | None = None
    category: Category = "invalid"
    #: False where no message was to be sent: the call fetched one.
    sending: bool = True
    #: What became of each recipient, where a message took several calls; else None.
    statuses: RecipientStatuses | None = None

    def __init__(
        self,
        message: str = "",
        *,
        category: Category = "invalid",
        sent: bool | None = False,
        retryable: bool = False,
        retry_after: float | None = None,
        **context: Any,
    ) -> None:
        super().__init__(message, **context)
        self.category = category
        self.sent = sent
        self.retryable = retryable
        self.retry_after = retry_after

    def __str__(self) -> str:
        outcome = f" {OUTCOME[self.sent]}" if self.sending else ""
        return f"{super().__str__()}{outcome} {ADVICE[self.category]}"


class AnymailRequestsAPIError(AnymailAPIError):
    """An ``AnymailAPIError`` at the level of HTTP: an error status, or no answer."""


class AnymailTransportError(AnymailRequestsAPIError):
    """No answer. ``sent`` is False when the request certainly never reached the ESP, None when it may have."""

    def __init__(self, message: str = "", *, category: Category = "network", **context: Any) -> None:
        super().__init__(message, category=category, **context)


class AnymailRecipientsRefused(AnymailError):
    """The ESP refused every recipient, as an invalid address or one on its suppression list."""


class AnymailInvalidAddress(AnymailError, ValueError):
    """An address that cannot be parsed, or whose domain cannot be encoded."""


class AnymailInvalidValue(AnymailError, ValueError):
    """A header, name or label that cannot be sent: most often one with a line break in it."""


class AnymailUnsupportedFeature(AnymailError, ValueError):
    """The message asks for what this ESP cannot express: each such thing is in ``unsupported``."""

    unsupported: tuple[str, ...] = ()


class AnymailSerializationError(AnymailError, TypeError):
    """A value that cannot be represented in the ESP's request."""


class AnymailCancelSend(AnymailError):
    """Raise this in a ``pre_send`` receiver to leave the message unsent, without an error."""


class AnymailWebhookValidationFailure(AnymailError, SuspiciousOperation):
    """A webhook call that is not authentic, or not of the ESP's shape."""


class AnymailConfigurationError(ImproperlyConfigured):
    """A setting is missing or wrong. ``missing``: it is set nowhere, as where a project is built without its keys."""

    missing = False


class AnymailInvalidMailer(AnymailConfigurationError, _DjangoInvalidMailer):
    """A setting is missing or wrong in ``MAILERS[alias]``."""

    def __init__(self, msg: str, *, alias: str | None = None) -> None:
        _DjangoInvalidMailer.__init__(self, msg, alias=alias)
        self.alias = alias


class AnymailImproperlyInstalled(AnymailConfigurationError, ImportError):
    """A package that this ESP needs is missing: install the extra that the text names."""

    def __init__(self, missing_package: str, extra: str) -> None:
        super().__init__(
            f"The package {missing_package!r} is needed here and not installed: pip install 'anymail[{extra}]'."
        )
        self._given = (missing_package, extra)

    def __reduce__(self) -> Any:
        return type(self), self._given


class AnymailWarning(Warning):
    """The base of Anymail's warnings."""


class AnymailInsecureWebhookWarning(AnymailWarning):
    """A webhook that anyone can call, as WEBHOOK_ALLOW_UNVERIFIED asks for."""


class AnymailNotSupportedWarning(AnymailWarning):
    """Something asked for has no effect here."""


class AnymailDeprecationWarning(AnymailWarning, DeprecationWarning):
    """Something that still works and will not for ever."""
