"""Received mail: what it says, what is in it, and that no stranger's mail breaks anything."""

from __future__ import annotations

import datetime as dt
import io
import time
from email.message import EmailMessage
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from hypothesis import given
from hypothesis import strategies as st

from anymail.inbound import MAX_HEADER_BYTES, MAX_PARTS, AnymailInboundLimitError, AnymailInboundMessage, safe_filename

UTC = dt.UTC
PARSE = AnymailInboundMessage.parse_raw_mime_bytes

RICH = """\
From: =?utf-8?q?Zo=C3=AB?= Kim <zoe@example.net>
To: "Help, Desk" <help@example.com>, team@example.org
Cc: Bo <bo@example.org>
Subject: =?utf-8?b?QmVzdGVsbHVuZyBmw7xy?=
 Ana
Date: Thu, 05 Mar 2026 14:20:28 +0100
Message-ID: <a1@example.net>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="mixed"

--mixed
Content-Type: multipart/related; boundary="related"

--related
Content-Type: multipart/alternative; boundary="alternative"

--alternative
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

Gr=FC=DFe
--alternative
Content-Type: text/html; charset=utf-8

<p>Grüße <img src="cid:logo@example.net"></p>
--alternative--
--related
Content-Type: image/png; name="logo.png"
Content-ID: <logo@example.net>
Content-Disposition: inline; filename="logo.png"
Content-Transfer-Encoding: base64

iVBORw0KGgo=
--related--
--mixed
Content-Type: text/csv; charset=utf-8
Content-Disposition: attachment; filename*=utf-8''k%C3%A4se.csv
Content-Transfer-Encoding: base64

c29ydGU7bWVuZ2UK
--mixed
Content-Type: message/rfc822
Content-Disposition: attachment

Subject: Inner
Content-Type: text/plain

inside
--mixed--
""".encode()


class TestReading:
    def test_a_message(self) -> None:
        message = PARSE(RICH)
        assert str(message.from_email) == "Zoë Kim <zoe@example.net>"
        assert [str(one) for one in message.to] == ['"Help, Desk" <help@example.com>', "team@example.org"]
        assert [one.addr_spec for one in message.cc] == ["bo@example.org"]
        assert message.bcc == []
        assert message.subject == "Bestellung für Ana"
        assert message.date == dt.datetime(2026, 3, 5, 13, 20, 28, tzinfo=UTC)
        assert message["message-id"] == "<a1@example.net>"
        assert message.text is not None
        assert message.text.strip() == "Grüße"
        assert message.html is not None
        assert "Grüße <img" in message.html

    def test_its_parts(self) -> None:
        message = PARSE(RICH)
        table, enclosed = message.attachments
        assert (table.get_filename(), table.get_content_type()) == ("käse.csv", "text/csv")
        assert table.get_content_text() == "sorte;menge\n"
        assert enclosed.get_content_bytes().startswith(b"Subject: Inner")
        [logo] = message.inlines
        assert logo.is_inline()
        assert logo.content_id == "logo@example.net"
        assert logo.get_content_bytes() == bytes.fromhex("89504e470d0a1a0a")
        assert message.content_id_map == {"logo@example.net": logo}
        assert all(isinstance(part, AnymailInboundMessage) for part in message.walk())

    def test_what_the_esp_tells_is_none_until_it_does(self) -> None:
        message = PARSE(RICH)
        names = (
            "envelope_sender",
            "envelope_recipient",
            "spam_score",
            "spam_detected",
            "stripped_text",
            "stripped_html",
        )
        assert [getattr(message, name) for name in names] == [None] * 6

    @pytest.mark.parametrize(
        "read",
        [
            lambda: AnymailInboundMessage.parse_raw_mime(RICH.decode()),
            lambda: AnymailInboundMessage.parse_raw_mime_file(io.BytesIO(RICH)),
            lambda: AnymailInboundMessage.parse_raw_mime_file(io.StringIO(RICH.decode())),
            lambda: PARSE(RICH.replace(b"\n", b"\r\n")),
        ],
        ids=["str", "binary file", "text file", "CRLF"],
    )
    def test_from_any_source(self, read: Any) -> None:
        message = read()
        assert (message.subject, message.html) == ("Bestellung für Ana", PARSE(RICH).html)
        assert len(message.attachments) == 2

    def test_nothing(self) -> None:
        message = PARSE(b"")
        assert (message.from_email, message.to, message.subject, message.date) == (None, [], None, None)
        assert (message.text, message.html, message.attachments, message.inlines) == ("", None, [], [])

    DISPOSITIONS: dict[str, tuple[str, bool, bool]] = {
        "attachment": ("Content-Disposition: attachment", True, False),
        "inline": ("Content-Disposition: inline", False, True),
        "content id": ("Content-ID: <a@b>", False, True),
        "attached, with content id": ("Content-Disposition: attachment\nContent-ID: <a@b>", True, False),
        "neither": ("X-A: b", False, False),
    }

    @pytest.mark.parametrize(("header", "attachment", "inline"), DISPOSITIONS.values(), ids=DISPOSITIONS.keys())
    def test_dispositions(self, header: str, attachment: bool, inline: bool) -> None:
        part = PARSE(f"{header}\nContent-Type: image/png\n\nx".encode())
        assert (part.is_attachment(), part.is_inline()) == (attachment, inline)

    def test_an_uploaded_file(self) -> None:
        [table, _] = PARSE(RICH).attachments
        file = table.as_uploaded_file()
        assert (file.name, file.content_type, file.read()) == ("käse.csv", "text/csv", b"sorte;menge\n")


def one_header(line: str | bytes) -> AnymailInboundMessage:
    return PARSE((line.encode() if isinstance(line, str) else line) + b"\n\n")


class TestOddHeaders:
    ADDRESSES: dict[str, list[str]] = {
        "a@example.com": ["a@example.com"],
        "Ana (at home) <a@example.com>": ["a@example.com"],
        "friends: a@example.com, b@example.org;": ["a@example.com", "b@example.org"],
        "undisclosed-recipients:;": [],
        "": [],
        "<>": [],
        "=?utf-8?q?A=2C_B?= <a@example.com>": ["a@example.com"],
        "Ana <a@example.com": ["a@example.com"],
        "(" * 5_000: [],
        '"' * 5_001: [],
    }

    @pytest.mark.parametrize(("value", "expected"), ADDRESSES.items(), ids=lambda v: str(v)[:20])
    def test_addresses(self, value: str, expected: list[str]) -> None:
        assert [one.addr_spec for one in one_header(f"To: {value}").to] == expected

    @pytest.mark.parametrize(
        "name", ["=?utf-8?q?<admin@bank.example>?=", '"<admin@bank.example>"', "(<a@bank.example>)"]
    )
    def test_a_name_is_never_taken_for_an_address(self, name: str) -> None:
        message = one_header(f"From: {name} <thief@example.com>")
        assert message.from_email is not None
        assert message.from_email.addr_spec == "thief@example.com"

    def test_an_encoded_comma_separates_nothing(self) -> None:
        [address] = one_header("To: =?utf-8?q?A=2C_B?= <a@example.com>").to
        assert address.display_name == "A, B"

    SUBJECTS: dict[bytes, str] = {
        b"Subject: Gr\xc3\xbc\xc3\x9fe": "Grüße",
        b"Subject: =?x-unknown?q?abc?=": "abc",
        b"Subject: =?utf-8?q?=0A=0DBcc:?=": "",
        b"Subject: a\n b": "a b",
    }

    @pytest.mark.parametrize(("line", "expected"), SUBJECTS.items())
    def test_subjects(self, line: bytes, expected: str) -> None:
        subject = one_header(line).subject
        assert subject is not None
        assert expected in subject
        assert "\n" not in subject

    @pytest.mark.parametrize("value", ["", "yesterday", "99 Foo 2026 99:99:99 +9999", "Thu, 05 Mar 99999 00:00 +0000"])
    def test_unreadable_dates(self, value: str) -> None:
        assert one_header(f"Date: {value}").date is None

    def test_a_date_without_a_zone_is_in_utc(self) -> None:
        date = one_header("Date: Thu, 05 Mar 2026 14:20:28 -0000").date
        assert date == dt.datetime(2026, 3, 5, 14, 20, 28, tzinfo=UTC)

    @pytest.mark.parametrize("count", [0, 2])
    def test_message_ids_may_be_missing_or_many(self, count: int) -> None:
        message = PARSE(b"Message-ID: <a@b>\n" * count + b"\nHello")
        assert message["Message-ID"] == ("<a@b>" if count else None)
        assert message.text == "Hello"


class TestOddContent:
    CONTENT: dict[str, tuple[str, bytes, str]] = {
        "unknown charset": ("text/plain; charset=x-unknown", "Grüße".encode(), "Grüße"),
        "wrong charset": ("text/plain; charset=utf-8", b"Gr\xfc\xdfe", "Gr\ufffd\ufffde"),
        "codec that is no charset": ("text/plain; charset=idna", b"Hello..", "Hello.."),
        "codec that decodes nothing": ("text/plain; charset=undefined", b"Hello", "Hello"),
        "no charset": ("text/plain", b"Hello", "Hello"),
        "broken type": ("text", b"Hello", "Hello"),
    }

    @pytest.mark.parametrize(("kind", "content", "expected"), CONTENT.values(), ids=CONTENT.keys())
    def test_charsets(self, kind: str, content: bytes, expected: str) -> None:
        message = PARSE(f"Content-Type: {kind}\nContent-Transfer-Encoding: 8bit\n\n".encode() + content)
        assert message.get_content_text() == expected

    @pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "x-uuencode", "x-unknown", ""])
    def test_broken_encodings(self, encoding: str) -> None:
        message = PARSE(f"Content-Transfer-Encoding: {encoding}\n\nnot=ZZ b\xff\x00ase64!".encode("latin-1"))
        assert isinstance(message.get_content_bytes(), bytes)
        assert isinstance(message.text, str)

    def test_the_caller_may_know_better(self) -> None:
        message = PARSE(b"Content-Type: text/plain; charset=utf-8\n\nGr\xfc\xdfe")
        assert message.get_content_text("latin-1") == "Grüße"

    FILENAMES: dict[str, str] = {
        'filename="a.txt"': "a.txt",
        "filename*=utf-8''k%C3%A4se.csv": "käse.csv",
        'filename*0="a b"; filename*1="c.txt"': "a bc.txt",
        'filename="=?utf-8?q?k=C3=A4se?=.csv"': "käse.csv",
        'filename="../../etc/passwd"': "passwd",
    }

    @pytest.mark.parametrize(("parameter", "expected"), FILENAMES.items())
    def test_filenames(self, parameter: str, expected: str) -> None:
        assert one_header(f"Content-Disposition: attachment; {parameter}").get_filename() == expected


SAFE: dict[str | None, str] = {
    None: "attachment",
    "": "attachment",
    "a.txt": "a.txt",
    "../../x": "x",
    "..": "attachment",
    "/etc/passwd": "passwd",
    "C:\\dir\\x.txt": "x.txt",
    "C:x.txt": "x.txt",
    "a\0b\r\n.txt": "ab.txt",
    "CON": "_CON",
    "com1.txt": "_com1.txt",
    "photo\u202egnp.exe": "photognp.exe",
    " . ": "attachment",
    "x" * 5_000 + ".pdf": "x" * 251 + ".pdf",
    "NUL .txt": "_NUL .txt",
    "conin$": "_conin$",
}


@pytest.mark.parametrize(("name", "expected"), SAFE.items(), ids=lambda name: repr(name)[:20])
def test_safe_filename(name: str | None, expected: str) -> None:
    assert safe_filename(name) == expected


@given(st.text())
def test_any_name_becomes_a_safe_one(name: str) -> None:
    safe = safe_filename(name)
    assert 0 < len(safe.encode()) <= 255
    assert not set("/\\:\0\r\n") & set(safe)
    assert safe not in (".", "..")


def nested(depth: int) -> bytes:
    return b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (level, level) for level in range(depth)
    )


def enclosed(depth: int) -> bytes:
    return b"Content-Type: message/rfc822\n\n" * depth


TOO_MUCH = {
    "extended boundary": b"Content-Type: multipart/mixed; boundary*=''b\n\n" + b"--b\n\nx\n" * 50_000,
    "extended boundaries": b"".join(
        b"Content-Type: multipart/mixed; boundary*=us-ascii''b%d\n\n--b%d\n" % (n, n) for n in range(3_000)
    ),
    "other messages": b"Content-Type: message/x\n\n" * 3_000,
    "parts": b'Content-Type: multipart/mixed; boundary="b"\n\n' + b"--b\n\nx\n" * 50_000,
    "depth": nested(1_000),
    "enclosed": enclosed(1_000),
    "header": b"X: " + b"y" * 100_000_000,
    "headers": b"X: y\n" * (MAX_HEADER_BYTES // 5 + 1),
}


@pytest.mark.parametrize("source", TOO_MUCH.values(), ids=TOO_MUCH.keys())
def test_too_much_is_refused(source: bytes) -> None:
    with pytest.raises(AnymailInboundLimitError, match="refused"):
        PARSE(source)


@pytest.mark.parametrize(
    "source",
    [nested(90), enclosed(90), b'Content-Type: multipart/mixed; boundary="b"\n\n' + b"--b\n\nx\n" * (MAX_PARTS - 2)],
    ids=["depth", "enclosed", "parts"],
)
def test_much_is_read(source: bytes) -> None:
    message = PARSE(source)
    assert message.html is None
    assert isinstance(message.attachments, list)
    assert sum(1 for _ in message.walk()) >= 90


HARD = ["(", '"', "=?", "<", ",", "a ", "\\", ";a=b", "=?utf-8?q?a?= ", "[", "x;"]


@pytest.mark.parametrize("unit", HARD)
@pytest.mark.parametrize("name", ["To", "Subject", "Content-Type", "Content-Disposition", "Content-ID", "Date"])
def test_hard_headers_are_read_in_linear_time(name: str, unit: str) -> None:
    # A superlinear reader would not come back: there is no clock to assert.
    everything_works(PARSE(f"{name}: {unit * (200_000 // len(unit))}\n\nx".encode()))


PROPERTIES = [
    name
    for name, value in vars(AnymailInboundMessage).items()
    if isinstance(value, property) and name != "inline_attachments"
]


def everything_works(message: AnymailInboundMessage) -> None:
    for name in PROPERTIES:
        getattr(message, name)
    for text in (message.text, message.html, message.subject, *(one.display_name for one in message.to)):
        assert "\0" not in (text or "")
        (text or "").encode()
    for part in message.walk():
        assert isinstance(part, AnymailInboundMessage)
        assert isinstance(part.get_content_bytes(), bytes)
        assert isinstance(part.get_content_text(), str)
        assert part.as_uploaded_file().name
        assert isinstance(part.as_bytes(), bytes)
        assert isinstance(part.as_string(), str)
        for method in (
            part.is_inline, part.is_attachment, part.items, part.values, part.get_content, part.get_boundary,
            part.get_charsets, part.get_params, part.get_content_disposition, part.get_filename, part.get_body,
        ):  # fmt: skip
            method()
        [str(value) for value in part.values()]
        list(part.iter_attachments())
        list(part.iter_parts())
        part.get_payload(decode=True)


@given(st.binary(max_size=2_000))
def test_any_bytes_are_read_or_refused(source: bytes) -> None:
    everything_works(PARSE(source))


LINES = [
    b"From: =?utf-8?b?x?= <a@b>", b"To: a@b, ;(", b"Subject: =?x?q?=FF?=", b"Content-Type: multipart/mixed; boundary=b",
    b'Content-Type: text/plain; charset="\xff"', b"Content-Type: message/rfc822", b"Content-Type: a/b; c*=x'y'%zz",
    b"Content-Transfer-Encoding: base64", b"Content-Transfer-Encoding: quoted-printable", b"Content-ID: <\xe9>",
    b"Content-Disposition: attachment; filename*0*=utf-8''%E9; filename*1=b", b"", b"--b", b"--b--", b"=FF=zz", b"\0",
    b"Date: 1", b" folded", b"Content-Type: message/delivery-status", b"Content-Type: multipart/digest; boundary=b",
]  # fmt: skip


INSERTED = [
    b"\0", b"\xff", b"\r", b"\n", b'"', b"'", b"=?utf-8?q?", b"?=", b"<", b">", b"(", b"@", b";", b":", b"--", b"*",
    b"%zz",
    b'charset="utf-8\0"', "=?utf-é?q?B?=".encode(), b"message/rfc822", b"\xed\xa0\x80", b"filename*=utf-8\0''x", b"",
]  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, len(RICH)), st.integers(0, 20), st.sampled_from(INSERTED)), max_size=8))
def test_a_mail_that_was_damaged_is_kept_as_it_came(changes: list[tuple[int, int, bytes]]) -> None:
    source = bytearray(RICH)
    for at, removed, inserted in changes:
        source[at : at + removed] = inserted
    message = PARSE(bytes(source))
    everything_works(message)
    assert message.as_bytes() == bytes(source)
    message["X-New"] = "1"
    assert b"X-New: 1" in message.as_bytes()


@given(st.lists(st.sampled_from(LINES), max_size=25), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_mail_is_read_or_refused(lines: list[bytes], end: bytes) -> None:
    everything_works(PARSE(end.join(lines)))


class TestConstructing:
    def test_from_what_an_esp_parsed(self) -> None:
        attach = AnymailInboundMessage.construct_attachment
        message = AnymailInboundMessage.construct(
            raw_headers="Received: by mx\nX-Long: a\n b\nContent-Type: multipart/x; boundary=old\nSubject: old\n",
            from_email="Zoë Kim <zoe@example.net>",
            to='"Help, Desk" <help@example.com>, team@example.org',
            subject="Grüße an Ana",
            headers=[("Message-ID", "<a@b>"), ("X-Twice", "1"), ("X-Twice", "2")],
            text="Grüße",
            html="<p>Grüße",
            attachments=[
                attach("image/png", b"\x89PNG", content_id="logo@example.net"),
                attach("text/csv", "käse", filename="käse.csv"),
            ],
        )
        assert str(message.from_email) == "Zoë Kim <zoe@example.net>"
        assert [one.display_name for one in message.to] == ["Help, Desk", ""]
        assert (message.subject, message["X-Long"], message.get_all("X-Twice")) == ("Grüße an Ana", "a b", ["1", "2"])
        assert (message.text, message.html) == ("Grüße", "<p>Grüße")
        [table] = message.attachments
        assert (table.get_filename(), table.get_content_text()) == ("käse.csv", "käse")
        assert list(message.content_id_map) == ["logo@example.net"]
        again = PARSE(message.as_bytes())
        assert (again.text, again.html, again.subject) == (message.text, message.html, message.subject)
        assert [one.get_content_bytes() for one in again.attachments] == ["käse".encode()]

    def test_the_least(self) -> None:
        message = AnymailInboundMessage.construct(text="Hello")
        assert (message.text, message.html, message.get_content_type()) == ("Hello", None, "text/plain")
        nothing = AnymailInboundMessage.construct()
        assert (nothing.text, nothing.html, nothing.attachments) == (None, None, [])

    def test_no_header_is_forged(self) -> None:
        headers = {"X-A": "b\nX-C: d", "X-B\nBcc": "y"}
        message = AnymailInboundMessage.construct(subject="a\r\nBcc: x@example.com", headers=headers)
        assert message["Bcc"] is None
        assert message["X-C"] is None
        assert b"\nBcc" not in message.as_bytes()

    ATTACHMENTS: dict[str, tuple[dict[str, Any], bytes, str]] = {
        "bytes": ({"content": b"\0\xff"}, b"\0\xff", "application/pdf"),
        "text": ({"content": "ü"}, "ü".encode(), "application/pdf"),
        "charset": ({"content": "ü", "charset": "latin-1"}, b"\xfc", "application/pdf"),
        "unknown charset": ({"content": "ü", "charset": "x-unknown"}, "ü".encode(), "application/pdf"),
        "base64": ({"content": "AAH/", "base64": True}, b"\0\1\xff", "application/pdf"),
        "broken base64": ({"content": b"AA H/\n=!", "base64": True}, b"\0\1\xff", "application/pdf"),
        "no type": ({"content": b"x", "content_type": ""}, b"x", "application/octet-stream"),
    }

    @pytest.mark.parametrize(("given", "content", "kind"), ATTACHMENTS.values(), ids=ATTACHMENTS.keys())
    def test_attachments(self, given: dict[str, Any], content: bytes, kind: str) -> None:
        part = AnymailInboundMessage.construct_attachment(**{"content_type": "application/pdf", **given})
        assert (part.get_content_bytes(), part.get_content_type()) == (content, kind)
        assert part.is_attachment()

    def test_an_uploaded_file(self) -> None:
        file = SimpleUploadedFile("käse.csv", "ä".encode(), "text/csv")
        part = AnymailInboundMessage.construct_attachment_from_uploaded_file(file, content_id="<a@b>")
        assert (part.get_filename(), part.get_content_text(), part.content_id) == ("käse.csv", "ä", "a@b")
        assert part.is_inline()

    @given(st.text(), st.text(), st.binary(max_size=500), st.text(max_size=50))
    def test_what_is_constructed_is_read_back(self, text: str, subject: str, content: bytes, name: str) -> None:
        part = AnymailInboundMessage.construct_attachment("application/pdf", content, filename=name or "x")
        message = AnymailInboundMessage.construct(subject=subject, text=text, html=text, attachments=[part])
        [attachment] = message.attachments
        assert attachment.get_content_bytes() == content
        kept = text.encode("utf-8", "replace").decode().replace("\r\n", "\n").replace("\0", "\ufffd")
        assert message.text == message.html == kept.removeprefix("\ufeff")
        everything_works(message)


def test_a_long_body_without_a_header_is_no_long_header() -> None:
    assert PARSE(b"Hello\n" + b"x" * 5_000_000).text == "Hello\n" + "x" * 5_000_000


def test_a_byte_order_mark_is_no_header() -> None:
    assert PARSE(b"\xef\xbb\xbfSubject: Hi\n\nHello").subject == "Hi"


def test_it_is_pythons_message() -> None:
    message = PARSE(RICH)
    assert isinstance(message, EmailMessage)
    assert message.get_body(("plain",)) is not None
    assert [part.get_content_type() for part in message.iter_attachments()] == ["text/csv", "message/rfc822"]
    assert b"Subject: =?utf-8?b?" in message.as_bytes()


def test_a_subject_of_very_many_encoded_words_is_read_in_good_time() -> None:
    begun = time.perf_counter()
    assert PARSE(b"Subject: " + b"=?utf-8?q?a?= " * 70_000 + b"\n\n").subject
    assert time.perf_counter() - begun < 2
