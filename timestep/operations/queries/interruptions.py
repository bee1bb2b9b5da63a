"""Lists interruptions: what runs ask people."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Any

from timestep.database.error_translation import translated
from timestep.errors import UnknownRunError
from timestep.journal.reads.database import database
from timestep.operations.arguments import check_filter
from timestep.operations.queries import executions
from timestep.operations.queries.executions import Execution
from timestep.operations.queries.pagination import Page, interruption_place, page_of, page_size
from timestep.operations.queries.records import Interruption
from timestep.runtime.cancellation import in_thread
from timestep.runtime.terminal import quoted
from timestep.serialization.documents.json_text import displayed
from timestep.store import interruptions as store
from timestep.store import parked_workflows


async def list_interruptions(
    *,
    workflow_id: str | None = None,
    run_id: str | uuid.UUID | None = None,
    resolved: bool | None = False,
) -> list[Interruption]:
    """Interruptions, oldest first.

    Args:
        workflow_id: Only those of this workflow.
        run_id: Only those of this run.
        resolved: False: undecided; True: decided; None: both.

    Raises:
        UnknownRunError: `run_id` is not an id.
        InvalidQueryError: `workflow_id` is not text that an id can be.
    """
    check_filter("workflow_id", workflow_id)
    run = _uuid(run_id)

    def read(connection: Any) -> list[dict[str, Any]]:
        return store.select(connection, workflow_id=workflow_id, run_id=run, resolved=resolved)

    return await _interruptions(await database().read(read))


async def page_of_interruptions(
    *, workflow_id: str | None, resolved: bool | None, limit: int, cursor: str | None
) -> Page[Interruption]:
    """Interruptions as `list_interruptions` gives them, in parts.

    Args:
        workflow_id: Only those of this workflow.
        resolved: False: undecided; True: decided; None: both.
        limit: 1 to 200.
        cursor: The `next_cursor` of an earlier page, with the same filters.

    Raises:
        InvalidQueryError: The filter, the limit or the cursor cannot be used.
    """
    check_filter("workflow_id", workflow_id)
    size, after = page_size(limit), interruption_place(cursor)

    def read(connection: Any) -> list[dict[str, Any]]:
        return store.select(
            connection, workflow_id=workflow_id, resolved=resolved, after=after, limit=size + 1
        )

    found = await _interruptions(await database().read(read))
    return page_of(found, size, lambda one: one.id)


def _uuid(value: str | uuid.UUID | None) -> uuid.UUID | None:
    if value is None or isinstance(value, uuid.UUID):
        return value
    try:
        return uuid.UUID(value)
    except ValueError:
        raise UnknownRunError(f"{quoted(value)} is not the id of a run") from None


async def _interruptions(rows: list[dict[str, Any]]) -> list[Interruption]:
    open_ = {row["workflow_id"] for row in rows if row["resolved_at"] is None} - {None}
    ended = await in_thread(lambda: ended_workflows(open_))
    found = await in_thread(lambda: executions.of_workflows(open_))
    return [_interruption(row, ended, found.get(row["workflow_id"])) for row in rows]


def ended_workflows(workflow_ids: Collection[str | None]) -> dict[str | None, str]:
    """Those of the workflows that have ended by themselves, with how: nothing in them waits.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    if not workflow_ids:
        return {}
    with translated(database().url), database().system() as (connection, schema):
        return parked_workflows.ended(connection, schema, workflow_ids)


def _interruption(
    row: dict[str, Any], ended: Collection[str | None], found: Execution | None
) -> Interruption:
    documents = ("arguments", "arguments_schema", "resolution_arguments")
    apart = ("id", "run_id", *documents, "is_waited_for", "obstacle")
    names = [name for name in Interruption.__dataclass_fields__ if name not in apart]
    is_open = row["resolved_at"] is None
    return Interruption(
        **{name: row[name] for name in names},
        id=str(row["id"]),
        run_id=str(row["run_id"]),
        **{name: displayed(row[name]) for name in documents},
        is_waited_for=not is_open or row["workflow_id"] not in ended,
        obstacle=found.obstacle if is_open and found is not None else None,
    )
