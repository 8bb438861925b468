from anymail.esps.amazon_ses.inbound import AmazonSESInbound
from anymail.esps.amazon_ses.tracking import AmazonSESTracking
from anymail.webhooks.base import webhook_path
from anymail.webhooks.topics import TopicWebhookView

__all__ = ["AmazonSESInboundWebhookView", "AmazonSESTrackingWebhookView"]


class AmazonSESTrackingWebhookView(TopicWebhookView):
    webhook_class = AmazonSESTracking


class AmazonSESInboundWebhookView(TopicWebhookView):
    webhook_class = AmazonSESInbound


urlpatterns = [
    webhook_path(AmazonSESTrackingWebhookView, "tracking"),
    webhook_path(AmazonSESInboundWebhookView, "inbound"),
]
