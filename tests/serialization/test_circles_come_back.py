"""What refers to itself is recorded as it is, and not as its text."""

from __future__ import annotations

from typing import Any

import pytest

from timestep.serialization.values import decode, encode, has_text, survives


def test_a_value_that_refers_to_itself_comes_back() -> None:
    ticket: dict[str, Any] = {"status": ["made", 1.5, None, {3}]}
    answer = (ticket, ("a", ticket["status"]))
    ticket["of"] = [{"answer": answer}]
    encoded = encode(answer)
    assert not has_text(encoded)
    assert survives(answer) is answer
    found = decode(encoded)
    assert type(found) is tuple
    assert found[0]["of"][0]["answer"] is found
    assert found[0]["status"] == ticket["status"]
    assert found[1][1] is found[0]["status"]


def test_what_is_deep_comes_back() -> None:
    value: list[Any] = []
    for _ in range(5000):
        value = [value]
    found, depth = decode(encode(value)), 0
    while found:
        (found,), depth = found, depth + 1
    assert depth == 5000


def test_an_object_in_a_circle_is_text() -> None:
    class Odd:
        pass

    circle: list[Any] = [Odd()]
    circle.append(circle)
    found = decode(encode(circle))
    assert found[1] is found
    assert "Odd object" in found[0]


@pytest.mark.parametrize(
    "nodes",
    [
        [],
        [1],
        [{}],
        [{"list": [7]}],
        [{"list": 1}],
        [{"tuple": [0]}],
        [{"set": []}],
        [{"list": [[]]}],
    ],
)
def test_what_only_looks_like_nodes_is_data(nodes: Any) -> None:
    document = {"$type": "timestep:nodes", "value": nodes}
    assert decode(document) == document
