"""Declares what routes share: parameters, errors, and the check that the database answers."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from timestep.journal import fail_fast_read
from timestep.operations.queries.pagination import LONGEST
from timestep.web import auth
from timestep.web.auth import require
from timestep.web.callers import Caller
from timestep.web.json_bodies import StrictRoute
from timestep.web.schemas import Problem


async def database_answers() -> None:
    await asyncio.to_thread(fail_fast_read.check_database)


Limit = Annotated[int, Query(ge=1, le=LONGEST)]
Operator = Annotated[Caller | None, Depends(require("operator"))]
Admin = Annotated[Caller | None, Depends(require("admin"))]


async def may_still_read(request: Request) -> bool:
    """Whether who was let in to view still may; asked again and again while a stream goes on."""
    return await auth.is_still_valid(request)


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in {
        400: "The request says no host, or is for no path.",
        401: "No token, or an unknown one.",
        403: "The token's role does not allow it.",
        404: "There is no such thing.",
        408: "The request was not sent within TIMESTEP_CLIENT_TIMEOUT.",
        413: "The body is longer than TIMESTEP_BODY_LIMIT.",
        422: "The request cannot be used.",
        429: "Too many wrong tokens came from the address, or too many workflows wait.",
        431: "The address and the headers are longer than 16,384 bytes.",
        500: "The host, or its database, failed.",
        503: "The database is away, or too much is asked at once.",
    }.items()
}
OPEN_ERRORS: dict[int | str, dict[str, Any]] = {
    status: ERRORS[status] for status in (400, 403, 408, 413, 431)
}
"""Of what is answered without a token."""

NOBODY = "the HTTP API, without a token"
"""Who decided, where no tokens are configured and so nobody says who it is."""

CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {
        "model": Problem,
        "description": "It was decided or started otherwise already, or has ended.",
    }
}


def api_router() -> APIRouter:
    """A router below `/api`, for whoever may view, that answers 503 without a database."""
    return APIRouter(
        prefix="/api",
        route_class=StrictRoute,
        dependencies=[Depends(require("viewer")), Depends(database_answers)],
        responses=ERRORS,
    )
