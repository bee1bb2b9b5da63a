"""Makes tool calls in workflows of their own: `tool_options(as_workflow=True)`.

The step of such a call starts a workflow whose id comes from the call, and waits for it. That
workflow makes the call, so the tool's body may itself use steps, sleeps, messages and child
workflows. Its input is ids; what makes the call is handed over in this process, by the step,
which a recovery executes again. Once the workflow has ended, nothing of it is repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from agents import RunContextWrapper
from agents.usage import deserialize_usage
from dbos import DBOS, SetWorkflowID

from timestep.dbos_internals import control_errors, executions, process, workflow_scope
from timestep.errors import NotDurableError
from timestep.execution import context_changes
from timestep.execution.call_rows import nested_usage
from timestep.execution.current import entered, inside_step
from timestep.execution.run import Run
from timestep.runtime import process_state, unended_calls
from timestep.runtime.cancellation import came_by_itself, cancels
from timestep.runtime.process_state import PerProcess
from timestep.runtime.unended_calls import Outcome
from timestep.serialization import exceptions
from timestep.serialization.values import decode, encode
from timestep.steps.tool_attempts import ToolAttempts, ToolResult
from timestep.steps.tool_call import Invoke

T = TypeVar("T")

NAME = "timestep.tool_call"
"""DBOS's name for the workflow, which `runner.dbos_workflows` registers."""

_PAUSE = 0.05
_PAUSES_BETWEEN_LOOKS = 20
_GOES_ON = ("PENDING", "ENQUEUED", "DELAYED")


@dataclass
class _Live:
    """A call, as this process can make it."""

    run: Run
    wrapper: RunContextWrapper[Any]
    attempts: ToolAttempts
    invoke: Invoke
    was_made: bool = False

    @property
    def id(self) -> uuid.UUID:
        return uuid.UUID(self.attempts.key)


class LiveCalls(PerProcess):
    """Keeps the calls that steps of this process wait for, for the workflows that make them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[str, _Live] = {}

    def find(self, call_id: str) -> _Live | None:
        return self._calls.get(call_id)

    @contextlib.contextmanager
    def handed_over(self, call_id: str, live: _Live) -> Iterator[None]:
        """Let the workflow of a call find what makes it."""
        with self._lock:
            self._calls[call_id] = live
        try:
            yield
        finally:
            with self._lock:
                if self._calls.get(call_id) is live:
                    # Else a newer execution of the caller makes it.
                    del self._calls[call_id]


async def make_call(
    run: Run, wrapper: RunContextWrapper[Any], attempts: ToolAttempts, invoke: Invoke
) -> ToolResult:
    """What a call gave that was made in a workflow of its own.

    Args:
        run: The run that makes the call.
        wrapper: The run's context.
        attempts: The call's attempts.
        invoke: Makes the call.

    Raises:
        Exception: What the call raised.
    """
    live = _Live(run, wrapper, attempts, invoke)
    caller = run.owner.workflow_id
    workflow_id, token = f"{caller}-{attempts.key}", str(uuid.uuid4())

    workflow = process.registered()[NAME]

    async def result() -> str:
        if await asyncio.to_thread(run.recorder.reopen, workflow_id, run.owner, token):
            # It was cancelled with its caller, which was resumed: it goes on, too.
            await asyncio.to_thread(executions.execute_again, workflow_id, token)
        with SetWorkflowID(workflow_id):
            handle = await DBOS.start_workflow_async(workflow, attempts.key, caller)
        return str(await handle.get_result(polling_interval_sec=_PAUSE))

    with process_state.of(LiveCalls).handed_over(attempts.key, live):
        try:
            outcome = json.loads(await _apart(result))
        except asyncio.CancelledError:
            if not process.is_stopping():
                await _apart(lambda: DBOS.cancel_workflow_async(workflow_id))
            raise
    if not live.was_made:
        _catch_up(live, outcome)
    if outcome["error"] is not None:
        raise exceptions.opened(outcome["error"])
    return ToolResult(decode(outcome["output"]), outcome["is_error"])


def _catch_up(live: _Live, outcome: dict[str, Any]) -> None:
    """Do in this process's memory what the call did in that of a process that died."""
    live.attempts.restore(outcome)
    if outcome["context_change"]:
        context_changes.change(live.wrapper.context, outcome["context_change"])
    for usage in nested_usage(live.run, live.id):
        live.wrapper.usage.add(deserialize_usage(usage))


async def _apart(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Await `work` outside of the step, where DBOS starts no workflow."""
    task = asyncio.create_task(work(), context=contextvars.Context())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        raise


async def made(call_id: str, caller: str) -> str:
    """What the workflow of a call does: make the call; its outcome, as JSON."""
    live = await _handed_over(call_id, caller)
    with entered(live.run):
        return await _made(live)


async def _made(live: _Live) -> str:
    before = await unended_calls.ended(live.id)
    if before is not None and before.outcome is not None:
        # An execution of this workflow before this one made the call, and could not record it.
        live.attempts.restore(before.outcome.attempts)
        found: str = before.outcome.result
        return found
    live.was_made = True
    name = f"tool: {live.attempts.tool_name} of run {live.run.id}"
    step = inside_step(live.run, live.id, live.wrapper.usage, workflow_scope.scope().owner)
    with step as scope, unended_calls.going_on(live.id, name) as call:
        outcome = json.dumps(await _outcome(live))
        if not scope.is_lost:
            call.end(Outcome(outcome, None, {}, live.attempts.columns))
    return outcome


async def _outcome(live: _Live) -> dict[str, Any]:
    """What a call gives, as JSON's types, and what it changes in the run's context."""
    target = live.wrapper.context
    before = context_changes.fields_of(target, {}) if context_changes.is_supported(target) else None
    outcome: dict[str, Any] = {"output": None, "is_error": False, "error": None}
    cancelled = cancels()
    try:
        result = await live.invoke(live.attempts)
    except control_errors.CONTROL_ERRORS:
        raise
    except (Exception, asyncio.CancelledError) as error:
        # The call's step raises it, unless this workflow was cancelled.
        if isinstance(error, asyncio.CancelledError) and not came_by_itself(error, cancelled):
            raise
        outcome["error"] = dict(exceptions.seal(error))
    else:
        outcome |= {"output": encode(result.output), "is_error": result.is_error}
    if before is not None:
        after = context_changes.fields_of(target, before)
        outcome["context_change"] = context_changes.whole_keys(before, after)
    else:
        outcome["context_change"] = {}
    return {**outcome, **live.attempts.columns}


async def _handed_over(call_id: str, caller: str) -> _Live:
    """The call, once the step that waits for this workflow is executed in this process."""
    pauses = 0
    while (live := process_state.of(LiveCalls).find(call_id)) is None:
        await asyncio.sleep(_PAUSE)
        pauses += 1
        if pauses % _PAUSES_BETWEEN_LOOKS == 0:
            found = await _apart(
                lambda: DBOS.list_workflows_async(
                    workflow_ids=[caller], load_input=False, load_output=False
                )
            )
            if not found or found[0].status not in _GOES_ON:
                raise NotDurableError(
                    f"tool call {call_id} belongs to workflow {caller!r}, which is over: nobody "
                    "waits for its outcome"
                )
    return live
