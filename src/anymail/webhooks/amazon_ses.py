from typing import Any

from anymail.conf import SendOptions, load
from anymail.delivery.transport import transport_for
from anymail.esps.amazon_ses.inbound import AmazonSESInbound
from anymail.esps.amazon_ses.sns import SNSWebhook
from anymail.esps.amazon_ses.tracking import AmazonSESTracking
from anymail.esps.webhook import Webhook
from anymail.exceptions import AnymailAPIError, AnymailWebhookValidationFailure
from anymail.webhooks.base import AnymailWebhookView, webhook_path
from anymail.wire import Request

__all__ = ["AmazonSESInboundWebhookView", "AmazonSESTrackingWebhookView"]

_TIMEOUTS = (5.0, 5.0)
_LONGEST_CERTIFICATE = 64 * 1024


def fetch_certificate(url: str) -> bytes:
    """SNS's certificate from a URL that was found good. No redirect is followed."""
    options = load(SendOptions, ("AMAZON_SES",), {})
    request = Request.get(url, headers={}, max_response=_LONGEST_CERTIFICATE)
    response = transport_for(options.transport, _TIMEOUTS).send(request)
    if response.status_code >= 500:
        # Not the caller's fault: SNS is to send again.
        raise AnymailAPIError(f"SNS answered HTTP {response.status_code} to {url}.", category="server")
    if response.status_code != 200:
        raise AnymailWebhookValidationFailure(f"there is no certificate at {url}: HTTP {response.status_code}.")
    return response.content


def _fetching(webhook: Webhook[Any]) -> Webhook[Any]:
    assert isinstance(webhook, SNSWebhook)
    webhook.fetch_certificate = fetch_certificate
    return webhook


class AmazonSESTrackingWebhookView(AnymailWebhookView):
    webhook_class = AmazonSESTracking

    def webhook(self) -> Webhook[Any]:
        return _fetching(super().webhook())


class AmazonSESInboundWebhookView(AnymailWebhookView):
    webhook_class = AmazonSESInbound

    def webhook(self) -> Webhook[Any]:
        return _fetching(super().webhook())


urlpatterns = [
    webhook_path(AmazonSESTrackingWebhookView, "tracking"),
    webhook_path(AmazonSESInboundWebhookView, "inbound"),
]
