"""A streamed run goes on behind a reader who leaves it, and no number depends on how fast."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agents import Agent, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS

from tests.support.dbos_app import BODIES, App
from timestep import DurableRunner
from timestep.dbos_internals.step_numbers import BLOCK, StepNumbers
from timestep.execution.run import Run
from timestep.journal.recorder import recorder
from timestep.journal.unfinished_executions import look_after


def caller(made: list[str], name: str, delay: float = 0.0) -> Agent[Any]:
    @function_tool
    async def job(n: int) -> str:
        made.append(f"{name}{n}")
        await asyncio.sleep(delay)
        return f"ok {n}"

    calls = [[function_call("job", {"n": n}, call_id=f"c{n}")] for n in range(2)]
    model = ScriptedModel([*calls, [assistant_message(f"done {name}")]])
    return Agent(name, model=model, tools=[job])


class Workflow:
    """A workflow on DBOS's own loop, as in a host: that goes on when the workflow has ended."""

    def __init__(self, app: App, body: Any) -> None:
        look_after(recorder())
        BODIES["w"] = body
        self._app = app
        self.id = app.started("w")

    def result(self) -> str:
        try:
            return str(DBOS.retrieve_workflow(self.id).get_result(polling_interval_sec=0.02))
        finally:
            self._app.until(lambda: not self._app.executing())


@pytest.mark.parametrize("pause", [0.0, 0.002, 0.02])
@pytest.mark.parametrize("is_read_later", [True, False])
def test_a_run_that_is_begun_after_a_stream_was_left_is_the_same_in_a_replay(
    app: App, pause: float, is_read_later: bool
) -> None:
    made: list[str] = []

    async def body() -> str:
        stream = DurableRunner.run_streamed(caller(made, "A"), "one")
        async for _ in stream.stream_events():
            break
        await asyncio.sleep(pause)
        result = await DurableRunner.run(caller(made, "B", 0.002), "two")
        said = [result.final_output]
        if is_read_later:
            async for _ in stream.stream_events():
                pass
            said.append(stream.final_output)
        return repr(said)

    workflow = Workflow(app, body)
    answer = workflow.result()
    app.until(lambda: "running" not in [row["status"] for row in app.rows("runs")])
    before = list(made)
    assert sorted(before)[-2:] == ["B0", "B1"]
    pause = 0.01
    assert app.replay(workflow.id) == answer
    assert made == before


@pytest.mark.parametrize("is_caught", [True, False])
def test_a_run_whose_reader_raised_ends_with_its_workflow(app: App, is_caught: bool) -> None:
    made: list[str] = []

    async def body() -> str:
        try:
            stream = DurableRunner.run_streamed(caller(made, "A"), "one")
            async for _ in stream.stream_events():
                raise ValueError("mine")
        except ValueError:
            if not is_caught:
                raise
        return "over"

    workflow = Workflow(app, body)
    for execute in (workflow.result, lambda: app.replay(workflow.id)):
        if is_caught:
            assert execute() == "over"
        else:
            with pytest.raises(ValueError, match="mine"):
                execute()
        # At once, and not when it next had something to write.
        app.until(lambda: app.rows("runs")[0]["status"] == "cancelled")
        assert app.rows("runs")[0]["cancel_reason"] == "abandoned"
    assert recorder().kept.of(workflow.id) == []


def test_what_an_earlier_version_recorded_of_a_stream_is_replayed(app: App) -> None:
    """Streamed runs had the numbers that come next in their task."""
    made: list[str] = []

    async def body() -> str:
        said = []
        for name in "AB":
            stream = DurableRunner.run_streamed(caller(made, name), name)
            async for _ in stream.stream_events():
                pass
            said.append(stream.final_output)
        return repr(said)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "set_numbers_aside", lambda _: None)
        workflow = Workflow(app, body)
        answer = workflow.result()
    steps = app.steps(workflow.id)
    assert steps[0] == "turn 1: A"
    before = list(made)
    assert app.replay(workflow.id) == answer
    assert (app.steps(workflow.id), made) == (steps, before)


def test_a_stream_draws_between_what_its_task_draws_before_and_after() -> None:
    """DBOS's own fork copies the steps with the numbers below the one that it begins with."""
    task = StepNumbers(block=3)
    begun = 3 * BLOCK + 7
    for number, count in ((begun, 1_000), (begun + 400_000, 100), (begun + 950_000, 0)):
        task._next = number
        stream = task.set_aside(number)
        assert task._next == number + count
        assert (stream._next, stream._numbers) == (number, range(number + 1, number + 1 + count))


def test_a_stream_that_needs_more_numbers_has_those_of_its_task(app: App) -> None:
    drawn: list[int] = []

    async def body() -> str:
        task = StepNumbers(block=3)
        task._next = 3 * BLOCK + 400_000
        stream = task.set_aside(task._next)
        drawn.extend(stream.draw().step_id for _ in range(102))
        return "drawn"

    app.run(body)
    assert drawn == list(range(3 * BLOCK + 400_001, 3 * BLOCK + 400_103))
