"""Postal: messages and the exact requests they become, answers and the statuses they become."""

from __future__ import annotations

from base64 import b64decode
from email.message import MIMEPart
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from django.core.mail import EmailMessage
from django.test import override_settings

from anymail.backends.postal import EmailBackend
from anymail.esps.postal.sending import Postal
from anymail.exceptions import (
    AnymailAPIError,
    AnymailConfigurationError,
    AnymailInvalidValue,
    AnymailSerializationError,
    AnymailTransportError,
)
from anymail.inbound import AnymailInboundMessage
from anymail.mail.message import outgoing_mail
from anymail.mail.supports import check
from anymail.message import attach_inline_image
from support import PNG, answer, drive, json_of, mail, make_esp, message, request_of, statuses

KEY = "s3rv3rK3yEXAMPLE24chars0"
URL = "https://postal.example.net"
POSTAL = make_esp(Postal, api_key=KEY, api_url=URL)
BASE = {"from": "shop@example.com", "to": ["ana@example.net"], "subject": "Hi", "plain_body": "Hello"}
TWO = {"to": ["ana@example.net", "Bo@Example.org"]}

# A message's attributes, and the body of its request to send/message.
REQUESTS: dict[str, tuple[dict[str, Any], Any]] = {
    "plain": ({}, BASE),
    "rich": (
        {
            "from_email": '"Shop, Example" <shop@mail.example.com>',
            "envelope_sender": "robot@bücher.example",
            "to": ["Ana Núñez <ana@example.org>", "bo@bücher.example"],
            "cc": ["team@example.net"],
            "bcc": ["archive@example.com"],
            "reply_to": ["Support <support@mail.example.com>"],
            "subject": "Your order – shipped ✓",
            "body": "Your order is on its way.",
            "html": "<p>Your order is on its way.</p>",
            "headers": {"X-Order": 881, "List-Unsubscribe": "<https://shop.example.com/u/9>"},
            "tags": ["order-shipped"],
            "attach": [
                ("invoice.pdf", b"%PDF-1.4\n", "application/pdf"),
                ("préavis.txt", b"\xc3\xa9t\xc3\xa9", "text/plain; charset=utf-8"),
            ],
        },
        {
            "from": '"Shop, Example" <shop@mail.example.com>',
            "sender": "robot@xn--bcher-kva.example",
            "to": ["Ana Núñez <ana@example.org>", "bo@xn--bcher-kva.example"],
            "cc": ["team@example.net"],
            "bcc": ["archive@example.com"],
            "reply_to": "Support <support@mail.example.com>",
            "subject": "Your order – shipped ✓",
            "plain_body": "Your order is on its way.",
            "html_body": "<p>Your order is on its way.</p>",
            "headers": {"X-Order": "881", "List-Unsubscribe": "<https://shop.example.com/u/9>"},
            "tag": "order-shipped",
            "attachments": [
                {"name": "invoice.pdf", "content_type": "application/pdf", "data": "JVBERi0xLjQK"},
                {"name": "préavis.txt", "content_type": "text/plain; charset=utf-8", "data": "w6l0w6k="},
            ],
        },
    ),
    "html only": (
        {"body": "<p>Hello", "content_subtype": "html"},
        {"from": "shop@example.com", "to": ["ana@example.net"], "subject": "Hi", "html_body": "<p>Hello"},
    ),
    "only cc": (
        {"to": [], "cc": ["c@example.org"]},
        {"from": "shop@example.com", "cc": ["c@example.org"], "subject": "Hi", "plain_body": "Hello"},
    ),
    "only bcc": (
        {"to": [], "bcc": ["d@example.org"]},
        {"from": "shop@example.com", "bcc": ["d@example.org"], "subject": "Hi", "plain_body": "Hello"},
    ),
    "several reply_to": (
        {"reply_to": ["A <a@example.com>", '"B, C" <b@example.com>']},
        {**BASE, "reply_to": 'A <a@example.com>, "B, C" <b@example.com>'},
    ),
    "Reply-To among the headers": (
        {"reply_to": ["a@example.com"], "headers": {"reply-to": "B <b@example.com>", "X-Own": "1"}},
        {**BASE, "reply_to": "B <b@example.com>", "headers": {"X-Own": "1"}},
    ),
    "From among the headers": (
        {"headers": {"From": "Shop <shop@example.org>"}},
        {**BASE, "from": "Shop <shop@example.org>", "sender": "shop@example.com"},
    ),
    "Sender among the headers": (
        {"headers": {"sender": "Robot <robot@example.com>", "X-Own": "1"}},
        {**BASE, "sender": "Robot <robot@example.com>", "headers": {"X-Own": "1"}},
    ),
    "each address once": (
        {
            "to": ["Ana <ana@example.net>", "ana@example.net", "bo@bücher.example"],
            "cc": ["ana@example.net", "c@example.org"],
            "bcc": ["bo@xn--bcher-kva.example", "c@example.org", "d@example.org"],
        },
        {
            **BASE,
            "to": ["Ana <ana@example.net>", "bo@xn--bcher-kva.example"],
            "cc": ["c@example.org"],
            "bcc": ["d@example.org"],
        },
    ),
    "attachments without a name": (
        {"attach": [(None, b"1", "application/pdf"), (None, b"2", "application/x-unheard-of")]},
        {
            **BASE,
            "attachments": [
                {"name": "attachment.pdf", "content_type": "application/pdf", "data": "MQ=="},
                {"name": "attachment", "content_type": "application/x-unheard-of", "data": "Mg=="},
            ],
        },
    ),
    "a text attachment": (
        {"attach": [("a.txt", "é", "text/plain")]},
        {
            **BASE,
            "attachments": [{"name": "a.txt", "content_type": 'text/plain; charset="utf-8"', "data": "w6k="}],
        },
    ),
    "no subject": (
        {"subject": ""},
        {"from": "shop@example.com", "to": ["ana@example.net"], "plain_body": "Hello"},
    ),
    "esp_extra": (
        {"headers": {"X-Own": "1"}, "esp_extra": {"bounce": True, "headers": {"X-More": "2"}}},
        {**BASE, "headers": {"X-Own": "1", "X-More": "2"}, "bounce": True},
    ),
}


@pytest.mark.parametrize(("attributes", "body"), REQUESTS.values(), ids=REQUESTS.keys())
def test_request(attributes: dict[str, Any], body: Any) -> None:
    request = request_of(POSTAL.deliver(mail(**attributes)))
    assert (request.method, request.url) == ("POST", f"{URL}/api/v1/send/message")
    assert json_of(request) == body
    assert request.idempotency_key is None


def test_headers() -> None:
    request = request_of(POSTAL.deliver(mail()))
    assert dict(request.headers) == {
        "Accept": "application/json",
        "Content-Type": "application/json",
        "X-Server-API-Key": KEY,
    }
    assert KEY not in repr(request)


def test_a_value_that_json_cannot_express() -> None:
    with pytest.raises(AnymailSerializationError, match=r"headers\.X"):
        request_of(POSTAL.deliver(mail(esp_extra={"headers": {"X": {1}}})))


def lines(text: str | None) -> list[str]:
    """The lines of a body, whatever they end in."""
    return (text or "").splitlines()


class TestRaw:
    """send/raw, for what send/message has no place for."""

    def parsed(self, **attributes: Any) -> tuple[dict[str, Any], AnymailInboundMessage]:
        return self.parsed_mail(mail(**attributes))

    def parsed_mail(self, one: Any) -> tuple[dict[str, Any], AnymailInboundMessage]:
        request = request_of(POSTAL.deliver(one))
        assert request.url == f"{URL}/api/v1/send/raw"
        payload = json_of(request)
        data = b64decode(payload.pop("data"), validate=True)
        head = data.partition(b"\r\n\r\n")[0]
        assert data.isascii()
        assert b"\n" not in head.replace(b"\r\n", b"")
        assert max(map(len, data.split(b"\r\n"))) <= 998
        parsed = AnymailInboundMessage.parse_raw_mime_bytes(data)
        assert not parsed.defects
        return payload, parsed

    def test_everything(self) -> None:
        made = message(
            from_email='"Shop, Example" <shop@bücher.example>',
            envelope_sender="robot@example.com",
            to=["Ana Núñez <ana@example.org>", "ana@example.org"],
            cc=["team@example.net"],
            bcc=["archive@example.com", "team@example.net"],
            reply_to=["Support é <support@example.com>", "other@example.com"],
            subject="Your order – shipped ✓" * 9,
            body="Text, été",
            html="<p>été <img></p>",
            headers={"X-Order": "881", "X-Names": "Zoë, " * 40 + "Ana"},
            tags=["order-shipped"],
            attach=[("préavis.txt", "été", "text/plain")],
            esp_extra={"bounce": True, "headers": {"X-More": "2"}},
        )
        cid = attach_inline_image(made, PNG, "logo.png", domain="example.com")
        made.attach_alternative("<html ⚡4email>", "text/x-amp-html")
        made.attach_alternative("BEGIN:VCALENDAR é", "text/calendar; method=REQUEST")
        payload, parsed = self.parsed_mail(outgoing_mail(made))
        assert payload == {
            "mail_from": "robot@example.com",
            "rcpt_to": ["ana@example.org", "team@example.net", "archive@example.com"],
            "bounce": True,
        }
        assert str(parsed.from_email) == '"Shop, Example" <shop@xn--bcher-kva.example>'
        assert [str(one) for one in parsed.to] == ["Ana Núñez <ana@example.org>"]
        assert [str(one) for one in parsed.cc] == ["team@example.net"]
        assert parsed["Reply-To"] == "Support é <support@example.com>, other@example.com"
        assert parsed.bcc == []
        assert parsed.subject == "Your order – shipped ✓" * 9
        assert (lines(parsed.text), lines(parsed.html)) == (["Text, été"], ["<p>été <img></p>"])
        own = {name: str(parsed[name]) for name in ("Sender", "X-Postal-Tag", "X-Order", "X-Names", "X-More")}
        assert own == {
            "Sender": "robot@example.com",
            "X-Postal-Tag": "order-shipped",
            "X-Order": "881",
            "X-Names": "Zoë, " * 40 + "Ana",
            "X-More": "2",
        }
        assert parsed["Message-ID"].endswith("@xn--bcher-kva.example>")
        assert parsedate_to_datetime(parsed["Date"])
        assert [part.get_content_type() for part in parsed.walk()] == [
            "multipart/mixed",
            "multipart/alternative",
            "text/plain",
            "text/x-amp-html",
            "multipart/related",
            "text/html",
            "image/png",
            "text/calendar",
            "text/plain",
        ]
        [image] = parsed.inlines
        assert (image.content_id, image.get_filename(), image.get_content_bytes()) == (cid, "logo.png", PNG)
        amp, calendar, note = parsed.attachments
        assert lines(amp.get_content_text()) == ["<html ⚡4email>"]
        assert calendar["Content-Type"].params["method"] == "REQUEST"
        assert lines(calendar.get_content_text()) == ["BEGIN:VCALENDAR é"]
        assert (note.get_filename(), note.get_content_text()) == ("préavis.txt", "été")

    def test_a_message_id_of_ones_own(self) -> None:
        payload, parsed = self.parsed(
            headers={"message-id": "<own@example.com>", "Date": "Fri, 20 Nov 2026 09:00:00 +0000"}
        )
        assert payload == {"mail_from": "shop@example.com", "rcpt_to": ["ana@example.net"]}
        assert (parsed["Message-ID"], parsed["Date"]) == ("<own@example.com>", "Fri, 20 Nov 2026 09:00:00 +0000")
        assert len(parsed.get_all("Message-ID")) == len(parsed.get_all("Date")) == 1
        assert (parsed.subject, lines(parsed.text), parsed.html) == ("Hi", ["Hello"], None)
        assert parsed["Sender"] is None

    def test_two_html_bodies(self) -> None:
        _, parsed = self.parsed(alternatives=[("<p>1", "text/html"), ("<p>2", "text/html")])
        kinds = [part.get_content_type() for part in parsed.walk()]
        assert kinds == ["multipart/alternative", "text/plain", "text/html", "text/html"]

    def test_an_alternative_in_bytes(self) -> None:
        _, parsed = self.parsed(alternatives=[(b"{}", "application/json")])
        assert [part.get_content_bytes() for part in parsed.attachments] == [b"{}"]

    def test_an_empty_attachment(self) -> None:
        _, parsed = self.parsed(attach=[("empty.csv", b"", "text/csv")])
        [part] = parsed.attachments
        assert (part.get_filename(), part.get_content_type(), part.get_content_bytes()) == (
            "empty.csv",
            "text/csv",
            b"",
        )

    def test_an_attached_message(self) -> None:
        forwarded = EmailMessage("Été", "Là", "a@example.com", ["b@example.com"])
        _, parsed = self.parsed(attach=[(None, forwarded, "message/rfc822")])
        [part] = parsed.attachments
        assert part["Content-Transfer-Encoding"] in (None, "7bit", "8bit")
        inner = AnymailInboundMessage.parse_raw_mime_bytes(part.get_content_bytes())
        assert (inner.subject, (inner.text or "").strip()) == ("Été", "Là")

    def test_inline_without_html(self) -> None:
        made = message(body="")
        image = MIMEPart()
        image.set_content(PNG, "image", "png", cid="<a@example.com>")
        made.attachments.append(image)
        _, parsed = self.parsed_mail(outgoing_mail(made))
        assert [part.content_id for part in parsed.inlines] == ["a@example.com"]

    def test_many_recipients_are_folded(self) -> None:
        to = [f'"Recipient, {n}" <r{n}@example.com>' for n in range(50)]
        payload, parsed = self.parsed(to=to, headers={"Message-ID": "<a@example.com>"})
        assert [str(one) for one in parsed.to] == to
        assert len(payload["rcpt_to"]) == 50

    def test_only_bcc(self) -> None:
        payload, parsed = self.parsed(to=[], bcc=["d@example.org"], headers={"Message-ID": "<a@example.com>"})
        assert payload["rcpt_to"] == ["d@example.org"]
        assert (parsed["To"], parsed["Cc"], parsed["Bcc"]) == (None, None, None)

    @pytest.mark.parametrize("headers", [{"X-A": "1\r\nBcc: x@example.com"}, {"X: A": "1"}])
    def test_headers_of_esp_extra_forge_nothing(self, headers: dict[str, str]) -> None:
        with pytest.raises(AnymailInvalidValue):
            self.parsed(headers={"Message-ID": "<a@example.com>"}, esp_extra={"headers": headers})

    @pytest.mark.parametrize("attributes", [{"body": "\ud800"}, {"subject": "\ud800"}])
    def test_text_that_cannot_be_encoded(self, attributes: dict[str, Any]) -> None:
        with pytest.raises(AnymailSerializationError):
            self.parsed(headers={"Message-ID": "<a@example.com>"}, **attributes)


UNSUPPORTED = {
    "multiple from_email addresses": {"from_email": "a@example.com, b@example.com"},
    "metadata": {"metadata": {"a": 1}},
    "multiple tags": {"tags": ["a", "b"]},
    "track_opens": {"track_opens": False},
    "track_clicks": {"track_clicks": True},
    "send_at": {"send_at": 1_800_000_000},
    "template_id": {"template_id": "x"},
    "merge_data": {"merge_data": {"ana@example.net": {"name": "Ana"}}},
    "merge_global_data": {"merge_global_data": {"name": "Ana"}},
    "merge_metadata": {"merge_metadata": {"ana@example.net": {"n": 1}}},
    "a To header in extra_headers": {"headers": {"To": "all@example.com"}},
    "a non-ASCII local part (EAI) in to": {"to": ["josé@example.com"]},
    "a non-ASCII local part (EAI) in envelope_sender": {"envelope_sender": "josé@example.com"},
}


@pytest.mark.parametrize(("what", "attributes"), UNSUPPORTED.items(), ids=UNSUPPORTED.keys())
def test_unsupported(what: str, attributes: dict[str, Any]) -> None:
    one = mail(**attributes)
    assert [found.what for found in (*check(one, Postal.supports), *POSTAL.check(one))] == [what]


def accepted(**ids: Any) -> Any:
    """Postal's answer, with these ids; two underscores stand for an @."""
    messages = {name.replace("__", "@"): {"id": number, "token": "k3Zp9QwXv71LmTbA"} for name, number in ids.items()}
    data = {"message_id": "6a1f3c52@rp.postal.example.net", "messages": messages}
    return answer(200, {"status": "success", "time": 0.04, "flags": {}, "data": data})


def refused(code: str, text: str | None = "No", **more: Any) -> Any:
    data = {"code": code, **({"message": text} if text else {}), **more}
    return answer(200, {"status": "error", "time": 0.0, "flags": {}, "data": data})


# A message's attributes, the answer, and the recipients' statuses.
ANSWERS: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
    "all of them": (
        {**TWO, "cc": ["C <c@bücher.example>"], "bcc": ["d@example.org"]},
        accepted(
            **{
                "ana__example.net": 4101,
                "Bo__Example.org": 4102,
                "c__xn--bcher-kva.example": 4103,
                "d__example.org": 4104,
            }
        ),
        {
            "ana@example.net": ("queued", "4101"),
            "Bo@Example.org": ("queued", "4102"),
            "c@bücher.example": ("queued", "4103"),
            "d@example.org": ("queued", "4104"),
        },
    ),
    "one that Postal spells otherwise": (
        TWO,
        accepted(**{"ana__example.net": 4101, "bo__example.org": 4102}),
        {"ana@example.net": ("queued", "4101"), "Bo@Example.org": ("unknown", None)},
    ),
    "one without an id": (
        {},
        accepted(**{"ana__example.net": None}),
        {"ana@example.net": ("unknown", None)},
    ),
    "the same in to and cc": (
        {"cc": ["Ana <ana@example.net>"]},
        accepted(**{"ana__example.net": 4101}),
        {"ana@example.net": ("queued", "4101")},
    ),
}


@pytest.mark.parametrize(("attributes", "response", "expected"), ANSWERS.values(), ids=ANSWERS.keys())
def test_statuses(attributes: dict[str, Any], response: Any, expected: dict[str, Any]) -> None:
    _, recipients = drive(POSTAL.deliver(mail(**attributes)), response)
    assert statuses(recipients) == expected


# The answer, and the error's sent, category and retryable.
ERRORS: dict[str, tuple[Any, bool | None, str, bool]] = {
    "no key": (refused("AccessDenied"), False, "auth", False),
    "wrong key": (refused("InvalidServerAPIKey", token=KEY), False, "auth", False),
    "suspended": (refused("ServerSuspended", None), False, "auth", False),
    "sender's domain": (refused("UnauthenticatedFromAddress"), False, "auth", False),
    "nobody": (refused("NoRecipients"), False, "invalid", False),
    "no body": (refused("NoContent"), False, "invalid", False),
    "no sender": (refused("FromAddressMissing"), False, "invalid", False),
    "too many": (refused("TooManyToAddresses"), False, "invalid", False),
    "no data": (refused("AttachmentMissingData"), False, "invalid", False),
    "an unknown code": (refused("Novel"), False, "invalid", False),
    "a wrong parameter": (
        answer(200, {"status": "parameter-error", "data": {"message": "`data` parameter is required but is missing"}}),
        False,
        "invalid",
        False,
    ),
    "an error of another shape": (answer(200, {"status": "error", "data": None}), False, "invalid", False),
    "another host": (answer(403, "<h1>Blocked host"), False, "auth", False),
    "malformed": (answer(400, ""), False, "invalid", False),
    "moved": (answer(301, ""), False, "unreadable", False),
    "a proxy's limit": (answer(429, "Slow down"), False, "rate_limit", True),
    "its fault": (answer(500, "<h1>Internal Server Error"), None, "server", False),
    "a proxy's fault": (answer(502, "<h1>Bad Gateway"), None, "server", False),
    "unavailable": (answer(503, "<h1>Unavailable"), None, "server", False),
    "a proxy's timeout": (answer(504, "<h1>Timeout"), None, "server", False),
    "not JSON": (answer(200, "<html>"), True, "unreadable", False),
    "a list": (answer(200, []), True, "unreadable", False),
    "no status": (answer(200, {"data": {"messages": {}}}), True, "unreadable", False),
    "no messages": (answer(200, {"status": "success", "data": {}}), True, "unreadable", False),
    "no data in success": (answer(200, {"status": "success", "data": None}), True, "unreadable", False),
    "messages of another shape": (
        answer(200, {"status": "success", "data": {"messages": {"ana@example.net": 7}}}),
        True,
        "unreadable",
        False,
    ),
}


@pytest.mark.parametrize(("response", "sent", "category", "retryable"), ERRORS.values(), ids=ERRORS.keys())
def test_errors(response: Any, sent: bool | None, category: str, retryable: bool) -> None:
    with pytest.raises(AnymailAPIError) as raised:
        drive(POSTAL.deliver(mail()), response)
    error = raised.value
    assert (error.sent, error.category, error.retryable) == (sent, category, retryable)


def test_error_quotes_postal() -> None:
    text = "The From address is not authorised to send mail from this server"
    with pytest.raises(AnymailAPIError, match=f"UnauthenticatedFromAddress: {text}"):
        drive(POSTAL.deliver(mail()), refused("UnauthenticatedFromAddress", text))


@pytest.mark.parametrize("response", [refused("InvalidServerAPIKey", KEY, token=KEY), answer(500, f"<p>{KEY}")])
def test_no_error_shows_the_key(response: Any) -> None:
    with pytest.raises(AnymailAPIError) as raised:
        drive(POSTAL.deliver(mail()), response)
    assert KEY not in str(raised.value)
    assert raised.value.response is not None
    assert KEY.encode() not in raised.value.response.content


class TestBatch:
    """Postal has no batch: each ``to`` gets a call."""

    ANA, BO = accepted(**{"ana__example.net": 1, "c__example.org": 2}), accepted(**{"Bo__Example.org": 3})

    def test_requests(self) -> None:
        one = mail(
            to=["Ana <ana@example.net>", "Bo@Example.org"],
            cc=["c@example.org"],
            headers={"X-Shop": "7", "List-Unsubscribe": "<https://example.com/u>"},
            merge_headers={"ana@example.net": {"list-unsubscribe": "<https://example.com/u/ana>"}},
        )
        requests, recipients = drive(POSTAL.deliver(one), self.ANA, self.BO)
        assert [json_of(request) for request in requests] == [
            {
                **BASE,
                "to": ["Ana <ana@example.net>"],
                "cc": ["c@example.org"],
                "headers": {"X-Shop": "7", "list-unsubscribe": "<https://example.com/u/ana>"},
            },
            {
                **BASE,
                "to": ["Bo@Example.org"],
                "cc": ["c@example.org"],
                "headers": {"X-Shop": "7", "List-Unsubscribe": "<https://example.com/u>"},
            },
        ]
        assert statuses(recipients) == {
            "ana@example.net": ("queued", "1"),
            "Bo@Example.org": ("queued", "3"),
            "c@example.org": ("queued", "2"),
        }

    def test_empty_merge_data_separates_too(self) -> None:
        requests, _ = drive(POSTAL.deliver(mail(**TWO, merge_data={})), self.ANA, self.BO)
        assert [json_of(request)["to"] for request in requests] == [["ana@example.net"], ["Bo@Example.org"]]

    def test_without_to(self) -> None:
        request = request_of(POSTAL.deliver(mail(to=[], bcc=["d@example.org"], merge_data={})))
        assert json_of(request)["bcc"] == ["d@example.org"]

    # The two answers, and the statuses of the two and of the one in cc.
    PARTLY: dict[str, tuple[Any, Any, list[Any]]] = {
        "first refused": (refused("NoContent"), BO, [("failed", None), ("queued", "3"), ("unknown", None)]),
        "second refused": (ANA, refused("NoContent"), [("queued", "1"), ("failed", None), ("queued", "2")]),
        "second lost": (ANA, answer(502, ""), [("queued", "1"), ("unknown", None), ("queued", "2")]),
        "second not connected": (
            ANA,
            AnymailTransportError("No route.", sent=False),
            [("queued", "1"), ("failed", None), ("queued", "2")],
        ),
    }

    @pytest.mark.parametrize(("first", "second", "expected"), PARTLY.values(), ids=PARTLY.keys())
    def test_partly(self, first: Any, second: Any, expected: list[Any]) -> None:
        _, recipients = drive(POSTAL.deliver(mail(**TWO, cc=["c@example.org"], merge_data={})), first, second)
        assert list(statuses(recipients).values()) == expected

    def test_what_all_would_meet_is_met_once(self) -> None:
        with pytest.raises(AnymailAPIError, match="InvalidServerAPIKey"):
            drive(POSTAL.deliver(mail(**TWO, merge_data={})), refused("InvalidServerAPIKey"))

    def test_the_worst_of_the_errors_is_raised(self) -> None:
        with pytest.raises(AnymailAPIError) as raised:
            drive(POSTAL.deliver(mail(**TWO, merge_data={})), answer(200, "<html>"), refused("NoContent"))
        assert raised.value.sent is True


class TestSettings:
    @pytest.mark.parametrize("url", ["https://postal.example.net", "https://postal.example.net/"])
    def test_url(self, url: str) -> None:
        esp = make_esp(Postal, api_key="k", api_url=url)
        assert request_of(esp.deliver(mail())).url == "https://postal.example.net/api/v1/send/message"

    @override_settings(ANYMAIL={"POSTAL_API_URL": URL}, POSTAL_API_KEY="bare")
    def test_a_bare_key(self) -> None:
        assert EmailBackend().options.api_key.reveal() == "bare"

    @pytest.mark.parametrize("name", ["POSTAL_API_KEY", "POSTAL_API_URL"])
    def test_needed(self, name: str) -> None:
        settings = {"POSTAL_API_KEY": "k", "POSTAL_API_URL": URL}
        del settings[name]
        with override_settings(ANYMAIL=settings), pytest.raises(AnymailConfigurationError, match=name):
            EmailBackend()

    def test_the_url_cannot_be_bare(self) -> None:
        with (
            override_settings(ANYMAIL={"POSTAL_API_KEY": "k"}, POSTAL_API_URL=URL),
            pytest.raises(AnymailConfigurationError),
        ):
            EmailBackend()
