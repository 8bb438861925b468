"""Mailgun: messages and the exact requests they become, answers and the statuses they become."""

from __future__ import annotations

import dataclasses
import json
from email.mime.image import MIMEImage
from email.mime.text import MIMEText
from typing import Any

import pytest
from django.core.mail import EmailMessage
from django.test import override_settings

from anymail.backends.mailgun import EmailBackend
from anymail.conf import load
from anymail.esps.kit.sandbox import FormFile, form_of
from anymail.esps.mailgun.sending import Mailgun, MailgunOptions
from anymail.exceptions import AnymailAPIError, AnymailError, AnymailInvalidValue, AnymailSerializationError
from anymail.mail.message import outgoing_mail
from anymail.mail.supports import check
from anymail.message import attach_inline_image
from anymail.wire import Request
from support import PNG, answer, drive, fitted, mail, make_esp, message, request_of, statuses

MAILGUN = make_esp(Mailgun, api_key="key-test")
BASE = {"from": "shop@example.com", "to": "ana@example.net", "subject": "Hi", "text": "Hello"}
TWO = {"to": ["ana@example.net", "Bo <bo@example.org>"]}
BASE_TWO = {**BASE, "to": ["ana@example.net", "Bo <bo@example.org>"]}
TEMPLATE = {"subject": None, "body": "", "template_id": "order-shipped"}
TEMPLATED = {"from": "shop@example.com", "to": "ana@example.net", "template": "order-shipped"}
ANA, BO = "ana@example.net", "bo@example.org"


def fields_of(request: Request) -> dict[str, Any]:
    """The fields of a form: a list for what is repeated, and JSON read."""
    form: dict[str, Any] = {}
    for name, value in form_of(request)[0]:
        form.setdefault(name, []).append(json.loads(value) if name in ("recipient-variables", "t:variables") else value)
    return {name: values[0] if len(values) == 1 else values for name, values in form.items()}


# A message's attributes, and the form of its request.
REQUESTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, BASE),
    "names and domains": (
        {
            "from_email": "Exämple Shop <shop@example.com>",
            "to": ["Ana López <ana@example.net>", "post@bücher.example.com", "josé@example.com"],
            "cc": ['"Ops, Team" <ops@example.com>', "team@example.org"],
            "bcc": ["archive@example.org"],
            "reply_to": ["help@example.com", '"Orders, EU" <orders@example.com>'],
        },
        {
            **BASE,
            "from": "Exämple Shop <shop@example.com>",
            "to": ["Ana López <ana@example.net>", "post@xn--bcher-kva.example.com", "josé@example.com"],
            "cc": ['"Ops, Team" <ops@example.com>', "team@example.org"],
            "bcc": "archive@example.org",
            "h:Reply-To": 'help@example.com, "Orders, EU" <orders@example.com>',
        },
    ),
    "several from": (
        {"from_email": "shop@example.com, Ana <ana@example.com>"},
        {**BASE, "from": ["shop@example.com", "Ana <ana@example.com>"]},
    ),
    "no to": (
        {"to": [], "cc": ["team@example.org"]},
        {"from": "shop@example.com", "cc": "team@example.org", "subject": "Hi", "text": "Hello"},
    ),
    "bodies": (
        {"html": "<p>Hello", "alternatives": [("<html ⚡4email>", "text/x-amp-html"), ("<p>Hello", "text/html")]},
        {**BASE, "html": "<p>Hello", "amp-html": "<html ⚡4email>"},
    ),
    "html only": (
        {"body": "<p>Hello", "content_subtype": "html"},
        {"from": "shop@example.com", "to": "ana@example.net", "subject": "Hi", "html": "<p>Hello"},
    ),
    "empty subject": ({"subject": ""}, {**BASE, "subject": ""}),
    "headers": (
        {"headers": {"X-Shop": 7, "message-ID": "<1@example.com>", "Reply-To": "help@example.com"}},
        {**BASE, "h:X-Shop": "7", "h:Message-Id": "<1@example.com>", "h:Reply-To": "help@example.com"},
    ),
    "header sender": ({"headers": {"From": "Shop <shop@example.org>"}}, {**BASE, "from": "Shop <shop@example.org>"}),
    "labels and switches": (
        {
            "metadata": {"order": "A-1042", "n": 7, "vip": True, "items": [1, "é"], "note": ""},
            "tags": ["receipt", "orders"],
            "track_opens": True,
            "track_clicks": False,
        },
        {
            **BASE,
            "v:order": "A-1042",
            "v:n": "7",
            "v:vip": "true",
            "v:items": '[1, "\\u00e9"]',
            "v:note": "",
            "o:tag": ["receipt", "orders"],
            "o:tracking-opens": "yes",
            "o:tracking-clicks": "no",
        },
    ),
    "scheduled": ({"send_at": 1773489600}, {**BASE, "o:deliverytime": "Sat, 14 Mar 2026 12:00:00 GMT"}),
    "esp_extra": (
        {
            "tags": ["receipt"],
            "track_clicks": True,
            "esp_extra": {
                "o:tag": ["a", "b"],
                "o:tracking-clicks": "htmlonly",
                "o:testmode": True,
                "o:require-tls": False,
                "o:deliver-within": "1h30m",
                "t:variables": {"a": [1]},
                "subject": None,
                "sender_domain": "mg.example.com",
                "subaccount": "646d00a1",
            },
        },
        {
            "from": "shop@example.com",
            "to": "ana@example.net",
            "text": "Hello",
            "o:tag": ["a", "b"],
            "o:tracking-clicks": "htmlonly",
            "o:testmode": "yes",
            "o:require-tls": "no",
            "o:deliver-within": "1h30m",
            "t:variables": {"a": [1]},
        },
    ),
    "template": (
        {**TEMPLATE, "from_email": None, "envelope_sender": "bounces@mg.example.com"},
        {"to": "ana@example.net", "template": "order-shipped"},
    ),
    "template with a subject": ({**TEMPLATE, "subject": "Hi"}, {**TEMPLATED, "subject": "Hi"}),
    "template with an empty subject": ({**TEMPLATE, "subject": ""}, TEMPLATED),
    "template in esp_extra": (
        {"subject": None, "body": "", "merge_global_data": {"a": 1}, "esp_extra": {"template": "order-shipped"}},
        {**TEMPLATED, "t:variables": {"a": 1}},
    ),
    "a body beside a template": (
        {**TEMPLATE, "body": "Hello", "html": "<p>Hello"},
        {**TEMPLATED, "text": "Hello"},
    ),
    "a body beside a template in esp_extra": (
        {"html": "<p>Hello", "esp_extra": {"template": "order-shipped"}},
        {**BASE, "template": "order-shipped"},
    ),
    # A batch, in which nobody sees the others.
    "global data for several": (
        {**TWO, "cc": ["team@example.org"], "body": "%recipient.shop%", "merge_global_data": {"shop": "Example"}},
        {
            **BASE_TWO,
            "cc": "team@example.org",
            "text": "%recipient.shop%",
            "recipient-variables": {ANA: {"shop": "Example"}, BO: {"shop": "Example"}},
        },
    ),
    # Nobody else to see, and nothing that is different.
    "global data": (
        {
            "subject": "Hi from %recipient.shop%",
            "body": "%recipient.shop%, %recipient.n%, %recipient.none%, 100%%recipient.empty%",
            "html": "<p>%recipient.shop%",
            "alternatives": [("<html>%recipient.shop%", "text/x-amp-html"), ("<p>%recipient.shop%", "text/html")],
            "headers": {"X-Shop": "%recipient.shop%"},
            "metadata": {"shop": "%recipient.shop%", "n": 1},
            "merge_global_data": {"shop": "%recipient.n%", "n": 7, "empty": None},
        },
        {
            **BASE,
            "subject": "Hi from %recipient.n%",
            "text": "%recipient.n%, 7, %recipient.none%, 100%",
            "html": "<p>%recipient.n%",
            "amp-html": "<html>%recipient.n%",
            "h:X-Shop": "%recipient.n%",
            "v:shop": "%recipient.n%",
            "v:n": "1",
        },
    ),
    "global data in a template": (
        {
            **TEMPLATE,
            "subject": "Hi from %recipient.shop%",
            "metadata": {"shop": "A-1042"},
            "merge_global_data": {"shop": "Example", "items": [{"n": 1}]},
        },
        {
            **TEMPLATED,
            "subject": "Hi from Example",
            "t:variables": {"shop": "Example", "items": [{"n": 1}]},
            "v:shop": "A-1042",
        },
    ),
    "global data in a template for several": (
        {
            **TEMPLATE,
            **TWO,
            "subject": "Hi from %recipient.shop%",
            "metadata": {"shop": "A-1042"},
            "merge_global_data": {"shop": "Example", "items": [{"n": 1}]},
        },
        {
            **TEMPLATED,
            "to": BASE_TWO["to"],
            "subject": "Hi from %recipient.shop%",
            "t:variables": {"shop": "Example", "items": [{"n": 1}]},
            "v:shop": "A-1042",
            "recipient-variables": {ANA: {"shop": "Example"}, BO: {"shop": "Example"}},
        },
    ),
    "batch": (
        {
            **TWO,
            "cc": ["team@example.org"],
            "merge_data": {ANA: {"name": "Ana", "points": 7}, BO: {"name": "Bo", "points": None}},
            "merge_global_data": {"shop": "Example", "name": "you"},
        },
        {
            **BASE_TWO,
            "cc": "team@example.org",
            "recipient-variables": {
                ANA: {"name": "Ana", "points": 7, "shop": "Example"},
                BO: {"name": "Bo", "points": "", "shop": "Example"},
            },
        },
    ),
    "forced batch": ({**TWO, "merge_data": {}}, {**BASE_TWO, "recipient-variables": {ANA: {}, BO: {}}}),
    "batch of recipients with IDNs": (
        {
            "to": ["bo@bücher.example", "cy@xn--bcher-kva.example"],
            "merge_data": {"bo@bücher.example": {"name": "Bo"}, "cy@xn--bcher-kva.example": {"name": "Cy"}},
        },
        {
            **BASE,
            "to": ["bo@xn--bcher-kva.example", "cy@xn--bcher-kva.example"],
            "recipient-variables": {
                "bo@xn--bcher-kva.example": {"name": "Bo"},
                "cy@xn--bcher-kva.example": {"name": "Cy"},
            },
        },
    ),
    "batch of metadata and headers": (
        {
            **TWO,
            "metadata": {"tier": "gold", "order": "none"},
            "merge_metadata": {ANA: {"order": 1}, BO: {"vip": True}},
            "headers": {"X-Shop": "7", "list-unsubscribe": "<https://example.com/u>"},
            "merge_headers": {ANA: {"LIST-Unsubscribe": "<https://example.com/u/ana>"}, BO: {"x-bo": "1"}},
        },
        {
            **BASE_TWO,
            "v:tier": "gold",
            "v:order": "%recipient.v:order%",
            "v:vip": "%recipient.v:vip%",
            "h:X-Shop": "7",
            "h:List-Unsubscribe": "%recipient.h:List-Unsubscribe%",
            "h:X-Bo": "%recipient.h:X-Bo%",
            "recipient-variables": {
                ANA: {"v:order": 1, "v:vip": "", "h:List-Unsubscribe": "<https://example.com/u/ana>", "h:X-Bo": ""},
                BO: {
                    "v:order": "none",
                    "v:vip": True,
                    "h:List-Unsubscribe": "<https://example.com/u>",
                    "h:X-Bo": "1",
                },
            },
        },
    ),
    "batch of reply addresses": (
        {**TWO, "reply_to": ["help@example.com"], "merge_headers": {BO: {"Reply-To": "bo-help@example.com"}}},
        {
            **BASE_TWO,
            "h:Reply-To": "%recipient.h:Reply-To%",
            "recipient-variables": {
                ANA: {"h:Reply-To": "help@example.com"},
                BO: {"h:Reply-To": "bo-help@example.com"},
            },
        },
    ),
    "batch with template": (
        {
            **TEMPLATE,
            **TWO,
            "metadata": {"job": "nightly"},
            "merge_metadata": {ANA: {"order": "1"}},
            "merge_data": {ANA: {"name": "Ana"}},
            "merge_global_data": {"shop": "Example", "items": [{"n": 1}]},
        },
        {
            **TEMPLATED,
            "to": BASE_TWO["to"],
            "t:variables": {"items": [{"n": 1}]},
            "v:job": "nightly",
            "v:order": "%recipient.v:order%",
            "v:name": "%recipient.name%",
            "v:shop": "%recipient.shop%",
            "recipient-variables": {
                ANA: {"v:order": "1", "name": "Ana", "shop": "Example"},
                BO: {"v:order": "", "name": "", "shop": "Example"},
            },
        },
    ),
    "sheet: template for one recipient": (
        {
            "from_email": "orders@example.com",
            "to": ["alice@example.net"],
            "subject": "Your order %recipient.order_no%",
            "body": "",
            "template_id": "order-confirmation",
            "metadata": {"job": "nightly"},
            "merge_data": {"alice@example.net": {"order_no": "1042"}},
            "merge_global_data": {"shop": "Example Shop"},
        },
        {
            "from": "orders@example.com",
            "to": "alice@example.net",
            "subject": "Your order %recipient.order_no%",
            "template": "order-confirmation",
            "v:job": "nightly",
            "v:order_no": "%recipient.order_no%",
            "v:shop": "%recipient.shop%",
            "recipient-variables": {"alice@example.net": {"order_no": "1042", "shop": "Example Shop"}},
        },
    ),
    "sheet: batch": (
        {
            "from_email": "orders@example.com",
            "to": ["alice@example.net", "Bob <bob@example.org>"],
            "subject": "Your order",
            "body": "Hi %recipient.name%",
            "metadata": {"job": "nightly"},
            "merge_data": {"alice@example.net": {"name": "Alice"}, "bob@example.org": {"name": "Bob"}},
            "merge_global_data": {"shop": "Example Shop"},
            "merge_metadata": {"alice@example.net": {"order_id": 1042}, "bob@example.org": {"order_id": 1043}},
            "merge_headers": {
                "alice@example.net": {"List-Unsubscribe": "<https://example.com/u/a>"},
                "bob@example.org": {"List-Unsubscribe": "<https://example.com/u/b>"},
            },
        },
        {
            "from": "orders@example.com",
            "to": ["alice@example.net", "Bob <bob@example.org>"],
            "subject": "Your order",
            "text": "Hi %recipient.name%",
            "h:List-Unsubscribe": "%recipient.h:List-Unsubscribe%",
            "v:job": "nightly",
            "v:order_id": "%recipient.v:order_id%",
            "recipient-variables": {
                "alice@example.net": {
                    "v:order_id": 1042,
                    "name": "Alice",
                    "shop": "Example Shop",
                    "h:List-Unsubscribe": "<https://example.com/u/a>",
                },
                "bob@example.org": {
                    "v:order_id": 1043,
                    "name": "Bob",
                    "shop": "Example Shop",
                    "h:List-Unsubscribe": "<https://example.com/u/b>",
                },
            },
        },
    ),
}


@pytest.mark.parametrize(("attributes", "form"), REQUESTS.values(), ids=REQUESTS.keys())
def test_request(attributes: dict[str, Any], form: dict[str, Any]) -> None:
    request = request_of(MAILGUN.deliver(fitted(Mailgun, **attributes)))
    assert request.method == "POST"
    assert request.headers["Content-Type"].startswith("multipart/form-data; boundary=")
    assert fields_of(request) == form


def test_headers() -> None:
    headers = dict(request_of(MAILGUN.deliver(mail())).headers)
    assert headers.pop("Content-Type").startswith("multipart/form-data; boundary=")
    assert headers == {"Accept": "application/json", "Authorization": "Basic YXBpOmtleS10ZXN0"}


def rich_message() -> Any:
    """The fact sheet's sample (a)."""
    made = message(
        from_email="Shop <orders@example.com>",
        to=["Alice Example <alice@example.net>", "bob@example.org"],
        cc=['"Ops, Team" <ops@example.com>'],
        bcc=["audit@example.com"],
        reply_to=["Help <help@example.com>", "help2@example.com"],
        subject="Order 1042 confirmed",
        body="Hi",
        html='<p>Hi <img src="cid:logo-1@example.com"></p>',
        headers={"X-Campaign": "spring", "List-Unsubscribe": "<https://example.com/u/1>"},
        metadata={"order_id": 1042, "user": "u-77"},
        tags=["receipt", "orders"],
        track_opens=True,
        track_clicks=False,
        send_at=1773489600,
        esp_extra={"sender_domain": "mg.example.com"},
    )
    made.attach_alternative("<!doctype html><html ⚡4email></html>", "text/x-amp-html")
    made.attach("café.txt", "pièce", "text/plain")
    logo = MIMEImage(PNG, "png")
    logo["Content-ID"] = "<logo-1@example.com>"
    logo["Content-Disposition"] = 'inline; filename="logo.png"'
    made.attachments.append(logo)
    return made


def test_rich_message() -> None:
    request = request_of(MAILGUN.deliver(outgoing_mail(rich_message())))
    assert request.url == "https://api.mailgun.net/v3/mg.example.com/messages"
    assert fields_of(request) == {
        "from": "Shop <orders@example.com>",
        "to": ["Alice Example <alice@example.net>", "bob@example.org"],
        "cc": '"Ops, Team" <ops@example.com>',
        "bcc": "audit@example.com",
        "subject": "Order 1042 confirmed",
        "h:Reply-To": "Help <help@example.com>, help2@example.com",
        "h:X-Campaign": "spring",
        "h:List-Unsubscribe": "<https://example.com/u/1>",
        "text": "Hi",
        "html": '<p>Hi <img src="cid:logo-1@example.com"></p>',
        "amp-html": "<!doctype html><html ⚡4email></html>",
        "v:order_id": "1042",
        "v:user": "u-77",
        "o:tag": ["receipt", "orders"],
        "o:tracking-opens": "yes",
        "o:tracking-clicks": "no",
        "o:deliverytime": "Sat, 14 Mar 2026 12:00:00 GMT",
    }
    assert form_of(request)[1] == [
        FormFile("attachment", "café.txt", 'text/plain; charset="utf-8"', "pièce".encode()),
        FormFile("inline", "logo-1@example.com", "image/png", PNG),
    ]


def test_multipart_as_mailgun_reads_it() -> None:
    """RFC 7578: names in raw UTF-8, never in RFC 2231's form; a text file keeps its charset."""
    made = message()
    made.attach("café.txt", "pièce", "text/plain")
    latin = MIMEText("pièce", "plain", "iso-8859-1")
    latin["Content-Disposition"] = "attachment"
    made.attachments.append(latin)
    request = request_of(MAILGUN.deliver(outgoing_mail(made)))
    body = bytes(request.body)
    content_type, boundary = request.headers["Content-Type"].split("; boundary=")
    assert content_type == "multipart/form-data"
    parts = body.removesuffix(f"--{boundary}--\r\n".encode()).split(f"--{boundary}\r\n".encode())
    assert parts[1] == b'Content-Disposition: form-data; name="from"\r\n\r\nshop@example.com\r\n'
    assert parts[-2:] == [
        (
            'Content-Disposition: form-data; name="attachment"; filename="café.txt"\r\n'
            'Content-Type: text/plain; charset="utf-8"\r\n\r\npièce\r\n'
        ).encode(),
        b'Content-Disposition: form-data; name="attachment"; filename="attachment.txt"\r\n'
        b'Content-Type: text/plain; charset="iso-8859-1"\r\n\r\npi\xe8ce\r\n',
    ]


def test_inline_image() -> None:
    made = message(html="<img>")
    cid = attach_inline_image(made, PNG, "logo.png", domain="example.com")
    [file] = form_of(request_of(MAILGUN.deliver(outgoing_mail(made))))[1]
    assert file == FormFile("inline", cid, "image/png", PNG)


def test_attached_message() -> None:
    made = message()
    made.attachments.append(EmailMessage("Inner", "Hello", "a@example.com", ["b@example.com"]))
    body = bytes(request_of(MAILGUN.deliver(outgoing_mail(made))).body)
    assert b'name="attachment"; filename="attachment.eml"\r\nContent-Type: message/rfc822\r\n\r\n' in body
    assert b"Subject: Inner" in body


# The options, a message's attributes, and the URL.
US, EU = "https://api.mailgun.net/v3/", "https://api.eu.mailgun.net/v3"
URLS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "from": ({}, {"from_email": "a@x.example, b@y.example"}, f"{US}x.example/messages"),
    "from, encoded": ({}, {"from_email": "a@bücher.example"}, f"{US}xn--bcher-kva.example/messages"),
    "header from": ({}, {"headers": {"From": "a@x.example"}}, f"{US}example.com/messages"),
    "setting": ({"sender_domain": "mg.example.com"}, {}, f"{US}mg.example.com/messages"),
    # Only what the message says itself beats the setting.
    "header from, and setting": (
        {"sender_domain": "mg.example.com"},
        {"headers": {"From": "a@x.example"}},
        f"{US}mg.example.com/messages",
    ),
    "envelope sender": (
        {"sender_domain": "mg.example.com"},
        {"envelope_sender": "bounces@out.example.com"},
        f"{US}out.example.com/messages",
    ),
    "esp_extra": (
        {},
        {"envelope_sender": "b@out.example.com", "esp_extra": {"sender_domain": "x.example"}},
        f"{US}x.example/messages",
    ),
    "EU": ({"api_url": EU}, {}, f"{EU}/example.com/messages"),
    "one segment": ({"sender_domain": "a?b#c%d é"}, {}, f"{US}a%3Fb%23c%25d%20%C3%A9/messages"),
}


@pytest.mark.parametrize(("options", "attributes", "url"), URLS.values(), ids=URLS.keys())
def test_url(options: dict[str, Any], attributes: dict[str, Any], url: str) -> None:
    esp = make_esp(Mailgun, api_key="key-test", **options)
    assert request_of(esp.deliver(mail(**attributes))).url == url


@pytest.mark.parametrize("domain", ["example.com/x", "x/../y", "example.com%2fx", "example.com%2Fx", "..", "."])
def test_sender_domain_that_leads_elsewhere(domain: str) -> None:
    esp = make_esp(Mailgun, api_key="key-test", sender_domain=domain)
    with pytest.raises(AnymailError, match="cannot be a Mailgun sender domain"):
        request_of(esp.deliver(mail()))


def test_no_sender_domain() -> None:
    with pytest.raises(AnymailError, match="MAILGUN_SENDER_DOMAIN"):
        request_of(MAILGUN.deliver(mail(from_email=None, **TEMPLATE)))


def test_subaccount() -> None:
    esp = make_esp(Mailgun, api_key="key-test", subaccount="646d00a1")
    assert request_of(esp.deliver(mail())).headers["X-Mailgun-On-Behalf-Of"] == "646d00a1"
    request = request_of(esp.deliver(mail(esp_extra={"subaccount": "other"})))
    assert request.headers["X-Mailgun-On-Behalf-Of"] == "other"


@override_settings(MAILGUN_API_KEY="bare", MAILGUN_SENDER_DOMAIN="bare.example", MAILGUN_API_URL="https://not.example")
def test_bare_settings() -> None:
    options = load(MailgunOptions, ("MAILGUN",), {})
    assert (options.api_key.reveal(), options.sender_domain) == ("bare", "bare.example")
    assert options.api_url == "https://api.mailgun.net/v3/"
    assert EmailBackend.esp is Mailgun


NAMELESS = MIMEImage(PNG, "png")
NAMELESS["Content-Disposition"] = "inline"
UNSUPPORTED: dict[str, dict[str, Any]] = {
    "a To header in extra_headers": {"headers": {"To": "all@example.com"}},
    "alternative part with type 'text/calendar'": {"alternatives": [("x", "text/calendar")]},
    "a non-ASCII local part (EAI) in from_email": {"from_email": "josé@example.com"},
    "inline attachments without a Content-ID": {"attachments": [NAMELESS]},
    "merge_data keys that begin with \"v:\" or \"h:\" ('h:B', 'v:a')": {
        "merge_data": {ANA: {"v:a": 1}},
        "merge_global_data": {"h:B": 1},
    },
    "lists and dicts in merge_data with template_id ('items')": {**TEMPLATE, "merge_data": {ANA: {"items": [1]}}},
    "merge_data and metadata with the same keys with template_id ('a', 'c')": {
        **TEMPLATE,
        "metadata": {"a": 1, "b": 1},
        "merge_metadata": {ANA: {"c": 1, "d": 1}},
        "merge_data": {ANA: {"a": 1}},
        "merge_global_data": {"c": 1},
    },
}


@pytest.mark.parametrize(("what", "attributes"), UNSUPPORTED.items(), ids=UNSUPPORTED.keys())
def test_unsupported(what: str, attributes: dict[str, Any]) -> None:
    one = mail(**attributes)
    [found] = [*check(one, Mailgun.supports), *MAILGUN.check(one)]
    assert found.what == what
    without = dataclasses.replace(one, **found.without)
    assert [*check(without, Mailgun.supports), *MAILGUN.check(without)] == []


def test_what_is_left_of_unsupported_merge_data() -> None:
    one = mail(
        **TEMPLATE,
        metadata={"a": 1, "b": 2},
        merge_metadata={ANA: {"a": 3, "c": 4}},
        merge_data={ANA: {"a": 5, "list": [1], "v:x": 6}},
    )
    reserved, nested, clash = MAILGUN.check(one)
    assert reserved.without["merge_data"] == {ANA: {"a": 5, "list": [1]}}
    assert nested.without["merge_data"] == {ANA: {"a": 5}}
    assert clash.without == {"metadata": {"b": 2}, "merge_metadata": {ANA: {"c": 4}}}


def test_merge_data_that_would_forge_a_header() -> None:
    evil = "x\r\nBcc: all@example.com"
    for attributes in (
        {"subject": "Hi %recipient.name%", "merge_data": {ANA: {"name": evil}}},
        {"subject": "Hi %recipient.name%", "merge_global_data": {"name": evil}},
        {"headers": {"X-Name": "%recipient.name%"}, "merge_global_data": {"name": evil}},
        {"merge_headers": {ANA: {"X-Name": "%recipient.name%"}}, "merge_data": {ANA: {"name": evil}}},
    ):
        with pytest.raises(AnymailInvalidValue, match="name"):
            request_of(MAILGUN.deliver(fitted(Mailgun, **attributes)))
    in_the_body = request_of(MAILGUN.deliver(mail(body="%recipient.name%", merge_global_data={"name": evil})))
    assert fields_of(in_the_body)["text"] == evil


def test_what_cannot_be_sent() -> None:
    for attributes, where in (
        ({"metadata": {"order": object()}}, "order"),
        ({"merge_data": {ANA: {"order": object()}}}, "order"),
        ({"merge_global_data": {"order": object()}, "body": "%recipient.order%"}, "order"),
        ({"esp_extra": {"o:tag": [object()]}}, "o:tag"),
    ):
        with pytest.raises(AnymailSerializationError, match=f"{where}.*object"):
            request_of(MAILGUN.deliver(fitted(Mailgun, **attributes)))


QUEUED = {"id": "<20260314092650.7d3f81c2a9b04e65@mg.example.com>", "message": "Queued. Thank you."}


@pytest.mark.parametrize("batch", [{}, {"merge_data": {}}])
def test_statuses(batch: dict[str, Any]) -> None:
    one = mail(to=[ANA, "Bo@bücher.example"], cc=["c@example.org"], bcc=["d@example.org"], **batch)
    _, recipients = drive(MAILGUN.deliver(one), answer(200, QUEUED))
    queued = ("queued", QUEUED["id"])
    assert statuses(recipients) == dict.fromkeys([ANA, "Bo@bücher.example", "c@example.org", "d@example.org"], queued)


def many(number: int, **attributes: Any) -> Any:
    return mail(to=[f"r{n}@example.com" for n in range(number)], **attributes)


def queued(number: int) -> Any:
    return answer(200, {**QUEUED, "id": f"<{number}@mg.example.com>"})


def test_a_batch_of_over_1000_takes_several_calls() -> None:
    one = many(2001, body="%recipient.points%", merge_data={"r2000@example.com": {"points": 7}})
    requests, recipients = drive(MAILGUN.deliver(one), queued(1), queued(2), queued(3))
    forms = [fields_of(request) for request in requests]
    assert [len(form["recipient-variables"]) for form in forms] == [1000, 1000, 1]
    assert [form["to"][0] for form in forms[:2]] == ["r0@example.com", "r1000@example.com"]
    # A key that another part's recipient has is filled in here too.
    assert forms[0]["recipient-variables"]["r0@example.com"] == {"points": ""}
    assert [recipients[f"r{n}@example.com"].message_id for n in (0, 999, 1000, 2000)] == [
        "<1@mg.example.com>", "<1@mg.example.com>", "<2@mg.example.com>", "<3@mg.example.com>",
    ]  # fmt: skip


def test_one_message_to_all_is_one_call() -> None:
    [request], _ = drive(MAILGUN.deliver(many(1001)), queued(1))
    assert "recipient-variables" not in fields_of(request)


# What a second call of three meets, how many calls are made, and the statuses in the second and the third.
SECOND_CALLS: dict[str, tuple[Any, int, list[str]]] = {
    "refused": (answer(400, {"message": "'to' parameter is not a valid address"}), 3, ["failed", "queued"]),
    "lost": (answer(502, "<html>"), 2, ["unknown", "failed"]),
    "unreadable": (answer(200, "<html>"), 3, ["unknown", "queued"]),
    "too many": (answer(429, {"message": "try again after 120 seconds"}), 2, ["failed", "failed"]),
}


@pytest.mark.parametrize(("second", "calls", "expected"), SECOND_CALLS.values(), ids=SECOND_CALLS.keys())
def test_what_a_part_meets(second: Any, calls: int, expected: list[str]) -> None:
    requests, recipients = drive(MAILGUN.deliver(many(2001, merge_data={})), queued(1), second, queued(3), leave=True)
    assert len(requests) == calls
    found = [recipients[f"r{n}@example.com"] for n in (0, 999, 1000, 2000)]
    assert [one.status for one in found] == ["queued", "queued", *expected]
    assert [one.error is not None for one in found] == [one.status != "queued" for one in found]


INVALID = {"message": "'to' parameter is not a valid address. please check documentation"}
LIMIT = {
    "message": "Domain mg.example.com is not allowed to send: account-requests-per-sec limit exceeded, "
    "try again after 120 seconds"
}

# The answer, and the error's sent, category and retryable, and a word of its text.
ERRORS: dict[str, tuple[Any, bool | None, str, bool, str]] = {
    "bad address": (answer(400, INVALID), False, "invalid", False, "not a valid address"),
    "bad key": (answer(401, "Forbidden"), False, "auth", False, "Forbidden"),
    "bad key, in JSON": (answer(401, '"Forbidden"'), False, "auth", False, r"401: Forbidden\."),
    "bad key, in an object": (answer(401, {"message": "Invalid private key"}), False, "auth", False, "private key"),
    "forbidden": (answer(403, {"message": "Domain is disabled"}), False, "auth", False, "disabled"),
    "no such domain": (answer(404, {"message": "Domain not found: x"}), False, "invalid", False, "MAILGUN_API_URL"),
    "too large": (answer(413, "Request Entity Too Large"), False, "invalid", False, "Too Large"),
    "too many": (answer(429, LIMIT), False, "rate_limit", True, "limit exceeded"),
    "its fault": (answer(500, {"message": "Internal Server Error"}), None, "server", False, "Internal"),
    "gateway": (answer(502, "<html>"), None, "server", False, "html"),
    "maintenance": (answer(503, ""), None, "server", False, "nothing"),
    "wrong endpoint": (answer(200, "Mailgun Magnificent API"), False, "invalid", False, "Invalid Mailgun API endpoint"),
    "not JSON": (answer(200, "<html>"), True, "unreadable", False, "JSON"),
    "no id": (answer(200, {"message": "Queued. Thank you."}), True, "unreadable", False, "queued"),
    "id of another type": (answer(200, {**QUEUED, "id": 7}), True, "unreadable", False, "queued"),
    "not queued": (answer(200, {**QUEUED, "message": "Hello"}), True, "unreadable", False, "queued"),
    "a list": (answer(200, [1]), True, "unreadable", False, "queued"),
}


@pytest.mark.parametrize(("response", "sent", "category", "retryable", "text"), ERRORS.values(), ids=ERRORS.keys())
def test_errors(response: Any, sent: bool | None, category: str, retryable: bool, text: str) -> None:
    with pytest.raises(AnymailAPIError, match=text) as raised:
        drive(MAILGUN.deliver(mail()), response)
    error = raised.value
    assert (error.sent, error.category, error.retryable) == (sent, category, retryable)
    assert "key-test" not in f"{error!r} {error}"


DATE = {"Date": "Sat, 14 Mar 2026 12:00:00 GMT"}
PAUSES: dict[str, tuple[Any, dict[str, str], float | None]] = {
    "in the text": (LIMIT, {}, 120.0),
    "in other words": ({"message": "Limit exceeded.\nTry again  in 5 Seconds."}, {}, 5.0),
    "Retry-After": (LIMIT, {"Retry-After": "5"}, 5.0),
    "X-RateLimit-Reset": ("", {**DATE, "X-RateLimit-Reset": "1773489630"}, 30.0),
    "in the past": ("", {**DATE, "X-RateLimit-Reset": "1"}, 0.0),
    "no clock": ("", {"X-RateLimit-Reset": "1773489630"}, None),
    "no number": ("", {**DATE, "X-RateLimit-Reset": "soon"}, None),
    "nothing": ("", {}, None),
}


@pytest.mark.parametrize(("content", "headers", "seconds"), PAUSES.values(), ids=PAUSES.keys())
def test_how_long_to_wait(content: Any, headers: dict[str, str], seconds: float | None) -> None:
    assert MAILGUN.api_error(answer(429, content, headers)).retry_after == seconds
