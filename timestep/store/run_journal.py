"""Writes a run's own row, and reads everything recorded of the run at once."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from timestep.serialization.documents.json_text import restored

_BEGIN = """
    WITH holder AS MATERIALIZED (
        SELECT status, owner_xid, name FROM "{schema}".workflow_status
        WHERE workflow_uuid = %(workflow_id)s FOR NO KEY UPDATE
    ), continued AS (
        SELECT * FROM timestep.continuations
        WHERE workflow_id = %(workflow_id)s AND lane = %(lane)s::int AND ordinal = %(ordinal)s::int
    ), begun AS (
        INSERT INTO public.runs (
            id, workflow_id, workflow_name, workflow_step, parent_run_id, root_run_id, agent_id,
            current_agent_id, session_id, session_revision, status, input, max_turns,
            sdk_version, metadata, forked_from_run_id, forked_at_turn, begun_after)
        SELECT %(id)s::uuid, %(workflow_id)s, holder.name, %(workflow_step)s::int,
            %(parent_run_id)s::uuid, %(root_run_id)s::uuid, %(agent_id)s::uuid, %(agent_id)s::uuid,
            %(session_id)s::uuid,
            (SELECT revision FROM public.sessions WHERE sessions.id = %(session_id)s::uuid),
            'running', %(input)s::text::jsonb, %(max_turns)s::int, %(sdk_version)s,
            %(metadata)s::text::jsonb, %(forked_from_run_id)s::uuid, %(forked_at_turn)s::int,
            %(begun_after)s::int
        FROM holder WHERE owner_xid = %(token)s AND status = 'PENDING'
            AND NOT EXISTS (SELECT FROM continued)
        ON CONFLICT (id) DO UPDATE SET
            status = 'running', completed_at = NULL, cancel_reason = NULL, cancel_steps = NULL
            WHERE runs.status = 'cancelled' AND runs.cancel_reason NOT IN ('code', 'abandoned')
        RETURNING xmax = 0 AS is_new, session_revision
    ), beside AS (
        SELECT id, begun_after, ends, started_at, coalesce(completed_at, updated_at) AS ended_at
        FROM public.runs
        WHERE %(asks_beside)s::bool AND workflow_id = %(workflow_id)s
            AND parent_run_id IS NOT DISTINCT FROM %(parent_run_id)s::uuid
            AND (workflow_step IS NULL) = (%(workflow_step)s::int IS NULL)
        UNION SELECT runs.id, begun_after, ends, started_at, completed_at
        FROM timestep.continuations c JOIN public.runs ON runs.id = c.run_id
        WHERE %(asks_beside)s::bool AND c.workflow_id = %(workflow_id)s AND c.kind = 'ended'
            AND %(lane)s::int IS NOT NULL
    )
    SELECT status, owner_xid = %(token)s AND status = 'PENDING',
        (SELECT to_jsonb(begun) FROM begun WHERE is_new),
        (SELECT to_jsonb(continued) FROM continued),
        EXISTS (SELECT FROM "{schema}".operation_outputs WHERE workflow_uuid = %(workflow_id)s),
        CASE WHEN %(asks_beside)s::bool THEN (SELECT jsonb_build_object(
            'runs', coalesce(jsonb_agg(
                jsonb_build_object('id', id, 'begun_after', begun_after, 'ends', ends)
            ) FILTER (WHERE begun_after IS NOT NULL), '[]'),
            'took', coalesce(extract(epoch FROM max(ended_at) - min(started_at)), 0),
            'is_taken_over', EXISTS (
                SELECT FROM timestep.continuations c
                WHERE c.workflow_id = %(workflow_id)s AND c.kind = 'taken_over')
        ) FROM beside) END
    FROM holder"""

_IS_LAST = """
    SELECT NOT EXISTS (
        SELECT FROM jsonb_path_query(runs.cancel_steps, '$[0 to 1]') AS cut(number), (
            SELECT function_id FROM "{schema}".operation_outputs
            WHERE workflow_uuid = %(workflow_id)s
            UNION ALL SELECT workflow_step FROM public.runs later
            WHERE later.workflow_id = %(workflow_id)s
        ) AS recorded(number)
        WHERE recorded.number > cut.number::int
        AND recorded.number / %(block)s = cut.number::int / %(block)s
    ) AND NOT EXISTS (
        SELECT FROM public.runs later
        WHERE later.workflow_id = %(workflow_id)s
        AND later.begun_after >= coalesce(runs.ends -> -1 ->> 0, runs.ends ->> -1)::int
        AND later.parent_run_id IS NOT DISTINCT FROM runs.parent_run_id
        AND (later.workflow_step IS NULL) = (runs.workflow_step IS NULL)
    )
    FROM public.runs WHERE id = %(id)s"""

_REVIVED = """
    UPDATE public.runs
    SET status = 'running', completed_at = NULL, cancel_reason = NULL, cancel_steps = NULL,
        ends = ends - (-1)
    WHERE id = %(id)s AND EXISTS (
        SELECT FROM "{schema}".workflow_status
        WHERE workflow_uuid = %(workflow_id)s AND owner_xid = %(token)s AND status = 'PENDING'
        FOR NO KEY UPDATE)"""

_GO_ON = """
    WITH holder AS MATERIALIZED (
        SELECT status, owner_xid FROM "{schema}".workflow_status
        WHERE workflow_uuid = %(workflow_id)s FOR NO KEY UPDATE
    ), going_on AS (UPDATE public.runs SET status = 'running', updated_at = now()
        FROM holder WHERE runs.id = ANY(%(ids)s) AND runs.status = 'interrupted'
        AND holder.owner_xid = %(token)s AND holder.status = 'PENDING')
    SELECT status, owner_xid FROM holder"""

# The workflow is locked before what readers are told of its runs is numbered.
_END_CANCELLED = """
    WITH holder AS MATERIALIZED (
        SELECT workflow_uuid, status, workflow_deadline_epoch_ms, completed_at
        FROM "{{schema}}".workflow_status w WHERE {which}
    ), ended AS (UPDATE public.runs SET status = 'cancelled', completed_at = now(),
        updated_at = now(), cancel_reason = CASE
            WHEN holder.status <> 'CANCELLED' THEN 'abandoned'
            WHEN holder.workflow_deadline_epoch_ms <= holder.completed_at THEN 'timeout'
            ELSE 'cancelled' END
    FROM holder
    WHERE runs.workflow_id = holder.workflow_uuid
    AND runs.completed_at IS NULL AND runs.status IN ('running', 'interrupted')"""

_ONE = "workflow_uuid = %(workflow_id)s FOR NO KEY UPDATE"

# What another transaction has locked is come to the next time.
_THOSE_LEFT = """EXISTS (
            SELECT FROM public.runs WHERE runs.workflow_id = w.workflow_uuid
            AND runs.completed_at IS NULL AND runs.status IN ('running', 'interrupted') AND (
                w.status = 'CANCELLED'
                OR w.status IN ('SUCCESS', 'ERROR') AND runs.status = 'running'))
        FOR NO KEY UPDATE OF w SKIP LOCKED"""

# Whether a call that may be repeated was begun is not recorded; one that a person was still to
# decide on was not, nor one that must not be repeated and has no intent.
_END_CALLS = """
    UPDATE public.tool_calls SET status = CASE
        WHEN tool_calls.status <> 'started' AND (NOT tool_calls.safe_to_repeat OR EXISTS (
            SELECT FROM public.interruptions asked
            WHERE asked.tool_call_id = tool_calls.id AND asked.resolved_at IS NULL))
        THEN 'skipped' ELSE 'unknown' END
    FROM public.runs
    WHERE tool_calls.run_id = runs.id AND tool_calls.status IN ('pending', 'approved', 'started')"""

_CANCELLED = (
    _END_CANCELLED.format(which=_ONE)
    + """
    AND (
        holder.status = 'CANCELLED'
        OR holder.status IN ('SUCCESS', 'ERROR') AND runs.root_run_id = %(root_run_id)s)
    RETURNING runs.id)"""
    + _END_CALLS
    + """
    AND runs.workflow_id = %(workflow_id)s
    AND (runs.completed_at IS NOT NULL OR runs.id IN (SELECT id FROM ended))"""
)

_ALL_CANCELLED = (
    _END_CANCELLED.format(which=_THOSE_LEFT)
    + """
    AND (holder.status = 'CANCELLED' OR runs.status = 'running')
    RETURNING runs.id)"""
    + _END_CALLS
    + " AND runs.id IN (SELECT id FROM ended)"
)

_REOPENED = """
    UPDATE "{schema}".workflow_status AS called SET status = 'PENDING', owner_xid = :token,
        executor_id = caller.executor_id, application_version = caller.application_version,
        queue_name = NULL, workflow_deadline_epoch_ms = NULL, recovery_attempts = 0,
        completed_at = NULL
    FROM "{schema}".workflow_status AS caller
    WHERE called.workflow_uuid = :workflow_id AND called.status = 'CANCELLED'
    AND caller.workflow_uuid = :caller AND caller.owner_xid = :caller_token
    AND caller.status = 'PENDING'"""

_TAKEN_AGAIN = """
    UPDATE "{schema}".workflow_status SET owner_xid = :new
    WHERE workflow_uuid = :workflow_id AND owner_xid IN (:token, :new) AND status = 'PENDING'"""

_CLAIMED_BY = """
    SELECT ARRAY(
            SELECT workflow_uuid FROM "{schema}".workflow_status
            WHERE owner_xid = :token AND status = 'PENDING'),
        txid_snapshot_xmin(txid_current_snapshot())"""

_HOLDERS = """
    SELECT workflow_uuid, status, owner_xid FROM "{schema}".workflow_status
    WHERE workflow_uuid = ANY(%(workflow_ids)s)"""

_JOURNAL = """
    SELECT 'runs' AS kind, to_jsonb(t) FROM public.runs t WHERE t.id = %(id)s
    UNION ALL SELECT 'model_responses', to_jsonb(t) FROM public.model_responses t
        WHERE t.run_id = %(id)s
    UNION ALL SELECT 'tool_calls', to_jsonb(t) FROM public.tool_calls t WHERE t.run_id = %(id)s
    UNION ALL SELECT 'guardrail_results', to_jsonb(t) FROM public.guardrail_results t
        WHERE t.run_id = %(id)s
    UNION ALL SELECT 'tool_guardrail_results', to_jsonb(t) FROM public.tool_guardrail_results t
        WHERE t.run_id = %(id)s
    UNION ALL SELECT 'interruptions', to_jsonb(t) FROM public.interruptions t
        WHERE t.run_id = %(id)s
    UNION ALL SELECT 'run_states', to_jsonb(t) FROM public.run_states t WHERE t.run_id = %(id)s
    UNION ALL SELECT 'step_values', to_jsonb(t) FROM timestep.step_values t
        WHERE t.run_id = %(id)s
    UNION ALL SELECT 'nested_usage', jsonb_build_object(
            'id', m.id, 'run_id', n.id, 'parent_run_id', n.parent_run_id,
            'step', n.metadata ->> 'counted_in_step', 'ordinal', m.ordinal, 'usage', m.usage)
        FROM public.runs own JOIN public.runs n ON n.root_run_id = own.root_run_id
        JOIN public.model_responses m ON m.run_id = n.id
        WHERE own.id = %(id)s AND n.id <> own.id AND m.usage IS NOT NULL
            AND n.metadata ? 'counted_in_step'"""


@dataclass(frozen=True)
class Begun:
    """What became of a run's beginning."""

    status: str | None = None
    """DBOS's status of the workflow; None: DBOS does not know it here."""
    is_mine: bool = False
    """Whether the caller owns it."""
    row: dict[str, Any] | None = None
    """What is known of the run's row, if it is new."""
    continuation: dict[str, Any] | None = None
    """What stands in its place: a row of `continuations`."""
    has_outputs: bool = False
    """Whether DBOS has recorded steps of the workflow."""
    beside: dict[str, Any] | None = None
    """What was recorded of the order of the runs beside it before, if it was asked for: `runs`
    with their positions, how many seconds they `took`, and whether the workflow `is_taken_over`."""


def begin(connection: sa.Connection, schema: str, values: dict[str, Any]) -> Begun:
    """Insert a run's row if the caller owns its workflow and the row is not there.

    A run whose workflow was cancelled, and is executed again, goes on. Nothing is inserted where
    another run stands in its place.
    """
    row = connection.exec_driver_sql(begin_statement(schema), values).one_or_none()
    return Begun() if row is None else Begun(row[0], bool(row[1]), *row[2:])


def begin_statement(schema: str) -> str:
    """What `begin` executes; `begun` reads its answer."""
    return _BEGIN.replace("{schema}", schema)


def begun(answer: Sequence[str | None] | None) -> Begun:
    """What became of a run's beginning whose answer came as text."""
    if answer is None:
        return Begun()
    status, is_mine, row, continuation, has_outputs, beside = answer
    return Begun(
        status,
        is_mine == "t",
        None if row is None else json.loads(row),
        None if continuation is None else json.loads(continuation),
        has_outputs == "t",
        None if beside is None else json.loads(beside),
    )


def is_last(connection: sa.Connection, schema: str, values: dict[str, Any]) -> bool:
    """Whether a workflow did nothing more after its code cut a run off.

    A task that is cancelled because its process ends looks like one that the code cancels. But
    only code that saw the cancellation and went on has steps, or runs, recorded after it, and has
    to see it again.

    Args:
        connection: To the database of the schema.
        schema: Where DBOS's tables are.
        values: `id`, `workflow_id`, and `block`: how many numbers a task has to draw.
    """
    sql = _IS_LAST.replace("{schema}", schema)
    return bool(connection.exec_driver_sql(sql, values).scalar())


def revive(connection: sa.Connection, schema: str, values: dict[str, Any]) -> None:
    """Let a run go on that was cut off.

    Args:
        connection: To the database of the schema.
        schema: Where DBOS's tables are.
        values: `id`, `workflow_id`, and `token` of the execution that owns the workflow.
    """
    connection.exec_driver_sql(_REVIVED.replace("{schema}", schema), values)


def go_on(
    connection: sa.Connection, schema: str, values: dict[str, Any]
) -> tuple[str | None, str | None]:
    """Let runs go on whose questions are decided, if the caller owns their workflow.

    Args:
        connection: To the database of the schema.
        schema: Where DBOS's tables are.
        values: `ids` of the runs, `workflow_id`, and `token` of the caller.

    Returns:
        The workflow's status, and the token of the execution that owns it.
    """
    found = connection.exec_driver_sql(_GO_ON.replace("{schema}", schema), values).one_or_none()
    return (None, None) if found is None else (found[0], found[1])


def cancelled(
    connection: sa.Connection, schema: str, workflow_id: str, root_run_id: uuid.UUID | None
) -> None:
    """End the runs of a workflow that DBOS says is cancelled.

    A workflow may also end without waiting for a run it began: that one, `root_run_id` with
    those inside it, ends then, too.
    """
    connection.exec_driver_sql(
        _CANCELLED.replace("{schema}", schema),
        {"workflow_id": workflow_id, "root_run_id": root_run_id},
    )


def all_cancelled(connection: sa.Connection, schema: str) -> None:
    """What `cancelled` does, for every workflow that is cancelled, or over with a run going on.

    A run that is interrupted may go on in another workflow than the one that began it.
    """
    connection.exec_driver_sql(_ALL_CANCELLED.replace("{schema}", schema))


def reopened(connection: sa.Connection, schema: str, values: dict[str, Any]) -> bool:
    """Let a cancelled workflow be executed once more where its caller is; whether it was one.

    Args:
        connection: To the database of DBOS's own tables.
        schema: Theirs.
        values: `workflow_id`, `token` of the new execution, `caller` and `caller_token`.
    """
    sql = sa.text(_REOPENED.replace("{schema}", schema))
    return connection.execute(sql, values).rowcount == 1


def taken_again(connection: sa.Connection, schema: str, values: dict[str, Any]) -> bool:
    """Let a new execution own a workflow instead of one that ended; whether that one owned it.

    Args:
        connection: To the database of DBOS's own tables.
        schema: Theirs.
        values: `workflow_id`, `token` of the one that ended, and `new`, the new one's.
    """
    sql = sa.text(_TAKEN_AGAIN.replace("{schema}", schema))
    return connection.execute(sql, values).rowcount == 1


@dataclass(frozen=True)
class Claimed:
    """What is found of a claim."""

    workflow_ids: list[str]
    """What it claimed, as far as it is committed."""
    oldest: int
    """The number of the oldest transaction that goes on: all before it are over."""


def new_transaction(connection: sa.Connection) -> int:
    """The number of the connection's transaction, which is above those of all that wrote before."""
    return int(connection.exec_driver_sql("SELECT txid_current()").scalar_one())


def claimed_by(connection: sa.Connection, schema: str, token: str) -> Claimed:
    """The workflows under way that the execution with this token owns.

    Args:
        connection: To the database of DBOS's own tables.
        schema: Theirs.
        token: The execution's.
    """
    sql = sa.text(_CLAIMED_BY.replace("{schema}", schema))
    return Claimed(*connection.execute(sql, {"token": token}).one())


def holders(
    connection: sa.Connection, schema: str, workflow_ids: Collection[str]
) -> dict[str, tuple[str, str | None]]:
    """The status of workflows and the token of the execution that owns each."""
    sql = _HOLDERS.replace("{schema}", schema)
    found = connection.exec_driver_sql(sql, {"workflow_ids": list(workflow_ids)})
    return {workflow_id: (status, token) for workflow_id, status, token in found}


def journal(connection: sa.Connection, run_id: uuid.UUID) -> dict[str, dict[str, dict[str, Any]]]:
    """Every recorded row of a run in one query: table name to id to row."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for kind, row in connection.exec_driver_sql(_JOURNAL, {"id": run_id}):
        read = json.loads(row) if isinstance(row, str) else restored(row)
        found.setdefault(kind, {})[read["id"]] = read
    return found
