"""Reads many runs at once, as far as a page names them before something is done with them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from timestep.store.reads.runs import as_uuid

Row = dict[str, Any]

_NAMED = """
    SELECT asked.name AS asked, found.*
    FROM unnest(%(names)s::text[], %(ids)s::uuid[]) asked(name, id), LATERAL (
        SELECT r.id, r.workflow_id, r.workflow_name, a.name AS agent_name, r.status,
            r.current_turn, r.error_turn, r.started_at
        FROM public.runs r
        LEFT JOIN public.agents a ON a.id = coalesce(r.current_agent_id, r.agent_id)
        WHERE r.deleted_at IS NULL
        AND (r.id = asked.id OR (r.workflow_id = asked.name AND r.parent_run_id IS NULL))
        ORDER BY coalesce(r.id = asked.id, false) DESC, r.started_at DESC, r.workflow_step DESC
        LIMIT 1) found"""


def named(connection: sa.Connection, names: Sequence[str]) -> list[Row]:
    """The runs with these ids, or the newest ones of the workflows with these; each as `asked`.

    They are those that `find_run` finds of each.
    """
    ids: list[uuid.UUID | None] = [as_uuid(name) for name in names]
    found = connection.exec_driver_sql(_NAMED, {"names": list(names), "ids": ids})
    return [dict(row) for row in found.mappings()]
