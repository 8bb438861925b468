"""Amazon SES's side of the sandbox: SendEmail, SendBulkEmail, and the SNS topic that tells of events."""

from __future__ import annotations

import binascii
import datetime as dt
import json
import re
from base64 import b64decode
from collections.abc import Sequence
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from functools import lru_cache
from typing import Any, NamedTuple

from anymail.esps.amazon_ses.signing import authorization, sha256
from anymail.esps.kit.sandbox import (
    JSONSandbox,
    Refusal,
    SandboxDelivery,
    SandboxESP,
    SandboxResult,
    Violation,
    addresses,
    is_suppressed,
    json_response,
    needs,
)
from anymail.esps.kit.topics import signed
from anymail.esps.kit.webhook import constant_time_equal
from anymail.exceptions import AnymailInvalidAddress
from anymail.wire import Headers, Request

REGION = "us-east-1"
TOPIC_ARN = f"arn:aws:sns:{REGION}:000000000000:anymail-sandbox"


class Credentials(NamedTuple):
    access_key: str
    secret_key: str
    token: None = None


CREDENTIALS = Credentials("AKIASANDBOXANYMAIL00", "sandbox-secret-access-key-of-anymail")

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/\d{8}/[^/]+/[^/]+/aws4_request, "
    r"SignedHeaders=(?P<names>[a-z0-9;-]+), Signature=[0-9a-f]{64}"
)
_CLOCK_SKEW = dt.timedelta(minutes=5)
_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")
_VARIABLE = re.compile(r"\{\{\{?\s*([\w.-]+)\s*\}?\}\}")
# https://docs.aws.amazon.com/ses/latest/dg/header-fields.html
_ONCE = ("From", "To", "Cc", "Bcc", "Reply-To", "Subject", "Date", "Message-ID", "Sender")


@lru_cache
def schema(operation: str) -> dict[str, Any]:
    """What botocore's model of the API says of an operation's body, as a JSON schema."""
    with needs("botocore"):
        import botocore.session

    model = botocore.session.Session().get_service_model("sesv2")
    return _schema_of(model.operation_model(operation).input_shape)


def _schema_of(shape: Any) -> dict[str, Any]:
    limits = shape.metadata
    if shape.type_name == "structure":
        return {
            "type": "object",
            "properties": {name: _schema_of(member) for name, member in shape.members.items()},
            "required": list(shape.required_members),
            "additionalProperties": False,
        }
    if shape.type_name == "list":
        return {"type": "array", "items": _schema_of(shape.member), "maxItems": limits.get("max", 1_000_000)}
    rules = {"minLength": limits.get("min"), "maxLength": limits.get("max"), "enum": limits.get("enum"),
             "pattern": f"^(?:{limits['pattern']})$" if "pattern" in limits else None}  # fmt: skip
    return {"type": "string", **{name: rule for name, rule in rules.items() if rule is not None}}


class SNSKey(NamedTuple):
    """What the sandbox signs its SNS notifications with."""

    key: Any
    certificate: str
    url: str


@lru_cache
@needs("cryptography")
def sns_key() -> SNSKey:
    """The key of this process."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(dt.datetime(2020, 1, 1))  # noqa: DTZ001
        .not_valid_after(dt.datetime(2120, 1, 1))  # noqa: DTZ001
        .sign(key, hashes.SHA256())
    )
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex()[:32]
    url = f"https://sns.{REGION}.amazonaws.com/SimpleNotificationService-{fingerprint}.pem"
    return SNSKey(key, certificate.public_bytes(serialization.Encoding.PEM).decode(), url)


def sign_envelope(envelope: dict[str, Any]) -> dict[str, Any]:
    """SNS's object with its signature (version 2), made with the sandbox's key."""
    return signed(envelope, sns_key().key, "2", sns_key().url)


def _refusal(text: str, name: str = "BadRequestException", status: int = 400) -> Refusal:
    return Refusal(json_response(status, {"message": text}, {"x-amzn-errortype": name}))


class AmazonSESSandbox(JSONSandbox):
    slug = "amazon_ses"
    routes = (
        ("POST", "/v2/email/outbound-emails", "send_email"),
        ("POST", "/v2/email/outbound-bulk-emails", "send_bulk_email"),
    )
    not_found = json_response(404, {"message": None}, {"x-amzn-errortype": "UnknownOperationException"})
    wrong_content_type = _refusal(
        "The Content-Type must be application/json.", "UnsupportedMediaTypeException", 415
    ).response
    malformed = _refusal("The body is not JSON.", "SerializationException").response

    def settings(self, url: str) -> dict[str, Any]:
        return {
            "AMAZON_SES_CLIENT_PARAMS": {
                "endpoint_url": url.rstrip("/"),
                "region_name": REGION,
                "aws_access_key_id": CREDENTIALS.access_key,
                "aws_secret_access_key": CREDENTIALS.secret_key,
            },
            "AMAZON_SES_TOPIC_ARNS": [TOPIC_ARN],
            "AMAZON_SES_SNS_CERTIFICATES": {sns_key().url: sns_key().certificate},
        }

    def new_id(self) -> str:
        return f"0100019cb7a1f4d2-{super().new_id()}-000000"

    def send_email(self, request: Request) -> SandboxResult:
        body = self._checked(request, "SendEmail")
        self._check_tags(body.get("EmailTags", ()))
        content = body["Content"]
        if len(content) != 1:
            raise _refusal("Exactly one of Simple, Raw and Template must be specified.")
        destination = self._destination(body.get("Destination", {}))
        message_id = self.new_id()
        if "Raw" in content:
            common = _from_mime(content["Raw"]["Data"])
        elif "Simple" in content:
            common = self._from_simple(body, content["Simple"])
        else:
            common = self._from_template(body, content["Template"], "{}")
        deliveries = self._deliveries(destination, message_id, body.get("EmailTags", ()), common)
        return SandboxResult(json_response(200, {"MessageId": message_id}), deliveries)

    def send_bulk_email(self, request: Request) -> SandboxResult:
        body = self._checked(request, "SendBulkEmail")
        self._check_tags(body.get("DefaultEmailTags", ()))
        if not body["BulkEmailEntries"] or "Template" not in body["DefaultContent"]:
            raise _refusal("A template and at least one entry are required.")
        destinations = [self._destination(entry["Destination"]) for entry in body["BulkEmailEntries"]]
        if sum(len(destination[kind]) for destination in destinations for kind in ("To", "Cc", "Bcc")) > 50:
            raise _refusal("Too many destinations: at most 50 are allowed.")
        results, deliveries = [], []
        for entry, destination in zip(body["BulkEmailEntries"], destinations, strict=True):
            message_id = self.new_id()
            replacement = entry.get("ReplacementEmailContent", {}).get("ReplacementTemplate", {})
            data = replacement.get("ReplacementTemplateData", "{}")
            common = self._from_template(body, body["DefaultContent"]["Template"], data, entry)
            tags = [*body.get("DefaultEmailTags", ()), *entry.get("ReplacementTags", ())]
            deliveries += self._deliveries(destination, message_id, tags, common)
            results.append({"Status": "SUCCESS", "MessageId": message_id})
        return SandboxResult(json_response(200, {"BulkEmailEntryResults": results}), deliveries)

    def _checked(self, request: Request, operation: str) -> Any:
        body = self.body(request, schema(operation))
        senders = [body[name] for name in ("FromEmailAddress", "FeedbackForwardingEmailAddress") if name in body]
        for address in (*senders, *body.get("ReplyToAddresses", ())):
            _parsed(address)
        return body

    def broken(self, broken: Violation) -> Refusal:
        return _refusal(f"1 validation error detected: Value at '{broken.where}' failed to satisfy constraint: it "
                        f"{broken.text}")  # fmt: skip

    def authenticate(self, request: Request) -> None:
        given = request.headers.get("Authorization", "")
        if not given:
            raise _refusal("Missing Authentication Token", "MissingAuthenticationTokenException", 403)
        match = _AUTHORIZATION.fullmatch(given)
        if match is None or not {"host", "x-amz-date"} <= set(match["names"].split(";")):
            raise _refusal("The Authorization header is incomplete.", "IncompleteSignatureException", 400)
        if match["key"] != CREDENTIALS.access_key:
            text = "The security token included in the request is invalid."
            raise _refusal(text, "UnrecognizedClientException", 403)
        names = match["names"].split(";")
        headers = Headers([(name, value) for name, value in request.headers.items() if name.lower() in names])
        if not _near(headers.get("X-Amz-Date", ""), self.clock()):
            raise _refusal("Signature expired or not yet current.", "InvalidSignatureException", 403)
        if not constant_time_equal(
            given, authorization(request, headers, sha256(request.body), CREDENTIALS, "ses", REGION)
        ):
            raise _refusal(
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
                "Access Key and signing method. Consult the service documentation for details.",
                "InvalidSignatureException",
                403,
            )

    def _check_tags(self, tags: Sequence[dict[str, str]]) -> None:
        for tag in tags:
            if not (_TAG.fullmatch(tag["Name"]) and _TAG.fullmatch(tag["Value"])):
                raise _refusal(f"Invalid tag <{tag['Name']}={tag['Value']}>: only alphanumeric ASCII characters, '_' "
                               "and '-' are allowed.")  # fmt: skip

    def _destination(self, destination: dict[str, list[str]]) -> dict[str, list[str]]:
        parsed = {
            name: [_parsed(address) for address in destination.get(f"{name}Addresses", ())]
            for name in ("To", "Cc", "Bcc")
        }
        count = sum(map(len, parsed.values()))
        if not 1 <= count <= 50:
            raise _refusal("Missing destination." if not count else "Recipient count exceeds 50.")
        return {
            "shown to": destination.get("ToAddresses", []),
            "shown cc": destination.get("CcAddresses", []),
            **parsed,
        }

    def _from_simple(self, body: dict[str, Any], simple: dict[str, Any]) -> dict[str, Any]:
        content = {name.lower(): one["Data"] for name, one in simple["Body"].items()}
        if not content:
            raise _refusal("The body has neither text nor HTML.")
        return {
            **_shown(body),
            "subject": simple["Subject"]["Data"],
            **content,
            "headers": _pairs(simple.get("Headers", ())),
            "attachments": _attachments(simple.get("Attachments", ())),
        }

    def _from_template(
        self, body: dict[str, Any], template: dict[str, Any], data: str, entry: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        if len(template.keys() & {"TemplateName", "TemplateArn", "TemplateContent"}) != 1:
            raise _refusal("Exactly one of TemplateName, TemplateArn and TemplateContent must be specified.")
        values = {**_object(template.get("TemplateData", "{}")), **_object(data)}
        stored = template.get("TemplateName") or template.get("TemplateArn")
        inline = template.get("TemplateContent", {"Subject": f"(template {stored})"})
        missing = {name for text in inline.values() for name in _VARIABLE.findall(text)} - values.keys()
        rendered = {
            name.lower(): _VARIABLE.sub(lambda match: str(values.get(match[1], "")), text)
            for name, text in inline.items()
        }
        replaced = (entry or {}).get("ReplacementHeaders", ())
        return {
            **_shown(body),
            **rendered,
            "headers": _pairs((*template.get("Headers", ()), *replaced)),
            "attachments": _attachments(template.get("Attachments", ())),
            "template": stored,
            "extra": {"data": values},
            # SES accepts the message, and fails to render it.
            "failed": bool(missing),
        }

    def _deliveries(
        self,
        destination: dict[str, list[str]],
        message_id: str,
        tags: Sequence[dict[str, str]],
        common: dict[str, Any],
    ) -> list[SandboxDelivery]:
        common = dict(common)
        headers = common.pop("headers")
        extra = {**common.pop("extra", {}), "headers": headers, "tags": {tag["Name"]: [tag["Value"]] for tag in tags}}
        if common.pop("failed", False):
            return []
        shown = {"to": ", ".join(destination["shown to"]), "cc": ", ".join(destination["shown cc"])}
        named = {name.lower(): value for name, value in headers}
        return [
            SandboxDelivery(
                recipient=recipient,
                message_id=message_id,
                headers={name: value for name, value in headers if name not in ("X-Metadata", "X-Tag")},
                metadata=_object(named.get("x-metadata", "{}")),
                tags=[value for name, value in headers if name.lower() == "x-tag"],
                extra=extra,
                **{**shown, **common},
            )
            for recipient in destination["To"] + destination["Cc"] + destination["Bcc"]
            # A suppressed address is found out only after the message was accepted.
            if not is_suppressed(recipient)
        ]

    def event(self, kind: str, delivery: SandboxDelivery, url: str) -> Request:
        browser = {"timestamp": self.now(3), "ipAddress": "192.0.2.1", "userAgent": "Mozilla/5.0 (Anymail sandbox)"}
        feedback = {"feedbackId": self.new_id(), "timestamp": self.now(3)}
        kinds: dict[str, dict[str, Any]] = {
            "delivered": {"eventType": "Delivery", "delivery": {
                "timestamp": self.now(3), "processingTimeMillis": 546, "recipients": [delivery.recipient],
                "smtpResponse": "250 2.0.0 OK", "reportingMTA": "mta.example.com"}},
            "opened": {"eventType": "Open", "open": browser},
            "clicked": {"eventType": "Click", "click": {**browser, "link": "https://example.com/", "linkTags": None}},
            "bounced": {"eventType": "Bounce", "bounce": {
                **feedback, "bounceType": "Permanent", "bounceSubType": "General", "bouncedRecipients": [{
                    "emailAddress": delivery.recipient, "action": "failed", "status": "5.1.1",
                    "diagnosticCode": "smtp; 550 5.1.1 user unknown"}],
                "reportingMTA": "dns; mta.example.com"}},
            "complained": {"eventType": "Complaint", "complaint": {
                **feedback, "complaintSubType": None, "complainedRecipients": [{"emailAddress": delivery.recipient}],
                "userAgent": "Anymail sandbox", "complaintFeedbackType": "abuse", "arrivalDate": self.now(3)}},
        }  # fmt: skip
        shown = [
            ("From", delivery.from_email),
            ("To", delivery.to),
            ("Subject", delivery.subject),
            *delivery.extra["headers"],
        ]
        mail = {
            "timestamp": self.now(3), "source": delivery.from_email, "sendingAccountId": "000000000000",
            "messageId": delivery.message_id, "destination": [delivery.recipient], "headersTruncated": False,
            "headers": [{"name": name, "value": value} for name, value in shown],
            "commonHeaders": {"from": [delivery.from_email], "to": [delivery.to], "messageId": delivery.message_id,
                              "subject": delivery.subject},
            "tags": {"ses:operation": ["SendEmail"], **delivery.extra["tags"]},
        }  # fmt: skip
        return self.notification({**kinds[kind], "mail": mail}, url)

    def notification(self, message: dict[str, Any], url: str) -> Request:
        """A call of SNS with a message of SES."""
        envelope = {
            "Type": "Notification",
            "MessageId": SandboxESP.new_id(self),
            "TopicArn": TOPIC_ARN,
            "Subject": "Amazon SES Email Event Notification",
            "Message": json.dumps(message) + "\n",
            "Timestamp": self.now(3),
        }
        headers = {
            "Content-Type": "text/plain; charset=UTF-8",
            "User-Agent": "Amazon Simple Notification Service Agent",
            "x-amz-sns-message-type": envelope["Type"],
            "x-amz-sns-message-id": envelope["MessageId"],
            "x-amz-sns-topic-arn": envelope["TopicArn"],
        }
        return Request("POST", url, headers, json.dumps(sign_envelope(envelope)).encode())


def _near(stamp: str, now: dt.datetime) -> bool:
    try:
        time = dt.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
    except ValueError:
        return False
    return abs(now - time) <= _CLOCK_SKEW


def _parsed(address: str) -> str:
    """The bare address. SES takes ASCII alone."""
    if not address.isascii():
        raise _refusal("Local address contains control or whitespace")
    try:
        [parsed] = addresses(address)
    except (AnymailInvalidAddress, ValueError):
        raise _refusal(f"Illegal address: {address}") from None
    return parsed.addr_spec


def _object(text: str) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):
        raise _refusal(f"Not a JSON object: {text[:100]}") from None


def _shown(body: dict[str, Any]) -> dict[str, Any]:
    if not body.get("FromEmailAddress"):
        raise _refusal("FromEmailAddress is required.")
    return {"from_email": body["FromEmailAddress"], "reply_to": ", ".join(body.get("ReplyToAddresses", ()))}


def _pairs(headers: Sequence[dict[str, str]]) -> list[tuple[str, str]]:
    return [(header["Name"], header["Value"]) for header in headers]


def _attachments(attachments: Sequence[dict[str, str]]) -> list[tuple[str, str, int]]:
    return [
        (
            attachment["FileName"],
            attachment.get("ContentType", "application/octet-stream"),
            len(_decoded(attachment["RawContent"])),
        )
        for attachment in attachments
    ]


def _decoded(data: str) -> bytes:
    try:
        return b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise _refusal("A blob is not base64.", "SerializationException") from None


def _from_mime(data: str) -> dict[str, Any]:
    raw = _decoded(data)
    if not raw.isascii() or max(map(len, raw.splitlines()), default=0) > 998:
        raise _refusal("The message is not 7-bit MIME with lines of at most 998 characters.", "MessageRejected")
    message = message_from_bytes(raw, policy=default)
    assert isinstance(message, EmailMessage)
    repeated = [name for name in _ONCE if len(message.get_all(name, [])) > 1]
    if repeated or not message["From"]:
        raise _refusal(f"Duplicate header '{repeated[0]}'." if repeated else "Missing required header 'From'.")
    text, html = (message.get_body((kind,)) for kind in ("plain", "html"))
    return {
        "from_email": str(message["From"]),
        "to": str(message["To"] or ""),
        "cc": str(message["Cc"] or ""),
        "reply_to": str(message["Reply-To"] or ""),
        "subject": str(message["Subject"] or ""),
        "text": text.get_content() if text else "",
        "html": html.get_content() if html else "",
        "headers": [(name, str(value)) for name, value in message.items() if name not in (*_ONCE, "MIME-Version",
                    "Content-Type", "Content-Transfer-Encoding")],
        "attachments": [
            (part.get_filename() or "", part.get_content_type(), len(part.get_payload(decode=True) or b""))
            for part in message.walk()
            if part.get_content_disposition()
        ],
    }  # fmt: skip
