"""Defines a step of a run: its effect, how its rows are written, and how its record is read."""

from __future__ import annotations

import asyncio
import uuid
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

from timestep.dbos_internals.step_numbers import StepReservation
from timestep.dbos_internals.step_records import StepRecord
from timestep.errors import (
    DatabaseError,
    NotAnExceptionError,
    ProcessExitError,
    ReplayError,
    TimestepError,
    UnreadableValueError,
)
from timestep.execution.current import took
from timestep.execution.run import Rows, Run
from timestep.runtime.cancellation import Signal
from timestep.serialization import exceptions
from timestep.serialization.ids import LONGEST_STEP_NAME, storable_name
from timestep.serialization.values import restored
from timestep.store import dbos_step_outputs

T = TypeVar("T")


class Step(ABC, Generic[T]):
    """One step of a run: `timestep.steps.perform` executes it, or takes its recorded outcome."""

    run: Run
    name: str
    """What `dbos workflow steps` shows. Recorded runs depend on it."""
    table: str
    id: uuid.UUID
    """The row that tells that the step was done, and how it ended."""
    number: StepReservation | None
    usage: object | None = None
    """Where the SDK counts what the step uses, if runs inside it add to that."""
    may_follow_end: bool = False
    """Whether it is still to be done when a tripwire ended the run."""
    pauses_again: bool = False
    """Whether it paused here in an earlier execution: it pauses again, and has no effect."""
    task: asyncio.Task[Any] | None = None
    """What performs it as a DBOS step."""
    told: asyncio.Future[tuple[Any] | None] | None = None
    """Done with that, or with an outcome that may be used before."""
    record: StepRecord | None = None
    """What DBOS is to hold of it, where that is written with its rows."""
    began: float = 0.0
    """When its effect began, on `time.monotonic`."""
    is_kept = False
    """Whether its rows are there, or on their way: DBOS must record it, too."""
    end_position: int | None = None
    """Where the step's end stands among those beside it, if it ended and they have an order."""
    is_executed = False
    """Whether this execution does what it is for, and does not take its outcome."""

    def tell(self, outcome: tuple[Any] | None) -> None:
        if self.told is not None and not self.told.done():
            self.told.set_result(outcome)

    def keep(self) -> None:
        self.is_kept = True
        if self.task is not None:
            self.run.commits.keep(self.task)

    @property
    def record_name(self) -> str:
        """The name under which DBOS knows the step: bounded, and of characters that it holds."""
        return storable_name(self.name, LONGEST_STEP_NAME)

    @abstractmethod
    async def effect(self) -> T:
        """Do what the step is for: call the model, the tool, the guardrail."""

    @abstractmethod
    def rows(self, value: T, duration_ms: int) -> Rows:
        """What a step that ended well writes."""

    @abstractmethod
    def failed_rows(self, envelope: dict[str, Any], duration_ms: int) -> Rows:
        """What a step that raised writes."""

    @abstractmethod
    def replayed(self, row: dict[str, Any]) -> T:
        """What the step ended with, from its row; the row has no error."""

    def retrace(self, row: dict[str, Any]) -> None:
        """Do again what the step did in this process's memory, whether it ended well or not."""

    def is_done(self, row: dict[str, Any]) -> bool:
        """Whether the row tells an outcome."""
        return True

    def may_be_deferred(self, value: T) -> bool:
        """Whether the outcome may be used while its rows are being committed.

        Only where no effect and no code of the user's comes before the next step of the run:
        that one waits until they are written.
        """
        return False

    def is_paused(self, value: T) -> bool:
        """Whether the effect stopped to wait for a person, and will be asked again."""
        return False

    async def pause(self) -> None:
        """Record that the effect paused."""

    # What is the same for every kind of step

    @property
    def recorded_row(self) -> dict[str, Any] | None:
        """The row of the step's outcome, where an earlier execution recorded it."""
        row = self.run.record.find(self.table, self.id)
        return row if row is not None and self.is_done(row) else None

    async def copied(self, reference: Any) -> T:
        """The outcome of a step whose record DBOS copied from the workflow that this is a fork of.

        The run has rows of its own from then on, without what the step used: that was counted.

        Args:
            reference: What DBOS recorded of the step.

        Raises:
            Exception: What the effect raised.
            ReplayError: The run that DBOS copied from does not hold the step.
        """
        row = await self._copied_row(reference)
        if row is None:
            raise ReplayError(
                f"DBOS recorded step {self.name!r} of workflow {self.run.owner.workflow_id!r}, and "
                f"run {self.run.id} does not hold it: were rows deleted?"
            )
        took(self.run, self.table, from_record=True)
        self.run.record.note(self.table, {**row, "id": str(self.id), "run_id": str(self.run.id)})
        self.retrace(row)
        duration_ms = row.get("duration_ms") or 0
        kept = {name: row[name] for name in _KEPT if name in row}
        if row["error"] is not None:
            rows = self.failed_rows(restored(row["error"]), duration_ms)
        else:
            value = self.replayed(row)
            rows = self.rows(value, duration_ms)
            rows.pop("request_usage_entries", None)
        for own in rows[self.table]:
            if own["id"] == str(self.id):
                own.update(kept)
                (self.run.record.find(self.table, self.id) or {}).update(own)
        await self.commit(rows)
        if row["error"] is not None:
            raise error_of(row)
        return value

    async def _copied_row(self, reference: Any) -> dict[str, Any] | None:
        """The row of the step's outcome in the run that DBOS copied its record from."""
        if not isinstance(reference, dict) or reference.get("table") != self.table:
            return None
        copied = await self.run.record.of_copied(reference["run_id"])
        row = copied.get(self.table, {}).get(reference["id"])
        return row if row is not None and self.is_done(row) else None

    def replay(self, row: dict[str, Any]) -> T:
        """The outcome that a row holds.

        Raises:
            Exception: What the effect raised.
        """
        took(self.run, self.table, from_record=True)
        self.retrace(row)
        if row["error"] is not None:
            raise error_of(row)
        return self.replayed(row)

    async def commit(self, rows: Rows, output: dbos_step_outputs.Row | None = None) -> None:
        """Write the rows of the step's outcome.

        Args:
            rows: The rows of each table.
            output: DBOS's record of the step, where it is written with them.

        Raises:
            Refused: The database refused them.
        """
        await self.written(self.run.commits.commit(rows, output, is_outcome=True))

    async def written(self, writing: Coroutine[Any, Any, None]) -> None:
        """Wait for the step's rows to be written, which from now on must be in both records."""
        self.keep()
        try:
            await writing
        except DatabaseError as error:
            raise Refused(error) from error


_KEPT = (
    "attempt",
    "attempts",
    "failed_attempts",
    "intents",
    "context_change",
    "context_position",
    "duration_ms",
    "started_at",
    "completed_at",
)
"""Columns of a copied row that making it anew does not give."""


def error_of(row: dict[str, Any]) -> BaseException:
    """What a step raised, from its row."""
    error = exceptions.opened(restored(row["error"]))
    return RaisedByEffect(error) if isinstance(error, _TAKEN_FOR_ANOTHER) else error


class Refused(Signal):
    """A step that must not be recorded: its rows were refused, or its effect.

    Not an Exception: DBOS would record the step as one that failed.
    """

    def __init__(self, error: TimestepError) -> None:
        super().__init__()
        self.error = error


class NotEnded(Signal):
    """A step paused. Its outcome is not recorded, so it is executed again."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


_TAKEN_FOR_ANOTHER = (asyncio.CancelledError, UnreadableValueError)


class RaisedByEffect(Exception):
    """A step's effect raised what looks like something else, and is an outcome to record.

    A CancelledError that nobody asked for, or an UnreadableValueError of what the effect read: it
    is recorded and replayed as any other failure; who waits for the step is raised the error.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


def no_exit(what: str, exit_: BaseException) -> ProcessExitError:
    """What stands for the end of the process that a step's effect asked for."""
    return ProcessExitError(f"{what} tried to end the process: {exceptions.shown(exit_)}")


def no_exception(what: str, raised: BaseException) -> NotAnExceptionError:
    """What stands for what a step's effect raised, and nobody could answer."""
    return NotAnExceptionError(f"{what} raised what is no Exception: {exceptions.shown(raised)}")
