"""Scaleway's Topics and Events, by which its webhooks are called, in the manner of Amazon SNS.

https://www.scaleway.com/en/docs/topics-and-events/reference-content/verifying-webhooks/
"""

from __future__ import annotations

import binascii
import dataclasses
import datetime as dt
import logging
import re
import threading
import time
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import parse_qsl

from django.http import HttpRequest

from anymail.conf import WebhookOptions, boolean, mapping, option, optional
from anymail.esps.webhook import Events, Webhook, json_object, utc_time
from anymail.exceptions import (
    AnymailConfigurationError,
    AnymailImproperlyInstalled,
    AnymailWebhookValidationFailure,
)
from anymail.wire import Flow, Request

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

logger = logging.getLogger("anymail.webhooks")

_TOPIC_ARN = re.compile(r"arn:scw:sns:(?P<region>[a-z]{2}-[a-z]{3}):[A-Za-z0-9-]{1,64}:[A-Za-z0-9_.-]{1,256}")
# Bucket and host: anyone may own another bucket on that domain.
_CERTIFICATE_URL = re.compile(r"https://messaging\.s3\.[a-z]{2}-[a-z]{3}\.scw\.cloud/[A-Za-z0-9._/-]+")

# The fields that are signed, in their order. Subject alone may be missing.
_CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
SIGNED_FIELDS = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": _CONFIRMATION,
    "UnsubscribeConfirmation": _CONFIRMATION,
}
# Scaleway itself always signs with 1.
_SIGNATURE_VERSIONS = {"1": "SHA1", "2": "SHA256"}
_LONGEST_ANSWER = 64 * 1024


def _topic_arns(value: Any) -> tuple[str, ...]:
    arns = [value] if isinstance(value, str) else list(value)
    if not arns or not all(isinstance(arn, str) and _TOPIC_ARN.fullmatch(arn) for arn in arns):
        raise ValueError("a list of TopicArns is needed (arn:scw:sns:<region>:project-<project id>:<name>)")
    return tuple(arns)


def _trust_chain(value: Any) -> bytes:
    """The content of a CA bundle, from its path or its text."""
    pem = value.encode() if isinstance(value, str) else value
    if isinstance(value, Path) or (isinstance(pem, bytes) and pem.strip() and b"-----BEGIN" not in pem):
        try:
            pem = Path(value if isinstance(value, Path) else pem.decode()).read_bytes()
        except OSError as error:
            raise ValueError(f"the file cannot be read: {error.strerror}") from error
    if not isinstance(pem, bytes) or b"BEGIN CERTIFICATE" not in pem:
        raise ValueError("the path or the text of a CA bundle in PEM is needed")
    return pem


def _certificates(value: Any) -> dict[str, bytes]:
    pems = {url: pem.encode() if isinstance(pem, str) else pem for url, pem in mapping(value).items()}
    if not all(isinstance(pem, bytes) and b"BEGIN CERTIFICATE" in pem for pem in pems.values()):
        raise ValueError("a dict of certificates in PEM by their URLs is needed")
    return pems


@dataclasses.dataclass(frozen=True, kw_only=True)
class SNSOptions(WebhookOptions):
    webhook_topic_arns: tuple[str, ...] = option(
        "The `TopicArn`s of the project's own topics; calls from others are refused. Without it, a signature only "
        "proves that the topic is of some customer of Scaleway's, so set this or `WEBHOOK_SECRET`.",
        default=(),
        convert=lambda value: optional(_topic_arns)(value) or (),
    )
    auto_confirm_sns_subscriptions: bool = option(
        "Confirm the subscription when a topic is given the webhook's URL. Needs `SCALEWAY_WEBHOOK_TOPIC_ARNS`, or "
        "`WEBHOOK_SECRET` in that URL.",
        default=True,
        convert=boolean,
    )
    sns_trust_chain: bytes | None = option(
        "Path or text (PEM) of the CA bundle to which the signing certificate must lead. None: Scaleway's, as it was "
        "published when this version of Anymail was made.",
        default=None,
        convert=optional(_trust_chain),
    )
    sns_certificates: dict[str, bytes] = option(
        "Signing certificates in PEM by their URLs (`SigningCertURL`): those here are not fetched.",
        default={},
        convert=_certificates,
    )


OptionsT = TypeVar("OptionsT", bound=SNSOptions)


def _not_fetched(url: str) -> bytes:
    raise AnymailConfigurationError(f"{url} is not in SCALEWAY_SNS_CERTIFICATES, and nothing here can fetch it.")


class SNSWebhook(Webhook[OptionsT], Generic[OptionsT]):
    """A webhook that a topic calls. A subclass writes ``read``."""

    name = "Scaleway"
    slug = "scaleway"
    # What is sent again has the first attempt's time.
    default_max_age = 43200
    fetches = True
    awaits_challenge = True

    def __init__(self, options: OptionsT, clock: Callable[[], float] = time.time) -> None:
        super().__init__(options, clock)
        #: Gets a certificate from a URL that was found good; set by whoever may use the network.
        self.fetch_certificate: Callable[[str], bytes] = _not_fetched

    @property
    def signature_configured(self) -> bool:
        # Every call's signature is verified, but any customer of Scaleway's can have one made.
        return bool(self.options.webhook_topic_arns or self.options.webhook_secret)

    def verify(self, request: HttpRequest) -> str | None:
        envelope = _envelope(request)
        topic = _TOPIC_ARN.fullmatch(envelope["TopicArn"])
        if topic is None or (self.options.webhook_topic_arns and topic[0] not in self.options.webhook_topic_arns):
            raise AnymailWebhookValidationFailure("its TopicArn is none of those in SCALEWAY_WEBHOOK_TOPIC_ARNS.")
        url = envelope["SigningCertURL"]
        if not _CERTIFICATE_URL.fullmatch(url) or ".." in url:
            raise AnymailWebhookValidationFailure("its SigningCertURL is not one of Scaleway's.")
        sent = utc_time(envelope["Timestamp"])
        if sent is None:
            raise AnymailWebhookValidationFailure("its Timestamp is not a time.")
        self.check_age(int(sent.timestamp()))
        signature = _signature(envelope)
        if pinned := self.options.sns_certificates.get(url):
            self._check(envelope, signature, pinned)
            return None
        if kept := _fetched.get(url):
            try:
                self._check(envelope, signature, kept)
                return None
            except AnymailWebhookValidationFailure:
                # There may be another by now.
                pass
        fetched = self.fetch_certificate(url)
        self._check(envelope, signature, fetched)
        _fetched.keep(url, fetched)
        return None

    def items(self, request: HttpRequest) -> Sequence[Any]:
        envelope = _envelope(request)
        if envelope["Type"] == "SubscriptionConfirmation":
            _check_subscribe_url(envelope)
            if self.options.auto_confirm_sns_subscriptions and not self.signature_configured:
                raise AnymailWebhookValidationFailure(
                    f"it asks to confirm a subscription to {envelope['TopicArn']}, which is done only with "
                    "SCALEWAY_WEBHOOK_TOPIC_ARNS set, or WEBHOOK_SECRET set and in the webhook's URL. To confirm it by "
                    f"hand, open {envelope['SubscribeURL']}"
                )
        return [envelope]

    def events(self, item: dict[str, Any]) -> Flow[Events]:
        if item["Type"] == "Notification":
            return self.read(item)
        # The SubscribeURL of an UnsubscribeConfirmation would subscribe again.
        if item["Type"] == "SubscriptionConfirmation":
            if self.options.auto_confirm_sns_subscriptions:
                response = yield Request.get(item["SubscribeURL"], headers={}, max_response=_LONGEST_ANSWER)
                if not response.ok:
                    raise self.api_error(response)
            else:
                logger.warning(
                    "A topic of Scaleway's is given the webhook's URL. To confirm it, open %s", item["SubscribeURL"]
                )
        return ()

    def read(self, envelope: dict[str, Any]) -> Events:
        """The events that a notification tells of."""
        raise NotImplementedError

    def _check(self, envelope: dict[str, Any], signature: bytes, content: bytes) -> None:
        """Raise AnymailWebhookValidationFailure unless a certificate is Scaleway's, and made the signature."""
        certificate = _parsed(content)
        chain = _chain(self.options.sns_trust_chain or _published_trust_chain())
        now = dt.datetime.fromtimestamp(self.clock(), dt.UTC)
        if not _valid(certificate, now):
            raise AnymailWebhookValidationFailure("the certificate at its SigningCertURL is not valid now.")
        if not _trusted(certificate, chain, now):
            raise AnymailWebhookValidationFailure(
                "the certificate at its SigningCertURL does not lead to Scaleway's root. If Scaleway has new ones, "
                "SCALEWAY_SNS_TRUST_CHAIN is the place for them."
            )
        _check_signature(envelope, signature, certificate)


class _Certificates:
    """The certificates that were fetched and found good, by their URLs: the last few."""

    def __init__(self, most: int = 16) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._contents: OrderedDict[str, bytes] = OrderedDict()

    def get(self, url: str) -> bytes | None:
        return self._contents.get(url)

    def keep(self, url: str, content: bytes) -> None:
        with self._lock:
            self._contents[url] = content
            self._contents.move_to_end(url)
            while len(self._contents) > self._most:
                self._contents.popitem(last=False)


_fetched = _Certificates()


def _envelope(request: HttpRequest) -> dict[str, Any]:
    """The JSON object of a call, its fields strings."""
    envelope = json_object(request)
    signed = SIGNED_FIELDS.get(str(envelope.get("Type")))
    if signed is None:
        raise AnymailWebhookValidationFailure("its Type is unknown.")
    if envelope.get("Subject") is None:
        envelope.pop("Subject", None)
    for name in (*signed, "SignatureVersion", "Signature", "SigningCertURL"):
        if not isinstance(envelope.get(name, "" if name == "Subject" else None), str):
            raise AnymailWebhookValidationFailure(f"its {name} is missing, or not a string.")
    return envelope


def signed_bytes(envelope: dict[str, Any]) -> bytes:
    """What is signed of a call."""
    names = [name for name in SIGNED_FIELDS[envelope["Type"]] if name in envelope]
    return "".join(f"{name}\n{envelope[name]}\n" for name in names).encode("utf-8", "surrogatepass")


def _signature(envelope: dict[str, Any]) -> bytes:
    if envelope["SignatureVersion"] not in _SIGNATURE_VERSIONS:
        raise AnymailWebhookValidationFailure("its SignatureVersion is unknown.")
    try:
        signature = b64decode(envelope["Signature"], validate=True)
    except (binascii.Error, ValueError):
        signature = b""
    # Base64 may have bits to spare, which would let several texts pass for one signature.
    if not signature or b64encode(signature).decode() != envelope["Signature"]:
        raise AnymailWebhookValidationFailure("its signature is not base64.")
    return signature


def _check_subscribe_url(envelope: dict[str, Any]) -> None:
    """Raise AnymailWebhookValidationFailure unless opening the SubscribeURL confirms just this subscription."""
    base, _, query = envelope["SubscribeURL"].partition("?")
    asked = sorted(parse_qsl(query, keep_blank_values=True))
    topic = envelope["TopicArn"]
    right = [("Action", "ConfirmSubscription"), ("Token", envelope["Token"]), ("TopicArn", topic)]
    if base != f"https://sns.mnq.{topic.split(':')[3]}.scaleway.com/" or asked != right:
        raise AnymailWebhookValidationFailure("its SubscribeURL is not the one that confirms its topic.")


@lru_cache(maxsize=1)
def _published_trust_chain() -> bytes:
    """https://messaging.s3.fr-par.scw.cloud/fr-par/sns/sns-trust-chain.pem (its intermediate ends in December 2027)"""
    return Path(__file__).with_name("sns-trust-chain.pem").read_bytes()


@lru_cache(maxsize=32)
def _parsed(content: bytes) -> Certificate:
    try:
        from cryptography import x509
    except ImportError:
        raise AnymailImproperlyInstalled("cryptography", "scaleway") from None
    try:
        if b"-----BEGIN" in content:
            return x509.load_pem_x509_certificate(content)
        return x509.load_der_x509_certificate(content)
    except ValueError:
        raise AnymailWebhookValidationFailure("what is at its SigningCertURL is not a certificate.") from None


@lru_cache(maxsize=8)
def _chain(pem: bytes) -> tuple[Certificate, ...]:
    from cryptography import x509

    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError:
        raise AnymailConfigurationError("SCALEWAY_SNS_TRUST_CHAIN cannot be read: it is damaged.") from None


def _valid(certificate: Certificate, now: dt.datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _trusted(certificate: Certificate, chain: Sequence[Certificate], now: dt.datetime) -> bool:
    """Whether a certificate leads to a root in the chain, by authorities in the chain that are valid now."""
    issuers = [one for one in chain if _valid(one, now) and _is_authority(one) and _issued(certificate, one)]
    return any(
        one.issuer == one.subject or _trusted(one, [other for other in chain if other is not one], now)
        for one in issuers
    )


def _is_authority(certificate: Certificate) -> bool:
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _issued(certificate: Certificate, issuer: Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError):
        return False
    return True


def _check_signature(envelope: dict[str, Any], signature: bytes, certificate: Certificate) -> None:
    """Raise AnymailWebhookValidationFailure unless the certificate's key made the signature."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    key = certificate.public_key()
    algorithm = getattr(hashes, _SIGNATURE_VERSIONS[envelope["SignatureVersion"]])()
    try:
        if not isinstance(key, rsa.RSAPublicKey):
            raise InvalidSignature
        key.verify(signature, signed_bytes(envelope), padding.PKCS1v15(), algorithm)
    except InvalidSignature:
        raise AnymailWebhookValidationFailure("its signature is wrong.") from None
