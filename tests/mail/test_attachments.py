"""What ESPs that know no charset are given of a text."""

from __future__ import annotations

from email.mime.text import MIMEText
from typing import Any

import pytest

from anymail.mail.attachments import attachment

TEXT = "naïve"
LATIN, UTF8 = TEXT.encode("latin-1"), TEXT.encode()


@pytest.mark.parametrize(
    ("item", "content"),
    [
        (("a.txt", TEXT, "text/plain"), UTF8),
        (("a.txt", LATIN, "text/plain; charset=iso-8859-1"), UTF8),
        (MIMEText(TEXT, "plain", "iso-8859-1"), UTF8),
        (("a.txt", UTF8, "text/plain"), UTF8),
        (("a.txt", LATIN, "text/plain"), LATIN),
        (("a.txt", LATIN, "text/plain; charset=klingon"), LATIN),
        (("a.bin", LATIN, "application/x-text; charset=iso-8859-1"), LATIN),
    ],
)
def test_in_utf8(item: Any, content: bytes) -> None:
    assert attachment(item, "attachments[0]").utf8_content == content
