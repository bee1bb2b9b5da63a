"""What the SDK's loop has told of a run so far, and the state that can be made of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from agents import RunResult, RunState, Tool
from agents.guardrail import InputGuardrailResult
from agents.items import RunItem
from agents.run_internal.run_steps import NextStepRunAgain
from agents.run_internal.session_persistence import session_items_for_turn
from agents.run_internal.tool_use_tracker import serialize_tool_use_tracker

from timestep.calls import output_item
from timestep.rows import derived, jsonable, raw
from timestep.run import Rows, Run
from timestep.states import Checkpoint, context_document
from timestep.values import plain_text, storable

_log = logging.getLogger("timestep")


class Ledger:
    """Grows with each turn. The non-streamed loop keeps these in local variables."""

    def __init__(self) -> None:
        self.session_items: list[RunItem] = []
        self.responses: list[Any] = []
        self.input_results: list[InputGuardrailResult] = []
        self.tool_input_results: list[Any] = []
        self.tool_output_results: list[Any] = []
        self.left: list[tuple[Any, Tool]] = []
        """Calls of a state that another run left, with their tools: not made yet."""

    @property
    def tripped(self) -> InputGuardrailResult | None:
        """The check of the input that tripped."""
        return next((r for r in self.input_results if r.output.tripwire_triggered), None)

    def adopt(self, state: RunState[Any]) -> None:
        """Go on from a state that was passed to the runner."""
        self.session_items = list(state._session_items)
        self.responses = list(state._model_responses)
        self.input_results = list(state._input_guardrail_results)
        self.tool_input_results = list(state._tool_input_guardrail_results)
        self.tool_output_results = list(state._tool_output_guardrail_results)
        if (answer := state._last_processed_response) is not None:
            made = {
                raw(item.raw_item).get("call_id")
                for item in (*state._generated_items, *state._session_items)
                if item.type == "tool_call_output_item"
            }
            self.left = [
                (found.tool_call, found.function_tool)
                for found in getattr(answer, "functions", ())
                if found.tool_call.call_id not in made
            ]

    def add_turn(self, result: Any) -> None:
        self.session_items.extend(session_items_for_turn(result))
        if not any(response is result.model_response for response in self.responses):
            self.responses.append(result.model_response)
        self.tool_input_results.extend(result.tool_input_guardrail_results)
        self.tool_output_results.extend(result.tool_output_guardrail_results)

    def state_before_turn(self, turn: int, given: Mapping[str, Any]) -> RunState[Any]:
        """The state from which the turn that begins can be run again.

        Args:
            turn: The turn that begins, counted from 1.
            given: What the SDK's loop gives its turn.
        """
        source: RunState[Any] = given["run_state"]
        agent = given["bindings"].public_agent
        result = RunResult(
            input=given["original_input"],
            new_items=list(self.session_items),
            raw_responses=list(self.responses),
            final_output=None,
            input_guardrail_results=list(self.input_results),
            output_guardrail_results=[],
            tool_input_guardrail_results=list(self.tool_input_results),
            tool_output_guardrail_results=list(self.tool_output_results),
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
        return result.to_state()

    def checkpoint(self, run: Run, tell: Callable[[], RunState[Any]]) -> Checkpoint | None:
        """The state as JSON. The run's context is recorded as far as JSON can hold it.

        Args:
            run: The run whose state it is.
            tell: Gives the state.

        Returns:
            None where the SDK itself cannot write the state down, which the log tells: a
            recovery goes by the run's steps and needs no state.
        """
        try:
            document = jsonable(tell().to_json(context_serializer=context_document))
        except Exception as error:  # noqa: BLE001  # whatever a user's own items raise
            _log.exception(
                "run %s: its state in turn %d cannot be written down (%s), so it can be recovered, "
                "and not be taken elsewhere as a RunState",
                run.id,
                run.turn,
                error,
            )
            return None
        return Checkpoint(state=document, turn=run.turn, schema_version=document["$schemaVersion"])

    def rows_of_turn(self, run: Run, result: Any) -> Rows:
        """Rows of what a turn left behind besides its steps: handoffs, rejections, changes."""
        rows: Rows = {}
        for item in session_items_for_turn(result):
            if item.type == "tool_call_output_item":
                self._add_output(run, rows, item)
            elif item.type == "mcp_approval_response_item":
                self._add_response(run, rows, item)
            elif item.type == "handoff_output_item":
                rows.setdefault("run_items", []).append(_left_behind(run, item))
        return rows

    def _add_response(self, run: Run, rows: Rows, item: RunItem) -> None:
        """The provider makes the call that was asked about, or does not."""
        document = raw(item.raw_item)
        if waiting := run.calls.get(str(document["approval_request_id"])):
            status = "executed" if document["approve"] else "rejected"
            answered = {**waiting.popleft().row, "status": status, "completed_at": True}
            rows.setdefault("tool_calls", []).append(answered)
        rows.setdefault("run_items", []).append(_left_behind(run, item))

    def _add_output(self, run: Run, rows: Rows, item: RunItem) -> None:
        document = raw(item.raw_item)
        call_id = str(document.get("call_id"))
        made = run.made.get(call_id)
        waiting = run.calls.get(call_id)
        if made is None and waiting:
            # The call was answered without being made: rejected by a person or a guardrail.
            call = waiting.popleft()
            rejected = {**call.row, "status": "rejected", "completed_at": True}
            rows.setdefault("tool_calls", []).append(rejected)
        else:
            if made is None:
                # An answer to a call of a state that another run left.
                rows.setdefault("run_items", []).append(_left_behind(run, item))
                return
            if made.output == document:
                return
            call = made
        rows.setdefault("run_items", []).append(output_item(run, call, document))


def _left_behind(run: Run, item: RunItem) -> dict[str, Any]:
    document = raw(item.raw_item)
    names = ("call_id", "approval_request_id", "id")
    named = next((document[name] for name in names if document.get(name)), "")
    key = f"turn:{run.turn}:{item.type}:{named}"
    agent_id = run.definitions.agent_ids.get(id(item.agent))
    return {
        "id": str(derived(run.id, key)),
        "run_id": str(run.id),
        "agent_id": str(agent_id) if agent_id is not None else None,
        "turn": run.turn,
        "position": run.next_position(),
        "item_type": item.type,
        "role": plain_text(document.get("role")),
        "item_data": storable(document),
    }
