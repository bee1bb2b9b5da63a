"""Reads sessions as conversations: who said what, in which run, the newest part first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

Row = dict[str, Any]

LONGEST = 100_000
"""Characters of an item's JSON that are read; of a longer item, these are its beginning."""

_ITEMS = f"""
    SELECT i.position, i.item_type, i.role, i.created_at, i.run_id, r.workflow_name,
        a.name AS agent, left(i.item_data::text, {LONGEST}) AS item,
        length(i.item_data::text) AS length
    FROM public.session_items i
    LEFT JOIN public.runs r ON r.id = i.run_id AND r.deleted_at IS NULL
    LEFT JOIN public.agents a ON a.id = r.agent_id
    WHERE i.removed_revision IS NULL AND i.session_id =
        (SELECT id FROM public.sessions WHERE session_key = %(key)s AND deleted_at IS NULL)
    AND (%(before)s::bigint IS NULL OR i.position < %(before)s)
    ORDER BY i.position DESC LIMIT %(limit)s"""

_LAST = f"""
    SELECT s.session_key, i.role, left(i.item_data::text, {LONGEST}) AS item
    FROM public.sessions s, LATERAL (
        SELECT role, item_data FROM public.session_items
        WHERE session_id = s.id AND removed_revision IS NULL
        ORDER BY position DESC LIMIT 1) i
    WHERE s.session_key = ANY(%(keys)s) AND s.deleted_at IS NULL"""

_IS_THERE = """
    SELECT EXISTS (SELECT FROM public.sessions WHERE session_key = %(key)s AND deleted_at IS NULL)
    """


def items(
    connection: sa.Connection, key: str, *, before: int | None, limit: int
) -> list[Row] | None:
    """What is in a session, the newest first; None: there is no such session.

    Args:
        connection: To the database.
        key: The session's.
        before: Only what is in front of this position; None: from the newest on.
        limit: How much of it at most.
    """
    if not connection.exec_driver_sql(_IS_THERE, {"key": key}).scalar_one():
        return None
    return _rows(connection, _ITEMS, {"key": key, "before": before, "limit": limit})


def last(connection: sa.Connection, keys: Sequence[str]) -> list[Row]:
    """The last item of each of some sessions that has any."""
    return _rows(connection, _LAST, {"keys": list(keys)})


def _rows(connection: sa.Connection, query: str, values: dict[str, Any]) -> list[Row]:
    return [dict(row) for row in connection.exec_driver_sql(query, values).mappings()]
