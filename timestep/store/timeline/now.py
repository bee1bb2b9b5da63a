"""Reads what a run does now: its newest answer, and the calls that are under way."""

from __future__ import annotations

import datetime
import uuid
from dataclasses import dataclass

import sqlalchemy as sa

_NEWEST = """
    SELECT m.created_at FROM public.model_responses m WHERE m.run_id = %(run_id)s
    ORDER BY m.ordinal DESC, m.attempt DESC LIMIT 1"""

_NEWEST_ITEM = """
    SELECT i.turn, i.created_at FROM public.run_items i WHERE i.run_id = %(run_id)s
    ORDER BY i.sequence DESC LIMIT 1"""

# Calls are open of the newest answer only.
_OPEN = """
    SELECT c.tool_name, c.created_at, c.started_at FROM public.tool_calls c
    WHERE c.status IN ('pending', 'approved', 'started') AND c.model_response_id = (
        SELECT m.id FROM public.model_responses m WHERE m.run_id = %(run_id)s
        ORDER BY m.ordinal DESC, m.attempt DESC LIMIT 1)
    ORDER BY c.created_at, c.id LIMIT 20"""

_TRIPPED = """
    SELECT g.guardrail_name, g.type FROM public.guardrail_results g
    WHERE g.run_id = %(run_id)s AND g.tripwire_triggered ORDER BY g.position DESC LIMIT 1"""

# Later ones are of a workflow that waited for a person.
_QUEUED = """
    SELECT created_at, started_at_epoch_ms FROM "{schema}".workflow_status
    WHERE workflow_uuid = :workflow_id AND started_at_epoch_ms IS NOT NULL"""


@dataclass(frozen=True)
class Now:
    """What is recorded of the moment."""

    calls: list[str]
    """The names of the tools that are called, and have not answered."""
    since: datetime.datetime | None
    """When the newest of what is recorded was; None: nothing is."""


def now(connection: sa.Connection, run_id: uuid.UUID) -> Now:
    """What a run does at the moment."""
    values = {"run_id": run_id}
    open_ = connection.exec_driver_sql(_OPEN, values).all()
    if open_:
        return Now([row[0] for row in open_], open_[0][2] or open_[0][1])
    answered = connection.exec_driver_sql(_NEWEST, values).scalar_one_or_none()
    item = connection.exec_driver_sql(_NEWEST_ITEM, values).one_or_none()
    times = [one for one in (answered, item[1] if item else None) if one is not None]
    return Now([], max(times, default=None))


def tripped(connection: sa.Connection, run_id: uuid.UUID) -> tuple[str, str] | None:
    """The guardrail that stopped a run: its name, and what it checks; None: none did."""
    found = connection.exec_driver_sql(_TRIPPED, {"run_id": run_id}).one_or_none()
    return None if found is None else (found[0], found[1])


def queued(connection: sa.Connection, schema: str, workflow_id: str) -> tuple[int, int] | None:
    """When a workflow was given to a queue, and when it was last taken from one.

    Args:
        connection: To DBOS's own tables.
        schema: Theirs.
        workflow_id: The workflow.

    Returns:
        Both in milliseconds since 1970; None: it was in none.
    """
    sql = sa.text(_QUEUED.replace("{schema}", schema))
    found = connection.execute(sql, {"workflow_id": workflow_id}).one_or_none()
    return None if found is None else (found[0], found[1])
