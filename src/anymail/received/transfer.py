"""Transfer encodings, decoded as far as they go."""

from __future__ import annotations

import binascii
import re

__all__ = ["base64_decoded", "decoded", "quoted_printable_decoded"]

# Damaged base64 of more lines is read without looking at each.
MAX_DAMAGED_LINES = 300_000

_NO_LETTER = re.compile(rb"[^A-Za-z0-9+/]")
_NO_LETTERS = bytes(byte for byte in range(256) if _NO_LETTER.match(bytes([byte])))
_LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2}")
# What follows a line that is no base64 (a footer, say) is base64 again only if it looks very much like it.
_SURE = re.compile(rb"(?:[A-Za-z0-9+/]{4}){10,}|(?:[A-Za-z0-9+/]{4}){5,}[A-Za-z0-9+/]{2,3}={1,2}")


def decoded(content: bytes, encoding: str) -> bytes | None:
    """``content`` without its transfer encoding; None for an encoding that is not known."""
    if encoding == "base64":
        return base64_decoded(content)
    if encoding == "quoted-printable":
        return quoted_printable_decoded(content)
    return content if encoding in ("", "7bit", "8bit", "binary") else None


def quoted_printable_decoded(content: bytes) -> bytes:
    """What quoted-printable says; what is broken in it stays as it is."""
    return binascii.a2b_qp(content)


def base64_decoded(content: bytes) -> bytes:
    """What can be read of base64: damaged lines cost no others, and what follows the end is no part of it."""
    packed = content.translate(None, b" \t\r\n")
    letters = packed.rstrip(b"=")
    if not _NO_LETTER.search(letters):
        return _quads(letters)
    if content.count(b"\n") > MAX_DAMAGED_LINES:
        return _quads(letters.partition(b"=")[0].translate(None, _NO_LETTERS))
    return _by_line(content)


def _by_line(content: bytes) -> bytes:
    found: list[bytes] = []
    pending = b""
    garbage = False
    for line in content.split(b"\n"):
        line = b"".join(line.split(b"\r")).strip()
        if _LINE.fullmatch(line):
            if garbage and not _SURE.fullmatch(line):
                continue
            pending += line.rstrip(b"=")
        elif line:
            letters = _NO_LETTER.sub(b"", line)
            head, padding, rest = line.partition(b"=")
            if padding and not _NO_LETTER.search(head) and not _NO_LETTER.sub(b"", rest):
                pending += head
            elif padding and not _NO_LETTER.search(head) and len(head) % 4 in (2, 3, 0):
                # The end, and something after it.
                pending += head
                garbage = True
            elif (found or pending) and (b" " in line or b"\t" in line or len(letters) * 10 < len(line) * 8):
                garbage = True
            else:
                # A letter damaged keeps the others in their places; one that came in between goes.
                pending += _NO_LETTER.sub(b"A", line) if len(line) % 4 == 0 else letters
        if len(pending) % 4 == 0 or garbage or b"=" in line:
            found.append(_quads(pending))
            pending = b""
    found.append(_quads(pending))
    return b"".join(found)


def _quads(letters: bytes) -> bytes:
    """Base64 without its padding. A single letter at the end says nothing."""
    letters = letters[:-1] if len(letters) % 4 == 1 else letters
    return binascii.a2b_base64(letters + b"=" * (-len(letters) % 4))
