"""A field of any JSON type, in the calls of every ESP whose payload is JSON."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest
from django.test import Client, override_settings

from anymail.exceptions import AnymailConfigurationError
from anymail.signals import AnymailTrackingEvent
from support import Call, sample_json

BASIC_AUTH = {"Authorization": "Basic dXNlcjpwYXNz"}
OTHERS: list[Any] = [None, [], {}, 7, True, "x", [[{}]], 1e308, "\ud800"]
TEXTS = (
    "message_id", "event_id", "recipient", "reject_reason", "description", "mta_response", "user_agent", "click_url",
)  # fmt: skip
ENVELOPE = ("envelope_sender", "envelope_recipient", "stripped_text", "stripped_html")


def plain(slug: str, kind: str) -> Callable[[Any], Call]:
    return lambda payload: Call(f"/anymail/{slug}/{kind}/", json.dumps(payload).encode(), BASIC_AUTH)


def signed(slug: str, kind: str) -> tuple[dict[str, Any], Callable[[Any], Call]]:
    [one] = [one for one in import_module(f"esps.{slug}.signed").SIGNED if one.kind == kind]
    if slug == "amazon_ses":
        from esps.amazon_ses.signed import sns_call

        return one.settings, lambda payload: sns_call(kind, payload)
    return one.settings, lambda payload: one.call(time.time(), json.dumps(payload).encode())


CALLS = {
    "amazon_ses-tracking-bounce": signed("amazon_ses", "tracking"),
    "amazon_ses-tracking-click": signed("amazon_ses", "tracking"),
    "amazon_ses-inbound-sns-base64": signed("amazon_ses", "inbound"),
    "brevo-tracking-click": ({}, plain("brevo", "tracking")),
    "mailersend-tracking-clicked": signed("mailersend", "tracking"),
    "mailersend-inbound-message": signed("mailersend", "inbound"),
    "mailgun-tracking-failed-permanent-bounce": signed("mailgun", "tracking"),
    "mailjet-tracking-bounce": ({}, plain("mailjet", "tracking")),
    "mailjet-inbound-full": ({}, plain("mailjet", "inbound")),
    "mailtrap-tracking-bounce": signed("mailtrap", "tracking"),
    "postal-tracking-MessageSent": signed("postal", "tracking"),
    "postal-inbound-hash": signed("postal", "inbound"),
    "postmark-tracking-click": ({}, plain("postmark", "tracking")),
    "postmark-inbound-parsed": ({}, plain("postmark", "inbound")),
    "resend-tracking-email.bounced": signed("resend", "tracking"),
    "scaleway-tracking-email_delivered": signed("scaleway", "tracking"),
    "sendgrid-tracking-bounce": signed("sendgrid", "tracking"),
    "sparkpost-tracking-bounce": signed("sparkpost", "tracking"),
    "sparkpost-inbound-plain": signed("sparkpost", "inbound"),
}


def places(value: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, *path, key)


@pytest.mark.parametrize("which", CALLS)
def test_it_is_refused_or_left_out(client: Client, events: list[Any], which: str) -> None:
    settings, call = CALLS[which]
    slug, _, name = which.partition("-")
    payload = sample_json(slug, f"{name}.json")
    if slug in ("amazon_ses", "scaleway"):
        payload = json.loads(payload["Message"])
    with override_settings(ANYMAIL=settings or {"WEBHOOK_SECRET": "user:pass"}):
        for index, path in enumerate(places(payload)):
            changed = copy.deepcopy(payload)
            parent = changed
            for key in path[:-1]:
                parent = parent[key]
            parent[path[-1]] = OTHERS[index % len(OTHERS)]
            try:
                assert call(changed).post(client).status_code in (200, 400), path
            except AnymailConfigurationError:
                # A call of another webhook of the same ESP.
                continue
    assert events
    for event in events:
        if isinstance(event, AnymailTrackingEvent):
            texts = [getattr(event, name) for name in TEXTS]
            assert isinstance(event.metadata, dict)
            assert all(isinstance(tag, str) for tag in event.tags)
        else:
            texts = [event.event_id, *(getattr(event.message, name) for name in ENVELOPE)]
        assert all(text is None or isinstance(text, str) for text in texts), texts
