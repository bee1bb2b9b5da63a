"""Converts a state that `@openai/agents` saved into the Python SDK's.

The two SDKs keep the same things of a run under other names, with schema versions that have
nothing to do with each other. Each direction is converted once, where it is read: this module
reads what JavaScript saved, `timestep/js/conversion.js` what Python saved. Both take the names
from `timestep/js/state_fields.json`, and both refuse a field that the table does not name.
Tested with openai-agents 0.24.0 (schema 1.21) and @openai/agents 0.20.0 (schema 1.22).

    Python (1.18 to 1.21)              JavaScript (1.18 to 1.22)
    ---------------------------------  --------------------------------------------------------
    $schemaVersion                     $schemaVersion: written as 1.21, and as 1.17, the newest
                                       whose proofs of calls JavaScript makes itself
    current_turn, max_turns            currentTurn, maxTurns
    current_agent                      currentAgent; two agents of one name are refused
    original_input, model_responses,   originalInput, modelResponses, lastModelResponse,
    last_model_response,               generatedItems; items below
    generated_items
    tool_use_tracker                   toolUseTracker
    input_guardrail_results,           inputGuardrailResults, outputGuardrailResults
    output_guardrail_results
    tool_input_guardrail_results,      toolInputGuardrailResults, toolOutputGuardrailResults;
    tool_output_guardrail_results      reject_content: rejectContent, raise_exception:
                                       throwException
    conversation_id,                   conversationId, previousResponseId, reasoningItemIdPolicy
    previous_response_id,
    reasoning_item_id_policy
    current_step                       currentStep: interruption and run_again; a final state's
                                       is null, and next_step_final_output with the last text
    last_processed_response            lastProcessedResponse, of an interrupted state alone: its
                                       new_items, tools_used, functions, mcp_tool_bindings
    its agent_run_state                pendingAgentToolRuns: converted in turn
    current_response_generated_item_   currentResponseGeneratedItemOwnership: from JavaScript;
    ownership                          lost from Python, and found again by the calls' ids
    trace                              trace
    context.context                    context.context: null becomes {}; what Timestep stores of
                                       a dataclass or model, {"$type", "value"}, stays that
    context.tool_input                 context.toolInput
    context.usage                      context.usage: details are one sum, and one a request
    context.function_tool_approvals    context.functionApprovals
    context.tool_invocations           context.approvalInvocations, completedToolInvocations,
                                       completedToolInvocationEvidence: made anew of the items

    Lost from Python: session_items (the items before a handoff's filter) and, with them,
    generated_session_item_indexes, nested_history_owned_session_item_refs; no_active_agent_run,
    auto_previous_response_id, generated_prompt_cache_key; context.context_meta; interruptions and
    tool_output_guardrail_result_start of the processed response; sticky_scope of a decision;
    tool_origin, description, title, allow_bare_name_alias of items; an output that is no text is
    its JSON. current_turn_persisted_item_count: a session of the other language has none of it.
    Lost from JavaScript: currentTurnPersistedItemCount, currentAgentSpan, noActiveAgentRun,
    currentTurnInProgress, initialInputGuardrailsCompleted, pendingAgentToolRunAliases,
    currentTurnSessionInputItems, currentTurnExecutedWithSessionBinding; executionStatus of items;
    endpoint of usage; providerData of a response.
    Refused, unless empty: pending_input, pending_session_write, terminal_unrecoverable, sandbox,
    context.approvals and hosted_mcp_approvals (decisions on other than function calls),
    tool_namespace, handoffs and calls of computers, shells, patches, custom tools and hosted MCP
    approvals that wait in an interrupted state; and what JavaScript calls pendingInput,
    pendingSessionWrite, pendingSessionHistoryTransaction,
    pendingLegacyCompactionSessionItems, currentTurnSessionWriteCompactedItemCount,
    currentTurnDeferredSessionItemIndexes, currentTurnBlockedSessionStartIndex,
    ambiguousToolInvocationCallIds, sandbox, context.approvals, legacyFunctionApprovals,
    hostedMcpApprovals, functionToolsNotFound.

    Items: messages, function calls and their outputs, reasoning, compaction, web and file search,
    code interpreter, image generation, hosted MCP calls and lists. Any other is refused.
"""

from __future__ import annotations

import json
from typing import Any

from timestep.errors import CorruptStateError, ForeignStateError, StateTooNewError
from timestep.run_states.javascript_context import check_key, context_of, run_key, usage_of
from timestep.run_states.javascript_items import FIELDS, Document, item, no_null, renamed

_VERSIONS = FIELDS["versions"]["javascript"]
_RUN_AGAIN = {"type": "next_step_run_again"}
_BEHAVIORS = {"rejectContent": "reject_content", "throwException": "raise_exception"}


def python_state_from_javascript(document: Document) -> Document:
    """The state in the Python SDK's format; see the module for what becomes of what.

    Args:
        document: What `RunState.toJSON()` of `@openai/agents` gave. It stays as it is.

    Raises:
        StateTooNewError: Its schema version is newer than those this version converts.
        ForeignStateError: It holds what the Python SDK has no place for.
        CorruptStateError: It is no state of `@openai/agents`.
    """
    _check_version(document)
    try:
        return _state(document, [])
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise CorruptStateError(
            f"the state of @openai/agents cannot be converted: {error!r}"
        ) from error


def _check_version(document: Document) -> None:
    version = document.get("$schemaVersion")
    parts = version.split(".") if isinstance(version, str) else []
    if not parts or not all(part.isdecimal() for part in parts):
        raise CorruptStateError(
            f"this is no state of @openai/agents: its $schemaVersion is {version!r}"
        )
    if _number(parts) > _number(_VERSIONS["newest"].split(".")):
        raise StateTooNewError(
            f"the state of @openai/agents has schema version {version}; this version of Timestep "
            f"converts up to {_VERSIONS['newest']}: upgrade timestep"
        )
    if _number(parts) < _number(_VERSIONS["oldest"].split(".")):
        raise ForeignStateError(
            f"the state of @openai/agents has schema version {version}; this version of Timestep "
            f"converts from {_VERSIONS['oldest']} on: load it with a newer @openai/agents and save "
            "it again"
        )


def _number(parts: list[str]) -> list[int]:
    return [int(part) for part in parts]


def _state(document: Document, decided: list[Document]) -> Document:
    """The whole state; `decided` is what was decided for it in the runs around it."""
    step = document.get("currentStep") or _RUN_AGAIN
    interrupted = step["type"] == "next_step_interruption"
    answer = document.get("lastProcessedResponse") if interrupted else None
    waiting = {run_key(call["toolCall"]) for call in (answer or {"functions": []})["functions"]}
    if lost := sorted((document.get("pendingAgentToolRuns") or {}).keys() - waiting):
        raise ForeignStateError(
            f"the runs of agents that are tools, {', '.join(lost)}, belong to no call of the "
            "state: finish the run with @openai/agents"
        )
    if document["currentTurn"] and document.get("initialInputGuardrailsCompleted") is False:
        raise ForeignStateError(
            "the checks of the run's input are not over, and Python would not make them again: "
            "start a new run"
        )
    items = [_run_item(found) for found in document["generatedItems"]]
    responses = [_response(found) for found in document["modelResponses"]]
    last = document.get("lastModelResponse")
    state = {
        **renamed("state", document),
        "$schemaVersion": FIELDS["versions"]["python"]["written"],
        "max_turns": document["maxTurns"],
        "current_agent": _agent(document["currentAgent"]),
        "original_input": _input(document["originalInput"]),
        "model_responses": responses,
        "last_model_response": None if last is None else _response(last),
        "context": context_of(document, items, decided),
        "generated_items": items,
        "session_items": items,
        "generated_session_item_indexes": list(range(len(items))),
        "current_step": _step(step),
        "last_processed_response": None if answer is None else _answer(answer, document, decided),
        "trace": _trace(document.get("trace")),
    }
    for name in ("input", "output"):
        found = document.get(f"tool{name.capitalize()}GuardrailResults") or []
        state[f"tool_{name}_guardrail_results"] = [_tool_check(result) for result in found]
    owned = document.get("currentResponseGeneratedItemOwnership")
    if owned is not None and answer is not None:
        state["current_response_generated_item_ownership"] = {
            "start": owned["generatedItemStartIndex"],
            "end": owned["generatedItemEndIndexExclusive"],
            "interruptions": owned["interruptionGeneratedItemIndexes"],
        }
        state["last_processed_response"]["tool_output_guardrail_result_start"] = owned[
            "toolOutputGuardrailResultStartIndex"
        ]
    return state


def _input(given: Any) -> Any:
    return given if isinstance(given, str) else [item(found) for found in given]


def _agent(reference: Document) -> Document:
    if reference.get("identity", reference["name"]) != reference["name"]:
        raise ForeignStateError(
            f"the run has two agents named {reference['name']!r}, which the SDKs tell apart in "
            "different ways: give each a name of its own"
        )
    return {"name": reference["name"]}


def _step(step: Document) -> Document | None:
    if step["type"] == "next_step_interruption":
        data = step["data"]
        if data.get("responseAccepted"):
            raise ForeignStateError(
                "the state was saved while a model's answer was taken in, which only "
                "@openai/agents can finish"
            )
        interruptions = [_run_item(found) for found in data["interruptions"]]
        return {"type": step["type"], "data": {"interruptions": interruptions}}
    if step["type"] == "next_step_final_output":
        return None
    if step["type"] != "next_step_run_again":
        raise ForeignStateError(f"the state waits at {step['type']!r}, which Python does not know")
    return _RUN_AGAIN


def _run_item(found: Document) -> Document:
    kind = found["type"]
    if kind not in FIELDS["run_item_types"]:
        raise ForeignStateError(f"the state holds an item of type {kind!r}, which is not converted")
    raw_item = item(found["rawItem"])
    converted = {
        **renamed("run_item", found),
        "type": kind,
        "raw_item": raw_item,
        "agent": _agent(found["sourceAgent"] if kind == "handoff_output_item" else found["agent"]),
    }
    if kind == "handoff_output_item":
        converted["source_agent"] = _agent(found["sourceAgent"])
        converted["target_agent"] = _agent(found["targetAgent"])
    if "output" in found:
        converted["output"] = found["output"]
    if raw_item["type"] == "function_call" and kind != "handoff_call_item":
        converted["tool_name"] = raw_item["name"]
        check_key(found.get("functionToolStateKey"), raw_item["name"])
        if kind == "tool_approval_item":
            converted["tool_lookup_key"] = _lookup_key(raw_item["name"])
    if raw_item["type"] in FIELDS["hosted_call_items"]:
        converted["type"] = f"{raw_item['type']}_item"
    return converted


def _lookup_key(name: str) -> Document:
    return {"kind": "bare", "name": name}


def _response(response: Document) -> Document:
    return {
        **renamed("model_response", response),
        "usage": usage_of(response["usage"]),
        "output": [item(found) for found in response["output"]],
    }


def _answer(answer: Document, document: Document, decided: list[Document]) -> Document:
    calls = answer["functions"]
    bindings = {
        call["toolCall"]["callId"]: [bound["serverName"], bound["toolName"], bound["serverIndex"]]
        for call in calls
        if isinstance(bound := call.get("mcpToolBinding"), dict)
    }
    return {
        **renamed("processed_response", answer),
        "new_items": [_run_item(found) for found in answer["newItems"]],
        "functions": [_function(call["toolCall"], document, decided) for call in calls],
        "mcp_tool_bindings": bindings,
        "handoffs": [],
        "interruptions": [],
    }


def _function(call: Document, document: Document, decided: list[Document]) -> Document:
    raw_item = item(call)
    name = raw_item["name"]
    function = {"tool_call": raw_item, "tool": {"name": name, "lookupKey": _lookup_key(name)}}
    run = (document.get("pendingAgentToolRuns") or {}).get(run_key(call))
    if run is not None:
        inner = json.loads(run)
        _check_version(inner)
        own = document["context"].get("functionApprovals") or []
        function["agent_run_state"] = _state(inner, [*own, *decided])
    return function


def _tool_check(result: Document) -> Document:
    behavior = result["output"]["behavior"]
    kind = _BEHAVIORS.get(behavior["type"], behavior["type"])
    return {**result, "output": {**result["output"], "behavior": {**behavior, "type": kind}}}


def _trace(trace: Document | None) -> Document | None:
    return None if trace is None or trace["id"] == "no-op" else no_null(trace)
