"""Reads DBOS's records of steps in its table `operation_outputs`, and knows their columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

COLUMNS = frozenset(
    {
        "workflow_uuid",
        "function_id",
        "function_name",
        "output",
        "error",
        "child_workflow_id",
        "started_at_epoch_ms",
        "completed_at_epoch_ms",
        "serialization",
        "application_name",
        "retention_timestamp",
    }
)
"""What the table has where `INSERT` writes what DBOS writes."""

KEY = "operation_outputs_pkey"

INSERT = """dbos AS (INSERT INTO "{schema}".operation_outputs (
        workflow_uuid, function_id, function_name, output, error, serialization,
        started_at_epoch_ms, completed_at_epoch_ms, application_name, retention_timestamp)
    SELECT %(workflow_id)s, %(number)s::int, %(name)s, %(output)s, %(error)s, %(serialization)s,
        %(started_at)s::bigint, %(completed_at)s::bigint, %(application)s,
        (extract(epoch FROM now()) * 1000)::bigint
    FROM mine)"""
"""A part of a step's statement. Another record of that number is an error, and undoes it all."""


_NEWEST = """
    SELECT max(completed_at_epoch_ms) FROM "{schema}".operation_outputs
    WHERE workflow_uuid = :workflow_id AND function_name <> :but"""


def newest(connection: sa.Connection, schema: str, workflow_id: str, *, but: str) -> int:
    """When the newest of a workflow's records tells that a step has ended; 0: there is none.

    Args:
        connection: To DBOS's tables.
        schema: Where they are.
        workflow_id: The workflow.
        but: The name of steps that are passed over.
    """
    values = {"workflow_id": workflow_id, "but": but}
    found = connection.execute(sa.text(_NEWEST.replace("{schema}", schema)), values).scalar()
    return found or 0


@dataclass(frozen=True)
class Row:
    """A step's record."""

    number: int
    name: str
    output: str | None
    error: str | None
    serialization: str
    started_at: int
    """Milliseconds since 1970, as is `completed_at`."""
    completed_at: int
    application: str | None


@dataclass(frozen=True)
class Shape:
    """What DBOS's tables look like in a database."""

    version: int | None
    columns: frozenset[str]


def shape(connection: sa.Connection, schema: str) -> Shape:
    """The version of DBOS's tables, and the columns of the one for steps."""
    version = connection.exec_driver_sql(f'SELECT version FROM "{schema}".dbos_migrations').scalar()
    # `information_schema` would take milliseconds where a connection has asked for nothing yet.
    columns = connection.exec_driver_sql(
        "SELECT attname::text FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped "
        "AND attrelid = to_regclass(quote_ident(%(schema)s) || '.operation_outputs')",
        {"schema": schema},
    )
    return Shape(version, frozenset(columns.scalars()))


def recorded(connection: sa.Connection, schema: str, workflow_id: str) -> dict[str, dict[str, Any]]:
    """What is recorded of every step of a workflow, by its number.

    The output is left out where it is too large to be a reference to rows.
    """
    rows = connection.exec_driver_sql(
        "SELECT function_id, function_name AS name, "
        "CASE WHEN length(output) <= 4096 THEN output END AS output, error, serialization "
        f'FROM "{schema}".operation_outputs WHERE workflow_uuid = %(workflow_id)s',
        {"workflow_id": workflow_id},
    )
    found = (dict(row) for row in rows.mappings())
    return {str(row.pop("function_id")): row for row in found}


def completed_at(
    connection: sa.Connection, schema: str, workflow_id: str, number: int
) -> int | None:
    """When the recorded step of that number ended, as its record says."""
    return connection.exec_driver_sql(
        f'SELECT completed_at_epoch_ms FROM "{schema}".operation_outputs '
        "WHERE workflow_uuid = %(workflow_id)s AND function_id = %(number)s",
        {"workflow_id": workflow_id, "number": number},
    ).scalar()
