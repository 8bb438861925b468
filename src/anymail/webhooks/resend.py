from anymail.esps.resend.inbound import ResendInbound
from anymail.esps.resend.tracking import ResendTracking
from anymail.webhooks.base import AnymailWebhookView, webhook_path

__all__ = ["ResendInboundWebhookView", "ResendTrackingWebhookView"]


class ResendTrackingWebhookView(AnymailWebhookView):
    webhook_class = ResendTracking


class ResendInboundWebhookView(AnymailWebhookView):
    webhook_class = ResendInbound


urlpatterns = [
    webhook_path(ResendTrackingWebhookView, "tracking"),
    webhook_path(ResendInboundWebhookView, "inbound"),
]
