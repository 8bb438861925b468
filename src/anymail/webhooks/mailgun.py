from anymail.esps.mailgun.inbound import MailgunInbound
from anymail.esps.mailgun.tracking import MailgunTracking
from anymail.webhooks.base import AnymailWebhookView, webhook_path

__all__ = ["MailgunInboundWebhookView", "MailgunTrackingWebhookView"]


class MailgunTrackingWebhookView(AnymailWebhookView):
    webhook_class = MailgunTracking


class MailgunInboundWebhookView(AnymailWebhookView):
    webhook_class = MailgunInbound


urlpatterns = [
    webhook_path(MailgunTrackingWebhookView, "tracking"),
    webhook_path(MailgunInboundWebhookView, "inbound"),
    # Mailgun posts the raw message to a URL that ends so, and its parsed fields to any other.
    webhook_path(MailgunInboundWebhookView, "inbound_mime"),
]
