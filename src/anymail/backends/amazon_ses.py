from anymail.backends.base import AnymailBackend
from anymail.esps.amazon_ses.sending import AmazonSES

__all__ = ["EmailBackend"]


class EmailBackend(AnymailBackend):
    """Sends through Amazon SES."""

    esp = AmazonSES
