"""The memory that one message with a large attachment takes, in a fresh process each time."""

from __future__ import annotations

import json
import os
import resource
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Row, Size, in_a_fresh_process
from benchmarks.server import Server

_STATUS = Path("/proc/self/status")


def memory(size: Size) -> Iterator[Row]:
    """The peak above the idle process; the attachment itself is part of it, so 1.0 is the least there can be."""
    from benchmarks.sending import ESPS

    with Server() as server:
        for slug, name in ESPS.items():
            arguments = ["-m", "benchmarks.memory", slug, str(size.attachment), server.url]
            resident = in_a_fresh_process([*arguments, "resident"])
            traced = in_a_fresh_process([*arguments, "traced"])
            yield Row(
                f"{name}: peak for an attachment of {size.attachment / 1e6:.0f} MB, over its size (itself included)",
                resident / size.attachment,
                3,
                detail=f"{resident / 1e6:.1f} MB resident; tracemalloc {traced / size.attachment:.2f} x",
            )


def _resident(peak: bool) -> int:
    """Bytes of memory now, or at most so far."""
    if _STATUS.exists():
        # Unlike ru_maxrss, this does not begin with the peak of the process that started this one.
        lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
        return int(lines["VmHWM" if peak else "VmRSS"].split()[0]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _measure(slug: str, attachment: int, url: str, how: str) -> int:
    from django.test import override_settings

    from benchmarks.__main__ import set_up
    from benchmarks.sending import backend, message, settings

    set_up()
    with override_settings(ANYMAIL=settings(url)):
        # Imports, pools and handshakes belong to the idle process.
        for _ in range(3):
            backend(slug).send_messages([message()])
        if how == "traced":
            tracemalloc.start()
        idle = _resident(peak=False)
        large = message()
        large.attach("photos.zip", os.urandom(attachment), "application/zip")
        backend(slug).send_messages([large])
        return tracemalloc.get_traced_memory()[1] if how == "traced" else _resident(peak=True) - idle


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])))
