"""Serves /api/events: the changes of all runs, as they come."""

from __future__ import annotations

from fastapi import Request, Response

from timestep.operations.queries.follow import ALL
from timestep.web.dependencies import api_router
from timestep.web.event_streams import STREAMED, After, cursor_of, stream_of

router = api_router()


@router.get("/events", response_class=Response, responses=STREAMED)
async def follow_all(request: Request, after: After = None) -> Response:
    """How all runs stand and what they ask, from now on, or after a cursor."""
    return await stream_of(request, ALL, cursor_of(request, after))
