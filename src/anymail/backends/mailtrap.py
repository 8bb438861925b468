from anymail.backends.base import AnymailBackend
from anymail.esps.mailtrap.sending import Mailtrap

__all__ = ["EmailBackend"]


class EmailBackend(AnymailBackend):
    """Sends through Mailtrap."""

    esp = Mailtrap
