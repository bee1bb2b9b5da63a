"""Failures that were seen in other systems of this kind, each kept from happening here.

Those that belong to one feature are tested with it; here are the ones that belong to none.
"""

from __future__ import annotations

import importlib.metadata
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from agents import Agent, RunContextWrapper, function_tool
from agents.run_state import CURRENT_SCHEMA_VERSION
from agents.testing import ScriptedModel, assistant_message, function_call

import timestep
from tests.support.dbos_app import App
from tests.support.decisions import waiting

DONE: list[str] = []


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    DONE.clear()


@function_tool(needs_approval=True)
async def delete(ctx: RunContextWrapper[dict[str, int]], name: str) -> str:
    DONE.append(name)
    ctx.context["deleted"] += 1
    return f"deleted {name}"


def deleting(*names: str) -> Agent[Any]:
    calls = [function_call("delete", {"name": name}, call_id=f"c-{name}") for name in names]
    model = ScriptedModel([calls, [assistant_message("done")]])
    return Agent(name="Operator", model=model, tools=[delete])


def test_waking_a_live_workflow_does_not_begin_it_a_second_time(app: App) -> None:
    begun: list[str] = []

    async def body() -> str:
        begun.append("body")
        context = {"deleted": 0}
        return str((await timestep.run_agent(deleting("a"), "go", context=context)).final_output)

    with ThreadPoolExecutor() as pool:
        outcome = pool.submit(app.run, body, "w")
        app.until(waiting)
        # Ten people say yes at once; each of them wakes the workflow.
        said = [
            pool.submit(timestep.resume_workflow_sync, "w", approve="all", by=str(n))
            for n in range(10)
        ]
        assert outcome.result(60) == "done"
        assert [len(result.result(60).resolved) for result in said] == [1] * 10
    assert (begun, DONE) == (["body"], ["a"])
    assert [row["status"] for row in app.rows("tool_calls")] == ["executed"]
    assert [row["state_type"] for row in app.rows("run_states") if row["is_active"]] == ["final"]


def test_decisions_reach_their_calls_when_the_context_is_given_again(app: App) -> None:
    context = {"deleted": 0}

    async def body() -> str:
        # The context goes to the runner again with the state of the run that stopped.
        result = await timestep.run_agent(deleting("a", "b", "c"), "go", context=context)
        return f"{result.final_output} {context}"

    with ThreadPoolExecutor() as pool:
        outcome = pool.submit(app.run, body, "w")
        asked = {item.call_id: item for item in app.until(waiting)}
        assert len({item.id for item in asked.values()}) == 3
        decision = {"approve": ["c-b"], "reject": ["c-a", "c-c"]}
        timestep.resume_workflow_sync("w", **decision, message="not this one")
        assert outcome.result(60) == "done {'deleted': 1}"
    assert DONE == ["b"]
    assert {row["call_id"]: row["status"] for row in app.rows("tool_calls")} == {
        "c-a": "rejected",
        "c-b": "executed",
        "c-c": "rejected",
    }
    outputs = [
        row["item_data"]["output"]
        for row in app.rows("run_items", "position")
        if row["item_type"] == "tool_call_output_item"
    ]
    assert outputs == ["not this one", "deleted b", "not this one"]


def test_every_state_tells_the_versions_that_can_read_it(app: App) -> None:
    @function_tool
    async def echo() -> str:
        return "echo"

    model = ScriptedModel([[function_call("echo", {}, call_id="c1")], [assistant_message("done")]])

    async def body() -> str:
        agent = Agent(name="A", model=model, tools=[echo])
        return str((await timestep.DurableRunner.run(agent, "hi")).final_output)

    assert app.run(body, "w") == "done"
    states = app.rows("run_states")
    assert len(states) == 1
    told = {(row["sdk"], row["sdk_version"], row["schema_version"]) for row in states}
    assert told == {("python", importlib.metadata.version("openai-agents"), CURRENT_SCHEMA_VERSION)}


def test_ids_of_a_provider_may_repeat_and_tools_of_two_agents_share_a_name(app: App) -> None:
    def searching(place: str) -> Any:
        @function_tool(name_override="search", description_override=f"Searches the {place}.")
        async def search(what: str) -> str:
            DONE.append(f"{place}: {what}")
            return f"{what} from {place}"

        return search

    def team() -> Agent[Any]:
        second = Agent(
            name="Second",
            model=ScriptedModel(
                [
                    [function_call("search", {"what": "tea"}, call_id="call_2")],
                    [assistant_message("!")],
                ]
            ),
            tools=[searching("attic")],
        )
        model = ScriptedModel(
            [
                [function_call("search", {"what": "tea"}, call_id="call_0")],
                [function_call("transfer_to_second", {}, call_id="call_1")],
            ]
        )
        return Agent(name="First", model=model, tools=[searching("cellar")], handoffs=[second])

    async def body() -> str:
        # Each run's provider counts its calls from nought again.
        results = [await timestep.DurableRunner.run(team(), "hi") for _ in range(2)]
        items = [item for result in results for item in result.new_items]
        return str([item.output for item in items if item.type == "tool_call_output_item"])

    said = app.run(body, "w")
    assert said == str(["tea from cellar", "tea from attic"] * 2)
    assert app.replay("w") == said
    assert DONE == ["cellar: tea", "attic: tea"] * 2
    calls = app.rows("tool_calls", "created_at")
    told = [(row["call_id"], row["output"], app.names("agents", row["agent_id"])) for row in calls]
    assert (
        told
        == [
            ("call_0", "tea from cellar", "First"),
            ("call_2", "tea from attic", "Second"),
        ]
        * 2
    )
    assert len({row["run_id"] for row in calls}) == 2
    assert len({row["tool_id"] for row in calls if row["run_id"] == calls[0]["run_id"]}) == 2
