"""Shows what each call of the API is sent and answers, in its description."""

from __future__ import annotations

from typing import Any

_RUN_ID = "8c5f3f0e-6c0d-5d0b-9a55-0a4f0d8f6a11"
_ASKED_ID = "0f4c2f1e-77f4-5b0a-8a2e-3b1d5c9e7d21"
_HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_BEGAN = "2026-11-28T09:30:00+00:00"
_ENDED = "2026-11-28T09:30:04.512000+00:00"
_ARGUMENTS = {"order": "A-17", "amount": 40}

_USAGE = {
    "requests": 2,
    "input_tokens": 812,
    "cached_input_tokens": 0,
    "output_tokens": 64,
    "reasoning_tokens": 0,
    "total_tokens": 876,
}

_QUESTION: dict[str, Any] = {
    "id": _ASKED_ID,
    "run_id": _RUN_ID,
    "workflow_id": "refund-17",
    "type": "tool_approval",
    "reason": "needs_approval",
    "tool_name": "refund",
    "call_id": "call_1",
    "arguments": _ARGUMENTS,
    "agent_name": "Support",
    "created_at": _ENDED,
    "expires_at": None,
    "resolved_at": None,
    "resolution_action": None,
    "resolution_message": None,
    "resolution_always": False,
    "resolved_by": None,
    "is_waited_for": True,
    "obstacle": None,
    "hash": _HASH,
    "description": "Refund 40 for the order A-17",
    "arguments_schema": {
        "type": "object",
        "properties": {"order": {"type": "string"}, "amount": {"type": "integer"}},
        "required": ["order", "amount"],
    },
    "resolution_arguments": None,
}

_RUN: dict[str, Any] = {
    "id": _RUN_ID,
    "workflow_id": "refund-17",
    "workflow_name": "support",
    "status": "interrupted",
    "parent_run_id": None,
    "is_newest": True,
    "agent_name": "Support",
    "current_agent_name": "Support",
    "session_id": "customer-4",
    "input": "Please refund my order A-17.",
    "final_output": None,
    "turns": 1,
    "error": None,
    "cancel_reason": None,
    "forked_from_run_id": None,
    "forked_at_turn": None,
    "usage": _USAGE,
    "total_usage": None,
    "recoveries": None,
    "cost": 0.0021,
    "interruptions": [_QUESTION],
    "started_at": _BEGAN,
    "completed_at": None,
    "workflow": None,
    "executor": None,
    "is_left_alone": False,
    "is_stuck": False,
    "obstacle": None,
    "tags": {"team": "billing"},
}

_ITEM = {
    "id": "5a1f5c57-7a1f-5d39-8a35-1d2b5e0f7c31",
    "run_id": _RUN_ID,
    "position": 1,
    "turn": 1,
    "item_type": "tool_call_item",
    "role": None,
    "agent_name": "Support",
    "tool_call_id": "c1b6f6f4-1f0c-5c7e-9d0e-2e8f4f3b6a41",
    "item_data": {
        "type": "function_call",
        "name": "refund",
        "call_id": "call_1",
        "arguments": '{"order":"A-17","amount":40}',
    },
    "created_at": _ENDED,
    "original_data": None,
}

_CALL = {
    "id": "c1b6f6f4-1f0c-5c7e-9d0e-2e8f4f3b6a41",
    "turn": 1,
    "call_id": "call_1",
    "tool_name": "refund",
    "tool_type": "function",
    "arguments": _ARGUMENTS,
    "status": "executed",
    "output": "refunded",
    "error": None,
    "is_error": False,
    "intents": 1,
    "duration_ms": 210,
    "started_at": _BEGAN,
    "completed_at": _ENDED,
    "edited_arguments": None,
    "attempts": 2,
    "failed_attempts": [
        {
            "number": 1,
            "began_ms": 0,
            "ended_ms": 12,
            "followed_ms": 112,
            "error": {"type": "TimeoutError", "message": "the bank did not answer"},
        }
    ],
}

_TOKEN = {
    "id": "3d5a0d7a-3f4b-4c37-8f43-6a2f0c1f9b51",
    "name": "ann",
    "role": "operator",
    "created_at": _BEGAN,
    "expires_at": "2026-12-28T09:30:00+00:00",
    "last_used_at": None,
    "revoked_at": None,
}

_STARTED = {"workflow_id": "refund-17"}


def _page(item: Any, cursor: str | None = None) -> dict[str, Any]:
    return {"items": [item], "next_cursor": cursor}


_EVENTS = (
    "retry: 2000\n\n"
    "id: 42.0\n"
    "event: run\n"
    f'data: {{"cursor": "42.0", "kind": "run", "type": "run.completed", "run_id": "{_RUN_ID}"}}\n\n'
)

BODIES: dict[str, Any] = {
    "start_workflow": {
        "input": {"question": "Please refund my order A-17."},
        "workflow_id": "refund-17",
        "tags": {"team": "billing"},
    },
    "resume_workflow": {
        "approve": [_ASKED_ID],
        "expect": {_ASKED_ID: _HASH},
    },
    "fork_run": {"turn": 2, "agent": {"instructions": "Be brief."}},
    "create_token": {"name": "ann", "role": "operator", "expires": 2592000.0},
}
"""What a call is sent, by its operation's id."""

ANSWERS: dict[str, Any] = {
    "healthz": {"status": "ok"},
    "readyz": {"status": "ok"},
    "list_workflows": _page(
        {
            "name": "support",
            "description": "Answer a customer.",
            "input_schema": {
                "type": "object",
                "properties": {"question": {"type": "string"}},
                "required": ["question"],
                "additionalProperties": False,
            },
        }
    ),
    "draw_graph": {
        "mermaid": 'flowchart TD\n    entrypoint(["support"])\n    agent1["Support"]\n'
        "    entrypoint --> agent1"
    },
    "start_workflow": _STARTED,
    "resume_workflow": {
        "workflow_id": "refund-17",
        "resolved": [_ASKED_ID],
        "pending": [],
        "goes_on": True,
        "reason": None,
    },
    "cancel_workflow": _STARTED,
    "list_runs": _page(_RUN, "WyIyMDI2LTExLTI4VDA5OjMwOjAwKzAwOjAwIiwiOGM1ZjNmMGUiXQ"),
    "get_run": {
        **_RUN,
        "total_usage": _USAGE,
        "recoveries": 1,
        "workflow": {"status": "PENDING", "output": None, "error": None, "delayed_until": None},
        "executor": {"id": "local", "version": "8d1c6a", "is_live": True},
    },
    "list_items": _page(_ITEM),
    "list_tool_calls": _page(_CALL),
    "get_traceback": {
        "traceback": 'Traceback (most recent call last):\n  File "shop.py", line 12, in refund\n'
        "shop.OutOfMoney: 40 are left\n"
    },
    "follow_run": _EVENTS,
    "follow_all": _EVENTS,
    "fork_run": {"workflow_id": "b6ad1a0e-2a43-4d0e-9a0f-4b1f5c0d2e61"},
    "list_interruptions": _page(_QUESTION),
    "list_sessions": _page(
        {"session_id": "customer-4", "items": 6, "created_at": _BEGAN, "updated_at": _ENDED}
    ),
    "list_session_items": _page(
        {
            "position": 1,
            "item_type": "message",
            "role": "user",
            "item_data": {"role": "user", "content": "Please refund my order A-17."},
            "run_id": _RUN_ID,
            "created_at": _BEGAN,
        }
    ),
    "list_agents": _page(
        {
            "name": "Support",
            "version": 3,
            "model": "gpt-5",
            "instructions": "Help customers.",
            "instructions_type": "static",
            "output_type": None,
            "tools": ["refund"],
            "handoffs": [],
            "guardrails": [],
            "mcp_servers": [],
            "created_at": _BEGAN,
        }
    ),
    "report_usage": _page({"name": "Support", **_USAGE, "cost": 0.0021, "unpriced_requests": 0}),
    "list_audit": _page(
        {
            "id": 12,
            "at": _ENDED,
            "who": "ann",
            "role": "operator",
            "token_id": _TOKEN["id"],
            "via": "http",
            "address": "192.0.2.1",
            "machine": "host-1",
            "act": "decide",
            "subjects": ["refund-17", _ASKED_ID],
            "details": {"approve": [_ASKED_ID]},
            "refused": None,
        }
    ),
    "list_tokens": _page(_TOKEN),
    "create_token": {**_TOKEN, "token": "ts_shown-once-and-kept-by-whoever-it-is-given-to"},
    "revoke_token": {**_TOKEN, "revoked_at": _ENDED},
}
"""What a call answers where all is well, by its operation's id."""
