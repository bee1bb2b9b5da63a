"""Which execution of which DBOS workflow the caller runs in, and what its runs share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from dbos._context import DBOSContext, get_local_dbos_context
from dbos._core import WorkflowHandleAsyncTask
from dbos._dbos import _get_dbos_instance
from dbos._error import (
    DBOSException,
)


@dataclass(frozen=True)
class Owner:
    """One execution of a workflow: what it writes lands only while it owns the workflow."""

    workflow_id: str
    token: str


@dataclass
class WorkflowScope:
    """What the runs of one execution of a workflow share."""

    owner: Owner
    lanes: int = 0
    """How many tasks draw numbers for runs."""
    thread_lane: Any = None
    """Where the workflow's own thread draws them, if its code is not async."""
    runs: list[Any] = field(default_factory=list)
    records: Any = None
    """What DBOS recorded of the workflow's steps before, where its look-ups are answered here."""
    nested_counts: dict[object, int] = field(default_factory=dict)
    drawn: set[int] = field(default_factory=set)
    """Those of the workflow's own numbers that its runs have drawn."""

    def next_nested(self, key: object) -> int:
        """How many runs were started under `key` before."""
        count = self.nested_counts.get(key, 0)
        self.nested_counts[key] = count + 1
        return count


_SCOPE = "timestep_scope"
"""Where a context of DBOS has its scope. In a dictionary of ours it would never be freed: what the
scope holds may hold the context."""


def in_workflow() -> bool:
    """Whether the caller runs inside a DBOS workflow (or one of its steps)."""
    context = get_local_dbos_context()
    return context is not None and context.is_within_workflow()


def in_step() -> bool:
    context = get_local_dbos_context()
    return context is not None and context.is_step()


def step_key() -> tuple[str, int, int]:
    """The DBOS step that the caller is inside of: workflow, number and attempt."""
    context = dbos_context()
    status = context.step_status
    attempt = (status.current_attempt if status is not None else None) or 0
    return context.workflow_id, context.curr_step_function_id, attempt


def scope() -> WorkflowScope:
    """The scope of the execution that the caller runs in."""
    context = dbos_context()
    found: WorkflowScope | None = vars(context).get(_SCOPE)
    if found is None:
        if context.owner_xid is None:
            raise DBOSException(f"workflow {context.workflow_id!r} runs without an owner")
        found = WorkflowScope(Owner(context.workflow_id, context.owner_xid))
        vars(context)[_SCOPE] = found
    return found


def dbos_context() -> DBOSContext:
    context = get_local_dbos_context()
    if context is None or not context.is_within_workflow():
        raise DBOSException("not inside a DBOS workflow")
    return context


_unattended: set[str] = set()


def leave_unattended(handle: object) -> None:
    """Say that nobody awaits the result of a workflow that was started here."""
    if isinstance(handle, WorkflowHandleAsyncTask):
        _unattended.add(handle.workflow_id)
        handle.task.add_done_callback(lambda _: _unattended.discard(handle.workflow_id))


def is_unattended(workflow_id: str) -> bool:
    """Whether `leave_unattended` was said; what came from a queue is never attended."""
    return workflow_id in _unattended


def is_own_task() -> bool:
    """Whether the caller is the task that DBOS executes a workflow in, and not one beside it."""
    return asyncio.current_task() in _get_dbos_instance()._workflow_tasks


def numbers_of_code() -> list[int]:
    """The step numbers that the workflow's own code has drawn, beside those of its runs."""
    return sorted({*range(1, dbos_context().function_id + 1)} - scope().drawn)
