"""A change applied to the old document makes the new one, exactly."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from timestep.serialization.json_delta import difference, inverse, patched

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-3, 3) | st.sampled_from("abc"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["a", "model_responses", "last_model_response", "generated_items", "session_items"]
)
DOCUMENT = st.dictionaries(KEYS, ANY_JSON)


@given(DOCUMENT, DOCUMENT)
def test_a_change_makes_the_new_document(old: dict[str, Any], new: dict[str, Any]) -> None:
    before = json.dumps(old)
    change = json.loads(json.dumps(difference(old, new)))
    # As text: Python says 1 == True == 1.0, and JSON does not.
    assert json.dumps(patched(old, change), sort_keys=True) == json.dumps(new, sort_keys=True)
    assert json.dumps(old) == before


def same(one: object, other: object) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@given(DOCUMENT, DOCUMENT)
def test_a_change_can_be_undone(old: dict[str, Any], new: dict[str, Any]) -> None:
    change = json.loads(json.dumps(difference(old, new)))
    back = json.loads(json.dumps(inverse(old, change)))
    assert same(patched(patched(old, change), back), old)


def test_what_a_list_repeats_is_not_written_twice() -> None:
    old = {"model_responses": [1], "last_model_response": 1}
    new = {"model_responses": [1, 2], "last_model_response": 2}
    change = difference(old, new)
    assert change == {"extend": {"model_responses": [2]}, "repeat": ["last_model_response"]}
    assert inverse(old, change) == {
        "cut": {"model_responses": 1},
        "repeat": ["last_model_response"],
    }
    assert difference(new, old) == inverse(old, change)


@given(DOCUMENT)
def test_no_change_is_empty(document: dict[str, Any]) -> None:
    assert difference(document, json.loads(json.dumps(document))) == {}


def test_a_list_that_grew_costs_what_was_added() -> None:
    old = {"items": [{"n": n} for n in range(1000)]}
    new = {"items": [*old["items"], {"n": 1000}]}
    assert difference(old, new) == {"extend": {"items": [{"n": 1000}]}}


def test_what_two_lists_grow_by_is_written_once() -> None:
    old = {"generated_items": [1], "session_items": [0, 1]}
    new = {"generated_items": [1, 2, 3], "session_items": [0, 1, 2, 3]}
    change = difference(old, new)
    assert change == {"extend": {"generated_items": [2, 3]}, "alike": ["session_items"]}
    assert patched(old, change) == new
    assert inverse(old, change) == {"cut": {"generated_items": 1, "session_items": 2}}
