"""A call that an earlier execution still makes in this process is waited for, and not repeated."""

from __future__ import annotations

import asyncio
from threading import Event
from typing import Any

import pytest
from agents import Agent, RunContextWrapper, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS, SetWorkflowID

import timestep
from tests.support.dbos_app import BODIES, App
from timestep.dbos_internals import control_errors
from timestep.journal import ownership_watch
from timestep.steps import tool_call

RUNNER = timestep.DurableRunner


class Slow:
    """A workflow whose tool has effects that nobody can stop."""

    def __init__(self, *what: str, fails: bool = False, **options: Any) -> None:
        self.inside, self.may_end = Event(), Event()
        self.made: list[str] = []

        @timestep.tool_options(**options)
        @function_tool
        def act(context: RunContextWrapper[Any], what: str) -> str:
            self.made.append(what)
            if len(self.made) == len(self.what):
                self.inside.set()
            assert self.may_end.wait(60)
            if context.context is not None:
                context.context["last"] = what
            if fails:
                raise ValueError(f"{what} failed")
            return f"did {what}"

        self.what = what
        calls = [function_call("act", {"what": one}, call_id=one) for one in what]
        self.model = ScriptedModel([calls, [assistant_message("done")]])
        self.agent = Agent("A", model=self.model, tools=[act])

    async def body(self) -> str:
        context: dict[str, Any] = {"last": None}
        await RUNNER.run(self.agent, "hi", context=context)
        return str(context["last"])

    def begun(self, app: App) -> str:
        """The id of the workflow, once its tool is inside its effect."""
        BODIES["w"] = self.body
        with SetWorkflowID("w"):
            id_ = app.started("w")
        assert self.inside.wait(60)
        return id_

    def ended(self, app: App, id_: str) -> str:
        """The workflow's result, whose effect may end now."""
        self.may_end.set()
        result = str(DBOS.retrieve_workflow(id_).get_result(polling_interval_sec=0.02))
        app.until(lambda: app.executing() == [])
        return result


def cancel_and_resume(app: App, id_: str) -> None:
    """Cancel a workflow and resume it at once; another execution has begun then."""
    asyncio.run(timestep.cancel_run(id_))
    assert [row["status"] for row in app.rows("runs")] == ["cancelled"]
    DBOS.resume_workflow(id_)
    app.until(lambda: [row["status"] for row in app.rows("runs")] == ["running"])


@pytest.mark.parametrize(
    "options",
    [{}, {"safe_to_repeat": False}, {"retries": 2}, {"as_workflow": True}],
    ids=lambda options: next(iter(options), "plain"),
)
@pytest.mark.parametrize("fails", [False, True])
def test_an_effect_that_goes_on_is_made_once(
    app: App, options: dict[str, Any], fails: bool
) -> None:
    """Its result, what it changed in the context, and its failure are the new execution's."""
    slow = Slow("x", fails=fails, **options)
    id_ = slow.begun(app)
    cancel_and_resume(app, id_)
    assert slow.ended(app, id_) == "x"
    assert slow.made == ["x"]
    (call,) = app.rows("tool_calls")
    assert call["status"] == "executed"
    assert ("An error occurred" if fails else "did x") in str(call["output"])
    assert [row["position"] for row in app.rows("run_items", "position")] == [1, 2, 3]
    assert app.replay(id_) == "x"
    assert slow.made == ["x"]


def test_calls_side_by_side_are_each_made_once_however_often_their_workflow_is_cancelled(
    app: App,
) -> None:
    slow = Slow("x", "y")
    id_ = slow.begun(app)
    cancel_and_resume(app, id_)
    cancel_and_resume(app, id_)
    slow.ended(app, id_)
    assert sorted(slow.made) == ["x", "y"]
    assert [row["status"] for row in app.rows("tool_calls")] == ["executed", "executed"]
    app.replay(id_)


def test_what_the_last_of_several_executions_waited_for_is_recorded_though_it_is_cancelled(
    app: App,
) -> None:
    slow = Slow("x")
    id_ = slow.begun(app)
    cancel_and_resume(app, id_)
    asyncio.run(timestep.cancel_run(id_))
    slow.may_end.set()
    app.until(lambda: [row["status"] for row in app.rows("tool_calls")] == ["executed"])
    app.until(lambda: app.executing() == [])
    DBOS.resume_workflow(id_)
    assert slow.ended(app, id_) == "x"
    assert slow.made == ["x"]


def test_so_is_a_call_of_a_workflow_that_is_gone_on_with_from_its_checkpoint(app: App) -> None:
    slow = Slow("x")
    id_ = slow.begun(app)
    asyncio.run(timestep.cancel_run(id_))
    asyncio.run(timestep.resume_workflow(id_, from_checkpoint=True))
    app.until(lambda: [row["status"] for row in app.rows("runs")] == ["running"])
    slow.ended(app, id_)
    assert slow.made == ["x"]
    assert [row["status"] for row in app.rows("tool_calls")] == ["executed"]


def test_what_a_run_inside_gave_that_was_refused_is_no_outcome(app: App) -> None:
    """A tool's answer to that is none of its own: another execution makes it again."""
    inside, may_end = Event(), Event()
    inner = ScriptedModel([[assistant_message("yes")]])
    made: list[str] = []

    @function_tool
    def ask() -> str:
        made.append("ask")
        inside.set()
        assert may_end.wait(60)
        try:
            return str(asyncio.run(RUNNER.run(Agent("Inner", model=inner), "?")).final_output)
        except Exception as error:  # noqa: BLE001  # as the SDK answers it
            return f"answered {type(error).__name__}"

    call = function_call("ask", {}, call_id="c1")
    agent = Agent("A", model=ScriptedModel([[call], [assistant_message("done")]]), tools=[ask])

    async def body() -> Any:
        return (await RUNNER.run(agent, "hi")).final_output

    BODIES["w"] = body
    id_ = app.started("w")
    assert inside.wait(60)
    cancel_and_resume(app, id_)
    may_end.set()
    assert DBOS.retrieve_workflow(id_).get_result(polling_interval_sec=0.02) == "done"
    assert [row["output"] for row in app.rows("tool_calls")] == ["yes"]
    assert (made, len(inner.calls)) == (["ask", "ask"], 1)
    app.until(lambda: app.executing() == [])
    app.replay(id_)


@DBOS.workflow()
def run_slow_sync(key: str) -> str:
    try:
        return str(RUNNER.run_sync(AGENTS[key], "hi").final_output)
    finally:
        # The SDK leaves the thread's loop open.
        asyncio.get_event_loop().close()


AGENTS: dict[str, Agent[Any]] = {}


@pytest.mark.parametrize("turns", [None, 0, 1, 3, 8])
@pytest.mark.parametrize("is_inside", [False, True])
def test_a_workflow_that_is_no_coroutine_ends_once_its_tool_s_outcome_is_recorded(
    app: App, monkeypatch: pytest.MonkeyPatch, turns: int | None, is_inside: bool
) -> None:
    """Its loop ends with its function, however soon before its end the call lost its workflow.

    That is noticed `turns` of the loop before the call ends, if not by who watches for it.
    """
    slow = Slow("x")
    outer = ScriptedModel([[function_call("ask", {"input": "x"}, call_id="a")]] * 2)
    ask = slow.agent.as_tool("ask", "Does it.")
    AGENTS["w"] = Agent("Outer", model=outer, tools=[ask], tool_use_behavior="stop_on_first_tool")
    if not is_inside:
        AGENTS["w"] = slow.agent
    if turns is not None:
        lose_at_the_end(monkeypatch, turns)
    with SetWorkflowID("w"):
        handle = DBOS.start_workflow(run_slow_sync, "w")
    assert slow.inside.wait(60)
    asyncio.run(timestep.cancel_run("w"))
    slow.may_end.set()
    app.until(lambda: app.executing() == [])
    (call,) = [row for row in app.rows("tool_calls") if row["tool_name"] == "act"]
    assert call["status"] == "executed"
    DBOS.resume_workflow("w")
    assert handle.get_result(polling_interval_sec=0.02) == "done"
    assert slow.made == ["x"]


def lose_at_the_end(monkeypatch: pytest.MonkeyPatch, turns: int) -> None:
    """Have the first call that ends lose its workflow so many turns of the loop before."""
    made = tool_call._CallStep._made
    lost: list[bool] = []

    async def losing(self: Any) -> Any:
        result = await made(self)
        if not lost:
            lost.append(True)
            outermost = self.run if self.run.parent is None else self.run.parent
            outermost.limits.cut.now(control_errors.lost(self.run.owner, "CANCELLED"))
            for _ in range(turns):
                await asyncio.sleep(0)
        return result

    monkeypatch.setattr(tool_call._CallStep, "_made", losing)
    monkeypatch.setattr(ownership_watch.OwnershipWatch, "_look", lambda *_: None)
