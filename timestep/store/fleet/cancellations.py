"""Cancels workflows in DBOS's table, as DBOS does, where DBOS need not be imported for it."""

from __future__ import annotations

import time

import sqlalchemy as sa

_CANCEL = """
    UPDATE "{schema}".workflow_status SET status = 'CANCELLED', owner_xid = NULL,
        queue_name = NULL, deduplication_id = NULL, started_at_epoch_ms = NULL,
        updated_at = {now}, completed_at = {now}
    WHERE workflow_uuid = :workflow_id AND status NOT IN ('SUCCESS', 'ERROR', 'CANCELLED')"""

_NOW = "CAST(extract(epoch FROM now()) * 1000 AS bigint)"


def cancel(connection: sa.Connection, schema: str, workflow_id: str) -> None:
    """Cancel a workflow that has not ended: its execution owns it no more.

    Args:
        connection: To the database with DBOS's tables, which may be SQLite.
        schema: Where those are.
        workflow_id: Which.
    """
    # A file is this machine's, and so is its time.
    now = _NOW if connection.dialect.name != "sqlite" else str(int(time.time() * 1000))
    query = _CANCEL.replace("{schema}", schema).replace("{now}", now)
    connection.execute(sa.text(query), {"workflow_id": workflow_id})
