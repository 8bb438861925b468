from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from anymail.backends.base import AnymailBackend
from anymail.backends.keywords import SendKeywords
from anymail.conf import Secret
from anymail.esps.mailersend.sending import MailerSend

__all__ = ["EmailBackend"]


class Keywords(SendKeywords, total=False):
    """The options of MailerSend, as a project writes them."""

    api_token: str | Secret
    batch_send_mode: str | None
    api_url: str


class EmailBackend(AnymailBackend):
    """Sends through MailerSend."""

    esp = MailerSend

    if TYPE_CHECKING:

        def __init__(
            self, fail_silently: bool = False, *, alias: str | None = None, **options: Unpack[Keywords]
        ) -> None: ...
