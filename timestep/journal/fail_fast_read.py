"""Reads without waiting for a database that is away."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

import sqlalchemy as sa

from timestep.database.error_translation import translated
from timestep.errors import DatabaseUnreachableError
from timestep.journal.reads.database import database
from timestep.store.reads import server

T = TypeVar("T")


def reading(work: Callable[[sa.Connection], T], about: Collection[str] = ()) -> T:
    """What `work` reads. A database that is away is an error, not waited for.

    Args:
        work: Reads over a connection.
        about: The workflows that it asks DBOS's tables about.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    found = database()

    def attempt() -> T:
        with translated(found.url), found.connected(about) as connection:
            return work(connection)

    try:
        return attempt()
    except DatabaseUnreachableError:
        # A pooled connection that was lost while nobody looked: a new one tells.
        return attempt()


def reading_both(work: Callable[[sa.Connection, sa.Connection, str], T]) -> T:
    """What `work` reads over a connection, and over one to DBOS's tables, at one time of both.

    Where these are in another database, it is not one time. A database that is away is an error.

    Args:
        work: Reads; it is given both connections, and the schema of DBOS's tables.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    found = database()

    def attempt() -> T:
        with translated(found.url), found.snapshots.begin() as connection:
            if found.mirror is None:
                return work(connection, connection, found.schema)
            with found.system() as (system, schema):
                return work(connection, system, schema)

    try:
        return attempt()
    except DatabaseUnreachableError:
        # A pooled connection that was lost while nobody looked: a new one tells.
        return attempt()


def check_database() -> None:
    """See that the database answers.

    Raises:
        DatabaseError: It does not.
    """
    reading(server.ping)
