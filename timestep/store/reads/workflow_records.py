"""Reads what DBOS recorded of a workflow as it is written, without making anything of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa


@dataclass(frozen=True)
class WorkflowRecord:
    """What a workflow was given and came to, each as text; the serializer that wrote it; DBOS's
    status and name of it, and when it was created and ended, in milliseconds since 1970; its
    attributes, as JSON's text; and the name of the application that it is of."""

    arguments: str | None
    output: str | None
    error: str | None
    serialization: str | None
    status: str
    name: str
    created_at: int
    completed_at: int | None
    attributes: str | None
    application: str | None


def find(connection: sa.Connection, schema: str, workflow_id: str) -> WorkflowRecord | None:
    """What is recorded of a workflow; None: there is none, or DBOS has forgotten it."""
    found = connection.execute(
        sa.text(
            f"""SELECT coalesce(given.inputs, w.inputs), coalesce(made.output, w.output),
                coalesce(made.error, w.error), w.serialization, w.status,
                w.name, w.created_at, w.completed_at, CAST(w.attributes AS text),
                w.application_name
            FROM "{schema}".workflow_status w
            LEFT JOIN "{schema}".workflow_input given USING (workflow_uuid)
            LEFT JOIN "{schema}".workflow_output made USING (workflow_uuid)
            WHERE workflow_uuid = :workflow_id"""
        ),
        {"workflow_id": workflow_id},
    ).one_or_none()
    return None if found is None else WorkflowRecord(*found)


def statuses(
    connection: sa.Connection, schema: str, workflow_ids: Collection[str]
) -> dict[str, str]:
    """DBOS's statuses of those of the workflows that it knows, by their ids."""
    workflow = sa.table(
        "workflow_status", sa.column("workflow_uuid"), sa.column("status"), schema=schema
    )
    query = sa.select(workflow.c.workflow_uuid, workflow.c.status).where(
        workflow.c.workflow_uuid.in_(list(workflow_ids))
    )
    return {row.workflow_uuid: row.status for row in connection.execute(query)}
