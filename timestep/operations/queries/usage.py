"""Reports what many runs used and cost."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
from typing import Any, get_args

from timestep.database.error_translation import translated
from timestep.errors import DatabaseUnreachableError, InvalidQueryError
from timestep.journal.reads.database import database
from timestep.operations.arguments import checked_moment
from timestep.operations.queries.records import UsageBy, UsageRow
from timestep.store.reads import usage


async def usage_report(
    *, by: UsageBy = "agent", since: datetime.datetime | None = None
) -> list[UsageRow]:
    """Tokens and estimated cost of runs, those inside others included.

    Args:
        by: What a row stands for. An agent's has what its own requests used, in whichever run;
            an entrypoint's has what the runs inside its runs used, too.
        since: Runs that began then or later; None: all runs.

    Returns:
        Days in their order; all else by what it cost, and used, the largest first.

    Raises:
        InvalidQueryError: `by` is none of these, or `since` has no time zone.
        DatabaseError: The database refused, or is away.
    """
    _check(by)
    begin = None if since is None else checked_moment("since", since)
    rows = await asyncio.to_thread(lambda: _usage(by, begin))
    return [
        UsageRow(
            cost=None if row["estimated_cost"] is None else float(row["estimated_cost"]),
            **{
                spec.name: row[spec.name]
                for spec in dataclasses.fields(UsageRow)
                if spec.name != "cost"
            },
        )
        for row in rows
    ]


def usage_sql(*, by: UsageBy, since: datetime.datetime | None = None) -> str:
    """A statement of SQL that tells what `usage_report` tells, for people who go on from it.

    It reads each request, where the report reads sums: of very many it takes longer.

    Raises:
        InvalidQueryError: `by` is none of these, or `since` has no time zone.
    """
    _check(by)
    return usage.plain_sql(by, None if since is None else checked_moment("since", since))


def _check(by: str) -> None:
    if by not in get_args(UsageBy):
        raise InvalidQueryError(f"by {by!r} is not one of {', '.join(get_args(UsageBy))}")


def _usage(by: UsageBy, since: datetime.datetime | None) -> list[dict[str, Any]]:
    found = database()

    def attempt() -> list[dict[str, Any]]:
        with translated(found.url):
            with found.transactions.begin() as connection:
                usage.move_on(connection)
            with found.snapshots.begin() as connection:
                return usage.report(connection, by, since)

    try:
        return attempt()
    except DatabaseUnreachableError:
        # A pooled connection that was lost while nobody looked: a new one tells.
        return attempt()
