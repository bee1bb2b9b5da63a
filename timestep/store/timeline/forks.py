"""Reads the family of a run: those that it is a fork of, and those that are forks of it."""

from __future__ import annotations

import uuid
from typing import Any

import sqlalchemy as sa

Row = dict[str, Any]

_FAMILY = """
    WITH RECURSIVE above AS (
        SELECT r.id, r.forked_from_run_id, 0 AS up FROM public.runs r WHERE r.id = %(run_id)s
        UNION ALL SELECT r.id, r.forked_from_run_id, a.up + 1
        FROM above a JOIN public.runs r ON r.id = a.forked_from_run_id
        WHERE a.up < %(limit)s
    ), family AS (
        (SELECT a.id, 0 AS depth, ARRAY[]::text[] AS place FROM above a
            ORDER BY a.up DESC LIMIT 1)
        UNION ALL SELECT r.id, f.depth + 1, f.place || ARRAY[r.started_at::text, r.id::text]
        FROM family f JOIN public.runs r ON r.forked_from_run_id = f.id
        WHERE f.depth < %(limit)s
    ), listed AS (SELECT * FROM family ORDER BY place LIMIT %(limit)s)
    SELECT l.depth, r.id, r.workflow_id, r.status, r.forked_at_turn, r.current_turn, r.started_at,
        a.name AS agent_name, u.total_tokens, u.estimated_cost
    FROM listed l JOIN public.runs r ON r.id = l.id AND r.deleted_at IS NULL
    JOIN public.agents a ON a.id = r.agent_id
    LEFT JOIN public.usage_metrics u ON u.run_id = r.id
    ORDER BY l.place"""

_IS_FAMILY = """
    SELECT forked_from_run_id IS NOT NULL OR EXISTS (
        SELECT FROM public.runs f WHERE f.forked_from_run_id = r.id)
    FROM public.runs r WHERE r.id = %(run_id)s"""


_CHANGED = """
    SELECT input, changes FROM timestep.continuations
    WHERE source_run_id = %(source)s AND run_id = %(run_id)s AND kind = 'forked'"""


def changed(
    connection: sa.Connection, run_id: uuid.UUID, source: uuid.UUID
) -> tuple[Any, Any] | None:
    """What a fork was given in another way than the run that it is of: its input, and its agent.

    Args:
        connection: To the database.
        run_id: The fork.
        source: The run that it is of.
    """
    values = {"run_id": run_id, "source": source}
    found = connection.exec_driver_sql(_CHANGED, values).one_or_none()
    return None if found is None else (found[0], found[1])


def family(connection: sa.Connection, run_id: uuid.UUID, limit: int) -> list[Row]:
    """The forks of the run that this one comes of, each after what it is a fork of.

    Args:
        connection: To the database.
        run_id: The run.
        limit: How many at most, and how deep.

    Returns:
        None where the run is no fork and has none.
    """
    values = {"run_id": run_id, "limit": limit}
    if not connection.exec_driver_sql(_IS_FAMILY, values).scalar_one_or_none():
        return []
    return [dict(row) for row in connection.exec_driver_sql(_FAMILY, values).mappings()]
