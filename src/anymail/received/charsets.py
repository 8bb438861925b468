"""Charsets as mail uses them: the labels that senders write, and what they mean by them."""

from __future__ import annotations

import codecs
import re
from functools import lru_cache

import webencodings

__all__ = ["codec_of", "decode", "decode_undeclared", "without_surrogates"]

# What the WHATWG's table (https://encoding.spec.whatwg.org/#names-and-labels) does not have, or has for browsers only.
_OWN = {
    "utf8mb4": "utf-8", "utf-8-sig": "utf-8", "cp65001": "utf-8", "windows-65001": "utf-8",
    "windows-932": "shift_jis", "cp932": "shift_jis", "cp943": "shift_jis", "x-ms-cp932": "shift_jis",
    "windows-936": "gbk", "cp936": "gbk", "gb_2312": "gbk", "euc-cn": "gbk", "x-euc-cn": "gbk",
    "windows-949": "euc-kr", "cp949": "euc-kr", "ms949": "euc-kr", "uhc": "euc-kr", "ks_c_5601": "euc-kr",
    "ks_c_5601-1992": "euc-kr", "ksc_5601": "euc-kr", "ks_x_1001": "euc-kr",
    "windows-950": "big5", "cp950": "big5", "x-big5": "big5",
    "iso-2022-jp-ms": "iso-2022-jp", "iso-2022-jp-1": "iso-2022-jp", "cp50220": "iso-2022-jp",
    "cp50221": "iso-2022-jp", "cp50222": "iso-2022-jp", "windows-50221": "iso-2022-jp",
    "eucjp-ms": "euc-jp", "eucjpms": "euc-jp", "cp51932": "euc-jp", "eucjp": "euc-jp",
    "iso-8859-8-e": "iso-8859-8", "cp874": "windows-874", "tis620": "windows-874", "tis-620-2533": "windows-874",
    "utf-16": "utf-16", "iso-2022-kr": "iso2022_kr", "hz-gb-2312": "hz", "iso8859-1": "windows-1252",
}  # fmt: skip
# The WHATWG's encodings in Python. Its "gbk" is decoded as GB18030, which holds it.
_PYTHON = {
    "gbk": "gb18030", "euc-kr": "cp949", "shift_jis": "cp932", "big5": "cp950", "iso-8859-8-i": "iso8859-8",
    "windows-874": "cp874", "macintosh": "mac-roman", "x-mac-cyrillic": "mac-cyrillic", "iso-2022-jp": "iso2022_jp",
}  # fmt: skip
# Where the first fails, its supersets are tried.
_WIDER = {"cp950": ("big5hkscs",), "gb18030": (), "euc_jp": ("euc_jis_2004",)}
# Labels that say nothing of the charset, or what is left of it by programs that could not tell.
_UNDECLARED = frozenset({
    "ascii", "us-ascii", "ansi_x3.4-1968", "iso-ir-6", "646", "7bit", "8bit", "binary", "base64", "quoted-printable",
    "unknown", "unknown-8bit", "x-unknown", "default", "none", "null", "charset",
})  # fmt: skip
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+()-]*")
_ENCODED_LABEL = re.compile(r"=\?[^?]*\?[bq]\?([^?]*)\?=", re.IGNORECASE)
_CODE_PAGE = re.compile(r"(?:x-)?(?:windows|cp|ibm|ms|microsoft-cp|oem|dos)[-_]?(\d{3,5})")
_SURROGATES = re.compile("[\ud800-\udfff]")
# Above this, Japanese text that Python's codec cannot read is read with marks for what is missing.
_MAX_JIS = 1_000_000
_JIS_ESCAPE = re.compile(rb"\x1b(\$[@B]|\$\(D|\([BJI])")


def decode(content: bytes, label: str | None, errors: str = "replace") -> str:
    """``content`` as text in the charset that ``label`` names; without one that is known, as UTF-8 or windows-1252.

    With ``errors="strict"`` raises UnicodeDecodeError for what the charset cannot hold, without guessing another.
    """
    codec = codec_of(label)
    if codec is None:
        text = content.decode("utf-8") if errors == "strict" else decode_undeclared(content, errors)
    else:
        text = _decode(content, codec, errors)
    return without_surrogates(text.removeprefix("\ufeff"))


def decode_undeclared(content: bytes, errors: str = "replace") -> str:
    """Text of which nobody says what charset it is in."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors if errors != "strict" else "replace")


def without_surrogates(text: str) -> str:
    """``text`` with U+FFFD for each lone surrogate, which no database and no UTF-8 takes."""
    return _SURROGATES.sub("\ufffd", text)


@lru_cache(maxsize=512)
def codec_of(label: str | None) -> str | None:
    """Python's name of the codec for a charset label as mails have it; None for one that says nothing."""
    text = (label or "")[:200]
    if match := _ENCODED_LABEL.search(text):
        text = match[1]
    found = _LABEL.search(text.partition(";")[0])
    name = found[0].lower().partition("(")[0].rstrip("-.:+_") if found else ""
    if not name or name in _UNDECLARED:
        return None
    names = [name, name.removeprefix("x-"), name.replace("_", "-"), name.removeprefix("x-").replace("_", "-")]
    if page := _CODE_PAGE.fullmatch(name):
        names += [f"windows-{page[1]}", f"cp{page[1]}"]
    for each in names:
        whatwg = _OWN.get(each) or _whatwg(each)
        if whatwg:
            return codecs.lookup(_PYTHON.get(whatwg, whatwg)).name
    for each in names:
        try:
            info = codecs.lookup(each)
        except (LookupError, ValueError, UnicodeError):
            continue
        # Not those that are no charset, such as "hex", "idna" or "unicode_escape".
        if info._is_text_encoding and info.name.replace("_", "-") not in _NO_CHARSETS:
            return info.name
    return None


_NO_CHARSETS = frozenset({"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape", "mbcs", "oem"})


def _whatwg(label: str) -> str | None:
    found = webencodings.lookup(label)
    return None if found is None or found.name in ("replacement", "x-user-defined") else str(found.name)


def _decode(content: bytes, codec: str, errors: str) -> str:
    for each in (codec, *_WIDER.get(codec, ())):
        try:
            return content.decode(each)
        except (UnicodeError, ValueError):
            pass
    try:
        if codec in ("iso2022_jp", "euc_jp") and len(content) <= _MAX_JIS:
            return (_iso_2022_jp if codec == "iso2022_jp" else _euc_jp)(content, errors)
        return content.decode(codec, errors)
    except UnicodeDecodeError:
        if errors == "strict":
            raise
        return content.decode("utf-8", "replace")
    except (LookupError, ValueError):
        # A codec that refuses an error handler, or the caller's handler is none.
        return content.decode("utf-8", "replace")


def _iso_2022_jp(content: bytes, errors: str) -> str:
    """ISO-2022-JP as Windows writes it: with the characters of NEC and IBM, which only code page 932 has."""
    found = []
    first, *rest = _JIS_ESCAPE.split(content)
    found.append(first.decode("ascii", errors))
    for escape, text in zip(rest[::2], rest[1::2], strict=True):
        if escape in (b"$@", b"$B"):
            found.append(_jis(text, errors))
        elif escape == b"$(D":
            found.append(
                b"".join(b"\x8f" + _high(text[at : at + 2]) for at in range(0, len(text), 2)).decode("euc_jp", errors)
            )
        else:
            found.append((_high(text) if escape == b"(I" else text).decode("cp932", errors))
    return "".join(found)


def _high(text: bytes) -> bytes:
    return bytes(byte | 0x80 for byte in text)


def _jis(text: bytes, errors: str) -> str:
    """Characters of two bytes each (JIS X 0208), in between line ends that stand for themselves."""
    shifted = bytearray()
    at = 0
    while at < len(text):
        row, cell = text[at], text[at + 1] if at + 1 < len(text) else 0
        if 0x21 <= row <= 0x7E and 0x21 <= cell <= 0x7E:
            lead = (row - 0x21) // 2 + 0x81
            trail = cell + 0x1F + (cell >= 0x60) if row % 2 else cell + 0x7E
            shifted += bytes((lead + 0x40 if lead > 0x9F else lead, trail))
            at += 2
        else:
            shifted.append(row)
            at += 1
    return bytes(shifted).decode("cp932", errors)


_EUC_PAIRS = re.compile(rb"(?:[\xa1-\xfe][\xa1-\xfe])+")


def _euc_jp(content: bytes, errors: str) -> str:
    """The same for EUC-JP."""
    found = []
    at = 0
    for pairs in _EUC_PAIRS.finditer(content):
        found.append(content[at : pairs.start()].decode("euc_jp", errors))
        found.append(_jis(bytes(byte & 0x7F for byte in pairs[0]), errors))
        at = pairs.end()
    found.append(content[at:].decode("euc_jp", errors))
    return "".join(found)
