"""Makes steps of function tools' calls, and answers whether a call needs an approval."""

from __future__ import annotations

import asyncio
import copy
import functools
from collections.abc import Awaitable
from typing import Any

from agents import ItemHelpers
from agents.agent_tool_state import (
    drop_agent_tool_run_result,
    get_agent_tool_state_scope,
    peek_agent_tool_run_result,
)
from agents.exceptions import ToolTimeoutError
from agents.tool import _FailureHandlingFunctionToolInvoker, _FunctionToolInvocationResult

from timestep.execution.run import Run
from timestep.sdk.mcp import tools
from timestep.steps import interruption, tool_workflow
from timestep.steps.tool_attempts import ToolAttempts, ToolResult
from timestep.steps.tool_call import Asked, call_tool
from timestep.tool_options import options_of


async def invoke_function_tool(
    run: Run, original: Any, *, function_tool: Any, context: Any, arguments: str
) -> Any:
    async def invoke(attempts: ToolAttempts) -> ToolResult:
        def make(tool: Any) -> Awaitable[Any]:
            return original(function_tool=tool, context=context, arguments=arguments)  # type: ignore[no-any-return]  # untyped

        if attempts.is_one:
            made = await attempts.make(lambda: make(_observed(function_tool, attempts)))
        else:
            made = await make(_in_attempts(function_tool, attempts))
        return ToolResult(made.output, made.is_sdk_generated_error, is_paused=is_waiting())

    def is_waiting() -> bool:
        nested = peek_agent_tool_run_result(context.tool_call, scope_id=scope_id)
        return bool(getattr(nested, "interruptions", None))

    scope_id = get_agent_tool_state_scope(context)

    async def invoke_apart(attempts: ToolAttempts) -> ToolResult:
        return await tool_workflow.make_call(run, context, attempts, invoke)

    def shows(result: ToolResult) -> Any:
        return _item_of(context.tool_call, result.output)

    asked = Asked(
        function_tool,
        context.tool_call_id,
        context.tool_call,
        context,
        # What a schema makes of the output it makes of the same output again.
        shows=shows if function_tool.output_json_schema is None else None,
        is_only_shown=_is_only_shown(run, function_tool),
    )
    is_apart = options_of(function_tool).as_workflow
    result = await call_tool(run, asked, invoke_apart if is_apart else invoke)
    if not result.is_paused and is_waiting():
        # Replayed: the tool's own code, which lets go of the run that waited, was not run.
        drop_agent_tool_run_result(context.tool_call, scope_id=scope_id)
    tools.restore_custom_data(run, context)
    return _FunctionToolInvocationResult(result.output, is_sdk_generated_error=result.is_error)


_item_of = ItemHelpers.tool_call_output_item
"""The SDK's own, which a call site stands in front of."""


def output_item(run: Run, original: Any, tool_call: Any, output: Any, **given: Any) -> Any:
    """The item by which the model is shown a call's output, as it was recorded."""
    call = run.calls.made(getattr(tool_call, "call_id", ""))
    if call is not None and call.output is not None and call.given is output:
        return copy.deepcopy(call.output)
    return original(tool_call, output, **given)


def _is_only_shown(run: Run, tool: Any) -> bool:
    """Whether nobody but the model, and who reads the run's items, sees what a tool gives."""
    agent = run.agent
    return (
        agent is not None
        and not run.has_hooks
        and agent.hooks is None
        and agent.tool_use_behavior == "run_llm_again"
        and not tool.tool_output_guardrails
        and tool.custom_data_extractor is None
    )


def _observed(function_tool: Any, attempts: ToolAttempts) -> Any:
    """The tool, or a copy of it that notes what its body raises before the SDK answers that."""
    invoker = function_tool.on_invoke_tool
    if not isinstance(invoker, _FailureHandlingFunctionToolInvoker):
        return function_tool

    @functools.wraps(invoker._invoke_tool_impl)
    async def observed(context: Any, arguments: str) -> Any:
        try:
            return await invoker._invoke_tool_impl(context, arguments)
        except Exception as error:
            attempts.answers(error)
            raise
        except asyncio.CancelledError:
            if (seconds := function_tool.timeout_seconds) is not None:
                # The SDK's own timeout, which it may answer; else nobody asks what was noted.
                attempts.answers(ToolTimeoutError(function_tool.name, seconds))
            raise

    return _with_body(function_tool, observed)


def _with_body(function_tool: Any, body: Any) -> Any:
    """A copy of a tool with another body inside what answers its errors."""
    tool = copy.copy(function_tool)
    answering = function_tool.on_invoke_tool._on_handled_error
    handled = _FailureHandlingFunctionToolInvoker(body, answering)
    tool.on_invoke_tool = handled.__agents_bind_function_tool__(tool)
    return tool


def _in_attempts(function_tool: Any, attempts: ToolAttempts) -> Any:
    """A copy of the tool whose body runs in attempts, inside what answers its last error."""
    invoker = function_tool.on_invoke_tool
    if isinstance(invoker, _FailureHandlingFunctionToolInvoker):
        return _with_body(function_tool, _attempted(invoker._invoke_tool_impl, attempts))
    tool = copy.copy(function_tool)
    tool.on_invoke_tool = _attempted(invoker, attempts)
    return tool


def _attempted(invoke: Any, attempts: ToolAttempts) -> Any:
    # The SDK reads the annotations of an invoker to choose which context it is given.
    @functools.wraps(invoke)
    async def attempted(context: Any, arguments: str) -> Any:
        return await attempts.make(lambda: invoke(context, arguments))

    return attempted


def get_approval_status(
    run: Run, original: Any, context: Any, tool_name: str, call_id: str, **given: Any
) -> bool | None:
    """An approval for all calls of a tool does not cover one whose outcome is in doubt."""
    status = original(context, tool_name, call_id, **given)
    call = interruption.expected(run, call_id)
    if status and call is not None and not call.asked and interruption.is_asked_about(run, call_id):
        return None
    return status  # type: ignore[no-any-return]  # untyped


async def function_needs_approval(
    run: Run, original: Any, function_tool: Any, context_wrapper: Any, tool_call: Any
) -> Any:
    evaluation = await original(function_tool, context_wrapper, tool_call)
    await interruption.until_ended(run, tool_call.call_id)
    if interruption.is_answered(run, tool_call.call_id):
        # It was called without a question; a function that answers otherwise today comes late.
        return type(evaluation)(
            "invoke",
            function_tool,
            function_tool.on_invoke_tool,
            tool_call.arguments,
            evaluation.prepared,
        )
    if interruption.is_asked_about(run, tool_call.call_id):
        return type(evaluation)(
            "require_approval",
            function_tool,
            function_tool.on_invoke_tool,
            tool_call.arguments,
            evaluation.prepared,
        )
    return evaluation
