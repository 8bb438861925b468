"""The webhooks of every ESP: ``path("anymail/", include("anymail.urls"))``."""

from __future__ import annotations

from importlib import import_module

from django.urls import URLPattern

from anymail.esps import REGISTRY

app_name = "anymail"

urlpatterns: list[URLPattern] = [
    pattern for slug in REGISTRY for pattern in import_module(f"anymail.webhooks.{slug}").urlpatterns
]
