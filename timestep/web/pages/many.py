"""Serves /cancel and /fork: a page that names each of many runs, and what is done with them then.

What is done is what was named: a run that has changed since is left alone, and the page says so.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, urlencode

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from timestep.errors import InvalidInputError, InvalidQueryError, TimestepError, UnknownRunError
from timestep.operations import cancel, fork
from timestep.operations.overview import many
from timestep.operations.overview.many import Name, Subject
from timestep.operations.queries import runs
from timestep.runtime.terminal import quoted
from timestep.web import auth
from timestep.web.dependencies import Operator
from timestep.web.pages.filters import STATUS_WORDS, as_field, of_field
from timestep.web.pages.rendering import page
from timestep.web.pages.routing import page_router
from timestep.web.pages.runs import Asked, asked_of

router = page_router()

_LISTED = 50
"""Runs that a page lists at once; more are folded."""
_TOGETHER = 50
"""Runs that are looked at once more together, right before something is done with them."""
_AT_ONCE = 4
"""Runs that something is done with at the same time."""
_LONGEST = 4_000
"""Characters of what an address names: a proxy takes no answer whose head is long."""
_TURN = re.compile("[1-9][0-9]{0,8}", re.ASCII)
_SEE_OTHER = 303


@dataclass
class _Chosen:
    """A run that is about to be cancelled, or forked."""

    run: Subject
    turn: str = ""
    """Of a fork: the turn that it begins with, as it is in the form."""
    wrong: str | None = None
    is_changed: bool = False
    """Whether it is not what the page showed, and was left alone for that."""
    made: str | None = None
    """Of a fork that was made: its workflow."""


@dataclass
class _Choice:
    """What is chosen, and how."""

    chosen: list[_Chosen]
    asked: Asked | None = None
    """The filter that all of them match; None: each was ticked."""
    matched: int = 0
    """How many runs do, as far as they were looked for."""
    is_cut: bool = False
    """Whether more may."""


async def _choice(request: Request, *, workflows: bool) -> _Choice:
    """What the address names: runs, workflows, or a filter of the runs; `workflows`: theirs.

    Raises:
        InvalidInputError: It names nothing, or too many; InvalidQueryError: a wrong filter.
        UnknownRunError: One of them is not there.
    """
    query = request.query_params
    names, asked, is_cut = _names(query.multi_items()), None, False
    if "all" in query:
        asked = asked_of(dict(parse_qsl(query["all"])))
        if asked.wrong:
            raise InvalidQueryError("; ".join(asked.wrong.values()))
        if not asked.given:
            raise InvalidInputError("no filter is given: all runs at once cannot be chosen")
        names, is_cut = await many.matching(nested=asked.nested, **asked.filters)
        if not names:
            raise InvalidInputError("no run matches the filter any more: load the list anew")
    # One that a filter has found may be deleted by now.
    found = await _named(names) if asked is None else list((await many.named(names)).values())
    if workflows:
        # Of each workflow once, and its newest run, which stands for it.
        found = await _named(map(_workflow, found))
    return _Choice([_Chosen(one) for one in found], asked, len(names), is_cut)


def _names(items: Iterable[tuple[str, str]]) -> list[Name]:
    """What the fields of an address name, in their order.

    A person may name a workflow as a run, too, as everywhere; a page says which of both it means.
    """
    of: dict[str, Literal["either", "workflow"]] = {"run": "either", "workflow": "workflow"}
    return [Name(of[field], of_field(value)) for field, value in items if field in of]


async def _named(names: Iterable[Name]) -> list[Subject]:
    wanted = list(dict.fromkeys(names))
    if not wanted:
        raise InvalidInputError("no run is chosen: tick some in the list of runs first")
    if len(wanted) > many.MOST:
        raise InvalidInputError(f"{len(wanted)} runs are chosen, and {many.MOST} at once may be")
    found = await many.named(wanted)
    for name in wanted:
        if name not in found:
            what = "workflow" if name.of == "workflow" else "run and no workflow"
            raise UnknownRunError(f"there is no {what} {quoted(name.id)}")
    return list(found.values())


def _fields(form: Mapping[str, str], kind: str) -> dict[str, str]:
    """The values of the fields of one kind in a form, by the id of what each is about."""
    return {
        of_field(name.removeprefix(f"{kind}.")): value
        for name, value in form.items()
        if name.startswith(f"{kind}.")
    }


async def _done(
    chosen: Sequence[_Chosen],
    seen: Mapping[str, str],
    act: Callable[[_Chosen], Awaitable[None]],
    name: Callable[[Subject], Name],
) -> None:
    """Do something with each that is as the page showed it, and note what is wrong with others.

    Args:
        chosen: All of them.
        seen: What the form says that the page showed, by the ids of what names them.
        act: What is done with one.
        name: What names one in the form.

    Raises:
        InvalidInputError: The form does not say what was shown.
    """
    if any(not seen.get(name(one.run).id) for one in chosen):
        raise InvalidInputError("the form does not say what was shown: load the page anew")
    free = asyncio.Semaphore(_AT_ONCE)

    async def do(one: _Chosen) -> None:
        async with free:
            try:
                await act(one)
            except TimestepError as error:
                one.wrong = error.message

    for part in _parts(chosen):
        # Looked at once more: doing it with those before has taken its time.
        now = await many.named([name(one.run) for one in part])
        for one in part:
            is_ = now.get(name(one.run))
            one.wrong = _change(seen[name(one.run).id], is_)
            one.is_changed = one.wrong is not None
            one.run = is_ or one.run
        # Each in a task: whoever acts is taken by the first operation that is called in one.
        await asyncio.gather(*(do(one) for one in part if one.wrong is None))
    wrong = [one for one in chosen if one.wrong is not None]
    now = await many.named([name(one.run) for one in wrong])
    for one in wrong:
        one.run = now.get(name(one.run), one.run)


def _parts(chosen: Sequence[_Chosen]) -> Iterator[Sequence[_Chosen]]:
    for first in range(0, len(chosen), _TOGETHER):
        yield chosen[first : first + _TOGETHER]


def _change(was: str, now: Subject | None) -> str | None:
    """How a run is not what a page showed; None: it is."""
    if now is None:
        return "it is not there any more"
    if was == now.seen:
        return None
    status, _, id_ = was.partition(" ")
    if id_ != now.id:
        return "it has begun another run since"
    return (
        f"it was shown as {STATUS_WORDS.get(status, status)!r}, and is {STATUS_WORDS[now.status]!r}"
    )


@router.get("/cancel")
async def ask_to_cancel(request: Request) -> Response:
    """Name each of the workflows that are about to be cancelled."""
    return _cancel_page(request, await _choice(request, workflows=True))


@router.post("/cancel")
async def cancel_many(request: Request, _: Operator) -> Response:
    """Cancel workflows, but those that are not what the page showed any more."""
    seen = _fields(auth.form(await request.body()), "workflow")
    chosen = [_Chosen(one) for one in await _named(Name("workflow", id_) for id_ in seen)]

    async def act(one: _Chosen) -> None:
        await cancel.cancel_run(_workflow(one.run).id)

    await _done(chosen, seen, act, _workflow)
    # Who sends a form twice has done it once; it is cancelled, as was asked for.
    for one in chosen:
        if one.is_changed and one.run.status == "cancelled" and not one.run.is_open:
            one.wrong, one.is_changed = None, False
    done = [one for one in chosen if one.wrong is None]
    if len(done) == len(chosen):
        ids = [as_field(_workflow(one.run).id) for one in done]
        return _to("/cancel", "workflow", ids)
    left = [one for one in chosen if one.wrong is not None]
    return _cancel_page(request, _Choice(left), 409, done=len(done))


def _workflow(one: Subject) -> Name:
    """The workflow of a run; the run, where nothing is known of one."""
    return Name("workflow", one.workflow_id) if one.workflow_id else Name("run", one.id)


def _run(one: Subject) -> Name:
    """A run, or the workflow that has not begun one."""
    return Name("run" if one.is_begun else "workflow", one.id)


def _cancel_page(
    request: Request, choice: _Choice, status: int = 200, *, done: int | None = None
) -> Response:
    open_ = [one for one in choice.chosen if one.run.is_open]
    ended = [one for one in choice.chosen if not one.run.is_open]
    return page(
        request,
        "cancel_many.html",
        status,
        choice=choice,
        listed=[*open_, *ended],
        open=len(open_),
        done=done,
        of=_of(request),
        shown=_LISTED,
        most=many.MOST,
    )


@router.get("/fork")
async def ask_to_fork(request: Request) -> Response:
    """Name each run that is about to be forked, and the turn that its fork begins with."""
    choice = await _choice(request, workflows=False)
    for one in choice.chosen:
        one.turn = str(one.run.failed_in or one.run.turns or 1)
    return _fork_page(request, choice, str(uuid.uuid4()))


@router.post("/fork")
async def fork_many(request: Request, _: Operator) -> Response:
    """Fork runs, but those that are not what the page showed. The same form again: the same."""
    form = auth.form(await request.body())
    turns, seen, once = _fields(form, "turn"), _fields(form, "seen"), form.get("once", "")
    chosen = [_Chosen(one) for one in await _named(Name("either", id_) for id_ in turns)]
    for one, given in zip(chosen, turns.values(), strict=True):
        one.turn = given.strip()
        if _TURN.fullmatch(one.turn) is None:
            one.wrong = f"{quoted(one.turn)} is not a number of a turn, counted from 1"
    if any(one.wrong for one in chosen):
        problem = "Nothing was forked: see what is wrong."
        return _fork_page(request, _Choice(chosen), once, 422, problem=problem)
    ids = {one.run.id: _fork_of(once, one) for one in chosen}
    made = await many.known(list(ids.values()))
    for one in chosen:
        one.made = ids[one.run.id] if ids[one.run.id] in made else None

    async def act(one: _Chosen) -> None:
        one.made = await fork.fork_run(
            one.run.id, turn=int(one.turn), new_workflow_id=ids[one.run.id]
        )

    await _done([one for one in chosen if one.made is None], seen, act, _run)
    if any(one.wrong for one in chosen):
        problem = "Those that are marked were not forked; the others were."
        is_changed = any(one.is_changed for one in chosen)
        status = 409 if is_changed else 422
        return _fork_page(request, _Choice(chosen), once, status, problem=problem)
    return _to("/forked", "workflow", [one.made or "" for one in chosen])


def _fork_of(once: str, one: _Chosen) -> str:
    """The id of the workflow that a form's fork of a run is."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{once} {one.run.id} {one.turn}"))


def _fork_page(
    request: Request, choice: _Choice, once: str, status: int = 200, *, problem: str | None = None
) -> Response:
    wrong = [one for one in choice.chosen if one.wrong is not None]
    others = [one for one in choice.chosen if one.wrong is None]
    return page(
        request,
        "fork_many.html",
        status,
        choice=choice,
        listed=[*wrong, *others],
        once=once,
        problem=problem,
        shown=_LISTED,
        most=many.MOST,
    )


@router.get("/forked")
async def forked(request: Request) -> Response:
    """Name each of the forks that were made, and how it stands."""
    ids = list(dict.fromkeys(request.query_params.getlist("workflow")))
    if not 1 <= len(ids) <= _LISTED:
        raise InvalidInputError(f"the address names {len(ids)} forks, and may name {_LISTED}")
    found = [await runs.get_run(one) for one in ids]
    return page(request, "forked.html", chosen=found, of=_of(request))


def _to(path: str, name: str, ids: Sequence[str]) -> Response:
    """Lead to a page of what was done; to as many of it as an address can name."""
    query = urlencode([(name, ids[0])])
    named = 1
    for id_ in ids[1:_LISTED]:
        longer = f"{query}&{urlencode([(name, id_)])}"
        if len(longer) > _LONGEST:
            break
        query, named = longer, named + 1
    if named < len(ids):
        query += f"&of={len(ids)}"
    return RedirectResponse(f"{path}?{query}", _SEE_OTHER)


def _of(request: Request) -> int | None:
    """Of how many the address names the first ones; None: it names all."""
    given = request.query_params.get("of", "")
    return int(given) if given.isdecimal() and len(given) <= len(str(many.MOST)) else None
