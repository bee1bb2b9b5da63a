"""Lets `assert_replays` watch a replay: its steps are delayed, and none may be executed."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass

from timestep.errors import ReplayError
from timestep.execution.replay import network_watch
from timestep.runtime import process_state
from timestep.runtime.process_state import PerProcess


@dataclass(frozen=True)
class Replay:
    """How a workflow is executed again."""

    delay: float
    """Seconds, at most, that each step is held up before its record is read."""
    source: random.Random
    """Where the delays come from."""
    holds: float = 0.0
    """Seconds that what was not recorded is held, in which the code may give it up again."""


class WatchedReplays(PerProcess):
    """Keeps which workflows' replays a test watches in this process."""

    def __init__(self) -> None:
        self.by_workflow: dict[str, Replay] = {}
        self.told: dict[str, list[str]] = {}

    def close(self) -> None:
        self.by_workflow.clear()
        self.told.clear()


@contextlib.contextmanager
def watched(workflow_id: str, replay: Replay) -> Iterator[tuple[list[str], list[str]]]:
    """Refuse every effect of a workflow, and hold up its steps.

    Yields:
        Lists that get the addresses to which the workflow would have sent something, and what
        `tell` is given.
    """
    watch = process_state.of(WatchedReplays)
    watch.by_workflow[workflow_id] = replay
    told: list[str] = []
    watch.told[workflow_id] = told
    try:
        with network_watch.refused(workflow_id) as addresses:
            yield addresses, told
    finally:
        del watch.by_workflow[workflow_id], watch.told[workflow_id]


def tell(workflow_id: str, difference: str) -> None:
    """Say what a workflow does otherwise, if it is watched: its end may not tell it."""
    told = process_state.of(WatchedReplays).told.get(workflow_id)
    if told is not None:
        told.append(difference)


def is_watched(workflow_id: str) -> bool:
    """Whether a test watches a replay of a workflow."""
    return workflow_id in process_state.of(WatchedReplays).by_workflow


async def hold_up(workflow_id: str) -> None:
    """Hold a step up, if its workflow is watched."""
    replay = process_state.of(WatchedReplays).by_workflow.get(workflow_id)
    if replay is not None and replay.delay:
        await asyncio.sleep(replay.source.uniform(0, replay.delay))


def holds(workflow_id: str) -> float:
    """Seconds that an operation is held of which nothing is recorded, if its workflow is watched.

    That has ended before, so whatever is recorded of nothing was given up, or left.
    """
    replay = process_state.of(WatchedReplays).by_workflow.get(workflow_id)
    return 0.0 if replay is None else replay.holds


def refused(workflow_id: str, step: str, run: object | None) -> ReplayError | None:
    """Why a step, of a run or of none, may not be executed, if its workflow is watched."""
    if not is_watched(workflow_id):
        return None
    of_run = "" if run is None else f" of run {run}"
    return ReplayError(
        f"step {step!r}{of_run} was to be executed again: the record of workflow "
        f"{workflow_id!r} does not hold its outcome under the name that the replay looks for"
    )
