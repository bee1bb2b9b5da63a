"""Makes the HTTP application that the host serves."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI

from timestep.config import Settings
from timestep.database import migrations
from timestep.dbos_internals import process
from timestep.errors import TimestepError
from timestep.journal import fail_fast_read
from timestep.journal.recorder import recorder
from timestep.operations.entrypoints import Entrypoint
from timestep.runtime import readiness
from timestep.web import schemas
from timestep.web.auth import OwnPagesOnly
from timestep.web.problems import Answer, handle_problems, problem
from timestep.web.routes import interruptions, runs, workflows


def create_app(settings: Settings, entrypoints: dict[str, Entrypoint]) -> FastAPI:
    """The HTTP application.

    Args:
        settings: Its tokens, and the address it is reached at.
        entrypoints: What can be started.
    """
    app = FastAPI(
        title="Timestep",
        summary="Durable, queryable OpenAI Agents SDK runs.",
        version="1",
        docs_url=None,
        redoc_url=None,
        default_response_class=Answer,
    )
    app.state.settings = settings
    app.state.entrypoints = entrypoints
    app.add_middleware(OwnPagesOnly, settings=settings)
    handle_problems(app)
    for routes in (workflows, runs, interruptions):
        app.include_router(routes.router)

    @app.get("/healthz")
    async def healthz() -> Answer:
        """Whether the process serves."""
        return Answer({"status": "ok"})

    @app.get("/readyz", responses={503: {"model": schemas.Problem}})
    async def readyz() -> Answer:
        """Whether it can start workflows: the database answers and has the schema."""
        try:
            reason = await asyncio.to_thread(_missing)
        except TimestepError as error:
            reason = error.message
        return Answer({"status": "ok"}) if reason is None else problem(503, reason)

    return app


def _missing() -> str | None:
    if (reason := readiness.reason()) is not None:
        return reason
    fail_fast_read.check_database()
    waiting = migrations.pending(recorder().engine)
    if waiting:
        names = ", ".join(migration.name for migration in waiting)
        return f"the database lacks {names}: run `timestep migrate`"
    return None if process.is_launched() else "DBOS is not launched"
