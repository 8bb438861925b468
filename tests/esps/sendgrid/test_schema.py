"""What we send and sign, held against SendGrid's own library."""

from __future__ import annotations

from typing import Any

import pytest
from sendgrid.helpers import mail as sg
from sendgrid.helpers.eventwebhook import EventWebhook

from anymail.esps.kit.sandbox import SandboxDelivery
from anymail.esps.sendgrid.sandbox import SendGridSandbox, verification_key
from anymail.esps.sendgrid.sending import SendGrid
from anymail.esps.sendgrid.tracking import SIGNATURE, TIMESTAMP
from esps.sendgrid.signed import SAMPLE_KEY
from esps.sendgrid.test_sending import REQUESTS, SENDGRID, numbered_ids
from esps.sendgrid.test_webhooks import call
from support import fitted, json_of, request_of


def everything() -> sg.Mail:
    """The message "everything" of the table of requests."""
    made = sg.Mail()
    made.from_email = sg.From("orders@example.com", "Shop")
    made.subject = "Order 1042 confirmed"
    personalization = sg.Personalization()
    personalization.add_to(sg.To("alice@example.net", "Alice Example"))
    personalization.add_to(sg.To("bob@example.org"))
    personalization.add_cc(sg.Cc("ops@example.com", "Ops, Team"))
    personalization.add_bcc(sg.Bcc("audit@example.com"))
    personalization.add_custom_arg(sg.CustomArg("anymail_id", "id-1"))
    made.add_personalization(personalization)
    made.reply_to_list = [sg.ReplyTo("help@example.com", "Help"), sg.ReplyTo("help2@example.com")]
    for mimetype, value in (
        ("text/plain", "Hi"),
        ("text/x-amp-html", "<!doctype html><html ⚡4email></html>"),
        ("text/html", "<p>Hi"),
    ):
        made.add_content(sg.Content(mimetype, value))
    made.attachment = sg.Attachment(
        sg.FileContent("Q2Fmw6k="), sg.FileName("cafe.txt"), sg.FileType('text/plain; charset="utf-8"')
    )
    made.header = [sg.Header("X-Campaign", "spring"), sg.Header("List-Unsubscribe", "<https://example.com/u/1>")]
    # It puts each before the others.
    made.category = [sg.Category("orders"), sg.Category("receipt")]
    for key, value in {"order_id": "1042", "user": "u-77", "vip": "true", "share": "0.5"}.items():
        made.add_custom_arg(sg.CustomArg(key, value))
    made.send_at = 1773489600
    made.tracking_settings = sg.TrackingSettings(
        click_tracking=sg.ClickTracking(enable=False), open_tracking=sg.OpenTracking(enable=True)
    )
    return made


def dynamic_template() -> sg.Mail:
    made = sg.Mail()
    made.from_email = sg.From("shop@example.com")
    personalization = sg.Personalization()
    personalization.add_to(sg.To("ana@example.net"))
    personalization.dynamic_template_data = {"shop": "Example Shop", "items": [{"sku": "A1", "qty": 2}]}
    personalization.add_custom_arg(sg.CustomArg("anymail_id", "id-1"))
    made.add_personalization(personalization)
    made.template_id = "d-0123"
    return made


def batch() -> sg.Mail:
    made = sg.Mail()
    made.from_email = sg.From("orders@example.com")
    made.subject = "Your order at -shop-"
    made.add_content(sg.Content("text/plain", "Hi -name-"))
    made.header = sg.Header("List-Unsubscribe", "<mailto:u@example.com>")
    made.custom_arg = sg.CustomArg("job", "nightly")
    for index, (to, name, order, unsubscribe) in enumerate(
        (
            (sg.To("ana@example.net"), "Ana", "1042", "<https://example.com/u/a>"),
            (sg.To("bo@example.org", "Bo"), "Bo", "1043", "<https://example.com/u/b>"),
        )
    ):
        personalization = sg.Personalization()
        personalization.add_to(to)
        personalization.add_substitution(sg.Substitution("-shop-", "Example Shop"))
        personalization.add_substitution(sg.Substitution("-name-", name))
        personalization.add_custom_arg(sg.CustomArg("order_id", order))
        personalization.add_custom_arg(sg.CustomArg("anymail_id", f"id-{index + 1}"))
        personalization.add_header(sg.Header("List-Unsubscribe", unsubscribe))
        made.add_personalization(personalization, index=index)
    return made


MAILS = {"everything": everything, "dynamic template": dynamic_template, "batch": batch}


@pytest.mark.parametrize(("name", "theirs"), MAILS.items(), ids=MAILS.keys())
def test_the_library_makes_the_same_request(name: str, theirs: Any) -> None:
    with numbered_ids():
        ours = json_of(request_of(SENDGRID.deliver(fitted(SendGrid, **REQUESTS[name][0]))))
    assert theirs().get() == ours


def test_the_library_verifies_the_sandbox() -> None:
    delivery = SandboxDelivery(recipient="ana@example.net", message_id="id-1", extra={"x_message_id": "Xj5"})
    request = SendGridSandbox().event("delivered", delivery, "http://project/")
    headers = dict(request.headers)
    verifier = EventWebhook(verification_key())
    body = bytes(request.body).decode()
    assert verifier.verify_signature(body, headers[SIGNATURE], headers[TIMESTAMP])
    assert not verifier.verify_signature(f"{body} ", headers[SIGNATURE], headers[TIMESTAMP])


def test_the_library_verifies_the_samples() -> None:
    batch = call("tracking-batch.json")
    verifier = EventWebhook(SAMPLE_KEY)
    assert verifier.verify_signature(batch.body.decode(), batch.headers[SIGNATURE], batch.headers[TIMESTAMP])
