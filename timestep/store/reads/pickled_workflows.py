"""Tells which of DBOS's workflows need a pickle to be read before they can go on."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

TABLE = "workflow_status"

# Rows of old, and those of DBOS's schedules, have no serializer's name; base64 of a pickle begins
# as no JSON does. Neither true nor false would be taken for a pickle.
_IS_PICKLE = """coalesce({row}.serialization,
    CASE WHEN substr({text}, 1, 2) = 'gA' THEN 'py_pickle' END, '') = 'py_pickle'"""
# Scalar, so that PostgreSQL looks each up by its index, and never hashes a whole table.
_PART = " OR (SELECT 1 FROM {table} {row} WHERE {condition} LIMIT 1) IS NOT NULL"


def pickled(schema: str) -> str:
    """SQL: whether a row of `workflow_status` is of a workflow that must read a pickle.

    Its arguments are one; or the outcome of a step or a child, or a message that it has not read.
    """
    status = f'"{schema}".{TABLE}'
    inputs = f"""coalesce({status}.inputs, (SELECT given.inputs
        FROM "{schema}".workflow_input given WHERE given.workflow_uuid = {status}.workflow_uuid))"""
    parts = [_IS_PICKLE.format(row=status, text=inputs)]
    for table, row, owner, text, more in (
        ("operation_outputs", "step", "workflow_uuid", "coalesce(step.output, step.error)", ""),
        ("notifications", "told", "destination_uuid", "told.message", " AND NOT told.consumed"),
        (TABLE, "child", "parent_workflow_id", "coalesce(child.output, child.error)", ""),
    ):
        condition = f"{row}.{owner} = {status}.workflow_uuid{more} AND "
        condition += _IS_PICKLE.format(row=row, text=text)
        parts.append(_PART.format(table=f'"{schema}".{table}', row=row, condition=condition))
    return f"({''.join(parts)})"


def left_out(condition: sa.ColumnElement[bool], schema: str) -> Any:
    """The condition on rows of `workflow_status`, and that none of them is such a workflow's."""
    return sa.and_(condition, sa.text(f"NOT {pickled(schema)}"))


def left_alone(
    connection: sa.Connection, schema: str, application: str, workflow_ids: Collection[str]
) -> set[str]:
    """Which of these workflows have not ended, and are such workflows of an application."""
    found = connection.execute(
        sa.text(
            f"""SELECT workflow_uuid FROM "{schema}".{TABLE}
            WHERE workflow_uuid IN :ids AND status IN ('PENDING', 'ENQUEUED', 'DELAYED')
            AND (application_name = :application OR application_name IS NULL)
            AND {pickled(schema)}"""
        ).bindparams(sa.bindparam("ids", expanding=True)),
        {"ids": list(workflow_ids), "application": application},
    )
    return set(found.scalars())


_NEWEST = 1000


def newest(connection: sa.Connection, schema: str) -> tuple[int, int]:
    """How many of the newest workflows are recorded as pickles, and how many were looked at."""
    if not sa.inspect(connection).has_table(TABLE, schema=schema):
        return 0, 0
    found = connection.execute(
        sa.text(
            f"""SELECT count(CASE WHEN serialization = 'py_pickle' THEN 1 END), count(*)
            FROM (SELECT serialization FROM "{schema}".{TABLE}
                ORDER BY created_at DESC LIMIT {_NEWEST}) AS newest"""
        )
    )
    pickled, looked_at = found.one()
    return pickled, looked_at


def schedules(connection: sa.Connection, schema: str) -> list[str]:
    """The names of DBOS's schedules whose contexts are pickles of more than None."""
    if not sa.inspect(connection).has_table("workflow_schedules", schema=schema):
        return []
    found = connection.execute(
        sa.text(
            f"""SELECT schedule_name FROM "{schema}".workflow_schedules
            WHERE substr(context, 1, 2) = 'gA' AND context <> 'gAROLg==' ORDER BY 1"""
        )
    )
    return list(found.scalars())
