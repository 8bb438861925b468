"""Webhook calls by the hundred, upon processes whose receivers and database fail and which are killed: none is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from services import postgresql, redis_url
from webhooks.storm import DATABASES, TESTS

SQLITE = DATABASES["sqlite"]


def storm(**how: Any) -> dict[str, Any]:
    """The outcome of a storm, in a process of its own, which has Django settings of its own."""
    code = (
        "import json, sys; from webhooks.storm import Storm, run; "
        "outcome = run(Storm(**json.loads(sys.argv[1]))); print(json.dumps(outcome.__dict__))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps({"limit": 60, **how})],
        cwd=TESTS, env={"PYTHONPATH": f"{TESTS}:{TESTS.parent / 'src'}", "PATH": ""}, check=True,
        stdout=subprocess.PIPE, timeout=180,
    )  # fmt: skip
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


def test_upon_one_process(tmp_path: Path) -> None:
    outcome = storm(database={**SQLITE, "NAME": str(tmp_path / "db")}, cache="", calls=2, workers=1)
    assert outcome["events"] == 92
    assert (outcome["lost"], outcome["twice"]) == ([], [])
    assert outcome["answers"].get("500")


def test_upon_processes_whose_cache_is_down(tmp_path: Path) -> None:
    """Nothing listens on that port."""
    how = {"database": {**SQLITE, "NAME": str(tmp_path / "db")}, "cache": "redis://127.0.0.1:1", "workers": 1}
    outcome = storm(**how, calls=1)
    assert (outcome["events"], outcome["lost"], outcome["twice"]) == (46, [], [])


@pytest.mark.service
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_upon_several_processes(tmp_path: Path, database: str) -> None:
    how = {"sqlite": lambda: {**SQLITE, "NAME": str(tmp_path / "db")}, "postgresql": postgresql}[database]()
    outcome = storm(database=how, cache=redis_url(), calls=4)
    assert (outcome["lost"], outcome["twice"]) == ([], [])


@pytest.mark.service
def test_upon_processes_that_are_killed(tmp_path: Path) -> None:
    outcome = storm(database=postgresql(), cache=redis_url(), calls=3, kills=0.02, limit=120)
    assert outcome["killed"] > 0
    assert outcome["lost"] == []
    # A process may be killed between the commit of an event and the note that it is handled: of each of its threads.
    assert len(outcome["twice"]) <= 2 * 3 * outcome["killed"]
