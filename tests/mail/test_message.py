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

from anymail.exceptions import AnymailInvalidAddress, AnymailInvalidValue, AnymailSerializationError
from anymail.mail.message import OutgoingMail, outgoing_mail
from anymail.message import AnymailMessage, attach_inline_image, attach_inline_image_file
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

    def test_merge_headers_are_the_messages_own(self) -> None:
        one = with_defaults({"merge_headers": {"ana@example.net": {"X-A": "1"}}})
        assert (one.batch, one.merge_headers) == (False, {})

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
            merge_data={"Ana@Bücher.example": {"name": "Ana"}, "nobody@example.com": {"x": 1}},
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

    def test_a_recipient_may_be_named_in_punycode(self) -> None:
        one = mail(to=["a@bücher.example"], merge_data={"a@xn--bcher-kva.example": {"n": 1}})
        assert one.merge_data == {"a@xn--bcher-kva.example": {"n": 1}}


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
        assert one.envelope_sender.addr_spec == "bounces@example.com"

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
        assert (one.mimetype, one.content_type) == ("text/calendar", "text/calendar; method=REQUEST")

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
        ("content", "mimetype"), [(PNG, "image/png"), (b"GIF89a", "image/gif"), (b"?", "application/octet-stream")]
    )
    def test_inline_images_without_a_name(self, content: bytes, mimetype: str) -> None:
        made = message()
        attach_inline_image(made, content)
        assert outgoing_mail(made).attachments[0].mimetype == mimetype


class TestSendAt:
    AMSTERDAM = ZoneInfo("Europe/Amsterdam")
    TIMES: dict[str, tuple[Any, dt.datetime]] = {
        "aware": (dt.datetime(2026, 3, 4, 5, 6, tzinfo=UTC), dt.datetime(2026, 3, 4, 5, 6, tzinfo=UTC)),
        "naive": (dt.datetime(2026, 3, 4, 5, 6), dt.datetime(2026, 3, 4, 4, 6, tzinfo=UTC)),
        "date": (dt.date(2026, 7, 4), dt.datetime(2026, 7, 3, 22, 0, tzinfo=UTC)),
        "int": (1_800_000_000, dt.datetime(2027, 1, 15, 8, 0, tzinfo=UTC)),
        "float": (1_800_000_000.5, dt.datetime(2027, 1, 15, 8, 0, 0, 500_000, tzinfo=UTC)),
        "ISO 8601": ("2026-03-04T05:06:00Z", dt.datetime(2026, 3, 4, 5, 6, tzinfo=UTC)),
    }

    @pytest.mark.parametrize(("value", "expected"), TIMES.values(), ids=TIMES.keys())
    def test_read(self, value: Any, expected: dt.datetime) -> None:
        assert mail(send_at=value).send_at == expected

    @pytest.mark.parametrize("value", ["soon", object(), 1e30, float("nan"), True])
    def test_refused(self, value: Any) -> None:
        with pytest.raises(AnymailSerializationError, match="send_at"):
            mail(send_at=value)


class TestTypes:
    @pytest.mark.parametrize("name", ["to", "cc", "bcc", "reply_to", "tags"])
    def test_a_bare_string_is_no_list(self, name: str) -> None:
        with pytest.raises(TypeError, match=name):
            mail(**{name: "ana@example.net"})

    @pytest.mark.parametrize("name", ["metadata", "merge_data", "merge_global_data", "merge_metadata", "esp_extra"])
    def test_a_dict_is_needed(self, name: str) -> None:
        with pytest.raises(AnymailSerializationError, match=name):
            mail(**{name: ["x"]})

    def test_merge_data_needs_a_dict_for_each_recipient(self) -> None:
        with pytest.raises(AnymailSerializationError, match=r"merge_data\['\(address\)'\]"):
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
    assert not hasattr(made, "metadata")
    assert made.anymail_status.status is None


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
