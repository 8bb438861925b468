from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from anymail.backends.base import AnymailBackend
from anymail.backends.keywords import SendKeywords
from anymail.conf import Secret
from anymail.esps.sendgrid.sending import SendGrid

__all__ = ["EmailBackend"]


class Keywords(SendKeywords, total=False):
    """The options of SendGrid, as a project writes them."""

    api_key: str | Secret
    api_url: str
    generate_message_id: bool
    merge_field_format: str | None


class EmailBackend(AnymailBackend):
    """Sends through SendGrid."""

    esp = SendGrid

    if TYPE_CHECKING:

        def __init__(
            self, fail_silently: bool = False, *, alias: str | None = None, **options: Unpack[Keywords]
        ) -> None: ...
