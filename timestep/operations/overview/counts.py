"""Counts runs by status, as far as that is quick."""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

from timestep.errors import InvalidQueryError
from timestep.journal.fail_fast_read import reading_both
from timestep.journal.reads.database import database
from timestep.operations.overview import filters, without_run
from timestep.operations.queries.records import STATUSES, Status
from timestep.runtime.terminal import quoted
from timestep.store.reads import runs as store

if TYPE_CHECKING:
    from timestep.operations.queries.records import RunFilters

MOST = 2_000
"""Runs of a status that are counted: each is read, wherever in a large table it is."""


@dataclass(frozen=True)
class Counts:
    """How many runs there are."""

    by_status: dict[Status, int]
    least: frozenset[Status] = frozenset()
    """Those of which there may be more: only the newest were looked at."""

    def number(self, *statuses: Status) -> int:
        """How many have one of these statuses, or at least have; of each, `MOST` and one more."""
        return sum(self.by_status[one] for one in statuses)

    def is_least(self, *statuses: Status) -> bool:
        """Whether there may be more of one of these statuses than were looked at."""
        return not self.least.isdisjoint(statuses)

    def shown(self, *statuses: Status) -> str:
        """The same as people read it: `2,000+` where there are more, or may be."""
        counts = [self.by_status[one] for one in statuses]
        is_more = max(counts) > MOST or self.is_least(*statuses)
        return f"{sum(min(one, MOST) for one in counts):,}" + ("+" if is_more else "")


async def count_runs(*, nested: bool = True, **given: Unpack[RunFilters]) -> Counts:
    """Count what `list_runs` would list, for each status, up to `MOST`.

    Args:
        nested: Whether runs inside other runs are counted.
        given: As `list_runs` takes them; `status` says nothing.

    Raises:
        InvalidQueryError: A filter cannot be used.
        DatabaseError: The database refused, or is away.
    """
    wanted = dataclasses.replace(filters.checked(**given), nested=nested)

    def read(connection: Any, system: Any, schema: str) -> Counts:
        known = filters.known(wanted)
        found, is_least = store.counts_by_status(connection, schema, known, limit=MOST + 1)
        least = set(STATUSES) if is_least else set()
        counts = {status: found.get(status, 0) for status in STATUSES}
        for status, count in counts.items():
            if count <= MOST:
                of_status = dataclasses.replace(wanted, status=status)
                others, end = without_run.listed(connection, system, schema, of_status)
                counts[status] += len(others)
                if end is not None:
                    least.add(status)
        return Counts(counts, frozenset(least))

    def work() -> Counts:
        if wanted.version is not None and database().mirror is not None:
            raise InvalidQueryError(f"version {quoted(wanted.version)}: runs in PGlite have none")
        return reading_both(read)

    return await asyncio.to_thread(work)
