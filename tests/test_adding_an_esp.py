"""The made-up ESP of docs/adding-an-esp.md works as it stands there."""

from __future__ import annotations

import hmac
import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.test import RequestFactory, override_settings

from anymail.exceptions import AnymailAPIError, AnymailUnsupportedFeature
from anymail.wire import Response
from support import drive, json_of, mail, make_esp, message, statuses

PAGE = Path(__file__).parent.parent / "docs" / "adding-an-esp.md"


@pytest.fixture(scope="module")
def acme() -> dict[str, Any]:
    """Everything that the page's Python defines, with what the tests at its end need."""
    names: dict[str, Any] = {"__name__": "acme", "make_esp": make_esp, "mail": mail, "json_of": json_of}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        exec(compile(block, PAGE.name, "exec", dont_inherit=True), names)
    return names


def test_it_sends(acme: dict[str, Any]) -> None:
    esp = make_esp(acme["Acme"], api_key="key")
    one = mail(cc=["Bo <bo@example.org>"], metadata={"order": 7}, attach=[("a.txt", "x", "text/plain")])
    [request], recipients = drive(esp.deliver(one), Response(200, {}, b'{"id": "m-1"}'))
    assert request.url == "https://api.acme.example/v1/messages"
    assert request.headers["Authorization"] == "Bearer key"
    assert json_of(request) == {
        "from": "shop@example.com",
        "to": ["ana@example.net"],
        "cc": ["Bo <bo@example.org>"],
        "subject": "Hi",
        "text": "Hello",
        "attachments": [{"name": "a.txt", "data": "eA=="}],
        "custom": {"order": 7},
    }
    assert statuses(recipients) == {"ana@example.net": ("queued", "m-1"), "bo@example.org": ("queued", "m-1")}


def test_it_quotes_the_esp(acme: dict[str, Any]) -> None:
    esp = make_esp(acme["Acme"], api_key="key")
    with pytest.raises(AnymailAPIError, match="No such template") as raised:
        drive(esp.deliver(mail()), Response(422, {}, b'{"error": "No such template"}'))
    assert raised.value.category == "invalid"


def test_its_backend(acme: dict[str, Any]) -> None:
    class Transport:
        def send(self, request: Any) -> Response:
            return Response(200, {}, b'{"id": "m-1"}')

    backend = acme["EmailBackend"](api_key="key", transport=lambda **_: Transport())
    one = message()
    assert backend.send_messages([one]) == 1
    assert one.anymail_status.message_id == "m-1"
    with pytest.raises(AnymailUnsupportedFeature, match="multiple tags"):
        backend.send_messages([message(tags=["a", "b"])])


def test_its_webhook(acme: dict[str, Any], events: list[Any]) -> None:
    view = acme["AcmeTrackingWebhookView"].as_view()
    one = {"type": "bounced", "message": "m-1", "to": "ana@example.net", "at": 1_772_600_769}
    body = json.dumps([one, {"type": "new word", "message": "m-1", "to": "ana@example.net", "at": 0}, 7]).encode()
    signature = hmac.digest(b"new", body, "sha256").hex()

    def post(signature: str) -> int:
        request = RequestFactory().post("/", body, "application/json", headers={"X-Acme-Signature": signature})
        return int(view(request).status_code)

    with override_settings(ANYMAIL={"ACME_WEBHOOK_KEY": ["old", "new"]}):
        assert post("00" * 32) == 400
        assert post(signature) == 200
    assert [event.event_type for event in events] == ["bounced", "unknown"]
    assert events[0].reject_reason == "bounced"
