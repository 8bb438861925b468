"""Amazon SES's side of the sandbox: it takes what we send, and refuses what SES would refuse."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from base64 import b64encode
from typing import Any

import pytest
from django.test import Client, override_settings

from anymail.backends.amazon_ses import EmailBackend
from anymail.conf import load
from anymail.esps.amazon_ses.sandbox import CREDENTIALS, REGION, AmazonSESSandbox
from anymail.esps.amazon_ses.sending import AmazonSES
from anymail.esps.amazon_ses.signing import AWS
from anymail.sandbox.server import SandboxServer
from anymail.wire import Request
from esps.amazon_ses.test_sending import BASE, RAW, REQUESTS, RICH, SIMPLE, TEMPLATE, templated
from support import Call, mail, make_esp, message, request_of

SANDBOX = AmazonSESSandbox()
URL = "http://sandbox/amazon_ses"
PARAMS = SANDBOX.settings(f"{URL}/")["AMAZON_SES_CLIENT_PARAMS"]
SES = make_esp(AmazonSES, client_params=PARAMS)
MAILS = {name: attributes for name, (attributes, _, _) in REQUESTS.items()} | RAW | {"rich": RICH}
SEND, BULK = "/v2/email/outbound-emails", "/v2/email/outbound-bulk-emails"


def ask(path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = Request("POST", f"{URL}{path}", {"Content-Type": "application/json", **(headers or {})}, encoded)
    return SANDBOX.respond(SES.aws.sign(request, "ses", REGION), path)


@pytest.mark.parametrize("attributes", MAILS.values(), ids=MAILS.keys())
def test_takes_every_request_that_we_make(attributes: dict[str, Any]) -> None:
    request = request_of(SES.deliver(mail(**attributes)))
    result = SANDBOX.respond(request, request.url.removeprefix(URL))
    assert result.response.status_code == 200, result.response.text
    assert result.deliveries


def raw(text: str) -> dict[str, Any]:
    return {**BASE, "Content": {"Raw": {"Data": b64encode(text.encode()).decode()}}}


def entry(data: Any = "{}", **destination: Any) -> dict[str, Any]:
    return {
        "Destination": destination or {"ToAddresses": ["ana@example.net"]},
        "ReplacementEmailContent": {"ReplacementTemplate": {"ReplacementTemplateData": data}},
    }


BAD_HEADER = {**BASE, "Content": {"Simple": {**SIMPLE, "Headers": [{"Name": "X", "Value": "ü"}]}}}

# What is wrong, and SES's status and name for it.
REFUSED: dict[str, tuple[str, Any, int, str]] = {
    "not JSON": (SEND, b"{", 400, "SerializationException"),
    "no content": (SEND, {"FromEmailAddress": "shop@example.com"}, 400, "BadRequestException"),
    "two contents": (SEND, {**BASE, "Content": {"Simple": SIMPLE, "Raw": {"Data": ""}}}, 400, "BadRequestException"),
    "unknown field": (SEND, {**BASE, "Subject": "x"}, 400, "BadRequestException"),
    "wrong type": (SEND, {**BASE, "ReplyToAddresses": "a@example.com"}, 400, "BadRequestException"),
    "header not in ASCII": (SEND, BAD_HEADER, 400, "BadRequestException"),
    "nobody": (SEND, {**BASE, "Destination": {}}, 400, "BadRequestException"),
    "over 50": (SEND, {**BASE, "Destination": {"ToAddresses": ["a@example.com"] * 51}}, 400, "BadRequestException"),
    "bad address": (SEND, {**BASE, "Destination": {"ToAddresses": ["ana"]}}, 400, "BadRequestException"),
    "address not in ASCII": (SEND, {**BASE, "FromEmailAddress": "é <a@example.com>"}, 400, "BadRequestException"),
    "no sender": (SEND, {key: BASE[key] for key in ("Destination", "Content")}, 400, "BadRequestException"),
    "empty body": (SEND, {**BASE, "Content": {"Simple": {**SIMPLE, "Body": {}}}}, 400, "BadRequestException"),
    "bad tag": (SEND, {**BASE, "EmailTags": [{"Name": "a", "Value": "two words"}]}, 400, "BadRequestException"),
    "not base64": (SEND, {**BASE, "Content": {"Raw": {"Data": "!"}}}, 400, "SerializationException"),
    "8-bit MIME": (SEND, raw("From: a@example.com\r\n\r\nü"), 400, "MessageRejected"),
    "MIME without From": (SEND, raw("Subject: x\r\n\r\nx"), 400, "BadRequestException"),
    "two Subjects": (SEND, raw("From: a@example.com\r\nSubject: x\r\nSubject: y\r\n\r\n"), 400, "BadRequestException"),
    "no entries": (BULK, templated(), 400, "BadRequestException"),
    "two templates": (
        BULK,
        templated(entry(), template={"TemplateName": "x", "TemplateContent": {}}),
        400,
        "BadRequestException",
    ),
    "data is no JSON": (BULK, templated(entry("{")), 400, "BadRequestException"),
    "data is no object": (BULK, templated(entry("[1]")), 400, "BadRequestException"),
    "over 50 in all": (
        BULK,
        templated(*[entry(ToAddresses=["a@example.com"], CcAddresses=["b@example.com"])] * 26),
        400,
        "BadRequestException",
    ),
    "over 50 entries": (BULK, templated(*[entry()] * 51), 400, "BadRequestException"),
    "content in bulk": (BULK, {**BASE, "BulkEmailEntries": [entry()]}, 400, "BadRequestException"),
    "another operation": ("/v2/email/templates", {}, 404, "UnknownOperationException"),
}


@pytest.mark.parametrize(("path", "body", "status", "name"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses(path: str, body: Any, status: int, name: str) -> None:
    result = ask(path, body)
    assert (result.response.status_code, result.response.headers["x-amzn-errortype"]) == (status, name)
    assert not result.deliveries


@pytest.mark.parametrize("entries", [25, 26, 50])
def test_takes_50_destinations_in_bulk(entries: int) -> None:
    result = ask(BULK, templated(*[entry()] * entries))
    assert (result.response.status_code, len(result.deliveries)) == (200, entries)


GOOD = request_of(SES.deliver(mail()))


def signed_with(**options: Any) -> Request:
    params = {**PARAMS, **options.pop("params", {})}
    aws = AWS(load(AmazonSES.Options, ("AMAZON_SES",), {"client_params": params}), **options)  # type: ignore[arg-type]
    plain = Request("POST", GOOD.url, {"Content-Type": "application/json"}, GOOD.body)
    return aws.sign(plain, "ses", params["region_name"])


def changed(**headers: str) -> Request:
    return dataclasses.replace(GOOD, headers={**GOOD.headers, **headers})


UNSIGNED: dict[str, tuple[Request, str]] = {
    "no signature": (changed(Authorization=""), "MissingAuthenticationTokenException"),
    "another scheme": (changed(Authorization="Bearer x"), "IncompleteSignatureException"),
    "unknown key": (signed_with(params={"aws_access_key_id": "X"}), "UnrecognizedClientException"),
    "wrong secret": (signed_with(params={"aws_secret_access_key": "X"}), "InvalidSignatureException"),
    "wrong region": (signed_with(params={"region_name": "eu-west-1"}), "InvalidSignatureException"),
    "old": (signed_with(clock=lambda: dt.datetime(2026, 1, 1, tzinfo=dt.UTC)), "InvalidSignatureException"),
    "no time": (changed(**{"X-Amz-Date": "now"}), "InvalidSignatureException"),
    "another body": (dataclasses.replace(GOOD, body=b"{}"), "InvalidSignatureException"),
    "another URL": (dataclasses.replace(GOOD, url=GOOD.url + "?x=1"), "InvalidSignatureException"),
    "another type": (changed(**{"Content-Type": "text/plain"}), "InvalidSignatureException"),
}


@pytest.mark.parametrize(("request_", "name"), UNSIGNED.values(), ids=UNSIGNED.keys())
def test_refuses_wrong_signatures(request_: Request, name: str) -> None:
    response = SANDBOX.respond(request_, SEND).response
    assert response.headers["x-amzn-errortype"] == name
    assert CREDENTIALS.secret_key not in response.text


def test_deliveries() -> None:
    attributes = {**RICH, "merge_metadata": {"ana@example.net": {"n": 1}}}
    [delivery, *others] = SANDBOX.respond(request_of(SES.deliver(mail(**attributes))), SEND).deliveries
    assert [delivery.recipient, *(one.recipient for one in others)] == [
        "ana@example.net", "team@example.org", "archive@example.org"
    ]  # fmt: skip
    assert (delivery.subject, delivery.text.strip(), delivery.cc) == (
        "Rechnung für A-1042",
        "Grüße",
        "team@example.org",
    )
    assert delivery.metadata == {"order_id": "A-1042", "tier": "für dich", "n": 1}
    assert delivery.tags == ["receipt", "grün"]


def test_templates_are_rendered() -> None:
    one = mail(
        subject="Hi {{name}}",
        html="<p>{{ shop }}",
        to=["ana@example.net", "bo@example.org"],
        merge_global_data={"shop": "Example"},
        merge_data={"ana@example.net": {"name": "Ana"}},
    )
    result = SANDBOX.respond(request_of(SES.deliver(one)), BULK)
    assert [result["Status"] for result in result.response.json()["BulkEmailEntryResults"]] == ["SUCCESS"] * 2
    [delivery] = result.deliveries
    assert (delivery.recipient, delivery.subject, delivery.html) == ("ana@example.net", "Hi Ana", "<p>Example")


def test_a_suppressed_address_is_accepted_and_gets_nothing() -> None:
    result = SANDBOX.respond(request_of(SES.deliver(mail(to=["suppressed@example.com"]))), SEND)
    assert (result.response.status_code, list(result.deliveries)) == (200, [])


KINDS = {
    "delivered": {"mta_response": "250 2.0.0 OK"},
    "opened": {"user_agent": "Mozilla/5.0 (Anymail sandbox)"},
    "clicked": {"click_url": "https://example.com/"},
    "bounced": {"reject_reason": "bounced"},
    "complained": {"reject_reason": None, "description": "abuse"},
}


@pytest.mark.parametrize(("kind", "fields"), KINDS.items(), ids=KINDS.keys())
def test_events(client: Client, events: list[Any], kind: str, fields: dict[str, Any]) -> None:
    assert kind in SANDBOX.events
    attributes = {"metadata": {"order": "1"}, "tags": ["a", "b"]}
    result = SANDBOX.respond(request_of(SES.deliver(mail(**attributes))), SEND)
    [delivery] = result.deliveries
    request = SANDBOX.event(kind, delivery, "/anymail/amazon_ses/tracking/")
    headers = dict(request.headers)
    content_type = headers.pop("Content-Type")
    with override_settings(ANYMAIL=SANDBOX.settings(URL)):
        assert Call(request.url, bytes(request.body), headers, content_type).post(client).status_code == 200
    [event] = events
    assert (event.event_type, event.recipient) == (kind, "ana@example.net")
    assert event.message_id == result.response.json()["MessageId"]
    assert (event.metadata, event.tags) == ({"order": "1"}, ["a", "b"])
    assert {name: getattr(event, name) for name in fields} == fields


def test_over_http() -> None:
    """With the Host and the path as they are on the wire."""
    with SandboxServer() as server, override_settings(ANYMAIL=server.settings("amazon_ses")):
        for attributes in ({}, {**TEMPLATE, "merge_data": {}}, RICH):
            one = message(**attributes)
            assert EmailBackend().send_messages([one]) == 1
            assert one.anymail_status.status == {"queued"}
