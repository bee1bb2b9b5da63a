"""Replaces the SDK's call sites that a durable run goes through; nothing else replaces any.

Each is replaced once by a function that falls through to the SDK's own unless the caller is
part of a durable run, so agents, tools and run configurations stay the user's, untouched.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import agents.run
from agents import ItemHelpers, Model, RunContextWrapper, run_state
from agents.mcp import MCPUtil
from agents.models import openai_provider
from agents.models.chatcmpl_stream_handler import ChatCmplStreamHandler
from agents.models.openai_chatcompletions import OpenAIChatCompletionsModel
from agents.models.openai_responses import OpenAIResponsesModel
from agents.run_internal import guardrails as sdk_guardrails
from agents.run_internal import (
    run_loop,
    session_persistence,
    tool_actions,
    tool_execution,
    tool_planning,
    tool_use_tracker,
    turn_resolution,
)
from agents.tool_guardrails import ToolInputGuardrail, ToolOutputGuardrail

from timestep import versions
from timestep.envelopes import make_picklable
from timestep.errors import ConfigurationError
from timestep.execution.current import current_run
from timestep.sdk import builtin_tools, function_tools, guardrails, session_calls, turn_loop
from timestep.sdk.default_runner import DispatchingRunner
from timestep.sdk.mcp import tools
from timestep.sdk.mcp.listings import current_listing
from timestep.sdk.models import default_client, durable_model, lone_model, whole_answers
from timestep.sdk.state import agent_identity

_SITES: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
    (run_loop, "get_model", durable_model.get_model),
    (Model, "__getattribute__", lone_model.get_attribute),
    (run_loop, "get_response_with_retry", durable_model.without_timeout),
    (run_loop, "stream_response_with_retry", durable_model.without_timeout),
    (run_loop, "apply_retry_attempt_usage", durable_model.apply_retry_attempt_usage),
    (openai_provider, "shared_http_client", default_client.shared_http_client),
    (ChatCmplStreamHandler, "handle_stream", whole_answers.handle_stream),
    (OpenAIChatCompletionsModel, "_fetch_response", whole_answers.fetch_response),
    (OpenAIResponsesModel, "_fetch_response", whole_answers.fetch_response),
    (run_loop, "run_single_turn_streamed", turn_loop.run_single_turn_streamed),
    (run_loop, "resolve_interrupted_turn", turn_loop.resolve_interrupted_turn),
    (agents.run, "start_streaming", turn_loop.start_streaming),
    (agents.run, "run_single_turn", turn_loop.run_single_turn),
    (agents.run, "resolve_interrupted_turn", turn_loop.resolve_interrupted_turn),
    (sdk_guardrails, "run_single_input_guardrail", guardrails.run_single_input_guardrail),
    (sdk_guardrails, "run_single_output_guardrail", guardrails.run_single_output_guardrail),
    (tool_execution, "_invoke_function_tool_with_metadata", function_tools.invoke_function_tool),
    (ItemHelpers, "tool_call_output_item", function_tools.output_item),
    (tool_execution, "function_needs_approval", function_tools.function_needs_approval),
    (turn_resolution, "function_needs_approval", function_tools.function_needs_approval),
    (RunContextWrapper, "get_approval_status", function_tools.get_approval_status),
    (tool_actions, "evaluate_needs_approval_setting", builtin_tools.needs_approval),
    (tool_actions, "resolve_approval_status", builtin_tools.resolve_approval_status),
    (run_loop, "initialize_computer_tools", builtin_tools.initialize_computer_tools),
    (tool_planning, "execute_computer_actions", builtin_tools.execute_computer_actions),
    (tool_planning, "execute_mcp_approval_requests", builtin_tools.execute_mcp_approval_requests),
    (tool_actions.LocalShellAction, "execute", builtin_tools.run_local_shell),
    (tool_actions.ShellAction, "execute", builtin_tools.run_shell),
    (tool_actions.CustomToolAction, "execute", builtin_tools.run_custom),
    (tool_actions.ApplyPatchAction, "execute", builtin_tools.run_apply_patch),
    (tool_actions.ComputerAction, "execute", builtin_tools.run_computer),
    (tool_actions.ComputerAction, "_execute_action_and_capture", builtin_tools.act_and_capture),
    (MCPUtil, "_list_tools_with_span", tools.list_tools),
    (MCPUtil, "invoke_mcp_tool", tools.call_tool),
    (session_persistence, "_call_session_method", session_calls.call_session_method),
    (run_state, "_build_agent_identity_keys_by_id", agent_identity.keys_by_id),
    (tool_use_tracker, "_build_agent_identity_keys_by_id", agent_identity.keys_by_id),
    (run_state, "_get_ambiguous_agent_ids", agent_identity.ambiguous_ids),
    (run_state, "_has_ambiguous_hook_identities", agent_identity.has_ambiguous_hooks),
    (ToolInputGuardrail, "run", guardrails.run_tool_guardrail),
    (ToolOutputGuardrail, "run", guardrails.run_tool_guardrail),
)

_OF_ANY_MODEL = {
    lone_model.get_attribute,
    whole_answers.handle_stream,
    whole_answers.fetch_response,
}
"""What holds of models that a workflow asks outside of its runs, too."""


def connect() -> None:
    """Put durable runs at the SDK's call sites. A second time it changes nothing.

    Raises:
        ConfigurationError: This version of the SDK has no such call site.
    """
    for owner, name, ours in _SITES:
        original = getattr(owner, name, None)
        if original is None:
            reason = f"it has no {owner.__name__}.{name}"
            raise ConfigurationError(versions.refusal(reason, "openai-agents"))
        if not hasattr(original, "timestep_original"):
            site = _site(original, ours)
            # What the class or module holds itself: a class method is no function there.
            vars(site)["timestep_replaced"] = vars(owner).get(name)
            setattr(owner, name, site)
    make_picklable()


def disconnect() -> None:
    """Put the SDK's own objects back at its call sites.

    What another library has put around a call site since stays, and falls through to the SDK's.
    """
    for owner, name, _ in _SITES:
        site = vars(owner).get(name)
        attributes = getattr(site, "__dict__", {})
        if attributes.get("timestep_site", owner) is not site:
            continue
        replaced = attributes["timestep_replaced"]
        if replaced is None:
            delattr(owner, name)
        else:
            setattr(owner, name, replaced)


def _site(original: Any, ours: Callable[..., Any]) -> Any:
    @functools.wraps(original)
    def site(*args: Any, **kwargs: Any) -> Any:
        run = current_run()
        if run is not None:
            return ours(run, original, *args, **kwargs)
        if ours is tools.list_tools and (listing := current_listing()) is not None:
            return tools.list_tools_for_state(listing, original, *args, **kwargs)
        # Who keeps the client that is made here may be asked by a workflow later.
        is_kept = ours is default_client.shared_http_client
        if is_kept or (ours in _OF_ANY_MODEL and _is_durable_here()):
            return ours(None, original, *args, **kwargs)
        return original(*args, **kwargs)

    # The SDK's own object, for `disconnect`; a wrapper that somebody puts around this site copies
    # these attributes, and is told from the site by the second one.
    vars(site)["timestep_original"] = original
    vars(site)["timestep_site"] = site
    return site


def _is_durable_here() -> bool:
    runner = agents.run.get_default_agent_runner()
    return isinstance(runner, DispatchingRunner) and runner.chooses()
