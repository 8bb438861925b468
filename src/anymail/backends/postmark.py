from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from anymail.backends.base import AnymailBackend
from anymail.backends.keywords import SendKeywords
from anymail.conf import Secret
from anymail.esps.postmark.sending import Postmark

__all__ = ["EmailBackend"]


class Keywords(SendKeywords, total=False):
    """The options of Postmark, as a project writes them."""

    server_token: str | Secret
    api_url: str
    message_stream: str | None
    use_bulk_api: bool
    generate_message_id: bool | None


class EmailBackend(AnymailBackend):
    """Sends through Postmark."""

    esp = Postmark

    if TYPE_CHECKING:

        def __init__(
            self, fail_silently: bool = False, *, alias: str | None = None, **options: Unpack[Keywords]
        ) -> None: ...
