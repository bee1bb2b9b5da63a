"""Work that a run leaves going when it ends, and tasks that begin runs after one that is gone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agents import Agent, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

import timestep
from tests.support.dbos_app import App
from tests.support.passing_time import HOUR, pass_time
from timestep.errors import RunTimeoutError

RUNNER = timestep.DurableRunner


def calling(tool: Any) -> Agent[Any]:
    script = [[function_call(tool.name, {"name": "a"}, call_id=tool.name)]]
    return Agent(
        tool.name, model=ScriptedModel([*script, [assistant_message("done")]]), tools=[tool]
    )


def test_a_run_that_an_ended_one_left_going_ends_with_those_around_both(app: App) -> None:
    left: list[asyncio.Task[Any]] = []
    works = asyncio.Event()

    @function_tool
    async def hang(name: str) -> str:
        works.set()
        await asyncio.Event().wait()
        return name

    @function_tool
    async def leave(name: str) -> str:
        left.append(asyncio.ensure_future(RUNNER.run(calling(hang), "inmost")))
        await works.wait()
        return name

    @function_tool
    async def go(name: str) -> str:
        await RUNNER.run(calling(leave), "inner")
        pass_time()
        await asyncio.Event().wait()
        return name

    async def body() -> str:
        with pytest.raises(RunTimeoutError):
            await RUNNER.run(calling(go), "outer", timeout=HOUR)
        left[0].cancel()
        await asyncio.wait(left)
        return "done"

    assert app.run(body, workflow_id="w") == "done"
    ended = {row["input"]: (row["status"], row["cancel_reason"]) for row in app.rows("runs")}
    assert ended == {
        "outer": ("failed", None),
        "inner": ("completed", None),
        "inmost": ("cancelled", "timeout"),
    }


def test_a_run_that_no_task_begins_is_the_same_whether_an_earlier_task_is_there(app: App) -> None:
    """A callback of the loop has no task, nor has one that is gone."""
    executions: list[int] = []
    model = ScriptedModel([[assistant_message("two")], [assistant_message("twice")]])

    async def body() -> str:
        executions.append(1)
        streamed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def begin() -> None:
            streamed.set_result(RUNNER.run_streamed(Agent("Two", model=model), "two"))

        async def first() -> None:
            one = Agent("One", model=ScriptedModel([[assistant_message("one")]]))
            await RUNNER.run(one, "one")
            asyncio.get_running_loop().call_later(0.1, begin)

        zero = Agent("Zero", model=ScriptedModel([[assistant_message("zero")]]))
        await RUNNER.run(zero, "zero")
        task = asyncio.ensure_future(first())
        await task
        if len(executions) == 2:
            del task
        result = await streamed
        async for _ in result.stream_events():
            pass
        return str(result.final_output)

    assert app.run(body, workflow_id="w") == "two"
    assert app.recover("w") == "two"
    assert len(model.calls) == 1
    assert sorted(row["input"] for row in app.rows("runs")) == ["one", "two", "zero"]
