"""The bodies of a message and what else is in it, sorted."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anymail.inbound import AnymailInboundMessage

__all__ = ["Contents", "contents_of", "html_of", "leaves_of", "text_of_html"]

_PLAIN, _HTML = "text/plain", "text/html"


@dataclass(slots=True)
class Contents:
    """``bodies``: each in its two forms, text and HTML, None where it has not that form."""

    bodies: list[tuple[AnymailInboundMessage | None, AnymailInboundMessage | None]] = field(default_factory=list)
    attachments: list[AnymailInboundMessage] = field(default_factory=list)
    inlines: list[AnymailInboundMessage] = field(default_factory=list)

    def joined(self, read: Callable[[AnymailInboundMessage], str]) -> tuple[str | None, str | None]:
        """Text and HTML: of each body the form that is wanted, or made from the other when only some have it."""
        plain = rich = None
        if any(text is not None for text, _ in self.bodies):
            plain = _join([read(text) if text is not None else text_of_html(read(html)) for text, html in self.bodies])  # type: ignore[arg-type]
        if any(html is not None for _, html in self.bodies):
            rich = _join([read(html) if html is not None else html_of(read(text)) for text, html in self.bodies])  # type: ignore[arg-type]
        return plain, rich


def _join(bodies: list[str]) -> str:
    """One after the other, each on lines of its own."""
    joined = "".join(body if body.endswith("\n") else f"{body}\n" for body in bodies[:-1])
    return joined + bodies[-1]


def html_of(text: str) -> str:
    """Plain text as HTML that looks like it."""
    return '<div style="white-space: pre-wrap">' + html.escape(text, quote=False) + "</div>"


_BREAK = re.compile(r"(?i)<(?:br|/p|/div|/tr|/li|/h[1-6])\b[^<>]*>")
_TAG = re.compile(r"<[a-zA-Z/!?][^<>]*>")


def text_of_html(source: str) -> str:
    """What HTML says, without its marks: a makeshift for a body that has no text of its own."""
    for name in ("head", "title", "style", "script"):
        source = _without(name, source)
    return html.unescape(_TAG.sub("", _BREAK.sub("\n", source))).strip() + "\n"


def _without(name: str, source: str) -> str:
    """HTML without the elements of this name."""
    begins, ends = re.compile(rf"(?i)<{name}\b[^<>]*>"), re.compile(rf"(?i)</{name}\s*>")
    kept: list[str] = []
    at = 0
    while (begin := begins.search(source, at)) and (end := ends.search(source, begin.end())):
        kept.append(source[at : begin.start()])
        at = end.end()
    kept.append(source[at:])
    return "".join(kept)


def leaves_of(message: AnymailInboundMessage) -> list[AnymailInboundMessage]:
    """The parts that hold content; an attached message is one, whatever is in it."""
    found, waiting = [], [message]
    while waiting:
        part = waiting.pop()
        children = part._parts()
        if children is not None and part.get_content_maintype() == "multipart":
            waiting += reversed(children)
        else:
            found.append(part)
    return found


def contents_of(message: AnymailInboundMessage) -> Contents:
    """Sort the parts of a message, and (attachments and inlines only) of the messages attached to it."""
    contents = Contents()
    waiting = [message]
    while waiting:
        each = waiting.pop(0)
        own = _own(each)
        if each is message:
            contents.bodies = own.bodies
        for part in own.attachments:
            contents.attachments.append(part)
            waiting += part._attached_messages()
        contents.inlines += own.inlines
        for part in own.inlines:
            waiting += part._attached_messages()
    return contents


def _own(message: AnymailInboundMessage) -> Contents:
    contents = Contents()
    named: list[AnymailInboundMessage] = []
    _sort(message, contents, named)
    if not contents.bodies and named:
        # The only text is the body, also when it has a name.
        body = next((part for part in named if not part.is_attachment()), None)
        if body is not None:
            contents.bodies = [(body, None) if body._body_type() == _PLAIN else (None, body)]
            for kind in (contents.attachments, contents.inlines):
                kind[:] = [part for part in kind if part is not body]
    return contents


def _sort(part: AnymailInboundMessage, contents: Contents, named: list[AnymailInboundMessage]) -> None:
    children = part._parts()
    kind = part.get_content_type()
    if children is None or not kind.startswith("multipart/"):
        body_type = part._body_type()
        if body_type is None or part.is_attachment():
            (contents.inlines if part.is_inline() else contents.attachments).append(part)
        elif part.get_filename():
            named.append(part)
            (contents.inlines if part.is_inline() else contents.attachments).append(part)
        else:
            contents.bodies.append((part, None) if body_type == _PLAIN else (None, part))
    elif kind == "multipart/alternative":
        inner = Contents()
        for child in children:
            _sort(child, inner, named)
        _alternative(inner, contents)
    else:
        before = len(contents.bodies)
        positions: list[int] = []
        for child in children:
            _sort(child, contents, named)
            positions.append(len(contents.bodies))
        found = contents.bodies[before:]
        # Two forms of one body by a program that knows no alternatives.
        if [(text is None, html is None) for text, html in found] == [(False, True), (True, False)] and (
            positions[:2] == [before + 1, before + 2]
        ):
            contents.bodies[before:] = [(found[0][0], found[1][1])]


def _alternative(inner: Contents, contents: Contents) -> None:
    """The first text and the first HTML are one body; what else there is, a scanner wants to see."""
    texts = [text for text, _ in inner.bodies if text is not None]
    htmls = [html for _, html in inner.bodies if html is not None]
    if inner.bodies:
        contents.bodies.append((texts[0] if texts else None, htmls[0] if htmls else None))
    contents.attachments += [*inner.attachments, *texts[1:], *htmls[1:]]
    contents.inlines += inner.inlines
