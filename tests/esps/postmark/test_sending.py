"""Postmark: messages and the exact requests they become, answers and the statuses they become."""

from __future__ import annotations

from typing import Any

import pytest

from anymail.esps.postmark.sending import Postmark
from anymail.exceptions import AnymailAPIError
from anymail.mail.message import outgoing_mail
from anymail.mail.supports import check
from anymail.message import attach_inline_image
from support import PNG, answer, drive, fitted, json_of, mail, make_esp, message, request_of, statuses

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
        {
            "attach": [
                ("A-1042.pdf", b"%PDF-1.7\n", "application/pdf"),
                ("note.txt", "Grüße", "text/plain"),
                (None, b"%PDF-1.7\n", "application/pdf"),
            ]
        },
        "email",
        {
            **BASE,
            "Attachments": [
                {"Name": "A-1042.pdf", "Content": "JVBERi0xLjcK", "ContentType": "application/pdf"},
                {"Name": "note.txt", "Content": "R3LDvMOfZQ==", "ContentType": 'text/plain; charset="utf-8"'},
                {"Name": "attachment.pdf", "Content": "JVBERi0xLjcK", "ContentType": "application/pdf"},
            ],
        },
    ),
    "labels and switches": (
        {
            "metadata": {"order": "A-1042", "n": 7, "new": True},
            "tags": ["receipt"],
            "track_opens": False,
            "track_clicks": False,
        },
        "email",
        {
            **BASE,
            "Metadata": {"order": "A-1042", "n": "7", "new": "true"},
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
        {"subject": None, "html": "<p>Hello", "esp_extra": {"TemplateAlias": "x"}},
        "email/withTemplate",
        {"From": "shop@example.com", "To": "ana@example.net", "TemplateAlias": "x", "TemplateModel": {}},
    ),
    "a body beside a template": (
        {**TEMPLATE, "body": "Hello", "html": "<p>Hello"},
        "email/withTemplate",
        {**TEMPLATED, "TemplateModel": {}},
    ),
    "None in merge data": (
        {
            **TEMPLATE,
            "to": ["ana@example.net"],
            "merge_global_data": {"name": "you", "shop": "Example", "items": [{"n": 1, "note": None}, None]},
            "merge_data": {"ana@example.net": {"name": None}},
        },
        "email/batchWithTemplates",
        {"Messages": [{**TEMPLATED, "TemplateModel": {"shop": "Example", "items": [{"n": 1}]}}]},
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
    request = request_of(POSTMARK.deliver(fitted(Postmark, **attributes)))
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
    "subject with template_id": {"template_id": "x"},
}


@pytest.mark.parametrize(("what", "attributes"), UNSUPPORTED.items(), ids=UNSUPPORTED.keys())
def test_unsupported(what: str, attributes: dict[str, Any]) -> None:
    one = fitted(Postmark, **attributes)
    assert [found.what for found in (*check(one, Postmark.supports), *POSTMARK.check(one))] == [what]


def test_a_subject_beside_a_template_of_esp_extra() -> None:
    [found] = POSTMARK.check(mail(esp_extra={"TemplateId": 7}))
    assert found == ("subject with template_id", {"subject": None})


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
    "inactive, in punycode": (
        {"to": ["bo@bücher.example"]},
        answer(422, {"ErrorCode": 406, "Message": "Found inactive addresses: bo@xn--bcher-kva.example."}),
        {"bo@bücher.example": REJECTED},
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


# What Postmark has written, and writes, of the recipients on its suppression list.
FOUND = "You tried to send to recipient(s) that have been marked as inactive.{}Found inactive addresses: {}"
ONES = "Inactive recipients are ones that have generated a hard bounce, a spam complaint, or a manual suppression."
WILL_NOT = "Message OK, but will not deliver to these inactive addresses: {}"
INACTIVE_TEXTS = {
    "without a full stop": WILL_NOT.format("bo@example.org"),
    "with a full stop": WILL_NOT.format("bo@example.org."),
    "with a sentence": WILL_NOT.format(f"bo@example.org. {ONES}"),
    "several": WILL_NOT.format("bo@example.org, cy@example.org"),
    "several, without a blank": WILL_NOT.format("cy@example.org,bo@example.org."),
    "in lines": WILL_NOT.format("\n\tcy@example.org,\r\n\tbo@example.org.\n") + ONES,
    "in other letters": WILL_NOT.format("Bo@EXAMPLE.org").upper(),
}
FOUND_TEXTS = {
    "without a full stop": FOUND.format(" ", "bo@example.org"),
    "with a full stop": FOUND.format(" ", "bo@example.org."),
    "with a sentence": FOUND.format(" ", f"bo@example.org. {ONES}"),
    "in lines": FOUND.format("\n", f"bo@example.org.\n{ONES}"),
    "several": FOUND.format(" ", f"cy@example.org, bo@example.org. {ONES}"),
    "in the words of before": FOUND.replace("recipient(s) that have", "a recipient that has").format(
        "\n", f"bo@example.org. {ONES}"
    ),
}
DELIVERED = {"ana@example.net": SENT, "Bo@Example.org": REJECTED}


@pytest.mark.parametrize("text", INACTIVE_TEXTS.values(), ids=INACTIVE_TEXTS.keys())
def test_whom_postmark_will_not_deliver_to(text: str) -> None:
    _, recipients = drive(POSTMARK.deliver(mail(**TWO)), answer(200, {**OK, "Message": text}))
    assert statuses(recipients) == DELIVERED
    one = mail(to=["ana@example.net"], cc=["Bo@Example.org"], merge_metadata={})
    _, recipients = drive(POSTMARK.deliver(one), answer(200, [{**OK, "Message": text}]))
    assert statuses(recipients) == DELIVERED


@pytest.mark.parametrize("text", FOUND_TEXTS.values(), ids=FOUND_TEXTS.keys())
def test_whom_postmark_refuses(text: str) -> None:
    refusal = {"ErrorCode": 406, "Message": text}
    bo = {"to": ["Bo@Example.org"]}
    _, recipients = drive(POSTMARK.deliver(mail(**bo)), answer(422, refusal))
    assert statuses(recipients) == {"Bo@Example.org": REJECTED}
    _, recipients = drive(POSTMARK.deliver(mail(**TWO, merge_data={})), answer(200, [OK, refusal]))
    assert statuses(recipients) == DELIVERED


# What one recipient's address does to the others of its message, which nobody got.
NOBODY = {
    "inactive": ({"ErrorCode": 406, "Message": FOUND_TEXTS["with a sentence"]}, REJECTED),
    "invalid": ({"ErrorCode": 300, "Message": "Invalid 'To' address: 'bo@example.org'."}, ("invalid", None)),
    "illegal": (
        {"ErrorCode": 300, "Message": "Error parsing 'To': Illegal email domain in 'bo@example.org'"},
        ("invalid", None),
    ),
}


@pytest.mark.parametrize(("refusal", "status"), NOBODY.values(), ids=NOBODY.keys())
@pytest.mark.parametrize("batch", [False, True], ids=["alone", "in a batch"])
def test_a_recipient_for_whose_sake_nobody_gets_the_message(refusal: Any, status: Any, batch: bool) -> None:
    if batch:
        flow = POSTMARK.deliver(mail(to=["Bo@Example.org"], cc=["ana@example.net"], merge_metadata={}))
        response = answer(200, [refusal])
    else:
        flow, response = POSTMARK.deliver(mail(**TWO)), answer(422, refusal)
    with pytest.raises(AnymailAPIError, match=rf"ErrorCode {refusal['ErrorCode']}: ") as raised:
        drive(flow, response)
    assert statuses(raised.value.statuses or {}) == {"ana@example.net": FAILED, "Bo@Example.org": status}
    assert raised.value.sent is False


# The answer, and the error's sent, category and retryable.
ERRORS: dict[str, tuple[Any, bool | None, str, bool]] = {
    "bad token": (answer(401, {"ErrorCode": 10, "Message": "Bad token"}), False, "auth", False),
    # The sender of this message alone: the next may have another.
    "unknown sender": (answer(422, {"ErrorCode": 400, "Message": "No signature"}), False, "invalid", False),
    "unconfirmed sender": (answer(422, {"ErrorCode": 401, "Message": "Not confirmed"}), False, "invalid", False),
    "pending approval": (answer(422, {"ErrorCode": 412, "Message": "Other domain"}), False, "invalid", False),
    "not allowed to send": (answer(422, {"ErrorCode": 413, "Message": "Not allowed"}), False, "auth", False),
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


def test_an_error_lists_what_postmark_lists() -> None:
    several = {"ErrorCode": 11, "Message": "Several errors.", "Errors": [{"Message": "No To"}, "No body"]}
    with pytest.raises(AnymailAPIError, match=r"ErrorCode 11: Several errors; No To; No body\."):
        drive(POSTMARK.deliver(mail()), answer(422, several))


def test_the_error_of_each_recipient() -> None:
    flow = POSTMARK.deliver(mail(**TWO, merge_data={}))
    _, recipients = drive(flow, answer(200, [OK, {"ErrorCode": 1109, "Message": "No such template."}]))
    assert recipients["ana@example.net"].error is None
    assert "ErrorCode 1109: No such template" in str(recipients["Bo@Example.org"].error)


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


# What a second call of two meets, and the status of those in it.
SECOND_CALLS: dict[str, tuple[Any, str]] = {
    "it may have been taken": (answer(500), "unknown"),
    "it was not taken": (answer(429), "failed"),
    "refused": (answer(422, {"ErrorCode": 300, "Message": "Provide a body"}), "failed"),
}


@pytest.mark.parametrize(("response", "status"), SECOND_CALLS.values(), ids=SECOND_CALLS.keys())
def test_what_a_first_call_took_is_not_undone_by_a_second(response: Any, status: str) -> None:
    to = [f"r{n}@example.com" for n in range(501)]
    flow = POSTMARK.deliver(mail(to=to, cc=["c@example.org"], merge_metadata={}))
    _, recipients = drive(flow, answer(200, [OK] * 500), response)
    assert statuses(recipients)["r499@example.com"] == SENT
    assert statuses(recipients)["c@example.org"] == SENT
    assert statuses(recipients)["r500@example.com"] == (status, None)
    assert recipients["r500@example.com"].error is not None


def test_what_was_not_attempted_failed() -> None:
    to = [f"r{n}@example.com" for n in range(1001)]
    with pytest.raises(AnymailAPIError) as raised:
        drive(POSTMARK.deliver(mail(to=to, merge_metadata={})), answer(500))
    found = statuses(raised.value.statuses or {})
    assert [found[f"r{n}@example.com"][0] for n in (0, 499, 500, 1000)] == ["unknown", "unknown", "failed", "failed"]


def test_a_refused_part_does_not_stop_the_next() -> None:
    to = [f"r{n}@example.com" for n in range(501)]
    flow = POSTMARK.deliver(mail(to=to, merge_metadata={}))
    _, recipients = drive(flow, answer(200, [{"ErrorCode": 300, "Message": "Provide a body"}] * 500), answer(200, [OK]))
    assert statuses(recipients)["r0@example.com"] == FAILED
    assert statuses(recipients)["r500@example.com"] == SENT


def test_a_call_holds_50_megabytes() -> None:
    heavy = {"attach": [("a.bin", b"0" * 9_000_000, "application/octet-stream")]}
    one = mail(to=[f"r{n}@example.com" for n in range(4)], merge_metadata={}, **heavy)
    requests, _ = drive(POSTMARK.deliver(one), answer(200, [OK] * 3), answer(200, [OK]))
    assert [len(json_of(request)) for request in requests] == [3, 1]
    assert all(len(request.body) < 50_000_000 for request in requests)
    assert POSTMARK.batch_key(one) is None


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
        ],
    )
    def test_what_was_accepted(self, accepted: Any, status: str) -> None:
        _, recipients = drive(self.BULK.deliver(mail()), answer(202, accepted))
        assert recipients["ana@example.net"].status == status

    def test_what_failed_at_once(self) -> None:
        failed = {"ID": "b", "Status": "Failed", "SubmittedAt": "2026-03-06T08:00:00Z"}
        with pytest.raises(AnymailAPIError, match="request b failed") as raised:
            drive(self.BULK.deliver(mail()), answer(202, failed))
        assert raised.value.sent is False
        assert statuses(raised.value.statuses or {}) == {"ana@example.net": FAILED}

    def test_without_approval_nothing_goes_that_way(self) -> None:
        with pytest.raises(AnymailAPIError) as raised:
            drive(self.BULK.deliver(mail()), answer(422, {"ErrorCode": 14, "Message": "Approval needed"}))
        assert (raised.value.category, raised.value.sent) == ("auth", False)

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
