"""A tool that changes its agent is refused at once: a recovery would have the agent of before."""

from __future__ import annotations

from typing import Any

import pytest
from agents import Agent, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

import timestep
from tests.support.dbos_app import App
from timestep.errors import NotDurableError


@function_tool
def late() -> str:
    return "late"


CHANGES: dict[str, Any] = {
    "tools": lambda agent: agent.tools.append(late),
    "instructions": lambda agent: setattr(agent, "instructions", "Otherwise."),
    "handoffs": lambda agent: setattr(agent, "handoffs", [Agent("B")]),
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_change_of_an_agent_ends_the_run_and_says_what_to_do(app: App, field: str) -> None:
    turns = [[function_call("act", {}, call_id="c1")], [assistant_message("done")]]
    agent: Agent[Any] = Agent("A", model=ScriptedModel(turns))

    @function_tool
    def act() -> str:
        CHANGES[field](agent)
        return "acted"

    agent.tools = [act]

    async def body() -> str:
        with pytest.raises(NotDurableError, match=f"'act' changed {field} of agent 'A'.*is_en"):
            await timestep.run_agent(agent, "go")
        return "refused"

    assert app.run(body) == "refused"
    (run,) = app.rows("runs")
    assert (run["status"], run["error_type"]) == ("failed", "NotDurableError")


def test_what_hooks_and_tools_of_others_leave_alone_is_no_change(app: App) -> None:
    @function_tool
    def act() -> str:
        Agent("another").tools.append(late)
        return "acted"

    turns = [[function_call("act", {}, call_id="c1")], [assistant_message("done")]]
    agent = Agent("A", model=ScriptedModel(turns), tools=[act], handoffs=[Agent("B")])

    async def body() -> str:
        return str((await timestep.run_agent(agent, "go")).final_output)

    assert app.run(body) == "done"
