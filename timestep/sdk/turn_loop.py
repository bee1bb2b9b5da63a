"""Begins and ends a turn of the SDK's loop: its checkpoint, and the rows it leaves behind."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any

from agents import Agent, RunResultStreaming
from agents.run_internal.run_steps import NextStepHandoff, QueueCompleteSentinel

from timestep.execution.run import Run
from timestep.sdk import declared_types
from timestep.sdk.reached_agents import describe
from timestep.sdk.state import turn_state
from timestep.sdk.state.run_history import Told, history_of
from timestep.sdk.validation import check_agents


async def start_streaming(run: Run, original: Any, *args: Any, **kwargs: Any) -> None:
    await run.streaming.drive(original, *args, **kwargs)


def end_events(streamed: RunResultStreaming) -> None:
    """Tell the stream's reader that nothing follows, also where the SDK's loop never began."""
    streamed.is_complete = True
    streamed._event_queue.put_nowait(QueueCompleteSentinel())


async def run_single_turn(run: Run, original: Any, **kwargs: Any) -> Any:
    history = history_of(run)
    _start_turn(run, kwargs["bindings"].public_agent)
    _checkpoint(run, lambda: turn_state.state_before_turn(history, run.turn, kwargs))
    run.calls.skip_where(
        functools.partial(_is_skipped, kwargs["context_wrapper"], history.answered)
    )
    try:
        result = await original(**kwargs)
    finally:
        # Not every turn comes to a step after its answer, and what follows is not only steps.
        await run.commits.deferred()
    run.limits.check_failure()
    return _end_turn(run, result, kwargs["run_config"])


def _is_skipped(wrapper: Any, answered: Collection[str], call_id: str) -> bool:
    is_known = call_id in wrapper._tool_invocations or call_id in answered
    return is_known or any(record.rejected for record in wrapper._approvals.values())


async def run_single_turn_streamed(run: Run, original: Any, *args: Any, **kwargs: Any) -> Any:
    streamed_result, bindings = args[0], args[1]
    _start_turn(run, bindings.public_agent)
    _checkpoint(run, lambda: streamed_result)
    return _end_turn(run, await original(*args, **kwargs), args[4])


def _checkpoint(run: Run, result: Callable[[], Any]) -> None:
    """Have the state before the turn recorded with its answer, unless it is recorded."""
    if run.record.is_over or _has_checkpoint(run):
        return
    history = history_of(run)

    def tell() -> tuple[dict[str, Any], Told]:
        return turn_state.written(result(), run.turn, history.told or Told())

    state = history.checkpoint(run, tell)
    run.commits.add_checkpoint(
        None if state is None else functools.partial(run.states.checkpoint_row, state)
    )


def _has_checkpoint(run: Run) -> bool:
    """Whether the record holds the state before the turn."""
    # An id is made only where there may be a row.
    return run.record.has("run_states") and (
        run.record.find("run_states", run.states.checkpoint_id(run.turn)) is not None
    )


async def resolve_interrupted_turn(run: Run, original: Any, **kwargs: Any) -> Any:
    run.go_on_in_turn(kwargs["bindings"].public_agent)
    return _end_turn(run, await original(**kwargs), kwargs["run_config"])


def _is_filtered(result: Any, config: Any) -> bool:
    if config.handoff_input_filter is not None or result.processed_response is None:
        return True
    return any(found.handoff.input_filter for found in result.processed_response.handoffs)


def _start_turn(run: Run, agent: Agent[Any]) -> None:
    if id(agent) not in run.definitions.agent_ids:
        # A handoff that told its target only when it was invoked.
        check_agents(describe([agent]).agents)
        declared_types.declare(run.types, [agent], [])
    run.begin_turn(agent)


def _end_turn(run: Run, result: Any, config: Any) -> Any:
    history = history_of(run)
    if isinstance(result.next_step, NextStepHandoff) and _is_filtered(result, config):
        # It was given the items, and may have changed them.
        history.told = None
    history.add_turn(result)
    for table, rows in history.rows_of_turn(run, result).items():
        run.commits.add(table, rows)
    return result
