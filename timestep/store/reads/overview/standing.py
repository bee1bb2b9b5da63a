"""Reads which hosts there are, and which runs have been going on for longest."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from timestep.store.fleet import hosts as fleet

Row = dict[str, Any]

_HOSTS = """
    SELECT application, executor_id, version, node, process_id, identity, claimed_at, seen_at,
        expires_at < clock_timestamp() AS is_expired
    FROM timestep.hosts ORDER BY application, executor_id"""

_OF_STATUS = """
    SELECT workflow_id, status, started_at FROM public.runs
    WHERE status = '{0}' AND parent_run_id IS NULL AND workflow_id IS NOT NULL
        AND deleted_at IS NULL
    ORDER BY started_at LIMIT %(limit)s"""
_OLDEST = f"""
    SELECT workflow_id, status, started_at FROM (
        ({_OF_STATUS.format("running")}) UNION ALL ({_OF_STATUS.format("interrupted")})) open
    ORDER BY started_at"""


def hosts(connection: sa.Connection) -> list[Row]:
    """Each host that claimed an executor id and did not let go of it; whether it `is_live`."""
    rows = [dict(row) for row in connection.exec_driver_sql(_HOSTS).mappings()]
    return [{**row, "is_live": not row["is_expired"] and not fleet.has_ended(row)} for row in rows]


def oldest_open(connection: sa.Connection, limit: int) -> list[Row]:
    """The outermost runs that have been going on for longest, so many of each open status."""
    found = connection.exec_driver_sql(_OLDEST, {"limit": limit})
    return [dict(row) for row in found.mappings()]
