"""Reads the runs that began inside another: those of its calls, and those that are beside them."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

Row = dict[str, Any]

_STEP = "r.metadata ->> 'counted_in_step'"

_COLUMNS = f"""r.id, r.status, r.current_turn, r.started_at, r.completed_at,
    a.name AS agent_name, {_STEP} AS step, u.total_tokens, u.estimated_cost"""

_INSIDE = """
    FROM public.runs r JOIN public.agents a ON a.id = r.agent_id
    LEFT JOIN public.usage_metrics u ON u.run_id = r.id
    WHERE r.parent_run_id = %(run_id)s AND r.deleted_at IS NULL"""

# The newest of each call: it may be the one that the call waits for.
_OF_CALLS = f"""
    SELECT * FROM (
        SELECT {_COLUMNS}, count(*) OVER (PARTITION BY {_STEP}) AS in_call,
            row_number() OVER (PARTITION BY {_STEP} ORDER BY r.started_at DESC, r.id DESC) AS place
        {_INSIDE} AND {_STEP} = ANY(%(calls)s)
    ) found WHERE place <= %(limit)s ORDER BY started_at, id"""

# What is counted in a call is shown in it, on whatever page that is.
_BESIDE = f"""
    SELECT {_COLUMNS}, 0 AS in_call {_INSIDE}
    AND (%(begin)s::timestamptz IS NULL OR r.started_at >= %(begin)s::timestamptz)
    AND (%(end)s::timestamptz IS NULL OR r.started_at < %(end)s::timestamptz)
    AND (SELECT c.id FROM public.tool_calls c WHERE c.id = ({_STEP})::uuid) IS NULL
    ORDER BY r.started_at, r.id LIMIT %(limit)s"""

_AMONG = """
    WITH RECURSIVE around AS (
        SELECT r.id AS asked, r.parent_run_id AS id FROM public.runs r
        WHERE r.id = ANY(%(ids)s) AND r.deleted_at IS NULL
        UNION ALL SELECT a.asked, r.parent_run_id FROM around a
        JOIN public.runs r ON r.id = a.id WHERE a.id <> %(run_id)s
    ) SELECT asked FROM around WHERE id = %(run_id)s"""


def of_calls(
    connection: sa.Connection, run_id: uuid.UUID, calls: Collection[uuid.UUID], limit: int
) -> list[Row]:
    """The newest runs inside a run that are counted in these calls of it, oldest first.

    Args:
        connection: To the database.
        run_id: The run.
        calls: Its calls.
        limit: How many of each call at most; `in_call` tells how many each has.
    """
    if not calls:
        return []
    values = {"run_id": run_id, "calls": [str(one) for one in calls], "limit": limit}
    return _rows(connection, _OF_CALLS, values)


def beside_calls(
    connection: sa.Connection, run_id: uuid.UUID, begin: Any, end: Any, limit: int
) -> list[Row]:
    """The runs inside a run that are counted in no call, and began between two times.

    Args:
        connection: To the database.
        run_id: The run.
        begin: The first time; None: from the run's beginning on.
        end: The time before which they began; None: to the run's end.
        limit: How many at most.
    """
    values = {"run_id": run_id, "begin": begin, "end": end, "limit": limit}
    return _rows(connection, _BESIDE, values)


def among(
    connection: sa.Connection, run_id: uuid.UUID, ids: Collection[uuid.UUID]
) -> set[uuid.UUID]:
    """Those of the ids that are of runs inside a run, or deeper inside of it."""
    if not ids:
        return set()
    values = {"run_id": run_id, "ids": list(ids)}
    return set(connection.exec_driver_sql(_AMONG, values).scalars())


def _rows(connection: sa.Connection, sql: str, values: dict[str, Any]) -> list[Row]:
    return [dict(row) for row in connection.exec_driver_sql(sql, values).mappings()]
