"""Serves /: the runs, newest first, and what each does or waits for."""

from __future__ import annotations

from fastapi import Request, Response

from timestep.operations.queries import runs
from timestep.web.pages.rendering import page
from timestep.web.pages.routing import page_router

router = page_router()


@router.get("/")
async def list_of_runs(
    request: Request, status: str | None = None, cursor: str | None = None
) -> Response:
    """The page of all runs."""
    found = await runs.list_runs(status=status or None, cursor=cursor)
    return page(request, "runs.html", found=found, status=status)
