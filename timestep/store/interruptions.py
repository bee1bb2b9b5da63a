"""Reads what waits for a person, and writes what people decided."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

# Questions of one turn come in the order in which the model asked for the calls.
_PLACE = """{0}.created_at, coalesce((
        SELECT min(position) FROM public.run_items WHERE tool_call_id = {0}.tool_call_id
    ), 0), {0}.id"""

_SELECT = f"""
    SELECT i.id, i.run_id, r.root_run_id, r.workflow_id, i.type, i.reason, i.call_id,
        i.tool_call_id, i.tool_name, i.arguments, a.name AS agent_name, i.created_at, i.expires_at,
        i.resolved_at, i.resolution_action, i.resolution_message, i.resolution_output,
        i.resolution_always, i.resolved_by,
        CASE WHEN root.completed_at IS NOT NULL THEN root.status END AS ended
    FROM public.interruptions i
    JOIN public.runs r ON r.id = i.run_id
    JOIN public.runs root ON root.id = r.root_run_id
    LEFT JOIN public.agents a ON a.id = i.agent_id
    WHERE (%(workflow_id)s::text IS NULL OR r.workflow_id = %(workflow_id)s)
    AND (%(run_id)s::uuid IS NULL OR i.run_id = %(run_id)s)
    AND (%(resolved)s::boolean IS NULL OR (i.resolved_at IS NOT NULL) = %(resolved)s)
    AND (%(resolved)s::boolean IS DISTINCT FROM false OR root.completed_at IS NULL)
    AND (%(after)s::uuid IS NULL OR ({_PLACE.format("i")}) > (
        SELECT {_PLACE.format("last")} FROM public.interruptions last WHERE last.id = %(after)s))
    ORDER BY {_PLACE.format("i")} LIMIT %(limit)s::int"""

# In this order everybody locks both; what is told of a workflow's runs is numbered under its lock.
_LOCK_QUESTIONS = """
    SELECT id FROM public.interruptions WHERE id = ANY(%(ids)s::uuid[]) ORDER BY id FOR UPDATE"""
_LOCK_WORKFLOWS = """
    SELECT workflow_uuid FROM "{schema}".workflow_status WHERE workflow_uuid IN (
        SELECT r.workflow_id FROM public.interruptions i JOIN public.runs r ON r.id = i.run_id
        WHERE i.id = ANY(%(ids)s::uuid[]))
    ORDER BY workflow_uuid FOR NO KEY UPDATE"""

_RESOLVE = """
    UPDATE public.interruptions SET resolved_at = now(), resolution_action = %(action)s,
        resolution_message = %(message)s, resolution_output = %(output)s::text::jsonb,
        resolution_always = %(always)s, resolved_by = %(by)s
    WHERE id = %(id)s AND resolved_at IS NULL"""

_CALL = """
    UPDATE public.tool_calls SET status = %(status)s
    FROM public.interruptions i
    WHERE i.id = %(id)s AND tool_calls.id = i.tool_call_id
    AND tool_calls.status IN ('pending', 'in_doubt', 'skipped', 'unknown')"""


def select(
    connection: sa.Connection,
    *,
    workflow_id: str | None = None,
    run_id: uuid.UUID | None = None,
    resolved: bool | None = None,
    after: uuid.UUID | None = None,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Interruptions, oldest first; `resolved` None: decided or not.

    What a run asked that has ended since, as a cancelled one, waits for nobody any more.

    `ended` tells how its outermost run did.

    With `after`, those after that one; with `limit`, so many at most.
    """
    parameters = {
        "workflow_id": workflow_id,
        "run_id": run_id,
        "resolved": resolved,
        "after": after,
        "limit": limit,
    }
    found = connection.exec_driver_sql(_SELECT, parameters)
    return [dict(row) for row in found.mappings()]


def resolve(connection: sa.Connection, schema: str, decisions: Sequence[dict[str, Any]]) -> None:
    """Write decisions, in the open transaction.

    Args:
        connection: Where the transaction goes on.
        schema: DBOS's, or its copy's.
        decisions: `id`, `action`, `message`, `output` (with `has_output`), `always`, `by` of each.
    """
    ids = {"ids": [str(decision["id"]) for decision in decisions]}
    for lock in (_LOCK_QUESTIONS, _LOCK_WORKFLOWS) if decisions else ():
        connection.exec_driver_sql(lock.replace("{schema}", schema), ids)
    statuses = {"approve": "approved", "reject": "rejected", "supply": "approved"}
    for decision in decisions:
        values = dict(decision)
        values["output"] = json.dumps(values["output"]) if values["has_output"] else None
        connection.exec_driver_sql(_RESOLVE, values)
        connection.exec_driver_sql(
            _CALL, {"id": values["id"], "status": statuses[values["action"]]}
        )
