"""What a tool, a guardrail or a context held is the same in a replay, or was so from the first."""

from __future__ import annotations

import asyncio
import collections
import json
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    ModelResponse,
    RunContextWrapper,
    RunHooks,
    ToolGuardrailFunctionOutput,
    ToolOutputGuardrailData,
    function_tool,
    output_guardrail,
    tool_output_guardrail,
)
from agents.testing import assistant_message, function_call
from dbos import DBOS, SetWorkflowID
from pydantic import BaseModel, SecretStr

import timestep
from tests.support import remarkable_values as rv
from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import BODIES, App, host_starts
from tests.support.remarkable_values import shape
from timestep.dbos_internals.executions import execute_again
from timestep.operations.queries import executions


class Raw(BaseModel):
    data: bytes


def deep() -> list[Any]:
    made: list[Any] = []
    for _ in range(400):
        made = [made]
    return made


def zoo() -> rv.Zoo:
    return rv.Zoo(animals=[rv.Dog(name="Rex", breed="collie")], anything={1: (rv.Odd.NAN,)})


GIVEN: list[Callable[[], Any]] = [
    *(zoo, lambda: rv.Invoice([1]), lambda: {"a", "b", "c"}, lambda: rv.Own(1, {2}), rv.Hostile),
    *(lambda: rv.cyclic()[0], lambda: rv.cyclic()[3], deep, lambda: Raw(data=b"\xff"), rv.Exiting),
    *(lambda: rv.HostileField(1), lambda: [rv.Hostile(), zoo()], lambda: 10**5000, dict),
    *(lambda: rv.Account(owner="A", key=SecretStr("sesame")), lambda: "text", lambda: None),
]


@function_tool
def give(number: int) -> Any:
    return GIVEN[number]()


@tool_output_guardrail
def note_output(data: ToolOutputGuardrailData) -> ToolGuardrailFunctionOutput:
    return ToolGuardrailFunctionOutput.allow(output_info={"seen": shape(data.output)[0].__name__})


@output_guardrail
async def note_final(context: Any, agent: Agent[Any], output: Any) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(output_info=[zoo(), output], tripwire_triggered=False)


def test_first_execution_and_replay_show_the_same(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []

    class Hooks(RunHooks[Any]):
        async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
            heard[context.tool_call_id] = shape(result)

    heard: dict[str, Any] = {}
    shown: list[Any] = []

    def answer(items: list[Any]) -> list[Any]:
        if told := outputs(items):
            shown.append(told)
            return [assistant_message("done")]
        return [function_call("give", {"number": n}, call_id=f"c{n}") for n in range(len(GIVEN))]

    give.tool_output_guardrails = [note_output]
    agent = Agent("A", tools=[give], model=AnsweringModel(answer), output_guardrails=[note_final])

    async def body() -> str:
        heard.clear()
        result = await timestep.DurableRunner.run(agent, "go", hooks=Hooks())
        items = [item for item in result.new_items if item.type == "tool_call_output_item"]
        outputs_ = [(shape(item.output), item.raw_item) for item in items]
        checks = [shape(one.output.output_info) for one in result.output_guardrail_results]
        infos = [one.output.output_info for one in result.tool_output_guardrail_results]
        seen.append((dict(heard), outputs_, checks, sorted(map(str, infos))))
        return str(result.final_output)

    with caplog.at_level(logging.WARNING, "timestep"):
        assert app.run(body, "w") == "done"
        said = [one for one in caplog.messages if "goes on, as its text" in one]
        assert app.replay("w") == "done"
    first, second = seen
    assert first == second
    (told,) = shown
    assert told["c0"] == str(zoo())
    assert told["c11"].count("Dog(name='Rex', breed='collie')") == 1
    assert [item["output"] for _, item in first[1]] == [told[f"c{n}"] for n in range(len(GIVEN))]
    assert len(said) == len(set(said)) >= 4
    assert "sesame" not in str(app.everything())
    assert {row["status"] for row in app.rows("tool_calls")} == {"executed"}


def test_what_a_context_shares_and_gets_later_is_there_in_a_replay(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    @function_tool
    async def change(ctx: RunContextWrapper[Any], step: int) -> str:
        context = ctx.context
        if step == 1:
            context["first"].append(zoo())
            context["own"] = context
            context["count"] = collections.Counter("tea")
        elif step == 2:
            context["second"].append(2)
            context["count"]["t"] += 1
            context[7] = "lost"
        else:
            context["key"] = SecretStr("sesame")
            context["first"].append(3)
        return "changed"

    def answer(items: list[Any]) -> list[Any]:
        count = len(outputs(items))
        if count == 3:
            return [assistant_message("done")]
        return [function_call("change", {"step": count + 1}, call_id=f"c{count}")]

    agent: Agent[Any] = Agent("A", tools=[change], model=AnsweringModel(answer))
    seen: list[Any] = []

    async def body() -> str:
        shared: list[Any] = []
        hostile = [rv.Hostile(), rv.HostileField(1)]
        given = {"first": shared, "second": shared, "set": rv.Account(owner="A"), "no": hostile}
        await timestep.DurableRunner.run(agent, "go", context=given)
        seen.append(given)
        return "done"

    with caplog.at_level(logging.WARNING, "timestep"):
        app.run(body, "w")
        told = [one for one in caplog.messages if "of the run's context" in one]
        app.replay("w")
    for context in seen:
        assert context["first"] is context["second"]
        assert context["own"] is context
        assert shape([context["first"], context["count"]]) == shape(
            [[zoo(), 2, 3], collections.Counter("ttea")]
        )
    assert ["'no' (a list)" in one for one in told] == [True, False, False]
    assert ["7 (a str)" in one for one in told] == [False, True, False]
    assert ["'key' (a SecretStr)" in one for one in told] == [False, False, True]
    assert (7 in seen[0], 7 in seen[1]) == (True, False)
    assert "sesame" not in str(app.everything())


def looking(say: Callable[[str], str]) -> Agent[Any]:
    """An agent that looks at the zoo once, and says something of what it is shown."""

    @function_tool
    def look() -> rv.Zoo:
        return zoo()

    def answer(items: list[Any]) -> list[Any]:
        told = outputs(items)
        look_now = [function_call("look", {}, call_id="c")]
        return [assistant_message(say(told["c"]))] if told else look_now

    return Agent("A", tools=[look], model=AnsweringModel(answer))


def test_a_class_that_is_gone_does_not_matter_where_its_text_serves(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    agent = looking(str)

    async def body() -> str:
        return str((await timestep.DurableRunner.run(agent, "go")).final_output)

    assert app.run(body, "w") == str(zoo())
    app.execute("UPDATE tool_calls SET output_text = replace(output_text, ':Dog', ':Wolf')")
    with caplog.at_level(logging.WARNING, "timestep"):
        assert app.recover("w") == str(zoo())
    assert "goes on as the text that the model was shown" in caplog.text
    assert "Wolf" in caplog.text


def test_a_class_that_is_gone_and_matters_leaves_the_workflow_to_a_process_that_has_it(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    agent = looking(lambda _: "ok")
    heard: list[Any] = []

    class Hooks(RunHooks[Any]):
        async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
            heard.append(shape(result))

    async def whole() -> str:
        return str((await timestep.DurableRunner.run(agent, "go", hooks=Hooks())).final_output)

    async def streamed() -> str:
        result = timestep.DurableRunner.run_streamed(agent, "go", hooks=Hooks())
        async for _ in result.stream_events():
            pass
        return str(result.final_output)

    for name, body in {"w": whole, "s": streamed}.items():
        assert app.run(body, name) == "ok"
        heard.clear()
        app.execute("UPDATE tool_calls SET output_text = replace(output_text, ':Dog', ':Wolf')")
        app.execute(
            "UPDATE dbos.workflow_status SET status = 'PENDING', output = NULL, error = NULL "
            "WHERE workflow_uuid = %s",
            (name,),
        )
        with caplog.at_level(logging.WARNING, "timestep"):
            DBOS._recover_pending_workflows()
            left = f"{name!r} is left here"
            app.until(lambda: left in caplog.text)  # noqa: B023  # waited for at once
        app.until(executions.set_back)
        app.execute("UPDATE tool_calls SET output_text = replace(output_text, ':Wolf', ':Dog')")
        assert host_starts() == 1
        assert DBOS.retrieve_workflow(name).get_result(polling_interval_sec=0.02) == "ok"
        assert executions.set_back() == 0
        assert heard == [shape(zoo())]


def test_text_of_an_unknown_class_is_what_a_recovery_shows_the_model(app: App) -> None:
    """Also of an object whose text tells where it lies in memory, and of one inside a list."""
    asked: list[dict[str, Any]] = []
    is_dead = False
    came = threading.Event()

    class Plain:
        pass

    class Texted:
        def __str__(self) -> str:
            return f"text of {id(self)}"

    def make(name: str, made: Callable[[], Any]) -> Any:
        async def act() -> Any:
            return made()

        return function_tool(act, name_override=name)

    tools = [
        make("plain", Plain),
        make("texted", Texted),
        make("listed", lambda: [Plain(), {"a": Texted()}]),
        make("lock", threading.Lock),
    ]

    class Waiting(AnsweringModel):
        async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
            given = kwargs["input"]
            if not isinstance(given, str) and (seen := outputs(list(given))):
                asked.append(seen)
                if not is_dead:
                    came.set()
                    await asyncio.Event().wait()
            return await super().get_response(*args, **kwargs)

    def answer(items: list[Any]) -> list[Any]:
        if seen := outputs(items):
            return [assistant_message(json.dumps(seen))]
        return [function_call(one.name, {}, call_id=one.name) for one in tools]

    async def body() -> str:
        agent = Agent("A", model=Waiting(answer), tools=tools)
        return str((await timestep.run_agent(agent, "go")).final_output)

    BODIES["w"] = body
    with SetWorkflowID("w"):
        app.started("w")
    assert came.wait(60)
    app.execute("UPDATE dbos.workflow_status SET owner_xid = 'dead' WHERE workflow_uuid = 'w'")
    is_dead = True
    execute_again("w", "dead")
    said = str(DBOS.retrieve_workflow("w").get_result(polling_interval_sec=0.02))
    first, second = asked
    assert first == second == json.loads(said)
    assert app.replay("w") == said
