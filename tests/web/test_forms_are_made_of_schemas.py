"""The fields of a form: of each schema one that shows a value exactly, and gives it back."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timestep.web.pages.filters import json_text
from timestep.web.pages.forms.properties import REST
from timestep.web.pages.forms.schema_forms import by_field, fields, read
from timestep.web.pages.forms.shapes import shape

SCHEMA: dict[str, Any] = {
    "type": "object",
    "$defs": {"Place": {"type": "object", "properties": {"city": {"type": "string"}}}},
    "properties": {
        "name": {"type": "string", "description": "Whose it is", "maxLength": 20},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "count": {"type": "integer", "minimum": 1},
        "price": {"type": ["number", "null"]},
        "paid": {"type": "boolean", "default": True},
        "size": {"enum": ["small", "large", 3]},
        "place": {"$ref": "#/$defs/Place"},
        "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
    },
    "required": ["name", "price", "size"],
    "additionalProperties": False,
}


def sent(schema: Any, values: dict[str, Any], **typed: str) -> dict[str, str]:
    """What a browser sends of the form with these values in it, and what was typed over them."""
    form = {}
    for one in fields(schema, values):
        form[_line_ends(one.key)] = _line_ends(one.text)
        if one.meanings:
            form[_line_ends(one.meaning_key)] = one.meaning
    return {**form, **typed}


def _line_ends(text: str) -> str:
    """As browsers send them, of names, too."""
    return re.sub("\r\n|\r|\n", "\r\n", text)


def test_a_property_may_have_any_name() -> None:
    names = ["a\nb", "\r", "\r\n", "50%", "%0A", "a.b", ""]
    kinds: list[Any] = [{"type": "string"}, {"type": ["string", "null"], "default": "x"}, {}]
    for kind in kinds:
        schema = {"type": "object", "properties": dict.fromkeys(names, kind)}
        values = {name: f"{name!r} is it" for name in names}
        assert read(schema, sent(schema, values), values) == (values, {})
        empty = dict.fromkeys(names, "")
        assert read(schema, sent(schema, empty), empty) == (empty, {})


def test_each_property_has_the_field_that_it_needs() -> None:
    made = {one.name: one for one in fields(SCHEMA, {})}
    # What is required comes first: of the database's schemas, it alone tells an order.
    assert list(made) == ["name", "price", "size", "note", "count", "paid", "place", "either"]
    kinds = {name: one.kind for name, one in made.items()}
    assert kinds == {
        "name": "text",
        "note": "text",
        "count": "number",
        "price": "number",
        "paid": "choice",
        "size": "choice",
        "place": "json",
        "either": "json",
    }
    assert [one.value for one in made["size"].options] == ["", '"small"', '"large"', "3"]
    assert [one.label for one in made["paid"].options] == ["left out (true)", "true", "false"]
    assert made["name"].help == "at most 20 characters; Whose it is"
    assert made["place"].help == 'JSON: {"city"?: text}'
    assert made["either"].help == "JSON: text or whole number"
    # And what nothing typed means is there, too, where it means one thing.
    assert (made["price"].placeholder, made["count"].placeholder) == ("null", "left out")
    # Where nothing that is typed may mean several things, the form asks which.
    assert [name for name, _ in made["note"].meanings] == ["left_out", "null", "text"]
    assert made["name"].meanings == made["price"].meanings == []


@pytest.mark.parametrize(
    "values",
    [
        {"name": "", "price": None, "size": 3},
        {"name": "a\n\tb", "price": 0.1, "size": "small", "paid": False, "note": ""},
        # What a field would not show, or give back, as it is, is JSON there.
        {"name": "a\r\nb", "price": 1e300, "size": "huge", "note": None, "count": 10**30},
        {"name": "\u202egod\u200b\x07", "price": "12", "size": True, "paid": 1},
        {"name": 5, "price": 2.0, "size": [], "place": {"city": "Köln \u2028"}, "either": "x"},
        {"name": "x", "price": 1, "size": "small", "unknown": {"a": [1]}, "": 2},
    ],
)
def test_a_value_comes_back_as_it_was(values: dict[str, Any]) -> None:
    assert read(SCHEMA, sent(SCHEMA, values), values) == (values, {})
    for one in fields(SCHEMA, values):
        assert all(character.isprintable() or character in "\n\t" for character in one.text)


@given(
    st.dictionaries(
        st.sampled_from(list(SCHEMA["properties"])),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(st.characters(exclude_categories=["Cs"])),
            lambda inner: st.lists(inner, max_size=2),
            max_leaves=3,
        ),
    )
)
def test_any_value_comes_back_as_it_was(values: dict[str, Any]) -> None:
    given_ = {"name": "x", "price": 1, "size": 3, **values}
    # What is no choice, and what may not be left out, has to be there.
    found, problems = read(SCHEMA, sent(SCHEMA, given_), given_)
    assert problems == {}
    assert json.dumps(found, sort_keys=True) == json.dumps(given_, sort_keys=True)


def test_what_is_typed_is_read_or_told_and_kept() -> None:
    form = {
        "value.name": "ann",
        "value.price": "1,5",
        "value.count": "2.5",
        "value.size": "",
        "json.place": '{"city": ',
        "json.either": "[" * 5000,
        "value.note": " ",
    }
    values, problems = read(SCHEMA, form, {})
    assert values == {"name": "ann", "note": " "}
    assert {name: lines[0][:20] for name, lines in problems.items()} == {
        "price": "This is no number, l",
        "count": "This is no whole num",
        "size": "It is required.",
        "place": "This is no JSON: Exp",
        "either": "This is no JSON: it ",
    }
    shown = {one.name: one for one in fields(SCHEMA, {}, typed=form, problems=problems)}
    assert (shown["price"].text, shown["place"].text) == ("1,5", '{"city": ')
    assert shown["price"].problems == problems["price"]


def test_what_is_left_out_and_has_to_be_there_is_filled_in() -> None:
    """A strict schema asks for all of them, and a model left one out that its tool knows."""
    schema = {
        "properties": {"a": {"type": "boolean", "default": False}, "b": {"type": "string"}},
        "required": ["a", "b"],
    }
    assert [one.text for one in fields(schema, {"b": "x"})] == ["false", "x"]
    assert read(schema, sent(schema, {"b": "x"}), {"b": "x"}) == ({"a": False, "b": "x"}, {})


def test_empty_fields_mean_what_is_chosen() -> None:
    def note(meaning: str) -> Any:
        form = sent(SCHEMA, {"name": "a", "price": 1, "size": 3}, **{"empty.note": meaning})
        return read(SCHEMA, form, {})[0].get("note", "left out")

    assert [note(one) for one in ("left_out", "null", "text", "nonsense")] == [
        "left out",
        None,
        "",
        "left out",
    ]


_PLACE = {"properties": {"zip": {"type": "string"}, "city": {"type": "string"}}}


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        (True, "anything"),
        ({"type": "array"}, "[…]"),
        ({"type": "array", "items": {"type": "integer"}}, "[whole number, …]"),
        (
            {"prefixItems": [{"type": "integer"}, {"type": "string"}], "type": "array"},
            "[whole number, text]",
        ),
        ({**_PLACE, "required": ["city", [], 5]}, '{"city": text, "zip"?: text}'),
        (
            {"type": "array", "items": {"anyOf": [{"$ref": "#/$defs/P"}, {"type": "null"}]}},
            '[{"zip"?: text, "city"?: text} or null, …]',
        ),
        ({"type": "object", "additionalProperties": {"type": "number"}}, '{"…": number}'),
        ({"oneOf": [{"const": "a"}, {"enum": ["b", 3]}, _PLACE]}, None),
        ({"anyOf": [{"type": "string", "title": "T"}, {"type": "boolean"}]}, None),
        ({"type": ["string", "integer", "null"]}, "text or whole number or null"),
        ({"properties": {"a": {"$ref": "#/properties/x"}}}, '{"a"?: {"a"?: {"a"?: {…}}}}'),
        ({"type": "object", "properties": {str(n): {} for n in range(99)}}, None),
        ({"anyOf": [{"$ref": "#/properties/x"}, {"$ref": "#/properties/x"}]}, None),
        ({"enum": [[], {"a": 1}, "ü", None]}, '[…] or {…} or "ü" or null'),
        ({"enum": [json.loads("[" * 900 + "]" * 900)]}, "[…]"),
        ({"type": [["string"], 5, "integer"]}, "whole number"),
    ],
)
def test_json_is_told_how_it_has_to_be(schema: Any, told: str | None) -> None:
    root = {"properties": {"x": schema}, "$defs": {"P": _PLACE}}
    found = shape(root, schema)
    assert len(found) <= 301
    if told is not None:
        assert found == told


def test_one_of_one_and_null_with_a_title_are_what_they_are() -> None:
    """As generators of schemas write what has something beside a reference."""
    schema = {
        "$defs": {"Hue": {"enum": ["red", "blue"], "type": "string"}},
        "properties": {
            "hue": {"allOf": [{"$ref": "#/$defs/Hue"}], "default": "red"},
            "level": {"oneOf": [{"type": "integer"}]},
            "note": {"anyOf": [{"type": "string"}, {"type": "null", "title": "None"}]},
            "both": {"allOf": [{"type": "string"}, {"minLength": 2}]},
        },
        "required": ["note"],
    }
    made = {one.name: one for one in fields(schema, {})}
    assert {name: one.kind for name, one in made.items()} == {
        "note": "text",
        "hue": "choice",
        "level": "number",
        "both": "json",
    }
    assert [one.label for one in made["hue"].options] == ["left out (red)", "red", "blue"]
    assert [name for name, _ in made["note"].meanings] == ["null", "text"]


def test_text_that_has_to_have_a_character_is_not_asked_whether_it_is_empty() -> None:
    schema = {"properties": {"a": {"type": "string", "minLength": 1}}}
    (one,) = fields(schema, {})
    assert (one.meanings, one.help) == ([], "")
    (needed,) = fields({**schema, "required": ["a"]}, {})
    assert needed.help == "not empty"
    assert read(schema, sent(schema, {}), {}) == ({}, {})
    # As a model gave it, it is shown, and comes back.
    assert read(schema, sent(schema, {"a": ""}), {"a": ""}) == ({"a": ""}, {})


@pytest.mark.parametrize(
    "schema",
    [
        None,
        True,
        [],
        {"properties": []},
        {"properties": {"a": True, "b": {"$ref": "#/properties/b"}, "c": {"$ref": "http://x"}}},
        {"properties": {"a": {"anyOf": 5}, "b": {"type": [[], None]}, "c": {"enum": []}}},
        {"properties": {"a": {"type": "string"}}, "required": [[], {}, "a", "a", "none"]},
        {"properties": {str(number): {} for number in range(1000)}},
        {"properties": {"a": {"enum": ["x"], "minimum": {}, "description": 5, "default": {}}}},
    ],
)
def test_odd_schemas_have_forms(schema: Any) -> None:
    values = {"a": "x", "b": None}
    assert read(schema, sent(schema, values), values) == (values, {})


def test_what_takes_nothing_has_no_field() -> None:
    schema = {"properties": {}, "additionalProperties": False}
    assert fields(schema, {}) == []
    # What a model gave all the same is there.
    (one,) = fields(schema, {"a": 1})
    assert read(schema, {one.key: one.text}, {"a": 1}) == ({"a": 1}, {})


def test_what_no_form_can_name_is_json() -> None:
    for name in ("", "two\nlines", "two\rlines"):
        schema = {"properties": {name: {"type": "string"}, "b": {"type": "object"}}}
        values = {name: "keep", "b": {"x": 1}}
        assert [one.name for one in fields(schema, values)] == [REST]
        assert read(schema, sent(schema, values), values) == (values, {})


def test_deep_json_is_not_much_longer_as_it_is_read() -> None:
    value: Any = [1] * 1000
    for _ in range(300):
        value = [value]
    assert len(json_text(value)) < 10_000
    assert json.loads(json_text(value)) == value
    assert json_text({"a": [1]}) == '{\n  "a": [\n    1\n  ]\n}'


def test_the_rest_is_an_object_without_what_has_a_field() -> None:
    for text, told in {
        "[]": "This is no JSON object: write {…}.",
        '{"name": 1}': "'name' has a field of its own.",
    }.items():
        form = sent(SCHEMA, {"name": "a", "price": 1, "size": 3}, **{f"json.{REST}": text})
        assert read(SCHEMA, form, {})[1] == {REST: [told]}


def test_problems_of_pointers_are_told_at_their_fields() -> None:
    found = [
        {"pointer": "/c1/place/city", "detail": "too long"},
        {"pointer": "/c1/a~1b", "detail": "no"},
        {"pointer": "/c1", "detail": "and 3 more"},
    ]
    assert by_field(found, below=1) == {
        "place": ["city: too long"],
        "a/b": ["no"],
        REST: ["and 3 more"],
    }
