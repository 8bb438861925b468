"""Mailgun's side of the sandbox: /v3/{domain}/messages."""

from __future__ import annotations

import json
import re
import secrets
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote

from anymail.conf import Secret
from anymail.esps.kit.sandbox import (
    STRING,
    FormFile,
    Refusal,
    SandboxDelivery,
    SandboxESP,
    SandboxResult,
    addresses,
    array_schema,
    form_of,
    json_response,
    violation,
)
from anymail.esps.mailgun.sending import basic_auth
from anymail.esps.mailgun.tracking import signature
from anymail.exceptions import AnymailInvalidAddress
from anymail.mail.addresses import EmailAddress, format_addresses
from anymail.wire import Request, Response

API_KEY = "key-sandbox-mailgun"
SIGNING_KEY = "sandbox-mailgun-signing-key"


def _one(schema: dict[str, Any]) -> dict[str, Any]:
    return array_schema(schema, maxItems=1)


_TEXT = _one(STRING)
_MANY = array_schema({"type": "string", "minLength": 1})
_SWITCH = _one({"enum": ["yes", "no", "true", "false"]})
_CLICKS = _one({"enum": ["yes", "no", "true", "false", "htmlonly"]})
# https://documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/messages: each field and its values.
FORM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "from": _MANY,
        "to": {**_MANY, "maxItems": 1000},
        "cc": _MANY,
        "bcc": _MANY,
        "subject": _TEXT,
        "text": _TEXT,
        "amp-html": _TEXT,
        "html": _TEXT,
        "template": _TEXT,
        "t:version": _TEXT,
        "t:text": _SWITCH,
        "t:variables": _TEXT,
        "o:tag": array_schema({"type": "string", "pattern": "^[ -~]{1,128}$"}),
        "o:dkim": _SWITCH,
        "o:secondary-dkim": _TEXT,
        "o:secondary-dkim-public": _TEXT,
        "o:deliverytime": _TEXT,
        "o:deliver-within": _one({"type": "string", "pattern": r"^(\d+h)?(\d+m)?$"}),
        "o:deliverytime-optimize-period": _one({"type": "string", "pattern": r"^\d+h$"}),
        "o:time-zone-localize": _TEXT,
        "o:testmode": _SWITCH,
        "o:tracking": _CLICKS,
        "o:tracking-clicks": _CLICKS,
        "o:tracking-opens": _SWITCH,
        "o:tracking-pixel-location-top": _CLICKS,
        "o:require-tls": _SWITCH,
        "o:skip-verification": _SWITCH,
        "o:sending-ip": _TEXT,
        "o:sending-ip-pool": _TEXT,
        "o:archive-to": _TEXT,
        "o:suppress-headers": _TEXT,
        "recipient-variables": _TEXT,
    },
    "patternProperties": {"^h:[!-9;-~]+$": _TEXT, "^v:.": _TEXT},
    "additionalProperties": False,
}
_BODIES = ("text", "html", "amp-html", "template")
_DOMAIN = re.compile(r"([a-z0-9_-]+\.)+[a-z0-9-]+", re.IGNORECASE)

Form = dict[str, list[str]]


def _refusal(text: str, status: int = 400) -> Refusal:
    return Refusal(json_response(status, {"message": text}))


def _invalid(field: str, what: str = "valid") -> Refusal:
    return _refusal(f"'{field}' parameter is not {what}. please check documentation")


class MailgunSandbox(SandboxESP):
    slug = "mailgun"
    routes = (("POST", "/v3/(?P<domain>[^/]+)/messages", "messages"),)
    not_found = Response(200, {"Content-Type": "text/plain"}, b"Mailgun Magnificent API")

    def settings(self, url: str) -> dict[str, Any]:
        return {
            "MAILGUN_API_KEY": API_KEY,
            "MAILGUN_API_URL": f"{url}v3/",
            "MAILGUN_WEBHOOK_SIGNING_KEY": SIGNING_KEY,
        }

    def messages(self, request: Request, domain: str) -> SandboxResult:
        if request.headers.get("Authorization") != basic_auth(Secret(API_KEY)):
            raise Refusal(Response(401, {"Content-Type": "text/plain"}, b"Forbidden"))
        domain = unquote(domain)
        if not _DOMAIN.fullmatch(domain):
            raise _refusal(f"Domain not found: {domain}", 404)
        form, files = _read(request)
        to, cc, bcc = (_addresses(form, field) for field in ("to", "cc", "bcc"))
        message_id = f"<{self.clock():%Y%m%d%H%M%S}.{secrets.token_hex(8)}@{domain}>"
        common: dict[str, Any] = {
            "message_id": message_id,
            "from_email": ", ".join(form.get("from", [f"postmaster@{domain}"])),
            "cc": format_addresses(cc),
            "attachments": [(file.filename, file.content_type, len(file.content)) for file in files],
            "tags": form.get("o:tag", []),
        }
        variables = _object(form, "recipient-variables")
        # In a batch each "to" has a message of its own, of which every cc and bcc gets a copy.
        messages = (
            [([address], variables.get(address.addr_spec, {})) for address in to]
            if variables is not None
            else [(to, {})]
        )
        deliveries = [
            SandboxDelivery(
                recipient=address.addr_spec, to=format_addresses(shown), **common, **_rendered(form, values, domain)
            )
            for shown, values in messages
            for address in (*shown, *cc, *bcc)
        ]
        return SandboxResult(json_response(200, {"id": message_id, "message": "Queued. Thank you."}), deliveries)

    def event(self, kind: str, delivery: SandboxDelivery, url: str) -> Request:
        now = self.clock().timestamp()
        timestamp, token = f"{now:.0f}", secrets.token_hex(25)
        headers = {"message-id": delivery.message_id.strip("<>")}
        sent = {"from": delivery.from_email, "to": delivery.to, "subject": delivery.subject}
        refused = {"code": 550, "message": "5.1.1 No such user", "description": "", "enhanced-code": "5.1.1"}
        browser = {
            "ip": "192.0.2.1",
            "geolocation": {"country": "NL", "region": "Unknown", "city": "Unknown"},
            "client-info": {"client-type": "browser", "user-agent": "Mozilla/5.0 (Anymail sandbox)", "bot": ""},
        }
        kinds: dict[str, dict[str, Any]] = {
            "delivered": {"event": "delivered", "log-level": "info",
                          "delivery-status": {"code": 250, "message": "OK", "description": "", "attempt-no": 1}},
            "opened": {"event": "opened", "log-level": "info", **browser},
            "clicked": {"event": "clicked", "log-level": "info", **browser, "url": "https://example.com/"},
            "bounced": {"event": "failed", "log-level": "error", "severity": "permanent", "reason": "bounce",
                        "delivery-status": {**refused, "attempt-no": 1}},
            "complained": {"event": "complained", "log-level": "warn"},
        }  # fmt: skip
        event = {
            "account": {"id": "sandbox"},
            "domain": {"name": delivery.extra["domain"]},
            "id": secrets.token_urlsafe(16),
            "timestamp": now,
            "message": {"headers": headers if kind in ("opened", "clicked") else {**headers, **sent}},
            "recipient": delivery.recipient,
            "recipient-domain": delivery.recipient.rpartition("@")[2],
            "tags": delivery.tags,
            "campaigns": [],
            "user-variables": delivery.metadata,
            **kinds[kind],
        }
        signed = {"timestamp": timestamp, "token": token, "signature": signature(SIGNING_KEY, timestamp, token)}
        return Request.post(url, headers={}, json={"signature": signed, "event-data": event})


def _read(request: Request) -> tuple[Form, list[FormFile]]:
    """The fields and files of a call. Raises Refusal for what Mailgun does not take."""
    try:
        fields, files = form_of(request)
    except ValueError:
        raise _refusal("The request is not a form") from None
    form: Form = {}
    for name, value in fields:
        form.setdefault(name, []).append(value)
    if broken := violation(FORM, form):
        raise _invalid(broken.field)
    for file in files:
        if file.field not in ("attachment", "inline"):
            raise _invalid(file.field)
    if not form.get("from") and "template" not in form:
        raise _invalid("from", "a valid address")
    for field in ("from", "to", "cc", "bcc"):
        _addresses(form, field)
    if not form.get("to"):
        raise _invalid("to", "a valid address")
    if form.get("html") and form.get("template"):
        raise _refusal("Only one parameters 'html' or 'template' is allowed.")
    if not any(form.get(field) for field in _BODIES):
        raise _refusal("Need at least one of 'text', 'html', 'amp-html' or 'template' parameters specified")
    _object(form, "t:variables")
    if any(not isinstance(values, dict) for values in (_object(form, "recipient-variables") or {}).values()):
        raise _invalid("recipient-variables")
    try:
        parsedate_to_datetime(form.get("o:deliverytime", ["Thu, 1 Jan 2026 00:00:00 GMT"])[0])
    except ValueError:
        raise _invalid("o:deliverytime") from None
    options = (len(name) + len(value) for name, value in fields if name[:2] in ("o:", "h:", "v:", "t:"))
    if sum(options) > 16 * 1024:
        raise _refusal("The total size of the o:, h:, v: and t: parameters is over 16 KB")
    return form, files


def _addresses(form: Form, field: str) -> list[EmailAddress]:
    try:
        return [address for value in form.get(field, ()) for address in addresses(value)]
    except AnymailInvalidAddress:
        raise _invalid(field, "a valid address") from None


def _object(form: Form, field: str) -> dict[str, Any] | None:
    if field not in form:
        return None
    try:
        value = json.loads(form[field][0])
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise _invalid(field)
    return value


def _rendered(form: Form, values: dict[str, Any], domain: str) -> dict[str, Any]:
    """What is different in each message of a batch. Templates are not known here, only what they would be given."""

    def render(field: str) -> str:
        text = form.get(field, [""])[0]
        return re.sub("%recipient\\.([^%]+)%", lambda match: str(values.get(match[1], match[0])), text)

    headers = {name[2:]: render(name) for name in form if name.startswith("h:")}
    metadata = {name[2:]: render(name) for name in form if name.startswith("v:")}
    template = form.get("template", [None])[0]
    return {
        "reply_to": headers.get("Reply-To", ""),
        "subject": render("subject") or (f"(template {template})" if template else ""),
        "text": render("text"),
        "html": render("html"),
        "headers": headers,
        "metadata": metadata,
        "template": template,
        "extra": {"domain": domain, "variables": {**metadata, **(_object(form, "t:variables") or {})}},
    }
