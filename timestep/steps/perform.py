"""Steps: looked up in the record, else executed and committed.

A step of a run that is called from workflow code is a DBOS step too, with a number drawn in
an order that does not depend on timing and a name that recorded runs rely on. Inside a DBOS
step (a nested run) the record alone makes a step durable.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Coroutine
from typing import Any, Generic, TypeVar

from timestep.dbos_internals import control_errors, step_records, workflow_scope
from timestep.dbos_internals.step_numbers import StepReservation
from timestep.dbos_internals.step_records import Records, StepRecord, failure, reference_of
from timestep.errors import DatabaseError, ReplayError, StepError, TimestepError
from timestep.execution import recorded_end, replay_check
from timestep.execution.current import inside_step, took
from timestep.execution.run import Rows
from timestep.runtime import draining
from timestep.serialization import exceptions
from timestep.serialization.values import restored
from timestep.steps.step import NotEnded, Refused, Step
from timestep.store import dbos_step_outputs, run_journal

T = TypeVar("T")


class _Outcome(Generic[T]):
    """How a step ended in this execution; DBOS keeps only a reference to it."""

    def __init__(self) -> None:
        self.known = False
        self.value: T | None = None
        self.error: BaseException | None = None


async def perform(step: Step[T]) -> T:
    """The step's outcome: from the record, or by executing it.

    Raises:
        Exception: What the effect raised, as the class it was, when replayed too.
        ReplayError: DBOS recorded the step and the run's rows do not hold it.
    """
    if step.run.control_error is not None:
        # The SDK answered it, as it answers any Exception of a tool, and went on.
        raise step.run.control_error
    await replay_check.hold_up(step.run.owner.workflow_id)
    try:
        if step.number is None:
            return await _perform_unnumbered(step)
        return await _perform_numbered(step, step.number)
    except recorded_end.Held as held:
        raise held.error from None
    except Refused as refused:
        step.run.fail(refused.error)
        raise refused.error from None
    except control_errors.CONTROL_ERRORS as error:
        # Kept, because the SDK answers an Exception that comes out of a tool.
        step.run.fail(error)
        raise


async def _perform_unnumbered(step: Step[T]) -> T:
    row = step.run.recorded(step.table, step.id)
    if row is not None and step.is_done(row):
        return _replay(step, row)
    try:
        if workflow_scope.in_step():
            return await _execute(step)
        async with draining.Passage():
            return await _execute(step)
    except NotEnded as pause:
        return pause.value  # type: ignore[no-any-return]  # what this step's effect put there


async def _perform_numbered(step: Step[T], number: StepReservation) -> T:
    row = step.run.recorded(step.table, step.id)
    if not step.pauses_again and (row is None or not step.is_done(row)):
        # The first execution may have been cut off before this step: what the workflow did
        # instead has its number.
        await recorded_end.hold_if_cut(step.run, step.name)
    reference = {"run_id": str(step.run.id), "table": step.table, "id": str(step.id)}
    if step.run.records is not None:
        return await _perform_joint(step, number, step.run.records, reference)
    outcome: _Outcome[T] = _Outcome()

    async def body() -> dict[str, str]:
        row = step.run.recorded(step.table, step.id)
        try:
            if row is not None and step.is_done(row):
                # Killed between our commit and DBOS's record.
                step.keep()
                outcome.value = _replay(step, row)
            else:
                async with draining.Passage():
                    await place.first()
                    outcome.value = await _execute(step)
        except control_errors.CONTROL_ERRORS:
            raise
        except Exception as error:
            outcome.known, outcome.error = True, error
            raise failure(error, reference) from error
        outcome.known = True
        return reference

    # DBOS's log names the function of a step that is cancelled.
    body.__qualname__ = step.name
    step.task = asyncio.ensure_future(number.run_async({"name": step.name}, body))
    step.told = told = asyncio.get_running_loop().create_future()
    step.task.add_done_callback(lambda _: step.tell(None))
    try:
        with step.run.line.entered() as place:
            early = await _unless_cancelled(step.task, told, step)
    except NotEnded as pause:
        return pause.value  # type: ignore[no-any-return]  # what this step's effect put there
    except control_errors.CONTROL_ERRORS:
        raise
    except Exception as error:
        if outcome.error is None and not _is_recorded_failure(error):
            raise
        recorded = reference_of(error)
    else:
        if early is not None:
            step.run.landing.begin(_landing(step.task))
            return early[0]  # type: ignore[no-any-return]  # what this step's effect gave
        recorded = step.task.result()
    if outcome.error is not None:
        raise outcome.error
    if not outcome.known:
        row = step.run.recorded(step.table, step.id)
        if row is None or not step.is_done(row):
            return await _copied(step, recorded)
        return _replay(step, row)
    return outcome.value  # type: ignore[return-value]  # set whenever known without an error


async def _perform_joint(
    step: Step[T], number: StepReservation, records: Records, reference: dict[str, str]
) -> T:
    """As a DBOS step whose record is written with the step's rows, and looked up in memory."""
    with step_records.inside_step(number, step.name):
        row = step.run.recorded(step.table, step.id)
        is_done = row is not None and step.is_done(row)
        found = records.find(number.step_id, step.name)
        if found is not None:
            if row is None or not is_done:
                return await _copied(step, found.reference)
            return _replay(step, row)
        step.record = StepRecord(number.step_id, step.name, reference)
        try:
            if row is not None and is_done:
                # Killed between our commit and DBOS's record, when they were two.
                await _landed(step, step.run.keep(_output_of(step.record, row)))
                return _replay(step, row)
            async with draining.Passage():
                with step.run.line.entered() as place:
                    await place.first()
                    return await _execute(step)
        except NotEnded as pause:
            return pause.value  # type: ignore[no-any-return]  # what this step's effect put there


def _output_of(record: StepRecord, row: dict[str, Any]) -> dbos_step_outputs.Row:
    """DBOS's record of a step that has its rows."""
    if row["error"] is None:
        return record.ended()
    return record.failed(_error_of(row))


def _error_of(row: dict[str, Any]) -> BaseException:
    return exceptions.opened(restored(row["error"]))


async def _unless_cancelled(
    task: asyncio.Task[Any], told: asyncio.Future[tuple[Any] | None], step: Step[Any]
) -> tuple[Any] | None:
    """Wait for a step; a cancelled caller lets it end once its rows are being written.

    Cancelled between the two records, it would be in one of them only.
    """
    try:
        early = await told
        if early is None:
            task.result()
        return early
    except asyncio.CancelledError:
        if not step.is_kept:
            task.cancel()
        await asyncio.wait([task])
        raise
    finally:
        # For its caller, too, whose context a task of its own does not change.
        took(step.run, step.table, from_record=not step.is_executed)


def _is_recorded_failure(error: Exception) -> bool:
    """Whether DBOS raised what it recorded of a failed step, by whichever serializer."""
    return isinstance(error, StepError) or getattr(error, "name", None) == StepError.__name__


async def _copied(step: Step[T], reference: Any) -> T:
    """The outcome of a step whose record DBOS copied from the workflow that this is a fork of.

    The run has rows of its own from then on, without what the step used: that was counted.

    Args:
        step: The step.
        reference: What DBOS recorded of it.
    """
    row = await _referred_to(step, reference)
    if row is None:
        raise ReplayError(
            f"DBOS recorded step {step.name!r} of workflow {step.run.owner.workflow_id!r}, and "
            f"run {step.run.id} does not hold it: were rows deleted?"
        )
    took(step.run, step.table, from_record=True)
    known = step.run.journal.setdefault(step.table, {})
    known[str(step.id)] = {**row, "id": str(step.id), "run_id": str(step.run.id)}
    step.retrace(row)
    duration_ms = row.get("duration_ms") or 0
    kept = {name: row[name] for name in _KEPT if name in row}
    if row["error"] is not None:
        rows = step.failed_rows(restored(row["error"]), duration_ms)
    else:
        value = step.replayed(row)
        rows = step.rows(value, duration_ms)
        rows.pop("request_usage_entries", None)
    for own in rows[step.table]:
        if own["id"] == str(step.id):
            own.update(kept)
            known[str(step.id)].update(own)
    await _commit(step, rows)
    if row["error"] is not None:
        raise _error_of(row)
    return value


_KEPT = ("attempt", "attempts", "intents", "context_change", "context_position", "duration_ms")


async def _referred_to(step: Step[Any], reference: Any) -> dict[str, Any] | None:
    if not isinstance(reference, dict) or reference.get("table") != step.table:
        return None
    source, sources = reference["run_id"], step.run.sources
    if source not in sources:
        sources[source] = await step.run.recorder.read(
            lambda connection: run_journal.journal(connection, uuid.UUID(source))
        )
    row = sources[source].get(step.table, {}).get(reference["id"])
    return row if row is not None and step.is_done(row) else None


def _replay(step: Step[T], row: dict[str, Any]) -> T:
    took(step.run, step.table, from_record=True)
    step.retrace(row)
    if row["error"] is not None:
        raise _error_of(row)
    return step.replayed(row)


async def _execute(step: Step[T]) -> T:
    await step.run.landing.over()
    if (control := step.run.control_error) is not None:
        raise Refused(control) if isinstance(control, TimestepError) else control
    if not step.pauses_again:
        if step.may_follow_end:
            await recorded_end.hold_if_cut(step.run, step.name)
        else:
            await recorded_end.hold_if_decided(step.run, step.name)
        refusal = replay_check.refused(step.run.owner.workflow_id, step.name, step.run.id)
        if step.run.is_of_the_past:
            refusal = step.run.refusal(repr(step.name))
        if refusal is not None:
            raise Refused(refusal)
    # What paused does nothing anew until it has paused again.
    step.is_executed = not step.pauses_again
    took(step.run, step.table, from_record=step.pauses_again)
    started = time.monotonic()
    try:
        with inside_step(step.run, step.id, step.usage):
            value = await step.effect()
    except control_errors.CONTROL_ERRORS:
        raise
    except Exception as error:
        envelope = exceptions.seal(error)
        rows = step.failed_rows(envelope, _since(started))
        await _commit(step, rows, None if step.record is None else step.record.failed(error))
        raise
    if step.is_paused(value):
        await step.pause()
        raise NotEnded(value)
    rows = step.rows(value, _since(started))
    writing = _commit(step, rows, None if step.record is None else step.record.ended())
    if not step.may_land_later(value):
        await writing
    elif step.record is not None:
        step.run.landing.begin(_landing(writing))
        # It is sent before the SDK goes on.
        await asyncio.sleep(0)
    else:
        step.tell((value,))
        await writing
    return value


async def _landing(writing: Awaitable[Any]) -> None:
    try:
        await writing
    except Refused as refused:
        raise refused.error from None


async def _commit(step: Step[T], rows: Rows, output: dbos_step_outputs.Row | None = None) -> None:
    await _landed(step, step.run.commit(rows, output))


async def _landed(step: Step[Any], writing: Coroutine[Any, Any, None]) -> None:
    step.keep()
    try:
        await writing
    except DatabaseError as error:
        raise Refused(error) from error


def _since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
