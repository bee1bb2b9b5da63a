"""Says which recorded run stands where in a workflow that is a fork, or goes on in other code."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Iterable
from itertools import count
from typing import Any

import sqlalchemy as sa

Row = dict[str, Any]
Place = tuple[int, int]
"""Which of a workflow's runs: its task, and how many runs that task began before."""

_RUNS = """
    SELECT runs.id, runs.workflow_id, runs.parent_run_id,
        coalesce(c.workflow_step, runs.workflow_step) AS workflow_step, runs.status,
        runs.input, runs.error_type, runs.cancel_reason, runs.completed_at, c.lane, c.ordinal,
        CASE WHEN coalesce(c.workflow_step, runs.workflow_step) = runs.workflow_step
            THEN (runs.metadata ->> 'after_step')::int END AS after_step
    FROM public.runs
    LEFT JOIN timestep.continuations c ON c.workflow_id = %(workflow_id)s AND c.run_id = runs.id
    WHERE (runs.workflow_id = %(workflow_id)s OR c.run_id IS NOT NULL)
        AND runs.parent_run_id IS NULL AND runs.workflow_step IS NOT NULL
        AND runs.deleted_at IS NULL
    ORDER BY workflow_step, runs.started_at"""

_HAVE_ALL = """
    WITH RECURSIVE source AS (
        SELECT %(workflow_id)s AS id{forks}
    )
    SELECT bool_and(metadata ? %(name)s::text) FROM public.runs
    WHERE parent_run_id IS NULL AND workflow_step < coalesce(%(below)s::int, 2147483647)
        AND (workflow_id IN (SELECT id FROM source) OR id IN (
            SELECT run_id FROM timestep.continuations WHERE workflow_id = %(workflow_id)s
            UNION SELECT source_run_id FROM timestep.continuations
            WHERE workflow_id = %(workflow_id)s))"""

_FORKS = """
        UNION SELECT w.forked_from FROM source
        JOIN "{schema}".workflow_status w ON w.workflow_uuid = source.id
        WHERE w.forked_from IS NOT NULL"""

_CHECKPOINTS = """
    SELECT id, state_type, turn, encoding, previous_id, state_data, progress, turns
    FROM public.run_states
    WHERE run_id = %(run_id)s AND (state_type = 'checkpoint' OR turns IS NOT NULL)
    ORDER BY turn"""

_ANSWERED = """
    SELECT min(created_at) FROM public.model_responses
    WHERE run_id = %(run_id)s AND turn = %(turn)s"""

_CONTEXT_CHANGES = """
    SELECT context_change FROM public.tool_calls
    WHERE run_id = %(run_id)s AND turn < %(turn)s AND context_position IS NOT NULL
    ORDER BY context_position"""

_ADD = """
    INSERT INTO timestep.continuations (
        workflow_id, lane, ordinal, kind, run_id, source_run_id, workflow_step, turn,
        state, progress, context_changes, input, changes)
    VALUES (%(workflow_id)s, %(lane)s, %(ordinal)s, %(kind)s, %(run_id)s, %(source_run_id)s,
        %(workflow_step)s::int, %(turn)s::int, %(state)s::jsonb, %(progress)s::jsonb,
        %(context_changes)s::jsonb, %(input)s::jsonb, %(changes)s::jsonb)
    ON CONFLICT DO NOTHING"""

_STAND_AT = """
    UPDATE timestep.continuations SET workflow_step = %(workflow_step)s
    WHERE workflow_id = %(workflow_id)s AND lane = %(lane)s AND ordinal = %(ordinal)s"""

_JSON = ("state", "progress", "context_changes", "input", "changes")

_REOPEN_RUN = """
    UPDATE public.runs SET status = 'running', completed_at = NULL, error_type = NULL,
        error_message = NULL, error_turn = NULL, error = NULL, cancel_reason = NULL,
        cancel_steps = NULL, updated_at = now()
    WHERE id = %(run_id)s AND completed_at IS NOT NULL"""

_FORGET_ENDS = "UPDATE public.runs SET ends = NULL WHERE id = %(run_id)s"

_LOCK_WORKFLOW = """
    SELECT name, status, application_name, application_version, executor_id, queue_name
    FROM "{schema}".workflow_status WHERE workflow_uuid = %(workflow_id)s FOR UPDATE"""

_FORGET_STEPS = """
    DELETE FROM "{schema}".operation_outputs
    WHERE workflow_uuid = %(workflow_id)s AND function_id = ANY(%(numbers)s)"""

_ENQUEUE = """
    UPDATE "{schema}".workflow_status
    SET status = 'ENQUEUED', queue_name = %(queue)s, owner_xid = NULL, recovery_attempts = 0,
        application_version = %(version)s, output = NULL, error = NULL, completed_at = NULL,
        started_at_epoch_ms = NULL, workflow_deadline_epoch_ms = NULL, deduplication_id = NULL,
        delay_until_epoch_ms = NULL, queue_partition_key = NULL,
        updated_at = (extract(epoch FROM clock_timestamp()) * 1000)::bigint
    WHERE workflow_uuid = %(workflow_id)s"""

# A call that is a workflow is one without a parent; its id is made of its caller's and its own.
_INSIDE = """
    WITH RECURSIVE inside AS (
        SELECT w.workflow_uuid, w.status FROM "{schema}".workflow_status w
        WHERE w.parent_workflow_id = %(workflow_id)s OR w.workflow_uuid IN (
            SELECT %(workflow_id)s || '-' || t.id FROM public.tool_calls t
            JOIN public.runs ON runs.id = t.run_id WHERE runs.workflow_id = %(workflow_id)s)
        UNION SELECT w.workflow_uuid, w.status FROM "{schema}".workflow_status w
        JOIN inside ON w.parent_workflow_id = inside.workflow_uuid)
    SELECT workflow_uuid FROM inside WHERE status = 'PENDING'"""

_FORGET_OUTCOME = """
    DELETE FROM "{schema}".workflow_output WHERE workflow_uuid = %(workflow_id)s"""

_NOTE_RECOVERY = """
    INSERT INTO timestep.recoveries (
        run_id, token, executor_id, node, process_id, turn, answers, calls, checks)
    VALUES (%(run_id)s, %(token)s, %(executor_id)s, %(node)s, %(process_id)s, %(turn)s,
        %(answers)s, %(calls)s, %(checks)s)
    ON CONFLICT DO NOTHING"""


def top_runs(connection: sa.Connection, workflow_id: str) -> list[Row]:
    """The runs that a workflow's code began, by their steps; those that stand in for one, too."""
    found = connection.exec_driver_sql(_RUNS, {"workflow_id": workflow_id})
    return [dict(row) for row in found.mappings()]


def have_all(
    connection: sa.Connection, name: str, workflow_id: str, *, schema: str | None, below: int | None
) -> bool | None:
    """Whether a workflow's runs all have something in their metadata; None: no run is recorded.

    A fork has the numbers of what it is a fork of.

    Args:
        connection: To the recorder's database.
        name: What they have.
        workflow_id: The workflow.
        schema: Where DBOS's tables are; None: in another database.
        below: Of which runs: those with step numbers below this; None: of all.
    """
    forks = "" if schema is None else _FORKS.replace("{schema}", schema)
    found: bool | None = connection.exec_driver_sql(
        _HAVE_ALL.replace("{forks}", forks),
        {"workflow_id": workflow_id, "name": name, "below": below},
    ).scalar()
    return found


def checkpoints(connection: sa.Connection, run_id: uuid.UUID) -> list[Row]:
    """The rows that tell a run's checkpoints, by their turns."""
    found = connection.exec_driver_sql(_CHECKPOINTS, {"run_id": run_id})
    rows = [dict(row) for row in found.mappings()]
    for row in rows:
        row["id"] = str(row["id"])
        row["previous_id"] = str(row["previous_id"]) if row["previous_id"] else None
    return rows


def answered(connection: sa.Connection, run_id: uuid.UUID, turn: int) -> datetime.datetime | None:
    """When a turn's first answer was recorded, and with it the checkpoint before the turn."""
    values = {"run_id": run_id, "turn": turn}
    found: datetime.datetime | None = connection.exec_driver_sql(_ANSWERED, values).scalar()
    return found


def context_changes(connection: sa.Connection, run_id: uuid.UUID, turn: int) -> list[Any]:
    """What the calls of the turns before one changed in a run's context, in their order."""
    values = {"run_id": run_id, "turn": turn}
    return list(connection.exec_driver_sql(_CONTEXT_CHANGES, values).scalars())


def of_workflow(connection: sa.Connection, workflow_id: str) -> list[Row]:
    found = connection.exec_driver_sql(
        "SELECT * FROM timestep.continuations WHERE workflow_id = %(workflow_id)s",
        {"workflow_id": workflow_id},
    )
    return [dict(row) for row in found.mappings()]


def add(connection: sa.Connection, rows: Iterable[Row]) -> bool:
    """Add rows; whether none of their places was taken."""
    return all(connection.exec_driver_sql(_ADD, _values(row)).rowcount == 1 for row in rows)


def _values(row: Row) -> Row:
    empty = dict.fromkeys(("workflow_step", "turn", *_JSON))
    return {
        **empty,
        **{
            name: json.dumps(value) if name in _JSON and value is not None else value
            for name, value in row.items()
        },
    }


def stand_at(connection: sa.Connection, row: Row, workflow_step: int) -> None:
    """Note at which step of its workflow's code a run stands."""
    connection.exec_driver_sql(_STAND_AT, {**row, "workflow_step": workflow_step})


def remove(connection: sa.Connection, workflow_id: str) -> None:
    """Let a workflow's runs be what its steps tell."""
    connection.exec_driver_sql(
        "DELETE FROM timestep.continuations WHERE workflow_id = %(workflow_id)s",
        {"workflow_id": workflow_id},
    )


def placed(runs: Iterable[Row], block: int) -> dict[Place, Row]:
    """The runs of a workflow by their places: as recorded, else by their steps.

    Args:
        runs: What `top_runs` gave.
        block: How many step numbers a task has to draw.
    """
    rows = list(runs)
    found = {(row["lane"], row["ordinal"]): row for row in rows if row["lane"] is not None}
    for row in rows:
        if row["lane"] is None:
            lane = row["workflow_step"] // block
            found[next((lane, n) for n in count() if (lane, n) not in found)] = row
    return found


def reopen_run(connection: sa.Connection, run_id: uuid.UUID) -> None:
    """Let a run that ended go on."""
    connection.exec_driver_sql(_REOPEN_RUN, {"run_id": run_id})
    connection.exec_driver_sql(_FORGET_ENDS, {"run_id": run_id})


def lock_workflow(connection: sa.Connection, schema: str, workflow_id: str) -> Row | None:
    """What DBOS knows of a workflow, which nobody else changes until the transaction ends."""
    found = connection.exec_driver_sql(
        _LOCK_WORKFLOW.replace("{schema}", schema), {"workflow_id": workflow_id}
    )
    row = found.mappings().one_or_none()
    return None if row is None else dict(row)


def forget_steps(
    connection: sa.Connection, schema: str, workflow_id: str, numbers: list[int]
) -> None:
    """Remove steps from DBOS's record of a workflow."""
    connection.exec_driver_sql(
        _FORGET_STEPS.replace("{schema}", schema),
        {"workflow_id": workflow_id, "numbers": numbers},
    )


def inside(connection: sa.Connection, schema: str, workflow_id: str) -> list[str]:
    """The workflows inside one, at any depth, that an executor had and has not ended."""
    values = {"workflow_id": workflow_id}
    return list(connection.exec_driver_sql(_INSIDE.replace("{schema}", schema), values).scalars())


def enqueue(connection: sa.Connection, schema: str, values: Row) -> None:
    """Let a workflow be executed by whoever takes it from the queue.

    Args:
        connection: Where the transaction goes on.
        schema: DBOS's.
        values: `workflow_id`, `queue`, and `version`: None is the newest.
    """
    connection.exec_driver_sql(_FORGET_OUTCOME.replace("{schema}", schema), values)
    connection.exec_driver_sql(_ENQUEUE.replace("{schema}", schema), values)


def note_recovery(connection: sa.Connection, values: dict[str, Any]) -> None:
    """Note, for people, that an execution goes on with a run that another one has left.

    Args:
        connection: To the database of the schema.
        values: The columns of `timestep.recoveries`.
    """
    connection.exec_driver_sql(_NOTE_RECOVERY, values)
