from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack

from anymail.backends.base import AnymailBackend
from anymail.backends.keywords import SendKeywords
from anymail.esps.amazon_ses.sending import AmazonSES

__all__ = ["EmailBackend"]


class Keywords(SendKeywords, total=False):
    """The options of Amazon SES, as a project writes them."""

    client_params: Mapping[str, Any]
    session_params: Mapping[str, Any]
    configuration_set_name: str | None
    message_tag_name: str | None


class EmailBackend(AnymailBackend):
    """Sends through Amazon SES."""

    esp = AmazonSES

    if TYPE_CHECKING:

        def __init__(
            self, fail_silently: bool = False, *, alias: str | None = None, **options: Unpack[Keywords]
        ) -> None: ...
