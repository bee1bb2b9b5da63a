"""Makes the HTTP application that the host serves."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI, Request
from starlette.types import Receive, Scope, Send

from timestep.config import Settings
from timestep.database import migrations
from timestep.dbos_internals import presence, process
from timestep.errors import TimestepError
from timestep.journal import executor_claim, fail_fast_read
from timestep.journal.recorder import recorder
from timestep.operations.entrypoints import Entrypoint
from timestep.operations.queries import executions
from timestep.runtime import readiness
from timestep.runtime.garbage_collection import uncollected
from timestep.web import auth, schemas
from timestep.web.callers import Callers
from timestep.web.dependencies import OPEN_ERRORS
from timestep.web.description.document import describe
from timestep.web.event_streams import EventStreams
from timestep.web.gate import Gate
from timestep.web.headers import with_headers
from timestep.web.pages.routers import ROUTERS
from timestep.web.problems import Answer, handle_problems, problem, told
from timestep.web.routes import (
    agents,
    audit,
    events,
    interruptions,
    login,
    metrics,
    runs,
    sessions,
    tokens,
    usage,
    workflows,
)
from timestep.web.slashes import Slashes

_NOWHERE = {"type": "http", "method": "GET", "path": "/\x00", "root_path": "", "headers": []}
"""A request for a path that no route has."""


def create_app(settings: Settings, entrypoints: dict[str, Entrypoint]) -> FastAPI:
    """The HTTP application.

    Args:
        settings: Its tokens, and the address it is reached at.
        entrypoints: What can be started.
    """
    # Pydantic parses the sources of what is answered, which Python 3.11 may fail at (SystemError)
    # where something is collected meanwhile.
    with uncollected():
        app = _made(settings, entrypoints)
        # FastAPI makes a router's routes only when it looks for one among them.
        for route in app.routes:
            route.matches(_NOWHERE)
        return app


def _made(settings: Settings, entrypoints: dict[str, Entrypoint]) -> FastAPI:
    callers = Callers(settings)
    app = _Application(
        title="Timestep",
        summary="Durable, queryable OpenAI Agents SDK runs.",
        version="1",
        docs_url=None,
        # A redirect's address would be made of what the caller says that the host is.
        redirect_slashes=False,
        redoc_url=None,
        default_response_class=Answer,
        # What clients that are made of the description name their methods.
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.settings = settings
    app.state.callers = callers
    app.state.entrypoints = entrypoints
    app.state.event_streams = EventStreams(settings.reader_limit)
    app.state.metrics = metrics.Metrics()
    app.state.connections = lambda: 0  # The server that serves it knows.
    app.add_middleware(Slashes)
    app.add_middleware(Gate, settings=settings, callers=callers)
    handle_problems(app)
    describe(app)
    reads = (runs, interruptions, sessions, agents, usage, events)
    for routes in (workflows, *reads, audit, tokens, metrics, login):
        app.include_router(routes.router)
    for router in ROUTERS:
        app.include_router(router)

    @app.get("/healthz", response_model=schemas.Health, responses=OPEN_ERRORS)
    async def healthz() -> Answer:
        """Whether the process serves."""
        return Answer({"status": "ok"})

    looks = app.state.readiness = _Readiness()

    not_ready: dict[int | str, dict[str, Any]] = {
        **OPEN_ERRORS,
        503: {"model": schemas.Problem, "description": "It cannot."},
    }

    @app.get("/readyz", response_model=schemas.Readiness, responses=not_ready)
    async def readyz(request: Request) -> Answer:
        """Whether it can start workflows: the database answers and has the schema."""
        try:
            reason = await looks.missing()
        except TimestepError as error:
            reason = told(request, error)
        if reason is None:
            waiting = looks.set_back
            return Answer({"status": "ok", **({"set_back": waiting} if waiting else {})})
        is_stranger = callers.are_asked and request.state.caller is None
        return problem(
            503, "it is not ready: send a token to be told why" if is_stranger else reason
        )

    return app


class _Application(FastAPI):
    """Answers with the headers for browsers, also where it fails, which no middleware would see."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            is_tls = auth.is_tls(self.state.settings, scope)
            send = with_headers(send, is_tls=is_tls)
        await super().__call__(scope, receive, send)


class _Readiness:
    """Looks once for all who ask at the same time: anybody may ask, as often as they like."""

    def __init__(self) -> None:
        self.set_back = 0
        """How many workflows waited, at the last look, for what the application lacks."""
        self._look: asyncio.Task[str | None] | None = None

    async def missing(self) -> str | None:
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(asyncio.to_thread(self._missing))
        return await asyncio.shield(self._look)

    def _missing(self) -> str | None:
        if (reason := _missing()) is None:
            self.set_back = executions.set_back()
        return reason


def _missing() -> str | None:
    if (reason := executor_claim.problem() or readiness.reason()) is not None:
        return reason
    fail_fast_read.check_database()
    waiting = migrations.pending(recorder().engine)
    if waiting:
        names = ", ".join(migration.name for migration in waiting)
        return f"the database lacks {names}: run `timestep migrate`"
    if not presence.is_launched():
        return "DBOS is not launched"
    if process.has_no_loop():
        return "the event loop that executes workflows has ended: restart the host"
    return None
