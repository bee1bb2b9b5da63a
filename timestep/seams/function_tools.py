"""Calls of function tools, and whether they need an approval."""

from __future__ import annotations

from typing import Any

from agents.agent_tool_state import (
    drop_agent_tool_run_result,
    get_agent_tool_state_scope,
    peek_agent_tool_run_result,
)
from agents.tool import _FunctionToolInvocationResult

from timestep import calls
from timestep.calls import Asked, ToolResult
from timestep.run import Run


async def invoke_function_tool(
    run: Run, original: Any, *, function_tool: Any, context: Any, arguments: str
) -> Any:
    scope_id = get_agent_tool_state_scope(context)
    is_invoked = False

    async def invoke() -> ToolResult:
        nonlocal is_invoked
        is_invoked = True
        made = await original(function_tool=function_tool, context=context, arguments=arguments)
        nested = peek_agent_tool_run_result(context.tool_call, scope_id=scope_id)
        paused = bool(getattr(nested, "interruptions", None))
        return ToolResult(made.output, made.is_sdk_generated_error, is_paused=paused)

    asked = Asked(function_tool, context.tool_call_id, context.tool_call, context.usage)
    result = await calls.call_tool(run, asked, invoke)
    if not is_invoked:
        # The agent inside paused, and its end comes from the record.
        drop_agent_tool_run_result(context.tool_call, scope_id=scope_id)
    return _FunctionToolInvocationResult(result.output, is_sdk_generated_error=result.is_error)


async def function_needs_approval(
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
