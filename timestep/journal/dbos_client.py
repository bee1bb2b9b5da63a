"""Makes DBOS's client of the configured database, for processes that execute no workflows."""

from __future__ import annotations

import threading
from collections.abc import Collection

from dbos import DBOSClient, Serializer, WorkflowStatus

from timestep.database.error_translation import translated
from timestep.dbos_internals import serializer
from timestep.dbos_internals.process import application_name
from timestep.errors import PickledRecordError
from timestep.journal.executors import are_pickles_left_alone, are_pickles_refused, pickled
from timestep.journal.recorder import Recorder, recorder
from timestep.runtime import process_state
from timestep.runtime.process_state import PerProcess
from timestep.serialization.workflow_documents import is_pickle
from timestep.store.reads import workflow_records
from timestep.store.reads.workflow_records import WorkflowRecord


def workflow_status(workflow_id: str) -> WorkflowStatus | None:
    """What DBOS knows of a workflow, without its input, output and error; None: nothing.

    Those are read as text, with `workflow_record`: DBOS unpickles what says that it is pickled.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    with translated(recorder().url):
        found = client().list_workflows(
            workflow_ids=[workflow_id], load_input=False, load_output=False
        )
    return found[0] if found else None


def workflow_record(workflow_id: str) -> WorkflowRecord | None:
    """What DBOS recorded of a workflow, as text; None: nothing.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    with translated(recorder().url):
        return _record(workflow_id)


def _record(workflow_id: str) -> WorkflowRecord | None:
    with recorder().system() as (connection, schema):
        return workflow_records.find(connection, schema, workflow_id)


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

    if recorder().patiently(is_refused):
        raise PickledRecordError(
            f"the workflow {workflow_id!r} is recorded as a pickle, which runs code when it is "
            "read, and is left alone: where nobody else can write into the database, set "
            "TIMESTEP_READ_PICKLES=true for the host and for commands"
        )


class Clients(PerProcess):
    """A process asks DBOS through one client for each recorder, over the recorder's engine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[tuple[Recorder, Serializer], DBOSClient] = {}

    def of(self, recorder: Recorder) -> DBOSClient:
        # What a client enqueues is read by processes like this one.
        key = (recorder, serializer.in_use())
        with self._lock:
            found = self._clients.get(key)
            if found is None:
                mirror = recorder.mirror
                found = self._clients[key] = DBOSClient(
                    system_database_engine=recorder.transactions
                    if mirror is None
                    else mirror.engine,
                    application_name=application_name(),
                    retry_connection_errors=False,
                    lazy=True,
                    serializer=key[1],
                )
            return found

    def close(self) -> None:
        with self._lock:
            clients = list(self._clients.values())
            self._clients.clear()
        for client in clients:
            client.destroy()


def client() -> DBOSClient:
    """A client of the configured database, for what needs no launched DBOS.

    It raises where the database is away; it does not wait for it.
    """
    return process_state.of(Clients).of(recorder())
