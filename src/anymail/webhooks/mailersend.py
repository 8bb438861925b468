from anymail.esps.mailersend.inbound import MailerSendInbound
from anymail.esps.mailersend.tracking import MailerSendTracking
from anymail.webhooks.base import AnymailWebhookView, webhook_path

__all__ = ["MailerSendInboundWebhookView", "MailerSendTrackingWebhookView"]


class MailerSendTrackingWebhookView(AnymailWebhookView):
    webhook_class = MailerSendTracking


class MailerSendInboundWebhookView(AnymailWebhookView):
    webhook_class = MailerSendInbound


urlpatterns = [
    webhook_path(MailerSendTrackingWebhookView, "tracking"),
    webhook_path(MailerSendInboundWebhookView, "inbound"),
]
