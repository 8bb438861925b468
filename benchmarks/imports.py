"""What importing a backend costs a process that has imported Django's mail already."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks.measure import Row, Size, in_a_fresh_process
from benchmarks.sending import ESPS

_PROGRAM = """
import time, django.core.mail
start = time.process_time()
import anymail.backends.{slug}
print(time.process_time() - start)
"""


def imports(size: Size) -> Iterator[Row]:
    for slug in ESPS:
        # The first run writes the .pyc files.
        seconds = [_import(slug) for _ in range(size.imports + 1)][1:]
        detail = f"{min(seconds):.3f} to {max(seconds):.3f} s of CPU in {len(seconds)} processes"
        yield Row(
            f"import anymail.backends.{slug}, after django.core.mail", statistics.median(seconds), 0.08, "s", detail
        )


def _import(slug: str) -> float:
    # Empty is as good as unset.
    return float(in_a_fresh_process(["-c", _PROGRAM.format(slug=slug)], {"PYTHONDONTWRITEBYTECODE": ""}))
