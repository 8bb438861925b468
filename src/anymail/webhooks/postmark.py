from anymail.esps.postmark.inbound import PostmarkInbound
from anymail.esps.postmark.tracking import PostmarkTracking
from anymail.webhooks.base import AnymailWebhookView, webhook_path

__all__ = ["PostmarkInboundWebhookView", "PostmarkTrackingWebhookView"]


class PostmarkTrackingWebhookView(AnymailWebhookView):
    webhook_class = PostmarkTracking


class PostmarkInboundWebhookView(AnymailWebhookView):
    webhook_class = PostmarkInbound


urlpatterns = [
    webhook_path(PostmarkTrackingWebhookView, "tracking"),
    webhook_path(PostmarkInboundWebhookView, "inbound"),
]
