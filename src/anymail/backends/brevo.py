from anymail.backends.base import AnymailBackend
from anymail.esps.brevo.sending import Brevo

__all__ = ["EmailBackend"]


class EmailBackend(AnymailBackend):
    """Sends through Brevo."""

    esp = Brevo
