"""Says which part of a value cannot be recorded and come back, why, and what to use instead."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import AsyncIterable, Awaitable, Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, NoneType
from typing import Any, TypeAlias

from dbos import WorkflowStatus
from pydantic import Secret, SecretBytes, SecretStr

from timestep.serialization import leaf_types
from timestep.serialization.registered_types import (
    can_be_made,
    has_parts,
    is_named_tuple,
    registered,
    type_path,
)
from timestep.serialization.values import encode, has_text, object_state

SEQUENCES = (list, tuple, set, frozenset, deque)
MAPPINGS = (dict, OrderedDict, Counter, defaultdict)
_SECRETS = (SecretStr, SecretBytes, Secret)
PLAIN: frozenset[type] = frozenset(
    (*SEQUENCES, *MAPPINGS, *leaf_types.CLASSES, NoneType, bool, int, float, str)
).difference(_SECRETS)
"""Classes that need no registration."""
BY_THEMSELVES = (BaseException, WorkflowStatus)
"""What the serializer has forms for, outside anything else than these:"""
_HOLDERS = (list, tuple, dict)
READ_ONCE = (Iterator, AsyncIterable, Awaitable)
_CODE = (FunctionType, BuiltinFunctionType, MethodType, functools.partial)

Path: TypeAlias = tuple[str, ...]
"""The steps from a value to a part of it, such as `.lines` and `[2]`."""
_SHOWN = 40
DEEPEST = 100
"""How far parts are looked for inside parts."""
TOO_DEEP = "refers to itself, or is nested too deeply: take the parts that are needed of it"


def why_not(cls: type) -> str | None:
    """Why values of exactly this class cannot be recorded, and what to do; None: they can.

    What is not plain has to be registered, too, which this does not look at.
    """
    if cls in PLAIN:
        return None
    if issubclass(cls, _SECRETS):
        return (
            "is a secret, which no record may hold: take its name instead, such as that of a "
            "variable of the environment, and read it where it is used"
        )
    if issubclass(cls, BaseException):
        return (
            "is an error inside something else than lists, tuples and dicts by text: use its text, "
            "or give the error by itself"
        )
    if can_be_made(cls):
        return None
    if "<locals>" in cls.__qualname__ and has_parts(cls):
        return (
            "is defined inside a function, where no other process finds it: move it to the top "
            "level of its module"
        )
    if issubclass(cls, READ_ONCE):
        return "can be read only once: await it, or make a list of it"
    if issubclass(cls, type):
        return "is a class: use its name, and look the class up where it is needed"
    if dataclasses.is_dataclass(cls):
        return (
            "is an object of the Agents SDK's own, which each execution makes for itself: use what "
            "you need of it, such as `final_output` of a result"
        )
    plain = next((base for base in cls.__mro__ if base in PLAIN), None)
    if plain is not None:
        return f"is a subclass of {name_of(plain)} with its own rules: use {name_of(plain)}"
    if issubclass(cls, _CODE):
        return "is code: use its name, and look it up where it is called"
    return (
        "is none of the classes whose values can be made again: make it a dataclass, a named "
        "tuple, a pydantic model or an enum if it is yours, else use the texts and numbers that it "
        "is made of"
    )


def lost(data: Any, path: Path = ()) -> str:
    """Why a value that a workflow is given, gives or sends cannot be recorded, and what to do.

    Args:
        data: A value of which `values.encode` leaves a part as its text.
        path: Where it is in what DBOS records as a whole.
    """
    for suffix, part in _parts(data):
        is_one = isinstance(part, BY_THEMSELVES) and type(data) in _HOLDERS
        if len(path) < DEEPEST and not is_one and has_text(encode(part)):
            return lost(part, (*path, suffix))
    return f"{_place(path)} is of the class {name_of(type(data))}, which {_reason(data)}"


def unequal(data: Any, made: Any, path: Path = (), holder: type = object) -> str:
    """Which part of a value is not equal to what is made of its record, and what to do.

    Args:
        data: The value.
        made: What is made of its record.
        path: Where the value is in what DBOS records as a whole.
        holder: The class of what is around it.
    """
    holder = type(data) if can_be_made(type(data)) else holder
    found = dict(_parts(made)) if type(made) is type(data) and len(path) < DEEPEST else {}
    for suffix, part in _parts(data):
        if suffix in found and not is_equal(part, found[suffix]):
            return unequal(part, found[suffix], (*path, suffix), holder)
    if (reason := why_not(type(data))) is not None:
        return f"{_place(path)} is of the class {name_of(type(data))}, which {reason}"
    return (
        f"{_place(path)} does not come back equal: the class {name_of(holder)} leaves something "
        "out of its record, such as an excluded or private field, or changes what it is made of; "
        "give what is needed in fields that are kept as they are"
    )


def name_of(cls: type) -> str:
    """A class as people write it."""
    return type_path(cls).removeprefix("builtins:").replace(":", ".")


def key(name: object) -> str:
    """How a path goes on to what a dict has under a key, or a list at a place."""
    text = repr(name) if isinstance(name, str | int) else "…"
    return f"[{text if len(text) <= _SHOWN else '…'}]"


def _place(path: Path) -> str:
    """Where a part is, for people."""
    root, *inner = path or ("",)
    if inner and root == key("kwargs"):
        return f"the argument {inner[0][2:-2]}{''.join(inner[1:])}"
    if inner and root == key("args"):
        return f"the argument number {int(inner[0][1:-1]) + 1}{''.join(inner[1:])}"
    return (
        f"the part {''.join(path)} of what is to be recorded" if path else "what is to be recorded"
    )


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What a value is made of, as far as the record keeps it, and how a path goes on to it."""
    kind = type(value)
    if kind in MAPPINGS:
        for number, (name, part) in enumerate(value.items()):
            yield f".keys()[{number}]", name
            yield key(name), part
    elif kind in SEQUENCES:
        for number, part in enumerate(value):
            yield key(number), part
    elif is_named_tuple(kind):
        yield from ((f".{name}", getattr(value, name)) for name in kind._fields)
    elif can_be_made(kind) and not issubclass(kind, enum.Enum):
        with contextlib.suppress(TypeError):  # `_reason` says why
            for section in object_state.taken(value, kind).values():
                if isinstance(section, dict):
                    yield from ((f".{name}", part) for name, part in section.items())


def is_equal(one: Any, other: Any) -> bool:
    """Whether two values are equal, as far as their class tells.

    Raises:
        RecursionError: They refer to themselves.
    """
    try:
        return bool(one == other)
    except RecursionError:
        raise
    except Exception:  # noqa: BLE001  # a class may compare as it likes
        return True


def _reason(value: Any) -> str:
    """Why values of a class are recorded as their text."""
    cls = type(value)
    if (reason := why_not(cls)) is not None:
        return reason
    if cls is defaultdict:
        return (
            "makes its values with what other processes do not know: make them with a class such "
            "as int or list, or use dict"
        )
    if cls in PLAIN:
        return TOO_DEEP
    found = registered(type_path(cls))
    if found is None:
        return (
            "is not registered: give it to timestep.register_type, or name it in the annotation "
            "of a workflow or step"
        )
    if found is not cls:
        return (
            "has the name of another class that is registered, as where a module is imported "
            "twice: give each a name of its own, and import each module once"
        )
    try:
        object_state.taken(value, cls)
    except TypeError as error:
        return f"cannot be made again: {error}"
    return "cannot be made again of what it holds: use the texts and numbers that it is made of"
