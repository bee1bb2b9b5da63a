"""Serves /api/usage: what runs used and cost."""

from __future__ import annotations

from timestep.operations.queries.pagination import Page
from timestep.operations.queries.records import UsageBy, UsageRow
from timestep.operations.queries.usage import usage_report
from timestep.web.dependencies import Moment, api_router
from timestep.web.problems import Answer

router = api_router()


@router.get("/usage", response_model=Page[UsageRow])
async def report_usage(by: UsageBy = "agent", since: Moment | None = None) -> Answer:
    """Tokens and estimated cost of the runs that began since, by what one asks for; one page."""
    return Answer(Page(await usage_report(by=by, since=since), None))
