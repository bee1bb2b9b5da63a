"""Declares what routes share: parameters, errors, and the check that the database answers."""

from __future__ import annotations

import asyncio
import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import (
    AwareDatetime,
    BeforeValidator,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)

from timestep.journal import fail_fast_read
from timestep.operations import arguments
from timestep.operations.queries.pagination import LONGEST
from timestep.runtime.terminal import quoted
from timestep.web import auth
from timestep.web.auth import require
from timestep.web.callers import Caller
from timestep.web.description import misfits
from timestep.web.json_bodies import StrictRoute
from timestep.web.schemas import Problem


async def database_answers() -> None:
    await asyncio.to_thread(fail_fast_read.check_database)


_OF_LISTS = ("limit", "cursor")
"""What clients give to each list, also to those that have one page."""


async def only_known_parameters(request: Request) -> None:
    """Refuse a query with a parameter that the route does not have: it would be passed over.

    Raises:
        RequestValidationError: There is one.
    """
    known = [*misfits.parameters(request), *(_OF_LISTS if request.method == "GET" else ())]
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        raise RequestValidationError(
            [{"type": "extra_forbidden", "loc": ("query", name), "msg": ""} for name in unknown]
        )


def _moment(given: object) -> object:
    if not isinstance(given, str):
        return given
    try:
        if (ago := arguments.span_of(given)) is not None:
            return datetime.datetime.now(datetime.UTC) - ago
        return _AWARE.validate_python(given)
    except (ValidationError, OverflowError):
        raise ValueError(
            f"{quoted(given)} is neither a time with its zone, such as 2026-01-31T12:00:00Z, nor a "
            "time ago: 30m, 12h, 7d, 2w"
        ) from None


_AWARE = TypeAdapter[datetime.datetime](AwareDatetime)

Moment = Annotated[
    datetime.datetime,
    BeforeValidator(_moment),
    WithJsonSchema(
        {
            "type": "string",
            "anyOf": [{"format": "date-time"}, {"pattern": "^[0-9]{1,4}[mhdw]$"}],
            "examples": ["2026-01-31T12:00:00Z", "7d"],
        }
    ),
]
"""A time with its zone, or a time ago."""

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
    """A router below `/api`, for whoever may view, that answers 503 without a database.

    It refuses parameters of a query that a route does not have.
    """
    return APIRouter(
        prefix="/api",
        route_class=StrictRoute,
        dependencies=[
            Depends(require("viewer")),
            Depends(only_known_parameters),
            Depends(database_answers),
        ],
        responses=ERRORS,
    )
