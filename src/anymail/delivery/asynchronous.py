"""Sending any message asynchronously, through whatever backend the project has."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.core import mail
from django.core.mail import EmailMessage


async def asend_with(message: EmailMessage, using: str | None) -> int:
    """See ``anymail.asend``."""
    if not message.recipients():
        return 0
    backend = _backend(message, using)
    if hasattr(backend, "asend_messages"):
        return int(await backend.asend_messages([message]) or 0)
    return int(await sync_to_async(backend.send_messages)([message]) or 0)


def _backend(message: EmailMessage, using: str | None) -> Any:
    mailers = getattr(mail, "mailers", None)
    if using is not None:
        if mailers is None:
            raise TypeError("using= needs MAILERS, which Django has from 6.1 on.")
        return mailers[using]
    # Django 6.1 warns when the deprecated attribute is read.
    own = message.__dict__.get("connection") or message.__dict__.get("_connection")
    if own is not None:
        return own
    if mailers is not None and getattr(mailers, "_is_configured", False):
        return mailers.default
    return mail.get_connection()
