"""What Timestep replaces in the SDK is there, and takes what Timestep gives it.

A new release of the SDK that moves one of these fails here, with its name.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from timestep.errors import ConfigurationError
from timestep.sdk import patches

PARAMETERS: dict[str, list[str]] = {
    "get_model": ["agent", "run_config"],
    "__getattribute__": ["name"],
    "shared_http_client": [],
    "handle_stream": ["require_finish_reason"],
    "_fetch_response": ["self"],
    "run_single_turn_streamed": ["streamed_result", "bindings"],
    "resolve_interrupted_turn": ["bindings"],
    "start_streaming": ["streamed_result"],
    "run_single_turn": [
        "bindings",
        "original_input",
        "generated_items",
        "context_wrapper",
        "tool_use_tracker",
        "run_state",
    ],
    "run_single_input_guardrail": ["agent", "guardrail", "input", "context"],
    "run_single_output_guardrail": ["guardrail", "agent", "agent_output", "context"],
    "_invoke_function_tool_with_metadata": ["function_tool", "context", "arguments"],
    "tool_call_output_item": ["tool_call", "output"],
    "function_needs_approval": ["function_tool", "context_wrapper", "tool_call"],
    "get_approval_status": ["tool_name", "call_id"],
    "evaluate_needs_approval_setting": ["needs_approval_setting"],
    "execute": ["context_wrapper"],
    "_execute_action_and_capture": ["computer", "tool_call"],
    "_call_session_method": ["method"],
    "apply_retry_attempt_usage": ["usage", "failed_attempts"],
    "get_response_with_retry": ["get_response", "timeout"],
    "stream_response_with_retry": ["get_stream", "timeout"],
    "resolve_approval_status": ["on_approval"],
    "initialize_computer_tools": ["tools"],
    "execute_computer_actions": ["actions"],
    "execute_mcp_approval_requests": ["approval_requests"],
    "_list_tools_with_span": ["server"],
    "invoke_mcp_tool": ["server"],
    "run": ["data"],
    "_build_agent_identity_keys_by_id": ["initial_agent"],
    "_get_ambiguous_agent_ids": ["initial_agent"],
    "_has_ambiguous_hook_identities": ["initial_agent"],
}


@pytest.mark.parametrize("site", patches._SITES, ids=lambda site: f"{site[0].__name__}.{site[1]}")
def test_a_call_site_takes_what_is_given_to_it(site: tuple[Any, str, Any]) -> None:
    owner, name, _ = site
    found = getattr(owner, name)
    original = getattr(found, "timestep_original", found)
    parameters = list(inspect.signature(original).parameters)
    # Ours hand them on by name where the SDK's loop does, and by place where it does not.
    missing = [wanted for wanted in PARAMETERS[name] if wanted not in parameters]
    assert not missing, f"{owner.__name__}.{name}({', '.join(parameters)}) lacks {missing}"


def test_a_missing_call_site_is_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Moved:
        """Where the site was before."""

    monkeypatch.setattr(patches, "_SITES", ((Moved, "get_model", patches.connect),))
    with pytest.raises(ConfigurationError, match=r"Moved\.get_model"):
        patches.connect()
