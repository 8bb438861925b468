"""Mailjet's side of the sandbox: /v3.1/send, and the event webhook."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from anymail.esps.kit.sandbox import (
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
    violation,
)
from anymail.esps.kit.values import json_object_of
from anymail.exceptions import AnymailInvalidAddress
from anymail.mail.addresses import EmailAddress, format_addresses
from anymail.wire import Request

API_KEY = "5a4d6b0csandboxmailjetapikey0001"
SECRET_KEY = "5a4d6b0csandboxmailjetsecret0001"

_BOOLEAN = {"type": "boolean"}
_SWITCH = {"enum": ["account_default", "disabled", "enabled"]}
_FILLED = {"type": "string", "minLength": 1}
_CONTACT = object_schema(["Email"], Email=_FILLED, Name=STRING)
_CONTACTS = array_schema(_CONTACT, minItems=1, maxItems=50)
_FILE = {"ContentType": _FILLED, "Filename": _FILLED, "Base64Content": _FILLED}
# https://dev.mailjet.com/email/reference/send-emails/
_PROPERTIES: dict[str, Any] = {
    "From": _CONTACT,
    "Sender": _CONTACT,
    "To": _CONTACTS,
    "Cc": _CONTACTS,
    "Bcc": _CONTACTS,
    "ReplyTo": _CONTACT,
    "Subject": {"type": "string", "maxLength": 255},
    "TextPart": STRING,
    "HTMLPart": STRING,
    "TemplateID": {"type": "integer"},
    "TemplateLanguage": _BOOLEAN,
    "TemplateErrorReporting": _CONTACT,
    "TemplateErrorDeliver": _BOOLEAN,
    "Attachments": array_schema(object_schema([*_FILE], **_FILE)),
    "InlinedAttachments": array_schema(object_schema([*_FILE], **_FILE, ContentID=_FILLED)),
    "Priority": {"enum": [0, 1, 2, 3]},
    "CustomCampaign": STRING,
    "DeduplicateCampaign": _BOOLEAN,
    "TrackOpens": _SWITCH,
    "TrackClicks": _SWITCH,
    "CustomID": STRING,
    "EventPayload": STRING,
    "MonitoringCategory": STRING,
    "URLTags": {"type": "string", "maxLength": 256},
    "Headers": {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}},
    "Variables": {"type": "object"},
}
MESSAGE = object_schema(["To"], **_PROPERTIES)
_KNOWN = object_schema([], **dict.fromkeys(_PROPERTIES, True))
PAYLOAD = object_schema(
    ["Messages"],
    Globals=_KNOWN,
    Messages=array_schema(_KNOWN, minItems=1, maxItems=50),
    SandboxMode=_BOOLEAN,
    AdvanceErrorHandling=_BOOLEAN,
)

# https://dev.mailjet.com/email/guides/send-api-v31/, "Send API errors", by the rule of a schema that is broken.
_CODES: dict[str, tuple[str, str]] = {
    "required": ("mj-0003", "A mandatory property is missing."),
    "type": ("mj-0004", "Type mismatch."),
    "enum": ("mj-0005", "The value is not in the set of allowed values."),
    "maxLength": ("mj-0006", "The string is too long."),
    "minItems": ("mj-0007", "The array must not be empty."),
    "maxItems": ("mj-0008", "The array has too many items."),
    "minLength": ("mj-0012", "The string must not be empty."),
}
_MALFORMED = ("mj-0002", "Malformed JSON, please review the syntax and properties types.")
_UNAUTHORIZED = (
    "mj-0015",
    "API key authentication/authorization failure. You may be unauthorized to access the API or your API key may be "
    "expired.",
)
_FORBIDDEN_HEADERS = frozenset({
    "from", "sender", "subject", "to", "cc", "bcc", "reply-to", "return-path", "delivered-to", "dkim-signature",
    "domainkey-status", "received-spf", "authentication-results", "received", "x-mailjet-prio", "x-mailjet-debug",
    "user-agent", "x-mailer", "x-mj-customid", "x-mj-eventpayload", "x-mj-vars", "x-mj-templateerrordeliver",
    "x-mj-templateerrorreporting", "x-mj-templatelanguage", "x-mailjet-trackopen", "x-mailjet-trackclick",
    "x-mj-templateid", "x-mj-workflowid", "x-feedback-id", "x-mailjet-segmentation", "list-id", "x-mj-mid",
    "x-mj-errormessage", "date", "x-csa-complaints", "message-id", "x-mailjet-campaign",
    "x-mj-statisticscontactslistid",
})  # fmt: skip
_MAX_RECIPIENTS, _MAX_ATTACHMENTS = 50, 15 * 1024 * 1024
_AGENT = "Mozilla/5.0 (Anymail sandbox)"
# The words of Anymail's kinds of event, and what else such an event tells.
_EVENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "delivered": ("sent", {"smtp_reply": "sent (250 2.0.0 OK)"}),
    "opened": ("open", {"ip": "192.0.2.1", "geo": "FR", "agent": _AGENT}),
    "clicked": ("click", {"url": "https://example.com/", "ip": "192.0.2.1", "geo": "FR", "agent": _AGENT}),
    "bounced": (
        "bounce",
        {
            "blocked": False,
            "hard_bounce": True,
            "error_related_to": "recipient",
            "error": "user unknown",
            "comment": "550 5.1.1 No such user",
        },
    ),
    "complained": ("spam", {"source": "JMRPP"}),
}


def _refusal(status: int, code: str, text: str) -> Refusal:
    return Refusal(json_response(status, _error(code, text, (), status)))


def _error(code: str, text: str, related: tuple[str, ...] = (), status: int = 400) -> dict[str, Any]:
    error = {"ErrorIdentifier": str(uuid4()), "ErrorCode": code, "StatusCode": status, "ErrorMessage": text}
    return {**error, "ErrorRelatedTo": list(related)} if related else error


class MailjetSandbox(JSONSandbox):
    slug = "mailjet"
    routes = (("POST", "/v3.1/send/?", "send"),)
    not_found = json_response(404, {"ErrorInfo": "", "ErrorMessage": "Object not found", "StatusCode": 404})
    credentials = "Authorization", "Basic " + b64encode(f"{API_KEY}:{SECRET_KEY}".encode()).decode("ascii")
    unauthorized = _refusal(401, *_UNAUTHORIZED).response
    malformed = _refusal(400, *_MALFORMED).response

    def settings(self, url: str) -> dict[str, Any]:
        return {"MAILJET_API_KEY": API_KEY, "MAILJET_SECRET_KEY": SECRET_KEY, "MAILJET_API_URL": f"{url}v3.1/"}

    def broken(self, broken: Violation) -> Refusal:
        return _refusal(400, *_CODES.get(broken.rule, _MALFORMED))

    def send(self, request: Request) -> SandboxResult:
        body = self.body(request, PAYLOAD)
        sandboxed = bool(body.get("SandboxMode"))
        results, deliveries, status = [], [], 200
        for own in body["Messages"]:
            message = _merged(body.get("Globals", {}), own)
            if _holds_null(message.get("Variables")):
                raise _refusal(500, "", "Cannot convert data from Null value")
            if errors := [_error(*reason) for reason in self._errors(message)]:
                results.append({"Status": "error", "Errors": errors})
                status = max(status, *(error["StatusCode"] for error in errors)) if len(body["Messages"]) == 1 else 400
            else:
                result, of_message = self._take(message, sandboxed)
                results.append(result)
                deliveries += of_message
        return SandboxResult(json_response(status, {"Messages": results}), deliveries)

    def _errors(self, message: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
        """What Mailjet would refuse in a message: code, text, the properties, and the status if it is not 400."""
        if broken := violation(MESSAGE, message):
            yield (*_CODES.get(broken.rule, _MALFORMED), (broken.where,))
            return
        for place, contact in _contacts(message):
            if _parsed(contact) is None:
                yield "mj-0013", f'"{contact["Email"]}" is an invalid email address.', (f"{place}.Email",)
        if not (message.get("TextPart") or message.get("HTMLPart") or "TemplateID" in message):
            yield "send-0003", "At least HTMLPart, TextPart or TemplateID must be provided.", ("HTMLPart", "TemplateID")
        if "From" not in message and "TemplateID" not in message:
            yield "mj-0003", "A mandatory property is missing.", ("From",)
        for name in message.get("Headers", {}):
            if name.lower() in _FORBIDDEN_HEADERS:
                yield "send-0011", f'Header "{name}" cannot be customized.', (f"Headers.{name}",)
        if message.get("DeduplicateCampaign") and not message.get("CustomCampaign"):
            yield "send-0012", "DeduplicateCampaign needs CustomCampaign.", ("DeduplicateCampaign",)
        if len({one["Email"].lower() for _, one in _contacts(message, ("To", "Cc", "Bcc"))}) > _MAX_RECIPIENTS:
            yield "send-0015", "There are too many recipients.", ("To", "Cc", "Bcc")
        if {"TemplateErrorReporting", "TemplateErrorDeliver"} & set(message) and not message.get("TemplateLanguage"):
            yield "send-0016", "Template errors can only be handled with TemplateLanguage.", ("TemplateLanguage",)
        try:
            size = sum(len(b64decode(file["Base64Content"], validate=True)) for file in _files(message))
        except ValueError:
            yield "mj-0004", "Type mismatch. Expected base64.", ("Attachments",)
        else:
            if size > _MAX_ATTACHMENTS:
                yield "mj-0011", "The payload is too large.", ("Attachments",)

    def _take(self, message: dict[str, Any], sandboxed: bool) -> tuple[dict[str, Any], list[SandboxDelivery]]:
        """Mailjet's result for a good message, and its deliveries."""
        result: dict[str, Any] = {"Status": "success", "CustomID": message.get("CustomID", "")}
        deliveries = []
        for name in ("To", "Cc", "Bcc"):
            result[name] = []
            for contact in message.get(name, ()):
                message_id = 0 if sandboxed else 1152921504606846976 + int(self.new_id().replace("-", "")[:12], 16)
                result[name].append(
                    {
                        "Email": contact["Email"].lower(),
                        "MessageUUID": "" if sandboxed else self.new_id(),
                        "MessageID": message_id,
                        "MessageHref": f"https://api.mailjet.com/v3/REST/message/{message_id}",
                    }
                )
                # Mailjet takes a blocked recipient, and delivers nothing.
                if not sandboxed and not is_suppressed(contact["Email"]):
                    deliveries.append(_delivery(message, contact["Email"], str(message_id)))
        return result, deliveries

    def event(self, kind: str, delivery: SandboxDelivery, url: str) -> Request:
        word, own = _EVENTS[kind]
        event = {
            "event": word,
            "time": int(self.clock().timestamp()),
            "MessageID": int(delivery.message_id),
            "Message_GUID": self.new_id(),
            "email": delivery.recipient,
            "mj_campaign_id": 1,
            "mj_contact_id": 1,
            "customcampaign": delivery.tags[0] if delivery.tags else "",
            "CustomID": delivery.extra["custom_id"],
            "Payload": delivery.extra["payload"],
            **own,
        }
        return Request.post(url, headers={}, json=[event])


def _merged(common: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A message with the defaults of ``Globals``."""
    both = {
        name: {**common[name], **own[name]}
        for name in ("Headers", "Variables")
        if isinstance(common.get(name), dict) and isinstance(own.get(name), dict)
    }
    return {**common, **own, **both}


def _holds_null(value: Any) -> bool:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(child is None or _holds_null(child) for child in children)


def _contacts(
    message: dict[str, Any], names: tuple[str, ...] = ("From", "Sender", "To", "Cc", "Bcc", "ReplyTo")
) -> Iterator[tuple[str, dict[str, str]]]:
    """The addresses of a message, and where they stand."""
    for name in names:
        value = message.get(name, [])
        if isinstance(value, dict):
            yield name, value
        else:
            yield from ((f"{name}[{index}]", contact) for index, contact in enumerate(value))


def _parsed(contact: dict[str, str]) -> EmailAddress | None:
    try:
        [address] = addresses(contact["Email"])
    except (AnymailInvalidAddress, ValueError):
        return None
    return None if address.display_name else EmailAddress(contact.get("Name", ""), contact["Email"])


def _listed(message: dict[str, Any], *names: str) -> str:
    return format_addresses(parsed for _, contact in _contacts(message, names) if (parsed := _parsed(contact)))


def _files(message: dict[str, Any]) -> list[dict[str, str]]:
    return [*message.get("Attachments", ()), *message.get("InlinedAttachments", ())]


def _delivery(message: dict[str, Any], recipient: str, message_id: str) -> SandboxDelivery:
    variables = message.get("Variables", {})
    templating = bool(message.get("TemplateLanguage"))
    template = message.get("TemplateID")
    payload = message.get("EventPayload", "")
    return SandboxDelivery(
        recipient=recipient,
        message_id=message_id,
        from_email=_listed(message, "From"),
        to=_listed(message, "To"),
        cc=_listed(message, "Cc"),
        reply_to=_listed(message, "ReplyTo"),
        subject=_in_template(message.get("Subject", f"(template {template})"), variables, templating),
        text=_personalised(_in_template(message.get("TextPart", ""), variables, templating), variables),
        html=_personalised(_in_template(message.get("HTMLPart", ""), variables, templating), variables),
        headers={name: str(value) for name, value in message.get("Headers", {}).items()},
        attachments=files_of(_files(message), "Filename", "ContentType", "Base64Content"),
        metadata=json_object_of(payload),
        tags=[message["CustomCampaign"]] if message.get("CustomCampaign") else [],
        template=str(template) if template is not None else None,
        extra={"payload": payload, "custom_id": message.get("CustomID", "")},
    )


_VARIABLE = r'\s*var:(\w+)(?::"([^"]*)")?\s*'


def _in_template(text: str, variables: dict[str, Any], templating: bool) -> str:
    """The template language's plain variables and their defaults; its statements are left as they are."""
    return _rendered(r"\{\{" + _VARIABLE + r"\}\}", text, variables) if templating else text


def _personalised(text: str, variables: dict[str, Any]) -> str:
    """Variables of text that is no template; not in subjects."""
    return _rendered(r"\[\[" + _VARIABLE + r"\]\]", text, variables)


def _rendered(pattern: str, text: str, variables: dict[str, Any]) -> str:
    return re.sub(pattern, lambda match: str(variables.get(match[1], match[2] or "")), text)
