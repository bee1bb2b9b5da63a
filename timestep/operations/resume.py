"""Decides what a workflow asks, or goes on with it in this version of the code."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from timestep.approvals import wait_for_decision
from timestep.approvals.decide import Choice, choose, contradicts, decision
from timestep.database.error_translation import translated
from timestep.dbos_internals.executions import INTERNAL_QUEUE_NAME
from timestep.errors import (
    AlreadyResolvedError,
    NobodyWaitsError,
    UnknownInterruptionError,
    UnknownRunError,
)
from timestep.journal import dbos_client
from timestep.journal.recorder import recorder
from timestep.operations import take_over
from timestep.operations.arguments import check_document, check_known
from timestep.operations.queries import executions
from timestep.operations.queries.executions import Execution
from timestep.operations.queries.interruptions import ended_workflows
from timestep.operations.queries.records import ResumeResult
from timestep.runtime import terminal
from timestep.runtime.cancellation import in_thread
from timestep.runtime.terminal import quoted
from timestep.store import interruptions as store
from timestep.store import parked_workflows
from timestep.store.fleet import process_ends

_OVER = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")


async def resume_workflow(
    workflow_id: str,
    *,
    approve: Sequence[str] | str = (),
    reject: Sequence[str] | str = (),
    supply: dict[str, Any] | None = None,
    always: bool = False,
    message: str | None = None,
    by: str | None = None,
    from_checkpoint: bool = False,
    repeat_steps: bool = False,
    again: bool = False,
) -> ResumeResult:
    """Decide what a workflow's runs ask; a run with nothing left to ask goes on.

    Works from any process that reaches the database. A decision that was made already is
    made again without harm, whatever its message. Nothing is applied when one of the ids is bad.

    Args:
        workflow_id: The workflow whose runs wait.
        approve: Interruption ids or tool call ids to approve, or `"all"`.
        reject: Those to reject, or `"all"`.
        supply: Results by interruption id or tool call id: the call is not made, and this
            is its result. For a call that may have happened already.
        always: Decide later calls of the same agent's tool in the same run likewise. Calls
            whose outcome is in doubt are asked about nevertheless.
        message: What the model is told of a rejection.
        by: Who decided.
        from_checkpoint: Go on with the workflow in this version of the application, from its
            newest checkpoint. Recorded model and tool calls are not repeated. What is decided in
            the same call is decided if this can be, and not otherwise.
        repeat_steps: With `from_checkpoint`: execute the workflow's own steps again, where this
            version has other ones than the record.
        again: Go on with a workflow that was put aside, because its host ended each time that it
            went on with it, or that DBOS gave up. It is put aside again where that ends the host
            once more. One that goes on as it is stays as it is.

    Raises:
        TakeoverError: `from_checkpoint`, and the workflow is being executed by a live host, has
            ended, or left no usable checkpoint. Nothing was changed.
        UnknownRunError: There can be no such workflow; or `from_checkpoint`, or `again`, and
            there is none.
        InvalidInputError: A supplied result is nested too deeply.
        UnknownInterruptionError: An id is not one of the workflow's, or it asked for nothing, or
            the run that asked has ended.
        AlreadyResolvedError: One of them was decided differently: the message tells by whom.
        NobodyWaitsError: The workflow was cancelled, or has ended without waiting, as one does
            that plain `Runner.run` gave `.interruptions`; nothing is written.
        PickledRecordError: The workflow is recorded as a pickle, and left alone for that; one that
            has ended waits for nothing, whatever it is recorded as.
    """
    check_known(workflow_id, "workflow")
    check_document("what is supplied", supply)
    # One that failed may be taken over.
    over = _OVER[:1] if from_checkpoint else _OVER
    await in_thread(
        lambda: dbos_client.check_readable(workflow_id, unread=over, here=from_checkpoint)
    )
    if again:
        await in_thread(lambda: _check_there(workflow_id))
    is_decided = bool(approve or reject or supply)
    is_begun = from_checkpoint or again
    found = recorder()
    queue: str | None = None
    ended: str | None = None

    def work() -> tuple[list[str], list[str]]:
        """The ids of what is decided, and of what still waits, once all of it is done."""
        nonlocal queue, ended
        chosen: list[Choice] = []
        if not from_checkpoint:
            ended = ended_workflows([workflow_id]).get(workflow_id)
        with found.transactions.begin() as connection:
            # In this order everybody locks who changes both.
            parked_workflows.lock(connection, workflow_id)
            if from_checkpoint:
                take_over.take_over(connection, workflow_id, repeat_steps=repeat_steps)
            if again and found.mirror is None:
                whose = {"workflow_id": workflow_id, "internal_queue": INTERNAL_QUEUE_NAME}
                queue = process_ends.try_again(connection, found.schema, whose)
                ended = ended if queue is None else None
            rows = store.select(connection, workflow_id=workflow_id)
            if is_decided or not is_begun:
                chosen = choose(workflow_id, rows, approve, reject, supply or {})
                decisions = _decisions(chosen, message, always=always, by=by)
                if decisions and ended is not None:
                    raise NobodyWaitsError(_nothing_follows(workflow_id, ended))
                store.resolve(connection, found.schema, decisions)
            if found.mirror is None:
                woken = parked_workflows.wake(connection, found.schema, workflow_id)
                queue = woken or queue
        resolved = [str(row["id"]) for row, _, _ in chosen]
        waiting = [
            str(row["id"]) for row in rows if row["resolved_at"] is None and not row["ended"]
        ]
        return resolved, [id_ for id_ in waiting if id_ not in resolved]

    def attempt() -> tuple[list[str], list[str]]:
        with translated(found.url):
            return work()

    # A takeover is seen to be possible or not where the database is.
    resolved, pending = await in_thread(
        attempt if from_checkpoint else lambda: found.patiently(work)
    )
    await in_thread(lambda: wait_for_decision.tell(workflow_id, queue))
    if ended is not None:
        return ResumeResult(workflow_id, resolved, pending, False, f"the workflow {ended}")
    follower = await in_thread(lambda: found.patiently(lambda: _execution(workflow_id)))
    return ResumeResult(workflow_id, resolved, pending, not follower.is_stuck, follower.obstacle)


def _decisions(
    chosen: Sequence[Choice], message: str | None, *, always: bool, by: str | None
) -> list[dict[str, Any]]:
    """What is to be written of what a call decides, without what was decided likewise before."""
    decisions = []
    for row, action, output in chosen:
        if row["resolved_at"] is None and row["ended"]:
            raise UnknownInterruptionError(
                f"interruption {row['id']} ({row['tool_name']}) is not waited for any "
                f"more: its run is {row['ended']}: see `timestep show {row['run_id']}`"
            )
        if row["resolved_at"] is None:
            decisions.append(decision(row, action, message, always=always, by=by, output=output))
        elif contradicts(row, action, output, always):
            raise AlreadyResolvedError(
                f"interruption {row['id']} ({row['tool_name']}) was decided already: "
                f"{row['resolution_action']}"
                + (" always" if row["resolution_always"] else "")
                + (f" by {row['resolved_by']}" if row["resolved_by"] else "")
                + ("" if row["resolution_action"] != action else _in_other_words(action))
            )
    return decisions


def _in_other_words(action: str) -> str:
    """In what a decision differs that is of the same kind."""
    return ", with another result" if action == "supply" else ", and not for later calls (always)"


def _execution(workflow_id: str) -> Execution:
    # One that is not found has ended by now.
    return executions.of_workflows([workflow_id]).get(workflow_id, Execution())


def _check_there(workflow_id: str) -> None:
    if dbos_client.workflow_status(workflow_id) is None:
        raise UnknownRunError(f"there is no workflow {quoted(workflow_id)}: see `timestep runs`")


def _nothing_follows(workflow_id: str, ended: str) -> str:
    if not ended.startswith("has "):
        is_given_up = ended.endswith("recovered too many times")
        how = "--again" if is_given_up else "--from-checkpoint"
        go_on = terminal.command("resume", workflow_id, "--approve", "all", how)
        return (
            f"the workflow {quoted(workflow_id)} {ended} and waits for nothing: decide and go on "
            f"with `{go_on}`"
        )
    return (
        f"the workflow {quoted(workflow_id)} {ended} and waits for nothing: whoever goes on "
        "with its run's state decides, with state.approve() or state.reject() and Runner.run(agent,"
        " state); timestep.run_agent waits for decisions, where Runner.run returns"
    )


def resume_workflow_sync(workflow_id: str, **decision: Any) -> ResumeResult:
    """`resume_workflow` for a caller without an event loop; the same arguments and errors."""
    return asyncio.run(resume_workflow(workflow_id, **decision))
