"""Reads one run, lists of runs, and a run's items and tool calls."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import uuid
from collections.abc import Sequence
from typing import Any

from timestep.errors import InvalidQueryError, UnknownRunError
from timestep.journal.fail_fast_read import reading, reading_both
from timestep.journal.reads.database import database
from timestep.journal.reads.workflow_records import attributes_of, workflow_record
from timestep.operations.arguments import check_known
from timestep.operations.overview import filters, without_run
from timestep.operations.queries import executions
from timestep.operations.queries.executions import Execution
from timestep.operations.queries.pagination import (
    NO_RUN,
    Page,
    RunPlace,
    cursor_of,
    item_place,
    listed_place,
    page_of,
    page_size,
    written,
)
from timestep.operations.queries.records import (
    Interruption,
    Run,
    RunItem,
    ToolCall,
    Usage,
)
from timestep.operations.queries.rows import of_row, run_of, workflow_of
from timestep.operations.tags import shown as tags_of
from timestep.runtime.terminal import quoted
from timestep.serialization.documents.json_text import displayed
from timestep.store import interruptions
from timestep.store.reads import runs
from timestep.store.reads.workflow_records import WorkflowRecord
from timestep.store.timeline import rows as timeline_rows


async def get_run(run_or_workflow_id: str) -> Run:
    """One run, or the newest top-level run of a workflow.

    A workflow that has not begun a run is shown by what DBOS knows of it.

    Args:
        run_or_workflow_id: The id of either.

    Raises:
        UnknownRunError: There is neither.
        DatabaseError: The database refused, or is away.
    """
    return await asyncio.to_thread(_get_run, str(run_or_workflow_id))


def _get_run(name: str) -> Run:
    check_known(name)
    found = reading(lambda connection: runs.find_run(connection, name))
    workflow_id = str(found["workflow_id"]) if found else name
    workflow = workflow_record(workflow_id)
    if found is not None:
        run = _whole([found])[0]
        total, recoveries = reading(
            lambda connection: (
                runs.total_usage(connection, found["id"]),
                timeline_rows.recovery_count(connection, found["id"]),
            )
        )
        return dataclasses.replace(
            run,
            interruptions=_waited_for(run, workflow),
            workflow=workflow_of(workflow) if workflow else None,
            total_usage=Usage(**total),
            recoveries=recoveries,
        )
    if workflow is None:
        raise _unknown(name)
    return without_run.told([workflow_id])[0]


def _waited_for(run: Run, workflow: WorkflowRecord | None) -> list[Interruption]:
    """What a run asked, with whether its workflow still waits for it."""
    if workflow is None or workflow.status in ("PENDING", "ENQUEUED", "DELAYED"):
        return run.interruptions
    return [
        one
        if one.resolved_at is not None
        else dataclasses.replace(one, is_waited_for=False, obstacle=run.obstacle)
        for one in run.interruptions
    ]


async def get_traceback(run_id: str) -> str | None:
    """The traceback of what a run failed with, without secrets and without variables' values.

    Args:
        run_id: The id of the run, or of a workflow, whose newest run is meant.

    Returns:
        Lines; None where none is recorded: the run did not fail, or failed under a version of
        Timestep that recorded none.

    Raises:
        UnknownRunError: There is no such run.
        DatabaseError: The database refused, or is away.
    """

    def work() -> str | None:
        id_ = _id_of(str(run_id))
        if id_ is None:
            return None
        envelope = displayed(reading(lambda connection: runs.error(connection, id_)))
        found = envelope.get("traceback") if isinstance(envelope, dict) else None
        return found if isinstance(found, str) else None

    return await asyncio.to_thread(work)


async def list_runs(
    *,
    status: str | None = None,
    agent: str | None = None,
    entrypoint: str | None = None,
    session_id: str | None = None,
    workflow_id: str | None = None,
    version: str | None = None,
    since: datetime.datetime | None = None,
    until: datetime.datetime | None = None,
    text: str | None = None,
    tag: str | Sequence[str] | None = None,
    nested: bool = True,
    brief: bool = False,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[Run]:
    """Runs, newest first; runs inside runs are among them, with their `parent_run_id`.

    A workflow that waits, failed or was cancelled before it began a run is among them by what DBOS
    knows of it, with no `id`, by when it was created; not one that code started inside another.
    For `entrypoint`, `version` and `text`, and for a `tag` of more than 2,000 workflows, a page
    looks at 2,000 runs that the other filters let through: it may have fewer runs than `limit`, or
    none, and a `next_cursor` that goes on.

    Args:
        status: One of `running`, `completed`, `failed`, `interrupted`, `cancelled`.
        agent: The name of the agent that began.
        entrypoint: The name of the workflow's function.
        session_id: The id of a `DatabaseSession`.
        workflow_id: The workflow that they belong to.
        version: The version of the application that their workflow belongs to, as DBOS has it.
        since: Only runs that began then or later.
        until: Only runs that began before.
        text: What the run's input or its final output, both as JSON, its error or the id of its
            workflow says, in small letters or capitals; without a run, the id.
        tag: What their workflow is tagged with: `team:billing`, or `team` for any value; or
            several, all of which it has.
        nested: Whether runs inside other runs are among them.
        brief: Without `input` and `interruptions`, with the beginnings of `final_output`, as text,
            and of the error's message.
        limit: 1 to 200.
        cursor: The `next_cursor` of an earlier page, with the same filters.

    Raises:
        InvalidQueryError: A filter, the limit or the cursor cannot be used.
        DatabaseError: The database refused, or is away.
    """
    wanted = filters.checked(
        status=status,
        agent=agent,
        entrypoint=entrypoint,
        session_id=session_id,
        workflow_id=workflow_id,
        version=version,
        since=since,
        until=until,
        text=text,
        tag=tag,
    )
    wanted = dataclasses.replace(wanted, nested=nested)
    before, size = listed_place(cursor), page_size(limit)

    def read(connection: Any, system: Any, schema: str) -> _Found:
        known = filters.known(wanted)
        rows, end = runs.list_runs(
            connection,
            schema,
            known,
            before=None if before is None else before[:2],
            limit=size + 1,
            brief=brief,
        )
        # No workflow without a run is on the page that was created before the last run of it.
        last = rows[-1]["started_at"] if len(rows) > size else None if end is None else end[0]
        others, their_end = without_run.listed(
            connection, system, schema, wanted, before=before, since=last
        )
        ends = [place for place in (None if end is None else (*end, ""), their_end) if place]
        return rows, others[: size + 1], max(ends, default=None)

    def work() -> Page[Run]:
        if version is not None and database().mirror is not None:
            raise InvalidQueryError(f"version {quoted(version)}: runs in PGlite have none")
        rows, others, end = reading_both(read)
        found = [*_whole(rows, brief=brief), *without_run.told(others, brief=brief)]
        # What comes after the end was looked for in one of both only.
        found = [run for run in found if end is None or _place(run) >= end]
        found.sort(key=_place, reverse=True)
        page = page_of(found[: size + 1], size, lambda run: written(_place(run)))
        if page.next_cursor is not None or end is None:
            return page
        return Page(page.items, cursor_of(written(end)))

    return await asyncio.to_thread(work)


_Found = tuple[list[runs.Row], list[str], RunPlace | None]
"""Runs, the ids of workflows without one, and the place up to which both were looked for."""


def _place(run: Run) -> RunPlace:
    began = run.started_at or datetime.datetime.min.replace(tzinfo=datetime.UTC)
    if run.id is None:
        return began, NO_RUN, str(run.workflow_id)
    return began, uuid.UUID(run.id), ""


async def list_items(run_id: str, *, limit: int = 100, cursor: str | None = None) -> Page[RunItem]:
    """A run's items in their order.

    Args:
        run_id: The id of the run, or of a workflow, whose newest run is meant.
        limit: 1 to 200.
        cursor: The `next_cursor` of an earlier page.

    Raises:
        InvalidQueryError: The limit or cursor cannot be used.
        UnknownRunError: There is no such run.
        DatabaseError: The database refused, or is away.
    """
    size = page_size(limit)
    after = item_place(cursor)

    def work() -> list[RunItem]:
        id_ = _id_of(str(run_id))
        if id_ is None:
            return []
        rows = reading(
            lambda connection: runs.list_items(connection, id_, after=after, limit=size + 1)
        )
        return [of_row(RunItem, row) for row in rows]

    return page_of(await asyncio.to_thread(work), size, lambda item: item.position)


async def list_tool_calls(run_id: str) -> list[ToolCall]:
    """A run's tool calls in the order in which the model asked for them.

    Args:
        run_id: The id of the run, or of a workflow, whose newest run is meant.

    Raises:
        UnknownRunError: There is no such run.
        DatabaseError: The database refused, or is away.
    """

    def work() -> list[ToolCall]:
        id_ = _id_of(str(run_id))
        if id_ is None:
            return []
        rows = reading(lambda connection: runs.list_tool_calls(connection, id_))
        return [of_row(ToolCall, row) for row in rows]

    return await asyncio.to_thread(work)


def _id_of(name: str) -> uuid.UUID | None:
    """The id of a run, or of a workflow's newest one; None: that has not begun one.

    Raises:
        UnknownRunError: There is neither.
    """
    check_known(name)
    found = reading(lambda connection: runs.find_run(connection, name))
    if found is not None:
        return uuid.UUID(str(found["id"]))
    if workflow_record(name) is None:
        raise _unknown(name)
    return None


def _unknown(name: str) -> UnknownRunError:
    return UnknownRunError(f"there is no run and no workflow {quoted(name)}: see `timestep runs`")


def _whole(rows: Sequence[dict[str, Any]], *, brief: bool = False) -> list[Run]:
    """Runs with what they ask, and with who executes them."""
    if not rows:
        return []
    runs_ = [run_of(row, []) for row in rows] if brief else _with_interruptions(rows)
    open_ = [run for run in runs_ if run.completed_at is None and run.workflow_id is not None]
    found = executions.of_workflows(_workflows_of(open_))
    workflows = _workflows_of(runs_)
    tagged = attributes_of(workflows)
    newest = reading(lambda connection: runs.newest(connection, workflows))
    return [
        dataclasses.replace(
            run,
            tags=tags_of(tagged.get(run.workflow_id or "")),
            is_newest=run.id in newest,
            **({} if run.completed_at else _standing(found.get(run.workflow_id))),
        )
        for run in runs_
    ]


def _workflows_of(runs_: Sequence[Run]) -> set[str]:
    return {run.workflow_id for run in runs_ if run.workflow_id is not None}


def _standing(found: Execution | None) -> dict[str, Any]:
    """What a run is told of how its workflow stands, as `Run` names it."""
    return {} if found is None else {**vars(found)}


def _with_interruptions(rows: Sequence[dict[str, Any]]) -> list[Run]:
    ids = [row["id"] for row in rows]
    asked = reading(lambda connection: interruptions.of_runs(connection, ids))
    return [
        run_of(row, [one for one in asked if row["id"] in (one["run_id"], one["root_run_id"])])
        for row in rows
    ]
