"""Runs go on, and call nothing, whatever keys a provider, a person's row or a tool has."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import pytest
from agents import Agent, OpenAIResponsesModel, RunContextWrapper, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from openai import AsyncOpenAI
from psycopg.types.json import Jsonb

import timestep
from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import BODIES, App
from tests.support.hostile_documents import Registered, executed
from tests.support.model_provider import Provider, answers_with, provider

__all__ = ["provider"]


@pytest.fixture
def attacks(tmp_path: Path) -> Any:
    """Keys that name code; what they name makes a file, or is noticed, if it is called."""
    executed.clear()
    made = tmp_path / "made"
    yield [
        {"$type": "subprocess:Popen", "value": ["touch", str(made)]},
        {"$type": "tests.support.hostile_documents:Unregistered", "value": {"x": 1}},
        {"$type": "System.Text.Json.JsonElement, System.Text.Json"},
        {"$text": f"__import__('os').mknod({str(made)!r})"},
    ]
    assert not made.exists()
    assert executed == []


def test_what_a_provider_adds_is_recorded_and_never_called(
    app: App, provider: Provider, attacks: list[dict[str, Any]]
) -> None:
    for number, keys in enumerate(attacks):
        heard: list[Any] = []

        async def body(keys: dict[str, Any] = keys, heard: list[Any] = heard) -> str:
            async with AsyncOpenAI(base_url=provider.url, api_key="k") as client:
                model = OpenAIResponsesModel(model="m", openai_client=client)
                whole = await timestep.DurableRunner.run(Agent(name="A", model=model), "go")
                streamed = timestep.DurableRunner.run_streamed(Agent(name="A", model=model), "go")
                async for event in streamed.stream_events():
                    if event.type == "raw_response_event":
                        heard.append(event.data)
                said = [result.raw_responses[0].output[0] for result in (whole, streamed)]
                assert [item.model_extra for item in said] == [keys, keys]
                return f"{whole.final_output} {streamed.final_output}"

        provider.behaviours = [answers_with(keys), answers_with(keys)]
        assert app.run(body, f"w{number}") == "Hello Hello"
        assert app.replay(f"w{number}") == "Hello Hello"
        assert len(provider.requests) == 2 * (number + 1)
        first, second = heard[: len(heard) // 2], heard[len(heard) // 2 :]
        assert first == second
        assert first[0].type == "response.created"
        assert all(keys.items() <= (event.model_extra or {}).items() for event in first)

        async def follow(number: int = number) -> list[timestep.RunEvent]:
            found = [event async for event in timestep.follow(f"w{number}")]
            return [event for event in found if event.kind in ("item", "model")]

        events = asyncio.run(follow())
        assert all(keys.items() <= event.data.items() for event in events)
        assert {event.type for event in events if event.kind == "model"} == {
            event.type for event in first
        }


def test_an_outcome_that_somebody_wrote_as_a_row_is_data(
    app: App, attacks: list[dict[str, Any]]
) -> None:
    @function_tool(needs_approval=True)
    def remove() -> str:
        return "removed"

    count = len(attacks)
    calls = [function_call("remove", {}, call_id=f"c{n}") for n in range(count + 1)]

    def answer(items: list[Any]) -> list[Any]:
        told = outputs(items)
        return [assistant_message(" / ".join(map(str, told.values())))] if told else calls

    agent = Agent(name="A", model=AnsweringModel(answer), tools=[remove])

    async def body() -> str:
        return str((await timestep.run_agent(agent, "go")).final_output)

    BODIES["rows"] = body
    workflow_id = app.started("rows")
    app.until(lambda: len(app.rows("interruptions")) == count + 1)
    with psycopg.connect(app.url) as connection:
        for number, keys in enumerate(attacks):
            connection.execute(
                "UPDATE interruptions SET resolution_action = 'supply', resolved_at = now(), "
                "resolution_output = %s WHERE tool_call_id = (SELECT id FROM tool_calls "
                "WHERE call_id = %s)",
                (Jsonb(keys), f"c{number}"),
            )
    timestep.resume_workflow_sync(workflow_id, approve=[f"c{count}"])
    told = " / ".join([*map(str, attacks), "removed"])

    def ended() -> Any:
        (run,) = app.rows("runs")
        assert run["status"] != "failed", run["error"]
        return run["status"] == "completed" and run

    assert app.until(ended)["final_output"] == told


def test_what_tools_contexts_and_sessions_hold_is_data(
    app: App, attacks: list[dict[str, Any]]
) -> None:
    @function_tool
    async def look(context: RunContextWrapper[dict[str, Any]], number: int) -> Any:
        context.context[f"seen {number}"] = attacks[number]
        return attacks[number]

    @function_tool
    async def gather() -> Registered:
        return Registered(attacks)

    calls = [function_call("look", {"number": n}, call_id=f"c{n}") for n in range(len(attacks))]
    turns = [[*calls, function_call("gather", {}, call_id="g")], [assistant_message("ok")]]
    agent: Agent[Any] = Agent(name="A", model=ScriptedModel(turns), tools=[look, gather])
    seen: list[Any] = []

    async def body() -> str:
        session = timestep.DatabaseSession("s")
        context = dict(attacks[0])
        result = await timestep.DurableRunner.run(agent, "go", context=context, session=session)
        given = [item.output for item in result.new_items if item.type == "tool_call_output_item"]
        await session.add_items(attacks)  # type: ignore[arg-type]  # of no item
        kept = (await session.get_items())[-len(attacks) :]
        seen.append((given, kept, context))
        return "done"

    app.run(body, "w")
    app.replay("w")
    contexts = {**attacks[0], **{f"seen {n}": keys for n, keys in enumerate(attacks)}}
    assert seen == [([*attacks, Registered(attacks)], attacks, contexts)] * 2
