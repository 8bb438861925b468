"""Mailjet: messages and the exact requests they become, answers and the statuses they become."""

from __future__ import annotations

import json
from email.encoders import encode_base64
from email.mime.nonmultipart import MIMENonMultipart
from typing import Any

import pytest

from anymail.esps.mailjet.sending import Mailjet
from anymail.exceptions import (
    AnymailAPIError,
    AnymailInvalidValue,
    AnymailSerializationError,
    AnymailTransportError,
    AnymailUnsupportedFeature,
)
from anymail.mail.supports import check
from support import PNG, drive, json_of, mail, make_esp, message, outgoing_mail, request_of, statuses
from support import answer as plain_answer

MAILJET = make_esp(Mailjet, api_key="key", secret_key="secret")
JSON = {"Content-Type": "application/json; charset=UTF-8"}


def answer(status: int, content: Any, headers: dict[str, str] = JSON) -> Any:
    return plain_answer(status, content, headers)


def address(email: str, name: str = "") -> dict[str, str]:
    return {"Email": email, "Name": name} if name else {"Email": email}


SHOP = address("shop@example.com")
BASE = {"From": SHOP, "Subject": "Hi", "TextPart": "Hello"}
ANA, BOB = {"To": [address("ana@example.net")]}, {"To": [address("bob@example.org")]}
TWO = {"to": ["ana@example.net", "bob@example.org"]}


def mime(content_type: str, content: bytes, disposition: str, content_id: str | None = None) -> Any:
    """A MIME part, for ``attach``."""
    maintype, _, subtype = content_type.partition("/")
    part = MIMENonMultipart(maintype, subtype)
    part.replace_header("Content-Type", content_type)
    part["Content-Disposition"] = disposition
    if content_id:
        part["Content-ID"] = content_id
    part.set_payload(content)
    encode_base64(part)
    return part


LOGO = mime("image/png", PNG, 'inline; filename="logo.png"', "<logo1>")
LATIN = mime("text/plain; charset=iso-8859-1", "Grüße".encode("latin-1"), 'attachment; filename="latin.txt"')
BROKEN = mime("text/plain; charset=utf-8", b"Gr\xfc", 'attachment; filename="broken.txt"')


# A message's attributes, and the Globals and Messages of its request.
REQUESTS: dict[str, tuple[dict[str, Any], dict[str, Any], list[Any]]] = {
    "plain": ({}, BASE, [ANA]),
    "rich": (
        {
            "from_email": '"Shop, Inc." <shop@example.com>',
            "envelope_sender": "bounces@example.com",
            "to": ["Jörg Müller <customer@example.com>", "second@example.net"],
            "cc": ["copy@example.org"],
            "bcc": ["audit@example.org"],
            "reply_to": ["Help <help@example.com>"],
            "subject": "Your order",
            "body": "Plain",
            "html": '<p>Hi</p><img src="cid:logo1">',
            "headers": {"X-Order": 1042},
            "attach": [("invoice.pdf", b"%PDF-1.4\n", "application/pdf"), (LOGO,)],
            "metadata": {"order_id": 1042, "plan": "pro"},
            "tags": ["orders"],
            "track_clicks": False,
            "track_opens": True,
        },
        {
            "From": address("shop@example.com", "Shop, Inc."),
            "Sender": address("bounces@example.com"),
            "Cc": [address("copy@example.org")],
            "Bcc": [address("audit@example.org")],
            "ReplyTo": address("help@example.com", "Help"),
            "Subject": "Your order",
            "TextPart": "Plain",
            "HTMLPart": '<p>Hi</p><img src="cid:logo1">',
            "Headers": {"X-Order": "1042"},
            "Attachments": [
                {"ContentType": "application/pdf", "Filename": "invoice.pdf", "Base64Content": "JVBERi0xLjQK"}
            ],
            "InlinedAttachments": [
                {
                    "ContentType": "image/png",
                    "Filename": "logo.png",
                    "ContentID": "logo1",
                    "Base64Content": "iVBORw0KGgo=",
                }
            ],
            "EventPayload": '{"order_id": 1042, "plan": "pro"}',
            "CustomCampaign": "orders",
            "TrackClicks": "disabled",
            "TrackOpens": "enabled",
        },
        [{"To": [address("customer@example.com", "Jörg Müller"), address("second@example.net")]}],
    ),
    "domains and mailboxes": (
        {"from_email": "post@bücher.example", "to": ["josé@bücher.example"]},
        {**BASE, "From": address("post@xn--bcher-kva.example")},
        [{"To": [address("josé@xn--bcher-kva.example")]}],
    ),
    "html only, without a subject": (
        {"subject": "", "body": "<p>Hello", "content_subtype": "html"},
        {"From": SHOP, "Subject": "", "HTMLPart": "<p>Hello"},
        [ANA],
    ),
    "text attachments": (
        {
            "attach": [
                ("note.txt", "Grüße", "text/plain"),
                (LATIN,),
                (BROKEN,),
                (None, b"x", "application/octet-stream"),
            ]
        },
        {
            **BASE,
            "Attachments": [
                {"ContentType": "text/plain", "Filename": "note.txt", "Base64Content": "R3LDvMOfZQ=="},
                {"ContentType": "text/plain", "Filename": "latin.txt", "Base64Content": "R3LDvMOfZQ=="},
                {"ContentType": "text/plain", "Filename": "broken.txt", "Base64Content": "R3L8"},
                {"ContentType": "application/octet-stream", "Filename": "attachment", "Base64Content": "eA=="},
            ],
        },
        [ANA],
    ),
    "switches": (
        {"track_clicks": True, "track_opens": False},
        {**BASE, "TrackClicks": "enabled", "TrackOpens": "disabled"},
        [ANA],
    ),
    "template with its own sender and subject": (
        {
            "from_email": None,
            "subject": "",
            "body": "",
            "template_id": "176375",
            "merge_global_data": {"name": "Kim", "items": [{"sku": "A1", "qty": 2, "note": None}], "gift": None},
        },
        {
            "TemplateID": 176375,
            "TemplateLanguage": True,
            "Variables": {"name": "Kim", "items": [{"sku": "A1", "qty": 2, "note": ""}], "gift": ""},
        },
        [ANA],
    ),
    "template with a subject": (
        {"body": "", "template_id": 7},
        {"From": SHOP, "Subject": "Hi", "TemplateID": 7, "TemplateLanguage": True},
        [ANA],
    ),
    "template in esp_extra": (
        {"subject": "", "body": "", "esp_extra": {"Globals": {"TemplateID": 7}}},
        {"From": SHOP, "TemplateID": 7},
        [ANA],
    ),
    "batch": (
        {
            "to": ["alice@example.com", "Bob <bob@example.net>"],
            "subject": "Shipped",
            "body": "Dear [[var:name]], see you at [[var:site]]",
            "metadata": {"order_id": 0},
            "headers": {"X-Team": "ops"},
            "merge_global_data": {"site": "Shop"},
            "merge_data": {"alice@example.com": {"name": "Alice"}},
            "merge_metadata": {"alice@example.com": {"order_id": 71}},
            "merge_headers": {"alice@example.com": {"List-Unsubscribe": "<https://example.com/u/a>"}},
        },
        {
            "From": SHOP,
            "Subject": "Shipped",
            "TextPart": "Dear [[var:name]], see you at [[var:site]]",
            "EventPayload": '{"order_id": 0}',
            "Headers": {"X-Team": "ops"},
            "Variables": {"site": "Shop"},
        },
        [
            {
                "To": [address("alice@example.com")],
                "Variables": {"name": "Alice"},
                "EventPayload": '{"order_id": 71}',
                "Headers": {"List-Unsubscribe": "<https://example.com/u/a>"},
            },
            {"To": [address("bob@example.net", "Bob")]},
        ],
    ),
    "batch by addresses before and after IDNA": (
        {
            "to": ["ana@bücher.example", "bob@bücher.example"],
            "merge_data": {"ana@bücher.example": {"n": 1}, "bob@xn--bcher-kva.example": {"n": None}},
            "metadata": {"tier": "gold"},
            "merge_metadata": {"ana@bücher.example": {"order": 1}, "bob@bücher.example": {}},
        },
        {**BASE, "EventPayload": '{"tier": "gold"}'},
        [
            {
                "To": [address("ana@xn--bcher-kva.example")],
                "Variables": {"n": 1},
                "EventPayload": '{"tier": "gold", "order": 1}',
            },
            {"To": [address("bob@xn--bcher-kva.example")], "Variables": {"n": ""}},
        ],
    ),
    "own headers replace common ones whatever their case": (
        {
            **TWO,
            "headers": {"X-Lane": "normal"},
            "merge_headers": {"ana@example.net": {"x-lane": "gold", "X-Own": "1"}},
        },
        {**BASE, "Headers": {"X-Lane": "normal"}},
        [{**ANA, "Headers": {"X-Lane": "gold", "X-Own": "1"}}, BOB],
    ),
    "forced batch": (
        {**TWO, "cc": ["kim@example.com"], "merge_data": {}},
        {**BASE, "Cc": [address("kim@example.com")]},
        [ANA, BOB],
    ),
}


@pytest.mark.parametrize(("attributes", "common", "messages"), REQUESTS.values(), ids=REQUESTS.keys())
def test_request(attributes: dict[str, Any], common: dict[str, Any], messages: list[Any]) -> None:
    request = request_of(MAILJET.deliver(mail(**attributes)))
    assert request.method == "POST"
    assert request.url == "https://api.mailjet.com/v3.1/send"
    assert json_of(request) == {"Globals": common, "Messages": messages}


def test_esp_extra_is_merged_into_the_root() -> None:
    extra = {"Globals": {"CustomID": "order-1042", "Variables": {"b": 2}, "Subject": "Other"}, "SandboxMode": True}
    request = request_of(MAILJET.deliver(mail(merge_global_data={"a": 1}, esp_extra=extra)))
    assert json_of(request) == {
        "Globals": {**BASE, "Subject": "Other", "Variables": {"a": 1, "b": 2}, "CustomID": "order-1042"},
        "Messages": [ANA],
        "SandboxMode": True,
    }


def test_headers() -> None:
    assert dict(request_of(MAILJET.deliver(mail())).headers) == {
        "Accept": "application/json",
        "Authorization": "Basic a2V5OnNlY3JldA==",
        "Content-Type": "application/json",
    }


def test_another_host() -> None:
    esp = make_esp(Mailjet, api_key="key", secret_key="secret", api_url="https://api.us.mailjet.com/v3.1")
    assert request_of(esp.deliver(mail())).url == "https://api.us.mailjet.com/v3.1/send"


def test_an_inline_image_without_id_is_known_by_its_name() -> None:
    image = mime("image/png", PNG, 'inline; filename="logo.png"')
    [part] = json_of(request_of(MAILJET.deliver(mail(attach=[(image,)]))))["Globals"]["InlinedAttachments"]
    assert (part["ContentID"], part["Filename"]) == ("logo.png", "logo.png")


def test_an_attached_image_is_sent_as_it_is() -> None:
    made = message(attach=[("logo.png", PNG, "image/png")])
    [part] = json_of(request_of(MAILJET.deliver(outgoing_mail(made))))["Globals"]["Attachments"]
    assert part == {"ContentType": "image/png", "Filename": "logo.png", "Base64Content": "iVBORw0KGgo="}


UNSUPPORTED = {
    "multiple from_email addresses": {"from_email": "a@example.com, b@example.com"},
    "multiple reply_to addresses": {"reply_to": ["a@example.com", "b@example.com"]},
    "multiple tags": {"tags": ["a", "b"]},
    "send_at": {"send_at": 1_800_000_000},
    "a To header in extra_headers": {"headers": {"To": "all@example.com"}},
    "multiple html parts": {"alternatives": [("<p>1", "text/html"), ("<p>2", "text/html")]},
    "an AMP body": {"alternatives": [("<html amp4email>", "text/x-amp-html")]},
    "[[var:...]] in the subject without template_id": {
        "subject": "For [[var:name]]",
        "merge_data": {"ana@example.net": {"name": "Ana"}},
    },
    "Messages in esp_extra (it would replace all recipients)": {"esp_extra": {"Messages": []}},
}


@pytest.mark.parametrize(("what", "attributes"), UNSUPPORTED.items(), ids=UNSUPPORTED.keys())
def test_unsupported(what: str, attributes: dict[str, Any]) -> None:
    one = mail(**attributes)
    assert [found.what for found in (*check(one, Mailjet.supports), *MAILJET.check(one))] == [what]


def test_messages_in_esp_extra_can_be_left_out() -> None:
    [found] = MAILJET.check(mail(esp_extra={"Messages": [], "SandboxMode": True}))
    assert found.without == {"esp_extra": {"SandboxMode": True}}


@pytest.mark.parametrize(
    "attributes",
    [
        {"subject": "For [[var:name]]"},
        {"subject": "For [[var:name]]", "merge_global_data": {"name": "Ana"}, "template_id": 7},
        {"body": "For [[var:name]]", "merge_global_data": {"name": "Ana"}},
    ],
    ids=["no merge data", "template", "in the body"],
)
def test_supported_variables(attributes: dict[str, Any]) -> None:
    assert list(MAILJET.check(mail(**attributes))) == []


@pytest.mark.parametrize("field", ["cc", "bcc"])
def test_somebody_must_be_in_to(field: str) -> None:
    with pytest.raises(AnymailUnsupportedFeature, match="without any `to` recipients"):
        list(MAILJET.check(mail(**{"to": [], field: ["kim@example.com"]})))


def test_templates_have_numbers() -> None:
    with pytest.raises(AnymailInvalidValue, match="'welcome'"):
        request_of(MAILJET.deliver(mail(template_id="welcome")))


@pytest.mark.parametrize("name", ["metadata", "merge_metadata", "merge_global_data"])
def test_what_json_cannot_express(name: str) -> None:
    value = {"when": object()}
    with pytest.raises(AnymailSerializationError, match="when is of type object"):
        request_of(MAILJET.deliver(mail(**{name: {"ana@example.net": value} if name == "merge_metadata" else value})))


def success(*emails: str, first: int = 1, **copies: list[Any]) -> dict[str, Any]:
    to = [{"Email": email, "MessageUUID": "u", "MessageID": first + n} for n, email in enumerate(emails)]
    return {"Status": "success", "CustomID": "", "To": to, "Cc": [], "Bcc": [], **copies}


def entry(email: str, message_id: Any) -> dict[str, Any]:
    return {"Email": email, "MessageUUID": "u", "MessageID": message_id, "MessageHref": "https://api.mailjet.com/"}


def refused(code: str, text: str = "No.", *related: str, status: int = 400) -> dict[str, Any]:
    error = {"ErrorIdentifier": "i", "ErrorCode": code, "StatusCode": status, "ErrorMessage": text}
    return {"Status": "error", "Errors": [{**error, "ErrorRelatedTo": list(related)}]}


def results(*messages: Any) -> dict[str, Any]:
    return {"Messages": list(messages)}


BAD_TO = refused("mj-0013", '"x@@y" is an invalid email address.', "To[0].Email")
BAD_CC = refused("mj-0013", '"x@@y" is an invalid email address.', "Cc[0].Email")
BAD_FROM = refused("mj-0013", '"x@@y" is an invalid email address.', "From.Email")
NOT_ALLOWED = refused("send-0008", "Sender not allowed.", "From", status=403)
FAILED, INVALID = ("failed", None), ("invalid", None)
BATCH = {**TWO, "merge_data": {}}
BIG = 1152921536014337421

# A message's attributes, the answer, and the recipients' statuses.
ANSWERS: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
    "sent, an id for each": (
        {"to": ["customer@example.com"], "cc": ["copy@example.org"], "bcc": ["audit@example.org"]},
        answer(
            200,
            results(
                {
                    "Status": "success",
                    "CustomID": "",
                    "To": [entry("customer@example.com", BIG)],
                    "Cc": [entry("copy@example.org", BIG + 1)],
                    "Bcc": [entry("audit@example.org", BIG + 2)],
                }
            ),
        ),
        {
            "customer@example.com": ("sent", "1152921536014337421"),
            "copy@example.org": ("sent", "1152921536014337422"),
            "audit@example.org": ("sent", "1152921536014337423"),
        },
    ),
    "in another case, and in punycode": (
        {"to": ["Ana@Example.net", "bob@bücher.example", "cy@bücher.example"]},
        answer(200, results(success("ana@example.net", "bob@xn--bcher-kva.example", "cy@bücher.example"))),
        {"Ana@Example.net": ("sent", "1"), "bob@bücher.example": ("sent", "2"), "cy@bücher.example": ("sent", "3")},
    ),
    "SandboxMode": (
        {"esp_extra": {"SandboxMode": True}},
        answer(200, results(success("ana@example.net", first=0))),
        {"ana@example.net": ("sent", "0")},
    ),
    "one that Mailjet does not mention": (
        TWO,
        answer(200, results(success("ana@example.net"))),
        {"ana@example.net": ("sent", "1"), "bob@example.org": ("unknown", None)},
    ),
    "batch": (
        BATCH,
        answer(200, results(success("ana@example.net"), success("bob@example.org", first=2))),
        {"ana@example.net": ("sent", "1"), "bob@example.org": ("sent", "2")},
    ),
    "batch, one has an invalid address": (
        BATCH,
        answer(400, results(success("ana@example.net"), BAD_TO)),
        {"ana@example.net": ("sent", "1"), "bob@example.org": INVALID},
    ),
    "batch, one failed": (
        BATCH,
        answer(403, results(NOT_ALLOWED, success("bob@example.org"))),
        {"ana@example.net": FAILED, "bob@example.org": ("sent", "1")},
    ),
    "batch, the first copy was sent": (
        {**BATCH, "cc": ["kim@example.com"]},
        answer(400, results(success("ana@example.net", Cc=[entry("kim@example.com", 7)]), BAD_TO)),
        {"ana@example.net": ("sent", "1"), "bob@example.org": INVALID, "kim@example.com": ("sent", "7")},
    ),
    "batch, the last copy counts": (
        {**BATCH, "cc": ["kim@example.com"]},
        answer(
            200,
            results(
                success("ana@example.net", Cc=[entry("kim@example.com", 7)]),
                success("bob@example.org", first=2, Cc=[entry("kim@example.com", 8)]),
            ),
        ),
        {"ana@example.net": ("sent", "1"), "bob@example.org": ("sent", "2"), "kim@example.com": ("sent", "8")},
    ),
    "the only recipient is invalid": ({}, answer(400, results(BAD_TO)), {"ana@example.net": INVALID}),
    "an invalid one costs the others": (
        {**TWO, "cc": ["x@y.example"]},
        answer(400, results(BAD_CC)),
        {"ana@example.net": FAILED, "bob@example.org": FAILED, "x@y.example": INVALID},
    ),
    "a place that there is not": (
        BATCH,
        answer(400, results(refused("mj-0013", "No.", "To[5].Email"), success("bob@example.org"))),
        {"ana@example.net": FAILED, "bob@example.org": ("sent", "1")},
    ),
}


@pytest.mark.parametrize(("attributes", "response", "expected"), ANSWERS.values(), ids=ANSWERS.keys())
def test_statuses(attributes: dict[str, Any], response: Any, expected: dict[str, Any]) -> None:
    _, recipients = drive(MAILJET.deliver(mail(**attributes)), response)
    assert statuses(recipients) == expected


GLOBAL = {"ErrorIdentifier": "i", "ErrorCode": "mj-0002", "ErrorMessage": "Malformed JSON.", "StatusCode": 400}
HTML = {"Content-Type": "text/html"}

# The answer, and the error's sent, category and retryable.
ERRORS: dict[str, tuple[Any, bool | None, str, bool]] = {
    "malformed": (answer(400, GLOBAL), False, "invalid", False),
    "bad credentials": (answer(401, {"ErrorCode": "mj-0015", "ErrorMessage": "No."}), False, "auth", False),
    "bad credentials, older": (answer(401, {"ErrorMessage": "No.", "StatusCode": 401}), False, "auth", False),
    "suspended": (answer(400, {**GLOBAL, "ErrorCode": "mj-0001"}), False, "auth", False),
    "sender not allowed": (answer(400, results(NOT_ALLOWED)), False, "auth", False),
    "invalid sender": (answer(400, results(BAD_FROM)), False, "invalid", False),
    "no body": (answer(400, results(refused("send-0003"))), False, "invalid", False),
    "no reason": (answer(400, results({"Status": "error"})), False, "invalid", False),
    "refused with 200": (answer(200, results(refused("send-0003"))), False, "invalid", False),
    "too many calls": (answer(429, "Rate limit exceeded", HTML), False, "rate_limit", True),
    "too many calls, said to be JSON": (answer(429, "Rate limit exceeded"), False, "rate_limit", True),
    "400 in HTML": (answer(400, "<html>", HTML), None, "unreadable", False),
    "its fault": (answer(500, {"ErrorIdentifier": "i", "ErrorMessage": "Oops"}), None, "server", False),
    "unavailable": (answer(503, "Unavailable", HTML), None, "server", False),
    "400, not for each message": (answer(400, results()), None, "invalid", False),
    "not JSON": (answer(200, "<html>"), True, "unreadable", False),
    "a list": (answer(200, [1]), True, "unreadable", False),
    "no Messages": (answer(200, {}), True, "unreadable", False),
    "too many Messages": (answer(200, results(BAD_TO, BAD_TO)), True, "unreadable", False),
    "no Status": (answer(200, results({"To": [entry("ana@example.net", 1)]})), True, "unreadable", False),
    "no MessageID": (answer(200, results(success(To=[{"Email": "ana@example.net"}]))), True, "unreadable", False),
    "no Email": (answer(200, results(success(To=[{"MessageID": 1}]))), True, "unreadable", False),
    "MessageID of a wrong type": (answer(200, results(success(To=[entry("a@b.c", 1.5)]))), True, "unreadable", False),
    "nobody": (answer(200, results(success())), True, "unreadable", False),
    "no list": (answer(200, {"Messages": [{"Status": "success", "To": 7}]}), True, "unreadable", False),
}


@pytest.mark.parametrize(("response", "sent", "category", "retryable"), ERRORS.values(), ids=ERRORS.keys())
def test_errors(response: Any, sent: bool | None, category: str, retryable: bool) -> None:
    with pytest.raises(AnymailAPIError) as raised:
        drive(MAILJET.deliver(mail()), response)
    error = raised.value
    assert (error.sent, error.category, error.retryable) == (sent, category, retryable)
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (answer(400, GLOBAL), r"HTTP 400: mj-0002: Malformed JSON\."),
        (answer(400, results(NOT_ALLOWED)), r"send-0008: Sender not allowed\. \(From\)"),
        (answer(401, {"ErrorMessage": "No key.", "StatusCode": 401}), r"HTTP 401: No key\."),
        (answer(429, "Slow down", HTML), "HTTP 429: Slow down"),
        (
            answer(400, results({"Status": "error", "Errors": [*BAD_FROM["Errors"], {"ErrorCode": "send-0003"}, 7]})),
            r'mj-0013: "\(address\)" is an invalid email address\. \(From\.Email\); send-0003',
        ),
    ],
)
def test_error_quotes_mailjet(response: Any, words: str) -> None:
    with pytest.raises(AnymailAPIError, match=words):
        drive(MAILJET.deliver(mail()), response)


def test_an_error_of_one_of_a_batch_is_told_if_none_was_taken() -> None:
    with pytest.raises(AnymailAPIError, match="send-0008"):
        drive(MAILJET.deliver(mail(**BATCH)), answer(400, results(BAD_TO, NOT_ALLOWED)))


def test_a_sender_not_allowed_is_told_even_if_a_recipient_is_invalid() -> None:
    both = {"Status": "error", "Errors": [*BAD_TO["Errors"], *NOT_ALLOWED["Errors"]]}
    with pytest.raises(AnymailAPIError, match="send-0008"):
        drive(MAILJET.deliver(mail()), answer(400, results(both)))


class TestOver50:
    """A batch of over 50 takes several calls."""

    TO = [f"r{n}@example.com" for n in range(101)]

    def accepted(self, start: int, end: int) -> Any:
        return answer(200, results(*(success(self.TO[n], first=n + 1) for n in range(start, end))))

    def test_several_calls(self) -> None:
        flow = MAILJET.deliver(mail(to=self.TO, merge_data={}))
        requests, recipients = drive(flow, self.accepted(0, 50), self.accepted(50, 100), self.accepted(100, 101))
        assert [len(json_of(request)["Messages"]) for request in requests] == [50, 50, 1]
        assert [json_of(request)["Globals"] for request in requests] == [BASE] * 3
        assert statuses(recipients) == {email: ("sent", str(n + 1)) for n, email in enumerate(self.TO)}

    @pytest.mark.parametrize(
        ("trouble", "of_part"),
        [
            (answer(401, {"ErrorMessage": "No."}), "failed"),
            (answer(500, "Oops"), "unknown"),
            (AnymailTransportError("No answer", sent=None), "unknown"),
            (answer(400, results(*[NOT_ALLOWED] * 50)), "failed"),
        ],
        ids=["refused", "its fault", "no answer", "each refused"],
    )
    def test_a_later_one_fails(self, trouble: Any, of_part: str) -> None:
        flow = MAILJET.deliver(mail(to=self.TO, merge_data={}))
        requests, recipients = drive(flow, self.accepted(0, 50), trouble)
        assert len(requests) == 2
        of = [recipients[email].status for email in self.TO]
        assert of == ["sent"] * 50 + [of_part] * 50 + ["failed"]

    def test_the_first_one_fails(self) -> None:
        with pytest.raises(AnymailAPIError):
            drive(MAILJET.deliver(mail(to=self.TO, merge_data={})), answer(401, {"ErrorMessage": "No."}))

    def test_without_batch_it_is_one_message(self) -> None:
        assert len(json_of(request_of(MAILJET.deliver(mail(to=self.TO))))["Messages"]) == 1


class TestSeveralMessagesInOneCall:
    def test_requests_and_outcomes(self) -> None:
        mails = [
            mail(attach=[("a.txt", b"1", "text/plain")], esp_extra={"Globals": {"CustomID": "a"}}),
            mail(
                to=["bob@example.org"],
                headers={"X-Lane": "normal", "X-Team": "ops"},
                merge_headers={"bob@example.org": {"x-lane": "gold"}},
                merge_global_data={"shop": {"name": "Shop"}, "a": 1},
                merge_data={"bob@example.org": {"shop": {"url": "/"}}},
            ),
            mail(to=["cy@example.com"], template_id=7, body="", subject=""),
            mail(to=["di@example.com", "ed@example.com"]),
        ]
        [request], outcomes = drive(
            MAILJET.deliver_many(mails),
            answer(400, results(success("ana@example.net"), NOT_ALLOWED, BAD_TO, success("di@example.com", first=2))),
        )
        assert request.url == "https://api.mailjet.com/v3.1/send"
        attached = {"ContentType": "text/plain", "Filename": "a.txt", "Base64Content": "MQ=="}
        assert json_of(request) == {
            "Messages": [
                {**BASE, **ANA, "CustomID": "a", "Attachments": [attached]},
                {
                    **BASE,
                    **BOB,
                    "Headers": {"X-Lane": "gold", "X-Team": "ops"},
                    "Variables": {"shop": {"url": "/"}, "a": 1},
                },
                {"From": SHOP, "To": [address("cy@example.com")], "TemplateID": 7, "TemplateLanguage": True},
                {**BASE, "To": [address("di@example.com"), address("ed@example.com")]},
            ]
        }
        assert statuses(outcomes[0]) == {"ana@example.net": ("sent", "1")}
        assert isinstance(outcomes[1], AnymailAPIError)
        assert (outcomes[1].category, outcomes[1].sent) == ("auth", False)
        assert statuses(outcomes[2]) == {"cy@example.com": INVALID}
        assert statuses(outcomes[3]) == {"di@example.com": ("sent", "2"), "ed@example.com": ("unknown", None)}

    def test_one_unreadable_result_is_no_other_messages_error(self) -> None:
        mails = [mail(), mail(to=["bob@example.org"])]
        response = answer(200, results({"Status": "success"}, success("bob@example.org")))
        _, [first, second] = drive(MAILJET.deliver_many(mails), response)
        assert isinstance(first, AnymailAPIError)
        assert first.sent is True
        assert statuses(second) == {"bob@example.org": ("sent", "1")}

    @pytest.mark.parametrize(
        ("attributes", "may"),
        [
            ({}, True),
            (TWO, True),
            ({"merge_data": {}}, True),
            ({"attach": [("a.txt", b"1", "text/plain")], "template_id": 7}, True),
            ({"esp_extra": {"Globals": {"Priority": 3}}}, True),
            ({"esp_extra": {"SandboxMode": True}}, False),
            ({"esp_extra": {"Globals": "x"}}, False),
            (BATCH, False),
        ],
    )
    def test_which_may_share_a_call(self, attributes: dict[str, Any], may: bool) -> None:
        assert (MAILJET.batch_key(mail(**attributes)) is not None) is may


def test_large_attachments_are_encoded_while_they_are_sent() -> None:
    request = request_of(MAILJET.deliver(mail(attach=[("a.bin", b"x" * 300_000, "application/octet-stream")])))
    assert not isinstance(request.body, bytes)
    [part] = json.loads(bytes(request.body))["Globals"]["Attachments"]
    assert len(part["Base64Content"]) == 400_000
