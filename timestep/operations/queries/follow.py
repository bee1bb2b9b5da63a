"""Follows a run from outside its workflow: its items, what its models say, and how it stands."""

from __future__ import annotations

import asyncio
import datetime
import re
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from timestep.errors import InvalidQueryError, UnknownRunError
from timestep.journal.fail_fast_read import reading
from timestep.journal.reads.database import database
from timestep.operations.arguments import check_known
from timestep.operations.queries.records import RunEvent
from timestep.runtime.terminal import quoted
from timestep.serialization.documents.forms import unescaped
from timestep.serialization.documents.json_text import displayed
from timestep.store import streams
from timestep.store.reads import runs
from timestep.store.streams import Followed, Found

POLL_EVERY = 0.2
"""Seconds between two looks at a run that has nothing new."""

_ROWS = 200
"""How many items, batches of events and changes are read of a run at once."""
_BYTES = 1 << 17
"""How many bytes of them, about, in the database's own form."""

Place = tuple[int, int]
"""A number in the order of what became visible, and the index there: the last that was seen."""


Target = tuple[uuid.UUID | None, str | None]
"""A run and its workflow, if it has one; or a workflow, with all its runs."""
ALL: Target = (None, None)
"""The changes of all runs."""


async def follow(
    run_id_or_workflow_id: str, *, after: str | None = None
) -> AsyncIterator[RunEvent]:
    """What a run does, as it becomes visible, from any process that reaches the database.

    Items come as they are recorded, and so do changes of the run's status and its questions.
    Events of a streamed model's call come while it speaks, a moment late: they are recorded in
    batches. All have one order, in which each is given once.

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
    place = place_of(after)
    target = await asyncio.to_thread(target_of, run_id_or_workflow_id)
    await asyncio.to_thread(check_drawn, target, after)
    while True:
        asked = Followed(*target, place[0])
        (found,) = await asyncio.to_thread(read, [asked])
        if found.is_over is None:
            raise _unknown(run_id_or_workflow_id)
        for row in found.rows:
            for event in events_of(row):
                if place_of(event.cursor) > place:
                    yield event
            place = after_row(row)
        if found.is_more:
            continue
        if found.is_over:
            return
        await asyncio.sleep(POLL_EVERY)


def target_of(run_id_or_workflow_id: str) -> Target:
    """The run that an id means, and its workflow; without a run, all runs of the workflow.

    Raises:
        UnknownRunError: There is no such run or workflow.
        DatabaseError: The database refused, or is away.
    """
    asked = str(run_id_or_workflow_id)
    check_known(asked, "run or workflow")
    id_ = runs.as_uuid(asked)
    if id_ is not None:
        workflow_id = reading(lambda connection: streams.workflow_of(connection, id_))
        if workflow_id is not None:
            return id_, workflow_id or None
    (found,) = read([Followed(None, asked, _NEVER)])
    if found.is_over is None:
        raise _unknown(asked)
    return None, asked


def check_drawn(target: Target, cursor: str | None) -> None:
    """Refuse the cursor of another database, or of one that was put back: what comes now would be
    taken for what was seen.

    Raises:
        InvalidQueryError: No event that there was has the cursor.
        DatabaseError: The database refused, or is away.
    """
    if cursor is None:
        return
    last = reading(lambda connection: streams.drawn(connection, of_all=target == ALL))
    if place_of(cursor)[0] > last:
        raise InvalidQueryError(
            f"{quoted(cursor)} is the cursor of an event that this database does not have: begin "
            "without one"
        )


def is_over(target: Target, cursor: str | None) -> bool:
    """Whether a run or a workflow is over, and nothing comes after a cursor."""
    place = place_of(cursor)
    (found,) = read([Followed(*target, place[0])])
    news = (event for row in found.rows for event in events_of(row))
    return bool(found.is_over) and not any(place_of(event.cursor) > place for event in news)


_NEVER = (1 << 63) - 1
"""The number of nothing that there is."""


def _unknown(asked: str) -> UnknownRunError:
    return UnknownRunError(f"there is no run or workflow {quoted(asked)}: see `timestep runs`")


def read(asked: Sequence[Followed]) -> list[Found]:
    """What became visible of runs and workflows, in one query.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    return reading(
        lambda connection: streams.followed(
            connection, database().schema, asked, limit=_ROWS, size=_BYTES
        ),
        about=[one.workflow_id for one in asked if one.workflow_id is not None],
    )


def events_of(row: dict[str, Any]) -> list[RunEvent]:
    """The events that a row of what became visible stands for, in their order."""
    kind, data = row["kind"], row["data"]
    if kind == "model":
        events = displayed(data)
        found = [unescaped(one) for one in events] if isinstance(events, list) else [events]
    elif kind == "item":
        found = [displayed(data)]
    else:
        found = [change_of(data)]
    return [
        RunEvent(
            cursor=f"{row['sequence']}.{index}",
            kind=kind,
            type=row["type"] or _type(one),
            run_id=str(row["run_id"]),
            turn=row["turn"],
            position=row["position"] + index,
            attempt=row["attempt"],
            response_id=str(row["model_response_id"]) if kind == "model" else None,
            data=one,
            created_at=row["created_at"].astimezone(datetime.UTC),
            duration_ms=row["duration_ms"],
        )
        for index, one in enumerate(found)
    ]


def change_of(recorded: Any) -> Any:
    """What is told of a change, as it was recorded and with times in UTC."""
    data = displayed(recorded)
    if not isinstance(data, dict):
        return data
    for question in data.get("questions", ()):
        question["arguments"] = displayed(question["arguments"])
        for name in ("created_at", "expires_at"):
            if question[name] is not None:
                moment = datetime.datetime.fromisoformat(question[name])
                question[name] = moment.astimezone(datetime.UTC).isoformat()
    return data


def _type(event: Any) -> str:
    """An event's own type; the class of one that only a model of the user's own yields."""
    if not isinstance(event, dict):
        return type(event).__name__
    return str(event.get("type") or event.get("$type"))


def after_row(row: dict[str, Any]) -> Place:
    """The place after all events of a row."""
    return row["sequence"] + 1, -1


def place_of(cursor: str | None) -> Place:
    """The place that a cursor names; the first one where there is none.

    Raises:
        InvalidQueryError: It is not a cursor.
    """
    if cursor is None:
        return 0, -1
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise InvalidQueryError(f"{quoted(cursor)} is not the cursor of an event")
    return int(found[1]), int(found[2])


_CURSOR = re.compile(r"([0-9]{1,18})\.([0-9]{1,9})(?:\.end)?")
