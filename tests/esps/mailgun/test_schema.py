"""Our requests and readings beside Mailgun's own description of its API, and what our documentation tells to send."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from descriptions.described import read
from django.http import QueryDict

from anymail.esps.kit.sandbox import form_of
from anymail.esps.mailgun.sending import Mailgun
from anymail.esps.mailgun.tracking import MailgunTracking, MailgunWebhookOptions
from esps.mailgun.test_sandbox import MAILGUN as TO_SANDBOX
from esps.mailgun.test_sandbox import SANDBOX
from esps.mailgun.test_sending import MAILGUN, REQUESTS
from support import fitted, request_of

DESCRIPTION = read("mailgun/openapi.cut.json")
NEEDS_DESCRIPTION = pytest.mark.skipif(DESCRIPTION is None, reason="Mailgun's API description is not here")
DOCS = Path(__file__).parents[3] / "docs" / "esps.md"


@pytest.fixture(scope="module")
def fields() -> dict[str, Any]:
    """The fields of the form, as described."""
    schemas: dict[str, Any] = DESCRIPTION["components"]["schemas"]
    properties: dict[str, Any] = schemas["POST-v3-domain_name-messages-multipart-form-data-RequestBody"]["properties"]
    return properties


@NEEDS_DESCRIPTION
@pytest.mark.parametrize("name", REQUESTS)
def test_requests_are_described(name: str, fields: dict[str, Any]) -> None:
    sent: dict[str, list[str]] = {}
    for field, value in form_of(request_of(MAILGUN.deliver(fitted(Mailgun, **REQUESTS[name][0]))))[0]:
        sent.setdefault(field, []).append(value)
    for field, values in sent.items():
        if not field.startswith(("h:", "v:")):
            described = fields[field]
            # Several senders are not described; Mailgun takes them as it takes recipients.
            assert len(values) == 1 or described["type"] == "array" or field == "from"
            assert "enum" not in described or set(values) <= set(described["enum"])


def examples() -> Iterator[Any]:
    """The described examples of events."""
    if DESCRIPTION is None:
        return
    content = DESCRIPTION["paths"]["/v3/{domain_name}/events"]["get"]["responses"]["200"]["content"]
    for name, example in content["application/json"]["examples"].items():
        for number, event in enumerate(example["value"]["items"]):
            yield pytest.param(event, id=f"{name}-{number}")


# What the described events are.
TYPES = {
    "accepted": "queued",
    "delivered": "delivered",
    "opened": "opened",
    "clicked": "clicked",
    "unsubscribed": "unsubscribed",
    "complained": "complained",
    "rejected": "rejected",
    "stored": "unknown",
}


@pytest.mark.parametrize("event", list(examples()))
def test_described_events_are_read(event: dict[str, Any]) -> None:
    webhook = MailgunTracking(MailgunWebhookOptions())
    [read_event] = webhook.events({"signature": {"token": "t"}, "event-data": event})
    if event["event"] == "failed":
        suppressed = event["reason"].startswith("suppress-")
        permanent = "rejected" if suppressed else "bounced"
        assert read_event.event_type == {"temporary": "deferred", "permanent": permanent}[event["severity"]]
    else:
        assert read_event.event_type == TYPES[event["event"]]
    assert read_event.timestamp is not None
    assert (read_event.message_id or "<").startswith("<")
    assert "" not in (read_event.description, read_event.mta_response, read_event.user_agent, read_event.click_url)
    assert (read_event.click_url is not None) is (event["event"] == "clicked")


@NEEDS_DESCRIPTION
def test_there_are_described_events() -> None:
    assert {one.values[0]["event"] for one in examples()} >= {"failed", "delivered", "opened", "clicked", "rejected"}


def documented() -> list[dict[str, Any]]:
    """The values of esp_extra in the documentation."""
    section = DOCS.read_text().partition("\n## Mailgun\n")[2].partition("\n## ")[0]
    return [ast.literal_eval(found) for found in re.findall(r"`esp_extra=(\{.*?\})`", section, re.DOTALL)]


def test_what_the_documentation_tells_to_send_is_taken() -> None:
    for extra in documented():
        request = request_of(TO_SANDBOX.deliver(fitted(Mailgun, esp_extra=extra)))
        result = SANDBOX.respond(request, request.url.removeprefix("http://sandbox/mailgun"))
        assert result.response.status_code == 200, result.response.text


@NEEDS_DESCRIPTION
def test_metadata_is_hidden_as_mailgun_describes_it(fields: dict[str, Any]) -> None:
    [value] = [extra["o:suppress-headers"] for extra in documented() if "o:suppress-headers" in extra]
    assert value in ("all", "X-Mailgun-Variables")
    assert "X-Mailgun-Variables" in fields["o:suppress-headers"]["description"]


def test_legacy_events_have_no_empty_texts() -> None:
    webhook = MailgunTracking(MailgunWebhookOptions())
    empty = "&".join(f"{name}=" for name in ("recipient", "description", "error", "user-agent", "url", "ip", "code"))
    [event] = webhook.events(QueryDict(f"event=clicked&timestamp=1773480415&token=t&{empty}"))
    found = (event.recipient, event.description, event.mta_response, event.user_agent, event.click_url, event.ip)
    assert found == (None,) * 6
