"""Each request that an ESP documents is taken by its sandbox: each field, with each kind of value."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from descriptions.described import ROOT, Description, blueprint, recorded

from anymail.conf import Secret
from anymail.esps.kit.sandbox import SandboxResult
from anymail.esps.mailersend import sandbox as mailersend
from anymail.esps.mailgun import sandbox as mailgun
from anymail.esps.mailgun.sending import basic_auth
from anymail.esps.mailtrap import sandbox as mailtrap
from anymail.esps.mandrill import sandbox as mandrill
from anymail.esps.postmark import sandbox as postmark
from anymail.esps.resend import sandbox as resend
from anymail.esps.sendgrid import sandbox as sendgrid
from anymail.esps.sparkpost import sandbox as sparkpost
from anymail.sandbox import sandbox_esp
from anymail.wire import File, Request

pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason=f"there are no API descriptions in {ROOT}")


def unchanged(body: Any) -> Any:
    return body


@dataclass(frozen=True)
class Documented:
    """One operation of an ESP's description.

    ``least`` is a good body, ``headers`` authenticate the call; ``values`` and ``wholes`` are good values where the
    description has none, ``fit`` makes whole what a field alone would break.
    """

    slug: str
    file: str
    path: str
    least: dict[str, Any]
    headers: dict[str, str]
    values: Mapping[str, Any] = field(default_factory=dict)
    wholes: Mapping[str, Any] = field(default_factory=dict)
    fit: Callable[[Any], Any] = unchanged
    called: str | None = None

    def cases(self) -> Iterator[tuple[str, Any]]:
        description = Description(self.file, self.values, self.wholes)
        for schema in description.bodies(self.path):
            for name, value in description.fields(schema):
                yield name, self.fit({**self.least, name: value})

    def call(self, body: Any) -> SandboxResult:
        path = self.called or self.path
        request = Request.post(f"http://sandbox{path}", headers=self.headers, json=body)
        return sandbox_esp(self.slug).respond(request, path)

    def __str__(self) -> str:
        return f"{self.slug} {self.path}"


ANA, SHOP = "ana@example.net", "shop@example.com"
UUID = "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"


def fit_resend(body: Any) -> Any:
    """A template stands alone, and so does the path of an attachment."""
    if "template" in body:
        return {key: value for key, value in body.items() if key not in ("html", "text")}
    for attachment in body.get("attachments", ()):
        if "path" in attachment:
            del attachment["content"]
    return body


def fit_sendgrid(body: Any) -> Any:
    """Addresses are unique, and reply_to stands alone."""
    for personalization in body["personalizations"]:
        for kind in ("cc", "bcc"):
            for person in personalization.get(kind, ()):
                person["email"] = f"{kind}@example.org"
    return body


def fit_mandrill(body: Any) -> Any:
    """Without a template a message has a sender."""
    if len(body) == len(body.keys() & {"key", "message", "async", "ip_pool", "send_at"}):
        return {**body, "message": {**body["message"], "from_email": SHOP}}
    return body


def fit_mailtrap(body: Any) -> Any:
    """A template stands alone."""
    if not {"template_uuid", "template_variables"} & body.keys():
        return body
    own = {key: value for key, value in body.items() if key not in ("subject", "text", "html", "category")}
    return {**own, "template_uuid": UUID}


MANDRILL_FILE = {"type": "text/plain", "name": "a.txt", "content": "MQ=="}
MANDRILL = {
    "values": {
        "key": mandrill.API_KEY, "from_email": SHOP, "email": ANA, "rcpt": ANA, "send_at": "2026-01-01 08:00:00",
        "template_name": "welcome",
    },
    "wholes": {
        "message": {"from_email": SHOP, "to": [{"email": ANA}]},
        "to": {"email": ANA},
        "template_content": {"name": "main"},
        "global_merge_vars": {"name": "name"},
        "merge_vars": {"rcpt": ANA},
        "vars": {"name": "name"},
        "recipient_metadata": {"rcpt": ANA, "values": {}},
        "attachments": MANDRILL_FILE,
        "images": {**MANDRILL_FILE, "type": "image/png"},
    },
    "fit": fit_mandrill,
}  # fmt: skip

DOCUMENTED = [
    Documented(
        "resend",
        "resend/resend.json",
        "/emails",
        {"from": SHOP, "to": [ANA], "subject": "Hi", "text": "Hello"},
        {"Authorization": f"Bearer {resend.API_KEY}", "User-Agent": "tests"},
        values={
            "from": SHOP,
            "to": ANA,
            "cc": ANA,
            "bcc": ANA,
            "reply_to": ANA,
            "scheduled_at": "in 1 min",
            "variables": {"NAME": "Ana"},
            "path": "https://example.com/a.txt",
        },
        wholes={"attachments": {"content": "MQ==", "filename": "a.txt"}, "tags": {"name": "a"}},
        fit=fit_resend,
    ),
    Documented(
        "sendgrid",
        "sendgrid/tsg_mail_v3.json",
        "/v3/mail/send",
        {
            "personalizations": [{"to": [{"email": ANA}]}],
            "from": {"email": SHOP},
            "subject": "Hi",
            "content": [{"type": "text/plain", "value": "Hello"}],
        },
        {"Authorization": f"Bearer {sendgrid.API_KEY}"},
        values={
            "email": ANA,
            "substitutions": {"a": "b"},
            "headers": {"X-Shop": "7"},
            "custom_args": {"a": "b"},
            "send_at": 1,
            "value": "Hello",
        },
        wholes={
            "to": {"email": ANA},
            "cc": {"email": "bo@example.org"},
            "bcc": {"email": "cy@example.org"},
            "attachments": {"content": "MQ==", "filename": "a.txt"},
        },
        fit=fit_sendgrid,
    ),
    *(
        Documented(
            "mandrill",
            "mandrill/transactional.openapi.json",
            f"/messages/{name}",
            {"key": mandrill.API_KEY, "message": {"from_email": SHOP, "to": [{"email": ANA}]}, **more},
            {},
            called=f"/api/1.0/messages/{name}",
            **MANDRILL,  # type: ignore[arg-type]
        )
        for name, more in {
            "send": {},
            "send-template": {"template_name": "welcome", "template_content": []},
            "send-mc-template": {"mc_template_id": 7},
        }.items()
    ),
    Documented(
        "mailtrap",
        "mailtrap/email-sending-transactional.openapi.yml",
        "/api/send",
        {"from": {"email": SHOP}, "to": [{"email": ANA}], "subject": "Hi", "text": "Hello"},
        {"Api-Token": mailtrap.API_TOKEN},
        values={"email": ANA, "content": "MQ==", "template_uuid": UUID},
        wholes={key: {"email": ANA} for key in ("from", "to", "cc", "bcc", "reply_to")},
        fit=fit_mailtrap,
    ),
    *(
        Documented(
            "postmark",
            "postmark/server.apis-guru.json",
            path,
            {"From": SHOP, "To": ANA, **content},
            {"X-Postmark-Server-Token": postmark.SERVER_TOKEN},
            values={"From": SHOP, "To": ANA, "Cc": ANA, "Bcc": ANA, "ReplyTo": SHOP, "Content": "MQ=="},
            wholes={
                "Attachments": {"Name": "a.txt", "Content": "MQ==", "ContentType": "text/plain"},
                "Headers": {"Name": "X-Shop", "Value": "7"},
            },
        )
        for path, content in {
            "/email": {"TextBody": "Hello"},
            "/email/withTemplate": {"TemplateId": 7, "TemplateModel": {}},
        }.items()
    ),
]


@pytest.mark.parametrize("documented", DOCUMENTED, ids=str)
def test_each_documented_field_is_taken(documented: Documented) -> None:
    refused = []
    cases = list(documented.cases())
    for name, body in cases:
        result = documented.call(body)
        if not result.response.ok:
            refused.append((name, body.get(name), result.response.text[:200]))
    assert cases
    assert not refused, "\n".join(map(str, refused))


MAILGUN_VALUES = {
    "from": SHOP,
    "to": ANA,
    "cc": ANA,
    "bcc": ANA,
    "t:variables": "{}",
    "recipient-variables": "{}",
    "o:deliverytime": "Fri, 14 Oct 2026 23:10:10 +0000",
    "o:deliver-within": "1h30m",
    "o:deliverytime-optimize-period": "24h",
}

SPARKPOST = [
    "Send Inline Content", "Send a Template", "Send an A/B Test", "Send RFC822 Content", "Schedule a Transmission",
]  # fmt: skip
SPARKPOST_VALUES: dict[str, Any] = {
    "address": ANA, "email": ANA, "from": SHOP, "data": "MQ==", "start_time": "2018-09-11T08:00:00-04:00",
}  # fmt: skip
# Of the kinds of content, one at a time.
SPARKPOST_CONTENT = {"from": SHOP, "subject": "Hi", "text": "Hello"}


def test_each_documented_field_of_mailguns_form_is_taken() -> None:
    description = Description("mailgun/openapi.cut.json", MAILGUN_VALUES)
    [schema] = description.bodies("/v3/{domain_name}/messages")
    least = {"from": SHOP, "to": ANA, "subject": "Hi", "text": "Hello"}
    cases, refused = list(description.fields(schema)), []
    for name, value in cases:
        form = {**least, name: value[0] if isinstance(value, list) else value}
        files = [File(name, "a.txt", "text/plain", b"1")] if name in ("attachment", "inline") else []
        fields = [(key, text) for key, text in form.items() if not files or key != name]
        headers = {"Authorization": basic_auth(Secret(mailgun.API_KEY))}
        path = "/v3/mg.example.com/messages"
        request = Request.post(f"http://sandbox{path}", headers=headers, form=fields, files=files)
        result = sandbox_esp("mailgun").respond(request, path)
        if not result.response.ok:
            refused.append((name, value, result.response.text))
    assert len(cases) > 30
    assert not refused, "\n".join(map(str, refused))


def call_sparkpost(body: Any) -> SandboxResult:
    clock = dt.datetime.fromisoformat("2018-09-10T00:00:00+00:00")
    path = "/api/v1/transmissions"
    request = Request.post(f"http://sandbox{path}", headers={"Authorization": sparkpost.API_KEY}, json=body)
    return sparkpost.SparkPostSandbox(lambda: clock).respond(request, path)


def test_sparkposts_examples_are_taken() -> None:
    bodies = [
        (heading, body)
        for heading, status, body in blueprint("sparkpost/transmissions.apib", *SPARKPOST)
        if status is None
    ]
    assert len(bodies) == len(SPARKPOST)
    for heading, body in bodies:
        # The sandbox keeps no recipient lists.
        stored = isinstance(body["recipients"], dict)
        result = call_sparkpost({**body, "recipients": [{"address": ANA}]} if stored else body)
        assert result.response.ok, f"{heading}: {result.response.text}"


def test_each_documented_field_of_sparkpost_is_taken() -> None:
    description = Description("sparkpost/transmission.derived.schema.json", SPARKPOST_VALUES)
    least = {"recipients": [{"address": ANA}], "content": SPARKPOST_CONTENT}
    cases, refused = list(description.fields(description.resolved(description.content))), []
    for name, value in cases:
        if name == "recipients" and isinstance(value, dict):
            continue
        if name == "content" and "from" in value:
            value = {**SPARKPOST_CONTENT, **value}
        result = call_sparkpost({**least, name: value})
        if not result.response.ok:
            refused.append((name, value, result.response.text))
    assert len(cases) > 30
    assert not refused, "\n".join(map(str, refused))


MAILERSEND = dict(recorded("mailersend"))


@pytest.mark.parametrize("name", [name for name, call in MAILERSEND.items() if call["request"]["method"] == "POST"])
def test_mailersends_recorded_calls_are_taken(name: str) -> None:
    asked, answered = MAILERSEND[name]["request"], MAILERSEND[name]["response"]
    path = asked["uri"].removeprefix("https://api.mailersend.com")
    headers = {"Authorization": f"Bearer {mailersend.API_TOKEN}", "Content-Type": "application/json"}
    request = Request(asked["method"], asked["uri"], headers, (asked["body"] or "").encode())
    result = sandbox_esp("mailersend").respond(request, path)
    assert result.response.status_code == answered["status"]["code"], result.response.text
