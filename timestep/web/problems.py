"""Answers with JSON, and with problem documents (RFC 9457) for errors."""

from __future__ import annotations

import math
import re
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from timestep.database import not_now
from timestep.errors import (
    AlreadyEndedError,
    AlreadyResolvedError,
    AlreadyStartedError,
    ChangedQuestionError,
    DatabaseError,
    DatabaseUnreachableError,
    ExecutorLostError,
    InvalidArgumentsError,
    InvalidInputError,
    InvalidQueryError,
    NobodyWaitsError,
    PickledRecordError,
    QueueFullError,
    TakeoverError,
    TimestepError,
    TokenNameTakenError,
    UnknownCheckpointError,
    UnknownEntrypointError,
    UnknownInterruptionError,
    UnknownRunError,
    UnknownSessionError,
    UnknownTokenError,
)
from timestep.runtime import logs
from timestep.runtime.terminal import quoted
from timestep.serialization.json_output import dumps
from timestep.web import slashes

_log = logs.logger()

_MEDIA_TYPE = "application/problem+json"
_LATER = "5"
"""Seconds after which a queue may have room: how long its workflows take is not known."""
_SHOWN = 10
"""Problems of a request that are told at once: a body may have very many."""

_STATUSES: dict[type[TimestepError], int] = {
    UnknownEntrypointError: 404,
    UnknownRunError: 404,
    UnknownSessionError: 404,
    UnknownInterruptionError: 404,
    UnknownTokenError: 404,
    AlreadyEndedError: 409,
    AlreadyResolvedError: 409,
    AlreadyStartedError: 409,
    ChangedQuestionError: 409,
    NobodyWaitsError: 409,
    TakeoverError: 409,
    TokenNameTakenError: 409,
    PickledRecordError: 409,
    InvalidInputError: 422,
    UnknownCheckpointError: 422,
    InvalidQueryError: 422,
    QueueFullError: 429,
    DatabaseUnreachableError: 503,
    ExecutorLostError: 503,
}


class Answer(JSONResponse):
    """JSON of dataclasses and of whatever was recorded: NaN and infinities become null."""

    def render(self, content: Any) -> bytes:
        return dumps(content).encode("ascii")


def problem(
    status: int,
    detail: str,
    *,
    kind: str | None = None,
    headers: dict[str, str] | None = None,
    members: dict[str, Any] | None = None,
) -> Answer:
    """An error as a problem document; `kind` makes its `type`, and `members` are of that type."""
    body = {
        "type": f"urn:timestep:{kind}" if kind else "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **(members or {}),
    }
    return Answer(body, status_code=status, headers=headers, media_type=_MEDIA_TYPE)


def handle_problems(app: FastAPI) -> None:
    """Make every error of an application a problem document."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(TimestepError, _timestep)
    app.add_exception_handler(Exception, _unexpected)
    describe = app.openapi

    def described() -> dict[str, Any]:
        found = describe()
        for operations in found["paths"].values():
            for operation in operations.values():
                _describe_problems(operation["responses"])
        return found

    app.openapi = described  # type: ignore[method-assign]  # as FastAPI tells to extend it


def _describe_problems(responses: dict[str, Any]) -> None:
    """Give errors the media type that they have; FastAPI describes all with that of answers."""
    for status, response in responses.items():
        content = response.get("content", {})
        if status >= "400" and "application/json" in content:
            content[_MEDIA_TYPE] = content.pop("application/json")


def too_many(seconds: float) -> Answer:
    """The answer to one more wrong token of an address.

    Args:
        seconds: Until the next one is taken.
    """
    wait = max(1, math.ceil(seconds))
    return problem(
        429,
        f"too many wrong tokens came from this address: send a right one of `timestep tokens "
        f"create`, or wait {wait} seconds",
        kind="too-many-wrong-tokens",
        headers={"Retry-After": str(wait)},
    )


def told(request: Request, error: TimestepError) -> str:
    """What a caller is told of an error.

    What names the database, its host and its user is for who has shown a token, and for the log.
    """
    if not isinstance(error, DatabaseError) or request.state.caller is not None:
        return error.message
    state = request.app.state
    if getattr(state, "logged", None) != error.message:
        # Not at each request: callers may ask as often as they like.
        state.logged = error.message
        _log.warning("%s", error.message)
    return f"{type(error)().message} The host's log tells more."


async def _http(request: Request, error: Exception) -> Answer:
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    # Not of `request.url`, which is made of what the caller says that the host is.
    path = quoted(slashes.written(request.scope["path"]))
    if error.status_code == 404 and detail == HTTPStatus.NOT_FOUND.phrase:
        detail = f"there is nothing at {path}: see /openapi.json"
    if error.status_code == 405:
        detail = f"{request.method} is not a method of {path}: see /openapi.json"
    kind = "invalid-request" if error.status_code == 422 else None
    return problem(error.status_code, detail, kind=kind, headers=dict(error.headers or {}))


async def _validation(request: Request, error: Exception) -> Answer:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    lines = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found[:_SHOWN]]
    if len(found) > _SHOWN:
        lines.append(f"and {len(found) - _SHOWN} more")
    return problem(422, "; ".join(lines), kind="invalid-request")


async def _timestep(request: Request, error: Exception) -> Answer:
    assert isinstance(error, TimestepError)
    return answer_to(request, error)


def answer_to(request: Request, error: TimestepError) -> Answer:
    """The problem document of an error."""
    status = next((_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES), 500)
    if not_now.answer(error) is not None:
        status = 503
    name = type(error).__name__.removesuffix("Error")
    kind = re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
    headers = {"Retry-After": _LATER} if isinstance(error, QueueFullError) else None
    return problem(
        status, told(request, error), kind=kind, members=_members(error), headers=headers
    )


def _members(error: TimestepError) -> dict[str, Any]:
    """What a problem tells of each part of what was asked for."""
    if isinstance(error, InvalidArgumentsError):
        return {"errors": error.fields}
    return {"changes": error.changes} if isinstance(error, ChangedQuestionError) else {}


async def _unexpected(request: Request, error: Exception) -> Answer:
    # Its text may hold anything: it is in the host's log, where the server puts it.
    return problem(500, "the host failed unexpectedly: its log tells more")
