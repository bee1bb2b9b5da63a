"""A tool that changes its agent is refused at once: a recovery would have the agent of before.

Nobody is blamed for what something beside its call may have done.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import Any

import pytest
from agents import Agent, RunConfig, RunHooks, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS

import timestep
from tests.support.dbos_app import BODIES, App
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


def test_one_that_changes_its_agent_and_fails_is_refused_too(app: App) -> None:
    agent: Agent[Any] = Agent("A", model=ScriptedModel([[function_call("act", {}, call_id="c1")]]))

    @function_tool(failure_error_function=None)
    def act() -> str:
        agent.tools.append(late)
        raise ValueError("acted")

    agent.tools = [act]

    async def body() -> str:
        with pytest.raises(NotDurableError, match="'act' changed tools"):
            await timestep.run_agent(agent, "go")
        return "refused"

    assert app.run(body) == "refused"


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


class Instructing(RunHooks[Any]):
    """Changes an agent once a call of the quick one has ended, and says so."""

    def __init__(self) -> None:
        self.has_changed = asyncio.Event()

    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
        if tool.name == "quick":
            agent.instructions = f"{agent.instructions}."
            self.has_changed.set()


def test_a_hook_of_a_sibling_may_change_the_agent(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    hooks = Instructing()

    @function_tool
    async def quick() -> str:
        return "quick"

    @function_tool
    async def slow() -> str:
        await hooks.has_changed.wait()
        return "slow"

    calls = [function_call(name, {}, call_id=name) for name in ("quick", "slow")]
    again = [function_call("quick", {}, call_id="c3"), function_call("slow", {}, call_id="c4")]
    model = ScriptedModel([calls, again, [assistant_message("done")]])
    agent = Agent("A", model=model, tools=[quick, slow])

    async def body() -> str:
        return str((await timestep.run_agent(agent, "go", hooks=hooks)).final_output)

    assert app.run(body) == "done"
    said = [one.message for one in caplog.records if "instructions of agent 'A'" in one.message]
    assert len(said) == 1
    assert "'slow'" in said[0]


def test_runs_that_share_an_agent_may_set_it_up(app: App) -> None:
    began, is_set = asyncio.Event(), asyncio.Event()

    @function_tool
    async def wait() -> str:
        began.set()
        await is_set.wait()
        return "waited"

    calls = [[function_call("wait", {}, call_id="c1")], [assistant_message("first")]]
    agent: Agent[Any] = Agent("A", tools=[wait])
    first = RunConfig(model=ScriptedModel(calls))
    second = RunConfig(model=ScriptedModel([[assistant_message("second")]]))

    async def body() -> str:
        async def other() -> str:
            await began.wait()
            agent.instructions = "For the second."
            agent.mcp_servers = []
            result = await timestep.run_agent(agent, "two", run_config=second)
            is_set.set()
            return str(result.final_output)

        agent.instructions = "For the first."
        one, two = await asyncio.gather(timestep.run_agent(agent, "one", run_config=first), other())
        return f"{one.final_output}, {two}"

    assert app.run(body) == "first, second"


def test_another_workflow_may_set_a_shared_agent_up_before_its_run(app: App) -> None:
    began, is_set, has_ended = threading.Event(), threading.Event(), threading.Event()

    @function_tool
    async def wait() -> str:
        began.set()
        await asyncio.to_thread(is_set.wait, 60)
        return "waited"

    calls = [[function_call("wait", {}, call_id="c1")], [assistant_message("first")]]
    agent: Agent[Any] = Agent("A", tools=[wait])

    async def first() -> str:
        config = RunConfig(model=ScriptedModel(calls))
        return str((await timestep.run_agent(agent, "one", run_config=config)).final_output)

    async def second() -> str:
        agent.instructions = "For the second."
        is_set.set()
        await asyncio.to_thread(has_ended.wait, 60)
        config = RunConfig(model=ScriptedModel([[assistant_message("second")]]))
        return str((await timestep.run_agent(agent, "two", run_config=config)).final_output)

    BODIES.update(first=first, second=second)
    one: Any = DBOS.retrieve_workflow(app.started("first"))
    assert began.wait(60)
    two: Any = DBOS.retrieve_workflow(app.started("second"))
    try:
        assert one.get_result(polling_interval_sec=0.02) == "first"
    finally:
        has_ended.set()
    assert two.get_result(polling_interval_sec=0.02) == "second"


class Noting(Agent[Any]):
    """Keeps of its own what the SDK's class has no field for."""

    note = 0

    @functools.cached_property
    def catalog(self) -> list[str]:
        return ["a"]


def test_what_a_subclass_adds_is_its_own(app: App) -> None:
    @function_tool
    def act() -> str:
        agent.note += 1
        return agent.catalog[0]

    turns = [[function_call("act", {}, call_id="c1")], [assistant_message("done")]]
    agent = Noting("A", model=ScriptedModel(turns), tools=[act])

    async def body() -> str:
        return str((await timestep.run_agent(agent, "go")).final_output)

    assert app.run(body) == "done"
    assert (agent.note, vars(agent)["catalog"]) == (1, ["a"])
