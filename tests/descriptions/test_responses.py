"""Each response that an ESP documents is read: it becomes statuses or an error of Anymail, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from descriptions.described import ROOT, Description, blueprint, recorded

from anymail.esps import esp_class
from anymail.exceptions import AnymailAPIError
from anymail.mail.status import ANYMAIL_STATUSES
from anymail.sandbox import sandbox_settings
from anymail.wire import Response
from support import answer, drive, mail, make_esp

pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason=f"there are no API descriptions in {ROOT}")

ANA = "ana@example.net"
TEMPLATED = {"subject": None, "body": "", "template_id": "welcome"}

# The operations, and a message that uses each.
OPERATIONS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("resend", "resend/resend.json", "/emails", {}),
    ("sendgrid", "sendgrid/tsg_mail_v3.json", "/v3/mail/send", {}),
    ("mandrill", "mandrill/transactional.openapi.json", "/messages/send", {}),
    ("mandrill", "mandrill/transactional.openapi.json", "/messages/send-template", TEMPLATED),
    ("mailgun", "mailgun/openapi.cut.json", "/v3/{domain_name}/messages", {}),
    ("mailtrap", "mailtrap/email-sending-transactional.openapi.yml", "/api/send", {}),
    ("mailtrap", "mailtrap/email-sending-bulk.openapi.yml", "/api/send", {}),
    ("mailtrap", "mailtrap/email-sending-transactional.openapi.yml", "/api/batch", {"merge_data": {}}),
    ("postmark", "postmark/server.apis-guru.json", "/email", {}),
    ("postmark", "postmark/server.apis-guru.json", "/email/batch", {"merge_metadata": {}}),
    ("postmark", "postmark/server.apis-guru.json", "/email/withTemplate", TEMPLATED),
]
VALUES = {
    "email": ANA,
    "To": ANA,
    "Email": ANA,
    "ErrorCode": 0,
    "ID": "b",
    "MessageID": "7",
    "Message": "OK",
    "errors": [],
}


def sender(slug: str) -> Any:
    cls = esp_class(slug)
    settings = sandbox_settings("http://sandbox", slug)
    names = {name.removeprefix(f"{slug.upper()}_").lower(): value for name, value in settings.items()}
    return make_esp(cls, **{name: value for name, value in names.items() if name in cls.Options.__dataclass_fields__})


def documented() -> Iterator[Any]:
    for slug, file, path, message in OPERATIONS:
        for name, response in Description(file, VALUES).responses(path):
            yield pytest.param(slug, message, response, id=f"{slug} {path} {name}")
    for number, (heading, status, content) in enumerate(
        blueprint("sparkpost/transmissions.apib", "Send Inline Content", "Send a Template", "Send an A/B Test",
                  "Send RFC822 Content")
    ):  # fmt: skip
        if status is not None:
            yield pytest.param("sparkpost", {}, answer(status, content), id=f"sparkpost {heading} {status}-{number}")
    for name, call in recorded("mailersend"):
        response, asked = call["response"], call["request"]
        if asked["method"] == "POST" and asked["uri"].endswith("/email"):
            headers = {key: values[0] for key, values in response["headers"].items()}
            content = response["body"]["string"].encode()
            read = Response(response["status"]["code"], headers, content)
            yield pytest.param("mailersend", {}, read, id=f"mailersend {name}")


CASES = list(documented())


def read(
    slug: str, message: dict[str, Any], response: Response
) -> tuple[dict[str, Any] | None, AnymailAPIError | None]:
    """The statuses, or the error, that a response becomes."""
    try:
        return drive(sender(slug).deliver(mail(**message)), response)[1], None
    except AnymailAPIError as error:
        return None, error


@pytest.mark.parametrize(("slug", "message", "response"), [case for case in CASES if case.values[2].ok])
def test_a_documented_success_is_read(slug: str, message: dict[str, Any], response: Response) -> None:
    recipients, error = read(slug, message, response)
    assert error is None, f"{error}: {response.text}"
    assert recipients is not None
    assert recipients.keys() == {ANA}
    assert recipients[ANA].status in ANYMAIL_STATUSES


@pytest.mark.parametrize(("slug", "message", "response"), [case for case in CASES if not case.values[2].ok])
def test_a_documented_error_is_read(slug: str, message: dict[str, Any], response: Response) -> None:
    recipients, error = read(slug, message, response)
    if error is None:
        # The recipient alone was refused.
        assert recipients is not None
        assert recipients[ANA].status in ("rejected", "invalid")
        return
    assert error.category is not None
    assert error.response is response
    assert error.sent is (None if error.category == "server" else False)
    assert f"HTTP {response.status_code}" in str(error)


@pytest.mark.parametrize("slug", sorted({slug for slug, *_ in OPERATIONS} | {"sparkpost", "mailersend"}))
def test_the_description_has_responses(slug: str) -> None:
    assert [case for case in CASES if case.values[0] == slug]
