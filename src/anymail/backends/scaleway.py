from anymail.backends.base import AnymailBackend
from anymail.esps.scaleway.sending import Scaleway

__all__ = ["EmailBackend"]


class EmailBackend(AnymailBackend):
    """Sends through Scaleway."""

    esp = Scaleway
