"""Holds steps back that a replayed run did not come to, because its record says it had ended."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from typing import Any

from agents import InputGuardrailTripwireTriggered

from timestep.errors import (
    DatabaseError,
    DatabaseRightsError,
    NotDurableError,
    ReplayError,
    RunTimeoutError,
)
from timestep.execution.replay import replay_check
from timestep.execution.replay.ordering import patiently
from timestep.execution.run import Run
from timestep.runtime.cancellation import Signal
from timestep.runtime.terminal import quoted
from timestep.serialization import exceptions
from timestep.serialization.values import restored

_MARGIN = 5.0
"""Seconds that code gets, beyond those it first took, to cut a replayed run off once more."""

_TICKS = 20

_REFUSALS = (DatabaseError.__name__, DatabaseRightsError.__name__, NotDurableError.__name__)
"""What ended a run whose step the database refused for good, or we did."""


class Held(Signal):
    """A step that must not begin: what ends the run is decided. `error` says what.

    Not an Exception: DBOS would record the step as one that failed.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


async def hold_if_decided(run: Run, name: str, *, is_alone: bool) -> None:
    """Start no effect that the first execution did not record, once its end is recorded.

    What ended the run (a tripwire, another call's failure) comes from the record and
    cancels this step, as it did then.

    Args:
        run: The run.
        name: The step.
        is_alone: Whether only checks of the run's input go on beside it.

    Raises:
        Held: The tripwire was heard, and the caller is not cancelled by it; or nothing is left
            that could end the run as it ended.
    """
    run.start_timer()
    if not run.record.is_over and _trip(run) is None:
        return
    row = run.record.own_row or {}
    if row.get("error_type") in _REFUSALS:
        # The rows of this very step were refused, or what came before it would be recorded.
        raise Held(exceptions.opened(restored(row["error"])))
    await hold_if_cut(run, name)
    if not run.record.is_over or _trip(run) is not None:
        await wait_for_trip(run)
        if (tripped := run.history.tripped) is not None:
            raise Held(InputGuardrailTripwireTriggered(tripped))
    if is_alone and _has_failed(run) and not _has_failed_check(run):
        lost = (
            f"run {run.id} failed before it came to {name!r} ({row['error_type']}: "
            f"{quoted(row['error_message'])}), no recorded step holds that failure, and this time "
            "its code went on: let what failed be in a step, or fail again"
        )
        replay_check.tell(run.owner.workflow_id, lost)
        raise Held(ReplayError(lost))
    await patiently(run.limits.ended, run.id, f"the end that the record holds, before {name!r}")


async def hold_if_cut(run: Run, name: str) -> None:
    """End as the first execution did: cut off by its timeout, or the workflow's own code."""
    row = run.record.own_row or {}
    if row.get("error_type") == RunTimeoutError.__name__:
        run.limits.cut.now(exceptions.opened(restored(row["error"])))
        await run.limits.ended.wait()
    if row.get("cancel_reason") != "code" or run.record.may_go_on:
        return
    first = [datetime.datetime.fromisoformat(row[at]) for at in ("completed_at", "started_at")]
    patience = (first[0] - first[1]).total_seconds() + _MARGIN
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(run.limits.ended.wait(), patience)
    if run.streaming.stop():
        # Its reader stopped it at an event that is not replayed.
        await run.limits.ended.wait()
    await patiently(run.limits.ended, run.id, f"its code to cut it off, before {name!r}")


async def wait_for_trip(run: Run) -> None:
    """Let the check that ended the run be heard before anything else of its turn is."""
    if (row := _trip(run)) is None:
        return
    await run.guardrails.wait_for(row)
    for _ in range(_TICKS):
        # The SDK's tasks that carry the result on have their turns.
        await asyncio.sleep(0)


def _has_failed(run: Run) -> bool:
    return (run.record.own_row or {}).get("status") == "failed"


def _has_failed_check(run: Run) -> bool:
    return any(row["error"] is not None for row in run.record.all("guardrail_results"))


def _trip(run: Run) -> dict[str, Any] | None:
    """The recorded check of the first turn's input that tripped first.

    The checks of a later turn's end before it begins.
    """
    tripped = [
        row
        for row in run.record.all("guardrail_results")
        if row["tripwire_triggered"] and row["type"] == "input" and row["turn"] == 1
    ]
    return min(tripped, key=lambda row: row["position"], default=None)
