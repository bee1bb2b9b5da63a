"""A class is on the list because the application said so, and for no other reason."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NewType, TypeVar

import pytest
from agents import RunContextWrapper
from pydantic import BaseModel, JsonValue
from typing_extensions import TypedDict

import timestep
from timestep.serialization.registered_types import RegisteredTypes, registered, type_path

T = TypeVar("T")


class Colour(enum.Enum):
    RED = 1


class Size(enum.Enum):
    BIG = 1


@dataclass
class Inner:
    colour: Colour


@dataclass
class Outer:
    inners: dict[str, list[Annotated[Inner | None, "of an order"]]]
    again: Outer | None = None
    unknown: NotThere = None  # type: ignore[name-defined]  # noqa: F821  # what tests it


class Shape(BaseModel):
    size: Literal[Size.BIG]
    _private: Inner | None = None


class Box(BaseModel, Generic[T]):
    content: T


class Keyed(TypedDict):
    shape: Shape


@dataclass
class Unrelated:
    x: int


class Plain:
    pass


Named = NewType("Named", Inner)


def reached(annotation: object) -> set[type]:
    types = RegisteredTypes()
    types.declare(annotation)
    known = (Colour, Size, Inner, Outer, Shape, Box[Inner], Unrelated, RunContextWrapper)
    return {cls for cls in known if types.find(type_path(cls)) is cls}


@pytest.mark.parametrize(
    ("annotation", "classes"),
    [
        (Outer, {Outer, Inner, Colour}),
        (Keyed, {Shape, Inner, Size, Colour}),
        (Box[Inner], {Box[Inner], Inner, Colour}),
        (Callable[[Inner], Any], {Inner, Colour}),
        (RunContextWrapper[Inner], {Inner, Colour}),
        (Named, {Inner, Colour}),
        (Literal[Colour.RED], {Colour}),
        (type[Inner] | None, {Inner, Colour}),
        (JsonValue | Inner, {Inner, Colour}),
        (None, set()),
        ("Inner", set()),
        (int | str | list[Any] | Plain | BaseModel, set()),
    ],
)
def test_an_annotation_declares_what_it_leads_to(annotation: object, classes: set[type]) -> None:
    assert reached(annotation) == classes


def test_a_value_declares_what_it_holds() -> None:
    types = RegisteredTypes()
    held: dict[str, Any] = {"outer": [Unrelated(1)], "size": (Size.BIG,), "shape": Shape}
    held["self"] = held
    types.declare_value(held)
    found = {cls for cls in (Unrelated, Size, Shape, Inner) if types.find(type_path(cls)) is cls}
    assert found == {Unrelated, Size}


def test_what_a_run_declares_is_not_known_to_others() -> None:
    process = RegisteredTypes()
    process.declare(Colour)
    run, other = RegisteredTypes(process), RegisteredTypes(process)
    run.declare(Inner)
    assert run.find(type_path(Inner)) is Inner
    assert run.find(type_path(Colour)) is Colour
    assert other.find(type_path(Inner)) is None
    assert process.find(type_path(Inner)) is None


def test_the_newest_class_of_a_path_is_the_registered_one() -> None:
    types = RegisteredTypes()
    first, second = (dataclasses.make_dataclass("Made", [("x", int)]) for _ in range(2))
    for cls in (first, second, first):
        types.declare(cls)
        assert types.find(type_path(cls)) is cls


@timestep.register_type
@dataclass
class Registered:
    later: DefinedLater


@dataclass
class DefinedLater:
    x: int


def test_a_decorated_class_is_known_with_what_its_fields_name() -> None:
    assert registered(type_path(Registered)) is Registered
    assert registered(type_path(DefinedLater)) is DefinedLater


def test_what_cannot_be_made_again_is_refused() -> None:
    with pytest.raises(TypeError, match="inside a function"):

        @timestep.register_type
        @dataclass
        class Local:
            x: int

    for given, told in (
        (Plain, "put @register_type above @dataclass"),
        (dict, "cannot be made again"),
        (Unrelated(1), "takes a class"),
        (list[int], "takes a class"),
        (BaseModel, "cannot be made again"),
    ):
        with pytest.raises(TypeError, match=told):
            timestep.register_type(given)  # type: ignore[type-var]
    assert registered("builtins:dict") is None
    assert registered("subprocess:Popen") is None
    assert registered(type_path(Plain)) is None
