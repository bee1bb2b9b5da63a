"""Makes a step of a tool call: it is made once, and its outcome recorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from agents import RunContextWrapper
from agents.tool import Tool
from agents.usage import deserialize_usage

from timestep.dbos_internals import control_errors
from timestep.errors import UnreadableValueError
from timestep.execution import context_changes
from timestep.execution.call_rows import nested_usage, output_item, unexpected_call
from timestep.execution.context_changes import Use
from timestep.execution.current import current_step
from timestep.execution.pending_calls import Call
from timestep.execution.questions import supplied
from timestep.execution.replay.agent_changes import Watch
from timestep.execution.run import Rows, Run
from timestep.runtime import draining, logs, unended_calls
from timestep.runtime.unended_calls import Outcome, UnendedCall
from timestep.serialization import exceptions
from timestep.serialization.sdk_objects import raw
from timestep.serialization.values import (
    decode,
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
from timestep.steps.step import Refused, Step
from timestep.steps.tool_attempts import ToolAttempts, ToolResult
from timestep.tool_options import options_of, runs_in_a_thread

Made = TypeVar("Made", bound=ToolResult | None)

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
    call = run.calls.take(asked.call_id)
    if call is None:
        call = unexpected_call(run, asked.tool, asked.item, asked.call_id)
    run.calls.make(asked.call_id, call)
    if call.asked and next_question(run, call) is not None:
        # An earlier execution asked once more here, whatever became of the call since.
        raise InDoubtError(call)
    try:
        result = await perform(_CallStep(run, call, asked, invoke))
    except control_errors.CONTROL_ERRORS:
        raise
    except Exception:
        unended_calls.recorded(call.id)
        raise
    unended_calls.recorded(call.id)
    return result


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
        self.invoke = invoke
        self.options = options_of(asked.tool)
        self.attempts = ToolAttempts(asked.tool.name, self.options, str(call.id))
        self.use: Use | None = None
        self.is_shown_apart = False
        """Whether what the model is shown does not come of the output as it is recorded."""
        self.change: dict[str, Any] | None = None
        """What it changed in the run's context, where that is known before its rows are made."""
        self.has_outcome = False
        """Whether it came to an end of its own, and not to that of its execution."""
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
            known = {"id": str(id_), "run_id": str(self.run.id), "name": self.record_name}
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
            return self._as_recorded(ToolResult(supplied(decision), is_error=False))
        if unended_calls.is_kept(self.id) and not self.options.as_workflow:
            before = await self._outlived(self._ended_before())
            if before is not None:
                self.run.limits.check_failure()
                return self._as_recorded(before)
        if not self.options.safe_to_repeat and not self.pauses_again:
            if self.is_unknown and not self._may_call_again(decision):
                raise InDoubtError(self.call)
            self.intents += 1
            intent = self._noted("started", started_at=time.monotonic())
            await self.run.commits.commit({"tool_calls": [intent]})
        self.began, self.is_made = time.monotonic(), True
        outlives = runs_in_a_thread(self.asked.tool) and not self.options.as_workflow
        watch = self.run.agent_use.watch(len(self.run.calls.of_turn))
        try:
            result = await (self._outlived(self._made()) if outlives else self._made())
        except control_errors.CONTROL_ERRORS:
            raise
        except Exception:
            self._judge(watch)
            raise
        self._judge(watch)
        self.run.limits.check_failure()
        return self._as_recorded(result)

    def _judge(self, watch: Watch) -> None:
        refusal = watch.refusal(self.asked.tool.name, self.run.owner.workflow_id)
        if refusal is not None:
            raise Refused(refusal)

    async def _made(self) -> ToolResult:
        with self.run.context.used(self.asked.wrapper.context, self.id) as self.use:
            if self.options.as_workflow:
                return await self.invoke(self.attempts)
            name = f"{self.name} of run {self.run.id}"
            with unended_calls.going_on(self.id, name) as call:
                return await self._told(call)

    async def _told(self, call: UnendedCall) -> ToolResult:
        """Make the call, and say how it ended to an execution that comes to it again."""
        result: ToolResult | None = None
        error: Exception | None = None
        try:
            result = await self.invoke(self.attempts)
        except control_errors.CONTROL_ERRORS:
            raise
        except Exception as raised:
            error = raised
            raise
        finally:
            scope = current_step()
            is_over = error is not None or (result is not None and not result.is_paused)
            if is_over and scope is not None and not scope.is_lost:
                self.change = self._context_change()
                call.end(Outcome(result, error, self.change, self.attempts.columns))
                self.has_outcome = True
        return result

    async def _ended_before(self) -> ToolResult | None:
        """What the call gave, or raised, that an earlier execution began; None if none did."""
        earlier = await unended_calls.ended(self.id)
        if earlier is None or (outcome := earlier.outcome) is None:
            return None
        self.has_outcome = self.is_made = True
        self.began = earlier.began
        self.attempts.restore(outcome.attempts)
        context = self.asked.wrapper.context
        with self.run.context.used(context, self.id) as self.use:
            if (change := outcome.context_change.get("context_change")) is not None:
                context_changes.change(context, restored(change))
            self.change = self._context_change()
        self._count_nested()
        if outcome.error is not None:
            raise outcome.error
        result: ToolResult = outcome.result
        return result

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

    async def _outlived(self, made: Coroutine[Any, Any, Made]) -> Made:
        """Make a call whose body runs in a thread, which a cancellation does not stop.

        The thread goes on then. Where the workflow is cancelled, what it gives is recorded once it
        ends, and another execution that comes to the call meanwhile waits for that.
        """
        call = asyncio.ensure_future(made)
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            self.attempts.is_last = True
            if self.run.limits.is_lost:
                self.run.commits.come_late(self._record_late(call, draining.stay()))
            else:
                call.add_done_callback(_ignored)
            raise

    async def _record_late(self, call: asyncio.Future[Made], gate: draining.Gate) -> None:
        try:
            await asyncio.wait([call])
            if call.cancelled() or not self.has_outcome:
                _ignored(call)
                return
            duration_ms = round((time.monotonic() - self.began) * 1000)
            error, output = call.exception(), None
            if (result := None if error else call.result()) is not None:
                rows = self.rows(self._as_recorded(result), duration_ms)
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
                exceptions.in_log(error),
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
        """The columns that tell what the call changed in the run's context."""
        if self.change is not None:
            return self.change
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
        self._count_nested()
        return result

    def _count_nested(self) -> None:
        """Count what the runs inside the call used, which was counted where they were run."""
        for usage in nested_usage(self.run, self.id):
            self.asked.wrapper.usage.add(deserialize_usage(usage))

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
        counts = {"intents": self.intents, **self.attempts.columns}
        row = {**self.call.row, "status": status, **counts, **columns}
        self.run.record.note("tool_calls", {**_NOTHING_KNOWN, **row})
        return row


def _ignored(call: asyncio.Future[Any]) -> None:
    """Take note of what a call ended with that nobody waits for."""
    if not call.cancelled():
        call.exception()
