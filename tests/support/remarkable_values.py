"""Classes whose values come back only if nothing of the class is called, and values that fight."""

from __future__ import annotations

import dataclasses
import enum
import functools
import itertools
import math
from collections import defaultdict, deque
from dataclasses import InitVar, dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    SecretStr,
    computed_field,
    field_validator,
    model_validator,
)

import timestep

T = TypeVar("T")
made = itertools.count(1)
"""How often a constructor or validator below was called."""


@timestep.register_type
class Animal(BaseModel):
    name: str


class Dog(Animal):
    """Registered by no name: an annotation of `Animal` is one of it, too."""

    breed: str


@timestep.register_type
class Zoo(BaseModel):
    animals: list[Animal]
    anything: Any = None
    either: int | str | Animal = 0


@timestep.register_type
@dataclass
class Invoice:
    lines: list[Any]
    rate: InitVar[float] = 0.5
    number: int = field(init=False, default=0)
    total: float = field(init=False)

    def __post_init__(self, rate: float) -> None:
        self.number = next(made)
        self.total = len(self.lines) * rate
        self.note = f"made {self.number}"

    @functools.cached_property
    def text(self) -> str:
        return f"{self.number}: {self.total}"


@timestep.register_type
class Doubled(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")

    count: int
    hidden: str = Field("", exclude=True, repr=False)
    _seen: list[Any] = PrivateAttr(default_factory=list)

    @field_validator("count")
    @classmethod
    def double(cls, count: int) -> int:
        return count * 2

    @model_validator(mode="after")
    def see(self) -> Doubled:
        self._seen.append(next(made))
        return self

    @computed_field  # type: ignore[prop-decorator]  # as pydantic says
    @property
    def shown(self) -> str:
        return f"{self.count}!"


@timestep.register_type
class Own(BaseModel):
    x: Any

    def __init__(self, first: Any, second: Any) -> None:
        super().__init__(x=(first, second))


@timestep.register_type
@dataclass(frozen=True, slots=True, order=True)
class Slotted:
    a: Any
    b: Any = None


@timestep.register_type
@dataclass(eq=False)
class ByIdentity:
    x: Any


@timestep.register_type
@dataclass
class Box(Generic[T]):
    content: T


@timestep.register_type
class Pair(BaseModel, Generic[T]):
    left: T
    right: T | None = None


timestep.register_type(Pair[int])


@timestep.register_type
class Rows(RootModel[list[Any]]):
    pass


@timestep.register_type
class Where(NamedTuple):
    x: Any
    y: Any = None


@timestep.register_type
class Odd(enum.Enum):
    RED = "red"
    NAN = math.nan
    OBJECT = object()
    LIST = [1]  # noqa: RUF012  # a member
    TEXT = ("a", 1)


@timestep.register_type
class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@timestep.register_type
@dataclass
class Node:
    name: Any
    next: Any = None
    others: list[Any] = field(default_factory=list)


@timestep.register_type
class Account(BaseModel):
    owner: str
    key: SecretStr = SecretStr("")


@timestep.register_type
@dataclass
class NeverEqual:
    x: Any

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]  # as of any class with an __eq__ of its own


class Hostile:
    """Answers every question with an error."""

    def _refuse(self, *_: Any) -> Any:
        raise RuntimeError("hands off")

    __eq__ = __repr__ = __str__ = __len__ = __iter__ = __bool__ = __hash__ = _refuse
    __getattr__ = __reduce__ = __format__ = _refuse
    __class__ = property(_refuse)


class Exiting:
    def __str__(self) -> str:
        raise SystemExit(3)


@timestep.register_type
@dataclass
class HostileField:
    """A registered class whose own code is hostile; what it holds is data."""

    x: Any

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("hands off")

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("hands off")

    def __repr__(self) -> str:
        raise RuntimeError("hands off")

    __hash__ = None  # type: ignore[assignment]  # as above


def cyclic() -> list[Any]:
    """Values that refer to themselves."""
    holder: list[Any] = []
    holder.append(holder)
    mapping: dict[Any, Any] = {"a": []}
    mapping["a"].append(mapping)
    keyed: dict[Any, Any] = {1: None}
    keyed[1] = keyed
    node = Node("a")
    node.next, node.others = node, [node]
    zoo = Zoo(animals=[])
    zoo.anything = {"zoo": [zoo]}
    counted: defaultdict[str, Any] = defaultdict(list)
    counted["x"].append(counted)
    return [holder, mapping, keyed, node, zoo, counted]


def shape(value: Any, seen: dict[int, tuple[int, Any]] | None = None) -> Any:
    """All that a value is, aliases included, with nothing of its own code being called."""
    seen = {} if seen is None else seen
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return (kind, value)
    if kind is float:
        return (kind, repr(value))
    if issubclass(kind, enum.Enum):
        return (kind, value._name_, value._value_ if isinstance(value, enum.Flag) else None)
    is_holder = issubclass(kind, dict | list | tuple | set | frozenset | deque | BaseModel)
    if not is_holder and not dataclasses.is_dataclass(kind):
        return (kind, str(value), repr(getattr(value, "tzinfo", None)), getattr(value, "fold", 0))
    if issubclass(kind, tuple | frozenset) and len(value) == 0:
        return kind
    if id(value) in seen:
        return ("same", seen[id(value)][0])
    seen[id(value)] = (len(seen), value)
    if issubclass(kind, dict):
        parts = [(shape(key, seen), shape(item, seen)) for key, item in value.items()]
        return (kind, getattr(value, "default_factory", None), parts)
    if issubclass(kind, set | frozenset):
        return (kind, sorted(repr(shape(item, seen)) for item in value))
    if issubclass(kind, list | tuple | deque):
        return (kind, getattr(value, "maxlen", None), [shape(item, seen) for item in value])
    if issubclass(kind, BaseModel):
        own = dict(vars(value))
        more = (value.__pydantic_extra__, value.__pydantic_private__)
        return (kind, sorted(value.model_fields_set), shape(own, seen), shape(more, seen))
    if "__slots__" in vars(kind):
        held = {field.name: getattr(value, field.name) for field in dataclasses.fields(kind)}
    else:
        held = dict(object.__getattribute__(value, "__dict__"))
    for name in ("text", "__orig_class__"):
        held.pop(name, None)
    return (kind, shape(held, seen))
