"""Keeps what is recorded of a run: rows of earlier executions, and those that this one adds."""

from __future__ import annotations

import uuid
from typing import Any

from timestep.dbos_internals.workflow_scope import Owner
from timestep.errors import ReplayError
from timestep.journal.recorder import Journal, Recorder
from timestep.store import run_journal, streams

_STEPS = ("model_responses", "tool_calls", "guardrail_results", "step_values")
"""The tables that hold outcomes of steps."""


class RunRecord:
    """Answers what a run's record holds, from memory: it is read once, when the run begins.

    Args:
        run_id: The run whose record it is.
        owner: The execution of the workflow that the run is part of.
        recorder: Reads what is asked for later.
    """

    def __init__(self, run_id: uuid.UUID, owner: Owner, recorder: Recorder) -> None:
        self.run_id = run_id
        self.continuation: dict[str, Any] | None = None
        """The row that says what the run goes on with, where it does not begin at its beginning."""
        self.is_begun = False
        """Whether the run's row is written, or read."""
        self.is_new = False
        """Whether no earlier execution recorded anything of the run."""
        self.is_replaying = False
        """Whether the run's record holds a step, and this execution has executed none so far."""
        self.session_revision: int | None = None
        """The newest change of its session that the run sees, besides its own."""
        self._owner = owner
        self._recorder = recorder
        self._rows: Journal = {}
        self._copied: dict[str, Journal] = {}
        self._stream_batches: list[dict[str, Any]] | None = None

    def read(self, journal: Journal) -> None:
        """Take what the journal holds of the run, its own row included."""
        own = journal["runs"][str(self.run_id)]
        self.is_begun = True
        self.is_new = "input" not in own
        self._rows.update(journal)
        self.is_replaying = not journal.keys().isdisjoint(_STEPS)
        self.session_revision = own["session_revision"]

    def continue_as(self, continuation: dict[str, Any]) -> None:
        """Be the record of the run that stands in the place of this one.

        Args:
            continuation: The row that says which run, and what it goes on with.
        """
        self.continuation = continuation
        self.run_id = uuid.UUID(continuation["run_id"])

    def leave(self) -> None:
        """Take the run for one that has not begun, so that nothing of its end is written."""
        self.is_begun = False

    def find(self, table: str, id_: uuid.UUID) -> dict[str, Any] | None:
        """The row that an earlier execution wrote, or this one noted; None where there is none."""
        rows = self._rows.get(table)
        return rows.get(str(id_)) if rows else None

    def has(self, table: str) -> bool:
        """Whether the record has rows of a table."""
        return table in self._rows

    def all(self, table: str) -> list[dict[str, Any]]:
        """The rows of a table, in no order."""
        return list(self._rows.get(table, {}).values())

    def note(self, table: str, row: dict[str, Any]) -> dict[str, Any]:
        """Let the record hold a row for the rest of this execution; the row."""
        self._rows.setdefault(table, {})[row["id"]] = row
        return row

    def took(self, *, from_record: bool) -> None:
        """Note that the outcome of a step comes from the record, or that the step is executed."""
        self.is_replaying = self.is_replaying and from_record

    @property
    def own_row(self) -> dict[str, Any] | None:
        """The run's row, as it was when the run began."""
        return self.find("runs", self.run_id)

    @property
    def is_over(self) -> bool:
        """Whether the record says that the run has ended, for good."""
        return self.has_ended and not self.may_go_on

    @property
    def has_ended(self) -> bool:
        """Whether the run's row says that it has ended."""
        row = self.own_row
        return row is not None and row["completed_at"] is not None

    @property
    def may_go_on(self) -> bool:
        """Whether the run was cut off, and its workflow did nothing since: this time it may not be.

        Its row says that it has ended until it does something new.
        """
        row = self.own_row
        return row is not None and bool(row.get("may_go_on"))

    def went_on(self) -> None:
        """Note that the run did something new after it had been cut off."""
        if (row := self.own_row) is not None:
            row.update(status="running", completed_at=None, cancel_reason=None, may_go_on=False)

    @property
    def is_of_the_past(self) -> bool:
        """Whether the run ended before what its workflow goes on from: nothing is added to it."""
        return self.continuation is not None and self.continuation["kind"] == "ended"

    def refusal(self, name: str) -> ReplayError:
        """What a run of the past answers to what its record does not hold."""
        return ReplayError(
            f"{name} is not in the record of run {self.run_id}, which ended before the point that "
            f"workflow {self._owner.workflow_id!r} goes on from: the code takes other steps in it"
        )

    async def of_copied(self, run_id: str) -> Journal:
        """What is recorded of another run, whose steps DBOS copied to this one's workflow."""
        if run_id not in self._copied:
            self._copied[run_id] = await self._recorder.read(
                lambda connection: run_journal.journal(connection, uuid.UUID(run_id))
            )
        return self._copied[run_id]

    async def stream_batches(self) -> list[dict[str, Any]]:
        """What earlier executions recorded of the run's streams, read when first asked for."""
        if self._stream_batches is None:
            self._stream_batches = (
                []
                if self.is_new
                else await self._recorder.read(lambda c: streams.batches(c, self.run_id))
            )
        return self._stream_batches
