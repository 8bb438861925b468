"""Our requests and signatures beside those of Resend's own SDK, and of its types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import resend
from pydantic import TypeAdapter

from anymail.esps.resend.sandbox import API_KEY, SIGNING_SECRET, ResendSandbox
from anymail.esps.resend.sending import Resend
from anymail.wire import Request, Response
from esps.resend.test_sending import REQUESTS
from esps.resend.test_webhooks import EMAIL, FILES, ID, flow
from support import answer, drive, json_of, mail, make_esp, request_of

RESEND = make_esp(Resend, api_key="re_key")
SEND_PARAMS = TypeAdapter(resend.Emails.SendParams)

# What the API has and the SDK's types have not (resend 2.52): topic_id, numbers with a fraction, no recipient in to.
NOT_IN_TYPES = {"esp_extra", "batch with esp_extra", "template", "no to", "batch without to"}


@pytest.mark.parametrize("name", [name for name in REQUESTS if name not in NOT_IN_TYPES])
def test_requests_are_of_the_sdks_types(name: str) -> None:
    body = json_of(request_of(RESEND.deliver(mail(**REQUESTS[name][0]))))
    for one in body if isinstance(body, list) else [body]:
        SEND_PARAMS.validate_python(one, strict=True, extra="forbid")


class Recorder(resend.HTTPClient):
    """Keeps what the SDK would have sent."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str, dict[str, str], Any]] = []

    def request(self, method: str, url: str, headers: Any, json: Any = None, **rest: Any) -> Any:
        self.made.append((method.upper(), url, dict(headers), json))
        return b'{"id": "id-1", "data": []}', 200, {"Content-Type": "application/json"}


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    recorder = Recorder()
    monkeypatch.setattr(resend, "api_key", "re_key")
    monkeypatch.setattr(resend, "default_http_client", recorder)
    return recorder


def comparable(request: Request) -> tuple[str, str, dict[str, str]]:
    left_out = ("User-Agent", "Content-Type")
    return request.method, request.url, {k: v for k, v in request.headers.items() if k not in left_out}


def sdks(recorder: Recorder) -> list[tuple[str, str, dict[str, str]]]:
    return [
        (method, url, {name: value for name, value in headers.items() if name != "User-Agent"})
        for method, url, headers, _ in recorder.made
    ]


def test_a_send_is_the_sdks(sdk: Recorder) -> None:
    request = request_of(RESEND.deliver(mail()))
    resend.Emails.send(json_of(request), {"idempotency_key": str(request.idempotency_key)})
    assert [comparable(request)] == sdks(sdk)


def test_a_batch_is_the_sdks(sdk: Recorder) -> None:
    request = request_of(RESEND.deliver(mail(merge_data={})))
    options: Any = {"idempotency_key": request.idempotency_key, "batch_validation": "permissive"}
    resend.Batch.send(json_of(request), options)
    assert [comparable(request)] == sdks(sdk)


def test_fetches_are_the_sdks(sdk: Recorder) -> None:
    page = {**FILES, "has_more": True, "data": FILES["data"][:1]}
    answers = [answer(200, {**EMAIL, "raw": None}), answer(200, page), Response(200), answer(200, {"data": []})]
    requests, _ = drive(flow(api_key="re_key"), *answers)
    receiving = resend.Emails.Receiving
    receiving.get(ID, {"html_format": "cid"})
    receiving.Attachments.list(ID)
    receiving.Attachments.list(ID, {"after": page["data"][0]["id"]})
    assert [comparable(requests[index]) for index in (0, 1, 3)] == sdks(sdk)


@pytest.mark.parametrize("kind", sorted(ResendSandbox.events))
def test_the_sandboxs_calls_are_authentic_to_the_sdk(kind: str) -> None:
    sandbox = ResendSandbox()
    sender = make_esp(Resend, api_key=API_KEY)
    [delivery] = sandbox.respond(request_of(sender.deliver(mail())), "/emails").deliveries
    request = sandbox.event(kind, delivery, "http://project/")
    payload = bytes(request.body).decode()
    headers = {name: request.headers[f"svix-{name}"] for name in ("id", "timestamp", "signature")}
    verified = resend.Webhooks.verify({"payload": payload, "headers": headers, "webhook_secret": SIGNING_SECRET})
    assert verified == json.loads(payload)
    with pytest.raises(ValueError, match="no matching signature"):
        resend.Webhooks.verify({"payload": payload + " ", "headers": headers, "webhook_secret": SIGNING_SECRET})
