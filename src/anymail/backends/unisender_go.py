from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from anymail.backends.base import AnymailBackend
from anymail.backends.keywords import SendKeywords
from anymail.conf import Secret
from anymail.esps.unisender_go.sending import UnisenderGo

__all__ = ["EmailBackend"]


class Keywords(SendKeywords, total=False):
    """The options of Unisender Go, as a project writes them."""

    api_key: str | Secret
    api_url: str
    generate_message_id: bool
    workaround_display_name_bugs: bool


class EmailBackend(AnymailBackend):
    """Sends through Unisender Go."""

    esp = UnisenderGo

    if TYPE_CHECKING:

        def __init__(
            self, fail_silently: bool = False, *, alias: str | None = None, **options: Unpack[Keywords]
        ) -> None: ...
