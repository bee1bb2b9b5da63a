"""Serves /runs/{id}: why a run is as it is, and what it did."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Query, Request, Response

from timestep.operations.queries import runs
from timestep.operations.queries.records import Run
from timestep.operations.queries.story import timeline
from timestep.operations.queries.story.family import changed_in, family_of
from timestep.operations.queries.story.standing import queued_for, standing_of
from timestep.operations.queries.story.timeline import Matches, Timeline, Which
from timestep.runtime import terminal
from timestep.web.dependencies import Operator
from timestep.web.pages.filters import segment
from timestep.web.pages.rendering import page
from timestep.web.pages.routing import page_router
from timestep.web.pages.run.bars import bars, share, told
from timestep.web.slashes import RunName

router = page_router()

_Place = Annotated[str | None, Query()]
_UNFOLDED = 8
"""Runs inside that one page shows the turns of, at most."""


@dataclass(frozen=True)
class _Unfolded:
    """A run inside whose turns are on the page."""

    run: Run
    timeline: Timeline


@router.get("/runs/{run_id}")
async def one_run(
    request: Request,
    run_id: RunName,
    after: _Place = None,
    before: _Place = None,
    turn: _Place = None,
    only: _Place = None,
    text: _Place = None,
    cursor: _Place = None,
    unfolded: Annotated[list[str] | None, Query()] = None,
) -> Response:
    """The page of a run; of a workflow's id, of its newest run."""
    run = await runs.get_run(run_id)
    is_search = run.id is not None and bool(only or text)
    found = None if run.id is None or is_search else await _part(run, after, before, turn)
    matches = await _matches(run, only, text, cursor) if is_search else None
    standing = await standing_of(run)
    family = [] if run.id is None else await family_of(run.id)
    here = f"/runs/{segment(run_id)}"
    return page(
        request,
        "run.html",
        run=run,
        here=here,
        standing=standing,
        queued=await queued_for(run),
        family=family,
        changed=await changed_in(run),
        copies=_copies(run),
        timeline=found,
        matches=matches,
        searched={"only": only or "", "text": text or ""},
        follows=_follows(run, run_id, found),
        bars=bars,
        share=share,
        told=told,
        **await _inside(request, here, run, unfolded or []),
    )


async def _inside(request: Request, here: str, run: Run, ids: list[str]) -> dict[str, Any]:
    """What the templates need to unfold runs inside without a script.

    Of the ids that the address asks for, those that are not of a run inside are left out: one may
    have been deleted since.
    """
    asked = [] if run.id is None else (await timeline.inside_of(run.id, ids))[:_UNFOLDED]
    inside = [await runs.get_run(one) for one in asked]
    others = (one for one in request.query_params.multi_items() if one[0] != "unfolded")
    query = [*(one for one in others if one[1]), *(("unfolded", one) for one in asked)]

    def unfold(run_id: str) -> str:
        with_it = urllib.parse.urlencode([*query, ("unfolded", run_id)])
        return f"{here}?{with_it}#inside-{run_id}"

    return {
        "of_run": "",
        "unfolded": {
            str(run.id): _Unfolded(run, await _part(run, None, None, "1"))
            for run in inside
            if run.id
        },
        "can_unfold": len(asked) < _UNFOLDED,
        "unfold": unfold,
    }


async def _part(run: Run, after: str | None, before: str | None, turn: str | None) -> Timeline:
    which: Which = "newest"
    place = 0
    for name, given in (("after", after), ("before", before), ("turn", turn)):
        if given:
            which, place = name, timeline.place_of(name, given)  # type: ignore[assignment]
    return await timeline.part_of(
        str(run.id),
        run.workflow_id if run.parent_run_id is None else None,
        goes_on=run.status == "running" and not run.is_stuck,
        ended_at=run.completed_at,
        which=which,
        place=place,
    )


async def _matches(run: Run, only: str | None, text: str | None, cursor: str | None) -> Matches:
    return await timeline.matches_of(
        str(run.id),
        goes_on=run.status == "running" and not run.is_stuck,
        ended_at=run.completed_at,
        only=only or None,
        text=text or None,
        cursor=cursor or None,
    )


def _copies(run: Run) -> dict[str, str]:
    """What there is to be copied of a run, by what it is."""
    name = str(run.workflow_id if run.id is None or run.is_newest else run.id)
    found = {"Command": terminal.command("show", name)}
    if run.status == "failed":
        found["Traceback"] = terminal.command("show", name, "--traceback")
    if run.id is not None:
        found["SQL of its items"] = (
            f"SELECT turn, item_type, item_data FROM run_items WHERE run_id = '{run.id}' "
            "ORDER BY position;"
        )
    return found


def _follows(run: Run, asked: str, found: Timeline | None) -> str | None:
    """Where the page is told of news; None: nothing is expected."""
    if run.completed_at is not None:
        return None
    of = run.workflow_id if run.parent_run_id is None and run.workflow_id else run.id or asked
    begin = f"?after={found.cursor}" if found is not None else ""
    return f"/api/runs/{segment(of)}/events{begin}"


@router.get("/runs/{run_id}/documents/{kind}/{row_id}")
async def document(run_id: RunName, kind: str, row_id: str) -> Response:
    """The whole of a document that the page shows the beginning of, as plain text."""
    text = await timeline.whole_document(run_id, kind, row_id)
    return _plain_text(text)


@router.get("/runs/{run_id}/traceback")
async def traceback(run_id: RunName, caller: Operator) -> Response:
    """Where in the code a run failed, as plain text."""
    text = await runs.get_traceback(run_id)
    return _plain_text(text or "No traceback is recorded of this run.")


def _plain_text(text: str) -> Response:
    return Response(
        text, media_type="text/plain; charset=utf-8", headers={"Cache-Control": "no-store"}
    )
