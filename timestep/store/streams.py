"""Reads what models said while they spoke, and everything that readers follow, in one order."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

_BATCHES = """
    SELECT model_response_id, attempt, first_attempt, position, events
    FROM timestep.stream_batches WHERE run_id = %(run_id)s ORDER BY attempt, position"""

_WORKFLOW = """
    SELECT coalesce(workflow_id, '') FROM public.runs
    WHERE id = %(run_id)s AND deleted_at IS NULL"""

_QUESTION = """
    jsonb_build_object('id', q.id, 'run_id', q.run_id, 'type', q.type, 'reason', q.reason,
        'tool_name', q.tool_name, 'call_id', q.call_id, 'arguments', q.arguments,
        'description', q.description,
        'agent_name', (SELECT name FROM public.agents WHERE agents.id = q.agent_id),
        'created_at', q.created_at, 'expires_at', q.expires_at)
    || CASE c.change WHEN 'question.decided' THEN jsonb_build_object(
        'action', q.resolution_action, 'message', q.resolution_message,
        'always', q.resolution_always, 'by', q.resolved_by) ELSE '{}' END
    || CASE WHEN c.change = 'question.decided' AND q.resolution_action = 'edit'
        THEN jsonb_build_object('edited_arguments', q.resolution_arguments) ELSE '{}' END"""

CHANGE = f"""
    jsonb_build_object('workflow_id', r.workflow_id, 'workflow_name', r.workflow_name,
        'parent_run_id', r.parent_run_id,
        'agent_name', (SELECT name FROM public.agents WHERE agents.id = r.agent_id))
    || CASE c.change
        WHEN 'run.cancelled' THEN jsonb_build_object('cancel_reason', c.cancel_reason)
        WHEN 'run.failed' THEN jsonb_build_object('error', c.error)
        ELSE '{{}}' END
    || CASE WHEN c.questions IS NULL THEN '{{}}' ELSE jsonb_build_object('questions', (
        SELECT coalesce(jsonb_agg({_QUESTION} ORDER BY asked.place), '[]')
        FROM unnest(c.questions) WITH ORDINALITY AS asked(id, place)
        JOIN public.interruptions q ON q.id = asked.id)) END"""
"""What is told of a row `c` of `timestep.run_changes` and its run `r`: what does not change any
more, so that whoever reads it later reads the same."""

# What is over in the moment that it is asked has had its last row. How a run ended that its
# workflow did not wait for, or was cancelled with, is recorded a little later than the workflow's
# end: by then, or nobody does.
_GOES_ON = """(w.status IN ('PENDING', 'ENQUEUED', 'DELAYED')
    OR (w.status = 'CANCELLED' OR r.status = 'running')
    AND w.completed_at > extract(epoch FROM now()) * 1000 - 30000)"""

_RUN_IS_OVER = f"""
    SELECT r.completed_at IS NOT NULL OR r.workflow_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM "{{schema}}".workflow_status w
        WHERE w.workflow_uuid = r.workflow_id AND {_GOES_ON})
    FROM public.runs r WHERE r.id = a.run_id AND r.deleted_at IS NULL"""

_WORKFLOW_IS_OVER = f"""
    SELECT w.status NOT IN ('PENDING', 'ENQUEUED', 'DELAYED') AND NOT EXISTS (
        SELECT FROM public.runs r
        WHERE r.workflow_id = w.workflow_uuid AND r.completed_at IS NULL AND {_GOES_ON})
    FROM "{{schema}}".workflow_status w WHERE w.workflow_uuid = a.workflow_id
    UNION ALL SELECT true WHERE cardinality(a.run_ids) > 0 LIMIT 1"""

_FOLLOWED = f"""
    WITH a AS MATERIALIZED (
        SELECT given.*, ARRAY(
            SELECT id FROM public.runs WHERE id = given.run_id AND deleted_at IS NULL
            UNION ALL SELECT id FROM public.runs
            WHERE given.run_id IS NULL AND workflow_id = given.workflow_id
            AND deleted_at IS NULL) AS run_ids
        FROM jsonb_to_recordset(%(asked)s::text::jsonb)
            AS given(place int, run_id uuid, workflow_id text, sequence bigint))
    SELECT a.place,
        CASE WHEN a.run_id IS NULL THEN ({_WORKFLOW_IS_OVER}) ELSE ({_RUN_IS_OVER}) END AS is_over,
        CASE WHEN a.run_id IS NULL THEN (SELECT status FROM "{{schema}}".workflow_status
            WHERE workflow_uuid = a.workflow_id)
            ELSE (SELECT status FROM public.runs WHERE id = a.run_id) END AS status,
        found.*
    FROM a LEFT JOIN LATERAL (
        SELECT * FROM (
            SELECT *, sum(size) OVER (ORDER BY sequence) - size AS size_before,
                count(*) OVER () AS there_are
            FROM (
                (SELECT i.sequence, 'item' AS kind, i.run_id, i.turn, i.position,
                    i.item_type AS type, i.item_data AS data, i.created_at,
                    NULL::uuid AS model_response_id, NULL::int AS attempt,
                    CASE i.item_type WHEN 'tool_call_output_item' THEN (
                        SELECT t.duration_ms FROM public.tool_calls t
                        WHERE t.id = i.tool_call_id) END AS duration_ms,
                    pg_column_size(i.item_data) AS size
                FROM public.run_items i
                WHERE i.run_id = ANY (a.run_ids) AND i.sequence >= a.sequence
                ORDER BY i.sequence LIMIT %(limit)s)
                UNION ALL
                (SELECT b.sequence, 'model', b.run_id, b.turn, b.position, NULL, b.events,
                    b.created_at, b.model_response_id, b.attempt, NULL, pg_column_size(b.events)
                FROM timestep.stream_batches b
                WHERE b.run_id = ANY (a.run_ids) AND b.sequence >= a.sequence
                ORDER BY b.sequence LIMIT %(limit)s)
                UNION ALL
                (SELECT c.sequence, split_part(c.change, '.', 1), c.run_id, c.turn, 0, c.change,
                    {CHANGE}, c.created_at, NULL, NULL, NULL, 0
                FROM timestep.run_changes c JOIN public.runs r ON r.id = c.run_id
                WHERE c.run_id = ANY (a.run_ids) AND c.sequence >= a.sequence
                ORDER BY c.sequence LIMIT %(limit)s)
            ) AS every
        ) AS every WHERE size_before < %(size)s ORDER BY sequence LIMIT %(limit)s
    ) AS found ON true
    ORDER BY a.place, found.sequence"""


@dataclass(frozen=True)
class Followed:
    """A run or a workflow that is followed, and from where on."""

    run_id: uuid.UUID | None
    """The run; None: all runs of the workflow."""
    workflow_id: str | None
    """The workflow; that of the run, if it has one."""
    sequence: int
    """The first number that is asked for."""


@dataclass(frozen=True)
class Found:
    """What became visible of a run or a workflow."""

    is_over: bool | None
    """Whether nothing follows these rows, and those that there `is_more` of. None: there is no
    such run or workflow."""
    is_more: bool
    """Whether there are further rows already."""
    status: str | None
    """How the run stands; of a workflow in DBOS's words, None where DBOS does not know it."""
    rows: list[dict[str, Any]]
    """Items, batches of events, and changes, in their order."""


def batches(connection: sa.Connection, run_id: uuid.UUID) -> list[dict[str, Any]]:
    """Every recorded batch of a run's streams, in the order of attempts and positions."""
    found = connection.exec_driver_sql(_BATCHES, {"run_id": run_id})
    return [dict(row) for row in found.mappings()]


def followed(
    connection: sa.Connection, schema: str, asked: Sequence[Followed], *, limit: int, size: int
) -> list[Found]:
    """What became visible of some runs and workflows, of each what it is asked for.

    Args:
        connection: Where to read.
        schema: DBOS's, or its copy's.
        asked: What is followed.
        limit: How many rows of each at most.
        size: About how many bytes of each at most; of one row, whatever it has.
    """
    given = [
        {
            "place": place,
            "run_id": str(one.run_id) if one.run_id is not None else None,
            "workflow_id": one.workflow_id,
            "sequence": one.sequence,
        }
        for place, one in enumerate(asked)
    ]
    values = {"asked": json.dumps(given), "limit": limit, "size": size}
    found = connection.exec_driver_sql(_FOLLOWED.replace("{schema}", schema), values)
    rows: list[list[dict[str, Any]]] = [[] for _ in asked]
    for row in found.mappings():
        rows[row["place"]].append(dict(row))
    return [_found(of_one, limit) for of_one in rows]


def _found(rows: list[dict[str, Any]], limit: int) -> Found:
    first = rows[0]
    if first["sequence"] is None:
        return Found(first["is_over"], False, first["status"], [])
    is_more = len(rows) == limit or len(rows) < first["there_are"]
    return Found(first["is_over"], is_more, first["status"], rows)


def drawn(connection: sa.Connection, *, of_all: bool) -> int:
    """The last number that was drawn for what a run does; or for the changes of all runs."""
    name = "change_sequence" if of_all else "event_sequence"
    query = f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM timestep.{name}"
    return int(connection.exec_driver_sql(query).scalar_one())


def workflow_of(connection: sa.Connection, id_: uuid.UUID) -> str | None:
    """The workflow of the run with this id, empty where it has none. None: there is no such run."""
    return connection.exec_driver_sql(_WORKFLOW, {"run_id": id_}).scalar_one_or_none()
