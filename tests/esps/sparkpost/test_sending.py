"""SparkPost: messages and the exact requests they become, answers and the statuses they become."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.core import mail as django_mail
from django.test import override_settings

from anymail.backends.sparkpost import EmailBackend
from anymail.esps.sparkpost.sending import SparkPost
from anymail.exceptions import AnymailAPIError, AnymailConfigurationError, AnymailTransportError
from anymail.mail.message import outgoing_mail
from anymail.mail.supports import check
from anymail.message import attach_inline_image
from support import PNG, answer, drive, fitted, json_of, mail, make_esp, message, request_of, statuses

SPARKPOST = make_esp(SparkPost, api_key="key")


def to(email: str, header_to: str | None = None, **own: Any) -> dict[str, Any]:
    """An entry of ``recipients``."""
    return {"address": {"email": email, "header_to": email if header_to is None else header_to}, **own}


CONTENT = {"from": "shop@example.com", "subject": "Hi", "text": "Hello"}
BASE = {"content": CONTENT, "recipients": [to("ana@example.net")]}
TEMPLATE = {"from_email": None, "subject": None, "body": "", "template_id": "order-receipt"}
TEMPLATED = {"content": {"template_id": "order-receipt"}, "recipients": [to("ana@example.net")]}
AMSTERDAM = dt.timezone(dt.timedelta(hours=1))
BOTH = 'Ana López <ana@example.net>, "Berg, Bob" <bob@example.org>'

# A message's attributes, and the body of its request.
REQUESTS: dict[str, tuple[dict[str, Any], Any]] = {
    "plain": ({}, BASE),
    "rich": (
        {
            "from_email": "Zoë at the Shop <shop@example.com>",
            "to": ["Ana López <ana@example.net>", '"Berg, Bob" <bob@example.org>'],
            "cc": ["Kim <kim@example.net>"],
            "bcc": ["archive@example.com"],
            "reply_to": ["Help Desk <help@example.com>", "sales@example.com"],
            "subject": "Paid: order A-1042 ✓",
            "body": "Hi! Receipt attached.",
            "html": "<p>Hi!</p>",
            "alternatives": [("<!doctype html><html ⚡4email></html>", "text/x-amp-html")],
            "headers": {"X-Order": "A-1042"},
            "attach": [
                ("räknung.txt", "total: 10 €", "text/plain"),
                ("receipt.pdf", b"%PDF-1.4 sample", "application/pdf"),
                ("", b"\x00", "application/octet-stream"),
            ],
            "envelope_sender": "bounce@bounce.example.com",
            "metadata": {"order_id": "A-1042", "items": 3},
            "tags": ["order-receipt"],
            "track_opens": True,
            "track_clicks": False,
            "send_at": dt.datetime(2026, 3, 2, 11, 15, 0, 250_000, tzinfo=AMSTERDAM),
            "esp_extra": {"options": {"transactional": True, "ip_pool": "fast"}, "description": "receipts"},
        },
        {
            "content": {
                "from": "Zoë at the Shop <shop@example.com>",
                "headers": {"Cc": "Kim <kim@example.net>", "X-Order": "A-1042"},
                "subject": "Paid: order A-1042 ✓",
                "reply_to": "Help Desk <help@example.com>, sales@example.com",
                "text": "Hi! Receipt attached.",
                "html": "<p>Hi!</p>",
                "amp_html": "<!doctype html><html ⚡4email></html>",
                "attachments": [
                    {"name": "räknung.txt", "type": 'text/plain; charset="utf-8"', "data": "dG90YWw6IDEwIOKCrA=="},
                    {"name": "receipt.pdf", "type": "application/pdf", "data": "JVBERi0xLjQgc2FtcGxl"},
                    {"name": "attachment", "type": "application/octet-stream", "data": "AA=="},
                ],
            },
            "recipients": [
                to("ana@example.net", BOTH),
                to("bob@example.org", BOTH),
                to("kim@example.net", BOTH),
                to("archive@example.com", BOTH),
            ],
            "return_path": "bounce@bounce.example.com",
            "metadata": {"order_id": "A-1042", "items": 3},
            "options": {
                "start_time": "2026-03-02T11:15:00+01:00",
                "click_tracking": False,
                "open_tracking": True,
                "transactional": True,
                "ip_pool": "fast",
            },
            "campaign_id": "order-receipt",
            "description": "receipts",
        },
    ),
    "domains": (
        {
            "from_email": "Bücher <shop@bücher.example.com>",
            "to": ["Ana <ana@bücher.example>"],
            "cc": ["kim@bücher.example"],
            "reply_to": ["help@bücher.example"],
        },
        {
            "content": {
                **CONTENT,
                "from": "Bücher <shop@xn--bcher-kva.example.com>",
                "reply_to": "help@xn--bcher-kva.example",
                "headers": {"Cc": "kim@xn--bcher-kva.example"},
            },
            "recipients": [
                to("ana@xn--bcher-kva.example", "Ana <ana@xn--bcher-kva.example>"),
                to("kim@xn--bcher-kva.example", "Ana <ana@xn--bcher-kva.example>"),
            ],
        },
    ),
    "html only": (
        {"body": "<p>Hello", "content_subtype": "html"},
        {**BASE, "content": {"from": "shop@example.com", "subject": "Hi", "html": "<p>Hello"}},
    ),
    "empty": (
        {"subject": "", "body": ""},
        {**BASE, "content": {"from": "shop@example.com", "subject": "", "text": ""}},
    ),
    "a non-ASCII local part": (
        {"to": ["josé@example.net"]},
        {**BASE, "recipients": [to("josé@example.net")]},
    ),
    "no to": (
        {"to": [], "cc": ["kim@example.net"], "bcc": ["archive@example.com"]},
        {
            "content": {**CONTENT, "headers": {"Cc": "kim@example.net"}},
            "recipients": [to("kim@example.net", ""), to("archive@example.com", "")],
        },
    ),
    "reply-to and cc as headers": (
        {"cc": ["kim@example.net"], "headers": {"Reply-To": "Help <help@example.com>", "CC": "Team <t@example.com>"}},
        {
            "content": {**CONTENT, "reply_to": "Help <help@example.com>", "headers": {"CC": "Team <t@example.com>"}},
            "recipients": [to("ana@example.net"), to("kim@example.net", "ana@example.net")],
        },
    ),
    "from as header": (
        {"headers": {"From": "Shop <noreply@example.com>"}},
        {**BASE, "return_path": "shop@example.com", "content": {**CONTENT, "from": "Shop <noreply@example.com>"}},
    ),
    "time in UTC": ({"send_at": 1_772_446_500}, {**BASE, "options": {"start_time": "2026-03-02T10:15:00+00:00"}}),
    "tracking": (
        {"track_opens": False, "track_clicks": True},
        {**BASE, "options": {"open_tracking": False, "click_tracking": True}},
    ),
    "an unsubscribe header of one's own": (
        {"headers": {"List-Unsubscribe": "<https://example.com/u>"}, "esp_extra": {"options": {"transactional": True}}},
        {
            **BASE,
            "options": {"transactional": True},
            "content": {**CONTENT, "headers": {"List-Unsubscribe": "<https://example.com/u>"}},
        },
    ),
    "global data without a template": (
        {"body": "Hi {{shop}}", "merge_global_data": {"shop": "Example"}},
        {**BASE, "content": {**CONTENT, "text": "Hi {{shop}}"}, "substitution_data": {"shop": "Example"}},
    ),
    "template": (
        {
            **TEMPLATE,
            "to": ["Ana López <ana@example.net>"],
            "metadata": {"order_id": "A-1042"},
            "merge_global_data": {"shop": "Example Shop", "order_no": "A-1042"},
        },
        {
            "content": {"template_id": "order-receipt"},
            "recipients": [to("ana@example.net", "Ana López <ana@example.net>")],
            "metadata": {"order_id": "A-1042"},
            "substitution_data": {"shop": "Example Shop", "order_no": "A-1042"},
        },
    ),
    "template with sender, reply-to and bcc": (
        {
            **TEMPLATE,
            "from_email": "Shop <shop@example.com>",
            "reply_to": ["help@example.com", "sales@example.com"],
            "bcc": ["archive@example.com"],
            "esp_extra": {"content": {"use_draft_template": True}, "override": {"list_id": "<list.example.com>"}},
        },
        {
            "content": {"template_id": "order-receipt", "use_draft_template": True},
            "recipients": [to("ana@example.net"), to("archive@example.com", "ana@example.net")],
            "override": {
                "from": "Shop <shop@example.com>",
                "reply_to": "help@example.com, sales@example.com",
                "list_id": "<list.example.com>",
            },
        },
    ),
    "template in esp_extra": (
        {"subject": "", "body": "", "from_email": None, "esp_extra": {"content": {"template_id": "order-receipt"}}},
        TEMPLATED,
    ),
    "raw MIME in esp_extra": (
        {"esp_extra": {"content": {"email_rfc822": "From: a@example.com\r\nSubject: Hi\r\n\r\nHello"}}},
        {**BASE, "content": {"email_rfc822": "From: a@example.com\r\nSubject: Hi\r\n\r\nHello"}},
    ),
    "batch": (
        {
            "from_email": "Shop <shop@example.com>",
            "to": ["Ana <ana@example.net>", "bob@example.org"],
            "cc": ["kim@example.net"],
            "subject": "Order {{order_no}} shipped",
            "body": "Hi {{name}}, {{shop}} sent {{order_no}}.",
            "merge_data": {
                "ana@example.net": {"name": "Ana", "order_no": "A-1042"},
                "bob@example.org": {"name": "Bob", "order_no": "A-1043"},
            },
            "merge_global_data": {"shop": "Example Shop"},
            "metadata": {"batch": "2026-03-02"},
            "merge_metadata": {
                "ana@example.net": {"order_id": "A-1042"},
                "bob@example.org": {"order_id": "A-1043"},
            },
            "headers": {"x-priority-lane": "normal"},
            "merge_headers": {"ana@example.net": {"X-Priority-Lane": "gold"}},
        },
        {
            "content": {
                "from": "Shop <shop@example.com>",
                "headers": {"Cc": "kim@example.net", "X-Priority-Lane": "{{Header__X_Priority_Lane}}"},
                "subject": "Order {{order_no}} shipped",
                "text": "Hi {{name}}, {{shop}} sent {{order_no}}.",
            },
            "recipients": [
                to(
                    email,
                    header_to,
                    substitution_data={"name": name, "order_no": number, **lane},
                    metadata={"order_id": number},
                )
                for email, header_to, name, number, lane in [
                    (
                        "ana@example.net",
                        "Ana <ana@example.net>",
                        "Ana",
                        "A-1042",
                        {"Header__X_Priority_Lane": "gold"},
                    ),
                    ("bob@example.org", "bob@example.org", "Bob", "A-1043", {}),
                    (
                        "kim@example.net",
                        "Ana <ana@example.net>",
                        "Ana",
                        "A-1042",
                        {"Header__X_Priority_Lane": "gold"},
                    ),
                    ("kim@example.net", "bob@example.org", "Bob", "A-1043", {}),
                ]
            ],
            "metadata": {"batch": "2026-03-02"},
            "substitution_data": {"shop": "Example Shop", "Header__X_Priority_Lane": "normal"},
        },
    ),
    "batch by domain as spelled": (
        {"to": ["ana@bücher.example"], "merge_data": {"ana@bücher.example": {"name": "Ana"}}},
        {**BASE, "recipients": [to("ana@xn--bcher-kva.example", substitution_data={"name": "Ana"})]},
    ),
    "forced batch, several copies": (
        {"to": ["ana@example.net", "bob@example.org"], "bcc": ["a@example.com", "b@example.com"], "merge_data": {}},
        {
            **BASE,
            "recipients": [
                to("ana@example.net"),
                to("bob@example.org"),
                to("a@example.com", "ana@example.net"),
                to("b@example.com", "ana@example.net"),
                to("a@example.com", "bob@example.org"),
                to("b@example.com", "bob@example.org"),
            ],
        },
    ),
    "batch without to": (
        {"to": [], "bcc": ["archive@example.com"], "merge_metadata": {}},
        {**BASE, "recipients": [to("archive@example.com", "")]},
    ),
    "a personal header without default": (
        {"merge_headers": {"ana@example.net": {"X-Lane": "gold"}}},
        {
            "content": {**CONTENT, "headers": {"X-Lane": "{{Header__X_Lane}}"}},
            "recipients": [to("ana@example.net", substitution_data={"Header__X_Lane": "gold"})],
        },
    ),
    "batch with template": (
        {**TEMPLATE, "merge_data": {"ana@example.net": {"items": [{"sku": "A1"}]}}},
        {**TEMPLATED, "recipients": [to("ana@example.net", substitution_data={"items": [{"sku": "A1"}]})]},
    ),
    "several tags": (
        {"tags": ["receipt", "eu", "vip"], "bcc": ["archive@example.com"]},
        {
            **BASE,
            "recipients": [
                to("ana@example.net", tags=["eu", "vip"]),
                to("archive@example.com", "ana@example.net", tags=["eu", "vip"]),
            ],
            "campaign_id": "receipt",
        },
    ),
    "several tags of a batch": (
        {"tags": ["receipt", "eu"], "cc": ["kim@example.net"], "merge_metadata": {"ana@example.net": {"n": 1}}},
        {
            "content": {**CONTENT, "headers": {"Cc": "kim@example.net"}},
            "recipients": [
                to("ana@example.net", metadata={"n": 1}, tags=["eu"]),
                to("kim@example.net", "ana@example.net", metadata={"n": 1}, tags=["eu"]),
            ],
            "campaign_id": "receipt",
        },
    ),
    "bodies beside a template": (
        {**TEMPLATE, "body": "Hi", "html": "<p>Hi", "alternatives": [("<html ⚡4email>", "text/x-amp-html")]},
        TEMPLATED,
    ),
    "bodies beside a template in esp_extra": (
        {"subject": "", "from_email": None, "html": "<p>", "esp_extra": {"content": {"template_id": "order-receipt"}}},
        TEMPLATED,
    ),
    "stored list of recipients": (
        {"esp_extra": {"recipients": {"list_id": "friends"}}},
        {**BASE, "recipients": {"list_id": "friends"}},
    ),
}


@pytest.mark.parametrize(("attributes", "body"), REQUESTS.values(), ids=REQUESTS.keys())
def test_request(attributes: dict[str, Any], body: Any) -> None:
    one = fitted(SparkPost, **attributes)
    assert [*check(one, SparkPost.supports), *SPARKPOST.check(one)] == []
    request = request_of(SPARKPOST.deliver(one))
    assert request.method == "POST"
    assert request.url == "https://api.sparkpost.com/api/v1/transmissions/"
    assert json_of(request) == body


def test_headers() -> None:
    assert dict(request_of(SPARKPOST.deliver(mail())).headers) == {
        "Accept": "application/json",
        "Authorization": "key",
        "Content-Type": "application/json",
    }


@pytest.mark.parametrize("subaccount", [123, "123"])
def test_subaccount_and_api_url(subaccount: Any) -> None:
    esp = make_esp(SparkPost, api_key="key", subaccount=subaccount, api_url="https://api.eu.sparkpost.com/api/v1")
    request = request_of(esp.deliver(mail()))
    assert request.headers["X-MSYS-SUBACCOUNT"] == "123"
    assert request.url == "https://api.eu.sparkpost.com/api/v1/transmissions/"


def test_a_subaccount_is_a_number() -> None:
    with pytest.raises(AnymailConfigurationError, match="subaccount"):
        make_esp(SparkPost, api_key="key", subaccount="shop")


@override_settings(SPARKPOST_API_KEY="bare", ANYMAIL={"SPARKPOST_SUBACCOUNT": 7})
def test_settings() -> None:
    headers = request_of(make_esp(SparkPost).deliver(mail())).headers
    assert (headers["Authorization"], headers["X-MSYS-SUBACCOUNT"]) == ("bare", "7")


def test_inline_images() -> None:
    made = message(html="<img>")
    cid = attach_inline_image(made, PNG, "logo.png", domain="example.com")
    content = json_of(request_of(SPARKPOST.deliver(outgoing_mail(made))))["content"]
    assert content["inline_images"] == [{"name": cid, "type": "image/png", "data": "iVBORw0KGgo="}]
    assert "attachments" not in content


OFFICE = '"Büro, Shop" <from@bücher.example>'


@pytest.mark.parametrize(
    ("from_email", "override"),
    [
        (None, {}),
        ("shop@example.com", {"from": "shop@example.com"}),
        (OFFICE, {}),
        ("from@bücher.example", {"from": "from@xn--bcher-kva.example"}),
    ],
)
def test_the_default_sender_leaves_the_templates_own(from_email: str | None, override: dict[str, str]) -> None:
    with override_settings(DEFAULT_FROM_EMAIL=OFFICE):
        body = json_of(request_of(SPARKPOST.deliver(mail(**{**TEMPLATE, "from_email": from_email}))))
    assert body.get("override", {}) == override


def test_the_default_sender_through_django() -> None:
    with override_settings(DEFAULT_FROM_EMAIL="from@example.com"):
        made: Any = django_mail.EmailMessage(to=["ana@example.net"])
        made.subject, made.template_id = None, "order-receipt"
        esp = SparkPost(EmailBackend(api_key="key").options)
        assert json_of(request_of(esp.deliver(outgoing_mail(made)))) == TEMPLATED


CID = ("logo.png", PNG, "image/png")
UNSUPPORTED = {
    "multiple from_email addresses": {"from_email": "a@example.com, b@example.com"},
    "over 11 tags": {"tags": list("abcdefghijkl")},
    "subject with template_id": {**TEMPLATE, "subject": "Hi"},
    "a To header in extra_headers": {"headers": {"To": "all@example.com"}},
    "alternative part with type 'text/calendar'": {"alternatives": [("x", "text/calendar")]},
    "attachments with template_id": {**TEMPLATE, "attach": [CID]},
    "extra headers with template_id": {**TEMPLATE, "headers": {"X-Shop": "7"}},
    "merge_headers with template_id": {**TEMPLATE, "merge_headers": {"ana@example.net": {"X-Shop": "7"}}},
    "cc with template_id": {**TEMPLATE, "cc": ["kim@example.net"]},
    "List-Unsubscribe without options.transactional in esp_extra": {
        "headers": {"X-Shop": "7", "list-unsubscribe": "<https://example.com/u>"},
        "merge_headers": {"ana@example.net": {"List-Unsubscribe-Post": "x", "X-Own": "1"}},
    },
}
# What is left of those in the fields that were changed, where that is not nothing.
LEFT = {
    "multiple from_email addresses": {"from_email": "a@example.com"},
    "over 11 tags": {"tags": list("abcdefghijk")},
    "cc with template_id": {**TEMPLATE, "bcc": ["kim@example.net"]},
    "List-Unsubscribe without options.transactional in esp_extra": {
        "headers": {"X-Shop": "7"},
        "merge_headers": {"ana@example.net": {"X-Own": "1"}},
    },
}


@pytest.mark.parametrize(("what", "attributes"), UNSUPPORTED.items(), ids=UNSUPPORTED.keys())
def test_unsupported(what: str, attributes: dict[str, Any]) -> None:
    one = mail(**attributes)
    [found] = [*check(one, SparkPost.supports), *SPARKPOST.check(one)]
    assert found.what == what
    left = mail(**LEFT[what]) if what in LEFT else None
    for name, value in found.without.items():
        assert value == getattr(left, name) if left else not value


@pytest.mark.parametrize("where", [{"template_id": "x"}, {"esp_extra": {"content": {"ab_test_id": "x"}}}])
def test_inline_images_are_unsupported_with_a_template(where: dict[str, Any]) -> None:
    made = message(**{**TEMPLATE, "template_id": None, **where})
    attach_inline_image(made, PNG, "logo.png", domain="example.com")
    one = outgoing_mail(made)
    [found] = [*check(one, SparkPost.supports), *SPARKPOST.check(one)]
    assert found == ("inline images with template_id", {"attachments": ()})


ID = "7048215936617300452"


def result(accepted: int, rejected: int, *invalid: str, **more: Any) -> Any:
    """An answer as SparkPost gives it to what it took."""
    counts = {"total_rejected_recipients": rejected, "total_accepted_recipients": accepted, "id": ID}
    message = "required field is missing or invalid"
    errors = [
        {"message": message, "description": f"invalid recipient address.email: {one}", "code": "1400"}
        for one in invalid
    ]
    if errors:
        counts["rcpt_to_errors"] = errors  # type: ignore[assignment]
        more["errors"] = [{"message": "transmission created, but with validation errors", "code": "2000"}]
    return answer(200, {"results": counts, **more})


SUPPRESSED = answer(
    400,
    {
        "errors": [
            {
                "message": "Message generation rejected",
                "description": "recipient address was suppressed due to customer policy",
                "code": "1902",
            }
        ]
    },
)
TWO = {"to": ["ana@example.net", "Bob@Example.org"]}
BATCH = {**TWO, "merge_data": {}, "cc": ["c@example.net"], "bcc": ["d@example.net"]}


def all_are(status: str, *emails: str) -> dict[str, Any]:
    return dict.fromkeys(emails or ("ana@example.net", "Bob@Example.org"), (status, ID))


# A message's attributes, the answer, and the recipients' statuses.
ANSWERS: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
    "queued": (
        {"cc": ["c@example.org"], "bcc": ["d@example.org"]},
        result(3, 0),
        all_are("queued", "ana@example.net", "c@example.org", "d@example.org"),
    ),
    "a batch has more entries than addresses": (
        BATCH,
        result(6, 0),
        all_are("queued", "ana@example.net", "Bob@Example.org", "c@example.net", "d@example.net"),
    ),
    "rejected": (TWO, result(0, 2), all_are("rejected")),
    "some rejected": (TWO, result(1, 1), all_are("unknown")),
    "counts that do not add up": (TWO, result(4, 0), all_are("unknown")),
    "a stored list": ({**TWO, "esp_extra": {"recipients": {"list_id": "x"}}}, result(1, 0), all_are("unknown")),
    "an address that was not sent": (TWO, result(1, 1, "not-an-address"), all_are("unknown")),
    "invalid": ({}, result(0, 1, "ana@example.net"), {"ana@example.net": ("invalid", ID)}),
    "one invalid": (TWO, result(1, 1, "bob@example.org"), {**all_are("queued"), "Bob@Example.org": ("invalid", ID)}),
    "one of two invalid is named": (
        {"to": ["ana@example.net", "Bob@Example.org", "c@example.net"]},
        result(1, 2, "bob@example.org"),
        {**all_are("unknown"), "Bob@Example.org": ("invalid", ID), "c@example.net": ("unknown", ID)},
    ),
    "suppressed": ({}, SUPPRESSED, {"ana@example.net": ("rejected", None)}),
    "suppressed, of a batch": ({"merge_data": {}}, SUPPRESSED, {"ana@example.net": ("rejected", None)}),
    "errors of another shape": (
        TWO,
        answer(
            200,
            {
                "results": {
                    "id": ID,
                    "total_accepted_recipients": 1,
                    "total_rejected_recipients": 1,
                    "rcpt_to_errors": [1, {"description": ["x"]}],
                }
            },
        ),
        all_are("unknown"),
    ),
}


@pytest.mark.parametrize(("attributes", "response", "expected"), ANSWERS.values(), ids=ANSWERS.keys())
def test_statuses(attributes: dict[str, Any], response: Any, expected: dict[str, Any]) -> None:
    _, recipients = drive(SPARKPOST.deliver(mail(**attributes)), response)
    assert statuses(recipients) == expected


def error(status: int, code: str | None = None, **more: Any) -> Any:
    return answer(status, {"errors": [{"message": "No", **({"code": code} if code else {}), **more}]})


# The answer, and the error's sent, category and retryable.
ERRORS: dict[str, tuple[Any, bool | None, str, bool]] = {
    "bad key": (error(401), False, "auth", False),
    "no permission": (error(403, "1100"), False, "auth", False),
    "unverified domain": (error(400, "7001"), False, "invalid", False),
    "denylist": (error(400, "7000"), False, "invalid", False),
    "unknown DKIM key": (error(400, "1100"), False, "invalid", False),
    "too large": (answer(413, "Too large"), False, "invalid", False),
    "both contents": (error(422, "1301"), False, "invalid", False),
    "no such template": (error(422, "1603"), False, "invalid", False),
    "hourly limit": (error(420, "2101"), False, "quota", False),
    "sandbox limit, in text": (answer(420, "Exceed Sending Limit"), False, "quota", False),
    "too many": (answer(429, "Slow down"), False, "rate_limit", True),
    "its fault": (error(500, "1500"), False, "server", True),
    "maintenance": (answer(503, "Unable to contact authorization service."), False, "server", True),
    "a proxy's 503": (answer(503, "<html>upstream</html>"), None, "server", False),
    "timeout": (answer(504, "Gateway timeout"), None, "server", False),
    "errors of another shape": (answer(422, {"errors": [1]}), False, "invalid", False),
    "no errors": (answer(422, {"errors": None}), False, "invalid", False),
    "not JSON": (answer(200, "<html>"), True, "unreadable", False),
    "no results": (answer(200, {}), True, "unreadable", False),
    "a list": (answer(200, [1]), True, "unreadable", False),
    "wrong types": (
        answer(200, {"results": {"id": 7, "total_accepted_recipients": 1, "total_rejected_recipients": 0}}),
        True,
        "unreadable",
        False,
    ),
}


@pytest.mark.parametrize(("response", "sent", "category", "retryable"), ERRORS.values(), ids=ERRORS.keys())
def test_errors(response: Any, sent: bool | None, category: str, retryable: bool) -> None:
    with pytest.raises(AnymailAPIError) as raised:
        drive(SPARKPOST.deliver(mail()), response)
    error = raised.value
    assert (error.sent, error.category, error.retryable) == (sent, category, retryable)


def test_which_of_several_is_suppressed_is_not_known() -> None:
    with pytest.raises(AnymailAPIError, match="1902 Message generation rejected") as raised:
        drive(SPARKPOST.deliver(mail(**TWO)), SUPPRESSED)
    assert (raised.value.sent, raised.value.category) == (False, "invalid")


@pytest.mark.parametrize("recipients", [{"list_id": "friends"}, None])
def test_suppressed_among_recipients_of_ones_own(recipients: Any) -> None:
    with pytest.raises(AnymailAPIError, match="1902"):
        drive(SPARKPOST.deliver(mail(esp_extra={"recipients": recipients})), SUPPRESSED)


class TestLargeBatches:
    """SparkPost asks for no more than 10,000 recipients in a call."""

    TO = tuple(f"r{n}@example.com" for n in range(10_001))

    def test_several_calls(self) -> None:
        second = answer(200, {"results": {"id": "2", "total_accepted_recipients": 1, "total_rejected_recipients": 0}})
        requests, recipients = drive(SPARKPOST.deliver(mail(to=self.TO, merge_data={})), result(10_000, 0), second)
        assert [len(json_of(request)["recipients"]) for request in requests] == [10_000, 1]
        assert recipients["r0@example.com"] == (ID, "queued")
        assert recipients["r10000@example.com"] == ("2", "queued")

    def test_copies_count(self) -> None:
        one = mail(to=self.TO[:4000], cc=["c@example.org"], bcc=["d@example.org"], merge_data={})
        requests, _ = drive(SPARKPOST.deliver(one), result(9999, 0), result(2001, 0))
        assert [len(json_of(request)["recipients"]) for request in requests] == [9999, 2001]

    @pytest.mark.parametrize(
        ("failure", "second", "third"),
        [
            (error(422, "1400"), "failed", "queued"),
            (error(420, "2101"), "failed", "failed"),
            (AnymailTransportError("lost", sent=None, category="timeout"), "unknown", "failed"),
        ],
        ids=["refused", "quota", "lost"],
    )
    def test_a_later_call_fails(self, failure: Any, second: str, third: str) -> None:
        one = mail(to=[f"r{n}@example.com" for n in range(20_001)], merge_data={})
        _, recipients = drive(SPARKPOST.deliver(one), result(10_000, 0), failure, result(1, 0), leave=True)
        found = [recipients[f"r{n}@example.com"] for n in (0, 10_000, 20_000)]
        assert [one.status for one in found] == ["queued", second, third]
        assert [one.error is None for one in found] == [True, False, third == "queued"]

    def test_recipients_of_ones_own_are_one_call(self) -> None:
        extra = {"recipients": {"list_id": "friends"}}
        requests, _ = drive(SPARKPOST.deliver(mail(to=self.TO, merge_data={}, esp_extra=extra)), result(5, 0))
        assert [json_of(request)["recipients"] for request in requests] == [{"list_id": "friends"}]


def test_error_quotes_sparkpost() -> None:
    text = r"7001 Invalid domain \(Unconfigured or unverified sending domain\.\); 1 Other"
    errors = [
        {"message": "Invalid domain", "description": "Unconfigured or unverified sending domain.", "code": "7001"},
        {"message": "Other", "code": "1"},
    ]
    with pytest.raises(AnymailAPIError, match=text):
        drive(SPARKPOST.deliver(mail()), answer(400, {"errors": errors}))


def test_nothing_shows_the_key() -> None:
    esp = make_esp(SparkPost, api_key="0123456789abcdef")
    with pytest.raises(AnymailAPIError) as raised:
        drive(esp.deliver(mail()), error(401))
    assert "0123456789abcdef" not in f"{raised.value} {esp.options!r} {request_of(esp.deliver(mail()))!r}"
