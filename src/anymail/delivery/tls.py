"""The certificates that are trusted: the system's, or those that the environment names."""

from __future__ import annotations

import os
import ssl
import threading

__all__ = ["tls_context"]

_lock = threading.Lock()
_contexts: dict[tuple[str | None, ...], ssl.SSLContext] = {}


def tls_context() -> ssl.SSLContext:
    """The context of this process, made once for what SSL_CERT_FILE, SSL_CERT_DIR and REQUESTS_CA_BUNDLE say.

    Raises OSError when REQUESTS_CA_BUNDLE cannot be read.
    """
    key = tuple(os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"))
    found = _contexts.get(key)
    if found is None:
        with _lock:
            found = _contexts.get(key)
            if found is None:
                found = _contexts[key] = _make(*key)
    return found


def _make(file: str | None, directory: str | None, bundle: str | None) -> ssl.SSLContext:
    if bundle:
        try:
            if os.path.isdir(bundle):
                context = ssl.create_default_context(capath=bundle)
            else:
                context = ssl.create_default_context(cafile=bundle)
        except OSError as error:
            raise OSError(f"REQUESTS_CA_BUNDLE names certificates that cannot be read: {error.strerror}") from error
        if file or directory:
            context.load_default_certs()
        return context
    context = ssl.create_default_context()
    if not (file or directory) and _knows_nobody(context):
        try:
            import certifi
        except ImportError:
            return context
        context.load_verify_locations(certifi.where())
    return context


def _knows_nobody(context: ssl.SSLContext) -> bool:
    folder = ssl.get_default_verify_paths().capath
    return not context.cert_store_stats()["x509_ca"] and not (folder and os.listdir(folder))


def after_fork() -> None:
    """Another thread may have held the lock."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=after_fork)
