"""Raw MIME: what an attachment is called cannot forge a header."""

from __future__ import annotations

from email import message_from_bytes
from email.mime.text import MIMEText

import pytest

from anymail.exceptions import AnymailInvalidValue
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
