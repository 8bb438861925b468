from django.http import HttpRequest, HttpResponse

from anymail.esps.unisender_go.tracking import UnisenderGoTracking
from anymail.webhooks.base import AnymailWebhookView, webhook_path

__all__ = ["UnisenderGoTrackingWebhookView"]


class UnisenderGoTrackingWebhookView(AnymailWebhookView):
    webhook_class = UnisenderGoTracking
    http_method_names = [*AnymailWebhookView.http_method_names, "get"]  # noqa: RUF012

    def get(self, request: HttpRequest) -> HttpResponse:
        """Unisender Go tries a URL with a GET before it uses it."""
        return HttpResponse()


urlpatterns = [webhook_path(UnisenderGoTrackingWebhookView, "tracking")]
