"""The benchmarks work. How fast anything is, they alone say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROWS = {"one_by_one": 4, "bulk": 8, "waiting": 4, "memory": 3, "imports": 3, "webhooks": 4}


@pytest.mark.parametrize("group", ROWS)
def test_each_group_measures(group: str) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--json", group]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == ROWS[group]
    assert all(row["value"] > 0 for row in rows)


def test_the_table_has_the_target_beside_each_figure() -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "waiting"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Postmark, send_messages of 20" in done.stdout
    assert "<= 0.5 s" in done.stdout


def test_no_handshake_but_the_first() -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--json", "one_by_one"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[0])["value"] == 1
