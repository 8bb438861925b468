"""Addresses: what is read, what is refused, and that reading and writing agree."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from anymail.exceptions import AnymailInvalidAddress
from anymail.mail.addresses import EmailAddress, idna_encoder, parse_addresses


def pairs(value: Any, **kwargs: Any) -> list[tuple[str, str]]:
    return [(one.display_name, one.addr_spec) for one in parse_addresses(value, "to", **kwargs)]


READ: dict[str, list[tuple[str, str]]] = {
    "ana@example.net": [("", "ana@example.net")],
    " ana@example.net ": [("", "ana@example.net")],
    "<ana@example.net>": [("", "ana@example.net")],
    "Ana <ana@example.net>": [("Ana", "ana@example.net")],
    "Ana López<ana@example.net>": [("Ana López", "ana@example.net")],
    '"Orders, EU" <orders@example.com>': [("Orders, EU", "orders@example.com")],
    r'"Ana \"the\" \\ López" <ana@example.net>': [(r'Ana "the" \ López', "ana@example.net")],
    "O'Neil & Co. <o'neil+a=b@example.com>": [("O'Neil & Co.", "o'neil+a=b@example.com")],
    '"ana lópez"@example.net': [("", '"ana lópez"@example.net')],
    '"a@b"@example.net': [("", '"a@b"@example.net')],
    "ana@[192.0.2.1]": [("", "ana@[192.0.2.1]")],
    "josé@example.com": [("", "josé@example.com")],
    "ana@example.net, Bo <bo@example.org>": [("", "ana@example.net"), ("Bo", "bo@example.org")],
    "=?utf-8?q?=0A?= <ana@example.net>": [("=?utf-8?q?=0A?=", "ana@example.net")],
    "ana@bücher.example": [("", "ana@xn--bcher-kva.example")],
    "ana@Example.NET": [("", "ana@Example.NET")],
}


@pytest.mark.parametrize(("text", "expected"), [(t, e) for t, e in READ.items() if e])
def test_read(text: str, expected: list[tuple[str, str]]) -> None:
    assert pairs([text]) == expected


REFUSED = {
    "ana": 'no "@"',
    "ana@": "not of the form",
    "@example.net": "not of the form",
    "ana@example.net,": "missing at its end",
    "ana@example.net bo@example.org": "not of the form",
    "Orders, EU <orders@example.com>": 'needs double quotes, as in "Shop, Inc." <',
    "Ana <ana@example.net>, Orders, EU <orders@example.com>": "needs double quotes",
    "Orders (EU) <orders@example.com>": "needs double quotes",
    "ana@example.net (home)": "comments",
    "(a (nested) comment) ana@example.net": "comments",
    "friends: ana@example.net;": "groups",
    "undisclosed-recipients:;": 'no "@"',
    "<@relay.example:ana@example.net>": "routes",
    "ana..b@example.net": "dots",
    ".ana@example.net": "dots",
    "ana@example.net\nBcc: x@example.org": "control character",
    "ana@exam\rple.net": "control character",
    "ana\0@example.net": "control character",
    "Ana\x0b <ana@example.net>": "control character",
    "Ana\x85 <ana@example.net>": "control character",
    "Ana\u2028 <ana@example.net>": "control character",
    "ana@-bü.example": r'IDNA_ENCODER \("idna2008"\) cannot encode its domain',
    "ana@💩.example": "uts46",
    "ana@example.com＠bücher.example": "IDNA_ENCODER",
    'Ana "unclosed <ana@example.net>': "not of the form",
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.items())
def test_refused(text: str, reason: str) -> None:
    with pytest.raises(AnymailInvalidAddress, match=reason) as raised:
        pairs([text])
    assert str(raised.value).startswith("to[0] is not a valid email address: ")


@pytest.mark.parametrize("field", ["from_email", "to", "bcc"])
@pytest.mark.parametrize("text", ["secret@@example.net", "secret@geheim☃.example", "secret..@example.net"])
def test_no_address_is_shown(field: str, text: str) -> None:
    with pytest.raises(AnymailInvalidAddress) as raised:
        parse_addresses(["ana@example.net", text], field)
    assert str(raised.value).startswith(f"{field}[1] is not")
    assert not re.search("secret|geheim|example.net", str(raised.value))


def test_one_string_has_no_number() -> None:
    with pytest.raises(AnymailInvalidAddress, match=r"^from_email is not a valid"):
        parse_addresses("shop", "from_email")


@pytest.mark.parametrize("value", [None, [], "", [""], [None]])
def test_nothing(value: Any) -> None:
    assert pairs(value) == []


def test_lazy_strings_and_parsed_ones() -> None:
    assert pairs([gettext_lazy("Ana <ana@example.net>"), EmailAddress("Bo", "bo@example.org")]) == [
        ("Ana", "ana@example.net"),
        ("Bo", "bo@example.org"),
    ]


def test_not_a_string() -> None:
    with pytest.raises(AnymailInvalidAddress, match=r"^to\[0\] is not an email address but of type int"):
        pairs([7])


# A domain, as each encoder encodes it; None where it refuses.
IDNA: dict[str, tuple[str | None, str | None, str | None]] = {
    # idna2008, idna2003, uts46
    "faß.example": ("xn--fa-hia.example", "fass.example", "xn--fa-hia.example"),
    "ｅｘａｍｐｌｅ.com": ("example.com", "example.com", "example.com"),
    "ﬁn.example": ("fin.example", "fin.example", "fin.example"),
    "Bücher.EXAMPLE": ("xn--bcher-kva.example", "xn--bcher-kva.EXAMPLE", "xn--bcher-kva.example"),
    "bücher。example": ("xn--bcher-kva.example", "xn--bcher-kva.example", "xn--bcher-kva.example"),
    "xn--bcher-kva.Bücher.example": (
        "xn--bcher-kva.xn--bcher-kva.example",
        "xn--bcher-kva.xn--bcher-kva.example",
        "xn--bcher-kva.xn--bcher-kva.example",
    ),
    "i♥ny.example": (None, "xn--iny-zx5a.example", "xn--iny-zx5a.example"),
    "💩.la": (None, "xn--ls8h.la", "xn--ls8h.la"),
    "-ü.example": (None, "xn----eha.example", None),
    "a＠ü.example": (None, None, None),
    f"{'ü' * 60}.example": (None, None, None),
}


@pytest.mark.parametrize(("domain", "expected"), IDNA.items(), ids=ascii)
def test_idna_encoders(domain: str, expected: Any) -> None:
    for name, encoded in zip(("idna2008", "idna2003", "uts46"), expected, strict=True):
        if encoded is None:
            with pytest.raises(AnymailInvalidAddress, match="IDNA_ENCODER"):
                pairs([f"a@{domain}"], idna=idna_encoder(name))
        else:
            assert pairs([f"a@{domain}"], idna=idna_encoder(name)) == [("", f"a@{encoded}")], name
    assert pairs([f"a@{domain}"], idna=idna_encoder("none")) == [("", f"a@{domain}")]


def test_idna_2008_is_the_default() -> None:
    assert pairs(["Ana <a@ﬁn.example>"]) == [("Ana", "a@fin.example")]


@given(st.text(st.characters(exclude_characters='@<>,;:()[]\\"', exclude_categories=("Cc", "Cs", "Z")), min_size=1))
def test_what_uts46_encodes_is_a_domain(domain: str) -> None:
    try:
        [(_, spec)] = pairs([f"a@{domain}"], idna=idna_encoder("uts46"))
    except AnymailInvalidAddress:
        return
    assert spec.isascii()
    assert "@" not in spec.removeprefix("a@")


def test_idna_encoder_by_path_or_callable() -> None:
    assert idna_encoder("anymail.mail.addresses.keep_unicode")("ä") == "ä"
    assert idna_encoder(str.upper)("ä") == "Ä"
    with pytest.raises(ValueError, match="idna2008"):
        idna_encoder("idna2009")


def test_the_key_is_as_it_was_spelled() -> None:
    [address] = parse_addresses(["Ana@Bücher.example"], "to")
    assert address.key == "Ana@Bücher.example"
    assert (address.username, address.domain) == ("Ana", "xn--bcher-kva.example")


WRITTEN = {
    ("", "a@example.com"): "a@example.com",
    ("Ana", "a@example.com"): "Ana <a@example.com>",
    ("Orders, EU", "a@example.com"): '"Orders, EU" <a@example.com>',
    ('Ana "x" \\', "a@example.com"): r'"Ana \"x\" \\" <a@example.com>',
    ("Dr. López", "a@example.com"): '"Dr. López" <a@example.com>',
}


@pytest.mark.parametrize(("parts", "text"), WRITTEN.items())
def test_written(parts: tuple[str, str], text: str) -> None:
    assert str(EmailAddress(*parts)) == text
    assert pairs([text]) == [parts]


def test_written_in_ascii() -> None:
    assert EmailAddress("Ana López", "a@example.com").ascii_address == "=?utf-8?q?Ana_L=C3=B3pez?= <a@example.com>"
    long = EmailAddress("Ünïcödé, " * 20, "a@example.com").ascii_address
    assert long.isascii()
    assert all(len(word) <= 75 for word in long.split())


atoms = st.text("abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-/=?^_`{|}~", min_size=1, max_size=20)
names = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=40).map(
    lambda s: " ".join(s.split())
)


@given(names, atoms, atoms)
def test_what_is_written_is_read_back(name: str, username: str, domain: str) -> None:
    address = EmailAddress(name, f"{username}@{domain}")
    assert pairs([str(address)]) == [(name, f"{username}@{domain}")]
    assert pairs([f"{address}, {address}"]) == [(name, f"{username}@{domain}")] * 2


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse_addresses([text], "to")
    except AnymailInvalidAddress:
        return
    for address in found:
        assert "@" in address.addr_spec
        assert not set("\r\n\0") & set(str(address))


@pytest.mark.parametrize(
    "text",
    ["a" * 100_000, "(" * 100_000, '"' * 100_001, "a@b," * 25_000, "<" * 100_000, "a b " * 25_000, '"\\' * 50_000],
)
def test_wild_input_is_read_in_linear_time(text: str) -> None:
    # A quadratic or exponential parser would not come back: there is no clock to assert.
    with pytest.raises(AnymailInvalidAddress):
        parse_addresses([text], "to")
