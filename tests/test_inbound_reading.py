"""Received mail as senders write it, right or wrong, and what they meant."""

from __future__ import annotations

import base64
import datetime as dt
import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from anymail.exceptions import AnymailDeprecationWarning
from anymail.inbound import AnymailInboundMessage

PARSE = AnymailInboundMessage.parse_raw_mime_bytes
SAMPLES = Path(__file__).parent / "inbound_samples"


def samples(name: str) -> list[Any]:
    found: list[Any] = json.loads((SAMPLES / f"{name}.json").read_text("utf-8"))
    return found


def parts(*contents: str, kind: str = "mixed", boundary: str = "B") -> bytes:
    body = "".join(f"--{boundary}\n{content}\n" for content in contents)
    return f"Content-Type: multipart/{kind}; boundary={boundary}\n\n{body}--{boundary}--\n".encode()


class TestSamples:
    @pytest.mark.parametrize("sample", samples("addresses"), ids=lambda one: one["to"])
    def test_addresses(self, sample: dict[str, Any]) -> None:
        found = PARSE(f"To: {sample['to']}\n\n".encode()).to
        assert [one.addr_spec for one in found] == [spec for _, spec in sample["addresses"]]
        for one, (name, _) in zip(found, sample["addresses"], strict=True):
            assert name in ("*", one.display_name)

    @pytest.mark.parametrize("sample", samples("charsets"), ids=lambda one: one["charset"])
    def test_charsets(self, sample: dict[str, Any]) -> None:
        charset, content = sample["charset"], sample["body_base64"]
        body = f"Content-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: base64\n\n{content}"
        assert PARSE(body.encode()).text == sample["text"]
        assert PARSE(f"Subject: =?{charset}?B?{content}?=\n\n".encode()).subject == sample["text"]

    @pytest.mark.parametrize("sample", samples("content_types"), ids=lambda one: one["content_type"])
    def test_content_types(self, sample: dict[str, Any]) -> None:
        html = PARSE(base64.b64decode(sample["message_base64"])).html
        assert html is not None
        assert html.strip() == sample["html"]

    @pytest.mark.parametrize("sample", samples("filenames"), ids=lambda one: one["filename"])
    def test_filenames(self, sample: dict[str, Any]) -> None:
        disposition = sample["content_disposition"]
        header = f"Content-Disposition: {disposition}\r\n" if disposition else ""
        message = PARSE(f"Content-Type: {sample['content_type']}\r\n{header}\r\nx".encode())
        assert message.get_filename() == sample["filename"]


FROM: dict[str | bytes, tuple[str, str]] = {
    "ceo@bank.example <attacker@evil.example>": ("ceo@bank.example", "attacker@evil.example"),
    "<ceo@bank.example> <attacker@evil.example>": ("<ceo@bank.example>", "attacker@evil.example"),
    "=?utf-8?q?ceo=40bank.example_=3Cceo=40bank.example=3E?= <a@evil.example>": (
        "ceo@bank.example <ceo@bank.example>",
        "a@evil.example",
    ),
    '"ceo@bank.example x"@evil.example': ("", '"ceo@bank.example x"@evil.example'),
    "foo@bar.com <foo@bar.com>": ("foo@bar.com", "foo@bar.com"),
    "ceo@bank.example via Forms <forms@saas.example>": ("ceo@bank.example via Forms", "forms@saas.example"),
    "Doe, John <john@example.com>": ("Doe, John", "john@example.com"),
    "Bob <mailto:b@example.com>": ("Bob", "b@example.com"),
    "'b@example.com'": ("", "b@example.com"),
    "b@example.com (Bob)": ("Bob", "b@example.com"),
    "=?utf-é?q?Bob?= <b@example.com>": ("Bob", "b@example.com"),
    "=?utf-8?q?Bob_<b@example.com>?=": ("Bob", "b@example.com"),
    "Größe <a@b.de>": ("Größe", "a@b.de"),
    "Größe <a@b.de>".encode("latin-1"): ("Größe", "a@b.de"),
}


@pytest.mark.parametrize(("value", "expected"), FROM.items(), ids=lambda one: str(one)[:40])
def test_who_wrote_it(value: str | bytes, expected: tuple[str, str]) -> None:
    message = PARSE(b"From: " + (value.encode() if isinstance(value, str) else value) + b"\n\n")
    sender = message.from_email
    assert sender is not None
    assert (sender.display_name, sender.addr_spec) == expected
    assert [one.addr_spec for one in message["From"].addresses] == [expected[1]]


REPORT = """\
This is the mail server.
--B
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.com

Final-Recipient: rfc822; <a@example.com>
Action: failed
Status: 5.1.1 (no such user)
Diagnostic-Code: smtp; 550 5.1.1 User
 unknown

Final-Recipient: rfc822; b@example.com
Action: delayed
Status: 4.2.2"""


class TestReports:
    MESSAGE = parts(f"\n{REPORT}", kind="report")

    def test_recipients(self) -> None:
        report = PARSE(self.MESSAGE).delivery_report
        assert report is not None
        assert report.reporting_mta == "mx.example.com"
        assert [(one.address, one.action, one.status, one.diagnostic) for one in report.recipients] == [
            ("a@example.com", "failed", "5.1.1", "550 5.1.1 User unknown"),
            ("b@example.com", "delayed", "4.2.2", None),
        ]

    def test_the_part_is_given_whole(self) -> None:
        [status] = PARSE(self.MESSAGE).attachments
        assert status.get_content_bytes().decode() == REPORT.partition("delivery-status\n\n")[2]
        assert [block["Action"] for block in status.get_payload()] == [None, "failed", "delayed"]

    def test_none(self) -> None:
        assert PARSE(b"Subject: x\n\nx").delivery_report is None

    AUTOMATIC: dict[str, bool] = {
        "Auto-Submitted: auto-replied": True,
        "Auto-Submitted: no": False,
        "X-Autoreply: yes": True,
        "Precedence: auto_reply": True,
        "Precedence: list": False,
        "Return-Path: <>": True,
        "Subject: Re: Auto-Submitted": False,
        "Content-Type: multipart/report; boundary=x": True,
    }

    @pytest.mark.parametrize(("header", "expected"), AUTOMATIC.items())
    def test_automatic_replies(self, header: str, expected: bool) -> None:
        assert PARSE(f"{header}\n\nx".encode()).is_auto_reply is expected


INNER = (
    b"Subject: Inner\r\nList-Unsubscribe: <https://example.com/" + b"y" * 200 + b">\nX: \xff\n\n"
    b"caf\xe9\n" + b"z" * 1_200
)


class TestAttachedMessages:
    SOURCE = parts("\nhello", "Content-Type: message/rfc822\n\n@").replace(b"@", INNER)

    def test_bytes_are_what_came_in(self) -> None:
        message = PARSE(self.SOURCE)
        assert message.as_bytes() == bytes(message) == self.SOURCE
        assert message.attachments[0].get_content_bytes() == INNER

    def test_also_when_the_message_around_is_changed(self) -> None:
        message = PARSE(self.SOURCE)
        message["X-New"] = "1"
        assert b"\nX-New: 1\n" in message.as_bytes()
        assert INNER in message.as_bytes()
        assert PARSE(message.as_bytes()).text == "hello"

    @pytest.mark.parametrize("encoding", ["7bit", "base64"])
    def test_it_is_a_message(self, encoding: str) -> None:
        content = base64.encodebytes(INNER) if encoding == "base64" else INNER
        header = f"Content-Type: message/rfc822\nContent-Transfer-Encoding: {encoding}\n\n"
        part = PARSE(header.encode() + content)
        assert part.get_payload(0)["Subject"] == part.get_content()["Subject"] == "Inner"
        assert part.get_content_bytes() == INNER

    def test_a_constructed_one(self) -> None:
        part = AnymailInboundMessage.construct_attachment("message/rfc822", INNER)
        assert part.get_payload(0).subject == part.get_content().subject == "Inner"
        assert part.get_content_bytes() == INNER
        whole = AnymailInboundMessage.construct(text="x", attachments=[part])
        assert PARSE(whole.as_bytes()).attachments[0].get_content_bytes() == INNER

    def test_attachments_within(self) -> None:
        inner = parts("\nx", "Content-Type: image/png\nContent-ID: <i>\n\nP", "Content-Type: a/b\n\nA", boundary="C")
        message = PARSE(parts("\nhello", "Content-Type: message/rfc822\n\n@").replace(b"@", inner))
        assert [one.get_content_type() for one in message.attachments] == ["message/rfc822", "a/b"]
        assert [one.content_id for one in message.inlines] == list(message.content_id_map) == ["i"]


class TestLimits:
    def test_forwarded_messages_are_not_nested_in_each_other(self) -> None:
        one = parts("\nx", "Content-Type: text/html\n\n<p>", kind="alternative").decode()
        message = PARSE(parts(*[f"Content-Type: message/rfc822\n\n{one}"] * 150, boundary="outer"))
        assert len(message.attachments) == 150

    def test_the_word_boundary_is_only_a_word(self) -> None:
        assert PARSE(b"Subject: x\n\n" + b'boundary="x"\n' * 5_000).text == 'boundary="x"\n' * 5_000


HEADERS: dict[str, bytes] = {
    "unindented continuation": b"X-Spam: yes,\nbecause of this\nSubject: x\n",
    "blank before the colon": b"Subject : x\n",
    "mbox line": b"From a@b Thu Mar  5 14:20:28 2026\nSubject: x\n",
    "quoted mbox line": b">From a@b Thu Mar  5 14:20:28 2026\nSubject: x\n",
    "leading blank": b" Subject: x\n",
    "leading blank line": b"\nSubject: x\n",
    "quoted mbox line within": b"X-A: b\n>From a@b Thu Mar\nSubject: x\n",
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
def test_broken_headers(header: bytes) -> None:
    message = PARSE(header + b"To: a@example.com\n\nbody")
    assert (message.subject, [one.addr_spec for one in message.to], message.text) == ("x", ["a@example.com"], "body")


CONTENT = bytes(range(200))
LINES = textwrap.wrap(base64.b64encode(CONTENT).decode(), 76)
BASE64: dict[str, tuple[list[str], bytes]] = {
    "right": (LINES, CONTENT),
    "without padding": ([*LINES[:-1], LINES[-1].rstrip("=")], CONTENT),
    "a character too many": ([*LINES, "A"], CONTENT),
    "a footer": ([*LINES, "", "_______", "A list footer, long enough to be taken for words", "Bye"], CONTENT),
    "more in the last line": ([*LINES[:-1], LINES[-1] + "junk"], CONTENT),
    "a letter in between": ([LINES[0], f"!{LINES[1]}", *LINES[2:]], CONTENT),
    "a damaged letter": (["*" + LINES[0][1:], *LINES[1:]], b"\0" + CONTENT[1:]),
}


@pytest.mark.parametrize(("lines", "expected"), BASE64.values(), ids=BASE64.keys())
def test_broken_base64(lines: list[str], expected: bytes) -> None:
    header = "Content-Type: a/b\nContent-Transfer-Encoding: base64\n\n"
    assert PARSE((header + "\n".join(lines)).encode()).get_content_bytes() == expected


class TestCharsets:
    LABELS: dict[str, tuple[bytes, str]] = {
        "ks_c_5601": (b"\x8cc", "똠"),
        "x-sjis": (b"\x87\x40", "①"),
        "cn-big5": (b"\xa4\xa4", "中"),
        "iso-8859-8-i": (b"\xe0", "א"),
        "'utf-8'": (b"\xc3\xa9", "é"),
        '"utf-8\0"': (b"\xc3\xa9", "é"),
        "us-ascii": (b"\xc3\xa9", "é"),
        "us-ascii (plain)": (b"\xe9", "é"),
        "hex": (b"\xc3\xa9", "é"),
        "iso-2022-kr": (b"\x1b$)C\x0eGQ\x0f", "한"),
        "utf-7": (b"+2AA-", "\ufffd"),
    }

    @pytest.mark.parametrize(("label", "sample"), LABELS.items())
    def test_labels(self, label: str, sample: tuple[bytes, str]) -> None:
        assert PARSE(f"Content-Type: text/plain; charset={label}\n\n".encode() + sample[0]).text == sample[1]

    @pytest.mark.parametrize("label", ["utf-8", "gb2312", "iso-2022-jp"])
    def test_strict(self, label: str) -> None:
        with pytest.raises(UnicodeDecodeError):
            PARSE(f"Content-Type: text/plain; charset={label}\n\n".encode() + b"a\xff").get_content_text(
                errors="strict"
            )

    def test_what_postgresql_would_refuse_is_replaced(self) -> None:
        message = PARSE(b"Subject: a=?utf-8?q?=00?=\nTo: =?utf-7?q?+2AA-?= <a@b.c>\n\na\0b")
        assert message.text == "a\ufffdb"
        assert "\0" not in (message.subject or "")
        message.to[0].display_name.encode()


SUBJECTS: dict[bytes, str] = {
    "Grüße =?utf-8?q?aus_K=C3=B6ln?=".encode(): "Grüße aus Köln",
    "Grüße".encode("latin-1"): "Grüße",
    "=?iso-8859-1?Q?Müller?=".encode(): "Müller",
    b"=?utf-8?b?w7w?= =?utf-8?q?broken =?utf-8?q?good?=": "ü =?utf-8?q?broken good",
    b"=?utf-8?b?w?= =?utf-8?b?7w=?=": "ü",
    b"=?utf-8?q?=C3?= =?utf-8?q?=BC?=": "ü",
    b"=?utf-8?q?What??=": "What?",
    b"=?utf-8*en?q?a?=": "a",
    b"x" * 1_500 + b" =?utf-8?q?=C3=BC?=": "x" * 1_500 + " ü",
}


@pytest.mark.parametrize(("value", "expected"), SUBJECTS.items(), ids=lambda one: str(one)[:30])
def test_subjects(value: bytes, expected: str) -> None:
    message = PARSE(b"Subject: " + value + b"\n\n")
    assert message.subject == message["Subject"] == expected


def test_a_raw_subject_is_in_the_charset_of_the_body() -> None:
    text = "朱镕基"
    source = b"Subject: " + text.encode("gbk") + b"\nContent-Type: text/plain; charset=gb2312\n\n"
    assert PARSE(source).subject == text


ZONE = dt.timezone(dt.timedelta(hours=2))
DATES: dict[str, dt.datetime] = {
    "Thu, 05 Mar 2026 14:20:28.5 +0200": dt.datetime(2026, 3, 5, 14, 20, 28, 500_000, ZONE),
    "2026-03-05T14:20:28+02:00": dt.datetime(2026, 3, 5, 14, 20, 28, tzinfo=ZONE),
    "2026-03-05 14:20:28Z": dt.datetime(2026, 3, 5, 14, 20, 28, tzinfo=dt.UTC),
    "Thu, 05 Mar 2026 14:20:28 (EET) +0200": dt.datetime(2026, 3, 5, 14, 20, 28, tzinfo=ZONE),
    "Thu, 05 Mar 2026 14:20:28 GMT+0200": dt.datetime(2026, 3, 5, 14, 20, 28, tzinfo=ZONE),
    "Thu, 05 Mar 2026 14:20:28 +02:00": dt.datetime(2026, 3, 5, 14, 20, 28, tzinfo=ZONE),
    "Thu, 05 Mar 2026 14:20:28": dt.datetime(2026, 3, 5, 14, 20, 28, tzinfo=dt.UTC),
    "Thu, 05 Mar 2026 14:20:28 +9999": dt.datetime(2026, 3, 5, 14, 20, 28, tzinfo=dt.UTC),
}


@pytest.mark.parametrize(("value", "expected"), DATES.items())
def test_dates(value: str, expected: dt.datetime) -> None:
    date = PARSE(f"Date: {value}\n\n".encode()).date
    assert date is not None
    assert (date, date.utcoffset()) == (expected, expected.utcoffset())


@pytest.mark.parametrize("boundary", ["a=b", "a:b", "a/b", "a?b", "a,b", "a'b", "a@b", "(ab)", "=_ab"])
def test_unquoted_boundaries(boundary: str) -> None:
    message = PARSE(parts("\nhi", "Content-Type: a/b\n\nx", boundary=boundary))
    assert (message.text, len(message.attachments)) == ("hi", 1)


FILENAMES: dict[str, str] = {
    "filename=a b [1].pdf": "a b [1].pdf",
    "filename=a (1).pdf; size=3": "a (1).pdf",
    'filename=""': "good.pdf",
    'filename="a\r\n b.pdf"': "a b.pdf",
    "filename*=utf-8\0''x.pdf": "x.pdf",
    "filename*\r=x.pdf": "x.pdf",
    'filename="C:\\\\dir\\\\x.pdf"': "x.pdf",
    "filename*0*=UTF-8''%E4%BD; filename*1*=%A0.pdf": "你.pdf",
    'filename="unterminated.pdf': "unterminated.pdf",
}


@pytest.mark.parametrize(("parameter", "expected"), FILENAMES.items())
def test_filenames(parameter: str, expected: str) -> None:
    source = f"Content-Type: a/b; name=good.pdf\r\nContent-Disposition: attachment; {parameter}\r\n\r\nx"
    assert PARSE(source.encode()).get_filename() == expected


IMAGE = "Content-Type: image/png\n\nP"
HTML = "Content-Type: text/html\n\n<p>html"
ALTERNATIVE = parts("\ntext", HTML, kind="alternative", boundary="A").decode()
FOOTER = '<div style="white-space: pre-wrap">a &lt; b</div>'
BODIES: dict[str, tuple[bytes, tuple[str | None, str | None, int, int]]] = {
    "text, image, text": (parts("\none", IMAGE, "\ntwo"), ("one\ntwo", None, 0, 1)),
    "a footer": (parts(ALTERNATIVE, "\na < b"), ("text\na < b", f"<p>html\n{FOOTER}", 0, 0)),
    "HTML and a footer": (parts(HTML, "\na < b"), ("html\na < b", f"<p>html\n{FOOTER}", 0, 0)),
    "text and HTML, mixed": (parts("\ntext", HTML), ("text", "<p>html", 0, 0)),
    "a text with a name": (b"Content-Type: text/plain; name=a.txt\n\nx", ("x", None, 0, 0)),
    "a text and one with a name": (parts("\nx", "Content-Type: text/plain; name=a.txt\n\ny"), ("x", None, 1, 0)),
    "one attachment": (b"Content-Type: application/pdf\n\nx", (None, None, 1, 0)),
    "a shared boundary": (
        parts(parts("\ntext", HTML, kind="alternative").decode(), "Content-Type: application/zip\n\nPK"),
        ("text", "<p>html", 1, 0),
    ),
    "a part after the end": (parts("\nx") + b"--B\nContent-Type: application/zip\n\nPK\n", ("x", None, 1, 0)),
    "no boundary": (parts("\nx", "Content-Type: a/b\n\ny").replace(b"; boundary=B", b""), ("x", None, 0, 0)),
    "no delimiter": (b"Content-Type: multipart/mixed; boundary=B\n\nx", ("x", None, 0, 0)),
}
BODIES["no boundary"] = (
    parts("\nx", "Content-Type: a/b\n\ny", boundary="=_12").replace(b"; boundary==_12", b""),
    ("x", None, 1, 0),
)


@pytest.mark.parametrize(("source", "expected"), BODIES.values(), ids=BODIES.keys())
def test_bodies(source: bytes, expected: tuple[str | None, str | None, int, int]) -> None:
    message = PARSE(source)
    assert (message.text, message.html, len(message.attachments), len(message.inlines)) == expected


def test_a_message_that_is_one_attachment_iterates_over_it() -> None:
    message = PARSE(b"Content-Type: application/pdf\n\nx")
    assert list(message.iter_attachments()) == [message]


def test_old_names() -> None:
    message = PARSE(parts("\nx", "Content-Type: image/png\nContent-ID: <i>\n\nP"))
    with pytest.warns(AnymailDeprecationWarning, match="content_id_map"):
        assert list(message.inline_attachments) == ["i"]
    with pytest.warns(AnymailDeprecationWarning, match="is_inline"):
        assert message.inlines[0].is_inline_attachment()


class TestReplies:
    TEXT = "Yes!\n\nOn Mon, Jan 5, 2026 at 10:00 AM Bob <b@example.com> wrote:\n> Shall we?\n"

    def test_nothing_is_thrown_away(self) -> None:
        message = PARSE(f"\n{self.TEXT}".encode())
        assert message.reply_text == "Yes!\n"
        assert message.quoted_text is not None
        assert f"{message.reply_text}\n{message.quoted_text}" == self.TEXT

    def test_without_a_quotation(self) -> None:
        message = PARSE(b"\nHello\n" * 3_000)
        assert (message.reply_text, message.quoted_text) == (message.text, "")

    def test_the_esp_knows_better(self) -> None:
        message = PARSE(f"\n{self.TEXT}".encode())
        message.stripped_text = "Yes!"
        assert message.reply_text == "Yes!"
        assert message.quoted_text == self.TEXT[4:]

    def test_threads(self) -> None:
        message = PARSE(b"Message-ID: <c@x>\nIn-Reply-To: <b@x>\nReferences: <a@x>\n <b@x> junk\n\n")
        assert (message.in_reply_to, message.references, message.thread_id) == ("b@x", ["a@x", "b@x"], "a@x")
        first = PARSE(b"Message-ID: <c@x>\n\n")
        assert (first.in_reply_to, first.references, first.thread_id) == (None, [], "c@x")
