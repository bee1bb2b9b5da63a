"""Serves /sessions: the sessions, and each as a conversation over all its runs."""

from __future__ import annotations

import itertools

from fastapi import Request, Response

from timestep.operations.overview import conversations
from timestep.operations.queries import sessions
from timestep.web.pages.rendering import page
from timestep.web.pages.routing import page_router
from timestep.web.slashes import SessionId

router = page_router()

_SIZE = 50


@router.get("/sessions")
async def list_of_sessions(request: Request, cursor: str | None = None) -> Response:
    """The page of all sessions, the one that was changed last first."""
    found = await sessions.page_of_sessions(limit=_SIZE, cursor=cursor or None)
    said = await conversations.last_said([one.session_id for one in found.items])
    return page(request, "sessions.html", found=found, said=said, cursor=cursor)


@router.get("/sessions/{session_id}")
async def session_page(
    request: Request, session_id: SessionId, cursor: str | None = None
) -> Response:
    """What was said in a session, the newest part of it or an earlier one."""
    found = await conversations.conversation(session_id, cursor=cursor or None, limit=_SIZE)
    parts = itertools.groupby(found.items, key=lambda said: said.run_id)
    return page(
        request,
        "session.html",
        session_id=session_id,
        parts=[(run_id, list(said)) for run_id, said in parts],
        earlier=found.next_cursor,
        cursor=cursor,
    )
