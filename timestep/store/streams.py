"""Reads what models said while they spoke, and everything that readers follow, in one order."""

from __future__ import annotations

import uuid
from typing import Any

import sqlalchemy as sa

_BATCHES = """
    SELECT model_response_id, attempt, first_attempt, position, events
    FROM timestep.stream_batches WHERE run_id = %(run_id)s ORDER BY attempt, position"""

_RUN = "SELECT id FROM public.runs WHERE id = %(run_id)s"
_WORKFLOW = "SELECT coalesce(workflow_id, '') FROM public.runs WHERE id = %(run_id)s"
_RUNS = "SELECT id FROM public.runs WHERE workflow_id = %(workflow_id)s"

_WORKFLOW_IS_OVER = """(SELECT status NOT IN ('PENDING', 'ENQUEUED', 'DELAYED')
    FROM "{schema}".workflow_status WHERE workflow_uuid = {workflow_id})"""
# A run whose process died before its workflow was cancelled stays as it was.
_RUN_IS_OVER = f"""(SELECT completed_at IS NOT NULL
    OR coalesce({_WORKFLOW_IS_OVER}, false) FROM public.runs WHERE id = %(run_id)s)"""

# Whether it is over is read in the snapshot that the events are read in: what is not there
# when it is over never comes. A row for it comes in any case, also without events.
_FOLLOWED = """
    SELECT {is_over} AS is_over, followed.*
    FROM (SELECT) AS always LEFT JOIN (
        (SELECT i.sequence, 'item' AS kind, i.run_id, i.turn, i.position, i.item_type,
            i.item_data AS data, NULL::uuid AS model_response_id, NULL::integer AS attempt
        FROM public.run_items i
        WHERE i.run_id IN ({runs}) AND i.sequence >= %(sequence)s
        ORDER BY i.sequence LIMIT %(limit)s)
        UNION ALL
        (SELECT b.sequence, 'model', b.run_id, b.turn, b.position, NULL, b.events,
            b.model_response_id, b.attempt
        FROM timestep.stream_batches b
        WHERE b.run_id IN ({runs}) AND b.sequence >= %(sequence)s
        ORDER BY b.sequence LIMIT %(limit)s)
        ORDER BY sequence LIMIT %(limit)s
    ) AS followed ON true
    ORDER BY sequence"""


def batches(connection: sa.Connection, run_id: uuid.UUID) -> list[dict[str, Any]]:
    """Every recorded batch of a run's streams, in the order of attempts and positions."""
    found = connection.exec_driver_sql(_BATCHES, {"run_id": run_id})
    return [dict(row) for row in found.mappings()]


def followed(
    connection: sa.Connection,
    schema: str,
    *,
    run_id: uuid.UUID | None,
    workflow_id: str | None,
    sequence: int,
    limit: int,
) -> tuple[bool | None, list[dict[str, Any]]]:
    """What became visible at or after a number, oldest first: items, and batches of events.

    Args:
        connection: Where to read.
        schema: DBOS's, or its copy's.
        run_id: The run that is followed; None: all runs of the workflow.
        workflow_id: The workflow that is followed.
        sequence: The first number that is asked for.
        limit: How many at most.

    Returns:
        Whether it is over (None: there is no such run or workflow), and the rows.
    """
    one = run_id is not None
    query = _FOLLOWED.format(
        is_over=(_RUN_IS_OVER if one else _WORKFLOW_IS_OVER).format(
            schema=schema, workflow_id="runs.workflow_id" if one else "%(workflow_id)s"
        ),
        runs=_RUN if one else _RUNS,
    )
    values = {
        "run_id": run_id,
        "workflow_id": workflow_id,
        "sequence": sequence,
        "limit": limit,
    }
    found = [dict(row) for row in connection.exec_driver_sql(query, values).mappings()]
    return found[0]["is_over"], [row for row in found if row["sequence"] is not None]


def workflow_of(connection: sa.Connection, id_: uuid.UUID) -> str | None:
    """The workflow of the run with this id, empty where it has none. None: there is no such run."""
    return connection.exec_driver_sql(_WORKFLOW, {"run_id": id_}).scalar_one_or_none()
