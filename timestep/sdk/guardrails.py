"""Makes steps of guardrails: of a run's input and output, and of a tool's."""

from __future__ import annotations

from typing import Any

from agents.guardrail import InputGuardrailResult, OutputGuardrailResult

from timestep.execution.run import Run
from timestep.sdk.state.run_history import history_of
from timestep.steps import guardrail_check


async def run_single_input_guardrail(
    run: Run, original: Any, agent: Any, guardrail: Any, given: Any, context: Any
) -> InputGuardrailResult:
    async def check() -> Any:
        return (await original(agent, guardrail, given, context)).output

    output = await guardrail_check.check_run(run, guardrail, agent, check)
    result = InputGuardrailResult(guardrail=guardrail, output=output)
    history_of(run).input_results.append(result)
    return result


async def run_single_output_guardrail(
    run: Run, original: Any, guardrail: Any, agent: Any, agent_output: Any, context: Any
) -> OutputGuardrailResult:
    async def check() -> Any:
        return (await original(guardrail, agent, agent_output, context)).output

    output = await guardrail_check.check_run(run, guardrail, agent, check)
    return OutputGuardrailResult(
        guardrail=guardrail, agent=agent, agent_output=agent_output, output=output
    )


async def run_tool_guardrail(run: Run, original: Any, guardrail: Any, data: Any) -> Any:
    async def check() -> Any:
        return await original(guardrail, data)

    call_id = data.context.tool_call_id
    call = run.calls.next(call_id) or run.calls.made(call_id)
    return await guardrail_check.check_call(run, call, guardrail, _index(guardrail, data), check)


def _index(guardrail: Any, data: Any) -> int:
    """A guardrail's place among its tool's."""
    tools = [tool for tool in data.agent.tools if tool.name == data.context.tool_name]
    for tool in tools:
        for found in (tool.tool_input_guardrails, tool.tool_output_guardrails):
            for index, candidate in enumerate(found or ()):
                if candidate is guardrail:
                    return index
    return 0
