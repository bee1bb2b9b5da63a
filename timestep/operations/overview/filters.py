"""Checks which runs are asked for, and finds the workflows that have the tags asked for."""

from __future__ import annotations

import dataclasses
from typing import Unpack

from timestep.database.error_translation import translated
from timestep.errors import InvalidQueryError
from timestep.journal.reads.database import database
from timestep.operations.arguments import check_filter, checked_moment
from timestep.operations.queries.records import STATUSES, RunFilters
from timestep.operations.tags import filters_of
from timestep.runtime.terminal import quoted
from timestep.serialization.ids import storable_name
from timestep.store.reads import runs, workflow_tags


def checked(**given: Unpack[RunFilters]) -> runs.Filters:
    """What `list_runs` is given, checked.

    Raises:
        InvalidQueryError: A filter cannot be used.
    """
    status = given.get("status")
    if status is not None and status not in STATUSES:
        raise InvalidQueryError(f"status {quoted(status)} is not one of {', '.join(STATUSES)}")
    for name in ("agent", "entrypoint", "session_id", "workflow_id", "version", "text"):
        check_filter(name, given.get(name))
    agent, session_id = given.get("agent"), given.get("session_id")
    since, until = given.get("since"), given.get("until")
    return runs.Filters(
        status=status,
        agent=None if agent is None else storable_name(agent),
        entrypoint=given.get("entrypoint"),
        session_key=None if session_id is None else storable_name(session_id),
        workflow_id=given.get("workflow_id"),
        version=given.get("version"),
        since=None if since is None else checked_moment("since", since),
        until=None if until is None else checked_moment("until", until),
        text=given.get("text"),
        tags=filters_of(given.get("tag")),
    )


def known(filters: runs.Filters) -> runs.Filters:
    """The same with the workflows that have the tags, where that is known of not too many."""
    if not filters.tags:
        return filters
    # DBOS's own tables in SQLite cannot be asked together with the runs.
    limit = None if database().mirror is not None else runs.LOOKED_THROUGH + 1
    with translated(database().url), database().system() as (connection, schema):
        found = workflow_tags.tagged(connection, schema, filters.tags, limit=limit)
    if len(found) == limit:
        return filters
    return dataclasses.replace(filters, tags=(), workflow_ids=tuple(found))
