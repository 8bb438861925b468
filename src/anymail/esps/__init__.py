"""The ESPs: one folder each, and the registry of them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anymail.esps.kit.sending import ESP

#: Every ESP: its slug, and the name of its class in ``anymail.esps.<slug>.sending``.
REGISTRY: dict[str, str] = {
    "amazon_ses": "AmazonSES",
    "brevo": "Brevo",
    "mailersend": "MailerSend",
    "mailgun": "Mailgun",
    "mailjet": "Mailjet",
    "mailtrap": "Mailtrap",
    "mandrill": "Mandrill",
    "postal": "Postal",
    "postmark": "Postmark",
    "resend": "Resend",
    "scaleway": "Scaleway",
    "sendgrid": "SendGrid",
    "sparkpost": "SparkPost",
    "unisender_go": "UnisenderGo",
}


def esp_class(slug: str) -> type[ESP[Any]]:
    """The ESP of that slug. Raises KeyError when there is none."""
    cls: type[ESP[Any]] = getattr(import_module(f"anymail.esps.{slug}.sending"), REGISTRY[slug])
    return cls
