from anymail.backends.base import AnymailBackend
from anymail.esps.unisender_go.sending import UnisenderGo

__all__ = ["EmailBackend"]


class EmailBackend(AnymailBackend):
    """Sends through Unisender Go."""

    esp = UnisenderGo
