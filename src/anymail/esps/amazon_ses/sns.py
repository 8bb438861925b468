"""Amazon SNS, by which SES calls its webhooks.

https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
"""

from __future__ import annotations

import binascii
import dataclasses
import datetime as dt
import json
import re
import threading
import time
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Generic, TypeVar

from django.http import HttpRequest

from anymail.conf import WebhookOptions, boolean, mapping, max_age, option, optional
from anymail.esps.amazon_ses.signing import AWS, AWSAnswers, AWSOptions, aws_for
from anymail.esps.webhook import Events, Webhook, json_object, utc_time
from anymail.exceptions import (
    AnymailConfigurationError,
    AnymailImproperlyInstalled,
    AnymailWebhookValidationFailure,
)
from anymail.wire import Flow, Request

_TOPIC_ARN = re.compile(
    r"arn:(?P<partition>aws|aws-cn|aws-us-gov|aws-eusc):sns:(?P<region>[a-z]+(?:-[a-z]+)+-\d{1,2})"
    r":\d{12}:[A-Za-z0-9_.-]{1,256}"
)
_DOMAINS = {"aws": "amazonaws.com", "aws-us-gov": "amazonaws.com", "aws-cn": "amazonaws.com.cn",
            "aws-eusc": "amazonaws.eu"}  # fmt: skip
_CERTIFICATE_PATH = re.compile(r"/SimpleNotificationService-[0-9a-f]{1,128}\.pem")

# The fields that are signed, in their order. Subject alone may be missing.
_CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
SIGNED_FIELDS = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": _CONFIRMATION,
    "UnsubscribeConfirmation": _CONFIRMATION,
}
# Each header of a call, and the field that it repeats.
_HEADERS = {
    "x-amz-sns-message-type": "Type",
    "x-amz-sns-message-id": "MessageId",
    "x-amz-sns-topic-arn": "TopicArn",
}
_MOST_AHEAD = 300
# What SES sends when an event destination is set up.
_TOPIC_VALIDATED = "Successfully validated SNS topic for Amazon SES event publishing."


def _topic_arns(value: Any) -> tuple[str, ...]:
    arns = [value] if isinstance(value, str) else list(value)
    if not arns or not all(isinstance(arn, str) and _TOPIC_ARN.fullmatch(arn) for arn in arns):
        raise ValueError("a list of TopicArns is needed (arn:aws:sns:<region>:<account>:<name>)")
    return tuple(arns)


def _certificates(value: Any) -> dict[str, bytes]:
    pems = {url: pem.encode() if isinstance(pem, str) else pem for url, pem in mapping(value).items()}
    if not all(isinstance(pem, bytes) and b"BEGIN CERTIFICATE" in pem for pem in pems.values()):
        raise ValueError("a dict of certificates in PEM by their URLs is needed")
    return pems


@dataclasses.dataclass(frozen=True, kw_only=True)
class SNSOptions(AWSOptions, WebhookOptions):
    auto_confirm_sns_subscriptions: bool = option(
        "Confirm the subscription when an SNS topic is given the webhook's URL. Needs `WEBHOOK_SECRET` in that URL.",
        default=True,
        convert=boolean,
    )
    topic_arns: tuple[str, ...] = option(
        "The `TopicArn`s of the project's own topics; calls from others are refused. Without it, a signature only "
        "proves that the topic is of some AWS account, so set this or `WEBHOOK_SECRET`.",
        default=(),
        convert=lambda value: optional(_topic_arns)(value) or (),
    )
    sns_certificates: dict[str, bytes] = option(
        "SNS's signing certificates in PEM by their URLs (`SigningCertURL`): those here are not fetched.",
        default={},
        convert=_certificates,
    )


OptionsT = TypeVar("OptionsT", bound=SNSOptions)


def _not_fetched(url: str) -> bytes:
    raise AnymailConfigurationError(f"{url} is not in AMAZON_SES_SNS_CERTIFICATES, and nothing here can fetch it.")


class SNSWebhook(AWSAnswers, Webhook[OptionsT], Generic[OptionsT]):
    """A webhook that SNS calls. A subclass writes ``read``.

    A call may be 75 minutes old, since SNS tries again for up to an hour with the first attempt's time (or as old as
    WEBHOOK_MAX_AGE allows), but no more than 5 minutes ahead.
    """

    slug = "amazon_ses"
    default_max_age = 4500
    fetches = True
    awaits_challenge = True

    def __init__(self, options: OptionsT, clock: Callable[[], float] = time.time) -> None:
        super().__init__(options, clock)
        #: Gets a certificate in PEM from a URL that was found good; set by whoever may use the network.
        self.fetch_certificate: Callable[[str], bytes] = _not_fetched

    @property
    def aws(self) -> AWS:
        return aws_for(self.options)

    @property
    def signature_configured(self) -> bool:
        # Every call's signature is verified, but any AWS account can have one made.
        return bool(self.options.topic_arns or self.options.webhook_secret)

    def verify(self, request: HttpRequest) -> str | None:
        envelope = _envelope(request)
        topic = _TOPIC_ARN.fullmatch(envelope["TopicArn"])
        if topic is None or (self.options.topic_arns and topic[0] not in self.options.topic_arns):
            raise AnymailWebhookValidationFailure("its TopicArn is none of those in AMAZON_SES_TOPIC_ARNS.")
        host = f"sns.{topic['region']}.{_DOMAINS[topic['partition']]}"
        url = envelope["SigningCertURL"]
        if not (url.startswith(f"https://{host}/") and _CERTIFICATE_PATH.fullmatch(url, len(f"https://{host}"))):
            raise AnymailWebhookValidationFailure("its SigningCertURL is not one of SNS in the topic's region.")
        self._check_time(envelope["Timestamp"])
        names = {"sns.amazonaws.com", host.replace("sns.", "sns-", 1), host.replace("sns.", "sns-signing.", 1)}
        if topic["partition"] == "aws-us-gov":
            names.add("sns-us-gov-west-1.amazonaws.com")
        _check_signature(envelope, self._certificate(url, names))
        return None

    def items(self, request: HttpRequest) -> Sequence[Any]:
        envelope = _envelope(request)
        confirming = envelope["Type"] == "SubscriptionConfirmation" and self.options.auto_confirm_sns_subscriptions
        if confirming and not self.options.webhook_secret:
            raise AnymailWebhookValidationFailure(
                f"it asks to confirm a subscription to {envelope['TopicArn']}, which is done only with WEBHOOK_SECRET "
                f"set and in the webhook's URL. To confirm it by hand, use the token {envelope['Token']}"
            )
        return [envelope]

    def events(self, item: dict[str, Any]) -> Flow[Events]:
        if item["Type"] == "SubscriptionConfirmation" and self.options.auto_confirm_sns_subscriptions:
            yield from self._confirm(item)
        if item["Type"] != "Notification" or item["Message"].strip() == _TOPIC_VALIDATED:
            return ()
        try:
            message = json.loads(item["Message"])
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise AnymailWebhookValidationFailure("its Message is not a JSON object: it does not come from SES.")
        return (yield from self.read(item, message))

    def read(self, envelope: dict[str, Any], message: dict[str, Any]) -> Flow[Events]:
        """The events that a notification tells of: ``envelope`` is SNS's part of it, ``message`` that of SES."""
        raise NotImplementedError

    def _confirm(self, envelope: dict[str, Any]) -> Flow[None]:
        """https://docs.aws.amazon.com/sns/latest/api/API_ConfirmSubscription.html: signed, so that nobody else can
        unsubscribe. The SubscribeURL is never called."""
        endpoint = self.aws.endpoint("sns", region_of(envelope["TopicArn"]))
        form = [
            ("Action", "ConfirmSubscription"),
            ("Version", "2010-03-31"),
            ("TopicArn", envelope["TopicArn"]),
            ("Token", envelope["Token"]),
            ("AuthenticateOnUnsubscribe", "true"),
        ]
        response = yield self.aws.sign(Request.post(f"{endpoint.url}/", headers={}, form=form), "sns", endpoint.region)
        if not response.ok:
            raise self.api_error(response)

    def _check_time(self, timestamp: str) -> None:
        sent = utc_time(timestamp)
        if sent is None:
            raise AnymailWebhookValidationFailure("its Timestamp is not a time.")
        self.check_age(int(sent.timestamp()))
        limited = max_age(self.options, self.default_max_age) is not None
        if limited and sent.timestamp() - self.clock() > _MOST_AHEAD:
            raise AnymailWebhookValidationFailure("its Timestamp is in the future: this machine's clock is wrong.")

    def _certificate(self, url: str, names: set[str]) -> Any:
        """The certificate at a URL. Raises AnymailWebhookValidationFailure for one not valid now, or not SNS's."""
        pinned = self.options.sns_certificates.get(url)
        pem = pinned or _fetched.get(url) or self.fetch_certificate(url)
        try:
            certificate = _parsed(pem)
        except ValueError:
            raise AnymailWebhookValidationFailure("what is at its SigningCertURL is not a certificate.") from None
        now = dt.datetime.fromtimestamp(self.clock(), dt.UTC)
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            _fetched.drop(url)
            raise AnymailWebhookValidationFailure("the certificate at its SigningCertURL is not valid now.")
        if not names & _names(certificate):
            raise AnymailWebhookValidationFailure("the certificate at its SigningCertURL is not SNS's.")
        if pinned is None:
            _fetched.keep(url, pem)
        return certificate


def region_of(topic_arn: str) -> str:
    return topic_arn.split(":")[3]


class _Certificates:
    """The certificates that were fetched, by their URLs: the last few."""

    def __init__(self, most: int = 16) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._pems: OrderedDict[str, bytes] = OrderedDict()

    def get(self, url: str) -> bytes | None:
        return self._pems.get(url)

    def keep(self, url: str, pem: bytes) -> None:
        with self._lock:
            self._pems[url] = pem
            self._pems.move_to_end(url)
            while len(self._pems) > self._most:
                self._pems.popitem(last=False)

    def drop(self, url: str) -> None:
        with self._lock:
            self._pems.pop(url, None)


_fetched = _Certificates()


def _envelope(request: HttpRequest) -> dict[str, Any]:
    """SNS's JSON object, its fields strings, and in agreement with the headers."""
    if "x-amz-sns-rawdelivery" in request.headers:
        raise AnymailWebhookValidationFailure("it is not signed: turn off the subscription's raw message delivery.")
    envelope = json_object(request)
    signed = SIGNED_FIELDS.get(str(envelope.get("Type")))
    if signed is None:
        raise AnymailWebhookValidationFailure("its Type is unknown.")
    for name in (*signed, "SignatureVersion", "Signature", "SigningCertURL"):
        value = envelope.get(name)
        if not (isinstance(value, str) or (name == "Subject" and value is None)):
            raise AnymailWebhookValidationFailure(f"its {name} is missing, or not a string.")
    for header, name in _HEADERS.items():
        if request.headers.get(header) != envelope[name]:
            raise AnymailWebhookValidationFailure(f"its header {header} does not agree with its {name}.")
    return envelope


def signed_bytes(envelope: dict[str, Any]) -> bytes:
    """What SNS signs of a call."""
    present = [(name, envelope[name]) for name in SIGNED_FIELDS[envelope["Type"]] if envelope.get(name) is not None]
    return "".join(f"{name}\n{value}\n" for name, value in present).encode("utf-8", "surrogatepass")


@lru_cache(maxsize=32)
def _parsed(pem: bytes) -> Any:
    try:
        from cryptography import x509
    except ImportError:
        raise AnymailImproperlyInstalled("cryptography", "amazon-ses") from None
    return x509.load_pem_x509_certificate(pem)


def _names(certificate: Any) -> set[str]:
    """The names that a certificate is for."""
    from cryptography import x509

    names = {str(one.value) for one in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)}
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return names
    return names | set(alternative.value.get_values_for_type(x509.DNSName))


def _check_signature(envelope: dict[str, Any], certificate: Any) -> None:
    """Raise AnymailWebhookValidationFailure unless the certificate's key made the signature."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    version = {"1": hashes.SHA1, "2": hashes.SHA256}.get(envelope["SignatureVersion"])
    if version is None:
        raise AnymailWebhookValidationFailure("its SignatureVersion is unknown.")
    key = certificate.public_key()
    try:
        signature = b64decode(envelope["Signature"], validate=True)
        # Base64 may have bits to spare, which would let several texts pass for one signature.
        if not isinstance(key, rsa.RSAPublicKey) or b64encode(signature).decode() != envelope["Signature"]:
            raise InvalidSignature
        key.verify(signature, signed_bytes(envelope), padding.PKCS1v15(), version())
    except (InvalidSignature, binascii.Error, ValueError):
        raise AnymailWebhookValidationFailure("its signature is wrong.") from None
