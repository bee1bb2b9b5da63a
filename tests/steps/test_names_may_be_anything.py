"""Names and ids that others make may be of any length and hold anything: a run keeps them apart."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrail,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrail,
    function_tool,
)
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS

import timestep
from tests.sdk.test_mcp_servers_are_asked_once import Fake
from tests.support.dbos_app import BODIES, App
from timestep.operations.queries.runs import list_runs

LONG = secrets.token_hex(4000)
"""Longer than an index holds, and no shorter when it is compressed."""
ODD = {"long": LONG, "nul": "a\x00b", "half": "a\ud800b", "all": f"\x00\ud800{LONG}"}


def agent_of(odd: str, called: str, calls: list[str]) -> Agent[Any]:
    """An agent whose own names have odd text in them, and its tools' and calls' another."""

    @function_tool
    def tool(x: int) -> str:
        calls.append(f"tool {x}")
        return f"gave {odd} {x}"

    # As one that is no function's own, or of a server, may be named.
    tool.name = f"tool{called}"

    def check(*_: Any) -> GuardrailFunctionOutput:
        calls.append("check")
        return GuardrailFunctionOutput(odd, tripwire_triggered=False)

    def check_call(data: Any) -> ToolGuardrailFunctionOutput:
        calls.append("check of a call")
        if json.loads(data.context.tool_arguments)["x"] == 2:
            return ToolGuardrailFunctionOutput.reject_content(f"not {odd}")
        return ToolGuardrailFunctionOutput.allow()

    tool.tool_input_guardrails = [ToolInputGuardrail(check_call, name=f"call{odd}")]
    model = ScriptedModel(
        [
            [
                function_call(tool.name, {"x": 1}, call_id=f"{called}1"),
                function_call(tool.name, {"x": 2}, call_id=f"{called}2"),
                function_call(tool.name, {"x": 3}, call_id="plain"),
            ],
            [assistant_message(f"said {odd}")],
        ]
    )
    return Agent(
        f"agent{odd}",
        model=model,
        tools=[tool],
        input_guardrails=[InputGuardrail(check, name=f"guardrail{odd}", run_in_parallel=False)],
    )


@pytest.mark.parametrize("kind", ODD)
def test_a_run_with_odd_names_is_recorded_and_replayed(app: App, kind: str) -> None:
    calls: list[str] = []
    odd = ODD[kind]
    # The SDK cannot tell calls with halves of pairs apart.
    called = odd.replace("\ud800", "")

    async def body() -> str:
        agent = agent_of(odd, called, calls)
        session = timestep.DatabaseSession(f"session{odd}")
        result = await timestep.DurableRunner.run(agent, f"hi {odd}", session=session)
        shown = [item.to_input_item() for item in result.new_items]
        return json.dumps([shown, await session.get_items()])

    said = app.run(body, "odd")
    done = list(calls)
    assert done.count("check") == 1
    assert sorted(call for call in done if call.startswith("tool")) == ["tool 1", "tool 3"]
    assert app.replay("odd") == said
    assert calls == done
    (name,) = {row["tool_name"] for row in app.rows("tool_calls")}
    assert len(name.encode()) <= 1000
    assert len({row["call_id"] for row in app.rows("tool_calls")}) == 3
    if kind == "long":
        found = asyncio.run(list_runs(agent=f"agent{odd}", session_id=f"session{odd}"))
        assert [run.workflow_id for run in found.items] == ["odd"]


@pytest.mark.parametrize("kind", ODD)
def test_a_server_of_an_odd_name_is_recorded_and_replayed(app: App, kind: str) -> None:
    server = Fake(ODD[kind])

    async def body() -> str:
        model = ScriptedModel(
            [[function_call("add", {}, call_id="c1")], [assistant_message("done")]]
        )
        agent = Agent("A", model=model, mcp_servers=[server])
        return str((await timestep.DurableRunner.run(agent, "hi")).final_output)

    assert app.run(body, "w") == "done"
    asked = list(server.asked)
    assert app.replay("w") == "done"
    assert server.asked == asked
    [row] = app.rows("mcp_servers")
    assert len(row["name"].encode()) <= 1000


def test_a_call_with_an_odd_id_is_approved_by_it(app: App) -> None:
    called = f"\x00{LONG}"

    @function_tool(needs_approval=True)
    def delete() -> str:
        return "deleted"

    async def body() -> str:
        model = ScriptedModel(
            [[function_call("delete", {}, call_id=called)], [assistant_message("done")]]
        )
        result = await timestep.run_agent(Agent("A", model=model, tools=[delete]), "hi")
        return str([i.output for i in result.new_items if i.type == "tool_call_output_item"])

    BODIES["asks"] = body
    id_ = app.started("asks")
    app.until(lambda: app.rows("interruptions"))
    (asked,) = asyncio.run(timestep.list_interruptions(workflow_id=id_))
    assert timestep.resume_workflow_sync(id_, approve=[called]).resolved == [asked.id]
    answer: str = DBOS.retrieve_workflow(id_).get_result(polling_interval_sec=0.02)
    assert answer == app.replay(id_) == "['deleted']"


def test_sessions_whose_keys_would_look_alike_are_two(app: App) -> None:
    async def contents() -> list[Any]:
        keys = ["a\x00", "a\ufffd", "a\ud800", LONG, f"{LONG}!"]
        for key in keys:
            await timestep.DatabaseSession(key).add_items([{"role": "user", "content": ascii(key)}])
        return [await timestep.DatabaseSession(key).get_items() for key in keys]

    found = asyncio.run(contents())
    assert [len(items) for items in found] == [1] * 5
    assert len({row["session_key"] for row in app.rows("sessions")}) == 5


def test_a_call_that_the_sdk_cannot_tell_from_others_ends_the_run_alike(app: App) -> None:
    async def body() -> str:
        agent = agent_of("", "half\ud800", [])
        with pytest.raises(UnicodeEncodeError) as failure:
            await timestep.DurableRunner.run(agent, "hi")
        return ascii(failure.value)

    said = app.run(body, "half")
    assert app.replay("half") == said
