"""What makes a run stop for a person: recorded with the run's whole state, in one step."""

from __future__ import annotations

from typing import Any

from agents import RunResult, RunResultStreaming, RunState
from agents.items import ToolApprovalItem

from timestep.calls import doubt_key, expected, is_in_doubt
from timestep.rows import arguments_of, derived, raw
from timestep.run import Call, Rows, Run
from timestep.values import storable


def waiting_calls(state: RunState[Any] | None) -> frozenset[str] | None:
    """The ids of the calls that an interrupted state waits for."""
    if state is None:
        return None
    return frozenset(call_id(item) for item in state.get_interruptions())


def call_id(item: ToolApprovalItem) -> str:
    """The provider's id of the call that wants an approval."""
    document = raw(item.raw_item)
    return str(document.get("call_id") or document.get("id") or "")


def calls_of(run: Run, item: ToolApprovalItem) -> tuple[Run, Call] | None:
    """The call that an approval is about, and the run (this one, or one inside it) it is of."""
    call = expected(run, call_id(item))
    if call is not None and call.row["tool_name"] == item.tool_name:
        return run, call
    for child in run.children.values():
        if (found := calls_of(child, item)) is not None:
            return found
    return (run, call) if call is not None else None


async def record(run: Run, result: RunResult | RunResultStreaming) -> None:
    """Write that a run stopped: its questions, its status and its state."""
    run.interrupted_calls = frozenset(call_id(item) for item in result.interruptions)
    rows: Rows = {"interruptions": [], "tool_calls": []}
    for item in result.interruptions:
        found = calls_of(run, item)
        if found is None or found[0] is not run:
            continue  # Asked by a run inside this one, which recorded it.
        _ask(run, found[1], item, rows)
    asked = [row["id"] for row in rows["interruptions"]]
    if asked and all(id_ in run.journal.get("interruptions", {}) for id_ in asked):
        return
    checkpoint = run.ledger.checkpoint(result.to_state(), run.turn)
    state_id = derived(run.id, f"interrupted:{':'.join(sorted(asked))}")
    rows["run_states"] = [run.state_row("interrupted", checkpoint, state_id)]
    rows["runs"] = [
        {
            "id": str(run.id),
            "status": "interrupted",
            "current_turn": run.turn,
            "current_agent_id": str(await run.agent_id(result.last_agent)),
        }
    ]
    await run.commit(rows)


def _ask(run: Run, call: Call, item: ToolApprovalItem, rows: Rows) -> None:
    doubted = is_in_doubt(run, call_id(item))
    document = raw(item.raw_item)
    kind = "mcp_approval" if document.get("type") == "mcp_approval_request" else "tool_approval"
    if doubted:
        recorded = run.recorded("tool_calls", call.id) or {}
        rows["tool_calls"].append(
            {**call.row, "status": "in_doubt", "intents": recorded.get("intents", 0)}
        )
    rows["interruptions"].append(
        {
            "id": str(derived(call.id, doubt_key(run, call) if doubted else "approval")),
            "run_id": str(run.id),
            "agent_id": call.row["agent_id"],
            "tool_call_id": str(call.id),
            "type": kind,
            "reason": "in_doubt" if doubted else "needs_approval",
            "call_id": call_id(item),
            "tool_name": item.tool_name or call.row["tool_name"],
            "arguments": storable(arguments_of(document)),
        }
    )
