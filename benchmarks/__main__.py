"""``python -m benchmarks``: measure Anymail's speed, and print it beside what it should be.

Ratios, since those hold on any machine. Speed is measured here and never asserted: missing a target fails nothing.
Name a group to measure only that; ``--quick`` to see that all of it works; ``--json`` for the rows as JSON lines.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict

import django
from django.conf import settings

from benchmarks.measure import FULL, QUICK, Row, Size


def set_up() -> None:
    """Django with the least that Anymail needs."""
    settings.configure(
        SECRET_KEY="benchmark", ALLOWED_HOSTS=["*"], USE_TZ=True, DEFAULT_FROM_EMAIL="shop@example.com", ANYMAIL={}
    )
    django.setup()
    logging.disable(logging.INFO)


def groups() -> dict[str, tuple[str, Callable[[Size], Iterator[Row]]]]:
    """Each group of measurements: its heading and what measures it."""
    from benchmarks.imports import imports
    from benchmarks.memory import memory
    from benchmarks.sending import bulk, one_by_one, waiting
    from benchmarks.webhooks import webhooks

    return {
        "one_by_one": ("One by one over TLS", one_by_one),
        "bulk": ("In bulk over TLS", bulk),
        "waiting": ("A slow server", waiting),
        "memory": ("Memory", memory),
        "imports": ("Imports", imports),
        "webhooks": ("Webhooks, over a view that only reads the JSON", webhooks),
    }


def _line(row: Row) -> str:
    value = f"{row.value:.0f}" if not row.unit else f"{row.value:.3f} s" if row.unit == "s" else f"{row.value:.2f} x"
    target = "" if row.target is None else f"<= {row.target:g}{' ' * bool(row.unit)}{row.unit}"
    return f"  {row.what:<84} {value:>9}  {target:<9} {row.detail}".rstrip()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("group", nargs="*", help="one_by_one, bulk, waiting, memory, imports, webhooks")
    parser.add_argument("--quick", action="store_true", help="do everything once, in small")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    chosen = parser.parse_args()
    set_up()
    known = groups()
    if unknown := set(chosen.group) - set(known):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    if not chosen.json:
        print(f"  {'':<84} {'measured':>9}  {'target':<9}")
    for name in chosen.group or known:
        heading, measure = known[name]
        if not chosen.json:
            print(f"{heading}", flush=True)
        for row in measure(QUICK if chosen.quick else FULL):
            print(json.dumps(asdict(row)) if chosen.json else _line(row), flush=True)


if __name__ == "__main__":
    main()
