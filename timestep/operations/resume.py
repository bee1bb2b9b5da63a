"""Decides what a workflow asks, or goes on with it in this version of the code.

A decision is rows, and a process that only makes one imports neither DBOS nor the SDK. What needs
them (a takeover, a result in place of a call, those in this process who wait) is imported there.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from timestep.approvals.decide import (
    Choice,
    check_expected,
    choose,
    contradicts,
    decision,
    with_checked_edits,
)
from timestep.approvals.links import Link
from timestep.database.error_translation import translated
from timestep.dbos_internals import presence
from timestep.errors import (
    AlreadyResolvedError,
    ExpiredLinkError,
    InvalidInputError,
    NobodyWaitsError,
    UnknownInterruptionError,
    UnknownRunError,
)
from timestep.journal.reads import workflow_records
from timestep.journal.reads.database import Database, database
from timestep.operations.access import acting, audit
from timestep.operations.arguments import check_document, check_known
from timestep.operations.queries import executions
from timestep.operations.queries.executions import Execution
from timestep.operations.queries.records import ResumeResult
from timestep.runtime import terminal
from timestep.runtime.cancellation import in_thread
from timestep.runtime.terminal import quoted
from timestep.store import interruptions as store
from timestep.store import parked_workflows
from timestep.store.access import audit as audit_store
from timestep.store.fleet import process_ends

_OVER = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")


async def resume_workflow(
    workflow_id: str,
    *,
    approve: Sequence[str] | str = (),
    reject: Sequence[str] | str = (),
    supply: dict[str, Any] | None = None,
    edit: Mapping[str, Mapping[str, Any]] | None = None,
    expect: Mapping[str, str] | None = None,
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
        workflow_id: The workflow whose runs wait, or its run that goes on, by its id.
        approve: Interruption ids or tool call ids to approve, or `"all"`.
        reject: Those to reject, or `"all"`.
        supply: Results by interruption id or tool call id: the call is not made, and this
            is its result. For a call that may have happened already.
        edit: Arguments by interruption id or tool call id: the call is made with them instead
            of those that the model gave, and the model is shown it so. Of function tools, agents
            as tools and tools of local MCP servers; they have to fit the tool's JSON schema.
        expect: What was shown of questions: their hashes by interruption id or tool call id. What
            is decided is refused where a hash is another one by now, and with `"all"` where
            one is missing. The first 16 digits of a hash are enough.
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
        InvalidInputError: A supplied result or edited arguments are nested too deeply, a call
            cannot be edited, or `edit` and `always` are given.
        InvalidArgumentsError: Edited arguments do not fit the tool's JSON schema: `fields` says
            where.
        ChangedQuestionError: A question is not as `expect` says: `changes` says what changed.
        UnknownInterruptionError: An id is not one of the workflow's, or it asked for nothing, or
            the run that asked has ended.
        AlreadyResolvedError: One of them was decided differently: the message tells by whom.
        NobodyWaitsError: The workflow was cancelled, or has ended without waiting, as one does
            that plain `Runner.run` gave `.interruptions`; nothing is written.
        PickledRecordError: The workflow is recorded as a pickle, and left alone for that; one that
            has ended waits for nothing, whatever it is recorded as.
    """
    check_known(workflow_id, "workflow")
    given = workflow_id
    workflow_id = await in_thread(
        lambda: database().patiently(lambda: workflow_records.workflow_named(given))
    )
    check_document("what is supplied", supply)
    check_document("what is edited", edit)
    if edit and always:
        raise InvalidInputError(
            "a call that is edited is decided by itself: later calls come with arguments of their "
            "own, so decide what is to hold for them (always) in another call"
        )
    # One that failed may be taken over.
    over = _OVER[:1] if from_checkpoint else _OVER
    await in_thread(
        lambda: workflow_records.check_readable(workflow_id, unread=over, here=from_checkpoint)
    )
    if again:
        await in_thread(lambda: _check_there(workflow_id))
    asked = _Asked(
        workflow_id=workflow_id,
        actor=acting.take(by),
        approve=approve,
        reject=reject,
        supply=_recorded(supply) if supply else {},
        edit=edit or {},
        expect=expect or {},
        always=always,
        message=message,
        by=by,
        from_checkpoint=from_checkpoint,
        repeat_steps=repeat_steps,
        again=again,
    )
    return await _carried_out(asked)


async def decide_by_link(
    workflow_id: str, link: Link, *, approve: bool, message: str | None = None, by: str
) -> ResumeResult:
    """Decide about one call by a one-time link, whose time the deciding statement looks at.

    Args:
        workflow_id: The workflow whose run asks.
        link: What the message told of.
        approve: False: the call is rejected.
        message: What the model is told of a rejection.
        by: Who decided, as far as that is known.

    Raises:
        ExpiredLinkError: The time of the link is over; nothing is written.
        ChangedQuestionError, UnknownInterruptionError, AlreadyResolvedError, NobodyWaitsError,
        PickledRecordError: As `resume_workflow` raises them.
    """
    await in_thread(lambda: workflow_records.check_readable(workflow_id, unread=_OVER))
    names = [str(link.question)]
    return await _carried_out(
        _Asked(
            workflow_id=workflow_id,
            actor=acting.take(by),
            approve=names if approve else (),
            reject=() if approve else names,
            expect={names[0]: link.hash},
            message=message,
            by=by,
            until=link.until,
        )
    )


async def _carried_out(asked: _Asked) -> ResumeResult:
    found, workflow_id = database(), asked.workflow_id

    def attempt() -> _Done:
        with translated(found.url):
            return _do(asked, found)

    # A takeover is seen to be possible or not where the database is.
    done = await in_thread(
        attempt if asked.from_checkpoint else lambda: found.patiently(lambda: _do(asked, found))
    )
    if presence.is_made():
        from timestep.approvals import wait_for_decision

        await in_thread(lambda: wait_for_decision.tell(workflow_id, done.queue))
    if done.ended is not None:
        reason = f"the workflow {done.ended}"
        return ResumeResult(workflow_id, done.resolved, done.pending, False, reason)
    follower = await in_thread(lambda: found.patiently(lambda: _execution(workflow_id)))
    return ResumeResult(
        workflow_id, done.resolved, done.pending, not follower.is_stuck, follower.obstacle
    )


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What one call of `resume_workflow` asks for."""

    workflow_id: str
    actor: acting.Actor
    approve: Sequence[str] | str
    reject: Sequence[str] | str
    supply: Mapping[str, Any] = field(default_factory=dict)
    edit: Mapping[str, Any] = field(default_factory=dict)
    expect: Mapping[str, str]
    always: bool = False
    message: str | None
    by: str | None
    from_checkpoint: bool = False
    repeat_steps: bool = False
    again: bool = False
    until: datetime.datetime | None = None
    """Of a one-time link: its time."""

    @property
    def is_decision(self) -> bool:
        """Whether questions are decided; if nothing else is asked for, none is one, too."""
        is_decided = self.approve or self.reject or self.supply or self.edit or self.expect
        return bool(is_decided) or not (self.from_checkpoint or self.again)


@dataclass(frozen=True)
class _Done:
    """What came of it."""

    resolved: list[str]
    """The ids of the questions that are decided."""
    pending: list[str]
    """Those of the ones that still wait."""
    queue: str | None
    """Where the workflow waits to go on, if it was put there."""
    ended: str | None
    """How the workflow has ended, if nothing of it goes on."""


def _do(asked: _Asked, found: Database) -> _Done:
    """Do all that is asked for, in one transaction, or nothing of it."""
    workflow_id, ended = asked.workflow_id, None
    chosen: list[Choice] = []
    with found.connected([workflow_id], whole=True) as connection:
        # In this order everybody locks who changes both.
        locked = parked_workflows.lock(connection, workflow_id)
        if asked.from_checkpoint:
            _take_over(asked, connection)
        else:
            ended = parked_workflows.lock_end(connection, found.schema, workflow_id)
        queue = _try_again(asked, connection, found.schema) if found.mirror is None else None
        ended = ended if queue is None else None
        # What is asked from now on is nothing that the caller has seen.
        rows = store.select(connection, workflow_id=workflow_id)
        rows = [row for row in rows if row["id"] in locked]
        if asked.is_decision:
            chosen = _decide(asked, connection, found.schema, rows, ended)
        if found.mirror is None:
            queue = parked_workflows.wake(connection, found.schema, workflow_id) or queue
    resolved = [str(choice.row["id"]) for choice in chosen]
    waiting = [str(row["id"]) for row in rows if row["resolved_at"] is None and not row["ended"]]
    return _Done(resolved, [id_ for id_ in waiting if id_ not in resolved], queue, ended)


def _take_over(asked: _Asked, connection: Any) -> None:
    from timestep.operations import take_over

    take_over.take_over(connection, asked.workflow_id, repeat_steps=asked.repeat_steps)
    details = {"repeat_steps": asked.repeat_steps}
    audit.add(connection, asked.actor, "from_checkpoint", [asked.workflow_id], details)


def _try_again(asked: _Asked, connection: Any, schema: str) -> str | None:
    """Have a workflow go on that was put aside or given up, if that is asked for; its queue."""
    if not asked.again:
        return None
    from timestep.dbos_internals.executions import INTERNAL_QUEUE_NAME

    whose = {"workflow_id": asked.workflow_id, "internal_queue": INTERNAL_QUEUE_NAME}
    queue = process_ends.try_again(connection, schema, whose)
    if queue is not None:
        audit.add(connection, asked.actor, "again", [asked.workflow_id])
    return queue


def _decide(
    asked: _Asked,
    connection: Any,
    schema: str,
    rows: list[dict[str, Any]],
    ended: str | None,
) -> list[Choice]:
    """Write what is decided about the questions of a workflow, and give all that was named."""
    chosen = choose(asked.workflow_id, rows, asked.approve, asked.reject, asked.supply, asked.edit)
    undecided = _undecided(chosen, always=asked.always)
    seen = check_expected(asked.workflow_id, rows, chosen, asked.expect)
    if undecided and ended is not None:
        raise NobodyWaitsError(_nothing_follows(asked.workflow_id, ended))
    decisions = [
        decision(
            one.row,
            one.action,
            asked.message,
            always=asked.always,
            by=asked.by,
            value=one.value,
            seen=seen.get(one.row["id"]),
            until=asked.until,
        )
        for one in with_checked_edits(undecided)
    ]
    written = store.resolve(connection, schema, decisions)
    if len(written) < len(decisions):
        # Nobody else decides meanwhile: the questions are locked.
        raise ExpiredLinkError
    edited = [one.row["id"] for one in undecided if one.action == "edit"]
    store.show_edits(connection, edited)
    audit_store.add_decided(connection, asked.actor.entry(), asked.workflow_id, written)
    return chosen


def _recorded(results: Mapping[str, Any]) -> dict[str, Any]:
    from timestep.approvals import supplied

    return supplied.documents(dict(results))


def _undecided(chosen: Sequence[Choice], *, always: bool) -> list[Choice]:
    """What of a call's decisions is to be written, without what was decided likewise before."""
    found = []
    for choice in chosen:
        row = choice.row
        if row["resolved_at"] is None and row["ended"]:
            raise UnknownInterruptionError(
                f"interruption {row['id']} ({row['tool_name']}) is not waited for any "
                f"more: its run is {row['ended']}: see `timestep show {row['run_id']}`"
            )
        if row["resolved_at"] is None:
            found.append(choice)
        elif contradicts(choice, always=always):
            raise AlreadyResolvedError(
                f"interruption {row['id']} ({row['tool_name']}) was decided already: "
                f"{row['resolution_action']}"
                + (" always" if row["resolution_always"] else "")
                + (f" by {row['resolved_by']}" if row["resolved_by"] else "")
                + _in_other_words(choice)
            )
    return found


def _in_other_words(choice: Choice) -> str:
    """In what a decision differs that is of the same kind."""
    if choice.row["resolution_action"] != choice.action:
        return ""
    differences = {"supply": ", with another result", "edit": ", with other arguments"}
    return differences.get(choice.action, ", and not for later calls (always)")


def _execution(workflow_id: str) -> Execution:
    # One that is not found has ended by now.
    return executions.of_workflows([workflow_id]).get(workflow_id, Execution())


def _check_there(workflow_id: str) -> None:
    if workflow_records.workflow_record(workflow_id) is None:
        raise UnknownRunError(f"there is no workflow {quoted(workflow_id)}: see `timestep runs`")


def _nothing_follows(workflow_id: str, ended: str) -> str:
    if not ended.startswith("has "):
        is_given_up = ended.endswith("recovered too many times")
        how = "--again" if is_given_up else "--from-checkpoint"
        go_on = terminal.command("resume", workflow_id, how)
        return (
            f"the workflow {quoted(workflow_id)} {ended} and waits for nothing: go on with "
            f"`{go_on}`, and decide then"
        )
    return (
        f"the workflow {quoted(workflow_id)} {ended} and waits for nothing: whoever goes on "
        "with its run's state decides, with state.approve() or state.reject() and Runner.run(agent,"
        " state); timestep.run_agent waits for decisions, where Runner.run returns"
    )


def resume_workflow_sync(workflow_id: str, **decision: Any) -> ResumeResult:
    """`resume_workflow` for a caller without an event loop; the same arguments and errors."""
    return asyncio.run(resume_workflow(workflow_id, **decision))
