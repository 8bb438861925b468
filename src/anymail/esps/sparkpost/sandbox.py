"""SparkPost's side of the sandbox: /transmissions, and the event webhook."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator, Mapping
from html import escape
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
    bare,
    files_of,
    is_address,
    is_suppressed,
    json_response,
)
from anymail.exceptions import AnymailInvalidAddress
from anymail.inbound import AnymailInboundMessage
from anymail.wire import Request

API_KEY = "5a4d6b0csandboxsparkpostkey"
WEBHOOK_TOKEN = "5a4d6b0c-sandbox-sparkpost-webhook"

_BOOLEAN = {"type": "boolean"}
_OBJECT = {"type": "object"}
_FILES = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 255},
            "type": STRING,
            "data": BASE64,
        },
        "required": ["name", "type", "data"],
    },
}
_RECIPIENT = {
    "type": "object",
    "properties": {
        "address": {
            "anyOf": [
                BASE64,
                STRING,
                {
                    "type": "object",
                    "properties": {"email": STRING, "name": STRING, "header_to": STRING},
                    "required": ["email"],
                },
            ]
        },
        "return_path": STRING,
        "tags": {"type": "array", "maxItems": 10, "items": STRING},
        "metadata": _OBJECT,
        "substitution_data": _OBJECT,
    },
    "required": ["address"],
}
_SENDER = {
    "anyOf": [
        BASE64,
        STRING,
        {"type": "object", "properties": {"email": STRING, "name": STRING}, "required": ["email"]},
    ]
}
# https://developers.sparkpost.com/api/transmissions/; fields that SparkPost does not know it ignores.
TRANSMISSION = {
    "type": "object",
    "properties": {
        "options": {
            "type": "object",
            "properties": {
                "start_time": {"type": "string", "pattern": r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([+-]\d\d:\d\d|Z)\Z"},
                **dict.fromkeys(
                    ("open_tracking", "initial_open", "click_tracking", "transactional", "sandbox", "skip_suppression",
                     "inline_css", "perform_substitutions"), _BOOLEAN
                ),
                "ip_pool": STRING,
                "dkim_key": STRING,
            },
        },
        "recipients": {
            "anyOf": [
                {"type": "array", "minItems": 1, "items": _RECIPIENT},
                {"type": "object", "properties": {"list_id": STRING}, "required": ["list_id"]},
            ]
        },
        "campaign_id": {"type": "string", "maxLength": 64},
        "description": {"type": "string", "maxLength": 1024},
        "metadata": _OBJECT,
        "substitution_data": _OBJECT,
        "return_path": STRING,
        "tracking_domain": STRING,
        "content": {
            "type": "object",
            "properties": {
                "html": STRING,
                "text": STRING,
                "amp_html": STRING,
                "subject": STRING,
                "from": _SENDER,
                "reply_to": STRING,
                "headers": {
                    "type": "object",
                    "propertyNames": {
                        "not": {"pattern": "(?i)^(subject|from|to|reply-to|content-type|content-transfer-encoding)$"}
                    },
                    "additionalProperties": STRING,
                },
                "attachments": _FILES,
                "inline_images": _FILES,
                "email_rfc822": STRING,
                "template_id": STRING,
                "use_draft_template": _BOOLEAN,
                "ab_test_id": STRING,
            },
            "anyOf": [
                {"required": ["email_rfc822"]},
                {"required": ["template_id"]},
                {"required": ["ab_test_id"]},
                {
                    "required": ["subject"],
                    "anyOf": [{"required": ["text"]}, {"required": ["html"]}],
                },
            ],
        },
        "override": {
            "type": "object",
            "properties": {"from": _SENDER, "reply_to": STRING, "list_id": STRING},
        },
    },
    "required": ["recipients", "content"],
}  # fmt: skip

_INLINE = ("subject", "text", "html", "amp_html")
_REQUIRED, _FORMAT = "required field is missing or invalid", "invalid data format/type"


def _refusal(status: int, message: str, code: str | None = None, description: str | None = None) -> Refusal:
    error = {"message": message, "description": description, "code": code}
    return Refusal(json_response(status, {"errors": [{key: value for key, value in error.items() if value}]}))


class SparkPostSandbox(JSONSandbox):
    slug = "sparkpost"
    routes = (("POST", "/api/v1/transmissions/?", "transmissions"),)
    not_found = _refusal(404, "Resource could not be found", "1600").response
    wrong_content_type = _refusal(415, "Unsupported media type", "1700").response
    malformed = _refusal(422, _FORMAT, "1300").response

    def settings(self, url: str) -> dict[str, Any]:
        return {
            "SPARKPOST_API_KEY": API_KEY,
            "SPARKPOST_API_URL": f"{url}api/v1/",
            "SPARKPOST_WEBHOOK_TOKEN": WEBHOOK_TOKEN,
        }

    def authenticate(self, request: Request) -> None:
        if request.headers.get("Authorization") != API_KEY:
            raise _refusal(401, "Unauthorized.")
        if not request.headers.get("X-MSYS-SUBACCOUNT", "0").isdigit():
            raise _refusal(400, _FORMAT, "1300", "X-MSYS-SUBACCOUNT must be a number")

    def broken(self, broken: Violation) -> Refusal:
        missing = broken.rule in ("required", "anyOf", "minItems")
        message, code = (_REQUIRED, "1400") if missing else (_FORMAT, "1300")
        return _refusal(422, message, code, f"{broken.where or 'body'} {broken.text}")

    def transmissions(self, request: Request) -> SandboxResult:
        self.authenticate(request)
        try:
            bytes(request.body).decode()
        except UnicodeDecodeError:
            raise _refusal(422, "invalid UTF-8", "1305") from None
        body = self.body(request)
        if too_large := next(_numbers_over_32_bits(body), None):
            raise _refusal(422, _FORMAT, "1300", f"{str(too_large)[:20]} does not fit in signed 32 bits")
        self.validate(TRANSMISSION, body)
        self._check(body)
        transmission_id = str(int(self.new_id().replace("-", ""), 16))[:19]
        if isinstance(body["recipients"], dict):
            # The sandbox keeps no recipient lists.
            raise _refusal(422, "Subresource not found", "1603", f"recipient list: {body['recipients']['list_id']}")
        errors = []
        deliveries = []
        for entry in body["recipients"]:
            address = entry["address"] if isinstance(entry["address"], dict) else {"email": entry["address"]}
            if not is_address(address["email"]):
                description = f"invalid recipient address.email: {address['email']}"
                errors.append({"message": _REQUIRED, "description": description, "code": "1400"})
            elif is_suppressed(address["email"]) and len(body["recipients"]) == 1:
                description = "recipient address was suppressed due to customer policy"
                raise _refusal(400, "Message generation rejected", "1902", description)
            # SparkPost takes a suppressed recipient among others, and delivers nothing.
            elif not is_suppressed(address["email"]):
                deliveries.append(_delivery(body, entry, address, transmission_id))
        results: dict[str, Any] = {"rcpt_to_errors": errors} if errors else {}
        results["total_rejected_recipients"] = len(errors)
        results["total_accepted_recipients"] = len(body["recipients"]) - len(errors)
        results["id"] = transmission_id
        content: dict[str, Any] = {"results": results}
        if errors:
            content["errors"] = [{"message": "transmission created, but with validation errors", "code": "2000"}]
        return SandboxResult(json_response(200, content), deliveries)

    def _check(self, body: Any) -> None:
        content = body["content"]
        if {"template_id", "ab_test_id", "email_rfc822"} & set(content):
            if any(name in content for name in _INLINE):
                raise _refusal(422, "both content object and template_id are specified", "1301")
        elif len(_senders(content.get("from", ""))) != 1:
            raise _refusal(400, "Invalid domain", "7001", "Unconfigured or unverified sending domain.")
        for part in (body, *(body["recipients"] if isinstance(body["recipients"], list) else ())):
            if len(json.dumps(part.get("substitution_data", {}))) > 100_000:
                raise _refusal(422, "substitution data too large", "2002")
            if len(json.dumps(part.get("metadata", {}))) > 10_000:
                raise _refusal(422, "metadata too large", "2007")
        start = body.get("options", {}).get("start_time")
        if start and dt.datetime.fromisoformat(start) > self.clock() + dt.timedelta(days=3):
            raise _refusal(422, _FORMAT, "1300", "options.start_time must be at most 3 days ahead")

    def event(self, kind: str, delivery: SandboxDelivery, url: str) -> Request:
        browser = {"user_agent": "Mozilla/5.0 (Anymail sandbox)", "ip_address": "192.0.2.1"}
        kinds: dict[str, tuple[str, dict[str, Any]]] = {
            "delivered": ("message_event", {"type": "delivery", "num_retries": "0", "queue_time": "900"}),
            "opened": ("track_event", {"type": "open", **browser}),
            "clicked": ("track_event", {"type": "click", "target_link_url": "https://example.com/", **browser}),
            "bounced": (
                "message_event",
                {
                    "type": "bounce",
                    "error_code": "550",
                    "bounce_class": "10",
                    "raw_reason": f"550 5.1.1 <{delivery.recipient}>: no such user",
                    "reason": "550 5.1.1 ...@...: no such user",
                },
            ),
            "complained": ("message_event", {"type": "spam_complaint", "fbtype": "abuse"}),
        }
        event_class, own = kinds[kind]
        event = {
            "event_id": self.new_id(),
            "timestamp": str(int(self.clock().timestamp())),
            "customer_id": "1",
            "subaccount_id": "0",
            "message_id": delivery.extra["message_id"],
            "transmission_id": delivery.message_id,
            "campaign_id": delivery.extra["campaign_id"],
            "friendly_from": bare(delivery.from_email),
            "rcpt_to": delivery.recipient.lower(),
            "raw_rcpt_to": delivery.recipient,
            "rcpt_meta": delivery.metadata,
            "rcpt_tags": delivery.extra["rcpt_tags"],
            "subject": delivery.subject,
            "recv_method": "rest",
            **own,
        }
        headers = {"X-MessageSystems-Batch-ID": self.new_id(), "X-MessageSystems-Webhook-Token": WEBHOOK_TOKEN}
        return Request.post(url, headers=headers, json=[{"msys": {event_class: event}}])


def _delivery(
    body: dict[str, Any], entry: dict[str, Any], address: dict[str, str], transmission_id: str
) -> SandboxDelivery:
    content, override = body["content"], body.get("override", {})
    if "email_rfc822" in content:
        content = _parsed(content["email_rfc822"])
    metadata = {**body.get("metadata", {}), **entry.get("metadata", {})}
    data = {**metadata, **body.get("substitution_data", {}), **entry.get("substitution_data", {})}
    template = content.get("template_id") or content.get("ab_test_id")
    headers = {name: _rendered(value, data) for name, value in content.get("headers", {}).items()}
    files = [*content.get("attachments", ()), *content.get("inline_images", ())]
    return SandboxDelivery(
        recipient=address["email"],
        message_id=transmission_id,
        from_email=", ".join(_senders(override.get("from") or content.get("from", ""))),
        to=address.get("header_to", address["email"]),
        cc=next((value for name, value in headers.items() if name.lower() == "cc"), ""),
        reply_to=override.get("reply_to") or _rendered(content.get("reply_to", ""), data),
        subject=_rendered(content.get("subject", f"(template {template})"), data),
        text=_rendered(content.get("text", ""), data),
        html=_rendered(content.get("html", ""), data, escape),
        headers={name: value for name, value in headers.items() if name.lower() != "cc"},
        attachments=files_of(files, "name", "type", "data"),
        metadata=metadata,
        tags=[*filter(None, [body.get("campaign_id")]), *entry.get("tags", ())],
        template=template,
        extra={
            "message_id": f"{transmission_id}-{address['email']}",
            "options": body.get("options", {}),
            "campaign_id": body.get("campaign_id", ""),
            "rcpt_tags": entry.get("tags", []),
        },
    )


def _parsed(raw: str) -> dict[str, Any]:
    """Raw MIME as the other fields of ``content``."""
    message = AnymailInboundMessage.parse_raw_mime(raw)
    parts = {"subject": message.subject, "text": message.text, "html": message.html, "from": message["From"]}
    return {name: str(value) for name, value in parts.items() if value}


def _senders(sender: str | dict[str, str]) -> list[str]:
    if isinstance(sender, dict):
        return [f"{sender.get('name', '')} <{sender['email']}>".strip()]
    try:
        return list(map(str, addresses(sender)))
    except AnymailInvalidAddress:
        return []


def _numbers_over_32_bits(value: Any) -> Iterator[int]:
    """The whole numbers that SparkPost cannot read."""
    if isinstance(value, int) and not -(2**31) <= value < 2**31:
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _numbers_over_32_bits(child)


def _rendered(text: str, data: Mapping[str, Any], quote: Any = str) -> str:
    """The template language's plain variables and their defaults; its statements are left as they are."""

    def value(match: re.Match[str]) -> str:
        given = data.get(match[2])
        text = str((match[3] or "") if given is None else given)
        return text if match[1] == "{{{" else str(quote(text))

    return re.sub(r"(\{\{\{?)\s*([A-Za-z_]\w*)\s*(?:or\s+'([^']*)'\s*)?\}\}\}?", value, text)
