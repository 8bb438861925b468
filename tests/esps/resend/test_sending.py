"""Resend: messages and the exact requests they become, answers and the statuses they become."""

from __future__ import annotations

import datetime as dt
from email.mime.image import MIMEImage
from typing import Any

import pytest

from anymail.esps.resend.sending import Resend
from anymail.exceptions import AnymailAPIError, AnymailInvalidValue, AnymailSerializationError, AnymailTransportError
from anymail.mail.message import outgoing_mail
from anymail.mail.supports import check
from anymail.message import attach_inline_image
from anymail.wire import Request
from support import PNG, answer, drive, json_of, mail, make_esp, message, request_of, statuses

RESEND = make_esp(Resend, api_key="re_key")
BASE = {"from": "shop@example.com", "to": ["ana@example.net"], "subject": "Hi", "text": "Hello"}
TEMPLATE = {"subject": None, "body": "", "template_id": "order-confirmation"}
TEMPLATED = {"from": "shop@example.com", "to": ["ana@example.net"], "template": {"id": "order-confirmation"}}
TWO = {"to": ["ana@example.net", "Bo@Example.org"]}


def inline(content_id: str | None) -> MIMEImage:
    image = MIMEImage(PNG, "png")
    image.add_header("Content-Disposition", "inline", filename="logo.png")
    if content_id:
        image["Content-ID"] = f"<{content_id}>"
    return image


# A message's attributes, and the path and body of its request.
REQUESTS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "plain": ({}, "emails", BASE),
    # Text and HTML are both there, and Resend is not left to guess the text of the HTML.
    "html only": (
        {"body": "<p>Hello", "content_subtype": "html"},
        "emails",
        {**BASE, "html": "<p>Hello", "text": ""},
    ),
    "rich": (
        {
            "from_email": '"Harbor Books, Ltd." <orders@example.com>',
            "to": ["Robin Vale <reader@example.net>", "Zoë <post@bücher.example.com>"],
            "cc": ["desk@example.com"],
            "bcc": ["audit@example.com"],
            "reply_to": ["Help <help@example.com>", "returns@example.com"],
            "subject": "Your order 8812 — confirmée",
            "body": "Thanks!",
            "html": "<p>Thanks!</p>",
            "headers": {"X-Campaign": "spring", "X-Retry": 3},
            "metadata": {"order_id": 8812, "tier": "gold"},
            "tags": ["order confirmation", "spring"],
            "attach": [("invoice.txt", "Total: 42 €", "text/plain"), (inline("logo1@example.com"),)],
            "send_at": dt.datetime(2026, 3, 6, 8, tzinfo=dt.UTC),
        },
        "emails",
        {
            "from": '"Harbor Books, Ltd." <orders@example.com>',
            "to": ["Robin Vale <reader@example.net>", "Zoë <post@xn--bcher-kva.example.com>"],
            "cc": ["desk@example.com"],
            "bcc": ["audit@example.com"],
            "reply_to": ["Help <help@example.com>", "returns@example.com"],
            "subject": "Your order 8812 — confirmée",
            "text": "Thanks!",
            "html": "<p>Thanks!</p>",
            "headers": {
                "X-Campaign": "spring",
                "X-Retry": "3",
                "X-Metadata": '{"order_id": 8812, "tier": "gold"}',
                "X-Tags": '["order confirmation", "spring"]',
            },
            "attachments": [
                {
                    "filename": "invoice.txt",
                    "content": "VG90YWw6IDQyIOKCrA==",
                    "content_type": 'text/plain; charset="utf-8"',
                },
                {
                    "filename": "logo.png",
                    "content": "iVBORw0KGgo=",
                    "content_type": "image/png",
                    "content_id": "logo1@example.com",
                },
            ],
            "scheduled_at": "2026-03-06T08:00:00+00:00",
        },
    ),
    "metadata takes the place of a header": (
        {"headers": {"x-metadata": "mine", "X-Other": "1"}, "metadata": {"n": 1}},
        "emails",
        {**BASE, "headers": {"X-Other": "1", "X-Metadata": '{"n": 1}'}},
    ),
    "milliseconds": (
        {"send_at": dt.datetime(2026, 3, 6, 8, 0, 0, 123456, tzinfo=dt.UTC)},
        "emails",
        {**BASE, "scheduled_at": "2026-03-06T08:00:00.123+00:00"},
    ),
    "unnamed attachment": (
        {"attach": [(None, b"%PDF-1.7\n", "application/pdf")]},
        "emails",
        {
            **BASE,
            "attachments": [
                {"filename": "attachment.pdf", "content": "JVBERi0xLjcK", "content_type": "application/pdf"}
            ],
        },
    ),
    "names that tell nothing, or only of what is inside": (
        {"attach": [("data.q7x", b"1", "application/x-own"), ("a.tar.gz", b"2", "application/gzip")]},
        "emails",
        {
            **BASE,
            "attachments": [
                {"filename": "data.q7x", "content": "MQ==", "content_type": "application/x-own"},
                {"filename": "a.tar.gz", "content": "Mg==", "content_type": "application/gzip"},
            ],
        },
    ),
    "no to": (
        {"to": [], "cc": ["team@example.org"]},
        "emails",
        {"from": "shop@example.com", "cc": ["team@example.org"], "subject": "Hi", "text": "Hello"},
    ),
    "no subject": ({"subject": None}, "emails", {**BASE, "subject": ""}),
    "esp_extra": (
        {
            "headers": {"X-Shop": "7"},
            "esp_extra": {
                "tags": [{"name": "campaign", "value": "spring"}],
                "topic_id": "b6d24b8e",
                "scheduled_at": "in 2 hours",
                "headers": {"X-Own": "1"},
            },
        },
        "emails",
        {
            **BASE,
            "tags": [{"name": "campaign", "value": "spring"}],
            "topic_id": "b6d24b8e",
            "scheduled_at": "in 2 hours",
            "headers": {"X-Own": "1"},
        },
    ),
    "attachment by URL": (
        {"esp_extra": {"attachments": [{"path": "https://example.com/a.pdf", "filename": "a.pdf"}]}},
        "emails",
        {**BASE, "attachments": [{"path": "https://example.com/a.pdf", "filename": "a.pdf"}]},
    ),
    "template": (
        {
            **TEMPLATE,
            "from_email": "Harbor Books <orders@example.com>",
            "merge_global_data": {"CUSTOMER": "Robin", "TOTAL": 42.5},
        },
        "emails",
        {
            "from": "Harbor Books <orders@example.com>",
            "to": ["ana@example.net"],
            "template": {"id": "order-confirmation", "variables": {"CUSTOMER": "Robin", "TOTAL": 42.5}},
        },
    ),
    "template with its own sender, and our subject": (
        {**TEMPLATE, "from_email": None, "subject": "Hi"},
        "emails",
        {"to": ["ana@example.net"], "subject": "Hi", "template": {"id": "order-confirmation"}},
    ),
    "template in esp_extra": (
        {"subject": None, "body": "", "esp_extra": {"template": {"id": "order-confirmation"}}},
        "emails",
        TEMPLATED,
    ),
    "batch with template": (
        {
            **TEMPLATE,
            "from_email": "Harbor Books <orders@example.com>",
            "to": ["Robin Vale <reader@example.net>", "ana@example.org"],
            "merge_global_data": {"SHOP": "Harbor"},
            "merge_data": {"reader@example.net": {"CUSTOMER": "Robin"}, "ana@example.org": {"CUSTOMER": "Ana"}},
            "metadata": {"batch": 7},
            "merge_metadata": {"reader@example.net": {"user": 11}, "ana@example.org": {"user": 12}},
            "headers": {"List-Unsubscribe": "<https://example.com/u>"},
            "merge_headers": {
                "reader@example.net": {"list-unsubscribe": "<https://example.com/u/11>"},
                "ana@example.org": {"List-Unsubscribe": "<https://example.com/u/12>"},
            },
        },
        "emails/batch",
        [
            {
                "from": "Harbor Books <orders@example.com>",
                "to": ["Robin Vale <reader@example.net>"],
                "template": {"id": "order-confirmation", "variables": {"SHOP": "Harbor", "CUSTOMER": "Robin"}},
                "headers": {
                    "X-Metadata": '{"batch": 7, "user": 11}',
                    "list-unsubscribe": "<https://example.com/u/11>",
                },
            },
            {
                "from": "Harbor Books <orders@example.com>",
                "to": ["ana@example.org"],
                "template": {"id": "order-confirmation", "variables": {"SHOP": "Harbor", "CUSTOMER": "Ana"}},
                "headers": {
                    "X-Metadata": '{"batch": 7, "user": 12}',
                    "List-Unsubscribe": "<https://example.com/u/12>",
                },
            },
        ],
    ),
    "forced batch": (
        {"to": ["ana@example.net", "bo@example.org"], "cc": ["c@example.org"], "merge_data": {}},
        "emails/batch",
        [{**BASE, "cc": ["c@example.org"]}, {**BASE, "to": ["bo@example.org"], "cc": ["c@example.org"]}],
    ),
    "batch with esp_extra": (
        {"to": ["ana@example.net", "bo@example.org"], "merge_metadata": {}, "esp_extra": {"topic_id": "t"}},
        "emails/batch",
        [{**BASE, "topic_id": "t"}, {**BASE, "to": ["bo@example.org"], "topic_id": "t"}],
    ),
    "batch with attachments": (
        {"to": ["ana@example.net"], "merge_metadata": {}, "attach": [("a.pdf", b"1", "application/pdf")]},
        "emails",
        {**BASE, "attachments": [{"filename": "a.pdf", "content": "MQ==", "content_type": "application/pdf"}]},
    ),
    "batch without to": (
        {"to": [], "bcc": ["a@example.org"], "merge_metadata": {}},
        "emails",
        {"from": "shop@example.com", "bcc": ["a@example.org"], "subject": "Hi", "text": "Hello"},
    ),
}


@pytest.mark.parametrize(("attributes", "path", "body"), REQUESTS.values(), ids=REQUESTS.keys())
def test_request(attributes: dict[str, Any], path: str, body: Any) -> None:
    request = request_of(RESEND.deliver(mail(**attributes)))
    assert request.method == "POST"
    assert request.url == f"https://api.resend.com/{path}"
    assert json_of(request) == body


def test_headers() -> None:
    request = request_of(RESEND.deliver(mail()))
    headers = dict(request.headers)
    assert headers.pop("User-Agent").startswith("anymail/")
    assert headers.pop("Idempotency-Key") == request.idempotency_key
    assert headers == {
        "Accept": "application/json",
        "Authorization": "Bearer re_key",
        "Content-Type": "application/json",
    }


def test_the_key_is_shown_nowhere() -> None:
    request = request_of(RESEND.deliver(mail()))
    assert "re_key" not in f"{request!r} {RESEND.options!r}"


def test_another_url() -> None:
    esp = make_esp(Resend, api_key="re_key", api_url="https://proxy.example.com/resend")
    assert request_of(esp.deliver(mail())).url == "https://proxy.example.com/resend/emails"


def test_inline_image() -> None:
    made = message(html="<img>")
    cid = attach_inline_image(made, PNG, "logo.png", domain="example.com")
    [attachment] = json_of(request_of(RESEND.deliver(outgoing_mail(made))))["attachments"]
    assert attachment == {
        "filename": "logo.png",
        "content": "iVBORw0KGgo=",
        "content_type": "image/png",
        "content_id": cid,
    }


def test_metadata_that_json_cannot_express() -> None:
    with pytest.raises(AnymailSerializationError, match=r"metadata\.due is of type date"):
        request_of(RESEND.deliver(mail(metadata={"due": dt.date(2026, 3, 6)})))


class TestIdempotencyKey:
    """What has one is repeated without fear of sending twice."""

    def test_each_message_has_its_own(self) -> None:
        keys = {request_of(RESEND.deliver(mail())).idempotency_key for _ in range(2)}
        assert len(keys - {None}) == 2

    @pytest.mark.parametrize(
        "attributes",
        [{"esp_extra": {"idempotency_key": "order-8812"}}, {"headers": {"idempotency-key": "order-8812"}}],
        ids=["esp_extra", "header"],
    )
    def test_one_of_the_message(self, attributes: dict[str, Any]) -> None:
        request = request_of(RESEND.deliver(mail(**attributes)))
        assert request.idempotency_key == request.headers["Idempotency-Key"] == "order-8812"
        assert json_of(request) == BASE

    def test_each_call_of_a_message_has_its_own(self) -> None:
        to = [f"r{n}@example.com" for n in range(201)]
        flow = RESEND.deliver(mail(to=to, merge_metadata={}, esp_extra={"idempotency_key": "k"}))
        requests, _ = drive(flow, *(batch_answer(count) for count in (100, 100, 1)))
        assert [request.headers["Idempotency-Key"] for request in requests] == ["k", "k-2", "k-3"]

    def test_no_forged_header(self) -> None:
        with pytest.raises(AnymailInvalidValue, match="idempotency_key"):
            request_of(RESEND.deliver(mail(esp_extra={"idempotency_key": "k\r\nX-Forged: 1"})))


UNSUPPORTED: dict[str, dict[str, Any]] = {
    "multiple from_email addresses": {"from_email": "a@example.com, b@example.com"},
    "envelope_sender": {"envelope_sender": "bounces@example.com"},
    "track_opens": {"track_opens": True},
    "track_clicks": {"track_clicks": False},
    "a To header in extra_headers": {"headers": {"To": "all@example.com"}},
    "multiple html parts": {"html": "<p>", "alternatives": [("<b>", "text/html"), ("<i>", "text/html")]},
    "an AMP body": {"alternatives": [("<html amp4email>", "text/x-amp-html")]},
    "a non-ASCII local part (EAI) in to": {"to": ["josé@example.com"]},
    "merge_data without template_id": {"merge_data": {"ana@example.net": {"NAME": "Ana"}}},
    "merge_global_data without template_id": {"merge_global_data": {"NAME": "Ana"}},
    "text with template_id": {"template_id": "x", "subject": None},
    "html with template_id": {"template_id": "x", "body": "", "html": "<p>"},
    "template variables of type NoneType, bool, dict, list": {
        **TEMPLATE,
        "merge_global_data": {"A": [1], "B": {"C": 1}, "OK": 1.5},
        "merge_data": {"ana@example.net": {"D": True, "E": None, "OK": "x"}},
    },
    "inline attachments without a Content-ID": {"attach": [(inline(None),)]},
    "unnamed attachments of type application/x-own": {"attach": [(None, b"1", "application/x-own")]},
    "attachments of type image/png with name 'logo.jpg'": {"attach": [("logo.jpg", PNG, "image/png")]},
}


@pytest.mark.parametrize(("what", "attributes"), UNSUPPORTED.items(), ids=UNSUPPORTED.keys())
def test_unsupported(what: str, attributes: dict[str, Any]) -> None:
    one = mail(**attributes)
    assert [found.what for found in (*check(one, Resend.supports), *RESEND.check(one))] == [what]


def test_what_is_left_without_the_unsupported() -> None:
    files = [("logo.jpg", PNG, "image/png"), ("a.csv", b"1", "text/csv"), (None, b"1", "application/x-own")]
    variables = {"merge_global_data": {"A": [1], "OK": 1.5}, "merge_data": {"ana@example.net": {"D": True, "OK": "x"}}}
    found = list(RESEND.check(mail(**{**TEMPLATE, **variables, "attach": files})))
    # Each leaves all of its kind: they are laid over the message one after the other.
    assert found[0].without == {"merge_global_data": {"OK": 1.5}, "merge_data": {"ana@example.net": {"OK": "x"}}}
    assert [[one.name for one in each.without["attachments"]] for each in found[1:]] == [["a.csv"], ["a.csv"]]


def test_extensions_need_not_be_verified() -> None:
    esp = make_esp(Resend, api_key="re_key", verify_attachment_extensions=False)
    assert list(esp.check(mail(attach=[("logo.jpg", PNG, "image/png")]))) == []


def batch_answer(count: int, *errors: tuple[int, str]) -> Any:
    content: dict[str, Any] = {"data": [{"id": f"id-{n}"} for n in range(count)]}
    if errors:
        content["errors"] = [{"index": index, "message": text} for index, text in errors]
    return answer(200, content)


def refusal(status: int, name: str, text: str = "No.") -> Any:
    return answer(status, {"statusCode": status, "name": name, "message": text})


BAD_TO = "Invalid `to` field. The email address needs to follow the `email@example.com` format."
BAD_FROM = "Invalid `from` field. The email address needs to follow the `email@example.com` format."
QUEUED, INVALID, FAILED, UNKNOWN = ("queued", "id-1"), ("invalid", None), ("failed", None), ("unknown", None)

# A message's attributes, the answers, and the recipients' statuses.
ANSWERS: dict[str, tuple[dict[str, Any], list[Any], dict[str, Any]]] = {
    "single": (
        {"cc": ["c@example.org"], "bcc": ["d@bücher.example"]},
        [answer(200, {"id": "id-1"})],
        {"ana@example.net": QUEUED, "c@example.org": QUEUED, "d@bücher.example": QUEUED},
    ),
    "batch": (
        {**TWO, "merge_data": {}, "cc": ["c@example.org"]},
        [batch_answer(2)],
        {"ana@example.net": ("queued", "id-0"), "Bo@Example.org": QUEUED, "c@example.org": ("queued", None)},
    ),
    "a bad address in a batch": (
        {"to": ["x@a", "ana@example.net", "y@b"], "merge_data": {}},
        [batch_answer(1, (2, "The 'to' field must be a valid address."), (0, BAD_TO))],
        {"x@a": INVALID, "ana@example.net": ("queued", "id-0"), "y@b": INVALID},
    ),
    "another fault in a batch": (
        {**TWO, "merge_data": {}},
        [batch_answer(1, (1, BAD_FROM))],
        {"ana@example.net": ("queued", "id-0"), "Bo@Example.org": FAILED},
    ),
    "only bad addresses in a batch": (
        {"to": ["x@a", "y@b"], "cc": ["c@example.org"], "merge_data": {}},
        [batch_answer(0, (0, BAD_TO), (1, BAD_TO))],
        {"x@a": INVALID, "y@b": INVALID, "c@example.org": FAILED},
    ),
    "one by one for attachments": (
        {"to": ["ana@example.net", "x@a", "b@c"], "merge_data": {}, "attach": [("a.csv", b"1", "text/csv")]},
        [answer(200, {"id": "id-1"}), refusal(422, "validation_error", BAD_TO), answer(200, {"id": "id-3"})],
        {"ana@example.net": QUEUED, "x@a": INVALID, "b@c": ("queued", "id-3")},
    ),
    "one by one until the quota is used up": (
        {"to": ["ana@example.net", "b@c", "d@e"], "merge_data": {}, "attach": [("a.csv", b"1", "text/csv")]},
        [answer(200, {"id": "id-1"}), refusal(429, "daily_quota_exceeded")],
        {"ana@example.net": QUEUED, "b@c": FAILED, "d@e": FAILED},
    ),
    "one by one until the answer is lost": (
        {"to": ["ana@example.net", "b@c", "d@e"], "merge_data": {}, "attach": [("a.csv", b"1", "text/csv")]},
        [answer(200, {"id": "id-1"}), AnymailTransportError("No answer.", sent=None)],
        {"ana@example.net": QUEUED, "b@c": UNKNOWN, "d@e": FAILED},
    ),
}


@pytest.mark.parametrize(("attributes", "answers", "expected"), ANSWERS.values(), ids=ANSWERS.keys())
def test_statuses(attributes: dict[str, Any], answers: list[Any], expected: dict[str, Any]) -> None:
    _, recipients = drive(RESEND.deliver(mail(**attributes)), *answers)
    assert statuses(recipients) == expected


# The answer, and the error's sent, category and retryable.
ERRORS: dict[str, tuple[Any, bool | None, str, bool]] = {
    "bad JSON": (refusal(400, "validation_error"), False, "invalid", False),
    "bad key, as seen": (refusal(400, "validation_error", "API key is invalid"), False, "auth", False),
    "no key": (refusal(401, "missing_api_key"), False, "auth", False),
    "bad key": (refusal(403, "invalid_api_key"), False, "auth", False),
    "unverified domain": (refusal(403, "validation_error", "The domain is not verified."), False, "auth", False),
    "inbound quota": (refusal(403, "email_above_quota"), False, "quota", False),
    "no User-Agent": (answer(403, "error code: 1010"), False, "auth", False),
    "not found": (refusal(404, "not_found"), False, "invalid", False),
    "key used for another": (refusal(409, "invalid_idempotent_request"), False, "invalid", False),
    "key still at work": (refusal(409, "concurrent_idempotent_requests"), None, "server", False),
    "bad message": (refusal(422, "missing_required_field"), False, "invalid", False),
    "too fast": (refusal(429, "rate_limit_exceeded"), False, "rate_limit", True),
    "daily quota": (refusal(429, "daily_quota_exceeded"), False, "quota", False),
    "monthly quota": (refusal(429, "monthly_quota_exceeded"), False, "quota", False),
    "security": (refusal(451, "security_error"), False, "auth", False),
    "its fault": (refusal(500, "application_error"), None, "server", False),
    "unavailable": (refusal(503, "service_unavailable"), None, "server", False),
    "not JSON": (answer(200, "<html>"), True, "unreadable", False),
    "no id": (answer(200, {"object": "email"}), True, "unreadable", False),
    "an error that calls itself 200": (answer(200, {"name": "validation_error"}), True, "unreadable", False),
    "a list": (answer(200, [1]), True, "unreadable", False),
    "an error of another shape": (answer(422, {"message": ["No."]}), False, "invalid", False),
}


@pytest.mark.parametrize(("response", "sent", "category", "retryable"), ERRORS.values(), ids=ERRORS.keys())
def test_errors(response: Any, sent: bool | None, category: str, retryable: bool) -> None:
    with pytest.raises(AnymailAPIError) as raised:
        drive(RESEND.deliver(mail()), response)
    error = raised.value
    assert (error.sent, error.category, error.retryable) == (sent, category, retryable)


UNREADABLE = {
    "not an object": [{"id": "id-1"}],
    "no data": {"errors": []},
    "too few": {"data": [{"id": "id-1"}]},
    "no ids": {"data": [{}, {}]},
    "ids of another type": {"data": [{"id": 1}, {"id": 2}]},
    "an error at no place": {"data": [{"id": "id-1"}], "errors": [{"index": 7, "message": "No."}]},
    "errors of another shape": {"data": [{"id": "id-1"}], "errors": ["No."]},
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_batch_answer_that_makes_no_sense(content: Any) -> None:
    with pytest.raises(AnymailAPIError) as raised:
        drive(RESEND.deliver(mail(**TWO, merge_data={})), answer(200, content))
    assert (raised.value.sent, raised.value.category) == (True, "unreadable")


def test_error_quotes_resend() -> None:
    with pytest.raises(AnymailAPIError, match=r"HTTP 422.*: validation_error: Invalid `from` field"):
        drive(RESEND.deliver(mail()), refusal(422, "validation_error", BAD_FROM))


def test_retry_after() -> None:
    slow_down = answer(429, {"name": "rate_limit_exceeded", "message": "Slow down"}, {"retry-after": "2"})
    with pytest.raises(AnymailAPIError) as raised:
        drive(RESEND.deliver(mail()), slow_down)
    assert raised.value.retry_after == 2


class TestBatchThatFails:
    """A batch fails as a whole only if none of its messages was taken."""

    def test_every_item_for_another_reason_than_its_address(self) -> None:
        with pytest.raises(AnymailAPIError, match="Invalid `from` field") as raised:
            drive(RESEND.deliver(mail(**TWO, merge_data={})), batch_answer(0, (0, BAD_TO), (1, BAD_FROM)))
        assert (raised.value.sent, raised.value.category) == (False, "invalid")

    def test_the_first_call_of_several(self) -> None:
        to = [f"r{n}@example.com" for n in range(101)]
        with pytest.raises(AnymailAPIError) as raised:
            drive(RESEND.deliver(mail(to=to, merge_metadata={})), refusal(401, "missing_api_key"))
        assert raised.value.category == "auth"

    def test_the_second_call_of_several(self) -> None:
        to = [f"r{n}@example.com" for n in range(101)]
        flow = RESEND.deliver(mail(to=to, merge_metadata={}))
        requests, recipients = drive(flow, batch_answer(100), refusal(500, "application_error"))
        assert [len(json_of(request)) for request in requests] == [100, 1]
        assert statuses(recipients)["r99@example.com"] == ("queued", "id-99")
        assert statuses(recipients)["r100@example.com"] == UNKNOWN


def test_several_messages_in_one_call() -> None:
    mails = [mail(cc=["c@example.org"]), mail(to=["bo@example.org", "cy@x"], merge_metadata={}), mail(to=["d@e"])]
    [request], outcomes = drive(RESEND.deliver_many(mails), batch_answer(2, (2, BAD_TO), (3, BAD_TO)))
    assert request.url.endswith("/emails/batch")
    assert request.headers["x-batch-validation"] == "permissive"
    assert [one["to"] for one in json_of(request)] == [["ana@example.net"], ["bo@example.org"], ["cy@x"], ["d@e"]]
    assert statuses(outcomes[0]) == {"ana@example.net": ("queued", "id-0"), "c@example.org": ("queued", "id-0")}
    assert statuses(outcomes[1]) == {"bo@example.org": QUEUED, "cy@x": INVALID}
    assert isinstance(outcomes[2], AnymailAPIError)
    assert BAD_TO.replace("email@example.com", "(address)") in str(outcomes[2])


SHARES_A_CALL: dict[str, tuple[dict[str, Any], bool]] = {
    "plain": ({}, True),
    "template": (TEMPLATE, True),
    "batch": ({**TWO, "merge_data": {}}, True),
    "attachments, which would be dropped": ({"attach": [("a.csv", b"1", "text/csv")]}, False),
    "send_at": ({"send_at": 1_800_000_000}, False),
    "esp_extra, whatever it is": ({"esp_extra": {"attachments": [{"path": "https://example.com/"}]}}, False),
    "a key of its own": ({"headers": {"Idempotency-Key": "k"}}, False),
    "a batch of over 100": ({"to": [f"r{n}@example.com" for n in range(101)], "merge_data": {}}, False),
}


@pytest.mark.parametrize(("attributes", "shares"), SHARES_A_CALL.values(), ids=SHARES_A_CALL.keys())
def test_what_may_share_a_call(attributes: dict[str, Any], shares: bool) -> None:
    key = RESEND.batch_key(mail(**attributes))
    assert key == (RESEND.batch_key(mail()) if shares else None)


def test_a_repeat_is_the_same_to_the_byte() -> None:
    request: Request = request_of(RESEND.deliver(mail(attach=[("a.txt", b"x" * 300_000, "text/plain")])))
    assert bytes(request.body) == bytes(request.body)
    assert request.repeatable
