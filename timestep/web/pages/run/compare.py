"""Serves /runs/{id}/compare: what is different between a run and another one."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response

from timestep.errors import UnknownRunError
from timestep.operations.queries import runs
from timestep.operations.queries.records import Run
from timestep.operations.queries.story import timeline
from timestep.operations.queries.story.comparison import Comparison, TurnPair, compared
from timestep.operations.queries.story.family import changed_in, family_of
from timestep.web.pages.filters import segment
from timestep.web.pages.rendering import page
from timestep.web.pages.routing import page_router
from timestep.web.slashes import RunName

router = page_router()


@router.get("/runs/{run_id}/compare")
async def compare(
    request: Request,
    run_id: RunName,
    turn: str | None = None,
    left: str | None = None,
    right: str | None = None,
) -> Response:
    """The page that shows two runs side by side, or asks for the other one."""
    run = await runs.get_run(run_id)
    asked = request.query_params.get("with", "").strip()
    other, problem = await _other(asked)
    found: Comparison | None = None
    if other is not None and run.id is not None and other.id is not None:
        first = timeline.place_of("turn", turn) if turn else 1
        rest = (_place(left), _place(right)) if left or right else None
        found = await compared(run, other, first, rest)
    return page(
        request,
        "compare.html",
        422 if problem else 200,
        run=run,
        other=other,
        asked=asked,
        here=f"/runs/{segment(run_id)}",
        comparison=found,
        more=_more(f"/runs/{segment(run_id)}/compare", asked, found) if found else None,
        groups=_groups(found.turns) if found else [],
        family=await family_of(run.id) if run.id is not None else [],
        problem=problem,
        changed=[
            (one, difference)
            for one in (run, other)
            if one is not None and (difference := await changed_in(one))
        ],
        is_input_same=other is not None and _is_same(run.input, other.input),
    )


def _is_same(one: Any, other: Any) -> bool:
    """Whether two documents are the same; False where they are nested too deeply to be seen so."""
    try:
        return bool(one == other)
    except RecursionError:
        return False


def _place(given: str | None) -> int | None:
    return timeline.place_of("after", given) if given else None


async def _other(asked: str) -> tuple[Run | None, str | None]:
    """The run that is asked for, or what is wrong with what is."""
    if not asked:
        return None, None
    try:
        return await runs.get_run(asked), None
    except UnknownRunError as error:
        return None, error.message


def _more(path: str, asked: str, found: Comparison) -> str:
    """The address of what comes after a comparison."""
    sides = zip(("left", "right"), found.rest or (None, None), strict=True)
    query = {"with": asked, "turn": found.next_turn, **dict(sides)}
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}"


def _groups(turns: list[TurnPair]) -> list[list[TurnPair]]:
    """Turns side by side that are the same together, each other one alone."""
    found: list[list[TurnPair]] = []
    for turn in turns:
        before = found[-1][0] if found else turn
        is_together = turn.is_same and before.is_same and not (turn.is_part or before.is_part)
        if found and is_together:
            found[-1].append(turn)
        else:
            found.append([turn])
    return found
