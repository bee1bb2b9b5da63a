"""Reads what DBOS recorded of a workflow as it is written, without making anything of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa


@dataclass(frozen=True)
class WorkflowRecord:
    """What a workflow was given and came to, each as text; the serializer that wrote it; DBOS's
    status and name of it, and when it was created and ended, in milliseconds since 1970; its
    attributes, as JSON's text; the name of the application that it is of; when its time is over,
    and until when it is delayed, as those."""

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
    deadline: int | None = None
    delayed_until: int | None = None


def find(connection: sa.Connection, schema: str, workflow_id: str) -> WorkflowRecord | None:
    """What is recorded of a workflow; None: there is none, or DBOS has forgotten it."""
    return of_workflows(connection, schema, [workflow_id]).get(workflow_id)


def of_workflows(
    connection: sa.Connection, schema: str, workflow_ids: Collection[str], *, brief: bool = False
) -> dict[str, WorkflowRecord]:
    """What is recorded of each of these workflows that DBOS knows, by their ids.

    Args:
        connection: To DBOS's tables.
        schema: Where those are.
        workflow_ids: Which.
        brief: Without what they were given, and what they returned.
    """
    documents = "NULL, NULL" if brief else _DOCUMENTS
    query = sa.text(
        f"""SELECT w.workflow_uuid, {documents}, coalesce(made.error, w.error), w.serialization,
            w.status, w.name, w.created_at, w.completed_at, CAST(w.attributes AS text),
            w.application_name, w.workflow_deadline_epoch_ms, w.delay_until_epoch_ms
        FROM "{schema}".workflow_status w
        LEFT JOIN "{schema}".workflow_input given USING (workflow_uuid)
        LEFT JOIN "{schema}".workflow_output made USING (workflow_uuid)
        WHERE w.workflow_uuid IN :ids"""
    ).bindparams(sa.bindparam("ids", expanding=True))
    rows = connection.execute(query, {"ids": list(workflow_ids)})
    return {row[0]: WorkflowRecord(*row[1:]) for row in rows}


_DOCUMENTS = "coalesce(given.inputs, w.inputs), coalesce(made.output, w.output)"


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
