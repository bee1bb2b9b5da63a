"""Serves /api/agents: the agents that runs had."""

from __future__ import annotations

from timestep.operations.queries import agents
from timestep.operations.queries.pagination import Page
from timestep.operations.queries.records import AgentDefinition
from timestep.web.dependencies import api_router
from timestep.web.problems import Answer

router = api_router()


@router.get("/agents", response_model=Page[AgentDefinition])
async def list_agents() -> Answer:
    """The agents that runs had, by name, each in its newest version; one page."""
    return Answer(Page(await agents.list_agents(), None))
