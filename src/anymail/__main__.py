"""``python -m anymail features``: the feature matrix; ``docs``: write it and the settings reference into docs/;
``sandbox``: run the sandbox until interrupted.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import django
from django.conf import settings


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m anymail", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("features", help="print the feature matrix of the ESPs, in Markdown")
    docs = commands.add_parser("docs", help="write the generated pages of the documentation")
    docs.add_argument("--check", action="store_true", help="write nothing; fail if a page is stale")
    docs.add_argument("--directory", type=Path, default=Path("docs"))
    sandbox = commands.add_parser("sandbox", help="run a local stand-in for every ESP")
    sandbox.add_argument("--port", type=int, default=8025)
    sandbox.add_argument(
        "--webhooks", help="where a project has anymail.urls: http://user:password@127.0.0.1:8000/anymail/"
    )
    sandbox.add_argument("--database", default=":memory:", help="a file that keeps what was received")
    options = parser.parse_args(arguments)
    if not settings.configured:
        settings.configure(INSTALLED_APPS=["anymail"], ALLOWED_HOSTS=["127.0.0.1"], USE_TZ=True)
        django.setup()
    if options.command == "features":
        from anymail.features import markdown

        print(markdown(), end="")
        return 0
    if options.command == "docs":
        from anymail.reference import write

        return write(options.directory, check=options.check)
    return _sandbox(options.port, options.webhooks, options.database)


def _sandbox(port: int, webhooks: str | None, database: str) -> int:
    from anymail.sandbox import SandboxServer

    with SandboxServer(port=port, webhooks=webhooks, database=database) as server:
        print(f"The sandbox is at {server.url}. Settings that lead a project to it:\n\nANYMAIL = {{")
        for name, value in server.settings().items():
            print(f"    {name!r}: {value!r},")
        print("}\n\nStop it with Ctrl-C.", flush=True)
        try:
            server.wait()
        except KeyboardInterrupt:
            print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
