"""Makes a step of a turn's model call, and lays out the items and tool calls it asks for."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from agents import Agent, Handoff, ModelResponse, Tool, Usage
from agents.tool import FunctionTool

from timestep.accounting.prices import usage_columns
from timestep.execution.call_rows import left_call
from timestep.execution.pending_calls import Call
from timestep.execution.replay import recorded_end
from timestep.execution.run import Rows, Run
from timestep.serialization.ids import derived, storable_name
from timestep.serialization.sdk_objects import (
    call_columns,
    call_id_of,
    is_call,
    is_made_here,
    item_type,
    model_name,
    raw,
    response_columns,
    response_of,
    text_in,
)
from timestep.serialization.values import plain_text, storable
from timestep.steps.model_attempts import ModelAttempts
from timestep.steps.model_stream import Stream
from timestep.steps.perform import perform
from timestep.steps.step import Step
from timestep.tool_options import options_of


async def call_model(
    run: Run,
    model: object,
    tools: Sequence[Tool],
    handoffs: Sequence[Handoff[Any, Any]],
    attempts: ModelAttempts[ModelResponse],
    stream: Stream | None = None,
) -> ModelResponse:
    """The model's answer in the current turn, recorded once. Its usage counts every attempt.

    Args:
        run: The run whose turn it is.
        model: The model that is asked, to record its name.
        tools: The tools the model may call.
        handoffs: The handoffs it may call.
        attempts: Calls the model.
        stream: Where what it says meanwhile goes.
    """
    agent = run.agent
    if agent is None:
        raise RuntimeError("a model was called before a turn began")
    names = {plain_text(handoff.tool_name) for handoff in handoffs}
    step = _ModelStep(run, run.counters.next_response(), agent, model, attempts, stream, names)
    agent_id = await run.agent_id(agent)
    step.agent_id = agent_id
    step.given = tools
    step.tools = {storable_name(tool.name): tool for tool in tools}
    if stream is not None:
        await stream.open(step.id, step.turn)
    response = await perform(step)
    await recorded_end.wait_for_trip(run)
    _expect_calls(run, step, response)
    return response


_WITHOUT_EFFECT = ("message_output_item", "reasoning_item")


class _ModelStep(Step[ModelResponse]):
    table = "model_responses"
    agent_id: uuid.UUID
    given: Sequence[Tool]
    tools: dict[str, Tool]

    def __init__(
        self,
        run: Run,
        ordinal: int,
        agent: Agent[Any],
        model: object,
        attempts: ModelAttempts[ModelResponse],
        stream: Stream | None,
        handoff_names: Collection[str | None],
    ) -> None:
        self.run = run
        self.ordinal = ordinal
        self.turn = run.turn
        self.id = derived(run.id, f"response:{ordinal}")
        self.name = f"turn {run.turn}: {agent.name}"
        self.agent = agent
        self.number = run.counters.draw()
        self.model = model_name(model, agent.model)
        self.attempts = attempts
        self.stream = stream
        self.handoff_names = handoff_names
        self.calls: list[Call] = []
        self.items: list[dict[str, Any]] | None = None

    async def effect(self) -> ModelResponse:
        if self.stream is None:
            return await self.attempts.answer()
        async with self.stream.being_recorded():
            return await self.attempts.answer()

    def may_be_deferred(self, value: ModelResponse) -> bool:
        """Where it calls tools: those calls are steps, and the SDK alone reads it before them."""
        if self.run.recorder.is_busy:
            # It would gain nothing, and costs a task.
            return False
        if self.stream is not None or self.run.has_hooks or self.agent.hooks is not None:
            return False
        tools = (*self.agent.tools, *self.given)
        if any(callable(getattr(tool, "is_enabled", None)) for tool in tools):
            # Asked once more before the calls, of every tool.
            return False
        if any(self.run.calls.may_be_skipped(call) for call in self.calls):
            # No step may follow in this turn, and an error handler or a formatter may be asked.
            return False
        return bool(self.calls) and all(
            item["item_type"] in _WITHOUT_EFFECT or self._calls_at_once(item)
            for item in self.items or ()
        )

    def _calls_at_once(self, item: dict[str, Any]) -> bool:
        if item["item_type"] != "tool_call_item":
            return False
        # Tools of two namespaces may have one name.
        name = item["item_data"].get("name")
        named = [tool for tool in self.given if tool.name == name]
        return bool(named) and all(
            isinstance(tool, FunctionTool) and tool.needs_approval is False for tool in named
        )

    def replayed(self, row: dict[str, Any]) -> ModelResponse:
        return response_of(row)

    def _response_row(self) -> dict[str, Any]:
        return {
            "id": str(self.id),
            "attempt": self.attempts.number,
            "started_at": self.attempts.began,
            "duration_ms": self.attempts.duration_ms,
            **self._common(),
        }

    def _rows_so_far(self) -> Rows:
        """What the attempts before the last one left, and what the model said."""
        return {
            "model_responses": [
                {
                    "id": str(derived(self.id, f"attempt:{failure.attempt}")),
                    "attempt": failure.attempt,
                    "started_at": failure.began,
                    "duration_ms": failure.duration_ms,
                    "error": storable(dict(failure.envelope)),
                    **self._common(),
                }
                for failure in self.attempts.failures
            ],
            "stream_batches": self.stream.rest() if self.stream is not None else [],
        }

    def _common(self) -> dict[str, Any]:
        return {
            "run_id": str(self.run.id),
            "agent_id": str(self.agent_id),
            "turn": self.turn,
            "ordinal": self.ordinal,
            "model": self.model,
        }

    def failed_rows(self, envelope: dict[str, Any], duration_ms: int) -> Rows:
        rows = self._rows_so_far()
        rows["model_responses"].append({**self._response_row(), "error": storable(dict(envelope))})
        return {**rows, "runs": [self._run_row()]}

    def _run_row(self) -> dict[str, Any]:
        return {
            "id": str(self.run.id),
            "status": "running",
            "current_turn": self.turn,
            "current_agent_id": str(self.agent_id),
        }

    def rows(self, value: ModelResponse, duration_ms: int) -> Rows:
        self.lay_out(value)
        rows = self._rows_so_far()
        failed = rows["model_responses"]
        used = usage_columns(value.usage, self.model)
        used["requests"] -= len(failed)
        entries = [self._usage_row(str(self.id), used)]
        if failed:
            one = usage_columns(Usage(requests=1), self.model)
            entries[:0] = [self._usage_row(row["id"], one) for row in failed]
        return {
            **rows,
            "model_responses": [*failed, {**self._response_row(), **response_columns(value)}],
            "run_items": list(self.items or []),
            "tool_calls": [call.row for call in self.calls],
            "request_usage_entries": entries,
            "runs": [self._run_row()],
        }

    def _usage_row(self, response_id: str, used: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": str(derived(uuid.UUID(response_id), "usage")),
            "run_id": str(self.run.id),
            "agent_id": str(self.agent_id),
            "usage_metrics_id": str(derived(self.run.id, "usage")),
            "model_response_id": response_id,
            "model": self.model,
            **used,
        }

    def lay_out(self, response: ModelResponse) -> None:
        """Give each item its place and each call its row, the same in every execution."""
        if self.items is not None:
            return
        self.items = []
        for index, output in enumerate(response.output):
            item = raw(output)
            call = self._call(index, item) if is_call(item) else None
            kind = item_type(item, self.handoff_names)
            if call is not None and kind != "handoff_call_item":
                self.calls.append(call)
            else:
                call = None
            self.items.append(
                {
                    "id": str(derived(self.id, f"item:{index}")),
                    "run_id": str(self.run.id),
                    "agent_id": str(self.agent_id),
                    "model_response_id": str(self.id),
                    "tool_call_id": str(call.id) if call is not None else None,
                    "turn": self.turn,
                    "position": self.run.counters.next_position(),
                    "item_type": kind,
                    "role": text_in(item, "role"),
                    "item_data": storable(item),
                }
            )
        for call in self.calls:
            call.position = self.run.counters.next_position()

    def _call(self, index: int, item: dict[str, Any]) -> Call:
        columns = call_columns(item)
        tool = self.tools.get(columns["tool_name"])
        here = is_made_here(item)
        tool_id = self.run.definitions.tool_ids.get((self.agent_id, columns["tool_name"]))
        row = {
            "id": str(derived(self.id, f"call:{index}")),
            "run_id": str(self.run.id),
            "agent_id": str(self.agent_id),
            "tool_id": str(tool_id) if tool_id is not None else None,
            "model_response_id": str(self.id),
            "turn": self.turn,
            **columns,
            "status": "pending" if here else "executed",
            "completed_at": None if here else time.monotonic(),
            "safe_to_repeat": options_of(tool).safe_to_repeat,
        }
        return Call(
            id=uuid.UUID(row["id"]), row=row, position=0, number=None, call_id=call_id_of(item)
        )


def _expect_calls(run: Run, step: _ModelStep, response: ModelResponse) -> None:
    """Draw the numbers of the calls the model asked for, in the order it asked."""
    step.lay_out(response)
    run.calls.begin_turn([call for call in step.calls if call.row["status"] == "pending"])
    for call in run.calls.of_turn:
        name = call.row["tool_name"]
        _draw_numbers(run, call, step.tools.get(name))
        run.calls.expect(call)
        # Tools of two namespaces may have one name.
        are_apart = len(step.tools) == len(step.given)
        if are_apart or sum(storable_name(tool.name) == name for tool in step.given) == 1:
            call.tool = step.tools.get(name)


async def expect_left(run: Run, agent: Agent[Any], left: Iterable[tuple[Any, Tool]]) -> None:
    """Draw the numbers of the calls that the run's state waits for, as another run left it."""
    agent_id = await run.agent_id(agent)
    for item, tool in left:
        call = left_call(run, agent_id, tool, item, item.call_id)
        call.tool = tool
        _draw_numbers(run, call, tool)
        run.calls.expect(call)
        if run.record.find("tool_calls", call.id) is None:
            run.commits.add("tool_calls", [{**call.row, "status": "pending"}])


def _draw_numbers(run: Run, call: Call, tool: Tool | None) -> None:
    """Draw the numbers of a call and of the checks of its tool."""
    before, after = (0, 0)
    if isinstance(tool, FunctionTool):
        before = len(tool.tool_input_guardrails or ())
        after = len(tool.tool_output_guardrails or ())
    run.calls.draw(call, before, after)
