"""Whatever a call holds, a sandbox responds as its ESP would: it never breaks."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import given, settings
from hypothesis import strategies as st

from anymail.esps import REGISTRY
from anymail.sandbox import sandbox_esp, sandbox_settings
from anymail.wire import Request, Response
from support import message

JSON_ESPS = sorted(set(REGISTRY) - {"mailgun"})
WILD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=10),
    st.sampled_from(["a@b.c", "suppressed@example.com", "MQ==", "2026-02-30T00:00:00Z", "a@b.c, d@e.f", "{{x}}", "0"]),
    st.lists(st.none() | st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.none() | st.text(max_size=3), max_size=2),
)


class Capturing:
    requests: list[Request] = []

    def __init__(self, **timeouts: Any) -> None:
        pass

    def send(self, request: Request) -> Response:
        self.requests.append(request)
        slug = request.url.removeprefix("http://sandbox/").partition("/")[0]
        return sandbox_esp(slug).respond(request, request.url.removeprefix(f"http://sandbox/{slug}")).response


@cache
def good(slug: str) -> Request:
    """The call that a rich message makes."""
    Capturing.requests.clear()
    rich = message(
        to=["Ana <ana@example.net>"],
        cc=["bo@example.org"],
        reply_to=["help@example.com"],
        html="<p>Hello",
        headers={"X-Shop": "7"},
        attach=[("a.txt", "1", "text/plain")],
        metadata={"order": "7"},
        tags=["receipt"],
    )
    with override_settings(ANYMAIL={**sandbox_settings("http://sandbox", slug), "IGNORE_UNSUPPORTED_FEATURES": True}):
        import_module(f"anymail.backends.{slug}").EmailBackend(transport=Capturing).send_messages([rich])
    return Capturing.requests[0]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


@pytest.mark.parametrize("slug", JSON_ESPS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_call_with_something_else_in_one_place(slug: str, data: st.DataObject) -> None:
    request = good(slug)
    body = json.loads(bytes(request.body))
    path = data.draw(st.sampled_from(places(body)))
    wild = data.draw(WILD)
    if path:
        body = copy.deepcopy(body)
        parent: Any = body
        for key in path[:-1]:
            parent = parent[key]
        if data.draw(st.booleans()) or isinstance(parent, list):
            parent[path[-1]] = wild
        else:
            parent[data.draw(st.sampled_from(["subject", "X", "send_at", "", "templateId", "template_id"]))] = wild
    else:
        body = wild
    changed = replace(request, body=json.dumps(body).encode())
    esp = sandbox_esp(slug)
    if slug == "amazon_ses":
        # The signature covers the body.
        esp.authenticate = lambda request: None  # type: ignore[attr-defined]
    result = esp.respond(changed, request.url.removeprefix(f"http://sandbox/{slug}"))
    for delivery in result.deliveries:
        json.dumps(delivery.as_dict())
        for kind in esp.events:
            esp.event(kind, delivery, "http://project/anymail/x/tracking/")


FIELDS = st.sampled_from([
    "from", "to", "subject", "html", "template", "recipient-variables", "t:variables", "o:tag", "o:x", "o:deliverytime",
    "h:Reply-To", "v:order", "",
])  # fmt: skip
TEXTS = st.text(max_size=5) | st.sampled_from(["a@b.c", "{}", '{"a@b.c": 1}', "Fri, 14 Oct 2026 23:10:10 +0000"])


@given(form=st.lists(st.tuples(FIELDS, TEXTS), max_size=4))
@settings(max_examples=60, deadline=None)
def test_a_form_with_something_else(form: list[tuple[str, str]]) -> None:
    esp, request = sandbox_esp("mailgun"), good("mailgun")
    least = [("from", "a@b.c"), ("to", "d@e.f"), ("text", "Hello")]
    changed = Request.post(request.url, headers={"Authorization": request.headers["Authorization"]}, form=least + form)
    result = esp.respond(changed, request.url.removeprefix("http://sandbox/mailgun"))
    for delivery in result.deliveries:
        json.dumps(delivery.as_dict())
        for kind in esp.events:
            esp.event(kind, delivery, "http://project/anymail/x/tracking/")
