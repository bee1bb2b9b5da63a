"""Values survive JSON exactly, whatever they are."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import math
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from timestep.errors import UnreadableValueError
from timestep.serialization.registered_types import register_type
from timestep.serialization.values import (
    decode,
    dumps,
    encode,
    exact_text,
    plain_text,
    restored,
    storable,
    survives,
)

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
PYTHON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.decimals(allow_nan=False)
    | st.uuids(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.tuples(inner, inner)
    ),
    max_leaves=20,
)


@register_type
class Colour(enum.Enum):
    RED = "red"


@register_type
class Point(BaseModel):
    x: int
    tags: tuple[str, ...] = ()


@register_type
@dataclasses.dataclass
class Pair:
    left: Any
    right: Any


@given(ANY_JSON)
def test_what_is_stored_comes_back(value: Any) -> None:
    stored = json.loads(dumps(value))
    assert restored(stored) == value
    assert all("\x00" not in text for text in _texts(storable(value)))


def _texts(value: Any) -> Iterator[str]:
    """Every text of a document, none of which UTF-8 refuses."""
    if isinstance(value, str):
        value.encode()
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)


@given(PYTHON)
def test_python_values_come_back_as_they_were(value: Any) -> None:
    back = decode(restored(json.loads(dumps(encode(value)))))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        Colour.RED,
        Point(x=1, tags=("a",)),
        Pair((1, 2), {"a": b"\x00"}),
        {"$type": "x"},
        {"$text": 1},
    ],
)
def test_types_that_are_registered_come_back(value: Any) -> None:
    assert decode(json.loads(dumps(encode(value)))) == value


@pytest.mark.parametrize("text", ["\x00", "a\ud800b", "\\u0000"])
def test_text_that_jsonb_refuses_is_set_aside(text: str) -> None:
    stored = storable({"said": text})
    assert restored(json.loads(json.dumps(stored))) == {"said": text}


def test_numbers_that_are_not_json_come_back() -> None:
    assert math.isnan(restored(json.loads(dumps([math.nan])))[0])


def test_plain_json_stays_plain() -> None:
    value = {"a": [1, 2.5, None, True, "é😀"]}
    assert encode(value) == value
    assert storable(value) is value


def test_a_value_that_cannot_come_back_is_its_text_from_the_first() -> None:
    class Local:
        def __str__(self) -> str:
            return "local thing"

    assert survives(Local()) == "local thing"
    assert decode(encode(Local())) == "local thing"
    point = Point(x=2)
    assert survives(point) is point


def test_a_class_that_is_gone_is_named() -> None:
    with pytest.raises(UnreadableValueError, match=r"gone:Away.*register_type"):
        decode({"$type": "gone:Away", "value": 1})


@pytest.mark.parametrize(
    "value", [datetime.date(2026, 1, 2), decimal.Decimal("1.10"), uuid.UUID(int=1), {1, 2}]
)
def test_common_types_come_back(value: Any) -> None:
    assert decode(encode(value)) == value


@pytest.mark.parametrize(
    ("value", "changes"),
    [
        ({"b": 1, "a": 2}, True),
        ({"a": 1, "b": [1.5, None]}, False),
        ({"b": 1, "aa": 2}, False),
        ({"aa": 1, "b": 2}, True),
        ([1e16], True),
        ([-0.0], True),
        ("text", False),
    ],
)
def test_what_jsonb_would_change_is_kept_as_text(value: Any, changes: bool) -> None:
    text = exact_text(value)
    assert (text is not None) == changes
    if text is not None:
        assert json.dumps(json.loads(text)) == json.dumps(value)


def test_plain_text_can_be_held_by_a_text_column() -> None:
    assert plain_text("a\x00b\ud800") == "a\ufffdb?"
    assert plain_text(None) is None
