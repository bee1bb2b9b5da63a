"""The SDK's call sites that a durable run goes through. No other module names its privates.

Each is replaced once by a function that falls through to the SDK's own unless the caller is
part of a durable run, so agents, tools and run configurations stay the user's, untouched.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import agents.run
from agents import Agent, Model, ModelResponse, Tool
from agents.agent_tool_state import get_agent_tool_state_scope, peek_agent_tool_run_result
from agents.exceptions import ModelBehaviorError
from agents.guardrail import InputGuardrailResult, OutputGuardrailResult
from agents.models._response_terminal import (
    response_error_event_failure_error,
    response_terminal_failure_error,
)
from agents.run import AgentRunner
from agents.run_internal import guardrails, run_loop, tool_execution, turn_resolution
from agents.tool import _FunctionToolInvocationResult
from agents.tool_guardrails import ToolInputGuardrail, ToolOutputGuardrail
from agents.usage import Usage, _response_usage_to_usage
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseOutputItemDoneEvent,
    ResponseUsage,
)
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails

from timestep import calls, checks, turns
from timestep.calls import ToolResult
from timestep.definitions import describe
from timestep.durability import check_agents
from timestep.envelopes import make_picklable
from timestep.errors import ConfigurationError
from timestep.ledger import Ledger
from timestep.run import Run, current_run

_SITES: tuple[tuple[Any, str, str], ...] = (
    (run_loop, "get_model", "_get_model"),
    (run_loop, "run_single_turn_streamed", "_run_single_turn_streamed"),
    (run_loop, "resolve_interrupted_turn", "_resolve_interrupted_turn"),
    (agents.run, "start_streaming", "_start_streaming"),
    (agents.run, "run_single_turn", "_run_single_turn"),
    (agents.run, "resolve_interrupted_turn", "_resolve_interrupted_turn"),
    (guardrails, "run_single_input_guardrail", "_run_single_input_guardrail"),
    (guardrails, "run_single_output_guardrail", "_run_single_output_guardrail"),
    (tool_execution, "_invoke_function_tool_with_metadata", "_invoke_function_tool"),
    (tool_execution, "function_needs_approval", "_function_needs_approval"),
    (turn_resolution, "function_needs_approval", "_function_needs_approval"),
    (ToolInputGuardrail, "run", "_run_tool_guardrail"),
    (ToolOutputGuardrail, "run", "_run_tool_guardrail"),
)


def connect() -> None:
    """Put durable runs at the SDK's call sites. A second time it changes nothing.

    Raises:
        ConfigurationError: This version of the SDK has no such call site.
    """
    for owner, name, ours in _SITES:
        original = getattr(owner, name, None)
        if original is None:
            raise ConfigurationError(
                f"openai-agents {importlib.metadata.version('openai-agents')} has no "
                f"{owner.__name__}.{name}, which Timestep needs: install a version that Timestep "
                "was tested with (0.24)"
            )
        if not hasattr(original, "timestep_original"):
            setattr(owner, name, _site(original, globals()[ours]))
    make_picklable()


def _site(original: Any, ours: Callable[..., Any]) -> Any:
    @functools.wraps(original)
    def site(*args: Any, **kwargs: Any) -> Any:
        run = current_run()
        return original(*args, **kwargs) if run is None else ours(run, original, *args, **kwargs)

    vars(site)["timestep_original"] = original
    return site


def _ledger(run: Run) -> Ledger:
    found: Ledger = run.ledger
    return found


# Models


def _get_model(run: Run, original: Any, *args: Any, **kwargs: Any) -> Model:
    model: Model = original(*args, **kwargs)
    # The SDK tells models apart by identity: one durable model for each of the run's models.
    durable: Model = run.models.setdefault(id(model), DurableModel(model, run))
    return durable


class DurableModel(Model):
    """Whatever model was resolved, asked through the run's steps."""

    def __init__(self, inner: Model, run: Run) -> None:
        self.inner = inner
        self.run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def close(self) -> None:
        await self.inner.close()

    async def _cleanup_on_run_end(self, owner: object) -> None:
        await self.inner._cleanup_on_run_end(owner)

    def get_retry_advice(self, request: Any) -> Any:
        return self.inner.get_retry_advice(request)

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        def ask() -> Awaitable[ModelResponse]:
            return self.inner.get_response(*args, **kwargs)

        tools, handoffs = _tools_and_handoffs(args, kwargs)
        return await turns.call_model(self.run, self.inner, tools, handoffs, ask)

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Events as the model makes them; the last one only once the answer is recorded."""
        events: asyncio.Queue[Any] = asyncio.Queue()
        last: list[Any] = []

        async def ask() -> ModelResponse:
            async with aclosing(self.inner.stream_response(*args, **kwargs)) as stream:  # type: ignore[type-var]
                async for event in stream:
                    if _is_last(event):
                        last.append(event)
                        break
                    events.put_nowait(event)
                    if isinstance(event, ResponseOutputItemDoneEvent):
                        done.append(event.item)
            return _answer(last[0] if last else None, done)

        done: list[Any] = []
        tools, handoffs = _tools_and_handoffs(args, kwargs)
        step = asyncio.ensure_future(turns.call_model(self.run, self.inner, tools, handoffs, ask))
        step.add_done_callback(lambda _: events.put_nowait(None))
        try:
            streamed = False
            while (event := await events.get()) is not None:
                streamed = True
                yield event
            if last:
                yield last[0]
            response = await step
            if not streamed and not last:
                for event in _replayed_events(response):
                    yield event
        finally:
            if not step.done():
                step.cancel()
                await asyncio.wait([step])


def _tools_and_handoffs(args: Any, kwargs: Any) -> tuple[list[Tool], list[Any]]:
    """`tools` and `handoffs` are the fourth and sixth of a model's parameters."""
    tools = kwargs["tools"] if "tools" in kwargs else args[3]
    handoffs = kwargs["handoffs"] if "handoffs" in kwargs else args[5]
    return tools, handoffs


def _is_last(event: Any) -> bool:
    return getattr(event, "type", None) in {
        "response.completed",
        "response.incomplete",
        "response.failed",
        "response.error",
        "error",
    }


def _answer(last: Any, done: list[Any]) -> ModelResponse:
    """The answer that a stream's last event holds, read as the SDK's loop reads it."""
    if last is None:
        raise ModelBehaviorError("Model did not produce a final response!")
    response = getattr(last, "response", None)
    if last.type in {"response.incomplete", "response.failed"}:
        raise response_terminal_failure_error(
            last.type, response if isinstance(response, Response) else None
        )
    if not isinstance(last, ResponseCompletedEvent):
        raise response_error_event_failure_error(last.type, last)
    answer = last.response
    return ModelResponse(
        output=list(answer.output or done),
        usage=_response_usage_to_usage(answer.usage) if answer.usage else Usage(),
        response_id=answer.id,
        request_id=getattr(answer, "_request_id", None),
    )


def _replayed_events(response: ModelResponse) -> list[Any]:
    """The events of a recorded answer: each item as done, then the whole."""
    usage = response.usage
    whole = Response(
        id=response.response_id or "",
        created_at=0,
        model="",
        object="response",
        output=response.output,
        tool_choice="auto",
        tools=[],
        parallel_tool_calls=True,
        usage=ResponseUsage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            total_tokens=usage.total_tokens,
            input_tokens_details=usage.input_tokens_details
            or InputTokensDetails(cached_tokens=0, cache_write_tokens=0),
            output_tokens_details=usage.output_tokens_details
            or OutputTokensDetails(reasoning_tokens=0),
        ),
    )
    if response.request_id is not None:
        whole._request_id = response.request_id
    items = [
        ResponseOutputItemDoneEvent(
            item=item, output_index=index, sequence_number=index, type="response.output_item.done"
        )
        for index, item in enumerate(response.output)
    ]
    completed = ResponseCompletedEvent(
        response=whole, sequence_number=len(items), type="response.completed"
    )
    return [*items, completed]


# Turns


async def _start_streaming(run: Run, original: Any, *args: Any, **kwargs: Any) -> None:
    await run.stream(original, *args, **kwargs)


async def _run_single_turn(run: Run, original: Any, **kwargs: Any) -> Any:
    ledger = _ledger(run)
    _start_turn(run, kwargs["bindings"].public_agent)
    if not run.has_checkpoint(run.turn):
        run.checkpoint = ledger.checkpoint(ledger.state_before_turn(run.turn, kwargs), run.turn)
    return _end_turn(run, await original(**kwargs))


async def _run_single_turn_streamed(run: Run, original: Any, *args: Any, **kwargs: Any) -> Any:
    streamed_result, bindings = args[0], args[1]
    _start_turn(run, bindings.public_agent)
    if not run.has_checkpoint(run.turn):
        state = streamed_result.to_state()
        # The result counts the turn that begins; its state is of the turns that ended.
        state._current_turn = run.turn - 1
        run.checkpoint = _ledger(run).checkpoint(state, run.turn)
    return _end_turn(run, await original(*args, **kwargs))


async def _resolve_interrupted_turn(run: Run, original: Any, **kwargs: Any) -> Any:
    run.agent = kwargs["bindings"].public_agent
    return _end_turn(run, await original(**kwargs))


def _start_turn(run: Run, agent: Agent[Any]) -> None:
    if id(agent) not in run.definitions.agent_ids:
        # A handoff that told its target only when it was invoked.
        check_agents(describe([agent]).agents)
    run.agent = agent
    run.turn += 1


def _end_turn(run: Run, result: Any) -> Any:
    ledger = _ledger(run)
    ledger.add_turn(result)
    for table, rows in ledger.rows_of_turn(run, result).items():
        run.waiting.setdefault(table, []).extend(rows)
    return result


# Tools


async def _invoke_function_tool(
    run: Run, original: Any, *, function_tool: Any, context: Any, arguments: str
) -> Any:
    async def invoke() -> ToolResult:
        made = await original(function_tool=function_tool, context=context, arguments=arguments)
        nested = peek_agent_tool_run_result(
            context.tool_call, scope_id=get_agent_tool_state_scope(context)
        )
        paused = bool(getattr(nested, "interruptions", None))
        return ToolResult(made.output, made.is_sdk_generated_error, is_paused=paused)

    result = await calls.call_tool(run, function_tool, context, invoke)
    return _FunctionToolInvocationResult(result.output, is_sdk_generated_error=result.is_error)


async def _function_needs_approval(
    run: Run, original: Any, function_tool: Any, context_wrapper: Any, tool_call: Any
) -> Any:
    evaluation = await original(function_tool, context_wrapper, tool_call)
    if calls.is_answered(run, tool_call.call_id):
        # It was called without a question; a function that answers otherwise today comes late.
        return type(evaluation)(
            "invoke",
            function_tool,
            function_tool.on_invoke_tool,
            tool_call.arguments,
            evaluation.prepared,
        )
    if calls.is_asked_about(run, tool_call.call_id):
        return type(evaluation)(
            "require_approval",
            function_tool,
            function_tool.on_invoke_tool,
            tool_call.arguments,
            evaluation.prepared,
        )
    return evaluation


# Guardrails


async def _run_single_input_guardrail(
    run: Run, original: Any, agent: Any, guardrail: Any, given: Any, context: Any
) -> InputGuardrailResult:
    async def check() -> Any:
        return (await original(agent, guardrail, given, context)).output

    output = await checks.check_run(run, guardrail, agent, check)
    result = InputGuardrailResult(guardrail=guardrail, output=output)
    _ledger(run).input_results.append(result)
    return result


async def _run_single_output_guardrail(
    run: Run, original: Any, guardrail: Any, agent: Any, agent_output: Any, context: Any
) -> OutputGuardrailResult:
    async def check() -> Any:
        return (await original(guardrail, agent, agent_output, context)).output

    output = await checks.check_run(run, guardrail, agent, check)
    return OutputGuardrailResult(
        guardrail=guardrail, agent=agent, agent_output=agent_output, output=output
    )


async def _run_tool_guardrail(run: Run, original: Any, guardrail: Any, data: Any) -> Any:
    async def check() -> Any:
        return await original(guardrail, data)

    call_id = data.context.tool_call_id
    call = calls.expected(run, call_id) or run.made.get(call_id)
    return await checks.check_call(run, call, guardrail, _index(guardrail, data), check)


def _index(guardrail: Any, data: Any) -> int:
    """A guardrail's place among its tool's."""
    tools = [tool for tool in data.agent.tools if tool.name == data.context.tool_name]
    for tool in tools:
        for found in (tool.tool_input_guardrails, tool.tool_output_guardrails):
            for index, candidate in enumerate(found or ()):
                if candidate is guardrail:
                    return index
    return 0


class DispatchingRunner(AgentRunner):
    """The SDK's default runner: durable where `chooses` says so, else its own.

    Args:
        durable: Runs durably.
        chooses: Whether the caller's run is to be durable.
    """

    def __init__(self, durable: Any, chooses: Callable[[], bool]) -> None:
        self.durable = durable
        self.chooses = chooses

    async def run(self, starting_agent: Any, input: Any, **kwargs: Any) -> Any:  # noqa: A002
        if self.chooses():
            return await self.durable.run(starting_agent, input, **kwargs)
        return await super().run(starting_agent, input, **kwargs)

    def run_streamed(self, starting_agent: Any, input: Any, **kwargs: Any) -> Any:  # noqa: A002
        if self.chooses():
            return self.durable.run_streamed(starting_agent, input, **kwargs)
        return super().run_streamed(starting_agent, input, **kwargs)
