"""Our requests and words beside those of Scaleway's own SDK."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any
from unittest import mock

import pytest
from scaleway import Client
from scaleway.tem.v1alpha1 import (
    BlocklistType,
    CreateEmailRequestAddress,
    CreateEmailRequestAttachment,
    CreateEmailRequestHeader,
    EmailStatus,
    TemV1Alpha1API,
    WebhookEventType,
)

from anymail.esps.scaleway.sandbox import PROJECT_ID, SECRET_KEY, ScalewaySandbox
from anymail.esps.scaleway.sending import STATUSES, Scaleway
from anymail.esps.scaleway.tracking import BLOCKLISTS, EVENTS
from anymail.wire import Request
from esps.scaleway.test_sending import REQUESTS
from support import json_of, mail, make_esp, request_of

PATH = "/transactional-email/v1alpha1/regions/fr-par/emails"
SCALEWAY = make_esp(Scaleway, secret_key=SECRET_KEY, project_id=PROJECT_ID)
# A client like SCALEWAY. The SDK wants a key of this form.
SDK = TemV1Alpha1API(
    Client(
        access_key="SCWXXXXXXXXXXXXXXXXX",
        secret_key=SECRET_KEY,
        default_project_id=PROJECT_ID,
        default_region="fr-par",
    )
)
_CONSTRUCTORS = {"attachments": CreateEmailRequestAttachment, "additional_headers": CreateEmailRequestHeader}


def sent_by_the_sdk(body: dict[str, Any]) -> tuple[Request, Any]:
    """The SDK's request for what is in ``body``, and what it makes of the sandbox's answer."""
    given: dict[str, Any] = {"subject": "", "text": "", "html": "", **body, "project_id": None}
    given["from_"] = CreateEmailRequestAddress(**given.pop("from"))
    for name in ("to", "cc", "bcc"):
        given[name] = [CreateEmailRequestAddress(**one) for one in given.get(name, ())] or None
    for name, constructor in _CONSTRUCTORS.items():
        items = [{"type_" if key == "type" else key: one[key] for key in one} for one in given.get(name, ())]
        given[name] = [constructor(**one) for one in items] or None
    if "send_before" in given:
        given["send_before"] = dt.datetime.fromisoformat(given["send_before"])
    sent: list[Request] = []

    def request(method: str, url: str, headers: Any, data: Any, **rest: Any) -> Any:
        sent.append(Request(method, url, headers, data.encode()))
        found = ScalewaySandbox().respond(request_of(SCALEWAY.deliver(mail())), PATH).response
        return mock.Mock(status_code=found.status_code, text=found.text, headers={}, json=found.json)

    with mock.patch("requests.request", request):
        response = SDK.create_email(**given)
    return sent[0], response


@pytest.mark.parametrize("name", REQUESTS)
def test_a_send_is_the_sdks(name: str) -> None:
    ours = request_of(SCALEWAY.deliver(mail(**REQUESTS[name][0])))
    sdks, _ = sent_by_the_sdk(json_of(ours))
    body = {key: value for key, value in json.loads(bytes(sdks.body)).items() if value}
    if "send_before" in body:
        body["send_before"] = body["send_before"].replace("+00:00", "Z")
    assert (ours.method, ours.url, json_of(ours)) == (sdks.method, sdks.url, body)
    assert ours.headers["X-Auth-Token"] == sdks.headers["x-auth-token"]


def test_the_sandboxs_answer_is_one_for_the_sdk() -> None:
    _, response = sent_by_the_sdk(json_of(request_of(SCALEWAY.deliver(mail()))))
    [email] = response.emails
    assert (email.mail_rcpt, email.status, email.rcpt_type) == ("ana@example.net", EmailStatus.SENDING, "to")
    assert email.created_at.tzinfo is not None


def test_words_are_the_sdks() -> None:
    assert {*STATUSES, "unknown"} == set(map(str, EmailStatus))
    assert {*EVENTS, "unknown_type"} == {*map(str, WebhookEventType), "email_bounced"}
    assert {*BLOCKLISTS, "unknown_type"} == set(map(str, BlocklistType))
