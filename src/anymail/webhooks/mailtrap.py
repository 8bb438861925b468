from anymail.esps.mailtrap.inbound import MailtrapInbound
from anymail.esps.mailtrap.tracking import MailtrapTracking
from anymail.webhooks.base import AnymailWebhookView, webhook_path

__all__ = ["MailtrapInboundWebhookView", "MailtrapTrackingWebhookView"]


class MailtrapTrackingWebhookView(AnymailWebhookView):
    webhook_class = MailtrapTracking


class MailtrapInboundWebhookView(AnymailWebhookView):
    webhook_class = MailtrapInbound


urlpatterns = [
    webhook_path(MailtrapTrackingWebhookView, "tracking"),
    webhook_path(MailtrapInboundWebhookView, "inbound"),
]
