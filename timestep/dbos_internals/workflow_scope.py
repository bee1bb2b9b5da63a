"""Tells which execution of which DBOS workflow the caller runs in, and what it keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dbos import error as dbos_errors
from dbos._context import DBOSContext, get_local_dbos_context
from dbos._core import WorkflowHandleAsyncTask
from dbos._dbos import _get_dbos_instance

from timestep.runtime import process_state
from timestep.runtime.process_state import PerProcess

T = TypeVar("T")


@dataclass(frozen=True)
class Owner:
    """One execution of a workflow: what it writes lands only while it owns the workflow."""

    workflow_id: str
    token: str


@dataclass
class WorkflowScope:
    """One execution of a workflow, as long as it goes on in this process."""

    owner: Owner
    drawn: set[int] = field(default_factory=set)
    """Those of the workflow's own step numbers that its runs have drawn."""
    set_aside: list[range] = field(default_factory=list)
    """Those that its streamed runs draw, and those of its body beside which others are drawn."""
    kept: dict[type[Any], Any] = field(default_factory=dict)
    """What `kept` made for it, by its kind."""


_SCOPE = "timestep_scope"
"""Where a context of DBOS has its scope. In a dictionary of ours it would never be freed: what the
scope holds may hold the context."""


def in_workflow() -> bool:
    """Whether the caller runs inside a DBOS workflow (or one of its steps)."""
    context = get_local_dbos_context()
    return context is not None and context.is_within_workflow()


def in_step() -> bool:
    """Whether the caller runs inside a step of DBOS."""
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
            raise dbos_errors.DBOSException(
                f"workflow {context.workflow_id!r} runs without an owner"
            )
        found = WorkflowScope(Owner(context.workflow_id, context.owner_xid))
        vars(context)[_SCOPE] = found
    return found


def kept(kind: type[T]) -> T:
    """The one object of a kind that the execution keeps which the caller runs in.

    Args:
        kind: Made without arguments when it is first asked for.
    """
    found = scope().kept
    if kind not in found:
        found[kind] = kind()
    made: T = found[kind]
    return made


def dbos_context() -> DBOSContext:
    """DBOS's context of the workflow that the caller runs in.

    Raises:
        DBOSException: The caller is in no workflow.
    """
    context = get_local_dbos_context()
    if context is None or not context.is_within_workflow():
        raise dbos_errors.DBOSException("not inside a DBOS workflow")
    return context


def newest_number() -> Callable[[], int]:
    """Tells the newest step number that the code of the caller's workflow has drawn."""
    context = dbos_context()
    return lambda: newest_of(context)


def newest_of(context: DBOSContext) -> int:
    """The newest step number that was drawn in a context.

    Its attribute tells after which number the next one is drawn.
    """
    number: int = vars(context)["function_id"]
    return number


class UnattendedWorkflows(PerProcess):
    """Keeps which workflows this process started whose results nobody in it awaits."""

    def __init__(self) -> None:
        self.ids: set[str] = set()


def leave_unattended(handle: object) -> None:
    """Say that nobody awaits the result of a workflow that was started here."""
    if isinstance(handle, WorkflowHandleAsyncTask):
        unattended = process_state.of(UnattendedWorkflows).ids
        unattended.add(handle.workflow_id)
        handle.task.add_done_callback(lambda _: unattended.discard(handle.workflow_id))


def is_unattended(workflow_id: str) -> bool:
    """Whether `leave_unattended` was said; what came from a queue is never attended."""
    return workflow_id in process_state.of(UnattendedWorkflows).ids


def is_own_task() -> bool:
    """Whether the caller is the task that DBOS executes a workflow in, and not one beside it."""
    return asyncio.current_task() in _get_dbos_instance()._workflow_tasks


def numbers_of_code() -> list[int]:
    """The step numbers that the workflow's own code has drawn, beside those of its runs."""
    found = scope()
    of_runs = found.drawn.union(*found.set_aside)
    return sorted({*range(1, newest_of(dbos_context()) + 1)} - of_runs)
