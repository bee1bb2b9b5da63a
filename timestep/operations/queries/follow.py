"""Follows a run from outside its workflow: its items, and what its models say meanwhile."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

from timestep.errors import InvalidQueryError, UnknownRunError
from timestep.journal.fail_fast_read import reading
from timestep.journal.reads.database import database
from timestep.operations.arguments import check_known
from timestep.runtime.terminal import quoted
from timestep.serialization.documents.forms import unescaped
from timestep.serialization.documents.json_text import restored
from timestep.store import streams
from timestep.store.reads import runs

POLL_EVERY = 0.2
"""Seconds between two looks at a run that has nothing new."""

_ROWS = 200
"""How many items and batches of events are read at once."""


@dataclass(frozen=True)
class RunEvent:
    """Something that became visible of a run."""

    cursor: str
    """Where it stands: `follow(..., after=cursor)` goes on with what comes after it."""
    kind: Literal["item", "model"]
    """An item of the run as it is recorded, or an event of a model's stream."""
    type: str
    """The item's type (`message_output_item`, …), or the event's (`response.created`, …)."""
    run_id: str
    turn: int
    """Counted from 1; 0 before the first turn."""
    position: int
    """Of an item: its place in the run; an item that changed comes again with the same one. Of
    a model's event: its place in the attempt, counted from 0."""
    attempt: int | None
    """Of a model's event: which attempt at this answer it belongs to, counted from 1, over all
    executions. A higher one replaces what the lower ones said."""
    response_id: str | None
    """Of a model's event: the row of `model_responses` that holds the answer, once there is one."""
    data: Any
    """The item, or the event as the provider's API writes it."""


async def follow(
    run_id_or_workflow_id: str, *, after: str | None = None
) -> AsyncIterator[RunEvent]:
    """What a run does, as it becomes visible, from any process that reaches the database.

    Items come as they are recorded. Events of a streamed model's call come while it speaks, a
    moment late: they are recorded in batches. All have one order, in which each is given once.

    Args:
        run_id_or_workflow_id: A run, without those inside it; or a workflow, with all its runs.
        after: The `cursor` of the last event that was seen; None: from the beginning.

    Yields:
        Events, until the run or the workflow is over and all of it was given. One that waits
        for a person is not over.

    Raises:
        InvalidQueryError: `after` is not a cursor.
        UnknownRunError: There is no such run or workflow.
        DatabaseError: The database refused, or is away; go on later with the last cursor.
    """
    sequence, seen = _place(after)
    asked = str(run_id_or_workflow_id)
    check_known(asked, "run or workflow")
    id_ = runs.as_uuid(asked)
    workflow_id = None
    if id_ is not None:
        workflow_id = await asyncio.to_thread(
            lambda: reading(lambda connection: streams.workflow_of(connection, id_))
        )
    is_run = workflow_id is not None
    while True:
        is_over, rows = await asyncio.to_thread(
            lambda start=sequence: reading(  # type: ignore[misc]  # mypy infers no default
                lambda connection: streams.followed(
                    connection,
                    database().schema,
                    run_id=id_ if is_run else None,
                    workflow_id=None if is_run else asked,
                    sequence=start,
                    limit=_ROWS,
                ),
                about=[workflow_id or asked],
            )
        )
        if is_over is None:
            raise UnknownRunError(f"there is no run or workflow {quoted(asked)}")
        for row in rows:
            for event in _events(row):
                if _place(event.cursor) > (sequence, seen):
                    yield event
            sequence, seen = row["sequence"] + 1, -1
        if len(rows) == _ROWS:
            continue
        if is_over:
            return
        await asyncio.sleep(POLL_EVERY)


def _events(row: dict[str, Any]) -> list[RunEvent]:
    is_item = row["kind"] == "item"
    data = restored(row["data"])
    found = [data] if is_item else map(unescaped, data)
    return [
        RunEvent(
            cursor=f"{row['sequence']}.{index}",
            kind=row["kind"],
            type=row["item_type"] if is_item else _type(one),
            run_id=str(row["run_id"]),
            turn=row["turn"],
            position=row["position"] + index,
            attempt=row["attempt"],
            response_id=None if is_item else str(row["model_response_id"]),
            data=one,
        )
        for index, one in enumerate(found)
    ]


def _type(event: Any) -> str:
    """An event's own type; the class of one that only a model of the user's own yields."""
    if not isinstance(event, dict):
        return type(event).__name__
    return str(event.get("type") or event.get("$type"))


def _place(cursor: str | None) -> tuple[int, int]:
    """The number that a cursor names, and the index there; the first ones where there is none."""
    if cursor is None:
        return 0, -1
    found = re.fullmatch(r"(\d{1,18})\.(\d{1,9})", cursor)
    if found is None:
        raise InvalidQueryError(f"after={quoted(cursor)} is not the cursor of an event")
    return int(found[1]), int(found[2])
