import warnings
from typing import Any

from anymail.backends import brevo
from anymail.esps.brevo.sending import Brevo
from anymail.exceptions import AnymailDeprecationWarning

__all__ = ["EmailBackend"]


class SendinBlue(Brevo):
    """Brevo under its old name, which receivers of signals may look for."""

    name = "SendinBlue"


class EmailBackend(brevo.EmailBackend):
    """The old name of ``anymail.backends.brevo.EmailBackend``."""

    esp = SendinBlue

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        warnings.warn(
            "SendinBlue is Brevo now: use anymail.backends.brevo.EmailBackend, and settings that begin with BREVO.",
            AnymailDeprecationWarning,
            stacklevel=2,
        )
        super().__init__(*args, **kwargs)
