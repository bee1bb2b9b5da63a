"""Tells in one line what a run does, or waits for, or how it ended."""

from __future__ import annotations

import asyncio
import datetime
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from timestep.journal.fail_fast_read import reading
from timestep.operations.access import audit
from timestep.operations.queries import rows
from timestep.operations.queries.records import Run
from timestep.store.reads.overview import activity as store

Kind = Literal["model", "tool", "person", "stuck", "failed", "cancelled", "said"]

_NAMED = 3
"""Tools under way that are named one by one."""

_CANCELLED = {
    "cancelled": "cancelled",
    "timeout": "its time was over",
    "code": "its own code cut it off",
    "abandoned": "its workflow ended without waiting for it",
}


@dataclass(frozen=True)
class Activity:
    """What a run does, or waits for, or how it ended."""

    kind: Kind
    text: str
    """One line; parts of it are what models, tools and callers said."""
    since: datetime.datetime | None = None
    """Since when it does or waits for that; None: it has ended, or that is not known."""
    until: datetime.datetime | None = None
    """When a question is rejected, if nobody decides."""
    begins: datetime.datetime | None = None
    """When a workflow without a run may begin one, if it is delayed."""
    runs_inside: int = 0
    """How many runs it started inside of itself; only of an outermost one."""


async def activities(runs: Sequence[Run]) -> list[Activity]:
    """What each of some runs does, in their order.

    Args:
        runs: As `list_runs` gives them, brief or not.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    return await asyncio.to_thread(_activities, runs)


def _activities(runs: Sequence[Run]) -> list[Activity]:
    def ids(*statuses: str) -> list[uuid.UUID]:
        return [uuid.UUID(run.id) for run in runs if run.id and run.status in statuses]

    def work(connection: Any) -> tuple[dict[Any, Any], dict[Any, Any], dict[Any, int]]:
        going, asking = ids("running"), ids("interrupted")
        under_way = store.under_way(connection, going) if going else []
        questions = store.questions(connection, asking) if asking else []
        outermost = [uuid.UUID(run.id) for run in runs if run.id and not run.parent_run_id]
        inside = store.inside(connection, outermost) if outermost else {}
        return {row["id"]: row for row in under_way}, {row["id"]: row for row in questions}, inside

    under_way, questions, inside = reading(work)
    by = audit.cancelled_by(
        {run.workflow_id for run in runs if run.workflow_id and run.cancel_reason == "cancelled"}
    )
    found = []
    for run in runs:
        id_ = uuid.UUID(run.id) if run.id else None
        if run.cancel_reason == "cancelled" and (who := by.get(run.workflow_id or "")):
            cancelled = Activity("cancelled", f"cancelled {who}", runs_inside=inside.get(id_, 0))
            found.append(cancelled)
            continue
        told = _told(run, under_way.get(id_), questions.get(id_))
        begins = rows.begins(run)
        found.append(Activity(*told, begins=begins, runs_inside=inside.get(id_, 0)))
    return found


_Told = tuple[Kind, str, datetime.datetime | None, datetime.datetime | None]


def _told(run: Run, under_way: dict[str, Any] | None, question: dict[str, Any] | None) -> _Told:
    if run.status == "failed":
        message = run.error.message.strip().partition("\n")[0] if run.error else ""
        kind = run.error.type if run.error else "failed"
        return "failed", f"{kind}: {message}" if message else kind, None, None
    if run.status == "cancelled":
        return "cancelled", _CANCELLED.get(run.cancel_reason or "", "cancelled"), None, None
    if run.status == "completed":
        said = run.final_output
        return (
            "said",
            "" if said is None else said if isinstance(said, str) else str(said),
            None,
            None,
        )
    if run.is_stuck and run.obstacle:
        return "stuck", run.obstacle, None, None
    if question is not None:
        more = question["questions"] - 1
        text = _asked(question) + (f" (and {more} more)" if more else "")
        return "person", text, question["created_at"], question["expires_at"]
    if run.status == "interrupted":
        return "person", "decided: goes on", None, None
    if under_way is None:
        state = run.workflow.status if run.workflow else ""
        is_queued = state in ("ENQUEUED", "DELAYED")
        waits = "waits in the queue" if is_queued else "has not begun a run"
        return "model", run.obstacle or waits, None, None
    names = under_way["names"] or []
    if names:
        more = len(names) - _NAMED
        shown = ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
        return "tool", f"calls {shown}", under_way["since"], None
    return "model", f"asks {under_way['model'] or 'the model'}", under_way["since"], None


def _asked(question: dict[str, Any]) -> str:
    """A question as a sentence: the tool's own, else the call."""
    call = question["description"] or f"{question['tool_name']}({question['arguments'] or ''})"
    return f"Did it happen? {call}" if question["reason"] == "in_doubt" else str(call)
