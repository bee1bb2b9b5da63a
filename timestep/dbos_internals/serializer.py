"""Writes as JSON what DBOS keeps of workflows and steps: arguments, results, errors, messages.

DBOS's default serializer pickles, and who can write a pickle into the database runs code in
whoever reads it. This one makes values again of registered classes only, errors of their
envelopes, and has a name that rows keep.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import typing
from collections.abc import Callable
from typing import Any

from dbos import Serializer, WorkflowSerializationFormat, WorkflowStatus, _dbos
from dbos._serialization import (
    DBOSDefaultSerializer,
    DBOSPortableJSON,
    deserialize_args,
    deserialize_exception,
    serialize_exception,
)

from timestep.dbos_internals.process import registered, serialization_of
from timestep.errors import (
    PickledRecordError,
    RecordedError,
    UnreadableValueError,
    UnrecordableError,
)
from timestep.runtime import logs, process_state
from timestep.runtime.process_state import PerProcess
from timestep.serialization import exceptions, unrecordable
from timestep.serialization.registered_types import PROCESS, declare, known, type_path
from timestep.serialization.values import decode, survives
from timestep.serialization.values.encoding import Encoding, is_short
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

_SCALARS = (str, float, bool, type(None))
_TOO_DEEP = f"what is to be recorded {unrecordable.TOO_DEEP}"

_log = logs.logger()

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
            try:
                return _json.encode(_document(data))
            except RecursionError:
                raise UnrecordableError(_TOO_DEEP) from None

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


def value_as_recorded(value: Any) -> Any:
    """A value as this process's serializer gives it back of its record: itself, if that is equal.

    Where a serializer is the application's own, it is the value.

    Raises:
        UnrecordableError: Nothing gives it back.
    """
    if not isinstance(in_use(), JSONSerializer):
        return value
    try:
        if _is_json(value):
            return value
        with known(PROCESS):
            document = _document(value)
            return survives(value) if VALUE in document else _value(document)
    except RecursionError:
        raise UnrecordableError(_TOO_DEEP) from None


def error_as_recorded(error: Exception) -> Exception:
    """An error as this process's serializer gives it back of its record: itself, where it can be.

    Else it is a `RecordedError` that the same `except` clauses catch. Where a serializer of the
    application's own gives back neither, it is the error. The log tells of both, once a class.
    """
    serializer = in_use()
    if isinstance(serializer, JSONSerializer):
        with known(PROCESS):
            back = exceptions.survives(error)
    else:
        back = error if _gives_back(serializer, error) else exceptions.stand_in(error)
        if back is not error and not _gives_back(serializer, back):
            _tell(error, f"the serializer {serializer.name()} gives back another one", back=error)
            return error
    if back is not error:
        lost = ", ".join(exceptions.lost(error, back)) or "something that it holds"
        _tell(error, f"no record gives back its {lost}", back=back)
    return back


class ToldErrors(PerProcess):
    """Keeps the classes of which the log has said that their errors do not come back."""

    def __init__(self) -> None:
        self.paths: set[str] = set()


def _tell(error: Exception, reason: str, *, back: Exception) -> None:
    told, path = process_state.of(ToldErrors).paths, type_path(type(error))
    if path in told or (isinstance(error, RecordedError) and error.recorded_as is not None):
        return
    told.add(path)
    if back is error:
        _log.warning(
            "an error of the class %s is another one after a recovery, so code that catches it may "
            "do something else then: %s; give DBOS timestep.JSONSerializer()",
            path,
            reason,
        )
    else:
        _log.warning(
            "an error of the class %s that a step or a workflow raised goes on as a RecordedError, "
            "which the same `except` clauses catch: %s",
            path,
            reason,
        )


def _gives_back(serializer: Serializer, error: Exception) -> bool:
    with contextlib.suppress(Exception):  # of whatever a serializer, or the error's code, raises
        text, serialization = serialize_exception(error, None, serializer)
        back = deserialize_exception(text, serialization, serializer)
        return type(back) is type(error) and str(back) == str(error)
    return False


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


def check_portable(function: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """See that what DBOS is to record of a start as its portable JSON can be.

    Raises:
        UnrecordableError: It cannot.
    """
    if serialization_of(function) is WorkflowSerializationFormat.PORTABLE:
        try:
            DBOSPortableJSON.serialize(arguments)
        except (TypeError, ValueError) as error:
            raise UnrecordableError(
                f"its workflow has serialization_type=PORTABLE, and {error}"
            ) from error


def declare_registered() -> None:
    """Declare what the workflows and steps of this process are annotated with."""
    for function in registered().values():
        for hint in hints_of(function).values():
            declare(hint)


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of what DBOS calls as a workflow: as text those that cannot be read."""
    body, _ = behind(function)
    with contextlib.suppress(Exception):  # an annotation may be any expression
        return typing.get_type_hints(body, include_extras=True)
    return dict(getattr(body, "__annotations__", {}))


def behind(function: Callable[..., Any]) -> tuple[Callable[..., Any], bool]:
    """The application's own function of what DBOS calls as a workflow; whether it is a step.

    DBOS registers each step as a workflow around it.
    """
    body = inspect.unwrap(function)
    if not getattr(body, "__name__", "").startswith("temp_wf_"):
        return body, False
    return inspect.unwrap(inspect.getclosurevars(body).nonlocals["wrapper"]), True


def _document(data: Any, path: unrecordable.Path = ()) -> dict[str, Any]:
    if isinstance(data, BaseException):
        return {ERROR: exceptions.seal(data)}
    if isinstance(data, WorkflowStatus):
        return {WORKFLOW: {name: _document(value) for name, value in vars(data).items()}}
    if _is_json(data):
        return {VALUE: data}
    encoding = Encoding()
    encoded = encoding.of(data)
    if encoding.lost:
        declare_registered()
        encoding = Encoding()
        encoded = encoding.of(data)
        if encoding.lost:
            return _document_of_parts(data, path)
    _check_equal(data, encoded, path, is_comparable=encoding.is_comparable)
    return {VALUE: encoded}


def _is_json(data: Any, met: set[int] | None = None) -> bool:
    """Whether it is of JSON's types alone, holds nothing twice, and is like nothing else's record.

    Args:
        data: A value.
        met: The ids of the lists and dicts around and before it.
    """
    kind = type(data)
    if kind is int:
        return is_short(data)
    if kind in _SCALARS:
        return True
    if kind is not dict and kind is not list:
        return False
    met = set() if met is None else met
    if id(data) in met:
        return False
    met.add(id(data))
    if kind is list:
        return all(_is_json(item, met) for item in data)
    return all(
        type(key) is str and key[:1] != "$" and _is_json(item, met) for key, item in data.items()
    )


def _check_equal(data: Any, encoded: Any, path: unrecordable.Path, *, is_comparable: bool) -> None:
    """See that a value comes back equal, where that can be told: not so of NaN."""
    try:
        made = decode(encoded)
    except UnreadableValueError as error:
        raise UnrecordableError(f"what is to be recorded could not be read: {error}") from error
    if is_comparable and not unrecordable.is_equal(data, made):
        raise UnrecordableError(unrecordable.unequal(data, made, path))


def _document_of_parts(data: Any, path: unrecordable.Path) -> dict[str, Any]:
    """What holds errors, or what DBOS says of workflows: each part for itself."""
    kind, key = type(data), unrecordable.key
    if kind is dict and all(type(name) is str for name in data):
        return {DICT: {name: _document(item, (*path, key(name))) for name, item in data.items()}}
    if kind in (list, tuple):
        parts = [_document(item, (*path, key(number))) for number, item in enumerate(data)]
        return {LIST if kind is list else TUPLE: parts}
    raise UnrecordableError(unrecordable.lost(data, path))


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
