from anymail.esps.postal.inbound import PostalInbound
from anymail.esps.postal.tracking import PostalTracking
from anymail.webhooks.base import AnymailWebhookView, webhook_path

__all__ = ["PostalInboundWebhookView", "PostalTrackingWebhookView"]


class PostalTrackingWebhookView(AnymailWebhookView):
    webhook_class = PostalTracking


class PostalInboundWebhookView(AnymailWebhookView):
    webhook_class = PostalInbound


urlpatterns = [
    webhook_path(PostalTrackingWebhookView, "tracking"),
    webhook_path(PostalInboundWebhookView, "inbound"),
]
