"""What Timestep needs of DBOS beyond its public surface: who owns a workflow, and numbers.

Every private name of DBOS that a run touches is in this module or, for the joint record, in
joint.py; the host's are in system.py.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from dataclasses import dataclass, field
from typing import Any

from dbos import DBOS, WorkflowSerializationFormat, _dbos
from dbos._context import DBOSContext, get_local_dbos_context
from dbos._core import WorkflowHandleAsyncTask, execute_dequeued_workflow
from dbos._dbos import StepReservation, _get_dbos_instance, _get_or_create_dbos_registry
from dbos._error import (
    DBOSException,
    DBOSStepNondeterminismError,
    DBOSUnexpectedStepError,
    DBOSWorkflowCancelledError,
    DBOSWorkflowConflictIDError,
)
from dbos._utils import INTERNAL_QUEUE_NAME, GlobalParams, generate_uuid

_log = logging.getLogger("timestep")

BLOCK = 1_000_000
"""Step numbers set aside for each task that runs agents beside another of its workflow."""


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
    context = _context()
    status = context.step_status
    attempt = (status.current_attempt if status is not None else None) or 0
    return context.workflow_id, context.curr_step_function_id, attempt


def scope() -> WorkflowScope:
    """The scope of the execution that the caller runs in."""
    context = _context()
    found: WorkflowScope | None = vars(context).get(_SCOPE)
    if found is None:
        if context.owner_xid is None:
            raise DBOSException(f"workflow {context.workflow_id!r} runs without an owner")
        found = WorkflowScope(Owner(context.workflow_id, context.owner_xid))
        vars(context)[_SCOPE] = found
    return found


def _context() -> DBOSContext:
    context = get_local_dbos_context()
    if context is None or not context.is_within_workflow():
        raise DBOSException("not inside a DBOS workflow")
    return context


class StepNumbers:
    """Draws the step numbers of the runs of one task.

    Tasks side by side would draw from one counter in an order that depends on timing; each
    but the first has a block of numbers of its own.
    """

    def __init__(self, *, block: int) -> None:
        self._next = block * BLOCK if block else None

    def draw(self) -> StepReservation:
        if self._next is None:
            own = DBOS.reserve_step()
            scope().drawn.add(own.step_id)
            return own
        context = _context()
        drawn = context.function_id
        reserved = context.snapshot_step_ctx()
        context.function_id = drawn
        self._next += 1
        reserved.function_id = self._next
        return StepReservation(reserved)

    def newest(self) -> list[int]:
        """The newest number of the workflow's own counter, and of these numbers."""
        own = int(_context().function_id)
        return [own, own if self._next is None else self._next]

    def go_back_to(self, newest: list[int]) -> None:
        """Draw what comes after `newest`: the first execution had drawn no more."""
        if self._next is None:
            _context().function_id = newest[1]
            scope().drawn = {number for number in scope().drawn if number <= newest[1]}
        else:
            self._next = newest[1]


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
    return sorted({*range(1, _context().function_id + 1)} - scope().drawn)


def execute_again(workflow_id: str, token: str) -> None:
    """Begin an execution of a workflow whose row says that `token` owns it."""
    dbos = _get_dbos_instance()
    status = dbos._sys_db.get_workflow_status(workflow_id)
    if status is None:
        raise DBOSException(f"workflow {workflow_id!r} is not there")
    execute_dequeued_workflow(dbos, status, token)


def enqueue_apart(name: str, workflow_id: str, arguments: dict[str, Any]) -> None:
    """Enqueue a workflow, once for each id, that is no child or step of the caller's.

    A host of the newest version takes it from the queue that every one of them looks into.

    Args:
        name: The workflow's name in DBOS.
        workflow_id: Its id.
        arguments: By name, made of JSON's types.
    """

    def enqueue() -> None:
        DBOS.enqueue_workflow_with_options(
            {
                "workflow_name": name,
                "queue_name": INTERNAL_QUEUE_NAME,
                "workflow_id": workflow_id,
                "serialization_type": WorkflowSerializationFormat.PORTABLE,
            },
            **arguments,
        )

    contextvars.Context().run(enqueue)


def take_enqueued(queue_name: str) -> None:
    """Execute here what waits in a queue, at once instead of at DBOS's next look at it."""
    dbos = _get_dbos_instance()
    queue = dbos._registry.internal_queue_map.get(queue_name)
    if queue is None:
        listening = dbos._listening_queues
        is_heard = listening is None or queue_name in listening
        queue = dbos._sys_db.get_queue(queue_name) if is_heard else None
    if queue is None or queue._has_partition_limits():
        return
    token = generate_uuid()
    taken, _ = dbos._sys_db.start_queued_workflows(
        queue,
        GlobalParams.executor_id,
        GlobalParams.app_version,
        None,
        dbos._active_workflows_set.count_for_queue(queue_name),
        owner_xid=token,
    )
    for workflow_id in taken:
        # Each is this process's by now: one that cannot be executed keeps none of the others.
        try:
            execute_again(workflow_id, token)
        except Exception as error:  # noqa: BLE001  # as DBOS does with what it takes itself
            _log.warning("workflow %r cannot be executed: %s", workflow_id, error)


_LOOKS = 20
_BETWEEN_LOOKS = 0.05
"""Seconds."""


def _take_recovered(stopped: threading.Event) -> None:
    """Take at once what DBOS puts into its queue at launch, to be recovered.

    Its own first look into the queue comes a second after the launch.
    """
    for _ in range(_LOOKS):
        if stopped.wait(_BETWEEN_LOOKS):
            return
        try:
            take_enqueued(INTERNAL_QUEUE_NAME)
        except Exception as error:  # noqa: BLE001  # DBOS looks into the queue again
            _log.debug("recovered workflows are taken up later: %s", error)


# DBOS starts it when it is launched first, and stops it when it is destroyed; after a second
# launch in one process, recovered workflows wait for DBOS's own look.
_stopped = threading.Event()
_get_or_create_dbos_registry().register_poller(_stopped, _take_recovered, _stopped)


def is_launched() -> bool:
    """Whether this process executes workflows, and is not about to end."""
    dbos = _dbos._dbos_global_instance
    return dbos is not None and dbos._sys_db_field is not None and dbos._initialized


def is_stopping() -> bool:
    """Whether this process is shutting DBOS down: what it cancels then is not over."""
    return not _get_dbos_instance()._initialized


def system_schema() -> str:
    """The schema that holds DBOS's tables."""
    return str(_get_dbos_instance()._sys_db.schema or "dbos")


def system_schema_or_default() -> str:
    """The schema that holds DBOS's tables, for a process that did not launch DBOS, too."""
    dbos = _dbos._dbos_global_instance
    return "dbos" if dbos is None or dbos._sys_db_field is None else system_schema()


def lost(owner: Owner, status: str | None) -> BaseException:
    """What ends an execution that does not own its workflow any more, in DBOS's own way.

    That is DBOSWorkflowCancelledError, or DBOSWorkflowConflictIDError where another execution
    owns it now, or it has ended.
    """
    if status == "CANCELLED":
        return DBOSWorkflowCancelledError(f"Workflow {owner.workflow_id} is cancelled.")
    return DBOSWorkflowConflictIDError(owner.workflow_id)


def twice(owner: Owner, number: int) -> BaseException:
    """What ends an execution whose step has a number that DBOS recorded otherwise."""
    return DBOSStepNondeterminismError(owner.workflow_id, number)


CONTROL_ERRORS = (
    DBOSStepNondeterminismError,
    DBOSUnexpectedStepError,
    DBOSWorkflowCancelledError,
    DBOSWorkflowConflictIDError,
)
"""DBOS's own errors: nothing between a step and the workflow's end may answer them."""

LOST = (DBOSWorkflowCancelledError, DBOSWorkflowConflictIDError)
"""The execution does not own its workflow any more."""

__all__ = [
    "BLOCK",
    "CONTROL_ERRORS",
    "INTERNAL_QUEUE_NAME",
    "LOST",
    "DBOSUnexpectedStepError",
    "Owner",
    "StepNumbers",
    "StepReservation",
    "WorkflowScope",
    "enqueue_apart",
    "execute_again",
    "in_step",
    "in_workflow",
    "is_launched",
    "is_own_task",
    "is_stopping",
    "is_unattended",
    "leave_unattended",
    "lost",
    "numbers_of_code",
    "scope",
    "step_key",
    "system_schema",
    "take_enqueued",
]
