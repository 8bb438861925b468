"""A project's code, read by mypy and pyright in ``make lint``, never run. Each line with a comment is a mistake that
both must find: an expected error that does not come is an error itself.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.core.mail import EmailMessage
from django.utils.translation import gettext_lazy

from anymail.backends import amazon_ses, mailgun, postmark, test
from anymail.inbound import AnymailInboundMessage
from anymail.message import AnymailMessage, AnymailStatus, attach_inline_image_file, status_of
from anymail.signals import AnymailInboundEvent, AnymailTrackingEvent, EventType, RejectReason

# Messages.

message = AnymailMessage(
    subject=gettext_lazy("Your order"),
    body="Hello",
    to=["ana@example.net"],
    headers={"X-Shop": "7"},
    tags=["receipt"],
    metadata={"order": "A-1042", "n": 7},
    merge_data={"ana@example.net": {"name": "Ana"}},
    merge_headers={"ana@example.net": {"List-Unsubscribe": "<https://example.com/u/1>"}},
    track_opens=False,
    send_at=dt.datetime.now(dt.UTC),
    template_id=42,
    esp_extra={"sandbox": True},
)
AnymailMessage("Hi", "Hello", None, ["ana@example.net"])
AnymailMessage(tag=["receipt"])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
AnymailMessage(tags="receipt")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
AnymailMessage(to="ana@example.net")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
AnymailMessage(metadata="x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
AnymailMessage(merge_data={"a@b.c": "x"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
AnymailMessage(track_opens="False")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
message.tags = ["receipt"]
message.tags = "receipt"  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
message.merge_data = {"ana@example.net": {"name": "Ana"}}
content_id: str = attach_inline_image_file(message, "logo.png")

# What became of them.

status: AnymailStatus = message.anymail_status
found = status_of(EmailMessage())
print(found.status)  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
if found is not None and found.status is not None:
    print(found.status.issubset({"sent", "queued"}))
    ids: str | set[str] | None = found.message_id

# Backends.

postmark.EmailBackend(server_token="t", retries=0, requests_timeout=(3, 30))
postmark.EmailBackend(server_tokn="t")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
postmark.EmailBackend(server_token=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
postmark.EmailBackend(retries="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
mailgun.EmailBackend(api_key="k", sender_domain="mail.example.com", alias="eu")
mailgun.EmailBackend(server_token="t")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
amazon_ses.EmailBackend(client_params={"region_name": "eu-west-1"})
count: int = test.EmailBackend().send_messages([message, EmailMessage()])


# Events.


def handle(sender: Any, event: AnymailTrackingEvent, esp_name: str, **kwargs: Any) -> None:
    if event.event_type == EventType.BOUNCED and event.reject_reason == RejectReason.SPAM:
        print(event.recipient, event.smtp_code, event.by_machine)
    if event.event_type == "bounced":
        print(event.event_type.upper())
    if event.event_type == "bounse":  # pyright: ignore[reportUnnecessaryComparison]
        print("mypy takes an enumeration of strings for any string")
    if event.event_type == EventType.BOUNSE:  # type: ignore[attr-defined]  # pyright: ignore
        print("both know its members")
    reason: str | None = event.reject_reason
    print(reason)


def receive(sender: Any, event: AnymailInboundEvent, esp_name: str, **kwargs: Any) -> None:
    received: AnymailInboundMessage = event.message
    print(received.subject)


event = AnymailTrackingEvent(event_type="bounced", reject_reason=RejectReason.SPAM)
event.event_type = "delivered"
AnymailTrackingEvent(event_typ="bounced")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
