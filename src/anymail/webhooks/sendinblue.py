import warnings

from anymail.exceptions import AnymailDeprecationWarning
from anymail.webhooks.brevo import SendinBlueInboundWebhookView, SendinBlueTrackingWebhookView

__all__ = ["SendinBlueInboundWebhookView", "SendinBlueTrackingWebhookView"]

warnings.warn(
    "SendinBlue is Brevo now: import the views of anymail.webhooks.brevo.", AnymailDeprecationWarning, stacklevel=2
)
