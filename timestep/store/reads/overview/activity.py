"""Reads what runs that have not ended do, or wait for."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

Row = dict[str, Any]

_LONGEST = 300
"""Characters of a text in a list."""

# A run's row changes when a turn begins: with no call under way, the model has been asked since.
_UNDER_WAY = f"""
    SELECT r.id, coalesce(a.model, '') AS model, calls.names, coalesce(calls.since, r.updated_at)
        AS since
    FROM public.runs r
    LEFT JOIN public.agents a ON a.id = coalesce(r.current_agent_id, r.agent_id)
    LEFT JOIN LATERAL (
        SELECT array_agg(left(c.tool_name, {_LONGEST}) ORDER BY c.created_at, c.id) AS names,
            min(coalesce(c.started_at, c.created_at)) AS since
        FROM public.tool_calls c WHERE c.run_id = r.id AND c.completed_at IS NULL
        AND c.status IN ('pending', 'approved', 'started')) calls ON true
    WHERE r.id = ANY(%(ids)s)"""

_QUESTIONS = f"""
    SELECT asks.id, q.* FROM unnest(%(ids)s::uuid[]) asks(id), LATERAL (
        SELECT left(i.description, {_LONGEST}) AS description, left(i.tool_name, {_LONGEST})
            AS tool_name, left(i.arguments::text, {_LONGEST}) AS arguments, i.type, i.reason,
            i.created_at, i.expires_at, count(*) OVER () AS questions
        FROM public.interruptions i WHERE i.resolved_at IS NULL AND i.run_id IN (
            SELECT r.id FROM public.runs r WHERE r.id = asks.id OR r.root_run_id = asks.id)
        ORDER BY i.created_at, i.id LIMIT 1) q"""

_INSIDE = """
    SELECT r.root_run_id AS id, count(*) - 1 AS runs FROM public.runs r
    WHERE r.root_run_id = ANY(%(ids)s) AND r.deleted_at IS NULL GROUP BY 1 HAVING count(*) > 1"""


def under_way(connection: sa.Connection, run_ids: Sequence[uuid.UUID]) -> list[Row]:
    """The tools that runs call now, or the model that they ask, and since when."""
    return _rows(connection, _UNDER_WAY, run_ids)


def questions(connection: sa.Connection, run_ids: Sequence[uuid.UUID]) -> list[Row]:
    """The first question that each run, or one inside it, waits for, and how many there are."""
    return _rows(connection, _QUESTIONS, run_ids)


def inside(connection: sa.Connection, run_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, int]:
    """How many runs are inside each of these outermost ones, where there are any."""
    return {row["id"]: row["runs"] for row in _rows(connection, _INSIDE, run_ids)}


def _rows(connection: sa.Connection, query: str, run_ids: Sequence[uuid.UUID]) -> list[Row]:
    found = connection.exec_driver_sql(query, {"ids": list(run_ids)})
    return [dict(row) for row in found.mappings()]
