"""Attachments: their types and charsets, their names, and what kind of image they are."""

from __future__ import annotations

import re
from email.message import MIMEPart
from email.mime.text import MIMEText
from typing import Any

import pytest

from anymail.mail.attachments import Attachment, attachment, extension_of, image_type
from support import PNG

TEXT = "naïve"
LATIN, UTF8 = TEXT.encode("latin-1"), TEXT.encode()
UTF8_TYPE = 'text/plain; charset="utf-8"'


def read(item: Any) -> Attachment:
    return attachment(item, "attachments[0]")


@pytest.mark.parametrize(
    ("item", "content", "content_type"),
    [
        (("a.txt", TEXT, "text/plain"), UTF8, UTF8_TYPE),
        (("a.txt", LATIN, "text/plain; charset=iso-8859-1"), UTF8, UTF8_TYPE),
        (MIMEText(TEXT, "plain", "iso-8859-1"), UTF8, UTF8_TYPE),
        (("a.txt", UTF8, "text/plain"), UTF8, UTF8_TYPE),
        (("a.txt", LATIN, "text/plain"), LATIN, "text/plain"),
        (("a.txt", LATIN, "text/plain; charset=klingon"), LATIN, "text/plain; charset=klingon"),
        (
            ("a.bin", LATIN, "application/x-text; charset=iso-8859-1"),
            LATIN,
            "application/x-text; charset=iso-8859-1",
        ),
    ],
)
def test_in_utf8(item: Any, content: bytes, content_type: str) -> None:
    """What ESPs that know no charset, or label every text as UTF-8, are given."""
    one = read(item)
    assert one.utf8_content == content
    assert (one.in_utf8.content, one.in_utf8.content_type) == (content, content_type)


def calendar(content_type: str) -> MIMEPart:
    part = MIMEPart()
    part.set_payload("BEGIN")
    part["Content-Type"] = content_type
    return part


# An attachment, and its type with all that a reader of the text needs.
TYPES: dict[str, tuple[Any, str]] = {
    "text": (("a.txt", TEXT, "text/plain"), UTF8_TYPE),
    "a parameter": (
        ("a.ics", "BEGIN", "text/calendar; method=REQUEST"),
        'text/calendar; method=REQUEST; charset="utf-8"',
    ),
    "another parameter": (
        ("a.txt", TEXT, "text/plain; format=flowed"),
        'text/plain; format=flowed; charset="utf-8"',
    ),
    "its charset": (("a.txt", TEXT, "text/plain; charset=UTF-8"), "text/plain; charset=UTF-8"),
    "a charset that is not its own": (
        ("a.ics", TEXT, 'text/calendar; charset="iso-8859-1"; method=REQUEST'),
        'text/calendar; method=REQUEST; charset="utf-8"',
    ),
    "bytes": (("a.ics", b"BEGIN", "text/calendar; method=REQUEST"), 'text/calendar; method=REQUEST; charset="utf-8"'),
    "bytes in their charset": (
        ("a.txt", LATIN, "text/plain; charset=iso-8859-1"),
        "text/plain; charset=iso-8859-1",
    ),
    "bytes in who knows what": (("a.txt", LATIN, "text/plain"), "text/plain"),
    "in capitals": (("a.ics", "BEGIN", "TEXT/Calendar"), 'TEXT/Calendar; charset="utf-8"'),
    "a part of Python's": (
        calendar("text/calendar; method=REQUEST"),
        'text/calendar; method="REQUEST"; charset="utf-8"',
    ),
    "a parameter with quotes": (
        calendar(r'text/calendar; x="a\"b"'),
        r'text/calendar; x="a\"b"; charset="utf-8"',
    ),
    "no text": (("a.json", "{}", "application/json; x=1"), "application/json; x=1"),
}  # fmt: skip


@pytest.mark.parametrize(("item", "content_type"), TYPES.values(), ids=TYPES.keys())
def test_a_text_has_its_charset(item: Any, content_type: str) -> None:
    one = read(item)
    assert one.content_type == content_type
    assert one.mimetype == content_type.partition(";")[0].lower()
    if charset := re.search('charset="?([a-z0-9-]+)', content_type, re.IGNORECASE):
        assert one.content.decode(charset[1])
        assert one.charset == charset[1].lower()


@pytest.mark.parametrize(
    ("item", "name"),
    [
        (("a.bin", b"x", "text/plain"), "a.bin"),
        ((None, b"x", "application/pdf"), "attachment.pdf"),
        (("", "x", "TEXT/Calendar; method=REQUEST"), "attachment.ics"),
        ((None, b"x", "message/rfc822"), "attachment.eml"),
        ((None, b"x", "image/jpeg"), "attachment.jpg"),
        ((None, b"x", "application/x-shop"), "attachment"),
        ((None, b"x", None), "attachment"),
    ],
)
def test_a_name_where_one_is_needed(item: Any, name: str) -> None:
    assert read(item).name_or_default == name


def test_no_extension_is_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mimetypes.guess_extension", lambda *args: ".host")
    assert (extension_of("text/html"), extension_of("chemical/x-pdb")) == (".html", "")


SVG = b"<svg xmlns='http://www.w3.org/2000/svg'/>"
DOCTYPE = b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "svg11.dtd" [<!ENTITY a "b>">]>'

# Content, the name of its file, and the type.
IMAGES: dict[str, tuple[bytes, str, str | None]] = {
    "png": (PNG, "", "image/png"),
    "png under a wrong name": (PNG, "photo.jpg", "image/png"),
    "png called text": (PNG, "logo.txt", "image/png"),
    "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF", "", "image/jpeg"),
    "gif": (b"GIF89a\1\0", "", "image/gif"),
    "old gif": (b"GIF87a\1\0", "", "image/gif"),
    "webp": (b"RIFF\x24\0\0\0WEBPVP8 ", "", "image/webp"),
    "a sound": (b"RIFF\x24\0\0\0WAVEfmt ", "", None),
    "bmp": (b"BM\x3a\0\0\0", "", "image/bmp"),
    "tiff, little-endian": (b"II*\0\x08\0\0\0", "", "image/tiff"),
    "tiff, big-endian": (b"MM\0*\0\0\0\x08", "", "image/tiff"),
    "avif": (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "", "image/avif"),
    "avif among others": (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "", "image/avif"),
    "a film": (b"\0\0\0\x18ftypisom\0\0\0\0isommp41avif", "", None),
    "ico": (b"\0\0\1\0\1\0\x10\x10", "", "image/vnd.microsoft.icon"),
    "svg": (SVG, "", "image/svg+xml"),
    "svg with all before it": (
        b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- <a> -->\n" + DOCTYPE + b"\n<!----> " + SVG,
        "",
        "image/svg+xml",
    ),
    "svg with a prefix": (b"<s:svg xmlns:s='http://www.w3.org/2000/svg'/>", "", "image/svg+xml"),
    "html with an svg": (b"<!DOCTYPE html><html><svg/></html>", "", None),
    "an open comment": (b"<!-- <svg/>", "", None),
    "an open doctype": (b"<!DOCTYPE svg [", "", None),
    "a name that says image": (b"?", "Logo.JPEG", "image/jpeg"),
    "a name that says svg": (b"?", "logo.svg", "image/svg+xml"),
    "a name that says something else": (b"?", "logo.txt", None),
    "nothing": (b"", "", None),
}


@pytest.mark.parametrize(("content", "name", "mimetype"), IMAGES.values(), ids=IMAGES.keys())
def test_what_kind_of_image(content: bytes, name: str, mimetype: str | None) -> None:
    assert image_type(content, name) == mimetype


@pytest.mark.parametrize("content", [b"<!--" * 50_000, b"<!---->" * 20_000, b"<?" * 50_000, b"<!DOCTYPE" * 20_000])
def test_wild_content_is_read_in_linear_time(content: bytes) -> None:
    # A quadratic reader would take minutes: there is no clock to assert.
    assert image_type(content) is None
