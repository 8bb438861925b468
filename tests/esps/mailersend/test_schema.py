"""MailerSend: every request that we make is one that MailerSend's own SDK could have made."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from mailersend.models.email import EmailRequest

from esps.mailersend.test_sending import MAILERSEND, REQUESTS
from support import json_of, mail, request_of

# The SDK wants a subject even for templates, knows no list_unsubscribe and nothing deprecated.
LEFT_OUT = {"list_unsubscribe", "variables"}


@pytest.mark.parametrize("name", REQUESTS)
def test_request(name: str) -> None:
    attributes, _, _ = REQUESTS[name]
    if "send_at" in attributes:
        attributes = {**attributes, "send_at": time.time() + 3600}
    body: Any = json_of(request_of(MAILERSEND.deliver(mail(**attributes))))
    for email in body if isinstance(body, list) else [body]:
        wire = {"subject": "", **{key: value for key, value in email.items() if key not in LEFT_OUT}}
        model = EmailRequest.model_validate(wire, by_alias=True)
        # The SDK turns the domains of IDNA back into Unicode.
        decoded = json.dumps(wire, ensure_ascii=False).replace("xn--bcher-kva", "bücher")
        assert model.model_dump(by_alias=True, exclude_unset=True) == json.loads(decoded)
