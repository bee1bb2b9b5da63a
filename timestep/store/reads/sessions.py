"""Reads sessions and what is in them, for people."""

from __future__ import annotations

import datetime
from typing import Any

import sqlalchemy as sa

from timestep.store.reads.runs import Row

# What is in a session is counted of those that are listed only.
_SESSIONS = """
    SELECT s.session_key, s.created_at, s.updated_at, (SELECT count(*) FROM public.session_items
        WHERE session_id = s.id AND removed_revision IS NULL) AS items
    FROM (SELECT id, session_key, created_at, updated_at FROM public.sessions
        WHERE deleted_at IS NULL AND (%(at)s::timestamptz IS NULL OR updated_at < %(at)s
            OR updated_at = %(at)s AND session_key > %(key)s::text)
        ORDER BY updated_at DESC, session_key LIMIT %(limit)s) s
    ORDER BY s.updated_at DESC, s.session_key"""

_ITEMS = """
    SELECT i.position, i.item_type, i.role, i.item_data, i.created_at, i.run_id
    FROM public.session_items i WHERE i.removed_revision IS NULL AND i.session_id =
        (SELECT id FROM public.sessions WHERE session_key = %(key)s AND deleted_at IS NULL)
    AND i.position > %(after)s ORDER BY i.position LIMIT %(limit)s"""

_IS_THERE = """
    SELECT EXISTS (SELECT FROM public.sessions WHERE session_key = %(key)s AND deleted_at IS NULL)
    """


def newest(
    connection: sa.Connection, limit: int, before: tuple[datetime.datetime, str] | None = None
) -> list[Row]:
    """The sessions that were changed last, the newest first; with `before`, those after it."""
    at, key = before or (None, None)
    return _rows(connection, _SESSIONS, {"limit": limit, "at": at, "key": key})


def items(
    connection: sa.Connection, key: str, *, after: int | None = None, limit: int | None = None
) -> list[Row] | None:
    """What is in a session, the oldest first; None: there is no such session.

    Args:
        connection: To the database.
        key: The session's.
        after: Only what is behind this position.
        limit: How much of it at most; None: all.
    """
    if not connection.exec_driver_sql(_IS_THERE, {"key": key}).scalar_one():
        return None
    values = {"key": key, "after": -1 if after is None else after, "limit": limit}
    return _rows(connection, _ITEMS, values)


def _rows(connection: sa.Connection, query: str, values: dict[str, Any]) -> list[Row]:
    return [dict(row) for row in connection.exec_driver_sql(query, values).mappings()]
