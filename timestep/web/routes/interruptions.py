"""Serves /api/interruptions: what waits for a decision."""

from __future__ import annotations

from timestep.operations.queries import interruptions
from timestep.operations.queries.pagination import Page
from timestep.operations.queries.records import Interruption
from timestep.web.dependencies import Limit, api_router
from timestep.web.problems import Answer

router = api_router()


@router.get("/interruptions", response_model=Page[Interruption])
async def list_interruptions(
    resolved: bool | None = False,
    workflow_id: str | None = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> Answer:
    """What waits for a decision, oldest first; with `resolved=true`, what was decided."""
    return Answer(
        await interruptions.page_of_interruptions(
            workflow_id=workflow_id, resolved=resolved, limit=limit, cursor=cursor
        )
    )
