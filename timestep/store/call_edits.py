"""Writes the arguments that a person gave into the items by which a model sees the call."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from timestep.serialization.ids import storable_name
from timestep.serialization.json_output import arguments_text
from timestep.serialization.values import restored, storable

_EDITED = """
    SELECT i.run_id, i.tool_call_id, i.call_id, i.resolution_arguments, r.workflow_id, r.session_id
    FROM public.interruptions i JOIN public.runs r ON r.id = i.run_id
    WHERE i.id = ANY(%(ids)s) AND i.resolution_action = 'edit'"""

_LOCK = """
    SELECT FROM "{schema}".workflow_status
    WHERE workflow_uuid = %(workflow_id)s FOR NO KEY UPDATE"""

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


def write(connection: sa.Connection, schema: str, questions: Collection[uuid.UUID]) -> None:
    """Let a model be shown calls as they were edited, by the run and by its session.

    Args:
        connection: To the recorder's database, in the transaction that decides.
        schema: Where DBOS's tables are, or their copy.
        questions: The ids of interruptions; those that are not edited stay as they are.
    """
    found = connection.exec_driver_sql(_EDITED, {"ids": list(questions)})
    for edited in [dict(row) for row in found.mappings()]:
        # Readers go by the sequence, which is drawn under this lock.
        connection.exec_driver_sql(_LOCK.replace("{schema}", schema), edited)
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
