"""Serves /approvals: what people are asked, a run's questions together; and what was decided."""

from __future__ import annotations

from collections import defaultdict

from fastapi import Request, Response

from timestep import config
from timestep.approvals.webhook import Webhook
from timestep.operations.overview import inbox
from timestep.web.pages.approvals import laid_out, led_to
from timestep.web.pages.approvals.decisions import NAMED, shown_of
from timestep.web.pages.rendering import page
from timestep.web.pages.routing import page_router

router = page_router()


@router.get("/approvals")
async def approvals(
    request: Request,
    workflow_id: str | None = None,
    resolved: bool = False,
    cursor: str | None = None,
    done: str | None = None,
) -> Response:
    """The page of what waits for people; with `resolved=true`, of what was decided."""
    values = {"workflow_id": workflow_id or None, **_SHOWN}
    if resolved:
        found = await inbox.decided(workflow_id=workflow_id or None, cursor=cursor or None)
        laid = laid_out.on_page(2 * len(found.items))
        return page(request, "decided.html", found=found, laid_out=laid, **values)
    waiting = await inbox.waiting(workflow_id=workflow_id or None, cursor=cursor or None)
    asked = sum(len(run.questions) for one in waiting.items for run in one.runs)
    webhook = Webhook.of(config.read())
    decided = await inbox.questions(done.split(",")[:NAMED]) if done else []
    going = [one for one in decided if one.ended is None]
    return page(
        request,
        "approvals.html",
        found=waiting,
        laid_out=laid_out.on_page(asked),
        cursor=cursor,
        done=decided,
        obstacles=defaultdict(str, await inbox.obstacles(going)),
        named=NAMED,
        told=None if webhook is None else webhook.shown,
        **values,
    )


@router.get("/approvals/{question_id}/arguments")
async def arguments(question_id: str) -> Response:
    """The whole arguments of a call, however long."""
    text = await inbox.arguments(question_id)
    return Response(text, media_type="application/json")


_SHOWN = {
    "led_to": led_to.parts,
    "shown_of": shown_of,
    "in_line": laid_out.in_line,
    "changes": laid_out.changes,
}
"""How templates show documents."""
