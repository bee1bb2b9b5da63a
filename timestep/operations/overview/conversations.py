"""Tells sessions as conversations: who said what, which tools were called, in which run."""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from timestep.errors import UnknownSessionError
from timestep.journal.fail_fast_read import reading
from timestep.operations.queries.pagination import Page, cursor_of, entry_place, page_size
from timestep.runtime.terminal import quoted
from timestep.serialization.documents.json_text import restored
from timestep.serialization.ids import storable_name
from timestep.store.reads.overview import conversations as store

Kind = Literal["user", "assistant", "system", "call", "output", "other"]

_LONGEST = 4_000
"""Characters of an item that are shown."""
_BRIEF = 200

_ROLES: dict[str, Kind] = {"user": "user", "assistant": "assistant"}


@dataclass(frozen=True)
class Said:
    """One item of a session, as people read it."""

    kind: Kind
    title: str
    """The role of who said it, the name of the tool that is called, or the item's type."""
    text: str
    is_cut: bool
    position: int
    created_at: datetime.datetime
    run_id: str | None
    """None: it was added outside of runs, or the run was deleted."""
    workflow_name: str | None
    agent: str | None
    """With which the run began."""

    @property
    def cursor(self) -> str | None:
        """What the list of the session's items is asked with for this one as its first."""
        return cursor_of(self.position - 1) if self.position else None


async def conversation(session_id: str, *, cursor: str | None, limit: int = 50) -> Page[Said]:
    """The newest part of a session, or the one before a part, in the order in which it was said.

    Args:
        session_id: The session's id.
        cursor: The `next_cursor` of a later part.
        limit: 1 to 200.

    Raises:
        InvalidQueryError: The limit or the cursor cannot be used.
        UnknownSessionError: There is no such session.
        DatabaseError: The database refused, or is away.
    """
    size, before, key = page_size(limit), entry_place(cursor), storable_name(session_id)
    rows = await asyncio.to_thread(
        lambda: reading(
            lambda connection: store.items(connection, key, before=before, limit=size + 1)
        )
    )
    if rows is None:
        raise UnknownSessionError(
            f"there is no session {quoted(session_id)}: see `timestep sessions`"
        )
    shown = [_said(row) for row in reversed(rows[:size])]
    is_more = len(rows) > size
    return Page(shown, cursor_of(shown[0].position) if is_more else None)


async def last_said(session_ids: Sequence[str]) -> dict[str, str]:
    """The beginning of the last item of sessions that have any, by their ids.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    rows = await asyncio.to_thread(
        lambda: reading(lambda connection: store.last(connection, session_ids))
    )
    found = {}
    for row in rows:
        _, title, text = _read(row["item"], row["role"], None)
        found[row["session_key"]] = f"{title}: {text}"[:_BRIEF]
    return found


def _said(row: dict[str, Any]) -> Said:
    kind, title, text = _read(row["item"], row["role"], row["item_type"])
    return Said(
        kind=kind,
        title=title,
        text=text[:_LONGEST],
        is_cut=len(text) > _LONGEST or row["length"] > store.LONGEST,
        position=row["position"],
        created_at=row["created_at"],
        run_id=None if row["run_id"] is None else str(row["run_id"]),
        workflow_name=row["workflow_name"],
        agent=row["agent"],
    )


def _read(document: str, role: str | None, item_type: str | None) -> tuple[Kind, str, str]:
    """An item's kind, what it is called, and its text; of what cannot be read, its JSON."""
    plain: tuple[Kind, str, str] = (
        _ROLES.get(role or "", "other"),
        role or item_type or "item",
        document,
    )
    try:
        item = restored(json.loads(document))
    except (ValueError, RecursionError):  # It was cut, or is nested too deeply.
        return plain
    if not isinstance(item, dict):
        return plain
    if "arguments" in item and isinstance(item.get("name"), str):
        return "call", item["name"], _text(item["arguments"])
    if "output" in item:
        return "output", str(item.get("type", "output")), _text(item["output"])
    if "content" in item:
        who = str(item.get("role") or role or "message")
        return _ROLES.get(who, "system"), who, _text(item["content"])
    return "other", str(item.get("type", item_type or "item")), document


def _text(content: Any) -> str:
    """What a content says: itself, or its parts that are text; of other parts, their JSON."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "\n".join(
        part["text"]
        if isinstance(part, dict) and isinstance(part.get("text"), str)
        else json.dumps(part, ensure_ascii=False)
        for part in parts
    )
