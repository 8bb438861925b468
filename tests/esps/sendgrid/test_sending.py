"""SendGrid: messages and the exact requests they become, answers and the statuses they become."""

from __future__ import annotations

import datetime as dt
from email.message import MIMEPart
from itertools import count
from typing import Any
from unittest import mock

import pytest
from django.test import override_settings

from anymail.backends.sendgrid import EmailBackend
from anymail.esps.sendgrid.sending import SendGrid
from anymail.exceptions import (
    AnymailAPIError,
    AnymailConfigurationError,
    AnymailSerializationError,
    AnymailUnsupportedFeature,
    AnymailWarning,
)
from anymail.mail.message import outgoing_mail
from anymail.mail.supports import check
from anymail.message import attach_inline_image
from support import PNG, answer, drive, fitted, json_of, make_esp, message, request_of, statuses

OPTIONS = {"api_key": "SG.example", "merge_field_format": "-{}-"}
SENDGRID = make_esp(SendGrid, **OPTIONS)
WITHOUT_IDS = make_esp(SendGrid, **OPTIONS, generate_message_id=False)

ANA, BO = {"email": "ana@example.net"}, {"email": "bo@example.org"}
TO_ANA = {"to": [ANA], "custom_args": {"anymail_id": "id-1"}}
TO_BO = {"to": [BO], "custom_args": {"anymail_id": "id-2"}}
HELLO = [{"type": "text/plain", "value": "Hello"}]
BASE = {"personalizations": [TO_ANA], "from": {"email": "shop@example.com"}, "subject": "Hi", "content": HELLO}
DYNAMIC = {"subject": None, "body": "", "template_id": "d-0123"}
TEMPLATED = {"personalizations": [TO_ANA], "from": {"email": "shop@example.com"}, "template_id": "d-0123"}
TWO = {"to": ["ana@example.net", "bo@example.org"]}

# A message's attributes, and the body of its request; message ids are id-1, id-2 and so on.
REQUESTS: dict[str, tuple[dict[str, Any], Any]] = {
    "plain": ({}, BASE),
    "everything": (
        {
            "from_email": "Shop <orders@example.com>",
            "to": ["Alice Example <alice@example.net>", "bob@example.org"],
            "cc": ['"Ops, Team" <ops@example.com>'],
            "bcc": ["audit@example.com"],
            "reply_to": ["Help <help@example.com>", "help2@example.com"],
            "subject": "Order 1042 confirmed",
            "headers": {"X-Campaign": "spring", "List-Unsubscribe": "<https://example.com/u/1>"},
            "body": "Hi",
            "alternatives": [("<p>Hi", "text/html"), ("<!doctype html><html ⚡4email></html>", "text/x-amp-html")],
            "attach": [("cafe.txt", "Café", "text/plain")],
            "metadata": {"order_id": 1042, "user": "u-77", "vip": True, "share": 0.5},
            "tags": ["receipt", "orders"],
            "send_at": dt.datetime(2026, 3, 14, 12, 0, 0, 999_999, tzinfo=dt.UTC),
            "track_clicks": False,
            "track_opens": True,
        },
        {
            "personalizations": [
                {
                    "to": [{"email": "alice@example.net", "name": "Alice Example"}, {"email": "bob@example.org"}],
                    "cc": [{"email": "ops@example.com", "name": "Ops, Team"}],
                    "bcc": [{"email": "audit@example.com"}],
                    "custom_args": {"anymail_id": "id-1"},
                }
            ],
            "from": {"email": "orders@example.com", "name": "Shop"},
            "reply_to_list": [{"email": "help@example.com", "name": "Help"}, {"email": "help2@example.com"}],
            "subject": "Order 1042 confirmed",
            "content": [
                {"type": "text/plain", "value": "Hi"},
                {"type": "text/x-amp-html", "value": "<!doctype html><html ⚡4email></html>"},
                {"type": "text/html", "value": "<p>Hi"},
            ],
            "attachments": [{"content": "Q2Fmw6k=", "type": 'text/plain; charset="utf-8"', "filename": "cafe.txt"}],
            "headers": {"X-Campaign": "spring", "List-Unsubscribe": "<https://example.com/u/1>"},
            "categories": ["receipt", "orders"],
            "custom_args": {"order_id": "1042", "user": "u-77", "vip": "true", "share": "0.5"},
            "send_at": 1773489600,
            "tracking_settings": {"click_tracking": {"enable": False}, "open_tracking": {"enable": True}},
        },
    ),
    "domains": (
        {"to": ["post@bücher.example.com", "josé@example.com"], "from_email": "Bücher <shop@bücher.example.com>"},
        {
            **BASE,
            "personalizations": [
                {
                    "to": [{"email": "post@xn--bcher-kva.example.com"}, {"email": "josé@example.com"}],
                    "custom_args": {"anymail_id": "id-1"},
                }
            ],
            "from": {"email": "shop@xn--bcher-kva.example.com", "name": "Bücher"},
        },
    ),
    "html only": (
        {"body": "<p>Hello", "content_subtype": "html"},
        {**BASE, "content": [{"type": "text/html", "value": "<p>Hello"}]},
    ),
    "other alternatives": (
        {"alternatives": [("BEGIN:VCALENDAR", "text/calendar"), ("<p>Hello", "text/html")]},
        {
            **BASE,
            "content": [
                *HELLO,
                {"type": "text/html", "value": "<p>Hello"},
                {"type": "text/calendar", "value": "BEGIN:VCALENDAR"},
            ],
        },
    ),
    "a body beside a dynamic template": (
        {"template_id": "d-0123", "html": "<p>Hello"},
        {**TEMPLATED, "subject": "Hi"},
    ),
    "a body beside a legacy template": ({"template_id": "0f1e-2d3c"}, {**BASE, "template_id": "0f1e-2d3c"}),
    "neither subject nor body": (
        {"subject": "", "body": ""},
        {"personalizations": [TO_ANA], "from": {"email": "shop@example.com"}},
    ),
    "an attachment without a name": (
        {"attach": [(None, b"%PDF", "application/pdf")]},
        {**BASE, "attachments": [{"content": "JVBERg==", "type": "application/pdf", "filename": "attachment.pdf"}]},
    ),
    "numbers and the Reply-To among headers": (
        {"headers": {"X-Shop": 7, "reply-to": "help@example.com"}, "reply_to": ["other@example.com"]},
        {**BASE, "headers": {"X-Shop": "7"}, "reply_to_list": [{"email": "help@example.com"}]},
    ),
    "dynamic template": (
        {**DYNAMIC, "merge_global_data": {"shop": "Example Shop", "items": [{"sku": "A1", "qty": 2}]}},
        {
            **TEMPLATED,
            "personalizations": [
                {**TO_ANA, "dynamic_template_data": {"shop": "Example Shop", "items": [{"sku": "A1", "qty": 2}]}}
            ],
        },
    ),
    "dynamic template, batch": (
        {
            **DYNAMIC,
            **TWO,
            "merge_data": {"ana@example.net": {"name": "Ana", "n": 1}},
            "merge_global_data": {"shop": "Example"},
        },
        {
            **TEMPLATED,
            "personalizations": [
                {**TO_ANA, "dynamic_template_data": {"shop": "Example", "name": "Ana", "n": 1}},
                {**TO_BO, "dynamic_template_data": {"shop": "Example"}},
            ],
        },
    ),
    "dynamic template in esp_extra": (
        {"subject": None, "body": "", "merge_global_data": {"n": [1]}, "esp_extra": {"template_id": "d-0123"}},
        {**TEMPLATED, "personalizations": [{**TO_ANA, "dynamic_template_data": {"n": [1]}}]},
    ),
    "dynamic template by its word": (
        {
            **DYNAMIC,
            "template_id": "x",
            "merge_global_data": {"n": [1]},
            "esp_extra": {"use_dynamic_template": True},
        },
        {**TEMPLATED, "template_id": "x", "personalizations": [{**TO_ANA, "dynamic_template_data": {"n": [1]}}]},
    ),
    "legacy template": (
        {
            **DYNAMIC,
            "template_id": "0f1e-2d3c",
            "merge_global_data": {"shop": "Example", "n": 7, "x": 0.5, "b": True, "none": None},
        },
        {
            **TEMPLATED,
            "template_id": "0f1e-2d3c",
            "personalizations": [
                {
                    **TO_ANA,
                    "substitutions": {"-shop-": "Example", "-n-": "7", "-x-": "0.5", "-b-": "true", "-none-": ""},
                }
            ],
        },
    ),
    "legacy template by its word": (
        {**DYNAMIC, "merge_global_data": {"n": 7}, "esp_extra": {"use_dynamic_template": False}},
        {**TEMPLATED, "personalizations": [{**TO_ANA, "substitutions": {"-n-": "7"}}]},
    ),
    "batch": (
        {
            "from_email": "orders@example.com",
            "to": ["ana@example.net", "Bo <bo@example.org>"],
            "subject": "Your order at -shop-",
            "body": "Hi -name-",
            "merge_global_data": {"shop": "Example Shop"},
            "merge_data": {"ana@example.net": {"name": "Ana"}, "bo@example.org": {"name": "Bo"}},
            "metadata": {"job": "nightly"},
            "merge_metadata": {"ana@example.net": {"order_id": 1042}, "bo@example.org": {"order_id": "1043"}},
            "headers": {"List-Unsubscribe": "<mailto:u@example.com>"},
            "merge_headers": {
                "ana@example.net": {"List-Unsubscribe": "<https://example.com/u/a>"},
                "bo@example.org": {"List-Unsubscribe": "<https://example.com/u/b>"},
            },
        },
        {
            "personalizations": [
                {
                    "to": [ANA],
                    "substitutions": {"-shop-": "Example Shop", "-name-": "Ana"},
                    "custom_args": {"order_id": "1042", "anymail_id": "id-1"},
                    "headers": {"List-Unsubscribe": "<https://example.com/u/a>"},
                },
                {
                    "to": [{**BO, "name": "Bo"}],
                    "substitutions": {"-shop-": "Example Shop", "-name-": "Bo"},
                    "custom_args": {"order_id": "1043", "anymail_id": "id-2"},
                    "headers": {"List-Unsubscribe": "<https://example.com/u/b>"},
                },
            ],
            "from": {"email": "orders@example.com"},
            "subject": "Your order at -shop-",
            "content": [{"type": "text/plain", "value": "Hi -name-"}],
            "headers": {"List-Unsubscribe": "<mailto:u@example.com>"},
            "custom_args": {"job": "nightly"},
        },
    ),
    "batch with copies, domains and all headers": (
        {
            "to": ["ana@example.net", "bo@bücher.example"],
            "cc": ["team@example.org"],
            "bcc": ["archive@example.org"],
            "headers": {"X-Shop": "7", "List-Unsubscribe": "<https://example.com/u>"},
            "merge_headers": {"bo@bücher.example": {"list-unsubscribe": "<https://example.com/u/bo>"}},
        },
        {
            **BASE,
            "personalizations": [
                {
                    **TO_ANA,
                    "cc": [{"email": "team@example.org"}],
                    "bcc": [{"email": "archive@example.org"}],
                    "headers": {"X-Shop": "7", "List-Unsubscribe": "<https://example.com/u>"},
                },
                {
                    "to": [{"email": "bo@xn--bcher-kva.example"}],
                    "cc": [{"email": "team@example.org"}],
                    "bcc": [{"email": "archive@example.org"}],
                    "custom_args": {"anymail_id": "id-2"},
                    "headers": {"X-Shop": "7", "list-unsubscribe": "<https://example.com/u/bo>"},
                },
            ],
            "headers": {"X-Shop": "7", "List-Unsubscribe": "<https://example.com/u>"},
        },
    ),
    "forced batch": ({**TWO, "merge_data": {}}, {**BASE, "personalizations": [TO_ANA, TO_BO]}),
    "global data alone is no batch": (
        {**TWO, "merge_global_data": {"shop": "Example"}},
        {**BASE, "personalizations": [{**TO_ANA, "to": [ANA, BO], "substitutions": {"-shop-": "Example"}}]},
    ),
    "merge_field_format of one message": (
        {"merge_global_data": {"shop": "Example"}, "esp_extra": {"merge_field_format": "{{{{{}}}}}"}},
        {**BASE, "personalizations": [{**TO_ANA, "substitutions": {"{{shop}}": "Example"}}]},
    ),
    "esp_extra": (
        {
            "track_clicks": True,
            "metadata": {"order": "1"},
            "esp_extra": {
                "asm": {"group_id": 10},
                "custom_args": {"job": "nightly"},
                "tracking_settings": {"click_tracking": {"enable_text": False}},
            },
        },
        {
            **BASE,
            "custom_args": {"order": "1", "job": "nightly"},
            "tracking_settings": {"click_tracking": {"enable": True, "enable_text": False}},
            "asm": {"group_id": 10},
        },
    ),
    "esp_extra for every personalization": (
        {
            **TWO,
            "merge_metadata": {"ana@example.net": {"order": "1"}},
            "merge_headers": {"ana@example.net": {"X-A": "1"}},
            "esp_extra": {
                "personalizations": {"subject": "Other", "custom_args": {"job": "x"}, "headers": {"X-B": "2"}}
            },
        },
        {
            **BASE,
            "personalizations": [
                {
                    "to": [ANA],
                    "subject": "Other",
                    "custom_args": {"order": "1", "anymail_id": "id-1", "job": "x"},
                    "headers": {"X-A": "1", "X-B": "2"},
                },
                {
                    "to": [BO],
                    "subject": "Other",
                    "custom_args": {"anymail_id": "id-2", "job": "x"},
                    "headers": {"X-B": "2"},
                },
            ],
        },
    ),
    "esp_extra in place of all personalizations": (
        {"esp_extra": {"personalizations": [{"to": [ANA], "custom_args": {"job": "x"}}, {"to": [BO]}]}},
        {
            **BASE,
            "personalizations": [{"to": [ANA], "custom_args": {"anymail_id": "id-1", "job": "x"}}, TO_BO],
        },
    ),
}


def numbered_ids() -> Any:
    """Message ids in the order they are made: id-1, id-2 and so on."""
    return mock.patch("anymail.esps.sendgrid.sending.uuid.uuid4", side_effect=(f"id-{n}" for n in count(1)))


@pytest.mark.parametrize(("attributes", "body"), REQUESTS.values(), ids=REQUESTS.keys())
def test_request(attributes: dict[str, Any], body: Any) -> None:
    with numbered_ids():
        request = request_of(SENDGRID.deliver(fitted(SendGrid, **attributes)))
    assert (request.method, request.url) == ("POST", "https://api.sendgrid.com/v3/mail/send")
    assert json_of(request) == body


def test_headers() -> None:
    request = request_of(SENDGRID.deliver(fitted(SendGrid)))
    assert dict(request.headers) == {
        "Authorization": "Bearer SG.example",
        "Accept": "application/json",
        "Content-Type": "application/json",
    }
    assert "SG.example" not in repr(request)


def test_a_call_is_never_repeated_blindly() -> None:
    assert not request_of(SENDGRID.deliver(fitted(SendGrid))).repeatable


def test_the_european_host() -> None:
    esp = make_esp(SendGrid, api_key="SG.example", api_url="https://api.eu.sendgrid.com/v3")
    assert request_of(esp.deliver(fitted(SendGrid))).url == "https://api.eu.sendgrid.com/v3/mail/send"


def test_message_ids_differ() -> None:
    body = json_of(request_of(SENDGRID.deliver(fitted(SendGrid, **TWO, merge_data={}))))
    ids = [one["custom_args"]["anymail_id"] for one in body["personalizations"]]
    assert len({*ids}) == 2
    assert all(len(one) == 36 for one in ids)


def test_message_ids_can_be_left_out() -> None:
    body = json_of(
        request_of(WITHOUT_IDS.deliver(fitted(SendGrid, **TWO, merge_metadata={"ana@example.net": {"order": 1}})))
    )
    assert body["personalizations"] == [{"to": [ANA], "custom_args": {"order": "1"}}, {"to": [BO]}]


def test_inline_image() -> None:
    made = message(html="<img>")
    cid = attach_inline_image(made, PNG, "logo.png", domain="example.com")
    assert json_of(request_of(SENDGRID.deliver(outgoing_mail(made))))["attachments"] == [
        {
            "content": "iVBORw0KGgo=",
            "type": "image/png",
            "filename": "logo.png",
            "disposition": "inline",
            "content_id": cid,
        }
    ]


def test_text_in_another_charset_is_sent_in_utf_8() -> None:
    made = message()
    part = MIMEPart()
    part.set_content("Café", subtype="csv", charset="iso-8859-1")
    made.attachments.append(part)
    [attachment] = json_of(request_of(SENDGRID.deliver(outgoing_mail(made))))["attachments"]
    assert attachment == {"content": "Q2Fmw6kK", "type": 'text/csv; charset="utf-8"', "filename": "attachment.csv"}


def test_text_in_an_unknown_charset_is_sent_as_it_is() -> None:
    made = message()
    part = MIMEPart()
    part.set_content("x", subtype="csv")
    part.set_param("charset", "klingon")
    made.attachments.append(part)
    [attachment] = json_of(request_of(SENDGRID.deliver(outgoing_mail(made))))["attachments"]
    assert attachment["type"] == 'text/csv; charset="klingon"'


UNSUPPORTED = {
    "multiple from_email addresses": {"from_email": "a@example.com, b@example.com"},
    "envelope_sender": {"envelope_sender": "bounces@example.com"},
    "a To header in extra_headers": {"headers": {"To": "all@example.com"}},
    "cc or bcc without to": {"to": [], "cc": ["team@example.org"]},
    "alternative part with type 'text/calendar' with template_id": {
        **DYNAMIC,
        "alternatives": [("BEGIN:VCALENDAR", "text/calendar")],
    },
    "multiple html parts with template_id": {**DYNAMIC, "html": "<p>Hello", "alternatives": [("<p>", "text/html")]},
}


@pytest.mark.parametrize(("what", "attributes"), UNSUPPORTED.items(), ids=UNSUPPORTED.keys())
def test_unsupported(what: str, attributes: dict[str, Any]) -> None:
    one = fitted(SendGrid, **attributes)
    assert [found.what for found in (*check(one, SendGrid.supports), *SENDGRID.check(one))] == [what]


def test_a_from_header_is_unsupported() -> None:
    with pytest.raises(AnymailUnsupportedFeature, match="envelope_sender"):
        EmailBackend(**OPTIONS).send_messages([message(headers={"From": "Shop <shop@example.com>"})])


@pytest.mark.parametrize("name", REQUESTS)
def test_everything_else_is_supported(name: str) -> None:
    one = fitted(SendGrid, **REQUESTS[name][0])
    assert [*check(one, SendGrid.supports), *SENDGRID.check(one)] == []


UNSERIALIZABLE = {
    r"metadata\['when'\] is of type date": {"metadata": {"when": dt.date(2026, 3, 14)}},
    r"metadata\['none'\] is None": {"metadata": {"none": None}},
    r"merge_metadata\[…\]\['a'\] is of type list": {"merge_metadata": {"ana@example.net": {"a": []}}},
    r"merge_data\['a'\] is of type dict": {"merge_global_data": {"a": {}}},
    r"merge_data\['a'\] is nan": {"merge_global_data": {"a": float("nan")}},
    r"dynamic_template_data.when is of type date": {
        "template_id": "d-1",
        "merge_global_data": {"when": dt.date(2026, 3, 14)},
    },
    r"merge_field_format": {"esp_extra": {"merge_field_format": "-{"}, "merge_global_data": {"a": "x"}},
}


@pytest.mark.parametrize(("text", "attributes"), UNSERIALIZABLE.items(), ids=UNSERIALIZABLE.keys())
def test_unserializable(text: str, attributes: dict[str, Any]) -> None:
    with pytest.raises(AnymailSerializationError, match=text):
        request_of(SENDGRID.deliver(fitted(SendGrid, **attributes)))


@pytest.mark.parametrize("name", ["x-smtpapi", "X-SMTPAPI"])
def test_parameters_of_the_retired_api(name: str) -> None:
    with pytest.raises(AnymailConfigurationError, match="v3"):
        request_of(SENDGRID.deliver(fitted(SendGrid, esp_extra={name: {}})))


class TestSettings:
    @pytest.mark.parametrize("name", ["SENDGRID_USERNAME", "ANYMAIL_SENDGRID_PASSWORD"])
    def test_credentials_of_the_retired_api(self, name: str) -> None:
        with (
            override_settings(ANYMAIL={"SENDGRID_API_KEY": "SG.x"}, **{name: "hunter2"}),
            pytest.raises(AnymailConfigurationError, match=f"{name}.*SENDGRID_API_KEY") as raised,
        ):
            EmailBackend()
        assert "hunter2" not in str(raised.value)

    def test_what_django_passes_for_smtp_is_no_credential(self) -> None:
        assert EmailBackend(api_key="SG.x", username=None, password=None).options.username is None

    @override_settings(SENDGRID_API_KEY="SG.bare")
    def test_a_bare_key(self) -> None:
        assert EmailBackend().options.api_key.reveal() == "SG.bare"

    @pytest.mark.parametrize("wrong", ["--", "key", "-{", "{} {}", "{x}", 7])
    def test_a_wrong_merge_field_format(self, wrong: Any) -> None:
        with pytest.raises(AnymailConfigurationError, match="merge_field_format"):
            EmailBackend(api_key="SG.x", merge_field_format=wrong)


class TestWarnings:
    BARE = make_esp(SendGrid, api_key="SG.example")

    def test_of_merge_fields_without_delimiters(self) -> None:
        with pytest.warns(AnymailWarning, match="SENDGRID_MERGE_FIELD_FORMAT"):
            body = json_of(request_of(self.BARE.deliver(fitted(SendGrid, merge_global_data={"name": "Ana"}))))
        assert body["personalizations"][0]["substitutions"] == {"name": "Ana"}

    @pytest.mark.filterwarnings("error::anymail.exceptions.AnymailWarning")
    def test_none_for_fields_that_bring_their_own(self) -> None:
        body = json_of(request_of(self.BARE.deliver(fitted(SendGrid, merge_global_data={"-name-": "Ana", "n": "1"}))))
        assert body["personalizations"][0]["substitutions"] == {"-name-": "Ana", "n": "1"}

    @pytest.mark.filterwarnings("error::anymail.exceptions.AnymailWarning")
    def test_none_for_a_dynamic_template(self) -> None:
        request_of(self.BARE.deliver(fitted(SendGrid, **DYNAMIC, merge_global_data={"name": "Ana"})))

    @pytest.mark.parametrize(
        "attributes", [{"metadata": {"email": "x"}}, {"merge_metadata": {"ana@example.net": {"email": "x"}}}]
    )
    def test_of_metadata_that_events_overwrite(self, attributes: dict[str, Any]) -> None:
        with pytest.warns(AnymailWarning, match="email"):
            request_of(SENDGRID.deliver(fitted(SendGrid, **attributes)))


ACCEPTED = answer(202, b"", {"X-Message-Id": "Xj5LmNkWSOqRbdvOpR34BA"})
QUEUED = ("queued", "id-1")

# A message's attributes, the answer, and the recipients' statuses.
ANSWERS: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
    "queued": (
        {"cc": ["Cy <c@example.org>"], "bcc": ["d@example.org"]},
        ACCEPTED,
        {"ana@example.net": QUEUED, "c@example.org": QUEUED, "d@example.org": QUEUED},
    ),
    "sandbox mode": (
        {"esp_extra": {"mail_settings": {"sandbox_mode": {"enable": True}}}},
        answer(200, b""),
        {"ana@example.net": QUEUED},
    ),
    "batch": (
        {"to": ["ana@example.net", "Bo@BÜCHER.example"], "cc": ["c@example.org"], "merge_data": {}},
        ACCEPTED,
        {"ana@example.net": QUEUED, "Bo@BÜCHER.example": ("queued", "id-2"), "c@example.org": ("queued", "id-2")},
    ),
    "esp_extra in place of all personalizations": (
        {**TWO, "cc": ["c@example.org"], "esp_extra": {"personalizations": [{"to": [BO]}, {"to": [ANA]}]}},
        ACCEPTED,
        {"ana@example.net": ("queued", "id-2"), "bo@example.org": QUEUED, "c@example.org": ("queued", None)},
    ),
    "an id of the user's": (
        {"esp_extra": {"personalizations": {"custom_args": {"anymail_id": "mine"}}}},
        ACCEPTED,
        {"ana@example.net": ("queued", "mine")},
    ),
}


@pytest.mark.parametrize(("attributes", "response", "expected"), ANSWERS.values(), ids=ANSWERS.keys())
def test_statuses(attributes: dict[str, Any], response: Any, expected: dict[str, Any]) -> None:
    with numbered_ids():
        _, recipients = drive(SENDGRID.deliver(fitted(SendGrid, **attributes)), response)
    assert statuses(recipients) == expected


def test_statuses_without_ids() -> None:
    _, recipients = drive(WITHOUT_IDS.deliver(fitted(SendGrid)), ACCEPTED)
    assert statuses(recipients) == {"ana@example.net": ("queued", None)}


def errors(*messages: str, field: str | None = None) -> dict[str, Any]:
    return {"errors": [{"message": one, "field": field, "help": None} for one in messages]}


# The answer, and the error's sent, category and retryable.
ERRORS: dict[str, tuple[Any, bool | None, str, bool]] = {
    "bad message": (answer(400, errors("Bad Request")), False, "invalid", False),
    "bad key": (answer(401, errors("The provided authorization grant is invalid")), False, "auth", False),
    "out of credits": (answer(401, errors("Maximum credits exceeded")), False, "quota", False),
    "not allowed": (answer(403, errors("access forbidden")), False, "auth", False),
    # The sender of this message alone: the next may have another.
    "unverified sender": (
        answer(403, errors("The from address does not match a verified Sender Identity.", field="from")),
        False,
        "invalid",
        False,
    ),
    "wrong path": (answer(404, errors("not found")), False, "invalid", False),
    "too large": (answer(413, "<html>413 Request Entity Too Large</html>"), False, "invalid", False),
    "too many": (answer(429, errors("too many requests")), False, "rate_limit", True),
    "its fault": (answer(500, errors("internal error")), None, "server", False),
    "bad gateway": (answer(502, "<html>"), None, "server", False),
    "unavailable": (answer(503, errors("unavailable")), None, "server", False),
    "no time left": (answer(504, ""), None, "server", False),
    "another page": (answer(200, "<html>Sign in to this network</html>"), True, "unreadable", False),
    "errors of another shape": (answer(400, {"errors": ["x"]}), False, "invalid", False),
    "a list": (answer(400, [1]), False, "invalid", False),
}


@pytest.mark.parametrize(("response", "sent", "category", "retryable"), ERRORS.values(), ids=ERRORS.keys())
def test_errors(response: Any, sent: bool | None, category: str, retryable: bool) -> None:
    with pytest.raises(AnymailAPIError) as raised:
        drive(SENDGRID.deliver(fitted(SendGrid)), response)
    error = raised.value
    assert (error.sent, error.category, error.retryable) == (sent, category, retryable)
    assert "SG.example" not in str(error)


def test_error_quotes_sendgrid() -> None:
    refused = answer(400, errors("Does not contain a valid address.", field="personalizations.0.to.0.email"))
    with pytest.raises(AnymailAPIError, match=r"personalizations\.0\.to\.0\.email: Does not contain a valid address"):
        drive(SENDGRID.deliver(fitted(SendGrid)), refused)


def many(number: int, **attributes: Any) -> Any:
    return fitted(SendGrid, to=[f"r{n}@example.com" for n in range(number)], merge_data={}, **attributes)


# Recipients, copies to each, and the personalizations of the calls.
CALLS = {
    "one call": (1000, 0, [1000]),
    "two": (1001, 0, [1000, 1]),
    "copies count": (1000, 1, [500, 500]),
    "several copies": (700, 2, [333, 333, 34]),
}


@pytest.mark.parametrize(("to", "copies", "sizes"), CALLS.values(), ids=CALLS.keys())
def test_a_batch_takes_as_many_calls_as_it_needs(to: int, copies: int, sizes: list[int]) -> None:
    one = many(to, cc=[f"c{n}@example.org" for n in range(copies)])
    requests, recipients = drive(SENDGRID.deliver(one), *[ACCEPTED] * len(sizes))
    bodies = [json_of(request) for request in requests]
    assert [len(body["personalizations"]) for body in bodies] == sizes
    ids = [one["custom_args"]["anymail_id"] for body in bodies for one in body["personalizations"]]
    assert [recipients[f"r{n}@example.com"].message_id for n in range(to)] == ids
    assert {one.status for one in recipients.values()} == {"queued"}


# What a second call of three meets, how many calls are made, and the statuses in the second and the third.
SECOND_CALLS: dict[str, tuple[Any, int, list[str]]] = {
    "refused": (answer(400, errors("Bad Request")), 3, ["failed", "queued"]),
    "lost": (answer(500, errors("internal error")), 2, ["unknown", "failed"]),
    "too many": (answer(429, errors("too many requests")), 2, ["failed", "failed"]),
}


@pytest.mark.parametrize(("second", "calls", "expected"), SECOND_CALLS.values(), ids=SECOND_CALLS.keys())
def test_what_a_part_meets(second: Any, calls: int, expected: list[str]) -> None:
    requests, recipients = drive(SENDGRID.deliver(many(2001)), ACCEPTED, second, ACCEPTED, leave=True)
    assert len(requests) == calls
    found = [recipients[f"r{n}@example.com"] for n in (0, 999, 1000, 2000)]
    assert [one.status for one in found] == ["queued", "queued", *expected]
    assert [one.error is not None for one in found] == [one.status not in ("queued",) for one in found]


def test_own_personalizations_are_one_call() -> None:
    own = {"personalizations": [{"to": [{"email": f"r{n}@example.com"}]} for n in range(1001)]}
    [request], _ = drive(SENDGRID.deliver(many(1001, esp_extra=own)), ACCEPTED)
    assert len(json_of(request)["personalizations"]) == 1001


DATE = "Sat, 14 Mar 2026 09:27:00 GMT"  # 1773480420

# The headers of a 429, and the seconds to wait.
RATE_LIMITS: dict[str, tuple[dict[str, str], float | None]] = {
    "reset": ({"Date": DATE, "X-RateLimit-Reset": "1773480427"}, 7),
    "reset in the past": ({"Date": DATE, "X-RateLimit-Reset": "1773480400"}, 0),
    "Retry-After": ({"Date": DATE, "X-RateLimit-Reset": "1773480427", "Retry-After": "3"}, 3),
    "no date": ({"X-RateLimit-Reset": "1773480427"}, None),
    "no number": ({"Date": DATE, "X-RateLimit-Reset": "soon"}, None),
    "nothing": ({}, None),
}


@pytest.mark.parametrize(("headers", "seconds"), RATE_LIMITS.values(), ids=RATE_LIMITS.keys())
def test_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    error = SENDGRID.api_error(answer(429, errors("too many requests"), headers))
    assert error.retry_after == seconds
