"""The pages of the documentation that are made from the code, so that they cannot differ from it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from anymail.conf import Options, SendOptions, WebhookOptions, setting_names
from anymail.esps import REGISTRY, esp_class
from anymail.features import markdown

__all__ = ["PAGES", "write"]


def features_page() -> str:
    return (
        "# Features by ESP\n\n"
        "Made by `python -m anymail docs` from each ESP's `Supports`; `anymail.features.features()` gives the same as "
        "data.\nA number: as many fit. *With template*: only together with `template_id`.\n\n" + markdown()
    )


def settings_page() -> str:
    lines = [
        "# Settings",
        "",
        "Made by `python -m anymail docs` from the options classes. Each is found as a keyword of the backend (or in a",
        "mailer's `OPTIONS`) in lower case and without the ESP's name, as `ANYMAIL[\"NAME\"]`, as `ANYMAIL_NAME`, and,",
        "where marked *bare*, as `NAME`; the first found counts. A common setting may be set for one ESP by putting",
        "the ESP's name before it: `MAILGUN_REQUESTS_TIMEOUT`.",
        "",
        "## Common, for sending",
        "",
        *_table([SendOptions], ""),
        "",
        "## Common, for webhooks",
        "",
        *_table([WebhookOptions], ""),
    ]
    for slug in REGISTRY:
        esp = esp_class(slug)
        prefix = (esp.prefixes or (slug.upper(),))[0]
        views = [pattern.callback.view_class for pattern in import_module(f"anymail.webhooks.{slug}").urlpatterns]
        lines += [
            "",
            f"## {esp.name}",
            "",
            *_table([esp.Options, *(view.webhook_class.Options for view in views)], prefix),
        ]
    return "\n".join(lines) + "\n"


def _table(classes: Sequence[type[Options]], prefix: str) -> Iterator[str]:
    """The settings whose names begin with ``prefix``; one that sending and webhooks share stands once."""
    yield "| setting | default | meaning |"
    yield "|---|---|---|"
    rows: dict[str, dict[str, str]] = {}
    for cls in classes:
        for name, field in setting_names(cls, prefix).items():
            if name.startswith(prefix):
                bare = " *(bare)*" if field.metadata["bare"] else ""
                rows.setdefault(f"`{name}`{bare}", {}).setdefault(field.metadata["doc"], _default(field))
    for setting, meanings in rows.items():
        yield f"| {setting} | {' or '.join(dict.fromkeys(meanings.values()))} | {' *Webhooks:* '.join(meanings)} |"


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return f"`{field.default_factory()!r}`"
    if field.default is dataclasses.MISSING:
        return "required"
    if field.default == ():
        return "none"
    if isinstance(field.default, (str, int, float, bool, tuple, type(None))):
        return f"`{field.default!r}`"
    return {"idna_encoder": '`"idna2008"`'}.get(field.name, "by ESP")


PAGES: dict[str, Callable[[], str]] = {"features.md": features_page, "settings.md": settings_page}


def write(directory: Path, *, check: bool = False) -> int:
    """Write the pages into ``directory``; or, with ``check``, return 1 if one there is stale."""
    stale = [
        name
        for name, page in PAGES.items()
        if not (directory / name).exists() or (directory / name).read_text("utf-8") != page()
    ]
    for name in stale:
        if check:
            print(f"{directory / name} is stale: run python -m anymail docs.", file=sys.stderr)  # noqa: T201
        else:
            (directory / name).write_text(PAGES[name](), "utf-8")
    return 1 if check and stale else 0
