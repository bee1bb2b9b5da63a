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

_OURS = "timestep"
"""The schema of our own tables, which are not in SQLite."""

_COLUMNS: dict[str, Any] = {
    "workflow_uuid": sa.Text,
    "status": sa.Text,
    "name": sa.Text,
    "created_at": sa.BigInteger,
    "parent_workflow_id": sa.Text,
    "application_version": sa.Text,
    "delay_until_epoch_ms": sa.BigInteger,
    "recovery_attempts": sa.BigInteger,
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
    created, id_ = workflow.c.created_at, _sorted(workflow.c.workflow_uuid, is_sqlite=is_sqlite)
    known = _known(schema, workflow, filters, is_sqlite=is_sqlite)
    if since is not None:
        known.append(created >= since)
    if before is not None:
        known.append(created <= before.at)
        known.append(sa.or_(created < before.at, id_ < before.workflow_id))
    found: list[Created] = []
    for status in _wanted(filters):
        is_of_status = workflow.c.status == sa.literal_column(f"'{status}'")
        theirs = sa.select(created, workflow.c.workflow_uuid).where(is_of_status, *known)
        newest = theirs.order_by(created.desc(), id_.desc())
        if status == "DELAYED":
            # All of them, and then the newest: there may be none among the very many that wait for
            # people, and to look for the newest in their order would be to look at every workflow.
            # An offset keeps PostgreSQL from doing that.
            has_time = workflow.c.delay_until_epoch_ms.is_not(None)
            theirs = theirs.where(has_time, _is_unbegun(workflow, is_sqlite=is_sqlite)).offset(0)
            all_ = theirs.subquery()
            last = _sorted(all_.c.workflow_uuid, is_sqlite=is_sqlite).desc()
            newest = sa.select(all_.c.created_at, all_.c.workflow_uuid)
            newest = newest.order_by(all_.c.created_at.desc(), last)
        rows = connection.execute(newest.limit(LOOKED_THROUGH + 1))
        found += [Created(*row) for row in rows]
    found.sort(reverse=True)
    return found[:LOOKED_THROUGH], len(found) > LOOKED_THROUGH


def _sorted(text: sa.ColumnElement[str], *, is_sqlite: bool) -> sa.ColumnElement[str]:
    """A text as Python sorts texts, which SQLite does, too."""
    return text if is_sqlite else sa.collate(text, "C")


def _is_unbegun(workflow: sa.TableClause, *, is_sqlite: bool) -> sa.ColumnElement[bool]:
    """Of a delayed workflow: that it was not executed, or not to where its run begins."""
    found: sa.ColumnElement[bool] = workflow.c.recovery_attempts == 0
    if is_sqlite:
        return found
    end = sa.table("process_ends", *map(sa.column, ("workflow_id", "delay_until")), schema=_OURS)
    is_its = end.c.workflow_id == workflow.c.workflow_uuid
    is_held = end.c.delay_until == workflow.c.delay_until_epoch_ms
    return sa.or_(found, sa.exists().where(is_its, is_held))


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
        setback = sa.table("setbacks", sa.column("workflow_id"), schema=_OURS)
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
