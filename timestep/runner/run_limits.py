"""Ends what a run waits for: at its timeout, or once its execution owns the workflow no more."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from timestep.dbos_internals import control_errors
from timestep.execution import identity
from timestep.execution.run import Run
from timestep.journal import ownership_watch
from timestep.runner.installation import Installation
from timestep.runtime import process_state
from timestep.runtime.cancellation import Cut
from timestep.sdk.mcp import shared_connections


@contextlib.asynccontextmanager
async def cuttable(run: Run) -> AsyncIterator[None]:
    """End what a run waits for once its time is over, or its execution owns nothing any more."""
    async with run.limits.cut as cut:
        with contextlib.ExitStack() as stack:
            if run.parent is None:
                stack.enter_context(ownership_watch.watching(run.recorder, run.owner, cut.now))
            yield


@contextlib.asynccontextmanager
async def cut_by_owner(run: Run) -> AsyncIterator[None]:
    """End a wait of the workflow for a run once this execution owns the workflow no more."""
    try:
        async with Cut() as cut:
            with ownership_watch.watching(run.recorder, run.owner, cut.now):
                yield
    except control_errors.LOST:
        await run.recorder.cancelled(run.owner.workflow_id, run.root_id)
        raise


async def leave(run: Run) -> None:
    """Let go of a run that has ended, when it is its turn to be handed to who awaits it."""
    run.close()
    identity.forget(run)
    process_state.of(Installation).leave(run)
    if run.parent is None:
        shared_connections.leave(run.root_id)
    try:
        await run.ends.hand_over()
    finally:
        run.counters.keep_no_more()
