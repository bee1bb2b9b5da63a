"""Reads what DBOS recorded of workflows, as it is written, and sees that it may be read."""

from __future__ import annotations

from collections.abc import Collection

from timestep.database.error_translation import translated
from timestep.errors import PickledRecordError, UnknownRunError
from timestep.journal.executors import are_pickles_left_alone, are_pickles_refused, pickled
from timestep.journal.reads.database import database
from timestep.runtime.terminal import quoted
from timestep.serialization.workflow_documents import is_pickle
from timestep.store.reads import runs, workflow_records, workflow_tags
from timestep.store.reads.workflow_records import WorkflowRecord


def workflow_record(workflow_id: str) -> WorkflowRecord | None:
    """What DBOS recorded of a workflow, as text; None: nothing.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    with translated(database().url):
        return _record(workflow_id)


def _record(workflow_id: str) -> WorkflowRecord | None:
    with database().system() as (connection, schema):
        return workflow_records.find(connection, schema, workflow_id)


def workflow_named(name: str) -> str:
    """The workflow that is meant by its own id, or by that of a run that stands for it.

    A run does that goes on, and is inside no other. Who names one of the others may mean only that
    run, and what is done is done to the workflow.

    Returns:
        Its id; where there is neither, what was given.

    Raises:
        UnknownRunError: The run is one of the others; the message names its workflow.
    """
    with database().connected() as connection:
        found = runs.find_workflow(connection, name)
    if found is None or found["workflow_id"] is None or _record(name) is not None:
        return name
    if found["parent_run_id"] is None and found["completed_at"] is None:
        return str(found["workflow_id"])
    how = "has ended" if found["completed_at"] is not None else "is inside another one"
    raise UnknownRunError(
        f"{quoted(name)} is no workflow, but a run that {how}: of the workflow "
        f"{quoted(found['workflow_id'])}, which is to be given"
    )


def is_run(id_: str) -> bool:
    """Whether an id is that of a run.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    if runs.as_uuid(id_) is None:
        return False
    with translated(database().url), database().connected() as connection:
        return runs.find_workflow(connection, id_) is not None


def attributes_of(workflow_ids: Collection[str]) -> dict[str, str]:
    """The attributes of those of the workflows that have some, as JSON's text, by their ids.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    if not workflow_ids:
        return {}
    with translated(database().url), database().system() as (connection, schema):
        return workflow_tags.of_workflows(connection, schema, workflow_ids)


def statuses_of(workflow_ids: Collection[str]) -> dict[str, str]:
    """DBOS's statuses of those of the workflows that it knows, by their ids.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    if not workflow_ids:
        return {}
    with translated(database().url), database().system() as (connection, schema):
        return workflow_records.statuses(connection, schema, workflow_ids)


def check_readable(workflow_id: str, *, unread: Collection[str] = (), here: bool = True) -> None:
    """See that a workflow is not left alone, nor would be what begins with its record.

    A database that is away is waited for.

    Args:
        workflow_id: Which.
        unread: The statuses of workflows that are refused otherwise, and of which nothing is read.
        here: Whether this process reads the record; False: only whoever goes on with it does.

    Raises:
        PickledRecordError: Pickles are refused, and the workflow is recorded as one.
        DatabaseError: The database refused.
    """

    def is_refused() -> bool:
        if not (are_pickles_refused() if here else are_pickles_left_alone()):
            return False
        record = _record(workflow_id)
        if record is None or record.status in unread:
            return False
        return is_pickle(record.arguments or "", record.serialization) or workflow_id in pickled(
            [workflow_id]
        )

    if database().patiently(is_refused):
        raise PickledRecordError(
            f"the workflow {workflow_id!r} is recorded as a pickle, which runs code when it is "
            "read, and is left alone: where nobody else can write into the database, set "
            "TIMESTEP_READ_PICKLES=true for the host and for commands"
        )
