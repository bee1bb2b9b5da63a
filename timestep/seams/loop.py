"""Where the SDK's loop begins and ends a turn: checkpoints, and what a turn leaves behind."""

from __future__ import annotations

import functools
from typing import Any

from agents import Agent, RunResultStreaming
from agents.run_internal.run_steps import QueueCompleteSentinel

from timestep.definitions import describe
from timestep.durability import check_agents
from timestep.run import Run
from timestep.seams.ledger import Ledger


def ledger_of(run: Run) -> Ledger:
    found: Ledger = run.ledger
    return found


async def start_streaming(run: Run, original: Any, *args: Any, **kwargs: Any) -> None:
    await run.stream(original, *args, **kwargs)


def end_events(streamed: RunResultStreaming) -> None:
    """Tell the stream's reader that nothing follows, also where the SDK's loop never began."""
    streamed.is_complete = True
    streamed._event_queue.put_nowait(QueueCompleteSentinel())


async def run_single_turn(run: Run, original: Any, **kwargs: Any) -> Any:
    ledger = ledger_of(run)
    _start_turn(run, kwargs["bindings"].public_agent)
    if not run.has_checkpoint(run.turn):
        run.checkpoint = ledger.checkpoint(
            run, functools.partial(ledger.state_before_turn, run.turn, kwargs)
        )
    return _end_turn(run, await original(**kwargs))


async def run_single_turn_streamed(run: Run, original: Any, *args: Any, **kwargs: Any) -> Any:
    streamed_result, bindings = args[0], args[1]
    _start_turn(run, bindings.public_agent)
    if not run.has_checkpoint(run.turn):
        run.checkpoint = ledger_of(run).checkpoint(
            run, functools.partial(_state_before_turn, streamed_result, run.turn)
        )
    return _end_turn(run, await original(*args, **kwargs))


def _state_before_turn(streamed_result: Any, turn: int) -> Any:
    state = streamed_result.to_state()
    # The result counts the turn that begins; its state is of the turns that ended.
    state._current_turn = turn - 1
    return state


async def resolve_interrupted_turn(run: Run, original: Any, **kwargs: Any) -> Any:
    run.agent = kwargs["bindings"].public_agent
    return _end_turn(run, await original(**kwargs))


def _start_turn(run: Run, agent: Agent[Any]) -> None:
    if id(agent) not in run.definitions.agent_ids:
        # A handoff that told its target only when it was invoked.
        check_agents(describe([agent]).agents)
    run.agent = agent
    run.turn += 1


def _end_turn(run: Run, result: Any) -> Any:
    ledger = ledger_of(run)
    ledger.add_turn(result)
    for table, rows in ledger.rows_of_turn(run, result).items():
        run.waiting.setdefault(table, []).extend(rows)
    return result
