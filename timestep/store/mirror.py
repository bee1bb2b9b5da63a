"""A copy of what DBOS says of workflows, where its tables are in another database than the runs.

The copy has the names of DBOS's tables and columns, so that a statement asks either.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

SCHEMA = "timestep"
"""Where the copy is."""

Rows = dict[str, sa.Row[Any]]


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
    return _workflows(connection, _copy, ids)


def found(system: sa.Connection, ids: Collection[str]) -> Rows:
    """What DBOS's own tables say of workflows, by their ids."""
    return _workflows(system, _own, ids)


def _workflows(connection: sa.Connection, table: sa.Table, ids: Collection[str]) -> Rows:
    query = sa.select(table).where(table.c.workflow_uuid.in_(list(ids)))
    return {row.workflow_uuid: row for row in connection.execute(query)}


def replace(connection: sa.Connection, ids: Collection[str], rows: Rows) -> None:
    """Put `rows` into the copy for the workflows with these ids."""
    connection.execute(sa.delete(_copy).where(_copy.c.workflow_uuid.in_(list(ids))))
    if rows:
        connection.execute(sa.insert(_copy), [dict(row._mapping) for row in rows.values()])


def replace_steps(connection: sa.Connection, system: sa.Connection, workflow_id: str) -> None:
    """Copy the numbers of the steps that DBOS recorded of a workflow."""
    query = sa.select(_own_steps).where(_own_steps.c.workflow_uuid == workflow_id)
    steps = [dict(row) for row in system.execute(query).mappings()]
    ours = _copied_steps
    connection.execute(sa.delete(ours).where(ours.c.workflow_uuid == workflow_id))
    if steps:
        connection.execute(sa.insert(ours), steps)
