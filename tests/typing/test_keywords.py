"""What type checkers are told of each backend's keywords is what the backend takes."""

from __future__ import annotations

from importlib import import_module

import pytest

from anymail.backends.keywords import SendKeywords
from anymail.conf import SendOptions
from anymail.esps import REGISTRY

# Options that exist to be refused.
RETIRED = {"sendgrid": {"username", "password"}}


@pytest.mark.parametrize("slug", REGISTRY)
def test_keywords_are_the_options(slug: str) -> None:
    backend = import_module(f"anymail.backends.{slug}")
    options = set(backend.EmailBackend.esp.Options.__dataclass_fields__)
    assert set(backend.Keywords.__annotations__) == options - RETIRED.get(slug, set())


def test_common_keywords_are_the_common_options() -> None:
    assert set(SendKeywords.__annotations__) == set(SendOptions.__dataclass_fields__)
