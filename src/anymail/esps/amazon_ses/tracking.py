"""Amazon SES's events and feedback notifications, through SNS.

https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html and
https://docs.aws.amazon.com/ses/latest/dg/notification-contents.html
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import Any, NamedTuple

from anymail.conf import option
from anymail.esps.amazon_ses.topics import SNSOptions, SNSWebhook
from anymail.esps.kit.values import enhanced_code_of, json_object_of, list_of, object_of, text_of, texts_of
from anymail.esps.kit.webhook import Events, utc_time
from anymail.signals import AnymailTrackingEvent, EventType, RejectReason
from anymail.wire import Flow


@dataclasses.dataclass(frozen=True, kw_only=True)
class AmazonSESTrackingOptions(SNSOptions):
    message_tag_name: str | None = option(
        "The SES message tag, by its name, that is the tag of an event whose message headers are missing.", default=None
    )


class Kind(NamedTuple):
    """A kind of event: what it becomes, and where its details are."""

    details: str
    event_type: EventType
    reject_reason: RejectReason | None = None
    #: The list of recipients in the details; without it, they are the message's.
    recipients: str | None = None
    description: str | None = None
    #: In the details or in each recipient.
    mta_response: str | None = None


KINDS: dict[str, Kind] = {
    "Send": Kind("send", EventType.SENT),
    "Delivery": Kind("delivery", EventType.DELIVERED, None, "recipients", None, "smtpResponse"),
    "Bounce": Kind("bounce", EventType.BOUNCED, RejectReason.BOUNCED, "bouncedRecipients", None, "diagnosticCode"),
    "Complaint": Kind("complaint", EventType.COMPLAINED, None, "complainedRecipients", "complaintFeedbackType"),
    "Reject": Kind("reject", EventType.REJECTED, RejectReason.BLOCKED, None, "reason"),
    "Open": Kind("open", EventType.OPENED),
    "Click": Kind("click", EventType.CLICKED),
    "Rendering Failure": Kind("failure", EventType.FAILED, None, None, "errorMessage"),
    "DeliveryDelay": Kind(
        "deliveryDelay", EventType.DEFERRED, None, "delayedRecipients", "delayType", "diagnosticCode"
    ),
    "Subscription": Kind("subscription", EventType.UNKNOWN, None, None, "source"),
}

# What a bounceSubType or complaintSubType says that the kind of the event does not: that SES did not send the mail,
# since the address is on a suppression list; or why a receiving server refused what it did send.
SUBTYPES: dict[tuple[str, str], tuple[EventType, RejectReason]] = {
    ("Bounce", "Suppressed"): (EventType.REJECTED, RejectReason.BOUNCED),
    ("Bounce", "OnAccountSuppressionList"): (EventType.REJECTED, RejectReason.BOUNCED),
    ("Bounce", "OnTenantSuppressionList"): (EventType.REJECTED, RejectReason.BOUNCED),
    ("Bounce", "EmailValidationSuppressed"): (EventType.REJECTED, RejectReason.INVALID),
    ("Bounce", "UnsubscribedRecipient"): (EventType.REJECTED, RejectReason.UNSUBSCRIBED),
    ("Bounce", "AttachmentRejected"): (EventType.BOUNCED, RejectReason.BLOCKED),
    ("Bounce", "ContentRejected"): (EventType.BOUNCED, RejectReason.BLOCKED),
    ("Bounce", "CustomTimeoutExceeded"): (EventType.BOUNCED, RejectReason.TIMED_OUT),
    ("Complaint", "OnAccountSuppressionList"): (EventType.REJECTED, RejectReason.SPAM),
    ("Complaint", "OnTenantSuppressionList"): (EventType.REJECTED, RejectReason.SPAM),
}
_OPENED_OR_CLICKED = frozenset({EventType.OPENED, EventType.CLICKED})


class AmazonSESTracking(SNSWebhook[AmazonSESTrackingOptions]):
    Options = AmazonSESTrackingOptions

    def notified(self, envelope: dict[str, Any], message: dict[str, Any]) -> Flow[Events]:
        yield from ()
        return list(self.tracking(envelope, message))

    def tracking(self, envelope: dict[str, Any], event: dict[str, Any]) -> Events:
        """An event for each of the recipients."""
        word = event.get("eventType", event.get("notificationType"))
        if word == "Received":
            raise self.wrong_url("An SNS topic for received mail", "subscribe to it the URL", "inbound")
        kind = KINDS.get(str(word), Kind("", EventType.UNKNOWN))
        details = object_of(event.get(kind.details))
        event_type, reject_reason = SUBTYPES.get(
            (str(word), str(details.get("bounceSubType") or details.get("complaintSubType"))),
            (_subscription(details) if word == "Subscription" else kind.event_type, kind.reject_reason),
        )
        mail = object_of(event.get("mail"))
        given = map(object_of, list_of(mail.get("headers")))
        headers = [(str(one.get("name")).lower(), one.get("value", "")) for one in given]
        description = text_of(details.get(kind.description)) if kind.description else None
        if word == "Bounce":
            types = map(text_of, (details.get("bounceType"), details.get("bounceSubType")))
            description = ": ".join(filter(None, types)) or None
        elif word not in KINDS:
            description = f"Unknown SES eventType {word!r}"
        by_someone = event_type in _OPENED_OR_CLICKED
        recipients = list_of(details.get(kind.recipients) if kind.recipients else mail.get("destination"))
        for recipient in recipients or [None]:
            of = recipient if isinstance(recipient, dict) else {"emailAddress": recipient}
            yield AnymailTrackingEvent(
                event_type=event_type,
                reject_reason=reject_reason,
                message_id=text_of(mail.get("messageId")),
                timestamp=utc_time(details.get("timestamp")) or utc_time(envelope["Timestamp"]),
                event_id=envelope["MessageId"],
                recipient=text_of(of.get("emailAddress")),
                metadata=_metadata(headers),
                tags=self._tags(headers, mail),
                description=description,
                mta_response=_reply(kind, of, details),
                # That of mail which was not sent is SES's own.
                enhanced_code=None if event_type == EventType.REJECTED else enhanced_code_of(of.get("status")),
                user_agent=text_of(details.get("userAgent")) if by_someone else None,
                click_url=text_of(details.get("link")) if event_type == EventType.CLICKED else None,
                ip=text_of(details.get("ipAddress")) if by_someone else None,
                esp_event=event,
            )

    def _tags(self, headers: list[tuple[str, Any]], mail: Mapping[str, Any]) -> list[str]:
        tags = [_decoded(value) for name, value in headers if name == "x-tag"]
        # Feedback notifications may lack the headers, and of long ones SES leaves some out.
        return tags or texts_of(object_of(mail.get("tags")).get(self.options.message_tag_name or ""))


def _reply(kind: Kind, recipient: dict[str, Any], details: dict[str, Any]) -> str | None:
    name = kind.mta_response or ""
    return text_of(recipient.get(name, details.get(name)))


def _metadata(headers: list[tuple[str, Any]]) -> dict[str, Any]:
    return json_object_of(_decoded(dict(headers).get("x-metadata", "")))


def _decoded(value: Any) -> str:
    """A header's value, unfolded and without encoded-words."""
    text = "".join(str(value).splitlines())
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, ValueError, LookupError):
        return text


def _subscription(details: dict[str, Any]) -> EventType:
    """What became of the contact's preferences."""
    new, old = (object_of(details.get(f"{which}TopicPreferences")) for which in ("new", "old"))
    if new.get("unsubscribeAll"):
        return EventType.UNSUBSCRIBED
    before, after = _topics(old), _topics(new)
    changed = {after[topic] for topic in after if before.get(topic) != after[topic]}
    if "OptOut" in changed:
        return EventType.UNSUBSCRIBED
    return EventType.SUBSCRIBED if "OptIn" in changed or old.get("unsubscribeAll") else EventType.UNKNOWN


def _topics(preferences: Mapping[str, Any]) -> dict[str, str]:
    statuses = map(object_of, list_of(preferences.get("topicSubscriptionStatus")))
    return {str(one.get("topicName")): str(one.get("subscriptionStatus")) for one in statuses}
