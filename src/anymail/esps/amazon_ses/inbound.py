"""Mail that Amazon SES receives, through SNS and S3.

https://docs.aws.amazon.com/ses/latest/dg/receiving-email-notifications-contents.html
"""

from __future__ import annotations

import dataclasses
import json
import re
from base64 import b64decode
from typing import Any

from anymail.conf import option, whole_number
from anymail.esps.amazon_ses.signing import KMSResponses, S3Responses, error_about
from anymail.esps.amazon_ses.topics import SNSOptions, SNSWebhook, region_of
from anymail.esps.kit.values import list_of, object_of, string_of
from anymail.esps.kit.webhook import Events, utc_time
from anymail.exceptions import AnymailAPIError, AnymailConfigurationError, AnymailImproperlyInstalled
from anymail.inbound import AnymailInboundMessage
from anymail.signals import AnymailInboundEvent
from anymail.wire import Flow, Request, Response


@dataclasses.dataclass(frozen=True, kw_only=True)
class AmazonSESInboundOptions(SNSOptions):
    inbound_kms_key_id: str | None = option(
        'The id or ARN of the KMS key with which the receipt rule\'s S3 action encrypts ("Encrypt message").',
        default=None,
    )
    download_chunk_size: int = option(
        "Without effect: messages are read from S3 as they arrive.", default=65536, convert=whole_number(1)
    )


# A message in S3 has up to 40 MB: https://docs.aws.amazon.com/ses/latest/dg/quotas.html
_LARGEST_OBJECT = 64 * 1024 * 1024
_ELSEWHERE = frozenset({301, 307, 400})
_REGION = re.compile(r"[a-z0-9-]{1,40}")
# What the other verdicts (GRAY, PROCESSING_FAILED, DISABLED) leave open.
_IS_SPAM = {"PASS": False, "FAIL": True}


class AmazonSESInbound(SNSWebhook[AmazonSESInboundOptions]):
    Options = AmazonSESInboundOptions
    receives_mail = True

    def notified(self, envelope: dict[str, Any], message: dict[str, Any]) -> Flow[Events]:
        if message.get("notificationType") != "Received":
            raise self.wrong_url("An SNS topic for sending events", "subscribe to it the URL", "tracking")
        mail, receipt = message["mail"], message["receipt"]
        action = receipt["action"]
        if action["type"] == "SNS":
            content = message["content"]
            raw = b64decode(content) if action.get("encoding") == "BASE64" else content.encode("utf-8", "surrogatepass")
        elif action["type"] == "S3":
            raw = yield from self._stored(action["bucketName"], action["objectKey"], region_of(envelope["TopicArn"]))
        else:
            raise AnymailConfigurationError(
                f"A receipt rule's {action['type']} action calls Anymail's Amazon SES inbound URL, without the "
                "message: give the rule an S3 action or an SNS action, with the topic that this URL subscribes to."
            )
        received = AnymailInboundMessage.parse_raw_mime_bytes(raw)
        received.envelope_sender = string_of(mail.get("source"))
        received.envelope_recipient = next(map(string_of, list_of(receipt.get("recipients"))), None)
        received.spam_detected = _IS_SPAM.get(str(object_of(receipt.get("spamVerdict")).get("status")))
        return [
            AnymailInboundEvent(
                message=received,
                event_id=string_of(mail.get("messageId")),
                timestamp=utc_time(mail.get("timestamp")),
                esp_event=message,
            )
        ]

    def _stored(self, bucket: str, key: str, region: str) -> Flow[bytes]:
        """The message that a rule's S3 action put there."""
        try:
            response = yield from self._object(bucket, key, region)
            if "x-amz-meta-x-amz-key-v2" not in response.headers:
                return response.content
            return (yield from self._decrypted(response, region))
        except AnymailAPIError as error:
            raise error_about(f"The received message at {bucket}:{key} cannot be read.", error) from error

    def _object(self, bucket: str, key: str, region: str) -> Flow[Response]:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html, in the bucket's own region."""
        while True:
            url = self.aws.object_url(bucket, key, region)
            request = Request.get(url, headers={}, max_response=_LARGEST_OBJECT)
            response = yield self.aws.sign(request, "s3", region)
            if response.ok:
                return response
            elsewhere = response.headers.get("x-amz-bucket-region", "")
            if response.status_code not in _ELSEWHERE or elsewhere == region or not _REGION.fullmatch(elsewhere):
                raise S3Responses().api_error(response)
            region = elsewhere

    def _decrypted(self, stored: Response, region: str) -> Flow[bytes]:
        """The content of an object that SES encrypted before it stored it.

        https://docs.aws.amazon.com/kms/latest/developerguide/services-ses.html and
        https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html
        """
        try:
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError:
            raise AnymailImproperlyInstalled("cryptography", "amazon-ses") from None
        key_id = self.options.inbound_kms_key_id
        if not key_id:
            raise AnymailConfigurationError(
                "A received message in S3 is encrypted: set AMAZON_SES_INBOUND_KMS_KEY_ID to the rule's KMS key."
            )
        meta = {name: stored.headers.get(f"x-amz-meta-x-amz-{name}", "") for name in _ENCRYPTION}
        if (meta["cek-alg"], meta["wrap-alg"], meta["tag-len"]) != ("AES/GCM/NoPadding", "kms", "128"):
            raise AnymailAPIError(f"It is encrypted with {meta['cek-alg']}, not AES-GCM.", category="unreadable")
        endpoint = self.aws.endpoint("kms", region_of(key_id) if key_id.startswith("arn:") else region)
        try:
            context = json.loads(meta["matdesc"])
            body = {"KeyId": key_id, "CiphertextBlob": meta["key-v2"], "EncryptionContext": context}
            headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "TrentService.Decrypt"}
            request = Request("POST", f"{endpoint.url}/", headers, json.dumps(body).encode())
            response = yield self.aws.sign(request, "kms", endpoint.region)
            data_key = b64decode(KMSResponses().read_json(response)["Plaintext"])
            return AESGCM(data_key).decrypt(b64decode(meta["iv"]), stored.content, None)
        except (InvalidTag, KeyError, TypeError, ValueError) as error:
            raise AnymailAPIError(f"It cannot be decrypted: {error!r}.", category="unreadable") from error


_ENCRYPTION = ("key-v2", "iv", "cek-alg", "wrap-alg", "tag-len", "matdesc")
