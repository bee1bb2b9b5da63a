"""Serves /agents: what agents are made of, their versions, and who hands over to whom."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import Request, Response

from timestep.operations.queries import agents
from timestep.operations.queries.agents import Handoff
from timestep.web.drawing.layers import Drawing, layout
from timestep.web.pages.rendering import page
from timestep.web.pages.routing import page_router

router = page_router()

_DRAWN = 100
"""Agents of a page, and of a drawing, at most: of more, nobody would see anything in it."""
_ARROWS = 300
"""Handoffs that it has at most: laying out many more would keep the host from all else."""


@router.get("/agents")
async def agents_page(
    request: Request, name: str | None = None, text: str = "", cursor: str | None = None
) -> Response:
    """The agents that runs had, each in its newest version; or the versions of one."""
    if name:
        versions = await agents.list_versions(name, cursor=cursor or None)
        return page(request, "agent.html", name=name, versions=versions, cursor=cursor)
    text = text.strip()
    found = await agents.team(text=text or None, most=_ARROWS, limit=_DRAWN, cursor=cursor or None)
    return page(
        request,
        "agents.html",
        team=found,
        text=text,
        cursor=cursor,
        drawing=None if found.is_cut else drawing_of(found.handoffs),
        dynamic={(one.source, one.target) for one in found.handoffs if one.is_dynamic},
        mermaid=agents.mermaid(found.handoffs),
    )


def drawing_of(handoffs: Sequence[Handoff]) -> Drawing | None:
    """A drawing of who hands over to whom; None: it would have too much in it."""
    names = list(dict.fromkeys(end for one in handoffs for end in (one.source, one.target)))
    if len(names) > _DRAWN or len(handoffs) > _ARROWS:
        return None
    return layout(names, [(one.source, one.target, one.tool_name) for one in handoffs])
