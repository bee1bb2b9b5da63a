"""Keeps what the SDK's loop has told of a run so far, for the states that are made of it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agents import RunState, Tool
from agents.guardrail import InputGuardrailResult
from agents.items import RunItem
from agents.run_internal.session_persistence import session_items_for_turn

from timestep.execution.call_rows import output_item
from timestep.execution.run import Rows, Run
from timestep.journal.checkpoints import Checkpoint, context_document
from timestep.runtime import logs
from timestep.serialization import registered_types
from timestep.serialization.ids import derived
from timestep.serialization.sdk_objects import document_of, raw
from timestep.serialization.values import plain_text, storable

_log = logs.logger()


@dataclass
class Told:
    """What a checkpoint was made of: what is the same in the next one is not written again."""

    lists: dict[str, list[Any]] = field(default_factory=dict)
    usage_entries: list[Any] = field(default_factory=list)
    invocations: dict[str, Any] = field(default_factory=dict)
    """Calls that are over, which stay as they are."""
    tools: dict[str, list[str]] = field(default_factory=dict)
    is_plain: bool = False
    """Whether JSONB can hold each part of what was told last, as it is."""


class RunHistory:
    """Grows with each turn. The non-streamed loop keeps these in local variables."""

    def __init__(self) -> None:
        self.told: Told | None = None
        """What the newest checkpoint was made of, if this execution made it."""
        self.session_items: list[RunItem] = []
        self.responses: list[Any] = []
        self.input_results: list[InputGuardrailResult] = []
        self.tool_input_results: list[Any] = []
        self.tool_output_results: list[Any] = []
        self.answered: set[str] = set()
        """The calls of such a state that have an output."""
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
        self.answered = {
            str(raw(item.raw_item).get("call_id"))
            for item in (*state._generated_items, *state._session_items)
            if item.type == "tool_call_output_item"
        }
        if (answer := state._last_processed_response) is not None:
            self.left = [
                (found.tool_call, found.function_tool)
                for found in getattr(answer, "functions", ())
                if found.tool_call.call_id not in self.answered
            ]

    def add_turn(self, result: Any) -> None:
        self.session_items.extend(session_items_for_turn(result))
        if not any(response is result.model_response for response in self.responses):
            self.responses.append(result.model_response)
        self.tool_input_results.extend(result.tool_input_guardrail_results)
        self.tool_output_results.extend(result.tool_output_guardrail_results)

    def whole_state(self, run: Run, state: Callable[[], RunState[Any]]) -> Checkpoint | None:
        """A state as JSON. The run's context is recorded as far as JSON can hold it.

        Args:
            run: The run whose state it is.
            state: Gives the state.
        """

        def tell() -> tuple[dict[str, Any], None]:
            return document_of(state().to_json(context_serializer=context_document))[0], None

        return self.checkpoint(run, tell)

    def checkpoint(
        self, run: Run, tell: Callable[[], tuple[dict[str, Any], Told | None]]
    ) -> Checkpoint | None:
        """A state to be recorded.

        Args:
            run: The run whose state it is.
            tell: Gives its JSON, and what it was made of.

        Returns:
            None where the SDK itself cannot write the state down, which the log tells: a
            recovery goes by the run's steps and needs no state.
        """
        try:
            # Where the run waited for people, this is not its own code.
            with registered_types.known(run.types):
                document, told = tell()
        except Exception as error:  # noqa: BLE001  # whatever a user's own items raise
            _log.exception(
                "run %s: its state in turn %d cannot be written down (%s), so it can be recovered, "
                "and not be taken elsewhere as a RunState",
                run.id,
                run.turn,
                error,
            )
            return None
        return Checkpoint(
            state=document,
            turn=run.turn,
            schema_version=document["$schemaVersion"],
            progress=run.counters.progress(),
            written=functools.partial(self._differ_from, told),
            is_plain=told is not None and told.is_plain,
        )

    def _differ_from(self, told: Told | None) -> None:
        self.told = told

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
        if (call := run.calls.take(str(document["approval_request_id"]))) is not None:
            status = "executed" if document["approve"] else "rejected"
            answered = {**call.row, "status": status, "completed_at": time.monotonic()}
            rows.setdefault("tool_calls", []).append(answered)
        rows.setdefault("run_items", []).append(_left_behind(run, item))

    def _add_output(self, run: Run, rows: Rows, item: RunItem) -> None:
        document = raw(item.raw_item)
        call_id = str(document.get("call_id"))
        made = run.calls.made(call_id)
        if made is None and (call := run.calls.take(call_id)) is not None:
            # The call was answered without being made: rejected by a person or a guardrail.
            rejected = {**call.row, "status": "rejected", "completed_at": time.monotonic()}
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
        "position": run.counters.next_position(),
        "item_type": item.type,
        "role": plain_text(document.get("role")),
        "item_data": storable(document),
    }


def history_of(run: Run) -> RunHistory:
    """What the loop has told of a run."""
    history = run.history
    assert isinstance(history, RunHistory)  # What `run_begin` gives each run.
    return history
