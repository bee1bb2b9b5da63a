"""Serves /api/workflows: list, start, resume, cancel."""

from __future__ import annotations

from typing import Annotated

from fastapi import Body, Header, Request

from timestep.errors import InvalidInputError
from timestep.operations import cancel, resume, start
from timestep.operations.entrypoints import Entrypoint, named
from timestep.operations.queries import agents
from timestep.operations.queries.records import ResumeResult
from timestep.runtime.terminal import quoted
from timestep.web.dependencies import CONFLICT, NOBODY, Operator, api_router
from timestep.web.problems import Answer
from timestep.web.schemas import Graph, Resume, Start, WorkflowRef, Workflows
from timestep.web.slashes import EntrypointName, WorkflowId

router = api_router()

_Key = Annotated[
    str | None,
    Header(alias="Idempotency-Key", description="The workflow's id, where the body gives none."),
]


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


@router.get("/workflows/{name}/graph", response_model=Graph)
async def draw_graph(name: EntrypointName) -> Answer:
    """Who may hand over to whom, from the agents on that the entrypoint's newest workflow ran."""
    return Answer({"mermaid": await agents.handoff_graph(name)})


@router.post(
    "/workflows/{name}/runs", status_code=202, response_model=WorkflowRef, responses=CONFLICT
)
async def start_workflow(
    name: EntrypointName,
    request: Request,
    caller: Operator,
    body: Annotated[Start, Body()],
    key: _Key = None,
) -> Answer:
    """Start an entrypoint's workflow, once: the same id, with the same input, answers the same."""
    given = dict(body)
    if key is not None:
        if given["workflow_id"] not in (None, key):
            raise InvalidInputError(
                f"the header Idempotency-Key says {quoted(key)}, and workflow_id "
                f"{quoted(given['workflow_id'])}: give one of them, or the same twice"
            )
        given["workflow_id"] = key
    entrypoint = named(request.app.state.entrypoints, name)
    if "input" not in body.model_fields_set:
        _check_without_input(entrypoint)
    workflow_id = await start.start_run(entrypoint, **given)
    return Answer({"workflow_id": workflow_id}, status_code=202)


def _check_without_input(entrypoint: Entrypoint) -> None:
    """Say what to send, where an entrypoint needs an input and the body has none."""
    try:
        entrypoint.validate({})
    except InvalidInputError as error:
        names = ", ".join(f'"{one}": …' for one in entrypoint.input_schema["required"])
        message = f'{error.message}. The body has no "input": send {{"input": {{{names}}}}}'
        raise InvalidInputError(message, fields=error.fields) from error


@router.post("/workflows/{workflow_id}/resume", response_model=ResumeResult, responses=CONFLICT)
async def resume_workflow(
    workflow_id: WorkflowId, caller: Operator, body: Annotated[Resume, Body()]
) -> Answer:
    """Decide what a workflow's runs ask; a run with nothing left to ask goes on."""
    is_decided = body.approve or body.reject or body.supply or body.edit
    if not (is_decided or body.from_checkpoint or body.again):
        raise InvalidInputError(
            "nothing is decided: give 'approve', 'edit', 'reject', 'supply', 'from_checkpoint' or "
            "'again'"
        )
    result = await resume.resume_workflow(
        workflow_id, **dict(body), by=caller.name if caller is not None else NOBODY
    )
    return Answer(result)


@router.post(
    "/workflows/{workflow_id}/cancel",
    status_code=202,
    response_model=WorkflowRef,
    responses=CONFLICT,
)
async def cancel_workflow(workflow_id: WorkflowId, caller: Operator) -> Answer:
    """Cancel a workflow: no further step of it begins."""
    cancelled = await cancel.cancel_run(workflow_id)
    return Answer({"workflow_id": cancelled}, status_code=202)
