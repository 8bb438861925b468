"""Postmark's side of the sandbox: /email, /email/batch, their template twins, and /email/bulk."""

from __future__ import annotations

from typing import Any

from anymail.esps.kit.sandbox import (
    BASE64,
    STRING,
    JSONSandbox,
    Refusal,
    SandboxDelivery,
    SandboxResult,
    Violation,
    addresses,
    array_schema,
    files_of,
    is_suppressed,
    json_response,
    object_schema,
    rendered,
)
from anymail.exceptions import AnymailInvalidAddress
from anymail.wire import Request

SERVER_TOKEN = "5a4d6b0c-sandbox-postmark-token"

_HEADERS = array_schema(object_schema(["Name", "Value"], Name=STRING, Value=STRING))
_ATTACHMENTS = array_schema(
    object_schema(
        ["Name", "Content", "ContentType"],
        Name=STRING,
        Content=BASE64,
        ContentType=STRING,
        ContentID={"type": ["string", "null"]},
        # Of the object that the webhooks of received mail and the clients of the API have, too.
        ContentLength={"type": "integer"},
        Disposition=STRING,
    )
)
_METADATA = {
    "type": "object",
    "maxProperties": 10,
    "propertyNames": {"maxLength": 20},
    "additionalProperties": {"type": "string", "maxLength": 80},
}
# https://postmarkapp.com/developer/api/email-api, "Message format"
_MESSAGE: dict[str, Any] = {
    "From": {"type": "string", "minLength": 1, "maxLength": 255},
    "To": STRING,
    "Cc": STRING,
    "Bcc": STRING,
    "Subject": {"type": "string", "maxLength": 2000},
    "Tag": {"type": "string", "maxLength": 1000},
    "HtmlBody": {"type": "string", "maxLength": 5_000_000},
    "TextBody": {"type": "string", "maxLength": 5_000_000},
    "ReplyTo": STRING,
    "Headers": _HEADERS,
    "TrackOpens": {"type": "boolean"},
    "TrackLinks": {"enum": ["None", "HtmlAndText", "HtmlOnly", "TextOnly"]},
    "Metadata": _METADATA,
    "Attachments": _ATTACHMENTS,
    "MessageStream": STRING,
}
_TEMPLATE: dict[str, Any] = {
    **{name: rule for name, rule in _MESSAGE.items() if name not in ("Subject", "HtmlBody", "TextBody")},
    "TemplateId": {"type": "integer"},
    "TemplateAlias": STRING,
    "TemplateModel": {"type": "object"},
    "InlineCss": {"type": "boolean"},
}
MESSAGE = object_schema(["From"], **_MESSAGE)
TEMPLATED = {
    **object_schema(["From", "TemplateModel"], **_TEMPLATE),
    "anyOf": [{"required": ["TemplateId"]}, {"required": ["TemplateAlias"]}],
}
_PERSONAL = ("To", "Cc", "Bcc", "TemplateModel", "Metadata", "Headers")
BULK = object_schema(
    ["From", "Messages"],
    **{name: rule for name, rule in {**_MESSAGE, **_TEMPLATE}.items() if name not in ("To", "Cc", "Bcc")},
    Messages=array_schema(
        object_schema(["To"], **{name: {**_MESSAGE, **_TEMPLATE}[name] for name in _PERSONAL}), minItems=1
    ),
)

_UNAUTHORIZED = (
    "The Server Token you provided in the X-Postmark-Server-Token request header was invalid. Please verify that you "
    "are using a valid token."
)
_INACTIVE_TEXT = (
    "You tried to send to recipient(s) that have been marked as inactive. Found inactive addresses: {}. "
    "Inactive recipients are ones that have generated a hard bounce, a spam complaint, or a manual suppression."
)


def _refusal(code: int, text: str, status: int = 422) -> Refusal:
    content = {"ErrorCode": code, "Message": text}
    return Refusal(json_response(status, content, {"X-PM-ApiErrorCode": str(code)}))


class PostmarkSandbox(JSONSandbox):
    slug = "postmark"
    routes = (
        ("POST", "/email", "single"),
        ("POST", "/email/withTemplate/?", "single_template"),
        ("POST", "/email/batch", "batch"),
        ("POST", "/email/batchWithTemplates", "batch_template"),
        ("POST", "/email/bulk", "bulk"),
    )
    credentials = "X-Postmark-Server-Token", SERVER_TOKEN
    unauthorized = _refusal(10, _UNAUTHORIZED, 401).response
    wrong_content_type = _refusal(409, "The 'Content-Type' request header must be 'application/json'.", 415).response
    malformed = _refusal(402, "Received invalid JSON input.").response

    def settings(self, url: str) -> dict[str, Any]:
        return {"POSTMARK_SERVER_TOKEN": SERVER_TOKEN, "POSTMARK_API_URL": url}

    def broken(self, broken: Violation) -> Refusal:
        if "Metadata" in broken.path:
            return _refusal(300, f"Metadata is not valid: it {broken.text}.")
        return _refusal(403, f"Field '{broken.where or 'Message'}' is not valid: it {broken.text}.")

    def single(self, request: Request) -> SandboxResult:
        return self._one(self.body(request), MESSAGE)

    def single_template(self, request: Request) -> SandboxResult:
        return self._one(self.body(request), TEMPLATED)

    def batch(self, request: Request) -> SandboxResult:
        return self._many(self.body(request), MESSAGE)

    def batch_template(self, request: Request) -> SandboxResult:
        body = self.body(request)
        if not isinstance(body, dict) or set(body) != {"Messages"}:
            raise _refusal(403, "The 'Messages' field is required.")
        return self._many(body["Messages"], TEMPLATED)

    def bulk(self, request: Request) -> SandboxResult:
        body = self.body(request, BULK)
        deliveries = []
        for personal in body["Messages"]:
            common = {key: value for key, value in body.items() if key != "Messages"}
            deliveries += self._deliveries({**common, **personal}, self.new_id())
        content = {"ID": self.new_id(), "Status": "Accepted", "SubmittedAt": self.now(7)}
        return SandboxResult(json_response(200, content), deliveries)

    def _one(self, message: Any, schema: dict[str, Any]) -> SandboxResult:
        self.validate(schema, message)
        if schema is MESSAGE and not (message.get("HtmlBody") or message.get("TextBody")):
            raise _refusal(300, "Provide either email TextBody or HtmlBody or both.")
        recipients = _recipients(message)
        inactive = list(filter(is_suppressed, recipients))
        if len(inactive) == len(recipients):
            raise _refusal(406, _INACTIVE_TEXT.format(", ".join(inactive)))
        text = f"Message OK, but will not deliver to these inactive addresses: {', '.join(inactive)}."
        message_id = self.new_id()
        content = {"SubmittedAt": self.now(7), "MessageID": message_id, "ErrorCode": 0,
                   "Message": text if inactive else "OK"}  # fmt: skip
        if message.get("To") is not None:
            content = {"To": message["To"], **content}
        deliveries = [
            delivery for delivery in self._deliveries(message, message_id) if delivery.recipient not in inactive
        ]
        return SandboxResult(json_response(200, content), deliveries)

    def _many(self, messages: Any, schema: dict[str, Any]) -> SandboxResult:
        if not isinstance(messages, list):
            raise Refusal(self.malformed)
        if len(messages) > 500:
            raise _refusal(410, "You exceeded the number of messages allowed in one batch: 500.")
        contents, deliveries = self.each(messages, lambda message: self._one(message, schema))
        return SandboxResult(json_response(200, contents), deliveries)

    def _deliveries(self, message: dict[str, Any], message_id: str) -> list[SandboxDelivery]:
        model = message.get("TemplateModel", {})
        template = message.get("TemplateAlias") or message.get("TemplateId")
        return [
            SandboxDelivery(
                recipient=recipient,
                message_id=message_id,
                from_email=message["From"],
                to=message.get("To", ""),
                cc=message.get("Cc", ""),
                reply_to=message.get("ReplyTo", ""),
                subject=rendered(message.get("Subject", f"(template {template})"), model),
                text=rendered(message.get("TextBody", ""), model),
                html=rendered(message.get("HtmlBody", ""), model),
                headers={header["Name"]: header["Value"] for header in message.get("Headers", ())},
                attachments=files_of(message.get("Attachments"), "Name", "ContentType", "Content"),
                metadata=message.get("Metadata", {}),
                tags=[message["Tag"]] if message.get("Tag") else [],
                template=str(template) if template else None,
                extra={"model": model, "stream": message.get("MessageStream", "outbound")},
            )
            for recipient in _recipients(message)
        ]

    def event(self, kind: str, delivery: SandboxDelivery, url: str) -> Request:
        common = {"MessageID": delivery.message_id, "ServerID": 1, "MessageStream": delivery.extra["stream"],
                  "Tag": delivery.tags[0] if delivery.tags else "", "Metadata": delivery.metadata}  # fmt: skip
        browser = {
            "UserAgent": "Mozilla/5.0 (Anymail sandbox)",
            "Platform": "Desktop",
            "Client": {},
            "OS": {},
            "Geo": {},
        }
        bounce = {"ID": abs(hash(delivery.message_id)) % 10**9, "Email": delivery.recipient,
                  "From": delivery.from_email, "BouncedAt": self.now(7), "Subject": delivery.subject,
                  "Inactive": True}  # fmt: skip
        kinds: dict[str, dict[str, Any]] = {
            "delivered": {"RecordType": "Delivery", "Recipient": delivery.recipient, "DeliveredAt": self.now(7),
                          "Details": "smtp;250 2.0.0 OK"},
            "opened": {"RecordType": "Open", "Recipient": delivery.recipient, "ReceivedAt": self.now(7), **browser},
            "clicked": {"RecordType": "Click", "Recipient": delivery.recipient, "ReceivedAt": self.now(7), **browser,
                        "ClickLocation": "HTML", "OriginalLink": "https://example.com/"},
            "bounced": {"RecordType": "Bounce", "Type": "HardBounce", "TypeCode": 1, "Name": "Hard bounce", **bounce,
                        "Description": "The server was unable to deliver your message.",
                        "Details": f"smtp;550 5.1.1 <{delivery.recipient}>: no such user"},
            "complained": {"RecordType": "SpamComplaint", "Type": "SpamComplaint", "TypeCode": 100001, **bounce,
                           "Name": "Spam complaint", "Description": "The subscriber marked this message as spam.",
                           "Details": ""},
        }  # fmt: skip
        headers = {"X-PM-Webhook-Trace-Id": self.new_id(), "X-PM-Retries-Remaining": "6"}
        return Request.post(url, headers=headers, json={**common, **kinds[kind]})


def _recipients(message: dict[str, Any]) -> list[str]:
    recipients = []
    for field in ("From", "To", "Cc", "Bcc"):
        try:
            parsed = addresses(message.get(field, ""))
        except AnymailInvalidAddress:
            raise _refusal(300, f"Invalid '{field}' address: '{message[field]}'.") from None
        if field != "From":
            recipients += [address.addr_spec.lower() for address in parsed]
    if not recipients:
        raise _refusal(300, "Zero recipients specified")
    if len(recipients) > 50:
        raise _refusal(300, "Too many recipients: at most 50 are allowed.")
    return recipients
