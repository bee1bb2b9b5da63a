"""Reads what the page of approvals shows: what waits, and what was decided.

Documents are read as text, and only so much of each as is shown: a call may have megabytes of
arguments, and be nested more deeply than Python reads.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from timestep.store.interruptions import HASH, PLACE
from timestep.store.parked_workflows import UNDECIDED
from timestep.store.reads.overview.documents import document

Row = dict[str, Any]

_MOST = 100
"""Questions that are counted at most."""
_WAITING = f"{UNDECIDED} AND r.workflow_id IS NOT NULL"

_COUNT = f"SELECT count(*) FROM (SELECT 1 {_WAITING} LIMIT {_MOST}) AS asked"

_WORKFLOWS = f"""
    SELECT r.workflow_id, min(i.created_at) AS since, count(*) AS questions {_WAITING}
    AND (%(workflow_id)s::text IS NULL OR r.workflow_id = %(workflow_id)s)
    GROUP BY r.workflow_id
    HAVING %(since)s::timestamptz IS NULL
        OR (min(i.created_at), r.workflow_id) > (%(since)s::timestamptz, %(after)s::text)
    ORDER BY since, r.workflow_id LIMIT %(limit)s::int"""


# The names of arguments in the order of the tool's schema: the database keeps none.
_REQUIRED = "coalesce(i.arguments_schema, t.params_json_schema) -> 'required'"

_QUESTION = f"""
    i.id, i.run_id, r.workflow_id, r.workflow_name, r.parent_run_id, i.type, i.reason, i.call_id,
    i.tool_name, i.description, a.name AS agent_name, outer_agent.name AS outer_agent_name,
    i.created_at, i.expires_at, i.resolved_at, i.resolution_action, i.resolution_message,
    i.resolution_always, i.resolved_by, c.tool_type, s.session_key AS session_id,
    jsonb_typeof(coalesce(i.arguments_schema, t.params_json_schema)) = 'object' AS has_schema,
    {_REQUIRED} AS required,
    i.reason = 'needs_approval' OR (SELECT true FROM public.interruptions earlier
        WHERE earlier.tool_call_id = i.tool_call_id AND earlier.reason = 'needs_approval'
        LIMIT 1) IS NOT NULL AS counts_always,
    {HASH} AS hash, root.status AS run_status,
    CASE WHEN root.completed_at IS NOT NULL THEN root.status END AS ended,
    {document("arguments", _REQUIRED)}, {document("resolution_arguments", _REQUIRED)},
    {document("resolution_output", _REQUIRED)}"""

_JOINS = """
    JOIN public.runs r ON r.id = i.run_id
    JOIN public.runs root ON root.id = r.root_run_id
    LEFT JOIN public.runs outer_run ON outer_run.id = r.parent_run_id
    LEFT JOIN public.agents outer_agent ON outer_agent.id = outer_run.agent_id
    LEFT JOIN public.sessions s ON s.id = r.session_id
    LEFT JOIN public.agents a ON a.id = i.agent_id
    LEFT JOIN public.tool_calls c ON c.id = i.tool_call_id
    LEFT JOIN public.tools t ON t.id = c.tool_id"""

_OF_WORKFLOWS = f"""
    SELECT {_QUESTION} FROM (
        SELECT i.id, row_number() OVER (PARTITION BY r.workflow_id ORDER BY {PLACE.format("i")})
            AS nth {_WAITING} AND r.workflow_id = ANY(%(workflows)s)
    ) AS numbered
    JOIN public.interruptions i ON i.id = numbered.id {_JOINS}
    WHERE numbered.nth <= %(each)s::int ORDER BY {PLACE.format("i")}"""

_NAMED = f"""
    SELECT {_QUESTION} FROM public.interruptions i {_JOINS}
    WHERE i.id = ANY(%(ids)s) ORDER BY {PLACE.format("i")}"""

_DECIDED = f"""
    SELECT {_QUESTION} FROM public.interruptions i {_JOINS}
    WHERE i.resolved_at IS NOT NULL
    AND (%(workflow_id)s::text IS NULL OR r.workflow_id = %(workflow_id)s)
    AND (%(before)s::timestamptz IS NULL
        OR (i.resolved_at, i.id) < (%(before)s::timestamptz, %(last)s::uuid))
    ORDER BY i.resolved_at DESC, i.id DESC LIMIT %(limit)s::int"""

_SCHEMA = f"""
    SELECT coalesce(i.arguments_schema, t.params_json_schema) FROM public.interruptions i {_JOINS}
    WHERE i.id = %(id)s"""

_ARGUMENTS = "SELECT arguments::text FROM public.interruptions WHERE id = %(id)s"

_STARTS = """
    SELECT DISTINCT ON (subjects[1]) subjects[1] AS workflow_id, who, at, act FROM timestep.audit
    WHERE act IN ('start', 'fork') AND refused IS NULL AND subjects && %(ids)s::text[]
    ORDER BY subjects[1], id"""

_ENTRIES = """
    SELECT id, who, via, address, machine, details, subjects FROM timestep.audit
    WHERE act = 'decide' AND subjects && %(ids)s::text[] ORDER BY id"""


def count(connection: sa.Connection) -> int:
    """How many questions wait for a person, up to 100."""
    return int(connection.exec_driver_sql(_COUNT).scalar_one())


def workflows(
    connection: sa.Connection,
    *,
    workflow_id: str | None,
    after: tuple[datetime.datetime, str] | None,
    limit: int,
) -> list[Row]:
    """The workflows that wait for people, which waits longest first: since when, how often.

    Args:
        connection: To the database.
        workflow_id: Only this one.
        after: Only those after this place: since when, and the id.
        limit: How many at most.
    """
    since, last = after or (None, None)
    values = {"workflow_id": workflow_id, "since": since, "after": last, "limit": limit}
    return _rows(connection, _WORKFLOWS, values)


def of_workflows(connection: sa.Connection, workflows: Collection[str], each: int) -> list[Row]:
    """What workflows ask, oldest first, the first `each` questions of each workflow."""
    return _rows(connection, _OF_WORKFLOWS, {"workflows": list(workflows), "each": each})


def named(connection: sa.Connection, ids: Collection[uuid.UUID]) -> list[Row]:
    """Questions by their ids, decided or not, oldest first."""
    return _rows(connection, _NAMED, {"ids": list(ids)})


def decided(
    connection: sa.Connection,
    *,
    workflow_id: str | None,
    before: tuple[datetime.datetime, uuid.UUID] | None,
    limit: int,
) -> list[Row]:
    """What was decided, what was decided last first.

    Args:
        connection: To the database.
        workflow_id: Only what this one asked.
        before: Only what is after this place in the list: when it was decided, and its id.
        limit: How many at most.
    """
    moment, last = before or (None, None)
    values = {"workflow_id": workflow_id, "before": moment, "last": last, "limit": limit}
    return _rows(connection, _DECIDED, values)


def schema(connection: sa.Connection, id_: uuid.UUID) -> Any:
    """The JSON schema of the call that a question is about; None: none is recorded."""
    return connection.exec_driver_sql(_SCHEMA, {"id": id_}).scalar_one_or_none()


def arguments(connection: sa.Connection, id_: uuid.UUID) -> str | None:
    """The arguments of the call that a question is about, as JSON text; None: there is none."""
    return connection.exec_driver_sql(_ARGUMENTS, {"id": id_}).scalar_one_or_none()


def starts(connection: sa.Connection, workflow_ids: Collection[str]) -> list[Row]:
    """Who started which of the workflows, and when."""
    return _rows(connection, _STARTS, {"ids": list(workflow_ids)})


def entries(connection: sa.Connection, ids: Collection[str]) -> list[Row]:
    """The audit's entries of the decisions of questions."""
    return _rows(connection, _ENTRIES, {"ids": list(ids)})


def _rows(connection: sa.Connection, query: str, values: Row) -> list[Row]:
    return [dict(row) for row in connection.exec_driver_sql(query, values).mappings()]
