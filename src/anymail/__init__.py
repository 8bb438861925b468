"""Anymail: Django's door to every transactional email service provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anymail._version import __version__

if TYPE_CHECKING:
    from django.core.mail import EmailMessage

__all__ = ["__version__", "asend"]


async def asend(message: EmailMessage, using: str | None = None) -> int:
    """Send any Django message, natively asynchronous; return how many were sent: 1 or 0.

    ``using`` is the alias of a mailer (Django 6.1); without it the default one sends. A backend that is not
    Anymail's runs in a thread. Raises what the backend's ``send_messages`` raises.
    """
    from anymail.delivery.asynchronous import asend_with

    return await asend_with(message, using)
