from anymail.backends.base import AnymailBackend
from anymail.esps.resend.sending import Resend

__all__ = ["EmailBackend"]


class EmailBackend(AnymailBackend):
    """Sends through Resend."""

    esp = Resend
