"""Amazon SES: messages and the exact requests they become, answers and the statuses they become."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import tracemalloc
from base64 import b64decode
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest

from anymail.conf import load
from anymail.esps.amazon_ses import signing
from anymail.esps.amazon_ses.sending import AmazonSES
from anymail.esps.amazon_ses.signing import AWS
from anymail.exceptions import (
    AnymailAPIError,
    AnymailConfigurationError,
    AnymailInvalidValue,
    AnymailNotSupportedWarning,
    AnymailSerializationError,
    AnymailTransportError,
)
from anymail.mail.message import outgoing_mail
from anymail.mail.supports import check
from anymail.message import attach_inline_image
from anymail.wire import Chunks, Request
from support import PNG, answer, drive, fitted, json_of, mail, make_esp, message, request_of, statuses

PARAMS = {
    "region_name": "us-east-1",
    "aws_access_key_id": "AKIDEXAMPLE0000001",
    "aws_secret_access_key": "example-secret-key-0123456789",
}
SES = make_esp(AmazonSES, client_params=PARAMS)
FULL = make_esp(AmazonSES, client_params=PARAMS, configuration_set_name="shop-events", message_tag_name="campaign")
SEND, BULK = "/v2/email/outbound-emails", "/v2/email/outbound-bulk-emails"


def utf8(text: str) -> dict[str, str]:
    return {"Data": text, "Charset": "UTF-8"}


def headers(**values: str) -> list[dict[str, str]]:
    return [{"Name": name.replace("_", "-"), "Value": value} for name, value in values.items()]


SIMPLE = {"Subject": utf8("Hi"), "Body": {"Text": utf8("Hello")}}
BASE = {
    "FromEmailAddress": "shop@example.com",
    "Destination": {"ToAddresses": ["ana@example.net"]},
    "Content": {"Simple": SIMPLE},
}
TEMPLATE = {"subject": None, "body": "", "template_id": "order-shipped"}


def entry(to: str | None, data: str = "{}", **more: Any) -> dict[str, Any]:
    own = {key: more.pop(key) for key in ("CcAddresses", "BccAddresses") if key in more}
    return {
        "Destination": {**({"ToAddresses": [to]} if to else {}), **own},
        "ReplacementEmailContent": {"ReplacementTemplate": {"ReplacementTemplateData": data}},
        **more,
    }


def templated(*entries: dict[str, Any], template: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "FromEmailAddress": "shop@example.com",
        "DefaultContent": {"Template": template or {"TemplateName": "order-shipped"}},
        "BulkEmailEntries": list(entries),
        **more,
    }


# A message's attributes, and the path and body of its request.
REQUESTS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "plain": ({}, SEND, BASE),
    "names and domains": (
        {
            "from_email": "Example Shop <shop@example.com>",
            "to": ["Ana López <ana@example.net>", "post@bücher.example.com"],
            "cc": ["Team <team@example.org>"],
            "bcc": ["Archive <archive@example.org>"],
            "reply_to": ["help@example.com", '"Orders, EU" <orders@example.com>'],
            "subject": "Rechnung für A-1042",
        },
        SEND,
        {
            "FromEmailAddress": "Example Shop <shop@example.com>",
            "Destination": {
                "ToAddresses": ["=?utf-8?q?Ana_L=C3=B3pez?= <ana@example.net>", "post@xn--bcher-kva.example.com"],
                "CcAddresses": ["Team <team@example.org>"],
                "BccAddresses": ["archive@example.org"],
            },
            "ReplyToAddresses": ["help@example.com", '"Orders, EU" <orders@example.com>'],
            "Content": {"Simple": {**SIMPLE, "Subject": utf8("Rechnung für A-1042")}},
        },
    ),
    "html and headers": (
        {"html": "<p>Grüße", "headers": {"X-Shop": 7}},
        SEND,
        {
            **BASE,
            "Content": {
                "Simple": {
                    **SIMPLE,
                    "Body": {"Text": utf8("Hello"), "Html": utf8("<p>Grüße")},
                    "Headers": headers(X_Shop="7"),
                }
            },
        },
    ),
    "html only": (
        {"body": "<p>Hello", "content_subtype": "html"},
        SEND,
        {**BASE, "Content": {"Simple": {**SIMPLE, "Body": {"Html": utf8("<p>Hello")}}}},
    ),
    "attachments": (
        {"attach": [("A-1042.pdf", b"%PDF-1.7\n", "application/pdf"), ("note.txt", "Grüße", "text/plain")]},
        SEND,
        {
            **BASE,
            "Content": {
                "Simple": {
                    **SIMPLE,
                    "Attachments": [
                        {
                            "RawContent": "JVBERi0xLjcK",
                            "ContentDisposition": "ATTACHMENT",
                            "FileName": "A-1042.pdf",
                            "ContentTransferEncoding": "BASE64",
                            "ContentType": "application/pdf",
                        },
                        {
                            "RawContent": "R3LDvMOfZQ==",
                            "ContentDisposition": "ATTACHMENT",
                            "FileName": "note.txt",
                            "ContentTransferEncoding": "BASE64",
                            "ContentType": 'text/plain; charset="utf-8"',
                        },
                    ],
                }
            },
        },
    ),
    "labels and switches": (
        {"metadata": {"order": "A-1042", "für": 7}, "tags": ["receipt"], "track_opens": True, "track_clicks": False},
        SEND,
        {
            **BASE,
            "Content": {
                "Simple": {
                    **SIMPLE,
                    "Headers": headers(X_Metadata='{"order": "A-1042", "f\\u00fcr": 7}', X_Tag="receipt"),
                }
            },
            "ConfigurationOverrides": {
                "Tracking": {"OpenTrackingEnabled": "ENABLED", "ClickTrackingEnabled": "DISABLED"}
            },
        },
    ),
    "envelope sender": (
        {"envelope_sender": "Bounces <bounces@example.com>"},
        SEND,
        {**BASE, "FeedbackForwardingEmailAddress": "bounces@example.com"},
    ),
    "only cc and bcc": (
        {"to": [], "cc": ["team@example.org"], "bcc": ["a@example.org"]},
        SEND,
        {**BASE, "Destination": {"CcAddresses": ["team@example.org"], "BccAddresses": ["a@example.org"]}},
    ),
    "esp_extra": (
        {
            "track_opens": True,
            "esp_extra": {
                "FromEmailAddressIdentityArn": "arn:aws:ses:us-east-1:111122223333:identity/example.com",
                "TenantName": "shop",
                "ListManagementOptions": {"ContactListName": "news"},
                "ConfigurationOverrides": {"Tracking": {"ClickTrackingEnabled": "DISABLED"}},
            },
        },
        SEND,
        {
            **BASE,
            "FromEmailAddressIdentityArn": "arn:aws:ses:us-east-1:111122223333:identity/example.com",
            "TenantName": "shop",
            "ListManagementOptions": {"ContactListName": "news"},
            "ConfigurationOverrides": {
                "Tracking": {"OpenTrackingEnabled": "ENABLED", "ClickTrackingEnabled": "DISABLED"}
            },
        },
    ),
    "one of a batch": (
        {
            "to": ["ana@example.net", "bo@example.org"],
            "cc": ["team@example.org"],
            "metadata": {"tier": "gold"},
            "merge_metadata": {"ana@example.net": {"order": "1"}},
            "headers": {"X-Shop": "7", "List-Unsubscribe": "<https://example.com/u>"},
            "merge_headers": {"ana@example.net": {"list-unsubscribe": "<https://example.com/u/ana>"}},
        },
        SEND,
        {
            **BASE,
            "Destination": {"ToAddresses": ["ana@example.net"], "CcAddresses": ["team@example.org"]},
            "Content": {
                "Simple": {
                    **SIMPLE,
                    "Headers": headers(
                        X_Shop="7",
                        list_unsubscribe="<https://example.com/u/ana>",
                        X_Metadata='{"tier": "gold", "order": "1"}',
                    ),
                }
            },
        },
    ),
    "template": (
        {**TEMPLATE, "to": ["Ana López <ana@example.net>"], "merge_global_data": {"shop": "Example", "year": 2026}},
        BULK,
        templated(
            entry("=?utf-8?q?Ana_L=C3=B3pez?= <ana@example.net>"),
            template={"TemplateName": "order-shipped", "TemplateData": '{"shop": "Example", "year": 2026}'},
        ),
    ),
    "template with everything": (
        {
            **TEMPLATE,
            "from_email": "Example Shop <shop@example.com>",
            "to": ["ana@example.net", "Bo Li <bo@example.org>"],
            "cc": ["Team <team@example.org>"],
            "bcc": ["archive@example.org"],
            "reply_to": ["help@example.com", '"Orders, EU" <orders@example.com>'],
            "envelope_sender": "bounces@example.com",
            "merge_global_data": {"shop": "Example Shop"},
            "merge_data": {"ana@example.net": {"name": "Ana", "order": "A-1042"}},
            "headers": {"X-Shop": 7},
            "merge_headers": {"ana@example.net": {"List-Unsubscribe": "<https://example.com/u/ana>"}},
            "metadata": {"tier": "gold"},
            "merge_metadata": {"ana@example.net": {"order_id": "A-1042"}},
            "tags": ["receipt"],
            "track_clicks": True,
        },
        BULK,
        templated(
            entry(
                "ana@example.net",
                '{"name": "Ana", "order": "A-1042"}',
                CcAddresses=["Team <team@example.org>"],
                BccAddresses=["archive@example.org"],
                ReplacementHeaders=headers(
                    X_Shop="7",
                    List_Unsubscribe="<https://example.com/u/ana>",
                    X_Metadata='{"tier": "gold", "order_id": "A-1042"}',
                    X_Tag="receipt",
                ),
            ),
            entry(
                "Bo Li <bo@example.org>",
                CcAddresses=["Team <team@example.org>"],
                BccAddresses=["archive@example.org"],
                ReplacementHeaders=headers(X_Shop="7", X_Metadata='{"tier": "gold"}', X_Tag="receipt"),
            ),
            template={"TemplateName": "order-shipped", "TemplateData": '{"shop": "Example Shop"}'},
            FromEmailAddress="Example Shop <shop@example.com>",
            ReplyToAddresses=["help@example.com", '"Orders, EU" <orders@example.com>'],
            FeedbackForwardingEmailAddress="bounces@example.com",
            ConfigurationOverrides={"Tracking": {"ClickTrackingEnabled": "ENABLED"}},
        ),
    ),
    "template by its ARN, with an attachment": (
        {
            **TEMPLATE,
            "template_id": "arn:aws:ses:us-east-1:111122223333:template/x",
            "attach": [("", b"x", "application/pdf")],
        },
        BULK,
        templated(
            entry("ana@example.net"),
            template={
                "TemplateArn": "arn:aws:ses:us-east-1:111122223333:template/x",
                "Attachments": [
                    {
                        "RawContent": "eA==",
                        "ContentDisposition": "ATTACHMENT",
                        "FileName": "attachment.pdf",
                        "ContentTransferEncoding": "BASE64",
                        "ContentType": "application/pdf",
                    }
                ],
            },
        ),
    ),
    "template without to": (
        {**TEMPLATE, "to": [], "cc": ["team@example.org"]},
        BULK,
        templated(entry(None, CcAddresses=["team@example.org"])),
    ),
    "headers of a template in ASCII": (
        {**TEMPLATE, "headers": {"X-Shop": "Bücher"}, "tags": ["grün", "b"]},
        BULK,
        templated(
            entry(
                "ana@example.net",
                ReplacementHeaders=[
                    *headers(X_Shop="=?utf-8?q?B=C3=BCcher?=", X_Tag="=?utf-8?b?Z3LDvG4=?="),
                    *headers(X_Tag="b"),
                ],
            )
        ),
    ),
    "merge data without a stored template": (
        {
            "subject": "Hi {{name}}",
            "html": "<p>{{name}}",
            "to": ["ana@example.net", "bo@example.org"],
            "merge_data": {"ana@example.net": {"name": "Ana"}},
            "merge_global_data": {"name": "you"},
        },
        BULK,
        templated(
            entry("ana@example.net", '{"name": "Ana"}'),
            entry("bo@example.org"),
            template={
                "TemplateContent": {"Subject": "Hi {{name}}", "Text": "Hello", "Html": "<p>{{name}}"},
                "TemplateData": '{"name": "you"}',
            },
        ),
    ),
    "global data alone merges one message for all": (
        {"to": ["ana@example.net", "bo@example.org"], "merge_global_data": {"shop": "Example"}},
        BULK,
        templated(
            {**entry(None), "Destination": {"ToAddresses": ["ana@example.net", "bo@example.org"]}},
            template={"TemplateContent": {"Subject": "Hi", "Text": "Hello"}, "TemplateData": '{"shop": "Example"}'},
        ),
    ),
}


@pytest.mark.parametrize(("attributes", "path", "body"), REQUESTS.values(), ids=REQUESTS.keys())
def test_request(attributes: dict[str, Any], path: str, body: Any) -> None:
    request = request_of(SES.deliver(mail(**attributes)))
    assert request.method == "POST"
    assert request.url == f"https://email.us-east-1.amazonaws.com{path}"
    assert request.headers["Content-Type"] == "application/json"
    assert json_of(request) == body


@pytest.mark.parametrize(
    ("attributes", "tags"),
    [({"tags": ["receipt"]}, "EmailTags"), ({**TEMPLATE, "tags": ["receipt"]}, "DefaultEmailTags")],
)
def test_settings_in_the_request(attributes: dict[str, Any], tags: str) -> None:
    body = json_of(request_of(FULL.deliver(mail(**attributes))))
    assert body["ConfigurationSetName"] == "shop-events"
    assert body[tags] == [{"Name": "campaign", "Value": "receipt"}]
    body = json_of(request_of(FULL.deliver(mail(**attributes, esp_extra={"ConfigurationSetName": "other"}))))
    assert body["ConfigurationSetName"] == "other"


def test_inline_image() -> None:
    made = message(html="<img>")
    cid = attach_inline_image(made, PNG, "logo.png", domain="example.com")
    [attachment] = json_of(request_of(SES.deliver(outgoing_mail(made))))["Content"]["Simple"]["Attachments"]
    assert (attachment["ContentDisposition"], attachment["ContentId"]) == ("INLINE", cid)


# What Content.Simple cannot express, or is not known to.
RAW: dict[str, dict[str, Any]] = {
    "AMP": {"alternatives": [("<html amp4email>Grüße", "text/x-amp-html")]},
    "another alternative": {"alternatives": [("BEGIN:VCALENDAR", "text/calendar; method=REQUEST")]},
    "bytes as alternative": {"alternatives": [(b"\x00\xff", "application/x-data")]},
    "a spoofed To": {"headers": {"To": "Everybody ü <all@example.com>"}},
    "over 15 headers": {"headers": {f"X-{n}": "x" for n in range(16)}},
    "a long header": {"headers": {"X-Long": "word " * 250}},
    "a header not in ASCII": {"headers": {"X-Shop": "Bücher " * 30}},
    "a header of SES's own": {"headers": {"X-SES-MESSAGE-TAGS": "a=b"}},
    "a header that SES makes": {"headers": {"Message-ID": "<1@example.com>"}},
    "several tags": {"tags": ["a", "b"]},
    "no subject": {"subject": ""},
    "no body": {"body": ""},
    "a nameless attachment": {"attach": [("", b"x", "image/png")]},
    "an empty attachment": {"attach": [("a.txt", b"", "text/plain")]},
    "a name not in ASCII": {"attach": [("käse.csv", "ü", "text/csv")]},
    "an attached message": {"attach": [("m.eml", b"Subject: x\n\nGr\xfc\xdfe\n", "message/rfc822")]},
}


def mime_of(request: Request) -> tuple[bytes, EmailMessage]:
    raw = b64decode(json_of(request)["Content"]["Raw"]["Data"])
    parsed = message_from_bytes(raw, policy=default)
    assert isinstance(parsed, EmailMessage)
    return raw, parsed


@pytest.mark.parametrize("attributes", RAW.values(), ids=RAW.keys())
def test_raw_is_ascii_and_complete(attributes: dict[str, Any]) -> None:
    request = request_of(SES.deliver(mail(**attributes)))
    body = json_of(request)
    assert body.keys() == {"Destination", "Content"}
    assert body["Destination"] == {"ToAddresses": ["ana@example.net"]}
    raw, parsed = mime_of(request)
    assert raw.isascii()
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert not parsed.defects
    assert parsed["From"] == "shop@example.com"
    for name, value in attributes.get("headers", {}).items():
        assert " ".join(str(parsed[name]).split()) == " ".join(str(value).split())


@pytest.mark.parametrize("name", ["Content-Type", "MIME-Version", "Content-Transfer-Encoding"])
def test_a_header_of_the_body_is_refused(name: str) -> None:
    with pytest.raises(AnymailInvalidValue, match=name):
        request_of(SES.deliver(mail(headers={name: "x"})))


def test_the_type_of_an_alternative_is_checked_as_a_header_is() -> None:
    for control in "\0\x1b\n":
        with pytest.raises(AnymailInvalidValue):
            request_of(SES.deliver(mail(alternatives=[("x", f"text/calendar; method={control}")])))


def test_addresses_in_other_headers_are_encoded_name_by_name() -> None:
    header = {"Disposition-Notification-To": "Ana López <ana@bücher.example>"}
    expected = "=?utf-8?q?Ana_L=C3=B3pez?= <ana@xn--bcher-kva.example>"
    [templated] = json_of(request_of(SES.deliver(mail(**TEMPLATE, headers=header))))["BulkEmailEntries"]
    assert templated["ReplacementHeaders"] == headers(Disposition_Notification_To=expected)
    raw, _ = mime_of(request_of(SES.deliver(mail(headers=header))))
    assert f"Disposition-Notification-To: {expected}".encode() in raw.replace(b"\r\n ", b" ")


RICH = {
    "from_email": "Example Shop <shop@example.com>",
    "to": ['"López, Ana" <ana@example.net>', "post@bücher.example.com"],
    "cc": ["team@example.org"],
    "bcc": ["archive@example.org"],
    "reply_to": ["help@example.com", '"Orders, EU" <orders@example.com>'],
    "subject": "Rechnung für A-1042",
    "body": "Grüße",
    "alternatives": [("<html amp4email>", "text/x-amp-html"), ("BEGIN", "text/calendar; method=REQUEST")],
    "headers": {"X-Shop": 7, "List-Unsubscribe": f"<https://example.com/{'a' * 100}>"},
    "metadata": {"order_id": "A-1042", "tier": "für dich"},
    "tags": ["receipt", "grün"],
    "envelope_sender": "bounces@example.com",
}


def test_a_rich_raw_message() -> None:
    made = message(html="<p>Käse <img>", **RICH, attach=[("käse.pdf", b"%PDF\n", "application/pdf")])
    cid = attach_inline_image(made, PNG, "logo.png", domain="example.com")
    request = request_of(SES.deliver(outgoing_mail(made)))
    assert json_of(request)["Destination"] == {
        "ToAddresses": ["ana@example.net", "post@xn--bcher-kva.example.com"],
        "CcAddresses": ["team@example.org"],
        "BccAddresses": ["archive@example.org"],
    }
    assert json_of(request)["FeedbackForwardingEmailAddress"] == "bounces@example.com"
    raw, parsed = mime_of(request)
    assert [(one.display_name, one.addr_spec) for one in parsed["To"].addresses] == [
        ("López, Ana", "ana@example.net"),
        ("", "post@xn--bcher-kva.example.com"),
    ]
    assert {
        name: str(parsed[name]) for name in ("From", "Cc", "Reply-To", "Subject", "X-Shop", "List-Unsubscribe")
    } == {
        "From": "Example Shop <shop@example.com>",
        "Cc": "team@example.org",
        "Reply-To": 'help@example.com, "Orders, EU" <orders@example.com>',
        "Subject": "Rechnung für A-1042",
        "X-Shop": "7",
        "List-Unsubscribe": f"<https://example.com/{'a' * 100}>",
    }
    assert json.loads(parsed["X-Metadata"]) == {"order_id": "A-1042", "tier": "für dich"}
    assert parsed.get_all("X-Tag") == ["receipt", "grün"]
    assert "Bcc" not in parsed
    assert b"archive@" not in raw
    assert f"<https://example.com/{'a' * 100}>".encode() in raw
    assert [part.get_content_type() for part in parsed.walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "text/x-amp-html",
        "multipart/related",
        "text/html",
        "image/png",
        "text/calendar",
        "application/pdf",
    ]
    image, calendar, pdf = list(parsed.walk())[-3:]
    assert image["Content-ID"] == f"<{cid}>"
    assert (image.get_content_disposition(), image.get_payload(decode=True)) == ("inline", PNG)
    assert calendar["Content-Type"].params["method"] == "REQUEST"
    assert (pdf.get_filename(), pdf.get_payload(decode=True)) == ("käse.pdf", b"%PDF\n")
    assert parsed.get_body(("plain",)).get_content() == "Grüße\r\n"  # type: ignore[union-attr]


UNSUPPORTED = {
    "send_at": {"send_at": 1_800_000_000},
    "multiple from_email addresses": {"from_email": "a@example.com, b@example.com"},
    "a non-ASCII local part (EAI) in to": {"to": ["josé@example.com"]},
    "subject with template_id": {**TEMPLATE, "subject": "Hi"},
    "alternative part with type 'text/calendar' with template_id": {
        **TEMPLATE,
        "alternatives": [("x", "text/calendar")],
    },
    "alternatives with merge data": {
        "alternatives": [("x", "text/calendar")],
        "merge_data": {"ana@example.net": {"name": "Ana"}},
    },
    "a To header in extra_headers with template_id": {**TEMPLATE, "headers": {"To": "all@example.com"}},
    "multiple tags with the AMAZON_SES_MESSAGE_TAG_NAME setting": {"tags": ["a", "b"]},
}


@pytest.mark.parametrize(("what", "attributes"), UNSUPPORTED.items(), ids=UNSUPPORTED.keys())
def test_unsupported(what: str, attributes: dict[str, Any]) -> None:
    one = fitted(AmazonSES, **attributes)
    assert [found.what for found in (*check(one, AmazonSES.supports), *FULL.check(one))] == [what]


def test_bodies_beside_a_template_are_left_out() -> None:
    amp = ("<html amp4email>", "text/x-amp-html")
    one = fitted(AmazonSES, **{**TEMPLATE, "body": "Hi"}, html="<p>Hi", alternatives=[amp])
    assert list(check(one, AmazonSES.supports)) == list(SES.check(one)) == []
    assert json_of(request_of(SES.deliver(one))) == templated(entry("ana@example.net"))


def test_several_tags_without_that_setting() -> None:
    assert not list(SES.check(mail(tags=["a", "b"])))


OK = {"MessageId": "id-1"}
QUEUED, FAILED, UNKNOWN = ("queued", "id-1"), ("failed", None), ("unknown", None)
TWO = {"to": ["ana@example.net", "Bo@Bücher.example"]}
ANA, BO = TWO["to"]


def results(*items: dict[str, Any]) -> Any:
    return answer(200, {"BulkEmailEntryResults": list(items)})


def success(message_id: str = "id-1") -> dict[str, Any]:
    return {"Status": "SUCCESS", "MessageId": message_id}


REFUSED = answer(400, {"message": "Bad"}, {"x-amzn-errortype": "MessageRejected"})

# A message's attributes, the answers, and the recipients' statuses.
ANSWERS: dict[str, tuple[dict[str, Any], list[Any], dict[str, Any]]] = {
    "accepted": (
        {**TWO, "cc": ["c@example.org"], "bcc": ["d@example.org"]},
        [answer(200, OK)],
        {ANA: QUEUED, BO: QUEUED, "c@example.org": QUEUED, "d@example.org": QUEUED},
    ),
    "template": (
        {**TEMPLATE, **TWO, "cc": ["c@example.org"]},
        [results(success("id-1"), success("id-2"))],
        {ANA: QUEUED, BO: ("queued", "id-2"), "c@example.org": QUEUED},
    ),
    "one entry fails": (
        {**TEMPLATE, **TWO, "cc": ["c@example.org"]},
        [results({"Status": "MESSAGE_REJECTED", "Error": "No"}, success("id-2"))],
        {ANA: FAILED, BO: ("queued", "id-2"), "c@example.org": ("queued", "id-2")},
    ),
    "batch": (
        {**TWO, "merge_metadata": {}},
        [answer(200, OK), answer(200, {"MessageId": "id-2"})],
        {ANA: QUEUED, BO: ("queued", "id-2")},
    ),
    "one of a batch fails": (
        {**TWO, "merge_metadata": {}, "bcc": ["d@example.org"]},
        [REFUSED, answer(200, OK)],
        {ANA: FAILED, BO: QUEUED, "d@example.org": QUEUED},
    ),
    "one of a batch may have been sent": (
        {"to": [ANA, BO, "cy@example.org"], "merge_headers": {}, "bcc": ["d@example.org"]},
        [answer(200, OK), AnymailTransportError("?", category="timeout", sent=None)],
        {ANA: QUEUED, BO: UNKNOWN, "cy@example.org": FAILED, "d@example.org": QUEUED},
    ),
    "one entry cannot be read": (
        {**TEMPLATE, **TWO},
        [results({"Status": "SUCCESS"}, success("id-2"))],
        {ANA: UNKNOWN, BO: ("queued", "id-2")},
    ),
    "the rest of a batch is not tried in vain": (
        {"to": [ANA, BO, "cy@example.org"], "merge_data": {}},
        [answer(200, OK), answer(403, {"message": "No"}, {"x-amzn-errortype": "AccessDeniedException"})],
        {ANA: QUEUED, BO: FAILED, "cy@example.org": FAILED},
    ),
    "empty merge data is no template": (
        {**TWO, "merge_data": {ANA: {}}},
        [answer(200, OK), answer(200, {"MessageId": "id-2"})],
        {ANA: QUEUED, BO: ("queued", "id-2")},
    ),
}


@pytest.mark.parametrize(("attributes", "answers", "expected"), ANSWERS.values(), ids=ANSWERS.keys())
def test_statuses(attributes: dict[str, Any], answers: list[Any], expected: dict[str, Any]) -> None:
    _, recipients = drive(SES.deliver(mail(**attributes)), *answers)
    assert statuses(recipients) == expected


def error(status: int, name: str, text: str = "No.") -> Any:
    return answer(status, {"message": text}, {"x-amzn-errortype": name})


XML = "<ErrorResponse><Error><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>"

# The answer, and the error's sent, category and retryable.
ERRORS: dict[str, tuple[dict[str, Any], Any, bool | None, str, bool]] = {
    "rejected": ({}, REFUSED, False, "invalid", False),
    "bad request": ({}, error(400, "BadRequestException"), False, "invalid", False),
    "sender": ({}, error(400, "MailFromDomainNotVerifiedException"), False, "invalid", False),
    "suspended": ({}, error(400, "AccountSuspendedException"), False, "auth", False),
    "not found": ({}, error(404, "NotFoundException"), False, "invalid", False),
    "limit": ({}, error(400, "LimitExceededException"), False, "quota", False),
    "rate": ({}, error(429, "TooManyRequestsException", "Maximum sending rate exceeded."), False, "rate_limit", True),
    "day": ({}, error(429, "TooManyRequestsException", "Daily message quota exceeded."), False, "quota", False),
    "throttled": ({}, error(400, "ThrottlingException"), False, "rate_limit", True),
    "throttled in XML": ({}, answer(400, XML), False, "rate_limit", True),
    "bad key": ({}, error(403, "UnrecognizedClientException"), False, "auth", False),
    "bad key, 400": ({}, error(400, "UnrecognizedClientException:http://internal/x"), False, "auth", False),
    "type in the body": ({}, answer(400, {"__type": "com.amazon#ExpiredTokenException"}), False, "auth", False),
    "its fault": ({}, error(500, "InternalServiceErrorException"), None, "server", False),
    "maintenance": ({}, error(503, "ServiceUnavailable"), None, "server", False),
    "not JSON": ({}, answer(200, "<html>"), True, "unreadable", False),
    "no id": ({}, answer(200, {}), True, "unreadable", False),
    "a list": ({}, answer(200, [1]), True, "unreadable", False),
    "all entries alike": (TEMPLATE, results({"Status": "TEMPLATE_NOT_FOUND"}), False, "invalid", False),
    "all throttled": (TEMPLATE, results({"Status": "ACCOUNT_THROTTLED"}), False, "rate_limit", True),
    "all transient": (TEMPLATE, results({"Status": "TRANSIENT_FAILURE"}), False, "server", True),
    "all over quota": (TEMPLATE, results({"Status": "ACCOUNT_DAILY_QUOTA_EXCEEDED"}), False, "quota", False),
    "too few results": (TEMPLATE, results(), True, "unreadable", False),
    "success without id": (TEMPLATE, results({"Status": "SUCCESS"}), True, "unreadable", False),
    "result of another shape": (TEMPLATE, results([]), True, "unreadable", False),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(
    ("attributes", "response", "sent", "category", "retryable"), ERRORS.values(), ids=ERRORS.keys()
)
def test_errors(attributes: dict[str, Any], response: Any, sent: bool | None, category: str, retryable: bool) -> None:
    with pytest.raises(AnymailAPIError) as raised:
        drive(SES.deliver(mail(**attributes)), response)
    found = raised.value
    assert (found.sent, found.category, found.retryable) == (sent, category, retryable)


def test_errors_quote_ses() -> None:
    with pytest.raises(AnymailAPIError, match=r"MessageRejected: Email address is not verified"):
        drive(SES.deliver(mail()), error(400, "MessageRejected:", "Email address is not verified."))
    item = {"Status": "MAIL_FROM_DOMAIN_NOT_VERIFIED", "Error": "Not verified: shop@example.com"}
    with pytest.raises(AnymailAPIError, match=r"MAIL_FROM_DOMAIN_NOT_VERIFIED: Not verified: \(address\)"):
        drive(SES.deliver(mail(**TEMPLATE, **TWO)), results(item, item))


def test_each_recipient_keeps_the_error_of_its_entry() -> None:
    items = [success(), {"Status": "MESSAGE_REJECTED", "Error": "Bad words"}, {"Status": "ACCOUNT_THROTTLED"}]
    _, recipients = drive(SES.deliver(mail(**TEMPLATE, to=[ANA, BO, "cy@example.org"])), results(*items))
    errors = {email: one.error for email, one in recipients.items() if one.error}
    assert {email: (error.category, error.retryable) for email, error in errors.items()} == {
        BO: ("invalid", False),
        "cy@example.org": ("rate_limit", True),
    }
    assert "MESSAGE_REJECTED: Bad words" in str(errors[BO])


@pytest.mark.parametrize(
    ("items", "sent"),
    [
        ([{"Status": "MESSAGE_REJECTED"}, {"Status": "SOMETHING_NEW"}], False),
        ([{"Status": "MESSAGE_REJECTED"}, {"Status": "SUCCESS"}], True),
    ],
)
def test_when_no_entry_is_taken_the_message_has_failed(items: list[dict[str, Any]], sent: bool) -> None:
    with pytest.raises(AnymailAPIError) as raised:
        drive(SES.deliver(mail(**TEMPLATE, **TWO)), results(*items))
    assert raised.value.sent is sent
    assert [one.status for one in raised.value.statuses.values()] == ["failed", "unknown" if sent else "failed"]


def test_a_lost_reply_ends_a_batch() -> None:
    """Fifty of them would take 25 minutes."""
    to = [f"r{n}@example.com" for n in range(50)]
    lost = AnymailTransportError("?", category="timeout", sent=None)
    with pytest.raises(AnymailAPIError) as raised:
        drive(SES.deliver(mail(to=to, merge_data={})), lost)
    assert [one.status for one in raised.value.statuses.values()] == ["unknown"] + ["failed"] * 49


def test_when_all_of_a_batch_fail_what_is_least_certain_is_raised() -> None:
    with pytest.raises(AnymailAPIError) as raised:
        drive(SES.deliver(mail(**TWO, merge_data={})), REFUSED, error(500, "InternalServiceErrorException"))
    assert raised.value.sent is None


def test_calls_have_up_to_50_destinations() -> None:
    to = [f"r{n}@example.com" for n in range(30)]
    flow = SES.deliver(mail(**TEMPLATE, to=to, cc=["c@example.org"], bcc=["d@example.org"]))
    part = [success()] * 16
    requests, recipients = drive(flow, results(*part), results(*part[:14]))
    assert [len(json_of(request)["BulkEmailEntries"]) for request in requests] == [16, 14]
    assert set(statuses(recipients).values()) == {QUEUED}
    _, recipients = drive(SES.deliver(mail(**TEMPLATE, to=[*to, *to], cc=[])), results(*[success()] * 50), REFUSED)
    assert recipients["r0@example.com"].status == "queued"


def test_what_cannot_be_serialised_is_found_before_anything_is_sent() -> None:
    for merge in ({"merge_metadata": {BO: {"x": object()}}}, {"merge_data": {ANA: {"x": 1}, BO: {"x": object()}}}):
        with pytest.raises(AnymailSerializationError):
            request_of(SES.deliver(mail(**TWO, **merge)))


RAW_DATA = (
    "RnJvbTogIkV4YW1wbGUgU2hvcCIgPHNob3BAZXhhbXBsZS5jb20+DQpUbzogdG9AZXhhbXBsZS5uZXQNClN1YmplY3Q6IE9yZGVyIDEwMDENCk1J"
    "TUUtVmVyc2lvbjogMS4wDQpDb250ZW50LVR5cGU6IHRleHQvcGxhaW47IGNoYXJzZXQ9InV0Zi04Ig0KQ29udGVudC1UcmFuc2Zlci1FbmNvZGlu"
    "ZzogN2JpdA0KDQpUaGFuayB5b3UhDQo="
)
SIGNED_BODY = {"Content": {"Raw": {"Data": RAW_DATA}}, "Destination": {"ToAddresses": ["to@example.net"]}}
# Session token, signed headers, signature.
SIGV4 = [
    (None, "content-type;host;x-amz-date", "df2aa74624a694e66988744f1f41b943cb1bb48cd1e858000defd37eeda7085c"),
    (
        "example-session-token",
        "content-type;host;x-amz-date;x-amz-security-token",
        "a217fd8f067033a0c34bf59fa58ddac8bcc328fccb6e2d71703d81b58fb75b6b",
    ),
]


@pytest.mark.parametrize(("token", "names", "signature"), SIGV4)
def test_sigv4_vectors(token: str | None, names: str, signature: str) -> None:
    options = load(AmazonSES.Options, ("AMAZON_SES",), {"client_params": {**PARAMS, "aws_session_token": token}})
    aws = AWS(options, clock=lambda: dt.datetime(2026, 3, 4, 5, 6, 7, tzinfo=dt.UTC))  # type: ignore[arg-type]
    encoded = json.dumps(SIGNED_BODY, separators=(",", ":")).encode()
    for body in (encoded, Chunks([encoded[:100], encoded[100:]])):
        request = Request("POST", f"{aws.endpoint('sesv2').url}{SEND}", {"Content-Type": "application/json"}, body)
        assert aws.sign(request, "ses", "us-east-1").headers["Authorization"] == (
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE0000001/20260304/us-east-1/ses/aws4_request, "
            f"SignedHeaders={names}, Signature={signature}"
        )


# Client parameters, service, and its endpoint.
ENDPOINTS: list[tuple[dict[str, Any], str, str]] = [
    ({}, "sesv2", "https://email.us-east-1.amazonaws.com"),
    ({"region_name": "cn-north-1"}, "sesv2", "https://email.cn-north-1.amazonaws.com.cn"),
    ({"config": {"use_dualstack_endpoint": True}}, "sesv2", "https://email.us-east-1.api.aws"),
    ({"config": {"use_fips_endpoint": True}}, "sesv2", "https://email-fips.us-east-1.amazonaws.com"),
    ({"endpoint_url": "http://localhost:1/ses/"}, "sesv2", "http://localhost:1/ses"),
    ({"region_name": "eu-west-1"}, "sns", "https://sns.eu-west-1.amazonaws.com"),
]


@pytest.mark.parametrize(("params", "service", "url"), ENDPOINTS)
def test_endpoints(params: dict[str, Any], service: str, url: str) -> None:
    assert make_esp(AmazonSES, client_params={**PARAMS, **params}).aws.endpoint(service).url == url


def test_a_botocore_config_object() -> None:
    from botocore.config import Config

    params = {name: value for name, value in PARAMS.items() if name != "region_name"}
    esp = make_esp(AmazonSES, client_params={**params, "config": Config(region_name="eu-west-3")})
    assert esp.aws.endpoint("sesv2").region == "eu-west-3"


def test_a_multi_region_endpoint_is_signed_for_all_regions() -> None:
    pytest.importorskip("awscrt")
    request = request_of(SES.deliver(mail(esp_extra={"EndpointId": "abc.456"})))
    assert request.url == f"https://abc.456.endpoints.email.amazonaws.com{SEND}"
    assert request.headers["X-Amz-Region-Set"] == "*"
    assert request.headers["Authorization"].startswith("AWS4-ECDSA-P256-SHA256 ")
    assert json_of(request)["EndpointId"] == "abc.456"


def test_a_multi_region_endpoint_needs_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.crt.auth", None)
    with pytest.raises(AnymailConfigurationError, match=r"botocore\[crt\]"):
        request_of(SES.deliver(mail(esp_extra={"EndpointId": "abc.456"})))


def test_credentials_are_asked_for_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a role expire."""
    import botocore.session
    from botocore.credentials import Credentials, ReadOnlyCredentials

    class Refreshable(Credentials):  # type: ignore[misc]
        count = 0

        def get_frozen_credentials(self) -> ReadOnlyCredentials:
            self.count += 1
            return ReadOnlyCredentials(f"KEY{self.count}", "secret", f"token-{self.count}")

    session = botocore.session.Session()
    refreshable = Refreshable("KEY", "secret")
    monkeypatch.setattr(session, "get_credentials", lambda: refreshable)
    params = {"botocore_session": session, "region_name": "eu-west-1"}
    esp = make_esp(AmazonSES, session_params=params)
    requests = [request_of(esp.deliver(mail())) for _ in range(2)]
    assert [request.headers["X-Amz-Security-Token"] for request in requests] == ["token-1", "token-2"]
    assert requests[0].url.startswith("https://email.eu-west-1.amazonaws.com/")
    assert "Credential=KEY2/" in requests[1].headers["Authorization"]


@pytest.fixture
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing for botocore to find."""
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.usefixtures("_bare_environment")
def test_no_region() -> None:
    params = {name: value for name, value in PARAMS.items() if name != "region_name"}
    with pytest.raises(AnymailConfigurationError, match="region"):
        request_of(make_esp(AmazonSES, client_params={**params, "config": {"user_agent_extra": "a"}}).deliver(mail()))


@pytest.mark.usefixtures("_bare_environment")
def test_no_credentials() -> None:
    with pytest.raises(AnymailAPIError, match="AWS credentials") as raised:
        request_of(make_esp(AmazonSES, client_params={"region_name": "eu-north-1"}).deliver(mail()))
    assert (raised.value.sent, raised.value.category) == (False, "auth")


@pytest.mark.usefixtures("_bare_environment")
def test_session_params() -> None:
    params = {"region_name": "eu-west-2", "aws_access_key_id": "KEY", "aws_secret_access_key": "s"}
    request = request_of(make_esp(AmazonSES, session_params=params).deliver(mail()))
    assert request.url.startswith("https://email.eu-west-2.amazonaws.com/")
    assert "Credential=KEY/" in request.headers["Authorization"]
    with pytest.raises(AnymailConfigurationError, match="nobody"):
        request_of(make_esp(AmazonSES, session_params={"profile_name": "nobody"}).deliver(mail()))


@pytest.mark.parametrize(
    "options",
    [
        {"client_params": {"regoin_name": "x"}},
        {"client_params": "x"},
        {"session_params": {"verify": True}},
    ],
)
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises(AnymailConfigurationError):
        make_esp(AmazonSES, **options)


def test_a_wrong_config() -> None:
    with pytest.raises(AnymailConfigurationError, match="no_such_thing"):
        request_of(make_esp(AmazonSES, client_params={**PARAMS, "config": {"no_such_thing": 1}}).deliver(mail()))


@pytest.mark.parametrize("params", [{"verify": False}, {"config": {"read_timeout": 5}}])
def test_what_concerns_the_connection_warns(params: dict[str, Any]) -> None:
    with pytest.warns(AnymailNotSupportedWarning, match="REQUESTS_TIMEOUT"):
        make_esp(AmazonSES, client_params={**PARAMS, **params})


def test_secrets_are_not_shown() -> None:
    assert PARAMS["aws_secret_access_key"] not in repr(SES.options) + repr(SES.aws)
    assert "region_name" in repr(SES.options)


def test_one_session_whatever_the_credentials() -> None:
    def session(**params: Any) -> Any:
        return make_esp(AmazonSES, client_params={**PARAMS, **params}).aws._botocore.session()

    assert session(aws_session_token="another") is SES.aws._botocore.session()
    other = session(region_name="eu-west-1")
    assert other is not SES.aws._botocore.session()
    assert other.get_component("data_loader") is SES.aws._botocore.session().get_component("data_loader")


def test_sessions_are_bounded() -> None:
    for number in range(50):
        make_esp(AmazonSES, client_params={**PARAMS, "endpoint_url": f"https://{number}.example.com"}).aws  # noqa: B018
    assert len(signing._botocores) <= 16


HALF: dict[str, dict[str, Any]] = {
    "no secret": {"aws_secret_access_key": None},
    "no id": {"aws_access_key_id": ""},
    "only a token": {"aws_access_key_id": None, "aws_secret_access_key": None, "aws_session_token": "t"},
    "a line break inside": {"aws_secret_access_key": "a\nb"},
    "no string": {"aws_secret_access_key": 7},
}


@pytest.mark.parametrize("params", HALF.values(), ids=HALF.keys())
def test_half_of_the_credentials_is_a_mistake(params: dict[str, Any]) -> None:
    with pytest.raises(AnymailConfigurationError, match=r"aws_(secret_access|access)_key"):
        make_esp(AmazonSES, client_params={**PARAMS, **params})


def test_a_large_attachment_is_neither_joined_nor_copied() -> None:
    content = bytes(20_000_000)
    one = mail(attach=[("a.bin", content, "application/octet-stream")])
    request_of(SES.deliver(mail()))
    tracemalloc.start()
    try:
        request = request_of(SES.deliver(one))
        assert isinstance(request.body, Chunks)
        assert sum(map(len, request.body)) == len(request.body) > 26_000_000
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_botocore_is_imported_no_earlier_than_needed() -> None:
    code = (
        "import sys, django; from django.conf import settings; settings.configure(); django.setup(); "
        "import anymail.backends.amazon_ses, anymail.webhooks.amazon_ses; "
        "print([name for name in ('botocore', 'cryptography', 'awscrt') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
