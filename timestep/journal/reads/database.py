"""Reads the configured database, and what DBOS's tables say of workflows, wherever those are.

What only reads uses this, and imports neither DBOS nor the SDK; `recorder.Recorder` is the same
database for who writes what runs do.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar

import sqlalchemy as sa

from timestep import config
from timestep.database.engines import existing_database_url
from timestep.database.patient_database import PatientDatabase
from timestep.database.servers import pglite
from timestep.dbos_internals import presence
from timestep.journal import dbos_mirror
from timestep.journal.dbos_mirror import Mirror
from timestep.runtime import process_state
from timestep.runtime.cancellation import in_thread
from timestep.runtime.process_state import PerProcess

T = TypeVar("T")


class Database(PatientDatabase):
    """One database with runs. Its methods may be awaited from any event loop."""

    def __init__(self, url: sa.URL, engine: sa.Engine | None = None) -> None:
        super().__init__(url, engine)
        self.mirror: Mirror | None = None
        """What DBOS says of workflows, where its tables are in another database."""
        if (path := pglite.path_of(url)) is not None:
            self.mirror = Mirror(pglite.system_database(path))

    def take_over(self, before: Database) -> None:
        """Go on as another object of this database did."""
        self.mirror = before.mirror
        if before.was_reached:
            self.note_reached()

    @property
    def schema(self) -> str:
        """The schema of DBOS's tables, or of their copy, in this database."""
        return presence.system_schema_or_default() if self.mirror is None else dbos_mirror.SCHEMA

    @contextlib.contextmanager
    def connected(
        self, about: Collection[str] = (), *, whole: bool = False
    ) -> Iterator[sa.Connection]:
        """A connection whose statements find what DBOS says of some workflows.

        Args:
            about: The workflows that the statements ask DBOS's tables about.
            whole: Whether the statements are one transaction.
        """
        if self.mirror is None or not about:
            with self.transactions.begin() if whole else self.engine.connect() as connection:
                yield connection
        else:
            with self.transactions.begin() as connection:
                self.mirror.copy(connection, about)
                yield connection

    @contextlib.contextmanager
    def system(self) -> Iterator[tuple[sa.Connection, str]]:
        """A transaction on DBOS's own tables, and their schema."""
        if self.mirror is None:
            with self.transactions.begin() as connection:
                yield connection, self.schema
        else:
            with self.mirror.engine.begin() as connection:
                yield connection, dbos_mirror.SYSTEM_SCHEMA

    async def read(self, work: Callable[[sa.Connection], T], about: Collection[str] = ()) -> T:
        """What `work` reads over a connection; waits as `commit` does.

        Args:
            work: Reads, or makes one change.
            about: The workflows that it asks DBOS's tables about.
        """

        def reading() -> T:
            with self.connected(about) as connection:
                return work(connection)

        return await in_thread(lambda: self.patiently(reading))

    async def change(self, work: Callable[[sa.Connection], None]) -> None:
        """Do `work` in one transaction; waits as `commit` does."""

        def connected() -> None:
            with self.transactions.begin() as connection:
                work(connection)

        await in_thread(lambda: self.patiently(connected))


D = TypeVar("D", bound=Database)


class Databases(PerProcess):
    """Keeps one object for each database that this process's settings have named."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._databases: dict[tuple[str | None, ...], Any] = {}

    def configured(self, kind: type[D]) -> D:
        """The configured database as one of a kind; what only reads is content with any.

        Args:
            kind: `Database`, or a class derived of it, whose object takes the place of one that
                only reads.
        """
        # Asked for at every run: the settings are read again only when they changed.
        key = config.as_given("db_url", "home", "use_pglite", "pglite_path")
        found = self._databases.get(key)
        if isinstance(found, kind):
            return found
        made = kind(existing_database_url())
        with self._lock:
            found = self._databases.get(key)
            if isinstance(found, kind):
                return found
            if found is not None:
                made.take_over(found)
            self._databases[key] = made
            return made

    def close(self) -> None:
        with self._lock:
            databases = list(self._databases.values())
            self._databases.clear()
        for found in databases:
            if found.mirror is not None:
                found.mirror.engine.dispose()


def database() -> Database:
    """The configured database.

    Raises:
        ConfigurationError: The settings cannot work.
    """
    return process_state.of(Databases).configured(Database)


def forget_databases() -> None:
    """Let go of every database: for a process that goes on with others."""
    process_state.of(Databases).close()
