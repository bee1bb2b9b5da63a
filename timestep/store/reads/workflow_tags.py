"""Finds workflows by their tags, which DBOS's table calls attributes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

Tag = tuple[str, str | None]
"""What a workflow has to have: a tag of this name and, unless it is None, with this value."""


def of_workflows(
    connection: sa.Connection, schema: str, workflow_ids: Collection[str]
) -> dict[str, str]:
    """The attributes of those of the workflows that have some, as JSON's text, by their ids."""
    workflow = _workflows(schema)
    text = sa.cast(workflow.c.attributes, sa.Text).label("attributes")
    query = sa.select(workflow.c.workflow_uuid, text).where(
        workflow.c.workflow_uuid.in_(list(workflow_ids)), workflow.c.attributes.is_not(sa.null())
    )
    return {row.workflow_uuid: row.attributes for row in connection.execute(query)}


def tagged(
    connection: sa.Connection, schema: str, tags: Sequence[Tag], *, limit: int | None
) -> list[str]:
    """The ids of workflows with all of these tags, in no order.

    Args:
        connection: To DBOS's tables.
        schema: Theirs.
        tags: Which.
        limit: How many at most; None: all.
    """
    workflow = _workflows(schema)
    is_sqlite = connection.dialect.name == "sqlite"
    has = having(workflow.c.attributes, tags, is_sqlite=is_sqlite)
    query = sa.select(workflow.c.workflow_uuid).where(*has)
    return list(connection.execute(query.limit(limit)).scalars())


def is_tagged(
    schema: str, workflow_id: sa.ColumnElement[str], tags: Sequence[Tag]
) -> sa.ColumnElement[bool]:
    """That the workflow with this id has all of these tags, for statements on PostgreSQL."""
    workflow = _workflows(schema)
    is_its = workflow.c.workflow_uuid == workflow_id
    has = _in_postgresql(workflow.c.attributes, tags)
    return sa.exists().select_from(workflow).where(is_its, *has)


def having(
    attributes: sa.ColumnElement[object], tags: Sequence[Tag], *, is_sqlite: bool
) -> list[sa.ColumnElement[bool]]:
    """That attributes of a workflow have all of these tags.

    Args:
        attributes: The column.
        tags: Which.
        is_sqlite: Whether it is in SQLite, and not in PostgreSQL.
    """
    return _in_sqlite(attributes, tags) if is_sqlite else _in_postgresql(attributes, tags)


def _workflows(schema: str) -> sa.TableClause:
    columns = sa.column("workflow_uuid", sa.Text), sa.column("attributes", JSONB)
    return sa.table("workflow_status", *columns, schema=schema)


def _in_postgresql(
    attributes: sa.ColumnElement[object], tags: Sequence[Tag]
) -> list[sa.ColumnElement[bool]]:
    """As DBOS's index on attributes knows them."""
    has, contains = (attributes.op(operator, is_comparison=True) for operator in ("?", "@>"))
    return [
        has(name) if value is None else contains(sa.cast({name: value}, JSONB))
        for name, value in tags
    ]


def _in_sqlite(
    attributes: sa.ColumnElement[object], tags: Sequence[Tag]
) -> list[sa.ColumnElement[bool]]:
    """By looking at all of them."""
    found: list[sa.ColumnElement[bool]] = []
    for name, value in tags:
        each = sa.func.json_each(attributes).table_valued("key", "value", "type")
        known = [each.c.key == name]
        if value is not None:
            known += [each.c.value == value, each.c.type == "text"]
        found.append(sa.exists().select_from(each).where(*known))
    return found
