"""Mandrill: webhook bodies (files) and the events they become."""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import pytest
from django.http import QueryDict
from django.test import Client, override_settings
from django.urls import resolve, reverse

from anymail.esps.mandrill.tracking import TEST_KEY, signature
from anymail.exceptions import AnymailConfigurationError
from anymail.webhooks.mandrill import MandrillCombinedWebhookView
from esps.mandrill.signed import KEY, PATH, events_call, signed_call
from support import Call, assert_inbound, assert_tracking, expectations, sample, sample_json

SETTINGS = {"MANDRILL_WEBHOOK_KEY": KEY}
SIGNATURES = sample_json("mandrill", "signatures.json")
EXPECTED = expectations("mandrill")
FORM = "application/x-www-form-urlencoded"
CHECK = "tracking-verification.txt"


def items_of(name: str) -> Any:
    [events] = parse_qs(sample("mandrill", name).decode(), keep_blank_values=True)["mandrill_events"]
    return json.loads(events)


def basic_auth(credentials: str) -> str:
    return f"Basic {b64encode(credentials.encode()).decode()}"


def post_file(client: Client, name: str, **headers: str) -> Any:
    """Post a file as Mandrill did, with its signature and to its URL."""
    given = SIGNATURES[name]
    url = urlsplit(given["url"])
    sent = {
        "Host": str(url.hostname),
        "Authorization": basic_auth(f"{url.username}:{url.password}"),
        "X-Mandrill-Signature": given["headers"]["X-Mandrill-Signature"],
        **headers,
    }
    body = sample("mandrill", name)
    return client.post(url.path, data=body, content_type=FORM, headers=sent, secure=url.scheme == "https")


def settings_of(name: str) -> dict[str, Any]:
    return {"MANDRILL_WEBHOOK_KEY": SIGNATURES[name]["key"]}


def post(client: Client, *items: Any) -> Any:
    with override_settings(ANYMAIL=SETTINGS):
        return events_call(items).post(client)


def changed(name: str, *, msg: Any = None, **fields: Any) -> Any:
    """A file's event with other fields, and with other ones in its ``msg``."""
    [item] = items_of(name)
    return {**item, "msg": {**item["msg"], **(msg or {})}, **fields}


@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("tracking")])
def test_events(client: Client, events: list[Any], name: str) -> None:
    with override_settings(ANYMAIL=settings_of(name)):
        assert post_file(client, name).status_code == 200
    expected = [{**one, "timestamp": one["timestamp"].replace("Z", "+00:00")} for one in EXPECTED[name]]
    assert_tracking(events, expected)
    assert [event.esp_event for event in events] == items_of(name)


def test_inbound(client: Client, events: list[Any]) -> None:
    name = "inbound-inbound.txt"
    [expected] = EXPECTED[name]
    with override_settings(ANYMAIL=settings_of(name)):
        assert post_file(client, name).status_code == 200
    message = {**expected["message"], "from_email": {"display_name": "Katherine J.", "addr_spec": "kj@example.net"}}
    assert str(events[0].message.from_email) == '"Katherine J." <kj@example.net>'
    # The date of the file is written in UTC, and that of the message has its own zone.
    message["date"] = "2026-07-28T12:02:05+02:00"
    message["timestamp"] = expected["timestamp"].replace("Z", "+00:00")
    [attachment] = message.pop("attachments")
    texts = {name: message.pop(name) for name in ("text", "html")}
    assert_inbound(events, [{**message, "event_type": "inbound", "event_id": None}])
    received = events[0].message
    assert (received.text.strip(), received.html.strip()) == (texts["text"], texts["html"])
    [part] = received.attachments
    assert (part.get_filename(), part.get_content_type()) == (attachment["filename"], attachment["content_type"])
    assert part.get_content_text() == attachment["content"]
    assert events[0].esp_event["msg"]["spf"] == {"result": "pass", "detail": "sender SPF authorized"}


def test_one_call_may_tell_of_both(client: Client, events: list[Any]) -> None:
    items = [*items_of("tracking-send.txt"), *items_of("inbound-inbound.txt"), *items_of("tracking-open.txt")]
    assert post(client, *items).status_code == 200
    assert [event.event_type for event in events] == ["sent", "inbound", "opened"]


class TestUrls:
    def test_both_have_the_same_view(self) -> None:
        assert reverse("anymail:mandrill_webhook") == PATH
        assert reverse("anymail:mandrill_tracking_webhook") == f"{PATH}tracking/"
        for path in (PATH, f"{PATH}tracking/"):
            assert getattr(resolve(path).func, "view_class", None) is MandrillCombinedWebhookView

    @pytest.mark.parametrize("name", ["tracking-send.txt", "inbound-inbound.txt"])
    @override_settings(ANYMAIL=SETTINGS)
    def test_the_older_url_takes_all_too(self, client: Client, events: list[Any], name: str) -> None:
        assert events_call(items_of(name), path=f"{PATH}tracking/").post(client).status_code == 200
        assert len(events) == 1

    @override_settings(ANYMAIL={})
    def test_head_needs_no_key(self, client: Client) -> None:
        assert client.head(PATH).status_code == 200


class TestSignature:
    URL = "https://user:pass@mail.example.com/anymail/mandrill/"

    def test_vectors(self) -> None:
        form = QueryDict(sample("mandrill", "tracking-vector.txt"))
        assert signature(KEY, self.URL, form) == "s60WGyYX6hNwFZlvm5EQcnANiDo="
        assert signature("test-webhook", self.URL, QueryDict("mandrill_events=%5B%5D")) == (
            "a2v3MYqyRR50W5P78ar42amPISs="
        )

    def test_covers_every_field_in_order_of_names(self) -> None:
        joined = signature("key", "https://example.com/", QueryDict("b=2&a=1&c=3&c=4"))
        assert joined == signature("key", "https://example.com/a1b2c3c4", QueryDict(""))

    @override_settings(ANYMAIL=SETTINGS)
    def test_a_field_that_was_added(self, client: Client, events: list[Any]) -> None:
        call = events_call(items_of("tracking-send.txt"))
        added = Call(call.url, call.body + b"&more=1", call.headers, FORM)
        assert added.post(client).status_code == 400
        repeated = Call(call.url, b"mandrill_events=%5B%5D&" + call.body, call.headers, FORM)
        assert repeated.post(client).status_code == 400
        assert events == []

    @override_settings(ANYMAIL=SETTINGS)
    def test_an_old_call_in_another_encoding(self, client: Client, events: list[Any]) -> None:
        call = events_call(items_of("tracking-send.txt"))
        assert call.post(client).status_code == 200
        again = Call(call.url, call.body.replace(b"mandrill_events", b"mandrill%5Fevents"), call.headers, FORM)
        assert again.post(client).status_code == 400
        assert len(events) == 1

    @pytest.mark.parametrize(
        ("credentials", "in_url"),
        [
            ("user:pass", "user:pass@"),
            ("user:pä/ss@1", "user:pä/ss@1@"),
            ("user:pä/ss@1", "user:p%C3%A4%2Fss%401@"),
            ("proxy:pass", ""),
        ],
    )
    @override_settings(ANYMAIL=SETTINGS)
    def test_credentials(self, client: Client, events: list[Any], credentials: str, in_url: str) -> None:
        form = {"mandrill_events": json.dumps(items_of("tracking-send.txt"))}
        query = QueryDict(urlencode(form))
        headers = {
            "Authorization": basic_auth(credentials),
            "X-Mandrill-Signature": signature(KEY, f"http://{in_url}testserver{PATH}?a=1", query),
        }
        wrong = {**headers, "X-Mandrill-Signature": signature(KEY, f"http://x:y@testserver{PATH}?a=1", query)}
        for sent, status in ((headers, 200), (wrong, 400)):
            body = query.urlencode().encode()
            response = client.post(f"{PATH}?a=1", data=body, content_type=FORM, headers=sent)
            assert response.status_code == status
        assert len(events) == 1

    @pytest.mark.parametrize("authorization", ["Basic !", "Basic /w==", "Bearer x", "basic"])
    @override_settings(ANYMAIL=SETTINGS)
    def test_credentials_that_cannot_be_read(self, client: Client, events: list[Any], authorization: str) -> None:
        call = events_call(items_of("tracking-send.txt"))
        call.headers["Authorization"] = authorization
        assert call.post(client).status_code == 200

    def test_the_url_behind_a_proxy(self, client: Client, events: list[Any]) -> None:
        headers = {"Host": "internal:8000", "Authorization": "Basic x"}
        with override_settings(ANYMAIL=SETTINGS):
            assert post_file(client, "tracking-send.txt", **headers).status_code == 400
        with override_settings(ANYMAIL={**SETTINGS, "MANDRILL_WEBHOOK_URL": self.URL}):
            assert post_file(client, "tracking-send.txt", **headers).status_code == 200
        assert len(events) == 1

    @override_settings(ANYMAIL={**SETTINGS, "MANDRILL_WEBHOOK_URL": "https://mail.example.com/anymail/mandrill/"})
    def test_the_url_set_needs_no_credentials(self, client: Client, events: list[Any]) -> None:
        assert post_file(client, "tracking-send.txt", Host="internal").status_code == 200
        assert post_file(client, "tracking-open.txt", Host="internal", Authorization="").status_code == 400
        assert len(events) == 1

    @override_settings(ANYMAIL={**SETTINGS, "MANDRILL_WEBHOOK_URL": URL})
    def test_the_url_set_is_the_only_one(self, client: Client, events: list[Any]) -> None:
        assert events_call(items_of("tracking-send.txt")).post(client).status_code == 400

    @override_settings(MANDRILL_WEBHOOK_KEY=KEY, MANDRILL_WEBHOOK_URL=URL)
    def test_bare_settings(self, client: Client, events: list[Any]) -> None:
        assert post_file(client, "tracking-send.txt", Host="internal").status_code == 200

    @pytest.mark.parametrize(
        ("setting", "credentials", "shown"),
        [
            (None, "user:hidden/?x@y", "http://testserver/anymail/mandrill/."),
            ("https://user:hidden@example.com/hook/?token=hidden", "a:b", "https://…@example.com/hook/."),
        ],
    )
    def test_a_refusal_tells_the_url_and_no_secret(
        self, client: Client, caplog: Any, setting: str | None, credentials: str, shown: str
    ) -> None:
        call = events_call([])
        call.headers.update({"X-Mandrill-Signature": "wrong", "Authorization": basic_auth(credentials)})
        with override_settings(ANYMAIL={**SETTINGS, **({"MANDRILL_WEBHOOK_URL": setting} if setting else {})}):
            webhook = MandrillCombinedWebhookView().webhook()
            with caplog.at_level(logging.WARNING):
                assert call.post(client).status_code == 400
        assert shown in caplog.text
        assert "hidden" not in f"{caplog.text} {webhook.options!r}"
        assert KEY not in f"{caplog.text} {webhook.options!r}"


class TestUrlCheck:
    """The call with which Mandrill tries a URL, signed with a key that everybody knows."""

    @pytest.mark.parametrize("settings", [{}, SETTINGS], ids=["no key yet", "with a key"])
    def test_is_welcome(self, client: Client, events: list[Any], settings: dict[str, Any]) -> None:
        with override_settings(ANYMAIL=settings):
            assert post_file(client, CHECK).status_code == 200
            assert post_file(client, CHECK).status_code == 200
        assert events == EXPECTED[CHECK] == []

    @override_settings(ANYMAIL={**SETTINGS, "WEBHOOK_SECRET": "user:other"})
    def test_needs_basic_auth_where_it_is_set(self, client: Client) -> None:
        assert post_file(client, CHECK).status_code == 400

    @pytest.mark.parametrize(
        "body",
        [
            urlencode({"mandrill_events": json.dumps(items_of("tracking-spam.txt"))}),
            "mandrill_events=%7B%7D",
            "mandrill_events=",
            "other=%5B%5D",
            "",
        ],
    )
    @override_settings(ANYMAIL=SETTINGS)
    def test_lends_its_key_to_nothing_else(self, client: Client, events: list[Any], body: str) -> None:
        assert signed_call(body.encode(), TEST_KEY).post(client).status_code == 400
        assert events == []


@pytest.mark.parametrize("name", ["tracking-send.txt", "inbound-inbound.txt"])
@override_settings(ANYMAIL={"WEBHOOK_SECRET": "user:pass"})
def test_a_key_is_needed(client: Client, events: list[Any], name: str) -> None:
    with pytest.raises(AnymailConfigurationError, match="MANDRILL_WEBHOOK_KEY"):
        post_file(client, name)
    assert events == []


# A file, what its event has else, and what that becomes.
FIELDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "timeout": (
        changed("tracking-soft_bounce.txt", msg={"bgtools_code": 24, "bounce_description": "timeout"}),
        {"event_type": "bounced", "reject_reason": "timed_out", "description": "timeout"},
    ),
    **{
        f"bounce {code}": (changed("tracking-hard_bounce.txt", msg={"bgtools_code": code}), {"reject_reason": reason})
        for code, reason in [
            (25, "blocked"),
            (50, "blocked"),
            ("54", "blocked"),
            (51, "spam"),
            (52, "spam"),
            (99, "bounced"),
            (None, "bounced"),
            ([], "bounced"),
        ]
    },
    **{
        f"rejected for {word}": (
            changed("tracking-reject.txt", msg={"reject": {"reason": word}}),
            {"event_type": "rejected", "reject_reason": reason, "description": word},
        )
        for word, reason in [
            ("hard-bounce", "bounced"),
            ("soft-bounce", "bounced"),
            ("spam", "spam"),
            ("unsub", "unsubscribed"),
            ("invalid", "invalid"),
            ("custom", "blocked"),
            ("rule", "blocked"),
            ("invalid-sender", "blocked"),
            ("unsigned", "blocked"),
            ("test-mode-limit", "blocked"),
            ("whim", "other"),
        ]
    },
    "rejected for no reason": (
        changed("tracking-reject.txt", msg={"reject": None}),
        {"event_type": "rejected", "reject_reason": "other", "description": None},
    ),
    "the reply to a bounce, from its history": (
        changed("tracking-hard_bounce.txt", msg={"diag": "", "smtp_events": [{"diag": "450 no"}, {"diag": "550 no"}]}),
        {"mta_response": "550 no"},
    ),
    "the reply to a delivery, from its history": (
        changed("tracking-delivered.txt", msg={"smtp_events": [{"diag": "250 ok"}]}),
        {"mta_response": "250 ok"},
    ),
    "a reply in the event of an open": (
        changed("tracking-open.txt", msg={"smtp_events": [{"diag": "250 ok"}]}),
        {"mta_response": None},
    ),
    "its own _id": (
        changed("tracking-open.txt", msg={"_id": "163521.4c8e"}),
        {"message_id": "4c8e1f7a92d04b6f8a35c0e7d1b96f23"},
    ),
    "an entry without detail": (
        {"type": "denylist", "reject": {"email": "ana@example.net", "reason": "spam"}},
        {"event_type": "unknown", "recipient": "ana@example.net", "description": "spam", "reject_reason": None},
    ),
    "an event of an SMS": (
        {"event": "sms_delivered", "_id": "7", "ts": 1785230100, "sms": {"to": "+3161234"}},
        {"event_type": "unknown", "message_id": "7", "recipient": None, "timestamp": "2026-07-28T09:15:00+00:00"},
    ),
    "an unknown event": (
        changed("tracking-open.txt", event="vanished"),
        {"event_type": "unknown", "recipient": "ada@example.net", "reject_reason": None},
    ),
    "nothing": ({}, {"event_type": "unknown", "recipient": None, "timestamp": None, "tags": [], "metadata": {}}),
}


@pytest.mark.parametrize(("item", "expected"), FIELDS.values(), ids=FIELDS.keys())
def test_fields(client: Client, events: list[Any], item: Any, expected: dict[str, Any]) -> None:
    assert post(client, item).status_code == 200
    assert_tracking(events, [expected])
    assert events[0].esp_event == item


@pytest.mark.parametrize("odd", [None, [], {}, "x", 7, 1e300, True, [[1]], {"a": 1}], ids=repr)
@pytest.mark.parametrize("name", ["tracking-click.txt", "tracking-hard_bounce.txt", "tracking-reject.txt"])
def test_odd_values(client: Client, events: list[Any], name: str, odd: Any) -> None:
    [item] = items_of(name)
    items = [
        *({**item, field: odd} for field in item if field != "event"),
        *(changed(name, msg={field: odd}) for field in (*item["msg"], "smtp_events", "diag")),
    ]
    assert post(client, *items).status_code == 200
    assert len(events) == len(items)
    for event in events:
        assert isinstance(event.metadata, dict)
        assert all(isinstance(tag, str) for tag in event.tags)
        for value in (event.message_id, event.recipient, event.description, event.mta_response, event.click_url):
            assert value is None or isinstance(value, str)


@pytest.mark.parametrize(
    ("report", "score"),
    [
        ({"score": 0}, 0.0),
        ({"score": "1.5"}, 1.5),
        ({"score": "NaN"}, None),
        ({"score": 10**400}, None),
        ({"score": []}, None),
        ({}, None),
        ([], None),
        (None, None),
    ],
    ids=repr,
)
def test_spam_score(client: Client, events: list[Any], report: Any, score: float | None) -> None:
    assert post(client, changed("inbound-inbound.txt", msg={"spam_report": report})).status_code == 200
    assert events[0].message.spam_score == score


def test_inbound_without_an_envelope(client: Client, events: list[Any]) -> None:
    assert post(client, changed("inbound-inbound.txt", msg={"email": ["x"]}, ts=None)).status_code == 200
    assert (events[0].message.envelope_recipient, events[0].timestamp) == (None, None)


BAD: list[Any] = [
    1,
    None,
    "x",
    [],
    {"event": "inbound"},
    {"event": "inbound", "msg": None},
    {"event": "inbound", "msg": []},
    {"event": "inbound", "msg": {"email": "ana@example.net"}},
    {"event": "inbound", "msg": {"raw_msg": None}},
]


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_a_malformed_item_costs_no_other(client: Client, events: list[Any], bad: Any) -> None:
    assert post(client, bad, *items_of("tracking-send.txt")).status_code == 200
    assert [event.event_type for event in events] == ["sent"]
    assert post(client, bad).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        "",
        "mandrill_events",
        "mandrill_events=",
        "mandrill_events=null",
        "mandrill_events=1",
        "mandrill_events=%22x%22",
        "mandrill_events=%7B%22event%22%3A%22send%22%7D",
        "mandrill_events=%5B",
        "mandrill_events=" + "%5B" * 100_000,
        "mandrill_events=%5B" + "1" * 5000 + "%5D",
        "mandrill_events=%FF",
        "events=%5B%5D",
    ],
    ids=lambda body: unquote(body, errors="replace")[:40],
)
@override_settings(ANYMAIL=SETTINGS)
def test_a_body_of_the_wrong_shape(client: Client, events: list[Any], body: str) -> None:
    assert signed_call(body.encode()).post(client).status_code == 400
    assert events == []


@override_settings(ANYMAIL=SETTINGS)
def test_json_is_not_a_form(client: Client, events: list[Any]) -> None:
    body = json.dumps(items_of("tracking-send.txt")).encode()
    given = signature(KEY, f"http://testserver{PATH}", QueryDict(""))
    assert Call(PATH, body, {"X-Mandrill-Signature": given}).post(client).status_code == 400
    assert events == []
