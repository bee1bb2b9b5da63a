"""A workflow `w` that asks people, and what they decide."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from threading import Thread
from typing import Any

from agents import Agent

import timestep
from tests.support.dbos_app import App

_WAITS = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
    "AND datname = current_database() AND query LIKE '%FROM public.interruptions%'"
)


def started(
    app: App, agent: Agent[Any], given: Any = "go", *, workflow_id: str = "w", **options: Any
) -> Future[str]:
    """A workflow that runs the agent in a thread of its own."""
    outcome: Future[str] = Future()

    async def body() -> str:
        return str((await timestep.run_agent(agent, given, **options)).final_output)

    def work() -> None:
        try:
            outcome.set_result(app.run(body, workflow_id=workflow_id))
        except Exception as error:  # noqa: BLE001  # the future raises it to the test
            outcome.set_exception(error)

    Thread(target=work, daemon=True).start()
    return outcome


def waiting(**which: Any) -> list[timestep.Interruption]:
    """What the workflow asks."""
    return asyncio.run(timestep.list_interruptions(workflow_id="w", **which))


def decide(**decision: Any) -> timestep.ResumeResult:
    return timestep.resume_workflow_sync("w", **decision)


def until_held_up(app: App, decisions: int) -> None:
    """Wait until so many decisions wait for somebody else's lock of the questions."""
    app.until(lambda: app.execute(_WAITS).fetchone() == (decisions,))
