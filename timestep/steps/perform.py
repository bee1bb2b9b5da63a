"""Looks a step up in the record, or else executes and commits it.

A step of a run that is called from workflow code is a DBOS step too, with a number drawn in
an order that does not depend on timing and a name that recorded runs rely on. Inside a DBOS
step (a nested run) the record alone makes a step durable.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from timestep.dbos_internals import control_errors, process, step_records, workflow_scope
from timestep.dbos_internals.ends import told_in_order
from timestep.dbos_internals.step_numbers import StepReservation
from timestep.dbos_internals.step_records import Records, StepRecord, failure, reference_of
from timestep.errors import StepError, TimestepError, UnreadableValueError
from timestep.execution.current import STEPS_OF_CALLS, inside_step, took
from timestep.execution.replay import recorded_end, replay_check
from timestep.execution.replay.ordering import StartPlace
from timestep.runtime import draining, lease
from timestep.runtime.cancellation import EXITS, came_by_itself, cancels
from timestep.serialization import exceptions
from timestep.steps.step import (
    NotEnded,
    RaisedByEffect,
    Refused,
    Step,
    error_of,
    no_exception,
    no_exit,
)
from timestep.store import dbos_step_outputs

T = TypeVar("T")


async def perform(step: Step[T]) -> T:
    """The step's outcome: from the record, or by executing it.

    Raises:
        Exception: What the effect raised, as the class it was, when replayed too.
        CancelledError: The caller was cancelled; or the effect ended so though nobody asked for
            it, which is an outcome as any other.
        ReplayError: DBOS recorded the step and the run's rows do not hold it.
    """
    # The SDK answered what ended the run, as it answers any Exception of a tool, and went on.
    step.run.limits.check_failure()
    try:
        if step.table not in STEPS_OF_CALLS:
            return await _performed(step)
        async with step.run.call_ends.beside(step, step.run.turn):
            return await _performed(step)
    except RaisedByEffect as ended:
        exceptions.raise_as_it_is(ended.error)


async def _performed(step: Step[T]) -> T:
    await replay_check.hold_up(step.run.owner.workflow_id)
    try:
        return await _way_of(step).outcome()
    except recorded_end.Held as held:
        exceptions.raise_as_it_is(held.error)
    except Refused as refused:
        step.run.limits.fail(refused.error)
        raise refused.error from None
    except control_errors.CONTROL_ERRORS as error:
        # Kept, because the SDK answers an Exception that comes out of a tool.
        step.run.limits.fail(error)
        raise
    except UnreadableValueError as error:
        step.run.limits.fail(left := _left(step, error))
        raise left from error


def _left(step: Step[Any], error: UnreadableValueError) -> BaseException:
    """What ends an execution in a process that cannot read the record, as another one may."""
    if replay_check.is_watched(step.run.owner.workflow_id):
        return error
    return control_errors.LeftForOthers(error)


def _way_of(step: Step[T]) -> _Way[T]:
    """How a step is looked up and recorded."""
    if step.number is None:
        return _InsideStep(step)
    if step.run.dbos_records is not None:
        return _RecordedWithRows(step, step.number, step.run.dbos_records)
    return _RecordedByDbos(step, step.number)


class _Way(ABC, Generic[T]):
    """How one step comes to its outcome, and to its place in DBOS's record."""

    def __init__(self, step: Step[T]) -> None:
        self._step = step

    @abstractmethod
    async def outcome(self) -> T:
        """The step's outcome: from the record, or by executing it."""


class _InsideStep(_Way[T]):
    """Inside a DBOS step (a nested run) the run's rows alone make a step durable."""

    async def outcome(self) -> T:
        if (row := self._step.recorded_row) is not None:
            return self._step.replay(row)
        try:
            if workflow_scope.in_step():
                return await _execute(self._step)
            async with draining.Passage():
                return await _execute(self._step)
        except NotEnded as pause:
            return pause.value  # type: ignore[no-any-return]  # the effect's


class _Numbered(_Way[T]):
    """A step of the workflow's, which DBOS knows by a number."""

    def __init__(self, step: Step[T], number: StepReservation) -> None:
        super().__init__(step)
        self._number = number
        self._reference = {
            "run_id": str(step.run.id),
            "table": step.table,
            "id": str(step.id),
        }
        """What DBOS records as the step's outcome: where its rows are."""

    async def _hold_if_not_reached(self) -> None:
        """Begin no step that the first execution did not come to.

        It may have been cut off before: what the workflow did instead has the step's number.
        """
        if not self._step.pauses_again and self._step.recorded_row is None:
            await recorded_end.hold_if_cut(self._step.run, self._step.name)


class _RecordedWithRows(_Numbered[T]):
    """DBOS's record of the step is written with its rows, and looked up in memory."""

    def __init__(self, step: Step[T], number: StepReservation, records: Records) -> None:
        super().__init__(step, number)
        self._records = records

    async def outcome(self) -> T:
        await self._hold_if_not_reached()
        step = self._step
        with step_records.inside_step(self._number, step.record_name):
            row = self._step.recorded_row
            found = self._records.find(self._number.step_id, step.record_name)
            if found is not None:
                return await step.copied(found.reference) if row is None else step.replay(row)
            step.record = StepRecord(self._number.step_id, step.record_name, self._reference)
            try:
                if row is not None:
                    # Killed between our commit and DBOS's record, when they were two.
                    output = _output_of(step.record, row)
                    await step.written(step.run.commits.commit_output(output))
                    return step.replay(row)
                async with draining.Passage():
                    with step.run.starts.entered() as place:
                        await place.first()
                        return await _execute(step)
            except NotEnded as pause:
                return pause.value  # type: ignore[no-any-return]  # the effect's


class _RecordedByDbos(_Numbered[T]):
    """An ordinary step of DBOS, which looks it up, and records it after its rows are written."""

    def __init__(self, step: Step[T], number: StepReservation) -> None:
        super().__init__(step, number)
        self._is_known = False
        """Whether the step ended in this execution; DBOS keeps only a reference to its outcome."""
        self._value: T | None = None
        self._error: BaseException | None = None

    async def outcome(self) -> T:
        await self._hold_if_not_reached()
        step = self._step
        with step.run.starts.entered() as place:
            # Its end is told with those of the run's other steps.
            with told_in_order.apart(step.run.owner.workflow_id, self._number.step_id):
                task = asyncio.ensure_future(
                    self._number.run_async({"name": step.record_name}, self._body(place))
                )
            told: asyncio.Future[tuple[Any] | None] = asyncio.get_running_loop().create_future()
            step.task, step.told = task, told
            task.add_done_callback(lambda _: step.tell(None))
            try:
                early = await _unless_cancelled(task, told, step)
            except NotEnded as pause:
                return pause.value  # type: ignore[no-any-return]  # the effect's
            except control_errors.CONTROL_ERRORS:
                raise
            except Exception as error:
                if self._error is None and not _is_recorded_failure(error):
                    raise
                recorded = reference_of(error)
            else:
                if early is not None:
                    step.run.commits.defer(_deferred(task))
                    return early[0]  # type: ignore[no-any-return]  # the effect's
                recorded = task.result()
        return await self._known(recorded)

    async def _known(self, recorded: Any) -> T:
        """The outcome, which this execution has made, or the run's rows hold."""
        if self._error is not None:
            raise self._error
        if self._is_known:
            return self._value  # type: ignore[return-value]  # set whenever known without an error
        row = self._step.recorded_row
        return await self._step.copied(recorded) if row is None else self._step.replay(row)

    def _body(self, place: StartPlace) -> Callable[[], Coroutine[Any, Any, dict[str, str]]]:
        """What DBOS executes as the step, where it has no record of it."""

        async def body() -> dict[str, str]:
            return await self._execute(place)

        # DBOS's log names the function of a step that is cancelled.
        body.__qualname__ = self._step.record_name
        return body

    async def _execute(self, place: StartPlace) -> dict[str, str]:
        step = self._step
        try:
            if (row := self._step.recorded_row) is not None:
                # Killed between our commit and DBOS's record.
                step.keep()
                self._value = step.replay(row)
            else:
                async with draining.Passage():
                    await place.first()
                    self._value = await _execute(step)
        except control_errors.CONTROL_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001  # raised below, without a cause
            self._error = error
        self._is_known = True
        if self._error is not None:
            told = self._error.error if isinstance(self._error, RaisedByEffect) else self._error
            raise failure(told, self._reference)
        return self._reference


def _output_of(record: StepRecord, row: dict[str, Any]) -> dbos_step_outputs.Row:
    """DBOS's record of a step that has its rows."""
    if row["error"] is None:
        return record.ended()
    return record.failed(error_of(row))


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


async def _execute(step: Step[T]) -> T:
    await step.run.commits.deferred()
    if (ending := step.run.limits.failure) is not None:
        raise Refused(ending) if isinstance(ending, TimestepError) else ending
    if not step.pauses_again:
        if step.may_follow_end:
            await recorded_end.hold_if_cut(step.run, step.name)
        else:
            await recorded_end.hold_if_decided(
                step.run, step.name, is_alone=step.table == "model_responses"
            )
        refusal = replay_check.refused(step.run.owner.workflow_id, step.name, step.run.id)
        if step.run.record.is_of_the_past:
            refusal = step.run.record.refusal(repr(step.name))
        if refusal is not None:
            raise Refused(refusal)
    await lease.held()
    # What paused does nothing anew until it has paused again.
    step.is_executed = not step.pauses_again
    took(step.run, step.table, from_record=step.pauses_again)
    step.began = time.monotonic()
    failed: Exception | None = None
    told: BaseException | None = None
    try:
        with inside_step(step.run, step.id, step.usage):
            value = await _effect(step)
    except control_errors.CONTROL_ERRORS:
        raise
    except RaisedByEffect as error:
        told = error.error
        told = exceptions.survives(told) if isinstance(told, Exception) else told
        failed = RaisedByEffect(told)
    except Exception as error:  # noqa: BLE001  # raised below, where it gets no other context
        failed = told = exceptions.survives(error)
    if failed is not None and told is not None:
        rows = step.failed_rows(exceptions.seal(told), _since(step.began))
        await step.commit(rows, None if step.record is None else step.record.failed(told))
        raise failed
    if step.is_paused(value):
        await step.pause()
        raise NotEnded(value)
    rows = step.rows(value, _since(step.began))
    writing = step.commit(rows, None if step.record is None else step.record.ended())
    if not step.may_be_deferred(value):
        await writing
    elif step.record is not None:
        step.run.commits.defer(_deferred(writing))
        # It is sent before the SDK goes on.
        await asyncio.sleep(0)
    else:
        step.tell((value,))
        await writing
    return value


async def _effect(step: Step[T]) -> T:
    before = cancels()
    try:
        with step.run.agent_use.step():
            return await step.effect()
    except EXITS as exit_:
        raise no_exit(step.name, exit_) from exit_
    except asyncio.CancelledError as error:
        if came_by_itself(error, before) and not _is_ending(step):
            raise RaisedByEffect(error) from error
        raise
    except UnreadableValueError as error:
        raise RaisedByEffect(error) from error
    except BaseException as error:
        if control_errors.is_foreign(error) and cancels() <= before:
            raise no_exception(step.name, error) from error
        raise


def _is_ending(step: Step[Any]) -> bool:
    """Whether the run ends, or this process, and with it what the step waits for."""
    limits = step.run.limits
    return limits.is_cut_off or limits.failure is not None or process.is_stopping()


async def _deferred(writing: Awaitable[Any]) -> None:
    try:
        await writing
    except Refused as refused:
        raise refused.error from None


def _since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
