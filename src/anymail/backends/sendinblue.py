import warnings
from typing import Any

from anymail.backends import brevo
from anymail.exceptions import AnymailDeprecationWarning

__all__ = ["EmailBackend"]


class EmailBackend(brevo.EmailBackend):
    """The old name of ``anymail.backends.brevo.EmailBackend``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        warnings.warn(
            "SendinBlue is Brevo now: use anymail.backends.brevo.EmailBackend, and settings that begin with BREVO.",
            AnymailDeprecationWarning,
            stacklevel=2,
        )
        super().__init__(*args, **kwargs)
