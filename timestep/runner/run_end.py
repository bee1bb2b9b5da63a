"""Records how a run ended: with an answer, with questions, with an error, or cut off."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, NoReturn, cast

from agents import Agent, RunResult, RunResultStreaming
from agents.exceptions import AgentsException

from timestep.dbos_internals import control_errors, process
from timestep.errors import DatabaseError, ReplayError, RunTimeoutError, TimestepError
from timestep.execution.current import current_step
from timestep.execution.limits import LACKS
from timestep.execution.pending_calls import Call
from timestep.execution.run import Rows, Run
from timestep.runner import failures
from timestep.runtime.cancellation import EXITS
from timestep.runtime.terminal import quoted
from timestep.sdk.state import turn_state
from timestep.sdk.state.run_history import Told, history_of
from timestep.serialization import exceptions
from timestep.serialization.sdk_objects import jsonable
from timestep.serialization.values import restored, storable
from timestep.steps import interruption
from timestep.steps.step import no_exit

_TRACEBACK = "traceback"
"""What a failed run's envelope has besides that of any error: read by `timestep show`."""


async def finish(run: Run, result: RunResult | RunResultStreaming) -> None:
    """Record how a run ended: with an answer, or with questions."""
    await run.commits.deferred()
    # The SDK may have answered it, and come to an end without another step that would raise it.
    run.limits.check_failure()
    if result.interruptions:
        run.questions.keep(result)
        await interruption.record(run, result)
        return
    if run.record.is_over:
        run.ends.end(is_recorded=True)
        _draw_no_more(run)
        _raise_recorded(run)
        return

    history = history_of(run)

    def tell() -> tuple[dict[str, Any], Told]:
        return turn_state.written(result, None, history.told or Told())

    rows: Rows = {}
    if (state := history.checkpoint(run, tell)) is not None:
        rows.update(run.states.final_rows(state))
    output = storable(jsonable(result.final_output))
    await _record(run, "completed", {"final_output": output}, rows, result.last_agent)


def _raise_recorded(run: Run) -> None:
    """Fail as the first execution did, where code that is not recorded fails no more."""
    row = run.record.own_row
    if row is not None and row["error"] is not None:
        raise exceptions.opened(restored(row["error"]))


def in_doubt(run: Run, call: Call) -> ReplayError:
    return ReplayError(
        f"the outcome of call {quoted(call.call_id)} of tool {quoted(call.row['tool_name'])} in "
        f"run {run.id} is unknown, and this run cannot stop to ask about it: use "
        "timestep.run_agent in the workflow that began it, which waits for a person's decision"
    )


async def ask_again(run: Run, call: Call) -> RunResult:
    """A call was started once more and its outcome is unknown once more: stop as before."""
    result = cast(RunResult, run.questions.result)
    await interruption.record(run, result, [call])
    return result


async def end(run: Run, error: BaseException) -> NoReturn:
    """Record what ended the run, and raise it; DBOS's own errors come before the SDK's."""
    try:
        await _end(run, error)
    except control_errors.LOST as lost:
        if (around := current_step()) is not None:
            around.is_lost = True
        # Also a run that its workflow had left going, and that ends after it.
        await run.recorder.cancelled(run.owner.workflow_id, run.root_id)
        for one in (run, *run.family()):
            await one.commits.late()
        if isinstance(error, asyncio.CancelledError):
            raise error from lost
        raise


async def _end(run: Run, error: BaseException) -> NoReturn:
    await run.commits.deferred()
    if isinstance(error, EXITS) and threading.current_thread() is not threading.main_thread():
        # A hook's, or another code's that is no step. In the main thread the process ends with it.
        error, exit_ = no_exit(f"run {run.id}", error), error
        error.__cause__ = exit_
    if run.limits.failure is not None:
        error, hidden = run.limits.failure, error
        error.__context__ = hidden if hidden is not error else None
    is_timeout = error is run.limits.cut.cause and isinstance(error, RunTimeoutError)
    is_for_all = isinstance(error, TimestepError | control_errors.LeftForOthers)
    if run.parent is not None and is_for_all and not is_timeout:
        # A tool's error handler would tell the model of it, and go on.
        run.parent.limits.fail(error)
    if isinstance(error, asyncio.CancelledError) and not _came_by_itself(run, error):
        # A process that stops cancels its tasks; their runs go on in the next one. And a run
        # that is cut off ends those inside it.
        is_inside = run.parent is not None and run.parent.limits.is_cut_off
        if not process.is_stopping() and not is_inside:
            await run.cut_off()
            await record_cut(run)
    elif is_timeout:
        await run.cut_off()
        timeout = {"cancel_reason": "timeout"}
        inside = [await _ended(child, "cancelled", timeout) for child in _begun(run)]
        rows = {"runs": inside, "ended_calls": [_open_calls(child) for child in _begun(run)]}
        await record_failure(run, error, rows)
    elif _is_failure(error):
        error = exceptions.survives(error) if isinstance(error, Exception) else error
        await record_failure(run, error)
        error = _as_recorded(run, error)
    exceptions.raise_as_it_is(error)


def _came_by_itself(run: Run, error: asyncio.CancelledError) -> bool:
    """Whether a run ended in a CancelledError of what it called: nobody cancelled the run."""
    is_ending = run.limits.is_cut_off or process.is_stopping()
    return not is_ending and run.limits.cut.is_of_another(error)


def _is_failure(error: BaseException) -> bool:
    kinds = (Exception, asyncio.CancelledError)
    return isinstance(error, kinds) and not isinstance(error, control_errors.CONTROL_ERRORS)


def _as_recorded(run: Run, error: BaseException) -> BaseException:
    """What ended the run: of two calls that fail at once, the first execution chose one."""
    row = run.record.own_row if run.record.is_over else None
    if row is None or row["error"] is None:
        return error
    recorded = restored(row["error"])
    told = {name: recorded[name] for name in recorded.keys() - {_TRACEBACK, LACKS}}
    if told == exceptions.seal(error):
        return error
    first = exceptions.opened(recorded)
    if isinstance(first, AgentsException) and isinstance(error, AgentsException):
        # What the run had come to, which the SDK tells of this execution, too.
        first.run_data = error.run_data
    return first


async def record_failure(
    run: Run,
    error: BaseException,
    rows: Rows | None = None,
) -> None:
    """Record that a run failed, and how many step numbers it had drawn by then.

    What ended it may have been faster, or slower, than what went on beside it: a model that was
    asked while a guardrail tripped has drawn a number, or has not.
    """
    await run.commits.settle()
    drawn = _draw_no_more(run)
    if not run.record.is_begun or run.record.is_over:
        run.ends.end(is_recorded=True)
        return
    envelope = exceptions.seal(error)
    lacks = {LACKS: True} if run.limits.is_lack(error) else {}
    columns = {
        "cancel_steps": drawn,
        "error_type": exceptions.short_type(str(envelope["type"])),
        "error_message": envelope["message"],
        "error_turn": run.turn,
        "error": storable({**envelope, _TRACEBACK: failures.traceback_of(error), **lacks}),
    }
    try:
        await _record(run, "failed", columns, rows)
    except DatabaseError as refusal:
        # Something of it does not fit: that it failed, and with what, is recorded without it.
        kind = columns["error_type"]
        bare = {
            "error_message": f"more than this cannot be recorded of a {kind}: {refusal}",
            "error": None,
        }
        await _record(run, "failed", {**columns, **bare})
    failures.tell_of_run(run, error)


async def record_cut(run: Run) -> None:
    """Record that the workflow's own code cut a run off, and with it the runs inside it."""
    columns = {"cancel_reason": "code", "cancel_steps": _draw_no_more(run)}
    if run.record.may_go_on and all(child.record.has_ended for child in _begun(run)):
        # Cut off once more, where it was: the record says so already.
        run.ends.end(is_recorded=True)
        return
    inside = [await _ended(child, "cancelled", {"cancel_reason": "code"}) for child in _begun(run)]
    ended_calls = [_open_calls(child) for child in _begun(run)]
    await _record(run, "cancelled", columns, {"runs": inside, "ended_calls": ended_calls})


def _draw_no_more(run: Run) -> list[int] | None:
    """How many step numbers were drawn when a run ended; a replay goes on from there."""
    row = run.record.own_row or {}
    return run.counters.end(row.get("cancel_steps"))


async def _record(
    run: Run,
    status: str,
    columns: dict[str, Any],
    rows: Rows | None = None,
    agent: Agent[Any] | None = None,
) -> None:
    if not run.record.is_begun:
        return
    await run.commits.settle()
    rows = rows or {}
    row = await _ended(run, status, columns, agent)
    row["ends"] = run.ends.end(is_recorded=run.record.is_over)
    rows = {
        **rows,
        "runs": [row, *rows.get("runs", [])],
        "ended_calls": [_open_calls(run), *rows.get("ended_calls", [])],
    }
    await run.commits.commit(rows, is_end=True)


def _open_calls(run: Run) -> dict[str, Any]:
    """What tells the run's end of calls that have no outcome: which of them were never begun."""
    skipped = run.calls.never_begun(lambda id_: run.record.find("tool_calls", id_) is not None)
    return {"run_id": str(run.id), "skipped": [str(id_) for id_ in skipped]}


async def _ended(
    run: Run, status: str, columns: dict[str, Any], agent: Agent[Any] | None = None
) -> dict[str, Any]:
    last = agent if agent is not None else run.agent
    return {
        "id": str(run.id),
        "status": status,
        "current_turn": run.turn,
        "current_agent_id": str(await run.agent_id(last)) if last is not None else None,
        "completed_at": True,
        **columns,
    }


def _begun(run: Run) -> list[Run]:
    return [child for child in run.family() if child.record.is_begun]
