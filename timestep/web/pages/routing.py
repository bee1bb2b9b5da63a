"""Declares what pages share: who may view them, and what each of them shows."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request

from timestep.errors import DatabaseUnreachableError
from timestep.operations.overview import inbox
from timestep.web.auth import require
from timestep.web.dependencies import database_answers


async def count_questions(request: Request) -> None:
    """Let a page tell how many questions wait; none where that cannot be known now."""
    try:
        request.state.pending = await inbox.count()
    except DatabaseUnreachableError:
        request.state.pending = None


def page_router() -> APIRouter:
    """A router of pages, for whoever may view; errors are pages, too (`timestep.web.problems`)."""
    return APIRouter(
        include_in_schema=False,
        dependencies=[
            Depends(require("viewer")),
            Depends(database_answers),
            Depends(count_questions),
        ],
    )
