"""Our requests, signatures and readings beside those of Mailtrap's own SDK."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mailtrap.api.resources.inbound_messages import InboundMessagesApi
from mailtrap.models.inbound import InboundMessageDetails
from mailtrap.models.mail import (
    Address,
    Attachment,
    BatchEmailRequest,
    BatchMail,
    BatchMailFromTemplate,
    BatchSendEmailParams,
    Mail,
    MailFromTemplate,
)
from mailtrap.webhooks import verify_signature

from anymail.esps.mailtrap.sandbox import API_TOKEN, TRACKING_SECRET, MailtrapSandbox
from anymail.esps.mailtrap.sending import Mailtrap
from esps.mailtrap.test_sending import FIVE, MAILTRAP, REQUESTS
from esps.mailtrap.test_webhooks import MESSAGE, flow
from support import json_of, mail, make_esp, request_of

# The SDK's types have no mail without a to.
NOT_IN_TYPES = {"only cc and bcc", "batch without to"}


def _fields(wire: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the SDK's class for a mapping of ours."""
    fields = dict(wire)
    for name in {"from", "reply_to"} & fields.keys():
        fields["sender" if name == "from" else name] = Address(**fields.pop(name))
    for name in {"to", "cc", "bcc"} & fields.keys():
        fields[name] = [Address(**one) for one in fields[name]]
    if "attachments" in fields:
        fields["attachments"] = [
            Attachment(
                content=one["content"].encode(),
                mimetype=one["type"],
                **{key: value for key, value in one.items() if key not in ("content", "type")},
            )
            for one in fields["attachments"]
        ]
    return fields


def _of_the_sdk(body: dict[str, Any]) -> Any:
    if "requests" not in body:
        return (MailFromTemplate if "template_uuid" in body else Mail)(**_fields(body))
    base = BatchMailFromTemplate if "template_uuid" in body["base"] else BatchMail
    requests = [BatchEmailRequest(**_fields(one)) for one in body["requests"]]
    return BatchSendEmailParams(base=base(**_fields(body["base"])), requests=requests)


@pytest.mark.parametrize("name", [name for name in REQUESTS if name not in NOT_IN_TYPES])
def test_requests_are_the_sdks(name: str) -> None:
    body = json_of(request_of(MAILTRAP.deliver(mail(**REQUESTS[name][0]))))
    assert json.loads(json.dumps(_of_the_sdk(body).api_data)) == body


def test_a_call_of_several_messages_is_the_sdks() -> None:
    body = json_of(request_of(MAILTRAP.deliver_many([mail(**attributes) for attributes in FIVE])))
    assert _of_the_sdk(body).api_data == body


@pytest.mark.parametrize("kind", sorted(MailtrapSandbox.events))
def test_the_sandboxs_calls_are_authentic_to_the_sdk(kind: str) -> None:
    sandbox = MailtrapSandbox()
    esp = make_esp(Mailtrap, api_token=API_TOKEN)
    [delivery] = sandbox.respond(request_of(esp.deliver(mail())), "/api/send").deliveries
    request = sandbox.event(kind, delivery, "http://project/")
    body, given = bytes(request.body), request.headers["Mailtrap-Signature"]
    assert verify_signature(body, given, TRACKING_SECRET)
    assert not verify_signature(body + b" ", given, TRACKING_SECRET)


def test_the_lookup_of_received_mail_is_the_sdks() -> None:
    class Recorder:
        def get(self, path: str) -> Any:
            self.path = path
            return MESSAGE

    recorder = Recorder()
    found = InboundMessagesApi(recorder).get_by_id(5120, "1893046721559003136")
    assert isinstance(found, InboundMessageDetails)
    assert next(flow()).url == f"https://mailtrap.io{recorder.path}"
    named = InboundMessageDetails.model_fields
    assert {"raw_message_url", "text_body", "html_body", "rfc_message_id", "in_reply_to"} <= set(named)
