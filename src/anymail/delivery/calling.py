"""What both ways of carrying a request share: where it goes, what its head says, and how long it may take."""

from __future__ import annotations

import re
import time
from base64 import b64encode
from dataclasses import dataclass
from functools import lru_cache
from types import EllipsisType
from urllib.parse import unquote, urlsplit

from anymail._version import __version__
from anymail.conf import Secret
from anymail.wire import Request

__all__ = ["USER_AGENT", "Target", "Timeouts", "Unsendable", "head_fault", "target_of"]

USER_AGENT = f"anymail/{__version__}"

#: Bytes of a request's body that may take a second to send.
SLOWEST = 16 * 1024


class Unsendable(ValueError):
    """A request that cannot be made of what it says."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds, None for no limit. ``total`` is Ellipsis where it follows from the others and the length of the body."""

    connect: float | None
    read: float | None
    total: float | EllipsisType | None = ...

    def total_for(self, length: int) -> float | None:
        if self.total is not ...:
            return self.total
        if self.connect is None or self.read is None:
            return None
        return self.connect + 3 * self.read + length / SLOWEST


class Limit:
    """A point in time before which something must be done."""

    __slots__ = ("_ends",)

    def __init__(self, *seconds: float | None) -> None:
        given = [one for one in seconds if one is not None]
        self._ends = time.monotonic() + min(given) if given else None

    def remaining(self) -> float | None:
        """The seconds that are left; None without a limit. Raises TimeoutError when none are."""
        if self._ends is None:
            return None
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads. ``authorization`` holds the credentials that stand in it, or None."""

    scheme: str
    host: str
    port: int
    authorization: Secret | None

    @property
    def authority(self) -> str:
        """Host and port as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


def target_of(request: Request) -> tuple[Target, str]:
    """Where a request goes, and its path and query as they are sent. Raises Unsendable, without showing the URL."""
    url = request.url
    scheme, separator, rest = url.partition("://")
    place, tail = rest, ""
    for position, character in enumerate(rest):
        if character in "/?#":
            place, tail = rest[:position], rest[position:].partition("#")[0]
            break
    if not separator or not _GRAPHIC.fullmatch(tail):
        raise Unsendable("its URL is no http(s) URL")
    return _target(scheme.lower(), place), tail if tail.startswith("/") else f"/{tail}"


_GRAPHIC = re.compile(r"[!-~]*")


@lru_cache(maxsize=256)
def _target(scheme: str, place: str) -> Target:
    try:
        parts = urlsplit(f"{scheme}://{place}")
        host = (parts.hostname or "").rstrip(".")
        port = parts.port
        if not host.isascii():
            host = host.encode("idna").decode()
    except ValueError:
        host, port = "", None
    if scheme not in ("http", "https") or not host or not _GRAPHIC.fullmatch(host):
        raise Unsendable("its URL is no http(s) URL")
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = Secret(f"Basic {b64encode(pair.encode()).decode()}")
    return Target(scheme, host, (443 if scheme == "https" else 80) if port is None else port, authorization)


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def head_fault(request: Request) -> str | None:
    """Why HTTP cannot express the head of a request; None when it can. No value is shown."""
    if not _TOKEN.fullmatch(request.method):
        return "its method is no HTTP method"
    for name, value in request.headers.items():
        if not _TOKEN.fullmatch(name):
            return f"{name!r} is no name of a header"
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            return f"the header {name} holds a character that no header can, such as a line break"
        if name.lower() in ("transfer-encoding", "connection", "expect", "content-length"):
            return f"the header {name} is the transport's own affair"
    return None
