"""Authentic calls of every webhook of every ESP, any number of them, no two alike."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from esps.amazon_ses.signed import sns_call
from esps.mailgun.signed import signed_fields
from esps.mandrill.signed import events_call
from esps.unisender_go.signed import call_with
from support import Call, Signed, sample, sample_json

SECRET = "user:pass"
BASIC_AUTH = {"Authorization": "Basic dXNlcjpwYXNz"}


@dataclass(frozen=True)
class Kind:
    """A webhook: its settings, a good payload, and what makes an authentic call of any payload.

    ``many`` says where in the payload the items of a batch are; None: a call has one event.
    """

    settings: dict[str, Any]
    payload: Any
    call: Callable[[Any], Call]
    many: Callable[[Any], list[Any]] | None = None
    #: Whether an equal call has one effect.
    signed: bool = True

    def unlike(self, number: int, items: int = 1) -> Call:
        """An authentic call that is like no other; where it may hold many events, it holds that many."""
        payload = copy.deepcopy(self.payload)
        marked = [payload]
        if self.many is not None:
            batch = self.many(payload)
            one = batch[0]
            batch[:] = marked = [copy.deepcopy(one) for _ in range(items)]
        for index, item in enumerate(marked):
            item.get("event_data", item)["storm"] = f"{number}-{index}"
        return self.call(payload)


def event_name(event: Any) -> str:
    """Which of the events of its call one is."""
    found = re.search(r"storm\W+\d+-(\d+)", json.dumps(event.esp_event, default=repr))
    return found[1] if found else "0"


def _plain(slug: str, kind: str) -> Callable[[Any], Call]:
    return lambda payload: Call(f"/anymail/{slug}/{kind}/", json.dumps(payload).encode(), BASIC_AUTH)


def _signed(slug: str, kind: str) -> Signed:
    [one] = [one for one in import_module(f"esps.{slug}.signed").SIGNED if one.kind == kind]
    return one  # type: ignore[no-any-return]


def _json(slug: str, kind: str, file: str, many: Callable[[Any], list[Any]] | None = None) -> Kind:
    signed = _signed(slug, kind)
    call = lambda payload: signed.call(time.time(), json.dumps(payload).encode())  # noqa: E731
    return Kind(signed.settings, sample_json(slug, file), call, many)


def _notification(kind: str, file: str) -> Kind:
    message = json.loads(sample_json("amazon_ses", file)["Message"])
    return Kind(_signed("amazon_ses", kind).settings, message, lambda payload: sns_call(kind, payload))


def _mailgun_call(payload: dict[str, Any]) -> Call:
    # A token is good for one body.
    signature = signed_fields(time.time(), token=f"{hash(json.dumps(payload)):x}".replace("-", "0"))
    return Call("/anymail/mailgun/tracking/", json.dumps({**payload, "signature": signature}).encode())


def multipart(fields: dict[str, Any], boundary: str = "xYzZY") -> bytes:
    """A form with these fields; a value that is a pair is a file's name and content."""
    parts = []
    for name, value in fields.items():
        filename, content = value if isinstance(value, (tuple, list)) and len(value) == 2 else (None, value)
        disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
        text = content if isinstance(content, (str, bytes)) else json.dumps(content)
        raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        head = f"--{boundary}\r\nContent-Disposition: {disposition}\r\n\r\n".encode("utf-8", "surrogatepass")
        parts.append(head + raw + b"\r\n")
    return b"".join([*parts, f"--{boundary}--\r\n".encode()])


def mailgun_form(fields: dict[str, Any], boundary: str = "xYzZY", token: str | None = None) -> Call:
    token = token or f"{hash(repr(fields)):x}".replace("-", "0")
    body = multipart({**fields, **signed_fields(time.time(), token=token)}, boundary)
    return Call("/anymail/mailgun/inbound/", body, {}, f"multipart/form-data; boundary={boundary}")


def _sendgrid_form(fields: dict[str, Any]) -> Call:
    return _signed("sendgrid", "inbound").call(time.time(), multipart(fields))  # type: ignore[no-any-return]


MAILGUN_FIELDS: dict[str, Any] = {
    "recipient": "help@in.example.com",
    "sender": "ana@example.net",
    "message-headers": json.dumps([["From", "Ana <ana@example.net>"], ["Subject", "Hi"], ["X-Mailgun-Sscore", "1.2"]]),
    "body-plain": "Hello",
    "stripped-text": "Hello",
    "content-id-map": "{}",
    "attachment-count": "1",
    "attachment-1": ("a.txt", "content"),
}
SENDGRID_FIELDS: dict[str, Any] = {
    "headers": "From: Ana <ana@example.net>\nSubject: Hi\n",
    "text": "Hello",
    "envelope": '{"to": ["help@in.example.com"], "from": "ana@example.net"}',
    "charsets": '{"text": "utf-8"}',
    "attachment-info": '{"attachment1": {"filename": "a.txt", "type": "text/plain"}}',
    "attachment1": ("a.txt", "content"),
    "spam_score": "1.5",
}
_BREVO_MAIL = {**sample_json("brevo", "inbound-inboundEmailProcessed.json")["items"][0], "Attachments": []}
_MANDRILL = {"MANDRILL_WEBHOOK_KEY": _signed("mandrill", "tracking").settings["MANDRILL_WEBHOOK_KEY"]}
_PLAIN = {"WEBHOOK_SECRET": SECRET}


def _mandrill_events(name: str) -> Any:
    from django.http import QueryDict

    return json.loads(QueryDict(sample("mandrill", name))["mandrill_events"])


def _all(payload: Any) -> list[Any]:
    found: list[Any] = payload
    return found


def kinds() -> dict[str, Kind]:
    """Every webhook of every ESP."""
    unisender = json.loads(sample("unisender_go", "tracking-clicked.json"))
    unisender.pop("auth")
    mailgun = sample_json("mailgun", "tracking-delivered.json")
    mailgun.pop("signature")
    mailgun_settings = _signed("mailgun", "tracking").settings
    return {
        "amazon_ses tracking": _notification("tracking", "tracking-click.json"),
        "amazon_ses inbound": _notification("inbound", "inbound-sns-base64.json"),
        "brevo tracking": Kind(
            _PLAIN, sample_json("brevo", "tracking-batched.json"), _plain("brevo", "tracking"), _all, signed=False
        ),
        "brevo inbound": Kind(
            {**_PLAIN, "BREVO_API_KEY": "key"}, {"items": [_BREVO_MAIL]}, _plain("brevo", "inbound"),
            lambda payload: _all(payload["items"]), signed=False,
        ),
        "mailersend tracking": _json("mailersend", "tracking", "tracking-clicked.json"),
        "mailersend inbound": _json("mailersend", "inbound", "inbound-message.json"),
        "mailgun tracking": Kind(mailgun_settings, mailgun, _mailgun_call),
        "mailgun inbound": Kind(mailgun_settings, MAILGUN_FIELDS, mailgun_form),
        "mailjet tracking": Kind(
            _PLAIN, [sample_json("mailjet", "tracking-bounce.json")], _plain("mailjet", "tracking"), _all, signed=False
        ),
        "mailjet inbound": Kind(
            _PLAIN, sample_json("mailjet", "inbound-full.json"), _plain("mailjet", "inbound"), signed=False
        ),
        "mailtrap tracking": _json(
            "mailtrap", "tracking", "tracking-bounce.json", lambda payload: _all(payload["events"])
        ),
        "mailtrap inbound": _json("mailtrap", "inbound", "inbound-message_received.json"),
        "mandrill tracking": Kind(_MANDRILL, _mandrill_events("tracking-click.txt"), events_call, _all),
        "mandrill inbound": Kind(_MANDRILL, _mandrill_events("inbound-inbound.txt"), events_call, _all),
        "postal tracking": _json("postal", "tracking", "tracking-MessageSent.json"),
        "postal inbound": _json("postal", "inbound", "inbound-hash.json"),
        "postmark tracking": Kind(
            _PLAIN, sample_json("postmark", "tracking-click.json"), _plain("postmark", "tracking"), signed=False
        ),
        "postmark inbound": Kind(
            _PLAIN, sample_json("postmark", "inbound-parsed.json"), _plain("postmark", "inbound"), signed=False
        ),
        "resend tracking": _json("resend", "tracking", "tracking-email.bounced.json"),
        "resend inbound": _json("resend", "inbound", "inbound-email.received.json"),
        "scaleway tracking": Kind(
            _signed("scaleway", "tracking").settings,
            json.loads(sample_json("scaleway", "tracking-email_delivered.json")["Message"]),
            lambda payload: _signed("scaleway", "tracking").call(time.time(), json.dumps(payload).encode()),
        ),
        "sendgrid tracking": _json("sendgrid", "tracking", "tracking-bounce.json", _all),
        "sendgrid inbound": Kind(_signed("sendgrid", "inbound").settings, SENDGRID_FIELDS, _sendgrid_form),
        "sparkpost tracking": _json("sparkpost", "tracking", "tracking-bounce.json", _all),
        "sparkpost inbound": _json("sparkpost", "inbound", "inbound-plain.json", _all),
        "unisender_go tracking": Kind(
            _signed("unisender_go", "tracking").settings, unisender, lambda payload: call_with(**payload),
            lambda payload: _all(payload["events_by_user"][0]["events"]),
        ),
    }  # fmt: skip


def settings_of(kind: Kind) -> dict[str, Any]:
    return {**kind.settings, "WEBHOOK_MAX_AGE": None}


__all__ = ["BASIC_AUTH", "Kind", "event_name", "kinds", "mailgun_form", "multipart", "settings_of"]
