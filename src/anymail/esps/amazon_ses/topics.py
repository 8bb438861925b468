"""Amazon SNS, by which SES calls its webhooks: https://docs.aws.amazon.com/sns/latest/dg/"""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from django.http import HttpRequest

from anymail.conf import boolean, max_age, option, optional
from anymail.esps.amazon_ses.signing import AWS, AWSAnswers, AWSOptions, SNSResponses, error_about
from anymail.esps.kit.topics import (
    Certificates,
    TopicOptions,
    TopicWebhook,
    check_signature,
    envelope_of,
    is_valid,
    message_of,
    parsed_certificate,
    topic_arns,
)
from anymail.esps.kit.webhook import Events, header
from anymail.exceptions import AnymailWebhookValidationFailure
from anymail.wire import Flow, Request

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_TOPIC_ARN = re.compile(
    r"arn:(?P<partition>aws|aws-cn|aws-us-gov|aws-eusc):sns:(?P<region>[a-z]+(?:-[a-z]+)+-\d{1,2})"
    r":\d{12}:[A-Za-z0-9_.-]{1,256}"
)
_DOMAINS = {"aws": "amazonaws.com", "aws-us-gov": "amazonaws.com", "aws-cn": "amazonaws.com.cn",
            "aws-eusc": "amazonaws.eu"}  # fmt: skip
_CERTIFICATE_PATH = re.compile(r"/SimpleNotificationService-[0-9a-f]{1,128}\.pem")

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
    return topic_arns(value, _TOPIC_ARN, "arn:aws:sns:<region>:<account>:<name>")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SNSOptions(AWSOptions, TopicOptions):
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


OptionsT = TypeVar("OptionsT", bound=SNSOptions)


class SNSWebhook(AWSAnswers, TopicWebhook[OptionsT]):
    """A webhook that SNS calls. A subclass writes ``notified``.

    A call may be 75 minutes old, since SNS tries again for up to an hour with the first attempt's time (or as old as
    WEBHOOK_MAX_AGE allows), but no more than 5 minutes ahead.
    """

    slug = "amazon_ses"
    default_max_age = 4500
    # A time-out or too many calls say nothing of the certificate.
    no_certificate = frozenset(range(201, 500)) - {408, 425, 429}

    @property
    def aws(self) -> AWS:
        return AWS(self.options)

    @property
    def signature_configured(self) -> bool:
        # Every call's signature is verified, but any AWS account can have one made.
        return bool(self.options.topic_arns or self.options.webhook_secret)

    def verify(self, request: HttpRequest) -> str | None:
        envelope = _envelope(request)
        topic = _TOPIC_ARN.fullmatch(envelope["TopicArn"])
        if topic is None or (self.options.topic_arns and topic[0] not in self.options.topic_arns):
            raise AnymailWebhookValidationFailure(
                f"its TopicArn, {envelope['TopicArn'][:300]!r}, is none of those in AMAZON_SES_TOPIC_ARNS."
            )
        host = f"sns.{topic['region']}.{_DOMAINS[topic['partition']]}"
        url = envelope["SigningCertURL"]
        if not (url.startswith(f"https://{host}/") and _CERTIFICATE_PATH.fullmatch(url, len(f"https://{host}"))):
            raise AnymailWebhookValidationFailure("its SigningCertURL is not one of SNS in the topic's region.")
        sent = self.check_time(envelope)
        limited = max_age(self.options, self.default_max_age) is not None
        if limited and sent.timestamp() - self.clock() > _MOST_AHEAD:
            raise AnymailWebhookValidationFailure("its Timestamp is in the future: this machine's clock is wrong.")
        names = {"sns.amazonaws.com", host.replace("sns.", "sns-", 1), host.replace("sns.", "sns-signing.", 1)}
        if topic["partition"] == "aws-us-gov":
            names.add("sns-us-gov-west-1.amazonaws.com")
        check_signature(envelope, self._certificate(url, names))
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

    def read(self, item: dict[str, Any]) -> Flow[Events]:
        if item["Type"] == "SubscriptionConfirmation" and self.options.auto_confirm_sns_subscriptions:
            yield from self._confirm(item)
        if item["Type"] != "Notification" or item["Message"].strip() == _TOPIC_VALIDATED:
            return ()
        message = message_of(item, "it does not come from SES")
        return (yield from self.notified(item, message))

    def notified(self, envelope: dict[str, Any], message: dict[str, Any]) -> Flow[Events]:
        """The events that a notification tells of: ``envelope`` is SNS's part of it, ``message`` that of SES."""
        raise NotImplementedError

    def _confirm(self, envelope: dict[str, Any]) -> Flow[None]:
        """Confirm a subscription by a signed call, so that nobody else can unsubscribe. Its SubscribeURL is not used.

        https://docs.aws.amazon.com/sns/latest/api/API_ConfirmSubscription.html
        """
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
            what = f"The subscription to {envelope['TopicArn']} cannot be confirmed."
            raise error_about(what, SNSResponses().api_error(response))

    def _certificate(self, url: str, names: set[str]) -> Certificate:
        """The certificate at a URL. Raises AnymailWebhookValidationFailure for one not valid now, or not SNS's."""
        pinned = self.options.sns_certificates.get(url)
        pem = pinned or _fetched.get(url) or self.fetch_certificate(url)
        certificate = parsed_certificate(pem, "amazon-ses")
        if not is_valid(certificate, dt.datetime.fromtimestamp(self.clock(), dt.UTC)):
            _fetched.drop(url)
            raise AnymailWebhookValidationFailure("the certificate at its SigningCertURL is not valid now.")
        if not names & _names(certificate):
            raise AnymailWebhookValidationFailure("the certificate at its SigningCertURL is not SNS's.")
        if pinned is None:
            _fetched.keep(url, pem)
        return certificate


def region_of(topic_arn: str) -> str:
    return topic_arn.split(":")[3]


_fetched = Certificates()


def _envelope(request: HttpRequest) -> dict[str, Any]:
    """SNS's envelope, in agreement with the headers."""
    if header(request, "x-amz-sns-rawdelivery"):
        raise AnymailWebhookValidationFailure("it is not signed: turn off the subscription's raw message delivery.")
    envelope = envelope_of(request)
    for repeating, name in _HEADERS.items():
        # What a proxy left out is in the envelope, which is signed.
        if header(request, repeating, envelope[name]) != envelope[name]:
            raise AnymailWebhookValidationFailure(f"its header {repeating} does not agree with its {name}.")
    return envelope


def _names(certificate: Certificate) -> set[str]:
    """The names that a certificate is for."""
    from cryptography import x509

    names = {str(one.value) for one in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)}
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return names
    return names | set(alternative.value.get_values_for_type(x509.DNSName))
