"""What Django calls to send: the backend that every ESP's is made from."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable
from typing import Any, ClassVar

from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend

from anymail.conf import Given, SendOptions, load
from anymail.delivery.engine import Delivery
from anymail.delivery.report import SendReport
from anymail.esps.kit.sending import ESP
from anymail.exceptions import AnymailDeprecationWarning, AnymailError

__all__ = ["AnymailBackend"]

# What Django passes to every backend it makes from the old settings, for SMTP's sake.
_SMTP_ARGUMENTS = frozenset({"username", "password"})
_DJANGO_HAS_MAILERS = "alias" in inspect.signature(BaseEmailBackend.__init__).parameters


class AnymailBackend(BaseEmailBackend):
    """Sends Django messages through the ESP of the subclass. Keywords are the ESP's options, in lower case.

    Raises AnymailConfigurationError, or AnymailInvalidMailer under MAILERS, for wrong options.
    """

    esp: ClassVar[type[ESP[Any]]]
    #: An instance may be used again and again, from any thread.
    cacheable = True

    def __init__(
        self,
        fail_silently: bool = False,
        *,
        alias: str | None = None,
        _ignore_unknown_kwargs: Iterable[str] | None = None,
        **options: Any,
    ) -> None:
        if _DJANGO_HAS_MAILERS:
            super().__init__(alias=alias)
        else:
            super().__init__()
        # From here on nothing holds a key in clear that a report of an error could show.
        given = Given(options)
        del options
        self.alias = alias
        self.fail_silently = fail_silently
        if fail_silently:
            warnings.warn(
                "fail_silently hides lost mail, and Django is retiring it: catch AnymailError where that is wanted.",
                AnymailDeprecationWarning,
                stacklevel=3,
            )
        ignored = set(_ignore_unknown_kwargs or ()) | (_SMTP_ARGUMENTS if alias is None else set())
        names = set(self.esp.Options.__dataclass_fields__)
        given = given.only(lambda name: name not in ignored or name in names)
        prefixes = self.esp.prefixes or (self.esp.slug.upper(),)
        self.options: SendOptions = load(self.esp.Options, prefixes, given, alias=alias)
        self._delivery = Delivery(self.esp(self.options), self.options, self)

    @property
    def esp_name(self) -> str:
        """The ESP's name, as signals carry it."""
        return self.esp.name

    def send_messages(self, email_messages: Iterable[EmailMessage]) -> int:
        """Send the messages; return how many the ESP took.

        A message that fails on its own account does not stop the others; a failure that the next would meet too
        does. When all is done the first error is raised, with ``report``, a ``SendReport`` of every message.
        """
        return self._conclude(self._delivery.send_messages(email_messages))

    async def asend_messages(self, email_messages: Iterable[EmailMessage]) -> int:
        """``send_messages``, natively asynchronous."""
        return self._conclude(await self._delivery.asend_messages(email_messages))

    def _conclude(self, report: SendReport) -> int:
        for _, error in report.failed:
            # Silence is for mail that cannot be sent, not for a project's own mistakes.
            if not (self.fail_silently and isinstance(error, AnymailError)):
                error.report = report  # type: ignore[attr-defined]
                raise error
        return report.sent_count
