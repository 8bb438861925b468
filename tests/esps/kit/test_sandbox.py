"""What the ESPs' sandboxes share."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from anymail.esps.kit.sandbox import (
    STRING,
    IdempotencyKeys,
    JSONSandbox,
    Refusal,
    SandboxResult,
    Violation,
    array_schema,
    bare,
    form_of,
    is_address,
    is_base64,
    is_suppressed,
    json_response,
    object_schema,
    violation,
)
from anymail.wire import File, Request

PERSON = object_schema(["email"], email={"type": "string", "maxLength": 9}, name=STRING)
LEAST = {
    "type": "object",
    "properties": {"to": array_schema(PERSON, minItems=1, maxItems=2), "size": {"enum": ["S", "M"]}, "who": {}},
    "patternProperties": {"^x-": STRING},
    "additionalProperties": False,
    "required": ["to", "size"],
}
ANA = {"email": "a@b.c"}
GOOD = {"to": [ANA], "size": "S"}
EITHER = {"anyOf": [object_schema(["id"], id={"type": "integer"}), object_schema(["name"], name=STRING)]}
LIST_OR_TEXT = {"anyOf": [STRING, array_schema(STRING)]}

# Schema, value, and where, rule, field and text of what is broken.
BROKEN: dict[str, tuple[Any, Any, tuple[str, str, str, str]]] = {
    "the whole": (LEAST, [], ("", "type", "", "must be of type object")),
    "missing": (LEAST, {"to": [ANA]}, ("size", "required", "size", "is required")),
    "the first that is missing": (LEAST, {}, ("to", "required", "to", "is required")),
    "missing within": (LEAST, {**GOOD, "to": [ANA, {}]}, ("to[1].email", "required", "email", "is required")),
    "unknown": (LEAST, {**GOOD, "x-a": "", "cc": 1}, ("cc", "additionalProperties", "cc", "is not a known field")),
    "unknown within": (
        LEAST,
        {**GOOD, "to": [{**ANA, "id": 1}]},
        ("to[0].id", "additionalProperties", "id", "is not a known field"),
    ),
    "of a pattern": (LEAST, {**GOOD, "x-a": 1}, ("x-a", "type", "x-a", "must be of type string")),
    "too long": (
        LEAST,
        {**GOOD, "to": [{"email": "a" * 10}]},
        ("to[0].email", "maxLength", "email", "must have at most 9 characters"),
    ),
    "too few": (LEAST, {**GOOD, "to": []}, ("to", "minItems", "to", "must have 1 or more items")),
    "too many": (LEAST, {**GOOD, "to": [ANA] * 3}, ("to", "maxItems", "to", "must have at most 2 items")),
    "a word": (LEAST, {**GOOD, "size": "L"}, ("size", "enum", "size", "must be one of ['S', 'M']")),
    "a secret in the value": (STRING, ["s3cret"], ("", "type", "", "must be of type string")),
    "neither": (EITHER, {}, ("name", "required", "name", "is required")),
    "nearest alternative": (EITHER, {"id": "x"}, ("id", "type", "id", "must be of type integer")),
    "no alternative's type": (LIST_OR_TEXT, 1, ("", "anyOf", "", "is not valid")),
    "within an alternative": (LIST_OR_TEXT, ["a", 1], ("[1]", "type", "", "must be of type string")),
}


@pytest.mark.parametrize(("schema", "value", "expected"), BROKEN.values(), ids=BROKEN.keys())
def test_a_violation_says_what_is_broken(schema: Any, value: Any, expected: tuple[str, ...]) -> None:
    broken = violation(schema, value)
    assert broken is not None
    assert (broken.where, broken.rule, broken.field, broken.text) == expected


def test_a_violation_in_other_spellings() -> None:
    broken = violation(LEAST, {**GOOD, "to": [{}]})
    assert broken is not None
    assert (broken.path, broken.dotted, broken.parent) == (("to", 0, "email"), "to.0.email", "to[0]")


def test_no_violation() -> None:
    assert violation(LEAST, GOOD) is None


class Acme(JSONSandbox):
    slug = "acme"
    routes = (("POST", "/send", "send"), ("POST", "/batch", "batch"))
    credentials = "X-Key", "key"
    unauthorized = json_response(401, "who?")
    wrong_content_type = json_response(415, "what?")
    malformed = json_response(400, "how?")

    def broken(self, broken: Violation) -> Refusal:
        return Refusal(json_response(422, broken.where))

    def send(self, request: Request) -> SandboxResult:
        return self.take(self.body(request))

    def batch(self, request: Request) -> SandboxResult:
        contents, deliveries = self.each(self.body(request, {"type": "array"}), self.take)
        return SandboxResult(json_response(200, contents), deliveries)

    def take(self, body: Any) -> SandboxResult:
        self.validate(PERSON, body)
        return SandboxResult(json_response(200, body["email"]))


JSON = {"X-Key": "key", "Content-Type": "application/json; charset=utf-8"}
CALLS: dict[str, tuple[str, dict[str, str], bytes, int, Any]] = {
    "good": ("/send", JSON, b'{"email": "a@b.c"}', 200, "a@b.c"),
    "headers in another case": ("/send", {k.upper(): v for k, v in JSON.items()}, b'{"email": "a"}', 200, "a"),
    "no key": ("/send", {}, b"{", 401, "who?"),
    "a wrong key": ("/send", {**JSON, "X-Key": "x"}, b"{", 401, "who?"),
    "another type": ("/send", {"X-Key": "key"}, b"{}", 415, "what?"),
    "no JSON": ("/send", JSON, b"{", 400, "how?"),
    "JSON too deep": ("/send", JSON, b"[" * 100_000, 400, "how?"),
    "a broken rule": ("/send", JSON, b"{}", 422, "email"),
    "a batch": ("/batch", JSON, b'[{"email": "a"}, {}, {"email": "b"}]', 200, ["a", "email", "b"]),
    "no batch": ("/batch", JSON, b"{}", 422, ""),
}


@pytest.mark.parametrize(("path", "headers", "body", "status", "content"), CALLS.values(), ids=CALLS.keys())
def test_a_sandbox_of_json(path: str, headers: dict[str, str], body: bytes, status: int, content: Any) -> None:
    response = Acme().respond(Request("POST", f"http://sandbox{path}", headers, body), path).response
    assert (response.status_code, response.json()) == (status, content)


@pytest.mark.parametrize(("method", "path"), [("GET", "/send"), ("POST", "/sent"), ("POST", "/send/")])
def test_what_there_is_not(method: str, path: str) -> None:
    assert Acme().respond(Request(method, f"http://sandbox{path}", JSON, b"{}"), path).response.status_code == 404


def test_idempotency_keys_are_kept_for_a_while() -> None:
    now, keys = dt.datetime(2026, 3, 4, tzinfo=dt.UTC), IdempotencyKeys(dt.timedelta(minutes=1))
    assert keys.claim("a", now)
    assert not keys.claim("a", now + dt.timedelta(seconds=59))
    assert keys.claim("b", now)
    assert keys.claim("a", now + dt.timedelta(seconds=60))
    keys.keep("c", now, "response")
    assert (keys.get("c", now), keys.get("d", now)) == ("response", None)


def test_addresses() -> None:
    assert is_address("ana@example.net")
    assert not any(map(is_address, ["", "ana", "Ana <ana@example.net>", "a@b.c, d@e.f"]))
    assert bare("Ana <ana@example.net>") == "ana@example.net"
    assert is_suppressed("Suppressed.ana@example.net")
    assert not is_suppressed("ana@example.net")


def test_base64() -> None:
    assert is_base64("MQ==")
    assert is_base64("")
    assert not any(map(is_base64, ["MQ", "M?==", "MQ==\n"]))


def test_forms() -> None:
    form = [("a", "1"), ("a", "é & ü"), ("b", "")]
    files = [File("file", "a.txt", "text/plain", b"1\r\n--2")]
    plain = Request.post("http://x/", headers={}, form=form)
    assert form_of(plain) == (form, [])
    fields, [file] = form_of(Request.post("http://x/", headers={}, form=form, files=files))
    assert fields == form
    assert (file.field, file.filename, file.content_type, file.content) == ("file", "a.txt", "text/plain", b"1\r\n--2")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{}"),
        ("application/x-www-form-urlencoded", b"a"),
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n1\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n"),
    ],
)
def test_what_is_no_form(content_type: str, body: bytes) -> None:
    with pytest.raises(ValueError, match=r"form|field"):
        form_of(Request("POST", "http://x/", {"content-type": content_type}, body))
