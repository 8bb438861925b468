"""Postmark: messages and the exact requests they become, answers and the statuses they become."""

from __future__ import annotations

from typing import Any

import pytest

from anymail.esps.postmark.sending import Postmark
from anymail.exceptions import AnymailAPIError
from anymail.mail.message import outgoing_mail
from anymail.mail.supports import check
from anymail.message import attach_inline_image
from support import PNG, answer, drive, json_of, mail, make_esp, message, request_of, statuses

POSTMARK = make_esp(Postmark, server_token="token")
BASE = {"From": "shop@example.com", "To": "ana@example.net", "Subject": "Hi", "TextBody": "Hello"}
TEMPLATE = {"subject": None, "body": "", "template_id": "order-shipped"}
TEMPLATED = {"From": "shop@example.com", "To": "ana@example.net", "TemplateAlias": "order-shipped"}

# A message's attributes, and the path and body of its request.
REQUESTS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "plain": ({}, "email", BASE),
    "names and domains": (
        {
            "from_email": "Example Shop <shop@example.com>",
            "to": ["Ana López <ana@example.net>", "post@bücher.example.com"],
            "cc": ["team@example.org"],
            "bcc": ["archive@example.org"],
            "reply_to": ["help@example.com", '"Orders, EU" <orders@example.com>'],
        },
        "email",
        {
            **BASE,
            "From": "Example Shop <shop@example.com>",
            "To": "Ana López <ana@example.net>, post@xn--bcher-kva.example.com",
            "Cc": "team@example.org",
            "Bcc": "archive@example.org",
            "ReplyTo": 'help@example.com, "Orders, EU" <orders@example.com>',
        },
    ),
    "html and headers": (
        {"html": "<p>Hello", "headers": {"X-Shop": 7}},
        "email",
        {**BASE, "HtmlBody": "<p>Hello", "Headers": [{"Name": "X-Shop", "Value": "7"}]},
    ),
    "html only": (
        {"body": "<p>Hello", "content_subtype": "html"},
        "email",
        {"From": "shop@example.com", "To": "ana@example.net", "Subject": "Hi", "HtmlBody": "<p>Hello"},
    ),
    "attachments": (
        {"attach": [("A-1042.pdf", b"%PDF-1.7\n", "application/pdf"), ("note.txt", "Grüße", "text/plain")]},
        "email",
        {
            **BASE,
            "Attachments": [
                {"Name": "A-1042.pdf", "Content": "JVBERi0xLjcK", "ContentType": "application/pdf"},
                {"Name": "note.txt", "Content": "R3LDvMOfZQ==", "ContentType": 'text/plain; charset="utf-8"'},
            ],
        },
    ),
    "labels and switches": (
        {"metadata": {"order": "A-1042", "n": 7}, "tags": ["receipt"], "track_opens": False, "track_clicks": False},
        "email",
        {
            **BASE,
            "Metadata": {"order": "A-1042", "n": "7"},
            "Tag": "receipt",
            "TrackOpens": False,
            "TrackLinks": "None",
        },
    ),
    "clicks": ({"track_clicks": True}, "email", {**BASE, "TrackLinks": "HtmlAndText"}),
    "no to": (
        {"to": [], "cc": ["team@example.org"]},
        "email",
        {"From": "shop@example.com", "Cc": "team@example.org", "Subject": "Hi", "TextBody": "Hello"},
    ),
    "esp_extra": (
        {"esp_extra": {"MessageStream": "broadcast", "TrackLinks": "HtmlOnly", "server_token": "other"}},
        "email",
        {**BASE, "MessageStream": "broadcast", "TrackLinks": "HtmlOnly"},
    ),
    "template alias": (
        {**TEMPLATE, "merge_global_data": {"shop": "Example"}},
        "email/withTemplate",
        {**TEMPLATED, "TemplateModel": {"shop": "Example"}},
    ),
    "template id": (
        {**TEMPLATE, "template_id": 1042},
        "email/withTemplate",
        {"From": "shop@example.com", "To": "ana@example.net", "TemplateId": 1042, "TemplateModel": {}},
    ),
    "template in esp_extra": (
        {"subject": None, "body": "", "esp_extra": {"TemplateAlias": "x"}},
        "email/withTemplate",
        {"From": "shop@example.com", "To": "ana@example.net", "TemplateAlias": "x", "TemplateModel": {}},
    ),
    "batch": (
        {
            "to": ["Ana <ana@example.net>", "bo@bücher.example"],
            "cc": ["team@example.org"],
            "metadata": {"tier": "gold"},
            "merge_metadata": {"ana@example.net": {"order": "1"}, "bo@bücher.example": {"order": "2"}},
            "headers": {"X-Shop": "7", "List-Unsubscribe": "<https://example.com/u>"},
            "merge_headers": {"ana@example.net": {"list-unsubscribe": "<https://example.com/u/ana>"}},
        },
        "email/batch",
        [
            {
                **BASE,
                "To": "Ana <ana@example.net>",
                "Cc": "team@example.org",
                "Metadata": {"tier": "gold", "order": "1"},
                "Headers": [
                    {"Name": "X-Shop", "Value": "7"},
                    {"Name": "list-unsubscribe", "Value": "<https://example.com/u/ana>"},
                ],
            },
            {
                **BASE,
                "To": "bo@xn--bcher-kva.example",
                "Cc": "team@example.org",
                "Metadata": {"tier": "gold", "order": "2"},
                "Headers": [
                    {"Name": "X-Shop", "Value": "7"},
                    {"Name": "List-Unsubscribe", "Value": "<https://example.com/u>"},
                ],
            },
        ],
    ),
    "forced batch": (
        {"to": ["ana@example.net", "bo@example.org"], "merge_data": {}},
        "email/batch",
        [BASE, {**BASE, "To": "bo@example.org"}],
    ),
    "batch with template": (
        {
            **TEMPLATE,
            "to": ["ana@example.net", "bo@example.org"],
            "merge_data": {"ana@example.net": {"name": "Ana"}},
            "merge_global_data": {"shop": "Example"},
        },
        "email/batchWithTemplates",
        {
            "Messages": [
                {**TEMPLATED, "TemplateModel": {"shop": "Example", "name": "Ana"}},
                {**TEMPLATED, "To": "bo@example.org", "TemplateModel": {"shop": "Example"}},
            ]
        },
    ),
    "batch without to": (
        {"to": [], "bcc": ["a@example.org"], "merge_metadata": {}},
        "email",
        {"From": "shop@example.com", "Bcc": "a@example.org", "Subject": "Hi", "TextBody": "Hello"},
    ),
}


@pytest.mark.parametrize(("attributes", "path", "body"), REQUESTS.values(), ids=REQUESTS.keys())
def test_request(attributes: dict[str, Any], path: str, body: Any) -> None:
    request = request_of(POSTMARK.deliver(mail(**attributes)))
    assert request.method == "POST"
    assert request.url == f"https://api.postmarkapp.com/{path}"
    assert json_of(request) == body


def test_headers() -> None:
    request = request_of(POSTMARK.deliver(mail()))
    assert dict(request.headers) == {
        "Accept": "application/json",
        "Content-Type": "application/json",
        "X-Postmark-Server-Token": "token",
    }


def test_another_server_token_for_one_message() -> None:
    request = request_of(POSTMARK.deliver(mail(esp_extra={"server_token": "other"})))
    assert request.headers["X-Postmark-Server-Token"] == "other"


def test_inline_image() -> None:
    made = message(html="<img>")
    cid = attach_inline_image(made, PNG, "logo.png", domain="example.com")
    [attachment] = json_of(request_of(POSTMARK.deliver(outgoing_mail(made))))["Attachments"]
    assert attachment == {
        "Name": "logo.png",
        "Content": "iVBORw0KGgo=",
        "ContentType": "image/png",
        "ContentID": f"cid:{cid}",
    }


def test_message_stream() -> None:
    esp = make_esp(Postmark, server_token="token", message_stream="broadcast")
    assert json_of(request_of(esp.deliver(mail())))["MessageStream"] == "broadcast"


UNSUPPORTED = {
    "envelope_sender": {"envelope_sender": "bounces@example.com"},
    "send_at": {"send_at": 1_800_000_000},
    "multiple tags": {"tags": ["a", "b"]},
    "a To header in extra_headers": {"headers": {"To": "all@example.com"}},
    "alternative part with type 'text/calendar'": {"alternatives": [("x", "text/calendar")]},
    "an AMP body": {"alternatives": [("<html amp4email>", "text/x-amp-html")]},
    "a non-ASCII local part (EAI) in to": {"to": ["josé@example.com"]},
    "merge_data without template_id": {"merge_data": {"ana@example.net": {"name": "Ana"}}},
    "merge_global_data without template_id": {"merge_global_data": {"name": "Ana"}},
    "subject with template_id": {"template_id": "x", "body": ""},
}


@pytest.mark.parametrize(("what", "attributes"), UNSUPPORTED.items(), ids=UNSUPPORTED.keys())
def test_unsupported(what: str, attributes: dict[str, Any]) -> None:
    one = mail(**attributes)
    assert [found.what for found in (*check(one, Postmark.supports), *POSTMARK.check(one))] == [what]


OK = {"To": "ana@example.net", "MessageID": "id-1", "ErrorCode": 0, "Message": "OK"}
DELAYED = {"MessageID": "id-1", "Message": "Message accepted, but delivery may be delayed."}
INACTIVE = (
    "You tried to send to recipient(s) that have been marked as inactive.\nFound inactive addresses: "
    "bo@example.org. Inactive recipients are ones that have generated a hard bounce."
)
SENT, REJECTED, FAILED = ("sent", "id-1"), ("rejected", None), ("failed", None)
TWO = {"to": ["ana@example.net", "Bo@Example.org"]}

# A message's attributes, the answer, and the recipients' statuses.
ANSWERS: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
    "sent": (
        {"cc": ["c@example.org"], "bcc": ["d@example.org"]},
        answer(200, OK),
        {"ana@example.net": SENT, "c@example.org": SENT, "d@example.org": SENT},
    ),
    "delayed": ({}, answer(200, DELAYED), {"ana@example.net": ("queued", "id-1")}),
    "partly inactive": (
        TWO,
        answer(200, {**OK, "Message": "Message OK, but will not deliver to these inactive addresses: bo@example.org."}),
        {"ana@example.net": SENT, "Bo@Example.org": REJECTED},
    ),
    "inactive, in punycode": (
        {"to": ["bo@bücher.example"]},
        answer(422, {"ErrorCode": 406, "Message": "Found inactive addresses: bo@xn--bcher-kva.example."}),
        {"bo@bücher.example": REJECTED},
    ),
    "one inactive refuses the message": (
        TWO,
        answer(422, {"ErrorCode": 406, "Message": INACTIVE}),
        {"ana@example.net": FAILED, "Bo@Example.org": REJECTED},
    ),
    "bad recipient": (
        {"to": ["ana@localhost"]},
        answer(
            422,
            {
                "ErrorCode": 300,
                "Message": "Error parsing 'To': Illegal email domain 'localhost' in address 'ana@localhost'.",
            },
        ),
        {"ana@localhost": ("invalid", None)},
    ),
    "one bad recipient refuses the message": (
        {"to": ["ana@example.net", "cy@x"]},
        answer(422, {"ErrorCode": 300, "Message": "Invalid 'To' address: 'cy@x'."}),
        {"ana@example.net": FAILED, "cy@x": ("invalid", None)},
    ),
    "batch by index": (
        {"to": ["ana@example.net", "Bo@Example.org", "cy@x"], "merge_data": {}},
        answer(
            200,
            [
                OK,
                {"ErrorCode": 406, "Message": INACTIVE},
                {"ErrorCode": 300, "Message": "Invalid 'To' address: 'cy@x'."},
            ],
        ),
        {"ana@example.net": SENT, "Bo@Example.org": REJECTED, "cy@x": ("invalid", None)},
    ),
    "one failed item hides no other's id": (
        {**TWO, "merge_data": {}},
        answer(200, [{"ErrorCode": 400, "Message": "Sender signature not found"}, {**OK, "MessageID": "id-2"}]),
        {"ana@example.net": FAILED, "Bo@Example.org": ("sent", "id-2")},
    ),
}


@pytest.mark.parametrize(("attributes", "response", "expected"), ANSWERS.values(), ids=ANSWERS.keys())
def test_statuses(attributes: dict[str, Any], response: Any, expected: dict[str, Any]) -> None:
    _, recipients = drive(POSTMARK.deliver(mail(**attributes)), response)
    assert statuses(recipients) == expected


# The answer, and the error's sent, category and retryable.
ERRORS: dict[str, tuple[Any, bool | None, str, bool]] = {
    "bad token": (answer(401, {"ErrorCode": 10, "Message": "Bad token"}), False, "auth", False),
    "unknown sender": (answer(422, {"ErrorCode": 400, "Message": "No signature"}), False, "auth", False),
    "out of credits": (answer(422, {"ErrorCode": 405, "Message": "Not allowed"}), False, "quota", False),
    "bad message": (answer(422, {"ErrorCode": 300, "Message": "Provide a body"}), False, "invalid", False),
    "too many": (answer(429, "Slow down"), False, "rate_limit", True),
    "maintenance": (answer(503, {"ErrorCode": 100, "Message": "Maintenance"}), False, "server", True),
    "a proxy's 503": (answer(503, "<html>upstream</html>"), None, "server", False),
    "a 503 for another reason": (answer(503, {"ErrorCode": 7, "Message": "?"}), None, "server", False),
    "its fault": (answer(500, {"ErrorCode": 101, "Message": "Oops"}), None, "server", False),
    "not JSON": (answer(200, "<html>"), True, "unreadable", False),
    "no id": (answer(200, {"ErrorCode": 0}), True, "unreadable", False),
    "a list": (answer(200, [1]), True, "unreadable", False),
}


@pytest.mark.parametrize(("response", "sent", "category", "retryable"), ERRORS.values(), ids=ERRORS.keys())
def test_errors(response: Any, sent: bool | None, category: str, retryable: bool) -> None:
    with pytest.raises(AnymailAPIError) as raised:
        drive(POSTMARK.deliver(mail()), response)
    error = raised.value
    assert (error.sent, error.category, error.retryable) == (sent, category, retryable)


def test_error_quotes_postmark() -> None:
    with pytest.raises(AnymailAPIError, match=r"ErrorCode 400: The 'From' address is not a Sender Signature"):
        drive(
            POSTMARK.deliver(mail()),
            answer(422, {"ErrorCode": 400, "Message": "The 'From' address is not a Sender Signature"}),
        )


def test_several_messages_in_one_call() -> None:
    mails = [mail(), mail(to=["bo@example.org", "cy@x"], merge_metadata={}), mail(to=["di@example.com"])]
    flow = POSTMARK.deliver_many(mails)
    results = [OK, {**OK, "MessageID": "id-2"}, {"ErrorCode": 300, "Message": "Invalid 'To' address: 'cy@x'."}]
    [request], outcomes = drive(flow, answer(200, [*results, {"ErrorCode": 402, "Message": "Bad"}]))
    assert request.url.endswith("/email/batch")
    assert [one["To"] for one in json_of(request)] == ["ana@example.net", "bo@example.org", "cy@x", "di@example.com"]
    assert statuses(outcomes[0]) == {"ana@example.net": SENT}
    assert statuses(outcomes[1]) == {"bo@example.org": ("sent", "id-2"), "cy@x": ("invalid", None)}
    assert isinstance(outcomes[2], AnymailAPIError)
    assert "402" in str(outcomes[2])


def test_what_may_share_a_call() -> None:
    key = POSTMARK.batch_key
    assert key(mail()) == key(mail(to=["bo@example.org"]))
    assert key(mail()) != key(mail(**TEMPLATE))
    assert key(mail()) != key(mail(esp_extra={"server_token": "other"}))


def test_a_batch_of_over_500_takes_several_calls() -> None:
    to = [f"r{n}@example.com" for n in range(501)]
    flow = POSTMARK.deliver(mail(to=to, merge_metadata={}))
    requests, recipients = drive(flow, answer(200, [OK] * 500), answer(200, [OK]))
    assert [len(json_of(request)) for request in requests] == [500, 1]
    assert set(statuses(recipients).values()) == {SENT}


def test_what_a_first_call_took_is_not_undone_by_a_second() -> None:
    to = [f"r{n}@example.com" for n in range(501)]
    flow = POSTMARK.deliver(mail(to=to, merge_metadata={}))
    _, recipients = drive(flow, answer(200, [OK] * 500), answer(500))
    assert statuses(recipients)["r499@example.com"] == SENT
    assert statuses(recipients)["r500@example.com"] == ("unknown", None)


class TestBulk:
    """The bulk API: one content for many recipients, and no message ids in the answer."""

    BULK = make_esp(Postmark, server_token="token", use_bulk_api=True)
    ACCEPTED = answer(200, {"ID": "b", "Status": "Accepted", "SubmittedAt": "2026-03-06T08:00:00.0000000Z"})

    def test_request(self) -> None:
        one = mail(
            to=["Ana <ana@example.net>", "bo@example.org"],
            cc=["team@example.org"],
            body="Hi {{name}}",
            metadata={"tier": "gold"},
            merge_global_data={"shop": "Example"},
            merge_data={"ana@example.net": {"name": "Ana"}},
            headers={"X-Shop": "7"},
            merge_headers={"ana@example.net": {"X-Own": "1"}},
        )
        assert self.BULK.bulk(one, ["id-a", "id-b"]) == {
            "From": "shop@example.com",
            "Subject": "Hi",
            "TextBody": "Hi {{name}}",
            "Headers": [{"Name": "X-Shop", "Value": "7"}],
            "Messages": [
                {
                    "To": "Ana <ana@example.net>",
                    "Cc": "team@example.org",
                    "TemplateModel": {"shop": "Example", "name": "Ana"},
                    "Metadata": {"tier": "gold", "anymail_id": "id-a"},
                    "Headers": [{"Name": "X-Shop", "Value": "7"}, {"Name": "X-Own", "Value": "1"}],
                },
                {
                    "To": "bo@example.org",
                    "Cc": "team@example.org",
                    "TemplateModel": {"shop": "Example"},
                    "Metadata": {"tier": "gold", "anymail_id": "id-b"},
                },
            ],
        }

    def test_statuses_have_the_ids_that_were_given(self) -> None:
        flow = self.BULK.deliver(mail(**TWO, cc=["c@example.org"]))
        [request], recipients = drive(flow, self.ACCEPTED)
        assert request.url.endswith("/email/bulk")
        ids = [one["Metadata"]["anymail_id"] for one in json_of(request)["Messages"]]
        assert statuses(recipients) == {
            "ana@example.net": ("queued", ids[0]),
            "Bo@Example.org": ("queued", ids[1]),
            "c@example.org": ("unknown", None),
        }
        assert ids[0] != ids[1]

    @pytest.mark.parametrize(
        ("accepted", "status"),
        [
            ({"ID": "b", "Status": "Accepted", "SubmittedAt": "2026-03-06T08:00:00Z"}, "queued"),
            ({"Id": "b", "Status": "Processing", "SubmittedAt": "2026-03-06T08:00:00Z"}, "queued"),
            ({"ID": "b", "Status": "Failed", "SubmittedAt": "2026-03-06T08:00:00Z"}, "failed"),
        ],
    )
    def test_what_was_accepted(self, accepted: Any, status: str) -> None:
        _, recipients = drive(self.BULK.deliver(mail()), answer(202, accepted))
        assert recipients["ana@example.net"].status == status

    def test_ids_can_be_left_out(self) -> None:
        esp = make_esp(Postmark, server_token="token", use_bulk_api=True, generate_message_id=False)
        [request], recipients = drive(esp.deliver(mail()), self.ACCEPTED)
        assert "Metadata" not in json_of(request)["Messages"][0]
        assert statuses(recipients) == {"ana@example.net": ("queued", None)}

    def test_only_cc_goes_the_usual_way(self) -> None:
        request = request_of(self.BULK.deliver(mail(to=[], cc=["c@example.org"])))
        assert request.url.endswith("/email")

    def test_an_answer_of_another_shape(self) -> None:
        with pytest.raises(AnymailAPIError) as raised:
            drive(self.BULK.deliver(mail()), answer(200, OK))
        assert raised.value.sent is True
