"""Finds in an annotation, at any depth, what no record can hold, and says what to use instead."""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import decimal
import enum
import inspect
import ipaddress
import numbers
import pathlib
import typing
from collections import defaultdict
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, TypeVar

import pydantic
from pydantic import BaseModel
from typing_extensions import is_typeddict

from timestep.serialization.unrecordable import (
    BY_THEMSELVES,
    MAPPINGS,
    PLAIN,
    READ_ONCE,
    name_of,
    why_not,
)
from timestep.serialization.values.encoding import FACTORIES

_MAPPINGS = (*MAPPINGS, collections.abc.Mapping, collections.abc.MutableMapping)
_KEEP_ERRORS = (
    *(list, tuple, dict, collections.abc.Mapping, collections.abc.MutableMapping),
    *(collections.abc.Iterable, collections.abc.Collection),
    *(collections.abc.Sequence, collections.abc.MutableSequence),
)
"""What may be a list, a tuple or a dict, in which errors are recorded, too."""
_OPEN = (Any, object, NoneType, BaseModel, numbers.Number, pathlib.PurePath, pathlib.Path)
"""What says nothing of its values, or that they are of some class which is recorded."""

_APIS = ("openai", "mcp", "mcp_types")
"""Packages whose models and dicts are what an API sends."""

_OF_PYDANTIC: dict[Any, Any] = {
    pydantic.EmailStr: str,
    pydantic.IPvAnyAddress: ipaddress.IPv4Address,
    pydantic.IPvAnyInterface: ipaddress.IPv4Interface,
    pydantic.IPvAnyNetwork: ipaddress.IPv4Network,
    pydantic.Json: Any,
    pydantic.FutureDate: datetime.date,
    pydantic.PastDate: datetime.date,
    pydantic.AwareDatetime: datetime.datetime,
    pydantic.NaiveDatetime: datetime.datetime,
    pydantic.FutureDatetime: datetime.datetime,
    pydantic.PastDatetime: datetime.datetime,
}
"""Classes that stand in annotations alone, and what their values are."""

_CODE = "is code: use its name, and look it up where it is called"
_ONCE = "is made of JSON as something that can be read only once: use list or Sequence"
_FACTORY = "makes its values with what other processes do not know: use dict"
_NOT_PORTABLE = (
    "DBOS's portable JSON does not have: leave serialization_type=PORTABLE out, or use JSON's types"
)
_PORTABLE = (
    *(bool, int, float, str, list, tuple, set, dict),
    *(datetime.date, datetime.datetime, decimal.Decimal),
)
_NEVER: dict[Any, str] = {collections.abc.Callable: _CODE, collections.abc.Iterable: _ONCE}


class _Walk:
    """Goes through one annotation; a class or an alias is gone into once, as it may lead to itself.

    Args:
        of_json: Whether pydantic makes the values, as it does for what entrypoints are given.
        is_portable: Whether DBOS records them as its portable JSON.
    """

    def __init__(self, *, of_json: bool, is_portable: bool) -> None:
        self._of_json = of_json
        self._is_portable = is_portable
        self._seen: dict[int, Any] = {}

    def _is_new(self, found: Any) -> bool:
        is_new = id(found) not in self._seen
        self._seen[id(found)] = found  # Kept, so that its id is no other object's.
        return is_new

    def through(self, hint: Any, path: str, *, holds_errors: bool = True) -> Iterator[str]:
        """What cannot be recorded: where it is, what it is, why, and what to use instead.

        Args:
            hint: An annotation; what says nothing of values is seen when there is one.
            path: Where it is.
            holds_errors: Whether an error would be recorded there.
        """
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        inside: tuple[Any, ...] = (origin, *args)  # `Required` and the like; an alias with types
        if origin is typing.Literal:
            inside = tuple(type(one) for one in args if isinstance(one, enum.Enum))
        elif origin is typing.Annotated:
            inside = args[:1]
        elif origin in (typing.Union, UnionType):
            inside = args
        elif origin is typing.ClassVar:
            return
        elif isinstance(hint, dataclasses.InitVar):
            inside = (hint.type,)
        elif isinstance(hint, TypeVar):
            inside = hint.__constraints__ or (hint.__bound__,)
        elif isinstance(hint, typing.NewType):
            inside = (hint.__supertype__,)
        elif type(hint).__name__ == "TypeAliasType":
            inside = (hint.__value__,) if self._is_new(hint) else ()
        elif isinstance(origin, type) and args:
            yield from self._generic(origin, args, path, holds_errors)
            return
        elif isinstance(hint, type):
            yield from self._class(hint, path, holds_errors)
            return
        for one in inside:
            if one is not None:
                yield from self.through(one, path, holds_errors=holds_errors)

    def _generic(
        self, origin: type, args: tuple[Any, ...], path: str, holds_errors: bool
    ) -> Iterator[str]:
        inside = holds_errors and origin in _KEEP_ERRORS
        if origin is tuple and args[1:] != (...,):
            for number, one in enumerate(args):
                yield from self.through(one, f"{path}[{number}]", holds_errors=inside)
        elif origin in _MAPPINGS:
            inside = inside and args[0] is str
            yield from self.through(args[0], f"{path}.keys()", holds_errors=False)
            for one in args[1:]:
                yield from self.through(one, f"{path}[...]", holds_errors=inside)
            if origin is defaultdict and self._of_json:
                made_with = typing.get_origin(args[1]) or args[1]
                if made_with not in FACTORIES.values():
                    yield f"{path} {_FACTORY}"
        else:
            yield from self._class(origin, path, holds_errors)
            item = "[...]" if issubclass(origin, collections.abc.Iterable) else ""
            for one in () if origin in (collections.abc.Callable, type) else args:
                yield from self.through(one, f"{path}{item}", holds_errors=inside)

    def _class(self, cls: type, path: str, holds_errors: bool) -> Iterator[str]:
        if cls in _OF_PYDANTIC:
            yield from self.through(_OF_PYDANTIC[cls], path)
        elif self._is_portable and cls not in _PORTABLE and not is_typeddict(cls):
            if not _says_nothing(cls):
                yield f"{path} is of the class {name_of(cls)}, which {_NOT_PORTABLE}"
        elif cls in _NEVER and (self._of_json or _NEVER[cls] is _CODE):
            yield f"{path} {_NEVER[cls]}"
        elif cls in PLAIN or (holds_errors and issubclass(cls, BY_THEMSELVES)) or _is_of_api(cls):
            return
        elif is_typeddict(cls):
            yield from self._fields(cls, path)
        elif (reason := why_not(cls)) is not None:
            if not _says_nothing(cls):
                yield f"{path} is of the class {name_of(cls)}, which {reason}"
        elif not issubclass(cls, enum.Enum):
            yield from self._fields(cls, path)

    def _fields(self, cls: type, path: str) -> Iterator[str]:
        for name, hint in _hints(cls).items() if self._is_new(cls) else ():
            yield from self.through(hint, f"{path}.{name}", holds_errors=False)


def problems(annotation: Any, path: str, *, of_json: bool, is_portable: bool = False) -> list[str]:
    """What an annotation leads to that no record can hold.

    Args:
        annotation: What a parameter or a result is annotated with, evaluated.
        path: What the sentences call it.
        of_json: Whether its values are made of JSON by pydantic.
        is_portable: Whether DBOS records them as its portable JSON, which has fewer classes.

    Returns:
        A sentence for each: where it is, what it is, why, and what to use instead.
    """
    return list(_Walk(of_json=of_json, is_portable=is_portable).through(annotation, path))


def _is_of_api(cls: type) -> bool:
    is_data = issubclass(cls, BaseModel) or is_typeddict(cls)
    return is_data and cls.__module__.partition(".")[0] in _APIS


def _says_nothing(cls: type) -> bool:
    """Whether values are of other classes, so that they are looked at when they are there."""
    if cls in _OPEN or (issubclass(cls, enum.Enum) and not cls.__members__):
        return True
    is_abstract = inspect.isabstract(cls) or getattr(cls, "_is_protocol", False)
    return is_abstract and not issubclass(cls, READ_ONCE)


def _hints(cls: type) -> dict[str, Any]:
    """What the fields of a class are annotated with; where that cannot be read, nothing."""
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except Exception:  # noqa: BLE001  # an annotation may be any expression, and name anything
        hints = {}
    if issubclass(cls, BaseModel):
        # Those of a generic model that is given its types are its fields' own.
        fields = {name: field.annotation for name, field in cls.model_fields.items()}
        return fields | {name: hints.get(name, Any) for name in cls.__private_attributes__}
    if dataclasses.is_dataclass(cls):
        return {field.name: hints.get(field.name, Any) for field in dataclasses.fields(cls)}
    return hints
