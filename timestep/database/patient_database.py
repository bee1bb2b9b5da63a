"""Does work over connections to one database, again for as long as that says "not now"."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import psycopg
import sqlalchemy as sa

from timestep.database import not_now
from timestep.database.async_pool import Values, sender_of
from timestep.database.engines import engine_for
from timestep.database.error_translation import translated
from timestep.database.waits import Patience
from timestep.store import step_commit

T = TypeVar("T")


class PatientDatabase:
    """One database. Once it was reached, what it refuses for now is tried again.

    Args:
        url: Where it is.
        engine: Makes connections to it; by default the process's engine for the URL.
    """

    def __init__(self, url: sa.URL, engine: sa.Engine | None = None) -> None:
        self.url = url
        self.engine = engine_for(url) if engine is None else engine
        self.transactions = self.engine.execution_options(isolation_level="READ COMMITTED")
        self.snapshots = self.engine.execution_options(isolation_level="REPEATABLE READ")
        self._was_reached = False

    def note_reached(self) -> None:
        """Take the database for one that can be reached: from now on its outages are waited for."""
        self._was_reached = True

    @property
    def was_reached(self) -> bool:
        """Whether the database could be reached from here, so that its outages are waited for."""
        return self._was_reached

    @property
    def is_busy(self) -> bool:
        """Whether steps of other runs are being committed: this process has work meanwhile."""
        return sender_of(self.engine).is_busy

    def patiently(self, work: Callable[[], T]) -> T:
        """Do work, again for as long as the database says "not now".

        Raises:
            DatabaseError: The database refused for good, or could never be reached from here.
        """
        with Patience(is_known=self._was_reached) as patience:
            while True:
                try:
                    with translated(self.url):
                        done = work()
                except not_now.FAILURES as error:
                    time.sleep(patience.pause(error))
                else:
                    self._was_reached = True
                    return done

    async def sent(self, sql: str, parameters: dict[str, Any]) -> Values | None:
        """What a statement answers that is sent from the loop; as `patiently`."""
        with Patience(is_known=self._was_reached) as patience:
            while True:
                try:
                    with translated(self.url):
                        return await self.sent_once(sql, parameters)
                except not_now.FAILURES as error:
                    await asyncio.sleep(patience.pause(error))

    async def sent_once(self, sql: str, parameters: dict[str, Any]) -> Values | None:
        """What a statement answers that is sent from the loop; one attempt.

        Args:
            sql: The statement, with a name for each parameter.
            parameters: Their values; that of `step_commit.CLOCK` is given here.

        Raises:
            Answered: The caller was cancelled, and the statement was executed.
            psycopg.Error, SQLAlchemyError: Whatever the driver raises, as it is.
        """
        numbered, names = step_commit.numbered(sql)
        given = step_commit.as_of_now(parameters)
        values = [_as_text(given[name]) for name in names]
        answer = await sender_of(self.engine).execute(numbered, values)
        self._was_reached = True
        return answer

    @contextlib.contextmanager
    def listening(self, channel: str) -> Iterator[psycopg.Connection[Any]]:
        """A connection of its own that hears what is notified on a channel of PostgreSQL."""
        connection = self.engine.raw_connection()
        raw = cast("psycopg.Connection[Any]", connection.driver_connection)
        connection.detach()
        try:
            raw.execute(f"LISTEN {channel}")
            yield raw
        finally:
            raw.close()


def _as_text(value: Any) -> bytes | None:
    return None if value is None else str(value).encode()
