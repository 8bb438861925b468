from anymail.esps.sendgrid.inbound import SendGridInbound
from anymail.esps.sendgrid.tracking import SendGridTracking
from anymail.webhooks.base import AnymailWebhookView, webhook_path

__all__ = ["SendGridInboundWebhookView", "SendGridTrackingWebhookView"]


class SendGridTrackingWebhookView(AnymailWebhookView):
    webhook_class = SendGridTracking


class SendGridInboundWebhookView(AnymailWebhookView):
    webhook_class = SendGridInbound


urlpatterns = [
    webhook_path(SendGridTrackingWebhookView, "tracking"),
    webhook_path(SendGridInboundWebhookView, "inbound"),
]
