from anymail.backends.base import AnymailBackend
from anymail.esps.mandrill.sending import Mandrill

__all__ = ["EmailBackend"]


class EmailBackend(AnymailBackend):
    """Sends through Mandrill."""

    esp = Mandrill
