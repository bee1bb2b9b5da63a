"""Keeps the closed list of classes whose values are made again of what is recorded.

A recorded document is data: a class that it names is looked up here, and never imported. The
list has what Timestep and the application register, for the process, and what the agents,
tools and context of a run declare, for that run: so a run and its recovery know the same
classes, whatever else their processes did.

The list of the process is made as modules are imported, each once, and so it is no part of
`runtime.process_state`, which may begin anew in a process that has imported them. It keeps no
class alive.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
import threading
import typing
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

from pydantic import BaseModel
from typing_extensions import is_typeddict

C = TypeVar("C", bound=type)

_SDK = "agents"


class RegisteredTypes:
    """A list of classes by their paths, and those of the list around it.

    Args:
        around: What is in it, too; None: nothing.
    """

    def __init__(self, around: RegisteredTypes | None = None) -> None:
        self._around = around
        self._types: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()
        self._unread: list[weakref.ref[type]] = []
        """Classes whose fields are read when they are asked for: a decorator comes too early."""
        self._lock = threading.RLock()

    def find(self, path: str) -> type | None:
        """The class that is registered under a path, such as `shop.orders:Order`."""
        found = self._types.get(path)
        if found is None:
            self._read_fields()
            found = self._types.get(path)
        if found is None and self._around is not None:
            return self._around.find(path)
        return found

    def add(self, cls: type) -> None:
        """Register a class, and those that its fields are annotated with."""
        path = type_path(cls)
        with self._lock:
            if self._types.get(path) is not cls:
                # A module that is imported anew has a new class of the same name.
                self._types[path] = cls
                self._unread.append(weakref.ref(cls))

    def declare(self, annotation: object) -> None:
        """Register every class whose values can be made again that an annotation leads to.

        Args:
            annotation: A class, or what may stand in an annotation: unions, containers,
                `Annotated`, type aliases. Classes that it contains are followed into their
                fields. Any other object is as `typing.Any`.
        """
        for cls in classes_in(annotation):
            if is_typeddict(cls):
                for hint in _hints(cls):
                    self.declare(hint)
            elif can_be_made(cls) and self.find(type_path(cls)) is not cls:
                self.add(cls)

    def _read_fields(self) -> None:
        with self._lock:
            while self._unread:
                cls = self._unread.pop()()
                for hint in () if cls is None else _hints(cls):
                    self.declare(hint)


_process = RegisteredTypes()
_current: ContextVar[RegisteredTypes] = ContextVar("timestep_types", default=_process)


def register_type(cls: C) -> C:
    """Let values of a class, and of those its fields are annotated with, be recorded as such.

    A decorator, or a call when the application starts, before any run begins. Not needed for
    classes that a run's context, its tools' annotations or its agents' output types lead to.

    Args:
        cls: A dataclass, a pydantic model or an enum, at the top level of a module or class.

    Returns:
        The same class.

    Raises:
        TypeError: Values of the class cannot be made again.
    """
    if not isinstance(cls, type):
        raise TypeError(f"register_type takes a class, and {cls!r} is none: give its class")
    if "<locals>" in cls.__qualname__:
        raise TypeError(
            f"{type_path(cls)} is defined inside a function, so another process cannot find it: "
            "move it to the top level of its module"
        )
    if not can_be_made(cls):
        raise TypeError(
            f"values of {type_path(cls)} cannot be made again from their fields: register "
            "dataclasses, pydantic models and enums, and put @register_type above @dataclass"
        )
    _process.add(cls)
    return cls


def declare(annotation: object) -> None:
    """Register, for this process, every class that an annotation leads to.

    What cannot be made again is passed over: it is recorded as its text.
    """
    _process.declare(annotation)


def registered(path: str) -> type | None:
    """The class of a path that is registered here: for the process, or for the current run."""
    return _current.get().find(path)


def type_path(cls: type) -> str:
    """The path under which a class is recorded."""
    return f"{cls.__module__}:{cls.__qualname__}"


def can_be_made(cls: type) -> bool:
    """Whether values of a class are made again from their fields, or from their value.

    The SDK's dataclasses are the run's own objects (contexts, agents, tools), and no values.
    """
    if "<locals>" in cls.__qualname__ or cls is BaseModel:
        return False
    if issubclass(cls, enum.Enum):
        return bool(cls.__members__)
    if issubclass(cls, BaseModel):
        return True
    return dataclasses.is_dataclass(cls) and cls.__module__.partition(".")[0] != _SDK


def classes_in(annotation: object) -> Iterator[type]:
    """The classes that an annotation is made of."""
    waiting: list[Any] = [annotation]
    while waiting:
        found = waiting.pop()
        if isinstance(found, type) and not typing.get_args(found):
            yield found
        elif isinstance(found, TypeVar):
            waiting.extend((found.__bound__, *found.__constraints__))
        elif isinstance(found, enum.Enum):  # of a Literal
            yield type(found)
        elif isinstance(found, list | tuple):  # a Callable's arguments
            waiting.extend(found)
        elif (origin := typing.get_origin(found)) is not None:
            waiting.extend((origin, *typing.get_args(found)))
        else:
            # A NewType; or an alias of the statement `type`.
            inner = getattr(found, "__supertype__", None) or getattr(found, "__value__", None)
            if isinstance(found, typing.NewType) or type(found).__name__ == "TypeAliasType":
                waiting.append(inner)


def _hints(cls: type) -> list[Any]:
    """The annotations of a class's fields; those that name what is not there are left out."""
    hints: list[Any] = []
    if issubclass(cls, BaseModel):
        # Of a generic model that is given its types, these have them.
        hints.extend(field.annotation for field in cls.model_fields.values())
    try:
        hints.extend(typing.get_type_hints(cls, include_extras=True).values())
    except Exception:  # noqa: BLE001  # an annotation may be any expression
        for base in cls.__mro__:
            space = vars(sys.modules.get(base.__module__, typing))
            for name, hint in vars(base).get("__annotations__", {}).items():
                hints.extend(_read(name, hint, space, dict(vars(base))))
    return hints


def _read(name: str, hint: Any, space: dict[str, Any], inside: dict[str, Any]) -> list[Any]:
    one = type("one", (), {"__annotations__": {name: hint}})
    try:
        return list(typing.get_type_hints(one, space, inside, include_extras=True).values())
    except Exception:  # noqa: BLE001  # as above
        return []
