"""The environment's proxies: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, in either case."""

from __future__ import annotations

import os
from base64 import b64encode
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from urllib.parse import unquote, urlsplit

from anymail.conf import Secret

__all__ = ["Proxy", "proxy_for"]


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy. ``authorization`` is the value of Proxy-Authorization, or None."""

    host: str
    port: int
    authorization: Secret | None

    def __str__(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def proxy_for(scheme: str, host: str, port: int) -> Proxy | None:
    """The proxy for a host; None to go directly. Raises ValueError for one of another kind, without its credentials."""
    name, url = _configured(scheme)
    if not url or _excepted(host, port):
        return None
    return _proxy(name, url)


def _configured(scheme: str) -> tuple[str, str]:
    """The variable that counts and what it holds. One that is set and empty means: no proxy."""
    for name in (f"{scheme}_proxy", "all_proxy"):
        for variable in (name, name.upper()):
            # In a CGI process HTTP_PROXY is what a client sent as its header "Proxy".
            if variable in os.environ and not (variable == "HTTP_PROXY" and "REQUEST_METHOD" in os.environ):
                return variable, os.environ[variable].strip()
    return "", ""


def _proxy(name: str, url: str) -> Proxy:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host:
        raise ValueError(f"{name} holds no URL of a proxy")
    if parts.scheme != "http":
        raise ValueError(f"{name} names a proxy of the kind {parts.scheme!r}, and only http:// proxies are spoken to")
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = Secret(f"Basic {b64encode(pair.encode()).decode()}")
    return Proxy(host, port or 80, authorization)


def _excepted(host: str, port: int) -> bool:
    """Whether NO_PROXY names a host: by its name or that of a domain above it, by address or network, or with "*"."""
    listed = os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))
    host = host.lower().rstrip(".")
    return any(entry == "*" or _matches(entry, host, port) for entry in listed.lower().replace(",", " ").split())


def _matches(entry: str, host: str, port: int) -> bool:
    try:
        return ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass
    name, colon, number = entry.rpartition(":")
    if colon and number.isdigit():
        if int(number) != port:
            return False
        entry = name
    entry = entry.strip("[]").lstrip("*").strip(".")
    return bool(entry) and (host == entry or host.endswith(f".{entry}"))
