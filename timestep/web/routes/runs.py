"""Serves /api/runs: list, get, items, tool calls, events, fork."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import Body, Query, Request, Response

from timestep.operations import fork
from timestep.operations.queries import follow, runs
from timestep.operations.queries.pagination import Page
from timestep.operations.queries.records import Run, RunItem, Status, ToolCall
from timestep.web.dependencies import CONFLICT, Limit, Moment, Operator, api_router
from timestep.web.etags import TAGGED, IfNoneMatch, tagged
from timestep.web.event_streams import STREAMED, After, cursor_of, has_seen_end, stream_of
from timestep.web.problems import Answer
from timestep.web.schemas import Fork, Traceback, WorkflowRef
from timestep.web.slashes import RunName

router = api_router()

_TEXT = (
    "What the input or the final output, both as JSON, the error, or the workflow's id says, in "
    "small letters or capitals."
)
_TAG = "Their workflow's: `team:billing`, or `team` for any value; several: it has all of them."


@router.get("/runs", response_model=Page[Run])
async def list_runs(
    status: Status | None = None,
    agent: Annotated[str | None, Query(description="The name of the agent that began.")] = None,
    entrypoint: Annotated[str | None, Query(description="The entrypoint's name.")] = None,
    session_id: str | None = None,
    workflow_id: str | None = None,
    version: Annotated[str | None, Query(description="Of the application, as DBOS has it.")] = None,
    since: Annotated[Moment | None, Query(description="They began then or later.")] = None,
    until: Annotated[Moment | None, Query(description="They began before.")] = None,
    text: Annotated[str | None, Query(description=_TEXT)] = None,
    tag: Annotated[list[str] | None, Query(description=_TAG)] = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> Answer:
    """Runs, newest first.

    A workflow that waits, failed or was cancelled before it began a run is among them, without
    `id`: as of when it was created.

    For `entrypoint`, `version` and `text`, and for a `tag` of more than 2,000 workflows, a page
    looks at 2,000 runs that the other filters let through: it may have fewer runs than `limit`, or
    none, and a `next_cursor` that goes on.
    """
    return Answer(
        await runs.list_runs(
            status=status,
            agent=agent,
            entrypoint=entrypoint,
            session_id=session_id,
            workflow_id=workflow_id,
            version=version,
            since=since,
            until=until,
            text=text,
            tag=tag,
            limit=limit,
            cursor=cursor,
        )
    )


@router.get("/runs/{run_id}", response_model=Run, responses=TAGGED)
async def get_run(run_id: RunName, known: IfNoneMatch = None) -> Response:
    """A run; of a workflow's id, its newest run."""
    return tagged(await runs.get_run(run_id), known)


@router.get("/runs/{run_id}/items", response_model=Page[RunItem])
async def list_items(run_id: RunName, limit: Limit = 100, cursor: str | None = None) -> Answer:
    """A run's items in their order."""
    return Answer(await runs.list_items(run_id, limit=limit, cursor=cursor))


@router.get("/runs/{run_id}/tool_calls", response_model=Page[ToolCall])
async def list_tool_calls(run_id: RunName) -> Answer:
    """A run's tool calls in the order in which the model asked for them; one page."""
    return Answer(Page(await runs.list_tool_calls(run_id), None))


@router.get("/runs/{run_id}/traceback", response_model=Traceback)
async def get_traceback(run_id: RunName, caller: Operator) -> Answer:
    """Where in the code a run failed; for operators, as it tells of the code."""
    return Answer({"traceback": await runs.get_traceback(run_id)})


@router.get("/runs/{run_id}/events", response_class=Response, responses=STREAMED)
async def follow_run(request: Request, run_id: RunName, after: After = None) -> Response:
    """What a run does, or all runs of a workflow, as it becomes visible, until it is over."""
    cursor = cursor_of(request, after)
    target = await asyncio.to_thread(follow.target_of, run_id)
    if has_seen_end(cursor) and await asyncio.to_thread(follow.is_over, target, cursor):
        return Response(status_code=204)
    return await stream_of(request, target, cursor)


@router.post("/runs/{run_id}/fork", status_code=202, response_model=WorkflowRef, responses=CONFLICT)
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
