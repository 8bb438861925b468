"""Amazon SNS, and what calls webhooks in its manner: the envelope of a notification, signed with a certificate's key.

https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
"""

from __future__ import annotations

import binascii
import dataclasses
import datetime as dt
import re
import threading
import time
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from django.http import HttpRequest

from anymail.conf import WebhookOptions, mapping, option
from anymail.esps.kit.values import from_json
from anymail.esps.kit.webhook import Webhook, json_object, utc_time
from anymail.exceptions import (
    AnymailConfigurationError,
    AnymailImproperlyInstalled,
    AnymailWebhookValidationFailure,
)

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

# The fields that are signed, in their order. Subject alone may be missing.
_CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
SIGNED_FIELDS = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": _CONFIRMATION,
    "UnsubscribeConfirmation": _CONFIRMATION,
}
_SIGNATURE_VERSIONS = {"1": "SHA1", "2": "SHA256"}


def topic_arns(value: Any, pattern: re.Pattern[str], example: str) -> tuple[str, ...]:
    """The TopicArns of a setting. Raises ValueError for what is none."""
    arns = [value] if isinstance(value, str) else list(value)
    if not arns or not all(isinstance(arn, str) and pattern.fullmatch(arn) for arn in arns):
        raise ValueError(f"a list of TopicArns is needed ({example})")
    return tuple(arns)


def _certificates(value: Any) -> dict[str, bytes]:
    pems = {url: pem.encode() if isinstance(pem, str) else pem for url, pem in mapping(value).items()}
    if not all(isinstance(pem, bytes) and b"BEGIN CERTIFICATE" in pem for pem in pems.values()):
        raise ValueError("a dict of certificates in PEM by their URLs is needed")
    return pems


@dataclasses.dataclass(frozen=True, kw_only=True)
class TopicOptions(WebhookOptions):
    sns_certificates: dict[str, bytes] = option(
        "Signing certificates in PEM by their URLs (`SigningCertURL`): those here are not fetched.",
        default={},
        convert=_certificates,
    )


OptionsT = TypeVar("OptionsT", bound=TopicOptions)


class TopicWebhook(Webhook[OptionsT], Generic[OptionsT]):
    """A webhook that a topic calls."""

    awaits_challenge = True
    #: The statuses that say that there is no certificate at its URL; after any other the call is to come again.
    no_certificate: ClassVar[frozenset[int]]

    def __init__(self, options: OptionsT, clock: Callable[[], float] = time.time) -> None:
        super().__init__(options, clock)
        #: Gets a certificate from a URL that was found good; set by whoever may use the network.
        self.fetch_certificate: Callable[[str], bytes] = self._not_fetched

    def _not_fetched(self, url: str) -> bytes:
        raise AnymailConfigurationError(
            f"{url} is not in {self.slug.upper()}_SNS_CERTIFICATES, and nothing here can fetch it."
        )

    def check_time(self, envelope: dict[str, Any]) -> dt.datetime:
        """When a call was first made. Raises AnymailWebhookValidationFailure if that is too far from now."""
        sent = utc_time(envelope["Timestamp"])
        if sent is None:
            raise AnymailWebhookValidationFailure("its Timestamp is not a time.")
        self.check_age(int(sent.timestamp()))
        return sent


class Certificates:
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

    def drop(self, url: str) -> None:
        with self._lock:
            self._contents.pop(url, None)


def envelope_of(request: HttpRequest) -> dict[str, Any]:
    """The JSON object of a call, its fields strings."""
    envelope = json_object(request)
    signed = SIGNED_FIELDS.get(str(envelope.get("Type")))
    if signed is None:
        raise AnymailWebhookValidationFailure("its Type is unknown.")
    for name in (*signed, "SignatureVersion", "Signature", "SigningCertURL"):
        value = envelope.get(name)
        if not (isinstance(value, str) or (name == "Subject" and value is None)):
            raise AnymailWebhookValidationFailure(f"its {name} is missing, or not a string.")
    return envelope


def message_of(envelope: dict[str, Any], else_: str) -> dict[str, Any]:
    """What the sender says in a notification. Raises AnymailWebhookValidationFailure if it is no JSON object."""
    message = from_json(envelope["Message"])
    if not isinstance(message, dict):
        raise AnymailWebhookValidationFailure(f"its Message is not a JSON object: {else_}.")
    return message


def signed_bytes(envelope: dict[str, Any]) -> bytes:
    """What is signed of a call."""
    present = [(name, envelope[name]) for name in SIGNED_FIELDS[envelope["Type"]] if envelope.get(name) is not None]
    return "".join(f"{name}\n{value}\n" for name, value in present).encode("utf-8", "surrogatepass")


def signature_of(envelope: dict[str, Any]) -> bytes:
    """The signature of a call. Raises AnymailWebhookValidationFailure if it cannot be one."""
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


def check_signature(envelope: dict[str, Any], certificate: Certificate) -> None:
    """Raise AnymailWebhookValidationFailure unless the certificate's key made the signature."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    signature, key = signature_of(envelope), certificate.public_key()
    algorithm = getattr(hashes, _SIGNATURE_VERSIONS[envelope["SignatureVersion"]])()
    try:
        if not isinstance(key, rsa.RSAPublicKey):
            raise InvalidSignature
        key.verify(signature, signed_bytes(envelope), padding.PKCS1v15(), algorithm)
    except InvalidSignature:
        raise AnymailWebhookValidationFailure("its signature is wrong.") from None


def signed(envelope: dict[str, Any], key: Any, version: str, url: str) -> dict[str, Any]:
    """The envelope with the signature that an RSA key makes, whose certificate is at ``url``."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    algorithm = getattr(hashes, _SIGNATURE_VERSIONS[version])()
    signature = b64encode(key.sign(signed_bytes(envelope), padding.PKCS1v15(), algorithm)).decode()
    return {**envelope, "SignatureVersion": version, "Signature": signature, "SigningCertURL": url}


@lru_cache(maxsize=32)
def parsed_certificate(content: bytes, extra: str) -> Certificate:
    """A certificate in PEM or DER. ``extra`` is that of the package which brings cryptography."""
    try:
        from cryptography import x509
    except ImportError:
        raise AnymailImproperlyInstalled("cryptography", extra) from None
    try:
        if b"-----BEGIN" in content:
            return x509.load_pem_x509_certificate(content)
        return x509.load_der_x509_certificate(content)
    except ValueError:
        raise AnymailWebhookValidationFailure("what is at its SigningCertURL is not a certificate.") from None


def is_valid(certificate: Certificate, now: dt.datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
