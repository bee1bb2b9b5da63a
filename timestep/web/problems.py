"""Answers with JSON, and with problem documents (RFC 9457) for errors."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from timestep.database import not_now
from timestep.errors import (
    AlreadyResolvedError,
    AlreadyStartedError,
    DatabaseUnreachableError,
    InvalidInputError,
    InvalidQueryError,
    TakeoverError,
    TimestepError,
    UnknownCheckpointError,
    UnknownEntrypointError,
    UnknownInterruptionError,
    UnknownRunError,
)
from timestep.serialization.json_output import dumps

_STATUSES: dict[type[TimestepError], int] = {
    UnknownEntrypointError: 404,
    UnknownRunError: 404,
    UnknownInterruptionError: 404,
    AlreadyResolvedError: 409,
    AlreadyStartedError: 409,
    TakeoverError: 409,
    InvalidInputError: 422,
    UnknownCheckpointError: 422,
    InvalidQueryError: 422,
    DatabaseUnreachableError: 503,
}


class Answer(JSONResponse):
    """JSON of dataclasses and of whatever was recorded: NaN and infinities become null."""

    def render(self, content: Any) -> bytes:
        return dumps(content).encode("ascii")


def problem(
    status: int, detail: str, *, kind: str | None = None, headers: dict[str, str] | None = None
) -> Answer:
    """An error as a problem document; `kind` makes its `type`."""
    body = {
        "type": f"urn:timestep:{kind}" if kind else "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    return Answer(body, status_code=status, headers=headers, media_type="application/problem+json")


def handle_problems(app: FastAPI) -> None:
    """Make every error of an application a problem document."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(TimestepError, _timestep)
    app.add_exception_handler(Exception, _unexpected)


async def _http(request: Request, error: Exception) -> Answer:
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    if error.status_code == 404 and detail == HTTPStatus.NOT_FOUND.phrase:
        detail = f"there is nothing at {request.url.path!r}: see /openapi.json"
    if error.status_code == 405:
        detail = f"{request.method} is not a method of {request.url.path!r}: see /openapi.json"
    return problem(error.status_code, detail, headers=dict(error.headers or {}))


async def _validation(request: Request, error: Exception) -> Answer:
    assert isinstance(error, RequestValidationError)
    lines = []
    for one in error.errors():
        where = ".".join(str(part) for part in one["loc"])
        lines.append(f"{where}: {one['msg']}")
    return problem(422, "; ".join(lines), kind="invalid-request")


async def _timestep(request: Request, error: Exception) -> Answer:
    assert isinstance(error, TimestepError)
    status = next((_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES), 500)
    if not_now.answer(error) is not None:
        status = 503
    name = type(error).__name__.removesuffix("Error")
    kind = re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
    return problem(status, error.message, kind=kind)


async def _unexpected(request: Request, error: Exception) -> Answer:
    # Its text may hold anything: it is in the host's log, where the server puts it.
    return problem(500, "the host failed unexpectedly: its log tells more")
