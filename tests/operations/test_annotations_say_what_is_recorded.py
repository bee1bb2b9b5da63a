"""What annotations lead to is recorded and comes back, or is refused with its place and reason."""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import datetime
import decimal
import enum
import fractions
import pathlib
import re
import typing
import uuid
import zoneinfo
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Protocol,
    TypeVar,
)

import httpx
import pydantic
import pytest
from agents import RunResult, TResponseInputItem
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, HttpUrl, SecretStr, ValidationError
from pydantic_core import PydanticSerializationError
from typing_extensions import TypeAliasType, TypedDict

import timestep
from timestep.operations.unrecordable_annotations import problems
from timestep.serialization.registered_types import declare

T = TypeVar("T")
UserId = NewType("UserId", str)
Tree = TypeAliasType("Tree", "list[Tree] | int")


class Thing:
    """Of an application, without fields that anything says."""


Folder = NewType("Folder", Thing)
Things = TypeAliasType("Things", list[Thing])
OfThings = TypeVar("OfThings", bound=Things)


class Shout(str):
    __slots__ = ()


class Size(enum.Enum):
    SMALL = 1
    ODD = object()


class Spot(NamedTuple):
    x: int
    label: str = ""


class Node(BaseModel):
    """Leads to itself."""

    _seen: int = 0
    size: Size = Size.SMALL
    page: HttpUrl | None = None
    nodes: list[Node] = []
    hidden: int = Field(0, exclude=True)


class Box(BaseModel, Generic[T], arbitrary_types_allowed=True):
    held: T


@dataclasses.dataclass
class Crate(Generic[T]):
    held: T
    times: dataclasses.InitVar[int]
    kind: typing.ClassVar[Thing] = Thing()


@dataclasses.dataclass
class Parcel:
    spot: Spot
    things: dict[str, list[Thing]]


class Both(TypedDict):
    parcel: NotRequired[Parcel]


class Key(BaseModel):
    word: SecretStr


class Bag(BaseModel, arbitrary_types_allowed=True):
    things: list[Thing]


class Locked(BaseModel):
    _lock: Thing = pydantic.PrivateAttr(default_factory=Thing)


class Walks(Protocol):
    def walk(self) -> None: ...


@pytest.mark.parametrize("of_json", [True, False])
def test_what_is_recorded_is_not_refused(of_json: bool) -> None:
    fine: list[Any] = [
        *(
            Any,
            object,
            None,
            int,
            "Unknown",
            T,
            Literal["x", Size.SMALL],
            Annotated[int, Field(gt=0)],
        ),
        *(list[Node], Box[int], Box[list[Spot]], Crate[int], Crate, Tree, UserId, Size, Spot),
        *(datetime.datetime, datetime.timedelta, decimal.Decimal, uuid.UUID, fractions.Fraction),
        *(pathlib.Path, pathlib.PurePath, HttpUrl, zoneinfo.ZoneInfo, pydantic.EmailStr, bytes),
        *(pydantic.PastDate, pydantic.IPvAnyAddress, pydantic.JsonValue, pydantic.UUID4),
        *(Mapping[str, Sequence[int]], collections.OrderedDict[str, int], collections.Counter[str]),
        *(deque[int], collections.defaultdict[str, list[int]], tuple[int, ...]),
        *(tuple[()], typing.List, typing.Optional[set[Size]], typing.Union[int, str]),  # noqa: UP006, UP007, UP045
        *(BaseModel, Walks, typing.Hashable, TResponseInputItem, enum.Enum, typing.NoReturn),
        *(ValueError, list[int | ValueError], dict[str, tuple[ValueError, ...]]),
    ]
    found = {str(hint): problems(hint, "x", of_json=of_json) for hint in fine}
    assert {hint: found for hint, found in found.items() if found} == {}


@pytest.mark.parametrize(
    ("hint", "where", "why"),
    [
        (Thing, "x", "Thing, which is none of .*: make it a dataclass, .* if it is yours"),
        (list[Both], "x[...].parcel.things[...][...]", "Thing, which is none"),
        (dict[str, Bag | None], "x[...].things[...]", "Thing"),
        (list[Locked], "x[...]._lock", "Thing"),
        (Mapping[Thing, int], "x.keys()", "Thing"),
        (tuple[int, Annotated[Thing, 1]], "x[1]", "Thing"),
        (Folder, "x", "Thing"),
        (OfThings, "x[...]", "Thing"),
        (Box[Thing], "x.held", "Thing"),
        (Crate[Thing], "x", "Thing"),
        (Shout, "x", "Shout, which is a subclass of str with its own rules: use str"),
        (Key, "x.word", "SecretStr, which is a secret, .* take its name"),
        (pydantic.Secret[int], "x", "Secret, which is a secret"),
        (Callable[[int], int], "x", "is code: use its name"),
        (typing.Callable, "x", "is code: use its name"),
        (type[int], "x", "type, which is a class: use its name"),
        (re.Pattern[str], "x", "re.Pattern, which is none of"),
        (Iterator[int], "x", "can be read only once: await it, or make a list of it"),
        (Awaitable[int], "x", "can be read only once"),
        (set[ValueError], "x[...]", "ValueError, which is an error inside .*: use its text"),
        (dict[int, ValueError], "x[...]", "ValueError, which is an error inside"),
        (RunResult, "x", "an object of the Agents SDK's own, .* such as `final_output`"),
        (httpx.Response, "x", "httpx.Response, which is none of"),
    ],
    ids=str,
)
def test_what_is_not_recorded_is_refused_with_its_place(hint: Any, where: str, why: str) -> None:
    for of_json in (True, False):
        (found,) = problems(hint, "x", of_json=of_json)
        assert found.startswith(f"{where} is ")
        assert re.search(why, found)


def test_what_pydantic_makes_otherwise_is_refused_for_entrypoints() -> None:
    for hint, why in (
        (Iterable[int], "x is made of JSON as .* read only once: use list or Sequence"),
        (collections.defaultdict[str, Node], "x makes its values with .*: use dict"),
    ):
        (found,) = problems(hint, "x", of_json=True)
        assert re.match(why, found)
        assert problems(hint, "x", of_json=False) == []


OfTexts = dict[str, T]
Keys = dict[T, int]
Second = tuple[int, T]
Said = Annotated[T, "said"]


def test_portable_json_has_fewer_classes() -> None:
    fine: list[Any] = [
        *(Any, None, int | str, list[dict[str, float]], tuple[bool, ...], Literal["x"], UserId),
        *(datetime.datetime, datetime.date, decimal.Decimal, pydantic.EmailStr),
    ]
    for hint in fine:
        assert problems(hint, "x", of_json=True, is_portable=True) == []
    for hint in (Spot, list[Node], bytes, uuid.UUID, Size, datetime.timedelta):
        (found,) = problems(hint, "x", of_json=True, is_portable=True)
        assert "which DBOS's portable JSON does not have: leave" in found


@dataclasses.dataclass(frozen=True)
class Shape:
    """A generated annotation."""

    hint: Any
    values: st.SearchStrategy[Any] = dataclasses.field(repr=False)
    is_hashable: bool = True
    lost: frozenset[str] = frozenset()
    """Where in it something is that no record holds, as the sentences call it."""


LEAVES = [
    Shape(int, st.integers()),
    Shape(str, st.text()),
    Shape(float, st.floats(allow_nan=False)),
    Shape(bytes, st.binary()),
    Shape(None, st.none()),
    Shape(Size, st.sampled_from(Size)),
    Shape(Literal["x", Size.ODD], st.sampled_from(["x", Size.ODD])),
    Shape(UserId, st.text()),
    Shape(Spot, st.builds(Spot, st.integers())),
    Shape(Node, st.builds(Node, hidden=st.integers()), is_hashable=False),
    Shape(HttpUrl, st.just(HttpUrl("https://example.com/a?b=c"))),
    Shape(pathlib.PurePath, st.text("ab/").map(pathlib.PurePath)),
    Shape(datetime.datetime, st.datetimes(timezones=st.timezones() | st.none())),
    Shape(datetime.timedelta, st.timedeltas()),
    Shape(decimal.Decimal, st.decimals(allow_nan=False)),
    Shape(fractions.Fraction, st.fractions()),
    Shape(uuid.UUID, st.uuids()),
    Shape(Any, st.integers() | st.tuples(st.text())),
    Shape(Thing, st.builds(Thing), lost=frozenset({"x"})),
    Shape(SecretStr, st.just(SecretStr("sesame")), lost=frozenset({"x"})),
]


def around(
    generic: Any, inner: Shape, values: Any, path: str, *, is_hashable: bool = False
) -> Shape:
    """A generic annotation with another one in it, which is at a path."""
    lost = frozenset(f"x{path}{place[1:]}" for place in inner.lost)
    return Shape(generic[inner.hint], values, is_hashable and inner.is_hashable, lost)


def larger(shapes: st.SearchStrategy[Shape]) -> st.SearchStrategy[Shape]:
    def one(inner: Shape) -> list[Shape]:
        values = inner.values
        found = [
            around(list, inner, st.lists(values, max_size=3), "[...]"),
            around(OfTexts, inner, st.dictionaries(st.text(), values, max_size=3), "[...]"),
            around(Second, inner, st.tuples(st.just(1), values), "[1]", is_hashable=True),
            around(Said, inner, values, "", is_hashable=True),
            around(Box, inner, values.map(lambda held: Box(held=held)), ".held"),
            around(Crate, inner, values.map(lambda held: Crate(held, times=2)), ""),
            around(deque, inner, st.lists(values, max_size=3).map(deque), "[...]"),
        ]
        if inner.is_hashable:
            keys = st.dictionaries(values, st.just(1), max_size=3)
            found.append(around(frozenset, inner, st.frozensets(values, max_size=3), "[...]"))
            found.append(around(Keys, inner, keys, ".keys()"))
        return found

    def both(left: Shape, right: Shape) -> Shape:
        hint: Any = typing.Union.__getitem__((left.hint, right.hint))
        is_hashable = left.is_hashable and right.is_hashable
        return Shape(hint, left.values | right.values, is_hashable, left.lost | right.lost)

    return shapes.flatmap(lambda shape: st.sampled_from(one(shape))) | st.builds(
        both, shapes, shapes
    )


serializer = timestep.JSONSerializer()


@given(st.data(), st.recursive(st.sampled_from(LEAVES), larger, max_leaves=4))
def test_what_passes_comes_back_and_what_is_refused_has_its_place(
    data: st.DataObject, shape: Shape
) -> None:
    declare(shape.hint)
    found = problems(shape.hint, "x", of_json=True)
    # What is in several places by way of one class is told once.
    assert {one.partition(" ")[0] for one in found} <= shape.lost
    assert bool(found) == bool(shape.lost)
    if found:
        return
    value = data.draw(shape.values)
    back = serializer.deserialize(serializer.serialize(value))
    assert (back, type(back)) == (value, type(value))
    adapter = pydantic.TypeAdapter(shape.hint)
    try:
        made = adapter.validate_json(adapter.dump_json(value, warnings=False))
    except (ValidationError, PydanticSerializationError):
        return  # Not all that Python has is JSON.
    assert serializer.deserialize(serializer.serialize({"args": (), "kwargs": {"x": made}}))
