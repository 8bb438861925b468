import functools
import warnings
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.urls import URLPattern, path

from anymail.esps.brevo.inbound import BrevoInbound
from anymail.esps.brevo.tracking import BrevoTracking
from anymail.exceptions import AnymailDeprecationWarning
from anymail.webhooks.base import AnymailWebhookView, webhook_path

__all__ = ["BrevoInboundWebhookView", "BrevoTrackingWebhookView"]


class BrevoTrackingWebhookView(AnymailWebhookView):
    webhook_class = BrevoTracking


class BrevoInboundWebhookView(AnymailWebhookView):
    webhook_class = BrevoInbound


class _SendinBlueTracking(BrevoTracking):
    name = "SendinBlue"


class _SendinBlueInbound(BrevoInbound):
    name = "SendinBlue"


class SendinBlueTrackingWebhookView(BrevoTrackingWebhookView):
    """The sender of signals at the URL of Brevo's old name."""

    webhook_class = _SendinBlueTracking


class SendinBlueInboundWebhookView(BrevoInboundWebhookView):
    """The sender of signals at the URL of Brevo's old name."""

    webhook_class = _SendinBlueInbound


def _old_path(view_class: type[AnymailWebhookView], kind: str) -> URLPattern:
    """The route of a view under Brevo's old name, where it warns."""
    view = view_class.as_view()

    @functools.wraps(view)
    def warn_and_call(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        warnings.warn(
            f"SendinBlue is Brevo now: change the webhook's URL from sendinblue/{kind}/ to brevo/{kind}/.",
            AnymailDeprecationWarning,
            stacklevel=2,
        )
        return view(request, *args, **kwargs)

    return path(f"sendinblue/{kind}/", warn_and_call, name=f"sendinblue_{kind}_webhook")


urlpatterns = [
    webhook_path(BrevoTrackingWebhookView, "tracking"),
    webhook_path(BrevoInboundWebhookView, "inbound"),
    _old_path(SendinBlueTrackingWebhookView, "tracking"),
    _old_path(SendinBlueInboundWebhookView, "inbound"),
]
