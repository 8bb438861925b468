"""Amazon SES: every request that we make, and each response that we read, against botocore's model of the API."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import botocore.session
import pytest
from botocore.serialize import create_serializer
from botocore.validate import ParamValidator

from anymail.exceptions import AnymailAPIError
from esps.amazon_ses.test_sending import FULL, RAW, REQUESTS, RICH, SES, TEMPLATE, TWO, results, success
from support import answer, drive, json_of, mail, request_of

MODEL = botocore.session.Session().get_service_model("sesv2")
OPERATIONS = {"/v2/email/outbound-emails": "SendEmail", "/v2/email/outbound-bulk-emails": "SendBulkEmail"}
MAILS = {name: attributes for name, (attributes, _, _) in REQUESTS.items()} | RAW | {"rich": RICH}


def with_blobs(shape: Any, value: Any) -> Any:
    """A body as botocore's callers give it: bytes where the API has base64."""
    if shape.type_name == "structure":
        return {name: with_blobs(shape.members[name], child) for name, child in value.items()}
    if shape.type_name == "list":
        return [with_blobs(shape.member, child) for child in value]
    return b64decode(value) if shape.type_name == "blob" else value


@pytest.mark.parametrize("attributes", MAILS.values(), ids=MAILS.keys())
@pytest.mark.parametrize("esp", [SES, FULL], ids=["plain", "with settings"])
def test_botocore_would_send_the_same(esp: Any, attributes: dict[str, Any]) -> None:
    request = request_of(esp.deliver(mail(**attributes)))
    path = request.url.removeprefix("https://email.us-east-1.amazonaws.com")
    operation = MODEL.operation_model(OPERATIONS[path])
    params = with_blobs(operation.input_shape, json_of(request))
    assert not ParamValidator().validate(params, operation.input_shape).has_errors()
    theirs = create_serializer("rest-json").serialize_to_request(params, operation)
    assert (theirs["method"], theirs["url_path"]) == (request.method, path)
    assert theirs["headers"]["Content-Type"] == request.headers["Content-Type"]
    assert json.loads(theirs["body"]) == json_of(request)


# The kinds of error that say more than that the message is wrong.
CATEGORIES = {
    "AccountSuspendedException": "auth",
    "LimitExceededException": "quota",
    "SendingPausedException": "auth",
    "TooManyRequestsException": "rate_limit",
}
ERRORS = {
    (attributes.get("template_id", ""), shape.name): (attributes, shape)
    for attributes, operation in (({}, "SendEmail"), (TEMPLATE, "SendBulkEmail"))
    for shape in MODEL.operation_model(operation).error_shapes
}


@pytest.mark.parametrize(("attributes", "shape"), ERRORS.values(), ids=map(str, ERRORS))
def test_every_error_of_the_model_is_read(attributes: dict[str, Any], shape: Any) -> None:
    status = shape.metadata.get("error", {}).get("httpStatusCode", 400)
    response = answer(status, {"message": "Sorry"}, {"x-amzn-errortype": shape.name})
    with pytest.raises(AnymailAPIError, match=f"{shape.name}: Sorry") as raised:
        drive(SES.deliver(mail(**attributes)), response)
    assert raised.value.category == CATEGORIES.get(shape.name, "invalid")
    assert raised.value.sent is False


# The same for the entries of a bulk call.
STATUSES = {
    "ACCOUNT_DAILY_QUOTA_EXCEEDED": "quota",
    "ACCOUNT_SENDING_PAUSED": "auth",
    "ACCOUNT_SUSPENDED": "auth",
    "ACCOUNT_THROTTLED": "rate_limit",
    "TRANSIENT_FAILURE": "server",
}


@pytest.mark.parametrize("status", MODEL.shape_for("BulkEmailStatus").enum)
def test_every_status_of_the_model_is_read(status: str) -> None:
    entry = success("id-2") if status == "SUCCESS" else {"Status": status, "Error": "Sorry"}
    _, recipients = drive(SES.deliver(mail(**TEMPLATE, **TWO)), results(success(), entry))
    one = recipients[TWO["to"][1]]
    if status == "SUCCESS":
        assert (one, one.error) == (("id-2", "queued"), None)
    else:
        assert one == (None, "failed")
        assert one.error is not None
        assert one.error.category == STATUSES.get(status, "invalid")
