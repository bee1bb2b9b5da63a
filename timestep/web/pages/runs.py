"""Serves /: the runs, newest first, what each does or waits for, and what is done with many."""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from timestep.errors import InvalidInputError, InvalidQueryError, TimestepError
from timestep.operations import arguments
from timestep.operations.cancel import cancel_run
from timestep.operations.fork import fork_run
from timestep.operations.overview import filters
from timestep.operations.overview.activity import activities
from timestep.operations.overview.counts import Counts, count_runs
from timestep.operations.overview.suggestions import Suggested, suggestions
from timestep.operations.queries import runs
from timestep.operations.queries.pagination import Page
from timestep.operations.queries.records import Run, Status
from timestep.runtime.terminal import quoted
from timestep.web import auth
from timestep.web.dependencies import Operator
from timestep.web.pages.rendering import page
from timestep.web.pages.routing import page_router

router = page_router()

_SIZE = 50
"""Runs of a page, and at most so many are cancelled or forked at once."""

STATUSES: tuple[Status, ...] = ("running", "interrupted", "failed", "completed", "cancelled")
"""In the order in which an operator asks for them."""

_TURN = re.compile("[1-9][0-9]{0,8}", re.ASCII)

_COMPLETED: tuple[Suggested, ...] = ("agent", "entrypoint", "session_id", "workflow_id", "version")
_MOMENTS = ("since", "until")
_FIELDS = ("text", "tag", *_COMPLETED, *_MOMENTS)


@dataclass
class _Asked:
    """Which runs a page's address asks for."""

    given: dict[str, str]
    """As it was typed, by the field's name; without those that are empty."""
    nested: bool
    filters: dict[str, Any] = field(default_factory=dict)
    """As `list_runs` takes them."""
    wrong: dict[str, str] = field(default_factory=dict)
    """What is wrong, by the field's name."""

    def address(self, **changed: str | None) -> str:
        """The page's own address with some of what it asks for changed."""
        asked = {**self.given, **({"nested": "1"} if self.nested else {}), **changed}
        query = urlencode({name: value for name, value in asked.items() if value})
        return f"/?{query}" if query else "/"


def _asked(query: Mapping[str, str]) -> _Asked:
    names = ("status", *_FIELDS)
    given = {name: query[name].strip() for name in names if query.get(name, "").strip()}
    asked = _Asked(given, nested=bool(query.get("nested")))
    for name, text in given.items():
        try:
            value: Any = text
            if name in _MOMENTS:
                value = arguments.moment_of(text, datetime.UTC)
            filters.checked(**{name: value})
            asked.filters[name] = value
        except InvalidQueryError as error:
            asked.wrong[name] = error.message
    return asked


@router.get("/")
async def list_of_runs(request: Request, cursor: str | None = None) -> Response:
    """The page of all runs, or of those that its address asks for."""
    asked = _asked(request.query_params)
    found: Page[Run] = Page([], None)
    counts = Counts(dict.fromkeys(STATUSES, 0), False)
    if not asked.wrong:
        try:
            found = await runs.list_runs(
                **asked.filters, nested=asked.nested, brief=True, limit=_SIZE, cursor=cursor or None
            )
            counts = await count_runs(**asked.filters, nested=asked.nested)
        except InvalidQueryError as error:
            if cursor:
                raise
            asked.wrong["version"] = error.message
    return page(
        request,
        "runs.html",
        422 if asked.wrong else 200,
        asked=asked,
        rows=list(zip(found.items, await activities(found.items), strict=True)),
        counts=counts,
        statuses=STATUSES,
        cursor=cursor,
        next_cursor=found.next_cursor,
        suggested={name: await suggestions(name) for name in ("agent", "entrypoint", "version")},
    )


@router.get("/complete/{what}")
async def completions(request: Request, what: Suggested, text: str = "") -> Response:
    """What a field of the filters may be completed to: options of its list."""
    return page(request, "_options.html", options=await suggestions(what, text.strip()))


@dataclass
class _Chosen:
    """A run that is about to be cancelled, or forked."""

    run: Run
    turn: str = ""
    """Of a fork: the turn that it begins with, as it is in the form."""
    wrong: str | None = None
    made: str | None = None
    """Of a fork that was made before another one could not be: its workflow."""

    @property
    def is_open(self) -> bool:
        workflow = self.run.workflow
        return workflow is not None and runs.status_of(workflow.status) == "running"


async def _chosen(ids: Iterable[str]) -> list[_Chosen]:
    """Those that a page names, each workflow's run once.

    Raises:
        InvalidInputError: They are none, or too many.
        UnknownRunError: One of them is not there.
    """
    wanted = list(dict.fromkeys(ids))
    if not wanted:
        raise InvalidInputError("no run is chosen: tick some in the list of runs first")
    if len(wanted) > _SIZE:
        raise InvalidInputError(f"{len(wanted)} runs are chosen, and {_SIZE} at once may be")
    return [_Chosen(await runs.get_run(one)) for one in wanted]


def _fields(form: Mapping[str, str], kind: Literal["run", "turn"]) -> dict[str, str]:
    """The values of the fields of one kind in a form, by the run that each is about."""
    return {
        name.removeprefix(f"{kind}."): value
        for name, value in form.items()
        if name.startswith(f"{kind}.")
    }


async def _workflows(ids: Iterable[str]) -> list[_Chosen]:
    """The newest run of each of the workflows that some runs belong to."""
    of_runs = await _chosen(ids)
    return await _chosen(one.run.workflow_id or one.run.id or "" for one in of_runs)


@router.get("/cancel")
async def ask_to_cancel(request: Request) -> Response:
    """Name each of the workflows that are about to be cancelled."""
    chosen = await _workflows(request.query_params.getlist("run"))
    return page(request, "cancel_many.html", chosen=chosen, problem=None)


@router.post("/cancel")
async def cancel_many(request: Request, _: Operator) -> Response:
    """Cancel workflows, unless one of them has ended since the page named it."""
    form = auth.form(await request.body())
    chosen = await _chosen(_fields(form, "run"))
    ended = [one for one in chosen if not one.is_open]
    if ended:
        for one in ended:
            one.wrong = "has ended meanwhile"
        problem = "Nothing was cancelled: what has ended meanwhile is marked."
        return page(request, "cancel_many.html", 409, chosen=chosen, problem=problem)
    for one in chosen:
        try:
            await cancel_run(one.run.workflow_id or "")
        except TimestepError as error:
            one.wrong = error.message
    if any(one.wrong for one in chosen):
        problem = "All were cancelled but those that are marked."
        return page(request, "cancel_many.html", 409, chosen=chosen, problem=problem)
    query = urlencode([("run", one.run.workflow_id) for one in chosen])
    return RedirectResponse(f"/cancel?{query}", 303)


@router.get("/fork")
async def ask_to_fork(request: Request) -> Response:
    """Name each run that is about to be forked, and the turn that its fork begins with."""
    chosen = await _chosen(request.query_params.getlist("run"))
    for one in chosen:
        failed_in = one.run.error.turn if one.run.error else None
        one.turn = str(failed_in or one.run.turns or 1)
    return page(request, "fork_many.html", chosen=chosen, once=str(uuid.uuid4()), problem=None)


@router.post("/fork")
async def fork_many(request: Request, _: Operator) -> Response:
    """Fork runs. Who sends the same form again is answered the same."""
    form = auth.form(await request.body())
    turns = _fields(form, "turn")
    chosen = await _chosen(turns)
    once = form.get("once", "")
    for one, given in zip(chosen, turns.values(), strict=True):
        one.turn = given.strip()
        if _TURN.fullmatch(one.turn) is None:
            one.wrong = f"{quoted(one.turn)} is not a number of a turn, counted from 1"
    problem = "Nothing was forked: see what is wrong." if _is_wrong(chosen) else None
    if problem is None:
        for one in chosen:
            name = f"{once} {one.run.id} {one.turn}"
            new_id = str(uuid.uuid5(uuid.NAMESPACE_OID, name))
            try:
                one.made = await fork_run(
                    one.run.id or "", turn=int(one.turn), new_workflow_id=new_id
                )
            except TimestepError as error:
                one.wrong = error.message
        if _is_wrong(chosen):
            problem = "Those that are marked were not forked; the others were."
    if problem is not None:
        return page(request, "fork_many.html", 422, chosen=chosen, once=once, problem=problem)
    query = urlencode([("workflow", one.made) for one in chosen])
    return RedirectResponse(f"/forked?{query}", 303)


def _is_wrong(chosen: Iterable[_Chosen]) -> bool:
    return any(one.wrong is not None for one in chosen)


@router.get("/forked")
async def forked(request: Request) -> Response:
    """Name each of the forks that were made, and how it stands."""
    chosen = await _chosen(request.query_params.getlist("workflow"))
    return page(request, "forked.html", chosen=chosen)
