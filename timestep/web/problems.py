"""Answers with JSON, and with problem documents (RFC 9457) for errors."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Scope

from timestep.database import not_now
from timestep.errors import (
    AlreadyEndedError,
    AlreadyResolvedError,
    AlreadyStartedError,
    ChangedQuestionError,
    DatabaseError,
    DatabaseUnreachableError,
    ExecutorLostError,
    ExpiredLinkError,
    InvalidArgumentsError,
    InvalidInputError,
    InvalidQueryError,
    InvalidTagsError,
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
from timestep.web.description import misfits
from timestep.web.pages.rendering import page

_log = logs.logger()

MEDIA_TYPE = "application/problem+json"
TYPE = "urn:timestep:"
"""What the `type` of a problem begins with."""

_LATER = "5"
"""Seconds after which a queue may have room: how long its workflows take is not known."""

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
    ExpiredLinkError: 409,
    NobodyWaitsError: 409,
    TakeoverError: 409,
    TokenNameTakenError: 409,
    PickledRecordError: 409,
    InvalidInputError: 422,
    UnknownCheckpointError: 422,
    InvalidQueryError: 422,
    InvalidArgumentsError: 422,
    InvalidTagsError: 422,
    QueueFullError: 429,
    DatabaseError: 500,
    DatabaseUnreachableError: 503,
    ExecutorLostError: 503,
}

_KINDS = {
    400: "bad-request",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    408: "request-timeout",
    413: "content-too-large",
    422: "invalid-request",
    431: "head-too-large",
    500: "unexpected",
    503: "not-ready",
}
"""The kinds of what no error of Timestep's tells."""


def _kind_of(error: type[TimestepError]) -> str:
    name = error.__name__.removesuffix("Error")
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


KINDS: dict[str, tuple[int, str]] = {
    "bad-request": (
        400,
        "The request is no HTTP, says not one host or not one length, or is for no path.",
    ),
    "unauthorized": (401, "No token was sent, or an unknown one."),
    "forbidden": (403, "The token's role does not allow it."),
    "foreign-page": (403, "Another site's page sent it, or may have."),
    "not-found": (404, "There is nothing at this path."),
    "method-not-allowed": (405, "The path has no such method."),
    "request-timeout": (408, "The body was not sent within TIMESTEP_CLIENT_TIMEOUT."),
    "content-too-large": (413, "The body is longer than TIMESTEP_BODY_LIMIT."),
    "invalid-request": (422, "The body is no JSON, or a part of the request does not fit."),
    "head-too-large": (431, "The address and the headers are longer than 16,384 bytes."),
    "too-many-wrong-tokens": (429, "Too many wrong tokens came from the address."),
    "unexpected": (500, "The host failed: its log tells more."),
    "not-ready": (503, "The host cannot start workflows, and says why."),
    "not-now": (503, "The database answers that it cannot now: ask again."),
    "busy": (503, "Too much is asked at once: come again later."),
    **{
        _kind_of(error): (status, (error.__doc__ or "").partition("\n")[0])
        for error, status in _STATUSES.items()
    },
}
"""The documented types of problems, without what they begin with: their status, and when."""


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
        "type": f"{TYPE}{kind or _KINDS.get(status, 'refused')}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **(members or {}),
    }
    return Answer(body, status_code=status, headers=headers, media_type=MEDIA_TYPE)


def for_reader(scope: Scope, answer: Answer) -> Response:
    """An answer as who asked reads it: a browser that asks for a page is given one.

    Args:
        scope: Of the request.
        answer: A problem document. Where it asks for a token, a browser is led to the login.
    """
    path = scope["path"]
    accepted = Headers(scope=scope).get("accept", "")
    if path.startswith("/api/") or "text/html" not in accepted:
        return answer
    if answer.status_code == 401:
        written = scope.get("raw_path") or quote(path).encode()
        target = b"?".join(filter(None, (written, scope["query_string"]))).decode("latin-1")
        is_page = scope["method"] in ("GET", "HEAD") and target != "/"
        asked = f"?next={quote(target, safe='')}" if is_page else ""
        return RedirectResponse(f"/login{asked}", 303)
    told = json.loads(bytes(answer.body))
    values = {"title": told["title"], "detail": told["detail"], "errors": told.get("errors", [])}
    made = page(Request(scope), "problem.html", answer.status_code, **values)
    for name in ("retry-after", "www-authenticate", "allow"):
        if name in answer.headers:
            made.headers[name] = answer.headers[name]
    return made


def handle_problems(app: FastAPI) -> None:
    """Make every error of an application a problem document."""
    for kind, handle in {
        HTTPException: _http,
        RequestValidationError: _validation,
        TimestepError: _timestep,
        Exception: _unexpected,
    }.items():
        app.add_exception_handler(kind, _read(handle))


def _read(
    handle: Callable[[Request, Any], Awaitable[Answer]],
) -> Callable[[Request, Any], Awaitable[Response]]:
    async def read(request: Request, error: Exception) -> Response:
        return for_reader(request.scope, await handle(request, error))

    return read


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
    return problem(error.status_code, detail, headers=dict(error.headers or {}))


async def _validation(request: Request, error: Exception) -> Answer:
    assert isinstance(error, RequestValidationError)
    text, fields = misfits.told(request, error.errors(), error.body)
    return problem(422, text, members={"errors": fields})


async def _timestep(request: Request, error: Exception) -> Answer:
    assert isinstance(error, TimestepError)
    return answer_to(request, error)


def answer_to(request: Request, error: TimestepError) -> Answer:
    """The problem document of an error."""
    known = next((kind for kind in type(error).__mro__ if kind in _STATUSES), None)
    # Of no kind that is not documented.
    status, kind = (500, None) if known is None else (_STATUSES[known], _kind_of(known))
    if status == 500 and not_now.answer(error) is not None:
        status, kind = 503, "not-now"
    headers = {"Retry-After": _LATER} if isinstance(error, QueueFullError) else None
    members = _members(error)
    return problem(status, told(request, error), kind=kind, members=members, headers=headers)


def _members(error: TimestepError) -> dict[str, Any]:
    """What a problem tells of each part of what was asked for."""
    if isinstance(error, InvalidInputError) and error.fields:
        return {"errors": error.fields}
    return {"changes": error.changes} if isinstance(error, ChangedQuestionError) else {}


async def _unexpected(request: Request, error: Exception) -> Answer:
    # Its text may hold anything: it is in the host's log, where the server puts it.
    return problem(500, "the host failed unexpectedly: its log tells more")
