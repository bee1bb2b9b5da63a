"""Makes JSON of the state before a turn, and of that only what is new since the last one.

The SDK's own serializer writes it, of a state whose lists hold no more than their ends. A
run's items stay what they were once they are told, except where a handoff's filter had them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from operator import is_
from typing import Any

from agents import RunResult, RunState
from agents.run_internal.run_steps import NextStepInterruption, NextStepRunAgain
from agents.run_internal.tool_use_tracker import serialize_tool_use_tracker

from timestep.journal.checkpoints import context_document
from timestep.sdk.state.run_history import RunHistory, Told
from timestep.serialization.json_delta import Some, Tail
from timestep.serialization.sdk_objects import document_of

_ITEMS = {"_model_input_items": "generated_items", "new_items": "session_items"}

_LISTS = {
    **_ITEMS,
    "raw_responses": "model_responses",
    "input_guardrail_results": "input_guardrail_results",
    "tool_input_guardrail_results": "tool_input_guardrail_results",
    "tool_output_guardrail_results": "tool_output_guardrail_results",
    "_original_input": "original_input",
}
"""Where a result keeps a list that grows, and where its state's JSON has it."""


def state_before_turn(history: RunHistory, turn: int, given: Mapping[str, Any]) -> RunResult:
    """The result whose state is the one from which the turn that begins can be run again.

    Args:
        history: What the loop has told so far.
        turn: The turn that begins, counted from 1.
        given: What the SDK's loop gives its turn.
    """
    source: RunState[Any] = given["run_state"]
    agent = given["bindings"].public_agent
    result = RunResult(
        input=given["original_input"],
        new_items=list(history.session_items),
        raw_responses=list(history.responses),
        final_output=None,
        input_guardrail_results=list(history.input_results),
        output_guardrail_results=[],
        tool_input_guardrail_results=list(history.tool_input_results),
        tool_output_guardrail_results=list(history.tool_output_results),
        context_wrapper=given["context_wrapper"],
        _last_agent=agent,
        _tool_use_tracker_snapshot=serialize_tool_use_tracker(
            given["tool_use_tracker"], starting_agent=source._starting_agent or agent
        ),
        _current_turn_persisted_item_count=source._current_turn_persisted_item_count,
        _current_turn=turn - 1,
        _model_input_items=list(given["generated_items"]),
        _original_input=given["original_input"],
        _conversation_id=source._conversation_id,
        _previous_response_id=source._previous_response_id,
        _auto_previous_response_id=source._auto_previous_response_id,
        max_turns=source._max_turns,
    )
    found: dict[str, Any] = vars(result)
    found["_starting_agent_for_state"] = source._starting_agent
    found["_generated_prompt_cache_key"] = source._generated_prompt_cache_key
    found["_reasoning_item_id_policy"] = source._reasoning_item_id_policy
    found["_trace_state"] = source._trace_state
    found["_current_step_for_state"] = NextStepRunAgain() if turn > 1 else None
    return result


def written(result: Any, turn: int | None, told: Told) -> tuple[dict[str, Any], Told]:
    """The JSON of a result's state, as a change of what was told; and what is told now.

    Args:
        result: A result of the SDK's, streamed or not.
        turn: The turn that begins, counted from 1: the state is of the turns before it. None:
            the run has ended.
        told: What the checkpoint before was made of; an empty one for the whole state.
    """
    now = Told(
        {name: list(found) for name in _LISTS if isinstance(found := getattr(result, name), list)},
        list(result.context_wrapper.usage.request_usage_entries),
        dict(result.context_wrapper._tool_invocations),
        dict(result._tool_use_tracker_snapshot),
    )
    known = {name: _known(told.lists.get(name, []), found) for name, found in now.lists.items()}
    if not all(known[name] for name in _ITEMS) or _refers_to_all_items(result):
        known.update(dict.fromkeys(_ITEMS, 0))
    document = _ends(result, turn, told, now, known)
    indexes = document["generated_session_item_indexes"]
    if isinstance(indexes, Tail) and None in indexes:
        # Only all items tell whether the session has one of them further back.
        known.update(dict.fromkeys(_ITEMS, 0))
        document = _ends(result, turn, told, now, known)
    now.invocations = {key: call for key, call in now.invocations.items() if call.completed}
    return document, now


def _refers_to_all_items(result: Any) -> bool:
    state = getattr(result, "_state", None)
    return bool(
        result._last_processed_response is not None
        or result._nested_history_owned_session_item_refs
        or (state is not None and isinstance(state._current_step, NextStepInterruption))
    )


def _known(told: Sequence[Any], now: Sequence[Any]) -> int:
    """How much of a list was told: all that was, or nothing."""
    count = len(told)
    return count if count <= len(now) and all(map(is_, told, now)) else 0


def _ends(
    result: Any, turn: int | None, told: Told, now: Told, known: dict[str, int]
) -> dict[str, Any]:
    """The JSON of a result whose lists are what follows their known parts."""
    ends = copy.copy(result)
    # The JSON repeats the newest response.
    starts = {**known, "raw_responses": min(known["raw_responses"], _before_last(now))}
    for name, found in now.lists.items():
        setattr(ends, name, found[starts[name] :])
    entries = _known(told.usage_entries, now.usage_entries)
    is_same = told.invocations.keys() <= now.invocations.keys()
    calls = told.invocations if is_same else {}
    tools = {
        name: len(names) if now.tools.get(name, [])[: len(names)] == names else 0
        for name, names in told.tools.items()
    }
    ends._tool_use_tracker_snapshot = {
        name: names[tools.get(name, 0) :] for name, names in now.tools.items()
    }
    context = ends.context_wrapper = copy.copy(result.context_wrapper)
    context.usage = copy.copy(context.usage)
    context.usage.request_usage_entries = now.usage_entries[entries:]
    context._tool_invocations = {
        key: call for key, call in now.invocations.items() if calls.get(key) is not call
    }
    has_twins = False
    if not _refers_to_all_items(result):
        # The state is written down at once and thrown away: it needs no copies of its own.
        vars(context)["_copy_for_run_state"] = lambda: context
        if has_twins := _are_twins(ends, now):
            ends.new_items = []
    state = ends.to_state()
    vars(context).pop("_copy_for_run_state", None)  # It refers to itself.
    if turn is not None:
        # A streamed result counts the turn that begins.
        state._current_turn = turn - 1
    document, now.is_plain = _document(state)
    if has_twins:
        document["generated_session_item_indexes"] = list(range(len(document["generated_items"])))
    for name, count in known.items():
        if count:
            key = _LISTS[name]
            document[key] = Tail(document[key][count - starts[name] :])
    if has_twins:
        document["session_items"] = document["generated_items"]
    if known["_model_input_items"]:
        before = known["new_items"]
        indexes = document["generated_session_item_indexes"]
        document["generated_session_item_indexes"] = Tail(
            index if index is None else before + index for index in indexes
        )
    if entries:
        usage = document["context"]["usage"]
        usage["request_usage_entries"] = Tail(usage["request_usage_entries"])
    if calls:
        document["context"]["tool_invocations"] = Some(document["context"]["tool_invocations"])
    tracker = document["tool_use_tracker"]
    for name, count in tools.items():
        if count:
            tracker[name] = Tail(tracker[name])
    return document


def _are_twins(ends: Any, now: Told) -> bool:
    """Whether a result's two lists of items are the same, and each item is in the session once."""
    return (
        len(ends.new_items) == len(ends._model_input_items)
        and all(map(is_, ends.new_items, ends._model_input_items))
        and len(set(map(id, now.lists["new_items"]))) == len(now.lists["new_items"])
    )


def _document(state: RunState[Any]) -> tuple[dict[str, Any], bool]:
    """A state's JSON, the values its own; what is in it twice is made once.

    And whether JSONB can hold each part of it.
    """
    told = state.to_json(context_serializer=context_document)
    responses = told["model_responses"]
    is_repeated = bool(responses) and told["last_model_response"] is responses[-1]
    if is_repeated:
        del told["last_model_response"]
    document, is_plain = document_of(told)
    if is_repeated:
        document["last_model_response"] = document["model_responses"][-1]
    return document, is_plain


def _before_last(now: Told) -> int:
    return max(len(now.lists["raw_responses"]) - 1, 0)
