"""Converts the context of a JavaScript state: its usage, decisions, and calls so far."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from timestep.errors import ForeignStateError
from timestep.run_states.javascript_items import Document, renamed
from timestep.serialization.registered_types import registered
from timestep.serialization.values import is_encoded


def run_key(call: Document) -> str:
    """What JavaScript calls the run of an agent that is a tool."""
    return f"{json.dumps(['bare', call['name']], separators=(',', ':'))}:{call['callId']}"


def context_of(document: Document, items: list[Document], decided: list[Document]) -> Document:
    context = document["context"]
    own = context.get("functionApprovals") or []
    # JavaScript keeps what was decided for the run of an agent that is a tool in the run around
    # it, and Python in that run itself, where no other agent may be named.
    agents = {found["agent"]["name"] for found in items}
    inherited = [owner for owner in decided if owner["agentIdentity"] in agents]
    # A context that Timestep made JSON of in Python has been through JavaScript as that JSON.
    # Whatever else has such keys is JavaScript's own data.
    found = context["context"]
    of_class = is_encoded(found) and registered(found["$type"]) is not None
    return {
        **renamed("context", context),
        "context": context["context"],
        "context_meta": {
            "original_type": "custom" if of_class else "mapping",
            "serialized_via": "context_serializer" if of_class else "mapping",
            "requires_deserializer": of_class,
            "omitted": False,
        },
        "usage": usage_of(context["usage"]),
        "approvals": {},
        "function_tool_approvals": list(_decisions([*own, *inherited])),
        "tool_invocations": _invocations(items, document.get("pendingAgentToolRuns") or {}),
    }


def _decisions(approvals: list[Document]) -> Iterator[Document]:
    for owner in approvals:
        for key, record in owner["approvals"].items():
            kind, *name = json.loads(key)
            check_key(key if kind != "bare" else None, str(name[-1]))
            yield {
                "agent": {"name": owner["agentIdentity"]},
                "tool_key": name[0],
                "decision": renamed("decision", record),
            }


def _invocations(items: list[Document], runs: Document) -> Document:
    """What the SDK knows of each call of a function, so that a decision is for that call alone."""
    done = {
        found["raw_item"]["call_id"]
        for found in items
        if found["raw_item"]["type"] == "function_call_output"
    }
    begun = done | {key.rpartition(":")[2] for key in runs}
    return {
        call["call_id"]: {
            **_invocation(call, "handoff" if found["type"] == "handoff_call_item" else None),
            "executed": call["call_id"] in begun,
            "completed": call["call_id"] in done,
        }
        for found in items
        if (call := found["raw_item"])["type"] == "function_call"
    }


def _invocation(call: Document, role: str | None) -> Document:
    """The SDK checks these digests: of a wrong one it asks again, or refuses the state."""
    scope: Document = {"type": "function_call", "tool_lookup_key": ["bare", call["name"]]}
    if role is not None:
        scope["invocation_role"] = role
    approval_scope = _digest(scope)
    try:
        arguments = json.loads(call["arguments"], parse_constant=refuse_constant)
    except ValueError:
        arguments = call["arguments"]
    payload = {"type": "function_call", "approval_scope": approval_scope, "arguments": arguments}
    return {
        "type": "function_call",
        "approval_scope": approval_scope,
        "fingerprint": _digest(payload),
    }


def _digest(payload: Document) -> str:
    text = json.dumps(payload, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def check_key(key: str | None, name: str) -> None:
    if key is not None and json.loads(key) != ["bare", name]:
        raise ForeignStateError(
            f"the state holds a call of {name!r}, a tool of a namespace or loaded by a search, "
            "which is not converted"
        )


def usage_of(usage: Document) -> Document:
    entries = usage.get("requestUsageEntries") or []
    return {
        **renamed("usage", usage),
        "input_tokens_details": [_sum(usage.get("inputTokensDetails"))],
        "output_tokens_details": [_sum(usage.get("outputTokensDetails"))],
        "request_usage_entries": [
            {
                **renamed("usage", entry),
                "input_tokens_details": _sum(entry.get("inputTokensDetails")),
                "output_tokens_details": _sum(entry.get("outputTokensDetails")),
            }
            for entry in entries
        ],
    }


def _sum(details: list[dict[str, int]] | dict[str, int] | None) -> dict[str, int]:
    """The SDK counts what is named so; JavaScript keeps the details of each request."""
    total: dict[str, int] = {}
    for one in details if isinstance(details, list) else [details or {}]:
        for name, count in one.items():
            total[name] = total.get(name, 0) + count
    return total


def refuse_constant(constant: str) -> None:
    raise ValueError(constant)
