"""Mandrill's side of the sandbox: /messages/send, and its twins for templates.

A field that Mandrill does not document is refused, though Mandrill itself may take no notice of it.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from django.http import QueryDict

from anymail.esps.kit.sandbox import (
    BASE64,
    STRING,
    JSONSandbox,
    Refusal,
    SandboxDelivery,
    SandboxResult,
    Violation,
    array_schema,
    files_of,
    formatted,
    is_address,
    is_suppressed,
    json_response,
    object_schema,
)
from anymail.esps.kit.values import json_object_of
from anymail.esps.mandrill.tracking import signature
from anymail.wire import Request

API_KEY = "md-sandbox-mandrill-key"
WEBHOOK_KEY = "sandbox-mandrill-webhook-key"

_TEXT = {"type": ["string", "null"]}
_SWITCH = {"type": ["boolean", "null"]}
_NAME = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_]*$"}
_SCALARS = {
    "type": "object",
    "propertyNames": {"pattern": "^[A-Za-z0-9][A-Za-z0-9_]*$"},
    "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
}


_VARS = array_schema(object_schema(["name"], name=_NAME, content={}))
_MESSAGE = object_schema(
    ["to"],
    html=_TEXT,
    text=_TEXT,
    subject={**_TEXT, "maxLength": 998},
    from_email=_TEXT,
    from_name=_TEXT,
    to=array_schema(
        object_schema(["email"], email=STRING, name=_TEXT, type={"enum": ["to", "cc", "bcc", None]}), minItems=1
    ),
    headers={"type": "object", "additionalProperties": STRING},
    **dict.fromkeys(
        ("important", "track_opens", "track_clicks", "auto_text", "auto_html", "inline_css", "url_strip_qs",
         "preserve_recipients", "view_content_link", "merge"), _SWITCH
    ),
    **dict.fromkeys(("bcc_address", "tracking_domain", "signing_domain", "return_path_domain", "subaccount"), _TEXT),
    merge_language={"enum": ["mailchimp", "handlebars", None]},
    global_merge_vars=_VARS,
    merge_vars=array_schema(object_schema(["rcpt"], rcpt=STRING, vars=_VARS)),
    tags=array_schema({"type": "string", "maxLength": 50, "pattern": "^[^_]"}),
    google_analytics_domains=array_schema(STRING),
    google_analytics_campaign={"anyOf": [STRING, array_schema(STRING)]},
    metadata=_SCALARS,
    recipient_metadata=array_schema(object_schema(["rcpt", "values"], rcpt=STRING, values=_SCALARS)),
    attachments=array_schema(object_schema(["type", "name", "content"], type=STRING, name=STRING, content=BASE64)),
    images=array_schema(
        object_schema(
            ["type", "name", "content"], type={"type": "string", "pattern": "^image/"}, name=STRING, content=BASE64
        )
    ),
)  # fmt: skip
_COMMON = {
    "key": STRING,
    "message": _MESSAGE,
    "async": _SWITCH,
    "ip_pool": STRING,
    "send_at": {"type": "string", "pattern": r"\A\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\Z"},
}
# https://mailchimp.com/developer/transactional/api/messages/
SEND = object_schema(["key", "message"], **_COMMON)
SEND_TEMPLATE = object_schema(
    ["key", "template_name", "template_content", "message"],
    **_COMMON, template_name={"type": "string", "minLength": 1}, template_content=_VARS,
)  # fmt: skip
SEND_MC_TEMPLATE = object_schema(
    ["key", "mc_template_id", "message"],
    **_COMMON,
    mc_template_id={"type": "integer"},
    mc_template_version={"enum": ["draft", "published"]},
    template_content=_VARS,
)

_MUST_HAVE_AT = "An email address must contain a single @"
# With more recipients Mandrill answers before it looks at them.
_MOST_AT_ONCE = 10
_VARIABLES = {"mailchimp": r"\*\|(\w+)\|\*", "handlebars": r"\{\{\{?\s*(\w+)\s*\}?\}\}"}


def _refusal(status: int, name: str, code: int, message: str) -> Refusal:
    return Refusal(json_response(status, {"status": "error", "code": code, "name": name, "message": message}))


def _invalid(where: str, text: str) -> Refusal:
    """The refusal for a field; ``where`` is its path, as in ``message.to[0].email``."""
    nested: Any = text
    for step in reversed(re.findall(r"[^.\[\]]+", where)):
        nested = {step: nested}
    return _refusal(400, "ValidationError", -2, f"Validation error: {json.dumps(nested)}")


class MandrillSandbox(JSONSandbox):
    slug = "mandrill"
    routes = (
        ("POST", r"/api/1\.\d/messages/send(\.json)?", "send"),
        ("POST", r"/api/1\.\d/messages/send-template(\.json)?", "send_template"),
        ("POST", r"/api/1\.\d/messages/send-mc-template(\.json)?", "send_mc_template"),
    )
    not_found = _refusal(404, "Unknown_Method", -1, "Unknown method").response
    malformed = _refusal(400, "ValidationError", -2, "You must specify a key value").response

    def settings(self, url: str) -> dict[str, Any]:
        return {
            "MANDRILL_API_KEY": API_KEY,
            "MANDRILL_API_URL": f"{url}api/1.0/",
            "MANDRILL_WEBHOOK_KEY": WEBHOOK_KEY,
        }

    def authenticate(self, request: Request) -> None:
        """The key is in the body."""
        body = json_object_of(bytes(request.body))
        if "key" not in body:
            raise Refusal(self.malformed)
        if body["key"] != API_KEY:
            raise _refusal(401, "Invalid_Key", 401, "Invalid API key")

    def broken(self, broken: Violation) -> Refusal:
        return _invalid(broken.where, f"it {broken.text}")

    def send(self, request: Request) -> SandboxResult:
        body = self._checked(request, SEND)
        if not body["message"].get("from_email"):
            raise _invalid("message.from_email", _MUST_HAVE_AT)
        return self._take(body)

    def send_template(self, request: Request) -> SandboxResult:
        return self._take(self._checked(request, SEND_TEMPLATE))

    def send_mc_template(self, request: Request) -> SandboxResult:
        return self._take(self._checked(request, SEND_MC_TEMPLATE))

    def new_id(self) -> str:
        return uuid4().hex

    def _checked(self, request: Request, schema: dict[str, Any]) -> Any:
        body = self.body(request, schema)
        message = body["message"] = _without_null(body["message"])
        message["to"] = [_without_null(recipient) for recipient in message["to"]]
        sender = body["message"].get("from_email")
        if sender and not is_address(sender):
            raise _invalid("message.from_email", _MUST_HAVE_AT)
        if self._wait(body) > dt.timedelta(days=366):
            raise _invalid("send_at", "send_at must be at most one year ahead")
        return body

    def _wait(self, body: dict[str, Any]) -> dt.timedelta:
        """How far ahead ``send_at`` is."""
        if "send_at" not in body:
            return dt.timedelta()
        try:
            time = dt.datetime.fromisoformat(body["send_at"])
        except ValueError:
            raise _invalid("send_at", "send_at is not a date") from None
        return time.replace(tzinfo=dt.UTC) - self.clock()

    def _take(self, body: dict[str, Any]) -> SandboxResult:
        results, deliveries = [], []
        for recipient in body["message"]["to"]:
            email = recipient["email"]
            result = self._result(body, email)
            results.append(result)
            if is_address(email) and not is_suppressed(email):
                deliveries.append(_delivery(body, recipient, result["_id"]))
        return SandboxResult(json_response(200, results), deliveries)

    def _result(self, body: dict[str, Any], email: str) -> dict[str, Any]:
        message = body["message"]
        result: dict[str, Any] = {"email": email, "_id": self.new_id(), "reject_reason": None}
        if body.get("async") or len(message["to"]) > _MOST_AT_ONCE:
            return {**result, "status": "queued", "queued_reason": "multiple-recipients"}
        if not is_address(email):
            return {"email": email, "status": "invalid", "reject_reason": None}
        if is_suppressed(email):
            return {**result, "status": "rejected", "reject_reason": "hard-bounce"}
        if self._wait(body) > dt.timedelta():
            return {**result, "status": "scheduled"}
        if message.get("attachments") or message.get("images"):
            return {**result, "status": "queued", "queued_reason": "attachments"}
        return {**result, "status": "sent", "queued_reason": None}

    def event(self, kind: str, delivery: SandboxDelivery, url: str) -> Request:
        now = int(self.clock().timestamp())
        browser = {"ip": "192.0.2.1", "location": None, "user_agent": "Mozilla/5.0 (Anymail sandbox)",
                   "user_agent_parsed": None}  # fmt: skip
        bounce = {"bounce_description": "bad_mailbox", "bgtools_code": 10,
                  "diag": f"smtp;550 5.1.1 <{delivery.recipient}>: no such user"}  # fmt: skip
        # The word, the message's state, and what else the event and its message have.
        kinds: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
            "delivered": ("delivered", "sent", {}, {"smtp_events": None, "diag": None}),
            "opened": ("open", "sent", browser, {}),
            "clicked": ("click", "sent", {**browser, "url": "https://example.com/"}, {}),
            "bounced": ("hard_bounce", "bounced", {}, bounce),
            "complained": ("spam", "spam", {}, {}),
        }
        word, state, own, of_message = kinds[kind]
        msg = {
            "ts": now,
            "_id": delivery.message_id,
            "state": state,
            "subject": delivery.subject,
            "email": delivery.recipient,
            "tags": delivery.tags,
            **{name: [] for name in ("opens", "clicks", "smtp_events", "resends")},
            **dict.fromkeys(("subaccount", "reject")),
            # As PHP writes an empty array.
            "metadata": delivery.metadata or [],
            "sender": delivery.extra["sender"],
            "template": delivery.template,
            **of_message,
        }
        events = json.dumps([{"event": word, "_id": delivery.message_id, "msg": msg, "ts": now, **own}])
        body = urlencode({"mandrill_events": events})
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "User-Agent": "Mandrill-Webhook/1.0",
            "X-Mandrill-Signature": signature(WEBHOOK_KEY, url, QueryDict(body)),
        }
        return Request("POST", url, headers, body.encode())


def _without_null(fields: dict[str, Any]) -> dict[str, Any]:
    """Null is what a field has that is left out."""
    return {name: value for name, value in fields.items() if value is not None}


def _delivery(body: dict[str, Any], recipient: dict[str, str], message_id: str) -> SandboxDelivery:
    message, email = body["message"], recipient["email"].lower()
    own = {one["name"].lower(): one.get("content") for one in message.get("global_merge_vars", ())}
    for personal in message.get("merge_vars", ()):
        if personal["rcpt"].lower() == email:
            own |= {one["name"].lower(): one.get("content") for one in personal.get("vars", ())}
    metadata = dict(message.get("metadata", {}))
    for personal in message.get("recipient_metadata", ()):
        if personal["rcpt"].lower() == email:
            metadata |= personal["values"]
    # The account's own option hides recipients from each other, as it does until it is changed.
    exposed = message.get("preserve_recipients", False)
    shown = {kind: [one for one in message["to"] if one.get("type", "to") == kind] for kind in ("to", "cc")}
    template = body.get("template_name") or body.get("mc_template_id")
    merges = message.get("merge") or "global_merge_vars" in message or "merge_vars" in message
    variable = _VARIABLES[message.get("merge_language", "mailchimp")]

    def rendered(text: str) -> str:
        return re.sub(variable, lambda match: _shown(own, match[1]), text) if merges else text

    headers = dict(message.get("headers", {}))
    reply_to = next((headers.pop(name) for name in list(headers) if name.lower() == "reply-to"), "")
    files = [*message.get("attachments", ()), *message.get("images", ())]
    return SandboxDelivery(
        recipient=recipient["email"],
        message_id=message_id,
        from_email=formatted([{"email": message.get("from_email", ""), "name": message.get("from_name", "")}]),
        to=formatted(shown["to"]) if exposed else formatted([recipient]),
        cc=formatted(shown["cc"]) if exposed else "",
        reply_to=reply_to,
        subject=rendered(message.get("subject", f"(template {template})")),
        text=rendered(message.get("text", "")),
        html=rendered(message.get("html", "")),
        headers=headers,
        attachments=files_of(files, "name", "type", "content"),
        metadata=metadata,
        tags=message.get("tags", []),
        template=None if template is None else str(template),
        extra={"sender": message.get("from_email"), "send_at": body.get("send_at")},
    )


def _shown(data: Mapping[str, Any], name: str) -> str:
    """A merge variable, whose name may be in any case."""
    value = data.get(name.lower())
    return "" if value is None else str(value)
