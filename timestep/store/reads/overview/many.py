"""Reads many runs at once, as far as a page names them before something is done with them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from timestep.store.reads.runs import as_uuid

Row = dict[str, Any]

_NAMED = """
    SELECT asked.place, found.*
    FROM unnest(%(workflows)s::text[], %(runs)s::uuid[])
        WITH ORDINALITY asked(workflow_id, run_id, place), LATERAL (
        SELECT r.id, r.workflow_id, r.workflow_name, a.name AS agent_name, r.status,
            r.current_turn, r.error_turn, r.started_at
        FROM public.runs r
        LEFT JOIN public.agents a ON a.id = coalesce(r.current_agent_id, r.agent_id)
        WHERE r.deleted_at IS NULL
        AND (r.id = asked.run_id
            OR (r.workflow_id = asked.workflow_id AND r.parent_run_id IS NULL))
        ORDER BY coalesce(r.id = asked.run_id, false) DESC, r.started_at DESC, r.workflow_step DESC
        LIMIT 1) found"""


def named(connection: sa.Connection, names: Sequence[tuple[str | None, str | None]]) -> list[Row]:
    """The runs with these ids, or the newest ones of the workflows with these.

    Args:
        connection: To the database.
        names: Of each the id of a run, and that of a workflow, which counts where there is no such
            run; None: no id of such a thing.

    Returns:
        The rows, each with the `place` of what names it, counted from 1.
    """
    runs: list[uuid.UUID | None] = [as_uuid(run) if run else None for run, _ in names]
    values = {"runs": runs, "workflows": [workflow for _, workflow in names]}
    return [dict(row) for row in connection.exec_driver_sql(_NAMED, values).mappings()]
