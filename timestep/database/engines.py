"""Makes and keeps the SQLAlchemy engines of this process, one for each database."""

from __future__ import annotations

import threading
from typing import Any

import sqlalchemy as sa

from timestep import config
from timestep.database import not_now
from timestep.database.error_translation import keep_rows_out, translated
from timestep.database.servers import embedded_postgres, pglite
from timestep.database.urls import parse_url, shown
from timestep.errors import ConfigurationError, DatabaseTooOldError, NoDatabaseError
from timestep.runtime import process_state
from timestep.runtime.process_state import PerProcess
from timestep.serialization.documents import json_text

OLDEST = 120000
"""The oldest supported server, as PostgreSQL numbers versions."""

POOL_SIZE = 10
MAX_OVERFLOW = 10
CONNECT_TIMEOUT = 10
"""Seconds until an address that does not answer counts as unreachable."""

_KEEPALIVES = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
"""A server, or a way to it, that is gone without a word is noticed within half a minute, and not
after the hours that operating systems take."""


class Engines(PerProcess):
    """A process uses one engine for each database URL."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engines: dict[str, sa.Engine] = {}

    def of(self, url: sa.URL) -> sa.Engine:
        key = url.render_as_string(hide_password=False)
        with self._lock:
            engine = self._engines.get(key)
            if engine is None:
                engine = self._engines[key] = _new_engine(url, POOL_SIZE, MAX_OVERFLOW)
            return engine

    def close(self) -> None:
        with self._lock:
            engines = list(self._engines.values())
            self._engines.clear()
        for engine in engines:
            engine.dispose()


def existing_database_url() -> sa.URL:
    """The database that the environment names, as `database_url`; none is made.

    Raises:
        NoDatabaseError: it is to be made under a directory, and was not yet.
        ConfigurationError, EmbeddedDatabaseError, PGliteError: As `database_url` raises them.
    """
    settings = config.read()
    if settings.use_pglite:
        variable, path = "TIMESTEP_PGLITE_PATH", settings.pglite_path
        is_there = pglite.exists(path)
    else:
        variable, path = "TIMESTEP_HOME", settings.home
        is_there = settings.db_url is not None or embedded_postgres.exists(path)
    if not is_there:
        raise NoDatabaseError(
            f"there is no database here: none was made in {path.expanduser().absolute()}: run this "
            f"in your application's folder, set {variable} or TIMESTEP_DB_URL, or make one with "
            "`timestep serve` or `timestep migrate`"
        )
    return database_url()


def database_url() -> sa.URL:
    """The database that the environment names; the embedded one is made and started if needed.

    Raises:
        ConfigurationError: the environment cannot be used.
        EmbeddedDatabaseError: the embedded PostgreSQL cannot start.
        PGliteError: PGlite cannot start.
    """
    settings = config.read()
    if settings.use_pglite:
        if settings.db_url is not None:
            raise ConfigurationError(
                "TIMESTEP_USE_PGLITE=true and TIMESTEP_DB_URL is set, too: unset one of them"
            )
        return pglite.start(settings.pglite_path, settings.home)
    if settings.db_url is not None:
        return parse_url(settings.db_url)
    return embedded_postgres.start(settings.home)


def system_database_url() -> str:
    """What DBOS's `system_database_url` is with the database that the environment names.

    With PGlite it is a SQLite file beside PGlite's directory, and else the same database.

    Raises:
        ConfigurationError, EmbeddedDatabaseError: As `database_url` raises them.
    """
    settings = config.read()
    if settings.use_pglite:
        return pglite.system_database(settings.pglite_path).render_as_string()
    return database_url().render_as_string(hide_password=False)


def engine_for(url: sa.URL) -> sa.Engine:
    """The engine of this process for `url`: the same one each time, from any thread.

    Every statement commits by itself unless it is inside an explicit BEGIN. Connecting
    happens at first use. A lost connection shows as an error of the statement; there is no
    ping before it.
    """
    return process_state.of(Engines).of(url)


def private_engine(url: sa.URL, connect_timeout: int = CONNECT_TIMEOUT) -> sa.Engine:
    """An engine of the caller's own with one connection, like `engine_for`'s otherwise.

    Whoever asks for it disposes of it.
    """
    return _new_engine(url, 1, 0, connect_timeout)


def _new_engine(
    url: sa.URL, size: int, overflow: int, connect_timeout: int = CONNECT_TIMEOUT
) -> sa.Engine:
    defaults: dict[str, Any] = {
        "application_name": "timestep",
        "connect_timeout": connect_timeout,
        **_KEEPALIVES,
    }
    is_one = pglite.path_of(url) is not None
    if is_one:
        # All connections of PGlite are one session, with one set of prepared statements.
        defaults["prepare_threshold"] = None
    engine = sa.create_engine(
        url,
        pool_size=1 if is_one else size,
        max_overflow=0 if is_one else overflow,
        pool_reset_on_return=None,
        isolation_level="AUTOCOMMIT",
        json_deserializer=json_text.loads,
        connect_args={k: v for k, v in defaults.items() if k not in url.query},
    )
    not_now.drop_connections(engine)
    keep_rows_out(engine)
    return engine


def dispose_all() -> None:
    """Close the idle connections of every engine, and forget the engines."""
    process_state.of(Engines).close()


def check_server(engine: sa.Engine) -> None:
    """Connect, and see that the server is recent enough.

    Raises:
        DatabaseTooOldError: the server is older than PostgreSQL 12.
        DatabaseUnreachableError: there is no connection to be had.
    """
    with translated(engine.url), engine.connect() as connection:
        row = connection.exec_driver_sql(
            "SELECT current_setting('server_version_num')::int, current_setting('server_version')"
        ).one()
    if row[0] < OLDEST:
        raise DatabaseTooOldError(
            f"the server at {shown(engine.url)} is PostgreSQL {row[1]}: Timestep needs "
            f"{OLDEST // 10000} or newer"
        )
