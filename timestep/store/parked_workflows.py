"""Parks workflows that wait for a person in DBOS's table, and brings them back on a decision."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

CHANNEL = "timestep_decisions"
"""Where PostgreSQL tells processes of a decision, with the workflow and its queue."""

_OPEN = """
    SELECT id FROM public.interruptions
    WHERE id = ANY(%(questions)s::uuid[]) AND resolved_at IS NULL ORDER BY id FOR UPDATE"""

UNDECIDED = """
    FROM public.interruptions i JOIN public.runs r ON r.id = i.run_id
    JOIN public.runs root ON root.id = r.root_run_id
    WHERE i.resolved_at IS NULL AND root.completed_at IS NULL"""
"""Of questions `i`, those that a run waits for, or may yet."""

_ENDS = "('SUCCESS', 'ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')"

_GOES_ON = f"""
    AND NOT EXISTS (SELECT FROM "{{schema}}".workflow_status w
        WHERE w.workflow_uuid = r.workflow_id AND w.status IN {_ENDS})"""

# Not of the whole workflow, or tree: its code may have left questions of other runs alone. Where
# those wait, too, it looks once more, and is put aside again.
_ANSWERED = """
    SELECT FROM public.interruptions i JOIN public.runs r ON r.id = i.run_id
    WHERE r.workflow_id = %(workflow_id)s AND r.completed_at IS NULL
    GROUP BY r.id HAVING bool_and(i.resolved_at IS NOT NULL)"""

_NOW = "(extract(epoch FROM now()) * 1000)::bigint"

_LOCK_WORKFLOW = """
    SELECT FROM "{schema}".workflow_status
    WHERE workflow_uuid = %(workflow_id)s FOR NO KEY UPDATE"""

# As DBOS delays a workflow: nobody executes it before its time, and a restart passes it by.
_PARK = f"""
    UPDATE "{{schema}}".workflow_status SET status = 'DELAYED', owner_xid = NULL,
        queue_name = coalesce(queue_name, %(internal_queue)s), started_at_epoch_ms = NULL,
        delay_until_epoch_ms = (
            SELECT (extract(epoch FROM min(expires_at)) * 1000)::bigint FROM public.interruptions
            WHERE id = ANY(%(questions)s::uuid[]) AND resolved_at IS NULL),
        updated_at = {_NOW}
    WHERE workflow_uuid = %(workflow_id)s AND owner_xid = %(token)s AND status = 'PENDING'
    AND (queue_name IS NOT NULL OR %(is_unattended)s)
    AND NOT EXISTS (
        SELECT unnest(%(numbers)s::int[]) EXCEPT SELECT function_id
        FROM "{{schema}}".operation_outputs WHERE workflow_uuid = %(workflow_id)s)"""

_WAKE = f"""
    UPDATE "{{schema}}".workflow_status SET status = 'ENQUEUED', delay_until_epoch_ms = NULL,
        recovery_attempts = 0, updated_at = {_NOW}
    WHERE workflow_uuid = %(workflow_id)s AND status = 'DELAYED'
    AND EXISTS ({_ANSWERED})
    AND NOT EXISTS (SELECT FROM timestep.process_ends e
        WHERE e.workflow_id = workflow_uuid AND e.delay_until = delay_until_epoch_ms)
    RETURNING queue_name"""


def park(connection: sa.Connection, schema: str, values: dict[str, Any]) -> bool | None:
    """Put the caller's workflow aside until its questions are decided, or the first expires.

    Args:
        values: `workflow_id`, `token`, `questions` (ids), `internal_queue`: where it goes that
            came from no queue, `is_unattended`: whether such a one may be put aside, and
            `numbers` of the code's own steps: one that goes on beside the run would be lost.

    Returns:
        Whether it is put aside, and the caller owns it no more; None: nothing is undecided.
    """
    # Whoever decides holds the same rows: a decision comes before this, or finds it parked.
    if not connection.exec_driver_sql(_OPEN, values).all():
        return None
    return connection.exec_driver_sql(_PARK.replace("{schema}", schema), values).rowcount == 1


def wake(connection: sa.Connection, schema: str, workflow_id: str) -> str | None:
    """Bring a parked workflow back where a run has all its answers, and tell its processes.

    Returns:
        The queue that it waits in for one of them; None: it was not parked.
    """
    parameters = {"workflow_id": workflow_id}
    found = connection.exec_driver_sql(_WAKE.replace("{schema}", schema), parameters)
    queue = found.scalar_one_or_none()
    told = json.dumps({"workflow_id": workflow_id, "queue": queue})
    if len(told) < _LONGEST_NOTICE:
        connection.exec_driver_sql("SELECT pg_notify(%s, %s)", (CHANNEL, told))
    return None if queue is None else str(queue)


_LONGEST_NOTICE = 4000
"""Characters; PostgreSQL takes 8000 bytes. Without a notice, processes look from time to time."""


def lock(connection: sa.Connection, workflow_id: str) -> set[uuid.UUID]:
    """Let nobody else decide what a workflow asks, nor park it, until the transaction ends.

    Returns:
        The ids of its questions.
    """
    found = connection.exec_driver_sql(
        """SELECT i.id FROM public.interruptions i JOIN public.runs r ON r.id = i.run_id
            WHERE r.workflow_id = %s ORDER BY i.id FOR UPDATE OF i""",
        (workflow_id,),
    )
    return set(found.scalars())


def lock_end(connection: sa.Connection, schema: str, workflow_id: str) -> str | None:
    """How a workflow has ended; one that has not does not end before the transaction does.

    Args:
        connection: In the transaction that has the questions of the workflow, if it locks any.
        schema: That of DBOS's tables, or of their copy, in this database.
        workflow_id: The workflow.

    Returns:
        As `ended` tells it; None: it goes on.
    """
    query = _LOCK_WORKFLOW.replace("{schema}", schema)
    connection.exec_driver_sql(query, {"workflow_id": workflow_id})
    return ended(connection, schema, [workflow_id]).get(workflow_id)


def count(connection: sa.Connection, schema: str | None) -> int:
    """How many workflows wait for a person.

    Args:
        connection: To the database.
        schema: That of DBOS's tables, which tell of workflows that have ended and wait for
            nobody; None: they are elsewhere, and those count, too.
    """
    query = f"SELECT count(DISTINCT r.workflow_id) {UNDECIDED}"
    if schema is not None:
        query += _GOES_ON.replace("{schema}", schema)
    return int(connection.exec_driver_sql(query).scalar_one())


def ended(
    connection: sa.Connection, schema: str, workflow_ids: Collection[str | None]
) -> dict[str | None, str]:
    """Those of the workflows that have ended, with how: that they have completed, say."""
    query = sa.text(
        f"""SELECT workflow_uuid, CASE status WHEN 'SUCCESS' THEN 'has completed'
            WHEN 'ERROR' THEN 'has failed' WHEN 'CANCELLED' THEN 'was cancelled'
            ELSE 'was recovered too many times' END
        FROM "{schema}".workflow_status
        WHERE workflow_uuid IN :ids AND status IN {_ENDS}"""
    ).bindparams(sa.bindparam("ids", expanding=True))
    return {row[0]: row[1] for row in connection.execute(query, {"ids": list(workflow_ids)})}


def decisions(connection: sa.Connection, questions: Collection[str]) -> list[dict[str, Any]]:
    """The questions with these ids, each with its decision, and whether its time is over."""
    found = connection.exec_driver_sql(
        "SELECT i.*, i.expires_at <= now() AS is_expired FROM public.interruptions i "
        "WHERE id = ANY(%s::uuid[]) ORDER BY id",
        (list(questions),),
    )
    return [dict(row) for row in found.mappings()]
