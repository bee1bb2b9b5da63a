"""Waits for people's decisions, and puts them into the state of the run that stopped for them."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from typing import Any

from agents import RunResult, RunResultStreaming, RunState

from timestep.approvals import notifications, wait_for_decision
from timestep.approvals.decide import decision
from timestep.errors import UnknownInterruptionError, UnknownRunError
from timestep.execution.identity import known_runs
from timestep.execution.pending_calls import Call
from timestep.execution.run import Run
from timestep.runner.run_limits import cut_by_owner
from timestep.runtime.cancellation import in_thread
from timestep.runtime.terminal import quoted
from timestep.sdk.state import edited_calls
from timestep.serialization.json_output import arguments_text
from timestep.serialization.values import restored
from timestep.steps import interruption
from timestep.steps.interruption import doubted_again
from timestep.store import interruptions as store
from timestep.store import parked_workflows
from timestep.store.access import audit

_DOUBT_REJECTED = (
    "The process that made this call died before its outcome was known, and a person decided "
    "not to make it again. It may or may not have taken effect."
)


async def decided_state(result: RunResult | RunResultStreaming) -> RunState[Any]:
    """The state of an interrupted run once everything it asks is decided."""
    run = _run_of(result)
    # Nobody has drawn since it stopped. When it goes on depends on people, and not on the record.
    run.counters.keep_on()
    while True:
        state = result.to_state()
        asked = [(item, *_asked(run, item)) for item in state.get_interruptions()]
        rows = await _decisions(run, [str(call.question) for _, _, call in asked])
        # Another execution may have heard of the decision, too, and gone on with it.
        ids = {one.id for _, owner, _ in asked for one in _stopped(run, owner)}
        await in_thread(lambda ids=ids: run.recorder.go_on(run.owner, ids))  # type: ignore[misc]  # mypy infers no default
        answers = []
        for item, owner, call in asked:
            # The answer to the question that this execution has come to: a call may be asked
            # about several times.
            row = rows[str(call.question)]
            owner.questions.decide(call.id, {**row, "id": str(row["id"])})
            answers.append((item, row))
            if row["resolution_action"] == "edit":
                call.edited = arguments_text(restored(row["resolution_arguments"]))
            if call.edited is not None:
                edited_calls.edit(state, item, owner, call)
        _apply(state, answers)
        if not (doubted := doubted_again(run)):
            return state
        # Asked about all at once, before any call of the turn is made. The execution that
        # started them had drawn their numbers, and may have used some.
        run.calls.draw_again()
        await interruption.record(run, result, doubted)


def _asked(run: Run, item: Any) -> tuple[Run, Call]:
    found = interruption.call_of(run, item)
    if found is None:
        raise UnknownInterruptionError(
            f"run {run.id} waits for call {quoted(interruption.call_id(item))}, and nobody was "
            "asked about it"
        )
    return found


def _stopped(run: Run, asking: Run) -> Iterator[Run]:
    """The run that asks, and those around it up to the one that stopped for it."""
    found: Run | None = asking
    while found is not None and found is not run:
        yield found
        found = found.parent
    yield run


def _apply(state: RunState[Any], answers: list[tuple[Any, dict[str, Any]]]) -> None:
    """Give a state the answers to all that it asks."""
    # An answer for every call of a tool takes those for single calls back, so it comes first;
    # of several, the newest holds.
    lasting = [(item, row) for item, row in answers if row["resolution_always"]]
    for item, row in sorted(lasting, key=lambda answer: answer[1]["resolved_at"]):
        _answer(state, item, row, always=True)
    for item, row in answers:
        _answer(state, item, row, always=False)


def _answer(state: RunState[Any], item: Any, row: dict[str, Any], *, always: bool) -> None:
    if row["resolution_action"] != "reject":
        state.approve(item, always_approve=always)
        return
    message = row["resolution_message"]
    if message is None and row["reason"] == "in_doubt":
        message = _DOUBT_REJECTED
    state.reject(item, always_reject=always, rejection_message=message)


def _run_of(result: RunResult | RunResultStreaming) -> Run:
    for run in known_runs():
        if run.questions.result is result:
            return run
    raise UnknownRunError("the interrupted run is not one of this workflow's")


async def _decisions(run: Run, questions: list[str]) -> dict[str, dict[str, Any]]:
    """Sleep durably until nobody has to answer any of a run's questions; the answers by id."""
    while True:
        rows = await in_thread(lambda: run.recorder.patiently(lambda: _look(run, questions)))
        if all(row["resolved_at"] for row in rows):
            return {str(row["id"]): row for row in rows}
        await notifications.announce(run)
        if run.counters.are_of_dbos:
            await wait_for_decision.park(run.recorder, run.owner, questions)
        async with cut_by_owner(run):
            await wait_for_decision.until_told(
                run.recorder, run.owner.workflow_id, _until_expiry(rows)
            )


def _look(run: Run, questions: list[str]) -> list[dict[str, Any]]:
    """The questions as they are now; those whose time is over are rejected first."""
    with run.recorder.engine.connect() as connection:
        rows = parked_workflows.decisions(connection, questions)
    late = [row for row in rows if row["resolved_at"] is None and row["is_expired"]]
    if not late:
        return rows
    with run.recorder.transactions.begin() as connection:
        message = "Nobody decided in time."
        rejected = [decision(row, "reject", message, by="timeout") for row in late]
        written = store.resolve(connection, run.recorder.schema, rejected)
        actor = {"who": "timeout", "via": "python"}
        audit.add_decided(connection, actor, run.owner.workflow_id, written)
        return parked_workflows.decisions(connection, questions)


def _until_expiry(rows: list[dict[str, Any]]) -> float:
    """Seconds until the first undecided question expires."""
    ends = [row["expires_at"] for row in rows if row["resolved_at"] is None and row["expires_at"]]
    now = datetime.datetime.now(datetime.UTC)
    return max((min(ends) - now).total_seconds(), 0.001) if ends else math.inf
