"""Reads what led to questions: what their runs were given and did, and the session before."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from timestep.store.reads.overview.documents import said

Row = dict[str, Any]

_BEFORE = 6
"""Items of a run that are shown before a question, and of its session before the run."""
_INPUTS = 3
"""Items of a run's input that are shown, its last."""
_OUTER = 20
"""Runs around a run that are looked for."""

# What became of a call: its status, or what a person has to do with it.
_FATE = """
    CASE WHEN c.id IS NULL THEN NULL
        WHEN q.resolution_action = 'supply' THEN 'supplied'
        WHEN q.id IS NOT NULL AND q.resolved_at IS NULL THEN 'waits'
        WHEN c.status = 'rejected' AND q.resolved_by = 'timeout' THEN 'expired'
        WHEN c.status = 'executed' AND c.is_error THEN 'failed'
        ELSE c.status END AS fate, c.tool_name"""

_NEWEST_QUESTION = """
    LEFT JOIN LATERAL (SELECT asked.id, asked.resolution_action, asked.resolved_at,
            asked.resolved_by
        FROM public.interruptions asked WHERE asked.tool_call_id = c.id
        ORDER BY asked.created_at DESC, asked.id LIMIT 1) AS q ON true"""

_ITEMS = f"""
    SELECT asked.run_id, before.* FROM (
        SELECT i.run_id, coalesce(min(item.position), 2147483647) AS first
        FROM public.interruptions i
        LEFT JOIN public.run_items item
            ON item.tool_call_id = i.tool_call_id AND item.run_id = i.run_id
        WHERE i.id = ANY(%(ids)s) GROUP BY i.run_id
    ) AS asked CROSS JOIN LATERAL (
        SELECT item.position, item.item_type, a.name AS agent_name, {said("item.item_data")},
            {_FATE}
        FROM (SELECT * FROM public.run_items every
            WHERE every.run_id = asked.run_id AND every.position < asked.first
            ORDER BY every.position DESC LIMIT {_BEFORE}) AS item
        LEFT JOIN public.agents a ON a.id = item.agent_id
        LEFT JOIN public.tool_calls c ON c.id = item.tool_call_id {_NEWEST_QUESTION}
    ) AS before ORDER BY asked.run_id, before.position"""

# The revision of a session is in the positions of its items.
_SESSIONS = f"""
    SELECT run.id AS run_id, before.* FROM public.runs run CROSS JOIN LATERAL (
        SELECT item.position, item.item_type, a.name AS agent_name, {said("item.item_data")},
            {_FATE}
        FROM (SELECT * FROM public.session_items every
            WHERE every.session_id = run.session_id
            AND every.position < (run.session_revision + 1) * 1000000
            AND (every.removed_revision IS NULL OR every.removed_revision > run.session_revision)
            ORDER BY every.position DESC LIMIT {_BEFORE}) AS item
        LEFT JOIN LATERAL (SELECT made.* FROM public.tool_calls made
            WHERE made.run_id = item.run_id AND made.call_id = item.item_data ->> 'call_id'
            ORDER BY made.created_at DESC LIMIT 1) AS c ON true {_NEWEST_QUESTION}
        LEFT JOIN public.runs earlier ON earlier.id = item.run_id
        LEFT JOIN public.agents a ON a.id = coalesce(c.agent_id, earlier.current_agent_id,
            earlier.agent_id)
    ) AS before WHERE run.id = ANY(%(ids)s) ORDER BY run.id, before.position"""

_RUNS = f"""
    WITH RECURSIVE around AS (
        SELECT id AS asked, id, parent_run_id, 0 AS above FROM public.runs WHERE id = ANY(%(ids)s)
        UNION ALL
        SELECT around.asked, r.id, r.parent_run_id, around.above + 1
        FROM around JOIN public.runs r ON r.id = around.parent_run_id
        WHERE around.above < {_OUTER})
    SELECT around.asked, r.id AS run_id, a.name AS agent_name, s.session_key AS session_id,
        CASE jsonb_typeof(r.input) WHEN 'array' THEN jsonb_array_length(r.input) ELSE 1 END AS items
    FROM around JOIN public.runs r ON r.id = around.id
    LEFT JOIN public.agents a ON a.id = r.agent_id
    LEFT JOIN public.sessions s ON s.id = r.session_id
    ORDER BY around.asked, around.above DESC"""

_INPUTS_OF = f"""
    SELECT one.run_id, {said("one.given")} FROM (
        SELECT r.id AS run_id, nth,
            CASE jsonb_typeof(r.input) WHEN 'array' THEN r.input -> nth ELSE r.input END AS given
        FROM public.runs r CROSS JOIN LATERAL generate_series(0, {_INPUTS} - 1) AS back
        CROSS JOIN LATERAL (SELECT (CASE jsonb_typeof(r.input) WHEN 'array'
            THEN jsonb_array_length(r.input) ELSE 1 END - 1 - back)::int AS nth) AS place
        WHERE r.id = ANY(%(ids)s) AND nth >= 0) AS one
    ORDER BY one.run_id, one.nth"""


def items(connection: sa.Connection, ids: Collection[uuid.UUID]) -> list[Row]:
    """The last items of each run before the first of these questions that it asks."""
    return _rows(connection, _ITEMS, ids)


def runs(connection: sa.Connection, ids: Collection[uuid.UUID]) -> list[Row]:
    """Each of these runs (`asked`) and those around it, the outermost first."""
    return _rows(connection, _RUNS, ids)


def inputs(connection: sa.Connection, ids: Collection[uuid.UUID]) -> list[Row]:
    """What runs were given: the last items of it."""
    return _rows(connection, _INPUTS_OF, ids)


def sessions(connection: sa.Connection, ids: Collection[uuid.UUID]) -> list[Row]:
    """The last items that the sessions of runs had as these began."""
    return _rows(connection, _SESSIONS, ids)


def _rows(connection: sa.Connection, query: str, ids: Collection[uuid.UUID]) -> list[Row]:
    if not ids:
        return []
    return [dict(row) for row in connection.exec_driver_sql(query, {"ids": list(ids)}).mappings()]
