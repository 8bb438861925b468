"""Brevo's side of the sandbox: /smtp/email."""

from __future__ import annotations

import datetime as dt
import json
import secrets
from collections.abc import Iterator
from typing import Any

from anymail.esps.kit.sandbox import (
    BASE64,
    STRING,
    IdempotencyKeys,
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
    rendered,
)
from anymail.esps.kit.values import json_object_of
from anymail.wire import Request, Response

API_KEY = "xkeysib-sandbox-brevo-key"

_PERSON: dict[str, Any] = {"email": STRING, "name": {"type": "string", "minLength": 1, "maxLength": 70}}
_ADDRESS = object_schema(["email"], **_PERSON)
_ADDRESSES = array_schema(
    object_schema(["email"], **_PERSON, contactPixelTrackingConsent={"type": "boolean"}), minItems=1, maxItems=99
)
_EXTENSIONS = (
    "xlsx xls ods docx docm doc csv pdf txt gif jpg jpeg png tif tiff rtf bmp cgm css shtml html htm zip xml ppt pptx "
    "tar ez ics mobi msg pub eps odt mp3 m4a m4v wma ogg flac wav aif aifc aiff mp4 mov avi mkv mpeg mpg wmv pkpass "
    "xlsm"
).replace(" ", "|")
_HEADERS = {"type": "object", "additionalProperties": STRING}
_VERSION: dict[str, Any] = {
    "to": _ADDRESSES,
    "bcc": _ADDRESSES,
    "cc": _ADDRESSES,
    "htmlContent": STRING,
    "textContent": STRING,
    "subject": STRING,
    "replyTo": _ADDRESS,
    "headers": _HEADERS,
    "templateId": {"type": "integer"},
    "params": {"type": "object", "minProperties": 1},
}
# https://developers.brevo.com/reference/sendtransacemail, "Body params"
MESSAGE = {
    **object_schema(
        [],
        sender={
            **object_schema([], **_PERSON, id={"type": "integer"}),
            "oneOf": [{"required": ["id"]}, {"required": ["email"]}],
        },
        **_VERSION,
        attachment=array_schema(
            {
                **object_schema(
                    [],
                    url={"type": "string", "pattern": "^https?://"},
                    content=BASE64,
                    name={"type": "string", "pattern": rf"\.(?i:{_EXTENSIONS})$"},
                ),
                "oneOf": [{"required": ["url"]}, {"required": ["content", "name"]}],
            },
            minItems=1,
        ),
        messageVersions=array_schema(object_schema(["to"], **_VERSION), minItems=1, maxItems=1000),
        tags=array_schema(STRING, minItems=1),
        scheduledAt={"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?(Z|[+-]\d\d:\d\d)$"},
        batchId=STRING,
        preheader=STRING,
    ),
    "if": {"required": ["templateId"]},
    # The reference says that htmlContent is mandatory; Brevo makes it of textContent where that stands alone:
    # https://github.com/anymail/django-anymail/issues/487
    "else": {
        "required": ["sender", "subject"],
        "anyOf": [{"required": ["textContent"]}, {"required": ["htmlContent"]}],
    },
    "anyOf": [{"required": ["messageVersions"]}, {"required": ["to"]}],
}
# Of the template language.
_VARIABLE = r"\{\{\s*params\.(\w+)\s*\}\}"
_KEY_LIFE = dt.timedelta(minutes=30)


def _response(code: str, text: str, status: int = 400) -> Response:
    return json_response(status, {"code": code, "message": text})


def _refusal(code: str, text: str) -> Refusal:
    return Refusal(_response(code, text))


class BrevoSandbox(JSONSandbox):
    slug = "brevo"
    routes = (("POST", "/smtp/email", "email"),)
    not_found = _response("document_not_found", "Route not found", 404)
    credentials = "api-key", API_KEY
    unauthorized = _response("unauthorized", "Key not found", 401)
    malformed = _response("bad_request", "Input must be a valid JSON object")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._keys = IdempotencyKeys(_KEY_LIFE)

    def settings(self, url: str) -> dict[str, Any]:
        return {"BREVO_API_KEY": API_KEY, "BREVO_API_URL": url}

    def broken(self, broken: Violation) -> Refusal:
        if broken.rule == "required":
            return _refusal("missing_parameter", f"{broken.field} is missing")
        return _refusal("invalid_parameter", f"{broken.where or 'body'} is not valid: {broken.text}")

    def email(self, request: Request) -> SandboxResult:
        body = self.body(request, MESSAGE)
        for version in body.get("messageVersions", ()):
            if {"htmlContent", "textContent"} & version.keys() and not {"htmlContent", "textContent"} & body.keys():
                raise _refusal("missing_parameter", "htmlContent is missing")
            if "templateId" in version and "templateId" not in body:
                raise _refusal("missing_parameter", "templateId is missing")
        versions = [{**body, **version} for version in body.get("messageVersions", [body])]
        people = [_recipients(version) for version in versions]
        if sum(map(len, people)) > 2000:
            raise _refusal("out_of_range", "messageVersions have over 2000 recipients")
        headers = _headers(body)
        key = headers.get("idempotencykey") or headers.get("idempotency-key")
        if key and not self._keys.claim(key, self.clock()):
            raise _refusal("duplicate_parameter", "A request with this idempotencyKey was accepted before")
        ids = [self._message_id() for _ in versions]
        deliveries = [
            delivery
            for version, recipients, message_id in zip(versions, people, ids, strict=True)
            for delivery in self._deliveries(body, version, recipients, message_id)
            # Brevo takes what is on its block list, and tells only its webhooks.
            if headers.get("x-sib-sandbox") != "drop" and not is_suppressed(delivery.recipient)
        ]
        content = {"messageIds": ids} if "messageVersions" in body else {"messageId": ids[0]}
        return SandboxResult(json_response(201, content), deliveries)

    def _deliveries(
        self, body: dict[str, Any], version: dict[str, Any], recipients: list[str], message_id: str
    ) -> Iterator[SandboxDelivery]:
        params = {**body.get("params", {}), **version.get("params", {})}
        headers = {**body.get("headers", {}), **version.get("headers", {})}
        metadata = _headers({"headers": headers}).get("x-mailin-custom", "{}")
        template = version.get("templateId")
        sender = version.get("sender", {})
        for recipient in recipients:
            yield SandboxDelivery(
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
                attachments=files_of(body.get("attachment"), "name", "", "content"),
                metadata=json_object_of(metadata),
                tags=body.get("tags", []),
                template=str(int(template)) if template else None,
                extra={"params": params},
            )

    def event(self, kind: str, delivery: SandboxDelivery, url: str) -> Request:
        now = self.clock()
        browser = {"user_agent": "Mozilla/5.0 (Anymail sandbox)", "device_used": "DESKTOP", "contact_id": 1}
        kinds: dict[str, dict[str, Any]] = {
            "delivered": {"event": "delivered", "reason": "sent"},
            "opened": {"event": "unique_opened", "link": "", **browser},
            "clicked": {"event": "click", "link": "https://example.com/", **browser},
            "bounced": {
                "event": "hard_bounce",
                "reason": f" RecipientError: 550 5.1.1 <{delivery.recipient}>: no such user",
            },
            "complained": {"event": "spam"},
        }
        common = {
            "email": delivery.recipient,
            "id": 1,
            "date": now.strftime("%Y-%m-%d %H:%M:%S"),
            "ts": int(now.timestamp()),
            "message-id": delivery.message_id,
            "ts_event": int(now.timestamp()),
            "subject": delivery.subject,
            "sending_ip": "192.0.2.1",
            "ts_epoch": int(now.timestamp() * 1000),
        }
        custom = {"X-Mailin-custom": json.dumps(delivery.metadata)} if delivery.metadata else {}
        tags = {"tag": json.dumps(delivery.tags), "tags": delivery.tags} if delivery.tags else {}
        template = {"template_id": int(delivery.template)} if delivery.template else {}
        return Request.post(url, headers={}, json={**common, **custom, **tags, **template, **kinds[kind]})

    def _message_id(self) -> str:
        return f"<{self.clock():%Y%m%d%H%M}.{secrets.randbelow(10**11):011}@smtp-relay.mailin.fr>"


def _headers(body: dict[str, Any]) -> dict[str, str]:
    return {name.lower(): value for name, value in body.get("headers", {}).items()}


def _recipients(version: dict[str, Any]) -> list[str]:
    for field in ("sender", "replyTo", "to", "cc", "bcc"):
        given = version.get(field, [])
        for person in given if isinstance(given, list) else [given]:
            if "email" in person and not is_address(person["email"]):
                raise _refusal("invalid_parameter", f"email is not valid in {field}")
    return [person["email"] for field in ("to", "cc", "bcc") for person in version.get(field, ())]
