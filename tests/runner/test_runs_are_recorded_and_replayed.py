"""What a durable run writes, and what its record gives back."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import httpx2
import openai
import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    Runner,
    ToolGuardrailFunctionOutput,
    function_tool,
    input_guardrail,
    output_guardrail,
    tool_input_guardrail,
    tool_output_guardrail,
)
from agents.sandbox import SandboxAgent
from agents.testing import ScriptedModel, assistant_message, function_call

import timestep
from tests.support.dbos_app import App
from timestep.errors import NotDurableError, NotInWorkflowError, ReplayError


@function_tool
async def echo(text: str) -> str:
    return f"echo {text}"


def scripted(*steps: Any) -> ScriptedModel:
    return ScriptedModel(list(steps))


def test_a_run_fills_every_table_of_its_path(app: App) -> None:
    @tool_input_guardrail
    async def before(data: Any) -> ToolGuardrailFunctionOutput:
        return ToolGuardrailFunctionOutput.allow("fine")

    @tool_output_guardrail
    async def after(data: Any) -> ToolGuardrailFunctionOutput:
        return ToolGuardrailFunctionOutput.reject_content("hidden", "too much")

    @input_guardrail
    async def polite(ctx: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info={"words": 1}, tripwire_triggered=False)

    @output_guardrail
    async def short(ctx: Any, agent: Any, output: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)

    @function_tool(tool_input_guardrails=[before], tool_output_guardrails=[after])
    async def secret(what: str) -> str:
        return f"the secret of {what}"

    closer = Agent(
        name="Closer",
        instructions="Close.",
        model=scripted([assistant_message("bye")]),
        output_guardrails=[short],
    )
    opener = Agent(
        name="Opener",
        instructions=lambda ctx, agent: "Open.",
        model=scripted(
            [
                function_call("secret", {"what": "tea"}, call_id="c1"),
                function_call("echo", {"text": "a"}, call_id="c2"),
            ],
            [function_call("transfer_to_closer", {}, call_id="c3")],
        ),
        tools=[secret, echo],
        handoffs=[closer],
        input_guardrails=[polite],
    )

    async def body() -> str:
        session = timestep.DatabaseSession("s1")
        result = await timestep.DurableRunner.run(opener, "hi", session=session)
        return str(result.final_output)

    assert app.run(body, workflow_id="w") == "bye"

    (run,) = app.rows("runs")
    assert (run["status"], run["final_output"], run["current_turn"]) == ("completed", "bye", 3)
    assert (run["workflow_id"], run["workflow_name"], run["input"]) == ("w", "run_it", "hi")
    assert app.names("agents", run["agent_id"]) == "Opener"
    assert app.names("agents", run["current_agent_id"]) == "Closer"
    assert {row["name"]: row["instructions_type"] for row in app.rows("agents")} == {
        "Opener": "dynamic",
        "Closer": "static",
    }
    assert {row["name"] for row in app.rows("tools")} == {"secret", "echo"}
    assert len(app.rows("agent_tools")) == 2
    assert len(app.rows("handoff_configs")) == len(app.rows("agent_handoffs")) == 1
    assert {row["name"] for row in app.rows("guardrails")} == {"polite", "short"}
    assert len(app.rows("agent_guardrails")) == 2
    assert {row["name"] for row in app.rows("tool_guardrails")} == {"before", "after"}
    assert [
        (r["guardrail_name"], r["type"], r["tripwire_triggered"], r["output_info"])
        for r in app.rows("guardrail_results", "position")
    ] == [
        ("polite", "input", False, {"words": 1}),
        ("short", "output", False, None),
    ]
    assert {
        (r["guardrail_name"], r["behavior"], r["message"])
        for r in app.rows("tool_guardrail_results")
    } == {
        ("before", "allow", None),
        ("after", "reject_content", "hidden"),
    }
    assert [
        (r["turn"], app.names("agents", r["agent_id"]))
        for r in app.rows("model_responses", "ordinal")
    ] == [
        (1, "Opener"),
        (2, "Opener"),
        (3, "Closer"),
    ]
    assert {(r["tool_name"], r["status"], r["output"]) for r in app.rows("tool_calls")} == {
        ("secret", "executed", "the secret of tea"),
        ("echo", "executed", "echo a"),
    }
    items = app.rows("run_items", "position")
    assert [(r["item_type"], r["item_data"].get("output")) for r in items] == [
        ("tool_call_item", None),
        ("tool_call_item", None),
        ("tool_call_output_item", "hidden"),
        ("tool_call_output_item", "echo a"),
        ("handoff_call_item", None),
        ("handoff_output_item", '{"assistant": "Closer"}'),
        ("message_output_item", None),
    ]
    (usage,) = app.rows("usage_metrics")
    entries = app.rows("request_usage_entries")
    assert len(entries) == 3
    assert usage["requests"] == sum(entry["requests"] for entry in entries)
    states = app.rows("run_states", "created_at")
    assert [(s["state_type"], s["encoding"], s["is_active"]) for s in states] == [
        ("final", "whole", True)
    ]
    assert [turn for turn, _ in states[0]["turns"]] == [3, 2, 1]
    (session,) = app.rows("sessions")
    assert (session["session_key"], run["session_id"]) == ("s1", session["id"])
    kinds = [row["item_type"] or row["role"] for row in app.rows("session_items", "position")]
    assert kinds[0] in ("user", "message")
    assert kinds[-1] == "message"
    assert app.steps("w") == [
        "input guardrail: polite",
        "turn 1: Opener",
        "tool input guardrail: before",
        "tool: secret (c1)",
        "tool output guardrail: after",
        "tool: echo (c2)",
        "turn 2: Opener",
        "turn 3: Closer",
        "output guardrail: short",
    ]


def test_an_unchanged_definition_is_one_row_and_a_changed_one_a_new_version(app: App) -> None:
    def agent(instructions: str) -> Agent[Any]:
        return Agent(
            name="A",
            instructions=instructions,
            model=scripted([assistant_message("x")]),
            tools=[echo],
        )

    for instructions in ("one", "one", "two", "one"):
        made = agent(instructions)

        async def body(made: Agent[Any] = made) -> Any:
            return (await timestep.DurableRunner.run(made, "hi")).final_output

        app.run(body)
    rows = app.rows("agents", "version")
    assert [(row["version"], row["instructions"]) for row in rows] == [(1, "one"), (2, "two")]
    assert len(app.rows("tools")) == 1
    assert len({row["agent_id"] for row in app.rows("runs")}) == 2


def test_a_failed_run_is_recorded_and_the_caller_gets_the_sdks_exception(app: App) -> None:
    endless = Agent(
        name="Endless",
        model=scripted(
            *[[function_call("echo", {"text": "x"}, call_id=f"c{n}")] for n in range(3)]
        ),
        tools=[echo],
    )

    async def body() -> str:
        with pytest.raises(MaxTurnsExceeded) as caught:
            await timestep.DurableRunner.run(endless, "hi", max_turns=2)
        assert caught.value.run_data is not None
        return "caught"

    assert app.run(body) == "caught"
    (run,) = app.rows("runs")
    assert run["status"] == "failed"
    assert (run["error_type"], run["error_message"], run["error_turn"]) == (
        "MaxTurnsExceeded",
        "Max turns (2) exceeded",
        2,
    )
    assert run["completed_at"] is not None


@pytest.mark.parametrize("streamed", [False, True])
def test_a_model_error_replays_as_its_class(
    app: App, streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMESTEP_MODEL_RETRIES", "0")
    """Trap 4: a RateLimitError was replayed as a TypeError."""
    response = httpx2.Response(
        429, headers={"retry-after": "1"}, request=httpx2.Request("POST", "https://x")
    )
    error = openai.RateLimitError("slow down", response=response, body=None)
    model = ScriptedModel([])
    model.enqueue({"error": error})
    agent = Agent(name="A", model=model)

    async def body() -> str:
        try:
            if streamed:
                result = timestep.DurableRunner.run_streamed(agent, "hi")
                async for _ in result.stream_events():
                    pass
            else:
                await timestep.DurableRunner.run(agent, "hi")
        except openai.RateLimitError as caught:
            return f"{caught.status_code} {caught.response.headers['retry-after']}"
        return "nothing was raised"

    assert app.run(body, workflow_id="w") == "429 1"
    assert app.replay("w") == "429 1"
    assert len(model.calls) == 1
    (run,) = app.rows("runs")
    assert (run["status"], run["error_type"]) == ("failed", "RateLimitError")


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tripwire_replays_as_the_sdks_exception(app: App, streamed: bool) -> None:
    """Traps 4 and 8: a tripwire was replayed as a pickle error, or decided anew."""
    checked = []

    @input_guardrail
    async def never(ctx: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
        checked.append(given)
        return GuardrailFunctionOutput(output_info={"why": "no"}, tripwire_triggered=True)

    agent = Agent(name="A", model=scripted([assistant_message("x")]), input_guardrails=[never])

    async def body() -> str:
        try:
            if streamed:
                result = timestep.DurableRunner.run_streamed(agent, "hi")
                async for _ in result.stream_events():
                    pass
            else:
                await timestep.DurableRunner.run(agent, "hi")
        except InputGuardrailTripwireTriggered as caught:
            return json.dumps(caught.guardrail_result.output.output_info)
        return "it passed"

    assert app.run(body, workflow_id="w") == '{"why": "no"}'
    assert app.replay("w") == '{"why": "no"}'
    assert len(checked) == 1
    (run,) = app.rows("runs")
    assert (run["status"], run["error_type"]) == ("failed", "InputGuardrailTripwireTriggered")


def test_a_replay_calls_nothing_and_writes_nothing(app: App) -> None:
    called = []

    @function_tool
    async def once(text: str) -> dict[str, Any]:
        called.append(text)
        return {"said": text, "nul": "\x00", "pair": [1, 2.0]}

    @function_tool
    async def ordered() -> dict[str, Any]:
        return {"zeta": 1, "a": 1e16, "mid": {"y": 1, "x": 2}}

    model = scripted(
        [
            function_call("once", {"text": "a"}, call_id="c1"),
            function_call("once", {"text": "b"}, call_id="c2"),
            function_call("ordered", {}, call_id="c3"),
        ],
        [assistant_message("done")],
    )
    agent = Agent(name="A", model=model, tools=[once, ordered])

    async def body() -> str:
        result = await timestep.DurableRunner.run(agent, "hi")
        return json.dumps(result.to_input_list()) + str(result.context_wrapper.usage)

    first = app.run(body, workflow_id="w")
    before = app.everything()
    assert app.replay("w") == first
    assert app.everything() == before
    assert sorted(called) == ["a", "b"]
    assert len(model.calls) == 2


def test_parallel_runs_of_one_workflow_replay_the_same(app: App) -> None:
    """Trap 1: step numbers that depend on timing."""
    agents = [
        Agent(
            name=f"A{n}",
            model=scripted(
                [function_call("echo", {"text": str(n)}, call_id="c1")], [assistant_message(str(n))]
            ),
            tools=[echo],
        )
        for n in range(3)
    ]

    async def body() -> str:
        results = await asyncio.gather(
            *(timestep.DurableRunner.run(agent, "hi") for agent in agents)
        )
        return " ".join(str(result.final_output) for result in results)

    assert app.run(body, workflow_id="w") == "0 1 2"
    assert app.replay("w") == "0 1 2"
    assert len(app.rows("runs")) == 3


def test_install_makes_the_sdks_runner_durable_inside_workflows_only(app: App) -> None:
    agent = Agent(name="A", model=scripted([assistant_message("x")], [assistant_message("y")]))

    async def body() -> str:
        return str((await Runner.run(agent, "hi")).final_output)

    timestep.install()
    try:
        assert app.run(body) == "x"
        assert len(app.rows("runs")) == 1
        assert asyncio.run(body()) == "y"
        assert len(app.rows("runs")) == 1
    finally:
        timestep.uninstall()


def test_the_durable_runner_outside_a_workflow_says_so() -> None:
    agent = Agent(name="A", model=scripted([assistant_message("x")]))
    with pytest.raises(NotInWorkflowError, match=r"@DBOS\.workflow"):
        asyncio.run(timestep.DurableRunner.run(agent, "hi"))


def test_what_cannot_be_durable_is_refused_before_the_model_is_called(app: App) -> None:
    model = scripted([assistant_message("x")])

    sandboxed = SandboxAgent(name="B", model=model)
    cases = {
        "itself": sandboxed,
        "target": Agent(name="A", model=model, handoffs=[sandboxed]),
    }
    for name, agent in cases.items():

        async def body(agent: Agent[Any] = agent) -> str:
            with pytest.raises(NotDurableError) as caught:
                await timestep.DurableRunner.run(agent, "hi")
            return str(caught.value)

        said = app.run(body)
        assert "not recorded" in said, name
        assert "plain Agent" in said

    async def streamed() -> str:
        result = timestep.DurableRunner.run_streamed(cases["target"], "hi")
        with pytest.raises(NotDurableError) as caught:
            async for _ in result.stream_events():
                pass
        return str(caught.value)

    assert "not recorded" in app.run(streamed)

    def look(word: str) -> str:
        return word

    async def with_a_function() -> str:
        tools: list[Any] = [look]
        with pytest.raises(NotDurableError) as caught:
            await timestep.run_agent(Agent(name="Plain", model=model, tools=tools), "hi")
        return str(caught.value)

    said = app.run(with_a_function)
    assert "look, a tool of the agent 'Plain', is a plain function" in said
    assert "decorate it with @function_tool" in said
    assert model.calls == ()
    assert app.rows("runs") == []
    assert app.rows("agents") == []


def test_input_that_json_cannot_hold_is_refused(app: App) -> None:
    agent = Agent(name="A", model=scripted([assistant_message("x")]))

    async def body() -> str:
        said = []
        given: Any
        for given in (7, b"hi", [{"role": "user", "content": [b"hi"]}], [b"hi"]):
            with pytest.raises(NotDurableError) as caught:
                await timestep.DurableRunner.run(agent, given)
            said.append(str(caught.value))
        session = timestep.DatabaseSession("s")
        with pytest.raises(NotDurableError, match=r"item 0 .* \['content'\] is bytes"):
            await session.add_items(cast(Any, [{"role": "user", "content": b"hi"}]))
        return "; ".join(said)

    said = app.run(body)
    assert "not int; " in said
    assert "not bytes; " in said
    assert "['content'][0] is bytes" in said
    assert app.rows("runs") == []


def test_a_replay_with_another_input_quotes_where_it_differs(app: App) -> None:
    inputs = iter([f"{'a' * 1_000_000}b", f"{'a' * 1_000_000}c"])
    agent = Agent(name="A", model=scripted([assistant_message("x")]))

    async def body() -> str:
        await timestep.DurableRunner.run(agent, next(inputs))
        return "done"

    app.run(body, "w")
    with pytest.raises(ReplayError) as caught:
        app.recover("w")
    assert len(str(caught.value)) < 800
    assert "aab" in str(caught.value)
    assert "aac" in str(caught.value)


def test_a_replay_counts_what_runs_inside_a_call_used(app: App) -> None:
    """An agent as a tool counts in the outer run's usage; a run of a tool's own does not."""
    inner = Agent(name="Inner", model=scripted([assistant_message("a")], [assistant_message("b")]))

    @function_tool
    async def own_run() -> str:
        return str((await timestep.DurableRunner.run(inner, "hi")).final_output)

    outer = Agent(
        name="Outer",
        model=scripted(
            [
                function_call("ask", {"input": "x"}, call_id="c1"),
                function_call("own_run", {}, call_id="c2"),
            ],
            [assistant_message("done")],
        ),
        tools=[inner.as_tool("ask", "Asks."), own_run],
    )

    async def body() -> str:
        result = await timestep.DurableRunner.run(outer, "hi")
        return f"{result.final_output} {result.context_wrapper.usage.requests}"

    assert app.run(body, workflow_id="w") == "done 3"
    assert app.replay("w") == "done 3"
    assert len(app.rows("runs")) == 3
    (root,) = [row for row in app.rows("runs") if row["parent_run_id"] is None]
    assert all(row["root_run_id"] == root["id"] for row in app.rows("runs"))


def test_pipelines_side_by_side_do_not_swap_their_runs(app: App) -> None:
    """The second run of each task starts when its first ends, in whichever order."""
    delays = {"a": [0.05], "b": [0.0]}

    def agent(name: str) -> Agent[Any]:
        return Agent(
            name=name,
            model=scripted([assistant_message(f"{name}1")], [assistant_message(f"{name}2")]),
        )

    agents = {name: agent(name) for name in delays}

    async def pipe(name: str) -> str:
        first = await timestep.DurableRunner.run(agents[name], f"{name} one")
        await asyncio.sleep(delays[name].pop() if delays[name] else 0)
        second = await timestep.DurableRunner.run(agents[name], f"{name} two")
        return f"{first.final_output}{second.final_output}"

    async def body() -> str:
        await timestep.DurableRunner.run(
            Agent(name="first", model=scripted([assistant_message("x")])), "before"
        )
        return " ".join(await asyncio.gather(pipe("a"), pipe("b")))

    assert app.run(body, workflow_id="w") == "a1a2 b1b2"
    assert app.replay("w") == "a1a2 b1b2"
    assert len(app.rows("runs")) == 5


def test_changes_of_sessions_in_a_tool_are_each_made_once(app: App) -> None:
    @function_tool
    async def note() -> str:
        for name in ("one", "two"):
            session = timestep.DatabaseSession(name)
            await session.add_items([{"role": "user", "content": "a"}])
            await session.add_items([{"role": "user", "content": "b"}])
        return "noted"

    agent = Agent(
        name="A",
        model=scripted([function_call("note", {}, call_id="c1")], [assistant_message("done")]),
        tools=[note],
    )

    async def body() -> str:
        return str((await timestep.DurableRunner.run(agent, "hi")).final_output)

    assert app.run(body, workflow_id="w") == "done"
    assert len(app.rows("session_items")) == 4
    assert app.replay("w") == "done"
    assert len(app.rows("session_items")) == 4


def test_an_error_that_nobody_catches_reaches_who_awaits_the_workflow(app: App) -> None:
    agent = Agent(
        name="A",
        model=scripted([function_call("echo", {"text": "x"}, call_id="c1")]),
        tools=[echo],
    )

    async def body() -> str:
        return str((await timestep.DurableRunner.run(agent, "hi", max_turns=1)).final_output)

    with pytest.raises(MaxTurnsExceeded, match=r"Max turns \(1\) exceeded"):
        app.run(body, workflow_id="w")
    with pytest.raises(MaxTurnsExceeded):
        app.replay("w")


def test_a_streamed_run_that_was_tripped_replays_at_once(app: App) -> None:
    """A recorded tripwire is heard before the turn's model answer, and holds nothing up."""
    acted = []
    begun = asyncio.Event()

    @function_tool
    async def act() -> str:
        acted.append(1)
        begun.set()
        return "acted"

    @input_guardrail
    async def late(ctx: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
        await begun.wait()
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)

    agent = Agent(
        name="A",
        model=scripted([function_call("act", {}, call_id="c1")], [assistant_message("x")]),
        tools=[act],
        input_guardrails=[late],
    )

    async def body() -> str:
        try:
            result = timestep.DurableRunner.run_streamed(agent, "hi")
            async for _ in result.stream_events():
                pass
        except InputGuardrailTripwireTriggered:
            return "tripped"
        return "it passed"

    assert app.run(body, workflow_id="w") == "tripped"
    before = len(acted)
    assert app.replay("w") == "tripped"
    assert len(acted) == before
