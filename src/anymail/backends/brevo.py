from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from anymail.backends.base import AnymailBackend
from anymail.backends.keywords import SendKeywords
from anymail.conf import Secret
from anymail.esps.brevo.sending import Brevo

__all__ = ["EmailBackend"]


class Keywords(SendKeywords, total=False):
    """The options of Brevo, as a project writes them."""

    api_key: str | Secret
    api_url: str
    workaround_display_name_bugs: bool
    prevent_header_encoding_bugs: bool


class EmailBackend(AnymailBackend):
    """Sends through Brevo."""

    esp = Brevo

    if TYPE_CHECKING:

        def __init__(
            self, fail_silently: bool = False, *, alias: str | None = None, **options: Unpack[Keywords]
        ) -> None: ...
