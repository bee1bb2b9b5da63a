"""The runs of the crash matrix that have runs inside them, with a question in the innermost."""

from __future__ import annotations

from typing import Any

from agents import Agent, GuardrailFunctionOutput, Runner, input_guardrail
from agents.testing import assistant_message, function_call
from dbos import DBOS

import timestep
from tests.crash import scenarios


def _calls(name: str, *calls: tuple[str, dict[str, Any]]) -> scenarios.AnsweringModel:
    """A model that asks for these calls at once, and tells their scenarios.outputs."""
    return scenarios.AnsweringModel(
        name,
        lambda items: (
            [assistant_message(f"{name}: {' / '.join(scenarios.outputs(items).values())}")]
            if scenarios.outputs(items)
            else [
                function_call(tool, arguments, call_id=f"{name}{index}")
                for index, (tool, arguments) in enumerate(calls)
            ]
        ),
    )


innermost = Agent(
    name="Innermost", model=_calls("innermost", ("delete", {"name": "x"})), tools=[scenarios.delete]
)
middle = Agent(
    name="Middle",
    model=_calls("middle", ("innermost", {"input": "x"})),
    tools=[innermost.as_tool("innermost", "Deletes.")],
)
outermost = Agent(
    name="Outermost",
    model=_calls("outermost", ("middle", {"input": "x"})),
    tools=[middle.as_tool("middle", "Delegates.")],
)


@DBOS.workflow()
async def deep(given: str) -> str:
    return str((await timestep.run_agent(outermost, given)).final_output)


judge = Agent(
    name="Judge", model=_calls("judge", ("look_up", {"city": "Oslo"})), tools=[scenarios.look_up]
)


@input_guardrail(run_in_parallel=False)
async def judged(ctx: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
    said = (await Runner.run(judge, str(given))).final_output
    return GuardrailFunctionOutput(output_info=said, tripwire_triggered=False)


defendant = Agent(
    name="Defendant",
    model=scenarios.AnsweringModel("defendant", lambda items: [assistant_message("not guilty")]),
    input_guardrails=[judged],
)


@DBOS.workflow()
async def guarded_by_agent(given: str) -> str:
    return str((await timestep.DurableRunner.run(defendant, given)).final_output)
