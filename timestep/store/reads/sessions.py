"""Reads sessions and what is in them, for people."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from timestep.store.reads.runs import Row

_SESSIONS = """
    SELECT s.session_key, s.created_at, s.updated_at, i.items
    FROM public.sessions s, LATERAL (SELECT count(*) AS items FROM public.session_items
        WHERE session_id = s.id AND removed_revision IS NULL) i
    WHERE s.deleted_at IS NULL ORDER BY s.updated_at DESC, s.session_key LIMIT %(limit)s"""

_ITEMS = """
    SELECT i.position, i.item_type, i.role, i.item_data, i.created_at, i.run_id
    FROM public.session_items i WHERE i.removed_revision IS NULL AND i.session_id =
        (SELECT id FROM public.sessions WHERE session_key = %(key)s AND deleted_at IS NULL)
    ORDER BY i.position"""

_IS_THERE = """
    SELECT EXISTS (SELECT FROM public.sessions WHERE session_key = %(key)s AND deleted_at IS NULL)
    """


def newest(connection: sa.Connection, limit: int) -> list[Row]:
    """The sessions that were changed last, the newest first."""
    return _rows(connection, _SESSIONS, {"limit": limit})


def items(connection: sa.Connection, key: str) -> list[Row] | None:
    """What is in a session, the oldest first; None: there is no such session."""
    if not connection.exec_driver_sql(_IS_THERE, {"key": key}).scalar_one():
        return None
    return _rows(connection, _ITEMS, {"key": key})


def _rows(connection: sa.Connection, query: str, values: dict[str, Any]) -> list[Row]:
    return [dict(row) for row in connection.exec_driver_sql(query, values).mappings()]
