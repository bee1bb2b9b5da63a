"""Approvals: what runs ask people, and the decisions that let them go on."""

from __future__ import annotations

import asyncio
import datetime
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from timestep import parking, takeovers
from timestep.errors import (
    AlreadyResolvedError,
    ConfigurationError,
    UnknownInterruptionError,
    UnknownRunError,
)
from timestep.journal.recorder import recorder
from timestep.pages import Page, interruption_place, page_of, page_size
from timestep.runtime.cancellation import in_thread
from timestep.serialization.values import encode, plain_text, restored, storable
from timestep.store import interruptions as store
from timestep.store import parked_workflows

_UNSET: Any = object()


@dataclass(frozen=True)
class Interruption:
    """A question that a run waits for a person to answer."""

    id: str
    run_id: str
    workflow_id: str | None
    type: str
    """`tool_approval`, `mcp_approval` or `guardrail`."""
    reason: str
    """`needs_approval`; or `in_doubt`: a call that must not be repeated may have happened."""
    tool_name: str | None
    call_id: str | None
    arguments: Any
    agent_name: str | None
    created_at: datetime.datetime
    expires_at: datetime.datetime | None
    resolved_at: datetime.datetime | None
    resolution_action: str | None
    """`approve`, `reject` or `supply`."""
    resolution_message: str | None
    resolution_always: bool
    """Whether later calls of the same tool in the same run are decided likewise."""
    resolved_by: str | None
    """Who decided: a person, `timeout`, or `code` that decided on the run's state."""


@dataclass(frozen=True)
class ResumeResult:
    """What a resume-workflow call did."""

    workflow_id: str
    resolved: list[str]
    """Ids of the interruptions that are decided as the call asked."""
    pending: list[str]
    """Ids of those that still wait for a decision."""


async def list_interruptions(
    *,
    workflow_id: str | None = None,
    run_id: str | uuid.UUID | None = None,
    resolved: bool | None = False,
) -> list[Interruption]:
    """Interruptions, oldest first.

    Args:
        workflow_id: Only those of this workflow.
        run_id: Only those of this run.
        resolved: False: undecided; True: decided; None: both.

    Raises:
        UnknownRunError: `run_id` is not an id.
    """
    run = _uuid(run_id)

    def read(connection: Any) -> list[dict[str, Any]]:
        return store.select(connection, workflow_id=workflow_id, run_id=run, resolved=resolved)

    return [_interruption(row) for row in await recorder().read(read)]


async def page_of_interruptions(
    *, workflow_id: str | None, resolved: bool | None, limit: int, cursor: str | None
) -> Page[Interruption]:
    """Interruptions as `list_interruptions` gives them, in parts.

    Args:
        workflow_id: Only those of this workflow.
        resolved: False: undecided; True: decided; None: both.
        limit: 1 to 200.
        cursor: The `next_cursor` of an earlier page, with the same filters.

    Raises:
        InvalidQueryError: The limit or the cursor cannot be used.
    """
    size, after = page_size(limit), interruption_place(cursor)

    def read(connection: Any) -> list[dict[str, Any]]:
        return store.select(
            connection, workflow_id=workflow_id, resolved=resolved, after=after, limit=size + 1
        )

    found = [_interruption(row) for row in await recorder().read(read)]
    return page_of(found, size, lambda one: one.id)


def _uuid(value: str | uuid.UUID | None) -> uuid.UUID | None:
    if value is None or isinstance(value, uuid.UUID):
        return value
    try:
        return uuid.UUID(value)
    except ValueError:
        raise UnknownRunError(f"{value!r} is not the id of a run") from None


def _interruption(row: dict[str, Any]) -> Interruption:
    names = Interruption.__dataclass_fields__
    return Interruption(
        **{name: row[name] for name in names if name not in ("id", "run_id", "arguments")},
        id=str(row["id"]),
        run_id=str(row["run_id"]),
        arguments=restored(row["arguments"]),
    )


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
        UnknownRunError: `from_checkpoint`, and there is no such workflow.
        ConfigurationError: `from_checkpoint` together with decisions.
        UnknownInterruptionError: An id is not one of the workflow's, or it asked for nothing, or
            the run that asked has ended.
        AlreadyResolvedError: One of them was decided differently: the message tells by whom.
    """
    if from_checkpoint:
        if approve or reject or supply:
            raise ConfigurationError("from_checkpoint decides nothing: decide in another call")
        await takeovers.take_over(workflow_id, repeat_steps=repeat_steps)
        waiting = await list_interruptions(workflow_id=workflow_id)
        return ResumeResult(workflow_id, [], [asked.id for asked in waiting])
    queue: str | None = None

    def decide() -> ResumeResult:
        nonlocal queue
        found = recorder()
        with found.transactions.begin() as connection:
            parked_workflows.lock(connection, workflow_id)
            rows = store.select(connection, workflow_id=workflow_id)
            chosen = _choose(workflow_id, rows, approve, reject, supply or {})
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
                elif _contradicts(row, action, output, always):
                    raise AlreadyResolvedError(
                        f"interruption {row['id']} ({row['tool_name']}) was decided already: "
                        f"{row['resolution_action']}"
                        + (" always" if row["resolution_always"] else "")
                        + (f" by {row['resolved_by']}" if row["resolved_by"] else "")
                    )
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
        )

    result = await in_thread(lambda: recorder().patiently(decide))
    await in_thread(lambda: parking.tell(workflow_id, queue))
    return result


def resume_workflow_sync(workflow_id: str, **decision: Any) -> ResumeResult:
    """`resume_workflow` for a caller without an event loop; the same arguments and errors."""
    return asyncio.run(resume_workflow(workflow_id, **decision))


def _contradicts(row: dict[str, Any], action: str, output: Any, always: bool) -> bool:
    """Whether what was decided is not what is asked for now."""
    if row["resolution_action"] != action:
        return True
    if action == "supply":
        return bool(row["resolution_output"] != storable(encode(output)))
    return always and not row["resolution_always"]


def _choose(
    workflow_id: str,
    rows: list[dict[str, Any]],
    approve: Sequence[str] | str,
    reject: Sequence[str] | str,
    supply: dict[str, Any],
) -> list[tuple[dict[str, Any], str, Any]]:
    """The interruptions that a call names, with its answer to each."""
    if not rows:
        raise UnknownInterruptionError(
            f"there is no workflow {workflow_id!r} that asked for an approval"
        )
    chosen: dict[uuid.UUID, tuple[dict[str, Any], str, Any]] = {}
    for action, names in (("approve", approve), ("reject", reject)):
        for row in _named(workflow_id, rows, names):
            _add(chosen, row, action, _UNSET)
    for name, output in supply.items():
        for row in _named(workflow_id, rows, [name]):
            _add(chosen, row, "supply", output)
    return list(chosen.values())


def _add(
    chosen: dict[uuid.UUID, tuple[dict[str, Any], str, Any]],
    row: dict[str, Any],
    action: str,
    output: Any,
) -> None:
    if row["id"] in chosen:
        raise AlreadyResolvedError(
            f"interruption {row['id']} ({row['tool_name']}) is given two decisions: "
            f"{chosen[row['id']][1]} and {action}"
        )
    chosen[row["id"]] = (row, action, output)


def _named(
    workflow_id: str, rows: list[dict[str, Any]], names: Sequence[str] | str
) -> list[dict[str, Any]]:
    if "all" in ([names] if isinstance(names, str) else names):
        # Where nothing waits, the call is made again, or contradicts what was decided.
        return [row for row in rows if row["resolved_at"] is None] or rows
    if isinstance(names, str):
        names = [names]
    found = []
    for name in names:
        same = [row for row in rows if name in (str(row["id"]), row["call_id"])]
        # A call is asked about anew where its outcome is in doubt: the newest question counts.
        undecided = [row for row in same if row["resolved_at"] is None]
        if not same or len(undecided) > 1:
            what = "is not one of" if not same else "is more than one of"
            raise UnknownInterruptionError(
                f"{name!r} {what} the interruptions of workflow {workflow_id!r}: give an id that "
                "`timestep approvals` lists"
            )
        found.append((undecided or same)[-1])
    return found


def decision(
    row: dict[str, Any],
    action: str,
    message: str | None,
    *,
    always: bool = False,
    by: str | None = None,
    output: Any = _UNSET,
) -> dict[str, Any]:
    """What `store.resolve` writes of a decision about the question of a row."""
    return {
        "id": row["id"],
        "action": action,
        "message": plain_text(message),
        "always": always and action != "supply",
        "by": plain_text(by),
        "has_output": output is not _UNSET,
        "output": None if output is _UNSET else storable(encode(output)),
    }
