"""Postmark's side of the sandbox: it takes what we send, and refuses what Postmark would refuse."""

from __future__ import annotations

from typing import Any

import pytest

from anymail.esps.postmark.sandbox import SERVER_TOKEN, PostmarkSandbox
from anymail.esps.postmark.sending import Postmark
from anymail.wire import Request
from esps.postmark.test_sending import REQUESTS
from support import drive, fitted, mail, make_esp, request_of

SANDBOX = PostmarkSandbox()
POSTMARK = make_esp(Postmark, server_token=SERVER_TOKEN)


def ask(path: str, body: Any, token: str = SERVER_TOKEN) -> Any:
    request = Request.post(f"http://sandbox{path}", headers={"X-Postmark-Server-Token": token}, json=body)
    return SANDBOX.respond(request, path)


@pytest.mark.parametrize("name", [name for name in REQUESTS if name != "esp_extra"])
def test_takes_every_request_that_we_make(name: str) -> None:
    attributes, path, _ = REQUESTS[name]
    result = SANDBOX.respond(request_of(POSTMARK.deliver(fitted(Postmark, **attributes))), f"/{path}")
    assert result.response.status_code == 200, result.response.text
    assert result.deliveries


GOOD = {"From": "shop@example.com", "To": "ana@example.net", "Subject": "Hi", "TextBody": "Hello"}

# What is wrong, and Postmark's code for it.
REFUSED: dict[str, tuple[str, Any, int, int]] = {
    "unknown field": ("/email", {**GOOD, "Text": "x"}, 422, 403),
    "wrong type": ("/email", {**GOOD, "TrackOpens": "yes"}, 422, 403),
    "no body": ("/email", {"From": "shop@example.com", "To": "ana@example.net"}, 422, 300),
    "bad address": ("/email", {**GOOD, "To": "ana"}, 422, 300),
    "nobody": ("/email", {**GOOD, "To": ""}, 422, 300),
    "metadata too long": ("/email", {**GOOD, "Metadata": {"a" * 21: "x"}}, 422, 300),
    "suppressed": ("/email", {**GOOD, "To": "suppressed@example.com"}, 422, 406),
    "template without model": ("/email/withTemplate", {"From": "a@example.com", "TemplateId": 1}, 422, 403),
    "template as array": ("/email/batchWithTemplates", [GOOD], 422, 403),
    "batch too long": ("/email/batch", [GOOD] * 501, 422, 410),
}


@pytest.mark.parametrize(("path", "body", "status", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses(path: str, body: Any, status: int, code: int) -> None:
    result = ask(path, body)
    assert (result.response.status_code, result.response.json()["ErrorCode"]) == (status, code)
    assert not result.deliveries


def test_a_bulk_call_is_read() -> None:
    esp = make_esp(Postmark, server_token=SERVER_TOKEN, use_bulk_api=True)
    one = mail(to=["ana@example.net", "bo@example.org"])
    result = SANDBOX.respond(request_of(esp.deliver(one)), "/email/bulk")
    assert set(result.response.json()) == {"ID", "Status", "SubmittedAt"}
    _, recipients = drive(esp.deliver(one), result.response)
    assert [recipients[delivery.recipient].status for delivery in result.deliveries] == ["queued", "queued"]


def test_takes_an_attachment_as_the_webhooks_have_it() -> None:
    attachment = {"Name": "a.txt", "Content": "MQ==", "ContentType": "text/plain", "ContentID": None}
    more = {"ContentLength": 1, "Disposition": "attachment"}
    assert ask("/email", {**GOOD, "Attachments": [{**attachment, **more}]}).response.status_code == 200


def test_refuses_a_wrong_token() -> None:
    assert ask("/email", GOOD, token="wrong").response.status_code == 401


def test_one_bad_item_of_a_batch() -> None:
    result = ask("/email/batch", [GOOD, {**GOOD, "To": "x"}])
    assert [one["ErrorCode"] for one in result.response.json()] == [0, 300]
    assert [delivery.recipient for delivery in result.deliveries] == ["ana@example.net"]
