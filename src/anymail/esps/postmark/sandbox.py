"""Postmark's side of the sandbox: /email, /email/batch, their template twins, and /email/bulk."""

from __future__ import annotations

import re
from base64 import b64decode
from typing import Any

from anymail.esps.kit.sandbox import (
    Letter,
    Refusal,
    Reply,
    SandboxESP,
    addresses,
    json_of,
    json_response,
    rendered,
    violation,
)
from anymail.exceptions import AnymailInvalidAddress
from anymail.wire import Request, Response

SERVER_TOKEN = "5a4d6b0c-sandbox-postmark-token"

_STRING = {"type": "string"}
_HEADERS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"Name": _STRING, "Value": _STRING},
        "required": ["Name", "Value"],
        "additionalProperties": False,
    },
}
_ATTACHMENTS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"Name": _STRING, "Content": _STRING, "ContentType": _STRING, "ContentID": _STRING},
        "required": ["Name", "Content", "ContentType"],
        "additionalProperties": False,
    },
}
_METADATA = {
    "type": "object",
    "maxProperties": 10,
    "propertyNames": {"maxLength": 20},
    "additionalProperties": {"type": "string", "maxLength": 80},
}
# https://postmarkapp.com/developer/api/email-api, "Message format"
_MESSAGE: dict[str, Any] = {
    "From": {"type": "string", "minLength": 1, "maxLength": 255},
    "To": _STRING,
    "Cc": _STRING,
    "Bcc": _STRING,
    "Subject": {"type": "string", "maxLength": 2000},
    "Tag": {"type": "string", "maxLength": 1000},
    "HtmlBody": {"type": "string", "maxLength": 5_000_000},
    "TextBody": {"type": "string", "maxLength": 5_000_000},
    "ReplyTo": _STRING,
    "Headers": _HEADERS,
    "TrackOpens": {"type": "boolean"},
    "TrackLinks": {"enum": ["None", "HtmlAndText", "HtmlOnly", "TextOnly"]},
    "Metadata": _METADATA,
    "Attachments": _ATTACHMENTS,
    "MessageStream": _STRING,
}
_TEMPLATE: dict[str, Any] = {
    **{name: rule for name, rule in _MESSAGE.items() if name not in ("Subject", "HtmlBody", "TextBody")},
    "TemplateId": {"type": "integer"},
    "TemplateAlias": _STRING,
    "TemplateModel": {"type": "object"},
    "InlineCss": {"type": "boolean"},
}
MESSAGE = {"type": "object", "properties": _MESSAGE, "required": ["From"], "additionalProperties": False}
TEMPLATED = {
    "type": "object",
    "properties": _TEMPLATE,
    "required": ["From", "TemplateModel"],
    "anyOf": [{"required": ["TemplateId"]}, {"required": ["TemplateAlias"]}],
    "additionalProperties": False,
}
_PERSONAL = ("To", "Cc", "Bcc", "TemplateModel", "Metadata", "Headers")
BULK = {
    "type": "object",
    "properties": {
        **{name: rule for name, rule in {**_MESSAGE, **_TEMPLATE}.items() if name not in ("To", "Cc", "Bcc")},
        "Messages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {name: {**_MESSAGE, **_TEMPLATE}[name] for name in _PERSONAL},
                "required": ["To"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["From", "Messages"],
    "additionalProperties": False,
}

_INACTIVE_TEXT = (
    "You tried to send to recipient(s) that have been marked as inactive. Found inactive addresses: {}. "
    "Inactive recipients are ones that have generated a hard bounce, a spam complaint, or a manual suppression."
)


def _error(code: int, text: str, status: int = 422) -> Response:
    return json_response(status, {"ErrorCode": code, "Message": text}, {"X-PM-ApiErrorCode": str(code)})


class PostmarkSandbox(SandboxESP):
    slug = "postmark"
    routes = (
        ("POST", "/email", "single"),
        ("POST", "/email/withTemplate/?", "single_template"),
        ("POST", "/email/batch", "batch"),
        ("POST", "/email/batchWithTemplates", "batch_template"),
        ("POST", "/email/bulk", "bulk"),
    )

    def settings(self, url: str) -> dict[str, Any]:
        return {"POSTMARK_SERVER_TOKEN": SERVER_TOKEN, "POSTMARK_API_URL": url}

    def single(self, request: Request) -> Reply:
        return self._one(self._body(request), MESSAGE)

    def single_template(self, request: Request) -> Reply:
        return self._one(self._body(request), TEMPLATED)

    def batch(self, request: Request) -> Reply:
        return self._many(self._body(request), MESSAGE)

    def batch_template(self, request: Request) -> Reply:
        body = self._body(request)
        if not isinstance(body, dict) or set(body) != {"Messages"}:
            raise Refusal(_error(403, "The 'Messages' field is required."))
        return self._many(body["Messages"], TEMPLATED)

    def bulk(self, request: Request) -> Reply:
        body = self._body(request)
        self._check(body, BULK)
        letters = []
        for personal in body["Messages"]:
            common = {key: value for key, value in body.items() if key != "Messages"}
            letters += self._letters({**common, **personal}, self.new_id())
        answer = {
            "Id": self.new_id(), "SubmittedAt": self.now(7), "Status": "Accepted",
            "TotalMessages": len(body["Messages"]), "PercentageCompleted": 0, "ReleasedCount": 0, "FailedCount": 0,
        }  # fmt: skip
        return Reply(json_response(200, answer), letters)

    def _body(self, request: Request) -> Any:
        if request.headers.get("X-Postmark-Server-Token") != SERVER_TOKEN:
            raise Refusal(_error(10, "The Server Token you provided in the X-Postmark-Server-Token request header was "
                                     "invalid. Please verify that you are using a valid token.", 401))  # fmt: skip
        if not request.headers.get("Content-Type", "").startswith("application/json"):
            raise Refusal(_error(409, "The 'Content-Type' request header must be 'application/json'.", 415))
        try:
            return json_of(request)
        except ValueError:
            raise Refusal(_error(402, "Received invalid JSON input.")) from None

    def _check(self, message: Any, schema: dict[str, Any]) -> None:
        if broken := violation(schema, message):
            where, rule, text = broken
            if where.startswith("Metadata"):
                raise Refusal(_error(300, f"Metadata is not valid: {text}"))
            field = where or (re.findall(r"'(\w+)'", text) or ["Message"])[0]
            raise Refusal(_error(403, f"Field '{field}' is not valid ({rule}): {text[:200]}"))

    def _one(self, message: Any, schema: dict[str, Any]) -> Reply:
        self._check(message, schema)
        if schema is MESSAGE and not (message.get("HtmlBody") or message.get("TextBody")):
            raise Refusal(_error(300, "Provide either email TextBody or HtmlBody or both."))
        self._recipients(message)
        if inactive := [one for one in self._recipients(message) if one.startswith("suppressed")]:
            if len(inactive) == len(self._recipients(message)):
                raise Refusal(_error(406, _INACTIVE_TEXT.format(", ".join(inactive))))
            text = f"Message OK, but will not deliver to these inactive addresses: {', '.join(inactive)}."
        else:
            text = "OK"
        message_id = self.new_id()
        answer = {"To": message.get("To"), "SubmittedAt": self.now(7), "MessageID": message_id,
                  "ErrorCode": 0, "Message": text}  # fmt: skip
        letters = [letter for letter in self._letters(message, message_id) if letter.recipient not in inactive]
        return Reply(json_response(200, {k: v for k, v in answer.items() if v is not None}), letters)

    def _many(self, messages: Any, schema: dict[str, Any]) -> Reply:
        if not isinstance(messages, list):
            raise Refusal(_error(402, "Received invalid JSON input."))
        if len(messages) > 500:
            raise Refusal(_error(410, "You exceeded the number of messages allowed in one batch: 500."))
        results: list[Any] = []
        letters: list[Letter] = []
        for message in messages:
            try:
                reply = self._one(message, schema)
            except Refusal as refusal:
                results.append(refusal.response.json())
            else:
                results.append(reply.response.json())
                letters += reply.letters
        return Reply(json_response(200, results), letters)

    def _recipients(self, message: dict[str, Any]) -> list[str]:
        found = []
        for field in ("From", "To", "Cc", "Bcc"):
            try:
                parsed = addresses(message.get(field, ""))
            except AnymailInvalidAddress:
                raise Refusal(_error(300, f"Invalid '{field}' address: '{message[field]}'.")) from None
            if field != "From":
                found += [address.addr_spec.lower() for address in parsed]
        if not found:
            raise Refusal(_error(300, "Zero recipients specified"))
        if len(found) > 50:
            raise Refusal(_error(300, "Too many recipients: at most 50 are allowed."))
        return found

    def _letters(self, message: dict[str, Any], message_id: str) -> list[Letter]:
        model = message.get("TemplateModel", {})
        template = message.get("TemplateAlias") or message.get("TemplateId")
        return [
            Letter(
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
                attachments=[
                    (one["Name"], one["ContentType"], len(b64decode(one["Content"])))
                    for one in message.get("Attachments", ())
                ],
                metadata=message.get("Metadata", {}),
                tags=[message["Tag"]] if message.get("Tag") else [],
                template=str(template) if template else None,
                extra={"model": model, "stream": message.get("MessageStream", "outbound")},
            )
            for recipient in self._recipients(message)
        ]

    def event(self, kind: str, letter: Letter, url: str) -> Request:
        common = {"MessageID": letter.message_id, "ServerID": 1, "MessageStream": letter.extra["stream"],
                  "Tag": letter.tags[0] if letter.tags else "", "Metadata": letter.metadata}  # fmt: skip
        browser = {
            "UserAgent": "Mozilla/5.0 (Anymail sandbox)",
            "Platform": "Desktop",
            "Client": {},
            "OS": {},
            "Geo": {},
        }
        bounce = {"ID": abs(hash(letter.message_id)) % 10**9, "Email": letter.recipient, "From": letter.from_email,
                  "BouncedAt": self.now(7), "Subject": letter.subject, "Inactive": True}  # fmt: skip
        kinds: dict[str, dict[str, Any]] = {
            "delivered": {"RecordType": "Delivery", "Recipient": letter.recipient, "DeliveredAt": self.now(7),
                          "Details": "smtp;250 2.0.0 OK"},
            "opened": {"RecordType": "Open", "Recipient": letter.recipient, "ReceivedAt": self.now(7), **browser},
            "clicked": {"RecordType": "Click", "Recipient": letter.recipient, "ReceivedAt": self.now(7), **browser,
                        "ClickLocation": "HTML", "OriginalLink": "https://example.com/"},
            "bounced": {"RecordType": "Bounce", "Type": "HardBounce", "TypeCode": 1, "Name": "Hard bounce", **bounce,
                        "Description": "The server was unable to deliver your message.",
                        "Details": f"smtp;550 5.1.1 <{letter.recipient}>: no such user"},
            "complained": {"RecordType": "SpamComplaint", "Type": "SpamComplaint", "TypeCode": 100001, **bounce,
                           "Name": "Spam complaint", "Description": "The subscriber marked this message as spam.",
                           "Details": ""},
        }  # fmt: skip
        headers = {"X-PM-Webhook-Trace-Id": self.new_id(), "X-PM-Retries-Remaining": "6"}
        return Request.post(url, headers=headers, json={**common, **kinds[kind]})
