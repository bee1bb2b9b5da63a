"""Rows of runs that a test writes itself, where how they came about does not matter."""

from __future__ import annotations

import json
import uuid
from typing import Any

from tests.support.dbos_app import App

_AGENT = """
    INSERT INTO agents (name, version, instructions_type) VALUES (%s, 1, 'none')
    ON CONFLICT DO NOTHING"""


def record_run(app: App, workflow_id: str, status: str, **columns: Any) -> uuid.UUID:
    """Write a run of an agent `Ann`, and tell its id.

    Args:
        app: Whose database it is.
        workflow_id: The workflow's.
        status: The run's.
        columns: Others of the row; `agent` is the agent's name, and documents are given as they
            are.
    """
    id_ = uuid.uuid4()
    agent = columns.pop("agent", "Ann")
    app.execute(_AGENT, (agent,))
    ((agent_id,),) = app.execute("SELECT id FROM agents WHERE name = %s", (agent,))
    row = {
        "id": id_,
        "workflow_id": workflow_id,
        "workflow_name": "answer",
        "root_run_id": id_,
        "agent_id": agent_id,
        "status": status,
        "input": "hello",
        "sdk_version": "0",
        "error_type": "ValueError" if status == "failed" else None,
        "cancel_reason": "cancelled" if status == "cancelled" else None,
        **columns,
    }
    for name in ("input", "final_output"):
        row[name] = json.dumps(row[name]) if row.get(name) is not None else None
    names, marks = ", ".join(row), ", ".join(f"%({name})s" for name in row)
    ended = "NULL" if status in ("running", "interrupted") else "now()"
    app.execute(f"INSERT INTO runs ({names}, completed_at) VALUES ({marks}, {ended})", row)
    return id_


def record_call(app: App, run_id: uuid.UUID, tool_name: str, **columns: Any) -> uuid.UUID:
    """Write a call of a tool that is under way, and tell its id."""
    id_ = uuid.uuid4()
    row = {
        "id": id_,
        "run_id": run_id,
        "turn": 1,
        "call_id": str(id_),
        "tool_name": tool_name,
        "tool_type": "function",
        "status": "pending",
        **columns,
    }
    names, marks = ", ".join(row), ", ".join(f"%({name})s" for name in row)
    app.execute(f"INSERT INTO tool_calls ({names}) VALUES ({marks})", row)
    return id_


def record_question(app: App, run_id: uuid.UUID, tool_name: str, **columns: Any) -> uuid.UUID:
    """Write a question about a call that waits for a person, and tell its id."""
    call = record_call(app, run_id, tool_name)
    id_ = uuid.uuid4()
    row = {
        "id": id_,
        "run_id": run_id,
        "tool_call_id": call,
        "type": "tool_approval",
        "reason": "needs_approval",
        "tool_name": tool_name,
        "arguments": json.dumps({"target": "moon"}),
        **columns,
    }
    names, marks = ", ".join(row), ", ".join(f"%({name})s" for name in row)
    app.execute(f"INSERT INTO interruptions ({names}) VALUES ({marks})", row)
    return id_
