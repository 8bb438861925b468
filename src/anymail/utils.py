"""Small things that projects may use."""

from anymail.mail.addresses import EmailAddress

__all__ = ["EmailAddress"]
