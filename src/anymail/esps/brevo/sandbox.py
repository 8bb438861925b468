"""Brevo's side of the sandbox: /smtp/email."""

from __future__ import annotations

import datetime as dt
import json
import re
import secrets
from base64 import b64decode
from collections.abc import Callable, Iterator
from typing import Any

from anymail.esps.kit.sandbox import (
    Letter,
    Refusal,
    Reply,
    SandboxESP,
    addresses,
    formatted,
    json_of,
    json_response,
    rendered,
    violation,
)
from anymail.esps.kit.values import json_object_of
from anymail.exceptions import AnymailInvalidAddress
from anymail.wire import Request, Response

API_KEY = "xkeysib-sandbox-brevo-key"

_STRING = {"type": "string"}
_ADDRESS: dict[str, Any] = {
    "type": "object",
    "properties": {"email": _STRING, "name": {"type": "string", "minLength": 1, "maxLength": 70}},
    "required": ["email"],
    "additionalProperties": False,
}
_ADDRESSES = {"type": "array", "minItems": 1, "maxItems": 99, "items": _ADDRESS}
_EXTENSIONS = (
    "xlsx xls ods docx docm doc csv pdf txt gif jpg jpeg png tif tiff rtf bmp cgm css shtml html htm zip xml ppt pptx "
    "tar ez ics mobi msg pub eps odt mp3 m4a m4v wma ogg flac wav aif aifc aiff mp4 mov avi mkv mpeg mpg wmv pkpass "
    "xlsm"
).replace(" ", "|")
_HEADERS = {"type": "object", "additionalProperties": _STRING}
_VERSION: dict[str, Any] = {
    "to": _ADDRESSES,
    "bcc": _ADDRESSES,
    "cc": _ADDRESSES,
    "htmlContent": _STRING,
    "textContent": _STRING,
    "subject": _STRING,
    "replyTo": _ADDRESS,
    "headers": _HEADERS,
    "templateId": {"type": "integer"},
    "params": {"type": "object", "minProperties": 1},
}
# https://developers.brevo.com/reference/sendtransacemail, "Body params"
MESSAGE = {
    "type": "object",
    "properties": {
        "sender": {
            "type": "object",
            "properties": {**_ADDRESS["properties"], "id": {"type": "integer"}},
            "oneOf": [{"required": ["email"]}, {"required": ["id"]}],
            "additionalProperties": False,
        },
        **_VERSION,
        "attachment": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "url": {"type": "string", "pattern": "^https?://"},
                    "content": {"type": "string", "pattern": "^[A-Za-z0-9+/]*={0,2}$"},
                    "name": {"type": "string", "pattern": rf"\.(?i:{_EXTENSIONS})$"},
                },
                "oneOf": [{"required": ["url"]}, {"required": ["content", "name"]}],
                "additionalProperties": False,
            },
        },
        "messageVersions": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1000,
            "items": {"type": "object", "properties": _VERSION, "required": ["to"], "additionalProperties": False},
        },
        "tags": {"type": "array", "minItems": 1, "items": _STRING},
        "scheduledAt": {
            "type": "string",
            "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?(Z|[+-]\d\d:\d\d)$",
        },
        "batchId": _STRING,
        "preheader": _STRING,
    },
    "if": {"required": ["templateId"]},
    "else": {"required": ["sender", "subject", "htmlContent"]},
    "anyOf": [{"required": ["messageVersions"]}, {"required": ["to"]}],
    "additionalProperties": False,
}
# Of the template language.
_VARIABLE = r"\{\{\s*params\.(\w+)\s*\}\}"
_KEY_LIFE = dt.timedelta(minutes=30)


def _error(code: str, text: str, status: int = 400) -> Response:
    return json_response(status, {"code": code, "message": text})


class BrevoSandbox(SandboxESP):
    slug = "brevo"
    routes = (("POST", "/smtp/email", "email"),)

    def __init__(self, clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)) -> None:
        super().__init__(clock)
        self._keys: dict[str, dt.datetime] = {}

    def settings(self, url: str) -> dict[str, Any]:
        return {"BREVO_API_KEY": API_KEY, "BREVO_API_URL": url}

    def not_found(self, request: Request) -> Response:
        return _error("document_not_found", "Route not found", 404)

    def email(self, request: Request) -> Reply:
        if request.headers.get("api-key") != API_KEY:
            raise Refusal(_error("unauthorized", "Key not found", 401))
        try:
            body = json_of(request)
        except ValueError:
            raise Refusal(_error("bad_request", "Input must be a valid JSON object")) from None
        self._check(body)
        versions = [{**body, **version} for version in body.get("messageVersions", [body])]
        people = [self._recipients(version) for version in versions]
        if sum(map(len, people)) > 2000:
            raise Refusal(_error("out_of_range", "messageVersions have over 2000 recipients"))
        self._claim(body)
        ids = [self._message_id() for _ in versions]
        answer = {"messageIds": ids} if "messageVersions" in body else {"messageId": ids[0]}
        dropped = _headers(body).get("x-sib-sandbox") == "drop"
        letters = [
            letter
            for version, recipients, message_id in zip(versions, people, ids, strict=True)
            for letter in self._letters(body, version, recipients, message_id)
            # Brevo takes what is on its block list, and tells only its webhooks.
            if not dropped and not letter.recipient.startswith("suppressed")
        ]
        return Reply(json_response(201, answer), letters)

    def _check(self, body: Any) -> None:
        if broken := violation(MESSAGE, body):
            where, rule, text = broken
            if rule in ("required", "anyOf"):
                field = (re.findall(r"^'(\w+)'", text) or ["to"])[0]
                raise Refusal(_error("missing_parameter", f"{field} is missing"))
            raise Refusal(_error("invalid_parameter", f"{where or 'body'} is not valid: {text[:200]}"))
        for version in body.get("messageVersions", ()):
            if {"htmlContent", "textContent"} & version.keys() and not {"htmlContent", "textContent"} & body.keys():
                raise Refusal(_error("missing_parameter", "htmlContent is missing"))
            if "templateId" in version and "templateId" not in body:
                raise Refusal(_error("missing_parameter", "templateId is missing"))

    def _recipients(self, version: dict[str, Any]) -> list[str]:
        for field in ("sender", "replyTo", "to", "cc", "bcc"):
            given = version.get(field, [])
            for one in given if isinstance(given, list) else [given]:
                try:
                    if "email" in one and len(addresses(one["email"])) != 1:
                        raise AnymailInvalidAddress
                except AnymailInvalidAddress:
                    raise Refusal(_error("invalid_parameter", f"email is not valid in {field}")) from None
        return [one["email"] for field in ("to", "cc", "bcc") for one in version.get(field, ())]

    def _claim(self, body: dict[str, Any]) -> None:
        """Refuse what came before with the same idempotencyKey."""
        headers, now = _headers(body), self.clock()
        key = headers.get("idempotencykey") or headers.get("idempotency-key")
        if key is None:
            return
        if key in self._keys and now - self._keys[key] < _KEY_LIFE:
            raise Refusal(_error("duplicate_parameter", "A request with this idempotencyKey was accepted before"))
        self._keys[key] = now

    def _letters(
        self, body: dict[str, Any], version: dict[str, Any], recipients: list[str], message_id: str
    ) -> Iterator[Letter]:
        params = {**body.get("params", {}), **version.get("params", {})}
        headers = {**body.get("headers", {}), **version.get("headers", {})}
        metadata = _headers({"headers": headers}).get("x-mailin-custom", "{}")
        template = version.get("templateId")
        sender = version.get("sender", {})
        for recipient in recipients:
            yield Letter(
                recipient=recipient,
                message_id=message_id,
                from_email=formatted([sender]) if "email" in sender else f"(sender {sender.get('id', 'of template')})",
                to=formatted(version.get("to", [])),
                cc=formatted(version.get("cc", [])),
                reply_to=formatted([version["replyTo"]] if "replyTo" in version else []),
                subject=rendered(version.get("subject", f"(template {template})"), params, _VARIABLE),
                text="" if template else rendered(version.get("textContent", ""), params, _VARIABLE),
                html="" if template else rendered(version.get("htmlContent", ""), params, _VARIABLE),
                headers={name: value for name, value in headers.items() if "-" in name},
                attachments=[
                    (one.get("name", one.get("url", "")), "", len(b64decode(one.get("content", ""))))
                    for one in body.get("attachment", ())
                ],
                metadata=json_object_of(metadata),
                tags=body.get("tags", []),
                template=str(template) if template else None,
                extra={"params": params},
            )

    def event(self, kind: str, letter: Letter, url: str) -> Request:
        now = self.clock()
        browser = {"user_agent": "Mozilla/5.0 (Anymail sandbox)", "device_used": "DESKTOP", "contact_id": 1}
        kinds: dict[str, dict[str, Any]] = {
            "delivered": {"event": "delivered", "reason": "sent"},
            "opened": {"event": "unique_opened", "link": "", **browser},
            "clicked": {"event": "click", "link": "https://example.com/", **browser},
            "bounced": {
                "event": "hard_bounce",
                "reason": f" RecipientError: 550 5.1.1 <{letter.recipient}>: no such user",
            },
            "complained": {"event": "spam"},
        }
        common = {
            "email": letter.recipient,
            "id": 1,
            "date": now.strftime("%Y-%m-%d %H:%M:%S"),
            "ts": int(now.timestamp()),
            "message-id": letter.message_id,
            "ts_event": int(now.timestamp()),
            "subject": letter.subject,
            "sending_ip": "192.0.2.1",
            "ts_epoch": int(now.timestamp() * 1000),
        }
        custom = {"X-Mailin-custom": json.dumps(letter.metadata)} if letter.metadata else {}
        tags = {"tag": json.dumps(letter.tags), "tags": letter.tags} if letter.tags else {}
        template = {"template_id": int(letter.template)} if letter.template else {}
        return Request.post(url, headers={}, json={**common, **custom, **tags, **template, **kinds[kind]})

    def _message_id(self) -> str:
        return f"<{self.clock():%Y%m%d%H%M}.{secrets.randbelow(10**11):011}@smtp-relay.mailin.fr>"


def _headers(body: dict[str, Any]) -> dict[str, str]:
    return {name.lower(): value for name, value in body.get("headers", {}).items()}
