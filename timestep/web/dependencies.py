"""Declares what routes share: parameters, errors, and the check that the database answers."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query

from timestep.config import Token
from timestep.errors import UnknownRunError
from timestep.journal import fail_fast_read
from timestep.operations.queries.pagination import LONGEST
from timestep.web.auth import require
from timestep.web.schemas import Problem


async def database_answers() -> None:
    await asyncio.to_thread(fail_fast_read.check_database)


def checked_name(text: str) -> str:
    if "\x00" in text:
        raise UnknownRunError(f"there is no run and no workflow {text!r}")
    return text


def _run_name(run_id: Annotated[str, Path(description="Of a run, or of a workflow.")]) -> str:
    return checked_name(run_id)


def _workflow_name(workflow_id: str) -> str:
    return checked_name(workflow_id)


RunName = Annotated[str, Depends(_run_name)]
WorkflowName = Annotated[str, Depends(_workflow_name)]
Limit = Annotated[int, Query(ge=1, le=LONGEST)]
Operator = Annotated[Token | None, Depends(require("operator"))]

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in {
        401: "No token, or an unknown one.",
        403: "The token's role does not allow it.",
        404: "There is no such thing.",
        422: "The request cannot be used.",
        503: "The database is away.",
    }.items()
}
NOBODY = "the HTTP API, without a token"
"""Who decided, where no tokens are configured and so nobody says who it is."""

CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "It was decided or started otherwise already."}
}


def api_router() -> APIRouter:
    """A router below `/api`, for whoever may view, that answers 503 without a database."""
    return APIRouter(
        prefix="/api",
        dependencies=[Depends(require("viewer")), Depends(database_answers)],
        responses=ERRORS,
    )
