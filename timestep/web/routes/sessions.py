"""Serves /api/sessions: list them, and what is in one."""

from __future__ import annotations

from timestep.operations.queries import sessions
from timestep.operations.queries.pagination import Page
from timestep.operations.queries.records import Session, SessionItem
from timestep.web.dependencies import Limit, api_router
from timestep.web.problems import Answer
from timestep.web.slashes import SessionId

router = api_router()


@router.get("/sessions", response_model=Page[Session])
async def list_sessions(limit: Limit = 50, cursor: str | None = None) -> Answer:
    """Sessions, the one that was changed last first."""
    return Answer(await sessions.page_of_sessions(limit=limit, cursor=cursor))


@router.get("/sessions/{session_id}", response_model=Page[SessionItem])
async def list_session_items(
    session_id: SessionId, limit: Limit = 100, cursor: str | None = None
) -> Answer:
    """What is in a session, the oldest first, as whoever uses it next sees it."""
    return Answer(await sessions.page_of_session_items(session_id, limit=limit, cursor=cursor))
