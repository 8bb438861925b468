"""Where the header, the parts and the attached messages of a mail begin and end.

Python's own parser looks at each line once for every open multipart, a microsecond each: 25 MB of line breaks take it
half a minute. Here only the lines that may be delimiters are looked at, once each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from anymail.received.headers import parameters_of, unfolded
from anymail.received.transfer import decoded

__all__ = ["AnymailInboundLimitError", "Part", "content_type_of", "header_fields", "structure_of"]

MAX_BYTES = 150 * 1024 * 1024
MAX_HEADER_BYTES = 1024 * 1024
MAX_HEADER_LINES = 500_000
#: Multiparts within each other, and messages within each other.
MAX_NESTING = 100
MAX_PARTS = 2_000


class AnymailInboundLimitError(ValueError):
    """A received mail is larger, or more deeply nested, than any that a person sends."""


@dataclass(slots=True)
class Part:
    """A message or a part of one: ``source[start:end]``, of which the body is ``source[body:end]``."""

    source: bytes
    start: int
    body: int
    end: int
    fields: list[tuple[str, str]]
    content_type: str
    unixfrom: str | None = None
    #: The parts of a multipart, the one message in a message/*; None of what has none.
    children: list[Part] | None = None
    #: Where what stands before the first part, and after the last, ends and begins.
    preamble_end: int | None = None
    epilogue: int | None = None

    @property
    def content(self) -> bytes:
        return self.source[self.body : self.end]


@dataclass(slots=True)
class _Open:
    """A multipart or an attached message that has not ended."""

    part: Part
    #: Of a multipart: the delimiters that its header may mean, then the one that was met.
    delimiters: tuple[bytes, ...] = ()
    closed: bool = False
    #: Whether a part is being read, between two delimiters.
    reading: bool = False


_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")
_KNOWN = re.compile(
    rb"(?im)^(?:from|to|cc|subject|date|message-id|received|return-path|mime-version|content-[a-z-]+|x-[a-z-]+)[ \t]*:"
)
_TOKEN_TYPE = re.compile(r"[^\s/;\"'<>]+/[^\s/;\"'<>]+")
_NO_SLASH = {
    "multipart": "multipart/mixed",
    "multipart/": "multipart/mixed",
    "message": "message/rfc822",
    "html": "text/html",
}
# Of a message/* type with these there is no message inside.
_REPORTS = frozenset({"message/delivery-status", "message/global-delivery-status"})


def content_type_of(value: str | None, default: str = "text/plain") -> str:
    """The type in a Content-Type header, in lower case; ``default`` without one, text/plain for what is none."""
    if value is None:
        return default
    kind = parameters_of(unfolded(value)).value.strip().lower()
    return kind if _TOKEN_TYPE.fullmatch(kind) else _NO_SLASH.get(kind, "text/plain")


def header_fields(block: bytes) -> list[tuple[str, str]]:
    """The fields of a block of header lines."""
    return _header(block, 0, len(block), _Count(), True)[0]


class _Count:
    """What is bounded over the whole mail."""

    def __init__(self) -> None:
        self.parts = 0
        self.lines = 0


def structure_of(source: bytes) -> Part:
    """Take a mail apart. Raises AnymailInboundLimitError."""
    if len(source) > MAX_BYTES:
        raise AnymailInboundLimitError(f"A received mail of over {MAX_BYTES} bytes is refused.")
    if b"\n" not in source:
        # The line ends of an age ago. Their length is the same, so that all else is.
        return _structure(source, source.replace(b"\r", b"\n"), _Count(), 0)
    return _structure(source, source, _Count(), 0)


def _structure(source: bytes, lines: bytes, count: _Count, depth: int) -> Part:
    root = _begin(source, lines, 0, len(lines), "text/plain", count, True)
    stack: list[_Open] = []
    _open(root, stack, lines, count, depth)
    at = max(root.body - 1, 0)
    while stack:
        delimiters = {one: place for place, each in enumerate(stack) for one in each.delimiters}
        opened = {one: place for one, place in delimiters.items() if not stack[place].closed}
        for place, each in enumerate(stack):
            for one in each.delimiters:
                if not each.closed:
                    opened[one] = place
        met = _next(lines, at, delimiters, opened)
        if met is None:
            break
        start, after, delimiter, place, closes = met
        ends = start - 1 if start and lines[start - 1 : start] == b"\r" else start
        # The delimiter ends all that is open within its multipart.
        _end(stack[place + 1 :], ends)
        frame = stack[place]
        frame.delimiters = (delimiter,)
        _end_part(frame, ends)
        del stack[place + 1 :]
        frame.closed = closes
        if closes:
            frame.part.epilogue = after
            at = max(after - 1, start + 1)
            continue
        frame.part.epilogue = None
        default = "message/rfc822" if frame.part.content_type == "multipart/digest" else "text/plain"
        part = _begin(source, lines, min(after, len(lines)), len(lines), default, count, False)
        assert frame.part.children is not None
        frame.part.children.append(part)
        frame.reading = True
        at = max(part.body - 1, after - 1)
        _open(part, stack, lines, count, depth)
    _end(stack, len(lines))
    for frame in stack:
        _end_part(frame, len(lines))
    _decode_attached(root, count, depth)
    return root


def _next(
    lines: bytes, at: int, delimiters: dict[bytes, int], opened: dict[bytes, int]
) -> tuple[int, int, bytes, int, bool] | None:
    """The next delimiter: where its line begins (with the line end before) and ends, its text, whose, if the last."""
    if not delimiters:
        return None
    pattern = _pattern(delimiters)
    for match in pattern.finditer(lines, at):
        line = match[1].rstrip(b" \t\r")
        after = min(match.end() + 1, len(lines))
        if line in delimiters:
            return match.start(), after, line, opened.get(line, delimiters[line]), False
        if line.endswith(b"--") and (bare := line[:-2].rstrip(b" \t")) in delimiters:
            return match.start(), after, bare, opened.get(bare, delimiters[bare]), True
    return None


def _pattern(delimiters: dict[bytes, int]) -> re.Pattern[bytes]:
    """Lines that may be one of these: a set of bytes for each of the first four places."""
    places = [{one[place] for one in delimiters} for place in range(min(4, *map(len, delimiters)))]
    classes = b"".join(b"[" + b"".join(b"\\x%02x" % byte for byte in sorted(place)) + b"]" for place in places)
    return re.compile(rb"\n--(" + classes + rb"[^\n]*+)")


def _begin(source: bytes, lines: bytes, start: int, limit: int, default: str, count: _Count, message: bool) -> Part:
    """A part that begins here; where it ends is not known yet."""
    count.parts += 1
    if count.parts > MAX_PARTS:
        raise AnymailInboundLimitError(f"A received mail of over {MAX_PARTS} parts is refused.")
    fields, body, unixfrom = _header(lines, start, limit, count, message)
    value = next((value for name, value in fields if name.lower() == "content-type"), None)
    return Part(source, start, body, limit, fields, content_type_of(value, default), unixfrom)


def _open(part: Part, stack: list[_Open], lines: bytes, count: _Count, depth: int) -> None:
    """Put a part that may hold others on the stack, and the message within a message."""
    while True:
        maintype = part.content_type.partition("/")[0]
        if maintype == "multipart":
            delimiters = _delimiters(part, lines)
            if delimiters:
                part.children = []
                stack.append(_Open(part, delimiters))
            break
        if maintype != "message" or part.content_type in _REPORTS or _encoding(part) in ("base64", "quoted-printable"):
            break
        stack.append(_Open(part, reading=True))
        inner = _begin(part.source, lines, part.body, len(lines), "text/plain", count, True)
        part.children = [inner]
        part = inner
    multiparts = sum(bool(each.delimiters) for each in stack)
    if max(multiparts, len(stack) - multiparts) + depth > MAX_NESTING:
        raise AnymailInboundLimitError(f"A received mail with over {MAX_NESTING} nested parts is refused.")


def _encoding(part: Part) -> str:
    value = next((value for name, value in part.fields if name.lower() == "content-transfer-encoding"), "")
    return unfolded(value).partition(";")[0].strip("\"' ").lower()


_GUESS = re.compile(rb"(?:\A|\n)--([!-~][^\n]{2,69}+)\n")


def _delimiters(part: Part, lines: bytes) -> tuple[bytes, ...]:
    """What may follow the two dashes: the boundary as it is written, or as other programs would read it."""
    value = next((value for name, value in part.fields if name.lower() == "content-type"), "")
    found = parameters_of(unfolded(value))
    written, boundary = found.written.get("boundary", ""), found.parameters.get("boundary", "")
    bare = written.strip("'\"") if len(written) > 2 else written
    first = boundary.split()[0] if boundary.split() else ""
    named = [boundary, written.strip('"'), written, bare, first.partition("(")[0] if first != boundary else ""]
    delimiters = dict.fromkeys(one.encode("utf-8", "surrogateescape").rstrip(b" \t\r") for one in named)
    delimiters.pop(b"", None)
    if not delimiters and (guess := _GUESS.search(lines, max(part.body - 1, 0), part.body + 10_000)):
        # No boundary at all: the first line that looks like one.
        delimiters = dict.fromkeys([guess[1].rstrip(b" \t\r")])
    return tuple(delimiters)


def _end(frames: list[_Open], at: int) -> None:
    for frame in frames:
        _end_part(frame, at)
        frame.part.end = max(at, frame.part.body)
        frame.reading = False


def _end_part(frame: _Open, at: int) -> None:
    """End what is being read in a multipart or message."""
    children = frame.part.children or []
    if frame.reading and children:
        last = children[-1]
        last.end = max(at, last.start)
        if last.body > last.end:
            # Its header was read into the delimiter: there was no blank line before it.
            last.body = last.end
    elif not frame.reading and not children and frame.part.preamble_end is None:
        frame.part.preamble_end = max(at, frame.part.body)
    frame.reading = False if frame.delimiters else frame.reading


def _decode_attached(part: Part, count: _Count, depth: int) -> None:
    """Messages that are attached in base64, which RFC 2046 (5.2.1) forbids and some programs do."""
    waiting = [part]
    while waiting:
        each = waiting.pop()
        waiting += each.children or ()
        encoding = _encoding(each)
        if each.children is None and each.content_type.startswith("message/") and each.content_type not in _REPORTS:
            content = decoded(each.content, encoding) if encoding in ("base64", "quoted-printable") else None
            if content is not None:
                if depth >= MAX_NESTING:
                    raise AnymailInboundLimitError(f"A received mail with over {MAX_NESTING} nested parts is refused.")
                each.children = [_structure(content, content, count, depth + 1)]


def _header(
    lines: bytes, start: int, limit: int, count: _Count, message: bool
) -> tuple[list[tuple[str, str]], int, str | None]:
    """Header fields, and where the body begins. One line that is no header field does not end the header."""
    fields: list[tuple[str, list[bytes]]] = []
    unixfrom = None
    at = start
    if message:
        at = _without_leading_blanks(lines, start, limit)
    blank_at: int | None = None
    while at < limit:
        end = lines.find(b"\n", at, limit)
        end, after = (limit, limit) if end < 0 else (end, end + 1)
        if after - start > MAX_HEADER_BYTES and fields:
            raise AnymailInboundLimitError(
                f"A received mail with a header of over {MAX_HEADER_BYTES} bytes is refused."
            )
        line = lines[at:end].rstrip(b"\r") if end - at <= MAX_HEADER_BYTES else lines[at : at + MAX_HEADER_BYTES + 1]
        if not line:
            return _decoded_fields(fields), after, unixfrom
        count.lines += 1
        if count.lines > MAX_HEADER_LINES:
            raise AnymailInboundLimitError(f"A received mail of over {MAX_HEADER_LINES} header lines is refused.")
        first = line[:1] in b" \t"
        match = _FIELD.match(line.lstrip(b" \t") if first and not fields else line)
        if match is not None and (not first or not fields):
            if len(line) > MAX_HEADER_BYTES:
                raise AnymailInboundLimitError(
                    f"A received mail with a header of over {MAX_HEADER_BYTES} bytes is refused."
                )
            stripped = line.lstrip(b" \t") if first else line
            fields.append((match[1].decode("ascii"), [stripped[match.end() :].lstrip(b" \t")]))
        elif fields and first:
            fields[-1][1].append(line)
        elif message and line.startswith((b"From ", b">From ")) and (not fields or line.startswith(b">")):
            unixfrom = unixfrom or line.decode("ascii", "replace")
        else:
            if blank_at is None or blank_at < at:
                blank_at = _blank_line(lines, at, limit)
            if not fields and not (blank_at < limit and _KNOWN.search(lines, after, min(blank_at, after + 10_000))):
                return [], at if message and unixfrom else start, unixfrom
            if line.startswith(b"--") or blank_at >= limit or blank_at - start > MAX_HEADER_BYTES:
                # The blank line is missing, and this is the body.
                return _decoded_fields(fields), at, unixfrom
            if fields:
                # A continuation without its blank.
                fields[-1][1].append(b" " + line)
        at = after
    return _decoded_fields(fields), limit, unixfrom


_BLANK_LINE = re.compile(rb"\n\r*\n")


def _blank_line(lines: bytes, at: int, limit: int) -> int:
    match = _BLANK_LINE.search(lines, at, min(limit, at + MAX_HEADER_BYTES + 2))
    return match.start() + 1 if match else limit


_BLANKS = re.compile(rb"[ \t\r\n]*\n")


def _without_leading_blanks(lines: bytes, start: int, limit: int) -> int:
    """Where the header begins when blank lines stand before it."""
    blanks = _BLANKS.match(lines, start, min(limit, start + 10_000))
    if blanks is None:
        return start
    at = blanks.end()
    known = _KNOWN.match(lines, at, limit) if lines[at : at + 1] not in b" \t" else None
    return at if known else start


def _decoded_fields(fields: list[tuple[str, list[bytes]]]) -> list[tuple[str, str]]:
    return [(name, b"\n".join(value).decode("ascii", "surrogateescape")) for name, value in fields]
