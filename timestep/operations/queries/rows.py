"""Makes the records that reads answer with of rows."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from typing import Any, TypeVar

from timestep.operations.queries.records import (
    STATUSES,
    Interruption,
    Run,
    RunError,
    Status,
    Usage,
    Workflow,
)
from timestep.operations.tags import shown as tags_of
from timestep.serialization.documents.json_text import displayed
from timestep.serialization.workflow_documents import shown, shown_arguments, shown_error
from timestep.store.fleet.process_ends import NEVER
from timestep.store.reads.workflow_records import WorkflowRecord

T = TypeVar("T")


def workflow_of(found: WorkflowRecord) -> Workflow:
    """What DBOS's record of a workflow tells."""
    output = shown(found.output, found.serialization)
    told = shown_error(found.error, found.serialization)
    error = None if told is None else RunError(*told, turn=None)
    if error is None and found.status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED":
        error = RunError(found.status, "it was recovered too many times", turn=None)
    delay = found.delayed_until if found.status == "DELAYED" else None
    # What is put aside is delayed to the end of times.
    until = None if delay is None or delay >= NEVER else moment_of(delay)
    return Workflow(status=found.status, output=output, error=error, delayed_until=until)


_STATUS_OF: dict[str, Status] = {
    "PENDING": "running",
    "ENQUEUED": "running",
    "DELAYED": "running",
    "SUCCESS": "completed",
    "ERROR": "failed",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "failed",
    "CANCELLED": "cancelled",
}


def status_of(status: str | None) -> Status | None:
    """How a run stands, of its own status or of DBOS's of a workflow; None: it is not known."""
    return _STATUS_OF.get(status or "", status if status in STATUSES else None)


def without_run(workflow_id: str, found: WorkflowRecord) -> Run:
    """A workflow that has begun no run, as DBOS's record of it tells."""
    workflow = workflow_of(found)
    is_late = found.deadline is not None and found.deadline <= (found.completed_at or 0)
    cancelled = "timeout" if is_late else "cancelled"
    return Run(
        id=None,
        workflow_id=workflow_id,
        workflow_name=found.name,
        status=_STATUS_OF[found.status],
        input=shown_arguments(found.arguments, found.serialization),
        final_output=workflow.output,
        error=workflow.error,
        cancel_reason=cancelled if found.status == "CANCELLED" else None,
        started_at=moment_of(found.created_at),
        completed_at=moment_of(found.completed_at),
        workflow=workflow,
        tags=tags_of(found.attributes),
    )


def begins(run: Run) -> datetime.datetime | None:
    """When a workflow that has begun no run may do so; None: at any time, or it has begun one."""
    until = run.workflow.delayed_until if run.id is None and run.workflow else None
    return until if until is not None and until > datetime.datetime.now(datetime.UTC) else None


def run_of(row: dict[str, Any], asked: list[dict[str, Any]]) -> Run:
    """A run of its row and those of what it asked."""
    error = None
    if row["error_type"] is not None:
        error = RunError(row["error_type"], row["error_message"] or "", row["error_turn"])
    usage = {spec.name: row[spec.name] or 0 for spec in dataclasses.fields(Usage)}
    cost = row["estimated_cost"]
    return Run(
        id=str(row["id"]),
        workflow_id=row["workflow_id"],
        workflow_name=row["workflow_name"],
        status=row["status"],
        parent_run_id=_id(row["parent_run_id"]),
        agent_name=row["agent_name"],
        current_agent_name=row["current_agent_name"],
        session_id=row["session_key"],
        input=displayed(row["input"]),
        final_output=displayed(row["final_output"]),
        turns=row["current_turn"],
        error=error,
        cancel_reason=row["cancel_reason"],
        forked_from_run_id=_id(row["forked_from_run_id"]),
        forked_at_turn=row["forked_at_turn"],
        usage=Usage(**usage),
        cost=float(cost) if cost is not None else None,
        interruptions=[of_row(Interruption, one) for one in asked],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
    )


def _id(value: uuid.UUID | None) -> str | None:
    return None if value is None else str(value)


def of_row(kind: type[T], row: dict[str, Any]) -> T:
    """A row as a dataclass: ids as text, JSON as it was."""
    names = [spec.name for spec in dataclasses.fields(kind) if spec.name in row]  # type: ignore[arg-type]
    values = {name: row[name] for name in names}
    return kind(
        **{
            name: str(value) if isinstance(value, uuid.UUID) else displayed(value)
            for name, value in values.items()
        }
    )


def moment_of(milliseconds: int | None) -> datetime.datetime | None:
    """A time of DBOS's."""
    if milliseconds is None:
        return None
    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
