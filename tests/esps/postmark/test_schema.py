"""Our requests, and what we read, beside the models of Postmark's own client for Python."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from postmark.models.bounces.enums import BounceType
from postmark.models.outbound.enums import BulkJobStatus
from postmark.models.outbound.schemas import BulkEmail, BulkSendResponse, Email, SendResponse
from postmark.models.templates.schemas import TemplateEmail
from pydantic import BaseModel

from anymail.esps.postmark.sending import Postmark
from anymail.esps.postmark.tracking import BOUNCE_TYPES
from anymail.exceptions import AnymailAPIError
from esps.postmark.test_sending import POSTMARK, REQUESTS
from support import answer, drive, fitted, json_of, mail, make_esp, request_of, statuses

BULK = make_esp(Postmark, server_token="token", use_bulk_api=True)
NOW = dt.datetime(2026, 3, 4, 5, 6, 7, tzinfo=dt.UTC)
# The client's models have no message without To.
NOT_IN_MODELS = {"no to", "batch without to"}


def same_as(model: type[BaseModel], body: Any) -> None:
    """A body is one of the model's, and has no field that the model does not know."""
    assert model.model_validate(body).model_dump(by_alias=True, exclude_unset=True, mode="json") == body


@pytest.mark.parametrize("name", [name for name in REQUESTS if name not in NOT_IN_MODELS])
def test_requests_are_the_clients(name: str) -> None:
    attributes, path, _ = REQUESTS[name]
    body = json_of(request_of(POSTMARK.deliver(fitted(Postmark, **attributes))))
    messages = body.get("Messages", [body]) if isinstance(body, dict) else body
    for message in messages:
        same_as(TemplateEmail if "emplate" in path else Email, message)


@pytest.mark.parametrize("name", [name for name in REQUESTS if name not in NOT_IN_MODELS])
def test_bulk_requests_are_the_clients(name: str) -> None:
    same_as(BulkEmail, json_of(request_of(BULK.deliver(fitted(Postmark, **REQUESTS[name][0])))))


def test_the_clients_response_is_read() -> None:
    sent = SendResponse(To="ana@example.net", SubmittedAt=NOW, MessageID="id-1", ErrorCode=0, Message="OK")
    response = answer(200, sent.model_dump(by_alias=True, mode="json"))
    _, recipients = drive(POSTMARK.deliver(mail()), response)
    assert statuses(recipients) == {"ana@example.net": ("sent", "id-1")}


@pytest.mark.parametrize("status", BulkJobStatus)
def test_the_clients_response_to_bulk_mail_is_read(status: BulkJobStatus) -> None:
    accepted = BulkSendResponse(ID="b", Status=status, SubmittedAt=NOW).model_dump(by_alias=True, mode="json")
    assert accepted.keys() == {"ID", "Status", "SubmittedAt"}
    flow = BULK.deliver(mail())
    if status == BulkJobStatus.FAILED:
        with pytest.raises(AnymailAPIError) as raised:
            drive(flow, answer(200, accepted))
        assert raised.value.sent is False
    else:
        _, recipients = drive(flow, answer(200, accepted))
        assert recipients["ana@example.net"].status == "queued"


def test_the_clients_bounces_are_known() -> None:
    assert BOUNCE_TYPES.keys() == {one.value for one in BounceType}
