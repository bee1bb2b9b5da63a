"""Serves /health: hosts, queues, what waits, what is stuck and why, versions and migrations."""

from __future__ import annotations

import asyncio
import time

from fastapi import Request, Response

from timestep.errors import TimestepError
from timestep.operations.diagnosis import doctor, standing
from timestep.operations.diagnosis.doctor import Finding
from timestep.operations.queries.metrics import Values
from timestep.web.pages.rendering import page
from timestep.web.pages.routing import page_router

router = page_router()

_KEPT = 10.0
"""Seconds for which what the checks found is told again."""
_STATES = ("executing", "waiting", "delayed")


@router.get("/health")
async def health_page(request: Request) -> Response:
    """How the installation stands."""
    state = request.app.state
    values: Values = await state.metrics.values()
    try:
        reason = await state.readiness.missing()
    except TimestepError as error:
        reason = error.message
    return page(
        request,
        "health.html",
        reason=reason,
        hosts=await standing.hosts(),
        queues=_queues(values),
        states=_STATES,
        questions=int(_one(values, "timestep_questions_pending")),
        oldest=_one(values, "timestep_oldest_question_age_seconds"),
        held={labels[0]: int(count) for labels, count in values["timestep_workflows_held"].items()},
        stuck=await standing.stuck(),
        looked_at=standing.LOOKED_AT,
        open=int(sum(values["timestep_runs"].values())),
        findings=await _findings(request),
    )


async def _findings(request: Request) -> list[Finding]:
    """What the checks found a little ago: they read much, and a page that is open asks often."""
    state = request.app.state
    until, findings = getattr(state, "findings", (0.0, []))
    if time.monotonic() >= until:
        findings = await asyncio.to_thread(lambda: list(doctor.examine(without=doctor.IN_A_HOST)))
        state.findings = (time.monotonic() + _KEPT, findings)
    return list(findings)


def _one(values: Values, name: str) -> float:
    return values[name].get((), 0.0)


def _queues(values: Values) -> dict[str, dict[str, int]]:
    """How many workflows of each queue are in which state."""
    found: dict[str, dict[str, int]] = {}
    for (queue, state), count in sorted(values["timestep_queue_workflows"].items()):
        found.setdefault(queue, dict.fromkeys(_STATES, 0))[state] = int(count)
    return found
