"""Unisender Go: messages and the exact requests they become, answers and the statuses they become."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from email.mime.image import MIMEImage
from typing import Any
from unittest import mock

import pytest
from django.test import override_settings

from anymail.backends.unisender_go import EmailBackend
from anymail.conf import load
from anymail.esps.unisender_go.sending import UnisenderGo, UnisenderGoOptions
from anymail.exceptions import AnymailAPIError, AnymailConfigurationError, AnymailSerializationError
from anymail.mail.message import outgoing_mail
from anymail.mail.supports import check
from anymail.message import attach_inline_image
from anymail.wire import Request
from support import PNG, answer, drive, json_of, mail, make_esp, message, request_of, statuses

URL = "https://go1.unisender.ru/ru/transactional/api/v1"
OPTIONS: dict[str, Any] = {"api_key": "6kz4r7tq", "api_url": URL}
GO = make_esp(UnisenderGo, **OPTIONS)
TEMPLATE_ID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
TWO = {"to": ["ana@example.net", "Bo@Example.org"]}
KEY = "the-key"


@pytest.fixture(autouse=True)
def _ids() -> Iterator[None]:
    """New ids are id-1, id-2 and so on, in the order of the recipients; then comes the idempotence_key."""
    numbers = iter(range(1, 10_000))
    with mock.patch.object(uuid, "uuid4", side_effect=lambda: f"id-{next(numbers)}"):
        yield


def wire(**attributes: Any) -> Any:
    """The message object that a message becomes."""
    body = json_of(request_of(GO.deliver(mail(**attributes))))
    assert list(body) == ["message"]
    return body["message"]


def ana(number: int = 1, **more: Any) -> dict[str, Any]:
    return {"email": "ana@example.net", "metadata": {"anymail_id": f"id-{number}"}, **more}


BASE: dict[str, Any] = {
    "recipients": [ana()],
    "body": {"plaintext": "Hello"},
    "subject": "Hi",
    "from_email": "shop@example.com",
    "headers": {"to": "ana@example.net"},
    "idempotence_key": "id-2",
}
# Without what the API writes itself in a batch.
BATCH = {name: value for name, value in BASE.items() if name != "headers"}


def inline(content_id: str | None) -> MIMEImage:
    image = MIMEImage(PNG, "png")
    image.add_header("Content-Disposition", "inline", filename="logo.png")
    if content_id:
        image["Content-ID"] = f"<{content_id}>"
    return image


def shown(to: str) -> dict[str, Any]:
    """A message to ana by some name, and what that name becomes."""
    return {**BASE, "headers": {"to": to}}


# A message's attributes, and its message object.
REQUESTS: dict[str, tuple[dict[str, Any], Any]] = {
    "plain": ({}, BASE),
    # The reference's own parameters, all at once.
    "rich": (
        {
            "from_email": "Zoë at the Shop <shop@example.com>",
            "to": ["Ana López <ana@example.net>", '"Berg, Bob" <bob@example.org>'],
            "cc": ["Kim <kim@example.net>"],
            "bcc": ["archive@example.com"],
            "reply_to": ["Help Desk <help@example.com>"],
            "subject": "Paid: order A-1042 ✓",
            "body": "Hi! Receipt attached.",
            "html": '<p>Hi! <img src="cid:logo.1@example.com"></p>',
            "alternatives": [
                ('<p>Hi! <img src="cid:logo.1@example.com"></p>', "text/html"),
                ("<!doctype html><html ⚡4email></html>", "text/x-amp-html"),
            ],
            "headers": {"X-Order": "A-1042"},
            "attachments": [
                ("räknung.txt", "total: 10 €", "text/plain"),
                ("receipt.pdf", b"%PDF-1.4 sample", "application/pdf"),
                inline("logo.1@example.com"),
            ],
            "metadata": {"order_id": "A-1042", "items": 3},
            "tags": ["order-receipt", "shop"],
            "track_clicks": False,
            "track_opens": True,
            "send_at": dt.datetime(2026, 3, 2, 11, 15, tzinfo=dt.timezone(dt.timedelta(hours=1))),
            "esp_extra": {
                "options": {"unsubscribe_url": "https://example.com/u"},
                "skip_unsubscribe": 1,
                "idempotence_key": "order-A-1042-v1",
            },
        },
        {
            "headers": {
                "to": "=?utf-8?q?Ana_L=C3=B3pez?= <ana@example.net>, =?utf-8?q?Berg=2C_Bob?= <bob@example.org>",
                "cc": "Kim <kim@example.net>",
                "X-Order": "A-1042",
            },
            "recipients": [
                ana(substitutions={"to_name": "Ana López"}),
                {
                    "email": "bob@example.org",
                    "substitutions": {"to_name": "Berg, Bob"},
                    "metadata": {"anymail_id": "id-2"},
                },
                {"email": "kim@example.net", "substitutions": {"to_name": "Kim"}, "metadata": {"anymail_id": "id-3"}},
                {"email": "archive@example.com", "metadata": {"anymail_id": "id-4"}},
            ],
            "from_email": "shop@example.com",
            "from_name": "Zoë at the Shop",
            "reply_to": "help@example.com",
            "reply_to_name": "Help Desk",
            "subject": "Paid: order A-1042 ✓",
            "body": {
                "plaintext": "Hi! Receipt attached.",
                "html": '<p>Hi! <img src="cid:logo.1@example.com"></p>',
                "amp": "<!doctype html><html ⚡4email></html>",
            },
            "attachments": [
                {"type": 'text/plain; charset="utf-8"', "name": "räknung.txt", "content": "dG90YWw6IDEwIOKCrA=="},
                {"type": "application/pdf", "name": "receipt.pdf", "content": "JVBERi0xLjQgc2FtcGxl"},
            ],
            "inline_attachments": [{"type": "image/png", "name": "logo.1@example.com", "content": "iVBORw0KGgo="}],
            "global_metadata": {"order_id": "A-1042", "items": 3},
            "tags": ["order-receipt", "shop"],
            "track_links": 0,
            "track_read": 1,
            "options": {"send_at": "2026-03-02 10:15:00", "unsubscribe_url": "https://example.com/u"},
            "skip_unsubscribe": 1,
            "idempotence_key": "order-A-1042-v1",
        },
    ),
    "stored template": (
        {
            "from_email": None,
            "to": ["Ana López <ana@example.net>"],
            "subject": "",
            "body": "",
            "template_id": TEMPLATE_ID,
            "merge_global_data": {"shop": "Example Shop", "order_no": "A-1042"},
            "metadata": {"order_id": "A-1042"},
        },
        {
            "headers": {"to": "=?utf-8?q?Ana_L=C3=B3pez?= <ana@example.net>"},
            "recipients": [ana(substitutions={"to_name": "Ana López"})],
            "template_id": TEMPLATE_ID,
            "global_substitutions": {"shop": "Example Shop", "order_no": "A-1042"},
            "global_metadata": {"order_id": "A-1042"},
            "idempotence_key": "id-2",
        },
    ),
    "a template's subject replaced": (
        {"template_id": TEMPLATE_ID, "body": ""},
        {**{name: value for name, value in BASE.items() if name != "body"}, "template_id": TEMPLATE_ID},
    ),
    "batch": (
        {
            "from_email": "Shop <shop@example.com>",
            "to": ["Ana <ana@example.net>", "bob@example.org"],
            "subject": "Order {{order_no}} shipped",
            "body": "Hi {{name}}, {{shop}} sent {{order_no}}.",
            "merge_data": {
                "ana@example.net": {"name": "Ana", "order_no": "A-1042"},
                "bob@example.org": {"name": "Bob", "order_no": "A-1043"},
            },
            "merge_global_data": {"shop": "Example Shop"},
            "metadata": {"batch": "2026-03-02"},
            "merge_metadata": {"ana@example.net": {"order_id": "A-1042"}, "bob@example.org": {"order_id": "A-1043"}},
            "merge_headers": {
                "ana@example.net": {"List-Unsubscribe": "<https://example.com/u/ana>"},
                "bob@example.org": {"list-unsubscribe": "<https://example.com/u/bob>"},
            },
        },
        {
            "headers": {"List-Unsubscribe": "{{Header__List_Unsubscribe}}"},
            "recipients": [
                {
                    "email": "ana@example.net",
                    "substitutions": {
                        "to_name": "Ana",
                        "name": "Ana",
                        "order_no": "A-1042",
                        "Header__List_Unsubscribe": "<https://example.com/u/ana>",
                    },
                    "metadata": {"order_id": "A-1042", "anymail_id": "id-1"},
                },
                {
                    "email": "bob@example.org",
                    "substitutions": {
                        "name": "Bob",
                        "order_no": "A-1043",
                        "Header__List_Unsubscribe": "<https://example.com/u/bob>",
                    },
                    "metadata": {"order_id": "A-1043", "anymail_id": "id-2"},
                },
            ],
            "from_email": "shop@example.com",
            "from_name": "Shop",
            "subject": "Order {{order_no}} shipped",
            "body": {"plaintext": "Hi {{name}}, {{shop}} sent {{order_no}}."},
            "global_substitutions": {"shop": "Example Shop"},
            "global_metadata": {"batch": "2026-03-02"},
            "idempotence_key": "id-3",
        },
    ),
    "forced batch, with a bcc": (
        {**TWO, "bcc": ["archive@example.com"], "merge_data": {}},
        {
            **BATCH,
            "recipients": [
                ana(),
                {"email": "Bo@Example.org", "metadata": {"anymail_id": "id-2"}},
                {"email": "archive@example.com", "metadata": {"anymail_id": "id-3"}},
            ],
            "idempotence_key": "id-4",
        },
    ),
    "one's own List-Unsubscribe, and that of the others": (
        {
            **TWO,
            "headers": {"list-unsubscribe": "<https://example.com/u>", "X-Shop": 7},
            "merge_headers": {"Bo@Example.org": {"List-Unsubscribe": "<https://example.com/bö>"}},
        },
        {
            **BATCH,
            "recipients": [
                ana(substitutions={"Header__List_Unsubscribe": "<https://example.com/u>"}),
                {
                    "email": "Bo@Example.org",
                    "substitutions": {"Header__List_Unsubscribe": "=?utf-8?b?PGh0dHBzOi8vZXhhbXBsZS5jb20vYsO2Pg==?="},
                    "metadata": {"anymail_id": "id-2"},
                },
            ],
            "headers": {"X-Shop": "7", "List-Unsubscribe": "{{Header__List_Unsubscribe}}"},
            "idempotence_key": "id-3",
        },
    ),
    "merge data by the address as the message spells it": (
        {"to": ["post@bücher.example.com"], "merge_data": {"post@bücher.example.com": {"name": "Zoë"}}},
        {
            **BATCH,
            "recipients": [
                {
                    "email": "post@xn--bcher-kva.example.com",
                    "substitutions": {"name": "Zoë"},
                    "metadata": {"anymail_id": "id-1"},
                }
            ],
        },
    ),
    "equal addresses have one id": (
        {"to": ["ana@example.net"], "cc": ["Ana@Example.net"]},
        {
            **BASE,
            "recipients": [ana(), {"email": "Ana@Example.net", "metadata": {"anymail_id": "id-1"}}],
            "headers": {"to": "ana@example.net", "cc": "Ana@Example.net"},
        },
    ),
    "our id goes before one's own": (
        {"merge_metadata": {"ana@example.net": {"anymail_id": "mine", "n": 1}}},
        {**BATCH, "recipients": [{"email": "ana@example.net", "metadata": {"anymail_id": "id-1", "n": 1}}]},
    ),
    "no to": (
        {"to": [], "cc": ["ana@example.net"]},
        {**BASE, "headers": {"cc": "ana@example.net"}},
    ),
    "only bcc": ({"to": [], "bcc": ["ana@example.net"]}, BATCH),
    "name in ASCII": (
        {"to": ["Ana <ana@example.net>"]},
        {**shown("Ana <ana@example.net>"), "recipients": [ana(substitutions={"to_name": "Ana"})]},
    ),
    "name with quotes and parentheses": (
        {"to": [r'"Ana (\"A\")" <ana@example.net>']},
        {
            **shown(r'"Ana (\"A\")" <ana@example.net>'),
            "recipients": [ana(substitutions={"to_name": 'Ana ("A")'})],
        },
    ),
    "name with an address": (
        {"to": ['"ana@home <x>" <ana@example.net>']},
        {
            **shown("=?utf-8?b?YW5hQGhvbWUgPHg+?= <ana@example.net>"),
            "recipients": [ana(substitutions={"to_name": "ana@home <x>"})],
        },
    ),
    "reply_to in Unicode": (
        {"reply_to": ["Hjälp <help@bücher.example.com>"]},
        {**BASE, "reply_to": "help@xn--bcher-kva.example.com", "reply_to_name": "=?utf-8?b?SGrDpGxw?="},
    ),
    "reply_to with specials": (
        {"reply_to": ['"Help (EU)" <help@example.com>']},
        {**BASE, "reply_to": "help@example.com", "reply_to_name": "=?utf-8?b?SGVscCAoRVUp?="},
    ),
    "headers in Unicode": (
        {"headers": {"X-Name": "Zoë", "List-Help": "<https://example.com/help>", "In-Reply-To": "<a@example.com>"}},
        {
            **BASE,
            "headers": {
                "to": "ana@example.net",
                "X-Name": "=?utf-8?q?Zo=C3=AB?=",
                "List-Help": "<https://example.com/help>",
                "In-Reply-To": "<a@example.com>",
            },
        },
    ),
    "one's own Cc header": (
        {"cc": ["bo@example.org"], "headers": {"CC": "All of us <bo@example.org>"}},
        {
            **BASE,
            "recipients": [ana(), {"email": "bo@example.org", "metadata": {"anymail_id": "id-2"}}],
            "headers": {"to": "ana@example.net", "CC": "All of us <bo@example.org>"},
            "idempotence_key": "id-3",
        },
    ),
    "html only": (
        {"body": "<p>Hello", "content_subtype": "html"},
        {**BASE, "body": {"html": "<p>Hello"}},
    ),
    "tracking the other way round": (
        {"track_clicks": True, "track_opens": False},
        {**BASE, "track_links": 1, "track_read": 0},
    ),
    "send_at as a POSIX timestamp": (
        {"send_at": 1_772_446_500},
        {**BASE, "options": {"send_at": "2026-03-02 10:15:00"}},
    ),
    "attachments of the same name, or none": (
        {
            "attach": [
                ("a.zip", b"1", "application/zip"),
                ("a.zip", b"2", "application/zip"),
                ("a.zip", b"3", "application/zip"),
                (None, b"4", "application/zip"),
                (None, b"5", "application/zip"),
            ]
        },
        {
            **BASE,
            "attachments": [
                {"type": "application/zip", "name": "a.zip", "content": "MQ=="},
                {"type": "application/zip", "name": "a (2).zip", "content": "Mg=="},
                {"type": "application/zip", "name": "a (3).zip", "content": "Mw=="},
                {"type": "application/zip", "name": "", "content": "NA=="},
                {"type": "application/zip", "name": "(2)", "content": "NQ=="},
            ],
        },
    ),
    "inline without a Content-ID": (
        {"attachments": [inline(None)]},
        {**BASE, "inline_attachments": [{"type": "image/png", "name": "logo.png", "content": "iVBORw0KGgo="}]},
    ),
    "esp_extra": (
        {
            "headers": {"X-Shop": "7"},
            "tags": ["a"],
            "esp_extra": {
                "tags": ["b"],
                "headers": {"X-Own": "1"},
                "template_engine": "none",
                "bypass_global": 1,
            },
        },
        {
            **BASE,
            "tags": ["b"],
            "headers": {"to": "ana@example.net", "X-Shop": "7", "X-Own": "1"},
            "template_engine": "none",
            "bypass_global": 1,
        },
    ),
}


@pytest.mark.parametrize(("attributes", "expected"), REQUESTS.values(), ids=REQUESTS.keys())
def test_request(attributes: dict[str, Any], expected: Any) -> None:
    assert wire(**attributes) == expected


def test_where_it_goes() -> None:
    request = request_of(GO.deliver(mail()))
    assert (request.method, request.url) == ("POST", f"{URL}/email/send.json")
    assert dict(request.headers) == {
        "Accept": "application/json",
        "Content-Type": "application/json",
        "X-API-KEY": "6kz4r7tq",
    }


def test_inline_image() -> None:
    made = message(html="<img>")
    cid = attach_inline_image(made, PNG, "logo.png", domain="example.com")
    [image] = json_of(request_of(GO.deliver(outgoing_mail(made))))["message"]["inline_attachments"]
    assert image == {"type": "image/png", "name": cid, "content": "iVBORw0KGgo="}


def test_a_long_name_stays_on_one_line() -> None:
    name = "Компания с очень длинным названием, которое не помещается в одно закодированное слово"
    to = wire(to=[f'"{name}" <ana@example.net>'])["headers"]["to"]
    assert "\n" not in to
    assert to.isascii()
    assert all(len(word) <= 75 for word in to.split())


def test_the_message_is_left_as_it_is() -> None:
    own = {"ana@example.net": {"order": "1"}}
    made = message(merge_metadata=own, metadata={"n": 1})
    request_of(GO.deliver(outgoing_mail(made)))
    assert made.merge_metadata == {"ana@example.net": {"order": "1"}}
    assert made.metadata == {"n": 1}


def test_data_that_json_cannot_express() -> None:
    with pytest.raises(AnymailSerializationError, match=r"message\.global_substitutions\.total"):
        request_of(GO.deliver(mail(merge_global_data={"total": {1, 2}})))


class TestIdempotence:
    def test_each_message_has_a_key(self) -> None:
        first, second = (request_of(GO.deliver(mail())) for _ in range(2))
        assert first.idempotency_key == json_of(first)["message"]["idempotence_key"]
        assert first.idempotency_key != second.idempotency_key

    def test_the_message_may_bring_its_own(self) -> None:
        request = request_of(GO.deliver(mail(esp_extra={"idempotence_key": KEY})))
        assert request.idempotency_key == KEY

    def test_or_do_without(self) -> None:
        request = request_of(GO.deliver(mail(esp_extra={"idempotence_key": ""})))
        assert not request.repeatable

    def test_of_several_attempts_the_first_was_taken(self) -> None:
        _, recipients = drive(GO.deliver(mail(**TWO)), answer(400, error(1573)))
        assert statuses(recipients) == {
            "ana@example.net": ("unknown", "id-1"),
            "Bo@Example.org": ("unknown", "id-2"),
        }

    def test_of_several_messages_with_the_same_key_one_was_taken(self) -> None:
        with pytest.raises(AnymailAPIError, match="code 1573") as raised:
            drive(GO.deliver(mail(esp_extra={"idempotence_key": KEY})), answer(400, error(1573)))
        assert raised.value.sent is None
        assert not raised.value.retryable


class TestOptions:
    def test_without_ids_of_our_own(self) -> None:
        esp = make_esp(UnisenderGo, **OPTIONS, generate_message_id=False)
        [request], recipients = drive(esp.deliver(mail(**TWO)), answer(200, success("ana@example.net")))
        assert json_of(request)["message"]["recipients"] == [{"email": "ana@example.net"}, {"email": "Bo@Example.org"}]
        assert statuses(recipients)["ana@example.net"] == ("queued", "job-1")

    def test_with_recipients_of_ones_own(self) -> None:
        own = [{"email": "ana@example.net", "substitutions": {"name": "Ana"}}]
        flow = GO.deliver(mail(esp_extra={"recipients": own}))
        [request], recipients = drive(flow, answer(200, success("ana@example.net")))
        assert json_of(request)["message"]["recipients"] == own
        assert statuses(recipients) == {"ana@example.net": ("queued", "job-1")}

    def test_without_the_workaround(self) -> None:
        esp = make_esp(UnisenderGo, **OPTIONS, workaround_display_name_bugs=False)
        one = mail(
            to=['"Berg, Bob" <bob@example.org>', "Ana López <ana@example.net>"],
            reply_to=['"Hjälp (EU)" <help@example.com>'],
        )
        sent = json_of(request_of(esp.deliver(one)))["message"]
        assert sent["headers"]["to"] == '"Berg, Bob" <bob@example.org>, =?utf-8?q?Ana_L=C3=B3pez?= <ana@example.net>'
        assert sent["reply_to_name"] == "Hjälp (EU)"

    @pytest.mark.parametrize("url", ["https://api.unione.io/en/transactional/api/v1", f"{URL}/"])
    def test_api_url(self, url: str) -> None:
        esp = make_esp(UnisenderGo, api_key="k", api_url=url)
        assert request_of(esp.deliver(mail())).url == f"{url.rstrip('/')}/email/send.json"

    @override_settings(UNISENDER_GO_API_KEY="bare", ANYMAIL={"UNISENDER_GO_API_URL": URL})
    def test_the_key_may_be_a_bare_setting(self) -> None:
        options = load(UnisenderGoOptions, ("UNISENDER_GO",), {})
        assert options.api_key.reveal() == "bare"
        assert "bare" not in repr(options)

    @pytest.mark.parametrize("missing", OPTIONS)
    def test_what_is_needed(self, missing: str) -> None:
        with pytest.raises(AnymailConfigurationError, match=f"UNISENDER_GO_{missing.upper()}"):
            EmailBackend(**{name: value for name, value in OPTIONS.items() if name != missing})

    @override_settings(ANYMAIL={"UNISENDER_GO_SEND_DEFAULTS": {"esp_extra": {"skip_unsubscribe": 1}}})
    def test_send_defaults(self) -> None:
        options = load(UnisenderGoOptions, ("UNISENDER_GO",), OPTIONS)
        one = outgoing_mail(message(esp_extra={"bypass_global": 1}), defaults=options.send_defaults)
        sent = json_of(request_of(UnisenderGo(options).deliver(one)))["message"]
        assert (sent["skip_unsubscribe"], sent["bypass_global"]) == (1, 1)


UNSUPPORTED = {
    "multiple from_email addresses": {"from_email": "a@example.com, b@example.com"},
    "multiple reply_to addresses": {"reply_to": ["a@example.com", "b@example.com"]},
    "envelope_sender": {"envelope_sender": "bounces@example.com"},
    "a To header in extra_headers": {"headers": {"To": "all@example.com"}},
    "'Precedence' in extra_headers": {"headers": {"precedence": "bulk", "X-A": "1"}},
    "multiple html parts": {"html": "<p>1", "alternatives": [("<p>1", "text/html"), ("<p>2", "text/html")]},
    "cc with batch send (merge_data, merge_metadata, or merge_headers)": {"cc": ["c@example.org"], "merge_data": {}},
    "'X-Other' in merge_headers": {
        "merge_headers": {"ana@example.net": {"x-other": "1", "List-Unsubscribe": "<https://example.com>"}}
    },
    "a non-ASCII local part (EAI) in to": {"to": ["josé@example.com"]},
}


@pytest.mark.parametrize(("what", "attributes"), UNSUPPORTED.items(), ids=UNSUPPORTED.keys())
def test_unsupported(what: str, attributes: dict[str, Any]) -> None:
    one = mail(**attributes)
    assert [found.what for found in (*check(one, UnisenderGo.supports), *GO.check(one))] == [what]


def test_a_second_amp_part_is_unsupported() -> None:
    one = mail(alternatives=[("<html amp4email>", "text/x-amp-html")] * 2)
    assert [found.what for found in check(one, UnisenderGo.supports)] == ["multiple AMP parts"]


def ignoring(**attributes: Any) -> Any:
    """The message object of a message with unsupported things, without them."""
    sent: list[Any] = []

    class Transport:
        def send(self, request: Request) -> Any:
            sent.append(json_of(request)["message"])
            return answer(200, success(*(one["email"] for one in sent[0]["recipients"])))

    with mock.patch("anymail.delivery.engine.transport_for", return_value=Transport()):
        backend = EmailBackend(**OPTIONS, ignore_unsupported_features=True)
        assert backend.send_messages([message(**attributes)]) == 1
    return sent[0]


def test_ignored_headers_are_left_out() -> None:
    sent = ignoring(headers={"Precedence": "bulk", "X-A": "1", "Auto-Submitted": "no"})
    assert sent["headers"] == {"to": "ana@example.net", "X-A": "1"}


def test_ignored_merge_headers_are_left_out() -> None:
    sent = ignoring(merge_headers={"ana@example.net": {"X-A": "1", "X-B": "2", "List-Unsubscribe": "<u>"}})
    assert sent["headers"] == {"List-Unsubscribe": "{{Header__List_Unsubscribe}}"}
    assert sent["recipients"][0]["substitutions"] == {"Header__List_Unsubscribe": "<u>"}


def test_ignored_cc_of_a_batch_get_copies_of_their_own() -> None:
    sent = ignoring(cc=["c@example.org"], merge_data={})
    assert [one["email"] for one in sent["recipients"]] == ["ana@example.net", "c@example.org"]
    assert "headers" not in sent


def success(*emails: str) -> dict[str, Any]:
    return {"status": "success", "job_id": "job-1", "emails": list(emails)}


def partly(failed: dict[str, str], *emails: str) -> dict[str, Any]:
    return {**success(*emails), "failed_emails": failed}


def error(code: int, text: str = "No") -> dict[str, Any]:
    return {"status": "error", "code": code, "message": text}


QUEUED, REJECTED, INVALID = ("queued", "id-1"), ("rejected", None), ("invalid", None)
FAILED, UNKNOWN = ("failed", None), ("unknown", None)

# A message's attributes, the answer, and the recipients' statuses.
ANSWERS: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
    "taken": (
        {"cc": ["c@example.org"], "bcc": ["d@example.org"]},
        answer(200, success("ana@example.net", "c@example.org", "d@example.org")),
        {"ana@example.net": QUEUED, "c@example.org": ("queued", "id-2"), "d@example.org": ("queued", "id-3")},
    ),
    "an empty object, as PHP writes it": (
        {},
        answer(200, {**success("ana@example.net"), "failed_emails": []}),
        {"ana@example.net": QUEUED},
    ),
    "every reason": (
        {"to": ["ana@example.net", *(f"r{number}@example.com" for number in range(1, 8))]},
        answer(
            200,
            partly(
                {
                    "r1@example.com": "invalid",
                    "r2@example.com": "permanent_unavailable",
                    "r3@example.com": "temporary_unavailable",
                    "r4@example.com": "unsubscribed",
                    "r5@example.com": "complained",
                    "r6@example.com": "blocked",
                    "r7@example.com": "whim",
                    "ana@example.net": "duplicate",
                },
                "ana@example.net",
            ),
        ),
        {
            "ana@example.net": QUEUED,
            "r1@example.com": INVALID,
            "r2@example.com": REJECTED,
            "r3@example.com": FAILED,
            "r4@example.com": REJECTED,
            "r5@example.com": REJECTED,
            "r6@example.com": REJECTED,
            "r7@example.com": FAILED,
        },
    ),
    "another spelling": (
        {"to": ["Bo@Example.org", "a@bücher.example", "b@bücher.example"]},
        answer(200, partly({"B@XN--bcher-kva.example": "blocked"}, "bo@example.org", "a@bücher.example")),
        {"Bo@Example.org": QUEUED, "a@bücher.example": ("queued", "id-2"), "b@bücher.example": REJECTED},
    ),
    "the same twice": (
        {"to": ["ana@example.net", "Ana@Example.net"]},
        answer(200, partly({"Ana@Example.net": "duplicate"}, "ana@example.net")),
        {"ana@example.net": QUEUED, "Ana@Example.net": QUEUED},
    ),
    "the same twice, and not good": (
        {"to": ["ana@example.net", "Ana@Example.net", "bo@example.org"]},
        answer(200, partly({"ana@example.net": "unsubscribed", "Ana@Example.net": "duplicate"}, "bo@example.org")),
        {"ana@example.net": REJECTED, "Ana@Example.net": REJECTED, "bo@example.org": ("queued", "id-2")},
    ),
    "one not mentioned": (
        TWO,
        answer(200, success("ana@example.net")),
        {"ana@example.net": QUEUED, "Bo@Example.org": UNKNOWN},
    ),
    "nobody, with success": (
        TWO,
        answer(
            200, {"status": "success", "failed_emails": {"ana@example.net": "invalid", "bo@example.org": "blocked"}}
        ),
        {"ana@example.net": INVALID, "Bo@Example.org": REJECTED},
    ),
    "nobody, as an error": (
        {},
        answer(400, {**error(204), "failed_emails": {"ana@example.net": "unsubscribed"}}),
        {"ana@example.net": REJECTED},
    ),
}


@pytest.mark.parametrize(("attributes", "response", "expected"), ANSWERS.values(), ids=ANSWERS.keys())
def test_statuses(attributes: dict[str, Any], response: Any, expected: dict[str, Any]) -> None:
    _, recipients = drive(GO.deliver(mail(**attributes)), response)
    assert statuses(recipients) == expected


# The answer, and the error's sent, category and retryable.
ERRORS: dict[str, tuple[Any, bool | None, str, bool]] = {
    "no key": (answer(401, error(101)), False, "auth", False),
    "bad key": (answer(401, error(102)), False, "auth", False),
    "API is off": (answer(403, error(105)), False, "auth", False),
    "may not send": (answer(400, error(1575)), False, "auth", False),
    "domain not verified": (answer(400, error(206)), False, "auth", False),
    "daily limit": (answer(403, error(901)), False, "quota", False),
    "no money": (answer(403, error(904)), False, "quota", False),
    "daily reset": (answer(400, error(906)), False, "quota", False),
    "nobody, and no list": (answer(400, error(204)), False, "invalid", False),
    "nobody, and an odd list": (answer(400, {**error(204), "failed_emails": ["x"]}), False, "invalid", False),
    "nobody, and an empty list": (answer(400, {**error(204), "failed_emails": {}}), False, "invalid", False),
    "cc without to": (answer(400, error(1556)), False, "invalid", False),
    "template not found": (answer(400, error(1508)), False, "invalid", False),
    "too large": (answer(413, error(199)), False, "invalid", False),
    "a code that is none": (answer(400, error("x")), False, "invalid", False),  # type: ignore[arg-type]
    "no JSON in an error": (answer(403, "<html>"), False, "auth", False),
    "a list in an error": (answer(400, [1]), False, "invalid", False),
    "too fast": (answer(429, "Too many requests"), False, "rate_limit", True),
    "its fault": (answer(500, error(150)), None, "server", False),
    "unavailable": (answer(503, "Unavailable"), None, "server", False),
    "not JSON": (answer(200, "<html>"), True, "unreadable", False),
    "a list": (answer(200, [1]), True, "unreadable", False),
    "nothing": (answer(200, {}), True, "unreadable", False),
    "nobody": (answer(200, {"status": "success", "job_id": "j", "emails": []}), True, "unreadable", False),
    "no job_id": (answer(200, {"emails": ["ana@example.net"]}), True, "unreadable", False),
    "emails as a number": (answer(200, {"job_id": "j", "emails": 7}), True, "unreadable", False),
    "numbers for emails": (answer(200, {"job_id": "j", "emails": [7]}), True, "unreadable", False),
    "a list of failures": (answer(200, {"job_id": "j", "failed_emails": ["x"]}), True, "unreadable", False),
}


@pytest.mark.parametrize(("response", "sent", "category", "retryable"), ERRORS.values(), ids=ERRORS.keys())
def test_errors(response: Any, sent: bool | None, category: str, retryable: bool) -> None:
    with pytest.raises(AnymailAPIError) as raised:
        drive(GO.deliver(mail()), response)
    found = raised.value
    assert (found.sent, found.category, found.retryable) == (sent, category, retryable)
    assert "6kz4r7tq" not in str(found)


def test_error_quotes_unisender_go() -> None:
    with pytest.raises(AnymailAPIError, match=r"code 1556: headers\['Cc'\] needs a non-empty To"):
        drive(GO.deliver(mail()), answer(400, error(1556, "headers['Cc'] needs a non-empty To")))


def test_the_wrong_data_centre() -> None:
    with pytest.raises(AnymailAPIError, match="UNISENDER_GO_API_URL") as raised:
        drive(GO.deliver(mail()), answer(401, error(114, "User not found")))
    assert raised.value.category == "auth"


@pytest.mark.parametrize("reason", [None, 7, [], {}])
def test_an_odd_reason(reason: Any) -> None:
    _, recipients = drive(GO.deliver(mail()), answer(200, {"failed_emails": {"ana@example.net": reason}}))
    assert statuses(recipients) == {"ana@example.net": FAILED}
