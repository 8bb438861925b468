"""What an ESP declares, and what becomes of messages by it. The ESPs here are invented."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anymail.exceptions import AnymailSerializationError
from anymail.mail.message import OutgoingMail, outgoing_mail
from anymail.mail.supports import ALL_CONTENT, MANY, Supports, check, fit
from anymail.message import attach_inline_image
from support import PNG, mail, message

EVERYTHING: dict[str, Any] = {
    "from_emails": MANY, "to_header": True, "amp": True, "alternatives": True, "metadata": True, "tags": MANY,
    "template_id": True, "merge_data": True, "merge_global_data": True, "merge_metadata": True, "merge_headers": True,
}  # fmt: skip


def esp(**declared: Any) -> Supports:
    return Supports(**{**EVERYTHING, **declared})


def unsupported(one: OutgoingMail, **declared: Any) -> list[str]:
    supports = esp(**declared)
    return [each.what for each in check(fit(one, supports), supports)]


# What is asked for, what the ESP lacks, and the words for it.
NAMED: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "a calendar": (
        {"alternatives": [("BEGIN", "text/calendar; method=REQUEST")]},
        {"alternatives": False},
        ["alternative part with type 'text/calendar'"],
    ),
    "each type once": (
        {"alternatives": [("{}", "application/json"), ("1", "application/json"), ("#", "text/markdown")]},
        {"alternatives": False},
        ["alternative part with type 'application/json'", "alternative part with type 'text/markdown'"],
    ),
    "two HTML bodies": (
        {"alternatives": [("<p>", "text/html"), ("<b>", "text/html")]},
        {"alternatives": False},
        ["multiple html parts"],
    ),
    "two text bodies": (
        {"alternatives": [("More", "text/plain")]},
        {"alternatives": False},
        ["multiple text parts"],
    ),
    "AMP": (
        {"alternatives": [("<html amp4email>", "text/x-amp-html")]},
        {"amp": False},
        ["an AMP body"],
    ),
    "all that is lacking": (
        {"cc": ["a@example.com"], "tags": ["a", "b"], "metadata": {"a": 1}},
        {"cc": False, "tags": 1, "metadata": False},
        ["cc", "metadata", "multiple tags"],
    ),
}


@pytest.mark.parametrize(("attributes", "declared", "words"), NAMED.values(), ids=NAMED.keys())
def test_what_is_unsupported_is_named(attributes: Any, declared: Any, words: list[str]) -> None:
    assert unsupported(mail(**attributes), **declared) == words
    assert unsupported(mail(**attributes)) == []


NOTHING: dict[str, Any] = {"subject": "", "body": ""}
IMAGE = ("logo.png", PNG, "image/png")

# What stands beside a template: attributes, its name in beside_template, the words where the ESP has no use for it.
BESIDE: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "subject": ({"subject": "Hi"}, "subject", ["subject with template_id"]),
    "no subject": ({"subject": None}, "subject", []),
    "an empty subject": ({"subject": ""}, "subject", []),
    "text": ({"body": "Hello"}, "text", []),
    "html": ({"html": "<p>"}, "html", []),
    "amp": ({"alternatives": [("<html amp4email>", "text/x-amp-html")]}, "amp", []),
    "another body": (
        {"alternatives": [("BEGIN", "text/calendar")]},
        "alternatives",
        ["alternative part with type 'text/calendar' with template_id"],
    ),
    "attachments": ({"attach": [IMAGE]}, "attachments", ["attachments with template_id"]),
    "attachments, not images": ({"attach": [IMAGE]}, "inline", []),
    "extra headers": ({"headers": {"X-A": "1"}}, "headers", ["extra headers with template_id"]),
    "own headers": (
        {"merge_headers": {"ana@example.net": {"X-A": "1"}}},
        "merge_headers",
        ["merge_headers with template_id"],
    ),
    "a batch without own headers": ({"merge_headers": {}}, "merge_headers", []),
    "tags": ({"tags": ["receipt"]}, "tags", ["tags with template_id"]),
    "a To header": (
        {"headers": {"To": "all@example.com"}},
        "to_header",
        ["a To header in extra_headers with template_id"],
    ),
}


@pytest.mark.parametrize(("attributes", "name", "words"), BESIDE.values(), ids=BESIDE.keys())
def test_beside_a_template(attributes: Any, name: str, words: list[str]) -> None:
    without = {"beside_template": ALL_CONTENT - {name}}
    templated = mail(**{**NOTHING, **attributes, "template_id": "t"})
    assert unsupported(templated, **without) == words
    assert unsupported(templated) == []
    assert unsupported(mail(**{**NOTHING, **attributes}), **without) == []


def test_what_is_left_out_of_a_message_with_a_template() -> None:
    supports = esp(beside_template=frozenset({"subject", "html"}))
    one = mail(html="<p>", alternatives=[("<p>", "text/html"), ("<amp>", "text/x-amp-html")], template_id="t")
    kept = fit(one, supports)
    assert (kept.subject, kept.text, kept.html, kept.amp) == ("Hi", "", "<p>", None)
    assert (one.text, one.amp) == ("Hello", "<amp>")
    plain = mail(html="<p>")
    assert fit(plain, supports) is plain


def test_inline_images_beside_a_template() -> None:
    made = message(**NOTHING, template_id="t", attach=[IMAGE])
    attach_inline_image(made, PNG)
    one = outgoing_mail(made)
    supports = esp(beside_template=ALL_CONTENT - {"inline"})
    [found] = check(one, supports)
    assert found.what == "inline images with template_id"
    assert found.without is not None
    assert [each.name for each in found.without["attachments"]] == ["logo.png"]


# A value of metadata, and what an ESP that keeps texts is sent.
TEXTS: dict[str, tuple[Any, str]] = {
    "text": ("A-1042", "A-1042"),
    "an empty text": ("", ""),
    "a whole number": (7, "7"),
    "a large number": (10**20, "100000000000000000000"),
    "a number": (1.5, "1.5"),
    "true": (True, "true"),
    "false": (False, "false"),
}


@pytest.mark.parametrize(("value", "text"), TEXTS.values(), ids=TEXTS.keys())
def test_metadata_as_text(value: Any, text: str) -> None:
    one = mail(metadata={"k": value}, merge_metadata={"ana@example.net": {"k": value}})
    kept = fit(one, esp(metadata_values="text"))
    assert kept.metadata == {"k": text}
    assert kept.merge_metadata == {"ana@example.net": {"k": text}}
    assert fit(one, esp()).metadata == {"k": value}


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (None, "is None"),
        ({"a": 1}, "is of type dict"),
        ([1], "is of type list"),
        (float("nan"), "is nan"),
        (float("inf"), "is inf"),
        (object(), "is of type object"),
    ],
)
def test_metadata_that_is_no_text(value: Any, what: str) -> None:
    with pytest.raises(AnymailSerializationError, match=rf"metadata\['order'\] {what}"):
        fit(mail(metadata={"order": value}), esp(metadata_values="text"))
    with pytest.raises(AnymailSerializationError, match=rf"merge_metadata\[…\]\['order'\] {what}") as raised:
        fit(mail(merge_metadata={"ana@example.net": {"order": value}}), esp(metadata_values="text"))
    assert "ana@" not in str(raised.value)


scalars = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)


@given(scalars)
def test_metadata_as_text_is_json(value: Any) -> None:
    kept = fit(mail(metadata={"k": value}), esp(metadata_values="text"))
    assert json.loads(kept.metadata["k"]) == value
