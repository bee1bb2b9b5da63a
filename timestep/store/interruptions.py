"""Reads what waits for a person, and writes what people decided."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from timestep.serialization.documents.json_text import restored, storable
from timestep.serialization.ids import storable_name
from timestep.serialization.json_output import arguments_text

PLACE = """{0}.created_at, coalesce((
        SELECT min(position) FROM public.run_items WHERE tool_call_id = {0}.tool_call_id
    ), 0), {0}.id"""
"""The order of questions: those of one turn come as the model asked for the calls."""

HASH = """encode(sha256(convert_to(
        jsonb_build_array(i.tool_name, i.arguments, i.agent_id)::text, 'UTF8')), 'hex')"""
"""Of what a person is shown of the question `i`, as the database writes it."""

# Only who decides needs the schema.
_COLUMNS = f"""
    i.id, i.run_id, r.root_run_id, r.workflow_id, i.type, i.reason, i.call_id, i.tool_call_id,
    i.tool_name, i.arguments, i.description, a.name AS agent_name, i.created_at, i.expires_at,
    i.resolved_at, i.resolution_action, i.resolution_message, i.resolution_output,
    i.resolution_arguments, i.resolution_always, i.resolved_by, c.tool_type,
    CASE WHEN i.resolved_at IS NULL
        THEN coalesce(i.arguments_schema, t.params_json_schema) END AS arguments_schema,
    {HASH} AS hash,
    CASE WHEN root.completed_at IS NOT NULL THEN root.status END AS ended
    FROM public.interruptions i
    JOIN public.runs r ON r.id = i.run_id
    JOIN public.runs root ON root.id = r.root_run_id
    LEFT JOIN public.agents a ON a.id = i.agent_id
    LEFT JOIN public.tool_calls c ON c.id = i.tool_call_id
    LEFT JOIN public.tools t ON t.id = c.tool_id"""

_SELECT = f"""
    SELECT {_COLUMNS}
    WHERE (%(workflow_id)s::text IS NULL OR r.workflow_id = %(workflow_id)s)
    AND (%(run_id)s::uuid IS NULL OR i.run_id = %(run_id)s)
    AND (%(resolved)s::boolean IS NULL OR (i.resolved_at IS NOT NULL) = %(resolved)s)
    AND (%(resolved)s::boolean IS DISTINCT FROM false OR root.completed_at IS NULL)
    AND (%(after)s::uuid IS NULL OR ({PLACE.format("i")}) > (
        SELECT {PLACE.format("last")} FROM public.interruptions last WHERE last.id = %(after)s))
    ORDER BY {PLACE.format("i")} LIMIT %(limit)s::int"""

_OF_RUNS = f"""
    SELECT {_COLUMNS}
    WHERE r.id = ANY(%(ids)s) OR r.root_run_id = ANY(%(ids)s)
    ORDER BY {PLACE.format("i")}"""
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
        resolution_arguments = %(arguments)s::text::jsonb, resolution_always = %(always)s,
        resolved_by = %(by)s
    WHERE id = %(id)s AND resolved_at IS NULL
    AND (%(until)s::timestamptz IS NULL OR clock_timestamp() < %(until)s::timestamptz)
    RETURNING tool_name, arguments"""

_CALL = """
    UPDATE public.tool_calls SET status = %(status)s,
        edited_arguments = coalesce(i.resolution_arguments, tool_calls.edited_arguments)
    FROM public.interruptions i
    WHERE i.id = %(id)s AND tool_calls.id = i.tool_call_id
    AND tool_calls.status IN ('pending', 'in_doubt', 'skipped', 'unknown')"""

_EDITED = """
    SELECT i.run_id, i.tool_call_id, i.call_id, i.resolution_arguments, r.session_id
    FROM public.interruptions i JOIN public.runs r ON r.id = i.run_id
    WHERE i.id = ANY(%(ids)s) AND i.resolution_action = 'edit'"""

_ITEMS = """
    SELECT id, item_data FROM public.run_items
    WHERE tool_call_id = %(tool_call_id)s AND item_type = 'tool_call_item'
    AND original_data IS NULL"""

_WRITE_ITEM = """
    UPDATE public.run_items SET original_data = item_data, item_data = %(item)s::text::jsonb,
        sequence = nextval('timestep.event_sequence')
    WHERE id = %(id)s"""

_SESSION_ITEMS = """
    SELECT id, item_data FROM public.session_items
    WHERE session_id = %(session_id)s AND run_id = %(run_id)s AND removed_revision IS NULL
    ORDER BY position DESC"""

_WRITE_SESSION_ITEM = """
    UPDATE public.session_items SET item_data = %(item)s::text::jsonb WHERE id = %(id)s"""


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


def of_runs(connection: sa.Connection, run_ids: Collection[uuid.UUID]) -> list[dict[str, Any]]:
    """What runs and the runs inside them ask, oldest first; `root_run_id` tells whose."""
    found = connection.exec_driver_sql(_OF_RUNS, {"ids": list(run_ids)})
    return [dict(row) for row in found.mappings()]


def resolve(
    connection: sa.Connection, schema: str, decisions: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Write decisions, in the open transaction.

    Args:
        connection: Where the transaction goes on.
        schema: DBOS's, or its copy's.
        decisions: `id`, `action`, `message`, `always`, `by`, `seen` of each, and where there are
            any `output` (with `has_output`) and `arguments`; `until` is the time after which it is
            not made, of a one-time link.

    Returns:
        Those that were not made before, for the audit: each with its `tool_name`, and in `asked`
        the arguments that the model gave.
    """
    ids = {"ids": [str(decision["id"]) for decision in decisions]}
    for lock in (_LOCK_QUESTIONS, _LOCK_WORKFLOWS) if decisions else ():
        connection.exec_driver_sql(lock.replace("{schema}", schema), ids)
    statuses = {"reject": "rejected"}
    written = []
    for decision in decisions:
        values = dict(decision)
        values["output"] = json.dumps(values["output"]) if values["has_output"] else None
        is_edited = values["action"] == "edit"
        values["arguments"] = json.dumps(values["arguments"]) if is_edited else None
        found = connection.exec_driver_sql(_RESOLVE, values).one_or_none()
        if found is None:
            continue
        written.append({**decision, "tool_name": found[0], "asked": found[1]})
        status = statuses.get(values["action"], "approved")
        connection.exec_driver_sql(_CALL, {"id": values["id"], "status": status})
    return written


def show_edits(connection: sa.Connection, questions: Collection[uuid.UUID]) -> None:
    """Let a model be shown calls as they were edited, by the run and by its session.

    Args:
        connection: Where the transaction goes on in which `resolve` decided. Readers go by the
            items' sequence, which is drawn under its lock of the workflow.
        questions: The ids of interruptions; those that are not edited stay as they are.
    """
    found = connection.exec_driver_sql(_EDITED, {"ids": list(questions)})
    for edited in [dict(row) for row in found.mappings()]:
        text = arguments_text(restored(edited["resolution_arguments"]))
        for id_, item in connection.exec_driver_sql(_ITEMS, edited).all():
            _write(connection, _WRITE_ITEM, id_, {**restored(item), "arguments": text})
        if edited["session_id"] is None:
            continue
        for id_, item in connection.exec_driver_sql(_SESSION_ITEMS, edited).all():
            document = restored(item)
            if _is_call(document, edited["call_id"]):
                _write(connection, _WRITE_SESSION_ITEM, id_, {**document, "arguments": text})
                break


def _is_call(item: Any, call_id: str) -> bool:
    return (
        isinstance(item, dict)
        and item.get("type") == "function_call"
        and storable_name(str(item.get("call_id")), None) == call_id
    )


def _write(connection: sa.Connection, sql: str, id_: uuid.UUID, item: dict[str, Any]) -> None:
    connection.exec_driver_sql(sql, {"id": id_, "item": json.dumps(storable(item))})
