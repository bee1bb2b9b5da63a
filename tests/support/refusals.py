"""A database that says "not now", as in a fail-over or behind a lock."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
from psycopg import sql


@contextlib.contextmanager
def setting(url: str, name: str, value: str) -> Iterator[None]:
    """Give every session of a database a setting: those of the application are ended.

    What connects meanwhile keeps the setting afterwards.
    """
    with _administrator(url) as connection:
        database = sql.Identifier(connection.info.dbname)
        change = sql.SQL("ALTER DATABASE {} SET {} = {}")
        connection.execute(change.format(database, sql.Identifier(name), value))
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND application_name <> 'tests'"
        )
        try:
            yield
        finally:
            back = sql.SQL("ALTER DATABASE {} RESET {}")
            connection.execute(back.format(database, sql.Identifier(name)))


def read_only(url: str) -> contextlib.AbstractContextManager[None]:
    """Let a database take no writes, as the one that a fail-over left."""
    return setting(url, "default_transaction_read_only", "on")


@contextlib.contextmanager
def locked(url: str, table: str) -> Iterator[None]:
    """Hold a table."""
    with _administrator(url) as connection, connection.transaction():
        name = sql.Identifier(*table.split("."))
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(name))
        yield


@contextlib.contextmanager
def _administrator(url: str) -> Iterator[psycopg.Connection[object]]:
    options = "-c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0"
    with psycopg.connect(url, autocommit=True, options=options) as connection:
        yield connection
