"""Declares what pages share: who may view them, and how their forms are read."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from timestep.web.auth import require
from timestep.web.dependencies import database_answers


def page_router() -> APIRouter:
    """A router of pages, for whoever may view; errors are pages, too (`timestep.web.problems`)."""
    return APIRouter(
        include_in_schema=False,
        dependencies=[Depends(require("viewer")), Depends(database_answers)],
    )
