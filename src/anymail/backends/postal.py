from anymail.backends.base import AnymailBackend
from anymail.esps.postal.sending import Postal

__all__ = ["EmailBackend"]


class EmailBackend(AnymailBackend):
    """Sends through Postal."""

    esp = Postal
