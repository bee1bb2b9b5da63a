"""Writes as JSON what DBOS keeps of workflows and steps: arguments, results, errors, messages.

DBOS's default serializer pickles, and who can write a pickle into the database runs code in
whoever reads it. This one makes values again of registered classes only, errors of their
envelopes, and has a name that rows keep.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import json
import typing
from collections.abc import Callable
from typing import Any

from dbos import Serializer, WorkflowStatus, _dbos
from dbos._serialization import DBOSDefaultSerializer, deserialize_args

from timestep.dbos_internals.process import registered
from timestep.errors import PickledRecordError, UnreadableValueError, UnrecordableError
from timestep.serialization import exceptions
from timestep.serialization.registered_types import PROCESS, declare, known, type_path
from timestep.serialization.values import decode, encode, has_text, lost
from timestep.serialization.workflow_documents import (
    DICT,
    ERROR,
    LIST,
    NAME,
    TUPLE,
    VALUE,
    WORKFLOW,
    is_pickle,
)
from timestep.store.reads.workflow_records import WorkflowRecord

_NONE = "gAROLg=="
"""None as DBOS's default serializer writes it: what most schedules have as their context."""

_SCALARS = (str, int, float, bool, type(None))

# ASCII, because a column of PostgreSQL holds neither NUL nor lone surrogates.
_json = json.JSONEncoder(separators=(",", ":"))


class JSONSerializer(Serializer):
    """Keeps JSON, pydantic models, dataclasses, enums, times, decimals, UUIDs, bytes, tuples, sets.

    For `DBOS(config={..., "serializer": timestep.JSONSerializer()})`; a host has it already.
    A class is known if it is annotated in a workflow or step, or was given to `register_type`.

    Args:
        read_pickles: Whether to read what was pickled before rows kept the name of a serializer.
    """

    def __init__(self, *, read_pickles: bool = False) -> None:
        self._reads_pickles = read_pickles

    def name(self) -> str:
        """The name that rows keep in the column `serialization`."""
        return NAME

    def serialize(self, data: Any) -> str:
        """JSON text of a value or an error, from which it comes back equal.

        Raises:
            UnrecordableError: It would not.
        """
        # What another workflow's execution reads it with knows no classes of a run.
        with known(PROCESS):
            return _json.encode(_document(data))

    def deserialize(self, serialized_data: str) -> Any:
        """What `serialize` was given.

        Raises:
            PickledRecordError: It is a pickle, and they are not read.
            UnreadableValueError: A class that it names is not registered.
        """
        if is_pickle(serialized_data):
            if serialized_data == _NONE:
                return None
            if self._reads_pickles:
                return DBOSDefaultSerializer.deserialize(serialized_data)
            raise PickledRecordError
        document = json.loads(serialized_data)
        with known(PROCESS):
            try:
                return _value(document)
            except UnreadableValueError:
                declare_registered()
                return _value(document)


_ours = JSONSerializer()


def in_use() -> Serializer:
    """What this process writes with: its DBOS's serializer, or ours where it has no DBOS."""
    dbos = _dbos._dbos_global_instance
    return _ours if dbos is None else dbos._serializer


def arguments_of(record: WorkflowRecord) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """What a workflow was started with, by position and by name; None: that is gone.

    Raises:
        PickledRecordError: It is a pickle; one is read only where DBOS reads them here anyway.
        UnrecordableError: Another serializer than this process's wrote it.
    """
    text, serialization = record.arguments, record.serialization
    if text is None:
        return None
    if is_pickle(text, serialization) and _dbos._dbos_global_instance is None:
        raise PickledRecordError
    try:
        found = deserialize_args(text, serialization, in_use())
    except TypeError as error:
        raise UnrecordableError(str(error)) from error
    return found["args"], found["kwargs"]


def declare_registered() -> None:
    """Declare what the workflows and steps of this process are annotated with."""
    for function in registered().values():
        for hint in hints_of(function).values():
            declare(hint)


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of what DBOS calls as a workflow: as text those that cannot be read."""
    inner = inspect.unwrap(function)
    if getattr(inner, "__name__", "").startswith("temp_wf_"):
        # DBOS registers each step as a workflow around it.
        inner = inspect.unwrap(inspect.getclosurevars(inner).nonlocals["wrapper"])
    with contextlib.suppress(Exception):  # an annotation may be any expression
        return typing.get_type_hints(inner, include_extras=True)
    return dict(getattr(inner, "__annotations__", {}))


def _document(data: Any) -> dict[str, Any]:
    if isinstance(data, BaseException):
        return {ERROR: exceptions.seal(data)}
    if isinstance(data, WorkflowStatus):
        return {WORKFLOW: {name: _document(value) for name, value in vars(data).items()}}
    if _is_json(data):
        return {VALUE: data}
    encoded = encode(data)
    if has_text(encoded):
        declare_registered()
        encoded = encode(data)
        if has_text(encoded):
            return _document_of_parts(data)
    _check_equal(data, encoded)
    return {VALUE: encoded}


def _is_json(data: Any) -> bool:
    """Whether it is of JSON's types alone, and could not be taken for anything else."""
    kind = type(data)
    if kind is dict:
        return all(
            type(key) is str and key[:1] != "$" and _is_json(item) for key, item in data.items()
        )
    return kind in _SCALARS or (kind is list and all(map(_is_json, data)))


def _check_equal(data: Any, encoded: Any) -> None:
    """See that a value comes back equal: secrets, or what a model leaves out, would not.

    Not where a value is like nothing else, as NaN is: a copy of it is not equal, either.
    """
    try:
        if decode(encoded) == data or "NaN" in _json.encode(encoded) or copy.deepcopy(data) != data:
            return
        reason = "its class leaves something out, such as a secret or an excluded field"
    except UnreadableValueError as error:
        reason = error.message
    raise UnrecordableError(f"{_short(data)} does not come back from JSON as it was: {reason}")


def _document_of_parts(data: Any) -> dict[str, Any]:
    """What holds errors, or what DBOS says of workflows: each part for itself."""
    kind = type(data)
    if kind is dict and all(type(key) is str for key in data):
        return {DICT: {key: _document(item) for key, item in data.items()}}
    if kind in (list, tuple):
        return {LIST if kind is list else TUPLE: [_document(item) for item in data]}
    inside = [f", which holds one of {type_path(cls)}," for cls in lost(data) if cls is not kind]
    raise UnrecordableError(
        f"a value of {kind.__module__}.{kind.__qualname__}{''.join(inside[:1])} cannot be recorded "
        "as JSON and come back: give its class to timestep.register_type if it is a dataclass, "
        f"pydantic model or enum, else make something of JSON's types of it ({_short(data)})"
    )


def _short(data: Any) -> str:
    text = " ".join(object.__repr__(data).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _value(document: dict[str, Any]) -> Any:
    ((form, content),) = document.items()
    if form == VALUE:
        return decode(content)
    if form == ERROR:
        return exceptions.opened(content)
    if form == DICT:
        return {key: _value(item) for key, item in content.items()}
    if form in (LIST, TUPLE):
        parts = [_value(item) for item in content]
        return parts if form == LIST else tuple(parts)
    status = WorkflowStatus()
    vars(status).update({name: _value(value) for name, value in content.items()})
    return status
