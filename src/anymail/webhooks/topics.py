"""The view of webhooks that a topic calls: it fetches the certificates of their signatures."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from anymail.conf import SendOptions, load
from anymail.delivery.transport import transport_for
from anymail.esps.kit.topics import TopicWebhook
from anymail.exceptions import AnymailAPIError, AnymailWebhookValidationFailure
from anymail.webhooks.base import AnymailWebhookView
from anymail.wire import Request

__all__ = ["TopicWebhookView"]

_TIMEOUTS = (5.0, 5.0)
_LONGEST_CERTIFICATE = 64 * 1024


class TopicWebhookView(AnymailWebhookView):
    webhook_class: ClassVar[type[TopicWebhook[Any]]] = TopicWebhook

    def webhook(self) -> TopicWebhook[Any]:
        webhook = super().webhook()
        assert isinstance(webhook, TopicWebhook)
        webhook.fetch_certificate = partial(_fetch_certificate, webhook)
        return webhook


def _fetch_certificate(webhook: TopicWebhook[Any], url: str) -> bytes:
    """The certificate from a URL that was found good. No redirect is followed."""
    options = load(SendOptions, (webhook.slug.upper(),), {})
    request = Request.get(url, headers={}, max_response=_LONGEST_CERTIFICATE)
    response = transport_for(options.transport, _TIMEOUTS).send(request)
    status = response.status_code
    if status in webhook.no_certificate:
        raise AnymailWebhookValidationFailure(f"there is no certificate at {url}: HTTP {status}.")
    if status != 200:
        # Not the caller's fault: the call is to come again.
        raise AnymailAPIError(f"HTTP {status} instead of the certificate at {url}.", category="server")
    return response.content
