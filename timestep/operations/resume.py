"""Decides what a workflow asks, or goes on with it in this version of the code."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from timestep.approvals import wait_for_decision
from timestep.approvals.decide import choose, contradicts, decision
from timestep.errors import (
    AlreadyResolvedError,
    ConfigurationError,
    NobodyWaitsError,
    UnknownInterruptionError,
)
from timestep.journal import dbos_client
from timestep.journal.recorder import recorder
from timestep.operations import take_over
from timestep.operations.arguments import check_document, check_known
from timestep.operations.queries.interruptions import ended_workflows, list_interruptions
from timestep.operations.queries.records import ResumeResult
from timestep.runtime.cancellation import in_thread
from timestep.runtime.terminal import quoted
from timestep.store import interruptions as store
from timestep.store import parked_workflows


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
        from_checkpoint: Decide nothing; go on with the workflow in this version of the
            application, from its newest checkpoint. Recorded model and tool calls are not
            repeated.
        repeat_steps: With `from_checkpoint`: execute the workflow's own steps again, where this
            version has other ones than the record.

    Raises:
        TakeoverError: `from_checkpoint`, and the workflow is being executed by a live host, has
            ended, or left no usable checkpoint. Nothing was changed.
        UnknownRunError: There can be no such workflow; or `from_checkpoint`, and there is none.
        InvalidInputError: A supplied result is nested too deeply.
        ConfigurationError: `from_checkpoint` together with decisions.
        UnknownInterruptionError: An id is not one of the workflow's, or it asked for nothing, or
            the run that asked has ended.
        AlreadyResolvedError: One of them was decided differently: the message tells by whom.
        NobodyWaitsError: The workflow has ended without waiting, as one does that plain
            `Runner.run` gave `.interruptions`; nothing is written.
        PickledRecordError: The workflow is recorded as a pickle, and left alone for that.
    """
    check_known(workflow_id, "workflow")
    check_document("what is supplied", supply)
    await in_thread(lambda: dbos_client.check_readable(workflow_id))
    if from_checkpoint:
        if approve or reject or supply:
            raise ConfigurationError("from_checkpoint decides nothing: decide in another call")
        await take_over.take_over(workflow_id, repeat_steps=repeat_steps)
        waiting = await list_interruptions(workflow_id=workflow_id)
        return ResumeResult(workflow_id, [], [asked.id for asked in waiting])
    queue: str | None = None

    def decide() -> ResumeResult:
        nonlocal queue
        found = recorder()
        ended = ended_workflows([workflow_id]).get(workflow_id)
        with found.transactions.begin() as connection:
            parked_workflows.lock(connection, workflow_id)
            rows = store.select(connection, workflow_id=workflow_id)
            chosen = choose(workflow_id, rows, approve, reject, supply or {})
            decisions = []
            for row, action, output in chosen:
                if row["resolved_at"] is None and row["ended"]:
                    raise UnknownInterruptionError(
                        f"interruption {row['id']} ({row['tool_name']}) is not waited for any "
                        f"more: its run is {row['ended']}"
                    )
                if row["resolved_at"] is None:
                    decisions.append(
                        decision(row, action, message, always=always, by=by, output=output)
                    )
                elif contradicts(row, action, output, always):
                    raise AlreadyResolvedError(
                        f"interruption {row['id']} ({row['tool_name']}) was decided already: "
                        f"{row['resolution_action']}"
                        + (" always" if row["resolution_always"] else "")
                        + (f" by {row['resolved_by']}" if row["resolved_by"] else "")
                    )
            if decisions and ended is not None:
                raise NobodyWaitsError(_nothing_follows(workflow_id, ended))
            store.resolve(connection, decisions)
            if found.mirror is None:
                queue = parked_workflows.wake(connection, found.schema, workflow_id)
        done = {row["id"] for row, _, _ in chosen}
        pending = [
            row
            for row in rows
            if row["resolved_at"] is None and not row["ended"] and row["id"] not in done
        ]
        return ResumeResult(
            workflow_id=workflow_id,
            resolved=[str(row["id"]) for row, _, _ in chosen],
            pending=[str(row["id"]) for row in pending],
            goes_on=ended is None,
            reason=None if ended is None else f"the workflow has {ended}",
        )

    result = await in_thread(lambda: recorder().patiently(decide))
    await in_thread(lambda: wait_for_decision.tell(workflow_id, queue))
    return result


def _nothing_follows(workflow_id: str, ended: str) -> str:
    return (
        f"the workflow {quoted(workflow_id)} has {ended} and waits for nothing: whoever goes on "
        "with its run's state decides, with state.approve() or state.reject() and Runner.run(agent,"
        " state); timestep.run_agent waits for decisions, where Runner.run returns"
    )


def resume_workflow_sync(workflow_id: str, **decision: Any) -> ResumeResult:
    """`resume_workflow` for a caller without an event loop; the same arguments and errors."""
    return asyncio.run(resume_workflow(workflow_id, **decision))
