"""Executes workflows again, and takes them from DBOS's queues at once."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Collection
from typing import Any

from dbos import DBOS, WorkflowSerializationFormat
from dbos import error as dbos_errors
from dbos._dbos import _get_dbos_instance, _get_or_create_dbos_registry
from dbos._recovery import _recover_workflow
from dbos._sys_db import GetPendingWorkflowsOutput
from dbos._utils import INTERNAL_QUEUE_NAME, GlobalParams, generate_uuid

from timestep.dbos_internals import claims, execution_ends
from timestep.dbos_internals.claims import Claims
from timestep.dbos_internals.presence import is_launched
from timestep.dbos_internals.workflow_scope import Owner
from timestep.runtime import logs, process_state

_log = logs.logger()

UnknownWorkflowError = dbos_errors.DBOSWorkflowFunctionNotFoundError
"""The workflow is of a name that this process does not have."""


def execute_again(workflow_id: str, token: str) -> None:
    """Begin an execution of a workflow whose row says that `token` owns it."""
    dbos = _get_dbos_instance()
    status = dbos._sys_db.get_workflow_status(workflow_id)
    if status is None:
        raise dbos_errors.DBOSException(f"workflow {workflow_id!r} is not there")
    execution_ends.execute_dequeued(dbos, status, token)


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
        execute_claimed(workflow_id, token)


def execute_claimed(workflow_id: str, token: str) -> None:
    """Execute a workflow that this process has claimed.

    One that cannot be executed keeps none of the others that were claimed with it.
    """
    try:
        execute_again(workflow_id, token)
    except UnknownWorkflowError as error:
        _log.warning("workflow %r cannot be executed: %s", workflow_id, error)
    except Exception as error:  # noqa: BLE001  # it is looked after, as one that ended so
        execution_ends.tell(Owner(workflow_id, token), error)


def take_surely() -> None:
    """Have what this process takes from queues executed where an answer is lost, too."""
    claims.make_sure(execute_claimed)


def take_only_while(may_take: Callable[[], bool]) -> None:
    """Have this process's DBOS take nothing from any queue while it may not.

    Args:
        may_take: Asked before each look into a queue.
    """
    process_state.of(Claims).may_take = may_take
    take_surely()


_LOOKS = 20
_BETWEEN_LOOKS = 0.05
"""Seconds."""
_BETWEEN_LOOKS_FOR_UNNAMED = 5.0
"""Seconds: longer than DBOS takes from the claim of a workflow to its execution, on a busy machine,
too. A workflow that was about to begin would be executed twice."""


def _take_recovered(stopped: threading.Event) -> None:
    """Take at once what DBOS puts into its queue at launch, to be recovered.

    Its own first look into the queue comes a second after the launch.
    """
    take_surely()
    for _ in range(_LOOKS):
        if stopped.wait(_BETWEEN_LOOKS):
            return
        try:
            take_enqueued(INTERNAL_QUEUE_NAME)
        except Exception as error:  # noqa: BLE001  # DBOS looks into the queue again
            _log.debug("recovered workflows are taken up later: %s", error)


def look_for_recovered() -> None:
    """Have DBOS's next launch start `_take_recovered`. A second time it changes nothing.

    DBOS stops it when it is destroyed; after a second launch in one process, recovered workflows
    wait for DBOS's own look.
    """
    pollers = _get_or_create_dbos_registry().pollers
    if not any(function is _take_recovered for _, function, _, _ in pollers):
        stopped = threading.Event()
        pollers.append((stopped, _take_recovered, (stopped,), {}))


def look_for_unnamed(names: Collection[str]) -> None:
    """Have workflows executed that DBOS took up while it did not know their names.

    DBOS claims such a workflow, says in the log that there is no function of its name, and leaves
    it PENDING until the next start of the process. Only a launched DBOS can have done so.
    """
    stopped = threading.Event()
    registry = _get_or_create_dbos_registry()
    if registry.dbos is not None and is_launched():
        registry.register_poller(stopped, _take_unnamed, stopped, frozenset(names))


def _take_unnamed(stopped: threading.Event, names: Collection[str]) -> None:
    dbos = _get_dbos_instance()
    while not stopped.is_set():
        try:
            # What was claimed in the very moment of the registration may begin yet.
            found = _claimed(dbos, names)
            if stopped.wait(_BETWEEN_LOOKS_FOR_UNNAMED) or not found:
                return
            again = _claimed(dbos, names)
            for workflow_id, (claim, pending) in found.items():
                if again.get(workflow_id, (None,))[0] == claim:
                    _log.info("workflow %r is taken up now that its name is known", workflow_id)
                    _recover_workflow(dbos, pending, [GlobalParams.executor_id])
            take_enqueued(INTERNAL_QUEUE_NAME)
        except Exception as error:  # noqa: BLE001  # said, and tried again
            _log.warning("workflows that DBOS could not execute are taken up later: %s", error)
            stopped.wait(_BETWEEN_LOOKS_FOR_UNNAMED)
        else:
            return


def _claimed(
    dbos: DBOS, names: Collection[str]
) -> dict[str, tuple[int | None, GetPendingWorkflowsOutput]]:
    """Workflows of these names that this process has claimed, and does not execute.

    With each goes the number of its claim.
    """
    pending = {
        each.workflow_id: each
        for each in dbos._sys_db.get_pending_workflows(
            GlobalParams.executor_id, GlobalParams.app_version
        )
    }
    statuses = dbos._sys_db.get_workflow_statuses(list(pending))
    executed = set(dbos._active_workflows_set.activeList())
    return {
        status["workflow_uuid"]: (
            status["recovery_attempts"],
            pending[status["workflow_uuid"]],
        )
        for status in statuses
        if status["name"] in names and status["workflow_uuid"] not in executed
    }


__all__ = [
    "INTERNAL_QUEUE_NAME",
    "UnknownWorkflowError",
    "enqueue_apart",
    "execute_again",
    "execute_claimed",
    "look_for_recovered",
    "look_for_unnamed",
    "take_enqueued",
    "take_only_while",
    "take_surely",
]
