"""Remembers which workflows were under way when their process ended, and holds some back."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

NEVER = 253402300799000
"""The time until which a workflow is put aside: DBOS's milliseconds at the end of the year 9999."""

_NOW = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"

IS_OURS = "(w.application_name = %(application)s OR w.application_name IS NULL)"
"""Of a workflow: it is one of the application that is asked for."""

# Counted, and not dated: the clocks of processes differ.
_RECORDED = """concat_ws(' ',
    (SELECT count(*) FROM "{schema}".operation_outputs o WHERE o.workflow_uuid = w.workflow_uuid),
    (SELECT concat_ws(' ', count(*), count(r.completed_at),
        sum((SELECT count(*) FROM public.model_responses m WHERE m.run_id = r.id)),
        sum((SELECT count(*) FROM public.run_items i WHERE i.run_id = r.id)),
        sum((SELECT count(c.completed_at) FROM public.tool_calls c WHERE c.run_id = r.id)),
        sum((SELECT count(*) FROM public.guardrail_results g WHERE g.run_id = r.id)),
        sum((SELECT count(*) FROM timestep.step_values v WHERE v.run_id = r.id)))
    FROM public.runs r WHERE r.workflow_id = w.workflow_uuid))"""

# What waits, in a queue or for a person, was not under way; nor was what an earlier process began.
_UNDER_WAY = f"""
    SELECT w.workflow_uuid, now.recorded, coalesce(e.ends, -1),
        extract(epoch FROM %(ended)s::timestamptz) - began.ms / 1000.0,
        coalesce((SELECT max(o.completed_at_epoch_ms) FROM "{{schema}}".operation_outputs o
            WHERE o.workflow_uuid = w.workflow_uuid), w.created_at)
    FROM "{{schema}}".workflow_status w
    CROSS JOIN LATERAL (SELECT {_RECORDED} AS recorded) AS now
    CROSS JOIN LATERAL (SELECT coalesce(w.started_at_epoch_ms, w.created_at) AS ms) AS began
    LEFT JOIN timestep.process_ends e
    ON e.workflow_id = w.workflow_uuid AND e.recorded = now.recorded
    WHERE w.status = 'PENDING' AND w.executor_id = %(executor_id)s AND {IS_OURS}
    AND began.ms >= extract(epoch FROM %(began)s::timestamptz) * 1000"""

_PRUNE = """
    DELETE FROM timestep.process_ends e WHERE NOT EXISTS (
        SELECT FROM "{schema}".workflow_status w WHERE w.workflow_uuid = e.workflow_id
        AND w.status IN ('PENDING', 'ENQUEUED', 'DELAYED'))"""

_KEEP = """
    INSERT INTO timestep.process_ends (workflow_id, ends, recorded)
    VALUES (%(workflow_id)s, %(ends)s, %(recorded)s)
    ON CONFLICT (workflow_id) DO UPDATE SET ends = excluded.ends, recorded = excluded.recorded,
        delay_until = NULL, ended_at = excluded.ended_at"""

# As DBOS delays a workflow, and as it puts one into a queue that is to be recovered.
_HOLD = f"""
    WITH held AS (
        UPDATE "{{schema}}".workflow_status SET status = 'DELAYED', owner_xid = NULL,
            queue_name = coalesce(queue_name, %(internal_queue)s), started_at_epoch_ms = NULL,
            delay_until_epoch_ms = {{until}}, updated_at = {_NOW}
        WHERE workflow_uuid = %(workflow_id)s AND status = 'PENDING'
        AND executor_id = %(executor_id)s
        RETURNING workflow_uuid, delay_until_epoch_ms)
    UPDATE timestep.process_ends e SET delay_until = held.delay_until_epoch_ms
    FROM held WHERE e.workflow_id = held.workflow_uuid"""

IS_HELD = """w.workflow_uuid = e.workflow_id AND w.status = 'DELAYED'
    AND w.delay_until_epoch_ms = e.delay_until"""
"""Of a workflow and what is remembered of its processes: it is held back."""

_BEGIN = f"""
    UPDATE "{{schema}}".workflow_status w SET status = 'ENQUEUED', delay_until_epoch_ms = NULL,
        recovery_attempts = 0, updated_at = {_NOW}
    FROM timestep.process_ends e WHERE {IS_HELD}"""

_BEGIN_ALL = f"{_BEGIN} AND e.delay_until <> {NEVER} AND {IS_OURS}"

_CLEAR = f"""
    UPDATE timestep.process_ends e SET ends = 0, delay_until = NULL
    FROM "{{schema}}".workflow_status w WHERE w.workflow_uuid = e.workflow_id
    AND e.delay_until IS DISTINCT FROM {NEVER} AND {IS_OURS}"""

# DBOS has taken it out of its queue.
_REVIVE = f"""
    UPDATE "{{schema}}".workflow_status SET status = 'ENQUEUED', queue_name = %(internal_queue)s,
        recovery_attempts = 0, completed_at = NULL, updated_at = {_NOW}
    WHERE workflow_uuid = %(workflow_id)s AND status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED'
    RETURNING queue_name"""

_AGAIN = f"{_BEGIN} AND w.workflow_uuid = %(workflow_id)s RETURNING w.queue_name"

# What DBOS gave up was never counted here: it is put aside when its process ends once more, too.
_COUNT_AGAIN = f"""
    INSERT INTO timestep.process_ends AS e (workflow_id, ends, recorded)
    SELECT w.workflow_uuid, 1, {_RECORDED} FROM "{{schema}}".workflow_status w
    WHERE w.workflow_uuid = %(workflow_id)s
    ON CONFLICT (workflow_id) DO UPDATE SET ends = least(e.ends, 1), delay_until = NULL"""

# With what waits for one that is put aside, because it began that.
_FOUND = f"""
    WITH RECURSIVE held AS (
        SELECT e.workflow_id, e.workflow_id AS held_id, e.ends, e.delay_until
        FROM timestep.process_ends e JOIN "{{schema}}".workflow_status w ON {IS_HELD}
        UNION SELECT w.parent_workflow_id, held_id, ends, delay_until
        FROM held JOIN "{{schema}}".workflow_status w ON w.workflow_uuid = held.workflow_id
        WHERE delay_until = {NEVER} AND w.parent_workflow_id IS NOT NULL)
    SELECT * FROM held WHERE workflow_id IN :ids
    UNION ALL SELECT workflow_uuid, workflow_uuid, recovery_attempts, NULL
    FROM "{{schema}}".workflow_status
    WHERE status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED' AND workflow_uuid IN :ids"""

_ASIDE = f"""
    SELECT count(*), min(e.workflow_id) FROM timestep.process_ends e
    JOIN "{{schema}}".workflow_status w ON {IS_HELD} WHERE e.delay_until = {NEVER}
    AND {IS_OURS}"""


@dataclass(frozen=True)
class UnderWay:
    """A workflow that was being executed when its process ended."""

    workflow_id: str
    recorded: str
    """How much is recorded of it."""
    ends: int
    """Of processes in a row, as they were counted before, with no more recorded; -1: none was."""
    seconds: float
    """From the beginning of its execution until the process was seen last."""
    recorded_at: int
    """When its last step was recorded, or itself; milliseconds."""


@dataclass(frozen=True)
class Held:
    """A workflow that is held back."""

    workflow_id: str
    ends: int
    """How many times in a row its process ended soon after it was gone on with; how often it was
    executed, where DBOS gave it up."""
    until: int | None
    """DBOS's time at which it is gone on with; `NEVER`: it is put aside; None: DBOS gave it up."""

    @property
    def is_aside(self) -> bool:
        """Whether nobody goes on with it until a person says so."""
        return self.until == NEVER


def _sql(statement: str, schema: str) -> str:
    return statement.replace("{schema}", schema)


def under_way(connection: sa.Connection, schema: str, values: dict[str, Any]) -> list[UnderWay]:
    """What an executor was executing when its process ended.

    Args:
        connection: To the database that has DBOS's tables, too.
        schema: Where those are.
        values: `application`, `executor_id`; `began` and `ended`: when the process became that
            executor, and when it was seen last.

    Returns:
        Nothing where DBOS has no tables yet.
    """
    if not sa.inspect(connection).has_table("operation_outputs", schema=schema):
        return []
    connection.exec_driver_sql(_sql(_PRUNE, schema))
    found = connection.exec_driver_sql(_sql(_UNDER_WAY, schema), values)
    return [UnderWay(row[0], row[1], row[2], float(row[3]), row[4]) for row in found]


def keep(connection: sa.Connection, workflow: UnderWay, ends: int) -> None:
    """Remember that a process ended while it executed a workflow, for the `ends`-th time."""
    values = {
        "workflow_id": workflow.workflow_id,
        "ends": ends,
        "recorded": workflow.recorded,
    }
    connection.exec_driver_sql(_KEEP, values)


def hold(connection: sa.Connection, schema: str, values: dict[str, Any]) -> None:
    """Hold a workflow back that an executor was executing.

    Args:
        connection: Where the transaction goes on, in which it was kept.
        schema: That of DBOS's tables.
        values: `workflow_id`, `executor_id`, `internal_queue`: where it goes that came from no
            queue, and for how many `milliseconds`.
    """
    until = f"{_NOW} + %(milliseconds)s"
    connection.exec_driver_sql(_sql(_HOLD, schema).replace("{until}", until), values)


def put_aside(connection: sa.Connection, schema: str, values: dict[str, Any]) -> None:
    """Hold a workflow back until a person says that it is to go on.

    Args:
        connection: Where the transaction goes on, in which it was kept.
        schema: That of DBOS's tables.
        values: As `hold` takes them, without a time.
    """
    connection.exec_driver_sql(_sql(_HOLD, schema).replace("{until}", str(NEVER)), values)


def clear(connection: sa.Connection, schema: str, application: str) -> None:
    """Suspect no workflow of an application that is not put aside, and go on with all at once."""
    values = {"application": application}
    connection.exec_driver_sql(_sql(_BEGIN_ALL, schema), values)
    connection.exec_driver_sql(_sql(_CLEAR, schema), values)


def try_again(connection: sa.Connection, schema: str, values: dict[str, Any]) -> str | None:
    """Go on with a workflow that is held back, and put it aside when its process ends once more.

    Args:
        connection: Where the transaction goes on.
        schema: That of DBOS's tables.
        values: `workflow_id`, and `internal_queue`: where it goes if DBOS gave it up.

    Returns:
        The queue that it waits in; None: it was not held back.
    """
    for statement in (_AGAIN, _REVIVE):
        found = connection.exec_driver_sql(_sql(statement, schema), values)
        if (queue := found.scalar_one_or_none()) is not None:
            connection.exec_driver_sql(_sql(_COUNT_AGAIN, schema), values)
            return str(queue)
    return None


def found(connection: sa.Connection, schema: str, workflow_ids: Collection[str]) -> dict[str, Held]:
    """Which of these workflows are held back, or were given up by DBOS, or began one put aside.

    Returns:
        By the ids of these workflows what is held back: themselves, or what they wait for.
    """
    query = sa.text(_sql(_FOUND, schema)).bindparams(sa.bindparam("ids", expanding=True))
    rows = connection.execute(query, {"ids": list(workflow_ids)}).all()
    inside = {row[0]: Held(*row[1:]) for row in rows}
    return inside | {row[0]: Held(*row[1:]) for row in rows if row[0] == row[1]}


def aside(connection: sa.Connection, schema: str, application: str) -> tuple[int, str | None]:
    """How many workflows of an application are put aside, and the id of one of them."""
    values = {"application": application}
    row = connection.exec_driver_sql(_sql(_ASIDE, schema), values).one()
    return row[0], row[1]
