"""DEBUG_API_REQUESTS: every call on standard output, without its credentials."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from anymail.conf import Options, Secret, secret_extras
from anymail.esps.kit.sending import ResponseReader
from anymail.exceptions import AnymailAPIError
from anymail.wire import Request, Response

# Headers that are known to hold no credential; every other one is masked.
_HARMLESS = frozenset({"accept", "content-type", "host", "idempotency-key", "user-agent", "x-amz-date", "x-amz-target"})
_LONGEST = 10_000


def print_call(esp: ResponseReader, request: Request, outcome: Response | AnymailAPIError) -> None:
    headers = "".join(
        f"\n  {name}: {value if name.lower() in _HARMLESS else '…'}" for name, value in request.headers.items()
    )
    if isinstance(outcome, Response):
        answer = f"{outcome.status_code} {outcome.reason}\n{outcome.text[:_LONGEST]}"
    else:
        answer = str(outcome)
    text = f"===== {esp.name}: {request.method} {request.url}{headers}\n{_body(request)}\n----- {answer}\n====="
    print(_masked(text, getattr(esp, "options", None)))  # noqa: T201


def _body(request: Request) -> str:
    if len(request.body) > _LONGEST:
        return f"({len(request.body)} bytes)"
    return bytes(request.body).decode("utf-8", "replace")


def _masked(text: str, options: Any) -> str:
    for field in dataclasses.fields(options) if dataclasses.is_dataclass(options) else ():
        value = getattr(options, field.name)
        for secret in value if isinstance(value, tuple) else (value,):
            if isinstance(secret, Secret):
                text = text.replace(secret.reveal(), "…")
    for name in secret_extras(type(options)) if isinstance(options, Options) else ():
        # A message's own, where the ESP has it in the body.
        text = re.sub(rf'"{re.escape(name)}":"[^"]*"', f'"{name}":"…"', text)
    return text
