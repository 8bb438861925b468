from anymail.backends.base import AnymailBackend
from anymail.esps.sendgrid.sending import SendGrid

__all__ = ["EmailBackend"]


class EmailBackend(AnymailBackend):
    """Sends through SendGrid."""

    esp = SendGrid
