"""The helper with which users test that their workflows replay."""

from __future__ import annotations

from typing import Any

import pytest
from agents import Agent
from agents.testing import assistant_message
from dbos import DBOS

import timestep
from tests.support.conversational_model import AnsweringModel
from tests.support.dbos_app import BODIES, App, run_it
from timestep import testing
from timestep.errors import UnknownRunError

agent = Agent(name="A", model=AnsweringModel(lambda items: [assistant_message("x")]))
executions: list[int] = []


async def different_each_time() -> str:
    executions.append(1)
    await timestep.DurableRunner.run(agent, "always")
    if len(executions) > 1:
        await timestep.DurableRunner.run(agent, "only in a replay")
    return "done"


def test_what_is_done_anew_is_named(app: App) -> None:
    executions.clear()
    BODIES["different"] = different_each_time
    with pytest.raises(AssertionError) as caught:
        testing.assert_replays_sync(run_it, "different")
    said = str(caught.value)
    assert "replay 1 of workflow" in said
    assert "step 'turn 1: A' of run" in said
    assert "runs: row" in said
    assert "is new" in said


@DBOS.workflow()
def not_async(given: str) -> str:
    return given.upper()


def test_a_workflow_that_is_not_async_is_replayed_too(app: App) -> None:
    assert testing.assert_replays_sync(not_async, "hi", times=2) == "HI"


def test_an_error_of_the_workflow_reaches_the_test(app: App) -> None:
    async def body() -> Any:
        raise LookupError("no such thing")

    BODIES["raises"] = body
    with pytest.raises(LookupError, match="no such thing"):
        testing.assert_replays_sync(run_it, "raises")


def test_a_failure_that_no_step_holds_is_told_at_once(app: App) -> None:
    failed: list[str] = []

    def instructions(context: Any, agent: Any) -> str:
        if not failed:
            failed.append("once")
            raise LookupError("only once")
        return "Answer."

    async def body() -> Any:
        failing = Agent("A", instructions=instructions, model=agent.model)
        await timestep.DurableRunner.run(failing, "hi")

    BODIES["once"] = body
    with pytest.raises(AssertionError, match=r"LookupError: 'only once'.*no recorded step holds"):
        testing.assert_replays_sync(run_it, "once", patience=20)


def test_an_unknown_workflow_is_an_error(app: App) -> None:
    with pytest.raises(UnknownRunError, match="nothing"):
        testing.assert_replays_sync("nothing")
