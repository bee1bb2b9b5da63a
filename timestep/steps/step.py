"""Defines a step of a run: its effect, the rows it writes, and how its record is read."""

from __future__ import annotations

import asyncio
import uuid
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from timestep.dbos_internals.step_numbers import StepReservation
from timestep.dbos_internals.step_records import StepRecord
from timestep.errors import ProcessExitError, TimestepError
from timestep.execution.run import Rows, Run
from timestep.serialization.ids import LONGEST_STEP_NAME, storable_name

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


class Refused(BaseException):
    """A step that must not be recorded: its rows were refused, or its effect.

    Not an Exception: DBOS would record the step as one that failed.
    """

    def __init__(self, error: TimestepError) -> None:
        super().__init__()
        self.error = error


class NotEnded(BaseException):
    """A step paused. Its outcome is not recorded, so it is executed again."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


def no_exit(what: str, exit_: BaseException) -> ProcessExitError:
    """What stands for the end of the process that a step's effect asked for."""
    return ProcessExitError(f"{what} tried to end the process: {exit_!r}")
