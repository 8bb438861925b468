from django.urls import path

from anymail.esps.mandrill.tracking import MandrillWebhook
from anymail.webhooks.base import AnymailWebhookView, webhook_path

__all__ = ["MandrillCombinedWebhookView"]


class MandrillCombinedWebhookView(AnymailWebhookView):
    webhook_class = MandrillWebhook


urlpatterns = [
    path("mandrill/", MandrillCombinedWebhookView.as_view(), name="mandrill_webhook"),
    # The older URL, of the same view.
    webhook_path(MandrillCombinedWebhookView, "tracking"),
]
