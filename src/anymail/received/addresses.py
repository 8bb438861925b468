"""Address headers of received mail, read leniently: what stands in angle brackets is the address.

The strict parser for what is sent is ``anymail.mail.addresses``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from anymail.mail.addresses import EmailAddress
from anymail.received.headers import CONTROLS, decoded

__all__ = ["addresses_of"]

MAX_LENGTH = 100_000
_ENCODED_WORD = re.compile(r"=\?[^?\s]{1,100}\?[bBqQ]\?[^?\s]*+\?=")
# Marks for what is hidden while the structure is read; they are removed from what came in.
_MARK = re.compile("\ue000([0-9]+)\ue001")
_NO_MARKS = {0xE000: None, 0xE001: None}
_ESCAPE = re.compile(r"\\(.)")
_PLAIN = re.compile(r'[^"(<,;:\[]+')
_LITERAL = re.compile(r"\[[0-9A-Za-z:.]{1,60}\]")


def addresses_of(value: str, charset: str | None = None, one: bool = False) -> list[EmailAddress]:
    """The addresses in a header's value (as ``unfolded`` gives it), none for what holds none.

    ``one``: between two commas there can be one address only, the last in angle brackets, as in From: all before it
    is a name, whatever it looks like.
    """
    found = list(_read(value, charset, one))
    if not found and "=?" in value:
        # All of it encoded, angle brackets too.
        whole = decoded(value[:MAX_LENGTH], charset)
        found = [] if "=?" in whole else list(_read(whole, charset, one))
    return found


class _Hidden:
    """Pieces of a header whose content must not be taken for structure."""

    def __init__(self) -> None:
        self.pieces: list[str] = []

    def hide(self, piece: str) -> str:
        self.pieces.append(piece)
        return f"\ue000{len(self.pieces) - 1}\ue001"

    def shown(self, text: str, unquote: bool) -> str:
        while "\ue000" in text:
            text = _MARK.sub(lambda at: self._piece(int(at[1]), unquote), text)
        return text

    def _piece(self, index: int, unquote: bool) -> str:
        piece = self.pieces[index]
        return _ESCAPE.sub(r"\1", piece[1:-1]) if unquote and piece[:1] == '"' else piece


def _read(value: str, charset: str | None, one: bool) -> Iterator[EmailAddress]:
    hidden = _Hidden()
    value = value[:MAX_LENGTH].translate(_NO_MARKS)
    value = _ENCODED_WORD.sub(lambda word: hidden.hide(word[0]), value)
    pending = ""
    for words, angles, comment in _segments(value, hidden):
        name = " ".join(f"{pending} {words}".split())
        if angles:
            pending = ""
            specs = [_spec(hidden.shown(angle, False)) for angle in angles]
            specs = [spec for spec in specs if spec]
            if one and len(specs) > 1:
                name = f"{name} {' '.join(f'<{spec}>' for spec in specs[:-1])}".strip()
                specs = specs[-1:]
            for spec in specs:
                yield EmailAddress(_name(name or comment, hidden, charset), spec)
            continue
        bare = words.split()
        at = next((at for at in range(len(bare) - 1, -1, -1) if "@" in bare[at]), None)
        spec = _spec(hidden.shown(bare[at], False)) if at is not None else ""
        if at is not None and spec:
            rest = " ".join([*bare[:at], *bare[at + 1 :]])
            yield EmailAddress(_name(rest or comment, hidden, charset), spec)
            pending = ""
        else:
            # A name with a comma in it that nobody quoted: "Doe, John <john@example.com>".
            pending = f"{name}," if name and len(name) < 1_000 else ""


def _segments(value: str, hidden: _Hidden) -> Iterator[tuple[str, list[str], str]]:
    """What stands between commas: the words, what is in angle brackets, and the comment."""
    words: list[str] = []
    angles: list[str] = []
    comments: list[str] = []
    open_quotes = open_comments = open_angles = True
    group_ends = value.rfind(";")
    at = 0
    while at < len(value):
        plain = _PLAIN.match(value, at)
        if plain:
            words.append(plain[0])
            at = plain.end()
            continue
        character = value[at]
        if character == '"' and open_quotes:
            end = _end_of_quoted(value, at)
            open_quotes = end > 0
            if end > 0:
                words.append(hidden.hide(value[at:end]))
                at = end
                continue
        elif character == "(" and open_comments:
            end = _end_of_comment(value, at)
            open_comments = end > 0
            if end > 0:
                comments.append(value[at + 1 : end - 1])
                at = end
                continue
        elif character == "<" and open_angles:
            end = value.find(">", at)
            open_angles = end > 0
            inner = value[at + 1 : end] if end > 0 else value[at + 1 :].partition(",")[0]
            if "@" in hidden.shown(inner, False):
                # Of "<<a@b>" the inner one.
                angles.append(inner.rpartition("<")[2])
                at = end + 1 if end > 0 else at + 1 + len(inner)
                continue
            if end > 0:
                at = end + 1
                words.append(f" {inner} ")
                continue
        elif character == "[":
            literal = _LITERAL.match(value, at)
            if literal:
                words.append(hidden.hide(literal[0]))
                at = literal.end()
                continue
        elif character in ",;" or (character == ":" and at < group_ends):
            if character != ":":
                yield "".join(words), angles, " ".join(comments)
            words, angles, comments = [], [], []
            at += 1
            continue
        words.append(" " if character in '"<' else character)
        at += 1
    yield "".join(words), angles, " ".join(comments)


def _end_of_quoted(value: str, at: int) -> int:
    end = at + 1
    while (end := _find_any(value, end)) >= 0:
        if value[end] == '"':
            return end + 1
        end += 2
    return -1


_QUOTE_OR_ESCAPE = re.compile(r'["\\]')


def _find_any(value: str, at: int) -> int:
    found = _QUOTE_OR_ESCAPE.search(value, at)
    return found.start() if found else -1


_IN_COMMENT = re.compile(r"[()\\]")


def _end_of_comment(value: str, at: int) -> int:
    depth = 0
    while found := _IN_COMMENT.search(value, at):
        at = found.end()
        if found[0] == "\\":
            at += 1
        else:
            depth += 1 if found[0] == "(" else -1
            if not depth:
                return at
    return -1


_IN_SPEC = re.compile(r'("(?:[^"\\]|\\.)*+")|\s+|\([^()]*\)')


def _spec(text: str) -> str:
    """A bare address; empty for what is none."""
    text = _IN_SPEC.sub(lambda at: at[1] or "", text)
    # A route (RFC 5322, 4.4), or a link.
    if text.startswith("@") or text[:7].lower() == "mailto:":
        text = text.partition(":")[2]
    text = CONTROLS.sub("", decoded(text)).strip("<>,;")
    if len(text) > 2 and text[0] == "'" and text[-1] == "'":
        text = text[1:-1]
    user, at, domain = text.rpartition("@")
    return (
        f"{user}@{domain.strip(chr(39)) if not user.startswith(chr(39)) else domain}" if at and user and domain else ""
    )


def _name(text: str, hidden: _Hidden, charset: str | None) -> str:
    name = decoded(hidden.shown(text, True), charset)
    return " ".join(CONTROLS.sub(" ", name).strip(" ,").split())
