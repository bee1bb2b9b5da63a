"""What the SDK's runner does with an option, the durable one does, and its replay, too."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import openai
import pydantic
import pytest
from agents import (
    Agent,
    AgentHooks,
    AgentOutputSchema,
    GuardrailFunctionOutput,
    MaxTurnsExceeded,
    ModelProvider,
    ModelSettings,
    RunConfig,
    RunErrorHandlerInput,
    RunErrorHandlerResult,
    RunHooks,
    Runner,
    SessionSettings,
    SQLiteSession,
    ToolExecutionConfig,
    ToolGuardrailFunctionOutput,
    UserError,
    function_tool,
    input_guardrail,
    output_guardrail,
    tool_input_guardrail,
    tool_output_guardrail,
)
from agents.run_config import CallModelData, ModelInputData
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call

import timestep
from tests.support.dbos_app import App


@dataclasses.dataclass
class Case:
    """A run of the SDK, made anew for each time it is run."""

    agent: Agent[Any]
    model: ScriptedModel
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    log: list[str] = dataclasses.field(default_factory=list)
    given: Any = "hi"


def model_of(*steps: Any) -> ScriptedModel:
    return ScriptedModel(
        [
            step
            if isinstance(step, ModelStep | Exception)
            else ModelStep(
                [step] if not isinstance(step, list) else step, response_id=f"resp-{index}"
            )
            for index, step in enumerate(steps)
        ]
    )


def say(text: str) -> Any:
    return assistant_message(text)


def call(name: str = "echo", call_id: str = "c1", **arguments: Any) -> Any:
    return function_call(name, arguments, call_id=call_id)


@function_tool
async def echo(text: str) -> str:
    return f"echo {text}"


@function_tool
async def fail() -> str:
    raise ValueError("broken")


@function_tool(failure_error_function=None)
async def explode() -> str:
    raise ValueError("broken")


@function_tool(timeout=0.05, timeout_behavior="raise_exception")
async def slow() -> str:
    await asyncio.sleep(3600)
    return "never"


class City(pydantic.BaseModel):
    name: str
    people: int


@dataclasses.dataclass
class Point:
    x: int
    y: dict[str, int]


def simple(*steps: Any, tools: Any = (), config: RunConfig | None = None, **options: Any) -> Case:
    model = model_of(*steps)
    known = ("instructions", "output_type", "prompt", "input_guardrails", "output_guardrails")
    of_agent = {name: options.pop(name) for name in known if name in options}
    agent = Agent("A", model=model, tools=list(tools), **of_agent)
    if config is not None:
        options["run_config"] = config
    return Case(agent, model, options)


async def sync_and_async(context: Any, agent: Agent[Any]) -> str:
    return f"You are {agent.name}"


def prompted(data: Any) -> Any:
    return {"id": "pmpt_2", "version": "3", "variables": {"who": data.agent.name}}


def last_only(data: CallModelData[Any]) -> ModelInputData:
    return ModelInputData(input=data.model_data.input[-1:], instructions="filtered")


@input_guardrail(run_in_parallel=False)
async def refuse_input(*_: Any) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput({"why": "input"}, tripwire_triggered=True)


@input_guardrail(run_in_parallel=False)
async def allow_input(*_: Any) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput({"why": "fine"}, tripwire_triggered=False)


@output_guardrail
async def refuse_output(*_: Any) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput({"why": "output"}, tripwire_triggered=True)


@tool_input_guardrail
def refuse_call(data: Any) -> ToolGuardrailFunctionOutput:
    return ToolGuardrailFunctionOutput.raise_exception({"why": "call"})


@tool_output_guardrail
def refuse_result(data: Any) -> ToolGuardrailFunctionOutput:
    return ToolGuardrailFunctionOutput.raise_exception({"why": "result"})


def guarded(**guardrails: Any) -> Any:
    tool = copy.copy(echo)
    for name, value in guardrails.items():
        setattr(tool, name, value)
    return tool


def handed_off(config: RunConfig | None = None) -> Case:
    model = model_of(
        [call(text="a")], call("transfer_to_b", "c2"), [call(text="b", call_id="c3")], say("done")
    )
    second = Agent("B", model=model, tools=[echo])
    agent = Agent("A", model=model, tools=[echo], handoffs=[second])
    return Case(agent, model, {} if config is None else {"run_config": config})


def filtered(data: Any) -> Any:
    return data.clone(pre_handoff_items=(), new_items=data.new_items)


class Provider(ModelProvider):
    def __init__(self, model: ScriptedModel) -> None:
        self.model = model
        self.asked: list[str | None] = []

    def get_model(self, model_name: str | None) -> ScriptedModel:
        self.asked.append(model_name)
        return self.model


def named_model() -> Case:
    model = model_of(say("done"))
    config = RunConfig(model="some-model", model_provider=Provider(model))
    return Case(Agent("A", model="other"), model, {"run_config": config})


def model_instance() -> Case:
    model = model_of([call(text="a")], say("done"))
    config = RunConfig(model=model, model_settings=ModelSettings(temperature=0.3, top_p=0.1))
    agent = Agent("A", model="other", tools=[echo], model_settings=ModelSettings(max_tokens=7))
    return Case(agent, model, {"run_config": config})


class Log(RunHooks[Any]):
    def __init__(self, log: list[str]) -> None:
        self.log = log

    async def on_agent_start(self, context: Any, agent: Any) -> None:
        self.log.append(f"run: {agent.name} starts")

    async def on_agent_end(self, context: Any, agent: Any, output: Any) -> None:
        self.log.append(f"run: {agent.name} ends with {output}")

    async def on_handoff(self, context: Any, from_agent: Any, to_agent: Any) -> None:
        self.log.append(f"run: {from_agent.name} to {to_agent.name}")

    async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
        self.log.append(f"run: {tool.name} starts")

    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
        self.log.append(f"run: {tool.name} ends with {result}")

    async def on_llm_start(self, context: Any, agent: Any, system: Any, given: Any) -> None:
        self.log.append(f"run: model of {agent.name} is asked {len(given)}")

    async def on_llm_end(self, context: Any, agent: Any, response: Any) -> None:
        self.log.append(f"run: model answers {response.response_id}")


class AgentLog(AgentHooks[Any]):
    def __init__(self, log: list[str]) -> None:
        self.log = log

    async def on_start(self, context: Any, agent: Any) -> None:
        self.log.append(f"agent: {agent.name} starts")

    async def on_end(self, context: Any, agent: Any, output: Any) -> None:
        self.log.append(f"agent: {agent.name} ends")

    async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
        self.log.append(f"agent: {tool.name} starts")

    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
        self.log.append(f"agent: {tool.name} ends")

    async def on_llm_start(self, context: Any, agent: Any, system: Any, given: Any) -> None:
        self.log.append("agent: model is asked")

    async def on_llm_end(self, context: Any, agent: Any, response: Any) -> None:
        self.log.append("agent: model answers")


def hooked() -> Case:
    case = handed_off()
    case.options["hooks"] = Log(case.log)
    case.agent.hooks = AgentLog(case.log)
    return case


def with_session(**config: Any) -> Case:
    """A session of the SDK's own, with something in it already."""
    session = SQLiteSession("s")
    earlier = [{"role": "user", "content": f"earlier {index}"} for index in range(3)]
    asyncio.run(session.add_items(earlier))  # type: ignore[arg-type]  # plain items
    case = simple([call(text="a")], say("done"), tools=[echo], config=RunConfig(**config))
    case.options["session"] = session
    case.given = [{"role": "user", "content": "hi"}]
    return case


def merge(history: list[Any], new: list[Any]) -> list[Any]:
    return [*history[-1:], *new]


def handler(log: list[str]) -> Callable[[RunErrorHandlerInput[Any]], RunErrorHandlerResult]:
    def handle(given: RunErrorHandlerInput[Any]) -> RunErrorHandlerResult:
        log.append(f"{type(given.error).__name__} after {len(given.run_data.new_items)} items")
        return RunErrorHandlerResult(final_output="handled")

    return handle


def handled(kind: str, *steps: Any, **options: Any) -> Case:
    case = simple(*steps, tools=[echo], **options)
    case.options["error_handlers"] = {kind: handler(case.log)}
    return case


def bad_request(*_: Any) -> Any:
    import httpx2

    request = httpx2.Request("POST", "https://x")
    body = {"code": "bad", "message": "no such thing", "param": "p", "type": "invalid"}
    response = httpx2.Response(400, json={"error": body}, request=request)
    return openai.BadRequestError("no such thing", response=response, body=body)


def odd_error_text(args: Any) -> str:
    return f"{args.kind}: {args.tool_name}"


CASES: dict[str, Callable[[], Case]] = {
    "pydantic output": lambda: simple(say('{"name": "Rome", "people": 3}'), output_type=City),
    "dataclass output": lambda: simple(
        say('{"x": 1, "y": {"b": 1, "a": 2}}'),
        output_type=AgentOutputSchema(Point, strict_json_schema=False),
    ),
    "list output": lambda: simple(
        say('{"response": [{"name": "Rome", "people": 3}]}'), output_type=list[City]
    ),
    "output that does not fit": lambda: simple(say("no json"), output_type=City),
    "static instructions": lambda: simple(say("x"), instructions="Be brief."),
    "sync instructions": lambda: simple(say("x"), instructions=lambda c, a: f"I am {a.name}"),
    "async instructions": lambda: simple(say("x"), instructions=sync_and_async),
    "prompt": lambda: simple(say("x"), prompt={"id": "pmpt_1", "version": "2"}),
    "dynamic prompt": lambda: simple(say("x"), prompt=prompted),
    "input filter": lambda: simple(
        [call(text="a")],
        say("x"),
        tools=[echo],
        config=RunConfig(call_model_input_filter=last_only),
    ),
    "named model": named_model,
    "model instance": model_instance,
    "handoff": handed_off,
    "handoff input filter": lambda: handed_off(RunConfig(handoff_input_filter=filtered)),
    "nested handoff history": lambda: handed_off(RunConfig(nest_handoff_history=True)),
    "hooks": hooked,
    "guardrails of the run": lambda: simple(
        say("x"), config=RunConfig(input_guardrails=[allow_input])
    ),
    "tripped by the input": lambda: simple(say("x"), input_guardrails=[refuse_input]),
    "tripped by the output": lambda: simple(
        say("x"), config=RunConfig(output_guardrails=[refuse_output])
    ),
    "tripped by a call": lambda: simple(
        [call(text="a")], tools=[guarded(tool_input_guardrails=[refuse_call])]
    ),
    "tripped by a result": lambda: simple(
        [call(text="a")], tools=[guarded(tool_output_guardrails=[refuse_result])]
    ),
    "max turns": lambda: simple(
        [call(text="a")], [call(text="b", call_id="c2")], say("x"), tools=[echo], max_turns=2
    ),
    "no max turns": lambda: simple(
        *([call(text=str(i), call_id=f"c{i}")] for i in range(12)),
        say("x"),
        tools=[echo],
        max_turns=None,
    ),
    "handled max turns": lambda: handled("max_turns", [call(text="a")], max_turns=1),
    "handled output": lambda: handled("invalid_final_output", say("no json"), output_type=City),
    "session callback": lambda: with_session(session_input_callback=merge),
    "session settings": lambda: with_session(session_settings=SessionSettings(limit=2)),
    "conversation": lambda: simple(
        [call(text="a")], say("x"), tools=[echo], conversation_id="conv_1"
    ),
    "previous response": lambda: simple(
        [call(text="a")], say("x"), tools=[echo], previous_response_id="resp-before"
    ),
    "automatic previous response": lambda: simple(
        [call(text="a")], say("x"), tools=[echo], auto_previous_response_id=True
    ),
    "unknown tool": lambda: simple([call("nothing")], tools=[echo]),
    "unknown tool told to the model": lambda: simple(
        [call("nothing")],
        say("x"),
        tools=[echo],
        config=RunConfig(tool_not_found_behavior="return_error_to_model"),
    ),
    "tool error formatter": lambda: simple(
        [call("nothing")],
        say("x"),
        tools=[echo],
        config=RunConfig(
            tool_not_found_behavior="return_error_to_model", tool_error_formatter=odd_error_text
        ),
    ),
    "failing tool": lambda: simple([call("fail")], say("x"), tools=[fail]),
    "exploding tool": lambda: simple([call("explode")], say("x"), tools=[explode]),
    "slow tool": lambda: simple([call("slow")], say("x"), tools=[slow]),
    "one tool at a time": lambda: simple(
        [call(text="a"), call(text="b", call_id="c2")],
        say("x"),
        tools=[echo],
        config=RunConfig(tool_execution=ToolExecutionConfig(max_function_tool_concurrency=1)),
    ),
    "model error": lambda: simple(bad_request()),
    "user error": lambda: simple(UserError("not so")),
    "reasoning ids": lambda: simple(
        [call(text="a")],
        say("x"),
        tools=[echo],
        config=RunConfig(reasoning_item_id_policy="omit"),
    ),
    "trace": lambda: simple(
        say("x"),
        config=RunConfig(
            workflow_name="w", trace_id="trace_1", group_id="g", trace_metadata={"a": 1}
        ),
    ),
    "tracing disabled": lambda: simple(say("x"), config=RunConfig(tracing_disabled=True)),
}


async def told(case: Case, runner: Any, is_streamed: bool) -> str:
    """What the caller of a run gets to see of it, as text."""
    try:
        if is_streamed:
            result = runner.run_streamed(case.agent, case.given, **case.options)
            async for _ in result.stream_events():
                pass
        else:
            result = await runner.run(case.agent, case.given, **case.options)
    except Exception as error:  # noqa: BLE001  # compared
        return "\n".join([*case.log, told_error(error)])
    usage = result.context_wrapper.usage
    parts = [
        f"{result.final_output!r} of {result.last_agent.name}",
        *(type(item).__name__ for item in result.new_items),
        str(result.to_input_list()),
        str([response.response_id for response in result.raw_responses]),
        f"{usage.requests} requests, {usage.total_tokens} tokens",
        str([(r.guardrail.get_name(), r.output) for r in result.input_guardrail_results]),
        f"{result.last_response_id}, {result.max_turns if is_streamed else ''}",
    ]
    if "session" in case.options:
        parts.append(str(await case.options["session"].get_items()))
    return "\n".join([*case.log, *parts])


def told_error(error: Any) -> str:
    names = ("message", "code", "status_code", "param", "type", "tool_name", "timeout_seconds")
    plain = {name: getattr(error, name) for name in names if hasattr(error, name)}
    if isinstance(error, openai.APIError):
        plain["body"] = json.dumps(error.body, sort_keys=True)
    result = getattr(error, "guardrail_result", None)
    if result is not None:
        plain["guardrail"] = (result.guardrail.get_name(), result.output)
    elif hasattr(error, "guardrail"):
        plain["guardrail"] = (error.guardrail.get_name(), error.output)
    data = getattr(error, "run_data", None)
    if data is not None:
        plain["items"] = [type(item).__name__ for item in data.new_items]
        plain["last agent"] = data.last_agent.name
        plain["responses"] = len(data.raw_responses)
    return f"{type(error).__name__}({error}) {plain}"


def asked(model: ScriptedModel) -> list[str]:
    """What a model was asked for."""
    return [
        str(
            (
                one.system_instructions,
                one.input,
                one.model_settings,
                [tool.name for tool in one.tools],
                one.output_schema.name() if one.output_schema else None,
                [handoff.tool_name for handoff in one.handoffs],
                one.tracing,
                one.previous_response_id,
                one.conversation_id,
                one.prompt,
            )
        )
        for one in model.calls
    ]


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_durable_run_and_its_replay_are_as_the_sdk_s(app: App, is_streamed: bool) -> None:
    plain: dict[str, tuple[str, list[str]]] = {}
    durable: dict[str, str] = {}
    cases: dict[str, list[Case]] = {}
    for name, make in CASES.items():
        case = make()
        plain[name] = asyncio.run(told(case, Runner, is_streamed)), asked(case.model)
        first, second = cases[name] = [make(), make()]
        if "session" in first.options:
            # Sessions outlive the process.
            second.options["session"] = first.options["session"]
        left = [first, second]

        async def body(left: list[Case] = left) -> str:
            return await told(left.pop(0), timestep.DurableRunner, is_streamed)

        durable[name] = app.run(body, workflow_id=name)
    before, steps = app.everything(), {name: app.steps(name) for name in CASES}
    replayed = app.replay_all(list(CASES))
    assert app.everything() == before
    wrong: dict[str, Any] = {}
    for name, (first, second) in cases.items():
        checks: dict[str, tuple[Any, Any]] = {
            "the SDK's": (plain[name][0], durable[name]),
            "its replay": (durable[name], replayed[name]),
            "asked": (plain[name][1], asked(first.model)),
            "asked again": ([], asked(second.model)),
            "steps": (steps[name], app.steps(name)),
        }
        if bad := {what: pair for what, pair in checks.items() if pair[0] != pair[1]}:
            wrong[name] = bad
    assert wrong == {}, "\n\n".join(
        f"== {name} / {what}\n{pair[0]}\n-- is not --\n{pair[1]}"
        for name, bad in wrong.items()
        for what, pair in bad.items()
    )


def test_max_turns_is_raised_by_who_waits_for_the_workflow(app: App) -> None:
    case = CASES["max turns"]()

    async def body() -> Any:
        return await timestep.DurableRunner.run(case.agent, "hi", **case.options)

    with pytest.raises(MaxTurnsExceeded, match="2"):
        app.run(body, workflow_id="w")
