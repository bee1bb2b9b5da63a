"""A value comes back as it was made, or the first execution goes on with what will come back."""

from __future__ import annotations

import collections
import datetime
import json
import logging
import math
import subprocess
import sys
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr, TypeAdapter

from tests.support import remarkable_values as rv
from tests.support.hostile_documents import from_jsonb
from timestep.errors import UnreadableValueError
from timestep.execution.context_changes import change
from timestep.serialization import sdk_objects
from timestep.serialization.documents.forms import has_links
from timestep.serialization.registered_types import registered, type_path
from timestep.serialization.values import (
    decode,
    encode,
    exact_text,
    has_text,
    restored,
    storable,
    survives,
    unlinked,
)
from timestep.serialization.values.outputs import columns_of


def stored(value: Any) -> Any:
    """What a replay makes of the columns of a value."""
    encoded = encode(value)
    exact = exact_text(encoded)
    column = restored(from_jsonb(storable(encoded)))
    # Some columns have no exact text beside them: the order of keys is then JSONB's.
    assert rv.shape(decode(column)) is not None
    return decode(column if exact is None else json.loads(exact))


incomplete: Any = rv.Doubled.model_construct


def test_a_value_is_not_made_anew() -> None:
    zoo = rv.Zoo(
        animals=[rv.Dog(name="Rex", breed="collie"), rv.Animal(name="Tom")],
        anything={"when": datetime.date(2026, 1, 2), "pair": (1, rv.Dog(name="B", breed="c"))},
        either=rv.Animal(name="Kim"),
    )
    invoice = rv.Invoice([1, 2], rate=0.25)
    doubled = rv.Doubled(count=4, hidden="kept", more=1)
    doubled._seen.append("more")
    slotted = rv.Slotted([1], rv.Slotted(2))
    values = [
        *(zoo, invoice, doubled, slotted, rv.Own(1, 2), rv.ByIdentity([rv.ByIdentity(1)])),
        *(rv.Box[int](3), rv.Pair[int](left=1), rv.Rows([1, (2,)]), rv.Where(1, [2])),
        *rv.Odd,
        *(rv.Rights.READ | rv.Rights.WRITE, rv.Rights(0), rv.HostileField({"a": (1,)})),
        *(collections.defaultdict(list, a=[1]), 10**5000, math.nan, [math.inf, -0.0]),
        *(rv.Account(owner="Ada"), incomplete(hidden="x")),
        datetime.datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
        *map(
            TypeAdapter(datetime.datetime).validate_python,
            ("2026-01-02T03:04Z", "2026-01-02T03:04+01:30"),
        ),
    ]
    before = next(rv.made)
    for value in values:
        assert rv.shape(stored(value)) == rv.shape(value)
        assert survives(value) is value
    assert next(rv.made) == before + 1, "a constructor or validator was called"
    assert str(stored(zoo)) == str(zoo)
    assert stored(invoice).text == invoice.text
    assert stored(invoice).note == invoice.note


def test_what_is_shared_is_shared_again() -> None:
    items = [1]
    node = rv.Node("n")
    value = {"bb": items, "a": items, "c": {"x": (items, node)}, 5: [node], "d": node}
    back = stored(value)
    assert back["a"] is back["bb"] is back["c"]["x"][0]
    assert back["d"] is back[5][0] is back["c"]["x"][1]
    assert unlinked(encode({"b": [items], "a": [[items], 1]})) == {"b": [[1]], "a": [[[1]], 1]}
    for cyclic in rv.cyclic():
        assert "timestep:same" in json.dumps(unlinked(encode(cyclic)))
    assert not has_links(encode([rv.Odd.RED, rv.Odd.RED, (), ()]))
    assert encode({"a": 1, "b": [2, {"c": []}]}) == {"a": 1, "b": [2, {"c": []}]}
    for cyclic in rv.cyclic():
        assert rv.shape(stored(cyclic)) == rv.shape(cyclic)
        assert survives(cyclic) is cyclic
    through: list[Any] = []
    through.append((through,))
    assert stored(through)[0][0] is not None
    inside: tuple[Any, ...] = ([],)
    inside[0].append(inside)
    assert survives(inside) == ([f"{inside}"],)


def nested(value: Any, levels: int) -> Any:
    for _ in range(levels):
        value = [value]
    return value


def test_what_is_deep_without_its_links_keeps_them_for_people() -> None:
    first = nested(1, 180)
    second = nested(first, 180)
    third = nested(second, 180)
    columns = columns_of([first, second, [third]], None, is_apart=False)
    assert "timestep:same" in json.dumps(columns["output"])
    assert columns["output"] == json.loads(columns["output_text"])


def test_encoding_is_total(caplog: pytest.LogCaptureFixture) -> None:
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep]
    very_deep: list[Any] = []
    for _ in range(100_000):
        very_deep = [very_deep]
    chain = None
    for n in range(400):
        chain = rv.Node(n, chain)
    twice: Any = 1
    for _ in range(60):
        twice = (twice, twice)

    class Raw(BaseModel):
        data: bytes

    hostile = [rv.Hostile(), rv.Exiting(), deep, chain, Raw(data=b"\xff"), lambda: 1, Ellipsis]
    with caplog.at_level(logging.WARNING, "timestep"):
        for value in [*hostile, twice, [hostile], {"a": hostile}, rv.Box(hostile), very_deep]:
            document = encode(value)
            assert storable(document) is not None
            json.dumps(unlinked(document))
            first = survives(value)
            assert rv.shape(stored(first)) == rv.shape(first)
    assert len([one for one in caplog.messages if "Hostile is" in one]) == 1
    assert survives(rv.Hostile()) == "<tests.support.remarkable_values:Hostile without a text>"
    assert json.dumps(sdk_objects.jsonable({"a": hostile, "b": rv.cyclic()}))
    very_deep.clear()


def test_what_would_not_come_back_is_what_comes_back_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "timestep"):
        given_ = rv.NeverEqual([1])
        first = survives(given_)
        assert type(first) is rv.NeverEqual
        assert first is not given_
        account = survives(rv.Account(owner="Ada", key=SecretStr("sesame")))
        assert isinstance(account, rv.Account)
        assert account.owner == "Ada"
        assert "sesame" not in str(vars(account))
    assert [("NeverEqual" in one, "SecretStr" in one) for one in caplog.messages] == [
        (True, False),
        (False, True),
    ]
    assert "sesame" not in json.dumps(encode(account))


def document_of(kind: type, **sections: Any) -> dict[str, Any]:
    return {"$type": type_path(kind), "value": {"$fields": {}, **sections}}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (document_of(rv.Node, **{"$fields": {"name": 1, "gone": 2}}), "'gone'.*does not have"),
        (document_of(rv.Node), "no fields.*'name'.*defaults"),
        (document_of(rv.Node, **{"$fields": {"name": 1}, "$attributes": {"__class__": 1}}), "cl"),
        (document_of(rv.Invoice, **{"$fields": {"lines": []}, "$attributes": {"text": 1}}), "te"),
        (document_of(rv.Doubled, **{"$fields": {"count": 1}, "$private": {"_x": 1}}), "'_x'"),
        (document_of(rv.Odd, **{"$fields": {}}), "cannot be made again"),
        ({"$type": type_path(rv.Odd), "value": {"$name": "BLUE"}}, "no 'BLUE'"),
        ({"$type": type_path(rv.Dog), "value": {"name": "a", "breed": "b"}}, "not registered"),
        ({"$type": "timestep:same", "value": ["a"]}, "refers to"),
        ({"$type": "timestep:same", "value": []}, "too deeply|refers to"),
        ({"$type": "subprocess:Popen", "value": {"$fields": {"args": ["true"]}}}, "Popen"),
    ],
)
def test_a_document_has_the_fields_of_its_class_and_no_more(document: Any, reason: str) -> None:
    with pytest.raises(UnreadableValueError, match=reason):
        decode(document)


def test_what_earlier_versions_recorded_is_read() -> None:
    assert decode({"$type": type_path(rv.Node), "value": {"name": (n := [1])}}) == rv.Node(n)
    made = decode({"$type": type_path(rv.Doubled), "value": {"count": 2, "shown": "4!"}})
    assert (made.count, made.shown) == (4, "4!")
    assert decode({"$type": type_path(rv.Odd), "value": "red"}) is rv.Odd.RED
    # What a tool of before changed in a part of a context.
    context = {"node": rv.Node("n", others=[1])}
    change(context, {"change": {"node": {"change": {"value": {"extend": {"others": [2]}}}}}})
    assert context == {"node": rv.Node("n", others=[1, 2])}
    # A field that is new has its default.
    new = decode(document_of(rv.Node, **{"$fields": {"name": 1}}))
    assert new == rv.Node(1)


def test_a_class_is_found_where_it_has_moved_to(monkeypatch: pytest.MonkeyPatch) -> None:
    old = type(sys)("old_shop")
    vars(old)["Node"] = rv.Node
    monkeypatch.setitem(sys.modules, "old_shop", old)
    assert registered("old_shop:Node") is rv.Node
    assert registered("old_shop:Away") is None
    assert registered("__main__:Slotted") is rv.Slotted


PROGRAM = """
import sys, timestep
from dataclasses import dataclass
from timestep.serialization.values import decode, encode
@timestep.register_type
@dataclass
class Order:
    x: int
if __name__ == "__main__":
    document = encode(Order(1))
    assert decode(document) == Order(1)
    assert type(decode({"$type": "__main__:Order", "value": {"x": 1}})) is Order
    print(document["$type"])
"""


def test_a_program_and_a_module_of_it_know_a_class_by_one_path(tmp_path: Path) -> None:
    (tmp_path / "shop_app.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "shop_app.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("shop_app:Order\n", "")


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=3)
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.decimals()
    | st.uuids()
    | st.sampled_from([*rv.Odd, *rv.Rights, rv.Rights.READ | rv.Rights.WRITE])
)


def _models(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    name = st.text(max_size=3)
    animals = st.builds(rv.Animal, name=name) | st.builds(rv.Dog, name=name, breed=name)
    return (
        st.builds(rv.Zoo, animals=st.lists(animals, max_size=2), anything=inner, either=animals)
        | st.builds(rv.Invoice, st.lists(inner, max_size=2), rate=st.floats(0, 1))
        | st.builds(rv.Doubled, count=st.integers(0, 9), hidden=name, more=inner)
        | st.builds(rv.Own, inner, inner)
        | st.builds(rv.Slotted, inner, inner)
        | st.builds(rv.ByIdentity, inner)
        | st.builds(rv.Box, inner)
        | st.builds(rv.Where, inner, inner)
        | st.builds(rv.Node, inner, inner)
    )


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.text(max_size=3) | st.integers() | st.sampled_from(["$type", "$text", "value"])
    return (
        st.lists(inner, max_size=3)
        | st.dictionaries(keys, inner, max_size=3)
        | st.tuples(inner, inner)
        | st.frozensets(st.text(max_size=3) | st.integers(), max_size=3)
        | st.dictionaries(keys, inner, max_size=2).map(collections.OrderedDict)
        | st.lists(inner, max_size=2).map(collections.deque)
        | _models(inner)
        # The same object twice.
        | inner.map(lambda one: [one, {"again": one}])
    )


VALUES = st.recursive(LEAVES, _containers, max_leaves=12)
LOST = st.builds(rv.Exiting) | st.builds(object) | st.builds(SecretStr, st.just("x"))


@settings(max_examples=400, deadline=None)
@given(VALUES)
def test_any_value_comes_back(value: Any) -> None:
    assert survives(value) is value
    back = stored(value)
    assert rv.shape(back) == rv.shape(value)


@settings(max_examples=200, deadline=None)
@given(st.recursive(LEAVES | LOST, _containers, max_leaves=12))
def test_any_value_is_in_the_first_execution_what_it_is_in_a_replay(value: Any) -> None:
    first = survives(value)
    assert not has_text(encode(first))
    replayed = stored(first)
    assert rv.shape(replayed) == rv.shape(first)
    assert survives(replayed) is replayed
