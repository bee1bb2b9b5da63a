"""Keeps a host from pickles: it neither reads nor writes them, nor executes what needs them.

DBOS reads a row that says it is pickled with pickle, whatever serializer it was launched with, and
who can write such a row would run code here. So its pickling is switched off, and workflows that
an earlier version recorded as pickles are left out where DBOS takes up work: in its queues, and
among what it recovers when it is launched. They stay as they are.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from dbos._serialization import DBOSDefaultSerializer
from dbos._sys_db import SystemDatabase

from timestep.errors import PickledRecordError
from timestep.runtime import process_state
from timestep.runtime.process_state import PerProcess
from timestep.store.reads import pickled_workflows

_TAKE_UP_WORK = (
    "get_pending_workflows",
    "start_queued_workflows",
    "start_queued_partitioned_workflows",
)
_schema: ContextVar[str | None] = ContextVar("timestep_schema_of_work", default=None)
"""Where work is being taken up: the schema of DBOS's tables."""


class Refusal(PerProcess):
    """A process refuses pickles from `begin` to `close`."""

    def __init__(self) -> None:
        self._undo = contextlib.ExitStack()
        self.has_begun = False

    def begin(self) -> None:
        """Refuse pickles; before DBOS is launched. A second time it changes nothing."""
        self.close()
        self.has_begun = True
        for name in ("serialize", "deserialize"):
            # On the object, which all of DBOS's modules share.
            self._replace(DBOSDefaultSerializer, name, _refused)
        for name in _TAKE_UP_WORK:
            self._replace(SystemDatabase, name, _taking_up(getattr(SystemDatabase, name)))
        narrowed = staticmethod(_narrowed(SystemDatabase._name_filter))
        self._replace(SystemDatabase, "_name_filter", narrowed)

    def close(self) -> None:
        """Let DBOS be as it was."""
        self._undo.close()
        self.has_begun = False

    def _replace(self, owner: Any, name: str, by: Any) -> None:
        if name in vars(owner):
            self._undo.callback(setattr, owner, name, vars(owner)[name])
        else:
            self._undo.callback(delattr, owner, name)
        setattr(owner, name, by)


def refuse_pickles() -> None:
    """Have DBOS read and write no pickles in this process; call it before `DBOS.launch()`.

    DBOS reads what a row says is a pickle whatever its serializer is, and who can write such a row
    runs code in the process. From here on that is an error, and unfinished workflows that need one
    to be read are left as they are. A host does this itself, unless TIMESTEP_READ_PICKLES is true;
    an application of your own gives DBOS a `JSONSerializer`, too.
    """
    process_state.of(Refusal).begin()


def allow() -> None:
    """Undo `refuse_pickles`."""
    process_state.of(Refusal).close()


def are_refused() -> bool:
    """Whether this process refuses pickles."""
    return process_state.of(Refusal).has_begun


def _refused(*_: Any) -> Any:
    raise PickledRecordError


def _taking_up(original: Callable[..., Any]) -> Callable[..., Any]:
    """The method, in which `_name_filter` leaves pickled workflows out."""

    @functools.wraps(original)
    def take_up(system: SystemDatabase, *args: Any, **kwargs: Any) -> Any:
        token = _schema.set(system.schema or "main")  # SQLite's own name for it
        try:
            return original(system, *args, **kwargs)
        finally:
            _schema.reset(token)

    return take_up


def _narrowed(original: Callable[..., Any]) -> Callable[..., Any]:
    """DBOS's predicate for an application's own rows, which all that takes up work has."""

    @functools.wraps(original)
    def name_filter(column: Any, value: Any) -> Any:
        found, schema = original(column, value), _schema.get()
        if schema is None or column.table.name != pickled_workflows.TABLE:
            return found
        return pickled_workflows.left_out(found, schema)

    return name_filter
