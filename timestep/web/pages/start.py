"""Serves /start: the entrypoints, and a form of what each takes."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from timestep.errors import AlreadyStartedError, InvalidInputError
from timestep.operations import start, tags
from timestep.operations.access.audit import list_audit
from timestep.operations.entrypoints import Entrypoint, named
from timestep.operations.overview.many import known
from timestep.runtime.terminal import quoted
from timestep.web import auth
from timestep.web.dependencies import Operator
from timestep.web.pages.forms import schema_forms
from timestep.web.pages.forms.properties import REST
from timestep.web.pages.rendering import page
from timestep.web.pages.routing import page_router
from timestep.web.slashes import EntrypointName

router = page_router()

_SEE_OTHER = 303
_BEFORE = "option."
"""What the names of the fields of options begin with."""
_OPTIONS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "queue": {
            "type": "string",
            "minLength": 1,
            "description": "A queue of DBOS; left empty: the hosts' own, where one is needed.",
        },
        "priority": {
            "type": "integer",
            "description": "1 or more: a lower number runs first.",
        },
        "delay": {"type": "number", "description": "Seconds until it may run."},
        "timeout": {
            "type": "number",
            "description": "Seconds from its beginning after which it is cancelled.",
        },
        "deduplication_id": {
            "type": "string",
            "minLength": 1,
            "description": "While a workflow with it is in the queue, no other is let in.",
        },
        "tags": {
            "type": "string",
            "minLength": 1,
            "description": "What its runs are found by, one a line, such as team=billing.",
        },
    },
}
"""What a start may be given beside the input, as `start_run` names it, and checks it."""


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
    options, wrong = await _options(sent)
    try:
        found.validate(values)
    except InvalidInputError as error:
        # What cannot be read is missing there, and is told of by itself.
        problems = {**_told(error), **problems}
    if not problems and not wrong:
        try:
            await start.start_run(found, values, workflow_id=workflow_id, **options)
            if await _is_other(workflow_id, options):
                return _form(request, found, sent, status=409, earlier=workflow_id)
        except AlreadyStartedError as error:
            if await known([workflow_id]):
                return _form(request, found, sent, status=409, earlier=workflow_id)
            wrong = {"deduplication_id": [error.message]}
        except InvalidInputError as error:
            problems = _told(error)
    if problems or wrong:
        return _form(request, found, sent, problems, wrong, status=422)
    return RedirectResponse(f"/runs/{quote(workflow_id, safe='')}", _SEE_OTHER)


def _told(error: InvalidInputError) -> dict[str, list[str]]:
    """What is wrong with an input, by the names of parameters."""
    return schema_forms.by_field(error.fields) or {REST: [error.message]}


async def _options(sent: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The options of a start that a form gives, and what is wrong with each that is none."""
    options, wrong = schema_forms.read(_OPTIONS, _typed(sent), {})
    for name, value in list(options.items()):
        try:
            if isinstance(value, str):
                # Of a text area, in which nobody sees a line's end.
                options[name] = value = _tags(value) if name == "tags" else value.strip()
            start.check_option(name, value)
            if name == "queue":
                await asyncio.to_thread(start.check_queue, value)
        except InvalidInputError as error:
            wrong[name] = [error.message]
    return options, wrong


def _typed(sent: Mapping[str, str]) -> dict[str, str]:
    """What was typed into the fields of options."""
    return {
        name.removeprefix(_BEFORE): value
        for name, value in sent.items()
        if name.startswith(_BEFORE)
    }


def _tags(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.split("\n"))):
        name, value = tags.named(line)
        if value is None:
            raise InvalidInputError(f"{quoted(line)} is not NAME=VALUE, such as team=billing")
        if name in found:
            raise InvalidInputError(f"the tag {quoted(name)} is given twice")
        found[name] = value
    return found


async def _is_other(workflow_id: str, options: Mapping[str, Any]) -> bool:
    """Whether the workflow was started before, with other options: only the audit knows."""
    entries = (await list_audit(act="start", subject=workflow_id, limit=1)).items
    if not entries:
        return False
    given = {name: value for name, value in options.items() if value != {}}
    asked = set(_OPTIONS["properties"])
    if "queue" not in given:
        # The hosts' own, where one was needed, nobody asked for.
        asked.remove("queue")
    return any(entries[0].details.get(name) != given.get(name) for name in asked)


def _entrypoints(request: Request) -> dict[str, Entrypoint]:
    found: dict[str, Entrypoint] = request.app.state.entrypoints
    return found


def _form(
    request: Request,
    found: Entrypoint,
    typed: Mapping[str, str] | None = None,
    problems: Mapping[str, Sequence[str]] | None = None,
    wrong: dict[str, list[str]] | None = None,
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
        wrong: What is, by the names of options.
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
        options=schema_forms.fields(
            _OPTIONS, {}, typed=_typed(typed) if typed is not None else None, problems=wrong
        ),
        before=_BEFORE,
        is_wrong=bool(told or wrong),
        workflow_id=typed.get("workflow_id") if keeps and typed else str(uuid.uuid4()),
        earlier=earlier,
    )
