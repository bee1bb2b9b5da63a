"""Puts the arguments that a person gave a call into all that a run goes on with.

The SDK holds an approval to the arguments that it was asked about: it refuses to make a call whose
id it knows with others. So the call is another one everywhere at once: in the items that the model
is shown, in what is left to be made, in the answer that asked for it, and in the fingerprint by
which the SDK knows it. What the model's provider gave stays as it is: others may hold it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from agents import ModelResponse, RunResult, RunResultStreaming, RunState
from agents._tool_invocation import tool_invocation_identity
from agents.items import ToolApprovalItem
from pydantic import BaseModel

from timestep.execution.run import Run
from timestep.sdk.state.run_history import history_of
from timestep.serialization.sdk_objects import call_id_of, raw


def edit(state: RunState[Any], item: ToolApprovalItem, owner: Run, arguments: str) -> None:
    """Let a run go on with a call as a person edited it. A second time it changes nothing.

    Args:
        state: The state of the outermost run.
        item: What is asked about the call.
        owner: The run that asked for it: that one, or one inside it, which has stopped.
        arguments: The arguments, as a model would write them.
    """
    nested = state._find_nested_approval_state(item)
    own = state if nested is None else nested[0]
    result = owner.questions.result
    assert result is not None  # It has stopped.
    call = _Edited(call_id_of(raw(item.raw_item)), arguments)
    item.raw_item = call.instead_of(item.raw_item)
    for call_item in _items(own, owner, result):
        call_item.raw_item = call.instead_of(call_item.raw_item)
    if (answer := own._last_processed_response) is not None:
        for function in answer.functions:
            function.tool_call = call.instead_of(function.tool_call)
    _answer(own, owner, result, call)
    if (held := own._pending_session_write) is not None:
        held["items"] = [call.instead_of(one) for one in held["items"]]
    identity = tool_invocation_identity(
        item.raw_item, tool_lookup_key=item.tool_lookup_key, tool_name=item.tool_name
    )
    for context in (own._context, result.context_wrapper):
        known = None if context is None else context._tool_invocations.get(call.id)
        if known is not None and identity is not None:
            known.fingerprint = identity[2]
    # Its checkpoints tell what changed: items that were told are others now.
    history_of(owner).told = None


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


def _items(own: RunState[Any], owner: Run, result: RunResult | RunResultStreaming) -> Iterator[Any]:
    """The items that a model may be shown of the turn; those of earlier turns stay as they are."""
    answer = own._last_processed_response
    lists: Iterable[Any] = (
        own._generated_items,
        own._session_items,
        result.new_items,
        result._model_input_items,
        history_of(owner).session_items,
        () if answer is None else answer.new_items,
    )
    turn = [] if answer is None else answer.new_items
    for found in lists:
        yield from (item for item in found if any(item is one for one in turn))


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
