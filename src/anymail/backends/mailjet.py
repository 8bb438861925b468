from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from anymail.backends.base import AnymailBackend
from anymail.backends.keywords import SendKeywords
from anymail.conf import Secret
from anymail.esps.mailjet.sending import Mailjet

__all__ = ["EmailBackend"]


class Keywords(SendKeywords, total=False):
    """The options of Mailjet, as a project writes them."""

    api_key: str | Secret
    secret_key: str | Secret
    api_url: str


class EmailBackend(AnymailBackend):
    """Sends through Mailjet."""

    esp = Mailjet

    if TYPE_CHECKING:

        def __init__(
            self, fail_silently: bool = False, *, alias: str | None = None, **options: Unpack[Keywords]
        ) -> None: ...
