"""Makes a step of a tool call: it is made once, and its outcome recorded."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from agents import RunContextWrapper
from agents.tool import Tool
from agents.usage import deserialize_usage

from timestep.dbos_internals import control_errors
from timestep.errors import UnreadableValueError
from timestep.execution.context_changes import Use
from timestep.execution.pending_calls import Call
from timestep.execution.run import Rows, Run
from timestep.runtime import draining, logs
from timestep.serialization import exceptions
from timestep.serialization.ids import derived
from timestep.serialization.sdk_objects import call_columns, raw
from timestep.serialization.values import (
    decode,
    plain_text,
    restored,
    storable,
    survives,
    text_instead,
)
from timestep.serialization.values.outputs import columns_of, document_of
from timestep.steps.interruption import (
    InDoubtError,
    doubt_id,
    is_in_doubt,
    next_question,
    pause_id,
    pauses_again,
)
from timestep.steps.perform import perform
from timestep.steps.step import Step
from timestep.steps.tool_attempts import ToolAttempts
from timestep.tool_options import options_of, runs_in_a_thread


class ToolResult(NamedTuple):
    """What a tool's call gave: its output, and whether that is the SDK's error text."""

    output: Any
    is_error: bool
    is_paused: bool = False
    """The call stopped for an approval inside it, and will be continued."""


_log = logs.logger()

Invoke = Callable[[ToolAttempts], Awaitable[ToolResult]]


@dataclass(frozen=True)
class Asked:
    """A call as the SDK's loop makes it."""

    tool: Tool
    call_id: str
    item: Any
    """The provider's item that asked for it."""
    wrapper: RunContextWrapper[Any]
    """The run's context, and where the SDK counts what the call uses."""
    shows: Callable[[ToolResult], Any] | None = None
    """Gives the item by which the model is shown a result; None: the tool's own code makes it."""
    is_only_shown: bool = False
    """Whether nobody but the model sees what the tool gives: no hook, and no code of the tool's."""


async def call_tool(run: Run, asked: Asked, invoke: Invoke) -> ToolResult:
    """The outcome of a call, made once.

    Args:
        run: The run that makes it.
        asked: Which call.
        invoke: Makes the call, in attempts.
    """
    call = run.calls.take(asked.call_id) or _unexpected(run, asked)
    run.calls.make(asked.call_id, call)
    if call.asked and next_question(run, call) is not None:
        # An earlier execution asked once more here, whatever became of the call since.
        raise InDoubtError(call)
    return await perform(_CallStep(run, call, asked, invoke))


_NOTHING_KNOWN: dict[str, Any] = {
    "output": None,
    "output_text": None,
    "error": None,
    "is_error": False,
    "context_change": None,
    "context_position": None,
    "end_position": None,
}


class _CallStep(Step[ToolResult]):
    table = "tool_calls"

    def __init__(self, run: Run, call: Call, asked: Asked, invoke: Invoke) -> None:
        self.run = run
        self.call = call
        self.asked = asked
        self.usage = asked.wrapper.usage
        self.late: asyncio.Task[None] | None = None
        """Records an outcome that comes after the workflow was cancelled."""
        self.invoke = invoke
        self.options = options_of(asked.tool)
        self.attempts = ToolAttempts(asked.tool.name, self.options, str(call.id))
        self.use: Use | None = None
        self.is_shown_apart = False
        """Whether what the model is shown does not come of the output as it is recorded."""
        self.is_made = False
        self.id = call.id
        self.number = call.number
        self.name = f"tool: {asked.tool.name} ({asked.call_id})"
        recorded = run.record.find("tool_calls", call.id)
        self.intents = recorded["intents"] if recorded is not None else 0
        self.is_unknown = is_in_doubt(run, call)
        self.pauses_again = pauses_again(run, call)

    def is_done(self, row: dict[str, Any]) -> bool:
        return not self.pauses_again and row["status"] in ("executed", "failed")

    async def pause(self) -> None:
        self.run.context.pause(self.use, self.id)
        id_ = pause_id(self.call)
        row = self.run.record.find("step_values", id_)
        if row is None:
            known = {"id": str(id_), "run_id": str(self.run.id), "name": plain_text(self.name)}
            row = {**known, "value": self.intents}
            await self.run.commits.commit({"step_values": [row]})
        self.call.paused_intents = row["value"]
        self.call.pauses += 1

    def is_paused(self, value: ToolResult) -> bool:
        return value.is_paused

    async def effect(self) -> ToolResult:
        self.call.is_begun = True
        decision = self.run.questions.decision(self.call.id)
        if decision is not None and decision["resolution_action"] == "supply":
            return self._as_recorded(ToolResult(_supplied(decision), is_error=False))
        if not self.options.safe_to_repeat and not self.pauses_again:
            if self.is_unknown and not self._may_call_again(decision):
                raise InDoubtError(self.call)
            self.intents += 1
            intent = self._noted("started", started_at=time.monotonic())
            await self.run.commits.commit({"tool_calls": [intent]})
        self.began, self.is_made = time.monotonic(), True
        outlives = runs_in_a_thread(self.asked.tool) and not self.options.as_workflow
        result = await (self._outlived() if outlives else self._made())
        self.run.limits.check_failure()
        return self._as_recorded(result)

    async def _made(self) -> ToolResult:
        with self.run.context.used(self.asked.wrapper.context, self.id) as self.use:
            return await self.invoke(self.attempts)

    def _as_recorded(self, result: ToolResult) -> ToolResult:
        """The result as it comes back from the record."""
        shown = self._shown(result)
        kept = result._replace(output=survives(result.output))
        if shown is None and self.asked.shows is not None:
            shown = self._shown(kept)
            if shown is None:
                kept = kept._replace(output=text_instead(kept.output))
                shown = self._shown(kept)
        self.is_shown_apart = kept.output is not result.output
        self._show(kept, shown)
        return kept

    async def _outlived(self) -> ToolResult:
        """Make a call whose body runs in a thread, which a cancellation does not stop.

        Where the workflow is cancelled the thread goes on, and what it gives is recorded then.
        """
        started = time.monotonic()
        call = asyncio.ensure_future(self._made())
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            if call.done() or not self.run.limits.is_lost:
                call.cancel()
                await asyncio.wait([call])
            else:
                self.attempts.is_last = True
                self.late = asyncio.ensure_future(self._record_late(call, started, draining.stay()))
            raise

    async def _record_late(
        self, call: asyncio.Future[ToolResult], started: float, gate: draining.Gate
    ) -> None:
        try:
            await asyncio.wait([call])
            if call.cancelled():
                return
            duration_ms = round((time.monotonic() - started) * 1000)
            error, output = call.exception(), None
            if error is None:
                rows = self.rows(self._as_recorded(call.result()), duration_ms)
                output = self.record.ended() if self.record is not None else None
            elif isinstance(error, Exception):
                rows = self.failed_rows(dict(exceptions.seal(error)), duration_ms)
                output = self.record.failed(error) if self.record is not None else None
            else:
                return
            await self.run.commits.commit(rows, output, is_outcome=True)
        except control_errors.LOST:
            # It is written, unless another execution owns the workflow by now.
            return
        except Exception as error:  # noqa: BLE001  # nobody else would hear of it
            _log.warning(
                "%s of run %s ended after its workflow was cancelled, and its outcome could not be "
                "recorded: %s",
                self.name,
                self.run.id,
                exceptions.one_line(error),
            )
        finally:
            gate.leave()

    def _may_call_again(self, decision: dict[str, Any] | None) -> bool:
        """Whether a person has looked at the newest intent and said to call again."""
        return decision is not None and decision["id"] == str(doubt_id(self.run, self.call))

    def rows(self, value: ToolResult, duration_ms: int) -> Rows:
        outputs = columns_of(value.output, self.call.output, is_apart=self.is_shown_apart)
        row = self._noted(
            "executed",
            started_at=self.began if self.is_made else None,
            completed_at=time.monotonic(),
            **outputs,
            is_error=value.is_error,
            duration_ms=duration_ms,
            end_position=self._ended(),
            **self._context_change(),
        )
        if self.call.output is None:
            # The SDK makes the item of what the tool gave; it is recorded with the next step.
            return {"tool_calls": [row]}
        item = output_item(self.run, self.call, self.call.output)
        return {"tool_calls": [row], "run_items": [item]}

    def _shown(self, value: ToolResult) -> dict[str, Any] | None:
        """The output as the model is shown it; None where it has no text, or does not fit."""
        if self.asked.shows is None:
            return None
        try:
            return raw(self.asked.shows(value))
        except (Exception, SystemExit):  # noqa: BLE001  # whatever its own code answers
            return None

    def _show(self, value: ToolResult, shown: dict[str, Any] | None) -> None:
        """Keep the output as the model will see it, unless a guardrail changes it."""
        self.call.given, self.call.output = value.output, shown

    def failed_rows(self, envelope: dict[str, Any], duration_ms: int) -> Rows:
        row = self._noted(
            "failed",
            started_at=self.began if self.is_made else None,
            completed_at=time.monotonic(),
            error=storable(dict(envelope)),
            duration_ms=duration_ms,
            end_position=self._ended(),
            **self._context_change(),
        )
        return {"tool_calls": [row]}

    def _ended(self) -> int:
        self.end_position = self.run.call_ends.draw(f"{self.name!r} ends")
        return self.end_position

    def _context_change(self) -> dict[str, Any]:
        return self.run.context.taken(self.use, self._recorded_calls())

    def _recorded_calls(self) -> list[dict[str, Any]]:
        return self.run.record.all("tool_calls")

    def retrace(self, row: dict[str, Any]) -> None:
        self.end_position = row.get("end_position")
        self.run.context.restore(self.asked.wrapper.context, row, self._recorded_calls())

    def replayed(self, row: dict[str, Any]) -> ToolResult:
        encoded, shown = document_of(row)
        self.is_shown_apart = shown is not None
        result = ToolResult(self._read(encoded, shown), is_error=row["is_error"])
        self._show(result, self._shown(result) if shown is None else shown)
        for usage in nested_usage(self.run, self.id):
            # The runs inside the call are not replayed; what they used was counted here.
            self.asked.wrapper.usage.add(deserialize_usage(usage))
        return result

    def _read(self, encoded: Any, shown: dict[str, Any] | None) -> Any:
        """What the tool gave; what the model was shown of it where that serves as well."""
        try:
            return decode(encoded)
        except UnreadableValueError as error:
            if shown is None or not self.asked.is_only_shown:
                raise
            _log.warning("%s goes on as the text that the model was shown: %s", self.name, error)
            return shown["output"]

    def _noted(self, status: str, **columns: Any) -> dict[str, Any]:
        """The call's row, which the run's own record holds from now on, too.

        The SDK may come to the call again in this execution, when another call of the turn
        is asked about once more.
        """
        counts = {"intents": self.intents, "attempts": self.attempts.made}
        row = {**self.call.row, "status": status, **counts, **columns}
        self.run.record.note("tool_calls", {**_NOTHING_KNOWN, **row})
        return row


def _supplied(decision: dict[str, Any]) -> Any:
    """The result that a person gave instead of the call; what only looks like a value is data."""
    document = restored(decision["resolution_output"])
    try:
        return decode(document)
    except UnreadableValueError as error:
        _log.warning("the result supplied for %s stays JSON: %s", decision["id"], error)
        return document


def nested_usage(run: Run, step_id: uuid.UUID) -> list[dict[str, Any]]:
    """The recorded usage of the runs inside a step that the run's own usage is to include."""
    rows = run.record.all("nested_usage")
    inside = {row["run_id"] for row in rows if row["step"] == str(step_id)}
    while more := {row["run_id"] for row in rows if row["parent_run_id"] in inside} - inside:
        inside |= more
    # A call that paused had its runs replayed until there, and what they used counted.
    counted = {str(child.id): child.counters.responses for child in run.family()}
    return [
        restored(row["usage"])
        for row in rows
        if row["run_id"] in inside and row["ordinal"] > counted.get(row["run_id"], 0)
    ]


def output_item(run: Run, call: Call, item: dict[str, Any]) -> dict[str, Any]:
    """The row of `run_items` that holds a call's output as the model sees it."""
    return {
        "id": str(derived(call.id, "output")),
        "run_id": str(run.id),
        "agent_id": call.row["agent_id"],
        "model_response_id": None,
        "tool_call_id": str(call.id),
        "turn": call.row["turn"],
        "position": call.position,
        "item_type": "tool_call_output_item",
        "role": None,
        "item_data": storable(item),
    }


def left_call(run: Run, agent_id: uuid.UUID, tool: Tool, item: Any, call_id: str) -> Call:
    """A call of a state that another run left: the model asked for it there."""
    document = raw(item) if item is not None else {"type": "function_call"}
    id_ = derived(run.id, f"call:{run.turn}:{call_id}")
    row = {
        "id": str(id_),
        "run_id": str(run.id),
        "agent_id": str(agent_id),
        "tool_id": None,
        "model_response_id": None,
        "turn": run.turn,
        **call_columns(document),
        "tool_name": tool.name,
        "call_id": call_id,
        "safe_to_repeat": options_of(tool).safe_to_repeat,
    }
    call = Call(id=id_, row=row, position=run.counters.next_position(), number=None)
    run.calls.add(call)
    return call


def _unexpected(run: Run, asked: Asked) -> Call:
    """A call that nobody could foresee."""
    agent_id = run.definitions.agent_ids[id(run.agent)]
    call = left_call(run, agent_id, asked.tool, asked.item, asked.call_id)
    call.number = run.counters.draw()
    return call
