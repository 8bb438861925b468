from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from anymail.backends.base import AnymailBackend
from anymail.backends.keywords import SendKeywords
from anymail.conf import Secret
from anymail.esps.postal.sending import Postal

__all__ = ["EmailBackend"]


class Keywords(SendKeywords, total=False):
    """The options of Postal, as a project writes them."""

    api_key: str | Secret
    api_url: str


class EmailBackend(AnymailBackend):
    """Sends through Postal."""

    esp = Postal

    if TYPE_CHECKING:

        def __init__(
            self, fail_silently: bool = False, *, alias: str | None = None, **options: Unpack[Keywords]
        ) -> None: ...
