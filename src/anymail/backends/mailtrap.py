from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from anymail.backends.base import AnymailBackend
from anymail.backends.keywords import SendKeywords
from anymail.conf import Secret
from anymail.esps.mailtrap.sending import Mailtrap

__all__ = ["EmailBackend"]


class Keywords(SendKeywords, total=False):
    """The options of Mailtrap, as a project writes them."""

    api_token: str | Secret
    stream: str
    sandbox_id: str | int | None
    api_url: str | None


class EmailBackend(AnymailBackend):
    """Sends through Mailtrap."""

    esp = Mailtrap

    if TYPE_CHECKING:

        def __init__(
            self, fail_silently: bool = False, *, alias: str | None = None, **options: Unpack[Keywords]
        ) -> None: ...
