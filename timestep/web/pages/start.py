"""Serves /start: the entrypoints, and a form of what each takes."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from timestep.errors import AlreadyStartedError, InvalidInputError
from timestep.operations import start
from timestep.operations.entrypoints import Entrypoint, named
from timestep.web import auth
from timestep.web.dependencies import Operator
from timestep.web.pages.forms import schema_forms
from timestep.web.pages.rendering import page
from timestep.web.pages.routing import page_router
from timestep.web.slashes import EntrypointName

router = page_router()

_SEE_OTHER = 303


@router.get("/start")
async def list_of_entrypoints(request: Request) -> Response:
    """The page of what can be started."""
    found = _entrypoints(request).values()
    return page(request, "start.html", entrypoints=sorted(found, key=lambda one: one.name))


@router.get("/start/{name}")
async def form(request: Request, name: EntrypointName) -> Response:
    """The form of an entrypoint."""
    return _form(request, named(_entrypoints(request), name))


@router.post("/start/{name}")
async def begin(request: Request, name: EntrypointName, caller: Operator) -> Response:
    """Start an entrypoint, once for each form: sent twice, it leads to the same run."""
    found = named(_entrypoints(request), name)
    sent = auth.form(await request.body())
    workflow_id = sent.get("workflow_id", "")
    if not workflow_id:
        raise InvalidInputError("the form has no workflow_id: load it anew")
    values, problems = schema_forms.read(found.input_schema, sent, {})
    if not problems:
        try:
            await start.start_run(found, values, workflow_id=workflow_id)
        except AlreadyStartedError:
            return _form(request, found, sent, status=409, earlier=workflow_id)
        except InvalidInputError as error:
            problems = schema_forms.by_field(error.fields) or {"": [error.message]}
    if problems:
        return _form(request, found, sent, problems, status=422)
    return RedirectResponse(f"/runs/{quote(workflow_id, safe='')}", _SEE_OTHER)


def _entrypoints(request: Request) -> dict[str, Entrypoint]:
    found: dict[str, Entrypoint] = request.app.state.entrypoints
    return found


def _form(
    request: Request,
    found: Entrypoint,
    typed: Mapping[str, str] | None = None,
    problems: Mapping[str, Sequence[str]] | None = None,
    *,
    status: int = 200,
    earlier: str | None = None,
) -> Response:
    """The form, with what was typed and what is wrong with it.

    Args:
        request: What asks for it.
        found: The entrypoint.
        typed: What was sent; None: it is a new form.
        problems: What is wrong, by the names of parameters.
        status: Of the answer.
        earlier: The workflow that this form has started before, with another input.
    """
    told = {name: list(lines) for name, lines in (problems or {}).items()}
    fields = schema_forms.fields(found.input_schema, {}, typed=typed, problems=told)
    known = {one.name for one in fields}
    # Drawn where a form is shown for the first time: what is sent twice is one start.
    keeps = typed is not None and earlier is None
    return page(
        request,
        "start_form.html",
        status,
        entrypoint=found,
        fields=fields,
        others=[line for name in told.keys() - known for line in told[name]],
        is_wrong=bool(told),
        workflow_id=typed.get("workflow_id") if keeps and typed else str(uuid.uuid4()),
        earlier=earlier,
    )
