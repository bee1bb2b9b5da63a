"""Executes workflows again, and takes them from queues."""

from __future__ import annotations

import contextvars
import logging
import threading
from typing import Any

from dbos import DBOS, WorkflowSerializationFormat
from dbos._core import execute_dequeued_workflow
from dbos._dbos import _get_dbos_instance, _get_or_create_dbos_registry
from dbos._error import DBOSException
from dbos._utils import INTERNAL_QUEUE_NAME, GlobalParams, generate_uuid

_log = logging.getLogger("timestep")


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

__all__ = [
    "INTERNAL_QUEUE_NAME",
    "enqueue_apart",
    "execute_again",
    "take_enqueued",
]
