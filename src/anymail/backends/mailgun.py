from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from anymail.backends.base import AnymailBackend
from anymail.backends.keywords import SendKeywords
from anymail.conf import Secret
from anymail.esps.mailgun.sending import Mailgun

__all__ = ["EmailBackend"]


class Keywords(SendKeywords, total=False):
    """The options of Mailgun, as a project writes them."""

    api_key: str | Secret
    api_url: str
    sender_domain: str | None
    subaccount: str | None


class EmailBackend(AnymailBackend):
    """Sends through Mailgun."""

    esp = Mailgun

    if TYPE_CHECKING:

        def __init__(
            self, fail_silently: bool = False, *, alias: str | None = None, **options: Unpack[Keywords]
        ) -> None: ...
