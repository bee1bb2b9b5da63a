"""What a call had done when a sibling failed is in the error's history, and is not lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agents import (
    Agent,
    CustomTool,
    LocalShellTool,
    RunHooks,
    ShellTool,
    Tool,
    UserError,
    function_tool,
)
from agents.testing import ScriptedModel, assistant_message, function_call
from openai.types.responses import ResponseCustomToolCall

import timestep
from tests.sdk.test_builtin_tools_are_steps import local_shell_call, shell_call
from tests.support.dbos_app import App

CUSTOM = ResponseCustomToolCall(
    type="custom_tool_call", id="i1", name="act", call_id="c1", input="go"
)
ASKED: dict[str, Any] = {
    "function": function_call("act", {}, call_id="c1"),
    "custom": CUSTOM,
    "shell": shell_call("ls"),
    "local_shell": local_shell_call("ls"),
}


class FailAfterSibling(RunHooks[Any]):
    """Fails at the end of `other`, at once when the body of its sibling has ended."""

    def __init__(self, ended: asyncio.Event) -> None:
        self.ended = ended
        self.heard: list[Tool] = []

    async def on_tool_end(self, context: Any, agent: Any, tool: Tool, result: Any) -> None:
        self.heard.append(tool)
        if tool.name == "other":
            if not timestep.is_replaying():
                await self.ended.wait()
            raise UserError("the hook failed")


@pytest.mark.parametrize("kind", ASKED)
def test_what_a_sibling_had_done_is_kept(app: App, kind: str) -> None:
    made: list[str] = []
    heard: list[bool] = []

    async def body() -> str:
        ended = asyncio.Event()

        def act(*_: Any) -> str:
            made.append(kind)
            # Its outcome is recorded only after this.
            ended.set()
            return "acted"

        @function_tool(name_override="act")
        async def function() -> str:
            return act()

        @function_tool
        async def other() -> str:
            return "other"

        tools: dict[str, Tool] = {
            "function": function,
            "custom": CustomTool(name="act", description="acts", on_invoke_tool=act),
            "shell": ShellTool(executor=act),
            "local_shell": LocalShellTool(executor=act),
        }
        tool = tools[kind]
        asked = [ASKED[kind], function_call("other", {}, call_id="c2")]
        agent = Agent("A", model=ScriptedModel([asked]), tools=[tool, other])
        hooks = FailAfterSibling(ended)
        with pytest.raises(UserError, match="the hook failed") as caught:
            await timestep.run_agent(agent, "go", hooks=hooks)
        # Its hook hears of the agent's own tool.
        heard.append(any(one is tool for one in hooks.heard))
        assert caught.value.run_data is not None
        items = caught.value.run_data.new_items
        return ", ".join(str(item.output) for item in items if hasattr(item, "output"))

    first = app.run(body, "w")
    assert "acted" in first
    assert made == [kind]
    assert {row["status"] for row in app.rows("tool_calls")} == {"executed"}
    assert app.replay("w") == first

    # The process dies before the run's end is recorded.
    app.execute(
        "UPDATE runs SET completed_at = NULL, status = 'running', error_type = NULL, "
        "error_message = NULL, error_turn = NULL, error = NULL, ends = NULL"
    )
    assert app.recover("w") == first
    assert made == [kind]
    assert heard == [True] * 3


def test_a_rejected_call_of_another_workflows_state_is_recorded_once(app: App) -> None:
    """The state waits for it, and it is rejected before the next step is written."""
    left: list[Any] = []

    @function_tool(needs_approval=True)
    async def act() -> str:
        return "acted"

    def agent() -> Agent[Any]:
        steps: list[Any] = [[function_call("act", {}, call_id="c1")], [assistant_message("done")]]
        return Agent("A", model=ScriptedModel(steps[len(left) :]), tools=[act])

    async def ask() -> str:
        result = await timestep.DurableRunner.run(agent(), "go")
        left.append(result.to_state())
        return "asked"

    async def go_on() -> str:
        state = left[0]
        state.reject(state.get_interruptions()[0])
        return str((await timestep.DurableRunner.run(agent(), state)).final_output)

    assert app.run(ask, "asks") == "asked"
    assert app.run(go_on, "goes on") == "done"
    (row,) = [row for row in app.rows("tool_calls") if row["status"] != "pending"]
    assert (row["call_id"], row["status"]) == ("c1", "rejected")
