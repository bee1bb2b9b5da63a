"""Makes DBOS's client of the configured database, for processes that execute no workflows."""

from __future__ import annotations

import sqlalchemy as sa
from dbos import DBOSClient, WorkflowStatus

from timestep.database.error_translation import translated
from timestep.dbos_internals.process import application_name
from timestep.journal.recorder import recorder


def workflow_status(workflow_id: str) -> WorkflowStatus | None:
    """What DBOS knows of a workflow; None: nothing.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    with translated(recorder().url):
        found = client().list_workflows(workflow_ids=[workflow_id])
    return found[0] if found else None


_clients: dict[sa.URL, DBOSClient] = {}


def client() -> DBOSClient:
    """A client of the configured database, for what needs no launched DBOS.

    It raises where the database is away; it does not wait for it.
    """
    found = recorder()
    if found.url not in _clients:
        _clients[found.url] = DBOSClient(
            system_database_engine=found.transactions
            if found.mirror is None
            else found.mirror.engine,
            application_name=application_name(),
            retry_connection_errors=False,
            lazy=True,
        )
    return _clients[found.url]
