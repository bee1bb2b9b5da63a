"""An error of a run is recorded with its workflow, though uninstall() came between the two."""

from __future__ import annotations

import pytest
from agents import Agent, MaxTurnsExceeded, function_tool
from agents.testing import ScriptedModel, function_call
from dbos import DBOS

import timestep
from tests.support.dbos_app import App


@function_tool
def again() -> str:
    return "again"


def test_the_workflows_error_is_still_recorded(app: App) -> None:
    timestep.install()
    agent = Agent(
        "A", model=ScriptedModel([[function_call("again", "{}", call_id="c1")]]), tools=[again]
    )

    async def body() -> str:
        try:
            await timestep.run_agent(agent, "hi", max_turns=1)
        finally:
            timestep.uninstall()  # As another thread of the application may, at this time.
        return "not reached"

    with pytest.raises(MaxTurnsExceeded):
        app.run(body, "w")
    status = DBOS.get_workflow_status("w")
    assert status is not None
    assert status.status == "ERROR"
    with pytest.raises(MaxTurnsExceeded):
        DBOS.retrieve_workflow("w").get_result(polling_interval_sec=0.02)
