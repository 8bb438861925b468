from anymail.esps.sparkpost.inbound import SparkPostInbound
from anymail.esps.sparkpost.tracking import SparkPostTracking
from anymail.webhooks.base import AnymailWebhookView, webhook_path

__all__ = ["SparkPostInboundWebhookView", "SparkPostTrackingWebhookView"]


class SparkPostTrackingWebhookView(AnymailWebhookView):
    webhook_class = SparkPostTracking


class SparkPostInboundWebhookView(AnymailWebhookView):
    webhook_class = SparkPostInbound


urlpatterns = [
    webhook_path(SparkPostTrackingWebhookView, "tracking"),
    webhook_path(SparkPostInboundWebhookView, "inbound"),
]
