"""The runs that the crash matrix kills: workflows whose every effect leaves a line in a log.

The models answer from the conversation alone, so a process that takes over goes on rightly.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrailTripwireTriggered,
    Model,
    ModelResponse,
    RunConfig,
    RunContextWrapper,
    RunHooks,
    SQLiteSession,
    ToolGuardrailFunctionOutput,
    Usage,
    UserError,
    function_tool,
    input_guardrail,
    output_guardrail,
    tool_input_guardrail,
)
from agents.mcp import MCPServerStdio
from agents.run_internal import session_persistence
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS

import timestep
from tests.crash.boundaries import Boundaries

boundaries: Boundaries = cast(Any, None)
"""Set in each process before its workflow begins."""

Answer = Callable[[list[Any]], list[Any]]


class AnsweringModel(Model):
    """Answers as a function of what it is given; each answer is an effect."""

    def __init__(self, name: str, answer: Answer) -> None:
        self.name = name
        self.answer = answer

    def _items(self, given: Any) -> list[Any]:
        return [] if isinstance(given, str) else list(given)

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        items = self._items(kwargs["input"])
        boundaries.effect(f"model {self.name} {len(items)}")
        return ModelResponse(
            output=self.answer(items),
            usage=Usage(requests=1, input_tokens=10 * len(items), output_tokens=5, total_tokens=99),
            response_id=f"response-{self.name}-{len(items)}",
        )

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        items = self._items(args[1])
        boundaries.effect(f"model {self.name} {len(items)}")
        boundaries.batch_written.clear()
        spoken = False
        async for event in ScriptedModel([self.answer(items)]).stream_response(*args, **kwargs):
            yield event
            if not spoken:
                spoken = True
                await boundaries.batch_written.wait()


def outputs(items: list[Any]) -> dict[str, Any]:
    """Outputs of calls so far, by call id."""
    return {i["call_id"]: i["output"] for i in items if i.get("type") == "function_call_output"}


@function_tool
async def look_up(city: str) -> str:
    boundaries.effect(f"tool look_up {city}")
    await asyncio.sleep(0.01 if city == "Oslo" else 0)
    return f"{city} is sunny"


@tool_input_guardrail
async def small(data: Any) -> ToolGuardrailFunctionOutput:
    boundaries.effect("check small")
    return ToolGuardrailFunctionOutput.allow()


@function_tool(tool_input_guardrails=[small])
async def book(city: str) -> str:
    boundaries.effect(f"tool book {city}")
    return f"booked {city}"


@input_guardrail
async def polite(ctx: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
    boundaries.effect("check polite")
    return GuardrailFunctionOutput(output_info={"words": 2}, tripwire_triggered=False)


@input_guardrail(run_in_parallel=False)
async def known(ctx: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
    boundaries.effect("check known")
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)


@output_guardrail
async def short(ctx: Any, agent: Any, output: Any) -> GuardrailFunctionOutput:
    boundaries.effect("check short")
    return GuardrailFunctionOutput(output_info=len(str(output)), tripwire_triggered=False)


def plan(items: list[Any]) -> list[Any]:
    done = outputs(items)
    if "c1" not in done:
        return [
            function_call("look_up", {"city": "Oslo"}, call_id="c1"),
            function_call("look_up", {"city": "Rome"}, call_id="c2"),
            function_call("book", {"city": "Rome"}, call_id="c3"),
        ]
    return [function_call("transfer_to_closer", {}, call_id="c4")]


closer = Agent(
    name="Closer",
    model=AnsweringModel(
        "closer", lambda items: [assistant_message(" / ".join(outputs(items).values()))]
    ),
    output_guardrails=[short],
)
planner = Agent(
    name="Planner",
    model=AnsweringModel("planner", plan),
    tools=[look_up, book],
    handoffs=[closer],
    input_guardrails=[polite, known],
)


@DBOS.workflow()
async def trip(given: str) -> str:
    session = timestep.DatabaseSession("trip")
    result = await timestep.DurableRunner.run(planner, given, session=session)
    return str(result.final_output)


@DBOS.workflow()
async def streamed(given: str) -> str:
    result = timestep.DurableRunner.run_streamed(planner, given)
    async for _ in result.stream_events():
        pass
    return str(result.final_output)


class Broken(Exception):
    """Raised by a tool whose failure ends the run."""


@function_tool(failure_error_function=None)
async def breaks() -> str:
    boundaries.effect("tool breaks")
    raise Broken("no more fuel")


failing = Agent(
    name="Failing",
    model=AnsweringModel("failing", lambda items: [function_call("breaks", {}, call_id="c1")]),
    tools=[breaks],
)


@DBOS.workflow()
async def fails(given: str) -> str:
    try:
        await timestep.DurableRunner.run(failing, given)
    except UserError as error:
        return f"{type(error).__name__}: {error}"
    return "it did not fail"


late_model_begun = asyncio.Event()
"""Which of the two is first must not depend on how busy the machine is."""


@input_guardrail
async def trips(ctx: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
    await late_model_begun.wait()
    boundaries.effect("check trips")
    return GuardrailFunctionOutput(output_info="no", tripwire_triggered=True)


slow_model = AnsweringModel("slow", lambda items: [assistant_message("too late")])
guarded = Agent(name="Guarded", model=slow_model, input_guardrails=[trips])


@DBOS.workflow()
async def tripped(given: str) -> str:
    try:
        await timestep.DurableRunner.run(
            guarded, given, run_config=RunConfig(model=_Late(slow_model))
        )
    except InputGuardrailTripwireTriggered as error:
        return type(error).__name__
    return "it was not tripped"


class _Late(Model):
    """Answers after the guardrail: it is cancelled in the middle."""

    def __init__(self, inner: AnsweringModel) -> None:
        self.inner = inner

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        late_model_begun.set()
        await asyncio.sleep(3600)
        return await self.inner.get_response(*args, **kwargs)

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        return self.inner.stream_response(*args, **kwargs)


expert = Agent(
    name="Expert",
    model=AnsweringModel(
        "expert",
        lambda items: (
            [assistant_message("so says the expert")]
            if outputs(items)
            else [function_call("look_up", {"city": "Bern"}, call_id="c1")]
        ),
    ),
    tools=[look_up],
)
asker = Agent(
    name="Asker",
    model=AnsweringModel(
        "asker",
        lambda items: (
            [assistant_message(outputs(items)["c1"] + " / " + outputs(items)["c2"])]
            if outputs(items)
            else [
                function_call("ask_expert", {"input": "one"}, call_id="c1"),
                function_call("look_up", {"city": "Oslo"}, call_id="c2"),
            ]
        ),
    ),
    tools=[expert.as_tool("ask_expert", "Asks an expert."), look_up],
)


@DBOS.workflow()
async def nested(given: str) -> str:
    return str((await timestep.DurableRunner.run(asker, given)).final_output)


@function_tool(needs_approval=True)
async def delete(ctx: RunContextWrapper[Any], name: str) -> str:
    boundaries.effect(f"tool delete {name}")
    return f"deleted {name}"


operator = Agent(
    name="Operator",
    model=AnsweringModel(
        "operator",
        lambda items: (
            [assistant_message(" / ".join(outputs(items).values()))]
            if outputs(items)
            else [
                function_call("delete", {"name": "a"}, call_id="c1"),
                function_call("look_up", {"city": "Oslo"}, call_id="c2"),
                function_call("delete", {"name": "b"}, call_id="c3"),
            ]
        ),
    ),
    tools=[delete, look_up],
)


@DBOS.workflow()
async def approved(given: str) -> str:
    return str((await timestep.run_agent(operator, given)).final_output)


@timestep.tool_options(safe_to_repeat=False)
@function_tool
async def refund(cents: int) -> str:
    boundaries.effect(f"tool refund {cents}")
    return f"refunded {cents}"


cashier = Agent(
    name="Cashier",
    model=AnsweringModel(
        "cashier",
        lambda items: (
            [assistant_message(" / ".join(outputs(items).values()))]
            if outputs(items)
            else [
                function_call("refund", {"cents": 5}, call_id="c1"),
                function_call("look_up", {"city": "Oslo"}, call_id="c2"),
            ]
        ),
    ),
    tools=[refund, look_up],
)


@DBOS.workflow()
async def refunded(given: str) -> str:
    return str((await timestep.run_agent(cashier, given)).final_output)


@timestep.tool_options(safe_to_repeat=False)
@function_tool(needs_approval=True)
async def pay(cents: int) -> str:
    boundaries.effect(f"tool pay {cents}")
    return f"paid {cents}"


payer = Agent(
    name="Payer",
    model=AnsweringModel(
        "payer",
        lambda items: (
            [assistant_message(" / ".join(outputs(items).values()))]
            if outputs(items)
            else [
                function_call("pay", {"cents": 1}, call_id="c1"),
                function_call("pay", {"cents": 2}, call_id="c2"),
            ]
        ),
    ),
    tools=[pay],
)


@DBOS.workflow()
async def paid(given: str) -> str:
    return str((await timestep.run_agent(payer, given)).final_output)


def spend(items: list[Any]) -> list[Any]:
    told = outputs(items)
    if len(told) < 2:
        number = len(told) + 1
        return [function_call("pay", {"cents": number}, call_id=f"c{number}")]
    return [assistant_message(" / ".join(told.values()))]


spender = Agent(name="Spender", model=AnsweringModel("spender", spend), tools=[pay])


@DBOS.workflow()
async def paid_twice(given: str) -> str:
    return str((await timestep.run_agent(spender, given)).final_output)


class NotedServer(MCPServerStdio):
    """A server in a process of its own; what is asked of it is an effect."""

    async def list_tools(self, run_context: Any = None, agent: Any = None) -> Any:
        boundaries.effect(f"mcp list {run_context.usage.requests}")
        return await super().list_tools(run_context, agent)

    async def call_tool(self, tool_name: str, arguments: Any, meta: Any = None) -> Any:
        boundaries.effect(f"mcp call {tool_name} {arguments['city']}")
        return await super().call_tool(tool_name, arguments, meta)


forecaster = Agent(
    name="Forecaster",
    model=AnsweringModel(
        "forecaster",
        lambda items: (
            [assistant_message(" / ".join(output[0]["text"] for output in outputs(items).values()))]
            if outputs(items)
            else [
                function_call("forecast", {"city": "Oslo"}, call_id="c1"),
                function_call("forecast", {"city": "Rome"}, call_id="c2"),
            ]
        ),
    ),
    mcp_servers=[
        NotedServer(
            {"command": sys.executable, "args": [str(Path(__file__).with_name("stdio_server.py"))]},
            name="weather",
            client_session_timeout_seconds=30,
        )
    ],
)


@DBOS.workflow()
async def mcp(given: str) -> str:
    return str((await timestep.DurableRunner.run(forecaster, given)).final_output)


class NotedSession(SQLiteSession):
    """A session in a file of its own; each change of it is an effect."""

    def __init__(self) -> None:
        super().__init__("talk", boundaries.log.with_suffix(".sqlite"))

    async def add_items(self, items: list[Any]) -> None:
        boundaries.effect(f"session add {items[0]['content']}")
        await super().add_items(items)

    async def pop_item(self) -> Any:
        boundaries.effect("session pop")
        return await super().pop_item()


class Rewinding(RunHooks[Any]):
    """Takes back what was added last, as the SDK does before it asks a model again."""

    def __init__(self, session: SQLiteSession) -> None:
        self.session = session
        self.taken: Any = None

    async def on_agent_start(self, context: Any, agent: Any) -> None:
        self.taken = await session_persistence._session_pop_item(self.session)


talker = Agent(
    name="Talker", model=AnsweringModel("talker", lambda items: [assistant_message("well")])
)


@DBOS.workflow()
async def sqlite_session(given: str) -> str:
    session = NotedSession()
    hooks = Rewinding(session)
    await timestep.DurableRunner.run(talker, given, session=session, hooks=hooks)
    items: list[Any] = await session.get_items()
    session.close()
    return f"{hooks.taken['content']}, then {[str(item['role']) for item in items]}"
