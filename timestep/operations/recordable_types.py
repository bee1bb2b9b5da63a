"""Finds what workflows are annotated with that a host could not record, before it serves them."""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import decimal
import inspect
import typing
import uuid
from collections.abc import Callable, Iterable, Iterator
from types import NoneType, UnionType
from typing import Any

from dbos import WorkflowSerializationFormat
from pydantic import BaseModel
from typing_extensions import is_typeddict

from timestep.dbos_internals.process import registered, serialization_of
from timestep.errors import EntrypointError
from timestep.operations.entrypoints import Entrypoint
from timestep.serialization.registered_types import can_be_made, classes_in, type_path

_RECORDED = {
    *(Any, NoneType, bool, int, float, str, bytes, list, tuple, set, frozenset, dict, object),
    UnionType,
    *(datetime.datetime, datetime.date, datetime.time, decimal.Decimal, uuid.UUID),
    *(collections.abc.Sequence, collections.abc.MutableSequence, collections.abc.Collection),
    *(collections.abc.Mapping, collections.abc.MutableMapping),
    *(collections.abc.Set, collections.abc.MutableSet),
}


def check(found: Iterable[Entrypoint]) -> None:
    """See that a host can record what its workflows are given and return.

    Where an annotation does not say what that is, it is seen when there is a value.

    Raises:
        EntrypointError: A sentence for each workflow with which it could not.
    """
    problems = [
        f"the workflow {name!r} is decorated with serialization_type=NATIVE, which is pickle, and "
        "hosts write none: leave it out"
        for name, function in registered().items()
        if serialization_of(function) is WorkflowSerializationFormat.NATIVE
    ]
    for entrypoint in found:
        named = list(_unrecordable(entrypoint.function))
        if named:
            problems.append(
                f"the entrypoint {entrypoint.name!r} in {entrypoint.file} has {', '.join(named)}, "
                "of which no value can be recorded: use JSON's types, dataclasses, pydantic "
                "models, enums, dates and times, Decimal, UUID, bytes, tuples or sets"
            )
    if problems:
        raise EntrypointError("; ".join(problems))


def _unrecordable(function: Callable[..., Any]) -> Iterator[str]:
    """What of a workflow is annotated with a class whose values are not recorded."""
    for name, hint in typing.get_type_hints(inspect.unwrap(function)).items():
        what = "a result" if name == "return" else f"a parameter {name!r}"
        for cls in _lost(hint, set()):
            inside = " (defined inside a function)" if "<locals>" in cls.__qualname__ else ""
            yield f"{what} of {type_path(cls)}{inside}"


def _lost(hint: Any, seen: set[type]) -> Iterator[type]:
    for cls in classes_in(hint):
        if cls in seen or cls in _RECORDED:
            continue
        seen.add(cls)
        if is_typeddict(cls) or (
            # A model's fields are pydantic's own matter.
            dataclasses.is_dataclass(cls) and can_be_made(cls) and not issubclass(cls, BaseModel)
        ):
            for inner in _hints(cls).values():
                yield from _lost(inner, seen)
        # What validates itself may make values of any class.
        elif not can_be_made(cls) and not hasattr(cls, "__get_pydantic_core_schema__"):
            yield cls


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except Exception:  # noqa: BLE001  # an annotation may be any expression, and name anything
        return {}
