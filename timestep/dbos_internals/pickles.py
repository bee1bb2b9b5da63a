"""Keeps a host from pickles: it neither reads nor writes them, nor executes what needs them.

DBOS reads a row that says it is pickled with pickle, whatever serializer it was launched with, and
who can write such a row would run code here. So its pickling is switched off, and workflows that
an earlier version recorded as pickles are left out where DBOS takes up work: in its queues, and
among what it recovers when it is launched. They stay as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from dbos._serialization import DBOSDefaultSerializer
from dbos._sys_db import SystemDatabase

from timestep.dbos_internals.presence import Refusal
from timestep.errors import PickledRecordError
from timestep.runtime import process_state
from timestep.store.reads import pickled_workflows

_TAKE_UP_WORK = (
    "get_pending_workflows",
    "start_queued_workflows",
    "start_queued_partitioned_workflows",
)
_schema: ContextVar[str | None] = ContextVar("timestep_schema_of_work", default=None)
"""Where work is being taken up: the schema of DBOS's tables."""


def refuse_pickles() -> None:
    """Have DBOS read and write no pickles in this process; call it before `DBOS.launch()`.

    DBOS reads what a row says is a pickle whatever its serializer is, and who can write such a row
    runs code in the process. From here on that is an error, and unfinished workflows that need one
    to be read are left as they are. A host does this itself, unless TIMESTEP_READ_PICKLES is true;
    an application of your own gives DBOS a `JSONSerializer`, too.
    """
    refusal = process_state.of(Refusal)
    refusal.close()
    refusal.has_begun = True
    for name in ("serialize", "deserialize"):
        # On the object, which all of DBOS's modules share.
        _replace(refusal, DBOSDefaultSerializer, name, _refused)
    for name in _TAKE_UP_WORK:
        _replace(refusal, SystemDatabase, name, _taking_up(getattr(SystemDatabase, name)))
    narrowed = staticmethod(_narrowed(SystemDatabase._name_filter))
    _replace(refusal, SystemDatabase, "_name_filter", narrowed)


def allow() -> None:
    """Undo `refuse_pickles`."""
    process_state.of(Refusal).close()


def _replace(refusal: Refusal, owner: Any, name: str, by: Any) -> None:
    if name in vars(owner):
        refusal.undo.callback(setattr, owner, name, vars(owner)[name])
    else:
        refusal.undo.callback(delattr, owner, name)
    setattr(owner, name, by)


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
