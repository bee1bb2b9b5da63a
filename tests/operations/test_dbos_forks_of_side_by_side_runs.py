"""DBOS's own fork copies steps by their numbers, which tell no time between tasks of a workflow."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agents import Agent, Runner
from agents.testing import assistant_message
from dbos import DBOS, SetWorkflowID

import timestep
from tests.support.conversational_model import AnsweringModel
from tests.support.dbos_app import App
from timestep.errors import ReplayError


def test_a_fork_that_would_make_calls_again_is_refused(app: App) -> None:
    def answering(name: str) -> AnsweringModel:
        return AnsweringModel(lambda _: [assistant_message(f"{name} said")])

    models = {name: answering(name) for name in ("plan", "a", "b", "report")}

    async def said(name: str, given: str) -> str:
        return str((await Runner.run(Agent(name, model=models[name]), given)).final_output)

    async def body() -> str:
        plan = await said("plan", "go")
        tasks = [asyncio.ensure_future(said(name, plan)) for name in ("a", "b")]
        found = [await task for task in asyncio.as_completed(tasks)]
        return await said("report", str(sorted(found)))

    def fork(start: int) -> str:
        for model in models.values():
            model.asked = 0
        with SetWorkflowID(f"fork-{start}"):
            return str(DBOS.fork_workflow("w", start).get_result(polling_interval_sec=0.02))

    def asked() -> list[int]:
        return [model.asked for model in models.values()]

    timestep.install()
    try:
        assert app.run(body, workflow_id="w") == "report said"
        numbers = app.execute("SELECT function_id FROM dbos.operation_outputs ORDER BY 1")
        plan, report, *beside = [number for (number,) in numbers.fetchall()]
        assert len(beside) == 2
        # The report is copied, and what it was made of is not.
        with pytest.raises(ReplayError, match=r"DBOS made of 'w'.*timestep\.fork_run"):
            fork(report + 1)
        assert asked() == [0, 0, 0, 0]
        (run,) = [row for row in app.rows("runs") if row["workflow_id"] == f"fork-{report + 1}"]
        assert (run["status"], run["error_type"]) == ("failed", "ReplayError")
        # What comes after a step is made again with it, or nothing is copied.
        assert fork(plan + 1) == "report said"
        assert asked() == [0, 1, 1, 1]
        assert app.replay(f"fork-{plan + 1}") == "report said"
        assert fork(1) == "report said"
        assert asked() == [1, 1, 1, 1]
        # Timestep's own knows what came before.
        asyncio.run(timestep.fork_run(_of(app, "report"), turn=1, new_workflow_id="new"))
        for model in models.values():
            model.asked = 0
        handle: Any = DBOS.retrieve_workflow("new")
        assert handle.get_result(polling_interval_sec=0.02) == "report said"
        assert asked() == [0, 0, 0, 1]
    finally:
        timestep.uninstall()


def _of(app: App, agent: str) -> str:
    found = app.execute(
        "SELECT r.id::text FROM runs r JOIN agents a ON a.id = r.agent_id "
        "WHERE r.workflow_id = 'w' AND a.name = %s",
        (agent,),
    ).fetchone()
    assert found is not None
    return str(found[0])
