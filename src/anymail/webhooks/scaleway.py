from anymail.esps.scaleway.tracking import ScalewayTracking
from anymail.webhooks.base import webhook_path
from anymail.webhooks.topics import TopicWebhookView

__all__ = ["ScalewayTrackingWebhookView"]


class ScalewayTrackingWebhookView(TopicWebhookView):
    webhook_class = ScalewayTracking


urlpatterns = [webhook_path(ScalewayTrackingWebhookView, "tracking")]
