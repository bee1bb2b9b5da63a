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

import contextlib
import dataclasses
import enum
import importlib
import sys
import threading
import typing
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, TypeVar

import openai
from agents import ShellCallOutcome, ShellCommandOutput, ShellResult
from agents.editor import ApplyPatchResult
from agents.tool import ToolOutputFileContent, ToolOutputImage, ToolOutputText
from pydantic import BaseModel
from typing_extensions import is_typeddict

C = TypeVar("C", bound=type)

_SDK = "agents"
_MAIN = "__main__"

_OF_TOOLS = (
    ApplyPatchResult,
    ShellCallOutcome,
    ShellCommandOutput,
    ShellResult,
    ToolOutputFileContent,
    ToolOutputImage,
    ToolOutputText,
)
"""What the SDK has tools give."""

_OF_APIS = {"openai.types": openai.BaseModel, "mcp.types": BaseModel, "mcp_types": BaseModel}
"""Packages, and the base of the models in them that are what an API sends, and nothing else."""

_MOVED = {
    "timestep.approvals": "timestep.operations.queries.records",
    "timestep.following": "timestep.operations.queries.records",
    "timestep.operations.queries.follow": "timestep.operations.queries.records",
    "timestep.operations.queries.usage": "timestep.operations.queries.records",
    "timestep.pages": "timestep.operations.queries.pagination",
    "timestep.queries": "timestep.operations.queries.records",
    "timestep.reports": "timestep.operations.queries.records",
}
"""Modules that earlier versions recorded classes under, and where those are."""


_OURS = (
    "timestep.operations.queries.pagination",
    "timestep.operations.queries.records",
)
"""Modules of Timestep whose dataclasses are what reads answer with. A workflow may return one; they
register none themselves, as they are imported where this module, and the SDK with it, is not."""


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

    def find_named(self, qualname: str) -> type | None:
        """The only class of a name, whatever its module; None where there are more, or none."""
        self._read_fields()
        with self._lock:
            found = [cls for path, cls in self._types.items() if path.endswith(f":{qualname}")]
        if found or self._around is None:
            return found[0] if len(found) == 1 else None
        return self._around.find_named(qualname)

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

    def declare_value(self, value: object) -> None:
        """Register the classes of a value, and of all that it holds."""
        waiting: list[Any] = [value]
        seen: dict[int, Any] = {}
        while waiting:
            found = waiting.pop()
            if id(found) in seen:
                continue
            seen[id(found)] = found
            self.declare(type(found))
            # What refuses to be looked at declares its class, and no more.
            with contextlib.suppress(Exception):
                waiting.extend(_parts_of(found))

    def _read_fields(self) -> None:
        with self._lock:
            while self._unread:
                cls = self._unread.pop()()
                for hint in () if cls is None else _hints(cls):
                    self.declare(hint)


PROCESS = RegisteredTypes()
"""What is registered for the process."""
_current: ContextVar[RegisteredTypes] = ContextVar("timestep_types", default=PROCESS)


@contextmanager
def known(types: RegisteredTypes) -> Iterator[None]:
    """Let values be made of the classes of a list, for as long as this lasts."""
    token = _current.set(types)
    try:
        yield
    finally:
        _current.reset(token)


def _parts_of(value: Any) -> Iterator[Any]:
    kind = type(value)  # Not `isinstance`, which asks the value for its class.
    if issubclass(kind, dict):
        yield from (*value, *value.values())
    elif issubclass(kind, list | tuple | set | frozenset | deque):
        yield from value
    elif issubclass(kind, SimpleNamespace):
        yield vars(value)
    elif issubclass(kind, BaseModel):
        yield from (vars(value), value.__pydantic_extra__, value.__pydantic_private__)
    elif dataclasses.is_dataclass(kind):
        yield from (getattr(value, field.name, None) for field in dataclasses.fields(kind))
        yield getattr(value, "__dict__", None)


def register_type(cls: C) -> C:
    """Let values of a class, and of those its fields are annotated with, be recorded as such.

    A decorator, or a call when the application starts, before any run begins. Not needed for
    classes that a run's context, its tools' annotations or its agents' output types lead to.

    Args:
        cls: A dataclass, a named tuple, a pydantic model or an enum, at the top level of a module
            or class.

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
            "dataclasses, named tuples, pydantic models and enums, and put @register_type above "
            "@dataclass"
        )
    PROCESS.add(cls)
    return cls


def declare(annotation: object) -> None:
    """Register, for this process, every class that an annotation leads to.

    What cannot be made again is passed over: it is recorded as its text.
    """
    PROCESS.declare(annotation)


def registered(path: str) -> type | None:
    """The class of a path that is registered here: for the process, or for the current run.

    So is a class that is derived from a registered one: an annotation of `Animal` is one of `Dog`,
    too. A class that has moved is found by its old path where that still names it.
    """
    module, _, name = path.partition(":")
    path = f"{_MOVED.get(module, module)}:{name}"
    types = _current.get()
    if (found := types.find(path) or _of_api(module, path) or _of_ours(path)) is not None:
        return found
    cls = imported(path)
    if cls is not None and can_be_made(cls) and any(map(_is_in(types), cls.__mro__)):
        return cls
    return types.find_named(name) if module == _MAIN else None


def is_registered_itself(cls: type) -> bool:
    """Whether a class is registered, and not only one that it is derived from."""
    path = type_path(cls)
    is_known = _is_in(_current.get())(cls) or _of_api(cls.__module__, path) is cls
    return is_known or _of_ours(path) is cls


def _is_in(types: RegisteredTypes) -> Callable[[type], bool]:
    return lambda cls: types.find(type_path(cls)) is cls


def _of_api(module: str, path: str) -> type | None:
    for package, base in _OF_APIS.items():
        if module == package or module.startswith(f"{package}."):
            cls = imported(path)
            return cls if cls is not None and issubclass(cls, base) else None
    return None


def _of_ours(path: str) -> type | None:
    module = path.partition(":")[0]
    if module not in _OURS:
        return None
    importlib.import_module(module)
    cls = imported(path)
    return cls if cls is not None and dataclasses.is_dataclass(cls) else None


def imported(path: object) -> type | None:
    """The class of a path, if its module is imported already. Nothing of the module is called."""
    if not isinstance(path, str):
        return None
    module, _, qualname = path.partition(":")
    found: object = sys.modules.get(module)
    if found is None and module == _name_of_main():
        found = sys.modules.get(_MAIN)
    for name in qualname.split("."):
        if not isinstance(found, ModuleType | type):
            return None
        # Not `getattr`: a module, or a class, may answer it with code of its own.
        found = object.__getattribute__(found, "__dict__").get(name)
    return found if isinstance(found, type) else None


def type_path(cls: type) -> str:
    """The path under which a class is recorded: of the program that is executed, its file's name.

    So `python app.py` and `uvicorn app:app` know it by the same path.
    """
    module = cls.__module__
    if module == _MAIN:
        module = _name_of_main()
    return f"{module}:{cls.__qualname__}"


def _name_of_main() -> str:
    """The name by which others import the program that is executed."""
    main = sys.modules.get(_MAIN)
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    name = spec.name if spec is not None else Path(file).stem if file else _MAIN
    # Where it was imported, too, there are two classes of each name.
    return _MAIN if name in sys.modules else name


def can_be_made(cls: type) -> bool:
    """Whether values of a class are made again from their fields, or from their value.

    The SDK's dataclasses are the run's own objects (contexts, agents, tools), and no values.
    """
    return "<locals>" not in cls.__qualname__ and has_parts(cls)


def has_parts(cls: type) -> bool:
    """Whether a class says what its values are made of, wherever it is defined."""
    if cls is BaseModel:
        return False
    if issubclass(cls, enum.Enum):
        return bool(cls.__members__)
    if issubclass(cls, BaseModel) or is_named_tuple(cls):
        return True
    return dataclasses.is_dataclass(cls) and cls.__module__.partition(".")[0] != _SDK


def is_named_tuple(cls: type) -> bool:
    """Whether values of a class are what its named fields hold, and nothing else."""
    return cls.__base__ is tuple and "_fields" in vars(cls)


def classes_in(annotation: object) -> Iterator[type]:
    """The classes that an annotation is made of."""
    waiting: list[Any] = [annotation]
    seen: dict[int, Any] = {}
    while waiting:
        found = waiting.pop()
        if id(found) in seen:  # An alias may be part of itself.
            continue
        seen[id(found)] = found
        if isinstance(found, type) and not typing.get_args(found):
            yield found
            # A generic model that is given its types is a class of its own.
            waiting.append(getattr(found, "__pydantic_generic_metadata__", {}).get("origin"))
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


for _cls in _OF_TOOLS:
    PROCESS.add(_cls)
