"""Scaleway's Topics and Events, by which its webhooks are called, in the manner of Amazon SNS.

https://www.scaleway.com/en/docs/topics-and-events/reference-content/verifying-webhooks/
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

from django.http import HttpRequest

from anymail.conf import boolean, option, optional
from anymail.esps.kit.topics import (
    Certificates,
    TopicOptions,
    TopicWebhook,
    check_signature,
    envelope_of,
    is_valid,
    parsed_certificate,
    signature_of,
    topic_arns,
)
from anymail.esps.kit.webhook import Events
from anymail.exceptions import AnymailConfigurationError, AnymailWebhookValidationFailure
from anymail.wire import Flow, Request

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

logger = logging.getLogger("anymail.webhooks")

_TOPIC_ARN = re.compile(r"arn:scw:sns:(?P<region>[a-z]{2}-[a-z]{3}):[A-Za-z0-9-]{1,64}:[A-Za-z0-9_.-]{1,256}")
# Bucket and host: anyone may own another bucket on that domain.
_CERTIFICATE_URL = re.compile(r"https://messaging\.s3\.[a-z]{2}-[a-z]{3}\.scw\.cloud/[A-Za-z0-9._/-]+")

_LONGEST_ANSWER = 64 * 1024


def _topic_arns(value: Any) -> tuple[str, ...]:
    return topic_arns(value, _TOPIC_ARN, "arn:scw:sns:<region>:project-<project id>:<name>")


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class SNSOptions(TopicOptions):
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


OptionsT = TypeVar("OptionsT", bound=SNSOptions)


class SNSWebhook(TopicWebhook[OptionsT]):
    """A webhook that a topic calls. A subclass writes ``notified``."""

    name = "Scaleway"
    slug = "scaleway"
    # What is sent again has the first attempt's time.
    default_max_age = 43200
    no_certificate = frozenset({403, 404})

    @property
    def signature_configured(self) -> bool:
        # Every call's signature is verified, but any customer of Scaleway's can have one made.
        return bool(self.options.webhook_topic_arns or self.options.webhook_secret)

    def verify(self, request: HttpRequest) -> str | None:
        envelope = envelope_of(request)
        topic = _TOPIC_ARN.fullmatch(envelope["TopicArn"])
        if topic is None or (self.options.webhook_topic_arns and topic[0] not in self.options.webhook_topic_arns):
            raise AnymailWebhookValidationFailure("its TopicArn is none of those in SCALEWAY_WEBHOOK_TOPIC_ARNS.")
        url = envelope["SigningCertURL"]
        if not _CERTIFICATE_URL.fullmatch(url) or ".." in url:
            raise AnymailWebhookValidationFailure("its SigningCertURL is not one of Scaleway's.")
        self.check_time(envelope)
        # Before anything is fetched.
        signature_of(envelope)
        if pinned := self.options.sns_certificates.get(url):
            self._check(envelope, pinned)
            return None
        if kept := _fetched.get(url):
            try:
                self._check(envelope, kept)
                return None
            except AnymailWebhookValidationFailure:
                # There may be another by now.
                pass
        fetched = self.fetch_certificate(url)
        self._check(envelope, fetched)
        _fetched.keep(url, fetched)
        return None

    def items(self, request: HttpRequest) -> Sequence[Any]:
        envelope = envelope_of(request)
        if envelope["Type"] == "SubscriptionConfirmation":
            _check_subscribe_url(envelope)
            if self.options.auto_confirm_sns_subscriptions and not self.signature_configured:
                raise AnymailWebhookValidationFailure(
                    f"it asks to confirm a subscription to {envelope['TopicArn']}, which is done only with "
                    "SCALEWAY_WEBHOOK_TOPIC_ARNS set, or WEBHOOK_SECRET set and in the webhook's URL. To confirm it by "
                    f"hand, open {envelope['SubscribeURL']}"
                )
        return [envelope]

    def read(self, item: dict[str, Any]) -> Flow[Events]:
        if item["Type"] == "Notification":
            return self.notified(item)
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

    def notified(self, envelope: dict[str, Any]) -> Events:
        """The events that a notification tells of."""
        raise NotImplementedError

    def _check(self, envelope: dict[str, Any], content: bytes) -> None:
        """Raise AnymailWebhookValidationFailure unless a certificate is Scaleway's, and made the signature."""
        certificate = parsed_certificate(content, "scaleway")
        chain = _chain(self.options.sns_trust_chain or _published_trust_chain())
        now = dt.datetime.fromtimestamp(self.clock(), dt.UTC)
        if not is_valid(certificate, now):
            raise AnymailWebhookValidationFailure("the certificate at its SigningCertURL is not valid now.")
        if not _trusted(certificate, chain, now):
            raise AnymailWebhookValidationFailure(
                "the certificate at its SigningCertURL does not lead to Scaleway's root. If Scaleway has new ones, "
                "SCALEWAY_SNS_TRUST_CHAIN is the place for them."
            )
        check_signature(envelope, certificate)


_fetched = Certificates()


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


@lru_cache(maxsize=8)
def _chain(pem: bytes) -> tuple[Certificate, ...]:
    from cryptography import x509

    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError:
        raise AnymailConfigurationError("SCALEWAY_SNS_TRUST_CHAIN cannot be read: it is damaged.") from None


def _trusted(certificate: Certificate, chain: Sequence[Certificate], now: dt.datetime) -> bool:
    """Whether a certificate leads to a root in the chain, by authorities in the chain that are valid now."""
    issuers = [one for one in chain if is_valid(one, now) and _is_authority(one) and _issued(certificate, one)]
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
