"""What tools change in a run's context is there in a replay, which runs no tool."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from agents import Agent, RunContextWrapper, RunHooks, RunState, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from pydantic import BaseModel, ConfigDict, PrivateAttr

import timestep
from tests.support.dbos_app import App


@dataclasses.dataclass
class Basket:
    items: list[str]
    total: float = 0.0
    owner: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    items: list[str]
    total: float = 0.0
    owner: dict[str, Any] = dataclasses.field(default_factory=dict)


class Model(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)

    items: list[str] = []
    total: float = 0.0
    owner: dict[str, Any] = {}
    _seen: int = PrivateAttr(0)


def agent(tools: list[Any], *turns: list[Any], name: str = "A") -> Agent[Any]:
    return Agent(
        name=name,
        model=ScriptedModel([*turns, [assistant_message(f"{name} is done")]]),
        tools=tools,
    )


def shown(context: Any) -> str:
    """Every part of a context, in its order, as exactly as text can say it."""
    if isinstance(context, BaseModel):
        return repr((vars(context), context.__pydantic_extra__, context.__pydantic_private__))
    return repr(context)


def twice(app: App, runner: Agent[Any], context: Callable[[], Any], **options: Any) -> str:
    """What the context is after a run; after its replay, it must be the same."""
    kept: list[Any] = []

    async def body() -> str:
        given = context()
        kept.append(given)
        await timestep.DurableRunner.run(runner, "hi", context=given, **options)
        return shown(given)

    first = app.run(body, workflow_id="w")
    rows = app.everything()
    assert app.replay("w") == first
    assert app.everything() == rows
    assert kept[0] is not kept[1]
    return first


def changes(app: App) -> list[tuple[Any, ...]]:
    return [
        (row["call_id"], row["context_position"], row["context_change"])
        for row in app.rows("tool_calls", "context_position")
    ]


@function_tool
async def add(ctx: RunContextWrapper[Any], item: str) -> str:
    context = ctx.context
    context.items.append(item)
    object.__setattr__(context, "total", context.total + 1.0) if not isinstance(
        context, Model
    ) else vars(context).update(total=context.total + 1.0)
    context.owner.update({"zz": 1, "a": {"b": 2.0}})
    return "added"


TWO_TURNS = (
    [function_call("add", {"item": "tea"}, call_id="c1")],
    [function_call("add", {"item": "milk"}, call_id="c2")],
)


@pytest.mark.parametrize("make", [lambda: Basket([]), lambda: Frozen([]), lambda: Model(items=[])])
def test_objects_are_changed_alike(app: App, make: Callable[[], Any]) -> None:
    after = twice(app, agent([add], *TWO_TURNS), make)
    assert "'tea', 'milk'" in after
    assert "{'zz': 1, 'a': {'b': 2.0}}" in after
    assert [(call, position) for call, position, _ in changes(app)] == [("c1", 1), ("c2", 2)]
    assert changes(app)[1][2] == {
        "$text": json.dumps({"extend": {"items": ["milk"]}, "set": {"total": 2.0}})
    } or ("milk" in json.dumps(changes(app)[1][2]) and "tea" not in json.dumps(changes(app)[1][2]))


def test_a_dict_is_changed_alike_and_in_its_order(app: App) -> None:
    @function_tool
    def change(ctx: RunContextWrapper[dict[str, Any]], step: int) -> str:
        context = ctx.context
        if step == 1:
            context["long"], context["b"] = 1e3, (1, {2})
            context["list"] = ["a"]
        else:
            del context["old"]
            context["list"].append("b")
            context["nested"]["deep"]["er"] = float("inf")
        return "changed"

    turns = [[function_call("change", {"step": n}, call_id=f"c{n}")] for n in (1, 2)]
    after = twice(
        app, agent([change], *turns), lambda: {"old": 1, "nested": {"deep": {}}, 3: "three"}
    )
    assert after == (
        "{'nested': {'deep': {'er': inf}}, 3: 'three', 'long': 1000.0, 'b': (1, {2}), "
        "'list': ['a', 'b']}"
    )


def test_a_call_that_changes_nothing_or_has_no_context_records_nothing(app: App) -> None:
    @function_tool
    async def look(ctx: RunContextWrapper[Any]) -> str:
        return str(ctx.context)

    call = [function_call("look", {}, call_id="c1")]
    twice(app, agent([look], call), lambda: {"a": 1})
    assert changes(app) == [("c1", None, None)]


def test_private_and_extra_fields_of_a_model_are_changed_alike(app: App) -> None:
    @function_tool
    async def mark(ctx: RunContextWrapper[Any]) -> str:
        ctx.context._seen += 1
        ctx.context.__pydantic_extra__.update(extra="x")
        return "marked"

    after = twice(app, agent([mark], [function_call("mark", {}, call_id="c1")]), Model)
    assert after.endswith("{'extra': 'x'}, {'_seen': 1})"), after


def test_what_hooks_change_is_changed_by_them_alone(app: App) -> None:
    class Counting(RunHooks[Any]):
        async def on_tool_start(self, context: Any, *_: Any) -> None:
            context.context["started"] += 1

        async def on_tool_end(self, context: Any, *_: Any) -> None:
            context.context["ended"].append(1)

    @function_tool
    async def count(ctx: RunContextWrapper[Any]) -> str:
        ctx.context["called"] += 1
        return "counted"

    turns = [[function_call("count", {}, call_id=f"c{n}")] for n in (1, 2)]
    after = twice(
        app,
        agent([count], *turns),
        lambda: {"started": 0, "called": 0, "ended": []},
        hooks=Counting(),
    )
    assert after == "{'started': 2, 'called': 2, 'ended': [1, 1]}"


def test_calls_side_by_side_change_the_same_and_different_keys(app: App) -> None:
    both = asyncio.Event()
    turns = asyncio.Event()

    @function_tool
    async def slow(ctx: RunContextWrapper[Any]) -> str:
        ctx.context["log"].append("slow begins")
        both.set()
        await turns.wait()
        ctx.context["log"].append("slow ends")
        ctx.context["slow"] = True
        ctx.context["last"] = "slow"
        return "slow"

    @function_tool
    async def fast(ctx: RunContextWrapper[Any]) -> str:
        await both.wait()
        ctx.context["log"].append("fast")
        ctx.context["fast"] = True
        ctx.context["last"] = "fast"
        del ctx.context["gone"]
        return "fast"

    class Releases(RunHooks[Any]):
        async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
            if tool.name == "fast":
                turns.set()

    calls = [function_call("slow", {}, call_id="c1"), function_call("fast", {}, call_id="c2")]
    after = twice(
        app,
        agent([slow, fast], calls),
        lambda: {"log": [], "gone": 1},
        hooks=Releases(),
    )
    assert "'log': ['slow begins', 'fast', 'slow ends']" in after
    assert "'last': 'slow'" in after
    assert [(call, position) for call, position, _ in changes(app)] == [("c2", 1), ("c1", 2)]


def test_runs_inside_a_call_change_the_context_they_share(app: App) -> None:
    @function_tool
    async def note(ctx: RunContextWrapper[Any], text: str) -> str:
        ctx.context["notes"].append(text)
        return "noted"

    expert = agent([note], [function_call("note", {"text": "inner"}, call_id="i1")], name="Expert")
    outer = agent(
        [expert.as_tool("ask", "Asks."), note],
        [function_call("note", {"text": "before"}, call_id="c1")],
        [function_call("ask", {"input": "?"}, call_id="c2")],
        [function_call("note", {"text": "after"}, call_id="c3")],
    )
    after = twice(app, outer, lambda: {"notes": []})
    assert after == "{'notes': ['before', 'inner', 'after']}"
    by_call = {call: change for call, _, change in changes(app)}
    assert by_call["c2"] == by_call["i1"] == {"extend": {"notes": ["inner"]}}


def test_experts_side_by_side_share_the_context(app: App) -> None:
    @function_tool
    async def note(ctx: RunContextWrapper[Any], text: str) -> str:
        ctx.context["notes"].append(text)
        await asyncio.sleep(0)
        ctx.context[text] = True
        return "noted"

    experts = [
        agent([note], [function_call("note", {"text": name}, call_id="i1")], name=name)
        for name in ("One", "Two")
    ]
    outer = agent(
        [expert.as_tool(f"ask_{expert.name}", "Asks.") for expert in experts],
        [
            function_call(f"ask_{name}", {"input": "?"}, call_id=f"c{name}")
            for name in ("One", "Two")
        ],
    )
    after = twice(app, outer, lambda: {"notes": []})
    assert "'One': True" in after
    assert "'Two': True" in after
    assert after.count("'One'") == after.count("'Two'") == 2


def test_a_call_that_fails_has_changed_the_context_too(app: App) -> None:
    @function_tool(failure_error_function=None)
    async def fails(ctx: RunContextWrapper[Any]) -> str:
        ctx.context["tried"] = True
        raise ValueError("no")

    failing = agent([fails], [function_call("fails", {}, call_id="c1")])

    async def body() -> str:
        context: dict[str, Any] = {}
        try:
            await timestep.DurableRunner.run(failing, "hi", context=context)
        except Exception as error:  # noqa: BLE001  # told to the test
            return f"{context} {type(error).__name__}"
        return "it did not fail"

    assert app.run(body, workflow_id="w") == "{'tried': True} UserError"
    assert app.replay("w") == "{'tried': True} UserError"


def test_an_expert_that_waits_for_a_person_changes_the_context_once(app: App) -> None:
    @function_tool
    async def note(ctx: RunContextWrapper[Any], text: str) -> str:
        ctx.context["notes"].append(text)
        return "noted"

    @function_tool(needs_approval=True)
    async def publish(ctx: RunContextWrapper[Any]) -> str:
        ctx.context["notes"].append("published")
        return "published"

    expert = agent(
        [note, publish],
        [function_call("note", {"text": "inner"}, call_id="i1")],
        [function_call("publish", {}, call_id="i2")],
        name="Expert",
    )
    outer = agent(
        [expert.as_tool("ask", "Asks.")], [function_call("ask", {"input": "?"}, call_id="c1")]
    )

    async def body() -> str:
        context: dict[str, Any] = {"notes": []}
        result = await timestep.DurableRunner.run(outer, "hi", context=context)
        state = result.to_state()
        for item in result.interruptions:
            state.approve(item)
        result = await timestep.DurableRunner.run(outer, state, context=context)
        return f"{context} {result.final_output}"

    first = app.run(body, workflow_id="w")
    assert first == "{'notes': ['inner', 'published']} A is done"
    rows = app.everything()
    assert app.replay("w") == first
    assert app.everything() == rows


def test_the_context_of_a_state_is_changed_too(app: App) -> None:
    @function_tool(needs_approval=True)
    async def buy(ctx: RunContextWrapper[Any]) -> str:
        ctx.context["bought"] = ctx.context.get("bought", 0) + 1
        return "bought"

    buyer = agent([buy], [function_call("buy", {}, call_id="c1")])

    async def body() -> str:
        result = await timestep.DurableRunner.run(buyer, "hi", context={"who": "me"})
        state = await RunState.from_json(buyer, result.to_state().to_json())
        for item in state.get_interruptions():
            state.approve(item)
        result = await timestep.DurableRunner.run(buyer, state)
        return str(result.context_wrapper.context)

    first = app.run(body, workflow_id="w")
    assert first == "{'who': 'me', 'bought': 1}"
    assert app.replay("w") == first


class Opaque:
    def __init__(self) -> None:
        self.count = 0


def test_what_will_not_survive_is_said_once(app: App, caplog: pytest.LogCaptureFixture) -> None:
    @function_tool
    async def count(ctx: RunContextWrapper[Any]) -> str:
        return "counted"

    expert = agent([count], [function_call("count", {}, call_id="i1")], name="Expert")

    def outer() -> Agent[Any]:
        asks = [function_call("ask", {"input": "?"}, call_id="c1")]
        return agent([expert.as_tool("ask", "Asks.")], asks)

    async def run(context: Any) -> str:
        expert.model = ScriptedModel([[assistant_message("x")]])
        return str((await timestep.DurableRunner.run(outer(), "hi", context=context)).final_output)

    def told() -> list[str]:
        # What asyncio says of another test's tasks, when they are freed, is in the log, too.
        return [one.getMessage() for one in caplog.records if one.name == "timestep"]

    with caplog.at_level(logging.WARNING, "timestep"):
        app.run(lambda: run(Opaque()))
        (said,) = told()
        assert "tests.execution.test_context_changes_survive.Opaque" in said
        assert "use a dict, a dataclass or a pydantic model" in said
        caplog.clear()
        app.run(lambda: run({"fine": 1, "client": Opaque(), 3: "x"}))
        (said,) = told()
        assert "'client' (a Opaque), 3 (a str)" in said
        caplog.clear()
        app.run(lambda: run({"fine": 1}))
        app.run(lambda: run(None))
        assert told() == []
