"""Gathers what serves the pages."""

from __future__ import annotations

from timestep.web.pages import agents, assets, health, many, runs, sessions, start, usage
from timestep.web.pages.approvals import decisions, inbox, links
from timestep.web.pages.run import compare, fork, view

ROUTERS = tuple(
    module.router
    for module in (
        runs,
        many,
        view,
        fork,
        compare,
        inbox,
        decisions,
        links,
        sessions,
        agents,
        usage,
        start,
        health,
        assets,
    )
)
