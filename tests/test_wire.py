"""HTTP calls as values: bodies, headers, answers."""

from __future__ import annotations

import json
import pickle
from base64 import b64encode
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any
from urllib.parse import parse_qsl

import pytest
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from anymail.esps.kit.sandbox import form_of
from anymail.exceptions import AnymailSerializationError
from anymail.wire import STREAM_FROM, Base64, Chunks, File, Headers, Request, Response, json_body, json_text

URL = "https://esp.example/send"


class TestJSON:
    def test_is_utf8(self) -> None:
        request = Request.post(URL, headers={"X-Token": "t"}, json={"a": "Grüße", "b": [1, None, True]})
        assert request.body == '{"a":"Grüße","b":[1,null,true]}'.encode()
        assert dict(request.headers) == {"X-Token": "t", "Content-Type": "application/json"}

    def test_small_attachments_are_in_it(self) -> None:
        assert json_body({"a": Base64(b"\0\1\2")}) == b'{"a":"AAEC"}'

    @pytest.mark.parametrize("size", [STREAM_FROM, STREAM_FROM + 1, 1_000_003])
    def test_large_attachments_are_encoded_while_they_are_sent(self, size: int) -> None:
        content = bytes(range(256)) * (size // 256 + 1)
        payload = {"first": Base64(content), "text": "between", "second": [Base64(content[:size])]}
        body = json_body(payload)
        assert isinstance(body, Chunks)
        joined = bytes(body)
        assert bytes(body) == joined, "it can be iterated again"
        assert len(body) == len(joined)
        expected = {
            "first": b64encode(content).decode(),
            "text": "between",
            "second": [b64encode(content[:size]).decode()],
        }
        assert json.loads(joined) == expected
        assert max(len(chunk) for chunk in body) <= STREAM_FROM

    UNSENDABLE: dict[str, tuple[Any, str]] = {
        "object": ({"a": {"b": [1, object()]}}, r"a\.b\[1\] is of type object"),
        "set": ({"metadata": {"tags": {1}}}, r"metadata\.tags is of type set"),
        "NaN": ({"a": float("nan")}, r"a is of type float"),
        "infinity": ({"a": [float("inf")]}, r"a\[0\] is of type float"),
        "surrogate": ({"a": "\ud800"}, r"a is of type str"),
        "key": ({"a": {(1, 2): 3}}, r"a key of a is of type tuple"),
        "lazy": ({"a": gettext_lazy("x")}, r"a is of type __proxy__"),
    }

    @pytest.mark.parametrize(("payload", "text"), UNSENDABLE.values(), ids=UNSENDABLE.keys())
    def test_what_cannot_be_sent_is_named(self, payload: Any, text: str) -> None:
        with pytest.raises(AnymailSerializationError, match=text):
            json_body(payload)

    def test_a_loop_is_refused(self) -> None:
        loop: dict[str, Any] = {}
        loop["self"] = loop
        with pytest.raises(AnymailSerializationError):
            json_body(loop)

    def test_in_a_header_it_is_ascii(self) -> None:
        assert json_text({"a": "ü"}, "metadata") == '{"a": "\\u00fc"}'
        with pytest.raises(AnymailSerializationError, match=r"metadata\.a is of type object"):
            json_text({"a": object()}, "metadata")


class TestForms:
    def test_urlencoded(self) -> None:
        request = Request.post(URL, headers={}, form=[("to", "a@b.c"), ("to", "ü & x")])
        assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
        assert parse_qsl(bytes(request.body).decode()) == [("to", "a@b.c"), ("to", "ü & x")]
        with pytest.raises(AnymailSerializationError, match="text is of type str"):
            Request.post(URL, headers={}, form=[("text", "\ud800")])

    def test_multipart(self) -> None:
        files = [File("attachment", 'café "1".txt', 'text/plain; charset="latin-1"', b"pi\xe8ce\r\n")]
        request = Request.post(URL, headers={}, form=[("to", "a@b.c"), ("text", "Grüße")], files=files)
        body = bytes(request.body)
        assert 'name="attachment"; filename="café %221%22.txt"'.encode() in body
        assert b"filename*" not in body
        message = BytesParser(policy=HTTP).parsebytes(
            f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode() + body
        )
        to, text, file = message.iter_parts()
        assert to.get_payload(decode=True) == b"a@b.c"
        assert text.get_payload(decode=True) == "Grüße".encode()
        assert file["Content-Type"] == 'text/plain; charset="latin-1"'
        assert file.get_payload(decode=True) == b"pi\xe8ce\r\n"

    def test_multipart_without_files(self) -> None:
        form = [("to", "a@b.c"), ('odd "name"\r\nX: y', "Grüße & 100 %"), ("v:naïve", "\r\n--x--")]
        request = Request.post(URL, headers={}, form=form, multipart=True)
        fields, files = form_of(request)
        assert [value for _, value in fields] == [value for _, value in form]
        assert (fields[0][0], files) == ("to", [])
        assert b"\r\nX: y" not in bytes(request.body)

    def test_large_files_are_not_copied(self) -> None:
        content = b"x" * (STREAM_FROM * 3)
        request = Request.post(URL, headers={}, form=[], files=[File("f", "a", "text/plain", content)])
        assert isinstance(request.body, Chunks)
        assert content in bytes(request.body)
        assert max(len(chunk) for chunk in request.body) <= STREAM_FROM

    def test_a_name_cannot_forge_a_header(self) -> None:
        request = Request.post(URL, headers={}, form=[], files=[File("f", 'a"\r\nX: y', "text/plain", b"")])
        assert b'filename="a%22%0D%0AX: y"' in bytes(request.body)


class TestHeaders:
    def test_names_in_any_case(self) -> None:
        headers = Headers([("Retry-After", "3"), ("Set-Cookie", "a"), ("set-cookie", "b")])
        assert headers["retry-after"] == "3"
        assert "RETRY-AFTER" in headers
        assert headers["Set-Cookie"] == "a, b"
        assert len(headers) == 2


class TestRequest:
    def test_what_may_be_repeated(self) -> None:
        assert Request.get(URL, headers={}).repeatable
        assert not Request.post(URL, headers={}, json={}).repeatable
        assert Request.post(URL, headers={}, json={}, idempotency_key="k").repeatable

    def test_its_repr_shows_neither_headers_nor_body(self) -> None:
        shown = repr(Request.post(URL, headers={"Authorization": "Bearer hush"}, json={"secret": "hush"}))
        assert "hush" not in shown


class TestResponse:
    def test_text_and_json(self) -> None:
        response = Response(200, {"Content-Type": "application/json"}, '{"a": "ü"}'.encode())
        assert (response.text, response.json(), response.ok) == ('{"a": "ü"}', {"a": "ü"}, True)
        assert Response(200, {}, b"\xff").text == "\ufffd"
        assert not Response(302).ok
        with pytest.raises(ValueError, match="Expecting value"):
            Response(200, {}, b"<html>").json()

    def test_it_can_be_pickled(self) -> None:
        again = pickle.loads(pickle.dumps(Response(201, {"A": "b"}, b"c", "Created")))
        assert (again.status_code, again.headers["a"], again.content, again.reason) == (201, "b", b"c", "Created")


@given(st.lists(st.tuples(st.text(), st.text())))
def test_any_form_is_read_back(form: list[tuple[str, str]]) -> None:
    request = Request.post(URL, headers={}, form=form)
    assert parse_qsl(bytes(request.body).decode("ascii"), keep_blank_values=True) == form


@given(st.binary(max_size=200_000))
def test_base64_in_pieces_is_base64(content: bytes) -> None:
    encoded = Base64(content)
    assert b"".join(encoded) == b64encode(content)
    assert len(encoded) == len(b64encode(content))


def test_an_answer_nested_too_deeply_is_not_json() -> None:
    with pytest.raises(ValueError, match="nested"):
        Response(400, {}, b"[" * 200_000).json()
