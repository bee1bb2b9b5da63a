"""Keeps what a tripped guardrail said. Its name stands for the guardrail, an agent's for it."""

from __future__ import annotations

from typing import Any

from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrail,
    InputGuardrailResult,
    OutputGuardrail,
    OutputGuardrailResult,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrail,
    ToolOutputGuardrail,
)
from agents.exceptions import (
    InputGuardrailTripwireTriggered,
    OutputGuardrailTripwireTriggered,
    ToolInputGuardrailTripwireTriggered,
    ToolOutputGuardrailTripwireTriggered,
)

from timestep.errors import RecordedError
from timestep.serialization.exceptions.parts import known
from timestep.serialization.values import Json, encode

_OF_TOOLS: dict[type[Any], type[Any]] = {
    ToolInputGuardrailTripwireTriggered: ToolInputGuardrail,
    ToolOutputGuardrailTripwireTriggered: ToolOutputGuardrail,
}
_OF_RUNS = (InputGuardrailTripwireTriggered, OutputGuardrailTripwireTriggered)
ATTRIBUTES = ("guardrail_result", "guardrail", "output")
"""What the SDK's tripwires hold, which is made anew of what is kept here."""


def is_tripwire(error: BaseException) -> bool:
    """Whether the SDK raised it because a guardrail tripped."""
    return isinstance(error, (*_OF_RUNS, *_OF_TOOLS))


def seal(error: Any) -> dict[str, Json] | None:
    """What the guardrail said; None: the error is no tripwire, or holds nothing of one."""
    held = vars(error)
    tripped: Any = error
    if isinstance(error, tuple(_OF_TOOLS)) and "guardrail" in held:
        return {
            "guardrail": tripped.guardrail.get_name(),
            "info": encode(tripped.output.output_info),
            "behavior": dict(tripped.output.behavior),
        }
    if not isinstance(error, _OF_RUNS) or "guardrail_result" not in held:
        return None
    result = error.guardrail_result
    told = {"guardrail": result.guardrail.get_name(), "info": encode(result.output.output_info)}
    if isinstance(result, OutputGuardrailResult):
        told |= {"agent": result.agent.name, "output": encode(result.agent_output)}
    return told


def restore(error: BaseException, told: dict[str, Any]) -> None:
    """Give a tripwire what its guardrail said.

    Raises:
        TypeError: The error is no tripwire.
    """
    name = told["guardrail"]
    held = vars(error)
    for tripped, guardrail_kind in _OF_TOOLS.items():
        if isinstance(error, tripped):
            held["guardrail"] = guardrail_kind(guardrail_function=_recorded_guardrail, name=name)
            held["output"] = ToolGuardrailFunctionOutput(known(told["info"]), told["behavior"])
            return
    if not isinstance(error, _OF_RUNS):
        raise TypeError(f"{type(error).__name__} is no tripwire")
    output = GuardrailFunctionOutput(known(told["info"]), tripwire_triggered=True)
    if "agent" in told:
        held["guardrail_result"] = OutputGuardrailResult(
            guardrail=OutputGuardrail(guardrail_function=_recorded_guardrail, name=name),
            agent_output=known(told["output"]),
            agent=Agent(told["agent"]),
            output=output,
        )
    else:
        guardrail: InputGuardrail[Any] = InputGuardrail(_recorded_guardrail, name=name)
        held["guardrail_result"] = InputGuardrailResult(guardrail=guardrail, output=output)


def _recorded_guardrail(*_: Any) -> Any:
    raise RecordedError("the guardrail that tripped is known by its name only, and cannot run")
