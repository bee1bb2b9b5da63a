"""Finds workflows that have begun no run: they failed, were cancelled, or wait, before it.

DBOS's table tells of them. It has an index for each status but success.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from timestep.store.reads import workflow_tags
from timestep.store.reads.runs import LOOKED_THROUGH, Filters

OF_STATUS = {
    "running": ("PENDING", "ENQUEUED", "DELAYED"),
    "failed": ("ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"),
    "cancelled": ("CANCELLED",),
}
"""DBOS's statuses of them, by that of a run. One that succeeded without a run has none to show."""

_OWN = ("timestep.", "<temp>.")
"""How the names of Timestep's own workflows begin, and of those that DBOS makes of a step."""

_COLUMNS: dict[str, Any] = {
    "workflow_uuid": sa.Text,
    "status": sa.Text,
    "name": sa.Text,
    "created_at": sa.BigInteger,
    "parent_workflow_id": sa.Text,
    "application_version": sa.Text,
    "delay_until_epoch_ms": sa.BigInteger,
    "attributes": JSONB,
}
_BEGUN = "SELECT DISTINCT workflow_id FROM public.runs WHERE workflow_id = ANY(%(ids)s)"

_FORKS = """
    SELECT workflow_id, source_run_id, turn FROM timestep.continuations
    WHERE workflow_id = ANY(%(ids)s) AND kind = 'forked'"""


@dataclass(frozen=True, order=True)
class Created:
    """Where a workflow without a run stands in a list."""

    at: int
    """When it was created, in milliseconds since 1970."""
    workflow_id: str


def candidates(
    connection: sa.Connection,
    schema: str,
    filters: Filters,
    *,
    before: Created | None = None,
    since: int | None = None,
) -> tuple[list[Created], bool]:
    """Workflows that may have begun no run, newest first: those of `filters.status`, or all.

    One that other code started inside of itself is told of by that, unless it waits for what its
    application lacks.

    Args:
        connection: To DBOS's tables, in PostgreSQL or SQLite.
        schema: Where those are.
        filters: Which; workflows without a run have no agent and no session.
        before: Only those after this place in the list.
        since: Only those that were created then or later, in milliseconds since 1970.

    Returns:
        `LOOKED_THROUGH` of them at most; and whether there are more.
    """
    is_sqlite = connection.dialect.name == "sqlite"
    columns = (sa.column(name, kind) for name, kind in _COLUMNS.items())
    workflow = sa.table("workflow_status", *columns, schema=schema)
    # As Python sorts texts, which SQLite does, too.
    id_ = workflow.c.workflow_uuid if is_sqlite else sa.collate(workflow.c.workflow_uuid, "C")
    known = _known(schema, workflow, filters, is_sqlite=is_sqlite)
    if since is not None:
        known.append(workflow.c.created_at >= since)
    if before is not None:
        known.append(workflow.c.created_at <= before.at)
        known.append(sa.or_(workflow.c.created_at < before.at, id_ < before.workflow_id))
    found: list[Created] = []
    for status in _wanted(filters):
        # Each from its own part of an index.
        query = sa.select(workflow.c.created_at, workflow.c.workflow_uuid).where(
            workflow.c.status == sa.literal_column(f"'{status}'"), *known
        )
        if status == "DELAYED":
            # Without a time it is parked: a run of it waits for people.
            query = query.where(workflow.c.delay_until_epoch_ms.is_not(None))
        query = query.order_by(workflow.c.created_at.desc(), id_.desc()).limit(LOOKED_THROUGH + 1)
        found += [Created(*row) for row in connection.execute(query)]
    found.sort(reverse=True)
    return found[:LOOKED_THROUGH], len(found) > LOOKED_THROUGH


def _wanted(filters: Filters) -> list[str]:
    if filters.agent is not None or filters.session_key is not None:
        return []
    if filters.status is not None:
        return list(OF_STATUS.get(filters.status, ()))
    return [status for several in OF_STATUS.values() for status in several]


def _known(
    schema: str, workflow: sa.TableClause, filters: Filters, *, is_sqlite: bool
) -> list[sa.ColumnElement[bool]]:
    is_outermost: sa.ColumnElement[bool] = workflow.c.parent_workflow_id.is_(None)
    if not is_sqlite:
        setback = sa.table("setbacks", sa.column("workflow_id"), schema="timestep")
        is_lacking = sa.exists().where(setback.c.workflow_id == workflow.c.workflow_uuid)
        is_outermost = sa.or_(is_outermost, is_lacking)
    found = [is_outermost]
    found += [~workflow.c.name.startswith(own, autoescape=True) for own in _OWN]
    if filters.workflow_id is not None:
        found.append(workflow.c.workflow_uuid == filters.workflow_id)
    if filters.entrypoint is not None:
        found.append(workflow.c.name == filters.entrypoint)
    if filters.version is not None:
        found.append(workflow.c.application_version == filters.version)
    if filters.since is not None:
        found.append(workflow.c.created_at >= milliseconds(filters.since))
    if filters.until is not None:
        found.append(workflow.c.created_at < milliseconds(filters.until))
    if filters.text is not None:
        found.append(workflow.c.workflow_uuid.icontains(filters.text, autoescape=True))
    return found + workflow_tags.having(workflow.c.attributes, filters.tags, is_sqlite=is_sqlite)


def milliseconds(moment: datetime.datetime) -> int:
    """A time as DBOS has it: the first whole millisecond that is not before it."""
    return -(-(moment - _EPOCH) // datetime.timedelta(milliseconds=1))


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def begun(connection: sa.Connection, workflow_ids: Collection[str]) -> set[str]:
    """Those of the workflows that have begun a run."""
    if not workflow_ids:
        return set()
    found = connection.exec_driver_sql(_BEGUN, {"ids": list(workflow_ids)})
    return set(found.scalars())


def forks(connection: sa.Connection, workflow_ids: Collection[str]) -> dict[str, tuple[str, int]]:
    """Of those of the workflows that are forks, the run that each is one of, and its turn."""
    found = connection.exec_driver_sql(_FORKS, {"ids": list(workflow_ids)})
    return {row[0]: (str(row[1]), row[2]) for row in found}
