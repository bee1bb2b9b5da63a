"""Reads runs, and what belongs to them, for the API, the command line and the pages."""

from __future__ import annotations

import dataclasses
import datetime
import json
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from timestep.store.reads import workflow_tags
from timestep.store.tables import definitions, runs, sessions, usage

Row = dict[str, Any]

_RUN = runs.runs
_ITEM = runs.run_items
_CALL = runs.tool_calls
_USAGE = usage.usage_metrics
_AGENT = definitions.agents.alias("agent")
_CURRENT = definitions.agents.alias("current_agent")
_SESSION = sessions.sessions

_USAGE_COLUMNS = (*usage.USAGE_COUNTS, "estimated_cost")

_COLUMNS = (
    _RUN.c.id,
    _RUN.c.workflow_id,
    _RUN.c.workflow_name,
    _RUN.c.parent_run_id,
    _AGENT.c.name.label("agent_name"),
    _CURRENT.c.name.label("current_agent_name"),
    _SESSION.c.session_key,
    _RUN.c.status,
    _RUN.c.current_turn,
    _RUN.c.error_type,
    _RUN.c.error_turn,
    _RUN.c.cancel_reason,
    _RUN.c.forked_from_run_id,
    _RUN.c.forked_at_turn,
    _RUN.c.started_at,
    _RUN.c.completed_at,
    *(_USAGE.c[name] for name in _USAGE_COLUMNS),
)
_FROM = (
    _RUN.join(_AGENT, _AGENT.c.id == _RUN.c.agent_id)
    .outerjoin(_CURRENT, _CURRENT.c.id == _RUN.c.current_agent_id)
    .outerjoin(_SESSION, _SESSION.c.id == _RUN.c.session_id)
    .outerjoin(_USAGE, _USAGE.c.run_id == _RUN.c.id)
)


def _select(*documents: sa.ColumnElement[Any]) -> sa.Select[Any]:
    query = sa.select(*_COLUMNS, *documents).select_from(_FROM)
    return query.where(_RUN.c.deleted_at.is_(None))


_RUNS = _select(_RUN.c.input, _RUN.c.final_output, _RUN.c.error_message)

BEGINNING = 300
"""Characters of a final output, and of an error, that a brief list has."""

# A text without its quotes; of what JSONB cannot hold, the JSON that is kept of it.
_SAID = sa.func.coalesce(_RUN.c.final_output["$text"].astext, _RUN.c.final_output[()].astext)

_BRIEF = _select(
    sa.null().label("input"),
    sa.func.left(_SAID, BEGINNING).label("final_output"),
    sa.func.left(_RUN.c.error_message, BEGINNING).label("error_message"),
)


Place = tuple[datetime.datetime, uuid.UUID]
"""Where a run is in a list: when it began, and its id."""

_STATUSES = ("running", "interrupted", "failed", "completed", "cancelled")

LOOKED_THROUGH = 2_000
"""Runs that are looked at, for what no index knows, until a page ends as it is."""


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which runs are listed; what is None says nothing about them."""

    status: str | None = None
    agent: str | None = None
    session_key: str | None = None
    workflow_id: str | None = None
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    """Runs that began before it."""
    entrypoint: str | None = None
    version: str | None = None
    """Of the application, as DBOS has it of their workflows."""
    text: str | None = None
    workflow_ids: tuple[str, ...] | None = None
    """The workflows that they belong to one of."""
    tags: tuple[workflow_tags.Tag, ...] = ()
    """What their workflows are tagged with."""
    nested: bool = True
    """Whether runs inside other runs are among them."""


def list_runs(
    connection: sa.Connection,
    schema: str,
    filters: Filters,
    *,
    before: Place | None = None,
    limit: int,
    brief: bool = False,
) -> tuple[list[Row], Place | None]:
    """Runs, newest first.

    Args:
        connection: To the database.
        schema: DBOS's.
        filters: Which runs.
        before: Only those after this place in the list.
        limit: How many at most.
        brief: Without `input`, with the beginnings of `final_output`, as text, and `error_message`.

    Returns:
        The runs; and the place up to which runs were looked at, where that was not to the end.
    """
    known = _known_by_indexes(connection, filters)
    if known is None:
        return [], None
    if before is not None:
        known.append(_placed(before) > _PLACE)
    others, end = _looked_at(schema, filters), None
    if others:
        # The end first, and then all up to it: however rare what is asked for is, no statement
        # looks at more.
        end = _end(connection, known, LOOKED_THROUGH)
        if end is not None:
            others.append(_placed(end) <= _PLACE)
    query = (_BRIEF if brief else _RUNS).where(*known, *others)
    return _rows(connection, query.order_by(*_NEWEST).limit(limit)), end


def counts_by_status(
    connection: sa.Connection, schema: str, filters: Filters, *, limit: int
) -> tuple[dict[str, int], bool]:
    """How many runs have each status, whichever `filters.status` is.

    Args:
        connection: To the database.
        schema: DBOS's.
        filters: Which runs.
        limit: How many of a status are counted at most; where anything else is asked for, how many
            runs at all, the newest ones.

    Returns:
        The counts, without those that are 0; and whether they are all that is known of the newest
        ones alone.
    """
    filters = dataclasses.replace(filters, status=None)
    if filters == Filters(nested=filters.nested):
        # Each from its own part of an index.
        inside = [
            _counted(_RUN.c.status == one, *_outermost(filters)).limit(limit) for one in _STATUSES
        ]
        found = sa.union_all(*(sa.select(one.subquery()) for one in inside)).subquery()
        return _counts(connection, found), False
    known = _known_by_indexes(connection, filters)
    if known is None:
        return {}, False
    others = _looked_at(schema, filters)
    end = _end(connection, known, LOOKED_THROUGH if others else limit)
    if end is not None:
        others.append(_placed(end) <= _PLACE)
    return _counts(connection, _counted(*known, *others).subquery()), end is not None


def _counted(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return sa.select(_RUN.c.status).where(_RUN.c.deleted_at.is_(None), *conditions)


def _counts(connection: sa.Connection, found: sa.Subquery) -> dict[str, int]:
    query = sa.select(found.c.status, sa.func.count()).group_by(found.c.status)
    return {row[0]: row[1] for row in connection.execute(query)}


def _end(
    connection: sa.Connection, known: list[sa.ColumnElement[bool]], count: int
) -> Place | None:
    """The place of the last of so many runs, newest first; None: there are fewer."""
    last = sa.select(_RUN.c.started_at, _RUN.c.id).where(_RUN.c.deleted_at.is_(None), *known)
    last = last.order_by(*_NEWEST).offset(count - 1).limit(1)
    found = connection.execute(last).one_or_none()
    return None if found is None else (found[0], found[1])


_PLACE = sa.tuple_(_RUN.c.started_at, _RUN.c.id)
_NEWEST = (_RUN.c.started_at.desc(), _RUN.c.id.desc())


def _placed(place: Place) -> sa.Tuple:
    return sa.tuple_(sa.literal(place[0]), sa.literal(place[1], sa.Uuid()))


def _known_by_indexes(
    connection: sa.Connection, filters: Filters
) -> list[sa.ColumnElement[bool]] | None:
    """What indexes tell of the runs that are asked for; None: there can be none."""
    found = _outermost(filters)
    # Ids first: how many runs each has decides which index serves the list.
    for table, name, given, column in (
        (_AGENT, "name", filters.agent, _RUN.c.agent_id),
        (_SESSION, "session_key", filters.session_key, _RUN.c.session_id),
    ):
        if given is not None:
            named = sa.select(table.c.id).where(table.c[name] == given)
            ids = connection.execute(named).scalars().all()
            if not ids:
                return None
            found.append(column.in_(ids))
    if filters.status is not None:
        found.append(_RUN.c.status == filters.status)
    if filters.workflow_id is not None:
        found.append(_RUN.c.workflow_id == filters.workflow_id)
    if filters.workflow_ids is not None:
        if not filters.workflow_ids:
            return None
        wanted = sa.literal(list(filters.workflow_ids), ARRAY(sa.Text))
        # Found first: going through all runs from the newest on, until enough are theirs, takes
        # long where theirs are old ones.
        theirs = sa.select(_RUN.c.id).where(_RUN.c.workflow_id == sa.any_(wanted)).cte("theirs")
        found.append(_RUN.c.id.in_(sa.select(theirs.prefix_with("MATERIALIZED").c.id)))
    if filters.since is not None:
        found.append(_RUN.c.started_at >= filters.since)
    if filters.until is not None:
        found.append(_RUN.c.started_at < filters.until)
    return found


def _outermost(filters: Filters) -> list[sa.ColumnElement[bool]]:
    return [] if filters.nested else [_RUN.c.parent_run_id.is_(None)]


def _looked_at(schema: str, filters: Filters) -> list[sa.ColumnElement[bool]]:
    """What only the runs themselves tell."""
    found: list[sa.ColumnElement[bool]] = []
    if filters.entrypoint is not None:
        found.append(_RUN.c.workflow_name == filters.entrypoint)
    if filters.version is not None:
        names = ("workflow_uuid", "application_version")
        workflow = sa.table("workflow_status", *map(sa.column, names), schema=schema)
        is_its = workflow.c.workflow_uuid == _RUN.c.workflow_id
        is_wanted = workflow.c.application_version == filters.version
        found.append(sa.exists().select_from(workflow).where(is_its, is_wanted))
    if filters.tags:
        found.append(workflow_tags.is_tagged(schema, _RUN.c.workflow_id, filters.tags))
    if filters.text is not None:
        # As it is written inside of JSON's quotes.
        written = json.dumps(filters.text, ensure_ascii=False)[1:-1]
        error = sa.func.concat_ws(": ", _RUN.c.error_type, _RUN.c.error_message)
        documents = (_RUN.c.input, _RUN.c.final_output)
        inside = [sa.cast(one, sa.Text).icontains(written, autoescape=True) for one in documents]
        inside += [
            one.icontains(filters.text, autoescape=True) for one in (error, _RUN.c.workflow_id)
        ]
        found.append(sa.or_(*inside))
    return found


_NEWEST_OF_WORKFLOW = (_RUN.c.started_at.desc(), _RUN.c.workflow_step.desc())


def find_run(connection: sa.Connection, name: str) -> Row | None:
    """The run with this id, or the newest top-level run of the workflow with this id."""
    run_id = as_uuid(name)
    of_workflow = sa.and_(_RUN.c.workflow_id == name, _RUN.c.parent_run_id.is_(None))
    query = _RUNS.where(of_workflow if run_id is None else sa.or_(_RUN.c.id == run_id, of_workflow))
    order: list[sa.ColumnElement[Any]] = [*_NEWEST_OF_WORKFLOW]
    if run_id is not None:
        order.insert(0, (_RUN.c.id == run_id).desc())
    found = _rows(connection, query.order_by(*order).limit(1))
    return found[0] if found else None


def newest(connection: sa.Connection, workflow_ids: Collection[str]) -> set[str]:
    """The ids of the runs that `find_run` finds by the ids of their workflows."""
    # All of a workflow's at once: to ask of each run whether it is the newest looks at the others
    # again and again.
    place = sa.func.row_number().over(partition_by=_RUN.c.workflow_id, order_by=_NEWEST_OF_WORKFLOW)
    meant = _RUN.alias()
    ids = [id_ for one in workflow_ids if (id_ := as_uuid(one)) is not None]
    named = sa.select(sa.cast(meant.c.id, sa.Text)).where(
        meant.c.id.in_(ids), meant.c.deleted_at.is_(None)
    )
    theirs = sa.select(_RUN.c.id, place.label("place")).where(
        _RUN.c.workflow_id.in_(workflow_ids),
        _RUN.c.workflow_id.not_in(named),
        _RUN.c.parent_run_id.is_(None),
        _RUN.c.deleted_at.is_(None),
    )
    placed = theirs.subquery()
    found = connection.execute(sa.select(placed.c.id).where(placed.c.place == 1))
    return {str(id_) for id_ in found.scalars()}


def find_workflow(connection: sa.Connection, name: str) -> Row | None:
    """Of the run with this id: its `workflow_id`, `parent_run_id` and `completed_at`.

    None: there is no such run, or a workflow of this id has runs, and is meant.
    """
    run_id = as_uuid(name)
    if run_id is None:
        return None
    other = _RUN.alias()
    is_workflow = sa.exists().select_from(other).where(other.c.workflow_id == name)
    query = sa.select(_RUN.c.workflow_id, _RUN.c.parent_run_id, _RUN.c.completed_at)
    found = _rows(connection, query.where(_RUN.c.id == run_id, ~is_workflow))
    return found[0] if found else None


def error(connection: sa.Connection, run_id: uuid.UUID) -> Any:
    """The recorded envelope of what a run failed with; None: it did not fail."""
    return connection.execute(sa.select(_RUN.c.error).where(_RUN.c.id == run_id)).scalar_one()


def total_usage(connection: sa.Connection, run_id: uuid.UUID) -> Row:
    """The tokens of a run and of every run inside it."""
    inside = sa.select(_RUN.c.id).where(_RUN.c.id == run_id).cte(recursive=True)
    inside = inside.union_all(
        sa.select(_RUN.c.id).join(inside, _RUN.c.parent_run_id == inside.c.id)
    )
    counts = [name for name in _USAGE_COLUMNS if name != "estimated_cost"]
    sums = [sa.func.coalesce(sa.func.sum(_USAGE.c[name]), 0).label(name) for name in counts]
    query = sa.select(*sums).where(_USAGE.c.run_id.in_(sa.select(inside.c.id)))
    return {name: int(value) for name, value in _rows(connection, query)[0].items()}


def list_items(
    connection: sa.Connection, run_id: uuid.UUID, *, after: int | None, limit: int
) -> list[Row]:
    """The items of a run in their order; with `after`, those after that position."""
    query = (
        sa.select(
            _ITEM.c.id,
            _ITEM.c.run_id,
            _ITEM.c.position,
            _ITEM.c.turn,
            _ITEM.c.item_type,
            _ITEM.c.role,
            _AGENT.c.name.label("agent_name"),
            _ITEM.c.tool_call_id,
            _ITEM.c.item_data,
            _ITEM.c.original_data,
            _ITEM.c.created_at,
        )
        .select_from(_ITEM)
        .outerjoin(_AGENT, _AGENT.c.id == _ITEM.c.agent_id)
        .where(_ITEM.c.run_id == run_id)
    )
    if after is not None:
        query = query.where(_ITEM.c.position > after)
    return _rows(connection, query.order_by(_ITEM.c.position).limit(limit))


def list_tool_calls(connection: sa.Connection, run_id: uuid.UUID) -> list[Row]:
    """The tool calls of a run in the order of their requests."""
    query = (
        sa.select(
            _CALL.c.id,
            _CALL.c.turn,
            _CALL.c.call_id,
            _CALL.c.tool_name,
            _CALL.c.tool_type,
            _CALL.c.arguments,
            _CALL.c.edited_arguments,
            _CALL.c.status,
            _CALL.c.output,
            _CALL.c.error,
            _CALL.c.is_error,
            _CALL.c.intents,
            _CALL.c.attempts,
            _CALL.c.failed_attempts,
            _CALL.c.duration_ms,
            _CALL.c.started_at,
            _CALL.c.completed_at,
        )
        .where(_CALL.c.run_id == run_id)
        .order_by(_CALL.c.turn, _CALL.c.created_at, _CALL.c.id)
    )
    return _rows(connection, query)


def as_uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _rows(connection: sa.Connection, query: sa.Select[Any]) -> list[Row]:
    return [dict(row) for row in connection.execute(query).mappings()]
