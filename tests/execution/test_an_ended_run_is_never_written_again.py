"""The row of a run that has ended stays as it is, however often its workflow is replayed."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from agents import Agent, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

from tests.support.dbos_app import App
from timestep import DurableRunner
from timestep.journal.recorder import recorder


def caller(tool: Any) -> Agent[Any]:
    """An agent that calls a tool, and then answers."""
    turns = [[function_call(tool.name, {}, call_id="c1")], [assistant_message("done")]]
    return Agent(name="A", model=ScriptedModel(turns), tools=[tool])


@pytest.mark.parametrize("fails", [True, False])
def test_a_run_that_its_workflow_left_going_stays_abandoned(app: App, fails: bool) -> None:
    left: list[asyncio.Future[Any]] = []
    patience = 60.0

    async def body() -> str:
        called = asyncio.Event()

        @function_tool
        async def act() -> str:
            called.set()
            await asyncio.Event().wait()
            return "never"

        left.append(asyncio.ensure_future(DurableRunner.run(caller(act), "wait")))
        await asyncio.wait([asyncio.ensure_future(called.wait())], timeout=patience)
        if fails:
            raise ValueError("no")
        return "over"

    expected = pytest.raises(ValueError, match="no") if fails else contextlib.nullcontext()
    with expected:
        app.run(body, workflow_id="w")
    (run,) = app.rows("runs")
    assert (run["status"], run["cancel_reason"]) == ("cancelled", "abandoned")
    # A replay calls no tool again.
    patience = 0.1
    for _ in range(2):
        with expected:
            app.recover("w")
        assert app.rows("runs") == [run]


def test_a_run_whose_loop_ends_at_any_point_is_abandoned(app: App) -> None:
    """The workflow's loop ends at many points of another run."""
    left: list[asyncio.Future[Any]] = []

    async def body() -> str:
        left.append(asyncio.ensure_future(DurableRunner.run(caller(act), "wait")))
        for _ in range(ticks):
            await asyncio.sleep(0)
        return "over"

    @function_tool
    def act() -> str:
        return "acted"

    for ticks in range(0, 180, 12):
        app.run(body, workflow_id=f"w{ticks}")
    # What a host does when it starts.
    recorder().end_cancelled()
    statuses = {(run["status"], run["cancel_reason"]) for run in app.rows("runs")}
    assert statuses <= {("cancelled", "abandoned"), ("completed", None)}
    assert ("cancelled", "abandoned") in statuses


@pytest.mark.parametrize("how", ["immediate", "after_turn", "task"])
def test_a_run_that_its_code_stops_last_of_all_keeps_its_times(app: App, how: Any) -> None:
    @function_tool
    def act() -> str:
        return "acted"

    async def body() -> str:
        if how == "task":
            task = asyncio.ensure_future(DurableRunner.run(caller(act), "hi"))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            return "cancelled"
        result = DurableRunner.run_streamed(caller(act), "hi")
        async for event in result.stream_events():
            if event.type == "run_item_stream_event":
                result.cancel(how)
        return str(result.final_output)

    said = app.run(body, workflow_id="w")
    before = app.everything()
    for _ in range(2):
        assert app.recover("w") == said
        assert app.everything()["runs"] == before["runs"]
    assert app.everything()["run_items"] == before["run_items"]
