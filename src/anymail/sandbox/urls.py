"""The sandbox inside a development project: ``path("sandbox/", include("anymail.sandbox.urls"))``.

Settings: ``ANYMAIL_SANDBOX = {"WEBHOOKS": "http://user:password@127.0.0.1:8000/anymail/", "DATABASE": "mail.sqlite3",
"ALLOW_WITHOUT_DEBUG": False}``, all optional.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET

from anymail.sandbox.server import Sandbox
from anymail.wire import Headers, Request

app_name = "anymail_sandbox"


@cache
def sandbox() -> Sandbox:
    """The sandbox of this process. Raises ImproperlyConfigured where DEBUG is off."""
    options: dict[str, Any] = getattr(settings, "ANYMAIL_SANDBOX", {})
    if not settings.DEBUG and not options.get("ALLOW_WITHOUT_DEBUG"):
        raise ImproperlyConfigured(
            "The sandbox is for development, and DEBUG is off. Remove anymail.sandbox.urls, or set "
            'ANYMAIL_SANDBOX["ALLOW_WITHOUT_DEBUG"].'
        )
    return Sandbox(options.get("WEBHOOKS"), options.get("DATABASE", ":memory:"))


@csrf_exempt
def call(request: HttpRequest, slug: str, rest: str) -> HttpResponse:
    """Stand in for an ESP's API."""
    # Read as a stream, to which Django's limits for forms do not apply.
    received = Request(str(request.method), request.build_absolute_uri(), Headers(request.headers), request.read())
    response = sandbox().respond(slug, received, f"/{rest}")
    return HttpResponse(response.content, status=response.status_code, headers=dict(response.headers))


@require_GET
def deliveries(request: HttpRequest) -> JsonResponse:
    """What was received, oldest first, as JSON."""
    kept = [
        {"esp": slug, **delivery.as_dict()} for slug, delivery in sandbox().store.deliveries(request.GET.get("esp"))
    ]
    return JsonResponse({"deliveries": kept})


urlpatterns = [
    path("deliveries/", deliveries, name="deliveries"),
    path("<slug:slug>/<path:rest>", call, name="call"),
]
