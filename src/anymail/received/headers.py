"""Header fields as strangers write them: raw bytes, encoded-words, parameters and dates."""

from __future__ import annotations

import datetime as dt
import re
from email.utils import parsedate_tz
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from anymail.received.charsets import codec_of, decode, decode_undeclared, without_surrogates
from anymail.received.transfer import base64_decoded, quoted_printable_decoded

__all__ = ["CONTROLS", "Parameters", "date_of", "decoded", "file_name", "parameters_of", "raw", "text_of", "unfolded"]

#: What may not stand in a line that is shown: controls, and marks that turn the direction of writing.
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_LINE_BREAKS = re.compile(r"[\r\n]+[ \t]*")
_WORD = re.compile(r"=\?([^?\s=]{1,100})\?([bBqQ])\?")


def raw(value: object) -> str:
    """A value as Python's parser has it: on one line, bytes above ASCII as surrogates."""
    return _bytes(_LINE_BREAKS.sub(" ", str(value))).decode("ascii", "surrogateescape")


def unfolded(value: object) -> str:
    """The same without blanks around it."""
    return raw(value).strip()


def _bytes(value: str) -> bytes:
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value.encode("utf-8", "replace")


def text_of(value: object, charset: str | None = None) -> str:
    """A header's value as text on one line. ``charset``: what raw bytes are in when they are not UTF-8."""
    return CONTROLS.sub(" ", decoded(unfolded(value), charset)).strip()


@lru_cache(maxsize=512)
def decoded(value: str, charset: str | None = None) -> str:
    """Encoded-words (RFC 2047) and raw bytes as text. One that cannot be read stays as it is, and spoils no other."""
    if value.isascii() and "=?" not in value:
        return value
    found: list[str] = []
    words: list[tuple[str, str, str]] = []  # neighbours in one charset: a character may begin in one, end in the next
    at = 0
    end = -1

    def flush() -> None:
        if words:
            found.append(_words(words))
            words.clear()

    while (start := _WORD.search(value, at)) is not None:
        if end < start.end():
            end = value.find("?=", start.end())
            if end < 0:
                break
        between = value[at : start.start()]
        inner = _WORD.search(value, start.end(), end)
        if inner is not None:
            # It has no end of its own.
            flush()
            found.append(_literal(value[at : inner.start()], charset))
            at = inner.start()
            continue
        if between.strip() or not words:
            flush()
            found.append(_literal(between, charset))
        word = (start[1].partition("*")[0].lower(), start[2].lower(), value[start.end() : end])
        if words and words[0][0] != word[0]:
            flush()
        words.append(word)
        at = end + 2
    flush()
    found.append(_literal(value[at:], charset))
    return without_surrogates("".join(found))


def _literal(text: str, charset: str | None) -> str:
    if text.isascii():
        return text
    content = _bytes(text)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return decode(content, charset) if codec_of(charset) not in (None, "utf-8") else decode_undeclared(content)


def _words(words: list[tuple[str, str, str]]) -> str:
    """Encoded-words of one charset, which belong together."""
    charset = words[0][0]
    content = b""
    pieces: list[bytes] = []
    carried = ""
    for _, encoding, text in words:
        if encoding == "b":
            letters = carried + text
            bare = letters.rstrip("=").strip()
            # Some programs cut base64 anywhere.
            keep = len(bare) // 4 * 4 if "=" not in letters and len(bare) % 4 and len(words) > 1 else len(letters)
            carried = letters[keep:]
            pieces.append(base64_decoded(_bytes(letters[:keep])))
        else:
            # Q, with raw text in it at times.
            pieces.append(_q_decoded(_bytes(text)))
    if carried:
        pieces.append(base64_decoded(_bytes(carried)))
    content = b"".join(pieces)
    codec = codec_of(charset)
    if codec not in (None, "utf-8") and any(not text.isascii() for *_, text in words):
        # Raw bytes: in UTF-8 if they can be.
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            pass
    return decode(content, charset)


def _q_decoded(text: bytes) -> bytes:
    return quoted_printable_decoded(text.replace(b"_", b" ").replace(b" ", b"=20"))


class Parameters(NamedTuple):
    """A value like that of Content-Type: what stands before the first semicolon, and its parameters by name."""

    value: str
    parameters: dict[str, str]
    #: The parameters as they were written, quotes and all.
    written: dict[str, str]


_HEAD = re.compile(r'\s*"?([^;"]*)"?')
_NAME = re.compile(r'[;\s"]*([^=;]*)')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"')
_ESCAPE = re.compile(r"\\(.)")
_EXTENDED = re.compile(r"([^*]+)(?:\*(\d{1,4}))?(\*)?")
MAX_PARAMETERS = 1_000


@lru_cache(maxsize=1024)
def parameters_of(value: str) -> Parameters:
    """Take a value (as ``unfolded`` gives it) apart, the way that mail programs do: nearly anything goes."""
    head = _HEAD.match(value)
    first = head[1].strip() if head else ""
    at = head.end() if head else 0
    kind, _, _ = first.partition(" ")
    if "=" in first:
        # The first semicolon is missing, or the value itself.
        at = 0 if "=" in kind else value.find(kind) + len(kind)
        first = "" if "=" in kind else kind
    segments: dict[str, list[tuple[int, bool, str]]] = {}
    written: dict[str, str] = {}
    closed = True
    for _ in range(MAX_PARAMETERS):
        if at >= len(value):
            break
        match = _NAME.match(value, at)
        assert match is not None
        at = match.end()
        name = match[1].strip().lower()
        if at >= len(value) or value[at] != "=":
            at += 1
            continue
        at += 1
        while at < len(value) and value[at] in " \t":
            at += 1
        quoted = _QUOTED.match(value, at) if closed and value[at : at + 1] == '"' else None
        if quoted is not None:
            token, content = quoted[0], _ESCAPE.sub(r"\1", quoted[1])
            at = value.find(";", quoted.end())
        else:
            closed = closed and value[at : at + 1] != '"'
            end = value.find(";", at)
            token = (value[at:] if end < 0 else value[at:end]).strip()
            content = token.strip('"')
            at = end
        at = len(value) if at < 0 else at + 1
        extended = _EXTENDED.fullmatch(name)
        if extended is None:
            continue
        key = extended[1].strip()
        written.setdefault(key, token)
        segments.setdefault(key, []).append((int(extended[2] or -1), bool(extended[3]), content))
    return Parameters(first, {name: _assembled(found) for name, found in segments.items()}, written)


def _assembled(segments: list[tuple[int, bool, str]]) -> str:
    """One parameter: extended (RFC 2231) if it can be, else in pieces, else as it is; the first of several."""
    whole = [content for number, extended, content in segments if number < 0 and extended]
    if whole:
        return _extended([(True, whole[0])])
    numbered = {number: (extended, content) for number, extended, content in reversed(segments) if number >= 0}
    if numbered:
        return _extended([numbered[number] for number in sorted(numbered)])
    return segments[0][2]


def _extended(pieces: list[tuple[bool, str]]) -> str:
    charset = None
    content = b""
    found = []
    for index, (extended, piece) in enumerate(pieces):
        if extended and index == 0 and piece.count("'") >= 2:
            charset, _, piece = piece.split("'", 2)
        found.append(unquote_to_bytes(_bytes(piece)) if extended else _bytes(piece))
    content = b"".join(found)
    if charset and codec_of(charset) is not None:
        return decode(content, charset)
    return content.decode("ascii", "surrogateescape")


def file_name(name: str | None) -> str | None:
    """A file's name without its path and without what cannot be shown; None when nothing is left."""
    bare = CONTROLS.sub(" ", decoded(_LINE_BREAKS.sub(" ", name or "")).replace("\0", ""))
    bare = re.split(r"[/\\]", bare)[-1].strip()
    bare = re.sub(r"^[A-Za-z]:", "", bare)
    return None if bare in ("", ".", "..") else bare


_COMMENT = re.compile(r"\([^()]*\)?")
_FRACTION = re.compile(r"(\d\d:\d\d:\d\d)[.,](\d{1,9})")
_ZONE = re.compile(r"(?:\b(?:GMT|UTC|UT|Z))?\s*([+-]\d\d):?(\d\d)\b")
_ISO = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?")


def date_of(value: object) -> dt.datetime | None:
    """A date, aware: in UTC when the zone is missing, unknown (``-0000``) or impossible. None for what is none."""
    text = text_of(value)[:200]
    bare = " ".join(_COMMENT.sub(" ", text).split())
    micro = _FRACTION.search(bare)
    plain = _FRACTION.sub(r"\1", bare)
    found = _ISO.match(plain)
    try:
        if found is not None:
            moment = dt.datetime.fromisoformat(found[0])
            zone = _ZONE.match(plain, found.end())
            date: dt.datetime = moment.replace(tzinfo=_offset(zone[1], zone[2]) if zone else dt.UTC)
        else:
            parsed = parsedate_tz(_ZONE.sub(r" \1\2", plain))
            if parsed is None:
                return None
            date = dt.datetime(*parsed[:6], tzinfo=_seconds(parsed[9]))
        return date.replace(microsecond=int(micro[2][:6].ljust(6, "0"))) if micro else date
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _offset(hours: str, minutes: str) -> dt.timezone:
    sign = -1 if hours[0] == "-" else 1
    return _seconds(sign * (int(hours[1:]) * 3600 + int(minutes) * 60))


def _seconds(offset: int | None) -> dt.timezone:
    return dt.timezone(dt.timedelta(seconds=offset)) if offset and abs(offset) < 86_400 else dt.UTC
