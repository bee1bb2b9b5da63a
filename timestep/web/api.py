"""The HTTP API: start workflows, read runs, decide approvals, cancel."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from timestep.config import Token
from timestep.errors import InvalidInputError, InvalidQueryError, UnknownRunError
from timestep.journal import fail_fast_read
from timestep.operations import cancel, fork, resume, start
from timestep.operations.entrypoints import Entrypoint, named
from timestep.operations.queries import interruptions, runs
from timestep.operations.queries.pagination import LONGEST, Page
from timestep.operations.queries.records import Interruption, ResumeResult, Run, RunItem, Status
from timestep.web.access import require
from timestep.web.problems import Answer

Names = list[str] | Literal["all"]


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


class WorkflowOut(BaseModel):
    """An entrypoint."""

    name: str
    description: str
    input_schema: dict[str, Any]


class Workflows(BaseModel):
    items: list[WorkflowOut]
    next_cursor: str | None


class Start(BaseModel):
    """What to start a workflow with."""

    model_config = ConfigDict(extra="forbid")

    input: dict[str, Any] = Field({}, description="The entrypoint's parameters by name.")
    workflow_id: str | None = Field(None, description="The same id again answers the same run.")
    queue: str | None = None
    priority: int | None = Field(None, description="1 to 2147483647; lower runs first.")
    deduplication_id: str | None = None
    delay: float | None = Field(None, description="Seconds.")
    timeout: float | None = Field(None, description="Seconds.")


class Decision(BaseModel):
    """Which interruptions are decided how: by their ids, or by those of the tool calls."""

    model_config = ConfigDict(extra="forbid")

    approve: Names = []
    reject: Names = []
    supply: dict[str, Any] = Field({}, description="Results, by the calls not to be made.")
    message: str | None = Field(None, description="What the model is told of a rejection.")
    always: bool = Field(False, description="Decide later calls of the same tool likewise.")


class Resume(Decision):
    """A decision; or that the workflow goes on in this version of the application."""

    from_checkpoint: bool = Field(
        False, description="Decide nothing; go on from the newest checkpoint in this code."
    )
    repeat_steps: bool = Field(
        False, description="With `from_checkpoint`: execute the workflow's own steps again."
    )


class Changes(BaseModel):
    """What is different about the agent."""

    model_config = ConfigDict(extra="forbid")

    instructions: str | None = Field(None, description="Of the agent whose turn it is.")
    model: str | None = Field(None, description="Of every agent from that turn on.")
    model_settings: dict[str, Any] | None = None


class Fork(BaseModel):
    """Before which turn a new run begins, and what is different in it."""

    model_config = ConfigDict(extra="forbid")

    turn: int = Field(description="Counted from 1.")
    input: str | list[Any] | None = Field(None, description="What the model is shown instead.")
    append: str | list[Any] | None = Field(None, description="What it is shown in addition.")
    agent: Changes | None = None
    workflow_id: str | None = Field(None, description="The id of the new workflow.")


class WorkflowRef(BaseModel):
    workflow_id: str


async def _database_answers() -> None:
    await asyncio.to_thread(fail_fast_read.check_database)


def _name(text: str) -> str:
    if "\x00" in text:
        raise UnknownRunError(f"there is no run and no workflow {text!r}")
    return text


def _run_name(run_id: Annotated[str, Path(description="Of a run, or of a workflow.")]) -> str:
    return _name(run_id)


def _workflow_name(workflow_id: str) -> str:
    return _name(workflow_id)


RunName = Annotated[str, Depends(_run_name)]
WorkflowName = Annotated[str, Depends(_workflow_name)]
Limit = Annotated[int, Query(ge=1, le=LONGEST)]
Operator = Annotated[Token | None, Depends(require("operator"))]

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in {
        401: "No token, or an unknown one.",
        403: "The token's role does not allow it.",
        404: "There is no such thing.",
        422: "The request cannot be used.",
        503: "The database is away.",
    }.items()
}
_NOBODY = "the HTTP API, without a token"
"""Who decided, where no tokens are configured and so nobody says who it is."""

_CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "It was decided or started otherwise already."}
}

router = APIRouter(
    prefix="/api",
    dependencies=[Depends(require("viewer")), Depends(_database_answers)],
    responses=_ERRORS,
)


@router.get("/workflows", response_model=Workflows)
async def list_workflows(request: Request) -> Answer:
    """The entrypoints that can be started."""
    found: dict[str, Entrypoint] = request.app.state.entrypoints
    items = [
        {
            "name": one.name,
            "description": one.description,
            "input_schema": one.input_schema,
        }
        for one in sorted(found.values(), key=lambda one: one.name)
    ]
    return Answer({"items": items, "next_cursor": None})


@router.post(
    "/workflows/{name}/runs", status_code=202, response_model=WorkflowRef, responses=_CONFLICT
)
async def start_workflow(
    name: str, request: Request, caller: Operator, body: Annotated[Start, Body()]
) -> Answer:
    """Start an entrypoint's workflow."""
    workflow_id = await start.start_run(named(request.app.state.entrypoints, name), **dict(body))
    return Answer({"workflow_id": workflow_id}, status_code=202)


@router.get("/runs", response_model=Page[Run])
async def list_runs(
    status: Status | None = None,
    agent: str | None = None,
    session_id: str | None = None,
    workflow_id: str | None = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> Answer:
    """Runs, newest first."""
    for given in (agent, session_id, workflow_id):
        if given is not None and "\x00" in given:
            raise InvalidQueryError(f"{given!r} is not text")
    return Answer(
        await runs.list_runs(
            status=status,
            agent=agent,
            session_id=session_id,
            workflow_id=workflow_id,
            limit=limit,
            cursor=cursor,
        )
    )


@router.get("/runs/{run_id}", response_model=Run)
async def get_run(run_id: RunName) -> Answer:
    """A run; of a workflow's id, its newest run."""
    return Answer(await runs.get_run(run_id))


@router.get("/runs/{run_id}/items", response_model=Page[RunItem])
async def list_items(run_id: RunName, limit: Limit = 100, cursor: str | None = None) -> Answer:
    """A run's items in their order."""
    return Answer(await runs.list_items(run_id, limit=limit, cursor=cursor))


@router.post(
    "/runs/{run_id}/fork", status_code=202, response_model=WorkflowRef, responses=_CONFLICT
)
async def fork_run(run_id: RunName, caller: Operator, body: Annotated[Fork, Body()]) -> Answer:
    """Start a new run from the checkpoint before a turn; the old one stays as it is."""
    workflow_id = await fork.fork_run(
        run_id,
        turn=body.turn,
        input=body.input,
        append=body.append,
        agent=body.agent.model_dump(exclude_none=True) if body.agent is not None else None,
        new_workflow_id=body.workflow_id,
    )
    return Answer({"workflow_id": workflow_id}, status_code=202)


@router.get("/interruptions", response_model=Page[Interruption])
async def list_interruptions(
    resolved: bool | None = False,
    workflow_id: str | None = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> Answer:
    """What waits for a decision, oldest first; with `resolved=true`, what was decided."""
    workflow_id = _name(workflow_id) if workflow_id is not None else None
    return Answer(
        await interruptions.page_of_interruptions(
            workflow_id=workflow_id, resolved=resolved, limit=limit, cursor=cursor
        )
    )


@router.post("/workflows/{workflow_id}/resume", response_model=ResumeResult, responses=_CONFLICT)
async def resume_workflow(
    workflow_id: WorkflowName, caller: Operator, body: Annotated[Resume, Body()]
) -> Answer:
    """Decide what a workflow's runs ask; a run with nothing left to ask goes on."""
    is_decided = bool(body.approve or body.reject or body.supply)
    if is_decided and body.from_checkpoint:
        raise InvalidInputError("'from_checkpoint' decides nothing: decide in another call")
    if not (is_decided or body.from_checkpoint):
        raise InvalidInputError("nothing is decided: give 'approve', 'reject' or 'supply'")
    result = await resume.resume_workflow(
        workflow_id, **dict(body), by=caller.name if caller is not None else _NOBODY
    )
    return Answer(result)


@router.post("/workflows/{workflow_id}/cancel", status_code=202, response_model=WorkflowRef)
async def cancel_workflow(workflow_id: WorkflowName, caller: Operator) -> Answer:
    """Cancel a workflow: no further step of it begins."""
    await cancel.cancel_run(workflow_id)
    return Answer({"workflow_id": workflow_id}, status_code=202)
