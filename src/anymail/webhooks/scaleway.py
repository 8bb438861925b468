from typing import Any

from anymail.conf import SendOptions, load
from anymail.delivery.transport import transport_for
from anymail.esps.scaleway.tracking import ScalewayTracking
from anymail.esps.webhook import Webhook
from anymail.exceptions import AnymailAPIError, AnymailWebhookValidationFailure
from anymail.webhooks.base import AnymailWebhookView, webhook_path
from anymail.wire import Request

__all__ = ["ScalewayTrackingWebhookView"]

_TIMEOUTS = (5.0, 5.0)
_LONGEST_CERTIFICATE = 64 * 1024


def fetch_certificate(url: str) -> bytes:
    """Scaleway's certificate from a URL that was found good. No redirect is followed."""
    options = load(SendOptions, ("SCALEWAY",), {})
    request = Request.get(url, headers={}, max_response=_LONGEST_CERTIFICATE)
    response = transport_for(options.transport, _TIMEOUTS).send(request)
    if response.status_code in (403, 404):
        raise AnymailWebhookValidationFailure(f"there is no certificate at {url}: HTTP {response.status_code}.")
    if response.status_code != 200:
        # Not the caller's fault: it is to send again.
        raise AnymailAPIError(f"Scaleway answered HTTP {response.status_code} to {url}.", category="server")
    return response.content


class ScalewayTrackingWebhookView(AnymailWebhookView):
    webhook_class = ScalewayTracking

    def webhook(self) -> Webhook[Any]:
        webhook = super().webhook()
        assert isinstance(webhook, ScalewayTracking)
        webhook.fetch_certificate = fetch_certificate
        return webhook


urlpatterns = [webhook_path(ScalewayTrackingWebhookView, "tracking")]
