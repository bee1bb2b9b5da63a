"""Commits what a run's steps write, in an order in which each row finds what it refers to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from timestep.dbos_internals import control_errors, process
from timestep.dbos_internals.workflow_scope import Owner
from timestep.execution.limits import Limits
from timestep.execution.record import RunRecord
from timestep.journal.kept_outcomes import Kept
from timestep.journal.recorder import Recorder
from timestep.runtime import draining
from timestep.runtime.cancellation import to_its_end
from timestep.store import dbos_step_outputs

Row = dict[str, Any]
Rows = dict[str, list[Row]]


class Commits:
    """Writes the rows of one run's steps, each step's with what waited for it.

    Args:
        recorder: Writes them.
        owner: The execution of the workflow for which they are written.
        record: What is recorded of the run.
        limits: What ends the run: nothing is written then but its end.
    """

    def __init__(self, recorder: Recorder, owner: Owner, record: RunRecord, limits: Limits) -> None:
        self._recorder = recorder
        self._owner = owner
        self._record = record
        self._limits = limits
        self._waiting: Rows = {}
        self._checkpoint: Callable[[], Row] | None = None
        self._deferred: asyncio.Future[None] | None = None
        self._writing: set[asyncio.Future[None]] = set()
        self._calls_written: asyncio.Future[None] | None = None
        """Done when the rows of calls are there that did not come with an answer."""
        self._steps: set[asyncio.Task[Any]] = set()
        self._late: set[asyncio.Task[None]] = set()

    def add(self, table: str, rows: Iterable[Row]) -> None:
        """Have rows written together with the next step's; a newer one of an id replaces it.

        A call that a state waits for is `pending`, and may be rejected before the next step.
        """
        waiting = {row["id"]: row for row in (*self._waiting.get(table, ()), *rows)}
        self._waiting[table] = list(waiting.values())

    def add_checkpoint(self, row: Callable[[], Row] | None) -> None:
        """Have a state written together with the next answer.

        Args:
            row: Makes its row, when the answer is there; none replaces one that still waits.
        """
        self._checkpoint = row

    async def commit(
        self,
        rows: Rows,
        output: dbos_step_outputs.Row | None = None,
        *,
        is_end: bool = False,
        is_outcome: bool = False,
    ) -> None:
        """Write a step's rows, together with the items and the checkpoint that wait.

        Args:
            rows: The rows of each table.
            output: DBOS's record of the step, where it is written with them.
            is_end: Whether they are the run's end, and not a step's.
            is_outcome: Whether they tell of an effect that has been: they are written after a
                cancellation, too, and kept for the next execution where they cannot be.

        Raises:
            BaseException: What ends the run; nothing was written.
            ReplayError: The run is one of the past, to which nothing is added.
        """
        if self.has_deferred:
            # What they tell of has been: a caller who is cancelled meanwhile lets it be written.
            await to_its_end(self._commit_after_deferred(rows, output, is_end, is_outcome))
        else:
            await self._commit(rows, output, is_end, is_outcome)

    async def _commit_after_deferred(
        self, rows: Rows, output: dbos_step_outputs.Row | None, is_end: bool, is_outcome: bool
    ) -> None:
        await self.deferred()
        await self._commit(rows, output, is_end, is_outcome)

    async def _commit(
        self, rows: Rows, output: dbos_step_outputs.Row | None, is_end: bool, is_outcome: bool
    ) -> None:
        # Whether an execution that lost its workflow may tell what it did is seen in the statement.
        is_free = is_end or (is_outcome and self._limits.is_lost)
        if not is_free:
            self._limits.check_failure()
        if self._record.is_of_the_past:
            raise self._record.refusal("its end" if is_end else "a step")
        if not is_free:
            self._limits.check_cut()
        if self._record.may_go_on:
            await self._recorder.revive(self._owner, self._record.run_id)
            self._record.went_on()
        has_calls = "tool_calls" in self._waiting
        for name, waiting in self._waiting.items():
            given = rows.setdefault(name, [])
            known = {row["id"] for row in given}
            given.extend(row for row in waiting if row["id"] not in known)
        self._waiting = {}
        if self._checkpoint is not None and "model_responses" in rows:
            row, self._checkpoint = self._checkpoint, None
            rows["run_states"] = [row()]
        rows = {name: given for name, given in rows.items() if given}
        if "ended_calls" in rows:
            _end_calls(rows)
        try:
            await self._write(rows, output, has_calls=has_calls, is_outcome=is_outcome)
        except control_errors.CONTROL_ERRORS:
            raise
        except BaseException:
            if is_outcome and not self._limits.is_replaced:
                outcome = Kept(str(self._record.run_id), rows)
                self._recorder.kept.keep(self._owner.workflow_id, outcome)
            raise
        if is_end:
            self._recorder.kept.drop_run(self._owner.workflow_id, str(self._record.run_id))

    async def commit_output(self, output: dbos_step_outputs.Row) -> None:
        """Write DBOS's record of a step whose rows are there."""
        await self._write({}, output, has_calls=False, is_outcome=True)

    async def _write(
        self,
        rows: Rows,
        output: dbos_step_outputs.Row | None,
        *,
        has_calls: bool,
        is_outcome: bool,
    ) -> None:
        calls, written = self._calls_written, asyncio.get_running_loop().create_future()
        if has_calls:
            # Calls of this turn end at once, and the others' rows refer to what this one writes.
            self._calls_written = written
        self._writing.add(written)
        try:
            if calls is not None and not calls.done():
                await to_its_end(self._write_after(calls, rows, output, is_outcome))
            else:
                await self._recorder.commit(self._owner, rows, output, is_outcome=is_outcome)
        finally:
            self._writing.discard(written)
            written.set_result(None)

    async def _write_after(
        self,
        other: asyncio.Future[None],
        rows: Rows,
        output: dbos_step_outputs.Row | None,
        is_outcome: bool,
    ) -> None:
        await asyncio.wait([other])
        await self._recorder.commit(self._owner, rows, output, is_outcome=is_outcome)

    # One step's rows may be on their way while its outcome is used already. No effect of the
    # run begins, and nothing else of it is written, before they are there.

    @property
    def has_deferred(self) -> bool:
        """Whether a step's rows are on their way, and it is not that step that asks."""
        return self._deferred is not None and self._deferred is not asyncio.current_task()

    def defer(self, writing: Coroutine[Any, Any, None] | asyncio.Task[Any]) -> None:
        """Let a step's rows be written while the SDK goes on; a host that stops waits for them.

        Args:
            writing: Writes them. What it raises ends the run.
        """
        self._gate = draining.stay()
        self._deferred = asyncio.ensure_future(writing)
        self._deferred.add_done_callback(self._deferred_ended)

    def _deferred_ended(self, writing: asyncio.Future[None]) -> None:
        self._gate.leave()
        self._deferred = None
        if writing.cancelled() or (error := writing.exception()) is None:
            return
        if self._limits.failure is None:
            self._limits.fail(error)

    async def deferred(self) -> None:
        """Wait until rows that are on their way are written, or could not be."""
        if self.has_deferred and self._deferred is not None:
            await asyncio.wait([self._deferred])

    # Who waits for what is under way

    def keep(self, step: asyncio.Task[Any]) -> None:
        """Count on a DBOS step to end whose rows are there, or on their way.

        Its caller may be cancelled; DBOS must record it all the same.
        """
        self._steps.add(step)
        step.add_done_callback(self._steps.discard)

    def under_way(self) -> set[asyncio.Future[None]]:
        """What is being written, each done when it is."""
        return set(self._writing)

    def come_late(self, recording: Coroutine[Any, Any, None]) -> None:
        """Let an outcome be recorded once it is there, though the run may be over by then."""
        late = asyncio.ensure_future(recording)
        self._late.add(late)
        late.add_done_callback(self._late.discard)

    async def late(self) -> None:
        """Wait for what is still recorded, where the loop ends with the workflow's function."""
        if process.is_on_workflow_loop():
            return
        while waiting := {*self._late, *self._steps, *self._writing}:
            await asyncio.wait(waiting)

    async def settle(self) -> None:
        """Let steps end that nobody waits for any more: the run's end comes after them."""
        await self.deferred()
        if waiting := {*self._steps, *self._writing}:
            await asyncio.wait(waiting)


def _end_calls(rows: Rows) -> None:
    """Leave no call open among the rows that come with a run's end."""
    given = rows.get("tool_calls", [])
    for row in given:
        if row["status"] == "pending":
            row["status"] = "skipped"
    for ended in rows["ended_calls"]:
        ended["written"] = [row["id"] for row in given]
