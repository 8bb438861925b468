"""Amazon SES: every request that we make, against botocore's model of the API and its own serialiser."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import botocore.session
import pytest
from botocore.serialize import create_serializer
from botocore.validate import ParamValidator

from esps.amazon_ses.test_sending import FULL, RAW, REQUESTS, RICH, SES
from support import json_of, mail, request_of

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
