"""Has DBOS wait, too, for a database that says "not now".

DBOS does again what a lost connection ended, and lets everything else end the workflow: its own
record of a workflow's end, of a step, of a child. So what says "not now" counts as a lost
connection on its engine, and is told as all of this process's waits are.
"""

from __future__ import annotations

import logging
import threading
import weakref

import sqlalchemy as sa
from sqlalchemy.engine import ExceptionContext

from timestep.database import not_now
from timestep.database.error_translation import keep_rows_out
from timestep.database.waits import Waits
from timestep.dbos_internals import process
from timestep.runtime import process_state
from timestep.runtime.process_state import PerProcess

_DRIVER = "(psycopg."
"""What DBOS's lines have in them that tell of an error of the database, its values, too."""


class PatientEngines(PerProcess):
    """A process keeps which engines of DBOS are patient."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engines: weakref.WeakSet[sa.Engine] = weakref.WeakSet()

    def add(self, engine: sa.Engine) -> None:
        with self._lock:
            if engine in self._engines:
                return
            self._engines.add(engine)
        sa.event.listen(engine, "handle_error", _failed)
        keep_rows_out(engine)
        sa.event.listen(engine, "checkin", _returned)
        logging.getLogger("dbos").addFilter(_is_worth_saying)

    def close(self) -> None:
        logging.getLogger("dbos").removeFilter(_is_worth_saying)


def attach() -> None:
    """Make the engine of this process's DBOS patient. A second time it changes nothing."""
    engine = process.system_engine()
    if engine is not None:
        process_state.of(PatientEngines).add(engine)


def _failed(context: ExceptionContext) -> None:
    error = context.original_exception
    said = not_now.answer(error)
    if said is None or _is_answered_by_dbos(context):
        return
    context.is_disconnect = True
    context.invalidate_pool_on_disconnect = said.wants_new_connection
    process_state.of(Waits).begin(_waiter(), said, error, may_vanish=True)


def _is_answered_by_dbos(context: ExceptionContext) -> bool:
    """Whether it is only that another worker takes from the same queue."""
    if "NOWAIT" in (context.statement or ""):
        return True
    connection = context.connection
    return connection is not None and connection.get_execution_options().get("isolation_level") in (
        "REPEATABLE READ",
        "SERIALIZABLE",
    )


def _returned(connection: object, _: object) -> None:
    """Note that a statement went well; one that failed leaves no connection."""
    if connection is not None and (waits := process_state.of(Waits)).are_any:
        waits.end(_waiter())


def _waiter() -> object:
    """Who waits: DBOS does so in the thread that the statement comes from."""
    return ("dbos", threading.get_ident())


def _is_worth_saying(record: logging.LogRecord) -> bool:
    """Whether a line of DBOS's tells more than that the database is waited for."""
    is_attempt = record.levelno <= logging.WARNING and _DRIVER in record.getMessage()
    return not (is_attempt and process_state.of(Waits).are_any)
