from anymail.backends.base import AnymailBackend
from anymail.esps.postmark.sending import Postmark

__all__ = ["EmailBackend"]


class EmailBackend(AnymailBackend):
    """Sends through Postmark."""

    esp = Postmark
