"""What each ESP can express, as data."""

from __future__ import annotations

import dataclasses
from importlib import import_module
from typing import Any

from anymail.esps import REGISTRY, esp_class
from anymail.mail.supports import ALL_CONTENT, MANY, Supports

__all__ = ["features", "markdown"]


def features() -> dict[str, Supports]:
    """Each ESP's ``Supports``, by its slug."""
    return {slug: esp_class(slug).supports for slug in REGISTRY}


def markdown() -> str:
    """The feature matrix as a Markdown table: the same data for the documentation and the command line."""
    esps = {slug: esp_class(slug) for slug in REGISTRY}
    header = ["", *(esp.name for esp in esps.values())]
    rows = [header, ["---", *([":-:"] * len(esps))]]
    rows += [
        [field.metadata["doc"], *(_cell(_value(esp.supports, field.name)) for esp in esps.values())]
        for field in dataclasses.fields(Supports)
    ]
    rows.append(["several distinct messages per call", *(_cell(esp.coalescing is not None) for esp in esps.values())])
    rows.append(["tracking webhook", *(_cell(_has(slug, "tracking")) for slug in esps)])
    rows.append(["inbound webhook", *(_cell(_has(slug, "inbound")) for slug in esps)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def _value(supports: Supports, name: str) -> Any:
    """What is in force: details of what an ESP does not support mean nothing."""
    needed = {"metadata_values": "metadata", "beside_template": "template_id"}.get(name)
    return getattr(supports, name) if needed is None or getattr(supports, needed) else False


def _cell(value: Any) -> str:
    if isinstance(value, frozenset):
        missing = ", ".join(sorted(ALL_CONTENT - value))
        return f"all but {missing}" if missing else "all"
    if value is True or (isinstance(value, int) and value >= MANY):
        return "yes"
    if value is False or value == 0:
        return "–"
    return {"template": "with template", "domain": "domain only", "json": "JSON"}.get(value, str(value))


def _has(slug: str, kind: str) -> bool:
    patterns = import_module(f"anymail.webhooks.{slug}").urlpatterns
    names = {pattern.name for pattern in patterns}
    # Mandrill has one URL for both.
    return bool(names & {f"{slug}_{kind}_webhook", f"{slug}_webhook"})
