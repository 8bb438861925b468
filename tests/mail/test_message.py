"""From a Django message to one with nothing left to guess."""

from __future__ import annotations

import copy
import datetime as dt
import pickle
from email.message import EmailMessage as PythonMessage
from email.message import MIMEPart
from email.mime.image import MIMEImage
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.mail import EmailMessage
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from anymail.exceptions import (
    AnymailInvalidAddress,
    AnymailInvalidValue,
    AnymailNotSupportedWarning,
    AnymailSerializationError,
)
from anymail.mail.message import OutgoingMail, outgoing_mail
from anymail.message import (
    AnymailMessage,
    AnymailMessageMixin,
    attach_inline_image,
    attach_inline_image_file,
    status_of,
)
from support import PNG, mail, message

UTC = dt.UTC


def with_defaults(defaults: dict[str, Any], **attributes: Any) -> OutgoingMail:
    return outgoing_mail(message(**attributes), defaults=defaults)


def specs(addresses: Any) -> list[str]:
    return [address.addr_spec for address in addresses]


class TestDefaults:
    """How an attribute of the message and a send default combine."""

    def test_an_attribute_never_set_leaves_the_default(self) -> None:
        defaults = {"tags": ["shop"], "track_opens": True, "metadata": {"a": 1}, "template_id": "t", "subject": "S"}
        one = with_defaults(defaults, subject="")
        assert (one.tags, one.track_opens, one.metadata) == (("shop",), True, {"a": 1})
        assert (one.template_id, one.subject) == ("t", "S")

    def test_merge_headers_are_merged_for_each_recipient(self) -> None:
        defaults = {"merge_headers": {"Ana@Example.net": {"X-A": "1", "X-B": "1"}, "bo@example.org": {"X-C": "1"}}}
        one = with_defaults(
            defaults,
            to=["ana@example.net", "bo@example.org", "cy@example.org"],
            merge_headers={"ana@example.net": {"x-b": "2"}},
        )
        assert one.batch is True
        assert {spec: dict(headers) for spec, headers in one.merge_headers.items()} == {
            "ana@example.net": {"X-A": "1", "x-b": "2"},
            "bo@example.org": {"X-C": "1"},
        }

    def test_an_empty_merge_dict_keeps_the_default(self) -> None:
        one = with_defaults({"merge_data": {"ana@example.net": {"a": 1}}}, merge_data={})
        assert one.merge_data == {"ana@example.net": {"a": 1}}
        assert with_defaults({"merge_data": {"ana@example.net": {"a": 1}}}, merge_data=None).batch is False

    def test_the_sender(self) -> None:
        defaults = {"from_email": "Shop <shop@example.org>"}
        default = with_defaults(defaults, from_email="from@example.com")
        assert (specs(default.from_email), default.from_is_default) == (["shop@example.org"], False)
        assert specs(with_defaults(defaults, from_email="own@example.com").from_email) == ["own@example.com"]
        assert with_defaults(defaults, from_email=None).from_email == ()
        assert specs(outgoing_mail(EmailMessage(), defaults=defaults).from_email) == ["shop@example.org"]

    def test_the_kind_of_body(self) -> None:
        defaults = {"content_subtype": "html"}
        assert (with_defaults(defaults).text, with_defaults(defaults).html) == ("", "Hello")
        assert with_defaults(defaults, content_subtype="plain").text == "Hello"

        class Markdown(EmailMessage):
            content_subtype = "markdown"

        [body] = outgoing_mail(Markdown(body="#"), defaults=defaults).alternatives
        assert body.mimetype == "text/markdown"

    def test_none_removes_the_default(self) -> None:
        defaults = {"tags": ["shop"], "track_opens": True, "metadata": {"a": 1}, "bcc": ["x@example.com"]}
        one = with_defaults(defaults, tags=None, track_opens=None, metadata=None, bcc=None)
        assert (one.tags, one.track_opens, one.metadata, one.bcc) == ((), None, {}, ())

    @pytest.mark.parametrize("name", ["to", "cc", "bcc", "reply_to"])
    def test_addresses_are_joined(self, name: str) -> None:
        one = with_defaults({name: ["d@example.com"]}, **{name: ["m@example.com"]})
        assert specs(getattr(one, name)) == ["d@example.com", "m@example.com"]

    def test_tags_are_joined(self) -> None:
        assert with_defaults({"tags": ["d"]}, tags=["m"]).tags == ("d", "m")

    def test_dicts_are_merged(self) -> None:
        one = with_defaults(
            {"metadata": {"a": 1, "b": 1}, "merge_global_data": {"x": 1}, "extra_headers": {"X-A": "1"}},
            metadata={"b": 2},
            merge_global_data={"y": 2},
            headers={"X-B": "2"},
        )
        assert one.metadata == {"a": 1, "b": 2}
        assert one.merge_global_data == {"x": 1, "y": 2}
        assert dict(one.headers) == {"X-A": "1", "X-B": "2"}

    def test_merge_data_is_merged_for_each_recipient(self) -> None:
        one = with_defaults(
            {"merge_data": {"ana@example.net": {"a": 1, "b": 1}, "bo@example.org": {"c": 1}}},
            to=["ana@example.net", "bo@example.org"],
            merge_data={"ana@example.net": {"b": 2}},
        )
        assert one.merge_data == {"ana@example.net": {"a": 1, "b": 2}, "bo@example.org": {"c": 1}}

    def test_a_merge_field_replaces_its_default_whole(self) -> None:
        one = with_defaults(
            {"merge_data": {"ana@example.net": {"order": {"id": 1, "size": "L"}, "shop": "S"}}},
            merge_data={"ana@example.net": {"order": {"id": 2}}},
        )
        assert one.merge_data == {"ana@example.net": {"order": {"id": 2}, "shop": "S"}}

    @pytest.mark.parametrize("name", ["metadata", "merge_global_data", "merge_data", "merge_metadata", "esp_extra"])
    def test_what_is_no_dict_is_named(self, name: str) -> None:
        with pytest.raises(AnymailSerializationError, match=f"{name} is of type str"):
            with_defaults({name: {"a": {}}}, **{name: "x"})

    def test_esp_extra_is_merged_deep(self) -> None:
        one = with_defaults({"esp_extra": {"o": {"a": 1, "b": 1}, "p": 1}}, esp_extra={"o": {"b": 2}})
        assert one.esp_extra == {"o": {"a": 1, "b": 2}, "p": 1}

    def test_single_values_are_replaced(self) -> None:
        one = with_defaults({"track_opens": True, "template_id": "d"}, track_opens=False, template_id="m")
        assert (one.track_opens, one.template_id) == (False, "m")


class TestBatch:
    @pytest.mark.parametrize("name", ["merge_data", "merge_metadata", "merge_headers"])
    def test_any_of_the_merge_dicts_makes_one_even_if_empty(self, name: str) -> None:
        assert mail(**{name: {}}).batch is True
        assert mail().batch is False
        assert mail(merge_global_data={"a": 1}).batch is False

    def test_what_each_recipient_gets(self) -> None:
        one = mail(
            to=["Ana@Bücher.example", "bo@example.org"],
            metadata={"tier": "gold"},
            headers={"X-Shop": "7", "List-Unsubscribe": "<all>"},
            merge_global_data={"shop": "S"},
            merge_data={"Ana@Bücher.example": {"name": "Ana"}},
            merge_metadata={"bo@example.org": {"tier": "silver"}},
            merge_headers={"bo@example.org": {"list-unsubscribe": "<bo>"}},
        )
        ana, bo = one.personal()
        assert ana.merge_data == {"shop": "S", "name": "Ana"}
        assert ana.metadata == {"tier": "gold"}
        assert dict(ana.headers) == {"X-Shop": "7", "List-Unsubscribe": "<all>"}
        assert bo.merge_data == {"shop": "S"}
        assert bo.metadata == {"tier": "silver"}
        assert dict(bo.headers) == {"X-Shop": "7", "list-unsubscribe": "<bo>"}

    @pytest.mark.parametrize(
        ("to", "key"),
        [
            ("a@bücher.example", "a@xn--bcher-kva.example"),
            ("a@xn--bcher-kva.example", "a@bücher.example"),
            ("Ana <A@Bücher.example>", "a@bücher.example"),
            ("a@bücher.example", "A@BÜCHER.example"),
            ("a@bücher.example", "Ana <a@bücher.example>"),
            ("a@bücher.example", '"López, Ana" <A@bücher.example>'),
            ("a@bücher.example", gettext_lazy("a@bücher.example")),
        ],
    )
    @pytest.mark.filterwarnings("error")
    def test_how_a_recipient_may_be_named(self, to: str, key: Any) -> None:
        one = mail(to=[to], merge_data={key: {"n": 1}})
        assert list(one.merge_data.values()) == [{"n": 1}]
        assert list(one.merge_data) == [one.to[0].addr_spec]

    def test_the_spelling_of_the_message_counts_first(self) -> None:
        merge_data = {"ANA@example.net": {"n": 1}, "ana@example.net": {"n": 2}}
        one = mail(to=["ana@example.net"], merge_data=merge_data)
        assert one.merge_data == {"ana@example.net": {"n": 2}}

    @pytest.mark.parametrize("name", ["merge_data", "merge_metadata", "merge_headers"])
    @pytest.mark.parametrize("key", ["ann@example.net", "cc@example.net", "Ana", "", 7, "ana@example.net, b@c.de"])
    def test_a_key_that_is_nobodys(self, name: str, key: Any) -> None:
        values = {key: {"a": "1"}, "ana@example.net": {"a": "1"}}
        with pytest.warns(AnymailNotSupportedWarning, match=f"^1 of 2 keys of {name} match no recipient") as warned:
            mail(cc=["cc@example.net"], **{name: values})
        assert "example.net" not in str(warned[0].message)

    @pytest.mark.filterwarnings("error")
    def test_a_default_may_be_for_somebody_else(self) -> None:
        with_defaults({"merge_data": {"bo@example.org": {"a": 1}}}, merge_data={"ana@example.net": {"a": 1}})


class TestHeaders:
    def test_are_case_insensitive(self) -> None:
        assert mail(headers={"X-Shop": "7"}).headers["x-shop"] == "7"

    def test_reply_to_overrides(self) -> None:
        one = mail(reply_to=["a@example.com"], headers={"Reply-To": "b@example.com, c@example.com"})
        assert specs(one.reply_to) == ["b@example.com", "c@example.com"]
        assert "Reply-To" not in one.headers

    def test_from_makes_from_email_the_envelope_sender(self) -> None:
        one = mail(from_email="bounces@example.com", headers={"From": "Shop <shop@example.com>"})
        assert specs(one.from_email) == ["shop@example.com"]
        assert one.envelope_sender is not None
        assert (one.envelope_sender.addr_spec, one.envelope_sender_is_implied) == ("bounces@example.com", True)

    def test_from_does_not_overrule_an_envelope_sender(self) -> None:
        one = mail(envelope_sender="robot@example.com", headers={"From": "Shop <shop@example.com>"})
        assert one.envelope_sender is not None
        assert (one.envelope_sender.addr_spec, one.envelope_sender_is_implied) == ("robot@example.com", False)

    @pytest.mark.parametrize(
        ("attributes", "where"),
        [
            ({"headers": {"from": "shop"}}, "From in extra_headers is not a valid"),
            ({"headers": {"From": ""}}, "From in extra_headers is empty"),
            ({"headers": {"Reply-To": "shop"}}, "Reply-To in extra_headers is not a valid"),
            ({"headers": {"From": "a@example.com"}, "from_email": "x"}, "from_email is not a valid"),
            ({"headers": {"From": "a@example.com"}, "from_email": "x@y.z, y@y.z"}, "from_email holds several"),
            ({"from_email": ""}, "from_email is empty"),
            ({"from_email": " "}, "from_email is not a valid"),
            ({"from_email": "Shop, Inc. <shop@example.com>"}, "from_email .* needs double quotes"),
            ({"to": ["Shop, Inc. <shop@example.com>"]}, r"to\[0\] .* needs double quotes"),
            ({"envelope_sender": "x"}, "envelope_sender is not a valid"),
            ({"envelope_sender": 7}, "envelope_sender is not an email address but of type int"),
            ({"from_email": 7}, "from_email is not an email address but of type int"),
        ],
    )
    def test_what_is_wrong_is_named(self, attributes: dict[str, Any], where: str) -> None:
        with pytest.raises(AnymailInvalidAddress, match=f"^{where}"):
            mail(**attributes)

    def test_to_is_kept_apart(self) -> None:
        one = mail(headers={"to": "All of you <all@example.com>"})
        assert one.to_header == "All of you <all@example.com>"
        assert specs(one.to) == ["ana@example.net"]

    def test_bcc_is_refused(self) -> None:
        with pytest.raises(AnymailInvalidAddress, match="use bcc"):
            mail(headers={"Bcc": "x@example.com"})

    @pytest.mark.parametrize("name", ["", "X Shop", "X:Shop", "X-Shöp", "X\nShop", "X-Shop\0"])
    def test_a_name_must_be_a_token(self, name: str) -> None:
        with pytest.raises(AnymailInvalidValue, match="cannot be a header's name"):
            mail(headers={name: "7"})

    @pytest.mark.parametrize("value", [None, {"a": 1}, ["x"], True])
    def test_a_value_must_be_a_string_or_a_number(self, value: Any) -> None:
        with pytest.raises(AnymailSerializationError, match="X-Shop"):
            mail(headers={"X-Shop": value})


CONTROLS = ["\r", "\n", "\r\n", "\0", "\x0b", "\x85", "\u2028"]
FIELDS: dict[str, Any] = {
    "subject": lambda bad: {"subject": f"Hi{bad}Bcc: x@example.com"},
    "header value": lambda bad: {"headers": {"X-Shop": f"7{bad}8"}},
    "header name": lambda bad: {"headers": {f"X{bad}Shop": "7"}},
    "merge_headers": lambda bad: {"merge_headers": {"ana@example.net": {"X-Shop": f"7{bad}"}}},
    "from name": lambda bad: {"from_email": f"Sh{bad}op <shop@example.com>"},
    "from": lambda bad: {"from_email": f"shop@exam{bad}ple.com"},
    "to": lambda bad: {"to": [f"ana{bad}@example.net"]},
    "cc": lambda bad: {"cc": [f"ana{bad}@example.net"]},
    "reply_to": lambda bad: {"reply_to": [f"A{bad} <ana@example.net>"]},
    "envelope_sender": lambda bad: {"envelope_sender": f"b{bad}@example.com"},
    "tag": lambda bad: {"tags": [f"re{bad}ceipt"]},
    "metadata key": lambda bad: {"metadata": {f"k{bad}": "v"}},
    "metadata value": lambda bad: {"metadata": {"k": f"v{bad}"}},
    "merge_metadata": lambda bad: {"merge_metadata": {"ana@example.net": {"k": f"v{bad}"}}},
    "template_id": lambda bad: {"template_id": f"t{bad}"},
    "file name": lambda bad: {"attachments": [(f"a{bad}.txt", "x", "text/plain")]},
    "content type": lambda bad: {"attachments": [("a.txt", "x", f"text/plain{bad}")]},
}


@pytest.mark.parametrize("bad", CONTROLS, ids=repr)
@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS.keys())
def test_control_characters_are_refused_everywhere(field: Any, bad: str) -> None:
    with pytest.raises(ValueError, match=r"control character|header's name"):
        mail(**field(bad))


def test_control_characters_in_a_content_id_are_refused() -> None:
    made = message()
    part = MIMEPart()
    part["Content-Type"] = "image/png"
    part._headers.append(("Content-ID", "<a\x0bb>"))  # type: ignore[attr-defined]
    part.set_payload("x")
    made.attachments.append(part)
    with pytest.raises(AnymailInvalidValue, match="Content-ID"):
        outgoing_mail(made)


def test_an_encoded_line_break_stays_inert() -> None:
    assert mail(subject="=?utf-8?q?=0A?=").subject == "=?utf-8?q?=0A?="


class TestBodies:
    def test_text_and_html(self) -> None:
        one = mail(html="<p>")
        assert (one.text, one.html, one.alternatives) == ("Hello", "<p>", ())

    def test_an_html_message(self) -> None:
        one = mail(content_subtype="html")
        assert (one.text, one.html) == ("", "Hello")

    def test_an_alternative_fills_an_empty_slot(self) -> None:
        one = mail(body="", alternatives=[("text", "text/plain"), ("<p>", "text/html"), ("<amp>", "text/x-amp-html")])
        assert (one.text, one.html, one.amp, one.alternatives) == ("text", "<p>", "<amp>", ())

    def test_another_type_keeps_its_parameters(self) -> None:
        [invite] = mail(alternatives=[("BEGIN", "text/calendar; method=REQUEST")]).alternatives
        assert invite.mimetype == "text/calendar; method=REQUEST"

    def test_a_type_may_have_parameters_and_any_case(self) -> None:
        assert mail(alternatives=[("<p>", "TEXT/HTML; charset=utf-8")]).html == "<p>"

    def test_a_further_one_is_an_alternative(self) -> None:
        one = mail(html="<p>", alternatives=[("<p>2", "text/html"), (b"\1", "image/png"), ("other", "text/plain")])
        assert [alternative.mimetype for alternative in one.alternatives] == ["image/png", "text/plain", "text/html"]

    @pytest.mark.parametrize(
        "mimetype", ["text/calendar\0", "text/x\x1b", "text/html\r\nX-A: 1", "text/html; a=\u2028"]
    )
    def test_a_type_is_checked_like_a_header(self, mimetype: str) -> None:
        with pytest.raises(AnymailInvalidValue, match="The type of an alternative"):
            mail(alternatives=[("x", mimetype)])
        with pytest.raises(AnymailInvalidValue, match="content_subtype"):
            mail(content_subtype=mimetype.partition("/")[2])

    def test_another_subtype_is_an_alternative(self) -> None:
        one = mail(content_subtype="markdown")
        assert (one.text, one.alternatives[0].mimetype) == ("", "text/markdown")


class TestAttachments:
    def read(self, *items: Any) -> Any:
        [attachment] = mail(attachments=list(items)).attachments
        return attachment

    def test_bytes(self) -> None:
        one = self.read(("a.pdf", b"%PDF", "application/pdf"))
        assert (one.name, one.content, one.mimetype) == ("a.pdf", b"%PDF", "application/pdf")
        assert (one.inline, one.content_id, str(one.base64)) == (False, "", "JVBERg==")

    def test_text_is_encoded(self) -> None:
        one = self.read(("a.txt", "Grüße", "text/plain"))
        assert one.content == "Grüße".encode()
        assert one.content_type == 'text/plain; charset="utf-8"'
        assert one.charset == "utf-8"

    def test_a_type_is_guessed(self) -> None:
        assert self.read(("a.png", PNG, None)).mimetype == "image/png"
        assert self.read((None, b"x", None)).mimetype == "application/octet-stream"

    def test_a_type_with_parameters_is_kept(self) -> None:
        one = self.read(("a.ics", "BEGIN", "text/calendar; method=REQUEST"))
        assert (one.mimetype, one.content_type) == ("text/calendar", 'text/calendar; method=REQUEST; charset="utf-8"')

    def test_mime(self) -> None:
        image = MIMEImage(PNG, "png")
        image["Content-Disposition"] = 'attachment; filename="logo.png"'
        one = self.read(image)
        assert (one.name, one.content, one.mimetype, one.inline) == ("logo.png", PNG, "image/png", False)

    @pytest.mark.parametrize(
        ("disposition", "content_id", "inline"),
        [("inline", "<a@b>", True), ("inline", None, True), (None, "<a@b>", True), ("attachment", "<a@b>", False)],
    )
    def test_inline(self, disposition: str | None, content_id: str | None, inline: bool) -> None:
        image = MIMEImage(PNG, "png")
        if disposition:
            image["Content-Disposition"] = disposition
        if content_id:
            image["Content-ID"] = content_id
        one = self.read(image)
        assert one.inline is inline
        assert one.content_id == (content_id or "").strip("<>")

    @pytest.mark.parametrize("forwarded", ["django", "python"])
    def test_a_message(self, forwarded: str) -> None:
        python = PythonMessage()
        python["Subject"] = "Inner"
        python.set_content("inside")
        inner: Any = python if forwarded == "python" else EmailMessage("Inner", "inside", "a@example.com", ["b@c.de"])
        one = self.read(("fwd.eml", inner, "message/rfc822"))
        assert one.mimetype == "message/rfc822"
        assert b"Subject: Inner" in one.content

    @pytest.mark.parametrize("forwarded", ["django", "python"])
    def test_a_message_itself(self, forwarded: str) -> None:
        python = PythonMessage()
        python["From"], python["Subject"] = "a@example.com", "Inner"
        python.set_content("inside")
        one = self.read(
            python if forwarded == "python" else EmailMessage("Inner", "inside", "a@example.com", ["b@c.de"])
        )
        assert one.mimetype == "message/rfc822"
        assert b"Subject: Inner" in one.content

    @pytest.mark.parametrize("item", [7, "a.txt", ("a", "b"), ("a.txt", 7, "text/plain")])
    def test_what_is_none(self, item: Any) -> None:
        with pytest.raises(AnymailSerializationError, match=r"attachments\[0\]"):
            self.read(item)

    def test_inline_images(self, tmp_path: Any) -> None:
        path = tmp_path / "logo.png"
        path.write_bytes(PNG)
        made = message()
        first = attach_inline_image_file(made, path)
        second = attach_inline_image(made, PNG, subtype="png", idstring="pic", domain="example.com")
        one, two = outgoing_mail(made).attachments
        assert (one.name, one.content, one.mimetype, one.content_id, one.inline) == (
            "logo.png", PNG, "image/png", first, True,
        )  # fmt: skip
        assert two.content_id == second
        assert second.endswith("@example.com")
        assert first.endswith("@inline")
        assert f"<{first}>" in made.message().as_string()

    @pytest.mark.parametrize(
        ("content", "name", "subtype", "mimetype"),
        [
            (PNG, None, None, "image/png"),
            (PNG, "photo.jpg", None, "image/png"),
            (PNG, "logo.txt", None, "image/png"),
            (b"GIF89a", None, None, "image/gif"),
            (b"?", "logo.webp", None, "image/webp"),
            (b"?", None, "jpg", "image/jpg"),
            ("<svg xmlns='http://www.w3.org/2000/svg'>é</svg>", None, None, "image/svg+xml"),
            (bytearray(PNG), None, None, "image/png"),
        ],
    )
    def test_the_type_of_an_inline_image(self, content: Any, name: Any, subtype: Any, mimetype: str) -> None:
        made = message()
        attach_inline_image(made, content, name, subtype)
        [image] = outgoing_mail(made).attachments
        assert image.mimetype == mimetype
        assert image.content == (content.encode() if isinstance(content, str) else bytes(content))
        assert made.message().as_bytes()

    @pytest.mark.parametrize(("content", "name"), [(b"?", None), (b"?", "logo.txt"), ("text", None), (b"", "")])
    def test_what_is_no_image(self, content: Any, name: Any) -> None:
        made = message()
        with pytest.raises(TypeError, match="subtype"):
            attach_inline_image(made, content, name)
        assert made.attachments == []


class TestSendAt:
    AMSTERDAM = ZoneInfo("Europe/Amsterdam")
    TIMES: dict[str, tuple[Any, dt.datetime]] = {
        "aware": (dt.datetime(2026, 3, 4, 5, 6, tzinfo=UTC), dt.datetime(2026, 3, 4, 5, 6, tzinfo=UTC)),
        "naive": (dt.datetime(2026, 3, 4, 5, 6), dt.datetime(2026, 3, 4, 4, 6, tzinfo=UTC)),
        "date": (dt.date(2026, 7, 4), dt.datetime(2026, 7, 3, 22, 0, tzinfo=UTC)),
        "int": (1_800_000_000, dt.datetime(2027, 1, 15, 8, 0, tzinfo=UTC)),
        "float": (1_800_000_000.5, dt.datetime(2027, 1, 15, 8, 0, 0, 500_000, tzinfo=UTC)),
        "ISO 8601": ("2026-03-04T05:06:00Z", dt.datetime(2026, 3, 4, 5, 6, tzinfo=UTC)),
        "ISO 8601 with an offset": ("2026-03-04 05:06+02:00", dt.datetime(2026, 3, 4, 3, 6, tzinfo=UTC)),
    }

    @pytest.mark.parametrize(("value", "expected"), TIMES.values(), ids=TIMES.keys())
    def test_read(self, value: Any, expected: dt.datetime) -> None:
        assert mail(send_at=value).send_at == expected

    @pytest.mark.parametrize("value", ["2026-03-04T05:06:00", "2026-03-04", "20260304T0506"])
    def test_text_needs_its_time_zone(self, value: str) -> None:
        with pytest.raises(AnymailSerializationError, match=r"send_at: '.*' does not say in which time zone"):
            mail(send_at=value)

    @pytest.mark.parametrize("value", ["in 2 hours", "tomorrow 9am", "1800000000"])
    def test_an_esps_own_words_are_its_own(self, value: str) -> None:
        with pytest.raises(AnymailSerializationError, match="esp_extra"):
            mail(send_at=value)

    @pytest.mark.parametrize("value", [object(), 1e30, float("nan"), True])
    def test_refused(self, value: Any) -> None:
        with pytest.raises(AnymailSerializationError, match="send_at"):
            mail(send_at=value)


class TestTypes:
    @pytest.mark.parametrize("name", ["track_opens", "track_clicks"])
    def test_a_switch_is_a_bool(self, name: str) -> None:
        for value in ("False", "no", 0, 1, [], gettext_lazy("False")):
            with pytest.raises(AnymailSerializationError, match=f"{name} is of type"):
                mail(**{name: value})
        for good in (True, False, None):
            assert getattr(mail(**{name: good}), name) is good

    @pytest.mark.parametrize("name", ["to", "cc", "bcc", "reply_to", "tags"])
    def test_a_bare_string_is_no_list(self, name: str) -> None:
        with pytest.raises(TypeError, match=name):
            mail(**{name: "ana@example.net"})

    @pytest.mark.parametrize("name", ["metadata", "merge_data", "merge_global_data", "merge_metadata", "esp_extra"])
    def test_a_dict_is_needed(self, name: str) -> None:
        with pytest.raises(AnymailSerializationError, match=name):
            mail(**{name: ["x"]})

    def test_merge_data_needs_a_dict_for_each_recipient(self) -> None:
        with pytest.raises(AnymailSerializationError, match="merge_data has a value of type str"):
            mail(merge_data={"ana@example.net": "Ana"})

    def test_lazy_strings_are_made_real(self) -> None:
        lazy = gettext_lazy("Hello")
        one = mail(subject=lazy, body=lazy, html=lazy, tags=[lazy], metadata={"k": lazy}, headers={"X-A": lazy},
                   merge_global_data={"a": [lazy, {"b": lazy}]}, template_id=lazy)  # fmt: skip
        for value in (one.subject, one.text, one.html, one.tags[0], one.metadata["k"], one.headers["X-A"]):
            assert type(value) is str
        assert one.merge_global_data == {"a": ["Hello", {"b": "Hello"}]}
        assert type(one.merge_global_data["a"][1]["b"]) is str

    @pytest.mark.parametrize("template_id", [1042, "1042"])
    def test_template_id(self, template_id: Any) -> None:
        assert mail(template_id=template_id).template_id == "1042"

    def test_no_subject_and_no_sender_are_the_templates(self) -> None:
        one = mail(subject=None, from_email=None)
        assert (one.subject, one.from_email) == (None, ())


def test_the_message_itself_is_left_as_it_is() -> None:
    made = message(
        html="<p>", attach=[("a.txt", "x", "text/plain")], metadata={"a": {"b": 1}}, tags=["a"],
        merge_data={"ana@example.net": {}}, headers={"X-A": "1", "From": "b@example.com"},
        send_at=dt.date(2026, 1, 1), esp_extra={"a": {"b": 1}},
    )  # fmt: skip
    before = copy.deepcopy(made.__dict__)
    one = outgoing_mail(made, defaults={"metadata": {"c": 1}, "tags": ["d"], "esp_extra": {"a": {"c": 1}}})
    one.metadata["x"] = one.merge_data["ana@example.net"]["x"] = one.esp_extra["a"]["x"] = "changed"
    assert made.__dict__ == before


def test_a_message_survives_deepcopy_and_pickle() -> None:
    made = AnymailMessage("Hi", "Hello", "a@example.com", ["b@example.com"], metadata={"a": 1}, tags=["t"])
    for again in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert (again.metadata, again.tags, again.anymail_status.status) == ({"a": 1}, ["t"], None)


def test_anymail_message_takes_attributes_as_keywords() -> None:
    made = AnymailMessage(subject="Hi", to=["a@example.com"], merge_data={}, template_id=7, track_opens=False)
    assert (made.subject, made.merge_data, made.template_id, made.track_opens) == ("Hi", {}, 7, False)
    assert made.anymail_status.status is None


class TestNeverSet:
    """An attribute that was never set can be read, and the send default stays in force."""

    EMPTY: dict[str, Any] = {
        "envelope_sender": None, "metadata": {}, "merge_metadata": {}, "merge_headers": {}, "tags": [],
        "track_opens": None, "track_clicks": None, "send_at": None, "template_id": None, "merge_data": {},
        "merge_global_data": {}, "esp_extra": {},
    }  # fmt: skip
    DEFAULTS: dict[str, Any] = {
        "tags": ["d"], "metadata": {"d": 1}, "track_opens": True, "template_id": "d", "esp_extra": {"d": 1},
        "merge_data": {"ana@example.net": {"d": 1}},
    }  # fmt: skip

    def test_it_reads_as_nothing(self) -> None:
        made = AnymailMessage("Hi", to=["ana@example.net"])
        assert {name: getattr(made, name) for name in self.EMPTY} == self.EMPTY
        one = outgoing_mail(made)
        assert (one.batch, one.tags, one.metadata) == (False, (), {})

    def test_reading_it_leaves_the_default(self) -> None:
        made = AnymailMessage("Hi", to=["ana@example.net"])
        for name in self.EMPTY:
            getattr(made, name)
        one = outgoing_mail(made, defaults=self.DEFAULTS)
        assert (one.tags, one.metadata, one.track_opens, one.template_id) == (("d",), {"d": 1}, True, "d")
        assert (one.merge_data, one.esp_extra) == ({"ana@example.net": {"d": 1}}, {"d": 1})

    def test_filling_what_was_read_sets_it(self) -> None:
        made = AnymailMessage("Hi", to=["ana@example.net"])
        assert made.tags is not None
        assert made.metadata is not None
        assert made.merge_data is not None
        made.tags.append("m")
        made.metadata["m"] = 2
        made.merge_data["ana@example.net"] = {"m": 2}
        for again in (made, copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
            one = outgoing_mail(again, defaults=self.DEFAULTS)
            assert (one.tags, one.metadata) == (("d", "m"), {"d": 1, "m": 2})
            assert (one.batch, one.merge_data) == (True, {"ana@example.net": {"d": 1, "m": 2}})

    @pytest.mark.parametrize("name", EMPTY)
    def test_what_is_set_counts(self, name: str) -> None:
        made = AnymailMessage("Hi", to=["ana@example.net"])
        getattr(made, name)
        setattr(made, name, None)
        assert getattr(made, name) is None
        one = outgoing_mail(made, defaults=self.DEFAULTS)
        assert not getattr(one, name)

    def test_one_message_is_not_another(self) -> None:
        one, other = AnymailMessage(), AnymailMessage()
        assert one.tags is not None
        one.tags.append("x")
        assert other.tags == []

    def test_an_attribute_of_a_class_counts(self) -> None:
        class Newsletter(AnymailMessage):
            tags = ["newsletter"]
            track_opens = False

        one = outgoing_mail(Newsletter("Hi", to=["ana@example.net"]), defaults=self.DEFAULTS)
        assert (one.tags, one.track_opens) == (("d", "newsletter"), False)

    def test_a_plain_message_has_none(self) -> None:
        assert not hasattr(EmailMessage(), "tags")


def test_the_status_of_any_message() -> None:
    assert status_of(EmailMessage()) is None
    made = AnymailMessage()
    assert status_of(made) is made.anymail_status


def test_a_class_of_the_projects_may_take_keywords_of_its_own() -> None:
    class Templated(EmailMessage):
        def __init__(self, *args: Any, template_name: str, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.template_name = template_name

    class Mine(AnymailMessageMixin, Templated):
        pass

    made = Mine("Hi", template_name="a.html", tags=["t"])
    assert (made.template_name, made.tags, made.metadata) == ("a.html", ["t"], {})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=10), json_values, max_size=5))
def test_any_json_is_passed_on_as_merge_data(data: dict[str, Any]) -> None:
    assert mail(merge_global_data=data, merge_data={"ana@example.net": data}).merge_global_data == data


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_header_is_kept_or_refused(name: str, value: str) -> None:
    try:
        headers = mail(headers={name: value}).headers
    except ValueError:
        return
    for text in (*headers, *headers.values()):
        assert not set("\r\n\0") & set(text)
