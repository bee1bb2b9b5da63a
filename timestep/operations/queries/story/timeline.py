"""Reads a run's timeline a part at a time: however long the run is, a part costs the same."""

from __future__ import annotations

import asyncio
import datetime
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from timestep.errors import InvalidQueryError, UnknownRunError
from timestep.journal.fail_fast_read import reading
from timestep.operations.arguments import check_filter
from timestep.operations.queries.pagination import cursor_of, match_place
from timestep.operations.queries.story.making import Rows, turns_of
from timestep.operations.queries.story.steps import Turn
from timestep.runtime.terminal import quoted
from timestep.store.reads import runs
from timestep.store.timeline import inside, matches
from timestep.store.timeline import rows as store

ITEMS = 60
"""Items of a part, about: whole turns, unless one alone has more."""
LONGEST_INSTRUCTIONS = store.INSTRUCTIONS
"""Characters of an agent's instructions that are read: those that are as long may be longer."""
_MATCHES = 50
"""What is looked for at once."""
ONLY: tuple[matches.Only, ...] = get_args(matches.Only)
_IN_CALL = 20
"""Runs inside that are shown of a call, at most."""
_MOST = 300
"""Answers, checks or runs inside that a part has at most."""

Which = Literal["after", "before", "newest", "turn"]


@dataclass(frozen=True)
class Timeline:
    """A part of what a run did."""

    turns: list[Turn]
    before: int | None
    """The position before which there is more; None: there is none."""
    after: int | None
    """The position after which there is more; None: there is none."""
    cursor: str
    """Of the newest event of the run, and its workflow's others, that a part read now shows."""
    is_cut_off: bool
    """Whether the last turn goes on after it."""


@dataclass(frozen=True)
class Matches:
    """What is looked for in a run: turns with those steps only."""

    turns: list[Turn]
    count: int
    """How many there are here."""
    next_cursor: str | None
    """What to ask for the next ones with; None: these are the last."""


async def part_of(
    run_id: str,
    workflow_id: str | None,
    *,
    goes_on: bool,
    ended_at: datetime.datetime | None = None,
    which: Which = "newest",
    place: int = 0,
    limit: int = ITEMS,
) -> Timeline:
    """Some turns of a run.

    Args:
        run_id: The run.
        workflow_id: Its workflow, all of whose runs the cursor is to be of; None: of the run.
        goes_on: Whether the run is executed.
        ended_at: When it ended; None: it has not.
        which: The turns `after` or `before` a position, the `newest`, or those from a `turn` on.
        place: The position, or the turn's number.
        limit: About how many items it has.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    id_ = uuid.UUID(run_id)

    def read(connection: Any) -> Timeline:
        # Before all else: what comes meanwhile is told once more.
        cursor = f"{store.seen(connection, id_, workflow_id)}.0"
        part = store.part(connection, id_, which, place, limit)
        found = _rows(connection, id_, part, goes_on, ended_at)
        return Timeline(
            turns_of(found),
            part.items[0]["position"] if part.before is not None else None,
            part.items[-1]["position"] if part.after is not None else None,
            cursor,
            part.is_cut_off,
        )

    return await asyncio.to_thread(lambda: reading(read))


def _rows(
    connection: Any,
    run_id: uuid.UUID,
    part: store.Part,
    goes_on: bool,
    ended_at: datetime.datetime | None,
) -> Rows:
    items = part.items
    first = items[0]["position"] if part.before is not None else None
    last = items[-1]["position"] if part.after is not None else None
    turns = (
        items[0]["turn"] if part.before is not None else 0,
        items[-1]["turn"] if part.after is not None else 2**31 - 1,
    )
    own = {row["model_response_id"] for row in items} - {None}
    answers = store.answers(connection, run_id, first, last, own, _MOST)
    answers = [row for row in answers if turns[0] <= row["turn"] <= turns[1]]
    calls = {row["tool_call_id"] for row in items} - {None}
    return rows_with(
        connection,
        run_id,
        items,
        answers,
        store.checks(connection, run_id, turns, _MOST),
        calls,
        beside=inside.beside_calls(
            connection,
            run_id,
            items[0]["created_at"] if part.before is not None else None,
            part.after["created_at"] if part.after is not None else None,
            _MOST,
        ),
        recoveries=store.recoveries(connection, run_id, turns, _MOST),
        goes_on=goes_on,
        ended_at=ended_at,
        is_cut=part.is_cut,
    )


def rows_with(
    connection: Any,
    run_id: uuid.UUID,
    items: list[store.Row],
    answers: list[store.Row],
    checks: list[store.Row],
    calls: set[Any],
    *,
    beside: list[store.Row],
    recoveries: list[store.Row],
    goes_on: bool,
    ended_at: datetime.datetime | None,
    is_cut: bool = False,
) -> Rows:
    """Rows of a run, with what belongs to its calls, and the agents.

    Runs that began inside of it, but are counted in no call, are `beside` those that are.
    """
    found = store.calls(connection, calls)
    acting = {row["agent_id"] for row in [*answers, *found]} - {None}
    sequences = [row["sequence"] for row in answers if row["sequence"] is not None]
    used: tuple[int, float | None] = (0, None)
    if is_cut:
        used = store.used_until(connection, run_id, items[0]["turn"])
    elif sequences:
        used = store.used_before(connection, run_id, min(sequences))
    return Rows(
        items=items,
        answers=answers,
        calls=found,
        checks=checks,
        checks_of_calls=store.checks_of_calls(connection, calls),
        questions=store.questions(connection, calls),
        inside=[*inside.of_calls(connection, run_id, calls, _IN_CALL), *beside],
        recoveries=recoveries,
        agents=store.agents(connection, acting),
        goes_on=goes_on,
        ended_at=ended_at,
        is_cut=is_cut,
        used_before=used,
    )


async def matches_of(
    run_id: str,
    *,
    goes_on: bool,
    only: str | None,
    text: str | None,
    cursor: str | None,
    ended_at: datetime.datetime | None = None,
) -> Matches:
    """What is looked for in a run, turn by turn.

    Args:
        run_id: The run.
        goes_on: Whether the run is executed.
        ended_at: When it ended; None: it has not.
        only: What `failed`, is `pending`, or was asked about (`approvals`); None: anything.
        text: What it says, in small letters or capitals; None: anything.
        cursor: The `next_cursor` of earlier matches.
        ended_at: When the run ended; None: it has not.

    Raises:
        InvalidQueryError: A filter or the cursor cannot be used, or none is given.
        DatabaseError: The database refused, or is away.
    """
    if only is not None and only not in ONLY:
        raise InvalidQueryError(f"only {quoted(only)} is not one of {', '.join(ONLY)}")
    check_filter("text", text)
    if only is None and text is None:
        raise InvalidQueryError("nothing is looked for: give 'only' or 'text'")
    after, id_ = match_place(cursor), uuid.UUID(run_id)

    def read(connection: Any) -> Matches:
        found = matches.matches(connection, id_, only, text, after, _MATCHES + 1)
        shown = found[:_MATCHES]
        of = {
            kind: {one.id for one in shown if one.kind == kind}
            for kind in ("call", "answer", "check", "item")
        }
        items = store.items_of(connection, id_, of["item"], of["call"], 3 * _MATCHES)
        rows = rows_with(
            connection,
            id_,
            items,
            store.answers_of(connection, id_, of["answer"], _MATCHES),
            store.checks_by_id(connection, id_, of["check"], _MATCHES),
            of["call"],
            beside=[],
            recoveries=[],
            goes_on=goes_on,
            ended_at=ended_at,
        )
        is_more = len(found) > len(shown)
        last = cursor_of([shown[-1].turn, str(shown[-1].id)]) if is_more else None
        return Matches(turns_of(rows), len(shown), last)

    return await asyncio.to_thread(lambda: reading(read))


async def inside_of(run_id: str, ids: Sequence[str]) -> list[str]:
    """Those of the ids that are of runs inside a run, or deeper inside, in their order.

    Args:
        run_id: The run.
        ids: Whatever somebody asks for; one that is given twice is told once.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    asked = dict.fromkeys(found for one in ids if (found := runs.as_uuid(one)) is not None)
    if not asked:
        return []
    id_ = uuid.UUID(run_id)
    known = await asyncio.to_thread(
        lambda: reading(lambda connection: inside.among(connection, id_, asked))
    )
    return [str(one) for one in asked if one in known]


async def whole_document(run_id: str, kind: str, row_id: str) -> str:
    """A document of a run in JSON, as the database has it.

    Args:
        run_id: The run.
        kind: What it is of its row.
        row_id: The row.

    Raises:
        UnknownRunError: The run has no such document.
        DatabaseError: The database refused, or is away.
    """
    ids = runs.as_uuid(run_id), runs.as_uuid(row_id)

    def read(connection: Any) -> str | None:
        return store.whole(connection, ids[0], kind, ids[1]) if ids[0] and ids[1] else None

    found = await asyncio.to_thread(lambda: reading(read))
    if found is None:
        raise UnknownRunError(f"run {quoted(run_id)} has no {quoted(kind)} {quoted(row_id)}")
    return found


def place_of(name: str, text: str) -> int:
    """The position or turn that somebody asks for.

    Raises:
        InvalidQueryError: It is none.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidQueryError(f"{name} {quoted(text)} is not a number: use a link of the page")
    return int(text)
