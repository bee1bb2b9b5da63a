"""Lists workflows that have begun no run: those that wait, failed or were cancelled before it."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any

from timestep.database.error_translation import translated
from timestep.journal.fail_fast_read import reading
from timestep.journal.reads.database import database
from timestep.operations.queries import executions, rows
from timestep.operations.queries.pagination import NO_RUN, RunPlace
from timestep.operations.queries.records import Run
from timestep.store.reads import workflow_records
from timestep.store.reads.overview import without_run as store
from timestep.store.reads.overview.without_run import Created
from timestep.store.reads.runs import Filters


def listed(
    connection: Any,
    system: Any,
    schema: str,
    filters: Filters,
    *,
    before: RunPlace | None = None,
    since: datetime.datetime | None = None,
) -> tuple[list[str], RunPlace | None]:
    """The ids of workflows that have begun no run, newest first.

    Args:
        connection: To the runs.
        system: To DBOS's tables.
        schema: Where those are.
        filters: Which.
        before: Only those after this place in the list of runs.
        since: Only those that were created then or later.

    Returns:
        The ids; and the place up to which was looked, where that was not to the end.
    """
    found, is_more = store.candidates(
        system,
        schema,
        filters,
        before=None if before is None else _created(before),
        since=None if since is None else store.milliseconds(since),
    )
    begun = store.begun(connection, [one.workflow_id for one in found])
    ids = [one.workflow_id for one in found if one.workflow_id not in begun]
    return ids, _place(found[-1]) if is_more else None


def _created(place: RunPlace) -> Created:
    """A place in the list of runs, as it is among workflows without one."""
    moment, id_, workflow_id = place
    if id_ == NO_RUN:
        return Created(store.milliseconds(moment), workflow_id)
    # After a run come those of the same moment, too.
    return Created(store.milliseconds(moment + datetime.timedelta(microseconds=1)), "")


def _place(created: Created) -> RunPlace:
    moment = rows.moment_of(created.at)
    assert moment is not None
    return moment, NO_RUN, created.workflow_id


def told(workflow_ids: Sequence[str], *, brief: bool = False) -> list[Run]:
    """What is known of workflows that have begun no run, in their order, as far as DBOS knows them.

    Args:
        workflow_ids: Which.
        brief: Without their input.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    if not workflow_ids:
        return []
    with translated(database().url), database().system() as (connection, schema):
        records = workflow_records.of_workflows(connection, schema, workflow_ids, brief=brief)
    standing = executions.of_workflows(records)
    forks = reading(lambda connection: store.forks(connection, workflow_ids))
    found = []
    for id_ in workflow_ids:
        if id_ in records:
            run = rows.without_run(id_, records[id_])
            if id_ in standing:
                run = dataclasses.replace(run, **vars(standing[id_]))
            if id_ in forks:
                run_id, turn = forks[id_]
                run = dataclasses.replace(run, forked_from_run_id=run_id, forked_at_turn=turn)
            found.append(run)
    return found
