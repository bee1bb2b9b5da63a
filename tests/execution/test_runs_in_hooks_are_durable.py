"""Runs that hooks of parallel tools begin have the same numbers in a replay."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agents import Agent, RunHooks, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

from tests.support.dbos_app import App
from timestep import DurableRunner, testing


def judge(name: str) -> Agent[Any]:
    return Agent(name, model=ScriptedModel([[assistant_message(name)]]))


class JudgingHooks(RunHooks[Any]):
    def __init__(self, moments: set[str]) -> None:
        self._moments = moments
        self.heard: list[str] = []

    async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
        await self._judge("before", tool)

    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
        await self._judge("after", tool)

    async def _judge(self, moment: str, tool: Any) -> None:
        if moment in self._moments:
            said = await DurableRunner.run(judge(f"{moment} {tool.name}"), tool.name)
            self.heard.append(str(said.final_output))


@pytest.mark.parametrize("moments", [{"before"}, {"after"}, {"before", "after"}])
def test_hooks_of_parallel_tools_run_agents(app: App, moments: set[str]) -> None:
    names = ["slow", "fast", "middle"]

    def tool(name: str) -> Any:
        async def act() -> str:
            # Ends in another order than it began in.
            await asyncio.sleep({"slow": 0.03, "fast": 0.0, "middle": 0.015}[name])
            return name

        return function_tool(act, name_override=name)

    heard: list[list[str]] = []

    async def body() -> str:
        turns = [[function_call(n, {}, call_id=n) for n in names], [assistant_message("done")]]
        hooks = JudgingHooks(moments)
        agent = Agent("A", model=ScriptedModel(turns), tools=[tool(name) for name in names])
        result = await DurableRunner.run(agent, "go", hooks=hooks)
        heard.append(hooks.heard)
        return str(result.final_output)

    assert app.run(body, workflow_id="w") == "done"
    assert testing.assert_replays_sync("w", times=3, delay=0.02) == "done"
    assert heard[1:] == heard[:1] * 3
    assert len(heard[0]) == 3 * len(moments)
