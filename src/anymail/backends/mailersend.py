from anymail.backends.base import AnymailBackend
from anymail.esps.mailersend.sending import MailerSend

__all__ = ["EmailBackend"]


class EmailBackend(AnymailBackend):
    """Sends through MailerSend."""

    esp = MailerSend
