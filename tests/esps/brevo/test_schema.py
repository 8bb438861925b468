"""Brevo's own Python SDK, generated from its API description, makes the requests that we make and has its responses."""

from __future__ import annotations

import json
import re
from typing import Any, get_args

import pytest

from anymail.exceptions import AnymailAPIError
from esps.brevo.test_sending import BREVO, REQUESTS, made
from support import answer, drive, json_of, request_of

brevo = pytest.importorskip("brevo")
httpx = pytest.importorskip("httpx")

SNAKE = re.compile(r"(?<=[a-z])(?=[A-Z])")


def item(field: str, value: Any) -> Any:
    """A nested object as the SDK's type for it, strictly: no other fields, no other types."""
    name = {"replyTo": "ReplyTo", "to": "ToItem", "cc": "CcItem", "bcc": "BccItem", "sender": "Sender"}.get(field)
    name = name or {"attachment": "AttachmentItem", "messageVersions": "MessageVersionsItem"}.get(field)
    if name is None:
        return value
    if isinstance(value, list):
        return [item(field, one) for one in value]
    made = getattr(brevo.transactional_emails, f"SendTransacEmailRequest{name}").model_validate(value, strict=True)
    # Undocumented, and in use by everyone who sends batches.
    assert set(made.model_extra or {}) <= ({"headers"} if name == "MessageVersionsItem" else set())
    return made


def sdk_request(body: dict[str, Any]) -> tuple[str, str, Any]:
    """The method, URL and body of the SDK's request with the same values."""
    requests: list[Any] = []

    def answer(request: Any) -> Any:
        requests.append(request)
        return httpx.Response(201, json={"messageId": "<1@x>"})

    client = brevo.Brevo(api_key="key", httpx_client=httpx.Client(transport=httpx.MockTransport(answer)))
    arguments = {SNAKE.sub("_", field).lower(): item(field, value) for field, value in body.items()}
    client.transactional_emails.send_transac_email(**arguments)
    assert requests[0].headers["api-key"] == "key"
    return requests[0].method, str(requests[0].url), json.loads(requests[0].content)


@pytest.mark.parametrize("name", REQUESTS)
def test_the_sdk_makes_the_same_request(name: str) -> None:
    request = request_of(BREVO.deliver(made(**REQUESTS[name][0])))
    body = json_of(request)
    assert sdk_request(body) == (request.method, request.url, body)


@pytest.mark.parametrize(
    ("values", "attributes", "ids"),
    [
        ({"message_id": "<1@x>"}, {}, {"<1@x>"}),
        ({"message_ids": ["<1@x>"]}, {"merge_data": {}}, {"<1@x>"}),
        (
            {"message_ids": ["<1@x>", "<2@x>"]},
            {"to": ["a@example.net", "b@example.net"], "merge_data": {}},
            {"<1@x>", "<2@x>"},
        ),
    ],
)
def test_we_read_the_responses_of_the_sdk(values: dict[str, Any], attributes: dict[str, Any], ids: set[str]) -> None:
    content = json.loads(brevo.transactional_emails.SendTransacEmailResponse(**values).json(by_alias=True))
    _, recipients = drive(BREVO.deliver(made(**attributes)), answer(201, content))
    assert {(one.status, one.message_id) for one in recipients.values()} == {("queued", one) for one in ids}


# The codes of an error that say more than that the message is wrong. Others are of other calls than ours, or just that.
CATEGORIES = {
    "not_enough_credits": "quota", "Insufficient credits": "quota", "permission_denied": "auth", "unauthorized": "auth",
    "account_under_validation": "auth",
}  # fmt: skip
CODES = [code for code in get_args(get_args(brevo.BadRequestErrorBodyCode)[0]) if code != "duplicate_request"]


@pytest.mark.parametrize("code", CODES)
def test_we_read_the_errors_of_the_sdk(code: str) -> None:
    content = json.loads(brevo.BadRequestErrorBody(code=code, message="Sorry").json())
    with pytest.raises(AnymailAPIError, match=f"{re.escape(code)}: Sorry") as raised:
        drive(BREVO.deliver(made()), answer(400, content))
    assert raised.value.category == CATEGORIES.get(code, "invalid")
