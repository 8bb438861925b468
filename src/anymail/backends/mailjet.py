from anymail.backends.base import AnymailBackend
from anymail.esps.mailjet.sending import Mailjet

__all__ = ["EmailBackend"]


class EmailBackend(AnymailBackend):
    """Sends through Mailjet."""

    esp = Mailjet
