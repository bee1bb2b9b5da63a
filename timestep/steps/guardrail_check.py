"""Makes steps of guardrails' checks: each is made once, and the first to trip decides."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from agents import Agent, GuardrailFunctionOutput
from agents.guardrail import InputGuardrail, OutputGuardrail
from agents.tool_guardrails import (
    RejectContentBehavior,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrail,
    ToolOutputGuardrail,
)

from timestep.dbos_internals.step_numbers import StepReservation
from timestep.execution.counters import OF_CALLS
from timestep.execution.pending_calls import Call
from timestep.execution.run import Rows, Run
from timestep.serialization.ids import derived, storable_name
from timestep.serialization.values import (
    decode,
    encode,
    plain_text,
    restored,
    storable,
    survives,
)
from timestep.steps.perform import perform
from timestep.steps.step import Step

Kind = Literal["input", "output"]


async def check_run(
    run: Run,
    guardrail: InputGuardrail[Any] | OutputGuardrail[Any],
    agent: Agent[Any],
    check: Callable[[], Awaitable[GuardrailFunctionOutput]],
) -> GuardrailFunctionOutput:
    """What a guardrail said of the run's input, or its output."""
    kind: Kind = "input" if isinstance(guardrail, InputGuardrail) else "output"
    step = _RunCheck(run, kind, guardrail, agent, check)
    await step.describe()
    try:
        output = await perform(step)
    except Exception:
        if step.position:
            # It ended; a failure is handed over in its turn, too.
            async with run.guardrails.in_order(step.position):
                raise
        raise
    except BaseException:
        step.leave()
        raise
    async with run.guardrails.in_order(step.position):
        return output


class _RunCheck(Step[GuardrailFunctionOutput]):
    table = "guardrail_results"

    def __init__(
        self,
        run: Run,
        kind: Kind,
        guardrail: InputGuardrail[Any] | OutputGuardrail[Any],
        agent: Agent[Any],
        check: Callable[[], Awaitable[GuardrailFunctionOutput]],
    ) -> None:
        self.run = run
        self.kind = kind
        self.guardrail = guardrail
        self.agent = agent
        self.check = check
        self.turn = _turn(run, kind)
        title = guardrail.get_name()
        key = f"{kind}:{title}"
        self.id = derived(run.id, f"guardrail:{key}:{run.counters.next_of(key)}")
        self.name = f"{kind} guardrail: {title}"
        self.number = _number(run, kind)
        recorded = run.record.find(self.table, self.id)
        self.position = recorded["position"] if recorded is not None else 0

    async def describe(self) -> None:
        self.agent_id = await self.run.agent_id(self.agent)

    def leave(self) -> None:
        """Hold up nobody who waits for this check to be handed over."""
        self.run.guardrails.skip(self.position)

    async def effect(self) -> GuardrailFunctionOutput:
        said = await self.check()
        info = survives(said.output_info)
        return said if info is said.output_info else replace(said, output_info=info)

    def _row(self, duration_ms: int) -> dict[str, Any]:
        self.position = self.run.guardrails.next()
        guardrail_id = self.run.definitions.guardrail_ids.get(id(self.guardrail))
        return {
            "id": str(self.id),
            "run_id": str(self.run.id),
            "agent_id": str(self.agent_id),
            "guardrail_id": str(guardrail_id) if guardrail_id is not None else None,
            "guardrail_name": storable_name(self.guardrail.get_name()),
            "type": self.kind,
            "turn": self.turn,
            "position": self.position,
            "duration_ms": duration_ms,
        }

    def rows(self, value: GuardrailFunctionOutput, duration_ms: int) -> Rows:
        row = {
            **self._row(duration_ms),
            "tripwire_triggered": value.tripwire_triggered,
            "output_info": storable(encode(value.output_info)),
        }
        if value.tripwire_triggered:
            # From now on the run is decided: no further effect may start.
            self.run.record.note(self.table, {**row, "error": None})
        return {"guardrail_results": [row]}

    def failed_rows(self, envelope: dict[str, Any], duration_ms: int) -> Rows:
        return {
            "guardrail_results": [{**self._row(duration_ms), "error": storable(dict(envelope))}]
        }

    def replayed(self, row: dict[str, Any]) -> GuardrailFunctionOutput:
        self.position = row["position"]
        return GuardrailFunctionOutput(
            output_info=decode(restored(row["output_info"])),
            tripwire_triggered=row["tripwire_triggered"],
        )


def _turn(run: Run, kind: Kind) -> int:
    """The turn that a check belongs to."""
    if kind == "input" and not run.input_checks:
        # Input that was added to a state is checked before the turn that it is for.
        return run.turn + 1
    return max(run.turn, 1)


def _number(run: Run, kind: Kind) -> StepReservation | None:
    """Input checks of the first turn run beside it: their numbers were drawn at the start."""
    if kind == "input" and run.input_checks:
        return run.input_checks.popleft()
    return run.counters.draw()


async def check_call(
    run: Run,
    call: Call | None,
    guardrail: ToolInputGuardrail[Any] | ToolOutputGuardrail[Any],
    index: int,
    check: Callable[[], Awaitable[ToolGuardrailFunctionOutput]],
) -> ToolGuardrailFunctionOutput:
    """What a tool's guardrail said of a call's arguments, or of its output."""
    kind: Kind = "input" if isinstance(guardrail, ToolInputGuardrail) else "output"
    return await perform(_CallCheck(run, call, kind, guardrail, index, check))


class _CallCheck(Step[ToolGuardrailFunctionOutput]):
    table = "tool_guardrail_results"

    def __init__(
        self,
        run: Run,
        call: Call | None,
        kind: Kind,
        guardrail: ToolInputGuardrail[Any] | ToolOutputGuardrail[Any],
        index: int,
        check: Callable[[], Awaitable[ToolGuardrailFunctionOutput]],
    ) -> None:
        self.run = run
        self.call = call
        self.kind = kind
        self.guardrail = guardrail
        self.check = check
        owner = call.id if call is not None else run.id
        key = f"{OF_CALLS}{kind}:{index}:{owner}"
        self.id: uuid.UUID = derived(owner, f"guardrail:{kind}:{index}:{run.counters.next_of(key)}")
        self.name = f"tool {kind} guardrail: {guardrail.get_name()}"
        numbered = call is not None and (kind, index) in call.checks
        self.number = call.checks.pop((kind, index)) if numbered and call else run.counters.draw()

    async def effect(self) -> ToolGuardrailFunctionOutput:
        said = await self.check()
        info, behavior = survives(said.output_info), said.behavior
        if behavior["type"] == "reject_content":
            # What the model is told is what the column holds, in a replay as now.
            message = plain_text(behavior["message"]) or ""
            behavior = RejectContentBehavior(type="reject_content", message=message)
        return replace(said, output_info=info, behavior=behavior)

    def retrace(self, row: dict[str, Any]) -> None:
        self.end_position = row.get("end_position")

    def _row(self, duration_ms: int) -> dict[str, Any]:
        self.end_position = self.run.call_ends.draw(f"{self.name!r} ends")
        guardrail_id = self.run.definitions.tool_guardrail_ids.get(id(self.guardrail))
        return {
            "id": str(self.id),
            "run_id": str(self.run.id),
            "agent_id": self.call.row["agent_id"] if self.call is not None else None,
            "tool_call_id": str(self.call.id) if self.call is not None else None,
            "tool_guardrail_id": str(guardrail_id) if guardrail_id is not None else None,
            "guardrail_name": storable_name(self.guardrail.get_name()),
            "type": self.kind,
            "duration_ms": duration_ms,
            "end_position": self.end_position,
        }

    def rows(self, value: ToolGuardrailFunctionOutput, duration_ms: int) -> Rows:
        behavior: Mapping[str, Any] = value.behavior
        row = {
            **self._row(duration_ms),
            "behavior": behavior["type"],
            "message": plain_text(behavior.get("message")),
            "output_info": storable(encode(value.output_info)),
        }
        return {"tool_guardrail_results": [row]}

    def failed_rows(self, envelope: dict[str, Any], duration_ms: int) -> Rows:
        row = {**self._row(duration_ms), "error": storable(dict(envelope))}
        return {"tool_guardrail_results": [row]}

    def replayed(self, row: dict[str, Any]) -> ToolGuardrailFunctionOutput:
        info = decode(restored(row["output_info"]))
        if row["behavior"] == "reject_content":
            return ToolGuardrailFunctionOutput.reject_content(row["message"], output_info=info)
        if row["behavior"] == "raise_exception":
            return ToolGuardrailFunctionOutput.raise_exception(output_info=info)
        return ToolGuardrailFunctionOutput.allow(output_info=info)
