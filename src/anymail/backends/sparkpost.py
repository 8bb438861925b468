from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from anymail.backends.base import AnymailBackend
from anymail.backends.keywords import SendKeywords
from anymail.conf import Secret
from anymail.esps.sparkpost.sending import SparkPost

__all__ = ["EmailBackend"]


class Keywords(SendKeywords, total=False):
    """The options of SparkPost, as a project writes them."""

    api_key: str | Secret
    subaccount: str | int | None
    api_url: str


class EmailBackend(AnymailBackend):
    """Sends through SparkPost."""

    esp = SparkPost

    if TYPE_CHECKING:

        def __init__(
            self, fail_silently: bool = False, *, alias: str | None = None, **options: Unpack[Keywords]
        ) -> None: ...
