"""Raw MIME: what an attachment is called cannot forge a header."""

from __future__ import annotations

from email import message_from_bytes
from email.mime.text import MIMEText
from email.policy import default
from typing import Any

import pytest

from anymail.exceptions import AnymailInvalidAddress, AnymailInvalidValue
from anymail.mail.mime import mime
from support import mail

ENCODED = ["=?utf-8?q?=0D=0ABcc:_eve@example.org?=", "=?utf-8?b?DQpCY2M6IGV2ZUBleGFtcGxlLm9yZw==?="]


@pytest.mark.parametrize("word", ENCODED)
@pytest.mark.parametrize("before", ["", "a ", "é "])
def test_a_filename_that_looks_like_an_encoded_word(before: str, word: str) -> None:
    raw = mime(mail(attach=[(before + word, b"x", "text/plain")]), [("From", "ana@example.com")])
    assert b"\nBcc" not in raw
    part = message_from_bytes(raw).get_payload()[1]  # type: ignore[index]
    assert part.get_filename() == before + word  # type: ignore[union-attr]


@pytest.mark.parametrize("word", ENCODED)
def test_a_content_id_that_looks_like_an_encoded_word(word: str) -> None:
    part = MIMEText("x")
    part["Content-ID"] = f"<{word}>"
    with pytest.raises(AnymailInvalidValue, match="Content-ID"):
        mime(mail(attach=[(part,)]), [])


@pytest.mark.parametrize("word", ENCODED)
def test_a_content_types_parameter_that_looks_like_an_encoded_word(word: str) -> None:
    with pytest.raises(AnymailInvalidValue):
        mime(mail(attach=[("a", b"x", f'text/plain; x="{word}"')]), [])


@pytest.mark.parametrize("name", ["Content-Type", "mime-version", "Content-Transfer-Encoding"])
def test_a_header_of_the_body_does_not_stand_twice(name: str) -> None:
    with pytest.raises(AnymailInvalidValue, match=f"extra_headers: {name} would stand twice"):
        mime(mail(), [("From", "ana@example.com"), (name, "x")])


@pytest.mark.parametrize(
    "name",
    [
        "Disposition-Notification-To",
        "Return-Receipt-To",
        "Errors-To",
        "Sender",
        "Resent-From",
        "Resent-To",
        "resent-cc",
    ],
)
def test_names_are_encoded_and_addresses_are_not(name: str) -> None:
    value = '"López, Ana" <ana@example.net>, Bücher <bo@bücher.example>'
    raw = mime(mail(), [("From", "ana@example.com"), (name, value)])
    assert raw.isascii()
    [header] = message_from_bytes(raw, policy=default).get_all(name, [])
    assert str(header).replace('"', "") == "López, Ana <ana@example.net>, Bücher <bo@xn--bcher-kva.example>"
    assert b"<ana@example.net>" in raw
    with pytest.raises(AnymailInvalidAddress, match=name):
        mime(mail(), [(name, "Bücher, Bo <bo@example.net>")])


SIGNED = (
    b"Received: from a.example.net\r\n\tby b.example.net;  Wed,  4 Mar 2026 05:06:07 +0000\r\n"
    b"DKIM-Signature: v=1; a=rsa-sha256; h=from:to;\r\n  b=" + b"a" * 200 + b"\r\n"
    b"FROM:ana@example.net\r\nContent-type: text/plain\r\n\r\nHello  \r\n\r\n"
)


def attached(raw: bytes) -> Any:
    [_, part] = message_from_bytes(raw).get_payload()
    return part


def test_an_attached_message_is_not_rewritten() -> None:
    raw = mime(mail(attach=[("forwarded.eml", SIGNED, "message/rfc822")]), [("From", "ana@example.com")])
    assert SIGNED in raw
    part = attached(raw)
    assert (part.get_content_type(), part.get_filename()) == ("message/rfc822", "forwarded.eml")
    assert part["Content-Transfer-Encoding"] == "7bit"
    assert part.get_payload(0)["From"] == "ana@example.net"


def test_only_line_ends_are_made_those_of_mail() -> None:
    raw = mime(mail(attach=[("a.eml", SIGNED.replace(b"\r\n", b"\n"), "message/rfc822")]), [])
    assert SIGNED in raw


@pytest.mark.parametrize(
    "content", [b"Subject: x\n\nGr\xfc\xdfe\n", b"Subject: x\n\n" + b"a" * 999, b"Subject: x\n\n\0"]
)
def test_a_message_that_not_every_server_passes_on(content: bytes) -> None:
    raw = mime(mail(attach=[(None, content, "message/rfc822")]), [])
    assert raw.isascii()
    part = attached(raw)
    assert (part.get_content_type(), part.get_filename()) == ("application/octet-stream", "attachment.eml")
    assert part.get_payload(decode=True) == content


def test_an_inline_message_beside_html() -> None:
    part = message_from_bytes(b"Content-Type: message/rfc822\nContent-Disposition: inline\n\n" + SIGNED)
    raw = mime(mail(html="<p>", attachments=[part]), [])
    assert b"DKIM-Signature: v=1" in raw
    assert not message_from_bytes(raw).defects
