"""Puts the arguments that a person gave a call into all that a run goes on with.

The SDK holds an approval to the arguments that it was asked about: it refuses to make a call whose
id it knows with others. So the call is another one everywhere at once: in the items that the model
is shown, in what is left to be made, in the answer that asked for it, and in the fingerprint by
which the SDK knows it. What the model's provider gave stays as it is: others may hold it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from agents import ModelResponse, RunResult, RunResultStreaming, RunState
from agents._tool_invocation import tool_invocation_identity
from agents.agent_tool_state import peek_agent_tool_run_result
from agents.items import ToolApprovalItem, ToolCallItem
from pydantic import BaseModel

from timestep.execution.pending_calls import Call
from timestep.execution.run import Run
from timestep.runtime import logs
from timestep.runtime.terminal import quoted
from timestep.sdk.state.run_history import history_of
from timestep.serialization.json_output import arguments_text
from timestep.serialization.sdk_objects import call_id_of, raw
from timestep.serialization.values import restored

_log = logs.logger()


def edit(state: RunState[Any], item: ToolApprovalItem, owner: Run, call: Call) -> None:
    """Let a run go on with a call as a person edited it. A second time it changes nothing.

    Args:
        state: The state of the outermost run.
        item: What is asked about the call.
        owner: The run that asked for it: that one, or one inside it, which has stopped.
        call: The call, with the arguments that it was edited to.
    """
    assert call.edited is not None
    assert owner.questions.result is not None  # It has stopped.
    nested = state._find_nested_approval_state(item)
    own = state if nested is None else nested[0]
    result, results, states = owner.questions.result, list(_results(owner)), _way(state, own)
    edited = _Edited(call_id_of(raw(item.raw_item)), call.edited)
    known = _fingerprint(item, arguments_text(restored(call.row["arguments"])))
    for asked in (item, *_questions(item, states, results)):
        asked.raw_item = edited.instead_of(asked.raw_item)
    for call_item in _items(own, owner, result, edited):
        call_item.raw_item = edited.instead_of(call_item.raw_item)
    if (answer := own._last_processed_response) is not None:
        for function in answer.functions:
            function.tool_call = edited.instead_of(function.tool_call)
    _answer(own, owner, result, edited)
    if (held := own._pending_session_write) is not None:
        held["items"] = [edited.instead_of(one) for one in held["items"]]
    # Those around the run know of the call, too.
    for context in (*(one._context for one in states), *(one.context_wrapper for one in results)):
        invocation = None if context is None else context._tool_invocations.get(edited.id)
        if invocation is not None and invocation.fingerprint == known:
            invocation.fingerprint = _fingerprint(item, call.edited) or known
    if own._conversation_id or own._previous_response_id or own._auto_previous_response_id:
        _log.warning(
            "call %s of run %s is made as a person edited it; the model's provider, which keeps "
            "the conversation, has it as its model made it, and is given its output alone",
            quoted(edited.id),
            owner.id,
        )
    # Its checkpoints tell what changed: items that were told are others now.
    history_of(owner).told = None


def _way(state: RunState[Any], own: RunState[Any]) -> list[RunState[Any]]:
    """The states of the runs around one that asks, from the outermost on, and its own."""
    if state is own:
        return [state]
    answer = state._last_processed_response
    for function in () if answer is None else answer.functions:
        stopped = peek_agent_tool_run_result(
            function.tool_call, scope_id=state._agent_tool_state_scope_id
        )
        if stopped is not None and stopped.interruptions and (way := _way(stopped.to_state(), own)):
            return [state, *way]
    return []


def _results(owner: Run) -> Iterator[RunResult | RunResultStreaming]:
    """What a run, and those around it, stopped with."""
    run: Run | None = owner
    while run is not None:
        if run.questions.result is not None:
            yield run.questions.result
        run = run.parent


def _questions(
    item: ToolApprovalItem,
    states: Iterable[RunState[Any]],
    results: Iterable[RunResult | RunResultStreaming],
) -> Iterator[ToolApprovalItem]:
    """What else asks about the same call: the SDK makes such an item anew here and there."""
    lists: list[list[Any]] = []
    for state in states:
        lists += [state.get_interruptions(), state._generated_items, state._session_items]
    for result in results:
        lists += [result.interruptions, result.new_items, result._model_input_items]
    for one in itertools.chain.from_iterable(lists):
        if isinstance(one, ToolApprovalItem) and one.agent is item.agent:
            yield one


def _fingerprint(item: ToolApprovalItem, arguments: str) -> str | None:
    """By what the SDK knows a call with these arguments."""
    found = tool_invocation_identity(
        {**raw(item.raw_item), "arguments": arguments},
        tool_lookup_key=item.tool_lookup_key,
        tool_name=item.tool_name,
    )
    return None if found is None else found[2]


class _Edited:
    """A call with other arguments than the provider gave."""

    def __init__(self, call_id: str, arguments: str) -> None:
        self.id = call_id
        self._arguments = arguments
        self._made: dict[int, tuple[Any, Any]] = {}

    def instead_of(self, item: Any) -> Any:
        """What stands for a provider's item: itself, unless it is the call."""
        if not self.is_asked_by(item):
            return item
        # One for one: the SDK tells calls apart by their identity.
        if id(item) not in self._made:
            changed = {"arguments": self._arguments}
            is_model = isinstance(item, BaseModel)
            made = item.model_copy(update=changed) if is_model else {**item, **changed}
            self._made[id(item)] = (item, made)
        return self._made[id(item)][1]

    def is_asked_by(self, item: Any) -> bool:
        if not isinstance(item, BaseModel | dict):
            return False
        document = raw(item)
        return (
            document.get("type") == "function_call"
            and call_id_of(document) == self.id
            and document.get("arguments") != self._arguments
        )


def _items(
    own: RunState[Any], owner: Run, result: RunResult | RunResultStreaming, call: _Edited
) -> Iterator[ToolCallItem]:
    """The items by which a model is shown a call: the newest of its id, wherever the run has them.

    A state that was written down has other items in each list, and one of its own each time.
    """
    answer = own._last_processed_response
    lists: tuple[Sequence[Any], ...] = (
        own._generated_items,
        own._session_items,
        result.new_items,
        result._model_input_items,
        history_of(owner).session_items,
        () if answer is None else answer.new_items,
    )
    for found in lists:
        asking = (one for one in reversed(found) if isinstance(one, ToolCallItem))
        item = next((one for one in asking if one.call_id == call.id), None)
        if item is not None:
            yield item


def _answer(
    own: RunState[Any], owner: Run, result: RunResult | RunResultStreaming, call: _Edited
) -> None:
    """Let the answer that asked for a call, wherever the run has it, ask for the edited one."""
    newest = own._model_responses[-1] if own._model_responses else None
    if newest is None or not any(map(call.is_asked_by, newest.output)):
        return
    changed = dataclasses.replace(newest, output=list(map(call.instead_of, newest.output)))
    answers: tuple[list[ModelResponse], ...] = (
        own._model_responses,
        result.raw_responses,
        history_of(owner).responses,
    )
    for found in answers:
        found[:] = [changed if one is newest else one for one in found]
