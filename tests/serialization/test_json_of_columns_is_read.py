"""JSON of a column is read as it is; what is nested too deeply for that is told as such."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from tests.support.hostile_documents import JSON
from timestep.errors import UnreadableValueError
from timestep.serialization.documents.json_text import TooDeep, displayed, loads, restored
from timestep.serialization.values import encode


@given(JSON)
def test_it_is_read_as_it_is(value: Any) -> None:
    assert loads(json.dumps(value).encode()) == value
    # Longer than one whose depth does not matter.
    long = [value, "[" * 1000]
    assert loads(json.dumps(long).encode()) == long


def test_what_is_nested_too_deeply_is_told() -> None:
    for text in ("[" * 5000 + "]" * 5000, '{"a":' * 5000 + "1" + "}" * 5000):
        found = loads(text.encode())
        assert isinstance(found, TooDeep)
        length = f"{len(text):,}"
        assert displayed(found) == f"(nested too deeply to be shown: {length} bytes of JSON)"
        with pytest.raises(UnreadableValueError, match="nested too deeply"):
            restored(found)


def test_what_is_no_json_is_an_error_as_before() -> None:
    for text in (b"[" * 300, b"", b"[1,", b"[" + b"1," * 1000):
        with pytest.raises(ValueError, match="Expecting"):
            loads(text)


def test_whatever_is_recorded_is_read() -> None:
    """Nothing that `encode` takes is too deep."""
    value: Any = "core"
    depth = 0
    while depth < 10_000:
        try:
            text = json.dumps(encode(value))
        except RecursionError:
            break
        assert not isinstance(loads(text.encode()), TooDeep), depth
        value, depth = [value] if depth % 2 else {"a": value}, depth + 10
        for _ in range(9):
            value = [value]
    assert depth > 100
