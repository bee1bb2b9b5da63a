"""JSON that others wrote."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timestep.serialization.json_input import DEEPEST, check_depth, loads

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_json_is_read_as_it_is_written(value: Any) -> None:
    assert loads(json.dumps(value)) == value
    assert loads(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        ("{} {}", "Extra data"),
        ('{"a": 1, "a": 1}', "the key 'a' is there twice"),
        ('[{"a": {"b": 1, "c": 2, "b": 3}}]', "the key 'b' is there twice"),
        ("NaN", "NaN is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        ("9" * 5000, "digits"),
        ("[-1e400]", "a number in it is too large"),
        ("[" * 101 + "]" * 101, "deeper than 100"),
        ("[" * 100_000 + "]" * 100_000, "deeper than 100"),
        ("[" * 100_000, "deeper than 100"),
        ('{"a":' * 100_000, "deeper than 100"),
        (b"\xff", "codec"),
        (b"\x00", "Expecting value"),
    ],
)
def test_what_is_no_json_is_told(text: str | bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        loads(text)
    assert len(str(caught.value)) < 200


def test_values_have_a_depth() -> None:
    deep: Any = 0
    for _ in range(DEEPEST):
        deep = {"a": 0, "b": deep}
    check_depth(deep)
    with pytest.raises(ValueError, match="deeper than 100"):
        check_depth((deep,))
    itself: list[Any] = []
    itself += [itself, itself]
    with pytest.raises(ValueError, match="deeper than 100"):
        check_depth(itself)
    often: Any = []
    for _ in range(DEEPEST - 1):
        often = [often, often, often]
    check_depth(often)
