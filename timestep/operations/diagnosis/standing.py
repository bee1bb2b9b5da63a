"""Tells which hosts there are, and what nobody goes on with and why."""

from __future__ import annotations

import asyncio
import datetime
from dataclasses import dataclass

from timestep.journal.fail_fast_read import reading
from timestep.operations.queries import executions
from timestep.store.reads.overview import standing as store

LOOKED_AT = 200
"""Runs of each open status that are looked at: those that have been going on for longest."""


@dataclass(frozen=True)
class Host:
    """A host that claimed to be an executor, and did not let go of it."""

    application: str
    executor_id: str
    version: str | None
    """Of the application; None: it has not told it yet."""
    node: str
    """The machine's name."""
    process_id: int
    claimed_at: datetime.datetime
    seen_at: datetime.datetime
    is_live: bool


@dataclass(frozen=True)
class Stuck:
    """A workflow that nobody goes on with, as far as is known."""

    workflow_id: str
    status: str
    started_at: datetime.datetime
    why: str
    """Why nobody does, and what helps."""


async def hosts() -> list[Host]:
    """The hosts that there are, and those that went without a word.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    rows = await asyncio.to_thread(lambda: reading(store.hosts))
    names = Host.__dataclass_fields__
    return [Host(**{name: row[name] for name in names}) for row in rows]


async def stuck() -> list[Stuck]:
    """The workflows that nobody goes on with, the oldest first.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    return await asyncio.to_thread(_stuck)


def _stuck() -> list[Stuck]:
    rows = reading(lambda connection: store.oldest_open(connection, LOOKED_AT))
    begun = {row["workflow_id"]: (row["status"], row["started_at"]) for row in rows}
    waiting = executions.set_back_without_run(None)
    known = {**{id_: ("running", at) for id_, at in waiting.items()}, **begun}
    standing = executions.of_workflows(known)
    return [
        Stuck(id_, status, at, found.obstacle)
        for id_, (status, at) in known.items()
        if (found := standing.get(id_)) is not None and found.is_stuck and found.obstacle
    ]
