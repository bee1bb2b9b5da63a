"""Copies what DBOS's SQLite tables say of workflows to the PGlite that holds everything else.

A statement that writes only for a workflow's owner reads who that is in its own database. With
PGlite that is a copy, made in the statement's transaction: nobody else uses the database until
it ends, so that an execution that takes over either finds what this one wrote, or is found here
as the new owner.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from timestep.store import dbos_mirror as store

SCHEMA = store.SCHEMA
"""The schema of the copy, for statements that name DBOS's tables."""
SYSTEM_SCHEMA = "main"
"""The schema of DBOS's own tables, in SQLite's words."""

_BUSY_MS = 30_000


class Mirror:
    """What PGlite is told of workflows."""

    def __init__(self, url: sa.URL) -> None:
        self.engine = sa.create_engine(url)
        # As DBOS itself uses the file: writers wait for each other from their beginning.
        sa.event.listen(self.engine, "connect", _configure)

    def copy(self, connection: sa.Connection, workflow_ids: Collection[str]) -> None:
        """Bring the copy up to date for these workflows, in the transaction of `connection`."""
        # The first statement of the transaction: from here on PGlite is this connection's.
        known = store.known(connection, workflow_ids)
        with self.engine.connect() as system:
            found = store.found(system, workflow_ids)
        if found != known:
            store.replace(connection, workflow_ids, found)

    def copy_steps(self, connection: sa.Connection, workflow_id: str) -> None:
        """Bring the copy up to date for the steps of a workflow."""
        with self.engine.connect() as system:
            store.replace_steps(connection, system, workflow_id)


def _configure(connection: Any, _: Any) -> None:
    connection.isolation_level = "IMMEDIATE"
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
