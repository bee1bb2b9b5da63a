"""Runs inside runs: agents as tools, agents in guardrails, and runs that a tool starts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    RunHooks,
    Runner,
    function_tool,
    input_guardrail,
    output_guardrail,
)
from agents.testing import assistant_message, function_call

import timestep
from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import BODIES, App, run_it
from timestep import testing

DELAY = 0.003

made: list[str] = []


@pytest.fixture
def person(app: App) -> Iterator[list[str]]:
    """Approves whatever is asked, and notes it."""
    ended = threading.Event()
    asked_about: list[str] = []

    async def decide() -> None:
        while not ended.is_set():
            for asked in await timestep.list_interruptions():
                asked_about.append(f"{asked.agent_name}: {asked.tool_name} {asked.arguments}")
                await timestep.resume_workflow(str(asked.workflow_id), approve=[asked.id])
            await asyncio.sleep(0.02)

    thread = threading.Thread(target=lambda: asyncio.run(decide()))
    thread.start()
    yield asked_about
    ended.set()
    thread.join()


def assert_replays(body: Any, **options: Any) -> str:
    made.clear()
    key = f"nested-{id(body)}"
    BODIES[key] = body
    return str(testing.assert_replays_sync(run_it, key, delay=DELAY, **options))


@function_tool(needs_approval=True)
async def act(name: str) -> str:
    made.append(name)
    return f"acted {name}"


@output_guardrail
async def short(ctx: Any, agent: Any, output: Any) -> GuardrailFunctionOutput:
    await asyncio.sleep(0)
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)


def calling(name: str, *calls: tuple[str, dict[str, Any]], **options: Any) -> Agent[Any]:
    """An agent that makes these calls at once, and tells their outputs."""

    def answer(items: list[Any]) -> list[Any]:
        if done := outputs(items):
            return [assistant_message(f"{name}({', '.join(done[k] for k in sorted(done))})")]
        return [
            function_call(tool, arguments, call_id=f"{name}{index}")
            for index, (tool, arguments) in enumerate(calls)
        ]

    return Agent(name=name, model=AnsweringModel(answer), output_guardrails=[short], **options)


@pytest.mark.parametrize("stream", [False, True])
def test_agents_as_tools_ask_at_every_depth(app: App, person: list[str], stream: bool) -> None:
    events: list[str] = []

    async def heard(event: Any) -> None:
        events.append(event["agent"].name)

    third = calling("Third", ("act", {"name": "3"}), tools=[act])
    second = calling(
        "Second",
        ("act", {"name": "2"}),
        ("third", {"input": "x"}),
        tools=[act, third.as_tool("third", "Third.", on_stream=heard)],
    )
    first = calling(
        "First",
        ("second", {"input": "x"}),
        ("act", {"name": "1"}),
        tools=[act, second.as_tool("second", "Second.", needs_approval=True)],
    )

    async def body() -> str:
        result = await timestep.run_agent(first, "go", stream=stream)
        return f"{result.final_output} {result.context_wrapper.usage.requests}"

    said = assert_replays(body, times=5)
    assert said == "First(Second(acted 2, Third(acted 3)), acted 1) 6"
    assert sorted(made) == ["1", "2", "3"]
    assert sorted(person) == sorted(
        [
            "First: act {'name': '1'}",
            "First: second {'input': 'x'}",
            "Second: act {'name': '2'}",
            "Third: act {'name': '3'}",
        ]
    )
    runs = {app.names("agents", row["agent_id"]): row for row in app.rows("runs")}
    assert runs["First"]["parent_run_id"] is None
    assert runs["Second"]["parent_run_id"] == runs["First"]["id"]
    assert runs["Third"]["parent_run_id"] == runs["Second"]["id"]
    assert {row["root_run_id"] for row in runs.values()} == {runs["First"]["id"]}
    assert {row["status"] for row in runs.values()} == {"completed"}
    assert "Third" in events
    # What each used itself; what all of them did is their sum over the root.
    own = {row["run_id"]: row["requests"] for row in app.rows("usage_metrics")}
    assert own == {row["id"]: 2 for row in runs.values()}
    found = asyncio.run(timestep.get_run(str(runs["First"]["id"])))
    assert found.total_usage is not None
    assert (found.usage.requests, found.total_usage.requests) == (2, 6)


@pytest.mark.parametrize("needs_approval", [False, True])
def test_an_agent_that_must_not_be_repeated_is_in_no_doubt_after_its_pause(
    app: App, person: list[str], needs_approval: bool
) -> None:
    second = calling("Second", ("act", {"name": "2"}), tools=[act])
    tool = second.as_tool("second", "Second.", needs_approval=needs_approval)
    once = timestep.tool_options(safe_to_repeat=False)(tool)
    first = calling("First", ("second", {"input": "x"}), tools=[once])

    async def body() -> str:
        return str((await timestep.run_agent(first, "go")).final_output)

    assert assert_replays(body, times=2) == "First(Second(acted 2))"
    asked = ["First: second {'input': 'x'}", "Second: act {'name': '2'}"]
    assert person == asked[not needs_approval :]
    assert {row["reason"] for row in app.rows("interruptions")} == {"needs_approval"}


class Heard(RunHooks[Any]):
    """Notes before each model's call and after each tool's whether the run is a replay."""

    def __init__(self) -> None:
        self.replayed: list[bool] = []

    async def on_llm_start(self, *args: Any) -> None:
        self.replayed.append(timestep.is_replaying())

    async def on_tool_end(self, *args: Any) -> None:
        self.replayed.append(timestep.is_replaying())


def test_a_replay_with_a_pause_in_it_is_one_to_its_end(app: App, person: list[str]) -> None:
    heard = Heard()
    second = calling("Second", ("act", {"name": "2"}), tools=[act])
    first = calling("First", ("second", {"input": "x"}), tools=[second.as_tool("second", "2.")])

    async def body() -> str:
        return str((await timestep.run_agent(first, "go", hooks=heard)).final_output)

    said = app.run(body, workflow_id="w")
    assert heard.replayed == [False, False, False]
    heard.replayed.clear()
    assert app.replay("w") == said
    assert heard.replayed == [True, True, True]


def test_agents_in_guardrails_are_runs_of_their_own(app: App) -> None:
    judge = calling("Judge", ("look", {}), tools=[])

    @function_tool
    async def look() -> str:
        made.append("look")
        return "fine"

    judge.tools = [look]

    async def judged(ctx: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
        said = (await Runner.run(judge, str(given))).final_output
        return GuardrailFunctionOutput(output_info=said, tripwire_triggered=False)

    agent = Agent(
        name="Judged",
        model=AnsweringModel(lambda items: [assistant_message("said")]),
        input_guardrails=[input_guardrail(judged)],
        output_guardrails=[output_guardrail(judged)],
    )

    async def body() -> str:
        return str((await timestep.DurableRunner.run(agent, "go")).final_output)

    assert assert_replays(body, times=5) == "said"
    assert made == ["look", "look"]
    root, *inner = sorted(app.rows("runs"), key=lambda row: row["parent_run_id"] is not None)
    assert [row["parent_run_id"] for row in inner] == [root["id"], root["id"]]
    checks = [r for r in app.rows("guardrail_results") if r["run_id"] == root["id"]]
    assert [r["output_info"] for r in checks] == ["Judge(fine)", "Judge(fine)"]


def test_runs_side_by_side_in_one_tool_start_in_any_order(app: App) -> None:
    member = calling("Member", ("look", {}), tools=[])
    delays = {"a": 0.01, "b": 0.005, "c": 0.0}

    @function_tool
    async def look() -> str:
        made.append("look")
        return "seen"

    member.tools = [look]

    @function_tool
    async def team() -> str:
        async def one(name: str) -> str:
            await asyncio.sleep(delays[name])
            return f"{name}:{(await Runner.run(member, name)).final_output}"

        return " ".join(await asyncio.gather(*map(one, delays)))

    outer = calling("Outer", ("team", {}), tools=[team])

    async def body() -> str:
        return str((await timestep.DurableRunner.run(outer, "go")).final_output)

    assert assert_replays(body, times=5) == "Outer(a:Member(seen) b:Member(seen) c:Member(seen))"
    assert len(made) == 3
    assert len(app.rows("runs")) == 4


def test_a_run_that_waits_inside_a_tool(app: App, person: list[str]) -> None:
    inner = calling("Inner", ("act", {"name": "x"}), tools=[act])

    @function_tool
    async def ask() -> str:
        return str((await timestep.run_agent(inner, "go")).final_output)

    outer = calling("Outer", ("ask", {}), tools=[ask])

    async def body() -> str:
        return str((await timestep.run_agent(outer, "go")).final_output)

    assert assert_replays(body, times=3) == "Outer(Inner(acted x))"
    assert made == ["x"]
    assert person == ["Inner: act {'name': 'x'}"]
