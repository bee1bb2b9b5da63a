"""Writes DBOS's own record of a step together with the step's rows.

Where one PostgreSQL holds both, the statement that writes a step's rows inserts what DBOS would
have recorded of the step, too, and DBOS's look-up before a step is answered from its records,
read once when an execution begins. Steps keep DBOS's numbers, names, spans and errors, and its
tables hold what it would have written. Everywhere else steps are DBOS's ordinary ones.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dbos import _dbos
from dbos import error as dbos_errors
from dbos._context import EnterDBOSStepCtx
from dbos._serialization import (
    deserialize_exception,
    deserialize_value,
    serialize_exception,
    serialize_value,
)
from dbos._sys_db_postgres import PostgresSystemDatabase

from timestep.dbos_internals.step_numbers import StepReservation
from timestep.dbos_internals.workflow_scope import Owner
from timestep.errors import StepError
from timestep.serialization.exceptions import name_of, one_line
from timestep.store import dbos_step_outputs

SCHEMA_VERSIONS = frozenset({125})
"""Versions of DBOS's tables, by its own count, whose records of steps are known here."""


def system_database() -> object:
    """DBOS's system database in this process: another one after each launch."""
    return _dbos._get_dbos_instance()._sys_db


def obstacle(shape: dbos_step_outputs.Shape) -> str | None:
    """Why DBOS must record its steps itself, or None.

    Args:
        shape: What DBOS's tables look like.
    """
    system = system_database()
    if type(system) is not PostgresSystemDatabase:
        return f"DBOS keeps its records in a {type(system).__name__}"
    if shape.version not in SCHEMA_VERSIONS:
        known = ", ".join(map(str, sorted(SCHEMA_VERSIONS)))
        return f"DBOS's tables have version {shape.version}, and known here is {known}"
    if shape.columns != dbos_step_outputs.COLUMNS:
        changed = ", ".join(sorted(shape.columns ^ dbos_step_outputs.COLUMNS))
        return f"DBOS's table operation_outputs has other columns than known here: {changed}"
    return None


@dataclass(frozen=True)
class Recorded:
    """What DBOS recorded of one step."""

    name: str
    output: str | None
    error: str | None
    serialization: str | None

    @property
    def reference(self) -> Any:
        """Where the step's rows are, as its record says."""
        serializer = _dbos._get_dbos_instance()._serializer
        if self.error is not None:
            error = deserialize_exception(self.error, self.serialization, serializer)
            return reference_of(error)
        return deserialize_value(self.output, self.serialization, serializer)


class Records:
    """What earlier executions of a workflow recorded in DBOS, by step number.

    Nobody else adds to it while this execution owns the workflow.
    """

    def __init__(self, owner: Owner, rows: Mapping[str, dict[str, Any]]) -> None:
        self._owner = owner
        self._recorded = {int(number): Recorded(**row) for number, row in rows.items()}

    def find(self, number: int, name: str) -> Recorded | None:
        """What DBOS's look-up before a step would find.

        Raises:
            DBOSUnexpectedStepError: A step of another name has the number.
        """
        found = self._recorded.get(number)
        if found is not None and found.name != name:
            raise dbos_errors.DBOSUnexpectedStepError(
                workflow_id=self._owner.workflow_id,
                step_id=number,
                expected_name=name,
                recorded_name=found.name,
            )
        return found


def failure(error: BaseException, reference: dict[str, str]) -> StepError:
    """What DBOS holds of a step that raised: where its rows are, and a line for people."""
    kept = StepError(f"{name_of(error)}: {one_line(error)}")
    kept.reference = reference
    return kept


def reference_of(error: BaseException) -> Any:
    """Where the rows of a step are that raised, from what DBOS holds of it."""
    return getattr(error, "data", None)


class SharedRecords:
    """Keeps DBOS's records of a workflow's steps for all runs of one execution of it."""

    def __init__(self) -> None:
        self.records: Records | None = None
        """None before the first run has read them, and where DBOS answers look-ups itself."""


class StepRecord:
    """What DBOS is to hold of a step once its rows are written."""

    def __init__(self, number: int, name: str, reference: dict[str, str]) -> None:
        self._number = number
        self._name = name
        self._reference = reference
        self._started = _now()

    def ended(self) -> dbos_step_outputs.Row:
        """The record of the step that ended well."""
        dbos = _dbos._get_dbos_instance()
        output, serialization = serialize_value(self._reference, None, dbos._serializer)
        return self._row(output, None, serialization)

    def failed(self, error: BaseException) -> dbos_step_outputs.Row:
        """The record of the step that raised `error`."""
        dbos = _dbos._get_dbos_instance()
        kept = failure(error, self._reference)
        text, serialization = serialize_exception(kept, None, dbos._serializer)
        return self._row(None, text, serialization)

    def _row(
        self, output: str | None, error: str | None, serialization: str
    ) -> dbos_step_outputs.Row:
        return dbos_step_outputs.Row(
            number=self._number,
            name=self._name,
            output=output,
            error=error,
            serialization=serialization,
            started_at=self._started,
            completed_at=_now(),
            application=_dbos._get_dbos_instance()._sys_db.app_name,
        )


@contextlib.contextmanager
def inside_step(number: StepReservation, name: str) -> Iterator[None]:
    """Be inside a DBOS step: its context, its span."""
    number._claim()
    with EnterDBOSStepCtx({"name": name, "operationType": "step"}, number._step_ctx):
        yield


def _now() -> int:
    return int(time.time() * 1000)
