"""What projects that come from django-anymail import from ``anymail.utils``."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from django.test import override_settings

from anymail import utils
from anymail.exceptions import AnymailConfigurationError, AnymailDeprecationWarning, AnymailInvalidAddress
from anymail.utils import UNSET

pytestmark = pytest.mark.filterwarnings("ignore::anymail.exceptions.AnymailDeprecationWarning")


@pytest.mark.parametrize(
    ("settings", "kwargs", "arguments", "value"),
    [
        ({}, {"api_key": "k"}, {}, "k"),
        ({"ANYMAIL": {"SHOP_API_KEY": "a"}, "ANYMAIL_SHOP_API_KEY": "b"}, {}, {}, "a"),
        ({"ANYMAIL_SHOP_API_KEY": "b", "SHOP_API_KEY": "c"}, {}, {"allow_bare": True}, "b"),
        ({"SHOP_API_KEY": "c"}, {}, {"allow_bare": True}, "c"),
        ({"SHOP_API_KEY": "c"}, {}, {"default": "d"}, "d"),
        ({}, {}, {"default": None}, None),
    ],
)
def test_a_setting(settings: Any, kwargs: Any, arguments: Any, value: Any) -> None:
    with override_settings(**settings):
        assert utils.get_anymail_setting("api_key", esp_name="Shop", kwargs=kwargs, **arguments) == value
    assert kwargs == {}


def test_a_setting_of_no_esp() -> None:
    with override_settings(ANYMAIL={"MY_SETTING": 1}):
        assert utils.get_anymail_setting("my_setting") == 1


def test_a_setting_that_is_nowhere() -> None:
    with pytest.raises(AnymailConfigurationError, match="UNISENDER_GO_API_KEY"):
        utils.get_anymail_setting("api_key", esp_name="Unisender Go", allow_bare=True)


def test_addresses() -> None:
    found = utils.parse_address_list(["Ana <ana@bücher.example>, b@example.com", "c@example.com"])
    assert [str(one) for one in found] == ["Ana <ana@bücher.example>", "b@example.com", "c@example.com"]
    assert utils.parse_address_list(None) == []
    assert utils.parse_single_address("Ana <ana@bücher.example>").domain == "bücher.example"
    for text in ("a@b.c, d@e.f", "", "x"):
        with pytest.raises(AnymailInvalidAddress, match="sender"):
            utils.parse_single_address(text, field="sender")


COMBINED: dict[str, tuple[Any, list[Any], Any]] = {
    "last": (utils.last, [1, None, UNSET], None),
    "last of nothing": (utils.last, [UNSET], UNSET),
    "lists": (utils.concat_lists, [["a"], UNSET, ("b",)], ["a", "b"]),
    "lists after None": (utils.concat_lists, [["a"], None, ["b"]], ["b"]),
    "lists before None": (utils.concat_lists, [["a"], None], None),
    "no lists": (utils.concat_lists, [UNSET, UNSET], UNSET),
    "dicts": (utils.merge_dicts_shallow, [{"a": {"x": 1}, "b": 1}, UNSET, {"a": {"y": 2}}], {"a": {"y": 2}, "b": 1}),
    "dicts after None": (utils.merge_dicts_shallow, [{"a": 1}, None, {"b": 1}], {"b": 1}),
    "no dicts": (utils.merge_dicts_shallow, [UNSET], UNSET),
    "dicts of dicts": (
        utils.merge_dicts_one_level,
        [{"a": {"x": {"p": 1}, "z": 1}}, {"a": {"x": {"q": 2}}}],
        {"a": {"x": {"q": 2}, "z": 1}},
    ),
    "deep": (
        utils.merge_dicts_deep,
        [{"a": {"x": {"p": 1}}}, {"a": {"x": {"q": 2}}}],
        {"a": {"x": {"p": 1, "q": 2}}},
    ),
}


@pytest.mark.parametrize(("function", "values", "result"), COMBINED.values(), ids=COMBINED.keys())
def test_combined(function: Any, values: list[Any], result: Any) -> None:
    before = copy.deepcopy(values)
    assert function(*values) == result
    assert values == before


def test_an_attachment() -> None:
    one = utils.Attachment(("a.txt", "Grüße", "text/plain"), "utf-8")
    assert (one.name, one.mimetype, one.inline, one.content_id, one.cid) == ("a.txt", "text/plain", False, None, "")
    assert one.b64content == "R3LDvMOfZQ=="


def test_unset_is_one() -> None:
    assert copy.deepcopy(UNSET) is pickle.loads(pickle.dumps(UNSET)) is UNSET
    assert repr(UNSET) == "UNSET"


@pytest.mark.parametrize(
    "call",
    [
        lambda: utils.get_anymail_setting("x", default=1),
        lambda: utils.parse_single_address("a@b.c"),
        lambda: utils.parse_address_list("a@b.c"),
        lambda: utils.merge_dicts_shallow({}),
        lambda: utils.Attachment(("a", b"", "a/b")),
    ],
)
def test_what_is_old_says_so(call: Any) -> None:
    with pytest.warns(AnymailDeprecationWarning, match="anymail.utils") as warned:
        call()
    assert warned[0].filename == __file__
