"""Runs that stop and go on: side by side, with more input, from another workflow's state."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    HostedMCPTool,
    InputGuardrailTripwireTriggered,
    Runner,
    RunState,
    ToolGuardrailFunctionOutput,
    function_tool,
    input_guardrail,
    tool_input_guardrail,
)
from agents.testing import assistant_message, function_call
from openai.types.responses.response_output_item import McpApprovalRequest

import timestep
from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import BODIES, App, run_it
from timestep import testing
from timestep.journal.recorder import Recorder

DELAY = 0.005

made: list[str] = []


chance = random.Random(3)


@tool_input_guardrail
async def slow(data: Any) -> ToolGuardrailFunctionOutput:
    await asyncio.sleep(chance.uniform(0, DELAY))
    return ToolGuardrailFunctionOutput.allow()


@function_tool(needs_approval=True, tool_input_guardrails=[slow])
async def delete(name: str) -> str:
    made.append(name)
    return f"deleted {name}"


@function_tool(needs_approval=True)
async def erase(name: str) -> str:
    made.append(name)
    return f"erased {name}"


def told(items: list[Any]) -> list[Any]:
    return [assistant_message(" ".join(f"{k}={v}" for k, v in sorted(outputs(items).items())))]


def deleter(*names: str, **options: Any) -> Agent[Any]:
    def answer(items: list[Any]) -> list[Any]:
        if outputs(items):
            return told(items)
        return [
            function_call("erase" if name == "e" else "delete", {"name": name}, call_id=f"c{index}")
            for index, name in enumerate(names)
        ]

    return Agent(name="Deleter", model=AnsweringModel(answer), tools=[delete, erase], **options)


@pytest.fixture
def person(app: App) -> Iterator[None]:
    """Approves whatever is asked, the newest question first."""
    ended = threading.Event()

    async def decide() -> None:
        while not ended.is_set():
            for asked in reversed(await timestep.list_interruptions()):
                await timestep.resume_workflow(str(asked.workflow_id), approve=[asked.id])
            await asyncio.sleep(0.02)

    thread = threading.Thread(target=lambda: asyncio.run(decide()))
    thread.start()
    yield
    ended.set()
    thread.join()


def assert_replays(body: Any, **options: Any) -> str:
    made.clear()
    key = f"resumed-{id(body)}"
    BODIES[key] = body
    return str(testing.assert_replays_sync(run_it, key, **options))


def test_runs_that_wait_side_by_side_are_each_woken_and_replay_the_same(
    app: App, person: None
) -> None:
    agents = [deleter(f"{n}a", f"{n}b") for n in range(3)]

    async def one(agent: Agent[Any]) -> str:
        return str((await timestep.run_agent(agent, "go")).final_output)

    async def body() -> str:
        return " | ".join(await asyncio.gather(*map(one, agents)))

    said = assert_replays(body, times=10, delay=DELAY)
    assert said == " | ".join(f"c0=deleted {n}a c1=deleted {n}b" for n in range(3))
    assert sorted(made) == ["0a", "0b", "1a", "1b", "2a", "2b"]


def test_a_run_that_starts_beside_another_replays_whichever_still_goes_on(app: App) -> None:
    slow, late = (
        Agent(name=name, model=AnsweringModel(lambda items: [assistant_message("x")]))
        for name in ("Slow", "Late")
    )
    ended = asyncio.Event()
    is_first = [True]

    async def after() -> None:
        if not is_first.pop():
            await ended.wait()
        is_first.append(False)
        await timestep.DurableRunner.run(late, "late")

    async def before() -> None:
        await timestep.DurableRunner.run(slow, "slow")
        ended.set()

    async def body() -> str:
        await asyncio.gather(before(), after())
        return "done"

    assert assert_replays(body, times=2) == "done"
    assert len(app.rows("runs")) == 2


def test_input_that_is_added_and_trips_replays_at_once(app: App) -> None:
    @input_guardrail
    async def polite(ctx: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(
            output_info=None, tripwire_triggered="rude" in str(given[-1] if given else "")
        )

    agent = deleter("a", input_guardrails=[polite])

    async def body() -> str:
        result = await timestep.run_agent(agent, "go", on_interruption="return")
        state = result.to_state()
        state.approve(result.interruptions[0])
        state.add_input("something rude")
        try:
            await timestep.run_agent(agent, state)
        except InputGuardrailTripwireTriggered:
            return "tripped"
        return "it passed"

    assert assert_replays(body, times=3, delay=DELAY) == "tripped"
    assert [(r["turn"], r["tripwire_triggered"]) for r in app.rows("guardrail_results")] == [
        (1, False),
        (2, True),
    ]


def test_calls_of_another_workflows_state_replay_the_same(app: App) -> None:
    agent = deleter("e", "a", "b", "c")
    documents: list[Any] = []

    async def asks() -> str:
        result = await timestep.run_agent(agent, "go", on_interruption="return")
        documents.append(result.to_state().to_json())
        return "asked"

    async def answers() -> str:
        state = await RunState.from_json(agent, documents[0])
        for item in state.get_interruptions():
            state.approve(item)
        return str((await timestep.run_agent(agent, state)).final_output)

    assert assert_replays(asks) == "asked"
    said = assert_replays(answers, times=10, delay=DELAY)
    assert said == "c0=erased e c1=deleted a c2=deleted b c3=deleted c"
    calls = {row["call_id"]: row["status"] for row in app.rows("tool_calls") if row["turn"] == 1}
    assert calls == dict.fromkeys(("c0", "c1", "c2", "c3"), "executed")


def test_rows_of_calls_are_there_before_what_refers_to_them(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first check that ends writes the rows of all calls; the others' rows refer to them."""
    agent = deleter("a", "b", "c")
    commit = Recorder.commit
    late: list[float] = []

    async def committed(recorder: Any, owner: Any, rows: Any, *args: Any, **given: Any) -> None:
        if "tool_calls" in rows and not late:
            late.append(0.1)
            await asyncio.sleep(late[0])
        await commit(recorder, owner, rows, *args, **given)

    async def body() -> str:
        stopped = await Runner.run(agent, "go")
        state = stopped.to_state()
        for item in state.get_interruptions():
            state.approve(item)
        monkeypatch.setattr(Recorder, "commit", committed)
        return str((await timestep.run_agent(agent, state)).final_output)

    assert app.run(body) == "c0=deleted a c1=deleted b c2=deleted c"
    assert len(late) == 1
    assert len(app.rows("tool_guardrail_results")) == 3


def test_a_handoff_that_is_ignored_leaves_its_output(app: App) -> None:
    closers = [Agent(name=name, model=AnsweringModel(told)) for name in ("One", "Two")]
    opener = Agent(
        name="Opener",
        model=AnsweringModel(
            lambda items: [
                function_call("transfer_to_one", {}, call_id="h1"),
                function_call("transfer_to_two", {}, call_id="h2"),
            ]
        ),
        handoffs=[*closers],
    )

    async def body() -> str:
        result = await timestep.DurableRunner.run(opener, "go")
        assert result.last_agent is closers[0]
        return str(result.final_output)

    said = assert_replays(body, times=3, delay=DELAY)
    assert "h2=Multiple handoffs detected" in said
    found = {
        row["item_data"]["call_id"]: row["item_type"]
        for row in app.rows("run_items", "position")
        if row["item_data"].get("output") is not None
    }
    assert found == {"h1": "handoff_output_item", "h2": "tool_call_output_item"}


@pytest.mark.parametrize(("action", "approved"), [("approve", True), ("reject", False)])
def test_a_hosted_mcp_call_is_asked_about(app: App, action: str, approved: bool) -> None:
    request = McpApprovalRequest(
        id="m1",
        arguments='{"q": 1}',
        name="search",
        server_label="docs",
        type="mcp_approval_request",
    )

    def answer(items: list[Any]) -> list[Any]:
        told = [i for i in items if i.get("type") == "mcp_approval_response"]
        return [assistant_message(f"approved: {told[0]['approve']}")] if told else [request]

    tool = HostedMCPTool(
        tool_config={
            "type": "mcp",
            "server_label": "docs",
            "server_url": "https://docs.example",
            "require_approval": "always",
        }
    )
    agent = Agent(name="Reader", model=AnsweringModel(answer), tools=[tool])

    async def body() -> str:
        return str((await timestep.run_agent(agent, "go")).final_output)

    BODIES["mcp"] = body
    handle = app.started("mcp")
    (asked,) = app.until(lambda: asyncio.run(timestep.list_interruptions()))
    assert (asked.type, asked.tool_name, asked.call_id) == ("mcp_approval", "search", "m1")
    assert asked.arguments == {"q": 1}
    (call,) = app.rows("tool_calls")
    assert (call["status"], call["tool_type"]) == ("pending", "mcp_approval_request")
    timestep.resume_workflow_sync(str(asked.workflow_id), **{action: [asked.id]})
    said = testing.assert_replays_sync(handle, times=3, delay=DELAY)
    assert said == f"approved: {approved}"
    (call,) = app.rows("tool_calls")
    assert call["status"] == ("executed" if approved else "rejected")
    assert call["completed_at"] is not None
    kinds = [row["item_type"] for row in app.rows("run_items", "position")]
    assert kinds == [
        "mcp_approval_request_item",
        "mcp_approval_response_item",
        "message_output_item",
    ]
