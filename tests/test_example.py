"""The example project: its demonstration runs to a good end, and fails when something is amiss."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    return subprocess.run(
        [sys.executable, "-m", "example.demo", *arguments],
        cwd=ROOT,
        env={**environment, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


def test_the_demonstration_runs_to_a_good_end() -> None:
    done = demo("postmark")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    # Sent; delivered, opened, clicked, bounced, complained.
    assert re.search(r"^Postmark +6 +10 +6 +6 +4 +4  ok$", done.stdout, re.MULTILINE)
    assert "refused, category invalid" in done.stdout
    assert "\033" not in done.stdout
    assert done.stdout.endswith("All is well.\n")


def test_what_an_esp_cannot_do_is_said() -> None:
    done = demo("scaleway")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"template +send\(\) +not supported$", done.stdout, re.MULTILINE)


def test_it_fails_when_the_webhooks_refuse_the_calls() -> None:
    done = demo("postmark", "--wrong-secret")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "no delivered event came for" in done.stdout
    assert "webhook calls were answered 400" in done.stdout
    assert done.stderr == ""


def test_an_unknown_esp_is_an_error() -> None:
    done = demo("nosuch")
    assert done.returncode == 2
    assert "there is no ESP nosuch" in done.stderr


EXPECTED = Counter({("1", "a", "delivered"): 1, ("1", "a", "opened"): 1, (None, "b", "bounced"): 1})


@pytest.mark.parametrize(
    ("told", "differences"),
    [
        pytest.param([("1", "a", "delivered"), ("1", "a", "opened"), ("9", "b", "bounced")], [], id="as expected"),
        pytest.param([("1", "a", "delivered"), ("9", "b", "bounced")], ["no opened event came for a"], id="missing"),
        pytest.param(
            [("2", "a", "delivered"), ("1", "a", "opened"), ("9", "b", "bounced")],
            ["the delivered event for a is of message '2', not '1'"],
            id="of another message",
        ),
        pytest.param(
            [("1", "a", "delivered"), ("1", "a", "delivered"), ("1", "a", "opened"), (None, "b", "bounced")],
            ["an unexpected delivered event came for 'a' (message '1')"],
            id="twice",
        ),
    ],
)
def test_events_are_compared(
    told: list[tuple[str | None, str, str]], differences: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from example import demo

    assert list(demo.differences(EXPECTED, Counter(told))) == differences
