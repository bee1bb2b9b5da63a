"""Reads a session's items as of a revision, and changes them under the session's row lock."""

from __future__ import annotations

import json
import uuid
from typing import Any

import sqlalchemy as sa

# Of two that make it at once, either key may be the one that the second meets.
_ENSURE = """
    INSERT INTO public.sessions (id, session_key) VALUES (%(id)s, %(key)s)
    ON CONFLICT DO NOTHING"""

# What is seen: the session as of a revision, and the changes of one run up to a number.
_SEEN = """
    SELECT id, item_data FROM public.session_items
    WHERE session_id = %(session_id)s
    AND (added_revision <= %(revision)s OR (run_id = %(run_id)s AND run_change <= %(change)s))
    AND (removed_revision IS NULL
         OR (removed_revision > %(revision)s
             AND (removed_run_id IS DISTINCT FROM %(run_id)s OR removed_run_change > %(change)s)))
    ORDER BY position DESC LIMIT %(limit)s"""

_FENCE = """
    mine AS MATERIALIZED (
        SELECT 1 FROM "{schema}".workflow_status
        WHERE workflow_uuid = %(workflow_id)s AND owner_xid = %(token)s AND status = 'PENDING'
        FOR NO KEY UPDATE)"""

_ANYONE = "mine AS (SELECT 1)"

# A revision makes room for a million items; the row lock that gives it orders the writers.
_ADD = """
    WITH {fence}, changed AS (
        UPDATE public.sessions SET revision = revision + 1, updated_at = now(), deleted_at = NULL
        WHERE id = %(session_id)s AND EXISTS (SELECT FROM mine)
        AND NOT EXISTS (SELECT FROM public.session_items WHERE id = %(first_id)s)
        RETURNING revision
    ), added AS (
        INSERT INTO public.session_items (id, session_id, run_id, run_change, position,
            added_revision, item_type, role, item_data)
        SELECT r.id, %(session_id)s, %(run_id)s, %(change)s, revision * 1000000 + r.position,
            revision, r.item_type, r.role, r.item_data
        FROM changed, jsonb_to_recordset(%(items)s::text::jsonb)
            AS r(id uuid, position int, item_type text, role text, item_data jsonb)
        RETURNING 1
    ) SELECT count(*), (SELECT count(*) FROM added) FROM mine"""

# What an earlier execution of the same change removed counts as removed by it, too.
_REMOVE = """
    WITH {fence}, changed AS (
        UPDATE public.sessions SET revision = revision + 1, updated_at = now()
        WHERE id = %(session_id)s AND EXISTS (SELECT FROM mine)
        AND EXISTS (SELECT FROM public.session_items
                    WHERE id = ANY(%(ids)s) AND removed_revision IS NULL)
        RETURNING revision
    ), removed AS (
        UPDATE public.session_items SET removed_revision = revision, deleted_at = now(),
            removed_run_id = %(run_id)s, removed_run_change = %(change)s
        FROM changed WHERE session_items.id = ANY(%(ids)s) AND removed_revision IS NULL
        RETURNING 1
    ) SELECT count(*), (SELECT count(*) FROM removed) + (
        SELECT count(*) FROM public.session_items WHERE id = ANY(%(ids)s)
        AND removed_run_id = %(run_id)s AND removed_run_change = %(change)s) FROM mine"""

_MADE = """
    SELECT EXISTS (SELECT FROM public.session_items WHERE session_id = %(session_id)s
        AND (run_id = %(run_id)s AND run_change = %(change)s
             OR removed_run_id = %(run_id)s AND removed_run_change = %(change)s))"""

LATEST = 2**62
"""A revision after every other: the session as it is now."""


def ensure(connection: sa.Connection, session_id: uuid.UUID, key: str) -> None:
    connection.exec_driver_sql(_ENSURE, {"id": session_id, "key": key})


def seen(
    connection: sa.Connection,
    session_id: uuid.UUID,
    *,
    revision: int,
    run_id: uuid.UUID | None,
    change: int,
    limit: int | None,
) -> list[tuple[uuid.UUID, Any]]:
    """Ids and items that a reader sees, oldest first; of a limit, the newest."""
    parameters = {
        "session_id": session_id,
        "revision": revision,
        "run_id": run_id,
        "change": change,
        "limit": limit,
    }
    found = connection.exec_driver_sql(_SEEN, parameters).all()
    return [(row[0], row[1]) for row in reversed(found)]


def is_made(
    connection: sa.Connection, session_id: uuid.UUID, run_id: uuid.UUID, change: int
) -> bool:
    """Whether an execution of a run made this change of a session."""
    parameters = {"session_id": session_id, "run_id": run_id, "change": change}
    return bool(connection.exec_driver_sql(_MADE, parameters).scalar_one())


def add(
    connection: sa.Connection, fence: dict[str, Any] | None, values: dict[str, Any]
) -> int | None:
    """Add items that are not there; None where the caller does not own the workflow."""
    items = values["items"]
    parameters = {**values, "first_id": items[0]["id"], "items": json.dumps(items, default=str)}
    return _change(connection, _ADD, fence, parameters)


def remove(
    connection: sa.Connection, fence: dict[str, Any] | None, values: dict[str, Any]
) -> int | None:
    """Remove items that are there; None where the caller does not own the workflow."""
    return _change(connection, _REMOVE, fence, values)


def _change(
    connection: sa.Connection, sql: str, fence: dict[str, Any] | None, values: dict[str, Any]
) -> int | None:
    if fence is None:
        text, parameters = sql.replace("{fence}", _ANYONE), values
    else:
        schema = str(fence["schema"])
        text = sql.replace("{fence}", _FENCE.replace("{schema}", schema))
        parameters = {**values, "workflow_id": fence["workflow_id"], "token": fence["token"]}
    mine, changed = connection.exec_driver_sql(text, parameters).one()
    return changed if mine else None
