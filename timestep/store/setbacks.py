"""Puts workflows back whose application lacks what can be mended, and takeovers that failed."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from timestep.store.fleet.process_ends import IS_OURS

_PAUSE = 60_000
"""Milliseconds until a workflow is tried again by whoever executes its version."""

_NOW = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"

_IS_OURS = """workflow_uuid = %(workflow_id)s AND owner_xid = %(token)s AND status = 'PENDING'"""

# As DBOS delays a workflow: nobody executes it before its time.
_PUT_BACK = f"""
    WITH put_back AS (
        UPDATE "{{schema}}".workflow_status SET status = 'DELAYED', owner_xid = NULL,
            queue_name = coalesce(queue_name, %(internal_queue)s), started_at_epoch_ms = NULL,
            recovery_attempts = 0, delay_until_epoch_ms = {_NOW} + {_PAUSE}, updated_at = {_NOW}
        WHERE {_IS_OURS} AND (queue_name IS NOT NULL OR %(is_unattended)s)
        RETURNING workflow_uuid, application_version, delay_until_epoch_ms)
    INSERT INTO timestep.setbacks AS s (workflow_id, version, reason, delay_until)
    SELECT workflow_uuid, application_version, %(reason)s, delay_until_epoch_ms FROM put_back
    ON CONFLICT (workflow_id) DO UPDATE SET version = excluded.version, reason = excluded.reason,
        delay_until = excluded.delay_until, failed_at = excluded.failed_at"""

# The runs of the workflow's code that could not ask a model; where the code did something since, it
# has answered the error, and will again.
_LACKING = """
    SELECT id FROM public.runs r
    WHERE workflow_id = %(workflow_id)s AND parent_run_id IS NULL AND status = 'failed'
    AND error -> 'lacks' = 'true' AND error_type = %(type)s AND error_message = %(message)s
    AND NOT EXISTS (SELECT FROM public.runs later
        WHERE later.workflow_id = r.workflow_id AND later.started_at > r.completed_at)
    AND NOT EXISTS (SELECT FROM "{schema}".operation_outputs o
        WHERE o.workflow_uuid = r.workflow_id
        AND o.started_at_epoch_ms > extract(epoch FROM r.completed_at) * 1000)"""

_STANDING = """
    FROM timestep.setbacks s JOIN "{schema}".workflow_status w ON w.workflow_uuid = s.workflow_id
    AND w.status IN ('DELAYED', 'ENQUEUED') AND w.delay_until_epoch_ms = s.delay_until"""
_WAITING = f"{_STANDING} AND {IS_OURS}"

_TRY_NOW = f"""
    UPDATE "{{schema}}".workflow_status w SET status = 'ENQUEUED', updated_at = {_NOW}
    FROM timestep.setbacks s
    WHERE w.workflow_uuid = s.workflow_id AND w.status = 'DELAYED'
    AND w.delay_until_epoch_ms = s.delay_until
    AND w.application_version = %(version)s AND {IS_OURS}"""

_FOUND = """
    SELECT s.workflow_id, s.version, s.reason, s.delay_until IS NULL
    FROM timestep.setbacks s JOIN "{schema}".workflow_status w ON w.workflow_uuid = s.workflow_id
    WHERE s.workflow_id IN :ids AND (s.delay_until IS NULL
        OR w.status IN ('DELAYED', 'ENQUEUED') AND w.delay_until_epoch_ms = s.delay_until)"""

_WITHOUT_RUN = f"""
    SELECT s.workflow_id, w.created_at {_STANDING}
    WHERE NOT EXISTS (SELECT FROM public.runs r WHERE r.workflow_id = s.workflow_id)
    AND (:only IS NULL OR s.workflow_id = :only)"""

_PRUNE = """
    DELETE FROM {table} t WHERE t.workflow_id <> %(workflow_id)s AND NOT EXISTS (
        SELECT FROM "{schema}".workflow_status w WHERE w.workflow_uuid = t.workflow_id
        AND w.status <> 'SUCCESS')"""

# Steps, runs and continuations are removed or written anew by a takeover; these of a workflow's
# columns are changed, by DBOS too once somebody executes it.
_COLUMNS = (
    "status",
    "owner_xid",
    "executor_id",
    "application_version",
    "queue_name",
    "queue_partition_key",
    "recovery_attempts",
    "started_at_epoch_ms",
    "delay_until_epoch_ms",
    "workflow_deadline_epoch_ms",
    "output",
    "error",
    "completed_at",
    "updated_at",
)

# Another workflow may have been given the id since it was free.
_DEDUPLICATION_ID = """CASE WHEN EXISTS (SELECT FROM "{schema}".workflow_status o
    WHERE o.workflow_uuid <> w.workflow_uuid AND o.queue_name = was.queue_name
    AND o.deduplication_id = was.deduplication_id) THEN NULL ELSE was.deduplication_id END"""

_TABLES = {
    "steps": '"{schema}".operation_outputs',
    "outputs": '"{schema}".workflow_output',
    "continuations": "timestep.continuations",
}

# Of the runs, only the workflow's own are changed: those inside it may go on meanwhile.
_KEEP = """
    INSERT INTO timestep.takeovers (workflow_id, before)
    SELECT %(workflow_id)s, jsonb_build_object(
        'workflows', (SELECT jsonb_agg(to_jsonb(w)) FROM "{schema}".workflow_status w
            WHERE workflow_uuid = ANY(%(workflows)s)),
        'outputs', (SELECT jsonb_agg(to_jsonb(o)) FROM "{schema}".workflow_output o
            WHERE workflow_uuid = ANY(%(workflows)s)),
        'steps', (SELECT jsonb_agg(to_jsonb(o)) FROM "{schema}".operation_outputs o
            WHERE workflow_uuid = %(workflow_id)s AND function_id <> ALL(%(kept)s::int[])),
        'runs', (SELECT jsonb_agg(to_jsonb(r) - '{input,final_output,metadata}'::text[])
            FROM public.runs r
            WHERE workflow_id = %(workflow_id)s),
        'calls', (SELECT jsonb_agg(jsonb_build_object('id', c.id, 'status', c.status))
            FROM public.tool_calls c JOIN public.runs r ON r.id = c.run_id
            WHERE r.workflow_id = %(workflow_id)s AND c.completed_at IS NULL),
        'kept', to_jsonb(%(kept)s::int[]),
        'continuations', (SELECT jsonb_agg(to_jsonb(c)) FROM timestep.continuations c
            WHERE workflow_id = %(workflow_id)s))
    ON CONFLICT (workflow_id) DO UPDATE
    SET before = excluded.before, taken_over_at = excluded.taken_over_at"""

# A call of a model or a tool, a check: whatever a run records of what it did.
_HAS_BEGUN = """
    SELECT EXISTS (
        SELECT FROM public.runs r JOIN timestep.takeovers t ON t.workflow_id = r.workflow_id
        WHERE r.workflow_id = %(workflow_id)s AND (
            EXISTS (SELECT FROM public.model_responses m
                WHERE m.run_id = r.id AND m.created_at >= t.taken_over_at)
            OR EXISTS (SELECT FROM public.run_items i
                WHERE i.run_id = r.id AND i.created_at >= t.taken_over_at)
            OR EXISTS (SELECT FROM public.tool_calls c
                WHERE c.run_id = r.id AND c.completed_at >= t.taken_over_at)
            OR EXISTS (SELECT FROM public.guardrail_results g
                WHERE g.run_id = r.id AND g.created_at >= t.taken_over_at)
            OR EXISTS (SELECT FROM timestep.step_values v
                WHERE v.run_id = r.id AND v.created_at >= t.taken_over_at)))"""

_FORGET_STEPS = """
    DELETE FROM "{schema}".operation_outputs o USING timestep.takeovers t
    WHERE t.workflow_id = %(workflow_id)s AND o.workflow_uuid = t.workflow_id
    AND NOT t.before -> 'kept' @> to_jsonb(o.function_id)"""

_REMOVE_BEGUN = """
    DELETE FROM public.runs r USING timestep.takeovers t
    WHERE t.workflow_id = %(workflow_id)s AND r.workflow_id = t.workflow_id
    AND r.id NOT IN (SELECT (run ->> 'id')::uuid
        FROM jsonb_array_elements(coalesce(nullif(t.before -> 'runs', 'null'), '[]')) AS run)"""

_RUN_COLUMNS = (
    "status",
    "current_turn",
    "current_agent_id",
    "error_type",
    "error_message",
    "error_turn",
    "error",
    "cancel_reason",
    "cancel_steps",
    "begun_after",
    "ends",
    "workflow_step",
    "updated_at",
    "completed_at",
)

_RUNS_AS_THEY_WERE = f"""
    UPDATE public.runs r SET {", ".join(f"{name} = was.{name}" for name in _RUN_COLUMNS)}
    FROM timestep.takeovers t, jsonb_populate_recordset(
        NULL::public.runs, nullif(t.before -> 'runs', 'null')) AS was
    WHERE t.workflow_id = %(workflow_id)s AND r.id = was.id AND r.workflow_id = t.workflow_id
    AND r.updated_at IS DISTINCT FROM was.updated_at"""

_CALLS_AS_THEY_WERE = """
    UPDATE public.tool_calls c SET status = was.status
    FROM timestep.takeovers t, jsonb_populate_recordset(
        NULL::public.tool_calls, nullif(t.before -> 'calls', 'null')) AS was, public.runs r
    WHERE t.workflow_id = %(workflow_id)s AND c.id = was.id AND c.status <> was.status
    AND r.id = c.run_id AND r.workflow_id = t.workflow_id"""


@dataclass(frozen=True)
class Setback:
    """Why a workflow could not go on."""

    version: str | None
    """Of the application that lacked something."""
    reason: str
    is_of_takeover: bool
    """Whether the workflow is what it was before that version took it over."""


def _sql(statement: str, schema: str) -> str:
    return statement.replace("{schema}", schema)


def lock(connection: sa.Connection, schema: str, values: dict[str, Any]) -> bool:
    """Let no step of a workflow be recorded until the transaction ends; whether it is the caller's.

    Args:
        connection: Where the transaction goes on.
        schema: That of DBOS's tables.
        values: `workflow_id` and `token`.
    """
    mine = f'SELECT 1 FROM "{schema}".workflow_status WHERE {_IS_OURS} FOR UPDATE'
    return connection.exec_driver_sql(mine, values).first() is not None


def lacking(connection: sa.Connection, schema: str, values: dict[str, Any]) -> list[uuid.UUID]:
    """The ids of the runs that failed last, because no model could be found for them.

    Args:
        connection: Where the transaction goes on.
        schema: That of DBOS's tables.
        values: `workflow_id`, and what the workflow fails with: `type` and `message`.
    """
    return list(connection.exec_driver_sql(_sql(_LACKING, schema), values).scalars())


def put_back(connection: sa.Connection, schema: str, values: dict[str, Any]) -> bool:
    """Have a workflow tried again later; whether it is the caller's, and awaited by nobody here.

    Args:
        connection: Where the transaction goes on.
        schema: That of DBOS's tables.
        values: `workflow_id`, `token`, `reason`, `internal_queue`: where it goes that came from no
            queue, and `is_unattended`: whether such a one may.
    """
    is_done = connection.exec_driver_sql(_sql(_PUT_BACK, schema), values).rowcount == 1
    if is_done:
        _prune(connection, schema, "timestep.setbacks", values["workflow_id"])
    return is_done


def try_now(connection: sa.Connection, schema: str, application: str, version: str) -> int:
    """Have all workflows tried now that a version could not go on with; how many there are."""
    values = {"application": application, "version": version}
    return connection.exec_driver_sql(_sql(_TRY_NOW, schema), values).rowcount


def count(connection: sa.Connection, schema: str, application: str) -> int:
    """How many workflows of an application wait to be tried again."""
    query = f"SELECT count(*) {_sql(_WAITING, schema)}"
    return int(connection.exec_driver_sql(query, {"application": application}).scalar_one())


def without_run(connection: sa.Connection, schema: str, only: str | None) -> dict[str, int]:
    """The workflows that were put back before they had begun a run.

    Args:
        connection: To the database.
        schema: That of DBOS's tables.
        only: One workflow's id, to tell whether it is one of them.

    Returns:
        When each was started, in milliseconds since 1970, by its id.
    """
    query = sa.text(_sql(_WITHOUT_RUN, schema)).bindparams(sa.bindparam("only", only, sa.Text()))
    return {row[0]: int(row[1]) for row in connection.execute(query)}


def found(
    connection: sa.Connection, schema: str, workflow_ids: Collection[str]
) -> dict[str, Setback]:
    """The setbacks of these workflows that still stand."""
    query = sa.text(_sql(_FOUND, schema)).bindparams(sa.bindparam("ids", expanding=True))
    rows = connection.execute(query, {"ids": list(workflow_ids)})
    return {row[0]: Setback(*row[1:]) for row in rows}


def keep(connection: sa.Connection, schema: str, values: dict[str, Any]) -> None:
    """Keep what a workflow is, and those inside it, before it is taken over.

    Args:
        connection: Where the transaction goes on.
        schema: That of DBOS's tables.
        values: `workflow_id`, `workflows`: its id and those of the ones inside it, and `kept`: the
            numbers of its steps that stay recorded.
    """
    connection.exec_driver_sql(_sql(_KEEP, schema), values)
    _prune(connection, schema, "timestep.takeovers", values["workflow_id"])


def forget(connection: sa.Connection, workflow_id: str) -> None:
    """Forget why a workflow could not go on."""
    values = {"workflow_id": workflow_id}
    connection.exec_driver_sql(
        "DELETE FROM timestep.setbacks WHERE workflow_id = %(workflow_id)s", values
    )


def _prune(connection: sa.Connection, schema: str, table: str, workflow_id: str) -> None:
    """Forget workflows that have completed, or are gone."""
    statement = _sql(_PRUNE, schema).replace("{table}", table)
    connection.exec_driver_sql(statement, {"workflow_id": workflow_id})


def steps_kept(connection: sa.Connection, workflow_id: str) -> list[int] | None:
    """The numbers of the steps that a takeover left recorded; None: there was none."""
    kept: list[int] | None = connection.exec_driver_sql(
        "SELECT before -> 'kept' FROM timestep.takeovers WHERE workflow_id = %(workflow_id)s",
        {"workflow_id": workflow_id},
    ).scalar()
    return kept


def has_begun(connection: sa.Connection, workflow_id: str) -> bool:
    """Whether a run of a workflow did something since it was taken over."""
    values = {"workflow_id": workflow_id}
    return bool(connection.exec_driver_sql(_HAS_BEGUN, values).scalar_one())


def undo(connection: sa.Connection, schema: str, values: dict[str, Any]) -> None:
    """Make a workflow what it was before it was taken over, which the caller has locked.

    Args:
        connection: Where the transaction goes on.
        schema: That of DBOS's tables.
        values: `workflow_id`, `reason`, and `version`: that of the caller.
    """
    columns = ", ".join(f"{name} = was.{name}" for name in _COLUMNS)
    connection.exec_driver_sql(
        f"""UPDATE "{schema}".workflow_status w SET {columns},
            deduplication_id = {_sql(_DEDUPLICATION_ID, schema)}
        FROM timestep.takeovers t, jsonb_populate_recordset(
            NULL::"{schema}".workflow_status, t.before -> 'workflows') AS was
        WHERE t.workflow_id = %(workflow_id)s AND w.workflow_uuid = was.workflow_uuid
        AND (w.workflow_uuid = t.workflow_id OR w.status = 'ENQUEUED')""",
        values,
    )
    connection.exec_driver_sql(_REMOVE_BEGUN, values)
    connection.exec_driver_sql(_sql(_FORGET_STEPS, schema), values)
    connection.exec_driver_sql(
        "DELETE FROM timestep.continuations WHERE workflow_id = %(workflow_id)s", values
    )
    for name, table in _TABLES.items():
        connection.exec_driver_sql(
            f"""INSERT INTO {_sql(table, schema)} SELECT was.* FROM timestep.takeovers t,
                jsonb_populate_recordset(
                    NULL::{_sql(table, schema)}, nullif(t.before -> '{name}', 'null')) AS was
            WHERE t.workflow_id = %(workflow_id)s ON CONFLICT DO NOTHING""",
            values,
        )
    connection.exec_driver_sql(_RUNS_AS_THEY_WERE, values)
    connection.exec_driver_sql(_CALLS_AS_THEY_WERE, values)
    connection.exec_driver_sql(
        "DELETE FROM timestep.takeovers WHERE workflow_id = %(workflow_id)s", values
    )
    connection.exec_driver_sql(
        """INSERT INTO timestep.setbacks (workflow_id, version, reason)
        VALUES (%(workflow_id)s, %(version)s, %(reason)s)
        ON CONFLICT (workflow_id) DO UPDATE SET version = excluded.version,
            reason = excluded.reason, delay_until = NULL, failed_at = excluded.failed_at""",
        values,
    )
