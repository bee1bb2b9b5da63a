"""Reads all that the database holds of workflows, and makes a finished workflow run again."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from timestep.store.tables import journal, metadata

Row = dict[str, Any]

_TABLES = (*metadata.sorted_tables, journal.step_values, journal.stream_batches)


def rows(connection: sa.Connection) -> dict[str, list[Row]]:
    """Every row of every table."""
    return {table.name: _rows(connection, table.fullname) for table in _TABLES}


def _rows(connection: sa.Connection, table: str) -> list[Row]:
    found = connection.exec_driver_sql(f"SELECT to_jsonb(t) FROM {table} t ORDER BY t::text")
    return list(found.scalars())


def steps(connection: sa.Connection, schema: str, workflow_id: str) -> list[tuple[int, str]]:
    """Numbers and names of the steps that DBOS recorded of a workflow."""
    found = connection.execute(
        sa.text(
            f'SELECT function_id, function_name FROM "{schema}".operation_outputs '
            "WHERE workflow_uuid = :id ORDER BY function_id"
        ),
        {"id": workflow_id},
    )
    return [(number, name) for number, name in found]


def reopen(connection: sa.Connection, schema: str, workflow_id: str, token: str) -> bool:
    """Make a finished workflow one that the execution with `token` runs; whether it was one."""
    changed = connection.execute(
        sa.text(
            f"""UPDATE "{schema}".workflow_status
            SET status = 'PENDING', owner_xid = :token, output = NULL, error = NULL,
                recovery_attempts = 0
            WHERE workflow_uuid = :id AND status IN ('SUCCESS', 'ERROR')"""
        ),
        {"token": token, "id": workflow_id},
    )
    return changed.rowcount == 1
