"""Reads the changes of all runs in one order, in which each is given once.

They are numbered one after the other, and a transaction that drew a number may become visible
after one that drew a later one. What readers are given ends before the first number that is
missing, until nobody can bring it any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from timestep.store.streams import CHANGE, drawn

_LOOKED_AT = 1000
"""How many numbers are looked at in one query."""

_NUMBERS = f"""
    SELECT number FROM timestep.run_changes WHERE number > %(after)s::bigint
    ORDER BY number LIMIT {_LOOKED_AT}"""

# Whoever draws a number has this lock of the table before, and until its transaction has ended.
_WRITERS = """
    SELECT DISTINCT virtualtransaction FROM pg_locks
    WHERE locktype = 'relation' AND relation = 'timestep.run_changes'::regclass
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND mode = 'RowExclusiveLock' AND granted"""

_CHANGES = f"""
    SELECT c.number AS sequence, split_part(c.change, '.', 1) AS kind, c.run_id, c.turn,
        0 AS position, c.change AS type, c.created_at, {CHANGE} AS data, NULL AS attempt,
        NULL AS duration_ms
    FROM timestep.run_changes c JOIN public.runs r ON r.id = c.run_id
    WHERE c.number BETWEEN %(first)s::bigint AND %(last)s::bigint AND r.deleted_at IS NULL
    ORDER BY c.number LIMIT %(limit)s"""


class Settled:
    """Knows up to which number nothing comes any more that is not visible."""

    def __init__(self) -> None:
        self._until: int | None = None
        self._seen = -1
        """A number that was drawn: who drew it, or one before it, is a writer, or has ended."""
        self._writers: set[str] = set()
        """Those that went on when it was seen."""

    def until(self, connection: sa.Connection) -> int | None:
        """The number, after it was moved on as far as it can be.

        None: it is not known yet, as somebody goes on that wrote when it was asked for first.

        Args:
            connection: Each of its statements sees what had ended when that began. Nothing is
                locked, and nobody waits.
        """
        if self._seen < 0:
            self._note(connection, drawn(connection, of_all=True))
        while True:
            if self._is_awaited() and not self._writers & _writers(connection):
                self._until = self._seen
            if self._until is None:
                return None
            found = connection.exec_driver_sql(_NUMBERS, {"after": self._until})
            numbers = list(found.scalars())
            for number in numbers:
                if number == self._until + 1:
                    self._until = number
            if self._is_awaited():
                return self._until
            if numbers and numbers[-1] > self._until:
                self._note(connection, numbers[-1])
            elif len(numbers) < _LOOKED_AT:
                return self._until

    def _is_awaited(self) -> bool:
        return self._until is None or self._seen > self._until

    def _note(self, connection: sa.Connection, number: int) -> None:
        self._seen = number
        self._writers = _writers(connection)


def _writers(connection: sa.Connection) -> set[str]:
    return set(connection.exec_driver_sql(_WRITERS).scalars())


def read(
    connection: sa.Connection, settled: Settled, firsts: Sequence[int | None], limit: int
) -> tuple[int | None, list[list[dict[str, Any]]]]:
    """The changes from each of these numbers on, as `streams.followed` gives those of a run.

    Args:
        connection: Where to read; not in a transaction.
        settled: Is moved on.
        firsts: The first number that is asked for; None: nothing is.
        limit: How many at most, for each of them.

    Returns:
        Up to which number nothing more comes, None if that is not known yet; and the rows for each,
        whose `sequence` is the number over all runs.
    """
    last = settled.until(connection)
    found: list[list[dict[str, Any]]] = []
    for first in firsts:
        if last is None or first is None or first > last:
            found.append([])
        else:
            values = {"first": first, "last": last, "limit": limit}
            rows = connection.exec_driver_sql(_CHANGES, values).mappings()
            found.append([dict(row) for row in rows])
    return last, found
