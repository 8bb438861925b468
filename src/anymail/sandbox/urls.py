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
from anymail.wire import Request

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
    asked = Request(str(request.method), request.build_absolute_uri(), dict(request.headers), request.body)
    answer = sandbox().answer(slug, asked, f"/{rest}")
    return HttpResponse(answer.content, status=answer.status_code, headers=dict(answer.headers))


@require_GET
def letters(request: HttpRequest) -> JsonResponse:
    """What was received, oldest first, as JSON."""
    kept = [{"esp": slug, **letter.as_dict()} for slug, letter in sandbox().store.letters(request.GET.get("esp"))]
    return JsonResponse({"letters": kept})


urlpatterns = [
    path("letters/", letters, name="letters"),
    path("<slug:slug>/<path:rest>", call, name="call"),
]
