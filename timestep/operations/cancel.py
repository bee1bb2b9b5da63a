"""Cancels workflows."""

from __future__ import annotations

import asyncio

from timestep.database.error_translation import translated
from timestep.dbos_internals import presence
from timestep.errors import AlreadyEndedError, UnknownRunError
from timestep.journal.reads.database import database
from timestep.journal.reads.workflow_records import workflow_named, workflow_record
from timestep.operations.access import acting, audit
from timestep.operations.access.acting import Actor
from timestep.operations.arguments import check_known
from timestep.runtime.terminal import quoted
from timestep.store import run_journal
from timestep.store.fleet import cancellations

_ENDS = {"SUCCESS": "completed", "ERROR": "failed"}
"""How a workflow ends that is not cancelled, by DBOS's status."""


async def cancel_run(workflow_id: str) -> str:
    """Cancel a workflow: its runs end as `cancelled`, with what they did so far.

    What is under way for them (a model's answer, an async tool, the wait for a decision) is
    given up: at once in this process, within about a second in another. To cancel a cancelled one
    again changes nothing. Works from any process that reaches the database.

    Args:
        workflow_id: Its id, or that of its run that goes on.

    Returns:
        The workflow's id.

    Raises:
        AlreadyEndedError: It has completed, or failed, and stays as it is.
        UnknownRunError: DBOS knows no such workflow.
        DatabaseError: The database refused, or is away.
    """
    check_known(workflow_id, "workflow")
    return await asyncio.to_thread(_cancel, workflow_id, acting.take())


def _cancel(name: str, actor: Actor) -> str:
    found, workflow_id = database(), name
    if (record := workflow_record(workflow_id)) is None:
        with translated(found.url):
            workflow_id = workflow_named(name)
        record = workflow_record(workflow_id)
    if record is None:
        raise UnknownRunError(f"there is no workflow {quoted(workflow_id)}: see `timestep runs`")
    is_over = record.status in _ENDS or record.status == "CANCELLED"
    entry = None if is_over else audit.begin(actor, "cancel", [workflow_id])
    with translated(found.url):
        with found.system() as (system, schema):
            cancellations.cancel(system, schema, workflow_id)
        if presence.is_made():
            from timestep.journal import ownership_watch

            ownership_watch.look_now()
        with found.connected([workflow_id]) as connection:
            run_journal.cancelled(connection, found.schema, workflow_id, None)
    # Asked afterwards: it may have ended meanwhile, and then DBOS leaves it as it is.
    record = workflow_record(workflow_id)
    if record is not None and record.status in _ENDS:
        error = AlreadyEndedError(
            f"the workflow {quoted(workflow_id)} cannot be cancelled: it has "
            f"{_ENDS[record.status]} already"
        )
        if entry is not None:
            audit.refuse(entry, error)
        raise error
    return workflow_id
