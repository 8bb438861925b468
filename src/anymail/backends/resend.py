from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from anymail.backends.base import AnymailBackend
from anymail.backends.keywords import SendKeywords
from anymail.conf import Secret
from anymail.esps.resend.sending import Resend

__all__ = ["EmailBackend"]


class Keywords(SendKeywords, total=False):
    """The options of Resend, as a project writes them."""

    api_key: str | Secret
    api_url: str
    verify_attachment_extensions: bool


class EmailBackend(AnymailBackend):
    """Sends through Resend."""

    esp = Resend

    if TYPE_CHECKING:

        def __init__(
            self, fail_silently: bool = False, *, alias: str | None = None, **options: Unpack[Keywords]
        ) -> None: ...
