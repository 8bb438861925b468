"""Reply addresses: where the answers to a message go, such that they are known for what they answer.

An address such as ``reply+<token>@example.com`` carries the id of a thread (of a ticket, a comment, an order), signed
with SECRET_KEY, so that nobody can write into a thread whose address they were not given.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

from django.conf import settings
from django.utils.crypto import constant_time_compare, salted_hmac

from anymail.inbound import AnymailInboundMessage

__all__ = ["make_reply_address", "read_reply_address"]

_SALT = "anymail.replies"
# 80 bits, in 16 letters. Servers on the way may change the case of an address: nothing here depends on it.
_SIGNATURE = 16
_PLAIN = re.compile(r"[a-z0-9_-]+")
_TOKEN = re.compile(r"([a-z2-7]{16})([ab])([a-z0-9_-]+)")
# RFC 5321, 4.5.3.1.1
_MAX_LOCAL_PART = 64


def make_reply_address(thread_id: str, address: str) -> str:
    """An address for Reply-To (or From) whose answers are known to belong to ``thread_id``.

    ``address`` is the address at which the project receives, such as ``reply@example.com``; what comes to
    ``reply+anything@example.com`` must be received too. ``thread_id`` is any text, of up to 40 characters if they are
    lower case letters, digits, ``-`` and ``_`` (a UUID, for one), else of some 25 bytes. Raises ValueError for a
    longer one.
    """
    user, at, domain = address.rpartition("@")
    if not (user and at and domain) or not thread_id:
        raise ValueError("A reply address needs an address such as reply@example.com, and an id.")
    if _PLAIN.fullmatch(thread_id):
        data = f"a{thread_id}"
    else:
        data = "b" + base64.b32encode(thread_id.encode()).decode("ascii").rstrip("=").lower()
    local_part = f"{user}+{_signature(data, settings.SECRET_KEY)}{data}"
    if len(local_part) > _MAX_LOCAL_PART:
        raise ValueError(f"A reply address for this id is {len(local_part)} characters long before the @, 64 at most.")
    return f"{local_part}@{domain}"


def read_reply_address(source: str | AnymailInboundMessage) -> str | None:
    """The ``thread_id`` of an address that ``make_reply_address`` made, or of the one that a message was sent to.

    None without one, and for one that is forged. Keys in SECRET_KEY_FALLBACKS are good too.
    """
    addresses = [source] if isinstance(source, str) else _recipients(source)
    return next((found for found in map(_read, addresses) if found is not None), None)


def _recipients(message: AnymailInboundMessage) -> Iterator[str]:
    """Where a message was sent to, the envelope first."""
    if message.envelope_recipient:
        yield message.envelope_recipient
    for address in [*message.to, *message.cc]:
        yield address.addr_spec
    for name in ("Delivered-To", "X-Original-To"):
        for value in message.get_all(name, []):
            yield str(value)


def _read(address: str) -> str | None:
    local_part = address.strip(" <>").rpartition("@")[0]
    match = _TOKEN.fullmatch(local_part.rpartition("+")[2].lower()) if len(local_part) <= 200 else None
    if match is None:
        return None
    data = match[2] + match[3]
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    if True not in [constant_time_compare(match[1], _signature(data, key)) for key in keys]:
        return None
    if match[2] == "a":
        return match[3]
    try:
        encoded = match[3].upper()
        return base64.b32decode(encoded + "=" * (-len(encoded) % 8)).decode()
    except ValueError:
        return None


def _signature(data: str, key: str | bytes) -> str:
    digest = salted_hmac(_SALT, data, secret=key, algorithm="sha256").digest()
    return base64.b32encode(digest).decode("ascii").lower()[:_SIGNATURE]
