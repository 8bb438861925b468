"""What the sandbox needs is asked for by name, and only by the ESP that needs it."""

from __future__ import annotations

import subprocess
import sys

from anymail.esps import REGISTRY

SIGNED_WITH_CRYPTOGRAPHY = {"amazon_ses", "postal", "scaleway", "sendgrid"}

SCRIPT = """
import sys
for blocked in {blocked!r}:
    sys.modules[blocked] = None
import django
from django.conf import settings
settings.configure()
django.setup()
from anymail.exceptions import AnymailImproperlyInstalled
from anymail.sandbox.server import sandbox_esp
from anymail.esps.kit.sandbox import violation
for slug in {slugs!r}:
    esp = sandbox_esp(slug)
    try:
        esp.settings("http://sandbox/")
        {more}
    except AnymailImproperlyInstalled as error:
        print(error)
    else:
        print("well")
"""


def run(slugs: list[str], *blocked: str, more: str = "pass") -> list[str]:
    """What becomes of these ESPs' sandboxes where packages are missing."""
    script = SCRIPT.format(slugs=slugs, blocked=blocked, more=more)
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.splitlines()


def needed(package: str) -> str:
    return f"The package {package!r} is needed here and not installed: pip install 'anymail[sandbox]'."


def test_most_need_no_more_than_jsonschema() -> None:
    slugs = [slug for slug in REGISTRY if slug not in SIGNED_WITH_CRYPTOGRAPHY]
    assert run(slugs, "botocore", "cryptography") == ["well"] * len(slugs)


def test_those_that_sign_with_a_key_pair_need_cryptography() -> None:
    slugs = sorted(SIGNED_WITH_CRYPTOGRAPHY)
    assert run(slugs, "cryptography") == [needed("cryptography")] * len(slugs)
    assert run(slugs, "botocore") == ["well"] * len(slugs)


def test_a_schema_needs_jsonschema() -> None:
    assert run(["postmark"], "jsonschema", more='violation({"type": "string"}, "x")') == [needed("jsonschema")]


def test_only_amazon_ses_needs_botocore() -> None:
    more = 'from anymail.esps.amazon_ses.sandbox import schema; schema("SendEmail")'
    assert run(["amazon_ses"], "botocore", more=more) == [needed("botocore")]
