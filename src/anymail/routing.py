"""Routes for received mail: which function or class handles a message, by the address it was sent to.

::

    from anymail.routing import InboundHandler, bounce_with, inbound_route

    @inbound_route("support@", r"help-(?P<team>[a-z]+)@")
    def support(event, team=None): ...

    @inbound_route(default=True)
    class Unknown(InboundHandler):
        def process(self):
            bounce_with(self.event, EmailMessage("Unknown address", "Nobody reads that."))

Put routes where they are imported when Django starts, such as a module that ``AppConfig.ready`` imports.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from inspect import isclass, iscoroutinefunction
from typing import Any, NoReturn, TypeVar

from asgiref.sync import async_to_sync
from django.core.mail import EmailMessage
from django.dispatch import Signal

from anymail.signals import AnymailInboundEvent, inbound

__all__ = [
    "InboundBounced",
    "InboundHandler",
    "InboundRouter",
    "bounce_with",
    "inbound_failed",
    "inbound_route",
    "router",
]

logger = logging.getLogger("anymail.routing")

#: A route raised: ``sender`` (the route's handler), ``event``, ``error``, ``esp_name``. A receiver may keep the message
#: (``event.message.as_bytes()``) for ``router.route`` to try again later.
inbound_failed = Signal()

Pattern = str | re.Pattern[str] | Callable[[AnymailInboundEvent], bool]
HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])
_MAX_ADDRESS = 320


class InboundBounced(Exception):
    """Raised by ``bounce_with`` to end the handler; the router takes the message for handled."""


class InboundHandler:
    """A base for routes that are classes: one instance per message. ``process`` gets what the pattern named."""

    def __init__(self, event: AnymailInboundEvent) -> None:
        self.event = event
        self.message = event.message

    def process(self, **named: str) -> Any:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class _Route:
    patterns: tuple[Pattern, ...]
    handler: Callable[..., Any]

    def match(self, event: AnymailInboundEvent, addresses: list[str]) -> dict[str, str] | None:
        """What the pattern named, in the first address that it matches; None when there is none."""
        for pattern in self.patterns:
            if callable(pattern):
                if pattern(event):
                    return {}
                continue
            for address in addresses:
                found = re.compile(pattern, re.IGNORECASE).match(address) if isinstance(pattern, str) else (
                    pattern.match(address)
                )  # fmt: skip
                if found is not None:
                    return {name: value for name, value in found.groupdict().items() if value is not None}
        return None


@dataclass(slots=True)
class InboundRouter:
    """The routes of a project, in the order in which they were made: the first that matches handles the message."""

    _routes: list[_Route] = field(default_factory=list)
    _default: Callable[..., Any] | None = None

    def add(self, handler: Callable[..., Any], *patterns: Pattern, default: bool = False) -> None:
        """Add a route. Raises ValueError or TypeError for one that could never match or be called."""
        if not callable(handler) or (isclass(handler) and not callable(getattr(handler, "process", None))):
            raise TypeError("A route leads to a function, or to a class with a method process.")
        if not patterns and not default:
            raise ValueError("A route needs a pattern, or default=True.")
        for pattern in patterns:
            if isinstance(pattern, str):
                re.compile(pattern)
        if default:
            if self._default is not None and self._default is not handler:
                raise ValueError("There is a default route already.")
            self._default = handler
        if patterns:
            self._routes.append(_Route(patterns, handler))

    def clear(self) -> None:
        """Forget all routes, in tests."""
        self._routes.clear()
        self._default = None

    def route(self, event: AnymailInboundEvent, esp_name: str | None = None) -> bool:
        """Have the first route that matches handle the message; False when there is none.

        Raises what the handler raises, after ``inbound_failed`` was sent.
        """
        found = self._find(event)
        if found is None:
            return False
        handler, named = found
        try:
            _call(handler, event, named)
        except InboundBounced:
            logger.info("A received message was bounced by its route.")
        except Exception as error:
            inbound_failed.send_robust(handler, event=event, error=error, esp_name=esp_name)
            raise
        return True

    def _find(self, event: AnymailInboundEvent) -> tuple[Callable[..., Any], dict[str, str]] | None:
        # The envelope says which of several recipients this copy is for.
        for addresses in ([event.message.envelope_recipient or ""], list(_header_recipients(event))):
            for route in self._routes:
                named = route.match(event, [one for one in addresses if 0 < len(one) <= _MAX_ADDRESS])
                if named is not None:
                    return route.handler, named
        return None if self._default is None else (self._default, {})


def _header_recipients(event: AnymailInboundEvent) -> Iterator[str]:
    message = event.message
    for address in [*message.to, *message.cc, *message.bcc]:
        yield address.addr_spec
    for name in ("Delivered-To", "X-Original-To"):
        for value in message.get_all(name, []):
            yield str(value).strip(" <>")


def _call(handler: Callable[..., Any], event: AnymailInboundEvent, named: dict[str, str]) -> None:
    call: Any
    if isinstance(handler, type):
        call = getattr(handler(event), "process")  # noqa: B009
        arguments: tuple[Any, ...] = ()
    else:
        call, arguments = handler, (event,)
    (async_to_sync(call) if iscoroutinefunction(call) else call)(*arguments, **named)


#: The routes that ``inbound_route`` makes.
router = InboundRouter()


def inbound_route(*patterns: Pattern, default: bool = False) -> Callable[[HandlerT], HandlerT]:
    """Have a function, or a class with a method ``process``, handle the messages to certain addresses.

    ``patterns``: regular expressions that an address begins with, whatever its case (``"support@"``), compiled ones,
    or functions of the event. What a pattern names (``(?P<token>…)``) is passed as a keyword. A function gets the
    event first; a class is made with it. ``default``: for what no other route matches.
    """

    def decorate(handler: HandlerT) -> HandlerT:
        router.add(handler, *patterns, default=default)
        inbound.connect(_receive, dispatch_uid="anymail.routing")
        return handler

    return decorate


def _receive(event: AnymailInboundEvent, esp_name: str | None = None, **_: Any) -> None:
    router.route(event, esp_name)


def bounce_with(event: AnymailInboundEvent, reply: EmailMessage) -> NoReturn:
    """Send ``reply`` to the sender of a message, and end its handler.

    ``reply`` gets the recipient and the headers of an automatic reply (RFC 3834). Nothing is sent to a machine, to an
    empty envelope sender or to nobody: two robots would write to each other for ever. Always raises InboundBounced;
    what the sending raises is raised instead.
    """
    message = event.message
    sender = message.envelope_sender or (message.from_email.addr_spec if message.from_email else None)
    if sender and not message.is_auto_reply:
        reply.to = [sender]
        reply.extra_headers.setdefault("Auto-Submitted", "auto-replied")
        message_id = str(message.get("Message-ID", "")).strip()
        if message_id.startswith("<") and message_id.isascii() and len(message_id) < 900:
            reply.extra_headers.setdefault("In-Reply-To", message_id)
            reply.extra_headers.setdefault("References", message_id)
        reply.send()
    raise InboundBounced
