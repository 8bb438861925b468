from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from anymail.backends.base import AnymailBackend
from anymail.backends.keywords import SendKeywords
from anymail.conf import Secret
from anymail.esps.scaleway.sending import Scaleway

__all__ = ["EmailBackend"]


class Keywords(SendKeywords, total=False):
    """The options of Scaleway, as a project writes them."""

    secret_key: str | Secret
    project_id: str
    region: str
    api_url: str


class EmailBackend(AnymailBackend):
    """Sends through Scaleway."""

    esp = Scaleway

    if TYPE_CHECKING:

        def __init__(
            self, fail_silently: bool = False, *, alias: str | None = None, **options: Unpack[Keywords]
        ) -> None: ...
