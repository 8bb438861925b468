from anymail.esps.mailjet.inbound import MailjetInbound
from anymail.esps.mailjet.tracking import MailjetTracking
from anymail.webhooks.base import AnymailWebhookView, webhook_path

__all__ = ["MailjetInboundWebhookView", "MailjetTrackingWebhookView"]


class MailjetTrackingWebhookView(AnymailWebhookView):
    webhook_class = MailjetTracking


class MailjetInboundWebhookView(AnymailWebhookView):
    webhook_class = MailjetInbound


urlpatterns = [
    webhook_path(MailjetTrackingWebhookView, "tracking"),
    webhook_path(MailjetInboundWebhookView, "inbound"),
]
