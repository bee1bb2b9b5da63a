"""Says in a sentence why a run is as it is, and what helps."""

from __future__ import annotations

import asyncio
import datetime
import uuid
from dataclasses import dataclass, field

from timestep.database.error_translation import translated
from timestep.journal.fail_fast_read import reading
from timestep.journal.reads.database import database
from timestep.operations.access import audit
from timestep.operations.queries import rows
from timestep.operations.queries.records import Interruption, Run
from timestep.store.timeline import now as store

_LONGEST = 2000
"""Characters of an error's message in the sentence."""

CANCELLED = {
    "cancelled": "Its workflow was cancelled",
    "timeout": "Cancelled, as its time was over",
    "code": "Cut off by its workflow's own code",
    "abandoned": "Cancelled, as its workflow ended without waiting for it",
}
"""Why a run was cancelled, by what is recorded of it."""


_TRIPPED = ("InputGuardrailTripwireTriggered", "OutputGuardrailTripwireTriggered")

_MAYBE_MADE = "a call that may have been made already"


@dataclass(frozen=True)
class Standing:
    """Why a run is as it is."""

    sentence: str
    since: datetime.datetime | None
    """Since when it is so; None: that is not known."""
    help: str | None = None
    """What helps, where something has to be done about it."""
    asked: list[Interruption] = field(default_factory=list)
    """What it waits for people to decide."""
    begins: datetime.datetime | None = None
    """When it may begin, if its start was delayed, or is tried again; None: at any time."""


async def standing_of(run: Run) -> Standing:
    """Why a run is as it is.

    Args:
        run: As `get_run` gives it.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    if run.status == "running":
        return await _running(run)
    if run.status == "interrupted":
        return _waiting(run)
    if run.status == "failed":
        return await _failed(run)
    if run.status == "cancelled":
        return await _cancelled(run)
    return Standing("Completed", run.completed_at)


async def queued_for(run: Run) -> float | None:
    """For how many seconds a run's workflow was in a queue; None: in none, as far as is known.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    workflow_id, began = run.workflow_id, run.started_at
    if workflow_id is None or began is None or run.parent_run_id is not None:
        return None

    def read() -> tuple[int, int] | None:
        with translated(database().url), database().system() as (connection, schema):
            return store.queued(connection, schema, workflow_id)

    found = await asyncio.to_thread(read)
    # Taken later, it had waited for a person meanwhile.
    if found is None or found[1] > began.timestamp() * 1000:
        return None
    return (found[1] - found[0]) / 1000


async def _running(run: Run) -> Standing:
    where = f", on the host {run.executor.id}" if run.executor is not None else ""
    if run.id is None:
        state = run.workflow.status if run.workflow else ""
        queued = state in ("ENQUEUED", "DELAYED")
        what = "Waits in the queue" if queued else f"Has not begun a run yet{where}"
        return Standing(what, run.started_at, run.obstacle, begins=rows.begins(run))
    id_ = uuid.UUID(run.id)
    found = await asyncio.to_thread(lambda: reading(lambda connection: store.now(connection, id_)))
    turn = f"turn {max(run.turns, 1)}"
    if run.is_stuck:
        return Standing(f"Goes nowhere in {turn}: nobody executes it", found.since, run.obstacle)
    if found.calls:
        names = ", ".join(found.calls)
        what = f"Calls {names} in {turn}"
    else:
        agent = run.current_agent_name or run.agent_name
        what = f"Asks the model of {agent} in turn {run.turns + 1}"
    return Standing(f"{what}{where}", found.since or run.started_at, run.obstacle)


def _waiting(run: Run) -> Standing:
    asked = [one for one in run.interruptions if one.resolved_at is None]
    since = min((one.created_at for one in asked), default=None)
    if not asked:
        follows = "nobody goes on with it" if run.obstacle else "it goes on"
        return Standing(f"Everything is decided, and {follows}", None, run.obstacle)
    doubtful = sum(one.reason == "in_doubt" for one in asked)
    if doubtful == len(asked):
        calls = "calls that may have been made already" if doubtful > 1 else _MAYBE_MADE
        return Standing(
            f"Waits for a person to say what became of {calls}", since, run.obstacle, asked
        )
    count = f"{len(asked)} decisions" if len(asked) > 1 else "a decision"
    return Standing(f"Waits for a person to make {count}", since, run.obstacle, asked)


async def _failed(run: Run) -> Standing:
    error = run.error
    if error is None:
        return Standing("Failed", run.completed_at, run.obstacle)
    where = f" in turn {error.turn}" if error.turn else ""
    if error.type in _TRIPPED and run.id is not None:
        id_ = uuid.UUID(run.id)
        found = await asyncio.to_thread(lambda: reading(lambda c: store.tripped(c, id_)))
        if found is not None:
            what = f"Stopped{where} by the guardrail {found[0]} of its {found[1]}"
            return Standing(what, run.completed_at, run.obstacle)
    said = error.message if len(error.message) <= _LONGEST else f"{error.message[:_LONGEST]} …"
    message = f": {said}" if said else ""
    return Standing(f"Failed{where} with {error.type}{message}", run.completed_at, run.obstacle)


async def _cancelled(run: Run) -> Standing:
    what = CANCELLED.get(run.cancel_reason or "cancelled", "Cancelled")
    id_ = run.workflow_id
    if run.cancel_reason == "cancelled" and id_ is not None:
        who = (await asyncio.to_thread(audit.cancelled_by, [id_])).get(id_)
        what = f"{what} {who}" if who is not None else what
    return Standing(what, run.completed_at, run.obstacle)
