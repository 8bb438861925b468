"""SparkPost: every request that we make, and the events of its API reference, against what others wrote of its API."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from descriptions.described import ROOT, read
from jsonschema import Draft202012Validator

from anymail.conf import load
from anymail.esps.sparkpost.tracking import SparkPostTracking
from esps.sparkpost.test_sending import REQUESTS, SPARKPOST
from support import fitted, json_of, request_of

SCHEMA = read("sparkpost/transmission.derived.schema.json")
pytestmark = pytest.mark.skipif(SCHEMA is None, reason=f"there are no API descriptions in {ROOT}")


@pytest.mark.parametrize("name", REQUESTS)
def test_our_requests_are_as_documented(name: str) -> None:
    body = json_of(request_of(SPARKPOST.deliver(fitted(type(SPARKPOST), **REQUESTS[name][0]))))
    errors = [f"{error.json_path}: {error.message}" for error in Draft202012Validator(SCHEMA).iter_errors(body)]
    assert errors == []


def events_of(name: str) -> list[dict[str, Any]]:
    """The events in the samples of an API Blueprint, each with what wraps it in a webhook's call."""
    text = (ROOT / name).read_text() if SCHEMA is not None else ""
    found = [json.loads(line) for line in re.findall(r'^\s*(\{"msys":\{.+\})\s*$', text, re.M)]
    for sample in re.findall(r'\{\s*"results": \[\s*(\{\s*"type": "\w+".*?\n                \})', text, re.S):
        found.append({"msys": {"track_event": json.loads(sample)}})
    return found


# The samples, and what they become.
SAMPLES: dict[str, tuple[str, dict[str, Any]]] = {
    "click": (
        "sparkpost/events.apib",
        {
            "event_type": "clicked",
            "tags": ["Example Campaign Name", "male", "US"],
            "metadata": {"customKey": "customValue", "anotherKey": ["value1", "value2", "value3"]},
            "message_id": "65832150921904138",
            "event_id": "92356927693813856",
            "recipient": "recipient@example.com",
            "click_url": "http://example.com",
            "ip": "127.0.0.1",
            "by_machine": None,
        },
    ),
    "inband": (
        "sparkpost/events-ingest.apib",
        {"event_type": "unknown", "message_id": "12994410358768097", "reject_reason": None, "tags": []},
    ),
}


@pytest.mark.parametrize(("name", "expected"), SAMPLES.values(), ids=SAMPLES)
def test_the_events_of_the_reference_are_read(name: str, expected: dict[str, Any]) -> None:
    webhook = SparkPostTracking(load(SparkPostTracking.Options, ("SPARKPOST",), {}))
    got = [event for item in events_of(name) for event in webhook.events(item)]
    assert got
    assert {field: getattr(got[0], field) for field in expected} == expected
