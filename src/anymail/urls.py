"""The webhooks of the project's ESPs: ``path("anymail/", include("anymail.urls"))``.

Which ESPs these are says WEBHOOK_ESPS; without it, every ESP has its URLs.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from django.urls import URLPattern, path

from anymail.conf import WebhookOptions, load
from anymail.esps import REGISTRY
from anymail.exceptions import AnymailConfigurationError

app_name = "anymail"


def _routes() -> Iterator[URLPattern]:
    slugs = load(WebhookOptions, (), {}).webhook_esps
    for slug in REGISTRY if slugs is None else dict.fromkeys(slugs):
        if slug not in REGISTRY:
            raise AnymailConfigurationError(f"WEBHOOK_ESPS names {slug!r}, which is none of {', '.join(REGISTRY)}.")
        for pattern in import_module(f"anymail.webhooks.{slug}").urlpatterns:
            yield pattern
            # At the ESP its last slash may be forgotten, and what is posted cannot be redirected.
            yield path(str(pattern.pattern).removesuffix("/"), pattern.callback)


urlpatterns = list(_routes())
