from anymail.backends.base import AnymailBackend
from anymail.esps.sparkpost.sending import SparkPost

__all__ = ["EmailBackend"]


class EmailBackend(AnymailBackend):
    """Sends through SparkPost."""

    esp = SparkPost
