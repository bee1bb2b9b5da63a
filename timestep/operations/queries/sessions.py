"""Lists sessions, and what is in one."""

from __future__ import annotations

import asyncio

from timestep.errors import UnknownSessionError
from timestep.journal.fail_fast_read import reading
from timestep.operations.queries.pagination import (
    Page,
    entry_place,
    page_of,
    page_size,
    session_place,
)
from timestep.operations.queries.records import Session, SessionItem
from timestep.runtime.terminal import quoted
from timestep.serialization.documents.json_text import displayed
from timestep.serialization.ids import storable_name
from timestep.store.reads import sessions as store


async def list_sessions(*, limit: int = 50) -> list[Session]:
    """The sessions that were changed last, the newest first.

    Args:
        limit: 1 to 200.

    Raises:
        InvalidQueryError: The limit cannot be used.
        DatabaseError: The database refused, or is away.
    """
    return (await page_of_sessions(limit=limit, cursor=None)).items


async def page_of_sessions(*, limit: int, cursor: str | None) -> Page[Session]:
    """Sessions as `list_sessions` gives them, in parts.

    A session that is changed meanwhile is the newest one then, and in no later part.

    Args:
        limit: 1 to 200.
        cursor: The `next_cursor` of an earlier page.

    Raises:
        InvalidQueryError: The limit or the cursor cannot be used.
        DatabaseError: The database refused, or is away.
    """
    size, before = page_size(limit), session_place(cursor)
    rows = await asyncio.to_thread(
        lambda: reading(lambda connection: store.newest(connection, size + 1, before))
    )
    found = [Session(row.pop("session_key"), **row) for row in rows]
    return page_of(found, size, lambda one: [one.updated_at.isoformat(), one.session_id])


async def session_items(session_id: str) -> list[SessionItem]:
    """What is in a session, the oldest first, as whoever uses it next sees it.

    Raises:
        UnknownSessionError: There is no such session.
        DatabaseError: The database refused, or is away.
    """
    return await _items(session_id, None, None)


async def page_of_session_items(
    session_id: str, *, limit: int, cursor: str | None
) -> Page[SessionItem]:
    """What is in a session as `session_items` gives it, in parts.

    Args:
        session_id: The session's id.
        limit: 1 to 200.
        cursor: The `next_cursor` of an earlier page.

    Raises:
        InvalidQueryError: The limit or the cursor cannot be used.
        UnknownSessionError: There is no such session.
        DatabaseError: The database refused, or is away.
    """
    size, after = page_size(limit), entry_place(cursor)
    found = await _items(session_id, after, size + 1)
    return page_of(found, size, lambda one: one.position)


async def _items(session_id: str, after: int | None, limit: int | None) -> list[SessionItem]:
    key = storable_name(session_id)
    rows = await asyncio.to_thread(
        lambda: reading(lambda connection: store.items(connection, key, after=after, limit=limit))
    )
    if rows is None:
        raise UnknownSessionError(
            f"there is no session {quoted(session_id)}: see `timestep sessions`"
        )
    return [
        SessionItem(
            position=row["position"],
            item_type=row["item_type"],
            role=row["role"],
            item_data=displayed(row["item_data"]),
            run_id=None if row["run_id"] is None else str(row["run_id"]),
            created_at=row["created_at"],
        )
        for row in rows
    ]
