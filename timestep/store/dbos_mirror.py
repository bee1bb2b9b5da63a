"""Writes the copy of what DBOS says of workflows, where its tables are in another database.

The copy has the names of DBOS's tables and columns, so that a statement asks either.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

SCHEMA = "timestep"
"""Where the copy is."""

Rows = dict[str, dict[str, Any]]


def _tables(metadata: sa.MetaData) -> tuple[sa.Table, sa.Table]:
    return (
        sa.Table(
            "workflow_status",
            metadata,
            sa.Column("workflow_uuid", sa.Text, primary_key=True),
            sa.Column("status", sa.Text),
            sa.Column("owner_xid", sa.Text),
            sa.Column("name", sa.Text),
            sa.Column("workflow_deadline_epoch_ms", sa.BigInteger),
            sa.Column("completed_at", sa.BigInteger),
        ),
        sa.Table(
            "operation_outputs",
            metadata,
            sa.Column("workflow_uuid", sa.Text, primary_key=True),
            sa.Column("function_id", sa.Integer, primary_key=True, autoincrement=False),
        ),
    )


_copied = sa.MetaData(schema=SCHEMA)
_copy, _copied_steps = _tables(_copied)
_own, _own_steps = _tables(sa.MetaData())


def create(connection: sa.Connection) -> None:
    """Make the copy's tables, unless they are there."""
    _copied.create_all(connection)


def known(connection: sa.Connection, ids: Collection[str]) -> Rows:
    """What the copy says of workflows, by their ids."""
    return _workflows(connection, sa.select(_copy).where(_copy.c.workflow_uuid.in_(list(ids))))


def found(system: sa.Connection, ids: Collection[str]) -> Rows:
    """What DBOS's own tables say of workflows, by their ids."""
    *columns, end = _own.c
    # Before Python 3.12, DBOS's clock in SQLite shows whole seconds: what has ended by its
    # deadline has not ended before it.
    end_of_second = sa.case((end % 1000 == 0, end + 999), else_=end).label(end.name)
    query = sa.select(*columns, end_of_second).where(_own.c.workflow_uuid.in_(list(ids)))
    return _workflows(system, query)


def _workflows(connection: sa.Connection, query: sa.Select[Any]) -> Rows:
    return {row.workflow_uuid: dict(row) for row in connection.execute(query).mappings()}


def replace(connection: sa.Connection, ids: Collection[str], rows: Rows) -> None:
    """Put `rows` into the copy for the workflows with these ids."""
    connection.execute(sa.delete(_copy).where(_copy.c.workflow_uuid.in_(list(ids))))
    if rows:
        connection.execute(sa.insert(_copy), list(rows.values()))


def replace_steps(connection: sa.Connection, system: sa.Connection, workflow_id: str) -> None:
    """Copy the numbers of the steps that DBOS recorded of a workflow."""
    query = sa.select(_own_steps).where(_own_steps.c.workflow_uuid == workflow_id)
    steps = [dict(row) for row in system.execute(query).mappings()]
    ours = _copied_steps
    connection.execute(sa.delete(ours).where(ours.c.workflow_uuid == workflow_id))
    if steps:
        connection.execute(sa.insert(ours), steps)
