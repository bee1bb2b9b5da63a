"""Knows which operations of DBOS's draw their step number as soon as they are awaited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from timestep.dbos_internals.ends.records import SLEEP

NAMES = {
    "asyncio_wait": "DBOS.asyncio_wait",
    "cancel_workflows_async": "DBOS.cancelWorkflow",
    "close_stream_async": "DBOS.closeStream",
    "delete_workflows_async": "DBOS.deleteWorkflow",
    "fork_workflow_async": "DBOS.forkWorkflow",
    "get_all_events_async": "DBOS.get_events",
    "get_event_async": "DBOS.getEvent",
    "get_workflow_status_async": "DBOS.getStatus",
    "list_queued_workflows_async": "DBOS.listQueuedWorkflows",
    "list_workflow_steps_async": "DBOS.listWorkflowSteps",
    "list_workflows_async": "DBOS.listWorkflows",
    "recv_async": "DBOS.recv",
    "resume_workflow_async": "DBOS.resumeWorkflow",
    "resume_workflows_async": "DBOS.resumeWorkflow",
    "retrieve_workflow_async": "DBOS.getStatus",
    "rewind_workflow_async": "DBOS.rewindWorkflow",
    "send_async": "DBOS.send",
    "send_bulk_async": "DBOS.send_bulk",
    "set_event_async": "DBOS.setEvent",
    "set_workflow_delay_async": "DBOS.setWorkflowDelay",
    "sleep_async": SLEEP,
    "update_workflow_attributes_async": "DBOS.updateWorkflowAttributes",
    "write_stream_async": "DBOS.writeStream",
}
"""Methods of the class `DBOS`, and what DBOS records them as.

Not those that draw it in a thread: of schedules, and of versions of the application.
"""


def draws(name: str, args: Sequence[Any], options: Mapping[str, Any]) -> bool:
    """Whether a method draws a number where it is called so.

    Args:
        name: The method's.
        args: Its positional arguments.
        options: Its other ones.
    """
    if name == "sleep_async":
        seconds: float = options.get("seconds", args[0] if args else 0)
        return seconds > 0
    if name == "retrieve_workflow_async":
        return bool(options.get("existing_workflow", args[1] if len(args) > 1 else True))
    return True
