from anymail.backends.base import AnymailBackend
from anymail.esps.mailgun.sending import Mailgun

__all__ = ["EmailBackend"]


class EmailBackend(AnymailBackend):
    """Sends through Mailgun."""

    esp = Mailgun
