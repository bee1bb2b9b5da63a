"""Reads what DBOS's own fork of a workflow copied, and what it did not."""

from __future__ import annotations

import sqlalchemy as sa

# A copy has the times of what it is a copy of. Only DBOS's own forks have no continuations.
_TORN = """
    WITH step AS (
        SELECT old.function_id / %(block)s AS lane, old.started_at_epoch_ms AS began,
            old.completed_at_epoch_ms AS ended, fork.forked_from, EXISTS (
                SELECT FROM "{schema}".operation_outputs new
                WHERE new.workflow_uuid = fork.workflow_uuid AND new.function_id = old.function_id
                AND new.started_at_epoch_ms = old.started_at_epoch_ms
                AND new.completed_at_epoch_ms = old.completed_at_epoch_ms) AS is_copied
        FROM "{schema}".workflow_status fork
        JOIN "{schema}".operation_outputs old ON old.workflow_uuid = fork.forked_from
        WHERE fork.workflow_uuid = %(workflow_id)s AND NOT EXISTS (
            SELECT FROM timestep.continuations c WHERE c.workflow_id = %(workflow_id)s)
    ), lane AS (
        SELECT lane, forked_from, max(began) FILTER (WHERE is_copied) AS copied,
            min(ended) FILTER (WHERE NOT is_copied) AS made_again
        FROM step GROUP BY lane, forked_from
    )
    SELECT one.forked_from FROM lane one JOIN lane other ON one.lane <> other.lane
    WHERE one.made_again < other.copied LIMIT 1"""


def torn_from(
    connection: sa.Connection, schema: str, workflow_id: str, *, block: int
) -> str | None:
    """The workflow of which DBOS's fork copied steps that came after others that it did not copy.

    Args:
        connection: To the database that has DBOS's tables, too.
        schema: Where those are.
        workflow_id: The fork; None is answered where it is none.
        block: How many step numbers a task has to draw.
    """
    values = {"workflow_id": workflow_id, "block": block}
    found: str | None = connection.exec_driver_sql(
        _TORN.replace("{schema}", schema), values
    ).scalar()
    return found
