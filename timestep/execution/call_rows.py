"""Makes rows of a run's tool calls, and reads what is recorded inside of them."""

from __future__ import annotations

import uuid
from typing import Any

from agents.tool import Tool

from timestep.execution.pending_calls import Call
from timestep.execution.run import Run
from timestep.serialization.ids import derived, storable_name
from timestep.serialization.sdk_objects import call_columns, raw
from timestep.serialization.values import restored, storable
from timestep.tool_options import options_of


def nested_usage(run: Run, step_id: uuid.UUID) -> list[dict[str, Any]]:
    """The recorded usage of the runs inside a step that the run's own usage is to include."""
    rows = run.record.all("nested_usage")
    inside = {row["run_id"] for row in rows if row["step"] == str(step_id)}
    while more := {row["run_id"] for row in rows if row["parent_run_id"] in inside} - inside:
        inside |= more
    # A call that paused had its runs replayed until there, and what they used counted.
    counted = {str(child.id): child.counters.responses for child in run.family()}
    return [
        restored(row["usage"])
        for row in rows
        if row["run_id"] in inside and row["ordinal"] > counted.get(row["run_id"], 0)
    ]


def output_item(run: Run, call: Call, item: dict[str, Any]) -> dict[str, Any]:
    """The row of `run_items` that holds a call's output as the model sees it."""
    return {
        "id": str(derived(call.id, "output")),
        "run_id": str(run.id),
        "agent_id": call.row["agent_id"],
        "model_response_id": None,
        "tool_call_id": str(call.id),
        "turn": call.row["turn"],
        "position": call.position,
        "item_type": "tool_call_output_item",
        "role": None,
        "item_data": storable(item),
    }


def left_call(run: Run, agent_id: uuid.UUID, tool: Tool, item: Any, call_id: str) -> Call:
    """A call of a state that another run left: the model asked for it there."""
    document = raw(item) if item is not None else {"type": "function_call"}
    id_ = derived(run.id, f"call:{run.turn}:{call_id}")
    row = {
        "id": str(id_),
        "run_id": str(run.id),
        "agent_id": str(agent_id),
        "tool_id": None,
        "model_response_id": None,
        "turn": run.turn,
        **call_columns(document),
        "tool_name": storable_name(tool.name),
        "call_id": storable_name(call_id, None),
        "safe_to_repeat": options_of(tool).safe_to_repeat,
    }
    call = Call(
        id=id_,
        row=row,
        position=run.counters.next_position(),
        number=None,
        call_id=call_id,
    )
    run.calls.add(call)
    return call


def unexpected_call(run: Run, tool: Tool, item: Any, call_id: str) -> Call:
    """A call that nobody could foresee."""
    agent_id = run.definitions.agent_ids[id(run.agent)]
    call = left_call(run, agent_id, tool, item, call_id)
    call.number = run.counters.draw()
    return call
