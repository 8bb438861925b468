"""What the tests share: messages in one line, flows driven by hand, webhook calls, and their expectations."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.core.mail import EmailMultiAlternatives
from django.test import Client

from anymail.conf import load
from anymail.esps.kit.sending import ESP
from anymail.inbound import AnymailInboundMessage
from anymail.mail.message import OutgoingMail, outgoing_mail
from anymail.mail.supports import fit
from anymail.signals import AnymailInboundEvent, AnymailTrackingEvent
from anymail.wire import Flow, Request, Response

ESPS = Path(__file__).parent / "esps"

#: The least that a message has.
PLAIN = {"subject": "Hi", "body": "Hello", "from_email": "shop@example.com", "to": ["ana@example.net"]}
PNG = bytes.fromhex("89504e470d0a1a0a")


def message(*, html: str | None = None, attach: list[tuple[Any, ...]] | None = None, **attributes: Any) -> Any:
    """A Django message: ``PLAIN``, with anything over it, Anymail's attributes included."""
    given = {**PLAIN, **attributes}
    made = EmailMultiAlternatives()
    for name, value in given.items():
        setattr(made, "extra_headers" if name == "headers" else name, list(value) if isinstance(value, list) else value)
    if html is not None:
        made.attach_alternative(html, "text/html")
    for attachment in attach or ():
        made.attach(*attachment)
    return made


def mail(**attributes: Any) -> OutgoingMail:
    """The same, normalised."""
    return outgoing_mail(message(**attributes))


def fitted(cls: type[ESP[Any]], **attributes: Any) -> OutgoingMail:
    """The same, as it is delivered through an ESP."""
    return fit(mail(**attributes), cls.supports)


def make_esp(cls: type[ESP[Any]], **options: Any) -> Any:
    """An ESP with these options."""
    return cls(load(cls.Options, cls.prefixes or (cls.slug.upper(),), options))


def drive(flow: Flow[Any], *answers: Response | Exception, leave: bool = False) -> tuple[list[Request], Any]:
    """Drive a flow by hand with these answers; return the requests it made and its result.

    ``leave``: it may end before all the answers are used up.
    """
    requests: list[Request] = []
    remaining = list(answers)
    try:
        requests.append(next(flow))
        while True:
            if not remaining:
                raise AssertionError(f"asked for a further answer: {requests[-1].method} {requests[-1].url}")
            answer = remaining.pop(0)
            requests.append(flow.throw(answer) if isinstance(answer, Exception) else flow.send(answer))
    except StopIteration as finished:
        assert leave or not remaining, f"{len(remaining)} answers were not asked for"
        return requests, finished.value


def request_of(flow: Flow[Any]) -> Request:
    """The first request of a flow."""
    return next(flow)


def answer(status: int = 200, content: Any = None, headers: Mapping[str, str] | None = None) -> Response:
    """An ESP's answer, in JSON unless given as bytes or str."""
    if isinstance(content, str):
        content = content.encode()
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Response(status, headers or {}, body)


def json_of(request: Request) -> Any:
    return json.loads(bytes(request.body))


def statuses(recipients: Mapping[str, Any]) -> dict[str, tuple[str | None, str]]:
    """Recipients' statuses as plain pairs, (status, message id)."""
    return {email: (one.status, one.message_id) for email, one in recipients.items()}


# Webhooks.


def sample(slug: str, name: str) -> bytes:
    """A payload file of an ESP."""
    return (ESPS / slug / "samples" / name).read_bytes()


def sample_json(slug: str, name: str) -> Any:
    return json.loads(sample(slug, name))


def expectations(slug: str) -> dict[str, Any]:
    """What the payload files of an ESP become, by file name."""
    return {name: value for name, value in sample_json(slug, "expected.json").items() if not name.startswith("_")}


@dataclass(frozen=True)
class Call:
    """A webhook call."""

    url: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"

    def post(self, client: Client) -> Any:
        return client.post(self.url, data=self.body, content_type=self.content_type, headers=self.headers)


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A signed webhook, for the tests that hold for every ESP that signs.

    ``call(now, body)`` makes an authentic call at that POSIX time (body None: a good payload of one event).
    ``signature(call)`` is its signature; ``resigned(call, text)`` the same call with ``text`` in its place (None:
    without any). ``settings`` hold the right key, ``rotated`` an old one as well as the right one, and ``keyless``
    is a setting name that must not be empty.
    """

    slug: str
    kind: str
    settings: dict[str, Any]
    rotated: dict[str, Any] | None
    key_setting: str
    call: Callable[..., Call]
    signature: Callable[[Call], str]
    resigned: Callable[[Call, str | None], Call]
    covers_body: bool = True
    signs_time: bool = True
    #: Whether the key is public, so that there is no secret to compare.
    public_key: bool = False

    def __str__(self) -> str:
        return f"{self.slug}-{self.kind}"


_TRACKING_FIELDS = [
    "event_type",
    "recipient",
    "message_id",
    "event_id",
    "timestamp",
    "tags",
    "metadata",
    "reject_reason",
    "click_url",
    "user_agent",
    "description",
    "mta_response",
    "smtp_code",
    "enhanced_code",
    "ip",
    "by_machine",
]


def plain_tracking(event: AnymailTrackingEvent) -> dict[str, Any]:
    """A tracking event as the expectations are written."""
    values = {name: getattr(event, name) for name in _TRACKING_FIELDS}
    return {**values, "timestamp": event.timestamp and event.timestamp.isoformat()}


def plain_inbound(event: AnymailInboundEvent) -> dict[str, Any]:
    """An inbound event as the expectations are written."""
    inbound = event.message
    return {
        "event_type": event.event_type,
        "event_id": event.event_id,
        "timestamp": event.timestamp and event.timestamp.isoformat(),
        "envelope_sender": inbound.envelope_sender,
        "envelope_recipient": inbound.envelope_recipient,
        "from_email": inbound.from_email and inbound.from_email.addr_spec,
        "to": [str(one) for one in inbound.to],
        "cc": [str(one) for one in inbound.cc],
        "bcc": [str(one) for one in inbound.bcc],
        "reply_to": inbound["Reply-To"],
        "subject": inbound.subject,
        "date": inbound.date and inbound.date.isoformat(),
        "message_id_header": inbound["Message-ID"],
        "text": inbound.text,
        "html": inbound.html,
        "stripped_text": inbound.stripped_text,
        "stripped_html": inbound.stripped_html,
        "spam_detected": inbound.spam_detected,
        "spam_score": inbound.spam_score,
        "attachments": [_plain_part(part) for part in inbound.attachments],
        "inlines": {part.content_id: _plain_part(part) for part in inbound.inlines},
    }


def _plain_part(part: AnymailInboundMessage) -> dict[str, Any]:
    return {
        "filename": part.get_filename(),
        "content_type": part.get_content_type(),
        "size": len(part.get_content_bytes()),
    }


def assert_tracking(events: list[Any], expected: list[dict[str, Any]]) -> None:
    """The events are the expected ones, in every field that the expectation has."""
    got = [plain_tracking(event) for event in events]
    wanted = [{key: value for key, value in one.items() if key in _TRACKING_FIELDS} for one in expected]
    assert [{key: one[key] for key in want} for one, want in zip(got, wanted, strict=False)] == wanted
    assert len(got) == len(wanted)


def assert_inbound(events: list[Any], expected: list[dict[str, Any]]) -> None:
    """The received messages are the expected ones, in every field that the expectation has."""
    assert len(events) == len(expected)
    for event, want in zip(events, expected, strict=True):
        got = plain_inbound(event)
        wanted = {key: value for key, value in want.items() if key in got}
        if isinstance(wanted.get("inlines"), list):
            wanted["inlines"] = {
                one["content_id"]: {key: value for key, value in one.items() if key != "content_id"}
                for one in wanted["inlines"]
            }
        if isinstance(wanted.get("from_email"), dict):
            assert event.message.from_email.display_name == wanted["from_email"]["display_name"]
            wanted["from_email"] = wanted["from_email"]["addr_spec"]
        assert {key: got[key] for key in wanted} == wanted
