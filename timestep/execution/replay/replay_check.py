"""Lets `assert_replays` watch a replay: its steps are delayed, and none may be executed."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass

from timestep.errors import ReplayError


@dataclass(frozen=True)
class Replay:
    """How a workflow is executed again."""

    delay: float
    """Seconds, at most, that each step is held up before its record is read."""
    source: random.Random
    """Where the delays come from."""


_watched: dict[str, Replay] = {}


@contextlib.contextmanager
def watched(workflow_id: str, replay: Replay) -> Iterator[None]:
    """Refuse every effect of a workflow, and hold up its steps."""
    _watched[workflow_id] = replay
    try:
        yield
    finally:
        del _watched[workflow_id]


async def hold_up(workflow_id: str) -> None:
    """Hold a step up, if its workflow is watched."""
    replay = _watched.get(workflow_id)
    if replay is not None and replay.delay:
        await asyncio.sleep(replay.source.uniform(0, replay.delay))


def refused(workflow_id: str, step: str, run: object) -> ReplayError | None:
    """Why a step may not be executed, if its workflow is watched."""
    if workflow_id not in _watched:
        return None
    return ReplayError(
        f"step {step!r} of run {run} was to be executed again: the record of workflow "
        f"{workflow_id!r} does not hold its outcome under the name that the replay looks for"
    )
