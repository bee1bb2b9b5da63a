"""Reads what DBOS has recorded of the operations of a workflow's own code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dbos import _dbos
from dbos._sys_db import StepInfo, SystemDatabase, db_retry

from timestep.dbos_internals import presence
from timestep.errors import StepError
from timestep.store import dbos_step_outputs

GET_RESULT = "DBOS.getResult"
SLEEP = "DBOS.sleep"


@dataclass(frozen=True)
class Recorded:
    """What DBOS recorded of one operation."""

    number: int
    name: str
    child: str | None
    completed_at: int
    """Milliseconds since 1970; when it will end, of a sleep."""
    is_of_run: bool = False
    """Whether it is a step of a run, of which that one knows when it ends."""


@dataclass(frozen=True)
class Made:
    """How DBOS's row of a workflow was made."""

    at: int
    """Milliseconds since 1970."""
    is_fork: bool


def recorded(workflow_id: str) -> list[Recorded]:
    """What DBOS has recorded of a workflow's operations, and of the steps of its runs; blocks."""
    found = _dbos._get_dbos_instance()._sys_db.list_workflow_steps(workflow_id)
    return [
        Recorded(
            step["function_id"],
            step["function_name"],
            step["child_workflow_id"],
            step["completed_at_epoch_ms"],
            _is_of_run(step),
        )
        for step in found
        if step["completed_at_epoch_ms"] is not None
    ]


@db_retry()
def newest(system: SystemDatabase, workflow_id: str) -> int:
    """When the newest of a workflow's operations has ended, as DBOS has recorded; blocks."""
    with system.engine.connect() as connection:
        return newest_over(connection, system, workflow_id)


def newest_over(connection: Any, system: SystemDatabase, workflow_id: str) -> int:
    """The same over a connection that the caller holds.

    All others of the pool may be held by who waits as it does.
    """
    is_file = system.engine.dialect.name == "sqlite"
    schema = "main" if is_file else presence.system_schema_or_default()
    return dbos_step_outputs.newest(connection, schema, workflow_id, but=SLEEP)


def _is_of_run(step: StepInfo) -> bool:
    """Whether what DBOS holds of a step is where a run's rows are."""
    output, error = step["output"], step["error"]
    if error is not None:
        return isinstance(error, StepError) or getattr(error, "name", None) == StepError.__name__
    return isinstance(output, dict) and output.keys() == {"run_id", "table", "id"}


def made(workflow_id: str) -> Made:
    """When a workflow was made, and whether as a fork of another one; blocks."""
    status = _dbos._get_dbos_instance()._sys_db.get_workflow_status(workflow_id)
    if status is None:
        return Made(0, is_fork=False)
    return Made(status["created_at"] or 0, is_fork=bool(status["forked_from"]))
